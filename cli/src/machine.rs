//! The machine under a measurement: which core a process runs on, what it used, what it may open.

use std::fs;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::time::TimeVal;
use nix::unistd::{Pid, getppid};

use crate::failure::Failure;

/// The cores of a process pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    /// Where the client runs.
    pub(crate) client: usize,
    /// Where the server runs.
    pub(crate) server: usize,
}

impl Cores {
    /// The first two cores that this process may use; twice the same one where there is only one.
    pub(crate) fn choose() -> Result<Self, Failure> {
        let allowed =
            sched_getaffinity(Pid::from_raw(0)).map_err(Failure::errno("read the cores"))?;
        let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        let client = cores.next().unwrap_or(0);
        Ok(Self {
            client,
            server: cores.next().unwrap_or(client),
        })
    }

    /// Whether both processes have a core of their own: else spinning steals from the other side.
    pub(crate) fn are_two(self) -> bool {
        self.client != self.server
    }
}

/// Keeps the calling thread on `core`.
pub(crate) fn pin(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core).map_err(Failure::errno("choose a core"))?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(Failure::errno("pin to a core"))
}

/// A thread that is kept on one core for a while; dropping this lets it go where it was allowed to before, so that a
/// second measurement finds both cores again.
#[derive(Debug)]
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Keeps the calling thread on `core`.
    pub(crate) fn to(core: usize) -> Result<Self, Failure> {
        let before =
            sched_getaffinity(Pid::from_raw(0)).map_err(Failure::errno("read the cores"))?;
        pin(core)?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed before; were it not any more, the thread would stay where it is.
        let _kept = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

/// Makes room for `count` descriptors, as far as the hard limit allows.
pub(crate) fn allow_descriptors(count: u64) -> Result<(), Failure> {
    let what = "read or raise the limit of descriptors";
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Failure::errno(what))?;
    if soft >= count {
        return Ok(());
    }
    if hard < count {
        return Err(Failure::Usage(format!(
            "this run needs {count} descriptors in each process and the limit is {hard}; lower \
             --connections or --held, or raise `ulimit -Hn`"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, count, hard).map_err(Failure::errno(what))
}

/// Makes room for as many descriptors as the hard limit allows. A server that can't is merely smaller.
pub(crate) fn raise_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _refused: Result<(), _> = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Makes the kernel end this process with its parent, and ends it now if the parent is gone already.
pub(crate) fn end_with(parent: i32) -> Result<(), Failure> {
    set_pdeathsig(Signal::SIGKILL).map_err(Failure::errno("tie this process to its parent"))?;
    if getppid().as_raw() == parent {
        return Ok(());
    }
    Err(Failure::Usage(
        "this command was started by a `ringway` that is gone".to_owned(),
    ))
}

/// Processor time of this process so far, user and system, in nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    // The call fails only for an unknown `who`; zero then shows in the figures.
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        nanos(usage.user_time()) + nanos(usage.system_time())
    })
}

fn nanos(time: TimeVal) -> u64 {
    let of = |value: i64| u64::try_from(value).unwrap_or(0);
    of(time.tv_sec()) * 1_000_000_000 + of(time.tv_usec()) * 1_000
}

/// Resident memory of this process in bytes.
pub(crate) fn resident_bytes() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(Failure::system("read /proc/self/status"))?;
    resident_of(&status).ok_or_else(|| Failure::System {
        what: "read /proc/self/status",
        error: std::io::Error::new(std::io::ErrorKind::InvalidData, "it has no line VmRSS"),
    })
}

fn resident_of(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The kernel's release, for reports.
pub(crate) fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(
        |_| "unknown".to_owned(),
        |release| release.trim().to_owned(),
    )
}

/// The processor's name, for reports.
pub(crate) fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name
        .and_then(|rest| rest.split_once(':'))
        .map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_else(|| "unknown processor".to_owned())
}

/// Most bytes that a socket's receive buffer may be set to without privileges.
pub(crate) fn recv_buffer_bytes_max() -> u64 {
    let text = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap_or_default();
    text.trim().parse().unwrap_or(212_992)
}

/// Descriptors that are open besides the sockets of a measurement: standard streams, rings, epoll, pipes.
pub(crate) const DESCRIPTORS_BESIDE: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_status_file() {
        let status = "Name:\tringway\nVmPeak:\t 9000 kB\nVmRSS:\t    2048 kB\nThreads:\t1\n";
        assert_eq!(resident_of(status), Some(2 << 20));
        assert_eq!(resident_of("Name:\tringway\n"), None);
        assert!(resident_bytes().unwrap() > 0);
    }

    #[test]
    fn a_second_measurement_finds_the_cores_of_the_first() {
        let before = Cores::choose().unwrap();
        for _ in 0..2 {
            let cores = Cores::choose().unwrap();
            assert_eq!(cores, before);
            let _pinned = Pinned::to(cores.client).unwrap();
            assert!(
                !Cores::choose().unwrap().are_two(),
                "it is kept on one core"
            );
        }
        assert_eq!(Cores::choose().unwrap(), before);
    }

    #[test]
    fn more_descriptors_than_the_hard_limit_are_wrong_usage() {
        let failure = allow_descriptors(u64::MAX - 1).unwrap_err();
        assert!(matches!(failure, Failure::Usage(_)), "{failure}");
    }
}
