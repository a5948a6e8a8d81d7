//! A driver with a sink that writes everything down and holds the driver to its contract.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

use ringway_buf::{Chain, Mode, Pools, PoolsConfig, RecvBuffer, Slice};
use ringway_driver::{
    AcceptFault, Address, Burst, CloseCause, DatagramMeta, Driver, Incoming, ListenOptions, Park,
    SharedPools, Sink, SocketId, SocketOptions, Want,
};
use ringway_sim::{NetConfig, SimDriver, SimNet};

/// Why a socket was closed, comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Requested,
    ConnectFailed(i32),
    Broken(i32),
}

/// An event that was reported, but for stream bytes, which [`Log::streams`] collects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Connected(SocketId),
    Accepted(SocketId, u64, Option<Address>),
    AcceptFailed(SocketId, i32),
    Large(SocketId, Vec<u8>),
    TooLong(SocketId, usize, usize),
    Ended(SocketId),
    Closed(SocketId, Cause),
}

/// Datagrams as they came in one call.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) socket: SocketId,
    pub(crate) peer: SocketAddr,
    pub(crate) segment_bytes: usize,
    pub(crate) ecn: u8,
    pub(crate) truncated: bool,
    pub(crate) bytes: Vec<u8>,
}

/// How the sink treats stream bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Consumes all.
    All,
    /// Consumes pieces of exactly this size, and waits for each to be whole.
    Pieces(usize),
    /// Consumes a head of one byte, then wants the next so many in one large buffer, for ever.
    Large(usize),
    /// Consumes this much at most, then wants nothing.
    Pauses(usize),
}

#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) reading: Reading,
    pub(crate) pools: SharedPools,
    pub(crate) events: Vec<Event>,
    pub(crate) streams: BTreeMap<SocketId, Vec<u8>>,
    pub(crate) sent: BTreeMap<SocketId, usize>,
    pub(crate) arrived: Vec<Arrived>,
    /// Keeps a slice of all datagrams, so that their memory can't be used again.
    pub(crate) holds: bool,
    pub(crate) held: Vec<Slice>,
    /// Bytes shown in front of which nothing was consumed yet, per socket: they must be shown again.
    shown: BTreeMap<SocketId, Vec<u8>>,
    wants: BTreeMap<SocketId, usize>,
    closed: BTreeSet<SocketId>,
}

impl Log {
    fn alive(&self, socket: SocketId) {
        assert!(
            !self.closed.contains(&socket),
            "an event of {socket:?} after its `closed`"
        );
    }

    /// How often `event` was reported.
    pub(crate) fn count(&self, event: &Event) -> usize {
        self.events.iter().filter(|seen| *seen == event).count()
    }

    pub(crate) fn closed(&self, socket: SocketId) -> Option<Cause> {
        self.events.iter().find_map(|event| match event {
            Event::Closed(id, cause) if *id == socket => Some(*cause),
            _ => None,
        })
    }

    pub(crate) fn accepted(&self) -> Vec<u64> {
        let virtuals = self.events.iter().filter_map(|event| match event {
            Event::Accepted(_, bits, _) => Some(*bits),
            _ => None,
        });
        virtuals.collect()
    }

    pub(crate) fn bytes(&self, socket: SocketId) -> &[u8] {
        self.streams.get(&socket).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn sent(&self, socket: SocketId) -> usize {
        self.sent.get(&socket).copied().unwrap_or(0)
    }

    fn consume(&mut self, socket: SocketId, buffer: &mut RecvBuffer, len: usize) {
        let taken = &buffer.bytes()[..len];
        self.streams
            .entry(socket)
            .or_default()
            .extend_from_slice(taken);
        buffer.consume(len);
    }
}

impl Sink for Log {
    fn connected(&mut self, socket: SocketId) {
        self.alive(socket);
        self.events.push(Event::Connected(socket));
    }

    fn accepted(&mut self, listener: SocketId, incoming: Incoming, peer: Option<Address>) {
        self.alive(listener);
        let Incoming::Virtual(bits) = incoming else {
            panic!("a descriptor from a simulation")
        };
        self.events.push(Event::Accepted(listener, bits, peer));
    }

    fn accept_failed(&mut self, listener: SocketId, fault: AcceptFault) {
        self.alive(listener);
        let errno = fault.error.raw_os_error().unwrap_or(0);
        self.events.push(Event::AcceptFailed(listener, errno));
    }

