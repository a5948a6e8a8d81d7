//! Packet transports in the engine: endpoints, their sockets, and the connections that are their sessions.
//!
//! Above stands the same [`Handler`](crate::Handler) as over a stream: a session is a connection like any other. Below is the
//! [contract](ringway_proto::packet) and one datagram socket per endpoint: a listener's sessions share its socket,
//! an outgoing session has a connected one of its own. Messages are claimed in the connection's batch as frames,
//! exactly as for a stream; at the end of the turn the batch is frozen and the machine gets slices of it, so that
//! nothing is copied until a packet is written.

use std::net::SocketAddr;

use ringway_buf::{Id, Instant, Pools, RecvBuffer};
use ringway_driver::{
    Address, Burst, Close, Driver, ListenOptions, SocketId, SocketOptions, Steer, SteerRule,
};
use ringway_proto::CloseCode;
use ringway_proto::packet::{
    ConnectRefusal, Delivery, Marks, Outgoing, PacketEndpoint, SendRefusal, SessionId, TransmitSink,
};
use ringway_proto::rudp;

use crate::connection::Carrier;
use crate::counters::Counter;
use crate::event::Event;
use crate::hub::{Action, Hub, Owed};
use crate::listener::{Listener, Source};
use crate::packet_batch::{Deliveries, Frames};
use crate::recv::TurnSink;
use crate::sockets::Owner;
use crate::timers::Due;
use crate::{ConnectionId, Context, Handler, ListenerId, Message, OpenError};

/// Bytes that may wait in the driver for one socket; then the machine keeps what it has.
const IN_DRIVER_BYTES_MAX: usize = 1 << 20;
/// Receive buffer of the kernel, in bytes, unless the user said otherwise.
const RECV_BUFFER_BYTES: u32 = 4 << 20;
/// How soon an endpoint that lacked memory tries again.
const RETRY: std::time::Duration = std::time::Duration::from_millis(1);

/// Calls for what an endpoint still has to say when its engine is dropped; each gives a few dozen bursts.
const LAST_WORDS_MAX: u32 = 1_024;

/// Hears what happens after the user's handler is gone.
struct Nobody;

impl Handler for Nobody {
    fn message(&mut self, _cx: &mut Context<'_>, _message: Message<'_>) {}
}

/// Which transport an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Rudp,
    Quic,
}

impl Protocol {
    /// The transport of an address, and where it leads.
    pub(crate) fn of(address: &Address) -> Option<(Self, SocketAddr)> {
        match address {
            Address::Rudp(at) => Some((Self::Rudp, *at)),
            Address::Quic(at) => Some((Self::Quic, *at)),
            _ => None,
        }
    }

    pub(crate) fn address(self, at: SocketAddr) -> Address {
        match self {
            Self::Rudp => Address::Rudp(at),
            Self::Quic => Address::Quic(at),
        }
    }
}

/// Asks for room for bursts, which arrive faster than turns pass, unless the user asked for something else.
pub(crate) fn widen(options: &mut SocketOptions) {
    options.recv_buffer_bytes.get_or_insert(RECV_BUFFER_BYTES);
}

/// By which bytes the packets of reliable UDP find the engine that owns their session, whatever address they come from.
///
/// docs/wire/rudp.md#packets
const RUDP_STEERING: &[SteerRule] = &[
    // INIT, and RESET, which names the same id: the last, random byte of the id that the client chose.
    SteerRule {
        mask: 0xFF,
        value: 0xC1,
        at: 35,
    },
    SteerRule {
        mask: 0xFF,
        value: 0xC5,
        at: 15,
    },
    // All others: the shard, first byte of the id that the server chose.
    SteerRule {
        mask: 0x80,
        value: 0,
        at: 8,
    },
];

/// The same for QUIC. A client chooses the first id itself, at random; every later one was chosen by the server and begins with
/// the shard.
///
/// docs/wire/quic.md#connection
const QUIC_STEERING: &[SteerRule] = &[
    // Long header: version and length of the id stand before it.
    SteerRule {
        mask: 0x80,
        value: 0x80,
        at: 6,
    },
    // Short header.
    SteerRule {
        mask: 0x80,
        value: 0,
        at: 1,
    },
];

