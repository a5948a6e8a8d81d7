//! C headers from Rust source and from `.proto` files, and what can't become one.

use ringway_build::CHeader;

#[test]
fn structs_come_behind_those_that_they_are_made_of() {
    let source = "
        #[ringway::message] struct Outer { inner: [Inner; 2], word: u64 }
        mod deeper { #[message] pub struct Inner { a: u32, b: f32 } }
        struct NotOurs { x: String }
        #[ringway::service(package = \"a.b\")] trait Calls {
            fn one_thing(&self, it: &Outer) -> Result<Inner, Status>;
            async fn all(&self, cx: CallContext, them: Receiver<Vec<u8>>) -> Result<Vec<u8>, Status>;
            async fn both(&self, them: Receiver<Inner>, out: Sender<Inner>) -> Result<(), Status>;
        }";
    let header = CHeader::default()
        .prefix("x_")
        .text(source, "calls.rs")
        .unwrap();
    let inner = header.find("typedef struct x_Inner").unwrap();
    let outer = header.find("typedef struct x_Outer").unwrap();
    assert!(inner < outer, "{header}");
    for line in [
        "x_Inner inner[2];",
        "RW_LAYOUT(sizeof(x_Outer) == 24, x_Outer_size);",
        "RW_LAYOUT(offsetof(x_Outer, word) == 16, x_Outer_word);",
        "#define X_CALLS_ONE_THING \"a.b.Calls/OneThing\"",
        "#define X_CALLS_ONE_THING_METHOD \"OneThing\"",
        "#define X_CALLS_ALL_KIND 1",
        "#define X_CALLS_ALL_CODEC 0",
        "#define X_CALLS_BOTH_KIND 3",
        "#define X_CALLS_BOTH_CODEC 2",
        "#define X_CALLS \"a.b.Calls\"",
    ] {
        assert!(header.contains(line), "{line}: {header}");
    }
    assert!(!header.contains("NotOurs"));
}

#[test]
fn an_error_says_what_would_be_right() {
    for (source, wanted) in [
        ("struct", "is no Rust"),
        ("#[message] struct S { x: u8, y: u64 }", "`S` has padding"),
        ("#[message] struct S { x: u64, y: u8 }", "`S` has padding"),
        ("#[message] struct S {}", "no fields"),
        ("#[message] struct S { x: u128 }", "take two of 64"),
        ("#[message] struct S { x: [u8; N] }", "write one"),
        ("#[message] struct S { x: [u8; 0] }", "a length from 1 on"),
        ("#[message] struct S { x: Other }", "define it here too"),
        ("#[message] struct S(u8);", "give them some"),
        ("#[message] struct S { x: (u8, u8) }", "C has no such type"),
        (
            "#[message] struct A { b: B } #[message] struct B { a: A }",
            "made of itself",
        ),
        (
            "#[message] #[repr(C, align(8))] struct S { x: u64 }",
            "leave it out",
        ),
        (
            "#[service] trait T { fn f(&self, x: &X) -> Result<X, Status>; }",
            "define it here too",
        ),
        ("#[service] trait T { fn f(&self); }", "returns no `Result"),
    ] {
        let error = CHeader::default().text(source, "s.rs").unwrap_err();
        assert!(error.contains(wanted), "{source}: {error}");
    }
}

#[test]
fn methods_of_proto_files_are_named_with_their_kinds() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("c_header");
    std::fs::create_dir_all(&folder).unwrap();
    let (proto, header) = (folder.join("kv.proto"), folder.join("kv.h"));
    let text = "syntax = \"proto3\"; package kv;
        message M { uint32 x = 1; }
        service KeyValue {
            rpc Get(M) returns (M) { option idempotency_level = NO_SIDE_EFFECTS; }
            rpc Watch(M) returns (stream M);
        }";
    std::fs::write(&proto, text).unwrap();
    let builder = ringway_build::configure()
        .out_dir(&folder)
        .c_header(&header);
    builder.compile(&[&proto]).unwrap();
    let header = std::fs::read_to_string(header).unwrap();
    for line in [
        "#define KEY_VALUE_GET \"kv.KeyValue/Get\"",
        "#define KEY_VALUE_GET_IDEMPOTENT 1",
        "#define KEY_VALUE_GET_CODEC 1",
        "#define KEY_VALUE_WATCH_KIND 2",
        "#define KEY_VALUE_LEN 11",
    ] {
        assert!(header.contains(line), "{line}: {header}");
    }
}
