//! Sockets that wait: for a receive slot, or for memory to keep an unfinished message in.
//!
//! Beside `recv.rs`. Both queues are served first come first served, when slots or memory come back and never by
//! a timer. Who waits for a slot receives once at its turn, not again and again: nobody takes a second slot
//! before everybody had one. Who got nothing at all keeps its place in front.

use super::Uring;
use super::bufring::SLOT_BYTES;
use super::ring::Ring;
use super::socket::{Pending, Role};
use crate::{Sink, SocketId};

impl<R: Ring> Uring<R> {
    /// Queues a socket for a slot.
    pub(super) fn starve(&mut self, id: SocketId, front: bool) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let wants = socket.wants_input();
        let Role::Stream(stream) = &mut socket.role else {
            return;
        };
        if stream.starved || !wants || socket.input.is_some() {
            return;
        }
        stream.starved = true;
        if front {
            self.starved.push_front(id)
        } else {
            self.starved.push_back(id)
        }
    }

    /// Slots came back: lets as many of those that wait receive, once each, first come first served.
    pub(super) fn serve_starved(&mut self) {
        let Some(slots) = &mut self.slots else { return };
        if slots.lacking() {
            slots.refill(&self.pools);
            self.short |= slots.lacking() && !self.starved.is_empty();
        }
        for _ in 0..slots.provided().min(self.starved.len()) {
            let Some(id) = self.starved.pop_front() else {
                return;
            };
            let Some(socket) = self.sockets.get_mut(id.0) else {
                continue;
            };
            let wanted = socket.wants_input() && socket.input.is_none();
            let fd = socket.raw_fd();
            let Role::Stream(stream) = &mut socket.role else {
                continue;
            };
            stream.starved = false;
            if wanted && stream.inlet.large_remaining() == 0 && !self.hot.contains(id) {
                // Once, not again and again: nobody takes a second slot before everybody had one.
                let op = self.flight.recv_once(fd, id, SLOT_BYTES);
                socket.input = Some(Pending::new(op));
                self.stats.armed += 1;
            } else if wanted {
                self.arm(id, false);
            }
        }
    }

    /// Tries again for those that found no memory.
    pub(super) fn serve_lean<S: Sink>(&mut self, sink: &mut S) {
        for _ in 0..self.lean.len() {
            let Some(id) = self.lean.pop_front() else {
                return;
            };
            let Some(socket) = self.sockets.get_mut(id.0) else {
                continue;
            };
            let Role::Stream(stream) = &mut socket.role else {
                continue;
            };
            stream.lean = false;
            self.resume(id, sink);
            self.arm(id, false);
        }
    }
}
