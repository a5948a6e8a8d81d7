//! One descriptor for loops of others: readable when a driver has something, or when a deadline has come.
//!
//! An epoll instance that holds the driver's own descriptor and a timer, both level-triggered; nobody takes events out
//! of it, it is only looked at from outside. Above stands the engine, which sets the timer before its owner sleeps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use ringway_buf::Instant;

/// The descriptor and its timer.
#[derive(Debug)]
pub struct Beacon {
    set: Epoll,
    timer: TimerFd,
    at: Option<Instant>,
}

impl Beacon {
    /// Watches `driver`, which has to stay open as long as the beacon is used:
    /// [epoll_create1(2)](https://man7.org/linux/man-pages/man2/epoll_create.2.html),
    /// [timerfd_create(2)](https://man7.org/linux/man-pages/man2/timerfd_create.2.html).
    ///
    /// # Errors
    /// What the system says: no descriptors are left.
    pub fn new(driver: BorrowedFd<'_>) -> io::Result<Self> {
        let set = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        set.add(driver, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        set.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
        Ok(Self {
            set,
            timer,
            at: None,
        })
    }

    /// The descriptor to watch.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.set.0.as_fd()
    }

    /// Becomes readable at `at` too; what an earlier deadline said is forgotten.
    ///
    /// # Errors
    /// What the system says of [timerfd_settime(2)](https://man7.org/linux/man-pages/man2/timerfd_create.2.html).
    pub fn set(&mut self, at: Option<Instant>) -> io::Result<()> {
        if self.at == at {
            // Set already; if it went off since, it still says so, and is right.
            return Ok(());
        }
        match at {
            Some(instant) => {
                // 0 would switch it off.
                let nanos = i64::try_from(instant.as_nanos().max(1)).unwrap_or(i64::MAX);
                let seconds = nanos / 1_000_000_000;
                let time = TimeSpec::new(seconds, nanos % 1_000_000_000);
                let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
                self.timer.set(Expiration::OneShot(time), flags)?;
            }
            None => self.timer.unset()?,
        }
        self.at = at;
        Ok(())
    }
}
