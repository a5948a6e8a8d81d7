//! What comes out of `.proto` files, as text: errors that name the place and the fix, documentation, descriptors.

use std::path::PathBuf;

use buffa::Message;
use buffa_codegen::generated::descriptor::FileDescriptorSet;
use ringway_build::{Builder, Error, configure};

/// Files in a folder of this test's own.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        for (file, text) in files {
            let path = folder.join(file);
            let parent = path.parent().map_or_else(|| folder.clone(), Into::into);
            let written =
                std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, text));
            assert!(written.is_ok(), "{}: {written:?}", path.display());
        }
        Self(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    fn generate(&self, builder: &Builder, files: &[&str]) -> Result<String, Error> {
        let paths: Vec<PathBuf> = files.iter().map(|file| self.path(file)).collect();
        builder.generate(&paths)
    }
}

const GOOD: &str = r#"syntax = "proto3";
package shop.v1;

// Sells things.
//
//     indented, but no test of Rust
service Shop {
  // Buys a [thing] for <money>.
  rpc Buy(Thing) returns (Receipt) { option idempotency_level = IDEMPOTENT; }
  rpc Browse(Thing) returns (stream Thing); // Behind the method.
}
message Thing { string name = 1; }
message Receipt { uint64 number = 1; }
"#;

#[test]
fn an_error_names_file_line_and_fix() {
    let with = |text: &str| GOOD.replace("message Receipt { uint64 number = 1; }", text);
    let cases = [
        (
            "syntax",
            with("message {"),
            Builder::default(),
            "syntax/a.proto:13:",
            "expected",
        ),
        (
            "type",
            GOOD.replace("(Receipt)", "(Receit)"),
            Builder::default(),
            "type/a.proto:9:",
            "Receit",
        ),
        (
            "number",
            with("message Receipt { string a = 1; string b = 1; }"),
            Builder::default(),
            "number/a.proto:13:",
            "1",
        ),
        (
            "import",
            format!("{GOOD}import \"no.proto\";\n"),
            Builder::default(),
            "import/a.proto:14:",
            "name its root by `include`",
        ),
        (
            "same",
            GOOD.replace("rpc Browse(", "rpc buy("),
            Builder::default(),
            "same/a.proto:10",
            "rename one of them",
        ),
        (
            "streams",
            GOOD.to_owned(),
            configure().plain("shop.v1.Shop/Browse"),
            "streams/a.proto:10",
            "only unary methods",
        ),
        (
            "unknown",
            GOOD.to_owned(),
            configure().plain("shop.v1.Shop/Sell"),
            "plain(\"shop.v1.Shop/Sell\")",
            "there are shop.v1.Shop/Buy",
        ),
        (
            "runtime",
            GOOD.to_owned(),
            configure().runtime("ring way"),
            "runtime(\"ring way\")",
            "is no path",
        ),
        (
            "keyword",
            GOOD.replace("service Shop", "service Self"),
            Builder::default(),
            "",
            "",
        ),
    ];
    for (name, text, builder, place, fix) in cases {
        let folder = Folder::with(name, &[("a.proto", &text)]);
        let result = folder.generate(&builder, &["a.proto"]);
        if place.is_empty() {
            assert!(result.is_ok(), "{name}: {result:?}");
            continue;
        }
        let error = result.map(|_text| ()).unwrap_err().to_string();
        assert!(error.contains(place), "{name}: {error}");
        assert!(error.contains(fix), "{name}: {error}");
    }
    let folder = Folder::with("absent", &[]);
    let error = folder.generate(&configure(), &["a.proto"]).unwrap_err();
    assert!(
        error.to_string().contains("there is no such file"),
        "{error}"
    );
    assert_eq!(
        format!("{error}"),
        format!("{error:?}"),
        "`main` prints it by Debug"
    );
    let error = folder.generate(&configure(), &[]).unwrap_err();
    assert!(error.to_string().contains("name at least one"), "{error}");
}

#[test]
fn comments_become_documentation_that_is_no_test() {
    let folder = Folder::with("docs", &[("a.proto", GOOD)]);
    let text = folder.generate(&configure(), &["a.proto"]).unwrap();
    let has = |line: &str| text.lines().filter(|it| it.trim() == line).count();
    assert_eq!(has("/// Sells things."), 1, "at the trait");
    assert_eq!(has("/// indented, but no test of Rust"), 1);
    assert_eq!(
        has(r"/// Buys a \[thing\] for \<money\>."),
        3,
        "at the trait's method and in both clients"
    );
    assert_eq!(has("/// Behind the method."), 3);
}

