//! Datagrams, both ways.
//!
//! Always by direct calls: for batches the ring gives nothing over `recvmmsg` and GSO, and for single ones it
//! costs more. The ring only tells of readiness (a multishot poll); a hot socket is looked at without it. A poll
//! takes no bytes, so reading beside it needs no care.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use super::Uring;
use super::ops::Work;
use super::ring::Ring;
use super::socket::{Pending, Phase, Role};
use crate::socket::datagram::{BATCH_MAX, Left, Received, STREAK};
use crate::socket::udp;
use crate::{Burst, Sink, SocketId};

/// Receive calls for one socket in one turn.
const RECV_CALLS_MAX: usize = 4;
/// Send calls for one socket in one turn.
const SEND_CALLS_MAX: usize = 64;

impl<R: Ring> Uring<R> {
    pub(super) fn queue_burst(&mut self, id: SocketId, burst: Burst) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let accepts = matches!(socket.phase, Phase::Connecting | Phase::Open);
        if let Role::Datagram(datagram) = &mut socket.role
            && accepts
            && burst.count > 0
        {
            datagram.queue.push_back(burst);
            self.queue_for_sending(id);
        }
    }

    /// One look at a datagram socket. True when it had something.
    pub(super) fn read_datagrams<S: Sink>(&mut self, id: SocketId, sink: &mut S) -> bool {
        let mut hit = false;
        for _ in 0..RECV_CALLS_MAX {
            let Some(socket) = self.sockets.get_mut(id.0) else {
                break;
            };
            if !socket.wants_input() {
                break;
            }
            let Role::Datagram(datagram) = &mut socket.role else {
                break;
            };
            let connected = datagram.connected;
            // A batch call that finds one datagram costs 15 % more than a single one: only after hits.
            let count = if datagram.streak >= STREAK {
                BATCH_MAX
            } else {
                1
            };
            let received = self.batch.recv(
                socket.fd.as_fd(),
                count,
                connected.is_some(),
                &self.pools,
                &mut self.stats,
            );
            match received {
                Received::Slots(filled) => {
                    hit = true;
                    datagram.readable = true;
                    let full = filled == count;
                    datagram.streak = if full {
                        datagram.streak.saturating_add(1)
                    } else {
                        u8::from(filled > 1)
                    };
                    self.show_datagrams(id, filled, connected, sink);
                    if count == 1 || !full {
                        break;
                    }
                }
                Received::WouldBlock => {
                    datagram.readable = false;
                    datagram.streak = 0;
                    break;
                }
                // An error was announced, perhaps together with what lies behind it.
                Received::Refused(refusal) => {
                    datagram.readable = true;
                    refusal.tell(id, socket.fd.as_fd(), connected, sink);
                }
                Received::Starved => {
                    datagram.readable = true;
                    self.short = true;
                    self.stats.starved += 1;
                    break;
                }
                Received::Fault(error) => {
                    self.broken(id, error);
                    return true;
                }
            }
        }
        if hit {
            self.hot.seen(id);
        }
        let readable = self
            .sockets
            .get_mut(id.0)
            .and_then(|socket| socket.datagram());
        if readable.is_some_and(|datagram| datagram.readable) {
            // The poll tells of arrivals only: there may be more that it told of already.
            self.note(id);
        }
        hit
    }

    fn show_datagrams<S: Sink>(
        &mut self,
        id: SocketId,
        filled: usize,
        connected: Option<SocketAddr>,
        sink: &mut S,
    ) {
        for slot in 0..filled {
            if let Some((buffer, meta)) = self.batch.filled(slot, connected, &mut self.stats) {
                sink.datagrams(id, buffer, meta);
            }
        }
    }

    /// The readiness poll of a datagram socket completed.
    pub(super) fn on_readable<S: Sink>(&mut self, id: SocketId, result: i32, sink: &mut S) {
        if result > 0 {
            self.read_datagrams(id, sink);
        }
        self.arm(id, false);
    }

    /// Sends what is queued, as far as there is room.
    pub(super) fn send_datagrams<S: Sink>(&mut self, id: SocketId, sink: &mut S) {
        for _ in 0..SEND_CALLS_MAX {
            let Some(socket) = self.sockets.get_mut(id.0) else {
                return;
            };
            let Role::Datagram(datagram) = &mut socket.role else {
                return;
            };
            let Some(burst) = datagram.queue.front() else {
                return self.datagrams_left(id);
            };
            let from = datagram.sent;
            let left = match self
                .sender
                .send(socket.fd.as_fd(), burst, from, &mut self.stats)
            {
                Left::Datagrams(count) => count,
                Left::TooLong => {
                    let bytes = span(burst, from, 1);
                    let (fd, connected, to) = (socket.fd.as_fd(), datagram.connected, burst.peer);
                    let bytes_max = udp::payload_bytes_max_below(fd, connected, to, bytes);
                    sink.datagram_too_long(id, connected.or(to), bytes, bytes_max);
                    1
                }
                Left::WouldBlock => return self.await_room(id),
                Left::Fault(error) => return self.broken(id, error),
            };
            if let Some(refusal) = self.sender.take_refusal() {
                refusal.tell(id, socket.fd.as_fd(), datagram.connected, sink);
            }
            let bytes = span(burst, from, left);
            datagram.sent += left;
            if datagram.sent >= burst.count {
                datagram.sent = 0;
                if let Some(burst) = datagram.queue.pop_front() {
                    self.pools.give(burst.lease);
                }
            }
            sink.sent(id, bytes);
        }
        self.queue_for_sending(id);
    }

    fn datagrams_left(&mut self, id: SocketId) {
        if self
            .sockets
            .get(id.0)
            .is_some_and(|socket| !socket.is_open())
        {
            self.note(id);
        }
    }

    /// The socket's buffer is full: waits for room.
    fn await_room(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(id.0)
            && socket.output.is_none()
        {
            let op = self.flight.poll(socket.raw_fd(), id, Work::PollOut);
            socket.output = Some(Pending::new(op));
        }
    }
}

/// Bytes of `count` datagrams of `burst` from number `from` on.
fn span(burst: &Burst, from: u32, count: u32) -> usize {
    let (segment, len) = (burst.segment_bytes as usize, burst.lease.len());
    let start = (segment * from as usize).min(len);
    let end = (start + segment * count as usize).min(len);
    end - start
}
