//! Stream bytes on their way up: from the kernel into the inlet of a socket.
//!
//! Below is the kernel, above [`Inlet`](crate::Inlet), which shows them to the sink. Three ways in:
//!
//! * *pooled*: a completion names a provided slot (`on_recv`); the way of quiet sockets;
//! * *direct*: `recv` into the inlet's target (`read_directly`); the way of hot ones;
//! * *directed*: one operation receives the rest of a large message into its final place (`on_directed`).
//!
//! Which one a socket uses is decided in one place, [`Uring::arm`]. Bytes stay in order because a socket has
//! one receiving operation at most, and because a direct read of an armed socket happens only when no
//! completion waits: deferred work of the ring takes bytes inside `enter` and nowhere else.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;

use ringway_buf::RecvBuffer;

use super::Uring;
use super::bufring::Slots;
use super::ops::Work;
use super::ring::{Completion, Ring};
use super::socket::{Pending, Phase, Role};
use crate::socket::direct::{self, Moved};
use crate::{CloseCause, Fed, Sink, SocketId, Target};

/// A large message that lacks at least this much is received into place; for less, stopping the pooled
/// receive would cost more than the copy.
const DIRECTED_BYTES_MIN: usize = 32 * 1024;
/// Receives that were no part of a large message, after which a bulk connection is an ordinary one again.
const BULK_RECEIVES: u8 = 32;
/// Room for the next header on a bulk connection: what arrives with it must be copied to its place.
const BULK_HEAD_BYTES: usize = 4096;
/// Bytes that one socket may bring up by direct reads in one turn.
const DIRECT_BYTES_MAX: usize = 256 * 1024;

/// What a direct receive asked for.
#[derive(Clone, Copy)]
struct Asked {
    bytes: usize,
    /// Less than there was room for, so that the peer has something to do meanwhile.
    portion: bool,
}

