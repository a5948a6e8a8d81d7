//! The contract of packet transports: many sessions over one UDP socket, without any I/O.
//!
//! Above stands the engine, which owns the socket, the clock and the memory; below it a driver's datagrams. One
//! [`PacketEndpoint`] is the machine behind one socket. Reliable UDP (`rudp`) and QUIC keep this contract, so that
//! the engine carries both the same way:
//!
//! ```text
//!        connect, send, pause, drain, finish, close, abort        poll_event: Accepted, Opened, Message, Sent, …
//!                            │                                                    ▲
//!                  ┌─────────▼────────────────────────────────────────────────────┴─────────┐
//!                  │ PacketEndpoint: sessions by id, timers, what waits for sending         │
//!                  └─────────┬────────────────────────────────────────────────────▲─────────┘
//!                            ▼                                                    │
//!        poll_transmit: bursts of equal datagrams in lent memory       handle_datagrams, handle_timeout
//! ```
//!
//! The round of the engine: `handle_datagrams` for each batch that came from one peer, then `poll_event` until it
//! is empty (a [`Body::Received`] points into that batch), `handle_timeout` when `poll_timeout` has passed,
//! and once at the end of its turn `poll_transmit`, if the endpoint `wants_transmit`. Between two events the
//! engine may call everything else: an answer is sent while the request is still being looked at.
//!
//! Rules for whoever implements it:
//!
//! * Every session that `connect` returned or that was [`Accepted`](PacketEvent::Accepted) ends with exactly one
//!   [`Closed`](PacketEvent::Closed), which is its last event. A stale id does nothing.
//! * A session is accepted when its peer's address is proven, not before; half-open ones are the endpoint's
//!   own affair, bounded, and cost the engine nothing.
//! * Messages are whole, with the header they were sent with. `Opened` comes before the first one; `Draining`
//!   before the end; what arrived before a peer's close is delivered before `Closed`.
//! * While a session is paused no message of it becomes an event; what arrives is held within what was granted to
//!   the peer, and further grants stop. A message whose event waited already may be [put
//!   back](PacketEndpoint::put_back).
//! * Time and randomness are arguments, memory comes from the engine's pools and its budget, everything is
//!   bounded. When memory lacks, a packet counts as lost; nothing is closed for it.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use ringway_buf::{Id, Instant, RecvBuffer, Slice};

use crate::stream::{Peer, Timeout, Violation};
use crate::wire::{CloseCode, Header};

/// A session of one endpoint. Generation-checked: the id of a closed session is unknown, never mistaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub Id);

/// What is known about a batch of received datagrams of one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketMeta {
    /// Who sent them.
    pub peer: SocketAddr,
    /// Size of each datagram but the last, which may be shorter, in bytes.
    pub segment_bytes: usize,
    /// ECN bits of their IP headers, 0 to 3; 3 is "congestion experienced".
    pub ecn: u8,
    /// The address of ours that they were sent to, where the socket has several.
    pub local: Option<IpAddr>,
}

/// What the IP headers of sent datagrams shall hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The address of ours that they leave from: the one that the peer speaks to. `None`: the route decides.
    pub source: Option<IpAddr>,
    /// ECN bits, 0 to 3. `None`: those of the socket.
    pub ecn: Option<u8>,
}

/// How a message travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Exactly once, as long as the session lives, after all earlier messages of this kind. What a stream does,
    /// and what the engine sends unless told otherwise.
    #[default]
    Ordered,
    /// Exactly once, as soon as it is whole: a lost packet delays no other message.
    Unordered,
    /// At most once: never sent again, and not sent at all when it still waits at the deadline.
    Unreliable {
        /// Until when it is worth sending; [`Instant::MAX`] means always.
        deadline: Instant,
    },
    /// Exactly once, after all earlier messages of the same lane, unless the lane is [dropped](PacketEndpoint::drop_lane).
    /// A lane begins behind all ordered messages that were sent before its first one; from then on what is lost
    /// elsewhere does not delay it, and what it loses delays nothing else. A transport without [lanes](Ways::lanes), or
    /// without room for one more, sends it as if it were [`Ordered`](Self::Ordered).
    Lane {
        /// Its name, which the sender chooses; another session's lane of that name is another one.
        lane: u32,
        /// None follows: whatever the lane holds is given back when the peer has it. The name is free again.
        last: bool,
    },
}

/// Which deliveries lose nothing on a session, for senders that leave the choice to the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// Messages of at least so many bytes cost no more [`Unordered`](Delivery::Unordered) than in order, measured by
    /// what they would delay.
    pub unordered_bytes_min: u32,
    /// Lanes are apart from each other.
    pub lanes: bool,
    /// [`Unreliable`](Delivery::Unreliable) messages of at most so many bytes save something; 0: none do.
    pub unreliable_bytes_max: u32,
}