/// How engine `index` of `count` shares the port of an address with the others, by itself: the sessions of one socket
/// can't be given to another engine. `None`: it accepts connections, which can.
pub(crate) fn steering(address: &str, index: usize, count: usize) -> Option<Steer> {
    let address: Address = address.parse().ok()?;
    let rules = match Protocol::of(&address)? {
        (Protocol::Rudp, _) => RUDP_STEERING,
        (Protocol::Quic, _) => QUIC_STEERING,
    };
    Some(Steer {
        index: u8::try_from(index).ok()?,
        count: u8::try_from(count).ok()?,
        rules,
    })
}

/// An endpoint of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EndpointId(pub(crate) Id);

/// What carries the messages of one session.
#[derive(Debug)]
pub(crate) struct PacketEnd {
    pub(crate) endpoint: EndpointId,
    pub(crate) protocol: Protocol,
    /// `None` until its socket is there.
    pub(crate) session: Option<SessionId>,
    /// Longest message that the peer takes; 0 before the session is open.
    pub(crate) bytes_max: u32,
    /// Messages are taken.
    pub(crate) sends: bool,
    pub(crate) address: SocketAddr,
    /// How the messages of the open batch travel.
    pub(crate) deliveries: Deliveries,
    /// Where small messages are kept together until the peer has them.
    shelf: Option<RecvBuffer>,
}

impl PacketEnd {
    pub(crate) fn new(
        endpoint: EndpointId,
        protocol: Protocol,
        session: Option<SessionId>,
        address: SocketAddr,
    ) -> Self {
        Self {
            endpoint,
            protocol,
            session,
            bytes_max: 0,
            sends: false,
            address,
            deliveries: Deliveries::default(),
            shelf: None,
        }
    }
}

/// A machine, its socket, and whose its sessions are.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) machine: Box<dyn PacketEndpoint>,
    pub(crate) protocol: Protocol,
    pub(crate) socket: SocketId,
    /// Where it listens, if it does.
    pub(crate) listener: Option<Listener>,
    /// For an outgoing session: its connection.
    pub(crate) outgoing: Option<ConnectionId>,
    /// By the index of the session.
    pub(crate) sessions: Vec<Option<(SessionId, ConnectionId)>>,
    pub(crate) in_driver: usize,
    pub(crate) dirty: bool,
    pub(crate) armed_at: Instant,
    pub(crate) closing: bool,
    /// What the network last said when nobody was there.
    pub(crate) refusal: Option<std::io::Error>,
    /// Unreliable messages that the machine has dropped, as far as they are counted.
    expired: u64,
}

/// What became of one occasion to send.
#[derive(Clone, Copy, Debug, Default)]
struct Transmitted {
    /// There may be more to send at once.
    more: bool,
    lacks_memory: bool,
}

impl Endpoint {
    /// Lets the machine send.
    fn transmit<D: Driver>(&mut self, driver: &mut D, pools: &Pools, now: Instant) -> Transmitted {
        let mut lender = Lender {
            driver,
            pools,
            socket: self.socket,
            is_connected: self.outgoing.is_some(),
            in_driver: &mut self.in_driver,
            lent: None,
            marks: Marks::default(),
            lacks_memory: false,
        };
        Transmitted {
            more: self.machine.poll_transmit(&mut lender, now),
            lacks_memory: lender.lacks_memory,
        }
    }

    pub(crate) fn owner(&self, session: SessionId) -> Option<ConnectionId> {
        match self.sessions.get(session.0.index() as usize) {
            Some(Some((known, owner))) if *known == session => Some(*owner),
            _ => None,
        }
    }

    pub(crate) fn own(&mut self, session: SessionId, owner: ConnectionId) {
        let index = session.0.index() as usize;
        if index >= self.sessions.len() {
            self.sessions.resize(index + 1, None);
        }
        self.sessions[index] = Some((session, owner));
    }

    pub(crate) fn disown(&mut self, session: SessionId) {
        if self.owner(session).is_some() {
            self.sessions[session.0.index() as usize] = None;
        }
    }
}

/// Lends a driver's bursts to a machine.
struct Lender<'a, D> {
    driver: &'a mut D,
    pools: &'a Pools,
    socket: SocketId,
    is_connected: bool,
    in_driver: &'a mut usize,
    lent: Option<(ringway_buf::Lease, SocketAddr)>,
    marks: Marks,
    lacks_memory: bool,
}

