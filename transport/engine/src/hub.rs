//! The hub: all state of an engine that does not depend on its driver.
//!
//! The turn loop, the sink and the user's [`Context`](crate::Context) all work on it. What needs the driver is
//! written down as an [`Action`] and done at the end of the turn, so that a handler never re-enters a driver.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringway_buf::{Instant, Table};
use ringway_driver::{
    AcceptFault, Address, CloseCause, DriverStats, Incoming, ListenOptions, SharedPools, SocketId,
    SocketOptions,
};
use ringway_driver::{Close, Driver, Park};
use ringway_proto::{CloseCode, Role, Stream, StreamConfig, Timeout};

use crate::config::{Limits, Times};
use crate::connection::{Carrier, Connection, Filtered, Phase};
use crate::counters::{Cells, Counter};
use crate::event::{BufferCap, Event, Events};
use crate::listener::Listener;
use crate::packet::{Endpoint, EndpointId};
use crate::remote::Shared;
use crate::sockets::{Owner, Sockets};
use crate::stage::{FilterFactory, Stage};
use crate::timers::{Due, Timers};
use crate::{CloseReason, Closed, ConnectionId, ListenerId};

/// Something that only the driver can do; done at the end of the turn.
#[derive(Debug)]
pub(crate) enum Action {
    Read(SocketId, bool),
    Close(SocketId, Close),
    Connect(ConnectionId, Address, Box<SocketOptions>),
}

/// A connection that was accepted and waits for its owner.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) listener: ListenerId,
    pub(crate) incoming: Incoming,
    pub(crate) peer: Option<Address>,
}

/// A callback that is owed to the handler and could not be made where its cause arose.
#[derive(Debug)]
pub(crate) enum Owed {
    Closed(ConnectionId, Option<ringway_driver::OpenError>),
    /// Bytes of a message that was dropped are free.
    Freed(ConnectionId, usize),
}

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) stream: StreamConfig,
    pub(crate) rudp: ringway_proto::rudp::RudpConfig,
    pub(crate) quic: crate::quic::Settings,
    pub(crate) times: Times,
    pub(crate) socket: SocketOptions,
}

/// How often a paused connection gives a sign of life. Below the shortest useful keepalive timeout.
const PAUSED_SIGN_INTERVAL: Duration = Duration::from_secs(5);
/// A large message has to arrive at this many bytes a second on average; slower, it counts as silence.
const LARGE_RATE_MIN: u64 = 64 * 1024;
/// Longest sleep while a connection waits for memory.
const STARVED_SLEEP_MAX: Duration = Duration::from_millis(5);

