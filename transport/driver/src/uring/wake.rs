//! Waking a parked driver from other threads: an eventfd that the ring polls.
//!
//! Beside the turn of `park.rs`. The eventfd is never read: every write raises the multishot poll again, and a
//! counter that only grows to 2^64 saves a system call per wake. A message on a ring (`MSG_RING`) would save a
//! quarter of the sender's cost and needs Linux 6.13; the engine's elided wakes matter far more.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::task::{Wake, Waker};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// The counter's part that other threads hold.
#[derive(Debug)]
struct Bell {
    fd: EventFd,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Fails only when the counter is full, and then the poll was raised long ago.
        let _full = self.fd.write(1);
    }
}

/// An eventfd that the ring writes to, for loops of others.
#[derive(Debug)]
pub(super) struct Beacon(EventFd);

impl Beacon {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Self(EventFd::from_flags(flags)?))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }

    /// Takes what was written.
    pub(super) fn hush(&self) {
        // Fails when nothing was written, which is what is wanted.
        let _empty = self.0.read();
    }
}

/// The driver's part.
#[derive(Debug)]
pub(super) struct Wakeup {
    bell: Arc<Bell>,
    waker: Waker,
    /// A wake came that no park has answered yet.
    pub(super) rung: bool,
}

impl Wakeup {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = Arc::new(Bell {
            fd: EventFd::from_flags(flags)?,
        });
        Ok(Self {
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            rung: false,
        })
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The number for the poll; the eventfd stays open while the driver lives.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.bell.fd.as_fd().as_raw_fd()
    }
}
