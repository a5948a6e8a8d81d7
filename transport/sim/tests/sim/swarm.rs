//! A swarm of random networks: what is sent arrives in order and whole, or a close is reported.
//!
//! A tiny protocol speaks over raw drivers: `length u32 | sequence u32 | checksum u64 | payload`, in both
//! directions of a few connections, beside numbered datagrams. Each seed draws its own network and faults;
//! then everything heals, and nothing may be left.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ringway_buf::{Chain, Mode, Pools, PoolsConfig, RecvBuffer};
use ringway_driver::{
    AcceptFault, Address, Burst, Close, CloseCause, DatagramMeta, Driver, Incoming, ListenOptions,
    Park, SharedPools, Sink, SocketId, SocketOptions, Want,
};
use ringway_sim::{Fault, FaultCounts, NetConfig, Pending, SimDriver, SimNet};

use crate::host::parse;

const HEAD_BYTES: usize = 16;
/// A message that lacks more than this is asked for as a large one.
const LARGE_BYTES: usize = 20_000;
/// Bytes that one end queues at once.
const QUEUED_BYTES_MAX: usize = 128 * 1024;
/// Turns in which a run must come to rest.
const TURNS_MAX: u32 = 2_000_000;

fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word ^ (word >> 29)
}

fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|part| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        u64::from_le_bytes(word)
    });
    words.fold(bytes.len() as u64, |sum, word| mix(sum ^ word))
}

/// The length of message `sequence` of a direction: mostly short, sometimes large.
fn length(direction: u64, sequence: u32) -> usize {
    let draw = mix(direction ^ (u64::from(sequence) << 32));
    let range = match draw % 16 {
        0 => 60_000,
        1..4 => 3000,
        _ => 100,
    };
    usize::try_from(mix(draw) % range).expect("small")
}