pub(crate) struct Hub {
    pub(crate) settings: Rc<Settings>,
    pub(crate) pools: SharedPools,
    pub(crate) connections: Table<Connection>,
    pub(crate) listeners: Table<Listener>,
    /// Machines of packet transports, one per socket.
    pub(crate) endpoints: Table<Endpoint>,
    /// Endpoints that are looked at before the turn ends.
    pub(crate) endpoints_dirty: Vec<EndpointId>,
    /// Memory for those that a turn looks at, empty between turns.
    pub(crate) endpoints_due: Vec<EndpointId>,
    /// Messages on their way from a batch to a machine; kept for its memory.
    pub(crate) fed: Vec<(ringway_proto::Header, ringway_buf::Slice)>,
    pub(crate) sockets: Sockets,
    pub(crate) timers: Timers,
    pub(crate) dirty: Vec<ConnectionId>,
    pub(crate) actions: Vec<Action>,
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) owed: Vec<Owed>,
    /// Connections that wait for receive memory, oldest first.
    pub(crate) starved: Vec<ConnectionId>,
    /// Budget in use when a connection last had to wait.
    starved_at: usize,
    /// Connections whose filter holds plaintext that was paused.
    pub(crate) replay: Vec<ConnectionId>,
    pub(crate) handshakes: usize,
    /// Busy turns since the counters were published.
    pub(crate) unpublished: u32,
    /// When cold memory is returned to the kernel next, if the engine sleeps then.
    pub(crate) trim_at: Instant,
    pub(crate) now: Instant,
    /// Numbers the turns: a claim is valid only in its own.
    pub(crate) turn: u64,
    /// Events of this turn that count as work.
    pub(crate) work: u32,
    pub(crate) cells: Cells,
    pub(crate) events: Events,
    pub(crate) filter: Option<FilterFactory>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stopping: bool,
    pub(crate) draining: bool,
    /// Directions, sending first, whose capped buffers were told of.
    capped: [bool; 2],
    /// Listeners that the driver was told to close and has not closed yet.
    pub(crate) listeners_closing: usize,
    seed: u64,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("connections", &self.connections.len())
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(
        settings: Settings,
        pools: SharedPools,
        events: Events,
        filter: Option<FilterFactory>,
        shared: Arc<Shared>,
        seed: u64,
    ) -> Self {
        let limits = settings.limits;
        Self {
            settings: Rc::new(settings),
            pools,
            connections: Table::new(limits.connections_max),
            listeners: Table::new(limits.listeners_max),
            endpoints: Table::new(limits.connections_max.saturating_add(limits.listeners_max)),
            endpoints_dirty: Vec::new(),
            endpoints_due: Vec::new(),
            fed: Vec::new(),
            sockets: Sockets::default(),
            timers: Timers::new(limits.timers_max),
            dirty: Vec::new(),
            actions: Vec::new(),
            arrivals: Vec::new(),
            owed: Vec::new(),
            starved: Vec::new(),
            starved_at: 0,
            replay: Vec::new(),
            handshakes: 0,
            unpublished: 0,
            trim_at: Instant::ZERO,
            now: Instant::ZERO,
            turn: 1,
            work: 0,
            cells: Cells::new(),
            events,
            filter,
            shared,
            stopping: false,
            draining: false,
            capped: [false; 2],
            listeners_closing: 0,
            seed,
        }
    }

    pub(crate) fn emit(&mut self, event: &Event<'_>) {
        self.events.emit(&mut self.cells, self.now, event);
    }

    /// Tells once when the system grants less than was asked for to a socket's buffers.
    pub(crate) fn check_buffers<D: Driver>(
        &mut self,
        driver: &D,
        socket: SocketId,
        options: &SocketOptions,
    ) {
        let asked = [
            (options.send_buffer_bytes, "net.core.wmem_max"),
            (options.recv_buffer_bytes, "net.core.rmem_max"),
        ];
        let untold = asked.iter().zip(self.capped);
        if !untold
            .into_iter()
            .any(|((asked, _), told)| asked.is_some() && !told)
        {
            return;
        }
        let Some(granted) = driver.buffer_bytes(socket) else {
            return;
        };
        for (index, ((asked, sysctl), granted)) in asked
            .into_iter()
            .zip([granted.send, granted.recv])
            .enumerate()
        {
            if let Some(asked_bytes) = asked
                && granted < asked_bytes
                && !std::mem::replace(&mut self.capped[index], true)
            {
                self.emit(&Event::BufferCapped(BufferCap {
                    asked_bytes,
                    granted_bytes: granted,
                    sysctl,
                }));
            }
        }
    }

    /// The next number of this engine's seeded sequence (SplitMix64).
    pub(crate) fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id.0)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Makes a stream connection's entry; the framing starts with its socket.
    pub(crate) fn begin(&mut self, phase: Phase, role: Role) -> Option<ConnectionId> {
        let seed = self.random();
        let stream = Stream::new(&self.settings.stream, role, seed, self.now);
        let mut connection = Connection::new(phase, role, Carrier::Stream(stream));
        if let Some(make) = &self.filter {
            let stage = Stage::new(make(role));
            connection.filter = Some(Box::new(Filtered {
                stage,
                want: 1,
                gather: None,
            }));
        }
        let id = ConnectionId(self.connections.insert(connection).ok()?);
        self.emit(&Event::Begun { connection: id });
        self.rearm(id);
        Some(id)
    }

    /// The socket of a stream is usable: the handshake begins.
    pub(crate) fn live(&mut self, id: ConnectionId) {
        let seed = self.random();
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        connection.phase = Phase::Live;
        if let Carrier::Stream(stream) = &mut connection.carrier {
            // Begun anew: the handshake's time starts with the connection, not with the wish for it.
            *stream = Stream::new(&self.settings.stream, connection.role, seed, self.now);
            connection.shaking = true;
            self.handshakes += usize::from(connection.role == Role::Server);
        }
        if let Some(socket) = connection.socket {
            self.actions.push(Action::Read(socket, true));
        }
        self.mark_dirty(id);
        self.rearm(id);
    }

    /// Puts the connection's next deadline into the heap, unless an earlier entry stands there already.
    pub(crate) fn rearm(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        if let Some(at) = connection.deadline(&self.settings.stream)
            && at < connection.armed_at
        {
            connection.armed_at = at;
            self.timers.arm(at, Due::Connection(id));
        }
    }

    /// A connection's timer is due.
    pub(crate) fn due(&mut self, id: ConnectionId, at: Instant) {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        if connection.armed_at != at {
            return;
        }
        connection.armed_at = Instant::MAX;
        match connection.phase {
            Phase::Connecting(deadline) | Phase::Closing(deadline) if deadline <= self.now => {
                if matches!(connection.phase, Phase::Connecting(_)) {
                    connection.reason.get_or_insert(CloseReason::ConnectTimeout);
                }
                if connection.is_packet() {
                    return self.abort_packets(id);
                }
                if let Some(socket) = connection.socket {
                    self.actions.push(Action::Close(socket, Close::Abort));
                }
                return;
            }
            Phase::Connecting(_) | Phase::Closing(_) => {}
            Phase::Live => self.stream_due(id),
        }
        self.rearm(id);
    }

    fn stream_due(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        // While a large message goes straight into its place, the driver reports nothing: it is alive as
        // long as it is not slower than the least rate.
        let busy =
            connection.pauses.any() || connection.large_until.is_some_and(|until| now < until);
        let Some(stream) = connection.stream_mut() else {
            return;
        };
        if busy {
            stream.heard(now);
        }
        let Some(timeout) = stream.handle_timeout(&self.settings.stream, now) else {
            if stream.wants_transmit() {
                self.mark_dirty(id);
            }
            return;
        };
        let (code, reason) = match timeout {
            Timeout::Handshake => (CloseCode::HandshakeTimeout, CloseReason::HandshakeTimeout),
            Timeout::Keepalive => (CloseCode::KeepaliveTimeout, CloseReason::KeepaliveTimeout),
            Timeout::Idle => (CloseCode::IdleTimeout, CloseReason::IdleTimeout),
            Timeout::Drain => (CloseCode::DrainTimeout, CloseReason::DrainTimeout),
        };
        self.close(id, Some(code), reason);
    }

    /// Ends a connection: says `code` to the peer (unless `None`), sends what is queued, then closes.
    /// The first reason counts.
    pub(crate) fn close(&mut self, id: ConnectionId, code: Option<CloseCode>, reason: CloseReason) {
        let linger = self.now + self.settings.times.linger;
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        match connection.phase {
            Phase::Closing(_) => return,
            Phase::Connecting(_) => {
                connection.reason.get_or_insert(reason);
                connection.phase = Phase::Closing(linger);
                if connection.is_packet() {
                    return self.close_packets(id, code.unwrap_or(CloseCode::Normal));
                }
                if let Some(socket) = connection.socket {
                    self.actions.push(Action::Close(socket, Close::Abort));
                } else {
                    self.owed.push(Owed::Closed(id, None));
                }
                return;
            }
            Phase::Live => {}
        }
        connection.reason.get_or_insert(reason);
        connection.phase = Phase::Closing(linger);
        connection.large = None;
        connection.end_handshake(&mut self.handshakes);
        if connection.is_packet() {
            self.close_packets(id, code.unwrap_or(CloseCode::Normal));
            return self.rearm(id);
        }
        if let (Some(stream), Some(code)) = (connection.stream_mut(), code) {
            stream.close(code);
        }
        if let Some(socket) = connection.socket {
            self.actions.push(Action::Close(socket, Close::Graceful));
        }
        self.mark_dirty(id);
        self.rearm(id);
    }

    /// The driver's last word about a connection: takes it out of the tables.
    pub(crate) fn finish(
        &mut self,
        id: ConnectionId,
        cause: CloseCause,
    ) -> Option<(Connection, Closed)> {
        let mut connection = self.connections.remove(id.0)?;
        if let Some(socket) = connection.socket {
            self.sockets.remove(socket);
        }
        connection.end_handshake(&mut self.handshakes);
        let reason = match (connection.reason.take(), cause) {
            (Some(reason), _) => reason,
            (None, CloseCause::ConnectFailed(error)) => CloseReason::ConnectFailed(error),
            (None, CloseCause::Broken(error)) => CloseReason::Broken(error),
            (None, _) => CloseReason::Local(CloseCode::Normal),
        };
        let unsent_bytes = connection.outbox.queued_bytes as u64;
        let closed = Closed {
            reason,
            unsent_bytes,
        };
        self.emit(&Event::Closed {
            connection: id,
            closed: &closed,
        });
        Some((connection, closed))
    }

    /// Until when a large message of this size has to be complete.
    pub(crate) fn large_until(&self, bytes: usize) -> Instant {
        let longest = Duration::from_secs(bytes as u64 / LARGE_RATE_MIN);
        self.now + self.settings.stream.keepalive_timeout + longest
    }

    /// Switches receiving on or off to match the reasons to pause.
    pub(crate) fn settle_reading(&mut self, id: ConnectionId, was_paused: bool) {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        let paused = connection.pauses.any();
        if connection.is_packet() {
            if paused != was_paused {
                self.pause_packets(id, paused);
            }
            return;
        }
        let Some(socket) = connection.socket else {
            return;
        };
        if paused == was_paused || !connection.is_live() {
            return;
        }
        self.actions.push(Action::Read(socket, !paused));
        if paused && !std::mem::replace(&mut connection.reassuring, true) {
            self.timers
                .arm(self.now + PAUSED_SIGN_INTERVAL, Due::Paused(id));
        }
        if !paused && connection.filter.is_some() {
            self.replay.push(id);
        }
    }

    /// A paused connection reads no pings, so it answers none: a PAD now and then tells the peer that it
    /// lives. Its own keepalive counts the pause as hearing, since silence is its own doing.
    pub(crate) fn reassure(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        connection.reassuring = connection.pauses.any() && connection.is_live();
        if !connection.reassuring {
            return;
        }
        if let Some(stream) = connection.stream_mut().filter(|stream| stream.is_open()) {
            stream.heard(now);
            self.timers.arm(now + PAUSED_SIGN_INTERVAL, Due::Paused(id));
            self.pad(id);
        }
    }

    /// No memory to receive into: the connection waits until some comes back.
    pub(crate) fn starve(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        let was_paused = connection.pauses.any();
        if !connection.pauses.starved {
            connection.pauses.starved = true;
            self.starved.push(id);
            self.starved_at = self.pools.budget().used();
            self.emit(&Event::Starved { connection: id });
        }
        self.settle_reading(id, was_paused);
    }

    /// Lets starved connections try again. Called when memory came back.
    pub(crate) fn feed_starved(&mut self) {
        for id in std::mem::take(&mut self.starved) {
            if let Some(connection) = self.connections.get_mut(id.0) {
                connection.pauses.starved = false;
                let unsealed = !connection.outbox.ready.is_empty();
                self.settle_reading(id, true);
                if unsealed {
                    self.mark_dirty(id);
                }
            }
        }
    }

    /// Registers a socket that the driver opened for a connection.
    pub(crate) fn attach(&mut self, id: ConnectionId, socket: SocketId) {
        if let Some(connection) = self.connections.get_mut(id.0) {
            connection.socket = Some(socket);
            self.sockets.insert(socket, Owner::Connection(id));
        }
    }

    pub(crate) fn add_listener(
        &mut self,
        socket: SocketId,
        address: Option<Address>,
        options: ListenOptions,
    ) -> Option<ListenerId> {
        let listener = Listener {
            socket,
            address,
            options,
            rest: crate::listener::ACCEPT_REST_MIN,
            spread: Vec::new(),
            next: 0,
            links: None,
        };
        let id = ListenerId(crate::listener::Source::Stream(
            self.listeners.insert(listener).ok()?,
        ));
        self.sockets.insert(socket, Owner::Listener(id));
        Some(id)
    }

    /// A listener could not accept: it rests, each time twice as long.
    pub(crate) fn accept_failed(&mut self, id: ListenerId, fault: &AcceptFault) {
        self.emit(&Event::AcceptFailed {
            listener: id,
            fault,
        });
        let now = self.now;
        if let Some(listener) = self.listener_mut(id) {
            let at = now + listener.rest;
            listener.rest = (listener.rest * 2).min(crate::listener::ACCEPT_REST_MAX);
            self.timers.arm(at, Due::Listener(id));
        }
    }

    pub(crate) fn listener_mut(&mut self, id: ListenerId) -> Option<&mut Listener> {
        match id.0 {
            crate::listener::Source::Stream(id) => self.listeners.get_mut(id),
            crate::listener::Source::Packets(id) => self.endpoints.get_mut(id.0)?.listener.as_mut(),
            crate::listener::Source::Datagram(_) => None,
        }
    }

    /// True when `run` has nothing more to do: told to stop, or drained with all its listeners closed.
    pub(crate) fn is_done(&self) -> bool {
        let drained = self.connections.is_empty() && self.listeners_closing == 0;
        self.stopping || (self.draining && drained)
    }

    /// True when less memory is in use than when a connection last had to wait for it.
    pub(crate) fn memory_came_back(&self) -> bool {
        self.pools.budget().used() < self.starved_at
    }

    /// Until when an idle engine may sleep.
    pub(crate) fn park(&self, limit: Option<Instant>) -> Park {
        // Slices that other threads drop give memory back without a wake-up.
        let starved = (!self.starved.is_empty()).then(|| self.now + STARVED_SLEEP_MAX);
        let limit = limit.into_iter().chain(starved).min();
        let next = match (self.timers.next(), limit) {
            (Some(timer), Some(limit)) => Some(timer.min(limit)),
            (timer, limit) => timer.or(limit),
        };
        Park::Until(next)
    }

    /// True when something waits for the next turn, so that the engine must not sleep now.
    pub(crate) fn has_work(&self) -> bool {
        !self.dirty.is_empty()
            || !self.actions.is_empty()
            || !self.arrivals.is_empty()
            || !self.owed.is_empty()
            || !self.replay.is_empty()
            || !self.endpoints_dirty.is_empty()
    }

    pub(crate) fn publish(&mut self, driver: &DriverStats) {
        let copies = ringway_buf::copies();
        self.cells.set(Counter::Syscalls, driver.syscalls);
        self.cells.set(Counter::EmptyPolls, driver.empty_polls);
        self.cells.set(Counter::Parks, driver.parks);
        self.cells
            .set(Counter::Connections, self.connections.len() as u64);
        self.cells
            .set(Counter::BudgetUsed, self.pools.budget().used() as u64);
        self.cells.set(Counter::Copies, copies.count);
        self.cells.set(Counter::Turns, self.turn);
        self.shared.counters.publish(&self.cells);
    }
}
