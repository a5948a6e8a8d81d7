//! What the tests of the io_uring driver share: a sink that keeps everything, and two drivers turned alternately.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "each test binary uses a part of it, and a test fails by panicking"
)]

pub mod faulty;

use std::collections::HashMap;
use std::rc::Rc;

use ringway_buf::{Mode, Pools, PoolsConfig, RecvBuffer, Slice};
use ringway_driver::uring::{KernelRing, Ring, Uring, UringConfig};
use ringway_driver::{
    AcceptFault, Address, Chain, Close, CloseCause, DatagramMeta, Driver, Incoming, ListenOptions,
    Park, SharedPools, Sink, SocketId, SocketOptions, Want,
};

/// Turns after which a test that makes no progress fails.
pub const TURNS_MAX: usize = 500_000;

/// What the recorder does with stream bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taste {
    /// Copies and consumes all at once.
    Copies,
    /// Consumes all and keeps a slice of every piece.
    KeepsSlices,
    /// Counts and consumes; allocates nothing.
    Counts,
    /// Takes the stream for frames (length, body) and has large bodies received into place.
    Frames,
    /// The same, but large bodies are only counted.
    LargeFrames,
}

/// Bodies from this length on are asked for with `Want::Large`.
pub const LARGE_BYTES: usize = 64 * 1024;

/// A frame as `Taste::Frames` reads it.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// One socket's events.
#[derive(Debug, Default)]
pub struct Log {
    pub connected: usize,
    pub bytes: Vec<u8>,
    pub count: usize,
    pub sent: usize,
    pub ended: usize,
    pub closed: Option<CloseCause>,
    pub datagrams: Vec<(Vec<u8>, DatagramMeta)>,
    pub too_long: Vec<(usize, usize)>,
    pub larges: usize,
    pub accept_faults: usize,
}

/// Keeps all events.
#[derive(Debug)]
pub struct Recorder {
    pub taste: Taste,
    pub logs: HashMap<SocketId, Log>,
    pub accepted: Vec<(SocketId, Incoming)>,
    pub slices: Vec<Slice>,
    pub events: usize,
    pub woke: usize,
    /// Answers `Want::Nothing` to received bytes.
    pub refuses: bool,
    /// Where large bodies go.
    pub pools: Option<SharedPools>,
}

impl Recorder {
    pub fn new(taste: Taste) -> Self {
        Self {
            taste,
            logs: HashMap::new(),
            accepted: Vec::new(),
            slices: Vec::new(),
            events: 0,
            woke: 0,
            refuses: false,
            pools: None,
        }
    }

    pub fn log(&mut self, id: SocketId) -> &mut Log {
        self.events += 1;
        let log = self.logs.entry(id).or_default();
        assert!(log.closed.is_none(), "no event after `closed`");
        log
    }

    pub fn of(&self, id: SocketId) -> &Log {
        self.logs.get(&id).expect("a log of this socket")
    }

    fn frames(&mut self, socket: SocketId, buffer: &mut RecvBuffer) -> Want {
        loop {
            let Some(len) = buffer
                .bytes()
                .first_chunk()
                .map(|len| u32::from_le_bytes(*len))
            else {
                return Want::More(4);
            };
            let len = len as usize;
            if len >= LARGE_BYTES {
                let lease = self
                    .pools
                    .as_ref()
                    .unwrap()
                    .lease(len)
                    .expect("room for a body");
                buffer.consume(4);
                return Want::Large {
                    buffer: lease.into_recv(),
                    remaining: len,
                };
            }
            if buffer.len() < 4 + len {
                return Want::More(4 + len);
            }
            let log = self.log(socket);
            log.bytes.extend_from_slice(&buffer.bytes()[4..4 + len]);
            buffer.consume(4 + len);
        }
    }

    pub fn closed(&self, id: SocketId) -> bool {
        self.logs.get(&id).is_some_and(|log| log.closed.is_some())
    }
}

impl Sink for Recorder {
    fn woke(&mut self, _now: ringway_buf::Instant) {
        self.woke += 1;
    }

    fn connected(&mut self, socket: SocketId) {
        self.log(socket).connected += 1;
    }

    fn accepted(&mut self, listener: SocketId, incoming: Incoming, _peer: Option<Address>) {
        self.events += 1;
        self.accepted.push((listener, incoming));
    }

    fn accept_failed(&mut self, listener: SocketId, _fault: AcceptFault) {
        self.log(listener).accept_faults += 1;
    }

    fn received(&mut self, socket: SocketId, buffer: &mut RecvBuffer) -> Want {
        if self.refuses {
            return Want::Nothing;
        }
        let taste = self.taste;
        if matches!(taste, Taste::Frames | Taste::LargeFrames) {
            return self.frames(socket, buffer);
        }
        if taste == Taste::KeepsSlices {
            let slice = buffer.share(0..buffer.len()).expect("all of it");
            self.slices.push(slice);
        }
        let log = self.log(socket);
        log.count += buffer.len();
        if taste != Taste::Counts {
            log.bytes.extend_from_slice(buffer.bytes());
        }
        buffer.consume(buffer.len());
        Want::More(1)
    }

    fn large(&mut self, socket: SocketId, buffer: RecvBuffer) -> Want {
        let counts = self.taste == Taste::LargeFrames;
        let log = self.log(socket);
        log.larges += 1;
        if counts {
            return Want::More(4);
        }
        log.bytes.extend_from_slice(buffer.bytes());
        Want::More(1)
    }

    fn datagrams(&mut self, socket: SocketId, buffer: &mut RecvBuffer, meta: DatagramMeta) {
        let counts = self.taste == Taste::Counts;
        let log = self.log(socket);
        log.count += buffer.len();
        if counts {
            return buffer.consume(buffer.len());
        }
        log.datagrams.push((buffer.bytes().to_vec(), meta));
        buffer.consume(buffer.len());
    }

