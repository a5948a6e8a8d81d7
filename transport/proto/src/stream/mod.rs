//! The machine of one TCP or unix connection.
//!
//! Above it stands the engine, below it a driver's bytes. On the way up ([`recv`](Stream::handle_bytes)) the
//! engine shows the machine what it has received, and the machine says what stands at the front: a message,
//! something of its own, or too little. It never holds payload: a message stays where it was received. On the
//! way down messages do not pass through the machine at all; the layer above writes their headers
//! ([`Header::write`](crate::Header::write), [`frame`]) into memory that goes to the driver, and asks the
//! machine only whether it [may](Stream::may_send) and what it has to send itself
//! ([`poll_transmit`](Stream::poll_transmit)).
//!
//! Invariants: the machine's memory is fixed; what a peer can make it send is bounded by
//! [`TRANSMIT_BYTES_MAX`] at any time; nothing is sent to a peer whose preface was not good; CLOSE is the last
//! frame. The states stand in `state.rs`, the rules in `docs/wire/stream.md`.

mod config;
mod flood;
mod handshake;
mod keepalive;
mod recv;
mod send;
mod state;
mod violation;

use core::time::Duration;

use ringway_buf::Instant;

pub(crate) use self::flood::{Bucket, interval_ns_of_rate, nanos};
use self::handshake::Offer;
use self::keepalive::{Due, Times};
use self::send::Pending;
use self::state::{Half, State};
use crate::wire::{CloseCode, Header};

pub use self::config::{ConfigError, MESSAGE_BYTES_LIMIT, StreamConfig};
pub use self::handshake::Peer;
pub use self::send::{TRANSMIT_BYTES_MAX, frame};
pub use self::state::StateName;
pub use self::violation::{Ending, Timeout, Violation};

/// Which end of the connection a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Opened the connection; says hello first.
    Client,
    /// Accepted the connection; answers.
    Server,
}

impl Role {
    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::Client => 1,
            Self::Server => 2,
        }
    }
}

/// What stands at the front of the bytes that [`Stream::handle_bytes`] was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Show at least this many contiguous bytes from the same start. Never more than the larger of
    /// [`HELLO_BYTES_MAX`](crate::wire::HELLO_BYTES_MAX) and `large_bytes_min`.
    Need(usize),
    /// This many bytes are done with: drop them, ask [`poll_event`](Stream::poll_event) and
    /// [`wants_transmit`](Stream::wants_transmit), go on with the rest.
    Consumed(usize),
    /// A whole message: header at 0, body at `16..16 + length`. Drop
    /// [`frame_bytes`](Header::frame_bytes) when it is handled.
    Message(Header),
    /// A message frame above `large_bytes_min`, of which only a part (at least the header) is there. The
    /// caller receives the rest where it likes, and shows the machine what follows the whole frame.
    Large(Header),
}

/// Something that the layer above has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// Both hellos were good: messages may be sent.
    Opened(Peer),
    /// The peer announced the end of messages: start nothing new, finish what runs, then
    /// [`finish`](Stream::finish).
    Draining,
    /// Both ends have said that no message follows: [`close`](Stream::close) with
    /// [`CloseCode::Drained`].
    Drained,
    /// The peer closed and reads no more: close the socket.
    PeerClosed(CloseCode),
}

