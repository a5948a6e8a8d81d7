//! What every driver must do, written once against the contract.
//!
//! A scenario is a generic function of a constructor; `conformance.rs` makes one test of each for each driver.
//! [`World`] drives one driver and notes its events in a [`Log`], which also checks on every event that
//! `closed` is a socket's last.

pub(crate) mod closing;
pub(crate) mod datagrams;
pub(crate) mod limits;
pub(crate) mod opening;
pub(crate) mod streams;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringway_buf::{Chain, Instant, Pools, PoolsConfig, RecvBuffer};
use ringway_driver::{
    AcceptFault, Address, CloseCause, DatagramMeta, Driver, Incoming, ListenOptions, Park,
    SharedPools, Sink, SocketId, SocketOptions, Want,
};

/// Makes a driver on the given pools.
pub(crate) type Make<D> = fn(SharedPools) -> D;

/// Turns in a row that spin before one may sleep; both ways through a driver are walked.
const SPINS: u32 = 48;
/// Turns that never sleep after which a test is lost: a few seconds at least.
pub(crate) const SPINS_MAX: u32 = 5_000_000;
/// Longest sleep of one turn. Only a lost event is noticed by it.
const NAP: Duration = Duration::from_millis(100);
/// Sleeps without any event after which a test is lost.
const NAPS_MAX: u32 = 300;

/// How a socket's bytes are consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appetite {
    /// All that comes.
    All,
    /// Only whole records of this many bytes, asked for in one piece.
    Records(usize),
    /// Four bytes of length, then a body that is received in place.
    Bodies,
    /// All that comes with the first call, then no more until switched on again.
    Sip,
    /// Nothing at all.
    Fasting,
}

/// One batch of datagrams.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) socket: SocketId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) meta: DatagramMeta,
}

/// All that a driver reported.
pub(crate) struct Log {
    pools: SharedPools,
    pub(crate) appetite: BTreeMap<SocketId, Appetite>,
    pub(crate) connected: Vec<SocketId>,
    pub(crate) accepted: Vec<(SocketId, Incoming, Option<Address>)>,
    pub(crate) accept_failed: Vec<(SocketId, AcceptFault)>,
    pub(crate) bytes: BTreeMap<SocketId, Vec<u8>>,
    /// Most bytes that were shown at once.
    pub(crate) shown_max: usize,
    pub(crate) bodies: Vec<(SocketId, Vec<u8>)>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) sent: BTreeMap<SocketId, usize>,
    pub(crate) too_long: Vec<(SocketId, usize, usize)>,
    pub(crate) unreachable: Vec<(SocketId, std::io::Error)>,
    pub(crate) ended: Vec<SocketId>,
    pub(crate) closed: Vec<(SocketId, CloseCause)>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lens = |(socket, bytes): (&SocketId, &Vec<u8>)| (*socket, bytes.len());
        f.debug_struct("Log")
            .field("connected", &self.connected)
            .field("accepted", &self.accepted)
            .field("accept_failed", &self.accept_failed)
            .field("received", &self.bytes.iter().map(lens).collect::<Vec<_>>())
            .field("bodies", &self.bodies.len())
            .field("letters", &self.letters.len())
            .field("sent", &self.sent)
            .field("ended", &self.ended)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Log {
    fn alive(&self, socket: SocketId) {
        let over = self.closed.iter().any(|(closed, _)| *closed == socket);
        assert!(!over, "{socket:?} had an event after `closed`");
    }

    pub(crate) fn is_closed(&self, socket: SocketId) -> bool {
        self.closed.iter().any(|(closed, _)| *closed == socket)
    }

    pub(crate) fn received_bytes(&self, socket: SocketId) -> usize {
        self.bytes.get(&socket).map_or(0, Vec::len)
    }

    pub(crate) fn sent_bytes(&self, socket: SocketId) -> usize {
        self.sent.get(&socket).copied().unwrap_or(0)
    }

    fn body(&mut self, socket: SocketId, buffer: &mut RecvBuffer) -> Want {
        let Some(header) = buffer.bytes().first_chunk() else {
            return Want::More(4);
        };
        let len = u32::from_le_bytes(*header) as usize;
        let mut place = self.pools.lease(len).unwrap().into_recv();
        buffer.consume(4);
        let here = len.min(buffer.len());
        place.spare_mut()[..here].copy_from_slice(&buffer.bytes()[..here]);
        place.filled(here);
        buffer.consume(here);
        if here == len {
            self.bodies.push((socket, place.bytes().to_vec()));
            return Want::More(4);
        }
        Want::Large {
            buffer: place,
            remaining: len - here,
        }
    }
}

