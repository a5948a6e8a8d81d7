//! The few rules of the house that a machine can keep, as an ordinary test.
//!
//! Each rule is a function from the project's text files to breaches; each is also run on a made-up tree with
//! one breach, so that a rule which no longer sees anything fails here. `docs/style.md` has the reasons.

mod links;
mod rules;
mod tree;

use std::path::Path;

use crate::rules::Fault;
use crate::tree::Tree;

/// Checks the whole project, then a tree with one breach for each text of `expected`.
#[expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "runs inside tests, whose failure it is"
)]
fn check(rule: fn(&Tree) -> Vec<Fault>, breaches: &[(&str, &str)], expected: &[&str]) {
    let project = Tree::read(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let text = |faults: Vec<Fault>| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    let faults = text(rule(&project));
    let seen = text(rule(&Tree::of(breaches)));
    let blind = seen.len() != expected.len()
        || !seen
            .iter()
            .zip(expected)
            .all(|(fault, start)| fault.starts_with(start));
    if blind {
        panic!(
            "the rule expects {expected:?} of its made-up tree and sees\n{}",
            seen.join("\n")
        );
    }
    if !faults.is_empty() {
        panic!("{} breaches\n{}", faults.len(), faults.join("\n"));
    }
}

#[test]
fn dependencies_point_down() {
    let proto = "[package]\nname = \"ringway-proto\"\n[dependencies]\nringway-driver = { path = \"x\" }\n\
                 [dev-dependencies]\nringway-engine = \"0\"\n[dependencies.tokio]\nversion = \"1\"\n";
    let unknown = "[package]\nname = \"ringway-new\"\n";
    let tree = [
        ("transport/new/Cargo.toml", unknown),
        ("transport/proto/Cargo.toml", proto),
    ];
    let expected = [
        "transport/new/Cargo.toml:1:",
        "transport/proto/Cargo.toml:4:",
        "transport/proto/Cargo.toml:7:",
    ];
    check(rules::edges, &tree, &expected);
}

#[test]
fn machines_and_simulator_touch_no_clock_and_no_socket() {
    let proto =
        "// std::thread in a comment\nlet text = \"std::env\";\nlet now = Instant::monotonic();\n";
    let sim = "use std::net::SocketAddr;\nuse std::net::UdpSocket;\n";
    let tree = [
        ("transport/proto/src/a.rs", proto),
        ("transport/sim/src/b.rs", sim),
    ];
    check(
        rules::sans_io,
        &tree,
        &["transport/proto/src/a.rs:3:", "transport/sim/src/b.rs:2:"],
    );
}

#[test]
fn unsafe_stands_in_buf_and_driver_only() {
    let tree = [
        ("transport/buf/src/slot.rs", "unsafe { ours() }"),
        ("transport/engine/src/lib.rs", "mod a;\n"),
        (
            "transport/engine/src/send.rs",
            "//! no unsafe\n#![deny(unsafe_code)]\nlet it = unsafe { a() };\n",
        ),
    ];
    check(
        rules::unsafe_code,
        &tree,
        &[
            "transport/engine/src/lib.rs:1:",
            "transport/engine/src/send.rs:3:",
        ],
    );
}

#[test]
fn system_calls_stand_in_their_files() {
    let engine = "use libc::c_int;\nuse std::os::unix::net;\nlibc::close(3);\nuse nix::errno::Errno;\nuse nix::unistd::close;\n";
    let tree = [
        ("transport/engine/src/a.rs", engine),
        ("transport/driver/src/epoll/sys.rs", engine),
    ];
    check(
        rules::system_calls,
        &tree,
        &[
            "transport/engine/src/a.rs:3:",
            "transport/engine/src/a.rs:5:",
        ],
    );
}

#[test]
fn each_layer_has_one_way_down_and_one_way_up() {
    let tree = [
        ("transport/engine/src/recv.rs", ""),
        ("transport/engine/src/link/send.rs", ""),
        ("transport/sim/src/recv.rs", ""),
        ("transport/sim/src/send.rs", ""),
    ];
    let expected = [
        "transport/engine/src/send.rs:1:",
        "transport/engine/src/link/send.rs:1:",
    ];
    check(rules::path_of_a_message, &tree, &expected);
}

#[test]
fn no_file_is_longer_than_800_lines() {
    let (right, long) = ("\n".repeat(800), "\n".repeat(801));
    check(
        rules::file_length,
        &[("a.rs", &right), ("b.rs", &long)],
        &["b.rs:801:"],
    );
}

#[test]
fn texts_speak_to_strangers() {
    let trace = concat!("fine\nsee /wor", "k/main\n");
    check(
        rules::workshop_words,
        &[("README.md", trace)],
        &["README.md:2:"],
    );
}

#[test]
fn links_of_documents_lead_somewhere() {
    let readme = "# One\n[a](docs/a.md#two-words) [b](docs/b.md)\n[c](#nowhere)\n[`it_is_so`](src/a.rs) [`it_is_not`](src/a.rs)\n\
                  ```\n[d](nowhere)\n```\n[e](https://example.invalid/x)\n";
    let tree = [
        ("README.md", readme),
        (
            "docs/a.md",
            "## Two words\n[up](../README.md) [x](../src)\n",
        ),
        ("src/a.rs", "fn it_is_so() {}\n"),
    ];
    check(
        links::documents,
        &tree,
        &["README.md:2:", "README.md:3:", "README.md:4:"],
    );
}

#[test]
fn rules_that_code_cites_exist() {
    let code = "// docs/wire/a.md#good\n// docs/wire/a.md#bad. And\n// docs/wire/b.md\n// https://x/docs/c.md\n";
    let tree = [("src/a.rs", code), ("docs/wire/a.md", "# Good\n")];
    check(links::citations, &tree, &["src/a.rs:2:", "src/a.rs:3:"]);
}
