//! The definitions become Rust.

fn main() -> Result<(), ringway_build::Error> {
    ringway_build::configure()
        // These answer at once: plain functions on the engine's thread.
        .plain("kv.KeyValue/Get")
        .plain("kv.KeyValue/Put")
        .plain("kv.KeyValue/Delete")
        .plain("bench.Echo")
        .compile(&["proto/kv.proto", "proto/echo.proto"])
}
