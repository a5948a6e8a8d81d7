//! What the targets of reliable UDP do with their bytes. Ordinary tests replay the checked-in seeds by the same
//! functions.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::needless_range_loop,
    reason = "shared by fuzz targets and a test, which fail by panicking"
)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringway_buf::{Instant, Pools, PoolsConfig, crc32c};
use ringway_proto::Header;
use ringway_proto::packet::{
    Body, Delivery, Outgoing, PacketEndpoint, PacketEvent, PacketMeta, SessionEnd, SessionId,
    TransmitSink,
};
use ringway_proto::rudp::{Rudp, RudpConfig};

/// Memory of an endpoint.
const BUDGET_BYTES: usize = 8 << 20;
/// What an address that is not proven gets at most, for each byte that came from it.
const AMPLIFICATION_MAX: u64 = 3;
/// Most datagrams that wait on a way.
const FLIGHTS_MAX: usize = 256;

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 7000))
}

/// Puts a packet's sum in its place, so that it is looked at.
fn seal(packet: &mut [u8]) {
    if packet.len() >= 8 {
        packet[4..8].fill(0);
        let sum = crc32c(0, packet);
        packet[4..8].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Bytes that decide: none left is zero.
struct Dice<'a>(&'a [u8]);

impl<'a> Dice<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (part, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        part
    }
}

#[derive(Default)]
struct Lender {
    sent: Vec<(SocketAddr, Vec<u8>, usize)>,
    lent: Vec<u8>,
    to: Option<SocketAddr>,
}

impl TransmitSink for Lender {
    fn lend(&mut self, peer: SocketAddr, segment_bytes: usize, count: usize) -> Option<&mut [u8]> {
        self.lent.clear();
        self.lent.resize(segment_bytes * count, 0xA5);
        self.to = Some(peer);
        Some(&mut self.lent)
    }

    fn commit(&mut self, bytes: usize, segment_bytes: usize) {
        let to = self.to.take().expect("a lease is committed once");
        self.sent
            .push((to, self.lent[..bytes].to_vec(), segment_bytes));
    }
}

/// An endpoint, its owner, and what both have seen.
struct Host {
    endpoint: Rudp,
    pools: Rc<Pools>,
    address: SocketAddr,
    /// Sessions that were announced and not closed.
    sessions: Vec<SessionId>,
    opened: bool,
    ends: Vec<SessionEnd>,
    /// Numbers of the messages that came, by lane.
    got: [Vec<u64>; 3],
    strangers: u64,
}

impl Host {
    fn new(number: u8, seed: u64) -> Self {
        let pools = Rc::new(Pools::new(PoolsConfig {
            budget_bytes: BUDGET_BYTES,
            ..PoolsConfig::default()
        }));
        let mut config = RudpConfig {
            sessions_max: 64,
            cookies_from: 8,
            credit_bytes: 64 << 10,
            ..RudpConfig::default()
        };
        config.stream.message_bytes_max = 256 << 10;
        Self {
            endpoint: Rudp::new(config, Rc::clone(&pools), seed).expect("good settings"),
            pools,
            address: address(number),
            sessions: Vec::new(),
            opened: false,
            ends: Vec::new(),
            got: [Vec::new(), Vec::new(), Vec::new()],
            strangers: 0,
        }
    }

    fn take(&mut self, from: SocketAddr, bytes: &[u8], segment_bytes: usize, now: Instant) {
        let meta = PacketMeta {
            peer: from,
            segment_bytes,
            ecn: 0,
            local: None,
        };
        self.endpoint.handle_datagrams(&meta, bytes, now);
        self.events(bytes);
    }

