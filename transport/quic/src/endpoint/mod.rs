//! The machine behind one UDP socket: quinn-proto's endpoint and its connections, driven by hand.
//!
//! quinn-proto knows an endpoint, which routes datagrams, and connections, which do everything else; they talk to each
//! other through events that their owner carries. This module is that owner:
//!
//! ```text
//!   handle_datagrams -> Endpoint::handle -> Connection::handle_event  ┐
//!   handle_timeout   -> Connection::handle_timeout                    ├-> settle: carry events, move messages, re-arm
//!   send, close, …   -> Session                                       ┘
//!   poll_event       -> what waits, then messages, read one by one
//!   poll_transmit    -> Connection::poll_transmit of those that may have something, until it has not
//! ```
//!
//! Deadlines are kept in one ordered set and moved lazily: a session's entry may be early, never late.

mod accept;
mod handle;
mod transmit;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, ConnectionIdGenerator, Endpoint, EndpointConfig, EndpointEvent, ServerConfig,
};
use ring::rand::SecureRandom;
use ringway_buf::{Id, Instant, Pools, RecvBuffer, Table};
use ringway_proto::packet::{
    ConnectRefusal, Delivery, Outgoing, PacketEndpoint, PacketEvent, PacketMeta, SendRefusal,
    SessionId, TransmitSink, Ways,
};
use ringway_proto::{CloseCode, Header, Role, Stream, StreamConfig};

use self::transmit::{Held, Responses};
use crate::config::{QuicConfig, QuicConfigError};
use crate::keys::Keys;
use crate::session::{Session, Surroundings};
use crate::time::Base;
use crate::tls::TokenClock;

/// Ended sessions that still answer late packets; the oldest give way.
const LINGERING_MAX: usize = 1_024;

/// QUIC behind one UDP socket. See the [crate](crate) for what it does and `docs/wire/quic.md` for the mapping.
pub struct QuicEndpoint {
    config: QuicConfig,
    /// What the stream machines of all sessions are told.
    machine: StreamConfig,
    endpoint: Endpoint,
    client: Option<ClientConfig>,
    server_name: Option<String>,
    pools: Rc<Pools>,
    base: Base,
    /// Time of the last call that told it; for calls that do not.
    now: Instant,
    sessions: Table<Box<Session>>,
    /// Which session belongs to quinn-proto's handle of that index.
    by_handle: Vec<Option<Id>>,
    events: VecDeque<PacketEvent>,
    /// Sessions that may have something to send.
    dirty: VecDeque<Id>,
    /// Sessions that may have something to read.
    readable: VecDeque<Id>,
    /// Sessions that wait for memory, and when to look again.
    starved: Option<Instant>,
    /// Sessions that lacked memory; they are asked again then, in their order.
    hungry: VecDeque<Id>,
    deadlines: BTreeSet<(Instant, Id)>,
    /// Sessions whose `Closed` was said and that quinn-proto still knows, oldest first.
    lingering: VecDeque<Id>,
    responses: Responses,
    /// Datagrams of the last transmission, and which part of them the sink has not taken.
    scratch: Vec<u8>,
    held: Option<Held>,
    /// Sessions that the present batch of datagrams has reached.
    touched: Vec<Id>,
    /// Seeds of stream machines.
    seed: u64,
    /// Handshakes that peers have begun.
    half_open: usize,
    /// Sessions that the engine knows and whose `Closed` it has not polled.
    open: usize,
    /// Unreliable messages that were dropped because their time was over.
    expired: u64,
    refusing: bool,
}

impl std::fmt::Debug for QuicEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicEndpoint")
            .field("sessions", &self.open)
            .field("half_open", &self.half_open)
            .field("accepts", &self.config.tls.accepts())
            .finish_non_exhaustive()
    }
}

impl QuicEndpoint {
    /// An endpoint with fresh random secrets.
    ///
    /// # Errors
    /// [`QuicConfigError`] names the field that is wrong; [`QuicConfigError::NoRandomness`] when the system has no
    /// random numbers.
    pub fn new(config: QuicConfig, pools: Rc<Pools>) -> Result<Self, QuicConfigError> {
        let mut seed = [0; 32];
        let random = ring::rand::SystemRandom::new();
        if random.fill(&mut seed).is_err() {
            return Err(QuicConfigError::NoRandomness);
        }
        Self::with_seed(config, pools, seed)
    }

