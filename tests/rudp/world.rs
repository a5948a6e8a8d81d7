//! Endpoints in virtual time on the simulator's network: owners that check what they get, and what may be sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use ringway_buf::{Instant, Pools, PoolsConfig};
use ringway_proto::packet::{
    Body, Delivery, Outgoing, PacketEndpoint, PacketEvent, PacketMeta, SendRefusal, SessionEnd,
    SessionId, TransmitSink,
};
use ringway_proto::rudp::{Rudp, RudpConfig};
use ringway_proto::{CloseCode, Header};
use ringway_sim::{DatagramNet, PathConfig, Wire};

use crate::seeds::Random;

/// Places at which a body may begin, and its longest length.
const BODY_BEGINNINGS: usize = 1 << 20;
const BODY_BYTES_MAX: usize = 1 << 20;
/// ECN bits of what the nodes send: they react to marks.
const ECN_CAPABLE: u8 = 2;
/// When a run begins.
const BEGAN: Instant = Instant::from_nanos(1_000_000);
/// What lies in lent memory.
const UNWRITTEN: u8 = 0xA5;
/// Memory of one node.
pub const BUDGET_BYTES: usize = 64 << 20;

/// Says of a datagram to an address whether it is dropped.
pub type Filter = Box<dyn FnMut(SocketAddr, &[u8]) -> bool>;

/// What the owner of a session knows of it.
#[derive(Debug, Default)]
pub struct Line {
    /// Which other line it talks to; told by the first message.
    pub opened: bool,
    pub accepted_from: Option<SocketAddr>,
    pub draining: bool,
    pub drained: bool,
    pub closed: Option<(SessionEnd, u64)>,
    /// Numbers sent and received, per delivery: ordered, unordered, unreliable.
    pub sent: [u64; 3],
    pub got: [Vec<bool>; 3],
    pub ordered_next: u64,
    pub bytes_got: u64,
    /// Bytes accepted and not reported as sent.
    pub queued: usize,
    pub paused: bool,
    pub epoch: u64,
    /// Whom it was connected to, and how often that node had been started anew by then.
    pub peer: Option<(usize, u32)>,
    /// When each message came, if asked for.
    pub arrivals: Vec<(u64, usize)>,
}

impl Line {
    pub fn got_count(&self, lane: usize) -> u64 {
        self.got[lane].iter().filter(|got| **got).count() as u64
    }
}

#[derive(Debug)]
pub struct Node {
    pub address: SocketAddr,
    pub endpoint: Rudp,
    pub pools: Rc<Pools>,
    pub lines: BTreeMap<SessionId, Line>,
    /// Those of processes of this node that died.
    pub past: Vec<Line>,
    /// How often it was started anew.
    pub restarts: u32,
    /// Answers every message of this kind with itself.
    pub echo: bool,
    pub keep_bodies: bool,
    /// Takes messages of strangers as they are.
    pub is_trusting: bool,
    pub bodies: Vec<(Header, Vec<u8>)>,
    /// Bytes from and to addresses that are not proven.
    received: BTreeMap<SocketAddr, u64>,
    sent: BTreeMap<SocketAddr, u64>,
    proven: Vec<SocketAddr>,
    config: RudpConfig,
}

pub struct World {
    pub now: u64,
    pub net: DatagramNet,
    pub nodes: Vec<Node>,
    pub random: Random,
    lender: Lender,
    /// The latest process of a node that an epoch can belong to.
    epochs: BTreeMap<(usize, u64), u32>,
    /// Drops the datagrams for which it says so.
    pub filter: Option<Filter>,
    pub delivered: u64,
    pub carried: u64,
    pub carried_bytes: u64,
    pub hash: u64,
}

/// The memory that a transmit fills.
#[derive(Default)]
struct Lender {
    /// To whom, how many of `bytes`, how long each packet is.
    sent: Vec<(SocketAddr, usize, usize)>,
    bytes: Vec<u8>,
    lent: Vec<u8>,
    peer: Option<SocketAddr>,
}

impl TransmitSink for Lender {
    fn lend(&mut self, peer: SocketAddr, segment_bytes: usize, count: usize) -> Option<&mut [u8]> {
        assert!(segment_bytes > 0 && count > 0 && count <= 64);
        assert!(segment_bytes * count <= 65_507, "more than a burst carries");
        // Unspecified contents: whatever is not written must not be sent.
        if self.lent.len() < segment_bytes * count {
            self.lent.resize(segment_bytes * count, UNWRITTEN);
        }
        self.peer = Some(peer);
        Some(&mut self.lent[..segment_bytes * count])
    }

