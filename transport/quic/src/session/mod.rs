//! One QUIC connection as a session of messages.
//!
//! ```text
//!   Ordered     -> the client's first bidirectional stream, in the stream format (docs/wire/stream.md)
//!   Unordered   -> a unidirectional stream of its own: 16 bytes of header, the body, end of stream
//!   Lane        -> a unidirectional stream as long as the lane, if one is to be had; else as if it were ordered
//!   Unreliable  -> a QUIC datagram: 16 bytes of header, the body
//! ```
//!
//! Hello, the announcements of the end and their order are those of every other transport, because the same
//! [`Stream`] machine speaks on the ordered stream. Keys, loss, congestion, keepalive and the last word are QUIC's.
//! The rules stand in `docs/wire/quic.md`.

mod body;
mod end;
mod hearing;
mod lanes;
mod line;
mod recv;
mod send;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quinn_proto::{Connection, ConnectionHandle, Dir, Event, StreamEvent, StreamId, VarInt};
use ringway_buf::{Charge, Instant, Pools, RecvBuffer};
use ringway_proto::packet::{Delivery, Fault, PacketEvent, SendRefusal, SessionEnd, SessionId};
use ringway_proto::{CloseCode, Header, Role, Stream, StreamConfig, StreamEvent as MachineEvent};

use self::hearing::{Hearing, Look};
use self::recv::Inbox;
use self::send::Outbox;
use crate::congestion::acked_bytes;
use crate::time::Base;
use crate::tracked::Ledger;

pub(crate) use self::end::ABORT;
pub(crate) use self::hearing::Patience;
pub(crate) use self::recv::Read;

/// What a session needs of its endpoint while it works.
pub(crate) struct Surroundings<'a> {
    pub(crate) machine: &'a StreamConfig,
    pub(crate) pools: &'a Pools,
    pub(crate) events: &'a mut VecDeque<PacketEvent>,
    pub(crate) base: Base,
    pub(crate) now: Instant,
}

/// How far a session's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Keys or hellos are still to come.
    Handshake,
    /// Messages may pass.
    Open,
    /// This end closes with this code as soon as the peer has everything.
    Flushing(CloseCode),
    /// It is over; `Closed` follows when what arrived before is delivered.
    Over(SessionEnd),
    /// `Closed` was said. quinn-proto still answers late packets for some round trips.
    Gone,
}