fn message(direction: u64, sequence: u32) -> Vec<u8> {
    let len = length(direction, sequence);
    let mut bytes = vec![0; HEAD_BYTES + len];
    let first = mix(direction ^ u64::from(sequence).rotate_left(40));
    for (word, part) in (first..).zip(bytes[HEAD_BYTES..].chunks_mut(8)) {
        part.copy_from_slice(&mix(word).to_le_bytes()[..part.len()]);
    }
    let sum = checksum(&bytes[HEAD_BYTES..]);
    bytes[..4].copy_from_slice(&u32::try_from(len).expect("short").to_le_bytes());
    bytes[4..8].copy_from_slice(&sequence.to_le_bytes());
    bytes[8..16].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// One end of a connection.
#[derive(Debug, Default)]
struct Conversation {
    connected: bool,
    /// Messages queued, and bytes of them that were not reported as sent.
    queued: u32,
    unsent: usize,
    /// Messages received, each checked.
    received: u32,
    head: Option<[u8; HEAD_BYTES]>,
    pauses: u32,
    ended: bool,
    closing: bool,
    closed: Option<&'static str>,
}

/// The sink of one host: checks every message as it comes.
struct Peer {
    pools: SharedPools,
    /// Message counts are compared to this in both directions.
    expected: u32,
    /// Which direction's messages this host receives, and which it sends.
    inbound: u64,
    outbound: u64,
    conversations: BTreeMap<SocketId, Conversation>,
    arrivals: Vec<Incoming>,
    listener_off: bool,
    datagrams: u64,
    bad_datagrams: u64,
    truncated: u64,
    bystanders_closed: u32,
    starved: bool,
    resume: Vec<SocketId>,
}

impl Peer {
    fn check(conversation: &mut Conversation, direction: u64, head: &[u8], body: &[u8]) {
        let sequence = u32::from_le_bytes(head[4..8].try_into().expect("four"));
        let sum = u64::from_le_bytes(head[8..16].try_into().expect("eight"));
        assert_eq!(
            sequence, conversation.received,
            "messages in order, each once"
        );
        assert_eq!(
            body.len(),
            length(direction, sequence),
            "the length is the sender's"
        );
        assert_eq!(sum, checksum(body), "the bytes are the sender's");
        conversation.received += 1;
    }

    fn conversation(&mut self, socket: SocketId) -> &mut Conversation {
        let found = self
            .conversations
            .get_mut(&socket)
            .expect("a socket of ours");
        assert!(found.closed.is_none(), "an event after `closed`");
        found
    }
}

impl Sink for Peer {
    fn connected(&mut self, socket: SocketId) {
        if let Some(conversation) = self.conversations.get_mut(&socket) {
            conversation.connected = true;
        }
    }

    fn accepted(&mut self, _listener: SocketId, incoming: Incoming, _peer: Option<Address>) {
        self.arrivals.push(incoming);
    }

    fn accept_failed(&mut self, _listener: SocketId, _fault: AcceptFault) {
        self.listener_off = true;
    }

    fn received(&mut self, socket: SocketId, buffer: &mut RecvBuffer) -> Want {
        let (pools, inbound) = (Rc::clone(&self.pools), self.inbound);
        let conversation = self.conversation(socket);
        loop {
            let Some(head) = buffer.bytes().get(..HEAD_BYTES) else {
                return Want::More(HEAD_BYTES);
            };
            let head: [u8; HEAD_BYTES] = head.try_into().expect("a head");
            let len = u32::from_le_bytes(head[..4].try_into().expect("four")) as usize;
            let there = buffer.len() - HEAD_BYTES;
            if there >= len {
                let body = &buffer.bytes()[HEAD_BYTES..HEAD_BYTES + len];
                Self::check(conversation, inbound, &head, body);
                buffer.consume(HEAD_BYTES + len);
                // Now and then the receiver has enough for a while.
                if conversation.received.is_multiple_of(13) {
                    conversation.pauses += 1;
                    self.resume.push(socket);
                    return Want::Nothing;
                }
                continue;
            }
            if len - there < LARGE_BYTES {
                return Want::More(HEAD_BYTES + len);
            }
            let Some(lease) = pools.lease(len + 64) else {
                self.starved = true;
                self.resume.push(socket);
                return Want::Nothing;
            };
            let mut place = lease.into_recv();
            place.spare_mut()[..there].copy_from_slice(&buffer.bytes()[HEAD_BYTES..]);
            place.filled(there);
            buffer.consume(HEAD_BYTES + there);
            conversation.head = Some(head);
            return Want::Large {
                buffer: place,
                remaining: len - there,
            };
        }
    }

    fn large(&mut self, socket: SocketId, buffer: RecvBuffer) -> Want {
        let inbound = self.inbound;
        let conversation = self.conversation(socket);
        let head = conversation.head.take().expect("a head came first");
        Self::check(conversation, inbound, &head, buffer.bytes());
        Want::More(HEAD_BYTES)
    }

    fn datagrams(&mut self, _socket: SocketId, buffer: &mut RecvBuffer, meta: DatagramMeta) {
        let segment = (meta.segment_bytes as usize).max(1);
        for part in buffer.bytes().chunks(segment) {
            self.datagrams += 1;
            self.truncated += u64::from(meta.truncated);
            let intact = part.len() >= HEAD_BYTES
                && part[8..16] == checksum(&part[HEAD_BYTES..]).to_le_bytes();
            self.bad_datagrams += u64::from(!intact && !meta.truncated);
        }
        if buffer.is_empty() {
            self.datagrams += 1;
            self.truncated += u64::from(meta.truncated);
        }
        buffer.consume(buffer.len());
    }

    fn sent(&mut self, socket: SocketId, bytes: usize) {
        if self.conversations.contains_key(&socket) {
            let conversation = self.conversation(socket);
            conversation.unsent = conversation
                .unsent
                .checked_sub(bytes)
                .expect("sent what was not");
        }
    }

    fn datagram_too_long(
        &mut self,
        _socket: SocketId,
        _peer: Option<std::net::SocketAddr>,
        _bytes: usize,
        _bytes_max: usize,
    ) {
        panic!("all datagrams are short");
    }

    fn ended(&mut self, socket: SocketId) {
        let conversation = self.conversation(socket);
        assert!(!conversation.ended, "one end");
        conversation.ended = true;
    }

    fn closed(&mut self, socket: SocketId, cause: CloseCause) {
        if !self.conversations.contains_key(&socket) {
            self.bystanders_closed += 1;
            return;
        }
        self.conversation(socket).closed = Some(match cause {
            CloseCause::Requested => "requested",
            CloseCause::ConnectFailed(_) => "connect failed",
            CloseCause::Broken(_) => "broken",
            _ => "unknown",
        });
    }
}

struct Host {
    driver: SimDriver,
    peer: Peer,
    mailbox: SocketId,
}

impl Host {
    /// `expected` messages inbound and outbound, and datagrams to `target`, if there is one.
    fn new(
        net: &SimNet,
        name: &str,
        expected: u32,
        (inbound, outbound): (u64, u64),
        target: Option<std::net::SocketAddr>,
    ) -> Self {
        // Small enough that memory runs out in some runs, large enough that it comes back. Poisoned
        // memory notices use after free, but costs time: one run in eight has it.
        let budget_bytes = 3 * 1024 * 1024;
        let mode = if net.seed().is_multiple_of(8) {
            Mode::Poison
        } else {
            Mode::Plain
        };
        let pools = Rc::new(Pools::new(PoolsConfig { budget_bytes, mode }));
        let mut driver = net.node(name, Rc::clone(&pools));
        let address = parse("udp://127.0.0.1:0");
        let mailbox = match target {
            Some(target) => driver.connect(&Address::Udp(target), &SocketOptions::default()),
            None => driver.bind(&address, &ListenOptions::default()),
        };
        let mailbox = mailbox.expect("opened");
        driver.read(mailbox, true);
        let peer = Peer {
            pools,
            expected,
            inbound,
            outbound,
            conversations: BTreeMap::new(),
            arrivals: Vec::new(),
            listener_off: false,
            datagrams: 0,
            bad_datagrams: 0,
            truncated: 0,
            bystanders_closed: 0,
            starved: false,
            resume: Vec::new(),
        };
        Self {
            driver,
            peer,
            mailbox,
        }
    }

    fn start(&mut self, socket: SocketId, connected: bool) {
        let conversation = Conversation {
            connected,
            ..Conversation::default()
        };
        self.peer.conversations.insert(socket, conversation);
        self.driver.read(socket, true);
    }

    fn send_datagram(&mut self, number: u32) -> bool {
        let len = HEAD_BYTES + (number as usize * 53 % 1100);
        let Some(mut lease) = self.peer.pools.lease(2 * len) else {
            return false;
        };
        let count = 1 + number % 2;
        for _ in 0..count {
            let bytes = lease.append(len).expect("room");
            bytes.fill(number.to_le_bytes()[0]);
            let sum = checksum(&bytes[HEAD_BYTES..]);
            bytes[8..16].copy_from_slice(&sum.to_le_bytes());
        }
        let segment_bytes = u32::try_from(len).expect("short");
        let burst = Burst {
            lease,
            segment_bytes,
            count,
            peer: None,
            source: None,
            ecn: None,
        };
        self.driver.send_to(self.mailbox, burst);
        true
    }

    /// Queues messages, adopts arrivals, switches on what was off: what an engine does between polls.
    fn act(&mut self) {
        for incoming in std::mem::take(&mut self.peer.arrivals) {
            let options = SocketOptions::default();
            let socket = self.driver.adopt(incoming, &options).expect("adopted");
            self.start(socket, true);
        }
        for socket in std::mem::take(&mut self.peer.resume) {
            self.driver.read(socket, true);
        }
        let (expected, outbound) = (self.peer.expected, self.peer.outbound);
        for (socket, conversation) in &mut self.peer.conversations {
            if !conversation.connected || conversation.closing || conversation.closed.is_some() {
                continue;
            }
            while conversation.queued < expected && conversation.unsent < QUEUED_BYTES_MAX {
                let bytes = message(outbound, conversation.queued);
                let Some(mut lease) = self.peer.pools.lease(bytes.len()) else {
                    break;
                };
                lease
                    .append(bytes.len())
                    .expect("room")
                    .copy_from_slice(&bytes);
                let mut chain = Chain::new();
                chain.push_lease(lease);
                self.driver.send(*socket, &mut chain);
                conversation.queued += 1;
                conversation.unsent += bytes.len();
            }
            let done = conversation.queued == expected && conversation.received == expected;
            if done || conversation.ended {
                conversation.closing = true;
                self.driver.close(*socket, Close::Graceful);
            }
        }
    }

    fn turn(&mut self, starving: bool) -> u32 {
        self.act();
        if self.peer.listener_off || starving {
            self.peer.listener_off = false;
            for socket in self.peer.listeners() {
                self.driver.read(socket, true);
            }
        }
        self.driver.flush(&mut self.peer);
        self.driver.poll(Park::Until(None), &mut self.peer)
    }
}

impl Peer {
    fn listeners(&self) -> Vec<SocketId> {
        // The listener is the second socket of its host.
        vec![SocketId(ringway_buf::Id::from_parts(1, 1))]
    }
}

/// Prints the seed of a run that panics.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("RINGWAY_SEED={} replays this run", self.0);
        }
    }
}