    fn received(&mut self, socket: SocketId, buffer: &mut RecvBuffer) -> Want {
        self.alive(socket);
        assert!(!buffer.is_empty(), "shown nothing");
        let before = self.shown.remove(&socket).unwrap_or_default();
        assert!(
            buffer.bytes().starts_with(&before),
            "unconsumed bytes are shown again, in front"
        );
        let wanted = self.wants.remove(&socket).unwrap_or(0);
        assert!(
            buffer.len() >= wanted,
            "shown {} of {wanted} wanted bytes",
            buffer.len()
        );
        let want = match self.reading {
            Reading::All => {
                self.consume(socket, buffer, buffer.len());
                Want::More(0)
            }
            Reading::Pieces(size) => {
                let whole = buffer.len() / size * size;
                self.consume(socket, buffer, whole);
                Want::More(size)
            }
            Reading::Pauses(size) => {
                self.consume(socket, buffer, size.min(buffer.len()));
                Want::Nothing
            }
            Reading::Large(size) => {
                self.consume(socket, buffer, 1);
                let lease = self
                    .pools
                    .lease(size + 64)
                    .expect("room for a large message");
                let mut place = lease.into_recv();
                let early = buffer.len().min(size);
                place.spare_mut()[..early].copy_from_slice(&buffer.bytes()[..early]);
                place.filled(early);
                buffer.consume(early);
                if early < size {
                    return Want::Large {
                        buffer: place,
                        remaining: size - early,
                    };
                }
                self.events
                    .push(Event::Large(socket, place.bytes().to_vec()));
                Want::More(1)
            }
        };
        if let Want::More(size) = want {
            self.wants.insert(socket, size);
        }
        self.shown.insert(socket, buffer.bytes().to_vec());
        want
    }

    fn large(&mut self, socket: SocketId, buffer: RecvBuffer) -> Want {
        self.alive(socket);
        self.events
            .push(Event::Large(socket, buffer.bytes().to_vec()));
        Want::More(1)
    }

    fn datagrams(&mut self, socket: SocketId, buffer: &mut RecvBuffer, meta: DatagramMeta) {
        self.alive(socket);
        self.arrived.push(Arrived {
            socket,
            peer: meta.peer,
            segment_bytes: meta.segment_bytes as usize,
            ecn: meta.ecn,
            truncated: meta.truncated,
            bytes: buffer.bytes().to_vec(),
        });
        if self.holds {
            self.held.extend(buffer.share(0..buffer.len()));
        }
        buffer.consume(buffer.len());
    }

    fn sent(&mut self, socket: SocketId, bytes: usize) {
        self.alive(socket);
        *self.sent.entry(socket).or_default() += bytes;
    }

    fn datagram_too_long(
        &mut self,
        socket: SocketId,
        _peer: Option<SocketAddr>,
        bytes: usize,
        bytes_max: usize,
    ) {
        self.alive(socket);
        self.events.push(Event::TooLong(socket, bytes, bytes_max));
    }

    fn ended(&mut self, socket: SocketId) {
        self.alive(socket);
        self.events.push(Event::Ended(socket));
    }

    fn closed(&mut self, socket: SocketId, cause: CloseCause) {
        self.alive(socket);
        let errno = |error: std::io::Error| error.raw_os_error().unwrap_or(0);
        let cause = match cause {
            CloseCause::Requested => Cause::Requested,
            CloseCause::ConnectFailed(error) => Cause::ConnectFailed(errno(error)),
            CloseCause::Broken(error) => Cause::Broken(errno(error)),
            other => panic!("an unknown cause {other:?}"),
        };
        self.closed.insert(socket);
        self.events.push(Event::Closed(socket, cause));
    }
}

/// A driver and its log.
#[derive(Debug)]
pub(crate) struct Host<D: Driver> {
    pub(crate) driver: D,
    pub(crate) log: Log,
    pub(crate) pools: SharedPools,
}

impl<D: Driver> Host<D> {
    pub(crate) fn new(driver: D, pools: SharedPools) -> Self {
        let log = Log {
            reading: Reading::All,
            pools: Rc::clone(&pools),
            events: Vec::new(),
            streams: BTreeMap::new(),
            sent: BTreeMap::new(),
            arrived: Vec::new(),
            holds: false,
            held: Vec::new(),
            shown: BTreeMap::new(),
            wants: BTreeMap::new(),
            closed: BTreeSet::new(),
        };
        Self { driver, log, pools }
    }

    /// One turn as an engine makes it: flush, poll, park when idle.
    pub(crate) fn turn(&mut self) -> u32 {
        self.driver.flush(&mut self.log);
        self.driver.poll(Park::Until(None), &mut self.log)
    }

    pub(crate) fn listen(&mut self, address: &str) -> (SocketId, Address) {
        let options = ListenOptions::default();
        let listener = self
            .driver
            .listen(&parse(address), &options)
            .expect("a listener");
        let local = self.driver.local_address(listener).expect("a name");
        (listener, local)
    }

