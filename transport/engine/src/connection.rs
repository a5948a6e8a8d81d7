//! One connection, or one datagram socket: what the engine keeps of it between turns.

use std::fmt;

use ringway_buf::{Chain, Id, Instant, Lease, RecvBuffer};
use ringway_driver::{Address, SocketId};
use ringway_proto::{Header, Role, Stream, StreamConfig};

use crate::datagram::Datagrams;
use crate::link::LinkEnd;
use crate::packet::PacketEnd;
use crate::stage::Stage;
use crate::{CloseReason, ListenerId};

/// A connection of one engine. Generation-checked: the id of a closed connection is refused, never mistaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) Id);

impl ConnectionId {
    /// The id as one word, for foreign code.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0.to_bits()
    }

    /// The inverse of [`to_bits`](Self::to_bits); a made-up id is merely unknown to the engine.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(Id::from_bits(bits))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is known about the other side of an opened connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Peer {
    /// Its address, if its end of the socket has one.
    pub address: Option<Address>,
    /// The listener that accepted it; `None` for connections that this side opened or adopted.
    pub listener: Option<ListenerId>,
    /// Longest message in bytes that it takes.
    pub message_bytes_max: u32,
    /// Features that both sides offer.
    pub features: u64,
    /// A number that differs after each restart of the peer.
    pub epoch: u64,
}

/// Where a connection stands.
///
/// ```text
/// Connecting --connected--> Live --close, violation, end, drained--> Closing --closed--> (gone)
///     \------------------------- closed --------------------------------------/
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The driver has not opened it yet; the instant is the connect deadline.
    Connecting(Instant),
    /// Bytes flow; the framing machine knows about handshake, keepalive and drain.
    Live,
    /// What is queued still leaves; at the instant the rest is cut off.
    Closing(Instant),
}

/// What carries the messages.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// Frames on a byte stream.
    Stream(Stream),
    /// A message is a datagram.
    Datagram(Box<Datagrams>),
    /// A session of a packet transport.
    Packet(Box<PacketEnd>),
}

/// Messages accepted for sending and not yet given to the driver.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The contiguous batch being filled.
    pub(crate) open: Option<Lease>,
    /// Full batches and slices in front of it.
    pub(crate) ready: Chain,
    /// Bytes accepted and not reported as sent, wherever they wait.
    pub(crate) queued_bytes: usize,
    /// Bytes given to the driver and not reported as sent.
    pub(crate) in_driver: usize,
    /// The open batch waits until the driver is done with the one before.
    pub(crate) deferred: bool,
    /// Size of recent batches: chooses the next lease.
    pub(crate) batch_hint: usize,
    /// `Full` was answered; `writable` is owed.
    pub(crate) full: bool,
    /// `writable` is wanted when no more than this waits.
    pub(crate) writable_at: Option<usize>,
}

impl Outbox {
    /// Moves the open batch behind what is ready.
    pub(crate) fn seal(&mut self) {
        if let Some(open) = self.open.take() {
            self.ready.push_lease(open);
        }
    }
}

/// Why nothing is read from a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pauses {
    /// The handler asked for it.
    pub(crate) handler: bool,
    /// The link's inbox is full.
    pub(crate) link: bool,
    /// Receive memory lacks.
    pub(crate) starved: bool,
}

impl Pauses {
    #[inline]
    pub(crate) fn any(self) -> bool {
        self.handler | self.link | self.starved
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    /// `None` until the driver made it.
    pub(crate) socket: Option<SocketId>,
    pub(crate) phase: Phase,
    pub(crate) carrier: Carrier,
    pub(crate) outbox: Outbox,
    /// In the engine's list of connections to flush.
    pub(crate) dirty: bool,
    pub(crate) pauses: Pauses,
    /// `opened` was called, so `closed` is owed; true for connections that this side opened.
    pub(crate) announced: bool,
    /// Its handshake is under way; an incoming one counts against `handshakes_max`.
    pub(crate) shaking: bool,
    /// `Context::hold`: keep open while the peer drains.
    pub(crate) held: bool,
    /// The peer drains and this side has not said its final word.
    pub(crate) parting: bool,
    pub(crate) role: Role,
    pub(crate) listener: Option<ListenerId>,
    /// The other side's address, until `opened` tells it.
    pub(crate) peer_address: Option<Box<Address>>,
    /// A timer for signs of life while paused is armed.
    pub(crate) reassuring: bool,
    /// When the large message under way has to be complete.
    pub(crate) large_until: Option<Instant>,
    /// Header of the large message that is being received into its place.
    pub(crate) large: Option<Header>,
    /// It goes into a place that the handler gave.
    pub(crate) large_placed: bool,
    /// First cause of its end.
    pub(crate) reason: Option<CloseReason>,
    /// The timer entry that counts; others are superseded.
    pub(crate) armed_at: Instant,
    pub(crate) filter: Option<Box<Filtered>>,
    pub(crate) link: Option<Box<LinkEnd>>,
}

/// A connection's filter stage and what it gathers.
#[derive(Debug)]
pub(crate) struct Filtered {
    pub(crate) stage: Stage,
    /// Contiguous plain bytes that the framing waits for.
    pub(crate) want: usize,
    /// A large message on its way through the filter, and how many bytes it lacks.
    pub(crate) gather: Option<(RecvBuffer, usize)>,
}

impl Connection {
    pub(crate) fn new(phase: Phase, role: Role, carrier: Carrier) -> Self {
        Self {
            socket: None,
            phase,
            carrier,
            outbox: Outbox::default(),
            dirty: false,
            pauses: Pauses::default(),
            announced: false,
            shaking: false,
            held: false,
            parting: false,
            role,
            listener: None,
            peer_address: None,
            reassuring: false,
            large_until: None,
            large: None,
            large_placed: false,
            reason: None,
            armed_at: Instant::MAX,
            filter: None,
            link: None,
        }
    }

    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    pub(crate) fn stream(&self) -> Option<&Stream> {
        match &self.carrier {
            Carrier::Stream(stream) => Some(stream),
            Carrier::Datagram(_) | Carrier::Packet(_) => None,
        }
    }

    /// It is a session of a packet transport.
    #[inline]
    pub(crate) fn is_packet(&self) -> bool {
        matches!(self.carrier, Carrier::Packet(_))
    }

    #[inline]
    pub(crate) fn stream_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.carrier {
            Carrier::Stream(stream) => Some(stream),
            Carrier::Datagram(_) | Carrier::Packet(_) => None,
        }
    }

    /// Makes it a datagram socket; its handshake is nothing.
    pub(crate) fn become_datagram(&mut self, connected: bool) {
        let carrier = Datagrams::new(connected, ringway_proto::datagram::PAYLOAD_BYTES_MAX_V4);
        self.carrier = Carrier::Datagram(Box::new(carrier));
        self.filter = None;
    }

    /// Its handshake is over, one way or the other; only incoming ones count against the limit.
    pub(crate) fn end_handshake(&mut self, handshakes: &mut usize) {
        if std::mem::take(&mut self.shaking) && self.role == Role::Server {
            *handshakes -= 1;
        }
    }

    /// When its timer has to look at it next.
    pub(crate) fn deadline(&self, config: &StreamConfig) -> Option<Instant> {
        match self.phase {
            Phase::Connecting(at) | Phase::Closing(at) => Some(at),
            Phase::Live => self.stream().and_then(|stream| stream.poll_timeout(config)),
        }
    }
}
