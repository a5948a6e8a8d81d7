//! Connections and datagram sockets: how they come to be.
//!
//! Commands of the engine, on top of `crate::socket::open`. A connect that is under way is a one-shot poll for
//! writability; closing it meanwhile cancels the poll.

use std::io;

use super::Uring;
use super::ops::Work;
use super::ring::Ring;
use super::socket::{Datagram, Pending, Phase, Role, Socket, Stream};
use crate::socket::open;
use crate::socket::open::Kind;
use crate::{
    Address, CloseCause, Incoming, ListenOptions, OpenError, Sink, SocketId, SocketOptions,
};

impl<R: Ring> Uring<R> {
    pub(super) fn open_connection(
        &mut self,
        address: &Address,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        if self.sockets.is_full() {
            return Err(OpenError::TooMany {
                max: self.sockets.max(),
            });
        }
        let (fd, under_way, role) = if address.is_datagram() {
            let fd = open::connect_udp(address, options)?;
            (
                fd,
                false,
                Role::Datagram(Datagram::new(address.socket_addr())),
            )
        } else {
            let (fd, under_way) = open::connect_start(address, options)?;
            (fd, under_way, Role::Stream(Stream::default()))
        };
        let mut socket = Socket::new(fd, role, Phase::Connecting);
        socket.peer = Some(address.clone());
        socket.local = open::local_address(socket.fd(), address.is_datagram());
        let id = self.admit(socket)?;
        if under_way {
            self.await_connection(id);
        } else {
            self.note(id);
        }
        Ok(id)
    }

    pub(super) fn open_datagram(
        &mut self,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<SocketId, OpenError> {
        if self.sockets.is_full() {
            return Err(OpenError::TooMany {
                max: self.sockets.max(),
            });
        }
        let (fd, local) = open::bind_udp(address, options)?;
        let mut socket = Socket::new(fd, Role::Datagram(Datagram::new(None)), Phase::Open);
        socket.local = Some(local);
        self.admit(socket)
    }

    pub(super) fn take_over(
        &mut self,
        incoming: Incoming,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        let Incoming::Fd(fd) = incoming else {
            return Err(OpenError::Unsupported {
                what: "a connection of the simulator",
            });
        };
        let adopted = open::adopt(fd, options)?;
        let role = match adopted.kind {
            Kind::Stream => Role::Stream(Stream::default()),
            Kind::Datagram => {
                let peer = adopted.peer.as_ref().and_then(Address::socket_addr);
                Role::Datagram(Datagram::new(peer))
            }
        };
        let mut socket = Socket::new(adopted.fd, role, Phase::Open);
        socket.local = adopted.local;
        socket.peer = adopted.peer;
        self.admit(socket)
    }

    /// Waits for a connect that is under way.
    fn await_connection(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(id.0) {
            let op = self.flight.poll(socket.raw_fd(), id, Work::PollOut);
            socket.output = Some(Pending::new(op));
        }
    }

    /// The poll of a connect ended.
    pub(super) fn on_connect_ready<S: Sink>(&mut self, id: SocketId, result: i32, sink: &mut S) {
        let Some(socket) = self.sockets.get(id.0) else {
            return;
        };
        if !matches!(socket.phase, Phase::Connecting) {
            return self.note(id);
        }
        if result < 0 {
            // The poll itself was ended, not by us: wait again.
            return self.await_connection(id);
        }
        match open::connect_result(socket.fd()) {
            Ok(()) => self.finish_connect(id, sink),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.await_connection(id),
            Err(error) => self.doom(id, CloseCause::ConnectFailed(error)),
        }
    }

    /// A connection stands.
    pub(super) fn finish_connect<S: Sink>(&mut self, id: SocketId, sink: &mut S) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let datagram = matches!(socket.role, Role::Datagram(_));
        if let Some(local) = open::local_address(socket.fd(), datagram) {
            socket.local = Some(local);
        }
        socket.phase = Phase::Open;
        sink.connected(id);
        self.queue_for_sending(id);
        self.arm(id, false);
    }
}