impl Sink for Log {
    fn connected(&mut self, socket: SocketId) {
        self.alive(socket);
        self.connected.push(socket);
    }

    fn accepted(&mut self, listener: SocketId, incoming: Incoming, peer: Option<Address>) {
        self.alive(listener);
        self.accepted.push((listener, incoming, peer));
    }

    fn accept_failed(&mut self, listener: SocketId, fault: AcceptFault) {
        self.alive(listener);
        self.accept_failed.push((listener, fault));
    }

    fn received(&mut self, socket: SocketId, buffer: &mut RecvBuffer) -> Want {
        self.alive(socket);
        assert!(!self.ended.contains(&socket), "bytes came after the end");
        self.shown_max = self.shown_max.max(buffer.len());
        let taken = match self.appetite.get(&socket).copied().unwrap_or(Appetite::All) {
            Appetite::All | Appetite::Sip => buffer.len(),
            Appetite::Records(record) => buffer.len() / record * record,
            Appetite::Fasting => 0,
            Appetite::Bodies => {
                while buffer.len() >= 4 {
                    let want = self.body(socket, buffer);
                    if matches!(want, Want::Large { .. }) {
                        return want;
                    }
                }
                return Want::More(4);
            }
        };
        self.bytes
            .entry(socket)
            .or_default()
            .extend_from_slice(&buffer.bytes()[..taken]);
        buffer.consume(taken);
        match self.appetite.get(&socket).copied() {
            Some(Appetite::Sip | Appetite::Fasting) => Want::Nothing,
            Some(Appetite::Records(record)) => Want::More(record),
            _ => Want::More(buffer.len() + 1),
        }
    }

    fn large(&mut self, socket: SocketId, buffer: RecvBuffer) -> Want {
        self.alive(socket);
        self.bodies.push((socket, buffer.bytes().to_vec()));
        Want::More(4)
    }

    fn datagrams(&mut self, socket: SocketId, buffer: &mut RecvBuffer, meta: DatagramMeta) {
        self.alive(socket);
        self.letters.push(Letter {
            socket,
            bytes: buffer.bytes().to_vec(),
            meta,
        });
        buffer.consume(buffer.len());
    }

    fn sent(&mut self, socket: SocketId, bytes: usize) {
        self.alive(socket);
        *self.sent.entry(socket).or_default() += bytes;
    }

    fn unreachable(&mut self, socket: SocketId, error: std::io::Error) {
        self.unreachable.push((socket, error));
    }

    fn datagram_too_long(
        &mut self,
        socket: SocketId,
        _peer: Option<SocketAddr>,
        bytes: usize,
        bytes_max: usize,
    ) {
        self.alive(socket);
        self.too_long.push((socket, bytes, bytes_max));
    }

    fn ended(&mut self, socket: SocketId) {
        self.alive(socket);
        assert!(!self.ended.contains(&socket), "a stream ends once");
        self.ended.push(socket);
    }

    fn closed(&mut self, socket: SocketId, cause: CloseCause) {
        self.alive(socket);
        self.closed.push((socket, cause));
    }
}

/// A driver, its pools and its log.
#[derive(Debug)]
pub(crate) struct World<D> {
    pub(crate) driver: D,
    pub(crate) log: Log,
    pub(crate) pools: SharedPools,
    spins: u32,
}

impl<D: Driver> World<D> {
    pub(crate) fn new(make: Make<D>) -> Self {
        Self::with_budget(make, PoolsConfig::default().budget_bytes)
    }

    pub(crate) fn with_budget(make: Make<D>, budget_bytes: usize) -> Self {
        let config = PoolsConfig {
            budget_bytes,
            ..PoolsConfig::default()
        };
        let pools: SharedPools = Rc::new(Pools::new(config));
        let log = Log {
            pools: Rc::clone(&pools),
            appetite: BTreeMap::new(),
            connected: Vec::new(),
            accepted: Vec::new(),
            accept_failed: Vec::new(),
            bytes: BTreeMap::new(),
            shown_max: 0,
            bodies: Vec::new(),
            letters: Vec::new(),
            sent: BTreeMap::new(),
            too_long: Vec::new(),
            unreachable: Vec::new(),
            ended: Vec::new(),
            closed: Vec::new(),
        };
        Self {
            driver: make(Rc::clone(&pools)),
            log,
            pools,
            spins: 0,
        }
    }

