//! A newcomer's first minutes: `cargo new`, ringway by path, what the README says, `cargo run`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

const README: &str = include_str!("../README.md");

/// Most lines of their own that a newcomer writes, the definition included.
const LINES_MAX: usize = 40;

/// The blocks of code in the section about services, each with its language.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let section = README.split("\n## A service\n").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let fenced = section.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.split_once('\n')).collect()
}

fn block(language: &str, mark: &str) -> Result<&'static str, String> {
    let all = blocks();
    let mut found = all
        .iter()
        .filter(|(it, text)| *it == language && text.contains(mark));
    let block = found.next().map(|(_, text)| *text);
    block.ok_or_else(|| {
        format!("the README's section about services has no `{language}` with `{mark}`")
    })
}

/// A folder outside of every workspace, gone with its value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind it does no harm.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn cargo(folder: &Path, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(folder);
    // Its own folder of results, kept from run to run: what the outer cargo builds has other features.
    command.env(
        "CARGO_TARGET_DIR",
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("newcomer"),
    );
    // Names and lines for a debugger take a third of the time, and nobody looks here.
    command.env("CARGO_PROFILE_DEV_DEBUG", "0");
    for (name, _) in std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG") || name.starts_with("CARGO_BIN") || name == "RUSTFLAGS"
    }) {
        command.env_remove(name);
    }
    let output = command.output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("cargo {arguments:?} in {}:\n{told}", folder.display()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn the_readmes_service_runs_in_a_new_package() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder =
        Folder(std::env::temp_dir().join(format!("ringway-newcomer-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0)?;
    cargo(&folder.0, &["new", "--quiet", "--vcs", "none", "first"])?;
    let package = folder.0.join("first");
    let (proto, script) = (
        block("proto", "service")?,
        block("rust,ignore", "ringway_build::compile")?,
    );
    let program = block("rust,ignore", "include_proto!")?;
    std::fs::create_dir(package.join("proto"))?;
    std::fs::write(package.join("proto/hello.proto"), proto)?;
    std::fs::write(package.join("build.rs"), script)?;
    std::fs::write(package.join("src/main.rs"), program)?;
    let manifest = std::fs::read_to_string(package.join("Cargo.toml"))?;
    // `cargo new` ends with an empty table of dependencies.
    let manifest = manifest.replace("[dependencies]", "");
    let dependencies = block("toml", "[dependencies]")?;
    let dependencies = dependencies.replace("../ringway", &root.display().to_string());
    std::fs::write(package.join("Cargo.toml"), manifest + &dependencies)?;
    // The versions that this workspace was built with: nothing is fetched.
    std::fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock"))?;

    let said = cargo(&package, &["run", "--quiet", "--offline"])?;
    assert_eq!(said, "Hello, newcomer!\n");

    let own = [proto, script, program].into_iter().flat_map(str::lines);
    let own = own.filter(|line| !line.trim().is_empty()).count();
    assert!(own < LINES_MAX, "{own} lines are the newcomer's own");
    Ok(())
}
