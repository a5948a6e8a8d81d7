//! Any driver behind a bad network: a driver that wraps another one.
//!
//! Datagrams go through a [`DatagramPath`] on their way out, one per socket and peer: lost ones are never handed to the
//! driver below, late ones wait here. Where both ends are wrapped, each direction is impaired once. Streams are repaired
//! by the kernel that carries them, so of the model only what a stream can show remains: delay, jitter, rate, and partitions,
//! in which bytes wait. A connected datagram socket stands behind a translation of addresses: it is opened anew, from
//! another port, as often as the faults say, and keeps its id.
//!
//! To the engine above nothing is different: what is lost or waits here counts as sent, as it does once the kernel has it.
//! What waits is bounded by 16,384 datagrams; streams hold what the engine has queued, which the engine bounds.

mod filter;
mod stream;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::Waker;
use std::time::Duration;

use ringway_buf::{Chain, Instant, Pools, PoolsConfig};
use ringway_driver::{
    Address, BufferBytes, Burst, Capabilities, Close, Driver, DriverStats, Incoming, ListenOptions,
    OpenError, Park, Sink, SocketId, SocketOptions,
};

use crate::impair::filter::{Faces, Filter};
use crate::impair::stream::Streams;
use crate::{DatagramPath, Fault, FaultCounts, Flights, Passage, PathConfig};

/// Most datagrams that wait; more are dropped as by a full queue.
const FLIGHTS_MAX: usize = 16 * 1024;
/// Memory of what was handed over and has not left yet.
const BUDGET_BYTES: usize = 64 << 20;
/// Most paths; datagrams to more peers share one path per socket.
const PATHS_MAX: usize = 16 * 1024;
/// Payload buffers that are kept for the next datagrams.
const SPARE_MAX: usize = 1024;
/// Most datagrams of one burst, and their bytes (GSO).
const BURST_COUNT_MAX: usize = 64;
const BURST_BYTES_MAX: usize = 65_507;
/// ECN bits: ECT(0), set by a sender that reacts to marks (RFC 3168, section 5).
const ECN_CAPABLE: u8 = 2;

/// A datagram that waits for its time.
#[derive(Debug)]
struct Held {
    /// As the engine knows it.
    socket: SocketId,
    peer: Option<SocketAddr>,
    source: Option<std::net::IpAddr>,
    /// `None`: those of the socket.
    ecn: Option<u8>,
    bytes: Vec<u8>,
}

/// A driver whose network is as bad as a [`PathConfig`] says.
///
/// Datagrams are lost, late, doubled and damaged on their way out; streams, which the kernel repairs, are delayed. A connected
/// datagram socket gets another port as often as the faults say, and keeps its id.
pub struct Impair<D> {
    driver: D,
    pools: Pools,
    config: PathConfig,
    seed: u64,
    began: Instant,
    /// Paths made so far: each has generators of its own.
    directions: u64,
    paths: HashMap<(SocketId, Option<SocketAddr>), DatagramPath>,
    faces: Faces,
    streams: Streams,
    /// What was asked to be sent since the last flush.
    queued: Vec<(SocketId, Burst)>,
    flights: Flights<Held>,
    spare: Vec<Vec<u8>>,
    counts: FaultCounts,
}

impl<D: Driver> Impair<D> {
    /// Wraps a driver. Partitions and rebindings count from now on.
    pub fn new(driver: D, config: PathConfig, seed: u64) -> Self {
        let began = driver.now();
        // Memory of its own: what the network holds must not be what the engine lacks to go on.
        let pools = PoolsConfig {
            budget_bytes: BUDGET_BYTES,
            ..PoolsConfig::default()
        };
        Self {
            driver,
            pools: Pools::new(pools),
            config,
            seed,
            began,
            directions: 0,
            paths: HashMap::new(),
            faces: Faces::default(),
            streams: Streams::default(),
            queued: Vec::new(),
            flights: Flights::new(FLIGHTS_MAX),
            spare: Vec::new(),
            counts: FaultCounts::default(),
        }
    }