#[test]
fn the_same_files_give_the_same_text() {
    let other =
        "syntax = \"proto3\"; package other; message Unrelated { map<string, int32> all = 1; }";
    let folder = Folder::with("same text", &[("a.proto", GOOD), ("b.proto", other)]);
    let builder = configure().plain("shop.v1.Shop/Buy");
    let once = folder.generate(&builder, &["a.proto", "b.proto"]).unwrap();
    let again = folder.generate(&builder, &["a.proto", "b.proto"]).unwrap();
    assert!(once == again);
    // Where the files lie is not in it.
    let moved = Folder::with(
        "same text, elsewhere",
        &[("a.proto", GOOD), ("b.proto", other)],
    );
    let elsewhere = moved.generate(&builder, &["a.proto", "b.proto"]).unwrap();
    assert!(once == elsewhere);
}

/// The bytes of the literal that `name` is set to.
fn bytes_of(text: &str, name: &str) -> Vec<u8> {
    fn find(items: &[syn::Item], name: &str) -> Option<Vec<u8>> {
        items.iter().find_map(|item| match item {
            syn::Item::Mod(module) => {
                let (_, items) = module.content.as_ref()?;
                find(items, name)
            }
            syn::Item::Const(constant) if constant.ident == name => match &*constant.expr {
                syn::Expr::Lit(literal) => match &literal.lit {
                    syn::Lit::ByteStr(bytes) => Some(bytes.value()),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        })
    }
    let file = syn::parse_str::<syn::File>(text);
    file.ok()
        .and_then(|file| find(&file.items, name))
        .unwrap_or_default()
}

#[test]
fn a_service_carries_what_reflection_needs() {
    let annotated = r#"syntax = "proto3";
package shop.v1;
import "thing.proto";
import "google/protobuf/descriptor.proto";
extend google.protobuf.MethodOptions { string path = 50001; }
service Shop {
  // Buys.
  rpc Buy(goods.Thing) returns (goods.Thing) { option (path) = "/buy"; }
}
"#;
    let thing = "syntax = \"proto3\"; package goods; message Thing { string name = 1; }";
    let extra = "syntax = \"proto3\"; package extra; message Extra {}";
    let files = [
        ("shop.proto", annotated),
        ("thing.proto", thing),
        ("extra.proto", extra),
    ];
    let folder = Folder::with("reflection", &files);
    let text = folder
        .generate(&configure(), &["shop.proto", "extra.proto"])
        .unwrap();
    let bytes = bytes_of(&text, "RINGWAY_DESCRIPTORS");
    let set = FileDescriptorSet::decode_from_slice(&bytes).unwrap();
    let names: Vec<_> = set.file.iter().filter_map(|it| it.name.clone()).collect();
    assert_eq!(
        names,
        [
            "thing.proto",
            "google/protobuf/descriptor.proto",
            "shop.proto"
        ]
    );
    let shop = set.file.last().unwrap();
    let comments = shop.source_code_info.location.iter();
    let comments: Vec<_> = comments
        .filter_map(|it| it.leading_comments.clone())
        .collect();
    assert_eq!(comments, [" Buys.\n"]);
    // The option that no generated code knows is there, for gateways.
    assert!(bytes.windows(4).any(|it| it == b"/buy"));
}

#[test]
fn files_without_a_package_and_without_services_work() {
    let text =
        "syntax = \"proto3\"; message Bare {} service Ping { rpc Ping(Bare) returns (Bare); }";
    let folder = Folder::with("bare", &[("a.proto", text)]);
    let text = folder.generate(&configure(), &["a.proto"]).unwrap();
    assert!(text.contains("\"Ping/Ping\""), "{text}");
    let text = "syntax = \"proto3\"; package only; message Messages {}";
    let folder = Folder::with("only messages", &[("a.proto", text)]);
    let text = folder.generate(&configure(), &["a.proto"]).unwrap();
    assert!(text.contains("pub struct Messages"), "{text}");
}

#[test]
fn types_that_are_elsewhere_are_named_and_not_generated() {
    let user = "syntax = \"proto3\"; package user; import \"common.proto\";
        service Use { rpc Do(common.Thing) returns (common.Thing); }";
    let common = "syntax = \"proto3\"; package common; message Thing {}";
    let folder = Folder::with("extern", &[("user.proto", user), ("common.proto", common)]);
    let builder = configure().extern_path(".common", "::shared::common");
    let text = folder.generate(&builder, &["user.proto"]).unwrap();
    assert!(text.contains("::shared::common::Thing"), "{text}");
    assert!(!text.contains("pub struct Thing"), "{text}");
}

#[test]
fn imports_are_found_from_the_folders_that_are_named() {
    let inner = "syntax = \"proto3\"; package a.b; message Inner {}";
    let outer = "syntax = \"proto3\"; package a; import \"a/b/inner.proto\"; message Outer { a.b.Inner inner = 1; }";
    let folder = Folder::with(
        "folders",
        &[("a/b/inner.proto", inner), ("a/outer.proto", outer)],
    );
    let refused = folder
        .generate(&configure(), &["a/outer.proto"])
        .unwrap_err();
    assert!(refused.to_string().contains("include"), "{refused}");
    let builder = configure().include(folder.path(""));
    let text = folder.generate(&builder, &["a/outer.proto"]).unwrap();
    assert!(text.contains("pub mod b"), "{text}");
}

#[test]
fn a_script_writes_where_it_is_told() {
    let folder = Folder::with("written", &[("a.proto", GOOD)]);
    let builder = configure().out_dir(folder.path("")).file_name("shop");
    builder.compile(&[folder.path("a.proto")]).unwrap();
    let written = std::fs::read_to_string(folder.path("shop.rs")).unwrap();
    assert_eq!(
        written,
        folder.generate(&configure(), &["a.proto"]).unwrap()
    );
    let nowhere = configure().out_dir(folder.path("no/such/folder"));
    let error = nowhere.compile(&[folder.path("a.proto")]).unwrap_err();
    assert!(
        error.to_string().contains("no/such/folder/ringway.rs"),
        "{error}"
    );
}

#[test]
fn descriptors_of_another_compiler_do_as_well() {
    let folder = Folder::with("set", &[("a.proto", GOOD)]);
    let mut compiler = protox::Compiler::new([folder.path("")]).unwrap();
    compiler.include_source_info(true).include_imports(true);
    compiler.open_file(folder.path("a.proto")).unwrap();
    let set = folder.path("set.binpb");
    std::fs::write(&set, compiler.encode_file_descriptor_set()).unwrap();
    let builder = configure().out_dir(folder.path(""));
    builder.compile_descriptors(&set).unwrap();
    let written = std::fs::read_to_string(folder.path("ringway.rs")).unwrap();
    assert_eq!(
        written,
        folder.generate(&configure(), &["a.proto"]).unwrap()
    );

    for (bytes, wanted) in [
        (&b"\xFF\xFF"[..], "is no `FileDescriptorSet`"),
        // One file that imports another.
        (&b"\x0a\x0c\x0a\x01a\x1a\x07b.proto"[..], "lacks `b.proto`"),
    ] {
        std::fs::write(&set, bytes).unwrap();
        let error = builder.compile_descriptors(&set).unwrap_err().to_string();
        assert!(
            error.contains("set.binpb") && error.contains(wanted),
            "{error}"
        );
    }
    let error = builder
        .compile_descriptors(folder.path("none"))
        .unwrap_err();
    assert!(error.to_string().contains("can't be read"), "{error}");
}

#[test]
fn google_s_annotations_need_no_files_and_become_no_code() {
    let text = GOOD
        .replace(
            "package shop.v1;",
            "package shop.v1;\nimport \"google/api/annotations.proto\";",
        )
        .replace(
            "option idempotency_level = IDEMPOTENT;",
            "option (google.api.http) = { get: \"/v1/{name}\" };",
        );
    let folder = Folder::with("annotations", &[("a.proto", &text)]);
    let code = folder.generate(&Builder::default(), &["a.proto"]).unwrap();
    assert!(
        !code.contains("struct HttpRule"),
        "options are for others to read"
    );
    assert!(code.contains("struct Thing"));
}

#[test]
fn google_s_messages_need_no_files_either() {
    let text = GOOD.replace(
        "package shop.v1;",
        "package shop.v1;\nimport \"google/rpc/status.proto\";\nmessage Failed { google.rpc.Status why = 1; }",
    );
    let folder = Folder::with("status", &[("a.proto", &text)]);
    let code = folder.generate(&Builder::default(), &["a.proto"]).unwrap();
    assert!(
        code.contains("pub mod rpc") && code.contains("pub struct Status"),
        "{code}"
    );
}
