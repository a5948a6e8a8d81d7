//! The rules that a machine can keep. Each takes the tree and returns its breaches.

use std::fmt;

use crate::tree::{Tree, code_lines, has_word};

/// A breach of a rule.
#[derive(Debug)]
pub(crate) struct Fault {
    file: String,
    line: usize,
    rule: &'static str,
    better: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            rule,
            better,
        } = self;
        write!(f, "{file}:{line}: {rule}\n    better: {better}")
    }
}

pub(crate) fn fault(
    file: &str,
    line: usize,
    rule: &'static str,
    better: impl Into<String>,
) -> Fault {
    Fault {
        file: file.to_owned(),
        line,
        rule,
        better: better.into(),
    }
}

/// What each package may name of ours. `proto` and `driver` meet only in `engine`.
const EDGES: &[(&str, &[&str])] = &[
    ("ringway-buf", &[]),
    ("ringway-proto", &["ringway-buf"]),
    ("ringway-driver", &["ringway-buf"]),
    ("ringway-quic", &["ringway-buf", "ringway-proto"]),
    ("ringway-sim", &["ringway-buf", "ringway-driver"]),
    (
        "ringway-engine",
        &[
            "ringway-buf",
            "ringway-driver",
            "ringway-proto",
            "ringway-quic",
            "ringway-sim",
        ],
    ),
    ("ringway-call", &["ringway-buf"]),
    (
        "ringway-rpc",
        &["ringway-buf", "ringway-call", "ringway-engine"],
    ),
    (
        "ringway-gateway",
        &["ringway-buf", "ringway-google", "ringway-rpc"],
    ),
    // None of them names the crate whose paths it writes into the user's code.
    ("ringway-codegen", &[]),
    ("ringway-google", &[]),
    ("ringway-macros", &["ringway-codegen"]),
    ("ringway-build", &["ringway-codegen", "ringway-google"]),
    ("ringway-generated", &["ringway-build", "ringway-rpc"]),
    (
        "ringway",
        &[
            "ringway-engine",
            "ringway-gateway",
            "ringway-macros",
            "ringway-rpc",
        ],
    ),
    ("ringway-services", &["ringway", "ringway-build"]),
    ("ringway-cli", &["ringway", "ringway-services"]),
    (
        "ringway-c",
        &[
            "ringway",
            "ringway-buf",
            "ringway-engine",
            "ringway-rpc",
            "ringway-services",
        ],
    ),
    // Other libraries beside ringway, in a workspace of its own.
    ("ringway-peers", &["ringway"]),
];

/// Dependencies point down, and nothing below the command line brings a runtime.
pub(crate) fn edges(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    let ours = |path: &str| {
        path == "Cargo.toml" || path.ends_with("/Cargo.toml") && !path.starts_with("fuzz/")
    };
    for (file, text) in tree.files.iter().filter(|(path, _)| ours(path)) {
        let Some(package) = package_name(text) else {
            continue;
        };
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package) else {
            let better = format!(
                "give `{package}` a line in EDGES (tests/tidy/rules.rs) and say where it stands"
            );
            faults.push(fault(
                file,
                1,
                "every package has its place in the order of dependencies",
                better,
            ));
            continue;
        };
        for (line, name) in dependencies(text) {
            if name.starts_with("ringway") && !allowed.contains(&name) {
                let better = format!(
                    "`{package}` names only {allowed:?}; move the shared part down, or pass it as a trait"
                );
                faults.push(fault(
                    file,
                    line,
                    "dependencies point down the house",
                    better,
                ));
            }
            if name == "tokio"
                && !["ringway-cli", "ringway-gateway", "ringway-peers"].contains(&package)
            {
                let better = "a plain future: who uses the library brings the runtime";
                faults.push(fault(
                    file,
                    line,
                    "no crate of the transport depends on a runtime",
                    better,
                ));
            }
        }
    }
    faults
}

fn package_name(manifest: &str) -> Option<&str> {
    let package = manifest.split("[package]").nth(1)?;
    let line = package.lines().find(|line| line.starts_with("name"))?;
    line.split('"').nth(1)
}

