//! The kernel's ring with a seeded script of faults between it and the driver.
//!
//! What is altered is what a kernel may do: an entry is refused (`ENOBUFS`, `ECANCELED`, `EAGAIN`, a cancel
//! that finds nothing), a multishot ends after its first shot (no MORE), a send is cut short, a completion
//! comes late; and what it must not do, but a driver must survive: a completion comes twice or for nobody.

use std::collections::VecDeque;
use std::io;

use ringway_driver::uring::{Completion, Entry, KernelRing, Ring, RingShape};
use ringway_driver::{DriverStats, Park};

use super::Random;

const SENDMSG: u8 = 9;
const POLL_ADD: u8 = 6;
const ACCEPT: u8 = 13;
const CANCEL: u8 = 14;
const RECV: u8 = 27;
const MULTISHOT_ACCEPT: u16 = 1;
const MULTISHOT_RECV: u16 = 2;
/// Kinds of `user_data` whose completions carry stream bytes: their order among themselves is the stream's.
const KIND_RECV: u64 = 2;
const KIND_DIRECTED: u64 = 3;
const KIND_CANCEL: u64 = 8;

/// One in so many, 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Script {
    pub refused: usize,
    pub single: usize,
    pub short: usize,
    pub late: usize,
    pub twice: usize,
    pub stale: usize,
    /// Hides completions with stream bytes too: a lie that no kernel tells, for the negative control.
    pub hides_bytes: usize,
}

impl Script {
    pub const fn all(one_in: usize) -> Self {
        Self {
            refused: one_in,
            single: one_in,
            short: one_in,
            late: one_in,
            twice: one_in,
            stale: one_in,
            hides_bytes: 0,
        }
    }
}

/// An entry as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Raw {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    offset: u64,
    address: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// A shortened message; stays until the ring is gone.
#[derive(Debug)]
struct Cut {
    header: Box<libc::msghdr>,
    _pieces: Vec<libc::iovec>,
}

/// A kernel ring that misbehaves by a script.
#[derive(Debug)]
pub struct Faulty {
    ring: KernelRing,
    script: Script,
    random: Random,
    /// Completions to deliver, each after so many more enters.
    held: VecDeque<(u32, Completion)>,
    /// Completions that the driver is not shown for so many enters, with all that came behind them.
    hidden: VecDeque<Completion>,
    hidden_for: u32,
    cuts: Vec<Cut>,
    /// Completions for nobody that were made up.
    pub strangers: u64,
    /// Faults of any kind.
    pub faults: u64,
}

impl Faulty {
    pub fn new(shape: RingShape, script: Script, seed: u64) -> Self {
        Self {
            ring: KernelRing::open(shape).unwrap(),
            script,
            random: Random::new(seed),
            held: VecDeque::new(),
            hidden: VecDeque::new(),
            hidden_for: 0,
            cuts: Vec::new(),
            strangers: 0,
            faults: 0,
        }
    }

    fn happens(&mut self, one_in: usize) -> bool {
        let happens = one_in > 0 && self.random.one_in(one_in);
        self.faults += u64::from(happens);
        happens
    }

    fn answer(&mut self, user_data: u64, result: i32) {
        let delay = self.random.below(3) as u32;
        self.held.push_back((
            delay,
            Completion {
                user_data,
                result,
                flags: 0,
            },
        ));
    }

    /// Replaces a message by its first bytes.
    fn cut(&mut self, raw: &mut Raw) {
        // SAFETY: the driver keeps the message for as long as the operation is in flight.
        let header = unsafe { *(raw.address as *const libc::msghdr) };
        // SAFETY: as above, for its pieces.
        let pieces = unsafe { std::slice::from_raw_parts(header.msg_iov, header.msg_iovlen) };
        let total: usize = pieces.iter().map(|piece| piece.iov_len).sum();
        let mut left = 1 + self.random.below(total.max(1));
        let mut kept = Vec::new();
        for piece in pieces {
            let take = piece.iov_len.min(left);
            if take > 0 {
                kept.push(libc::iovec {
                    iov_base: piece.iov_base,
                    iov_len: take,
                });
            }
            left -= take;
        }
        let mut header = Box::new(header);
        header.msg_iov = kept.as_mut_ptr();
        header.msg_iovlen = kept.len();
        raw.address = std::ptr::from_ref(&*header).addr() as u64;
        self.cuts.push(Cut {
            header,
            _pieces: kept,
        });
        assert!(
            self.cuts
                .last()
                .is_some_and(|cut| !cut.header.msg_iov.is_null())
        );
    }

