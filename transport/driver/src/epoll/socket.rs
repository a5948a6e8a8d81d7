//! What the driver knows about one socket.
//!
//! A stream's life, each arrow one event (`doomed` is any state with `doom` set; the next settling reports
//! `closed` and removes the entry):
//!
//! ```text
//! Connecting --writable, no error--> Open --close(Graceful)--> Draining --queue sent, FIN--> Lingering
//!     |                               |                           |                             |
//!     +--error, any close             +--error, close(Abort)      +--error, close(Abort)        +--peer's FIN
//!     v                               v                           v                             v
//!   doomed                          doomed                      doomed                        doomed
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use ringway_buf::Chain;

use crate::pace::Pace;
use crate::{Burst, CloseCause, Inlet};

/// One open socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    pub(super) role: Role,
    /// The engine wants data (or, for a listener, connections).
    pub(super) on: bool,
    /// The kernel may hold something: an edge was seen, and no `EAGAIN` since.
    pub(super) readable: bool,
    /// The last send found no room; an edge will tell when there is some.
    pub(super) blocked: bool,
    /// Epoll watches for room too.
    pub(super) watches_room: bool,
    /// In the list of sockets to receive from.
    pub(super) listed: bool,
    /// In the list of sockets to send on.
    pub(super) flushing: bool,
    /// Why it ends, once that is certain.
    pub(super) doom: Option<CloseCause>,
}

#[derive(Debug)]
pub(super) enum Role {
    Listener,
    Stream(Stream),
    Datagram(Datagram),
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) phase: Phase,
    pub(super) inlet: Inlet,
    /// Bytes to send; the front may be partly sent.
    pub(super) queue: Chain,
    /// Sending failed with this; the socket closes when what the peer had sent before is received.
    pub(super) fault: Option<io::Error>,
    /// Tcp, where a receive that did not fill its room has emptied the socket.
    pub(super) tcp: bool,
    /// A FIN, hang-up or error was announced: receive until it shows, short receives or not.
    pub(super) ends: bool,
    /// The peer's FIN was received, and reported unless the socket is closing.
    pub(super) ended: bool,
    /// Bytes in the inlet must be shown before more are received.
    pub(super) resume: bool,
    pub(super) pace: Pace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Open,
    /// Closing gracefully: the queue is being sent, what arrives is discarded.
    Draining,
    /// FIN is sent; what arrives is discarded until the peer's.
    Lingering,
}

#[derive(Debug)]
pub(super) struct Datagram {
    /// The peer of a connected socket.
    pub(super) peer: Option<SocketAddr>,
    pub(super) queue: VecDeque<Burst>,
    /// Datagrams of the front burst that have left.
    pub(super) left: u32,
    /// How many receive calls in a row found something: a burst is received in batches.
    pub(super) streak: u8,
    /// Closing gracefully: ends when the queue is sent.
    pub(super) draining: bool,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd, role: Role) -> Self {
        let on = matches!(role, Role::Listener);
        Self {
            fd,
            role,
            on,
            readable: false,
            blocked: false,
            watches_room: false,
            listed: false,
            flushing: false,
            doom: None,
        }
    }

    /// Whether receiving makes sense now: it is wanted, or the socket discards while it closes.
    pub(super) fn takes(&self) -> bool {
        match &self.role {
            Role::Stream(stream) if stream.closing() => !stream.ended,
            Role::Stream(stream) => self.on && !stream.ended && stream.phase == Phase::Open,
            Role::Datagram(datagram) => self.on && !datagram.draining,
            Role::Listener => self.on,
        }
    }
}

impl Stream {
    pub(super) fn new(phase: Phase, tcp: bool) -> Self {
        Self {
            phase,
            inlet: Inlet::default(),
            queue: Chain::new(),
            fault: None,
            tcp,
            ends: false,
            ended: false,
            resume: false,
            pace: Pace::default(),
        }
    }

    pub(super) fn closing(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::Lingering)
    }
}

impl Datagram {
    pub(super) fn new(peer: Option<SocketAddr>) -> Self {
        Self {
            peer,
            queue: VecDeque::new(),
            left: 0,
            streak: 0,
            draining: false,
        }
    }
}