    /// One turn that never sleeps.
    pub(crate) fn spin(&mut self) -> u32 {
        self.driver.flush(&mut self.log);
        self.driver.poll(Park::No, &mut self.log)
    }

    /// One turn: mostly spinning, now and then ready to sleep. Returns whether it slept in vain.
    pub(crate) fn turn(&mut self) -> bool {
        self.spins += 1;
        if self.spins < SPINS {
            self.spin();
            return false;
        }
        self.driver.flush(&mut self.log);
        let until = Instant::monotonic() + NAP;
        let events = self.driver.poll(Park::Until(Some(until)), &mut self.log);
        if events > 0 {
            self.spins = 0;
        }
        events == 0
    }

    /// Turns until `done`.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Log) -> bool) {
        let mut naps = 0;
        while !done(&self.log) {
            naps = if self.turn() { naps + 1 } else { naps };
            assert!(
                naps < NAPS_MAX,
                "waited in vain until {what}; {:#?}",
                self.log
            );
        }
    }

    /// Like [`until`](Self::until), but always ready to sleep: what is not announced is not found by chance.
    pub(crate) fn doze_until(&mut self, what: &str, done: impl Fn(&Log) -> bool) {
        let mut naps = 0;
        while !done(&self.log) {
            self.spins = SPINS;
            naps = if self.turn() { naps + 1 } else { 0 };
            assert!(
                naps < NAPS_MAX,
                "slept in vain until {what}; {:#?}",
                self.log
            );
        }
    }

    /// Like [`until`](Self::until), but never ready to sleep: only the driver's own spinning finds what is new.
    pub(crate) fn spin_until(&mut self, what: &str, done: impl Fn(&Log) -> bool) {
        for _ in 0..SPINS_MAX {
            if done(&self.log) {
                return;
            }
            self.spin();
        }
        panic!("spun in vain until {what}; {:#?}", self.log);
    }

    /// Turns until nothing happens any more: what is shown now stays so.
    pub(crate) fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 * SPINS {
            quiet = if self.spin() == 0 { quiet + 1 } else { 0 };
        }
    }

    pub(crate) fn listen(&mut self, address: &str) -> (SocketId, Address) {
        self.listen_with(address, &ListenOptions::default())
    }

    pub(crate) fn listen_with(
        &mut self,
        address: &str,
        options: &ListenOptions,
    ) -> (SocketId, Address) {
        let listener = self
            .driver
            .listen(&address.parse().unwrap(), options)
            .unwrap();
        (listener, self.driver.local_address(listener).unwrap())
    }

    /// Connects to `address`, served by this same driver; returns both ends, reading.
    pub(crate) fn pair_with(
        &mut self,
        address: &Address,
        near: &SocketOptions,
        far: &SocketOptions,
    ) -> (SocketId, SocketId) {
        let client = self.driver.connect(address, near).unwrap();
        self.until("connected", |log| log.connected.contains(&client));
        self.until("accepted", |log| !log.accepted.is_empty());
        let (_, incoming, _) = self.log.accepted.remove(0);
        let server = self.driver.adopt(incoming, far).unwrap();
        self.driver.read(client, true);
        self.driver.read(server, true);
        (client, server)
    }

    pub(crate) fn pair(&mut self, address: &str) -> (SocketId, SocketId) {
        let (_, address) = self.listen(address);
        self.pair_with(
            &address,
            &SocketOptions::default(),
            &SocketOptions::default(),
        )
    }

    /// Queues `bytes` in leases of at most 64 KiB.
    pub(crate) fn send(&mut self, socket: SocketId, bytes: &[u8]) {
        let mut chain = Chain::new();
        for piece in bytes.chunks(64 * 1024) {
            let mut lease = self.pools.lease(piece.len()).unwrap();
            lease.append(piece.len()).unwrap().copy_from_slice(piece);
            chain.push_lease(lease);
        }
        self.driver.send(socket, &mut chain);
        assert!(chain.is_empty(), "`send` takes all of the chain");
    }

    /// What `socket` has received so far, taken out of the log.
    pub(crate) fn take(&mut self, socket: SocketId) -> Vec<u8> {
        self.log.bytes.remove(&socket).unwrap_or_default()
    }

    pub(crate) fn cause(&self, socket: SocketId) -> &CloseCause {
        let mut found = self
            .log
            .closed
            .iter()
            .filter(|(closed, _)| *closed == socket);
        let cause = &found.next().expect("closed").1;
        assert!(found.next().is_none(), "closed once");
        cause
    }
}

/// Bytes that are not like their neighbours.
pub(crate) fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}
