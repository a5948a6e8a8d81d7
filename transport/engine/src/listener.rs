//! Listeners: where connections come from, and who gets them.

use core::time::Duration;

use ringway_buf::Id;
use ringway_driver::{Address, ListenOptions, SocketId};

use crate::ConnectionId;
use crate::handle::Handle;
use crate::link::AcceptEnd;
use crate::packet::EndpointId;

/// A listener of one engine, or the bound datagram socket of a `udp://` address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub(crate) Source);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    Stream(Id),
    Datagram(ConnectionId),
    Packets(EndpointId),
}

impl ListenerId {
    /// For `udp://`: the socket as a connection, to claim datagrams on. `None` for stream listeners.
    #[must_use]
    pub fn datagram_socket(self) -> Option<ConnectionId> {
        match self.0 {
            Source::Datagram(connection) => Some(connection),
            Source::Stream(_) | Source::Packets(_) => None,
        }
    }
}

/// First pause after a failed accept; doubles up to the longest.
pub(crate) const ACCEPT_REST_MIN: Duration = Duration::from_millis(5);
/// Longest pause after failed accepts.
pub(crate) const ACCEPT_REST_MAX: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: SocketId,
    pub(crate) address: Option<Address>,
    pub(crate) options: ListenOptions,
    /// How long it rests after the next failed accept.
    pub(crate) rest: Duration,
    /// Engines that share the accepted connections, this one included as `None`.
    pub(crate) spread: Vec<Option<Handle>>,
    pub(crate) next: usize,
    /// Accepted connections become links of another thread.
    pub(crate) links: Option<AcceptEnd>,
}

impl Listener {
    /// Whose turn it is to take the next connection; `None` means this engine.
    pub(crate) fn next_engine(&mut self) -> Option<Handle> {
        let count = self.spread.len();
        if count == 0 {
            return None;
        }
        self.next = (self.next + 1) % count;
        self.spread[self.next].clone()
    }
}
