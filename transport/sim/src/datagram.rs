//! Datagram sockets and the way between them as the network sees it.
//!
//! Each socket has one [path](crate::DatagramPath) out, which loses, delays, duplicates, reorders, cuts and corrupts; and
//! one inbox, which drops what does not fit. A connected socket stands behind a translation of addresses (NAT). Nothing is ever told to the sender, but that a datagram is too long.

use std::collections::VecDeque;
use std::net::SocketAddr;

use ringway_buf::{Id, Instant};
use ringway_driver::{Address, DatagramMeta};

use crate::clock::{Clock, Event};
use crate::errno::{EADDRINUSE, ENFILE};
use crate::names::source_of;
use crate::net::Net;
use crate::stream::Owner;
use crate::{Arrival, DatagramPath, Fault, Passage, PathConfig};

/// Most datagrams on their way in the whole network; more are dropped as by a full queue.
pub(crate) const FLIGHTS_MAX: usize = 64 * 1024;
/// Most datagrams that arrive together, as with GRO.
const COALESCE_MAX: u32 = 64;
/// Payload buffers that are kept for the next datagrams.
const SPARE_PAYLOADS_MAX: usize = 1024;
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
    path: DatagramPath,
    /// Under which address others see it, once a translation has forgotten its first one.
    outer: Option<SocketAddr>,
    rebinds: u64,
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
            path: DatagramPath::new(self.seed, self.directions, Clock::START),
            outer: None,
            rebinds: 0,
        };
        let id = self.mailboxes.insert(mailbox).map_err(|_full| ENFILE)?;
        self.names.insert(&address, id);
        Ok((id, local))
    }

    /// Closes a datagram socket; what waits in its inbox is gone.
    pub(crate) fn close_mailbox(&mut self, id: Id) {
        if let Some(gone) = self.mailboxes.remove(id) {
            self.names.remove(&Address::Udp(gone.local), id);
            if let Some(outer) = gone.outer {
                self.names.remove(&Address::Udp(outer), id);
            }
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
        let config = PathConfig {
            link: self.config.datagram,
            faults: self.config.faults.datagram,
        };
        self.rebind(id, now, &config);
        let Some(mailbox) = self.mailboxes.get_mut(id) else {
            return Sent::Dropped;
        };
        let Some(to) = to.or(mailbox.peer) else {
            return Sent::Dropped;
        };
        let from = mailbox
            .outer
            .unwrap_or_else(|| source_of(mailbox.local, to));
        let waiting = mailbox.path.waiting_bytes(now, &config.link);
        self.trace.words([id.to_bits(), waiting]);
        self.trace.bytes(payload);
        if self.flights.len() + 2 > FLIGHTS_MAX {
            self.counts.add(Fault::Overflow);
            return Sent::Dropped;
        }
        let ecn = ecn.unwrap_or(if mailbox.ecn { ECN_CAPABLE } else { 0 });
        let passage = mailbox
            .path
            .send(now, payload.len(), ecn, &config, &mut self.counts);
        match passage {
            Passage::TooLong(bytes_max) => return Sent::TooLong(bytes_max),
            Passage::Overflow => return Sent::Dropped,
            Passage::Lost(_) => {}
            Passage::Arrives(first, second) => {
                for arrival in [Some(first), second].into_iter().flatten() {
                    self.fly(from, to, &arrival, payload);
                }
            }
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

    /// Damages a copy of a datagram as its path does and puts it on its way.
    fn fly(&mut self, from: SocketAddr, to: SocketAddr, arrival: &Arrival, payload: &[u8]) {
        let mut copy = self.spare_payloads.pop().unwrap_or_default();
        copy.extend_from_slice(payload);
        arrival.damage(&mut copy);
        copy.truncate(arrival.len);
        let flight = Flight {
            from,
            to,
            ecn: arrival.ecn,
            truncated: arrival.len < payload.len(),
            payload: copy,
        };
        if let Ok(flight) = self.flights.insert(flight) {
            self.clock.plan(arrival.at, Event::Datagram { flight });
        }
    }

    /// Gives a connected socket a new face if its translation has forgotten the old one.
    fn rebind(&mut self, id: Id, now: Instant, config: &PathConfig) {
        let age = now.saturating_since(Clock::START);
        let rebinds = config.faults.rebinds(age);
        let Some(mailbox) = self.mailboxes.get_mut(id) else {
            return;
        };
        let Some(peer) = mailbox.peer.filter(|_| rebinds > mailbox.rebinds) else {
            return;
        };
        mailbox.rebinds = rebinds;
        let mut face = source_of(mailbox.local, peer);
        face.set_port(0);
        let Some(fresh) = self.names.with_port(&Address::Udp(face)) else {
            return;
        };
        if let Some(outer) = mailbox.outer {
            self.names.remove(&Address::Udp(outer), id);
        }
        mailbox.outer = fresh.socket_addr();
        self.names.insert(&fresh, id);
        self.counts.add(Fault::Rebind);
    }

    /// The socket that gets a datagram: one that is connected to its sender, else one that is not connected.
    fn addressee(&self, flight: &Flight) -> Option<Id> {
        let ids = self.names.answering(&Address::Udp(flight.to));
        // Whom a translation shows under another address is not reached under this one.
        let peer_of = |id: &Id| {
            let mailbox = self.mailboxes.get(*id)?;
            let here = mailbox.outer.is_none_or(|outer| outer == flight.to);
            here.then_some(mailbox.peer)
        };
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