impl<D: Driver> TransmitSink for Lender<'_, D> {
    fn lend(&mut self, peer: SocketAddr, segment_bytes: usize, count: usize) -> Option<&mut [u8]> {
        if *self.in_driver >= IN_DRIVER_BYTES_MAX {
            return None;
        }
        let mut bytes = segment_bytes * count;
        let whole = self.pools.lease(bytes);
        let lease = whole.or_else(|| {
            bytes = segment_bytes;
            self.pools.lease(bytes)
        });
        let Some(mut lease) = lease else {
            self.lacks_memory = true;
            return None;
        };
        lease.reset(0);
        lease.append(bytes)?;
        let (lease, _) = self.lent.insert((lease, peer));
        self.marks = Marks::default();
        Some(lease.bytes_mut())
    }

    fn mark(&mut self, marks: Marks) {
        self.marks = marks;
    }

    fn commit(&mut self, bytes: usize, segment_bytes: usize) {
        let Some((mut lease, peer)) = self.lent.take() else {
            return;
        };
        lease.truncate(bytes);
        *self.in_driver += bytes;
        let burst = Burst {
            lease,
            segment_bytes: u32::try_from(segment_bytes).unwrap_or(u32::MAX),
            count: u32::try_from(bytes.div_ceil(segment_bytes.max(1))).unwrap_or(u32::MAX),
            peer: (!self.is_connected).then_some(peer),
            // A connected socket has one address.
            source: self.marks.source.filter(|_| !self.is_connected),
            ecn: self.marks.ecn,
        };
        self.driver.send_to(self.socket, burst);
    }
}

impl Hub {
    /// Something may have changed at an endpoint: it is looked at before the turn ends.
    pub(crate) fn touch_endpoint(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoints.get_mut(id.0)
            && !std::mem::replace(&mut endpoint.dirty, true)
        {
            self.endpoints_dirty.push(id);
        }
    }

    /// The machine of a connection's session, if it has one.
    pub(crate) fn machine(
        &mut self,
        id: ConnectionId,
    ) -> Option<(EndpointId, SessionId, &mut dyn PacketEndpoint)> {
        let Carrier::Packet(end) = &self.connections.get(id.0)?.carrier else {
            return None;
        };
        let (endpoint, session) = (end.endpoint, end.session?);
        self.touch_endpoint(endpoint);
        let entry = self.endpoints.get_mut(endpoint.0)?;
        Some((endpoint, session, entry.machine.as_mut()))
    }

    fn add_endpoint<D: Driver>(
        &mut self,
        driver: &D,
        protocol: Protocol,
        socket: SocketId,
        listener: Option<Listener>,
        outgoing: Option<ConnectionId>,
        shard: u8,
    ) -> Option<EndpointId> {
        let seed = self.random();
        let pools = std::rc::Rc::clone(&self.pools);
        let mut machine: Box<dyn PacketEndpoint> = match protocol {
            Protocol::Rudp => {
                let mut config = self.settings.rudp.clone();
                config.shard = config.shard.max(shard);
                Box::new(rudp::Rudp::new(config, pools, seed).ok()?)
            }
            Protocol::Quic => crate::quic::endpoint(&self.settings.quic, pools, seed, shard)?,
        };
        if let Some(granted) = driver.buffer_bytes(socket) {
            // The kernel's limit is twice what it says to have granted.
            machine.recv_buffer(2 * u64::from(granted.recv));
        }
        let endpoint = Endpoint {
            machine,
            protocol,
            socket,
            listener,
            outgoing,
            sessions: Vec::new(),
            in_driver: 0,
            dirty: false,
            armed_at: Instant::MAX,
            closing: false,
            refusal: None,
            expired: 0,
        };
        let id = EndpointId(self.endpoints.insert(endpoint).ok()?);
        self.sockets.insert(socket, Owner::Endpoint(id));
        Some(id)
    }

