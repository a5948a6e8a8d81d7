//! Messages one behind the other, on their way into a stream of QUIC.
//!
//! Short messages are written into a batch, which becomes one piece when the endpoint sends; long bodies are lent to
//! quinn-proto without a copy. The ordered stream is one such line, and each lane.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ringway_buf::{Slice, copy_counted};
use ringway_proto::{HEADER_BYTES, Header};

use crate::tracked::{self, Kin, Ledger};

/// Bodies up to this length are copied into the batch: a piece of its own costs two allocations and as much.
const COPY_BYTES_MAX: usize = 2048;
/// A batch becomes a piece at this length at the latest, so that its memory comes back piece by piece.
const BATCH_BYTES_MAX: usize = 16 * 1024;
/// Padding of a frame.
static ZEROS: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

/// What quinn-proto has not taken of one stream.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The end of the stream, still growing.
    batch: Vec<u8>,
    /// Message bytes in the batch.
    batch_bytes: u64,
    /// Pieces in front of the batch.
    pub(super) pieces: VecDeque<Bytes>,
    /// Bytes that were put here, since the start.
    pub(super) put_bytes: u64,
    kin: Kin,
}

impl Line {
    pub(super) fn of(kin: Kin) -> Self {
        Self {
            kin,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.pieces.is_empty()
    }

    /// Bytes that wait here.
    pub(super) fn waiting_bytes(&self) -> u64 {
        let pieces = self.pieces.iter().map(|piece| piece.len() as u64);
        pieces.fold(self.batch.len() as u64, u64::saturating_add)
    }

    /// Puts a message at the end, with `padding` zeros behind it.
    pub(super) fn message(
        &mut self,
        header: &Header,
        body: Slice,
        padding: usize,
        ledger: &Arc<Ledger>,
    ) {
        let bytes = HEADER_BYTES
            .saturating_add(body.len())
            .saturating_add(padding);
        self.put_bytes = self.put_bytes.saturating_add(bytes as u64);
        if body.len() > COPY_BYTES_MAX {
            self.header(header);
            self.seal(ledger);
            self.pieces.push_back(tracked::body(body, self.kin, ledger));
            let zeros = ZEROS.get(..padding).unwrap_or_default();
            self.batch.extend_from_slice(zeros);
            return;
        }
        self.header(header);
        let start = self.batch.len();
        let end = start.saturating_add(body.len());
        self.batch.resize(end.saturating_add(padding), 0);
        if let Some(room) = self.batch.get_mut(start..end) {
            copy_counted(room, &body);
        }
        self.batch_bytes = self.batch_bytes.saturating_add(body.len() as u64);
        if self.batch.len() >= BATCH_BYTES_MAX {
            self.seal(ledger);
        }
    }

    fn header(&mut self, header: &Header) {
        let start = self.batch.len();
        self.batch.resize(start.saturating_add(HEADER_BYTES), 0);
        let room = self.batch.get_mut(start..).unwrap_or_default();
        let written = header.write(room);
        debug_assert!(written, "16 bytes are room for a header");
    }

    /// Puts a frame without a body at the end.
    pub(super) fn control(&mut self, header: &Header) {
        self.put_bytes = self.put_bytes.saturating_add(HEADER_BYTES as u64);
        self.header(header);
    }

    /// Puts bytes that are framed already at the end.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.put_bytes = self.put_bytes.saturating_add(bytes.len() as u64);
        self.batch.extend_from_slice(bytes);
    }

    /// Makes a piece of the batch.
    pub(super) fn seal(&mut self, ledger: &Arc<Ledger>) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let bytes = std::mem::take(&mut self.batch_bytes);
        let piece = tracked::framed(batch, bytes, self.kin, ledger);
        self.pieces.push_back(piece);
    }
}
