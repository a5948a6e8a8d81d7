//! Datagram sockets and the way between them as the network sees it.
//!
//! Each socket has one link out, which loses, delays, duplicates, reorders, cuts and corrupts; and one inbox,
//! which drops what does not fit. Nothing is ever told to the sender, but that a datagram is too long.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use ringway_buf::{Id, Instant};
use ringway_driver::{Address, DatagramMeta};

use crate::clock::Event;
use crate::errno::{EADDRINUSE, ENFILE};
use crate::names::source_of;
use crate::net::Net;
use crate::pipe::wire_time;
use crate::rng::{Concern, Rng, nanos};
use crate::stream::Owner;
use crate::{DatagramFaults, DatagramLink, Fault, Span};

/// Most datagrams on their way in the whole network; more are dropped as by a full queue.
pub(crate) const FLIGHTS_MAX: usize = 64 * 1024;
/// Most datagrams that arrive together, as with GRO.
const COALESCE_MAX: u32 = 64;
/// Payload buffers that are kept for the next datagrams.
const SPARE_PAYLOADS_MAX: usize = 1024;
/// Most bits that one corruption flips.
const FLIPPED_BITS_MAX: u64 = 8;
/// ECN bits: "congestion experienced" (RFC 3168, section 5).
const ECN_CE: u8 = 3;
/// ECN bits: ECT(0), set by a sender that reacts to marks (RFC 3168, section 5).
const ECN_CAPABLE: u8 = 2;

/// A datagram on its way or in an inbox.
#[derive(Debug)]
pub(crate) struct Flight {
    from: SocketAddr,
    to: SocketAddr,
    ecn: u8,
    truncated: bool,
    payload: Vec<u8>,
}

/// A datagram socket.
#[derive(Debug)]
pub(crate) struct Mailbox {
    owner: Owner,
    pub(crate) local: SocketAddr,
    pub(crate) peer: Option<SocketAddr>,
    reuse_port: bool,
    ecn: bool,
    inbox: VecDeque<Flight>,
    inbox_bytes: usize,
    link: Link,
}

/// The state of a way out.
#[derive(Debug)]
struct Link {
    busy_until: Instant,
    last_arrival: Instant,
    /// The bad state of Gilbert and Elliott.
    bad: bool,
    delay: Rng,
    loss: Rng,
    copy: Rng,
    order: Rng,
    bits: Rng,
    mark: Rng,
}

/// How a new datagram socket is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MailboxOptions {
    pub(crate) local: SocketAddr,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) reuse_port: bool,
    pub(crate) ecn: bool,
}

/// What became of a datagram at its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It left, or the network lost it.
    Left,
    /// A queue of the sender's own host was full.
    Dropped,
    /// It is longer than this many bytes.
    TooLong(usize),
}

impl Net {
    /// Opens a datagram socket; an error number when its name is taken or the network is full.
    ///
    /// Connected sockets may share the port of an unconnected one, as with `SO_REUSEADDR`.
    pub(crate) fn open_mailbox(
        &mut self,
        owner: Owner,
        options: MailboxOptions,
    ) -> Result<(Id, SocketAddr), i32> {
        let address = self
            .names
            .with_port(&Address::Udp(options.local))
            .ok_or(EADDRINUSE)?;
        let local = address.socket_addr().ok_or(EADDRINUSE)?;
        let free = options.peer.is_some()
            || self.names.exactly(&address).iter().all(|id| {
                self.mailboxes.get(*id).is_none_or(|other| {
                    other.peer.is_some() || (other.reuse_port && options.reuse_port)
                })
            });
        if !free {
            return Err(EADDRINUSE);
        }
        self.directions += 1;
        let mailbox = Mailbox {
            owner,
            local,
            peer: options.peer,
            reuse_port: options.reuse_port,
            ecn: options.ecn,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            link: Link::new(self.seed, self.directions),
        };
        let id = self.mailboxes.insert(mailbox).map_err(|_full| ENFILE)?;
        self.names.insert(&address, id);
        Ok((id, local))
    }

    /// Closes a datagram socket; what waits in its inbox is gone.
    pub(crate) fn close_mailbox(&mut self, id: Id) {
        if let Some(gone) = self.mailboxes.remove(id) {
            self.names.remove(&Address::Udp(gone.local), id);
            for flight in gone.inbox {
                self.keep_payload(flight.payload);
            }
        }
    }