    /// An endpoint whose secrets and choices all come from `seed`: for tests and simulated runs.
    ///
    /// Who knows the seed can forge address proofs and reset sessions. Keys of TLS are random all the same, so that
    /// bytes differ from run to run while lengths, times and order do not (with certificates whose signatures have
    /// one length, as those of Ed25519).
    ///
    /// # Errors
    /// [`QuicConfigError`] names the field that is wrong.
    pub fn with_seed(
        config: QuicConfig,
        pools: Rc<Pools>,
        seed: [u8; 32],
    ) -> Result<Self, QuicConfigError> {
        config.validate()?;
        let keys = Keys::new(&seed);
        let server = server_config(&config, &keys)?;
        let client = client_config(&config, &keys)?;
        let mut settings = EndpointConfig::new(keys.reset());
        let ids = keys.ids(config.shard);
        settings
            .cid_generator(move || Box::new(ids.clone()))
            .rng_seed(Some(keys.endpoint_seed()));
        if settings
            .max_udp_payload_size(config.payload_bytes_max)
            .is_err()
        {
            // Cannot be: `validate` keeps the narrower range.
            return Err(QuicConfigError::Tls);
        }
        let table_max = config
            .sessions_max
            .saturating_add(config.handshakes_max)
            .saturating_add(LINGERING_MAX)
            .saturating_add(1);
        let [a, b, c, d, e, f, g, h, ..] = keys.endpoint_seed();
        Ok(Self {
            machine: config.machine(),
            endpoint: Endpoint::new(Arc::new(settings), server, true, None),
            client,
            server_name: server_name(&config),
            pools,
            base: Base::new(),
            now: Instant::ZERO,
            sessions: Table::new(table_max),
            by_handle: Vec::new(),
            events: VecDeque::new(),
            dirty: VecDeque::new(),
            readable: VecDeque::new(),
            starved: None,
            hungry: VecDeque::new(),
            deadlines: BTreeSet::new(),
            lingering: VecDeque::new(),
            responses: Responses::default(),
            scratch: Vec::new(),
            held: None,
            touched: Vec::new(),
            seed: u64::from_le_bytes([a, b, c, d, e, f, g, h]).rotate_left(17),
            half_open: 0,
            open: 0,
            expired: 0,
            refusing: false,
            config,
        })
    }

    /// The peer's present address: it may have moved since the session was opened.
    #[must_use]
    pub fn peer_address(&self, session: SessionId) -> Option<SocketAddr> {
        self.sessions
            .get(session.0)
            .map(|found| found.peer_address())
    }

