//! Ctrl-C and termination as an ordinary call, on a thread of their own.

use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::failure::Failure;

/// Calls `stop` once, when SIGINT or SIGTERM comes. A second signal ends the process at once.
///
/// Call it before any other thread is started: later threads inherit that these signals are blocked.
pub(crate) fn on_stop(stop: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.thread_block()
        .map_err(Failure::errno("block signals"))?;
    let wait = move || {
        if set.wait().is_err() {
            return;
        }
        stop();
        if set.wait().is_ok() {
            std::process::exit(1);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map(drop)
        .map_err(Failure::system("start a thread"))
}