    /// How often each fault fired.
    pub fn fault_counts(&self) -> FaultCounts {
        self.counts
    }

    /// Datagrams that wait for their time.
    pub fn waiting(&self) -> usize {
        self.flights.len()
    }

    /// Replaces what the network does, for what is sent from now on.
    pub fn set_config(&mut self, config: PathConfig) {
        self.config = config;
    }

    /// The driver below.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    fn path(&mut self, socket: SocketId, peer: Option<SocketAddr>) -> &mut DatagramPath {
        let known = self.paths.contains_key(&(socket, peer));
        let peer = if known || self.paths.len() < PATHS_MAX {
            peer
        } else {
            None
        };
        let (seed, began, directions) = (self.seed, self.began, &mut self.directions);
        self.paths.entry((socket, peer)).or_insert_with(|| {
            *directions += 1;
            DatagramPath::new(seed, *directions, began)
        })
    }

    /// Says of each datagram of a burst what becomes of it.
    fn judge<S: Sink>(&mut self, socket: SocketId, burst: Burst, now: Instant, sink: &mut S) {
        self.faces.known(socket);
        self.rebind(socket, now);
        let own = self.faces.ecn(socket);
        let segment = (burst.segment_bytes as usize).max(1);
        let mut left = burst.lease.bytes();
        for _ in 0..burst.count {
            let (payload, behind) = left.split_at(segment.min(left.len()));
            left = behind;
            let ecn = burst.ecn.unwrap_or(own);
            let config = self.config;
            let mut counts = self.counts;
            let path = self.path(socket, burst.peer);
            let passage = path.send(now, payload.len(), ecn, &config, &mut counts);
            self.counts = counts;
            match passage {
                Passage::Arrives(first, second) => {
                    for arrival in [Some(first), second].into_iter().flatten() {
                        let mut bytes = self.spare.pop().unwrap_or_default();
                        bytes.extend_from_slice(payload);
                        arrival.damage(&mut bytes);
                        bytes.truncate(arrival.len);
                        let held = Held {
                            socket,
                            peer: burst.peer,
                            source: burst.source,
                            ecn: if arrival.ecn == ecn {
                                burst.ecn
                            } else {
                                Some(arrival.ecn)
                            },
                            bytes,
                        };
                        match self.flights.push(arrival.at, held) {
                            Ok(()) => self.faces.departs(socket),
                            Err(held) => {
                                self.counts.add(Fault::Overflow);
                                self.keep(held.bytes);
                            }
                        }
                    }
                }
                Passage::Lost(_) | Passage::Overflow => {}
                Passage::TooLong(bytes_max) => {
                    sink.datagram_too_long(socket, burst.peer, payload.len(), bytes_max);
                }
            }
        }
        let bytes = burst.lease.len();
        drop(burst);
        if bytes > 0 {
            sink.sent(socket, bytes);
        }
    }

    /// Gives a connected datagram socket another port, if its translation has forgotten the one it had.
    fn rebind(&mut self, socket: SocketId, now: Instant) {
        let rebinds = self.config.faults.rebinds(now.saturating_since(self.began));
        let Some((peer, options)) = self.faces.is_due(socket, rebinds) else {
            return;
        };
        let options = SocketOptions {
            local: None,
            ..options
        };
        // The old one stays when the system has no other: a fault that can't be had is none.
        let Ok(fresh) = self.driver.connect(&Address::Udp(peer), &options) else {
            return;
        };
        self.counts.add(Fault::Rebind);
        let (old, reading) = self.faces.replace(socket, fresh);
        self.driver.read(fresh, reading);
        self.driver.read(old, false);
        self.driver.close(old, Close::Graceful);
    }

    /// Hands over what has waited long enough, several alike at once. Whether there was any.
    fn pump(&mut self, now: Instant) -> bool {
        let mut any = self.streams.pump(now, &mut self.driver);
        while let Some(first) = self.flights.pop(now) {
            any = true;
            self.faces.arrived(first.socket);
            let segment = first.bytes.len();
            let (mut alike, mut bytes) = (vec![first], segment);
            // The last datagram of a burst may be shorter.
            while bytes == segment * alike.len()
                && alike.len() < BURST_COUNT_MAX
                && let Some(next) = self.flights.peek(now)
                && next.is_like(&alike[0])
                && (1..=segment).contains(&next.bytes.len())
                && bytes + next.bytes.len() <= BURST_BYTES_MAX
                && let Some(next) = self.flights.pop(now)
            {
                self.faces.arrived(next.socket);
                bytes += next.bytes.len();
                alike.push(next);
            }
            self.hand_over(alike, bytes);
        }
        for (socket, how) in self.faces.take_finished() {
            self.driver.close(socket, how);
        }
        any
    }

    fn hand_over(&mut self, alike: Vec<Held>, bytes: usize) {
        let Some(first) = alike.first() else { return };
        let (socket, peer, source, ecn) = (first.socket, first.peer, first.source, first.ecn);
        let segment = first.bytes.len();
        let Some(mut lease) = self.pools.lease(bytes) else {
            // No memory is a full queue.
            for held in alike {
                self.counts.add(Fault::Overflow);
                self.keep(held.bytes);
            }
            return;
        };
        lease.reset(0);
        let count = u32::try_from(alike.len()).unwrap_or(0);
        for held in alike {
            if let Some(room) = lease.append(held.bytes.len()) {
                room.copy_from_slice(&held.bytes);
            }
            self.keep(held.bytes);
        }
        let burst = Burst {
            lease,
            segment_bytes: u32::try_from(segment).unwrap_or(u32::MAX),
            count,
            peer,
            source,
            ecn,
        };
        self.driver.send_to(self.faces.inner(socket), burst);
    }

    /// Nobody sleeps beyond the time at which something leaves.
    fn bounded(&self, park: Park) -> Park {
        let next = [self.flights.next(), self.streams.next()];
        match park {
            Park::Until(deadline) => {
                let all = next.into_iter().flatten().chain(deadline);
                Park::Until(all.min())
            }
            Park::No => Park::No,
        }
    }

    fn keep(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Forgets everything about sockets that are gone.
    fn forget(&mut self) {
        let gone = self.faces.take_gone();
        if gone.is_empty() {
            return;
        }
        for socket in &gone {
            self.streams.forget(*socket);
        }
        self.paths.retain(|(socket, _), _| !gone.contains(socket));
    }
}