    /// Listens for sessions.
    pub(crate) fn listen_packets<D: Driver>(
        &mut self,
        driver: &mut D,
        protocol: Protocol,
        address: SocketAddr,
        options: &ListenOptions,
    ) -> Result<ListenerId, OpenError> {
        if protocol == Protocol::Quic {
            crate::quic::may_listen(&self.settings.quic)?;
        }
        let mut options = options.clone();
        widen(&mut options.socket);
        let socket = driver.bind(&Address::Udp(address), &options)?;
        self.check_buffers(driver, socket, &options.socket);
        let real = driver.local_address(socket).and_then(|at| at.socket_addr());
        let real = real.map(|at| protocol.address(at));
        let listener = Listener {
            socket,
            address: real.clone(),
            options,
            rest: crate::listener::ACCEPT_REST_MIN,
            spread: Vec::new(),
            next: 0,
            links: None,
        };
        let shard = listener.options.steer.as_ref().map_or(0, |it| it.index);
        let Some(id) = self.add_endpoint(driver, protocol, socket, Some(listener), None, shard)
        else {
            driver.close(socket, Close::Abort);
            return Err(OpenError::TooMany {
                max: self.endpoints.max(),
            });
        };
        driver.read(socket, true);
        let listener = ListenerId(Source::Packets(id));
        self.emit(&Event::Listening {
            listener,
            address: real.as_ref(),
        });
        Ok(listener)
    }

    /// Takes no new sessions; those that live go on, and the socket with them.
    pub(crate) fn unlisten_packets(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoints.get_mut(id.0)
            && let Some(listener) = endpoint.listener.take()
        {
            if let Some(links) = &listener.links {
                links.stop();
            }
            endpoint.machine.refuse_new(true);
            self.touch_endpoint(id);
        }
    }

    /// Whether this engine may speak with that address this way: without encryption only in private networks.
    pub(crate) fn may_reach(
        &self,
        protocol: Protocol,
        address: SocketAddr,
    ) -> Result<(), OpenError> {
        if protocol == Protocol::Quic {
            crate::quic::may_connect(&self.settings.quic)
        } else if self.settings.rudp.public_addresses || rudp::is_private(address.ip()) {
            Ok(())
        } else {
            Err(OpenError::Session(ConnectRefusal::PublicAddress))
        }
    }

    /// The driver has opened the socket of an outgoing session.
    pub(crate) fn connect_packets<D: Driver>(
        &mut self,
        driver: &mut D,
        id: ConnectionId,
        socket: SocketId,
        (protocol, address): (Protocol, SocketAddr),
    ) {
        let Some(endpoint) = self.add_endpoint(driver, protocol, socket, None, Some(id), 0) else {
            driver.close(socket, Close::Abort);
            self.owed.push(Owed::Closed(id, None));
            return;
        };
        if let Some(connection) = self.connections.get_mut(id.0) {
            connection.peer_address = Some(Box::new(protocol.address(address)));
            let end = PacketEnd::new(endpoint, protocol, None, address);
            connection.carrier = Carrier::Packet(Box::new(end));
        }
    }

    /// The socket of an outgoing session is usable.
    pub(crate) fn packets_connected(&mut self, endpoint: EndpointId) {
        let now = self.now;
        let Some(entry) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let Some(id) = entry.outgoing else {
            return;
        };
        self.actions.push(Action::Read(entry.socket, true));
        let Some(connection) = self.connections.get_mut(id.0) else {
            return self.touch_endpoint(endpoint);
        };
        let Carrier::Packet(end) = &mut connection.carrier else {
            return;
        };
        match entry.machine.connect(end.address, now) {
            Ok(session) => {
                end.session = Some(session);
                entry.own(session, id);
                self.touch_endpoint(endpoint);
            }
            Err(_refused) => self.owed.push(Owed::Closed(id, None)),
        }
    }

    /// Takes an outgoing session that never began to its end.
    pub(crate) fn close_packets(&mut self, id: ConnectionId, code: CloseCode) {
        self.feed(id);
        let now = self.now;
        match self.machine(id) {
            Some((_, session, machine)) => machine.close(session, code, now),
            None => self.owed.push(Owed::Closed(id, None)),
        }
    }

    /// Ends a session at once.
    pub(crate) fn abort_packets(&mut self, id: ConnectionId) {
        let now = self.now;
        match self.machine(id) {
            Some((_, session, machine)) => machine.abort(session, now),
            None => self.owed.push(Owed::Closed(id, None)),
        }
    }

