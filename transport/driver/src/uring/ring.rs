//! The shim between driver and ring: entries in, completions out.
//!
//! Above it everything in `uring/` is generic over [`Ring`]; below is the kernel's ring, entered by `sys.rs`.
//! Static dispatch, so the production path costs nothing. Tests wrap the kernel's ring and alter what comes
//! out of it: missing buffers, cancellations, short counts, late, repeated and stale completions.
//!
//! Invariants: one thread (`SINGLE_ISSUER`); deferred work of the kernel runs inside [`Ring::enter`] and
//! nowhere else (`DEFER_TASKRUN`), so between two enters no completion appears and no armed receive takes
//! bytes. The direct reads of armed sockets in `recv.rs` stand on that.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{EnterFlags, IoUring, cqueue};
use ringway_buf::Instant;

use super::sys;
use crate::{DriverStats, Park};

/// A submission queue entry of the io-uring crate.
pub use io_uring::squeue::Entry;

/// One completion queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What the entry was submitted with.
    pub user_data: u64,
    /// Result of the operation: a count, a descriptor, or a negated `errno`.
    pub result: i32,
    /// `IORING_CQE_F_*`.
    pub flags: u32,
}

impl Completion {
    /// True when the operation stays in flight and will complete again.
    #[must_use]
    pub fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that the operation used, whatever its result.
    #[must_use]
    pub fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// A ring that one driver owns.
pub trait Ring {
    /// Queues an entry for the next [`enter`](Self::enter). `false` when the queue is full.
    ///
    /// # Safety
    /// All memory that the entry points to stays valid, and untouched where the kernel writes it, until the
    /// operation's last completion; so does the descriptor.
    unsafe fn push(&mut self, entry: &Entry) -> bool;

    /// Entries queued and not yet taken by the kernel.
    fn queued(&mut self) -> u32;

    /// True when the kernel has deferred work for us, or completions that found no room in the queue: the
    /// next enter will bring them. Two loads from shared memory, no system call.
    fn attention(&mut self) -> bool;

    /// True when completions wait in the kernel because the queue was full.
    fn overflowed(&mut self) -> bool;

    /// Submits what is queued, runs deferred work, and sleeps if told to and nothing completed.
    ///
    /// # Errors
    /// What is not a normal end: `EINTR`, `EAGAIN`, `EBUSY` and `ETIME` are.
    fn enter(&mut self, park: Park, stats: &mut DriverStats) -> io::Result<()>;

    /// Writes to an eventfd whenever a completion or deferred work comes.
    ///
    /// # Errors
    /// What the system says.
    fn tell(&mut self, eventfd: RawFd) -> io::Result<()> {
        let _ = eventfd;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes the next completion.
    fn next(&mut self) -> Option<Completion>;

    /// Gives the kernel a ring of provided buffers.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Safety
    /// `address` is page-aligned memory for `entries` entries that stays until
    /// [`unregister_buffers`](Self::unregister_buffers).
    unsafe fn register_buffers(&mut self, address: u64, entries: u16, group: u16)
    -> io::Result<()>;

    /// Takes a ring of provided buffers back from the kernel.
    ///
    /// # Errors
    /// What the system says.
    fn unregister_buffers(&mut self, group: u16) -> io::Result<()>;
}

/// Shape of a [`KernelRing`], as asked for.
#[derive(Clone, Copy, Debug)]
pub struct RingShape {
    /// Entries of the submission queue; the kernel rounds up to a power of two.
    pub submissions: u32,
    /// Entries of the completion queue, at least as many.
    pub completions: u32,
    /// Submission entries without an index array (Linux 6.6).
    pub no_sqarray: bool,
}

/// The kernel's ring.
pub struct KernelRing {
    ring: IoUring,
    /// Index of the registered descriptor, or the descriptor itself.
    enter_fd: i32,
    /// Flags of every enter.
    flags: EnterFlags,
    /// Deadlines are absolute (Linux 6.12); saves a clock read per park.
    absolute: bool,
}

impl core::fmt::Debug for KernelRing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KernelRing")
            .field("ring", self.ring.params())
            .finish_non_exhaustive()
    }
}

