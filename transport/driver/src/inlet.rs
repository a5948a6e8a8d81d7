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

use std::collections::VecDeque;
use std::io::IoSliceMut;

use ringway_buf::{Pools, RecvBuffer, copy_counted};

use crate::{Sink, SocketId, Want};

/// Size of the scratch buffer and of a bulk connection's own: 64 KiB, see `docs/ARCHITECTURE.md`.
const SCRATCH_BYTES: usize = 64 * 1024;
/// A shared scratch buffer is continued behind what users hold as long as this much room is left.
const SCRATCH_SPARE_MIN: usize = 16 * 1024;
/// Room behind a large message for the next header and a few small messages.
const BEHIND_LARGE_BYTES: usize = 256;

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
        if self.buffer.is_none() && buffer.capacity() >= SCRATCH_BYTES {
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

/// Receive side of one stream socket.
#[derive(Debug, Default)]
pub struct Inlet {
    /// The connection's own buffer: holds an unfinished message.
    own: Option<RecvBuffer>,
    /// Contiguous bytes the sink asked for; it is not called with less.
    want: usize,
    /// A large message on its way into its final place, and how many bytes it lacks.
    large: Option<(RecvBuffer, usize)>,
    /// Pooled slots that arrived while the sink wanted nothing or memory lacked.
    backlog: VecDeque<RecvBuffer>,
    /// Bytes the sink consumed so far: the stream offset, for alignment.
    consumed: u64,
}

impl Inlet {
    /// Bytes that a large message still lacks; 0 when none is under way.
    #[must_use]
    pub fn large_remaining(&self) -> usize {
        self.large.as_ref().map_or(0, |(_, remaining)| *remaining)
    }

    /// Takes the large buffer out, for an operation that will own it; [`large_back`](Self::large_back)
    /// returns it.
    pub fn take_large(&mut self) -> Option<(RecvBuffer, usize)> {
        self.large.take()
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
        self.large = Some((buffer, remaining));
        self.settle_large(socket, sink).unwrap_or_else(|| self.resume(socket, pools, sink))
    }

    /// True while bytes wait here that the sink has not consumed.
    #[must_use]
    pub fn holds_bytes(&self) -> bool {
        self.own.is_some() || self.large.is_some() || !self.backlog.is_empty()
    }

    /// Where the next direct receive goes; `None` without memory, or while a backlog must be shown first.
    pub fn target<'a>(&'a mut self, scratch: &'a mut Scratch, pools: &Pools) -> Option<Target<'a>> {
        if !self.backlog.is_empty() {
            return None;
        }
        if self.large.is_none() && self.own.is_some() {
            if !self.widen(SCRATCH_BYTES, pools) {
                return None;
            }
            return self.own.as_mut().map(|own| Target::One(own.spare_mut()));
        }
        if let Some((buffer, remaining)) = &mut self.large {
            let phase = self.consumed + buffer.len() as u64 + *remaining as u64;
            let behind = scratch.ready(pools, phase)?.spare_mut();
            let behind = &mut behind[..BEHIND_LARGE_BYTES];
            let place = &mut buffer.spare_mut()[..*remaining];
            return Some(Target::Two([IoSliceMut::new(place), IoSliceMut::new(behind)]));
        }
        Some(Target::One(scratch.ready(pools, self.consumed)?.spare_mut()))
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
        if let Some((buffer, remaining)) = &mut self.large {
            let placed = len.min(*remaining);
            buffer.filled(placed);
            *remaining -= placed;
            if let Some(behind) = scratch.buffer.as_mut() {
                behind.filled(len - placed);
            }
            if let Some(fed) = self.settle_large(socket, sink) {
                self.keep_scratch(fed, scratch);
                return fed;
            }
            return self.show_scratch(socket, brimful, scratch, pools, sink);
        }
        if let Some(own) = &mut self.own {
            own.filled(len);
            return self.show_own(socket, Some(scratch), pools, sink);
        }
        if let Some(buffer) = scratch.buffer.as_mut() {
            buffer.filled(len);
        }
        self.show_scratch(socket, brimful, scratch, pools, sink)
    }

    /// Shows a pooled slot. Gives the slot back when nothing of it is needed any more (it may still be
    /// shared by slices that the sink took); keeps it in the backlog otherwise.
    pub fn feed<S: Sink>(
        &mut self,
        socket: SocketId,
        slot: RecvBuffer,
        pools: &Pools,
        sink: &mut S,
    ) -> (Fed, Option<RecvBuffer>) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(slot);
            return (Fed::Paused, None);
        }
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
        if self.own.as_ref().is_some_and(|own| own.len() >= self.want.max(1)) {
            let fed = self.show_own(socket, None, pools, sink);
            if fed != Fed::More {
                return fed;
            }
        }
        while let Some(mut slot) = self.backlog.pop_front() {
            let fed = self.show_slot(socket, &mut slot, pools, sink);
            if !slot.is_empty() {
                self.backlog.push_front(slot);
            }
            if fed != Fed::More {
                return fed;
            }
        }
        Fed::More
    }

    /// If a large message is complete, shows it. `None` means "go on with ordinary bytes".
    fn settle_large<S: Sink>(&mut self, socket: SocketId, sink: &mut S) -> Option<Fed> {
        let (buffer, remaining) = self.large.take()?;
        if remaining > 0 {
            self.large = Some((buffer, remaining));
            return Some(Fed::More);
        }
        self.consumed += buffer.len() as u64;
        match sink.large(socket, buffer) {
            Want::More(want) => self.want = want,
            Want::Large { buffer, remaining } => self.large = Some((buffer, remaining)),
            Want::Nothing => return Some(Fed::Paused),
        }
        None
    }

    /// After a large message that paused: bytes behind it must not stay in the shared scratch.
    fn keep_scratch(&mut self, fed: Fed, scratch: &mut Scratch) {
        let holds = scratch.buffer.as_ref().is_some_and(|buffer| !buffer.is_empty());
        if fed != Fed::More && holds {
            self.own = scratch.buffer.take();
            self.want = 0;
        }
    }

    fn show_scratch<S: Sink>(
        &mut self,
        socket: SocketId,
        brimful: bool,
        scratch: &mut Scratch,
        pools: &Pools,
        sink: &mut S,
    ) -> Fed {
        let Some(buffer) = scratch.buffer.as_mut() else { return Fed::More };
        if buffer.is_empty() {
            return Fed::More;
        }
        let fed = self.show(socket, buffer, sink);
        if buffer.is_empty() {
            return fed;
        }
        // An unfinished message stays. A brimful receive means bulk: it keeps the 64 KiB. A quiet
        // connection gets a buffer of the size that it needs.
        if !brimful && let Some(lease) = pools.lease(self.want.max(buffer.len())) {
            let mut own = lease.into_recv();
            buffer.move_to(&mut own, self.consumed);
            self.own = Some(own);
        } else {
            self.own = scratch.buffer.take();
        }
        fed
    }

    fn show_own<S: Sink>(
        &mut self,
        socket: SocketId,
        scratch: Option<&mut Scratch>,
        pools: &Pools,
        sink: &mut S,
    ) -> Fed {
        let Some(mut own) = self.own.take() else { return Fed::More };
        let fed = if own.len() < self.want { Fed::More } else { self.show(socket, &mut own, sink) };
        if !own.is_empty() {
            self.own = Some(own);
        } else if let Some(scratch) = scratch {
            scratch.give_back(own, pools);
        } else if let Ok(lease) = own.try_into_lease() {
            pools.give(lease);
        }
        fed
    }

    fn show_slot<S: Sink>(
        &mut self,
        socket: SocketId,
        slot: &mut RecvBuffer,
        pools: &Pools,
        sink: &mut S,
    ) -> Fed {
        while !slot.is_empty() {
            if let Some((buffer, remaining)) = &mut self.large {
                let room = &mut buffer.spare_mut()[..*remaining];
                let copied = copy_counted(room, slot.bytes());
                buffer.filled(copied);
                slot.consume(copied);
                *remaining -= copied;
                if let Some(fed) = self.settle_large(socket, sink)
                    && (fed != Fed::More || slot.is_empty())
                {
                    return fed;
                }
                continue;
            }
            if self.own.is_some() {
                if !self.widen(self.want, pools) {
                    return Fed::Starved;
                }
                if let Some(own) = &mut self.own {
                    let lacking = self.want.max(own.len() + 1) - own.len();
                    let take = lacking.min(slot.len()).min(own.spare());
                    let copied = copy_counted(own.spare_mut(), &slot.bytes()[..take]);
                    own.filled(copied);
                    slot.consume(copied);
                }
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
                let Some(lease) = pools.lease(self.want.max(slot.len())) else {
                    return Fed::Starved;
                };
                let mut own = lease.into_recv();
                slot.move_to(&mut own, self.consumed);
                self.own = Some(own);
            }
        }
        Fed::More
    }

    /// One call of the sink, and its answer taken to heart.
    fn show<S: Sink>(&mut self, socket: SocketId, buffer: &mut RecvBuffer, sink: &mut S) -> Fed {
        loop {
            let before = buffer.len();
            let want = sink.received(socket, buffer);
            self.consumed += (before - buffer.len()) as u64;
            self.want = 0;
            match want {
                Want::Nothing => return Fed::Paused,
                Want::Large { buffer: place, remaining } => {
                    debug_assert!(buffer.is_empty(), "the ordinary buffer was consumed whole");
                    self.large = Some((place, remaining));
                    return Fed::More;
                }
                Want::More(want) => {
                    self.want = want;
                    // A sink that asks for no more than there is would be asked for ever.
                    if want > buffer.len() || buffer.is_empty() {
                        return Fed::More;
                    }
                    debug_assert!(before > buffer.len(), "the sink makes progress");
                }
            }
        }
    }

    /// Makes sure the own buffer can hold what is wanted and has room to receive; moves it to a larger one
    /// (counted copy) if not. `aim` is the size to move to.
    fn widen(&mut self, aim: usize, pools: &Pools) -> bool {
        let Some(own) = &mut self.own else { return true };
        let lacking = self.want.saturating_sub(own.len()).max(1);
        if own.spare() >= lacking {
            return true;
        }
        let Some(lease) = pools.lease(aim.max(self.want).max(own.len() + 64) + 64) else {
            return false;
        };
        let mut wider = lease.into_recv();
        own.move_to(&mut wider, self.consumed);
        *own = wider;
        true
    }
}