    pub(crate) fn connect(&mut self, address: &Address) -> SocketId {
        self.driver
            .connect(address, &SocketOptions::default())
            .expect("a socket")
    }

    pub(crate) fn bind(&mut self, address: &str) -> (SocketId, SocketAddr) {
        let options = ListenOptions::default();
        let socket = self
            .driver
            .bind(&parse(address), &options)
            .expect("a socket");
        let local = self
            .driver
            .local_address(socket)
            .and_then(|local| local.socket_addr());
        self.driver.read(socket, true);
        (socket, local.expect("a name"))
    }

    /// Adopts what was accepted last, and reads it.
    pub(crate) fn adopt_last(&mut self) -> SocketId {
        let bits = *self.log.accepted().last().expect("somebody was accepted");
        self.adopt(bits)
    }

    pub(crate) fn adopt(&mut self, bits: u64) -> SocketId {
        let options = SocketOptions::default();
        let socket = self
            .driver
            .adopt(Incoming::Virtual(bits), &options)
            .expect("adopted");
        self.driver.read(socket, true);
        socket
    }

    pub(crate) fn send(&mut self, socket: SocketId, bytes: &[u8]) {
        let mut chain = Chain::new();
        for part in bytes.chunks(16 * 1024) {
            let mut lease = self.pools.lease(part.len()).expect("memory");
            lease
                .append(part.len())
                .expect("room")
                .copy_from_slice(part);
            chain.push_lease(lease);
        }
        self.driver.send(socket, &mut chain);
        let stale = self.log.closed(socket).is_some();
        assert!(chain.is_empty() || stale, "send takes the whole chain");
    }

    /// Sends equal datagrams in one burst.
    pub(crate) fn send_to(&mut self, socket: SocketId, peer: Option<SocketAddr>, parts: &[&[u8]]) {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut lease = self.pools.lease(total.max(1)).expect("memory");
        for part in parts {
            lease
                .append(part.len())
                .expect("room")
                .copy_from_slice(part);
        }
        let segment_bytes = parts
            .first()
            .map_or(0, |part| part.len())
            .try_into()
            .expect("short");
        let count = parts.len().try_into().expect("few");
        self.driver.send_to(
            socket,
            Burst {
                lease,
                segment_bytes,
                count,
                peer,
                source: None,
                ecn: None,
            },
        );
    }
}

pub(crate) fn parse(address: &str) -> Address {
    address.parse().expect("an address")
}

pub(crate) fn pools() -> SharedPools {
    pools_of(64 * 1024 * 1024)
}

/// Pools of a few bytes that notice use after free.
pub(crate) fn pools_of(budget_bytes: usize) -> SharedPools {
    Rc::new(Pools::new(PoolsConfig {
        budget_bytes,
        mode: Mode::Poison,
    }))
}

pub(crate) fn host(net: &SimNet, name: &str) -> Host<SimDriver> {
    let pools = pools();
    Host::new(net.node(name, Rc::clone(&pools)), pools)
}

/// Turns the hosts and moves time until nothing is left to happen.
pub(crate) fn settle(net: &SimNet, hosts: &mut [&mut Host<SimDriver>]) {
    for _ in 0..1_000_000 {
        let events: u32 = hosts.iter_mut().map(|host| host.turn()).sum();
        if events == 0 && !net.advance() {
            return;
        }
    }
    panic!("a million turns and no rest; RINGWAY_SEED={}", net.seed());
}

/// A network, two hosts and a connection between them, both ends reading.
pub(crate) struct Pair {
    pub(crate) net: SimNet,
    pub(crate) server: Host<SimDriver>,
    pub(crate) client: Host<SimDriver>,
    pub(crate) listener: SocketId,
    pub(crate) near: SocketId,
    pub(crate) far: SocketId,
}

impl Pair {
    pub(crate) fn new(config: &NetConfig, seed: u64) -> Self {
        let net = SimNet::new(*config, seed);
        let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
        let (listener, address) = server.listen("tcp://127.0.0.1:0");
        let near = client.connect(&address);
        settle(&net, &mut [&mut server, &mut client]);
        let far = server.adopt_last();
        client.driver.read(near, true);
        settle(&net, &mut [&mut server, &mut client]);
        Self {
            net,
            server,
            client,
            listener,
            near,
            far,
        }
    }

    pub(crate) fn settle(&mut self) {
        settle(&self.net, &mut [&mut self.server, &mut self.client]);
    }
}

/// Bytes that differ from their neighbours near and far.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index ^ (index >> 8) ^ (index >> 16)).to_le_bytes()[0])
        .collect()
}
