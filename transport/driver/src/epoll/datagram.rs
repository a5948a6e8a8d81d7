//! Datagrams, both ways: from the kernel to the sink, and from a socket's queue into the kernel.
//!
//! Below: `socket/datagram.rs`, whose batches all sockets of a driver share. One slot is asked for first and
//! a batch only after two hits in a row: in a dialogue there is one datagram at a time.

use std::os::fd::AsFd;

use super::Common;
use super::recv::Served;
use super::socket::{Role, Socket};
use crate::socket::datagram::{BATCH_MAX, Left, Received, STREAK};
use crate::socket::udp;
use crate::{Burst, CloseCause, Sink, SocketId};

/// Receive calls of one socket in one turn.
const CALLS_MAX: usize = 8;
/// Send calls of one socket in one flush; each takes up to 64 datagrams.
const SENDS_MAX: usize = 64;

/// Receives what a listed socket holds, up to its share.
#[inline]
pub(super) fn recv_datagrams<S: Sink>(
    id: SocketId,
    socket: &mut Socket,
    common: &mut Common,
    hit: &mut bool,
    sink: &mut S,
) -> Served {
    let Role::Datagram(datagram) = &mut socket.role else {
        return Served::Idle;
    };
    let Common {
        pools,
        stats,
        recv_batch,
        ..
    } = common;
    for _ in 0..CALLS_MAX {
        let asked = if datagram.streak >= STREAK {
            BATCH_MAX
        } else {
            1
        };
        let connected = datagram.peer.is_some();
        match recv_batch.recv(socket.fd.as_fd(), asked, connected, pools, stats) {
            Received::Slots(filled) => {
                *hit = true;
                for slot in 0..filled {
                    if let Some((buffer, meta)) = recv_batch.filled(slot, datagram.peer, stats) {
                        sink.datagrams(id, buffer, meta);
                    }
                }
                // Answer this one before looking for the next. A batch that was not filled is no proof of
                // an empty socket: it also ends where an ICMP error lies between two datagrams.
                if filled < asked || asked == 1 {
                    datagram.streak = if asked == 1 {
                        datagram.streak + 1
                    } else {
                        u8::from(filled > 1)
                    };
                    return Served::More;
                }
            }
            Received::WouldBlock => {
                datagram.streak = 0;
                socket.readable = false;
                return Served::Idle;
            }
            Received::Refused(refusal) => {
                refusal.tell(id, socket.fd.as_fd(), datagram.peer, sink);
            }
            Received::Starved => {
                stats.starved += 1;
                return Served::Starved;
            }
            Received::Fault(error) => {
                socket.doom = Some(CloseCause::Broken(error));
                return Served::Idle;
            }
        }
    }
    Served::More
}

/// Sends what the kernel takes, up to this socket's share. Returns whether there is more to send at once.
#[inline]
pub(super) fn send_datagrams<S: Sink>(
    id: SocketId,
    socket: &mut Socket,
    common: &mut Common,
    sink: &mut S,
) -> bool {
    let Role::Datagram(datagram) = &mut socket.role else {
        return false;
    };
    if socket.blocked {
        return false;
    }
    let Common {
        pools,
        stats,
        send_batch,
        ..
    } = common;
    let mut sent = 0;
    for _ in 0..SENDS_MAX {
        let Some(burst) = datagram.queue.front() else {
            break;
        };
        match send_batch.send(socket.fd.as_fd(), burst, datagram.left, stats) {
            Left::Datagrams(count) => {
                sent += bytes_of(burst, datagram.left, count);
                datagram.left += count;
            }
            Left::TooLong => {
                let bytes = bytes_of(burst, datagram.left, 1);
                let (fd, to) = (socket.fd.as_fd(), burst.peer);
                let bytes_max = udp::payload_bytes_max_below(fd, datagram.peer, to, bytes);
                sink.datagram_too_long(id, datagram.peer.or(to), bytes, bytes_max);
                sent += bytes;
                datagram.left += 1;
            }
            Left::WouldBlock => {
                socket.blocked = true;
                break;
            }
            Left::Fault(error) => {
                socket.doom = Some(CloseCause::Broken(error));
                break;
            }
        }
        if datagram.left >= burst.count {
            datagram.left = 0;
            if let Some(burst) = datagram.queue.pop_front() {
                pools.give(burst.lease);
            }
        }
    }
    if let Some(refusal) = send_batch.take_refusal() {
        refusal.tell(id, socket.fd.as_fd(), datagram.peer, sink);
    }
    if sent > 0 {
        sink.sent(id, sent);
    }
    if datagram.queue.is_empty() && datagram.draining && socket.doom.is_none() {
        socket.doom = Some(CloseCause::Requested);
    }
    !datagram.queue.is_empty() && !socket.blocked && socket.doom.is_none()
}

/// Payload bytes of `count` datagrams from number `from` on.
fn bytes_of(burst: &Burst, from: u32, count: u32) -> usize {
    let segment = burst.segment_bytes as usize;
    let start = (segment * from as usize).min(burst.lease.len());
    let end = (segment * (from as usize + count as usize)).min(burst.lease.len());
    end - start
}