struct Run {
    net: SimNet,
    server: Host,
    client: Host,
}

impl Run {
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let events = self.server.turn(false) + self.client.turn(false);
            if events == 0 && !self.net.advance() {
                return;
            }
        }
        panic!("no rest");
    }
}

/// One seed: returns its faults and the messages that arrived.
fn run(seed: u64) -> (FaultCounts, u64) {
    let _replay = Replay(seed);
    let net = SimNet::new(NetConfig::swarm(seed), seed);
    let expected = 20 + u32::try_from(mix(seed) % 100).expect("small");
    let connections = 1 + mix(seed ^ 1) % 3;
    let mut server = Host::new(&net, "server", expected, (2 * seed, 2 * seed + 1), None);
    let address = parse(if seed.is_multiple_of(2) {
        "tcp://127.0.0.1:0"
    } else {
        "unix://@swarm"
    });
    let listener = server
        .driver
        .listen(&address, &ListenOptions::default())
        .expect("listens");
    assert_eq!(vec![listener], server.peer.listeners());
    let address = server.driver.local_address(listener).expect("a name");
    let target = server
        .driver
        .local_address(server.mailbox)
        .and_then(|local| local.socket_addr());
    let target = Some(target.expect("a name"));
    let client = Host::new(&net, "client", expected, (2 * seed + 1, 2 * seed), target);
    let mut run = Run {
        net,
        server,
        client,
    };
    for _ in 0..connections {
        let socket = run
            .client
            .driver
            .connect(&address, &SocketOptions::default());
        run.client.start(socket.expect("starts"), false);
    }
    // The safety phase: half of the datagrams one by one, faults as they come.
    for number in 0..100 {
        run.client.send_datagram(number);
        let _busy = run.client.turn(false) + run.server.turn(false);
        run.net
            .advance_by(Duration::from_micros(mix(seed ^ u64::from(number)) % 3000));
    }
    run.settle();
    // The liveness phase.
    run.net.heal();
    run.server.turn(true);
    run.settle();
    check(&run);
    finish(&mut run, listener);
    let received = |host: &Host| {
        let all = host.peer.conversations.values();
        all.map(|conversation| u64::from(conversation.received))
            .sum::<u64>()
    };
    (
        run.net.fault_counts(),
        received(&run.server) + received(&run.client),
    )
}

