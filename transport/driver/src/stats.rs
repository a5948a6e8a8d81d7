//! Counters of a driver.

/// What a driver did since it started. Every system call of the data path is counted where it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverStats {
    /// System calls that moved data, submitted or reaped operations, or slept.
    pub syscalls: u64,
    /// System calls that found nothing: `EAGAIN`, an empty epoll set, an enter without completions.
    pub empty_polls: u64,
    /// Times the driver slept in the kernel.
    pub parks: u64,
    /// Receives that brought data, direct ones.
    pub recv_direct: u64,
    /// Receives that brought data, through ring completions.
    pub recv_ring: u64,
    /// Sends made by a direct system call.
    pub send_direct: u64,
    /// Sends submitted to the ring.
    pub send_ring: u64,
    /// Times a receive found no buffer (`ENOBUFS`, pool exhausted).
    pub starved: u64,
    /// Multishot receives armed or re-armed.
    pub armed: u64,
    /// Completions with an unknown or stale id. Anything but zero in a fault-free run is a bug.
    pub stale: u64,
    /// Operations that completed with `EFAULT`: the kernel met memory that was freed. Must stay zero.
    pub faults: u64,
    /// Completions that overflowed the completion queue.
    pub overflows: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams that the kernel refused or dropped for us (send buffer, unreachable).
    pub datagrams_dropped: u64,
    /// Accept errors.
    pub accept_errors: u64,
}

impl DriverStats {
    /// System calls that did something: all of them less the empty ones.
    #[must_use]
    pub fn working_syscalls(&self) -> u64 {
        self.syscalls.saturating_sub(self.empty_polls)
    }
}