/// One connection.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) handle: ConnectionHandle,
    pub(crate) conn: Connection,
    machine: Stream,
    stage: Stage,
    /// The engine has heard of it: it asked for it, or `Accepted` was said.
    pub(crate) known: bool,
    /// The endpoint counts it among its sessions.
    pub(crate) counted: bool,
    client: bool,
    /// The stream of ordered messages.
    main: Option<StreamId>,
    inbox: Inbox,
    outbox: Outbox,
    ledger: Arc<Ledger>,
    /// What the lanes may have under way together, in bytes.
    lanes_bytes_max: u64,
    hearing: Hearing,
    /// Bytes of bodies that were taken for sending, since the start.
    accepted_bytes: u64,
    /// Bytes of bodies that `Sent` has told of.
    told_bytes: u64,
    /// Unreliable messages that were dropped because their time was over, as far as the endpoint has not counted them.
    pub(crate) expired: u64,
    /// What the ledger said when the session ended.
    freed_at_end: Option<u64>,
    paused: bool,
    /// No message is taken any more; the final announcement follows when the others have arrived.
    finishing: bool,
    /// When flushing gives up.
    flush_deadline: Instant,
    /// The time at which it stands in the endpoint's list of deadlines.
    pub(crate) armed: Option<Instant>,
    /// It stands in the endpoint's list of those that may have something to send.
    pub(crate) listed_dirty: bool,
    /// Nothing has happened to it since the endpoint settled it.
    pub(crate) settled: bool,
    /// It stands in the endpoint's list of those that may have something to read.
    pub(crate) listed_readable: bool,
    /// It counts as a handshake that a peer has begun.
    pub(crate) half_open: bool,
    /// quinn-proto's endpoint has forgotten it; `handle` may name another connection.
    pub(crate) drained: bool,
    /// The window's share of the budget, until nothing is received any more.
    window: Option<Charge>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("stage", &self.stage)
            .field("peer", &self.conn.remote_address())
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(
        id: SessionId,
        (handle, conn): (ConnectionHandle, Connection),
        machine: Stream,
        role: Role,
        window: Option<Charge>,
        (lanes_bytes_max, patience): (u64, Option<Patience>),
    ) -> Self {
        let client = role == Role::Client;
        Self {
            id,
            handle,
            conn,
            machine,
            stage: Stage::Handshake,
            known: client,
            counted: false,
            client,
            main: None,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            ledger: Arc::new(Ledger::default()),
            lanes_bytes_max,
            hearing: Hearing::new(patience),
            accepted_bytes: 0,
            told_bytes: 0,
            expired: 0,
            freed_at_end: None,
            paused: false,
            finishing: false,
            flush_deadline: Instant::MAX,
            armed: None,
            listed_dirty: false,
            settled: false,
            listed_readable: false,
            half_open: !client,
            drained: false,
            window,
        }
    }

    /// The peer's address, which may change while the session lives.
    pub(crate) fn peer_address(&self) -> SocketAddr {
        self.conn.remote_address()
    }

    /// Whether keys or hellos are still to come.
    pub(crate) fn is_handshaking(&self) -> bool {
        matches!(self.stage, Stage::Handshake)
    }

    /// Whether `Closed` was said, or never has to be.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.stage, Stage::Gone)
    }

    /// Whether reading may give something.
    pub(crate) fn wants_reading(&self) -> bool {
        let allowed = match self.stage {
            Stage::Handshake => self.main.is_some(),
            Stage::Open | Stage::Over(_) => !self.paused,
            Stage::Flushing(_) | Stage::Gone => false,
        };
        allowed && self.inbox.has_news()
    }

    /// Whether the end may be told: all that came before it was delivered.
    pub(crate) fn may_conclude(&self) -> bool {
        self.is_over() && !self.inbox.has_news()
    }

    /// Whether the connection has ended and only `Closed` is still to be told.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over(_))
    }

    /// When the session wants [`handle_timeout`](Self::handle_timeout).
    pub(crate) fn next_timeout(&mut self, config: &StreamConfig, base: Base) -> Option<Instant> {
        let quic = self.conn.poll_timeout().map(|at| base.ours(at));
        let machine = match self.stage {
            Stage::Handshake => self.machine.poll_timeout(config),
            Stage::Open => earlier(self.machine.poll_timeout(config), self.hearing.next()),
            Stage::Flushing(_) => Some(self.flush_deadline),
            Stage::Over(_) | Stage::Gone => None,
        };
        earlier(quic, machine)
    }

    pub(crate) fn handle_timeout(&mut self, around: &Surroundings<'_>) {
        self.conn.handle_timeout(around.base.foreign(around.now));
        match self.stage {
            Stage::Handshake | Stage::Open => {
                if let Some(timeout) = self.machine.handle_timeout(around.machine, around.now) {
                    self.shut(SessionEnd::Expired(timeout), timeout.code(), around);
                }
                self.listen(around);
            }
            Stage::Flushing(_) if self.flush_deadline <= around.now => {
                let timeout = ringway_proto::Timeout::Drain;
                self.shut(SessionEnd::Expired(timeout), timeout.code(), around);
            }
            _ => {}
        }
    }

    /// Looks whether the peer acknowledges, if that is due.
    fn listen(&mut self, around: &Surroundings<'_>) {
        if self.stage != Stage::Open || self.hearing.next().is_none_or(|at| at > around.now) {
            return;
        }
        let acked = acked_bytes(&self.conn);
        let heard = self.conn.stats().udp_rx.datagrams;
        match self.hearing.look(acked, heard, around.now) {
            Look::Fine => {}
            Look::Ask => self.conn.ping(),
            Look::Deaf => {
                let timeout = ringway_proto::Timeout::Keepalive;
                self.shut(SessionEnd::Expired(timeout), timeout.code(), around);
            }
        }
    }

    /// Takes what quinn-proto has to say, moves messages down, and tells what is done.
    pub(crate) fn work(&mut self, around: &mut Surroundings<'_>) {
        while let Some(event) = self.conn.poll() {
            self.on_event(event, around);
        }
        self.pump(around);
        if let Stage::Flushing(code) = self.stage
            && self.ledger.is_clear()
            && self.is_flushed()
        {
            self.shut(SessionEnd::Local(code), code, around);
        }
        self.tell_sent(around);
    }

    fn on_event(&mut self, event: Event, around: &Surroundings<'_>) {
        match event {
            Event::Connected => {
                self.machine.heard(around.now);
                if self.client {
                    self.main = self.conn.streams().open(Dir::Bi);
                }
            }
            Event::ConnectionLost { reason } => self.lose(&reason),
            Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                let opened = self.conn.streams().accept(Dir::Bi);
                self.main = self.main.or(opened);
                // A fresh stream brings its first bytes without a word.
                self.inbox.main_readable();
            }
            Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                while let Some(stream) = self.conn.streams().accept(Dir::Uni) {
                    self.inbox.open(stream);
                }
            }
            Event::Stream(StreamEvent::Readable { id }) => self.inbox.readable(id),
            Event::Stream(StreamEvent::Stopped { .. }) => {
                self.violate(
                    Fault::Malformed {
                        frame: STOP_SENDING,
                    },
                    CloseCode::Malformed,
                    around,
                );
            }
            Event::DatagramReceived => self.inbox.datagrams = true,
            // Whoever is blocked tries again at each `pump`.
            Event::HandshakeDataReady
            | Event::DatagramsUnblocked
            | Event::Stream(
                StreamEvent::Writable { .. }
                | StreamEvent::Available { .. }
                | StreamEvent::Finished { .. },
            ) => {}
        }
    }

    /// What the stream machine has to say.
    fn machine_events(&mut self, around: &mut Surroundings<'_>) {
        let session = self.id;
        while let Some(event) = self.machine.poll_event() {
            match event {
                MachineEvent::Opened(peer) => {
                    self.stage = Stage::Open;
                    self.hearing.begin(around.now);
                    if !self.known {
                        self.known = true;
                        let address = self.conn.remote_address();
                        around
                            .events
                            .push_back(PacketEvent::Accepted { session, address });
                    }
                    around
                        .events
                        .push_back(PacketEvent::Opened { session, peer });
                }
                MachineEvent::Draining => {
                    around.events.push_back(PacketEvent::Draining { session })
                }
                MachineEvent::Drained => around.events.push_back(PacketEvent::Drained { session }),
                MachineEvent::PeerClosed(code) => {
                    self.shut(SessionEnd::Peer(code), CloseCode::Normal, around);
                }
            }
        }
    }

    /// Keeps a message that the engine could not use yet.
    pub(crate) fn put_back(&mut self, header: Header, body: RecvBuffer) {
        if matches!(self.stage, Stage::Open | Stage::Over(_)) {
            self.inbox.put_back(header, body);
        }
    }

    /// Stops or goes on delivering.
    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(crate) fn drain(&mut self, now: Instant) {
        self.machine.drain(now);
    }

    pub(crate) fn finish(&mut self) {
        self.finishing = true;
    }

    /// Ends the session after what was accepted.
    pub(crate) fn close(&mut self, code: CloseCode, around: &Surroundings<'_>) {
        match self.stage {
            Stage::Handshake => self.shut(SessionEnd::Local(code), code, around),
            Stage::Open => {
                self.stage = Stage::Flushing(code);
                self.flush_deadline = around.now + around.machine.drain_timeout;
                self.inbox = Inbox::default();
            }
            // What is left unread is not wanted any more.
            Stage::Over(_) => self.paused = false,
            Stage::Flushing(_) | Stage::Gone => {}
        }
    }

    /// Ends the session at once.
    pub(crate) fn abort(&mut self, around: &Surroundings<'_>) {
        match self.stage {
            Stage::Gone => {}
            Stage::Over(_) => self.paused = false,
            Stage::Handshake | Stage::Open | Stage::Flushing(_) => {
                let now = around.base.foreign(around.now);
                self.conn.close(now, VarInt::from_u32(ABORT), Bytes::new());
                self.over(SessionEnd::Local(CloseCode::Normal));
                self.inbox = Inbox::default();
            }
        }
    }

    /// Whether this end connects and no packet of the peer was taken yet.
    pub(crate) fn is_unheard(&self) -> bool {
        self.client && self.is_handshaking() && self.conn.stats().udp_rx.datagrams == 0
    }

    /// The network says that nobody is there.
    pub(crate) fn unreachable(&mut self, around: &Surroundings<'_>) {
        self.shut(SessionEnd::Unreachable, CloseCode::Normal, around);
    }

    /// Ends the session with a last word to the peer.
    fn shut(&mut self, end: SessionEnd, code: CloseCode, around: &Surroundings<'_>) {
        let now = around.base.foreign(around.now);
        let code = VarInt::from_u32(code.to_wire().into());
        self.conn.close(now, code, Bytes::new());
        self.over(end);
        if !matches!(end, SessionEnd::Peer(_)) {
            self.inbox = Inbox::default();
        }
    }

    fn violate(&mut self, fault: Fault, code: CloseCode, around: &Surroundings<'_>) {
        self.shut(SessionEnd::Violation(fault), code, around);
    }

    fn over(&mut self, end: SessionEnd) {
        if !matches!(self.stage, Stage::Over(_) | Stage::Gone) {
            self.stage = Stage::Over(end);
            self.freed_at_end = Some(self.ledger.freed());
            self.outbox.clear();
        }
    }

    /// Says `Closed`, if the session is over and everything before it was delivered. True when it is gone.
    pub(crate) fn conclude(&mut self, around: &mut Surroundings<'_>) -> bool {
        let Stage::Over(end) = self.stage else {
            return self.stage == Stage::Gone;
        };
        self.tell_sent(around);
        self.stage = Stage::Gone;
        self.let_go();
        if self.known {
            let session = self.id;
            let unsent_bytes = self.accepted_bytes.saturating_sub(self.told_bytes);
            around.events.push_back(PacketEvent::Closed {
                session,
                end,
                unsent_bytes,
            });
        }
        true
    }

    /// Tells what the peer has. What is thrown away after the end does not count.
    fn tell_sent(&mut self, around: &mut Surroundings<'_>) {
        let freed = self.freed_at_end.unwrap_or_else(|| self.ledger.freed());
        let fresh = freed.saturating_sub(self.told_bytes);
        if fresh > 0 && self.known && !self.is_gone() {
            self.told_bytes = freed;
            let bytes = usize::try_from(fresh).unwrap_or(usize::MAX);
            let session = self.id;
            around
                .events
                .push_back(PacketEvent::Sent { session, bytes });
        }
    }

    /// The longest body that may be sent now in order.
    pub(crate) fn ordered_bytes_max(&self) -> Result<usize, SendRefusal> {
        match self.stage {
            Stage::Handshake => Err(SendRefusal::NotOpen),
            Stage::Open if !self.finishing => Ok(self.machine.peer_message_bytes_max() as usize),
            _ => Err(SendRefusal::Closed),
        }
    }

    /// The longest body that may be sent now this way.
    pub(crate) fn message_bytes_max(&mut self, delivery: Delivery) -> Result<usize, SendRefusal> {
        let most = self.ordered_bytes_max()?;
        Ok(match delivery {
            Delivery::Ordered | Delivery::Unordered | Delivery::Lane { .. } => most,
            Delivery::Unreliable { .. } => self.unreliable_bytes_max().min(most),
        })
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Number of the frame by which a peer refuses a stream.
const STOP_SENDING: u64 = 5;
/// Kind of the frame that begins a lane; its word counts the ordered messages that come before it.
const LANE: u8 = 5;
/// Code of the reset of a stream whose lane was dropped.
const LANE_DROPPED: u32 = 1;
