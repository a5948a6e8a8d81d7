//! Contiguity for a stream's receiver: where bytes are received to, and what happens to a cut message.
//!
//! Between a driver's system calls (below) and [`Sink::received`] (above). Shared by all stream drivers.
//!
//! Two ways in, one contract (unconsumed bytes are shown again, contiguously, in front of later ones):
//!
//! * *direct*: the driver receives into [`Inlet::target`], then calls [`Inlet::took`]. The target is the
//!   thread's one [`Scratch`] buffer, or the connection's own while it holds an unfinished message, or the
//!   final place of a large message followed by scratch for what comes behind it.
//! * *slot*: the kernel chose a pooled slot; [`Inlet::feed`] shows it in place and copies (counted) only the
//!   message that straddles two slots.
//!
//! An idle connection owns no buffer. Nothing is lost when memory runs out: what can't be shown yet waits in
//! the backlog, which is bounded because the driver stops receiving for that socket.
//!
//! Invariants: bytes wait in stream order in the large message's place, then `own`, then `backlog`; while a
//! large message lacks bytes, `own` is empty; between calls the shared scratch holds no bytes of anybody.
//! Tested in `inlet/tests.rs` against an oracle that counts every byte and every copy.

use std::collections::VecDeque;
use std::io::IoSliceMut;

use ringway_buf::{Pools, RecvBuffer, SLOT_ALIGN, copy_counted};

use crate::{Sink, SocketId, Want};

/// Size of the scratch buffer and of a bulk connection's own: 64 KiB, see `docs/ARCHITECTURE.md`.
const SCRATCH_BYTES: usize = 64 * 1024;
/// A shared scratch buffer is continued behind what users hold as long as this much room is left.
const SCRATCH_SPARE_MIN: usize = 16 * 1024;
/// Room behind a large message for the next header and a few small messages.
const BEHIND_LARGE_BYTES: usize = 256;
/// An unfinished message of a quiet connection up to this size moves into a buffer that fits it; beyond, it
/// keeps the 64 KiB it was received into, because nothing smaller would be leased.
const QUIET_BYTES: usize = 16 * 1024;

/// The receive buffer that all quiet sockets of one engine share.
#[derive(Debug, Default)]
pub struct Scratch {
    buffer: Option<RecvBuffer>,
}

impl Scratch {
    /// An empty holder; memory is leased on first use.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: None }
    }

    /// The buffer, empty, with at least 16 KiB spare, its next byte at `phase % 64`. `None` without memory.
    pub fn ready(&mut self, pools: &Pools, phase: u64) -> Option<&mut RecvBuffer> {
        let usable = match &mut self.buffer {
            Some(buffer) => buffer.restart(phase, SCRATCH_SPARE_MIN),
            None => false,
        };
        if !usable {
            let mut fresh = pools.lease(SCRATCH_BYTES)?.into_recv();
            fresh.rewind(phase);
            self.buffer = Some(fresh);
        }
        self.buffer.as_mut()
    }

    fn give_back(&mut self, buffer: RecvBuffer, pools: &Pools) {
        if self.buffer.is_none() && buffer.capacity() == SCRATCH_BYTES {
            self.buffer = Some(buffer);
        } else if let Ok(lease) = buffer.try_into_lease() {
            pools.give(lease);
        }
    }
}

