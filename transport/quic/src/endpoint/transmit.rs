//! What goes out: bursts of datagrams of one size, written into memory of the engine.

use std::collections::VecDeque;
use std::net::SocketAddr;

use quinn_proto::{EcnCodepoint, Transmit};
use ringway_buf::copy_counted;
use ringway_proto::packet::{Marks, TransmitSink};

use super::QuicEndpoint;

/// Answers to strangers that wait for the sink; what comes beyond is dropped, as the network might.
const RESPONSES_MAX: usize = 64;
/// Transmissions of one call.
const BURSTS_MAX: usize = 32;
/// Bytes after which a call gives way to the driver: one full transmission. While the kernel carries it and the peer decrypts
/// it, the next one is encrypted; all of a window at once left the peer idle before, and this end afterwards. 1 MiB requests
/// on two cores of loopback, MB/s by the size of a transmission: 765 all at once, 970 with 16 KB, 1,100 with 23, 1,190 with
/// 32, 1,150 with 45, 1,070 with 64.
const CALL_BYTES_MAX: usize = 24 * 1024;
/// Datagrams of one transmission: what the kernel splits at most.
const SEGMENTS_MAX: usize = 64;
/// Bytes of one transmission; a single datagram may be longer.
const BURST_BYTES_MAX: usize = 32_000;

/// Answers that belong to no session: Retry, refusals, version negotiation, resets.
#[derive(Debug, Default)]
pub(super) struct Responses(VecDeque<(Way, Vec<u8>)>);

impl Responses {
    pub(super) fn push(&mut self, transmit: &Transmit, bytes: Vec<u8>) {
        if self.0.len() < RESPONSES_MAX && !bytes.is_empty() {
            self.0.push_back((Way::of(transmit), bytes));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where datagrams go, and how.
#[derive(Clone, Copy, Debug)]
struct Way {
    peer: SocketAddr,
    marks: Marks,
}

impl Way {
    fn of(transmit: &Transmit) -> Self {
        let ecn = match transmit.ecn {
            // What the sockets of packet transports say unless the user wants no ECN: no word is needed.
            Some(EcnCodepoint::Ect0) => None,
            Some(other) => Some(other as u8),
            // The path damages the marks.
            None => Some(0),
        };
        let source = transmit.src_ip;
        Self {
            peer: transmit.destination,
            marks: Marks { source, ecn },
        }
    }
}

/// Datagrams in the scratch memory that the sink has not taken yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    way: Way,
    segment_bytes: usize,
    /// Where the rest begins.
    from: usize,
}

/// Hands `bytes` to the sink; returns how many it took.
fn give(sink: &mut dyn TransmitSink, way: Way, segment_bytes: usize, bytes: &[u8]) -> usize {
    let segment_bytes = segment_bytes.max(1);
    let mut taken = 0_usize;
    while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
        let count = rest.len().div_ceil(segment_bytes);
        let Some(room) = sink.lend(way.peer, segment_bytes, count) else {
            break;
        };
        // Whole datagrams only: a lent piece may be shorter than asked for.
        let whole = room
            .len()
            .saturating_sub(room.len().checked_rem(segment_bytes).unwrap_or(0));
        let part = rest.len().min(whole);
        let Some(source) = rest.get(..part).filter(|part| !part.is_empty()) else {
            break;
        };
        // quinn-proto writes into vectors of its own only, so this copy is its price on the way down.
        copy_counted(room, source);
        sink.mark(way.marks);
        sink.commit(part, segment_bytes);
        taken = taken.saturating_add(part);
    }
    taken
}

impl QuicEndpoint {
    /// Returns whether more could be sent at once.
    pub(super) fn transmit(&mut self, sink: &mut dyn TransmitSink) -> bool {
        let more = self.transmit_some(sink);
        // The others armed themselves when they had nothing more to send. Few are left unless the sink is full.
        for index in 0..self.dirty.len() {
            if let Some(&id) = self.dirty.get(index) {
                self.arm(id);
            }
        }
        more
    }

    fn transmit_some(&mut self, sink: &mut dyn TransmitSink) -> bool {
        if !self.give_held(sink) {
            return false;
        }
        while let Some((way, bytes)) = self.responses.0.front() {
            if give(sink, *way, bytes.len(), bytes) == 0 {
                return false;
            }
            self.responses.0.pop_front();
        }
        let mut bytes = 0_usize;
        for _ in 0..BURSTS_MAX {
            if bytes >= CALL_BYTES_MAX {
                break;
            }
            let Some(&id) = self.dirty.front() else {
                return false;
            };
            if self.fill_scratch(id) {
                bytes = bytes.saturating_add(self.scratch.len());
                if !self.give_held(sink) {
                    return false;
                }
                // The next session's turn: one that always has something must not keep the others waiting.
                self.dirty.rotate_left(1);
                continue;
            }
            self.dirty.pop_front();
            if let Some(session) = self.sessions.get_mut(id) {
                session.listed_dirty = false;
            }
            self.arm(id);
            self.conclude(id);
        }
        !self.dirty.is_empty()
    }

    /// Lets the session write a transmission. Returns whether it had one.
    fn fill_scratch(&mut self, id: ringway_buf::Id) -> bool {
        // What was settled already said all that it has to say to the others.
        if self
            .sessions
            .get(id)
            .is_some_and(|session| !session.settled)
        {
            self.settle(id);
        }
        let Some(session) = self.sessions.get_mut(id) else {
            return false;
        };
        let payload = usize::from(session.conn.current_mtu());
        let count = BURST_BYTES_MAX.checked_div(payload).unwrap_or(1);
        let count = count.clamp(1, SEGMENTS_MAX);
        self.scratch.clear();
        let now = self.base.foreign(self.now);
        let Some(transmit) = session.conn.poll_transmit(now, count, &mut self.scratch) else {
            return false;
        };
        // Datagrams that left have made room for those that wait.
        session.settled = session.settled && !session.has_unreliable();
        self.held = Some(Held {
            way: Way::of(&transmit),
            segment_bytes: transmit.segment_size.unwrap_or(transmit.size),
            from: 0,
        });
        true
    }

    /// Hands over what is in the scratch memory. Returns whether nothing is left there.
    fn give_held(&mut self, sink: &mut dyn TransmitSink) -> bool {
        let Some(held) = self.held else { return true };
        let rest = self.scratch.get(held.from..).unwrap_or_default();
        let taken = give(sink, held.way, held.segment_bytes, rest);
        if taken == rest.len() {
            self.held = None;
            return true;
        }
        let from = held.from.saturating_add(taken);
        self.held = Some(Held { from, ..held });
        false
    }
}
