//! The C ABI of ringway: the same engine for C, C++ and everything that can call C.
//!
//! `include/ringway.h` is the contract and documents every function; this crate is its other side. It stands above
//! engine and RPC and gives both to one thread: [`core::Core`] is an engine with its handler, which turns callbacks
//! into events that `rw_poll` hands out.
//!
//! * `registry.rs`: an engine is an id, looked up in a table: a stale id, another thread or a forked child is refused.
//! * `guard.rs`, `entry.rs`: every function runs inside `guard`, so that no panic crosses, and statuses stay apart
//!   from values.
//! * `messages.rs`, `calls.rs`, `serve.rs`, `engine.rs`, `info.rs`: the exported functions.
//! * `host.rs`, `threads.rs`: engines on threads of the library's own.
//!
//! Nothing calls back into foreign code, so no function is ever entered twice for one engine.

mod calls;
mod config;
mod core;
mod detached;
mod engine;
mod entry;
mod event;
mod front;
#[cfg(test)]
mod fuzzed;
mod guard;
mod host;
mod ids;
mod info;
mod known;
mod layout;
mod lent;
mod messages;
mod pointers;
mod registry;
mod serve;
mod sys;
mod threads;