impl Ways {
    /// There is one way.
    pub const ONE: Self = Self {
        unordered_bytes_min: u32::MAX,
        lanes: false,
        unreliable_bytes_max: 0,
    };
}

impl Default for Ways {
    fn default() -> Self {
        Self::ONE
    }
}

impl Delivery {
    /// Whether the message may be lost.
    #[must_use]
    pub const fn is_unreliable(self) -> bool {
        matches!(self, Self::Unreliable { .. })
    }
}

/// A message to be sent. The body is shared memory, which the session holds until the peer has it.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Kind, flags, tag and word; the length is that of the body.
    pub header: Header,
    /// The body.
    pub body: Slice,
    /// How it travels.
    pub delivery: Delivery,
}

/// Where the body of a received message lies.
#[derive(Debug)]
pub enum Body {
    /// In the bytes of the last [`handle_datagrams`](PacketEndpoint::handle_datagrams): no copy was made.
    Received(Range<usize>),
    /// In memory of its own: it came in pieces, had to wait, or was decrypted.
    Owned(RecvBuffer),
}

/// Something that the engine has to know.
#[derive(Debug)]
pub enum PacketEvent {
    /// A peer proved its address and opened a session. [`Opened`](Self::Opened) follows at once.
    Accepted {
        /// The new session.
        session: SessionId,
        /// The peer's address.
        address: SocketAddr,
    },
    /// Messages may be sent; the first event of a session that this side opened.
    Opened {
        /// Which session.
        session: SessionId,
        /// What the peer said of itself.
        peer: Peer,
    },
    /// A message.
    Message {
        /// Which session.
        session: SessionId,
        /// The header it was sent with, `length` included.
        header: Header,
        /// Its body.
        body: Body,
    },
    /// The peer has acknowledged messages (or they were given up, if unreliable): their memory is free.
    Sent {
        /// Which session.
        session: SessionId,
        /// Bytes, as counted by [`held_bytes`](PacketEndpoint::held_bytes).
        bytes: usize,
    },
    /// The peer drains: it wants nothing new.
    Draining {
        /// Which session.
        session: SessionId,
    },
    /// Both ends have said, and heard, everything: [`close`](PacketEndpoint::close) it with
    /// [`CloseCode::Drained`].
    Drained {
        /// Which session.
        session: SessionId,
    },
    /// The session is gone. Exactly once, and its last event.
    Closed {
        /// Which session.
        session: SessionId,
        /// Why.
        end: SessionEnd,
        /// Bytes of accepted messages, as counted by [`held_bytes`](PacketEndpoint::held_bytes), that the peer has
        /// not acknowledged.
        unsent_bytes: u64,
    },
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEnd {
    /// This end closed it, and the peer knows.
    Local(CloseCode),
    /// The peer closed it.
    Peer(CloseCode),
    /// Time ran out; [`Timeout::Keepalive`] also when a peer stopped acknowledging.
    Expired(Timeout),
    /// The peer broke a rule of the wire.
    Violation(Fault),
    /// The peer would not open a session.
    Refused(CloseCode),
    /// The peer knows nothing of the session: it lost its state.
    Reset,
    /// The peer was started anew: its boot epoch is another one.
    Restarted,
    /// The network answered the first packets: nobody is there, or no way leads there.
    Unreachable,
    /// The ends could not agree on keys: a certificate, a name or a protocol was not good enough.
    Untrusted {
        /// The number of the TLS alert (RFC 8446, 6) that says what was wrong.
        alert: u8,
        /// Whether this end refused; otherwise the peer did.
        local: bool,
    },
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(code) => write!(f, "closed by this side: {code}"),
            Self::Peer(code) => write!(f, "closed by the peer: {code}"),
            Self::Expired(timeout) => timeout.fmt(f),
            Self::Violation(fault) => write!(f, "the peer broke the protocol: {fault}"),
            Self::Refused(code) => write!(f, "the peer opened no session: {code}"),
            Self::Reset => {
                f.write_str("the peer knows nothing of the connection any more; connect again")
            }
            Self::Restarted => f.write_str("the peer was restarted; connect again"),
            Self::Unreachable => f.write_str(
                "nobody answers at that address; is the server running, and is there a route to it?",
            ),
            Self::Untrusted { alert, local } => {
                let (who, whose) = if *local {
                    ("this end", "the peer's")
                } else {
                    ("the peer", "this end's")
                };
                let what = alert_text(*alert);
                write!(
                    f,
                    "{who} refused {whose} side of the TLS handshake: {what} (alert {alert})"
                )
            }
        }
    }
}

