//! What comes in: datagrams, deadlines, and the engine's question for events.

use bytes::BytesMut;
use quinn_proto::{DatagramEvent, EcnCodepoint};
use ringway_buf::Id;
use ringway_proto::packet::{PacketEvent, PacketMeta};
use std::time::Duration;

use super::QuicEndpoint;
use crate::session::{Read, Surroundings};

/// How long a session without memory waits before it looks again.
const STARVED_RETRY: Duration = Duration::from_millis(1);
/// Deadlines that one call acts on; the next call takes the rest.
const DEADLINES_MAX: usize = 1_024;

impl QuicEndpoint {
    pub(super) fn take_datagrams(&mut self, meta: &PacketMeta, bytes: &[u8]) {
        let ecn = EcnCodepoint::from_bits(meta.ecn);
        let now = self.base.foreign(self.now);
        for datagram in bytes.chunks(meta.segment_bytes.max(1)) {
            // One copy and one allocation, because quinn-proto keeps what it decrypts; it counts the length of a
            // datagram as what it holds, so that datagrams may not share one allocation.
            let datagram = BytesMut::from(datagram);
            let mut response = Vec::new();
            let event =
                self.endpoint
                    .handle(now, meta.peer, meta.local, ecn, datagram, &mut response);
            match event {
                None => {}
                Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                    let found = self.by_handle.get(handle.0).copied().flatten();
                    if let Some(id) = found
                        && let Some(session) = self.sessions.get_mut(id)
                    {
                        session.conn.handle_event(event);
                        if !self.touched.contains(&id) {
                            self.touched.push(id);
                        }
                    }
                }
                Some(DatagramEvent::NewConnection(incoming)) => self.on_incoming(incoming),
                Some(DatagramEvent::Response(transmit)) => {
                    self.responses.push(&transmit, response);
                }
            }
        }
        // Settled once per batch: a burst of a peer gives one acknowledgement.
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            self.settle(id);
        }
        self.touched = touched;
    }

    pub(super) fn take_deadlines(&mut self) {
        if self.starved.is_some_and(|at| at <= self.now) {
            self.starved = None;
            self.readable.append(&mut self.hungry);
        }
        for _ in 0..DEADLINES_MAX {
            let Some(&(at, id)) = self.deadlines.first() else {
                return;
            };
            if at > self.now {
                return;
            }
            self.deadlines.remove(&(at, id));
            if let Some(session) = self.sessions.get_mut(id) {
                session.armed = None;
                self.with(id, |session, around| session.handle_timeout(around));
                self.conclude(id);
            }
        }
    }

    pub(super) fn next_event(&mut self) -> Option<PacketEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let id = *self.readable.front()?;
            match self.read(id) {
                Some(Read::Message(event)) => return Some(event),
                Some(Read::Queued) => self.settle(id),
                Some(Read::Starved) => {
                    // The others go on: what they deliver may free the memory that this one waits for.
                    self.readable.pop_front();
                    self.hungry.push_back(id);
                    self.starved.get_or_insert(self.now + STARVED_RETRY);
                }
                Some(Read::Dry) | None => {
                    self.readable.pop_front();
                    if let Some(session) = self.sessions.get_mut(id) {
                        session.listed_readable = false;
                    }
                    // Reading has made room in the window, which the peer has to be told.
                    self.mark_dirty(id);
                    self.conclude(id);
                }
            }
        }
    }

    fn read(&mut self, id: Id) -> Option<Read> {
        let session = self.sessions.get_mut(id)?;
        let mut around = Surroundings {
            machine: &self.machine,
            pools: &self.pools,
            events: &mut self.events,
            base: self.base,
            now: self.now,
        };
        Some(session.read(&mut around))
    }
}
