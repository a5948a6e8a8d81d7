//! Installs library, headers and pkg-config file: `cargo run --release -p ringway-c --bin install -- --prefix DIR`.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const USAGE: &str = "usage: install --prefix DIR   (DIR gets include/, lib/ and lib/pkgconfig/)";

/// What a static link needs besides, as `rustc --print native-static-libs` tells.
const STATIC_LIBS: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let prefix = match &arguments[..] {
        [flag, prefix] if flag == "--prefix" => PathBuf::from(prefix),
        _ => return Err(USAGE.into()),
    };
    fs::create_dir_all(&prefix)?;
    let prefix = prefix.canonicalize()?;
    let (include, lib) = (prefix.join("include"), prefix.join("lib"));
    fs::create_dir_all(&include)?;
    fs::create_dir_all(lib.join("pkgconfig"))?;

    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::copy(source.join("include/ringway.h"), include.join("ringway.h"))?;
    fs::copy(
        source.join("../cpp/ringway.hpp"),
        include.join("ringway.hpp"),
    )?;
    let version = env!("CARGO_PKG_VERSION");
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    let real = format!("libringway.so.{version}");
    let soname = format!("libringway.so.{major}");
    let built = build()?;
    fs::copy(built.join("libringway_c.a"), lib.join("libringway.a"))?;
    // Not over a file that a running program has mapped.
    replaced(&lib.join(&real))?;
    fs::copy(built.join("libringway_c.so"), lib.join(&real))?;
    for (name, target) in [(&*soname, &*real), ("libringway.so", &*soname)] {
        replaced(&lib.join(name))?;
        symlink(target, lib.join(name))?;
    }
    let pc = format!(
        "prefix={}\nincludedir=${{prefix}}/include\nlibdir=${{prefix}}/lib\n\n\
         Name: ringway\nDescription: {}\nVersion: {version}\n\
         Cflags: -I${{includedir}}\nLibs: -L${{libdir}} -lringway\nLibs.private: {STATIC_LIBS}\n",
        prefix.display(),
        env!("CARGO_PKG_DESCRIPTION"),
    );
    fs::write(lib.join("pkgconfig/ringway.pc"), pc)?;
    Ok(())
}

/// Builds the libraries as this program was built; the folder they are in. Cargo builds them for nobody who can't link
/// them, so not together with this program.
fn build() -> Result<PathBuf, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let folder = program.parent().ok_or("a program lies in a folder")?;
    let above = folder.parent().ok_or("cargo's folder has one above")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--quiet", "-p", "ringway-c", "--lib"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let target = env!("RINGWAY_TARGET");
    let is_cross = above.file_name().is_some_and(|name| name == target);
    let outputs = if is_cross {
        above.parent()
    } else {
        Some(above)
    };
    if is_cross {
        command.args(["--target", target]);
    }
    command
        .arg("--target-dir")
        .arg(outputs.ok_or("cargo's outputs have a folder")?);
    if !command.status()?.success() {
        return Err("cargo could not build the library; its messages are above".into());
    }
    Ok(folder.to_owned())
}

fn replaced(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