    fn commit(&mut self, bytes: usize, segment_bytes: usize) {
        let peer = self.peer.take().expect("a lease is committed once");
        assert!(bytes > 0 && segment_bytes > 0);
        self.sent.push((peer, bytes, segment_bytes));
        self.bytes.extend_from_slice(&self.lent[..bytes]);
        self.lent[..bytes].fill(UNWRITTEN);
    }
}

pub fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1000 + number))
}

thread_local! {
    /// Memory of worlds that came to a good end, for the next ones: mapping it anew costs more than what is done in it.
    static SPARE_POOLS: std::cell::RefCell<Vec<Rc<Pools>>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// A body that tells what it is: a part of one long row of random bytes, from a place that depends on its number.
pub fn body_of(lane: usize, number: u64, len: usize) -> &'static [u8] {
    static ROW: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut random = Random(0xB0D1);
        let words = (BODY_BEGINNINGS + BODY_BYTES_MAX) / 8;
        (0..words)
            .flat_map(|_| random.next().to_le_bytes())
            .collect()
    });
    let place = Random(number ^ ((lane as u64) << 60)).below(BODY_BEGINNINGS as u64) as usize;
    &ROW[place..place + len]
}

impl World {
    pub fn new(path: PathConfig, seed: u64) -> Self {
        Self {
            now: BEGAN.as_nanos(),
            net: DatagramNet::new(path, seed, BEGAN),
            nodes: Vec::new(),
            random: Random(seed),
            lender: Lender::default(),
            epochs: BTreeMap::new(),
            filter: None,
            delivered: 0,
            carried: 0,
            carried_bytes: 0,
            hash: 0xCBF2_9CE4_8422_2325,
        }
    }

