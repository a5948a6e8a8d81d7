//! A stream's way down: from its queue into the kernel.
//!
//! Above: `send` fills the queue, `flush` comes here. Below: `socket/direct.rs`. A partial write leaves the
//! rest at the queue's front; memory that has left goes back to the pools.

use std::net::Shutdown;
use std::os::fd::AsFd;

use super::Common;
use super::socket::{Phase, Role, Socket};
use crate::socket::direct::{self, Moved};
use crate::socket::open;
use crate::{CloseCause, Sink, SocketId};

/// Bytes that one socket may send in one flush before the next has its share: 1 MiB.
const FLUSH_BYTES_MAX: usize = 1024 * 1024;

/// Sends what the kernel takes, up to this socket's share. Returns whether there is more to send at once.
#[inline]
pub(super) fn send_stream<S: Sink>(
    id: SocketId,
    socket: &mut Socket,
    common: &mut Common,
    sink: &mut S,
) -> bool {
    let Role::Stream(stream) = &mut socket.role else {
        return false;
    };
    if socket.blocked || stream.phase == Phase::Connecting {
        return false;
    }
    let Common { pools, stats, .. } = common;
    let mut sent = 0;
    stream.pace.answered();
    while !stream.queue.is_empty() && sent < FLUSH_BYTES_MAX {
        match direct::send_chain(socket.fd.as_fd(), &stream.queue, stats) {
            Moved::Done(len) => {
                sent += len;
                stream.queue.advance(len, |lease| pools.give(lease));
            }
            Moved::WouldBlock => {
                socket.blocked = true;
                break;
            }
            Moved::Fault(error) => {
                stream.queue.clear();
                stream.fault = Some(error);
                break;
            }
            // Sending has no end; an empty queue does not come here.
            Moved::End => break,
        }
    }
    if sent > 0 {
        sink.sent(id, sent);
    }
    if stream.fault.is_some() {
        on_fault(socket);
        return false;
    }
    if !stream.queue.is_empty() {
        return !socket.blocked;
    }
    if stream.phase == Phase::Draining {
        // Fails only when the connection is gone, which receiving will find out.
        let _gone = open::shutdown(socket.fd.as_fd(), Shutdown::Write);
        stream.phase = Phase::Lingering;
        if stream.ended {
            socket.doom = Some(CloseCause::Requested);
        }
        // Epoll says nothing about an end that was there before we looked for it.
        socket.readable = true;
    }
    false
}

/// Sending failed. What the peer said before it went (a last answer, the reason why) may still wait to be
/// received, so an open socket that is read goes on until that is done; any other is over now.
fn on_fault(socket: &mut Socket) {
    let reads = socket.takes();
    let Role::Stream(stream) = &mut socket.role else {
        return;
    };
    if reads && stream.phase == Phase::Open {
        socket.readable = true;
    } else {
        socket.doom = stream.fault.take().map(CloseCause::Broken);
    }
}