    fn events(&mut self, batch: &[u8]) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                PacketEvent::Accepted { session, .. } => self.sessions.push(session),
                PacketEvent::Opened { session, .. } => {
                    self.opened = true;
                    assert!(self.sessions.contains(&session), "opened before announced");
                }
                PacketEvent::Message {
                    session,
                    header,
                    body,
                } => {
                    assert!(self.sessions.contains(&session), "a message of nobody");
                    let bytes = match &body {
                        Body::Received(range) => &batch[range.clone()],
                        Body::Owned(place) => place.bytes(),
                    };
                    assert_eq!(bytes.len(), header.length as usize);
                    self.message(&header, bytes);
                }
                PacketEvent::Closed { session, end, .. } => {
                    let before = self.sessions.len();
                    self.sessions.retain(|it| *it != session);
                    assert!(self.sessions.len() < before, "closed twice");
                    self.ends.push(end);
                }
                PacketEvent::Sent { .. }
                | PacketEvent::Draining { .. }
                | PacketEvent::Drained { .. } => {}
            }
        }
        assert!(self.pools.budget().used() <= BUDGET_BYTES);
    }

    fn message(&mut self, header: &Header, bytes: &[u8]) {
        let lane = usize::from(header.flags) % 3;
        if header.tag == MARK && bytes == content(lane, header.word, bytes.len()) {
            self.got[lane].push(header.word);
        } else {
            self.strangers += 1;
        }
    }

    fn send(&mut self, delivery: Delivery, number: u64, len: usize, now: Instant) -> bool {
        let (Some(session), Some(mut lease)) = (self.sessions.first(), self.pools.lease(len))
        else {
            return false;
        };
        let lane = lane_of(delivery);
        lease.reset(0);
        let Some(room) = lease.append(len) else {
            return false;
        };
        room.copy_from_slice(&content(lane, number, len));
        let message = Outgoing {
            header: Header {
                word: number,
                flags: lane as u8,
                ..Header::message(0, MARK, 0)
            },
            body: lease.freeze(),
            delivery,
        };
        self.endpoint.send(*session, message, now).is_ok()
    }

    fn transmit(&mut self, now: Instant) -> Vec<(SocketAddr, Vec<u8>, usize)> {
        if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
            self.events(&[]);
        }
        let mut lender = Lender::default();
        for _ in 0..64 {
            if !self.endpoint.poll_transmit(&mut lender, now) {
                break;
            }
        }
        lender.sent
    }
}

/// Tag of messages that say what they are.
const MARK: u16 = 0x4D4D;

fn lane_of(delivery: Delivery) -> usize {
    match delivery {
        Delivery::Ordered | Delivery::Lane { .. } => 0,
        Delivery::Unordered => 1,
        Delivery::Unreliable { .. } => 2,
    }
}

fn content(lane: usize, number: u64, len: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ lane as u64 | 1;
    let bytes = (0..len).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    bytes.collect()
}