    pub fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    pub fn add(&mut self, config: RudpConfig) -> usize {
        let number = self.nodes.len();
        let address = address(number as u16);
        let pools = SPARE_POOLS.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            Rc::new(Pools::new(PoolsConfig {
                budget_bytes: BUDGET_BYTES,
                ..PoolsConfig::default()
            }))
        });
        let seed = self.random.next();
        let endpoint = Rudp::new(config.clone(), Rc::clone(&pools), seed).unwrap();
        self.nodes.push(Node {
            address,
            endpoint,
            pools,
            lines: BTreeMap::new(),
            past: Vec::new(),
            restarts: 0,
            echo: false,
            keep_bodies: false,
            is_trusting: false,
            bodies: Vec::new(),
            received: BTreeMap::new(),
            sent: BTreeMap::new(),
            proven: Vec::new(),
            config,
        });
        number
    }

    /// Ends a world in which all memory is home; others take it with them.
    pub fn retire(self) {
        let pools: Vec<Rc<Pools>> = self
            .nodes
            .into_iter()
            .map(|node| {
                drop(node.endpoint);
                node.pools
            })
            .collect();
        SPARE_POOLS.with_borrow_mut(|spare| spare.extend(pools));
    }

    /// The process of a node dies and starts anew: nothing of it is left but its address.
    pub fn restart(&mut self, node: usize) {
        let seed = self.random.next();
        let node = &mut self.nodes[node];
        let pools = Rc::clone(&node.pools);
        node.endpoint = Rudp::new(node.config.clone(), pools, seed).unwrap();
        node.past
            .extend(std::mem::take(&mut node.lines).into_values());
        node.restarts += 1;
        node.received.clear();
        node.sent.clear();
        node.proven.clear();
    }

    pub fn connect(&mut self, from: usize, to: usize) -> SessionId {
        let (peer, now) = (self.nodes[to].address, self.instant());
        let peer_restarts = self.nodes[to].restarts;
        let node = &mut self.nodes[from];
        node.proven.push(peer);
        let session = node.endpoint.connect(peer, now).unwrap();
        let line = Line {
            peer: Some((to, peer_restarts)),
            ..Line::default()
        };
        node.lines.insert(session, line);
        session
    }

    /// Sends a numbered message; its content follows from its number.
    pub fn offer(
        &mut self,
        node: usize,
        session: SessionId,
        delivery: Delivery,
        len: usize,
    ) -> Result<(), SendRefusal> {
        let lane = lane_of(delivery);
        let number = self.nodes[node].lines[&session].sent[lane];
        let header = Header {
            word: number,
            flags: lane as u8,
            ..Header::message(0, (number % 60_000) as u16, 0)
        };
        self.send(node, session, header, body_of(lane, number, len), delivery)?;
        let line = self.nodes[node].lines.get_mut(&session).unwrap();
        line.sent[lane] += 1;
        Ok(())
    }

    pub fn send(
        &mut self,
        node: usize,
        session: SessionId,
        header: Header,
        body: &[u8],
        delivery: Delivery,
    ) -> Result<(), SendRefusal> {
        let now = self.instant();
        let node = &mut self.nodes[node];
        let mut lease = node.pools.lease(body.len()).expect("memory to send");
        lease.reset(0);
        lease.append(body.len()).unwrap().copy_from_slice(body);
        let held = node.endpoint.held_bytes(body.len());
        let message = Outgoing {
            header,
            body: lease.freeze(),
            delivery,
        };
        node.endpoint
            .send(session, message, now)
            .map_err(|(_, refusal)| refusal)?;
        node.lines.get_mut(&session).unwrap().queued += held;
        Ok(())
    }

    pub fn pause(&mut self, node: usize, session: SessionId, paused: bool) {
        let now = self.instant();
        let node = &mut self.nodes[node];
        if let Some(line) = node.lines.get_mut(&session) {
            line.paused = paused;
        }
        node.endpoint.pause(session, paused, now);
    }

    /// A datagram that somebody writes by hand.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.net.inject(self.instant(), from, to, bytes);
    }

    /// Everything that happens at the next moment at which something happens. False: nothing ever will.
    pub fn step(&mut self, until: u64) -> bool {
        self.flush();
        let flight = self.net.next().map(Instant::as_nanos);
        let timers = self
            .nodes
            .iter()
            .filter_map(|node| node.endpoint.poll_timeout());
        let timer = timers.min().map(|at| at.as_nanos().max(self.now));
        let Some(next) = flight.into_iter().chain(timer).min() else {
            return false;
        };
        if next > until {
            self.now = until;
            return false;
        }
        self.now = self.now.max(next);
        let now = self.instant();
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            if node.endpoint.poll_timeout().is_some_and(|at| at <= now) {
                node.endpoint.handle_timeout(now);
                self.events(index, &[]);
            }
        }
        while let Some(wire) = self.net.recv(now) {
            self.arrive(wire);
        }
        self.flush();
        true
    }

    pub fn run(&mut self, time: Duration) {
        let until = self.now + time.as_nanos() as u64;
        while self.step(until) {}
        self.now = until;
    }

    /// Runs until `done`, or panics when nothing happens any more or after a long time.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let limit = self.now + 3_600_000_000_000;
        let mut steps = 0_u64;
        while !done(self) {
            steps += 1;
            assert!(steps < 3_000_000, "never happened: {what} (busy)");
            assert!(self.step(limit), "never happened: {what}");
        }
    }

    fn note(&mut self, words: &[u64]) {
        for word in words {
            self.hash = (self.hash ^ word).wrapping_mul(0x100_0000_01B3);
        }
    }

    fn flush(&mut self) {
        for index in 0..self.nodes.len() {
            for _ in 0..10_000 {
                let now = self.instant();
                let node = &mut self.nodes[index];
                if !node.endpoint.wants_transmit() {
                    break;
                }
                let before = in_flight(node);
                let mut lender = std::mem::take(&mut self.lender);
                let node = &mut self.nodes[index];
                let more = node.endpoint.poll_transmit(&mut lender, now);
                check_window(node, &before);
                let mut bytes = lender.bytes.as_slice();
                for (to, len, segment) in lender.sent.drain(..) {
                    let (burst, behind) = bytes.split_at(len);
                    bytes = behind;
                    for packet in burst.chunks(segment) {
                        self.depart(index, to, packet);
                    }
                }
                lender.bytes.clear();
                self.lender = lender;
                self.events(index, &[]);
                assert!(
                    more || self.nodes[index].endpoint.wants_transmit() == more,
                    "an endpoint that wants to send more says so"
                );
            }
        }
    }

    fn depart(&mut self, index: usize, to: SocketAddr, packet: &[u8]) {
        let node = &mut self.nodes[index];
        if !node.proven.contains(&to) {
            let sent = node.sent.entry(to).or_default();
            *sent += packet.len() as u64;
            let received = node.received.get(&to).copied().unwrap_or(0);
            assert!(
                *sent <= 3 * received,
                "{sent} bytes to {to}, from where {received} came, and nothing is proven"
            );
        }
        let own = node.address;
        self.note(&[self.now, packet.len() as u64]);
        self.carried += 1;
        self.carried_bytes += packet.len() as u64;
        let lost = self
            .filter
            .as_mut()
            .is_some_and(|filter| filter(to, packet));
        if !lost {
            self.net.send(self.instant(), own, to, ECN_CAPABLE, packet);
        }
    }

    fn arrive(&mut self, mut wire: Wire) {
        let Some(index) = self.nodes.iter().position(|node| node.address == wire.to) else {
            return self.net.keep(wire.bytes);
        };
        self.delivered += 1;
        let now = self.instant();
        let segment = wire.bytes.len();
        // Packets of one size that arrive together come in one batch.
        while segment > 0
            && wire.bytes.len().is_multiple_of(segment)
            && let room = segment.min(65_535 - wire.bytes.len())
            && let Some(next) = self.net.recv_alike(now, &wire, room)
        {
            wire.bytes.extend_from_slice(&next.bytes);
            self.net.keep(next.bytes);
        }
        let Wire {
            from, ecn, bytes, ..
        } = wire;
        let now = self.instant();
        let node = &mut self.nodes[index];
        *node.received.entry(from).or_default() += bytes.len() as u64;
        let meta = PacketMeta {
            peer: from,
            segment_bytes: segment,
            ecn,
            local: None,
        };
        node.endpoint.handle_datagrams(&meta, &bytes, now);
        self.events(index, &bytes);
        self.net.keep(bytes);
    }

    fn events(&mut self, index: usize, batch: &[u8]) {
        let now = self.instant();
        while let Some(event) = self.nodes[index].endpoint.poll_event() {
            let node = &mut self.nodes[index];
            match event {
                PacketEvent::Accepted { session, address } => {
                    let line = Line {
                        accepted_from: Some(address),
                        ..Line::default()
                    };
                    assert!(node.lines.insert(session, line).is_none());
                    node.proven.push(address);
                }
                PacketEvent::Opened { session, peer } => {
                    let line = node.lines.get_mut(&session).expect("a known session opens");
                    assert!(!line.opened && line.closed.is_none());
                    line.opened = true;
                    line.epoch = peer.epoch;
                    if let Some((to, restarts)) = line.peer {
                        self.check_epoch(to, restarts, peer.epoch);
                    }
                }
                PacketEvent::Message {
                    session,
                    header,
                    body,
                } => self.message(index, session, header, body, batch),
                PacketEvent::Sent { session, bytes } => {
                    let line = node.lines.get_mut(&session).expect("known");
                    line.queued = line
                        .queued
                        .checked_sub(bytes)
                        .expect("sent what was queued");
                }
                PacketEvent::Draining { session } => {
                    let line = node.lines.get_mut(&session).expect("known");
                    assert!(!line.draining);
                    line.draining = true;
                }
                PacketEvent::Drained { session } => {
                    let line = node.lines.get_mut(&session).expect("known");
                    assert!(!line.drained);
                    line.drained = true;
                    node.endpoint.close(session, CloseCode::Drained, now);
                }
                PacketEvent::Closed {
                    session,
                    end,
                    unsent_bytes,
                } => {
                    let line = node
                        .lines
                        .get_mut(&session)
                        .expect("a known session closes");
                    assert!(line.closed.is_none(), "closed twice");
                    assert_eq!(
                        unsent_bytes, line.queued as u64,
                        "what was not sent is told"
                    );
                    line.closed = Some((end, unsent_bytes));
                }
            }
        }
        let node = &mut self.nodes[index];
        for (id, line) in &node.lines {
            // A peer that moved has answered from where it is now.
            if let Some(address) = node.endpoint.peer_address(*id)
                && line.accepted_from.is_some_and(|from| from != address)
                && !node.proven.contains(&address)
            {
                assert!(
                    node.received.contains_key(&address),
                    "nothing came from {address}"
                );
                node.proven.push(address);
            }
        }
        let budget = node.pools.budget();
        assert!(budget.used() <= budget.limit());
    }

    /// A session that was begun after a node was started anew is one with its new process.
    fn check_epoch(&mut self, node: usize, restarts: u32, epoch: u64) {
        let now = self.nodes[node].restarts;
        let latest = self.epochs.entry((node, epoch)).or_insert(now);
        assert!(
            *latest >= restarts,
            "a session with a process that was dead"
        );
    }

    fn message(
        &mut self,
        index: usize,
        session: SessionId,
        header: Header,
        body: Body,
        batch: &[u8],
    ) {
        let now = self.instant();
        let bytes = match &body {
            Body::Received(range) => &batch[range.clone()],
            Body::Owned(place) => place.bytes(),
        };
        assert_eq!(bytes.len(), header.length as usize);
        let node = &mut self.nodes[index];
        let line = node.lines.get_mut(&session).expect("known");
        assert!(
            line.opened && line.closed.is_none(),
            "between opened and closed"
        );
        if line.paused {
            let mut place = node.pools.lease(bytes.len()).unwrap();
            place.reset(0);
            let mut place = place.into_recv();
            place.rewind(0);
            place.spare_mut()[..bytes.len()].copy_from_slice(bytes);
            place.filled(bytes.len());
            node.endpoint.put_back(session, header, place);
            return;
        }
        let (lane, number) = (usize::from(header.flags), header.word);
        line.bytes_got += bytes.len() as u64;
        line.arrivals.push((now.as_nanos(), bytes.len()));
        if node.keep_bodies {
            node.bodies.push((header, bytes.to_vec()));
        }
        if lane < 3 && !node.is_trusting {
            assert_eq!(header.tag, (number % 60_000) as u16);
            assert!(
                bytes == body_of(lane, number, bytes.len()),
                "message {number} is damaged"
            );
            let got = &mut line.got[lane];
            if got.len() <= number as usize {
                got.resize(number as usize + 1, false);
            }
            assert!(
                !got[number as usize],
                "message {number} of lane {lane} came twice"
            );
            got[number as usize] = true;
            if lane == 0 {
                assert_eq!(number, line.ordered_next, "the order is kept");
                line.ordered_next += 1;
            }
        }
        let word = [now.as_nanos(), number, lane as u64, bytes.len() as u64];
        if node.echo {
            let bytes = bytes.to_vec();
            let header = Header { flags: 9, ..header };
            // A session that closes takes no answer.
            let sent = self.send(index, session, header, &bytes, Delivery::Unordered);
            assert!(sent.is_ok() || sent == Err(SendRefusal::Closed));
        }
        self.note(&word);
    }
}

