//! The way down: from messages to streams and datagrams of QUIC.
//!
//! What quinn-proto does not take, because the peer's window or this end's is full, waits here; the engine bounds its
//! sum.

use std::collections::VecDeque;

use bytes::Bytes;
use quinn_proto::{SendDatagramError, StreamId};
use ringway_buf::{Instant, Slice};
use ringway_proto::packet::{Delivery, Outgoing, SendRefusal, Ways};
use ringway_proto::{HEADER_BYTES, Header, TRANSMIT_BYTES_MAX, padded};

use super::lanes::Lanes;
use super::line::Line;
use super::{Session, Stage, Surroundings};
use crate::tracked::{self, Kin};

/// Messages from this length on, of which nobody asks for an order, get a stream of their own: three packets, in which
/// a loss is likely enough to be worth the stream's frames.
pub(super) const OWN_STREAM_BYTES_MIN: u32 = 4096;

/// What waits to be taken by quinn-proto.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The ordered stream.
    main: Line,
    /// Messages that were put there, since the start.
    ordered: u64,
    lanes: Lanes,
    /// Messages that wait for a stream of their own.
    waiting: VecDeque<[Bytes; 2]>,
    /// Messages that have one and are not wholly written.
    writing: Vec<(StreamId, [Bytes; 2])>,
    /// Unreliable messages and until when they are worth sending.
    unreliable: VecDeque<(Instant, Bytes)>,
}

impl Outbox {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes of the ordered stream that quinn-proto has taken.
    fn ordered_bytes_written(&self) -> u64 {
        self.main
            .put_bytes
            .saturating_sub(self.main.waiting_bytes())
    }
}

impl Session {
    /// The longest unreliable body that the path carries now.
    pub(super) fn unreliable_bytes_max(&mut self) -> usize {
        let most = self.conn.datagrams().max_size().unwrap_or(0);
        most.saturating_sub(HEADER_BYTES)
    }

    /// Whether unreliable messages wait for room in quinn-proto.
    pub(crate) fn has_unreliable(&self) -> bool {
        !self.outbox.unreliable.is_empty()
    }

    pub(crate) fn send(
        &mut self,
        outgoing: Outgoing,
        now: Instant,
    ) -> Result<(), (Outgoing, SendRefusal)> {
        let length = outgoing.body.len();
        match self.message_bytes_max(outgoing.delivery) {
            Ok(bytes_max) if length <= bytes_max => {}
            Ok(bytes_max) => return Err((outgoing, SendRefusal::TooLong { bytes_max })),
            Err(refusal) => return Err((outgoing, refusal)),
        }
        let Ok(wire_length) = u32::try_from(length) else {
            let bytes_max = u32::MAX as usize;
            return Err((outgoing, SendRefusal::TooLong { bytes_max }));
        };
        let header = Header {
            length: wire_length,
            ..outgoing.header
        };
        self.accepted_bytes = self.accepted_bytes.saturating_add(length as u64);
        self.machine.sent(now);
        match outgoing.delivery {
            Delivery::Ordered => self.append(&header, outgoing.body),
            Delivery::Lane { lane, last } => self.append_lane((lane, last), &header, outgoing.body),
            Delivery::Unordered => {
                let head = tracked::framed(wire_header(&header), 0, Kin::Other, &self.ledger);
                let body = tracked::body(outgoing.body, Kin::Other, &self.ledger);
                self.outbox.waiting.push_back([head, body]);
            }
            Delivery::Unreliable { deadline } => {
                let mut framed = wire_header(&header);
                framed.extend_from_slice(&outgoing.body);
                let framed = tracked::framed(framed, length as u64, Kin::Other, &self.ledger);
                self.outbox.unreliable.push_back((deadline, framed));
            }
        }
        Ok(())
    }

    /// Puts a message at the end of the ordered stream.
    fn append(&mut self, header: &Header, body: Slice) {
        let padding = padded(body.len()).saturating_sub(body.len());
        self.outbox.ordered = self.outbox.ordered.saturating_add(1);
        self.outbox
            .main
            .message(header, body, padding, &self.ledger);
    }

    /// Puts a message at the end of a lane.
    fn append_lane(&mut self, lane: (u32, bool), header: &Header, body: Slice) {
        let outbox = &mut self.outbox;
        let place = (outbox.ordered, outbox.main.put_bytes);
        let (conn, ledger) = (&mut self.conn, &self.ledger);
        let taken = outbox
            .lanes
            .message(lane, (header, body), conn, place, ledger);
        if let Err(body) = taken {
            self.append(header, body);
        }
    }

