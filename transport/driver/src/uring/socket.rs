//! One socket of the driver: its phase, and what is in flight for it.
//!
//! ```text
//! Connecting ──connected──> Open ──close(Graceful)──> Draining ──FIN sent, peer's FIN read──┐
//!      └──────────────┬──────┴──close(Abort), broken──────┴─────────────────────────────> Dying
//!                     └── failed ──> Dying ──last operation completed──> fd closed, `closed`
//! ```
//!
//! Invariants: at most one receiving (`input`) and one sending (`output`) operation; the descriptor is closed
//! only when both are `None`; `closed` is reported once, when the entry leaves the table.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use ringway_buf::{Chain, Id, RecvBuffer};

use crate::pace::Pace;
use crate::{Address, Burst, CloseCause, Inlet};

/// Where a socket is in its life.
#[derive(Debug)]
pub(super) enum Phase {
    /// A connect is under way, or just succeeded at once.
    Connecting,
    /// In use.
    Open,
    /// Sends what is queued, then FIN, and discards what comes until the peer's FIN.
    Draining {
        /// Our FIN is out.
        fin: bool,
    },
    /// Waits for its operations to end.
    Dying(CloseCause),
}

/// An operation in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) id: Id,
    /// Its end was asked for.
    pub(super) cancelled: bool,
    /// A large message's receive: it may have taken bytes already, so nobody else may read.
    pub(super) exclusive: bool,
}

impl Pending {
    pub(super) fn new(id: Id) -> Self {
        Self {
            id,
            cancelled: false,
            exclusive: false,
        }
    }
}

/// What a socket is for, with what only that kind needs.
#[derive(Debug)]
pub(super) enum Role {
    Stream(Stream),
    Datagram(Datagram),
    Listener,
}

/// The stream part of a socket.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) inlet: Inlet,
    /// Slots that came after reading was switched off, until their receive was cancelled.
    pub(super) held: VecDeque<RecvBuffer>,
    /// A large message's buffer that came back after reading was switched off, and what it lacks.
    pub(super) held_large: Option<(RecvBuffer, usize)>,
    /// What is to be sent and not in flight.
    pub(super) queue: Chain,
    /// The sink wants nothing until `read(true)`.
    pub(super) paused: bool,
    /// The inlet lacks memory and is in the queue of those who wait for some.
    pub(super) lean: bool,
    /// In the queue of those who wait for a slot.
    pub(super) starved: bool,
    /// Sending failed with this: the socket closes when what the peer had sent before was received.
    pub(super) mute: Option<io::Error>,
    /// The peer's FIN was read.
    pub(super) ended: bool,
    /// And reported.
    pub(super) end_told: bool,
    /// Receives large messages: receives once at a time, so that there is nothing to cancel when the next
    /// one is announced. Counts down with every receive that was not part of one.
    pub(super) bulk: u8,
    pub(super) pace: Pace,
}

/// The datagram part of a socket.
#[derive(Debug)]
pub(super) struct Datagram {
    /// Bursts to send, the first of them from datagram `sent` on.
    pub(super) queue: VecDeque<Burst>,
    pub(super) sent: u32,
    pub(super) connected: Option<SocketAddr>,
    /// The last receive brought something, so there may be more than readiness will tell.
    pub(super) readable: bool,
    /// How many datagram calls in a row found something: a burst is received in batches.
    pub(super) streak: u8,
}

impl Datagram {
    pub(super) fn new(connected: Option<SocketAddr>) -> Self {
        Self {
            queue: VecDeque::new(),
            sent: 0,
            connected,
            readable: false,
            streak: 0,
        }
    }
}

/// How often in a row, and when, a socket got a single message: the ground for promotion.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Habit {
    pub(super) hits: u8,
    pub(super) turn: u32,
}

/// One socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    pub(super) role: Role,
    pub(super) phase: Phase,
    /// The engine wants to read (or accept).
    pub(super) reading: bool,
    /// `read(true)` came since the last look: show what was kept.
    pub(super) resumed: bool,
    pub(super) input: Option<Pending>,
    pub(super) output: Option<Pending>,
    /// In the queue of those who need a look.
    pub(super) noted: bool,
    /// In the queue of those who have something to send.
    pub(super) queued: bool,
    pub(super) habit: Habit,
    pub(super) local: Option<Address>,
    pub(super) peer: Option<Address>,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd, role: Role, phase: Phase) -> Self {
        Self {
            fd,
            reading: matches!(role, Role::Listener),
            role,
            phase,
            resumed: false,
            input: None,
            output: None,
            noted: false,
            queued: false,
            habit: Habit::default(),
            local: None,
            peer: None,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The number for an entry; the descriptor stays open while the operation is in flight.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.role {
            Role::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    pub(super) fn datagram(&mut self) -> Option<&mut Datagram> {
        match &mut self.role {
            Role::Datagram(datagram) => Some(datagram),
            _ => None,
        }
    }

    /// The peer of a connected datagram socket.
    pub(super) fn connected_datagram(&self) -> Option<SocketAddr> {
        match &self.role {
            Role::Datagram(datagram) => datagram.connected,
            _ => None,
        }
    }

    /// Whether bytes may go up now.
    pub(super) fn shows(&self) -> bool {
        self.is_open()
            && self.reading
            && match &self.role {
                Role::Stream(stream) => !stream.paused && !stream.lean,
                _ => true,
            }
    }

    /// Whether the kernel shall be read from: to show it, or to discard it while draining.
    pub(super) fn wants_input(&self) -> bool {
        match (&self.role, &self.phase) {
            (Role::Stream(stream), Phase::Open) => self.shows() && !stream.ended,
            (Role::Stream(stream), Phase::Draining { .. }) => !stream.ended,
            (_, Phase::Open) => self.reading,
            _ => false,
        }
    }

    /// Whether a direct receive may go now, as far as operations of this socket are concerned.
    ///
    /// `clean` says that no completion and no overflow waits: an armed receive then holds no bytes, for its
    /// deferred work runs inside `enter` and nowhere else.
    pub(super) fn may_read_directly(&self, clean: bool) -> bool {
        match self.input {
            None => true,
            Some(input) => clean && !input.exclusive,
        }
    }
}
