//! Makes tonic's code from `proto/echo.proto`, without protoc.
//!
//! `src/peers/echo_capnp.rs` is checked in, because Cap'n Proto's compiler is no crate: it was made by
//! `capnp compile -orust proto/echo.capnp` with capnpc 0.27.0.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/echo.proto");
    let files = protox::compile(["proto/echo.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}
