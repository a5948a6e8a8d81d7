//! The machine: cores, and the life of server processes.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

use crate::Outcome;

/// The first two cores that this process may use; the same one twice where there is only one.
pub(crate) fn cores() -> Outcome<(usize, usize)> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
    let client = cores.next().unwrap_or(0);
    Ok((client, cores.next().unwrap_or(client)))
}

/// Keeps this thread, and those that it starts, on one core.
pub(crate) fn pin(core: usize) -> Outcome<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Makes the kernel end this process with its parent.
pub(crate) fn end_with(parent: i32) -> Outcome<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid().as_raw() == parent {
        return Ok(());
    }
    Err("the parent is gone".into())
}

/// Stops a process, or lets it go on.
pub(crate) fn stop(process: u32, stop: bool) -> Outcome<()> {
    let signal = if stop {
        Signal::SIGSTOP
    } else {
        Signal::SIGCONT
    };
    Ok(kill(Pid::from_raw(i32::try_from(process)?), signal)?)
}