/// The protocol machine of one stream connection. See the [module](self).
///
/// ```
/// use ringway_buf::Instant;
/// use ringway_proto::{Header, Input, Role, Stream, StreamConfig, StreamEvent, TRANSMIT_BYTES_MAX};
///
/// let (config, now) = (StreamConfig::default(), Instant::ZERO);
/// let mut client = Stream::new(&config, Role::Client, 1, now);
/// let mut server = Stream::new(&config, Role::Server, 2, now);
/// let mut wire = [0; TRANSMIT_BYTES_MAX];
///
/// let len = client.poll_transmit(&mut wire);
/// assert_eq!(server.handle_bytes(&config, &wire[..len], now)?, Input::Consumed(len));
/// let len = server.poll_transmit(&mut wire);
/// assert_eq!(client.handle_bytes(&config, &wire[..len], now)?, Input::Consumed(len));
/// assert!(matches!(client.poll_event(), Some(StreamEvent::Opened(_))));
///
/// let header = Header::message(2, 0, 0);
/// let mut bytes = [0; 32];
/// ringway_proto::stream::frame(&header, &mut bytes).expect("room").copy_from_slice(b"hi");
/// assert_eq!(server.handle_bytes(&config, &bytes, now)?, Input::Message(header));
/// # Ok::<(), ringway_proto::Violation>(())
/// ```
#[derive(Debug)]
pub struct Stream {
    /// Messages may be delivered: the state receives and nothing is being skipped. What the hot path asks.
    ready: bool,
    role: Role,
    state: State,
    pending: Pending,
    events: Events,
    /// Messages since the last control frame; each earns one token of `controls`.
    messages: u32,
    /// Bytes of a pad or ignorable frame that are still to be skipped.
    skip: usize,
    times: Times,
    pings: Bucket,
    controls: Bucket,
    offer: Offer,
    peer: Peer,
}

const _: () = assert!(size_of::<Stream>() <= 256);

/// Events that wait to be polled; each can wait only once, so there is no queue.
#[derive(Clone, Copy, Debug, Default)]
struct Events {
    opened: bool,
    draining: bool,
    drained: bool,
    closed: bool,
}

impl Stream {
    /// A machine for a connection that was just made. `seed` should be random: the peer sees a number made
    /// of it. `config` must be [valid](StreamConfig::validate).
    #[must_use]
    pub fn new(config: &StreamConfig, role: Role, seed: u64, now: Instant) -> Self {
        let pending = match role {
            Role::Client => Pending::client(seed),
            Role::Server => Pending::server(seed),
        };
        Self {
            ready: false,
            role,
            state: State::Hello {
                local: Half::Active,
            },
            pending,
            events: Events::default(),
            messages: 0,
            skip: 0,
            times: Times::new(now),
            pings: Bucket::default(),
            controls: Bucket::default(),
            offer: Offer::new(config, seed),
            peer: Peer::default(),
        }
    }

    /// The peer's end of stream was seen; `leftover` bytes had been received and not consumed.
    ///
    /// Whatever is pending is dropped: who has ended its side reads no answer that this machine knows of.
    pub fn handle_end(&mut self, leftover: usize, _now: Instant) -> Ending {
        let was_closed = matches!(self.state, State::Closed | State::PeerClosed { .. });
        let truncated = !was_closed && (leftover > 0 || self.skip > 0);
        let (state, announced) = self.state.on_end();
        self.enter(state);
        self.pending.clear();
        match (truncated, announced) {
            (true, _) => Ending::Truncated { leftover },
            (false, true) => Ending::Clean,
            (false, false) => Ending::Abrupt,
        }
    }

    /// Acts on the deadline that has passed, if any has. On `Some` the machine has closed itself: send what
    /// [`poll_transmit`](Self::poll_transmit) has, then close the socket.
    ///
    /// May queue a ping, so ask [`wants_transmit`](Self::wants_transmit) afterwards. After the call
    /// [`poll_timeout`](Self::poll_timeout) lies in the future.
    pub fn handle_timeout(&mut self, config: &StreamConfig, now: Instant) -> Option<Timeout> {
        // A ping may be due and, behind it, one thing that has expired: a third round has nothing to find.
        for _ in 0..2 {
            let Some((deadline, due)) = self.next(config) else {
                break;
            };
            if deadline > now {
                break;
            }
            match due {
                Due::Ping => {
                    self.times.on_ping(now);
                    self.pending.ping();
                }
                Due::Expired(timeout) => {
                    self.close(timeout.code());
                    return Some(timeout);
                }
            }
        }
        None
    }

    /// Bytes were received: call it once per batch. One store.
    ///
    /// Call it also while reading is paused by this end, or a peer that is not being listened to counts as
    /// silent.
    #[inline]
    pub fn heard(&mut self, now: Instant) {
        self.times.on_heard(now);
    }

