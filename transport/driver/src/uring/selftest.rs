//! The functional self-test: does the ring do what the driver builds on, here and now?
//!
//! Runs once at start-up on the driver's own ring, over a socket pair, under whatever seccomp profile and
//! limits are in force (`enter` and `register` can be filtered apart from `setup`). A few hundred microseconds.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::opcode;
use io_uring::types::Fd;
use ringway_buf::{Instant, Pools, PoolsConfig};

use super::bufring::{GROUP, SLOT_BYTES, Slots};
use super::ring::{Completion, Entry, Ring};
use super::start::refused;
use crate::{DriverStats, Fact, Park, StartError};

/// Slots of the test's ring.
const SLOTS: u16 = 2;
/// More than two slots of data, so that they run out.
const BYTES: usize = 2 * SLOT_BYTES + SLOT_BYTES / 2;
/// How long the kernel may take for what normally takes microseconds.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

const FIX: &str = "this kernel's io_uring misbehaves: update it, or use the epoll driver";

/// Runs the test on a fresh ring and leaves nothing behind; notes what it proved in `facts`.
pub(super) fn run<R: Ring>(ring: &mut R, facts: &mut Vec<Fact>) -> Result<(), StartError> {
    let failed = |error| refused("the self-test of io_uring", error);
    let pools = Pools::new(PoolsConfig {
        budget_bytes: 1 << 20,
        ..PoolsConfig::default()
    });
    let mut slots = Slots::new(ring, SLOTS, &pools).map_err(failed)?;
    let mut test = Test {
        ring,
        stats: DriverStats::default(),
        next: 1,
    };
    let outcome = test.nop().and_then(|()| test.receive(&mut slots, &pools));
    let released = test.ring.unregister_buffers(GROUP).is_ok();
    if released && outcome.is_ok() {
        drop(slots);
    } else {
        slots.leak();
    }
    match outcome {
        Ok(()) => {}
        Err(Flaw::System(error)) => return Err(failed(error)),
        Err(Flaw::Wrong(what)) => return Err(StartError::Unsupported { what, fix: FIX }),
    }
    for name in ["multishot recv", "provided buffers", "cancel"] {
        facts.push(Fact {
            name,
            used: true,
            why: "self-test passed".to_owned(),
        });
    }
    Ok(())
}

enum Flaw {
    System(io::Error),
    Wrong(&'static str),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

struct Test<'a, R> {
    ring: &'a mut R,
    stats: DriverStats,
    next: u64,
}

impl<R: Ring> Test<'_, R> {
    fn nop(&mut self) -> Result<(), Flaw> {
        let id = self.push(opcode::Nop::new().build())?;
        let done = self.wait()?;
        check(
            done.user_data == id && done.result == 0,
            "a no-op does not complete",
        )
    }

    /// Fills two slots and more: order, `ENOBUFS`, re-arming with the rest, cancelling.
    fn receive(&mut self, slots: &mut Slots, pools: &Pools) -> Result<(), Flaw> {
        let (mut near, far) = UnixStream::pair()?;
        far.set_nonblocking(true)?;
        near.set_nonblocking(true)?;
        let sent: Vec<u8> = (0..BYTES).map(pattern).collect();
        near.write_all(&sent)?;
        let mut received = Vec::with_capacity(BYTES);
        let mut starved = 0;
        let mut armed = None;
        while received.len() < BYTES {
            let id = self.armed(armed, far.as_raw_fd())?;
            armed = Some(id);
            let done = self.wait()?;
            check(
                done.user_data == id,
                "a receive completes under a foreign name",
            )?;
            if !done.more() {
                armed = None;
            }
            match usize::try_from(done.result) {
                Ok(len) if len > 0 => {
                    let slot = done.buffer().and_then(|bid| Some((bid, slots.take(bid)?)));
                    let Some((bid, mut slot)) = slot else {
                        return Err(Flaw::Wrong("a receive names no provided buffer"));
                    };
                    slot.filled(len);
                    received.extend_from_slice(slot.bytes());
                    slots.hold_back(bid, slot);
                }
                _ if done.result == -libc::ENOBUFS => {
                    starved += 1;
                    check(starved < 8, "a receive starves though buffers are there")?;
                    slots.refill(pools);
                }
                _ => return Err(Flaw::Wrong("a multishot receive fails")),
            }
        }
        check(received == sent, "received bytes are out of order")?;
        check(starved > 0, "a receive without buffers does not say so")?;
        self.cancel(armed, far.as_raw_fd(), slots, pools)
    }

    /// Cancels an armed receive and waits for both completions.
    fn cancel(
        &mut self,
        armed: Option<u64>,
        fd: i32,
        slots: &mut Slots,
        pools: &Pools,
    ) -> Result<(), Flaw> {
        slots.refill(pools);
        let target = self.armed(armed, fd)?;
        let cancel = self.push(opcode::AsyncCancel::new(target).build())?;
        let (mut ended, mut answered) = (false, false);
        while !(ended && answered) {
            let done = self.wait()?;
            if done.user_data == cancel {
                answered = true;
                check(done.result == 0, "an armed receive can't be cancelled")?;
            } else if done.user_data == target && !done.more() {
                ended = true;
                check(
                    done.result == -libc::ECANCELED,
                    "a cancelled receive does not say so",
                )?;
            }
        }
        Ok(())
    }

    /// The receive that is armed, or a fresh one.
    fn armed(&mut self, armed: Option<u64>, fd: i32) -> Result<u64, Flaw> {
        match armed {
            Some(id) => Ok(id),
            None => self.push(opcode::RecvMulti::new(Fd(fd), GROUP).build()),
        }
    }

    fn push(&mut self, entry: Entry) -> Result<u64, Flaw> {
        let id = self.next;
        self.next += 1;
        let entry = entry.user_data(id);
        // SAFETY: the entries of this test point to no memory but the slots, which are unregistered or leaked
        // before they are freed; their descriptors outlive the operations that complete, and a ring on which
        // one does not is dropped.
        while !unsafe { self.ring.push(&entry) } {
            self.ring.enter(Park::No, &mut self.stats)?;
        }
        Ok(id)
    }

    fn wait(&mut self) -> Result<Completion, Flaw> {
        let deadline = Instant::monotonic() + LIMIT;
        loop {
            if let Some(done) = self.ring.next() {
                return Ok(done);
            }
            check(Instant::monotonic() < deadline, "completions don't arrive")?;
            self.ring
                .enter(Park::Until(Some(deadline)), &mut self.stats)?;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a pattern of bytes")]
fn pattern(position: usize) -> u8 {
    (position.wrapping_mul(31) >> 3) as u8
}

fn check(holds: bool, what: &'static str) -> Result<(), Flaw> {
    if holds {
        Ok(())
    } else {
        Err(Flaw::Wrong(what))
    }
}
