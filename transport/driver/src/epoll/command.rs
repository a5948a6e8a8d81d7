//! What the engine asks for: open, switch, queue, close. Nothing here calls the sink.

use std::mem;
use std::os::fd::{AsFd, OwnedFd};

use ringway_buf::Chain;

use super::Epoll;
use super::socket::{Datagram, Phase, Role, Socket, Stream};
use crate::socket::open::{self, Adopted, Kind};
use crate::socket::udp;
use crate::{
    Address, Burst, Close, CloseCause, Incoming, ListenOptions, OpenError, SocketId, SocketOptions,
};

impl Epoll {
    pub(super) fn on_listen(
        &mut self,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<SocketId, OpenError> {
        self.check_room()?;
        let (fd, _local) = open::listen(address, options)?;
        self.insert(fd, Role::Listener, false)
    }

    pub(super) fn on_connect(
        &mut self,
        address: &Address,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        self.check_room()?;
        if address.is_datagram() {
            let fd = open::connect_udp(address, options)?;
            let peer = open::peer_address(fd.as_fd(), true).and_then(|peer| peer.socket_addr());
            let id = self.insert(fd, Role::Datagram(Datagram::new(peer)), false)?;
            self.lists.opened.push(id);
            return Ok(id);
        }
        let (fd, under_way) = open::connect_start(address, options)?;
        let phase = if under_way {
            Phase::Connecting
        } else {
            Phase::Open
        };
        let stream = Stream::new(phase, address.socket_addr().is_some());
        let id = self.insert(fd, Role::Stream(stream), under_way)?;
        if !under_way {
            self.lists.opened.push(id);
        }
        Ok(id)
    }

    pub(super) fn on_bind(
        &mut self,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<SocketId, OpenError> {
        self.check_room()?;
        let (fd, _local) = open::bind_udp(address, options)?;
        self.insert(fd, Role::Datagram(Datagram::new(None)), false)
    }

    pub(super) fn on_adopt(
        &mut self,
        incoming: Incoming,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        let Incoming::Fd(fd) = incoming else {
            return Err(OpenError::Unsupported {
                what: "a simulated connection",
            });
        };
        self.check_room()?;
        let Adopted {
            fd,
            kind,
            local,
            peer,
        } = open::adopt(fd, options)?;
        let role = match kind {
            Kind::Stream => Role::Stream(Stream::new(
                Phase::Open,
                matches!(local, Some(Address::Tcp(_))),
            )),
            Kind::Datagram => {
                Role::Datagram(Datagram::new(peer.and_then(|peer| peer.socket_addr())))
            }
        };
        self.insert(fd, role, false)
    }

    pub(super) fn local_address_of(&self, socket: SocketId) -> Option<Address> {
        let socket = self.sockets.get(socket.0)?;
        open::local_address(socket.fd.as_fd(), matches!(socket.role, Role::Datagram(_)))
    }

    pub(super) fn peer_address_of(&self, socket: SocketId) -> Option<Address> {
        let socket = self.sockets.get(socket.0)?;
        open::peer_address(socket.fd.as_fd(), matches!(socket.role, Role::Datagram(_)))
    }

    pub(super) fn datagram_bytes_max_of(&self, socket: SocketId) -> Option<usize> {
        let socket = self.sockets.get(socket.0)?;
        let Role::Datagram(datagram) = &socket.role else {
            return None;
        };
        udp::payload_bytes_max(socket.fd.as_fd(), datagram.peer?)
    }

    pub(super) fn on_read(&mut self, id: SocketId, on: bool) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        socket.on = on;
        if !on {
            self.hot.remove(id);
        }
        if let Role::Stream(stream) = &mut socket.role {
            if on {
                stream.resume |= stream.inlet.holds_bytes();
            } else if let Some(fault) = stream.fault.take() {
                // Nobody wants what the peer sent before the connection broke.
                self.doom(id, CloseCause::Broken(fault));
                return;
            }
        }
        self.list_if_ready(id);
    }

    #[inline]
    pub(super) fn on_send(&mut self, id: SocketId, chain: &mut Chain) {
        if let Some(socket) = self.sockets.get_mut(id.0)
            && let Role::Stream(stream) = &mut socket.role
            && socket.doom.is_none()
            && stream.fault.is_none()
            && !stream.closing()
        {
            if stream.queue.is_empty() {
                // Both keep their allocations, each for the other's next use.
                mem::swap(&mut stream.queue, chain);
            } else {
                stream.queue.append(chain);
            }
            if !socket.flushing {
                socket.flushing = true;
                self.lists.flush.push_back(id);
            }
            return;
        }
        // What a closing or closed socket will not send any more is dropped.
        chain.clear();
    }

    #[inline]
    pub(super) fn on_send_to(&mut self, id: SocketId, burst: Burst) {
        debug_assert!(burst.count > 0, "a burst has at least one datagram");
        if let Some(socket) = self.sockets.get_mut(id.0)
            && let Role::Datagram(datagram) = &mut socket.role
            && socket.doom.is_none()
            && !datagram.draining
        {
            datagram.queue.push_back(burst);
            if !socket.flushing {
                socket.flushing = true;
                self.lists.flush.push_back(id);
            }
        }
    }

    pub(super) fn on_close(&mut self, id: SocketId, how: Close) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        if socket.doom.is_some() {
            return;
        }
        self.hot.remove(id);
        match (&mut socket.role, how) {
            (Role::Stream(stream), Close::Graceful) if stream.closing() => return,
            (Role::Stream(stream), Close::Graceful)
                if stream.phase == Phase::Open && stream.fault.is_none() =>
            {
                stream.phase = Phase::Draining;
                stream.resume = false;
                if !socket.flushing {
                    socket.flushing = true;
                    self.lists.flush.push_back(id);
                }
                self.list_if_ready(id);
                return;
            }
            (Role::Datagram(datagram), Close::Graceful) if !datagram.queue.is_empty() => {
                datagram.draining = true;
                return;
            }
            (Role::Stream(_), Close::Abort) => {
                // Fails on a socket that is gone already; it is closed either way.
                let _gone = open::reset_on_close(socket.fd.as_fd());
            }
            _ => {}
        }
        self.doom(id, CloseCause::Requested);
    }

