//! Which connection or listener a driver's socket belongs to.

use ringway_driver::SocketId;

use crate::packet::EndpointId;
use crate::{ConnectionId, ListenerId};

/// Owner of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Connection(ConnectionId),
    Listener(ListenerId),
    Endpoint(EndpointId),
}

/// Indexed by the driver's socket index; a stale socket id finds nothing.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Vec<Option<(SocketId, Owner)>>);

impl Sockets {
    pub(crate) fn insert(&mut self, socket: SocketId, owner: Owner) {
        let index = socket.0.index() as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, None);
        }
        self.0[index] = Some((socket, owner));
    }

    #[inline]
    pub(crate) fn owner(&self, socket: SocketId) -> Option<Owner> {
        match self.0.get(socket.0.index() as usize) {
            Some(Some((known, owner))) if *known == socket => Some(*owner),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn connection(&self, socket: SocketId) -> Option<ConnectionId> {
        match self.owner(socket) {
            Some(Owner::Connection(connection)) => Some(connection),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn endpoint(&self, socket: SocketId) -> Option<EndpointId> {
        match self.owner(socket) {
            Some(Owner::Endpoint(endpoint)) => Some(endpoint),
            _ => None,
        }
    }

    pub(crate) fn listener(&self, socket: SocketId) -> Option<ListenerId> {
        match self.owner(socket) {
            Some(Owner::Listener(listener)) => Some(listener),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, socket: SocketId) {
        if self.owner(socket).is_some()
            && let Some(entry) = self.0.get_mut(socket.0.index() as usize)
        {
            *entry = None;
        }
    }
}