    /// Handshakes that peers have begun and not ended.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.half_open
    }

    /// Sessions that have ended and are kept to answer late packets.
    #[must_use]
    pub fn lingering(&self) -> usize {
        self.lingering.len()
    }

    /// What is known of a session's path.
    #[must_use]
    pub fn path(&self, session: SessionId) -> Option<PathStats> {
        let session = self.sessions.get(session.0)?;
        let stats = session.conn.stats();
        Some(PathStats {
            rtt: session.conn.rtt(),
            payload_bytes_max: stats.path.current_mtu,
            window_bytes: stats.path.cwnd,
            packets_sent: stats.path.sent_packets,
            packets_lost: stats.path.lost_packets,
            congestion_events: stats.path.congestion_events,
            black_holes: stats.path.black_holes_detected,
        })
    }

    fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.seed
    }

    /// Takes a connection in. `None`: no room, which the callers have made sure of.
    fn insert(
        &mut self,
        made: (quinn_proto::ConnectionHandle, quinn_proto::Connection),
        role: Role,
        window: Option<ringway_buf::Charge>,
    ) -> Option<Id> {
        let seed = self.next_seed();
        let machine = Stream::new(&self.machine, role, seed, self.now);
        let index = made.0.0;
        // The table gives the id only with the entry in place, so the id is filled in afterwards.
        let unknown = SessionId(Id::from_parts(u32::MAX, 0));
        let limits = (self.config.lanes_bytes_max(), self.config.patience());
        let session = Box::new(Session::new(unknown, made, machine, role, window, limits));
        let id = self.sessions.insert(session).ok()?;
        if let Some(session) = self.sessions.get_mut(id) {
            session.id = SessionId(id);
        }
        if self.by_handle.len() <= index {
            self.by_handle.resize(index.saturating_add(1), None);
        }
        if let Some(slot) = self.by_handle.get_mut(index) {
            *slot = Some(id);
        }
        Some(id)
    }

    /// Calls `act` with the session and what it needs, if it exists, and settles it.
    fn with<T>(
        &mut self,
        id: Id,
        act: impl FnOnce(&mut Session, &mut Surroundings<'_>) -> T,
    ) -> Option<T> {
        let session = self.sessions.get_mut(id)?;
        let mut around = Surroundings {
            machine: &self.machine,
            pools: &self.pools,
            events: &mut self.events,
            base: self.base,
            now: self.now,
        };
        let outcome = act(session, &mut around);
        self.settle(id);
        Some(outcome)
    }

    /// Carries what the session's connection has to say to where it belongs, and puts the session on the lists on
    /// which it now stands.
    fn settle(&mut self, id: Id) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let mut around = Surroundings {
            machine: &self.machine,
            pools: &self.pools,
            events: &mut self.events,
            base: self.base,
            now: self.now,
        };
        session.work(&mut around);
        self.expired = self
            .expired
            .saturating_add(std::mem::take(&mut session.expired));
        while let Some(event) = session.conn.poll_endpoint_events() {
            let drained = event.is_drained();
            if !session.drained
                && let Some(answer) = self.endpoint.handle_event(session.handle, event)
            {
                session.conn.handle_event(answer);
            }
            if drained && !session.drained {
                session.drained = true;
                if let Some(slot) = self.by_handle.get_mut(session.handle.0) {
                    *slot = None;
                }
            }
        }
        if session.known && !session.counted {
            session.counted = true;
            self.open = self.open.saturating_add(1);
        }
        if session.half_open && !session.is_handshaking() {
            session.half_open = false;
            self.half_open = self.half_open.saturating_sub(1);
        }
        if session.wants_reading() && !session.listed_readable {
            session.listed_readable = true;
            self.readable.push_back(id);
        }
        session.settled = true;
        self.mark_dirty(id);
    }

    /// The session may have something to send. Its deadline is looked up when it has been asked.
    fn mark_dirty(&mut self, id: Id) {
        if let Some(session) = self.sessions.get_mut(id)
            && !std::mem::replace(&mut session.listed_dirty, true)
        {
            self.dirty.push_back(id);
        }
    }

    /// Puts the session's next deadline on the list, unless an earlier one stands there.
    fn arm(&mut self, id: Id) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(next) = session.next_timeout(&self.machine, self.base) else {
            return;
        };
        match session.armed {
            Some(armed) if armed <= next => {}
            earlier => {
                if let Some(armed) = earlier {
                    self.deadlines.remove(&(armed, id));
                }
                session.armed = Some(next);
                self.deadlines.insert((next, id));
            }
        }
    }

    /// Says `Closed` when nothing stands before it, and forgets sessions that are done with.
    fn conclude(&mut self, id: Id) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        // The last word to the peer leaves first.
        if session.may_conclude() && !session.listed_dirty {
            let mut around = Surroundings {
                machine: &self.machine,
                pools: &self.pools,
                events: &mut self.events,
                base: self.base,
                now: self.now,
            };
            session.conclude(&mut around);
            self.lingering.push_back(id);
            if self.lingering.len() > LINGERING_MAX
                && let Some(oldest) = self.lingering.pop_front()
            {
                self.forget(oldest);
            }
        }
        if let Some(session) = self.sessions.get(id)
            && session.is_gone()
            && session.drained
        {
            self.forget(id);
        }
    }

    /// Drops a session that has ended.
    fn forget(&mut self, id: Id) {
        let Some(session) = self.sessions.remove(id) else {
            return;
        };
        if let Some(armed) = session.armed {
            self.deadlines.remove(&(armed, id));
        }
        if !session.drained {
            self.endpoint
                .handle_event(session.handle, EndpointEvent::drained());
            if let Some(slot) = self.by_handle.get_mut(session.handle.0) {
                *slot = None;
            }
        }
        self.lingering.retain(|other| *other != id);
    }
}

