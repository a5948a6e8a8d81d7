//! The way down: from messages to streams and datagrams of QUIC.
//!
//! Short ordered messages are written one behind the other into a batch, which becomes one piece of the stream when
//! the endpoint sends; long bodies are lent to quinn-proto without a copy. What quinn-proto does not take, because
//! the peer's window or this end's is full, waits here; the engine bounds its sum.

use std::collections::VecDeque;

use bytes::Bytes;
use quinn_proto::{Dir, SendDatagramError, StreamId};
use ringway_buf::{Instant, copy_counted};
use ringway_proto::packet::{Delivery, Outgoing, SendRefusal};
use ringway_proto::{HEADER_BYTES, Header, TRANSMIT_BYTES_MAX, padded, stream};

use super::{Session, Stage, Surroundings};
use crate::tracked;

/// Bodies up to this length are copied into the batch: a piece of its own costs two allocations and as much.
const COPY_BYTES_MAX: usize = 2048;
/// A batch becomes a piece at this length at the latest, so that its memory comes back piece by piece.
const BATCH_BYTES_MAX: usize = 16 * 1024;
/// Padding of a frame.
static ZEROS: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

/// What waits to be taken by quinn-proto.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The end of the ordered stream, still growing.
    batch: Vec<u8>,
    /// Message bytes in the batch.
    batch_bytes: u64,
    /// Pieces of the ordered stream in front of the batch.
    main: VecDeque<Bytes>,
    /// Messages that wait for a stream of their own.
    waiting: VecDeque<[Bytes; 2]>,
    /// Messages that have one and are not wholly written.
    writing: Vec<(StreamId, [Bytes; 2])>,
    /// Streams whose end the peer has not acknowledged.
    unfinished: usize,
    /// Unreliable messages and until when they are worth sending.
    unreliable: VecDeque<(Instant, Bytes)>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
            && self.main.is_empty()
            && self.others_done()
            && self.unreliable.is_empty()
    }

    /// Whether the peer has all messages that have streams of their own.
    fn others_done(&self) -> bool {
        self.waiting.is_empty() && self.unfinished == 0
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn on_finished(&mut self) {
        self.unfinished = self.unfinished.saturating_sub(1);
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
            Delivery::Unordered => {
                let head = tracked::framed(wire_header(&header), 0, &self.ledger);
                let body = tracked::body(outgoing.body, &self.ledger);
                self.outbox.waiting.push_back([head, body]);
            }
            Delivery::Unreliable { deadline } => {
                let mut framed = wire_header(&header);
                framed.extend_from_slice(&outgoing.body);
                let framed = tracked::framed(framed, length as u64, &self.ledger);
                self.outbox.unreliable.push_back((deadline, framed));
            }
        }
        Ok(())
    }

    /// Puts a message at the end of the ordered stream.
    fn append(&mut self, header: &Header, body: ringway_buf::Slice) {
        let outbox = &mut self.outbox;
        let start = outbox.batch.len();
        if body.len() <= COPY_BYTES_MAX {
            let end = start.saturating_add(header.frame_bytes());
            outbox.batch.resize(end, 0);
            let room = outbox.batch.get_mut(start..).unwrap_or_default();
            if let Some(room) = stream::frame(header, room) {
                copy_counted(room, &body);
            }
            outbox.batch_bytes = outbox.batch_bytes.saturating_add(body.len() as u64);
            if end >= BATCH_BYTES_MAX {
                self.seal();
            }
            return;
        }
        let padding = padded(body.len()).saturating_sub(body.len());
        outbox.batch.extend_from_slice(&wire_header(header));
        self.seal();
        let body = tracked::body(body, &self.ledger);
        self.outbox.main.push_back(body);
        let zeros = ZEROS.get(..padding).unwrap_or_default();
        self.outbox.batch.extend_from_slice(zeros);
    }

    /// Makes a piece of the batch.
    fn seal(&mut self) {
        let outbox = &mut self.outbox;
        if outbox.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut outbox.batch);
        let bytes = std::mem::take(&mut outbox.batch_bytes);
        let piece = tracked::framed(batch, bytes, &self.ledger);
        self.outbox.main.push_back(piece);
    }

    /// Moves to quinn-proto what it takes.
    pub(super) fn pump(&mut self, around: &mut Surroundings<'_>) {
        if self.is_over() || self.is_gone() {
            return;
        }
        self.pump_unreliable(around.now);
        self.pump_others();
        let Some(stream) = self.main else { return };
        if self.finishing && self.outbox.others_done() && self.stage == Stage::Open {
            self.machine.finish();
            self.machine_events(around);
        }
        if self.machine.wants_transmit() {
            let mut room = [0; TRANSMIT_BYTES_MAX];
            let count = self.machine.poll_transmit(&mut room);
            let said = room.get(..count).unwrap_or_default();
            self.outbox.batch.extend_from_slice(said);
        }
        self.seal();
        while !self.outbox.main.is_empty() {
            let pieces = self.outbox.main.make_contiguous();
            let Ok(written) = self.conn.send_stream(stream).write_chunks(pieces) else {
                return;
            };
            drop(self.outbox.main.drain(..written.chunks));
            if written.bytes == 0 {
                return;
            }
        }
    }

    fn pump_others(&mut self) {
        while !self.outbox.waiting.is_empty() {
            let Some(stream) = self.conn.streams().open(Dir::Uni) else {
                break;
            };
            if let Some(pieces) = self.outbox.waiting.pop_front() {
                self.outbox.writing.push((stream, pieces));
                self.outbox.unfinished = self.outbox.unfinished.saturating_add(1);
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
