//! Installing into a fresh prefix, compiling against it, running.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// Which compiler, with which flags.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Language {
    C,
    /// The header has to be C++ as well.
    Cpp,
}

impl Language {
    fn command(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::C => (
                "cc",
                &["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"],
            ),
            Self::Cpp => (
                "c++",
                &["-std=c++17", "-Wall", "-Wextra", "-pedantic", "-Werror"],
            ),
        }
    }
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn header() -> String {
    std::fs::read_to_string(here().join("include/ringway.h")).expect("the header is there")
}

fn finished(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|error| panic!("{command:?}: {error}; the README names what tests need"))
}

/// What a command printed; it has to go well.
pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let output = finished(command.args(arguments));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{errors}",
        output.status
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Prefixes of earlier runs; each has some 100 MB.
fn remove_those_of_the_dead(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("cargo made it") {
        let path = entry.expect("readable").path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(process) = name.and_then(|name| name.strip_prefix("prefix-"))
            && !Path::new("/proc").join(process).exists()
        {
            std::fs::remove_dir_all(&path).expect("our own");
        }
    }
}

/// The prefix that this test program installed into.
pub(crate) fn install() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        remove_those_of_the_dead(folder);
        let prefix = folder.join(format!("prefix-{}", std::process::id()));
        let text = prefix.to_str().expect("UTF-8");
        output(env!("CARGO_BIN_EXE_install"), &["--prefix", text]);
        prefix
    })
}

/// What `pkg-config --cflags --libs ringway` says; read by hand where that tool is missing.
fn flags() -> Vec<String> {
    let pc = install().join("lib/pkgconfig");
    let tool = Command::new("pkg-config")
        .args(["--cflags", "--libs", "ringway"])
        .env("PKG_CONFIG_PATH", &pc)
        .output();
    let line = match tool {
        Ok(said) => {
            assert!(
                said.status.success(),
                "{}",
                String::from_utf8_lossy(&said.stderr)
            );
            String::from_utf8(said.stdout).expect("UTF-8")
        }
        Err(_missing) => {
            let text = std::fs::read_to_string(pc.join("ringway.pc")).expect("it was installed");
            let prefix = install().to_str().expect("UTF-8");
            let wanted = text.lines().filter_map(|line| {
                line.strip_prefix("Cflags: ")
                    .or_else(|| line.strip_prefix("Libs: "))
            });
            wanted
                .collect::<Vec<_>>()
                .join(" ")
                .replace("${includedir}", "${prefix}/include")
                .replace("${libdir}", "${prefix}/lib")
                .replace("${prefix}", prefix)
        }
    };
    line.split_whitespace().map(str::to_owned).collect()
}

/// More flags for the compilers, from `RINGWAY_C_FLAGS`: those of a sanitizer.
fn extra_flags() -> Vec<String> {
    let flags = std::env::var("RINGWAY_C_FLAGS").unwrap_or_default();
    flags.split_whitespace().map(str::to_owned).collect()
}

/// Compiles one file against the installed library.
pub(crate) fn compiled(source: &str, language: Language) -> PathBuf {
    let (mut command, program) = compiler(source, language);
    let output = finished(&mut command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{errors}");
    program
}

/// Whether a file compiles.
pub(crate) fn compiles(source: &str, language: Language) -> bool {
    let (mut command, _) = compiler(source, language);
    finished(&mut command).status.success()
}

/// The command that compiles one file, and the program that it makes.
fn compiler(source: &str, language: Language) -> (Command, PathBuf) {
    let source = here().join(source);
    let name = source
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    let folder = install().join("bin");
    std::fs::create_dir_all(&folder).expect("a folder");
    let program = folder.join(name.replace('.', "_"));
    let (compiler, standard) = language.command();
    let mut command = Command::new(compiler);
    command
        .args(standard)
        .args(["-g", "-O1"])
        .args(extra_flags())
        .arg(&source)
        .args(flags())
        .args(["-lpthread", "-o"])
        .arg(&program);
    (command, program)
}

/// Runs a program against the installed library: under the tool that `RINGWAY_C_TOOL` names, if it does (a
/// checker of memory, with its arguments).
pub(crate) fn run(program: &Path, arguments: &[&str]) -> String {
    let mut command = command(program, arguments);
    let output = finished(&mut command);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}\n{errors}",
        output.status
    );
    said
}

/// A server that said where it listens.
#[derive(Debug)]
pub(crate) struct Started {
    process: Child,
    pub(crate) address: String,
}

/// Starts a server that prints its address first, and ends when its standard input does.
pub(crate) fn started(program: &Path, arguments: &[&str]) -> Started {
    let mut command = command(program, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().expect("it was compiled");
    let mut line = String::new();
    let said = process.stdout.take().expect("piped");
    BufReader::new(said)
        .read_line(&mut line)
        .expect("it says where it listens");
    Started {
        process,
        address: line.trim().to_owned(),
    }
}

impl Started {
    /// Ends it; it has to go well.
    pub(crate) fn ends_well(&mut self) {
        drop(self.process.stdin.take());
        let status = self.process.wait().expect("our child");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Of a test that failed; else it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn command(program: &Path, arguments: &[&str]) -> Command {
    let tool = std::env::var("RINGWAY_C_TOOL").unwrap_or_default();
    let mut words = tool.split_whitespace();
    let mut command = match words.next() {
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    };
    command
        .args(arguments)
        .env("LD_LIBRARY_PATH", install().join("lib"));
    command
}
