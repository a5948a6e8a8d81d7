//! A network of datagrams for machines that are driven by hand, without drivers and sockets.
//!
//! It knows addresses only: between any two of them stands a [`DatagramPath`] per direction, and some of them live
//! behind a translation (NAT), which now and then shows them to the others under a new address. Who owns the machines
//! sends what they say, moves time to [`next`](DatagramNet::next) and hands over what [`recv`](DatagramNet::recv)
//! returns. Everything random follows from the seed.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use ringway_buf::Instant;

use crate::{DatagramPath, Fault, FaultCounts, Flights, Passage, PathConfig};

/// Most datagrams on their way; more are dropped as by a full queue.
const FLIGHTS_MAX: usize = 64 * 1024;
/// Most directions between two addresses; what would need another one is dropped.
const PATHS_MAX: usize = 64 * 1024;
/// Payload buffers that are kept for the next datagrams.
const SPARE_MAX: usize = 1024;
/// Most addresses behind a translation.
const TRANSLATED_MAX: usize = 4096;
/// Bytes of heads (IP, UDP) that no [`Wire::bytes`] contain: a first capacity that most payloads fit into.
const PAYLOAD_BYTES: usize = 1536;

/// A datagram that arrives.
#[derive(Debug)]
pub struct Wire {
    /// Who sent it, as the receiver sees it.
    pub from: SocketAddr,
    /// Whom it reaches: behind a translation the address inside.
    pub to: SocketAddr,
    /// ECN bits.
    pub ecn: u8,
    /// What is left of it.
    pub bytes: Vec<u8>,
}

/// An address behind a translation.
#[derive(Debug)]
struct Translation {
    inner: SocketAddr,
    outer: SocketAddr,
    rebinds: u64,
}

/// A network of datagrams for machines that are driven by hand.
///
/// Who owns the machines [sends](Self::send) what they say, moves time to [`next`](Self::next) and hands over what
/// [`recv`](Self::recv) returns. Everything random follows from the seed.
#[derive(Debug)]
pub struct DatagramNet {
    /// Every path has these properties from now on.
    pub config: PathConfig,
    /// Nothing passes, whatever the configuration says.
    pub partitioned: bool,
    seed: u64,
    began: Instant,
    paths: HashMap<(SocketAddr, SocketAddr), DatagramPath>,
    translations: Vec<Translation>,
    next_outer: u32,
    flights: Flights<Wire>,
    spare: Vec<Vec<u8>>,
    counts: FaultCounts,
}

impl DatagramNet {
    /// A network whose partitions and rebindings are counted from `began`.
    #[must_use]
    pub fn new(config: PathConfig, seed: u64, began: Instant) -> Self {
        Self {
            config,
            partitioned: false,
            seed,
            began,
            paths: HashMap::new(),
            translations: Vec::new(),
            next_outer: 0,
            flights: Flights::new(FLIGHTS_MAX),
            spare: Vec::new(),
            counts: FaultCounts::default(),
        }
    }

    /// Puts an address behind a translation, which gives it a new face as often as the faults say.
    ///
    /// Until the first time it is seen under its own. The 4097th is not translated.
    pub fn translate(&mut self, inner: SocketAddr) {
        let known = self.translations.iter().any(|one| one.inner == inner);
        if !known && self.translations.len() < TRANSLATED_MAX {
            self.translations.push(Translation {
                inner,
                outer: inner,
                rebinds: 0,
            });
        }
    }

    /// Shows `inner` under the address `outer` from now on; under its last one nobody is reached any more.
    pub fn rebind(&mut self, inner: SocketAddr, outer: SocketAddr) {
        self.translate(inner);
        self.counts.add(Fault::Rebind);
        if let Some(found) = self.translations.iter_mut().find(|one| one.inner == inner) {
            found.outer = outer;
        }
    }

    /// The address under which others see `inner`.
    #[must_use]
    pub fn outer(&self, inner: SocketAddr) -> SocketAddr {
        let found = self.translations.iter().find(|one| one.inner == inner);
        found.map_or(inner, |one| one.outer)
    }