    /// Decides that a socket is over; the first reason stands.
    pub(super) fn doom(&mut self, id: SocketId, cause: CloseCause) {
        if let Some(socket) = self.sockets.get_mut(id.0)
            && socket.doom.is_none()
        {
            socket.doom = Some(cause);
            self.lists.doomed.push(id);
        }
    }

    /// Lists a socket that wants data and may have some.
    pub(super) fn list_if_ready(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let resumes = matches!(&socket.role, Role::Stream(stream) if stream.resume);
        if (socket.readable || resumes) && socket.takes() && !socket.listed {
            socket.listed = true;
            self.lists.ready.push_back(id);
        }
    }

    fn check_room(&self) -> Result<(), OpenError> {
        if self.sockets.is_full() {
            return Err(OpenError::TooMany {
                max: self.sockets.max(),
            });
        }
        Ok(())
    }

    fn insert(&mut self, fd: OwnedFd, role: Role, writes: bool) -> Result<SocketId, OpenError> {
        let mut socket = Socket::new(fd, role);
        socket.watches_room = writes;
        let max = self.sockets.max();
        let id = self
            .sockets
            .insert(socket)
            .map_err(|_full| OpenError::TooMany { max })?;
        let id = SocketId(id);
        let watched = match self.sockets.get(id.0) {
            Some(socket) => self.poller.watch(socket.fd.as_fd(), id, writes),
            None => Ok(()),
        };
        if let Err(error) = watched {
            drop(self.sockets.remove(id.0));
            return Err(OpenError::System {
                call: "epoll_ctl",
                address: None,
                error,
            });
        }
        Ok(id)
    }
}
