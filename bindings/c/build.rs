//! Linker flags of the shared library.
//!
//! rustc's own version script exports the `rw_*` functions and nothing else. The library can't be unloaded
//! (`nodelete`): a fork handler and the threads of a driver point into it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let major = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libringway.so.{major}");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=RINGWAY_TARGET={target}");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