/// Everything arrived, or somebody was told, or the network is one whose peers fall silent.
fn check(run: &Run) {
    let counts = run.net.fault_counts();
    let silent = counts.of(Fault::HalfOpen) + counts.of(Fault::ConnectSilent) > 0;
    let aborting = counts.of(Fault::Reset) + counts.of(Fault::Accept) > 0;
    for host in [&run.server, &run.client] {
        for (socket, conversation) in &host.peer.conversations {
            let complete = conversation.received == host.peer.expected;
            let context = || format!("{socket:?} {conversation:?}");
            match conversation.closed {
                Some("requested") => assert!(complete, "{}", context()),
                Some("broken") => assert!(aborting || silent, "{}", context()),
                Some("connect failed") => {
                    let refused = counts.of(Fault::ConnectRefused) > 0;
                    assert!(refused || aborting || silent, "{}", context());
                }
                _ => assert!(silent, "neither complete nor closed: {}", context()),
            }
            if !aborting && !silent && conversation.connected {
                assert!(complete, "a healthy connection delivers all: {}", context());
            }
        }
    }
    let sent = run.client.driver.stats().datagrams_out;
    let lost = [
        Fault::Loss,
        Fault::BurstLoss,
        Fault::BlackHole,
        Fault::Partition,
    ]
    .map(|fault| counts.of(fault));
    let overflow = counts.of(Fault::Overflow) - run.client.driver.stats().datagrams_dropped;
    let arrived = sent + counts.of(Fault::Duplicate) - lost.iter().sum::<u64>() - overflow;
    assert_eq!(
        run.server.peer.datagrams, arrived,
        "datagrams are conserved"
    );
    // What was damaged on its way may still have met a full inbox.
    assert!(run.server.peer.bad_datagrams <= counts.of(Fault::Corrupt));
    assert!(run.server.peer.truncated <= counts.of(Fault::Truncate));
}