/// What is known of a session's path to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathStats {
    /// Smoothed round trip time.
    pub rtt: Duration,
    /// Largest payload of a datagram that the path is known to carry, in bytes.
    pub payload_bytes_max: u16,
    /// Congestion window in bytes.
    pub window_bytes: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets that are taken for lost.
    pub packets_lost: u64,
    /// How often the congestion window was cut.
    pub congestion_events: u64,
    /// How often large packets were found to vanish.
    pub black_holes: u64,
}

fn server_name(config: &QuicConfig) -> Option<String> {
    let name = config.tls.server_name()?;
    Some(name.to_str().into_owned())
}

fn server_config(
    config: &QuicConfig,
    keys: &Keys,
) -> Result<Option<Arc<ServerConfig>>, QuicConfigError> {
    let Some(tls) = config.tls.server() else {
        return Ok(None);
    };
    let clock = Arc::clone(&tls.time_provider);
    let Ok(crypto) = QuicServerConfig::try_from(Arc::clone(tls)) else {
        return Err(QuicConfigError::Tls);
    };
    let mut server = ServerConfig::new(Arc::new(crypto), keys.token());
    server
        .transport_config(config.transport(true))
        .migration(config.migration)
        // Handshakes are accepted or refused in the call that brings them.
        .max_incoming(1)
        .time_source(Arc::new(TokenClock(clock)));
    Ok(Some(Arc::new(server)))
}

fn client_config(
    config: &QuicConfig,
    keys: &Keys,
) -> Result<Option<ClientConfig>, QuicConfigError> {
    let Some(tls) = config.tls.client() else {
        return Ok(None);
    };
    let Ok(crypto) = QuicClientConfig::try_from(Arc::clone(tls)) else {
        return Err(QuicConfigError::Tls);
    };
    let mut client = ClientConfig::new(Arc::new(crypto));
    let first_ids = std::sync::Mutex::new(keys.first_ids());
    client
        .transport_config(config.transport(false))
        .initial_dst_cid_provider(Arc::new(move || {
            // A panic cannot leave a counter half changed, so the lock's poison means nothing.
            let ids = first_ids.lock();
            ids.unwrap_or_else(std::sync::PoisonError::into_inner)
                .generate_cid()
        }))
        // Tokens for later connections would be a memory of their own; a Retry costs one round trip.
        .token_store(Arc::new(quinn_proto::NoneTokenStore));
    Ok(Some(client))
}

impl PacketEndpoint for QuicEndpoint {
    fn connect(&mut self, peer: SocketAddr, now: Instant) -> Result<SessionId, ConnectRefusal> {
        self.now = now;
        let client = self.client.clone().ok_or(ConnectRefusal::NotConfigured)?;
        let max = self.config.sessions_max;
        if self.open >= max || self.sessions.is_full() {
            return Err(ConnectRefusal::TooMany { max });
        }
        let window = self
            .pools
            .budget()
            .charge(self.config.window_bytes as usize);
        let window = window.ok_or(ConnectRefusal::NoMemory)?;
        let address = peer.ip().to_string();
        let name = self.server_name.as_deref().unwrap_or(&address);
        let begun = self
            .endpoint
            .connect(self.base.foreign(now), client, peer, name);
        // What is wrong with a name was found by `TlsConfig`; port 0 is left.
        let Ok(made) = begun else {
            return Err(ConnectRefusal::NotConfigured);
        };
        let id = self
            .insert(made, Role::Client, Some(window))
            .ok_or(ConnectRefusal::TooMany { max })?;
        self.settle(id);
        Ok(SessionId(id))
    }

    fn handle_datagrams(&mut self, meta: &PacketMeta, bytes: &[u8], now: Instant) {
        self.now = now;
        self.take_datagrams(meta, bytes);
    }