/// What the usual alerts of TLS mean, and what to look at.
const fn alert_text(alert: u8) -> &'static str {
    match alert {
        40 => "no common parameters; check versions and settings of both ends",
        42 => "the certificate is not well-formed or does not fit the name that was connected to",
        43 => "the certificate is of a kind that is not supported",
        44 => "the certificate was revoked",
        45 => "the certificate has expired or is not valid yet; check the clocks of both ends",
        46 => "the certificate was not acceptable",
        48 => "nobody trusted has signed the certificate; check the roots that are trusted",
        49 => "access denied",
        51 => {
            "a signature or a check of the handshake was wrong; the certificate is perhaps of another authority with the same name"
        }
        70 => "no common version of TLS",
        80 => "internal fault",
        112 => "the name that was connected to is not served there",
        116 => "a certificate is demanded and none was shown",
        120 => "no common application protocol; compare the ALPN names of both ends",
        _ => "see RFC 8446, section 6",
    }
}

/// What a peer of a packet transport did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A frame that cannot be read, or of a kind that this version does not know.
    Malformed {
        /// The transport's number of the frame's kind.
        frame: u64,
    },
    /// It acknowledged a packet that was never sent.
    AckOfUnsent,
    /// It sent more than it was granted.
    BeyondCredit,
    /// Pieces of one message contradict each other in length or header.
    Contradiction,
    /// A message is longer than this end takes.
    MessageTooLong {
        /// Announced bytes.
        length: u64,
        /// Allowed bytes.
        max: u32,
    },
    /// A message came although the peer had announced its last one.
    AfterFinal,
    /// Too many frames that carry nothing.
    Flood,
    /// The security layer refused it; the number is that layer's.
    Security(u64),
    /// It broke a rule of the stream format, which QUIC carries inside.
    Stream(Violation),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { frame } => write!(f, "a frame of kind {frame} cannot be read"),
            Self::AckOfUnsent => f.write_str("it acknowledged a packet that was never sent"),
            Self::BeyondCredit => f.write_str("it sent more than it was granted"),
            Self::Contradiction => f.write_str("pieces of one message contradict each other"),
            Self::MessageTooLong { length, max } => write!(
                f,
                "it announced {length} bytes, message_bytes_max is {max}; raise it or send less"
            ),
            Self::AfterFinal => f.write_str("a message came after its last one"),
            Self::Flood => f.write_str("too many frames that carry nothing"),
            Self::Security(number) => {
                write!(f, "the security layer refused it (alert {number})")
            }
            Self::Stream(violation) => violation.fmt(f),
        }
    }
}

impl core::error::Error for Fault {}

/// Why a message was not taken. Nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendRefusal {
    /// The handshake is not done.
    NotOpen,
    /// The session is closing or unknown, or has said its last word.
    Closed,
    /// The message is longer than the peer takes, or than unreliable ones may be.
    TooLong {
        /// The most that it takes, in bytes.
        bytes_max: usize,
    },
}

/// Why no session was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectRefusal {
    /// The endpoint holds its maximum of sessions.
    TooMany {
        /// That maximum.
        max: usize,
    },
    /// The address is not one of a private network, and the endpoint was not told to go beyond.
    PublicAddress,
    /// The endpoint lacks what it needs to connect, e.g. trust anchors.
    NotConfigured,
    /// The memory budget has no room for another session.
    NoMemory,
}

impl fmt::Display for ConnectRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { max } => write!(f, "the endpoint already holds {max} sessions"),
            Self::PublicAddress => f.write_str(
                "the address is public and this transport neither encrypts nor authenticates; \
                 use quic://, or set `public_addresses` if the network is trusted",
            ),
            Self::NotConfigured => {
                f.write_str("the endpoint has no settings for outgoing sessions")
            }
            Self::NoMemory => f.write_str(
                "the memory budget has no room for another session; raise `budget_bytes`",
            ),
        }
    }
}

impl core::error::Error for ConnectRefusal {}

/// Lends memory for datagrams. Implemented by the engine over its driver.
pub trait TransmitSink {
    /// Memory for up to `count` datagrams of `segment_bytes` to `peer`, at least for one of them, one behind
    /// the other; its first contents are unspecified. `None`: no memory or a full queue, ask again next turn.
    ///
    /// A second call drops what the first one lent without a [`commit`](Self::commit).
    fn lend(&mut self, peer: SocketAddr, segment_bytes: usize, count: usize) -> Option<&mut [u8]>;

    /// What the IP headers of the datagrams that were lent last shall hold. Without a call, and with a sink that
    /// knows nothing of it: what the socket and the route say.
    fn mark(&mut self, _marks: Marks) {}

    /// The first `bytes` of the lent memory are datagrams of `segment_bytes` each; the last may be shorter.
    fn commit(&mut self, bytes: usize, segment_bytes: usize);
}