/// Two hosts and all datagrams between them.
struct Pair {
    now: u64,
    hosts: [Host; 2],
    flights: VecDeque<(usize, SocketAddr, Vec<u8>, usize)>,
    /// The last packet that each host sent.
    last: [Vec<u8>; 2],
    /// Bytes from and to addresses that nobody has proven.
    from: BTreeMap<SocketAddr, u64>,
    to: BTreeMap<SocketAddr, u64>,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            now: 1_000_000,
            hosts: [Host::new(1, 11), Host::new(2, 22)],
            flights: VecDeque::new(),
            last: [Vec::new(), Vec::new()],
            from: BTreeMap::new(),
            to: BTreeMap::new(),
        };
        let now = pair.instant();
        let (client, server) = (&mut pair.hosts[0], address(2));
        let session = client
            .endpoint
            .connect(server, now)
            .expect("a private address");
        client.sessions.push(session);
        pair
    }

    fn opened() -> Self {
        let mut pair = Self::new();
        for _ in 0..200 {
            if pair.hosts.iter().all(|host| host.opened) {
                break;
            }
            pair.flush();
            if pair.flights.is_empty() {
                pair.now += 1_000_000;
            }
            pair.deliver();
        }
        assert!(pair.hosts.iter().all(|host| host.opened));
        pair
    }

    fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn flush(&mut self) {
        let now = self.instant();
        for index in 0..2 {
            for (to, bytes, segment) in self.hosts[index].transmit(now) {
                let target = self.hosts.iter().position(|host| host.address == to);
                let Some(target) = target else {
                    let sent = self.to.entry(to).or_default();
                    *sent += bytes.len() as u64;
                    let got = self.from.get(&to).copied().unwrap_or(0);
                    assert!(*sent <= got * AMPLIFICATION_MAX, "a reflector");
                    continue;
                };
                if let Some(packet) = bytes.chunks(segment.max(1)).last() {
                    self.last[index] = packet.to_vec();
                }
                let from = self.hosts[index].address;
                if self.flights.len() < FLIGHTS_MAX {
                    self.flights.push_back((target, from, bytes, segment));
                }
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.instant();
        if let Some((to, from, bytes, segment)) = self.flights.pop_front() {
            self.hosts[to].take(from, &bytes, segment, now);
        }
    }

    /// A datagram that somebody made up.
    fn inject(&mut self, to: usize, from: SocketAddr, bytes: &[u8]) {
        if self.hosts.iter().all(|host| host.address != from) {
            *self.from.entry(from).or_default() += bytes.len() as u64;
        }
        let now = self.instant();
        self.hosts[to].take(from, bytes, bytes.len(), now);
    }
}

/// Arbitrary packets at an endpoint that has an open session: the server's (0: at the client).
fn recv(bytes: &[u8], to: usize) {
    let mut pair = Pair::opened();
    let mut dice = Dice(bytes);
    for step in 0_u32..256 {
        if dice.0.is_empty() {
            break;
        }
        let op = dice.byte();
        let peer = 1 - to;
        let from = match op & 3 {
            0 | 1 => pair.hosts[peer].address,
            number => address(100 + number),
        };
        let mut packet = match op >> 2 & 7 {
            // Frames that claim to be the session's next.
            0 | 1 => {
                let len = usize::from(dice.byte());
                let number = 1_000 + step;
                let mut packet = vec![0x50, dice.byte() & 3, 0, 0, 0, 0, 0, 0];
                packet.extend_from_slice(pair.last[peer].get(8..16).unwrap_or(&[0; 8]));
                packet.extend_from_slice(&number.to_le_bytes());
                packet.extend_from_slice(dice.bytes(len));
                packet
            }
            // What was sent before, changed in one place.
            2 => {
                let mut packet = pair.last[peer].clone();
                let (at, change) = (usize::from(dice.byte()), dice.byte());
                if let Some(byte) = packet.get_mut(at) {
                    *byte ^= change;
                }
                packet
            }
            // A long one of the handshake.
            3 => {
                let mut packet = vec![0xC0 | dice.byte() & 7, 0, 0, 0, 0, 0, 0, 0];
                let len = usize::from(dice.byte());
                packet.extend_from_slice(dice.bytes(len));
                packet.resize(1200, 0);
                packet
            }
            4 => {
                pair.now += 1 << (dice.byte() % 32);
                Vec::new()
            }
            5 => {
                pair.deliver();
                Vec::new()
            }
            6 => {
                let now = pair.instant();
                let len = usize::from(dice.byte()) * 64;
                pair.hosts[to].send(Delivery::Unordered, u64::from(step), len, now);
                Vec::new()
            }
            _ => {
                let len = usize::from(dice.byte());
                dice.bytes(len).to_vec()
            }
        };
        if !packet.is_empty() {
            if op & 0x80 == 0 {
                seal(&mut packet);
            }
            pair.inject(to, from, &packet);
        }
        pair.flush();
    }
}

/// Arbitrary packets for a server: handshakes, cookies, resets, and an open session's.
pub fn server_recv(bytes: &[u8]) {
    recv(bytes, 1);
}

/// Arbitrary packets for a client.
pub fn client_recv(bytes: &[u8]) {
    recv(bytes, 0);
}

/// One packet for an endpoint that knows nobody: nothing comes of it but a shorter answer.
pub fn packet(bytes: &[u8]) {
    let mut pair = Pair::new();
    let mut packet = bytes.to_vec();
    for is_sealed in [false, true] {
        if is_sealed {
            seal(&mut packet);
        }
        for to in [0, 1] {
            pair.inject(to, address(101), &packet);
            pair.flush();
        }
    }
    assert!(pair.hosts.iter().all(|host| host.strangers == 0));
}

/// Two honest ends over a way that loses, repeats, reorders, cuts and damages; in the end it heals, and every
/// promise has to be kept.
pub fn pair(bytes: &[u8]) {
    let mut pair = Pair::new();
    let mut dice = Dice(bytes);
    let mut sent = [[0_u64; 3]; 2];
    for _ in 0..1024 {
        if dice.0.is_empty() {
            break;
        }
        let op = dice.byte();
        let now = pair.instant();
        match op & 7 {
            0 | 1 => {
                let (host, lane) = (usize::from(op >> 3 & 1), usize::from(op >> 4) % 3);
                let delivery = match lane {
                    0 => Delivery::Ordered,
                    1 => Delivery::Unordered,
                    _ => Delivery::Unreliable {
                        deadline: now + Duration::from_millis(1),
                    },
                };
                let len = usize::from(dice.byte()) << (op >> 6);
                let number = sent[host][lane];
                let is_open = pair.hosts[host].opened;
                if is_open && pair.hosts[host].send(delivery, number, len, now) {
                    sent[host][lane] += 1;
                }
            }
            2 => drop(pair.flights.pop_front()),
            3 => {
                if let Some(flight) = pair.flights.front().cloned() {
                    pair.flights.push_back(flight);
                }
            }
            4 => pair
                .flights
                .rotate_left(usize::from(pair.flights.len() > 1)),
            5 => {
                let (at, change) = (usize::from(dice.byte()), dice.byte());
                if let Some((_, _, bytes, _)) = pair.flights.front_mut() {
                    match bytes.get_mut(at) {
                        Some(byte) if change > 0 => *byte ^= change,
                        _ => bytes.truncate(at),
                    }
                }
            }
            6 => pair.now += 1_u64 << (10 + (op >> 3 & 15)),
            _ => pair.deliver(),
        }
        pair.flush();
    }
    let settled = |pair: &Pair| {
        (0..2).all(|host| {
            (0..2).all(|lane| pair.hosts[1 - host].got[lane].len() as u64 >= sent[host][lane])
        })
    };
    for _ in 0..100_000 {
        if settled(&pair) || pair.hosts.iter().any(|host| !host.ends.is_empty()) {
            break;
        }
        pair.flush();
        if pair.flights.is_empty() {
            let timers = pair
                .hosts
                .iter()
                .filter_map(|it| it.endpoint.poll_timeout());
            let next = timers.min().map_or(pair.now + 1, Instant::as_nanos);
            pair.now = next.max(pair.now + 1);
        }
        pair.deliver();
    }
    let ended = pair.hosts.iter().any(|host| !host.ends.is_empty());
    // Time may have passed beyond every time limit; no other end is right.
    for host in &pair.hosts {
        let is_late = |end: &SessionEnd| {
            matches!(
                end,
                SessionEnd::Expired(_) | SessionEnd::Peer(_) | SessionEnd::Reset
            )
        };
        assert!(host.ends.iter().all(is_late), "{:?}", host.ends);
        assert_eq!(host.strangers, 0, "every message is whole");
    }
    for host in 0..2 {
        let got = &pair.hosts[1 - host].got;
        assert!(got[0].iter().copied().eq(0..got[0].len() as u64), "order");
        for lane in 1..3 {
            let mut numbers = got[lane].clone();
            numbers.sort_unstable();
            let count = numbers.len();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "a message came twice");
            assert!(numbers.last().is_none_or(|last| *last < sent[host][lane]));
        }
        if !ended {
            for lane in 0..2 {
                assert_eq!(got[lane].len() as u64, sent[host][lane], "all arrive");
            }
        }
    }
}