    /// Messages were sent: call it once per batch. One store; it keeps `idle_timeout` from passing.
    #[inline]
    pub fn sent(&mut self, now: Instant) {
        self.times.on_message(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) has to be called; computed on the spot.
    ///
    /// Ask anew after `handle_timeout`, after `handle_bytes` said `Consumed`, and after `drain`. Messages,
    /// `heard` and `sent` move deadlines away, so that a caller may keep an old one over them and ask again
    /// when it has passed; only while a ping waits for its answer can that be late, by `keepalive_timeout`.
    #[must_use]
    pub fn poll_timeout(&self, config: &StreamConfig) -> Option<Instant> {
        self.next(config).map(|(deadline, _)| deadline)
    }

    /// The next event, if any waits.
    pub fn poll_event(&mut self) -> Option<StreamEvent> {
        let events = &mut self.events;
        if core::mem::take(&mut events.opened) {
            return Some(StreamEvent::Opened(self.peer));
        }
        if core::mem::take(&mut events.draining) {
            return Some(StreamEvent::Draining);
        }
        if core::mem::take(&mut events.drained) {
            return Some(StreamEvent::Drained);
        }
        if core::mem::take(&mut events.closed)
            && let State::PeerClosed { code } = self.state
        {
            return Some(StreamEvent::PeerClosed(code));
        }
        None
    }

    /// Step one of the end: asks the peer to start nothing new, and starts `drain_timeout`.
    ///
    /// Messages may still be sent. Before the handshake is done it waits for that.
    pub fn drain(&mut self, now: Instant) {
        if self.state.local() == Some(Half::Active) {
            self.pending.goaway();
        }
        if self.state.local().is_some() {
            self.times.on_drain(now);
        }
        self.enter(self.state.goaway(false));
    }

    /// Step two of the end: this end sends no message after it.
    ///
    /// What [`poll_transmit`](Self::poll_transmit) now writes must stand behind all messages.
    pub fn finish(&mut self) {
        let before = self.state;
        if before.local().is_some_and(|local| local != Half::Final) {
            self.pending.final_goaway();
        }
        self.enter(before.goaway(true));
        self.note_drained(before);
    }

    /// Ends the connection: queues CLOSE, after which nothing may be sent. The first call's code stands.
    ///
    /// Towards a peer that has not shown a good preface, or has closed itself, nothing is queued.
    pub fn close(&mut self, code: CloseCode) {
        let before = self.state;
        self.enter(before.close());
        if before.local().is_some() {
            self.pending.close(code);
        }
    }

    /// Whether messages may be sent now.
    #[inline]
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.state.sends()
    }

    /// Whether the handshake is done and neither end has closed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state.is_open()
    }

    /// Whether the peer has said that no message of it follows.
    #[must_use]
    pub fn peer_is_final(&self) -> bool {
        self.state.remote() == Some(Half::Final)
    }

    /// Longest message body that the peer receives, in bytes; 0 before the handshake is done.
    #[inline]
    #[must_use]
    pub fn peer_message_bytes_max(&self) -> u32 {
        self.peer.message_bytes_max
    }

    /// Where the connection is, for logs and counters.
    #[must_use]
    pub fn state(&self) -> StateName {
        self.state.name()
    }

    fn next(&self, config: &StreamConfig) -> Option<(Instant, Due)> {
        self.times
            .next(config, self.state, self.peer_interval_min())
    }

    fn peer_interval_min(&self) -> Duration {
        self.peer.keepalive_interval_min()
    }

    /// The only place where the state changes.
    fn enter(&mut self, state: State) {
        self.state = state;
        self.ready = state.receives() && self.skip == 0;
    }

    /// Notes the moment in which both ends have become final.
    fn note_drained(&mut self, before: State) {
        let drained = |state: State| state.name() == StateName::Drained;
        self.events.drained |= drained(self.state) && !drained(before);
    }
}