    fn sent(&mut self, socket: SocketId, bytes: usize) {
        self.log(socket).sent += bytes;
    }

    fn datagram_too_long(
        &mut self,
        socket: SocketId,
        _peer: Option<std::net::SocketAddr>,
        bytes: usize,
        bytes_max: usize,
    ) {
        self.log(socket).too_long.push((bytes, bytes_max));
    }

    fn ended(&mut self, socket: SocketId) {
        self.log(socket).ended += 1;
    }

    fn closed(&mut self, socket: SocketId, cause: CloseCause) {
        self.log(socket).closed = Some(cause);
    }
}

/// A driver, its pools and its recorder.
#[derive(Debug)]
pub struct Node<R: Ring = KernelRing> {
    pub driver: Uring<R>,
    pub pools: SharedPools,
    pub sink: Recorder,
}

pub fn pools(mode: Mode, budget_bytes: usize) -> SharedPools {
    Rc::new(Pools::new(PoolsConfig { mode, budget_bytes }))
}

impl Node {
    pub fn new(taste: Taste) -> Self {
        Self::with(taste, UringConfig::default(), Mode::Plain, 1 << 28)
    }

    pub fn with(taste: Taste, config: UringConfig, mode: Mode, budget_bytes: usize) -> Self {
        let pools = pools(mode, budget_bytes);
        let driver = Uring::new(config, Rc::clone(&pools)).expect("io_uring works here");
        Self::of(driver, pools, taste)
    }
}

impl<R: Ring> Node<R> {
    pub fn of(driver: Uring<R>, pools: SharedPools, taste: Taste) -> Self {
        let mut sink = Recorder::new(taste);
        sink.pools = Some(Rc::clone(&pools));
        Self {
            driver,
            pools,
            sink,
        }
    }

    pub fn poll(&mut self) -> u32 {
        self.driver.poll(Park::No, &mut self.sink)
    }

    pub fn flush(&mut self) {
        self.driver.flush(&mut self.sink);
    }

    pub fn listen(&mut self, address: &str) -> (SocketId, Address) {
        let address: Address = address.parse().unwrap();
        let id = self
            .driver
            .listen(&address, &ListenOptions::default())
            .unwrap();
        (id, self.driver.local_address(id).unwrap())
    }

    pub fn connect(&mut self, address: &Address) -> SocketId {
        self.driver
            .connect(address, &SocketOptions::default())
            .unwrap()
    }

    /// Takes over what was accepted, and reads from it.
    pub fn adopt_all(&mut self) -> Vec<SocketId> {
        let accepted = std::mem::take(&mut self.sink.accepted);
        accepted
            .into_iter()
            .filter_map(|(_, incoming)| {
                // The peer may be gone already; the socket is closed then.
                let id = self
                    .driver
                    .adopt(incoming, &SocketOptions::default())
                    .ok()?;
                self.driver.read(id, true);
                Some(id)
            })
            .collect()
    }

    pub fn send(&mut self, id: SocketId, bytes: &[u8]) {
        let mut chain = self.chain(bytes);
        self.driver.send(id, &mut chain);
        assert!(chain.is_empty());
    }

    pub fn chain(&self, bytes: &[u8]) -> Chain {
        let mut chain = Chain::new();
        for piece in bytes.chunks(64 * 1024) {
            let mut lease = self.pools.lease(piece.len()).expect("room for a piece");
            lease.append(piece.len()).unwrap().copy_from_slice(piece);
            chain.push_lease(lease);
        }
        chain
    }

    pub fn received(&self, id: SocketId) -> &[u8] {
        self.sink.logs.get(&id).map_or(&[], |log| &log.bytes)
    }

    pub fn close(&mut self, id: SocketId, how: Close) {
        self.driver.close(id, how);
    }
}

/// Turns both nodes until `done`.
pub fn run<A: Ring, B: Ring>(
    a: &mut Node<A>,
    b: &mut Node<B>,
    mut done: impl FnMut(&mut Node<A>, &mut Node<B>) -> bool,
) {
    for _ in 0..TURNS_MAX {
        if done(a, b) {
            return;
        }
        a.poll();
        a.flush();
        b.poll();
        b.flush();
    }
    panic!(
        "no progress: {:#?} {:#?}",
        a.driver.stats(),
        b.driver.stats()
    );
}

/// A connected pair of sockets, both being read.
pub fn pair<A: Ring, B: Ring>(
    a: &mut Node<A>,
    b: &mut Node<B>,
    address: &str,
) -> (SocketId, SocketId) {
    pair_with(a, b, address, &SocketOptions::default())
}

/// The same with options for the connecting side.
pub fn pair_with<A: Ring, B: Ring>(
    a: &mut Node<A>,
    b: &mut Node<B>,
    address: &str,
    options: &SocketOptions,
) -> (SocketId, SocketId) {
    let (listener, address) = b.listen(address);
    let near = a.driver.connect(&address, options).unwrap();
    a.driver.read(near, true);
    let mut far = None;
    run(a, b, |a, b| {
        far = far.or_else(|| b.adopt_all().pop());
        far.is_some() && a.sink.logs.get(&near).is_some_and(|log| log.connected == 1)
    });
    b.close(listener, Close::Abort);
    run(a, b, |_, b| b.sink.closed(listener));
    (near, far.unwrap())
}

/// Reproducible bytes.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes()[..6]);
    }
    bytes.truncate(len);
    bytes
}

/// xorshift64*: enough for tests, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds shall not begin alike (the finish of splitmix64).
        let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((state ^ (state >> 31)) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}