    /// Sends one datagram.
    pub(crate) fn send_datagram(
        &mut self,
        id: Id,
        to: Option<SocketAddr>,
        payload: &[u8],
        ecn: Option<u8>,
    ) -> Sent {
        let now = self.clock.now();
        let way = self.config.datagram;
        let faults = self.config.faults.datagram;
        let mtu = way.mtu_bytes as usize;
        if payload.len() > mtu {
            return Sent::TooLong(mtu);
        }
        let Some(mailbox) = self.mailboxes.get_mut(id) else {
            return Sent::Dropped;
        };
        let Some(to) = to.or(mailbox.peer) else {
            return Sent::Dropped;
        };
        let from = source_of(mailbox.local, to);
        let link = &mut mailbox.link;
        let waiting = link.waiting_bytes(now, &way);
        self.trace.words([id.to_bits(), waiting]);
        self.trace.bytes(payload);
        if waiting + payload.len() as u64 > u64::from(way.queue_bytes)
            || self.flights.len() + 2 > FLIGHTS_MAX
        {
            self.counts.add(Fault::Overflow);
            return Sent::Dropped;
        }
        link.busy_until =
            link.busy_until.max(now) + wire_time(payload.len(), way.bandwidth_bytes_per_s);
        if let Some(fault) = link.loses(payload.len(), &faults) {
            self.counts.add(fault);
            return Sent::Left;
        }
        let mut ecn = ecn.unwrap_or(if mailbox.ecn { ECN_CAPABLE } else { 0 });
        let full = way.ecn_threshold_bytes > 0 && waiting >= u64::from(way.ecn_threshold_bytes);
        if ecn != 0 && (full || link.mark.hits(faults.ecn_mark)) {
            self.counts.add(Fault::EcnMark);
            ecn = ECN_CE;
        }
        let twice = link.copy.hits(faults.duplicate);
        if twice {
            self.counts.add(Fault::Duplicate);
        }
        for _ in 0..=u32::from(twice) {
            let mut copy = self.spare_payloads.pop().unwrap_or_default();
            copy.extend_from_slice(payload);
            let flight = Flight {
                from,
                to,
                ecn,
                truncated: false,
                payload: copy,
            };
            self.fly(id, flight, now);
        }
        Sent::Left
    }

    /// A datagram arrived.
    pub(crate) fn on_datagram(&mut self, flight: Id) {
        let Some(flight) = self.flights.remove(flight) else {
            return;
        };
        let queue_bytes = self.config.datagram.queue_bytes as usize;
        let Some(id) = self.addressee(&flight) else {
            return self.keep_payload(flight.payload);
        };
        let Some(mailbox) = self.mailboxes.get_mut(id) else {
            return;
        };
        // Each datagram counts its head too, so that empty ones are bounded as well.
        let bytes = flight.charge();
        if mailbox.inbox_bytes + bytes > queue_bytes.max(bytes) {
            self.counts.add(Fault::Overflow);
            return self.keep_payload(flight.payload);
        }
        mailbox.inbox_bytes += bytes;
        mailbox.inbox.push_back(flight);
        let owner = mailbox.owner;
        self.mark(owner);
    }

    /// Length of the datagram that waits longest, in bytes.
    pub(crate) fn datagram_waits(&self, id: Id) -> Option<usize> {
        self.mailboxes
            .get(id)?
            .inbox
            .front()
            .map(|flight| flight.payload.len())
    }

    /// Takes the datagram that waits longest, and those behind it that look like it, into `target`.
    ///
    /// Returns what is known of them, their number and their bytes together.
    pub(crate) fn take_datagrams(
        &mut self,
        id: Id,
        node: u32,
        target: &mut [u8],
    ) -> Option<(DatagramMeta, u32, usize)> {
        let coalesce = self.config.habits.coalesce;
        let mailbox = self.mailboxes.get_mut(id)?;
        let asked_for_ecn = mailbox.ecn;
        let first = mailbox.pop()?;
        let mut len = first.payload.len().min(target.len());
        target[..len].copy_from_slice(&first.payload[..len]);
        let segment = len;
        let truncated = first.truncated || len < first.payload.len();
        let mut count = 1;
        let lane = &mut self.nodes[node as usize].coalesce;
        while !truncated && segment > 0 && len == segment * count as usize && count < COALESCE_MAX {
            let Some(next) = mailbox.inbox.front() else {
                break;
            };
            let size = next.payload.len();
            let alike = next.from == first.from && next.ecn == first.ecn && !next.truncated;
            let fits = size > 0 && size <= segment && len + size <= target.len();
            if !alike || !fits || !lane.hits(coalesce) {
                break;
            }
            let Some(next) = mailbox.pop() else { break };
            target[len..len + size].copy_from_slice(&next.payload);
            len += size;
            count += 1;
            keep(&mut self.spare_payloads, next.payload);
        }
        let meta = DatagramMeta {
            peer: first.from,
            segment_bytes: u32::try_from(segment).unwrap_or(u32::MAX),
            ecn: if asked_for_ecn { first.ecn } else { 0 },
            local: None,
            truncated,
        };
        keep(&mut self.spare_payloads, first.payload);
        self.trace
            .words([id.to_bits(), u64::from(count), len as u64]);
        Some((meta, count, len))
    }