    /// Stops delivering a session's messages, or goes on.
    pub(crate) fn pause_packets(&mut self, id: ConnectionId, paused: bool) {
        let now = self.now;
        if let Some((_, session, machine)) = self.machine(id) {
            machine.pause(session, paused, now);
        }
    }

    pub(crate) fn drain_packets(&mut self, id: ConnectionId) {
        // What was accepted before stands before the announcement, as on a stream.
        self.feed(id);
        let now = self.now;
        if let Some((_, session, machine)) = self.machine(id) {
            machine.drain(session, now);
        }
    }

    /// This side's last message was given to the machine.
    pub(crate) fn finish_packets(&mut self, id: ConnectionId) {
        self.feed(id);
        let now = self.now;
        if let Some(connection) = self.connections.get_mut(id.0)
            && let Carrier::Packet(end) = &mut connection.carrier
        {
            end.sends = false;
        }
        if let Some((_, session, machine)) = self.machine(id) {
            machine.finish(session, now);
        }
    }

    /// Gives the frames of a connection's batch to its machine, each as a slice of the frozen batch.
    pub(crate) fn feed(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        let Carrier::Packet(end) = &mut connection.carrier else {
            return;
        };
        let outbox = &mut connection.outbox;
        let bytes = outbox.open.as_ref().map_or(0, ringway_buf::Lease::len) + outbox.ready.bytes();
        if bytes == 0 {
            return;
        }
        outbox.batch_hint = bytes.max(outbox.batch_hint / 2);
        outbox.seal();
        let mut messages = Frames {
            whole: std::mem::take(&mut self.fed),
            waiting: None,
            skip: 0,
        };
        while let Some(segment) = outbox.ready.pop() {
            messages.take(segment, &mut end.shelf, &self.pools);
        }
        let mut deliveries = std::mem::take(&mut end.deliveries);
        outbox.queued_bytes = outbox.queued_bytes.saturating_sub(bytes);
        let mut whole = messages.whole;
        let (mut held, mut freed, mut unfit) = (0, 0, 0);
        if let Some((_, session, machine)) = self.machine(id) {
            if deliveries.iter_runs().any(Delivery::is_unreliable) {
                // What fits one datagram changes with the path.
                deliveries.ways = machine.ways(session);
            }
            for ((header, body), delivery) in whole.drain(..).zip(deliveries.iter()) {
                let cost = machine.held_bytes(body.len());
                held += cost;
                let message = Outgoing {
                    header,
                    body,
                    delivery,
                };
                let sent = machine.send(session, message, now);
                if let Err((_, SendRefusal::TooLong { .. })) = sent {
                    debug_assert!(
                        delivery.is_unreliable(),
                        "a claim is checked against the limit of the others"
                    );
                    freed += cost;
                    unfit += 1;
                }
            }
        }
        whole.clear();
        self.fed = whole;
        deliveries.clear();
        if unfit > 0 {
            self.cells.add(Counter::Expired, unfit);
            self.owed.push(Owed::Freed(id, freed));
        }
        if let Some(connection) = self.connections.get_mut(id.0) {
            connection.outbox.queued_bytes += held;
            if let Carrier::Packet(end) = &mut connection.carrier {
                end.deliveries = deliveries;
            }
        }
    }

    /// Gives up what a session's lane has not delivered.
    pub(crate) fn drop_lane(&mut self, id: ConnectionId, lane: u32) {
        // What the batch holds of the lane was sent before, so it goes with the rest.
        self.feed(id);
        let now = self.now;
        if let Some((_, session, machine)) = self.machine(id) {
            machine.drop_lane(session, lane, now);
        }
    }

