//! Listeners: one multishot accept each.
//!
//! Accepted descriptors go up as [`Incoming::Fd`] and belong to whoever adopts them. One that arrives for a
//! listener that is being closed is closed too.

use std::io;
use std::os::fd::AsFd;

use super::ring::Ring;
use super::socket::{Phase, Role, Socket};
use super::{Uring, ops};
use crate::socket::open;
use crate::{AcceptFault, Address, Incoming, ListenOptions, OpenError, Sink, SocketId};

impl<R: Ring> Uring<R> {
    pub(super) fn open_listener(
        &mut self,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<SocketId, OpenError> {
        if self.sockets.is_full() {
            return Err(OpenError::TooMany {
                max: self.sockets.max(),
            });
        }
        let (fd, local) = open::listen(address, options)?;
        let mut socket = Socket::new(fd, Role::Listener, Phase::Open);
        socket.local = Some(local);
        let id = self.admit(socket)?;
        self.arm(id, false);
        Ok(id)
    }

    /// An accept completed.
    pub(super) fn on_accept<S: Sink>(&mut self, id: SocketId, result: i32, sink: &mut S) {
        if let Some(fd) = ops::descriptor(result) {
            if self.sockets.get(id.0).is_some_and(Socket::is_open) {
                let peer = open::peer_address(fd.as_fd(), false);
                sink.accepted(id, Incoming::Fd(fd), peer);
            }
        } else if !matches!(-result, libc::ECANCELED | libc::EAGAIN | libc::EINTR)
            && let Some(socket) = self.sockets.get_mut(id.0)
            && socket.is_open()
        {
            socket.reading = false;
            self.stats.accept_errors += 1;
            let error = io::Error::from_raw_os_error(-result);
            sink.accept_failed(id, AcceptFault { error });
        }
        self.arm(id, false);
    }
}