    /// Damages a datagram as its link does and puts it on its way.
    fn fly(&mut self, id: Id, mut flight: Flight, now: Instant) {
        let way = self.config.datagram;
        let faults = self.config.faults.datagram;
        let Some(mailbox) = self.mailboxes.get_mut(id) else {
            return;
        };
        let link = &mut mailbox.link;
        if link.bits.hits(faults.corrupt) && !flight.payload.is_empty() {
            self.counts.add(Fault::Corrupt);
            link.flip_bits(&mut flight.payload);
        }
        if link.bits.hits(faults.truncate) && !flight.payload.is_empty() {
            self.counts.add(Fault::Truncate);
            let kept = link.bits.len(flight.payload.len()) - 1;
            flight.payload.truncate(kept);
            flight.truncated = true;
        }
        let held = link.order.hits(faults.reorder);
        if held {
            self.counts.add(Fault::Reorder);
        }
        let arrival = link.arrival(now, &way, held.then_some(faults.reorder_window));
        if let Ok(flight) = self.flights.insert(flight) {
            self.clock.plan(arrival, Event::Datagram { flight });
        }
    }

    /// The socket that gets a datagram: one that is connected to its sender, else one that is not connected.
    fn addressee(&self, flight: &Flight) -> Option<Id> {
        let ids = self.names.answering(&Address::Udp(flight.to));
        let peer_of = |id: &Id| self.mailboxes.get(*id).map(|mailbox| mailbox.peer);
        if let Some(id) = ids.iter().find(|id| peer_of(id) == Some(Some(flight.from))) {
            return Some(*id);
        }
        let open = || ids.iter().filter(|id| peer_of(id) == Some(None));
        // Sockets that share a port share the senders, each sender always meeting the same one.
        let count = open().count();
        open()
            .nth(usize::from(flight.from.port()).checked_rem(count)?)
            .copied()
    }

    fn keep_payload(&mut self, payload: Vec<u8>) {
        keep(&mut self.spare_payloads, payload);
    }
}

fn keep(spare: &mut Vec<Vec<u8>>, mut payload: Vec<u8>) {
    if spare.len() < SPARE_PAYLOADS_MAX {
        payload.clear();
        spare.push(payload);
    }
}

impl Flight {
    /// What it costs of a queue.
    fn charge(&self) -> usize {
        const HEADER_BYTES: usize = 28;
        self.payload.len() + HEADER_BYTES
    }
}

impl Mailbox {
    fn pop(&mut self) -> Option<Flight> {
        let flight = self.inbox.pop_front()?;
        self.inbox_bytes -= flight.charge();
        Some(flight)
    }
}

impl Link {
    fn new(seed: u64, index: u64) -> Self {
        let lane = |concern| Rng::split(seed, concern, index);
        Self {
            busy_until: Instant::ZERO,
            last_arrival: Instant::ZERO,
            bad: false,
            delay: lane(Concern::DatagramDelay),
            loss: lane(Concern::DatagramLoss),
            copy: lane(Concern::DatagramCopy),
            order: lane(Concern::DatagramOrder),
            bits: lane(Concern::DatagramBits),
            mark: lane(Concern::DatagramMark),
        }
    }

    /// Bytes that wait for the link.
    fn waiting_bytes(&self, now: Instant, way: &DatagramLink) -> u64 {
        let wait = u128::from(nanos(self.busy_until.saturating_since(now)));
        let bytes = wait * u128::from(way.bandwidth_bytes_per_s) / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Whether the next datagram is lost, and how.
    fn loses(&mut self, len: usize, faults: &DatagramFaults) -> Option<Fault> {
        if faults.black_hole_bytes > 0 && len > faults.black_hole_bytes as usize {
            return Some(Fault::BlackHole);
        }
        let turns = if self.bad {
            faults.burst_leave
        } else {
            faults.burst_enter
        };
        if self.loss.hits(turns) {
            self.bad = !self.bad;
        }
        if self.bad && self.loss.hits(faults.burst_loss) {
            return Some(Fault::BurstLoss);
        }
        self.loss.hits(faults.loss).then_some(Fault::Loss)
    }

    /// When a datagram arrives. Those that are not held back keep their order.
    fn arrival(&mut self, now: Instant, way: &DatagramLink, held: Option<Duration>) -> Instant {
        let jitter = self.delay.duration(Span {
            min: Duration::ZERO,
            max: way.jitter,
        });
        let arrival = self.busy_until.max(now) + self.delay.duration(way.delay) + jitter;
        match held {
            Some(window) => {
                arrival
                    + self.order.duration(Span {
                        min: Duration::from_nanos(1),
                        max: window,
                    })
            }
            None => {
                self.last_arrival = self.last_arrival.max(arrival);
                self.last_arrival
            }
        }
    }

    fn flip_bits(&mut self, payload: &mut [u8]) {
        let count = self.bits.between(1, FLIPPED_BITS_MAX);
        for _ in 0..count {
            let bit = self.bits.below(payload.len() as u64 * 8);
            let index = usize::try_from(bit / 8).unwrap_or(0);
            payload[index] ^= 1 << (bit % 8);
        }
    }
}
