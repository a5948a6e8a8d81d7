//! Random sequences of calls of the C API; see `src/c_api.rs`. The binding has no library for Rust, so its files stand
//! here as they stand there.

#![no_main]

#[path = "../src/c_api.rs"]
mod c_api;

#[path = "../../bindings/c/src/calls.rs"]
mod calls;
#[path = "../../bindings/c/src/config.rs"]
mod config;
#[path = "../../bindings/c/src/core.rs"]
mod core;
#[path = "../../bindings/c/src/detached.rs"]
mod detached;
#[path = "../../bindings/c/src/engine.rs"]
mod engine;
#[path = "../../bindings/c/src/entry.rs"]
mod entry;
#[path = "../../bindings/c/src/event.rs"]
mod event;
#[path = "../../bindings/c/src/front.rs"]
mod front;
#[path = "../../bindings/c/src/guard.rs"]
mod guard;
#[path = "../../bindings/c/src/host.rs"]
mod host;
#[path = "../../bindings/c/src/ids.rs"]
mod ids;
#[path = "../../bindings/c/src/info.rs"]
mod info;
#[path = "../../bindings/c/src/known.rs"]
mod known;
#[path = "../../bindings/c/src/layout.rs"]
mod layout;
#[path = "../../bindings/c/src/lent.rs"]
mod lent;
#[path = "../../bindings/c/src/messages.rs"]
mod messages;
#[path = "../../bindings/c/src/pointers.rs"]
mod pointers;
#[path = "../../bindings/c/src/registry.rs"]
mod registry;
#[path = "../../bindings/c/src/serve.rs"]
mod serve;
#[path = "../../bindings/c/src/sys.rs"]
mod sys;
#[path = "../../bindings/c/src/threads.rs"]
mod threads;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| c_api::play(bytes));