impl Held {
    /// Whether it may leave in the same burst.
    fn is_like(&self, first: &Self) -> bool {
        self.socket == first.socket
            && self.peer == first.peer
            && self.source == first.source
            && self.ecn == first.ecn
    }
}

impl<D: Driver> Driver for Impair<D> {
    fn capabilities(&self) -> &Capabilities {
        self.driver.capabilities()
    }

    fn stats(&self) -> &DriverStats {
        self.driver.stats()
    }

    fn now(&self) -> Instant {
        self.driver.now()
    }

    fn waker(&self) -> Waker {
        self.driver.waker()
    }

    fn listen(
        &mut self,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<SocketId, OpenError> {
        self.driver.listen(address, options)
    }

    fn connect(
        &mut self,
        address: &Address,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        let socket = self.driver.connect(address, options)?;
        if let Address::Udp(peer) = address {
            // What the past forgot is not forgotten once more.
            let age = self.driver.now().saturating_since(self.began);
            let rebinds = self.config.faults.rebinds(age);
            self.faces
                .opened(socket, Some((*peer, options.clone())), options.ecn, rebinds);
        }
        Ok(socket)
    }

    fn bind(&mut self, address: &Address, options: &ListenOptions) -> Result<SocketId, OpenError> {
        let socket = self.driver.bind(address, options)?;
        self.faces.opened(socket, None, options.socket.ecn, 0);
        Ok(socket)
    }

    fn adopt(
        &mut self,
        incoming: Incoming,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        self.driver.adopt(incoming, options)
    }

    fn local_address(&self, socket: SocketId) -> Option<Address> {
        self.driver.local_address(self.faces.inner(socket))
    }

    fn peer_address(&self, socket: SocketId) -> Option<Address> {
        self.driver.peer_address(self.faces.inner(socket))
    }

    fn datagram_bytes_max(&self, socket: SocketId) -> Option<usize> {
        let below = self.driver.datagram_bytes_max(self.faces.inner(socket))?;
        Some(below.min(self.config.link.mtu_bytes as usize))
    }

    fn buffer_bytes(&self, socket: SocketId) -> Option<BufferBytes> {
        self.driver.buffer_bytes(self.faces.inner(socket))
    }

    fn duplicate(&self, socket: SocketId) -> Option<OwnedFd> {
        self.driver.duplicate(self.faces.inner(socket))
    }

    fn read(&mut self, socket: SocketId, on: bool) {
        self.faces.read(socket, on);
        self.driver.read(self.faces.inner(socket), on);
    }

    fn send(&mut self, socket: SocketId, chain: &mut Chain) {
        if self.streams.is_plain(socket, &self.config) {
            return self.driver.send(socket, chain);
        }
        let (config, now) = (self.config, self.driver.now());
        let path = self.path(socket, None);
        let at = path.stream(now, chain.bytes(), &config);
        self.streams.hold(socket, at, chain);
    }

    fn send_to(&mut self, socket: SocketId, burst: Burst) {
        self.queued.push((socket, burst));
    }

    fn close(&mut self, socket: SocketId, how: Close) {
        if how == Close::Graceful {
            // What was sent before is on its way, and arrives.
            let queued = self.queued.iter().any(|(of, _)| *of == socket);
            if self.streams.closes(socket, how) || self.faces.closes(socket, how, queued) {
                return;
            }
        }
        self.streams.forget(socket);
        self.queued.retain(|(of, _)| *of != socket);
        let inner = self.faces.aborts(socket);
        self.driver.close(inner, how);
    }

    fn flush<S: Sink>(&mut self, sink: &mut S) {
        if !self.queued.is_empty() {
            let now = self.driver.now();
            let mut queued = mem::take(&mut self.queued);
            for (socket, burst) in queued.drain(..) {
                self.judge(socket, burst, now, sink);
            }
            self.queued = queued;
        }
        let now = self.driver.now();
        self.pump(now);
        self.driver.flush(&mut Filter {
            sink,
            faces: &mut self.faces,
        });
        self.forget();
    }

    fn poll<S: Sink>(&mut self, park: Park, sink: &mut S) -> u32 {
        if !self.flights.is_empty() || !self.streams.is_empty() {
            let now = self.driver.now();
            if self.pump(now) {
                self.driver.flush(&mut Filter {
                    sink,
                    faces: &mut self.faces,
                });
            }
        }
        let park = self.bounded(park);
        let events = self.driver.poll(
            park,
            &mut Filter {
                sink,
                faces: &mut self.faces,
            },
        );
        self.forget();
        events
    }

    fn event_fd(&mut self) -> io::Result<Option<BorrowedFd<'_>>> {
        self.driver.event_fd()
    }

    fn hush(&mut self) {
        self.driver.hush();
    }

    fn rest(&mut self) -> Park {
        let below = self.driver.rest();
        if self.queued.is_empty() {
            self.bounded(below)
        } else {
            Park::No
        }
    }

    fn shutdown(&mut self, limit: Duration) -> bool {
        self.queued.clear();
        while let Some(held) = self.flights.pop(Instant::MAX) {
            drop(held);
        }
        self.streams = Streams::default();
        self.driver.shutdown(limit)
    }
}

impl<D: fmt::Debug> fmt::Debug for Impair<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Impair")
            .field("driver", &self.driver)
            .field("config", &self.config)
            .field("waiting", &self.flights.len())
            .finish_non_exhaustive()
    }
}
