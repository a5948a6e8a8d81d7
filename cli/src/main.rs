//! The command `ringway`: shows what this kernel offers, echoes, pings, measures.
//!
//! A user of the library like any other: everything goes through the façade crate. Above it there is only a
//! person or a script; exit codes are 0 (fine), 1 (a peer or a measurement failed), 2 (wrong usage) and 64 + N (a call
//! ended with status N).
//!
//! `unsafe` stands in two files: the hand-written baseline's system calls (`bench/raw/sys.rs`) and the
//! counting allocator (`bench/allocations.rs`).
#![deny(unsafe_code)]

mod args;
mod bench;
mod calls;
mod cert;
mod demo;
mod failure;
#[cfg(feature = "gateway")]
mod gateway;
#[cfg(not(feature = "gateway"))]
#[path = "no_gateway.rs"]
mod gateway;
mod impair;
mod machine;
mod output;
mod ping;
mod probe;
mod serve;
mod signals;
mod tls;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Arguments, Command};
use crate::bench::allocations::Counting;
use crate::failure::Failure;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Probe(probe) => probe::run(&probe),
        Command::Serve(serve) => serve::run(&serve),
        Command::Ping(ping) => ping::run(&ping),
        Command::Call(call) => calls::call(&call),
        Command::Describe(describe) => calls::describe(&describe),
        Command::Health(health) => calls::health(&health),
        Command::Gateway(arguments) => gateway::run(&arguments),
        Command::Load(load) => calls::load(&load),
        Command::Top(top) => calls::top(&top),
        Command::Impair(impair) => impair::run(&impair),
        Command::Cert(cert) => cert::run(&cert),
        Command::Bench(bench) => bench::run(&bench),
        Command::Demo(demo) => demo::run(&demo),
        Command::BenchPeer(peer) => bench::peer::run(&peer),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough, as `head` does: nothing failed.
        Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure);
            failure.exit_code()
        }
    }
}