/// Closes what is left; then nothing may be pending and all memory be home.
fn finish(run: &mut Run, listener: SocketId) {
    for host in [&mut run.server, &mut run.client] {
        let mailbox = host.mailbox;
        let sockets: Vec<SocketId> = host.peer.conversations.keys().copied().collect();
        for socket in sockets.into_iter().chain([mailbox]) {
            host.driver.close(socket, Close::Abort);
        }
    }
    run.server.driver.close(listener, Close::Abort);
    run.settle();
    for host in [&run.server, &run.client] {
        let open = host
            .peer
            .conversations
            .values()
            .filter(|one| one.closed.is_none())
            .count();
        assert_eq!(open, 0, "every socket reports its end");
        assert_eq!(host.driver.socket_count(), 0);
    }
    assert_eq!(run.server.peer.bystanders_closed, 2);
    assert_eq!(run.net.pending(), Pending::default(), "a quiet network");
    for host in [&mut run.server, &mut run.client] {
        host.driver.shutdown(Duration::ZERO);
        let pools = &host.peer.pools;
        assert_eq!(
            pools.budget().used(),
            pools.stashed_bytes(),
            "all memory is home"
        );
    }
}

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")),
    )
}

#[test]
fn swarm_of_500_networks_loses_nothing_in_silence() {
    if let Some(seed) = number_from_environment("RINGWAY_SEED") {
        let (counts, messages) = run(seed);
        println!("seed {seed}: {messages} messages; {counts}");
        assert_eq!(run(seed), (counts, messages), "a replay is the same run");
        return;
    }
    let seeds = number_from_environment("RINGWAY_SEEDS").unwrap_or(500);
    let (mut sum, mut sum_messages) = (FaultCounts::default(), 0);
    for seed in 0..seeds {
        let (counts, messages) = run(seed);
        sum += counts;
        sum_messages += messages;
    }
    println!("{seeds} seeds, {sum_messages} messages; {sum}");
    if seeds >= 500 {
        for (fault, count) in sum.iter() {
            assert!(count > 0, "{fault:?} never fired");
        }
    }
}