impl<R: Ring> Uring<R> {
    /// Brings the receiving side of a socket into the state that its phase and its reader call for.
    ///
    /// `parking` says that hot sockets are not read directly for a while.
    pub(super) fn arm(&mut self, id: SocketId, parking: bool) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let wanted = socket.wants_input();
        let large = socket
            .stream()
            .map_or(0, |stream| stream.inlet.large_remaining());
        if let Some(input) = &mut socket.input {
            // A large message was announced, or nobody wants to read: the receive in flight must end.
            let ends = !wanted || (large >= DIRECTED_BYTES_MIN && !input.exclusive);
            if ends && !input.cancelled {
                input.cancelled = true;
                self.flight.cancel(input.id);
            }
            return;
        }
        if !wanted {
            return self.give_up_if_mute(id);
        }
        if !parking && self.hot.contains(id) {
            return;
        }
        let fd = socket.raw_fd();
        match &mut socket.role {
            Role::Listener => socket.input = Some(Pending::new(self.flight.accept(fd, id))),
            Role::Datagram(_) => {
                let op = self.flight.poll(fd, id, Work::PollIn);
                socket.input = Some(Pending::new(op));
            }
            Role::Stream(stream) if stream.inlet.large_remaining() > 0 => {
                stream.bulk = BULK_RECEIVES;
                let Some((place, remaining)) = stream.inlet.take_large() else {
                    return;
                };
                let op = self.flight.directed(fd, id, place, remaining);
                socket.input = Some(Pending {
                    exclusive: true,
                    ..Pending::new(op)
                });
                self.stats.armed += 1;
            }
            Role::Stream(stream) => {
                let bulk = stream.bulk > 0;
                let provided = self.slots.as_ref().map_or(0, Slots::provided);
                if !self.starved.is_empty() || provided == 0 {
                    // Those who wait for a slot come first.
                    return self.starve(id, false);
                }
                let op = if bulk {
                    self.flight.recv_once(fd, id, BULK_HEAD_BYTES)
                } else {
                    self.flight.recv_multi(fd, id)
                };
                socket.input = Some(Pending::new(op));
                self.stats.armed += 1;
            }
        }
    }

    /// Sending failed and nobody hears what the peer still has to say: the end.
    fn give_up_if_mute(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(id.0)
            && socket.is_open()
            && let Some(error) = socket.stream().and_then(|stream| stream.mute.take())
        {
            self.broken(id, error);
        }
    }

    /// A pooled receive completed, for the last time unless `more`.
    pub(super) fn on_recv<S: Sink>(
        &mut self,
        id: SocketId,
        completion: Completion,
        multi: bool,
        sink: &mut S,
    ) {
        // By the flag, not by success: a failed or cancelled receive may have used a slot too.
        let bid = completion.buffer();
        let slot = bid
            .zip(self.slots.as_mut())
            .and_then(|(bid, slots)| slots.take(bid));
        match usize::try_from(completion.result) {
            Ok(len) if len > 0 => {
                let Some((bid, mut slot)) = bid.zip(slot) else {
                    // Bytes in no slot of ours: the stream has a hole.
                    return self.broken(id, io::ErrorKind::InvalidData.into());
                };
                slot.filled(len);
                self.stats.recv_ring += 1;
                self.hot.seen(id);
                self.deliver(id, bid, slot, sink);
            }
            outcome => {
                if let (Some(bid), Some(slots), true) = (bid, &mut self.slots, slot.is_some()) {
                    slots.recycle(bid, slot, &self.pools);
                }
                match outcome {
                    Ok(_end) => self.on_end(id, sink),
                    Err(_) => self.on_recv_error(id, -completion.result, multi),
                }
            }
        }
        self.arm(id, false);
    }

    /// Bytes arrived in a slot.
    fn deliver<S: Sink>(&mut self, id: SocketId, bid: u16, slot: RecvBuffer, sink: &mut S) {
        let Some(slots) = &mut self.slots else { return };
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let shows = socket.shows();
        let open = socket.is_open();
        let Role::Stream(stream) = &mut socket.role else {
            return;
        };
        let mut fed = Fed::More;
        let mut back = None;
        if shows && stream.held.is_empty() {
            (fed, back) = stream.inlet.feed(id, slot, &self.pools, sink);
        } else if open {
            stream.held.push_back(slot);
        } else {
            // Discarded: the socket is draining or dying.
            back = Some(slot);
        }
        stream.bulk = stream.bulk.saturating_sub(1);
        slots.recycle(bid, back, &self.pools);
        self.heed(id, fed);
    }

    /// The rest of a large message, or a part of it, was received into place.
    pub(super) fn on_directed<S: Sink>(
        &mut self,
        id: SocketId,
        mut place: RecvBuffer,
        remaining: usize,
        result: i32,
        sink: &mut S,
    ) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let shows = socket.shows();
        let open = socket.is_open();
        let Role::Stream(stream) = &mut socket.role else {
            return;
        };
        let mut fed = Fed::More;
        let len = usize::try_from(result).unwrap_or(0);
        if open {
            place.filled(len);
            if shows {
                fed = stream
                    .inlet
                    .large_back(id, place, remaining - len, &self.pools, sink);
            } else {
                stream.held_large = Some((place, remaining - len));
            }
        }
        match result {
            0 => self.on_end(id, sink),
            1.. => {
                self.stats.recv_ring += 1;
                self.heed(id, fed);
            }
            error => self.on_recv_error(id, -error, false),
        }
        self.arm(id, false);
    }

    /// Shows what was kept, after `read(true)` or when there is memory again.
    pub(super) fn resume<S: Sink>(&mut self, id: SocketId, sink: &mut S) {
        loop {
            let Some(socket) = self.sockets.get_mut(id.0) else {
                return;
            };
            if !socket.shows() {
                return;
            }
            let Role::Stream(stream) = &mut socket.role else {
                return;
            };
            let fed = if let Some((place, remaining)) = stream.held_large.take() {
                stream
                    .inlet
                    .large_back(id, place, remaining, &self.pools, sink)
            } else {
                stream.inlet.resume(id, &self.pools, sink)
            };
            if fed != Fed::More {
                return self.heed(id, fed);
            }
            let Some(slot) = stream.held.pop_front() else {
                break;
            };
            let (fed, back) = stream.inlet.feed(id, slot, &self.pools, sink);
            if let Some(Ok(lease)) = back.map(RecvBuffer::try_into_lease) {
                self.pools.give(lease);
            }
            self.heed(id, fed);
        }
        self.tell_end(id, sink);
    }

    /// One direct look at a hot socket. `clean` says that no completion waits. True when it had something.
    pub(super) fn read_directly<S: Sink>(
        &mut self,
        id: SocketId,
        clean: bool,
        sink: &mut S,
    ) -> bool {
        let mut bytes = 0;
        while bytes < DIRECT_BYTES_MAX {
            let Some((moved, asked)) = self.receive(id, clean) else {
                break;
            };
            match moved {
                Moved::Done(len) => {
                    bytes += len;
                    // A receive that left room has taken all there was. A portion's answers leave before more is
                    // taken.
                    let full = len == asked.bytes && !asked.portion;
                    if !self.took(id, len, full, sink) || !full {
                        break;
                    }
                }
                Moved::WouldBlock => break,
                Moved::End => {
                    self.on_end(id, sink);
                    self.arm(id, false);
                    return true;
                }
                Moved::Fault(error) => {
                    self.broken(id, error);
                    return true;
                }
            }
        }
        bytes > 0
    }

    /// One direct receive, if the socket allows it now, and for how much.
    #[inline]
    fn receive(&mut self, id: SocketId, clean: bool) -> Option<(Moved, Asked)> {
        let socket = self.sockets.get_mut(id.0)?;
        if !socket.is_open() || !socket.wants_input() || !socket.may_read_directly(clean) {
            return None;
        }
        let fd = socket.fd.as_fd();
        let Role::Stream(stream) = &mut socket.role else {
            return None;
        };
        match stream.inlet.target(&mut self.scratch, &self.pools) {
            Some(Target::One(room)) => {
                let most = if stream.bulk > 0 {
                    BULK_HEAD_BYTES
                } else {
                    room.len()
                };
                let bytes = room.len().min(most);
                let portion = stream
                    .pace
                    .portion(self.quiet)
                    .filter(|it| it.get() < bytes);
                let asked = Asked {
                    bytes: portion.map_or(bytes, NonZeroUsize::get),
                    portion: portion.is_some(),
                };
                let room = &mut room[..asked.bytes];
                Some((direct::recv(fd, room, &mut self.stats), asked))
            }
            Some(Target::Two(rooms)) => {
                let asked = Asked {
                    bytes: rooms.iter().map(|room| room.len()).sum(),
                    portion: false,
                };
                Some((direct::recv_two(fd, rooms, &mut self.stats), asked))
            }
            None => {
                self.heed(id, Fed::Starved);
                None
            }
        }
    }

    /// Shows what a direct receive brought. False when the socket shall not be read on.
    #[inline]
    fn took<S: Sink>(&mut self, id: SocketId, len: usize, brimful: bool, sink: &mut S) -> bool {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return false;
        };
        let input = socket.input;
        let Role::Stream(stream) = &mut socket.role else {
            return false;
        };
        stream.bulk = stream.bulk.saturating_sub(1);
        stream.pace.took(len, self.quiet);
        let (scratch, pools) = (&mut self.scratch, &self.pools);
        let fed = stream.inlet.took(id, len, brimful, scratch, pools, sink);
        self.heed(id, fed);
        if fed != Fed::More {
            self.arm(id, false);
            return false;
        }
        if self.hot.hit(id, input) {
            self.disarm(id);
        }
        true
    }

    /// Ends the receive in flight of a socket that stays hot.
    pub(super) fn disarm(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(id.0)
            && let Some(input) = &mut socket.input
            && !input.cancelled
        {
            input.cancelled = true;
            self.flight.cancel(input.id);
        }
    }

    /// What the sink wants next, as far as it concerns this socket's receiving.
    pub(super) fn heed(&mut self, id: SocketId, fed: Fed) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let Role::Stream(stream) = &mut socket.role else {
            return;
        };
        match fed {
            Fed::Paused => stream.paused = true,
            Fed::Starved => {
                self.short = true;
                self.stats.starved += 1;
                if !stream.lean {
                    stream.lean = true;
                    self.lean.push_back(id);
                }
            }
            Fed::More if stream.inlet.large_remaining() >= DIRECTED_BYTES_MIN => {
                stream.bulk = BULK_RECEIVES;
                self.hot.promote(id);
            }
            Fed::More => {}
        }
    }

    /// The peer's FIN was read.
    fn on_end<S: Sink>(&mut self, id: SocketId, sink: &mut S) {
        if let Some(socket) = self.sockets.get_mut(id.0)
            && let Role::Stream(stream) = &mut socket.role
        {
            stream.ended = true;
            if !matches!(socket.phase, Phase::Open) {
                self.note(id);
            }
        }
        self.hot.remove(id);
        self.tell_end(id, sink);
    }

    /// Reports the end, once all bytes before it were shown.
    fn tell_end<S: Sink>(&mut self, id: SocketId, sink: &mut S) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let shows = socket.shows();
        let Role::Stream(stream) = &mut socket.role else {
            return;
        };
        if !stream.ended || stream.end_told || !shows || !stream.held.is_empty() {
            return;
        }
        stream.end_told = true;
        match stream.mute.take() {
            Some(error) => self.doom(id, CloseCause::Broken(error)),
            None => sink.ended(id),
        }
    }

    fn on_recv_error(&mut self, id: SocketId, errno: i32, multi: bool) {
        match errno {
            // Cancelled by us, or interrupted: `arm` decides what comes next.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            libc::ENOBUFS => {
                self.stats.starved += 1;
                if let Some(slots) = &mut self.slots {
                    slots.grow(&self.pools);
                }
                // Who got nothing at all keeps its place in front.
                self.starve(id, !multi);
            }
            errno => self.broken(id, io::Error::from_raw_os_error(errno)),
        }
    }
}