    /// Alters an entry, or answers it without the kernel (`None`).
    fn alter(&mut self, mut raw: Raw) -> Option<Raw> {
        let script = self.script;
        match raw.opcode {
            RECV if raw.user_data >> 60 == KIND_RECV && self.happens(script.refused) => {
                let errors = [libc::ENOBUFS, libc::ENOBUFS, libc::ECANCELED, libc::EINTR];
                let error = errors[self.random.below(errors.len())];
                self.answer(raw.user_data, -error);
                return None;
            }
            RECV if raw.user_data >> 60 == KIND_DIRECTED && self.happens(script.refused) => {
                self.answer(raw.user_data, -libc::EINTR);
                return None;
            }
            RECV if raw.ioprio & MULTISHOT_RECV != 0 && self.happens(script.single) => {
                raw.ioprio &= !MULTISHOT_RECV;
            }
            SENDMSG if self.happens(script.refused) => {
                let errors = [libc::EAGAIN, libc::EINTR, libc::ECANCELED];
                let error = errors[self.random.below(errors.len())];
                self.answer(raw.user_data, -error);
                return None;
            }
            SENDMSG if self.happens(script.short) => self.cut(&mut raw),
            ACCEPT if self.happens(script.single) => raw.ioprio &= !MULTISHOT_ACCEPT,
            POLL_ADD if self.happens(script.single) => raw.len = 0,
            CANCEL if self.happens(script.refused) => {
                self.answer(raw.user_data, -libc::ENOENT);
                return None;
            }
            _ => {}
        }
        Some(raw)
    }

    fn due(&mut self) -> Option<Completion> {
        let position = self.held.iter().position(|(delay, _)| *delay == 0)?;
        self.held.remove(position).map(|(_, completion)| completion)
    }
}

impl Ring for Faulty {
    unsafe fn push(&mut self, entry: &Entry) -> bool {
        // The kernel's queue may be full: then nothing may have been altered yet.
        if self.ring.queued() >= 200 {
            return false;
        }
        // SAFETY: an entry is 64 bytes of plain integers, in this order (`struct io_uring_sqe`).
        let raw = unsafe { std::mem::transmute_copy::<Entry, Raw>(entry) };
        let Some(raw) = self.alter(raw) else {
            return true;
        };
        // SAFETY: the inverse of the above.
        let entry = unsafe { std::mem::transmute::<Raw, Entry>(raw) };
        // SAFETY: the caller's promise, and ours for shortened messages.
        let pushed = unsafe { self.ring.push(&entry) };
        assert!(pushed, "there was room");
        true
    }

    fn queued(&mut self) -> u32 {
        self.ring.queued()
    }

    fn attention(&mut self) -> bool {
        !self.held.is_empty() || !self.hidden.is_empty() || self.ring.attention()
    }

    fn overflowed(&mut self) -> bool {
        self.ring.overflowed()
    }

    fn enter(&mut self, park: Park, stats: &mut DriverStats) -> io::Result<()> {
        let quiet = self.held.is_empty() && self.hidden.is_empty();
        let park = if quiet { park } else { Park::No };
        let entered = self.ring.enter(park, stats);
        for (delay, _) in &mut self.held {
            *delay = delay.saturating_sub(1);
        }
        self.hidden_for = self.hidden_for.saturating_sub(1);
        entered
    }

    fn next(&mut self) -> Option<Completion> {
        loop {
            if let Some(completion) = self.due() {
                return Some(completion);
            }
            if self.hidden_for == 0
                && let Some(completion) = self.hidden.pop_front()
            {
                return Some(completion);
            }
            let completion = self.ring.next()?;
            let kind = completion.user_data >> 60;
            let bytes = matches!(kind, KIND_RECV | KIND_DIRECTED);
            if !self.hidden.is_empty() {
                self.hidden.push_back(completion);
                continue;
            }
            if bytes && completion.result > 0 && self.happens(self.script.hides_bytes) {
                self.hidden_for = 2;
                self.hidden.push_back(completion);
                continue;
            }
            if !bytes && self.happens(self.script.late) {
                let delay = 1 + self.random.below(4) as u32;
                self.held.push_back((delay, completion));
                continue;
            }
            let last = !completion.more() && completion.buffer().is_none();
            if last && kind != KIND_CANCEL && kind != 1 && self.happens(self.script.twice) {
                self.strangers += 1;
                self.held.push_back((0, completion));
            }
            if self.happens(self.script.stale) {
                self.strangers += 1;
                let user_data = KIND_RECV << 60 | 0x0fff_ffff << 32 | self.random.below(64) as u64;
                self.held.push_back((
                    0,
                    Completion {
                        user_data,
                        result: 0,
                        flags: 0,
                    },
                ));
            }
            return Some(completion);
        }
    }

    unsafe fn register_buffers(
        &mut self,
        address: u64,
        entries: u16,
        group: u16,
    ) -> io::Result<()> {
        // SAFETY: passed on to our caller.
        unsafe { self.ring.register_buffers(address, entries, group) }
    }

    fn unregister_buffers(&mut self, group: u16) -> io::Result<()> {
        self.ring.unregister_buffers(group)
    }
}