/// Ordinary and build dependencies of a manifest with their lines; those of tests are exempt.
fn dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (index, line) in manifest.lines().enumerate() {
        if let Some(section) = line.trim().strip_prefix('[') {
            let section = section.trim_end_matches(']');
            let (table, entry) = match section.rsplit_once("dependencies.") {
                Some((before, entry)) => (format!("{before}dependencies"), Some(entry)),
                None => (section.to_owned(), None),
            };
            inside = table.ends_with("dependencies")
                && !table.ends_with("dev-dependencies")
                && !table.starts_with("workspace");
            found.extend(entry.filter(|_| inside).map(|name| (index + 1, name)));
            inside &= entry.is_none();
        } else if inside && let Some((name, _)) = line.split_once(['=', '.']) {
            found.push((index + 1, name.trim()));
        }
    }
    found
}

/// Clocks, threads, sockets, files and the environment: what a sans-IO crate gets as arguments or not at all.
const WORLD: &[&str] = &[
    "std::time::Instant",
    "SystemTime",
    "Instant::monotonic",
    "std::thread",
    "std::env",
    "std::fs",
    "std::process",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "RandomState",
    "libc",
    "nix",
    "mio",
];

/// The protocol machines and the simulator touch no clock, socket, thread or environment.
pub(crate) fn sans_io(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    let pure = ["transport/proto/", "transport/sim/src/"];
    for (file, text) in tree
        .rust()
        .filter(|(path, _)| pure.iter().any(|folder| path.starts_with(folder)))
    {
        for (line, code) in code_lines(text) {
            for word in WORLD.iter().filter(|word| has_word(&code, word)) {
                let better = format!(
                    "instead of `{word}` take time as `now`, randomness as a seed, bytes as a slice"
                );
                faults.push(fault(
                    file,
                    line,
                    "sans-IO code gets the world as arguments",
                    better,
                ));
            }
        }
    }
    faults
}

/// Where `unsafe` may stand, and why.
const UNSAFE: &[(&str, &str)] = &[
    (
        "transport/buf/",
        "raw memory behind leases, pools and rings",
    ),
    ("transport/driver/", "the kernel's interfaces"),
    ("bindings/c/src/", "pointers of foreign code"),
    ("fuzz/src/c_api.rs", "calls the C API as foreign code does"),
    (
        "cli/src/bench/raw/sys.rs",
        "the hand-written baseline makes its own system calls",
    ),
    (
        "cli/src/bench/allocations.rs",
        "the counting allocator forwards to the system's",
    ),
    (
        "tests/allocations",
        "the counting allocator of the tests forwards to the system's",
    ),
];

/// Crate roots outside those places forbid `unsafe`, and no file outside them has any.
pub(crate) fn unsafe_code(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (file, text) in tree
        .rust()
        .filter(|(path, _)| !UNSAFE.iter().any(|(place, _)| path.starts_with(place)))
    {
        let root =
            file == "src/lib.rs" || file.starts_with("transport/") && file.ends_with("/src/lib.rs");
        if root && !text.lines().any(|line| line == "#![forbid(unsafe_code)]") {
            let better = "add `#![forbid(unsafe_code)]` below the module's documentation";
            faults.push(fault(
                file,
                1,
                "crates without raw memory or system calls forbid unsafe code",
                better,
            ));
        }
        for (line, code) in code_lines(text).filter(|(_, code)| has_word(code, "unsafe")) {
            drop(code);
            let better =
                "put it into the lowest private module of buf or driver, behind a safe function";
            faults.push(fault(
                file,
                line,
                "unsafe stands in buf and driver only",
                better,
            ));
        }
    }
    faults
}

/// Where system calls may be made, and why outside of a `sys.rs`.
const SYSTEM: &[(&str, &str)] = &[
    (
        "transport/driver/src/socket/",
        "options and direct calls that all drivers share",
    ),
    (
        "transport/driver/src/uring/wake.rs",
        "one eventfd: its write is the wake itself",
    ),
    ("transport/buf/src/mmap.rs", "memory is mapped here"),
    ("transport/buf/src/instant.rs", "the one clock"),
    (
        "bindings/c/src/registry.rs",
        "a forked child has to be told apart from its parent",
    ),
    (
        "transport/engine/src/shards.rs",
        "pins a thread that it has just started",
    ),
];