    /// Sends a datagram; how it leaves, which says nothing of whether it arrives.
    pub fn send(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        ecn: u8,
        payload: &[u8],
    ) -> Passage {
        let outer = self.translated(now, from);
        let count = self.paths.len();
        if self.flights.len() + 2 > FLIGHTS_MAX {
            self.counts.add(Fault::Overflow);
            return Passage::Overflow;
        }
        if self.partitioned {
            self.counts.add(Fault::Partition);
            return Passage::Lost(Fault::Partition);
        }
        // A path is that of two hosts, whatever their translation shows of them.
        let (seed, began) = (self.seed, self.began);
        if count >= PATHS_MAX && !self.paths.contains_key(&(from, to)) {
            self.counts.add(Fault::Overflow);
            return Passage::Overflow;
        }
        let path = self
            .paths
            .entry((from, to))
            .or_insert_with(|| DatagramPath::new(seed, count as u64, began));
        let passage = path.send(now, payload.len(), ecn, &self.config, &mut self.counts);
        if let Passage::Arrives(first, second) = passage {
            for arrival in [Some(first), second].into_iter().flatten() {
                let mut bytes = self
                    .spare
                    .pop()
                    .unwrap_or_else(|| Vec::with_capacity(PAYLOAD_BYTES));
                bytes.extend_from_slice(payload);
                arrival.damage(&mut bytes);
                bytes.truncate(arrival.len);
                let wire = Wire {
                    from: outer,
                    to,
                    ecn: arrival.ecn,
                    bytes,
                };
                if self.flights.push(arrival.at, wire).is_err() {
                    self.counts.add(Fault::Overflow);
                }
            }
        }
        passage
    }

    /// Delivers a datagram that somebody wrote by hand, now and as it is.
    pub fn inject(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let wire = Wire {
            from,
            to,
            ecn: 0,
            bytes: bytes.to_vec(),
        };
        if self.flights.push(now, wire).is_err() {
            self.counts.add(Fault::Overflow);
        }
    }

    /// When the next datagram arrives.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.flights.next()
    }

    /// Takes the next datagram that has arrived by `now`. One to an address that nobody has any more is gone.
    pub fn recv(&mut self, now: Instant) -> Option<Wire> {
        loop {
            let mut wire = self.flights.pop(now)?;
            let reached = self.translations.iter().find(|one| one.outer == wire.to);
            if let Some(translation) = reached {
                wire.to = translation.inner;
                return Some(wire);
            }
            if self.translations.iter().all(|one| one.inner != wire.to) {
                return Some(wire);
            }
            self.keep(wire.bytes);
        }
    }

    /// Takes the next datagram if it has arrived too, belongs behind `first` and fits `room`: what GRO would coalesce.
    pub fn recv_alike(&mut self, now: Instant, first: &Wire, room: usize) -> Option<Wire> {
        let next = self.flights.peek(now)?;
        let len = next.bytes.len();
        let alike = next.from == first.from && next.ecn == first.ecn && len > 0 && len <= room;
        if !alike || next.to != self.outer(first.to) {
            return None;
        }
        let mut wire = self.flights.pop(now)?;
        wire.to = first.to;
        Some(wire)
    }

    /// Takes a payload back, for the next datagram.
    pub fn keep(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// How often each fault fired.
    #[must_use]
    pub fn fault_counts(&self) -> FaultCounts {
        self.counts
    }

    /// The face of an address at this time.
    fn translated(&mut self, now: Instant, inner: SocketAddr) -> SocketAddr {
        let rebinds = self.config.faults.rebinds(now.saturating_since(self.began));
        let Some(found) = self.translations.iter_mut().find(|one| one.inner == inner) else {
            return inner;
        };
        if rebinds > found.rebinds {
            found.rebinds = rebinds;
            self.counts.add(Fault::Rebind);
            found.outer = fresh(self.next_outer);
            self.next_outer = self.next_outer.wrapping_add(1);
        }
        found.outer
    }
}

/// Ports of one address; 0 is none.
const PORTS: u32 = 65_535;

/// The `count`-th address that a translation gives out: private ones, none twice within four billion.
fn fresh(count: u32) -> SocketAddr {
    let [.., high, low] = (count / PORTS).to_be_bytes();
    let [.., port_high, port_low] = (1 + count % PORTS).to_be_bytes();
    let port = u16::from_be_bytes([port_high, port_low]);
    SocketAddr::from((Ipv4Addr::new(10, 200, high, low), port))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{PORTS, fresh};

    #[test]
    fn a_translation_gives_no_address_twice() {
        let counts = (0..10).chain(PORTS - 5..PORTS + 5);
        let given: HashSet<_> = counts.clone().map(fresh).collect();
        assert_eq!(given.len(), counts.count());
        assert!(given.iter().all(|address| address.port() > 0));
    }
}