/// Where the next direct receive of a socket goes.
#[derive(Debug)]
pub enum Target<'a> {
    /// Into this room.
    One(&'a mut [u8]),
    /// Into the final place of a large message, and behind it into scratch.
    Two([IoSliceMut<'a>; 2]),
}

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// All shown; go on receiving.
    More,
    /// The sink wants nothing now; the driver stops receiving until it is switched on again.
    Paused,
    /// No memory for an unfinished message; the driver stops receiving and calls [`Inlet::resume`] later.
    Starved,
}

/// A large message on its way into its final place.
#[derive(Debug)]
struct Large {
    place: RecvBuffer,
    /// Bytes that it lacks.
    remaining: usize,
}

impl Large {
    fn filled(&mut self, len: usize) {
        self.place.filled(len);
        self.remaining -= len;
    }

    fn room(&mut self) -> &mut [u8] {
        let remaining = self.remaining;
        &mut self.place.spare_mut()[..remaining]
    }
}

/// Receive side of one stream socket.
#[derive(Debug, Default)]
pub struct Inlet {
    /// The connection's own buffer: holds an unfinished message.
    own: Option<RecvBuffer>,
    /// Contiguous bytes the sink asked for; it is not called with less.
    want: usize,
    /// A large message that lacks bytes.
    large: Option<Large>,
    /// Somebody holds the large buffer: see [`take_large`](Self::take_large).
    lent: bool,
    /// The sink said [`Want::Nothing`] and nobody asked us to go on since.
    paused: bool,
    /// Pooled slots that arrived while the sink wanted nothing or memory lacked.
    backlog: VecDeque<RecvBuffer>,
    /// Offset in the stream of the next ordinary byte to consume, for alignment. A large message counts as
    /// consumed when it is announced.
    consumed: u64,
}

impl Inlet {
    /// Bytes that a large message still lacks; 0 when none is under way.
    #[must_use]
    pub fn large_remaining(&self) -> usize {
        self.large.as_ref().map_or(0, |large| large.remaining)
    }

    /// Takes the large buffer out, for an operation that will own it; [`large_back`](Self::large_back)
    /// returns it. Slots that are fed meanwhile wait behind it.
    pub fn take_large(&mut self) -> Option<(RecvBuffer, usize)> {
        let large = self.large.take()?;
        self.lent = true;
        Some((large.place, large.remaining))
    }

    /// Puts back the buffer of [`take_large`](Self::take_large) with `remaining` bytes still missing (its
    /// received part counted by `filled`), and shows it to the sink when complete.
    pub fn large_back<S: Sink>(
        &mut self,
        socket: SocketId,
        buffer: RecvBuffer,
        remaining: usize,
        pools: &Pools,
        sink: &mut S,
    ) -> Fed {
        self.lent = false;
        self.large = Some(Large {
            place: buffer,
            remaining,
        });
        match self.settle(socket, sink) {
            Fed::More => self.resume(socket, pools, sink),
            fed => fed,
        }
    }

    /// True while bytes wait here that the sink has not consumed.
    #[must_use]
    pub fn holds_bytes(&self) -> bool {
        self.own.is_some() || self.large.is_some() || self.lent || !self.backlog.is_empty()
    }

    /// Where the next direct receive goes; `None` without memory, while a backlog must be shown first, or
    /// while the large buffer is away.
    pub fn target<'a>(&'a mut self, scratch: &'a mut Scratch, pools: &Pools) -> Option<Target<'a>> {
        if !self.backlog.is_empty() || self.lent {
            return None;
        }
        if self.own.is_some() {
            if !self.widen(SCRATCH_BYTES, pools) {
                return None;
            }
            return self.own.as_mut().map(|own| Target::One(own.spare_mut()));
        }
        if let Some(large) = &mut self.large {
            return Some(match scratch.ready(pools, self.consumed) {
                Some(behind) => Target::Two([
                    IoSliceMut::new(large.room()),
                    IoSliceMut::new(&mut behind.spare_mut()[..BEHIND_LARGE_BYTES]),
                ]),
                None => Target::One(large.room()),
            });
        }
        Some(Target::One(
            scratch.ready(pools, self.consumed)?.spare_mut(),
        ))
    }

    /// Shows `len` bytes that were received into the last [`target`](Self::target). `brimful` says that the
    /// receive filled its room, so that more is likely to wait.
    pub fn took<S: Sink>(
        &mut self,
        socket: SocketId,
        len: usize,
        brimful: bool,
        scratch: &mut Scratch,
        pools: &Pools,
        sink: &mut S,
    ) -> Fed {
        self.paused = false;
        let mut behind = len;
        if let Some(large) = &mut self.large {
            let placed = len.min(large.remaining);
            large.filled(placed);
            behind -= placed;
        } else if let Some(own) = &mut self.own {
            own.filled(len);
            return self.show_own(socket, Some(scratch), pools, sink);
        }
        match &mut scratch.buffer {
            Some(buffer) => {
                buffer.filled(behind);
                self.show_scratch(socket, brimful, scratch, pools, sink)
            }
            None => self.settle(socket, sink),
        }
    }

    /// Shows a pooled slot. Gives the slot back when nothing of it is needed any more (it may still be
    /// shared by slices that the sink took); keeps it in the backlog otherwise.
    ///
    /// A driver feeds no socket that is switched off, but for the slot that was on its way already.
    pub fn feed<S: Sink>(
        &mut self,
        socket: SocketId,
        slot: RecvBuffer,
        pools: &Pools,
        sink: &mut S,
    ) -> (Fed, Option<RecvBuffer>) {
        // What came earlier must be shown first, and that is `resume`'s to do.
        let held = !self.backlog.is_empty() || (self.paused && self.own.is_some());
        if self.lent || held {
            self.backlog.push_back(slot);
            let fed = match (self.lent, self.paused) {
                (true, _) => Fed::More,
                (false, true) => Fed::Paused,
                (false, false) => Fed::Starved,
            };
            return (fed, None);
        }
        self.paused = false;
        let mut slot = slot;
        let fed = self.show_slot(socket, &mut slot, pools, sink);
        if slot.is_empty() {
            (fed, Some(slot))
        } else {
            self.backlog.push_back(slot);
            (fed, None)
        }
    }

    /// Goes on after [`Fed::Paused`] or [`Fed::Starved`]: shows what was kept.
    pub fn resume<S: Sink>(&mut self, socket: SocketId, pools: &Pools, sink: &mut S) -> Fed {
        self.paused = false;
        if self.lent {
            return Fed::More;
        }
        let fed = self.show_own(socket, None, pools, sink);
        if fed != Fed::More {
            return fed;
        }
        while let Some(mut slot) = self.backlog.pop_front() {
            let fed = self.show_slot(socket, &mut slot, pools, sink);
            if !slot.is_empty() {
                self.backlog.push_front(slot);
            } else if let Ok(lease) = slot.try_into_lease() {
                pools.give(lease);
            }
            if fed != Fed::More {
                return fed;
            }
        }
        Fed::More
    }

    /// Shows what was received into scratch; what the sink leaves becomes the connection's own.
    fn show_scratch<S: Sink>(
        &mut self,
        socket: SocketId,
        brimful: bool,
        scratch: &mut Scratch,
        pools: &Pools,
        sink: &mut S,
    ) -> Fed {
        let Some(buffer) = scratch.buffer.as_mut() else {
            return Fed::More;
        };
        let fed = self.show(socket, buffer, sink);
        if buffer.is_empty() {
            return fed;
        }
        // An unfinished message stays. A brimful receive means bulk: it keeps the 64 KiB. A quiet
        // connection gets a buffer of the size that it needs.
        let need = self.need(buffer.len());
        if !brimful
            && need <= QUIET_BYTES
            && let Some(lease) = pools.lease(need)
        {
            let mut own = lease.into_recv();
            buffer.move_to(&mut own, self.consumed);
            self.own = Some(own);
        } else {
            self.own = scratch.buffer.take();
        }
        fed
    }

    /// Shows the connection's own buffer, and lets go of it when it was consumed whole.
    fn show_own<S: Sink>(
        &mut self,
        socket: SocketId,
        scratch: Option<&mut Scratch>,
        pools: &Pools,
        sink: &mut S,
    ) -> Fed {
        let Some(mut own) = self.own.take() else {
            return Fed::More;
        };
        let fed = self.show(socket, &mut own, sink);
        if !own.is_empty() {
            self.own = Some(own);
        } else if let Some(scratch) = scratch {
            scratch.give_back(own, pools);
        } else if let Ok(lease) = own.try_into_lease() {
            pools.give(lease);
        }
        fed
    }

    /// Shows a slot in place, except for the message that straddles it and another one.
    fn show_slot<S: Sink>(
        &mut self,
        socket: SocketId,
        slot: &mut RecvBuffer,
        pools: &Pools,
        sink: &mut S,
    ) -> Fed {
        while !slot.is_empty() {
            if self.own.is_some() {
                if !self.widen(0, pools) {
                    return Fed::Starved;
                }
                self.top_up(slot);
                let fed = self.show_own(socket, None, pools, sink);
                if fed != Fed::More {
                    return fed;
                }
                continue;
            }
            let fed = self.show(socket, slot, sink);
            if fed != Fed::More {
                return fed;
            }
            if !slot.is_empty() {
                let Some(lease) = pools.lease(self.need(slot.len())) else {
                    return Fed::Starved;
                };
                let mut own = lease.into_recv();
                slot.move_to(&mut own, self.consumed);
                self.own = Some(own);
            }
        }
        Fed::More
    }

    /// Copies just what the sink asked for from `slot` behind the unfinished message.
    fn top_up(&mut self, slot: &mut RecvBuffer) {
        let Some(own) = &mut self.own else { return };
        let lacking = self.want.saturating_sub(own.len()).max(1);
        let take = lacking.min(slot.len()).min(own.spare());
        let copied = copy_counted(own.spare_mut(), &slot.bytes()[..take]);
        own.filled(copied);
        slot.consume(copied);
    }

    /// Shows `buffer` until it is used up, holds less than the sink asked for, or the sink wants nothing.
    ///
    /// Bytes that belong to a large message are copied to its place; `large` is empty, or `buffer` is, when
    /// this returns.
    fn show<S: Sink>(&mut self, socket: SocketId, buffer: &mut RecvBuffer, sink: &mut S) -> Fed {
        loop {
            if let Some(large) = &mut self.large {
                if large.remaining > 0 && !buffer.is_empty() {
                    let copied = copy_counted(large.room(), buffer.bytes());
                    large.filled(copied);
                    buffer.consume(copied);
                }
                if large.remaining > 0 {
                    return Fed::More;
                }
                if self.settle(socket, sink) == Fed::Paused {
                    return Fed::Paused;
                }
                continue;
            }
            let before = buffer.len();
            if before == 0 || before < self.want {
                return Fed::More;
            }
            let want = sink.received(socket, buffer);
            let progress = before - buffer.len();
            self.consumed += progress as u64;
            if self.heed(want) == Fed::Paused {
                return Fed::Paused;
            }
            if progress == 0 && self.large.is_none() {
                // Asked for no more than it was shown, and took nothing: at least one more byte, then.
                self.want = self.want.max(before + 1);
            }
        }
    }

    /// Shows a large message that is complete, and others that the sink announces with nothing missing.
    fn settle<S: Sink>(&mut self, socket: SocketId, sink: &mut S) -> Fed {
        while let Some(large) = self.large.take_if(|large| large.remaining == 0) {
            let want = sink.large(socket, large.place);
            if self.heed(want) == Fed::Paused {
                return Fed::Paused;
            }
        }
        Fed::More
    }

    /// Takes the sink's answer to heart.
    fn heed(&mut self, want: Want) -> Fed {
        self.want = 0;
        match want {
            Want::More(want) => self.want = want,
            Want::Large { buffer, remaining } => {
                self.consumed += remaining as u64;
                self.large = Some(Large {
                    place: buffer,
                    remaining,
                });
            }
            Want::Nothing => {
                self.paused = true;
                return Fed::Paused;
            }
        }
        Fed::More
    }

    /// Makes sure the own buffer can hold what is wanted and has room to receive; moves it to a larger one
    /// (counted copy) if not, of `aim` bytes if there is memory for that.
    fn widen(&mut self, aim: usize, pools: &Pools) -> bool {
        let need = self.own.as_ref().map_or(0, |own| self.need(own.len() + 1));
        let Some(own) = &mut self.own else {
            return true;
        };
        let lacking = self.want.saturating_sub(own.len()).max(1);
        if own.spare() >= lacking {
            return true;
        }
        let lease = pools.lease(need.max(aim)).or_else(|| pools.lease(need));
        let Some(lease) = lease else { return false };
        let mut wider = lease.into_recv();
        own.move_to(&mut wider, self.consumed);
        assert!(
            wider.spare() >= lacking,
            "a widened buffer holds what is wanted"
        );
        if let Ok(lease) = core::mem::replace(own, wider).try_into_lease() {
            pools.give(lease);
        }
        true
    }

    /// Room for `len` bytes or what the sink asked for, at any offset modulo [`SLOT_ALIGN`].
    fn need(&self, len: usize) -> usize {
        self.want.max(len) + SLOT_ALIGN
    }
}

#[cfg(test)]
mod tests;
