//! The baseline: the same exchanges by hand-written system calls, as a good engineer would write them for this
//! one shape, and no more. Same framed bytes, same batches, same closed loop, same socket options.
//!
//! * [`sys`]: the system calls; [`frame`]: reading and writing frames; [`link`]: one socket;
//! * [`single`]: loops on one connection, spinning or blocking; [`many`]: loops on many, by epoll;
//! * [`open`]: sockets and their options; [`client`], [`server`]: both ends as contestants.

mod client;
mod frame;
mod link;
mod many;
mod open;
mod patience;
mod server;
mod single;
mod sys;

pub(crate) use client::RawClient;
pub(crate) use server::RawServer;

use super::usage::Counts;
use crate::failure::Failure;

/// What this thread's baseline did so far.
fn counts() -> Counts {
    let (syscalls, empty_polls) = sys::calls();
    // The hand-written loops move no payload besides what every program of this shape has to write.
    Counts {
        syscalls,
        empty_polls,
        copies: 0,
    }
}

/// Says which side a system call failed on.
fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Failure {
    Failure::system(what)
}
