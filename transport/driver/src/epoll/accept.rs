//! Listeners: accepted sockets go up as descriptors and belong to whoever adopts them.

use std::os::fd::AsFd;

use super::Common;
use super::recv::Served;
use super::socket::Socket;
use crate::socket::open;
use crate::{AcceptFault, Incoming, Sink, SocketId};

/// Accepts of one listener in one turn.
const ACCEPTS_MAX: usize = 64;

/// Accepts who waits, up to this listener's share.
pub(super) fn accept<S: Sink>(
    id: SocketId,
    socket: &mut Socket,
    common: &mut Common,
    sink: &mut S,
) -> Served {
    for _ in 0..ACCEPTS_MAX {
        common.stats.syscalls += 1;
        let error = match open::accept(socket.fd.as_fd()) {
            Ok((fd, peer)) => {
                sink.accepted(id, Incoming::Fd(fd), peer);
                continue;
            }
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EAGAIN) => {
                common.stats.empty_polls += 1;
                socket.readable = false;
                return Served::Idle;
            }
            Some(libc::EINTR) => {}
            // accept(2): errors of the one connection that was to be accepted; the next may be well.
            Some(
                libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
                | libc::EPERM,
            ) => common.stats.accept_errors += 1,
            // Out of descriptors or memory. Whoever waits goes on waiting in the kernel's queue, and the
            // listener stays readable, so that switching it on tries again.
            _ => {
                common.stats.accept_errors += 1;
                socket.on = false;
                sink.accept_failed(id, AcceptFault { error });
                return Served::Idle;
            }
        }
    }
    Served::More
}