    /// Messages have reached the peer. Returns whether `writable` is due.
    pub(crate) fn freed(&mut self, id: ConnectionId, bytes: usize) -> bool {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return false;
        };
        connection.outbox.in_driver += bytes;
        self.sent(id, bytes)
    }

    /// An endpoint's timer is due.
    pub(crate) fn endpoint_due(&mut self, id: EndpointId, at: Instant) {
        let now = self.now;
        let Some(endpoint) = self.endpoints.get_mut(id.0) else {
            return;
        };
        if endpoint.armed_at != at {
            return self.timers.outlived();
        }
        endpoint.armed_at = Instant::MAX;
        endpoint.machine.handle_timeout(now);
        self.touch_endpoint(id);
    }

    /// Bytes of an endpoint's socket left for the kernel.
    pub(crate) fn endpoint_sent(&mut self, id: EndpointId, bytes: usize) {
        if let Some(endpoint) = self.endpoints.get_mut(id.0) {
            endpoint.in_driver = endpoint.in_driver.saturating_sub(bytes);
            if endpoint.machine.wants_transmit() {
                self.touch_endpoint(id);
            }
        }
    }

    pub(crate) fn endpoint_too_long(
        &mut self,
        id: EndpointId,
        peer: Option<SocketAddr>,
        bytes_max: usize,
    ) {
        let now = self.now;
        if let Some(endpoint) = self.endpoints.get_mut(id.0) {
            endpoint.machine.handle_too_long(peer, bytes_max, now);
        }
    }

    /// The network says that an endpoint's peer is not there. Only a connected socket hears of it.
    pub(crate) fn endpoint_unreachable(&mut self, id: EndpointId, error: std::io::Error) {
        let now = self.now;
        if let Some(endpoint) = self.endpoints.get_mut(id.0) {
            endpoint.machine.handle_unreachable(None, now);
            endpoint.refusal = Some(error);
            self.touch_endpoint(id);
        }
    }

    /// The engine is dropped: ends all sessions with a last word that leaves now. A stream's end is told by the kernel
    /// when its socket closes; without a word a peer would wait for its keepalive.
    pub(crate) fn leave_packets<D: Driver>(&mut self, driver: &mut D) {
        let now = self.now;
        for id in self.endpoints.ids() {
            let Some(endpoint) = self.endpoints.get_mut(id) else {
                continue;
            };
            for (session, _) in endpoint.sessions.iter().flatten() {
                endpoint.machine.abort(*session, now);
            }
            for _ in 0..LAST_WORDS_MAX {
                // What finds no memory, or no room in the driver, is left unsaid.
                if !endpoint.transmit(driver, &self.pools, now).more {
                    break;
                }
            }
        }
        driver.flush(&mut TurnSink {
            hub: self,
            handler: &mut Nobody,
        });
    }

    /// Sends what a machine has to send, and arms its timer.
    pub(crate) fn transmit_packets<D: Driver>(&mut self, driver: &mut D, id: EndpointId) {
        let now = self.now;
        let Some(endpoint) = self.endpoints.get_mut(id.0) else {
            return;
        };
        if endpoint.closing {
            return;
        }
        let mut sent = Transmitted::default();
        if endpoint.machine.wants_transmit() {
            sent = endpoint.transmit(driver, &self.pools, now);
            let expired = endpoint.machine.expired();
            self.cells.add(
                Counter::Expired,
                expired - std::mem::replace(&mut endpoint.expired, expired),
            );
        }
        let timer = endpoint.machine.poll_timeout();
        let retry = sent.lacks_memory.then(|| now + RETRY);
        let mut superseded = false;
        if let Some(at) = timer.into_iter().chain(retry).min()
            && at < endpoint.armed_at
        {
            superseded = std::mem::replace(&mut endpoint.armed_at, at) != Instant::MAX;
            self.timers.arm(at, Due::Endpoint(id));
        }
        let is_over = endpoint.listener.is_none()
            && endpoint.machine.sessions() == 0
            && endpoint.sessions.iter().all(Option::is_none)
            && !endpoint.machine.wants_transmit();
        let began = endpoint.outgoing.is_none_or(|owner| {
            self.connections.get(owner.0).is_none_or(|connection| {
                !matches!(&connection.carrier, Carrier::Packet(end) if end.session.is_none())
            })
        });
        if is_over && began {
            endpoint.closing = true;
            self.actions
                .push(Action::Close(endpoint.socket, Close::Graceful));
        } else if sent.more {
            self.touch_endpoint(id);
        }
        if superseded {
            let endpoints = &self.endpoints;
            self.timers.supersede(|id, at| {
                let armed = endpoints.get(id.0).map(|endpoint| endpoint.armed_at);
                armed == Some(at)
            });
        }
    }
}