/// The machine behind one UDP socket. See the [module](self).
///
/// Object safe: an engine keeps endpoints of several transports side by side.
pub trait PacketEndpoint: fmt::Debug {
    /// Begins a session. The outcome comes as `Opened` or `Closed`.
    ///
    /// # Errors
    /// [`ConnectRefusal`]; nothing was begun.
    fn connect(&mut self, peer: SocketAddr, now: Instant) -> Result<SessionId, ConnectRefusal>;

    /// Takes datagrams of one sender. Poll all events before the next call: bodies point into `bytes`.
    fn handle_datagrams(&mut self, meta: &PacketMeta, bytes: &[u8], now: Instant);

    /// A datagram to `peer` was longer than the path carries (`EMSGSIZE`) and was not sent; `peer` is `None`
    /// when the driver can't tell, `bytes_max` what it believes the path to carry.
    fn handle_too_long(&mut self, peer: Option<SocketAddr>, bytes_max: usize, now: Instant);

    /// The network says that packets to `peer` (`None`: the driver can't tell) find nobody or no way (ICMP). It ends
    /// sessions that have not heard of their peer yet. Whoever has, goes on: such words can be forged, and a route
    /// may come back.
    fn handle_unreachable(&mut self, peer: Option<SocketAddr>, now: Instant);

    /// Acts on all deadlines that have passed. Afterwards [`poll_timeout`](Self::poll_timeout) lies ahead.
    fn handle_timeout(&mut self, now: Instant);

    /// When [`handle_timeout`](Self::handle_timeout) has to be called. May be early, never late.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The next event, if any waits.
    fn poll_event(&mut self) -> Option<PacketEvent>;

    /// Whether [`poll_transmit`](Self::poll_transmit) may have something to send now.
    fn wants_transmit(&self) -> bool;

    /// Writes what is to be sent now into memory of the sink, a bounded amount per call.
    ///
    /// Returns whether more could be sent at once; paced packets are announced by `poll_timeout` instead.
    fn poll_transmit(&mut self, sink: &mut dyn TransmitSink, now: Instant) -> bool;

    /// The longest body that [`send`](Self::send) takes now, in bytes.
    ///
    /// # Errors
    /// [`SendRefusal`] when it would take none.
    fn message_bytes_max(&self, session: SessionId) -> Result<usize, SendRefusal>;

    /// Memory that a message with a body of `len` bytes counts for until `Sent` tells that it is free: with what is
    /// kept beside the body, so that empty messages are bounded too.
    fn held_bytes(&self, len: usize) -> usize {
        len
    }

    /// Which deliveries lose nothing now.
    fn ways(&mut self, _session: SessionId) -> Ways {
        Ways::ONE
    }

    /// Gives up what a lane has not delivered: neither end holds it any longer. Its messages that went in order, for
    /// want of a lane, still arrive. What is under way of an earlier lane of that name goes with it. Does nothing without
    /// such a lane.
    fn drop_lane(&mut self, _session: SessionId, _lane: u32, _now: Instant) {}

    /// How many bytes the system was granted to keep received datagrams in until they are read, as it counts them: with
    /// the memory that they lie in. Called before the first session, if anybody knows.
    fn recv_buffer(&mut self, _bytes: u64) {}

    /// Unreliable messages that were dropped unsent, because their time was over, since the start.
    fn expired(&self) -> u64 {
        0
    }

    /// Takes a message. It stays in memory until `Sent` counts its bytes; the caller bounds the sum.
    ///
    /// # Errors
    /// Hands the message back with the reason.
    fn send(
        &mut self,
        session: SessionId,
        message: Outgoing,
        now: Instant,
    ) -> Result<(), (Outgoing, SendRefusal)>;

    /// Gives back a message whose event was polled, because the session was paused since: it comes again, first
    /// of all, when the session goes on. To be called in the order of the events.
    fn put_back(&mut self, session: SessionId, header: Header, body: RecvBuffer);

    /// Stops delivering the session's messages, or goes on. Events that wait to be polled stay.
    fn pause(&mut self, session: SessionId, paused: bool, now: Instant);

    /// Step one of the end: asks the peer to start nothing new and starts the drain's time limit.
    fn drain(&mut self, session: SessionId, now: Instant);

    /// Step two of the end: this side sends no message after those it has accepted.
    fn finish(&mut self, session: SessionId, now: Instant);

    /// Ends a session: what was accepted is still sent, then the peer is told `code`, then `Closed` follows.
    fn close(&mut self, session: SessionId, code: CloseCode, now: Instant);

    /// Ends a session at once; `Closed` follows. The peer is told if that takes no waiting.
    fn abort(&mut self, session: SessionId, now: Instant);

    /// Takes no new session from now on (or does again).
    fn refuse_new(&mut self, refuse: bool);

    /// Sessions whose `Closed` has not been polled yet.
    fn sessions(&self) -> usize;
}
