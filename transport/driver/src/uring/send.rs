//! Stream bytes on their way down: from a connection's chain into the kernel.
//!
//! Above is the engine ([`Driver::send`](crate::Driver::send)), below the kernel. A flush with one or two
//! sockets to send on, and nothing else to submit, calls `send`/`sendmsg` directly (0.5 us less than the ring);
//! more go out as one batch of entries and one `enter`. What finds no room becomes an operation that waits for
//! it. A stream has one send in flight at most; what is queued meanwhile coalesces into the next one.

use std::io;
use std::os::fd::AsFd;

use ringway_buf::Chain;

use super::Uring;
use super::ops::Outgoing;
use super::ring::Ring;
use super::socket::{Pending, Phase, Role};
use crate::socket::direct::{self, Moved};
use crate::{Park, Sink, SocketId};

/// Sockets to send on up to which direct calls are cheaper than a batch of entries.
const DIRECT_SOCKETS_MAX: usize = 2;
/// Direct calls for one chain, of 64 pieces each, before the others have their turn.
const DIRECT_CALLS_MAX: usize = 16;

impl<R: Ring> Uring<R> {
    pub(super) fn queue_chain(&mut self, id: SocketId, chain: &mut Chain) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return chain.clear();
        };
        let accepts = matches!(socket.phase, Phase::Connecting | Phase::Open);
        match &mut socket.role {
            Role::Stream(stream) if accepts && stream.mute.is_none() => {
                stream.queue.append(chain);
                self.queue_for_sending(id);
            }
            _ => chain.clear(),
        }
    }

    /// Puts a socket into the queue of those with something to send, unless a send is in flight already.
    pub(super) fn queue_for_sending(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let waits = match &socket.role {
            Role::Stream(stream) => !stream.queue.is_empty(),
            Role::Datagram(datagram) => !datagram.queue.is_empty(),
            Role::Listener => false,
        };
        let ready = matches!(socket.phase, Phase::Open | Phase::Draining { .. });
        if waits && ready && socket.output.is_none() && !socket.queued {
            socket.queued = true;
            self.outbox.push_back(id);
        }
    }

    /// Starts sending what is queued.
    pub(super) fn flush_outbox<S: Sink>(&mut self, sink: &mut S) {
        let sockets = self.outbox.len();
        if sockets == 0 {
            return;
        }
        let direct = sockets <= DIRECT_SOCKETS_MAX && !self.flight.pending();
        for _ in 0..sockets {
            let Some(id) = self.outbox.pop_front() else {
                break;
            };
            let Some(socket) = self.sockets.get_mut(id.0) else {
                continue;
            };
            socket.queued = false;
            if socket.output.is_some() {
                continue;
            }
            match (&socket.role, direct) {
                (Role::Datagram(_), _) => self.send_datagrams(id, sink),
                (Role::Stream(_), true) => self.send_directly(id, sink),
                (Role::Stream(_), false) => self.send_by_ring(id, false),
                (Role::Listener, _) => {}
            }
        }
        if !direct && self.flight.pending() {
            self.enter(Park::No);
        }
    }

    fn send_directly<S: Sink>(&mut self, id: SocketId, sink: &mut S) {
        for _ in 0..DIRECT_CALLS_MAX {
            let Some(socket) = self.sockets.get_mut(id.0) else {
                return;
            };
            let Role::Stream(stream) = &mut socket.role else {
                return;
            };
            stream.pace.answered();
            let (before, pieces) = (stream.queue.bytes(), stream.queue.len());
            match direct::send_chain(socket.fd.as_fd(), &stream.queue, &mut self.stats) {
                Moved::Done(len) => {
                    stream.queue.advance(len, |lease| self.pools.give(lease));
                    sink.sent(id, len);
                    if len == before {
                        return self.sent_all(id);
                    }
                    // A call takes 64 pieces; if it took fewer bytes than those, there is no room.
                    if pieces <= direct::PIECES_MAX {
                        return self.send_by_ring(id, true);
                    }
                }
                Moved::WouldBlock => return self.send_by_ring(id, true),
                Moved::Fault(error) => return self.mute(id, error),
                Moved::End => return,
            }
        }
        self.queue_for_sending(id);
    }

    /// Starts a send operation with the front of the queue. `blocked`: wait for room first.
    fn send_by_ring(&mut self, id: SocketId, blocked: bool) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let fd = socket.raw_fd();
        let Role::Stream(stream) = &mut socket.role else {
            return;
        };
        if !stream.queue.is_empty() && socket.output.is_none() {
            let op = self.flight.send(fd, id, &mut stream.queue, blocked);
            socket.output = Some(Pending::new(op));
            self.stats.send_ring += 1;
        }
    }

    /// A send operation ended with `result`.
    pub(super) fn on_sent<S: Sink>(
        &mut self,
        id: SocketId,
        mut outgoing: Box<Outgoing>,
        result: i32,
        sink: &mut S,
    ) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let dying = matches!(socket.phase, Phase::Dying(_));
        match usize::try_from(result) {
            Ok(len) => {
                outgoing.chain.advance(len, |lease| self.pools.give(lease));
                if len > 0 && !dying {
                    sink.sent(id, len);
                }
            }
            Err(_) if matches!(-result, libc::EAGAIN | libc::EINTR | libc::ECANCELED) => {}
            Err(_) if dying => {}
            Err(_) => {
                self.flight.spare(outgoing);
                return self.mute(id, io::Error::from_raw_os_error(-result));
            }
        }
        if dying || outgoing.chain.is_empty() {
            self.flight.spare(outgoing);
            return self.sent_all(id);
        }
        // Cut short: the rest goes first, as soon as there is room.
        let fd = socket.raw_fd();
        let op = self.flight.resend(fd, id, outgoing, true);
        if let Some(socket) = self.sockets.get_mut(id.0) {
            socket.output = Some(Pending::new(op));
            self.stats.send_ring += 1;
        }
    }

    /// Nothing of this socket is in flight on its way down.
    fn sent_all(&mut self, id: SocketId) {
        self.queue_for_sending(id);
        if let Some(socket) = self.sockets.get(id.0)
            && !matches!(socket.phase, Phase::Open)
        {
            self.note(id);
        }
    }

    /// Sending failed. What the peer sent before it went away is still received, then the socket closes.
    fn mute(&mut self, id: SocketId, error: io::Error) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        // These ends show on the receiving side too, behind the last bytes; others may never.
        let gone = matches!(
            error.raw_os_error(),
            Some(libc::EPIPE | libc::ECONNRESET | libc::ETIMEDOUT)
        );
        let listens = gone && socket.is_open() && socket.wants_input();
        match &mut socket.role {
            Role::Stream(stream) if listens => {
                stream.queue.clear();
                stream.mute = Some(error);
            }
            _ => self.broken(id, error),
        }
    }
}