    /// Gives up what a lane has not delivered.
    pub(crate) fn drop_lane(&mut self, lane: u32) {
        if !self.is_over() && !self.is_gone() {
            self.outbox
                .lanes
                .drop_lane(lane, &mut self.conn, &self.ledger);
        }
    }

    /// Which deliveries lose nothing now.
    pub(crate) fn ways(&mut self) -> Ways {
        let unreliable = u32::try_from(self.unreliable_bytes_max());
        Ways {
            unordered_bytes_min: OWN_STREAM_BYTES_MIN,
            lanes: true,
            unreliable_bytes_max: unreliable.unwrap_or(u32::MAX),
        }
    }

    /// Whether nothing waits here, and the peer has all messages that have streams of their own.
    pub(super) fn is_flushed(&mut self) -> bool {
        self.outbox.main.is_empty() && self.outbox.unreliable.is_empty() && self.others_done()
    }

    /// Whether the peer has all messages that have streams of their own.
    fn others_done(&mut self) -> bool {
        let outbox = &self.outbox;
        // A stream counts until the peer has acknowledged its end, or that it was dropped.
        let idle = usize::from(self.main.is_some()).saturating_add(outbox.lanes.idle_streams());
        outbox.waiting.is_empty()
            && outbox.writing.is_empty()
            && outbox.lanes.is_empty()
            && self.conn.streams().send_streams() <= idle
    }

    /// Moves to quinn-proto what it takes.
    pub(super) fn pump(&mut self, around: &mut Surroundings<'_>) {
        if self.is_over() || self.is_gone() {
            return;
        }
        self.pump_unreliable(around.now);
        self.pump_unordered();
        if self.finishing || matches!(self.stage, Stage::Flushing(_)) {
            self.outbox.lanes.end();
        }
        if let Some(stream) = self.main {
            self.pump_main(stream, around);
        }
        if !self.outbox.lanes.is_empty() {
            let written = self.outbox.ordered_bytes_written();
            let (conn, ledger) = (&mut self.conn, &self.ledger);
            let most = self.lanes_bytes_max;
            self.outbox.lanes.pump(conn, written, most, ledger);
        }
    }

    fn pump_main(&mut self, stream: StreamId, around: &mut Surroundings<'_>) {
        if self.finishing && self.stage == Stage::Open && self.others_done() {
            self.machine.finish();
            self.machine_events(around);
        }
        if self.machine.wants_transmit() {
            let mut room = [0; TRANSMIT_BYTES_MAX];
            let count = self.machine.poll_transmit(&mut room);
            self.outbox.main.raw(room.get(..count).unwrap_or_default());
        }
        let main = &mut self.outbox.main;
        main.seal(&self.ledger);
        while !main.pieces.is_empty() {
            let pieces = main.pieces.make_contiguous();
            let Ok(written) = self.conn.send_stream(stream).write_chunks(pieces) else {
                return;
            };
            drop(main.pieces.drain(..written.chunks));
            if written.bytes == 0 {
                return;
            }
        }
    }

    fn pump_unordered(&mut self) {
        while !self.outbox.waiting.is_empty() {
            let Some(stream) = self.outbox.lanes.open(&mut self.conn) else {
                break;
            };
            if let Some(pieces) = self.outbox.waiting.pop_front() {
                self.outbox.writing.push((stream, pieces));
            }
        }
        let conn = &mut self.conn;
        self.outbox.writing.retain_mut(|(stream, pieces)| {
            let mut target = conn.send_stream(*stream);
            while pieces.iter().any(|piece| !piece.is_empty()) {
                // Written pieces are left empty. Blocked: the next pump tries again.
                if !matches!(target.write_chunks(pieces), Ok(written) if written.bytes > 0) {
                    return true;
                }
            }
            // An error means that the peer has refused the stream, which ends the session anyway.
            target.finish().is_err()
        });
    }

    fn pump_unreliable(&mut self, now: Instant) {
        while let Some((deadline, bytes)) = self.outbox.unreliable.pop_front() {
            if deadline < now {
                self.expired = self.expired.saturating_add(1);
                continue;
            }
            // Whatever else is wrong, e.g. a path that got narrower, loses this message.
            if let Err(SendDatagramError::Blocked(bytes)) = self.conn.datagrams().send(bytes, false)
            {
                self.outbox.unreliable.push_front((deadline, bytes));
                return;
            }
        }
    }
}

fn wire_header(header: &Header) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    let written = header.write(&mut bytes);
    debug_assert!(written, "16 bytes are room for a header");
    bytes
}