    /// Nothing to do: a probe that did not leave counts as lost, and a path that got narrower is found by losses.
    fn handle_too_long(&mut self, _peer: Option<SocketAddr>, _bytes_max: usize, _now: Instant) {}

    fn handle_unreachable(&mut self, peer: Option<SocketAddr>, now: Instant) {
        self.now = now;
        let unheard = self.sessions.iter().filter(|(_, session)| {
            session.is_unheard() && peer.is_none_or(|peer| peer == session.peer_address())
        });
        let unheard: Vec<Id> = unheard.map(|(id, _)| id).collect();
        for id in unheard {
            self.with(id, |session, around| session.unreachable(around));
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.take_deadlines();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if !self.events.is_empty() || !self.readable.is_empty() {
            return Some(self.now);
        }
        let first = self.deadlines.first().map(|(at, _)| *at);
        match (first, self.starved) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn poll_event(&mut self) -> Option<PacketEvent> {
        let event = self.next_event();
        if matches!(event, Some(PacketEvent::Closed { .. })) {
            self.open = self.open.saturating_sub(1);
        }
        event
    }

    fn wants_transmit(&self) -> bool {
        self.held.is_some() || !self.responses.is_empty() || !self.dirty.is_empty()
    }

    fn poll_transmit(&mut self, sink: &mut dyn TransmitSink, now: Instant) -> bool {
        self.now = now;
        self.transmit(sink)
    }

    fn message_bytes_max(&self, session: SessionId) -> Result<usize, SendRefusal> {
        let session = self.sessions.get(session.0).ok_or(SendRefusal::Closed)?;
        session.ordered_bytes_max()
    }

    fn send(
        &mut self,
        session: SessionId,
        message: Outgoing,
        now: Instant,
    ) -> Result<(), (Outgoing, SendRefusal)> {
        self.now = now;
        let Some(found) = self.sessions.get_mut(session.0) else {
            return Err((message, SendRefusal::Closed));
        };
        found.send(message, now)?;
        // Settled once, when it is sent: a turn's messages make one batch.
        found.settled = false;
        self.mark_dirty(session.0);
        Ok(())
    }

    fn ways(&mut self, session: SessionId) -> Ways {
        let session = self.sessions.get_mut(session.0);
        session.map_or(Ways::ONE, |session| session.ways())
    }

    fn drop_lane(&mut self, session: SessionId, lane: u32, now: Instant) {
        self.now = now;
        self.with(session.0, |session, _| session.drop_lane(lane));
    }

    fn expired(&self) -> u64 {
        self.expired
    }

    fn put_back(&mut self, session: SessionId, header: Header, body: RecvBuffer) {
        self.with(session.0, |session, _| session.put_back(header, body));
    }

    fn pause(&mut self, session: SessionId, paused: bool, now: Instant) {
        self.now = now;
        self.with(session.0, |session, _| session.pause(paused));
    }

    fn drain(&mut self, session: SessionId, now: Instant) {
        self.now = now;
        self.with(session.0, |session, around| session.drain(around.now));
    }

    fn finish(&mut self, session: SessionId, now: Instant) {
        self.now = now;
        self.with(session.0, |session, _| session.finish());
    }

    fn close(&mut self, session: SessionId, code: CloseCode, now: Instant) {
        self.now = now;
        self.with(session.0, |session, around| session.close(code, around));
    }

    fn abort(&mut self, session: SessionId, now: Instant) {
        self.now = now;
        self.with(session.0, |session, around| session.abort(around));
    }

    fn refuse_new(&mut self, refuse: bool) {
        self.refusing = refuse;
    }

    fn sessions(&self) -> usize {
        self.open
    }
}

impl QuicEndpoint {
    /// The longest body that may be sent now this way, in bytes.
    ///
    /// # Errors
    /// [`SendRefusal`] when none may.
    pub fn bytes_max(
        &mut self,
        session: SessionId,
        delivery: Delivery,
    ) -> Result<usize, SendRefusal> {
        let session = self
            .sessions
            .get_mut(session.0)
            .ok_or(SendRefusal::Closed)?;
        session.message_bytes_max(delivery)
    }
}