pub fn lane_of(delivery: Delivery) -> usize {
    match delivery {
        Delivery::Ordered | Delivery::Lane { .. } => 0,
        Delivery::Unordered => 1,
        Delivery::Unreliable { .. } => 2,
    }
}

fn in_flight(node: &Node) -> BTreeMap<SessionId, (u64, u64)> {
    let lines = node.lines.keys();
    lines
        .filter_map(|id| {
            let path = u64::from(node.endpoint.path_bytes(*id)?);
            Some((*id, (node.endpoint.in_flight(*id)?.0, path)))
        })
        .collect()
}

/// Nothing leaves beyond the window but probes and a few control frames.
fn check_window(node: &Node, before: &BTreeMap<SessionId, (u64, u64)>) {
    for (id, (before, path)) in before {
        let Some((after, window)) = node.endpoint.in_flight(*id) else {
            continue;
        };
        // Two probes, one packet begun below the window, one search for the path's size.
        let slack = 3 * path + 65_507;
        assert!(
            after <= *before || after <= window + slack || after - before <= slack,
            "{after} bytes on the way with a window of {window}"
        );
    }
}

/// Two nodes and an open session between them.
pub fn pair(path: PathConfig, seed: u64, config: &RudpConfig) -> (World, SessionId, SessionId) {
    let mut world = World::new(path, seed);
    let client = world.add(config.clone());
    let server = world.add(config.clone());
    let near = world.connect(client, server);
    world.until("both ends are open", |world| {
        world
            .nodes
            .iter()
            .all(|node| !node.lines.is_empty() && node.lines.values().all(|line| line.opened))
    });
    let far = *world.nodes[server].lines.keys().next().unwrap();
    (world, near, far)
}