impl KernelRing {
    /// Makes a ring and enables it for the calling thread, the only one that may use it.
    ///
    /// # Errors
    /// What the system says: `EPERM`, `ENOSYS`, `ENOMEM`, `EINVAL` (too old).
    pub fn open(shape: RingShape) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder
            .dontfork()
            .setup_cqsize(shape.completions)
            .setup_clamp()
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_r_disabled();
        if shape.no_sqarray {
            builder.setup_no_sqarray();
        }
        let ring = builder.build(shape.submissions)?;
        ring.submitter().register_enable_rings()?;
        let mut flags = EnterFlags::GETEVENTS;
        if ring.params().is_feature_no_iowait() {
            // Without it a parked engine shows up as 100 % iowait and raises the clock of its core.
            flags |= EnterFlags::NO_IOWAIT;
        }
        let fd = ring.as_raw_fd();
        let enter_fd = match sys::register_ring_fd(fd) {
            Ok(index) => {
                flags |= EnterFlags::REGISTERED_RING;
                index
            }
            // Costs 30 ns per enter, nothing else.
            Err(_) => fd,
        };
        let absolute = ring.params().is_feature_min_timeout();
        Ok(Self {
            ring,
            enter_fd,
            flags,
            absolute,
        })
    }

    /// Features that the kernel reported with the ring.
    #[must_use]
    pub fn parameters(&self) -> &io_uring::Parameters {
        self.ring.params()
    }

    /// Whether parks take an absolute deadline, and whether entering goes by a registered descriptor.
    pub(super) fn refinements(&self) -> [bool; 3] {
        let has = |flag| self.flags.contains(flag);
        [
            self.absolute,
            has(EnterFlags::REGISTERED_RING),
            has(EnterFlags::NO_IOWAIT),
        ]
    }

    /// Entries of both queues, as the kernel made them.
    pub(super) fn sizes(&mut self) -> (usize, usize) {
        let submissions = self.ring.submission().capacity();
        (submissions, self.ring.completion().capacity())
    }

    fn time_limit(&self, deadline: Instant) -> sys::Timespec {
        let nanos = if self.absolute {
            deadline.as_nanos()
        } else {
            let left = deadline.saturating_since(Instant::monotonic()).as_nanos();
            u64::try_from(left).unwrap_or(u64::MAX)
        };
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        sys::Timespec {
            seconds: seconds.cast_signed(),
            nanos: rest.cast_signed(),
        }
    }
}

impl Ring for KernelRing {
    #[inline]
    unsafe fn push(&mut self, entry: &Entry) -> bool {
        // SAFETY: passed on to our caller.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most the queue's size, 32 bits"
    )]
    fn queued(&mut self) -> u32 {
        self.ring.submission().len() as u32
    }

    #[inline]
    fn attention(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    #[inline]
    fn overflowed(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    fn enter(&mut self, park: Park, stats: &mut DriverStats) -> io::Result<()> {
        let submit = self.queued();
        stats.syscalls += 1;
        let entered = match park {
            Park::No => sys::enter(self.enter_fd, submit, 0, self.flags.bits(), None),
            Park::Until(None) => sys::enter(self.enter_fd, submit, 1, self.flags.bits(), None),
            Park::Until(Some(deadline)) => {
                let limit = self.time_limit(deadline);
                let mut flags = self.flags | EnterFlags::EXT_ARG;
                flags.set(EnterFlags::ABS_TIMER, self.absolute);
                sys::enter(self.enter_fd, submit, 1, flags.bits(), Some(&limit))
            }
        };
        match entered {
            Ok(_taken) => Ok(()),
            // A signal; completions to reap first; the deadline. What was queued and not taken stays queued.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ETIME)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn tell(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.ring.submitter().register_eventfd(eventfd)
    }

    #[inline]
    fn next(&mut self) -> Option<Completion> {
        self.ring.completion().next().map(|entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        })
    }

    unsafe fn register_buffers(
        &mut self,
        address: u64,
        entries: u16,
        group: u16,
    ) -> io::Result<()> {
        let submitter = self.ring.submitter();
        // SAFETY: passed on to our caller.
        unsafe { submitter.register_buf_ring_with_flags(address, entries, group, 0) }
    }

    fn unregister_buffers(&mut self, group: u16) -> io::Result<()> {
        self.ring.submitter().unregister_buf_ring(group)
    }
}