/// System calls are gathered where they are counted and documented.
pub(crate) fn system_calls(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    let exempt = |path: &str| {
        path.ends_with("/sys.rs") || SYSTEM.iter().any(|(place, _)| path.starts_with(place))
    };
    let sources = |path: &str| path.starts_with("src/") || path.contains("/src/");
    let tests = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    for (file, text) in tree
        .rust()
        .filter(|(path, _)| sources(path) && !tests(path) && !exempt(path))
    {
        // Unit tests stand at a file's end and may ask the system what they like.
        let lines = code_lines(text).take_while(|(_, code)| !code.contains("#[cfg(test)]"));
        // The command is a program of its own and no layer of a message: nix's safe calls are its business.
        let wrapped = !file.starts_with("cli/");
        for (line, code) in lines.filter(|(_, code)| calls_libc(code) || wrapped && uses_nix(code))
        {
            let better = format!(
                "a thin function in the folder's `sys.rs` instead of `{}`",
                code.trim()
            );
            faults.push(fault(
                file,
                line,
                "system calls stand in `sys.rs`, `driver/socket` and `mmap.rs`",
                better,
            ));
        }
    }
    faults
}

/// A call of a function of libc; its types and constants are no system calls.
fn calls_libc(code: &str) -> bool {
    code.match_indices("libc::").any(|(at, prefix)| {
        let name = &code[at + prefix.len()..];
        let end = name.find(|char: char| {
            !(char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
        });
        end.is_some_and(|end| end > 0 && name[end..].starts_with('('))
    })
}

/// Anything of nix but its error number.
fn uses_nix(code: &str) -> bool {
    let errors = code.matches("nix::errno").count() + code.matches("nix::Error").count();
    let foreign = code.matches("unix::").count();
    code.matches("nix::").count() > errors + foreign
}

/// Folders of the layers that a message crosses.
const LAYERS: &[&str] = &[
    "transport/engine/src",
    "transport/proto/src/stream",
    "transport/quic/src/session",
    "transport/proto/src/rudp",
    "transport/driver/src/uring",
    "transport/driver/src/epoll",
    "transport/sim/src",
];

/// Each layer has one way down and one way up, and nobody else uses those names.
pub(crate) fn path_of_a_message(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    let rule = "each layer that a message crosses has one send.rs and one recv.rs";
    for layer in LAYERS.iter().filter(|layer| tree.has(layer)) {
        for name in ["send.rs", "recv.rs"] {
            let path = format!("{layer}/{name}");
            if !tree.has(&path) {
                faults.push(fault(
                    &path,
                    1,
                    rule,
                    "gather this layer's way of a message there",
                ));
            }
        }
    }
    for (path, _) in tree
        .rust()
        .filter(|(path, _)| path.starts_with("transport/"))
    {
        let Some((folder, name)) = path.rsplit_once('/') else {
            continue;
        };
        if matches!(name, "send.rs" | "recv.rs") && !LAYERS.contains(&folder) {
            let better = "another name, or a line in LAYERS (tests/tidy/rules.rs) and a station in docs/path.md";
            faults.push(fault(path, 1, rule, better));
        }
    }
    faults
}

/// Most lines of a source file: beyond it a file does too many things.
const LINES_MAX: usize = 800;

/// No god files.
pub(crate) fn file_length(tree: &Tree) -> Vec<Fault> {
    let long = tree.rust().map(|(path, text)| (path, text.lines().count()));
    long.filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| {
            let better =
                format!("it has {lines}: move tests to a sibling `tests.rs`, or split it by nouns");
            fault(path, lines, "a file has at most 800 lines", better)
        })
        .collect()
}

/// Words of the workshop: where and how the project was made is nobody's business.
const WORKSHOP: &[&str] = &[
    concat!("/", "work", "/"),
    concat!("shared", "/notes"),
    concat!("shared", "/design"),
    concat!("shared", "/style"),
    concat!("design", ".md"),
    concat!("before", "-stop"),
    concat!("this", " session"),
    concat!("earlier", " session"),
    concat!("developer's", " session"),
    concat!("this", " issue"),
    concat!("the issue", " says"),
    concat!("Done", " when"),
    concat!("another", " helper"),
    concat!("other", " helpers"),
    concat!("language", " model"),
    concat!("Cla", "ude"),
    concat!("AI", "-generated"),
];

/// Texts speak to strangers.
pub(crate) fn workshop_words(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (file, text) in tree
        .files
        .iter()
        .filter(|(path, _)| !path.ends_with(".lock"))
    {
        for (index, line) in text.lines().enumerate() {
            for word in WORKSHOP.iter().filter(|word| has_word(line, word)) {
                let better = format!("say it without `{word}`, so that a stranger understands it");
                faults.push(fault(
                    file,
                    index + 1,
                    "no text mentions how or where it was made",
                    better,
                ));
            }
        }
    }
    faults
}
