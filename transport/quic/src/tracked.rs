//! Bytes lent to quinn-proto, which tell when it is done with them.
//!
//! quinn-proto keeps what it sends until the peer has acknowledged it and then drops it; it reports no progress.
//! So each piece carries a count of its message bytes that is added up when the piece is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ringway_buf::Slice;

/// What of one session is still in use. Its cells are atomic only because [`Bytes`] may travel between threads;
/// here one thread owns them all, so `Relaxed` is enough.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Bytes of message bodies whose memory came back since the start.
    freed: AtomicU64,
    /// Pieces that are out.
    pieces: AtomicU64,
    /// Bytes of lanes that are done with, headers included, since the start.
    lanes_freed: AtomicU64,
}

impl Ledger {
    /// Bytes of message bodies that are done with, since the start.
    pub(crate) fn freed(&self) -> u64 {
        self.freed.load(Ordering::Relaxed)
    }

    /// Bytes of lanes that are done with, headers included, since the start.
    pub(crate) fn lanes_freed(&self) -> u64 {
        self.lanes_freed.load(Ordering::Relaxed)
    }

    /// Whether the peer has everything that was handed out.
    pub(crate) fn is_clear(&self) -> bool {
        self.pieces.load(Ordering::Relaxed) == 0
    }
}

/// A piece whose owner wants to know when it is gone.
struct Piece<T> {
    held: T,
    ledger: Arc<Ledger>,
    body_bytes: u64,
    lane_bytes: u64,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Piece<T> {
    fn as_ref(&self) -> &[u8] {
        self.held.as_ref()
    }
}

impl<T> Drop for Piece<T> {
    fn drop(&mut self) {
        self.ledger
            .freed
            .fetch_add(self.body_bytes, Ordering::Relaxed);
        self.ledger
            .lanes_freed
            .fetch_add(self.lane_bytes, Ordering::Relaxed);
        self.ledger.pieces.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Which stream a piece belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kin {
    /// The ordered one, or that of an unordered message.
    #[default]
    Other,
    /// That of a lane.
    Lane,
}

/// Framed bytes that hold `body_bytes` of message bodies. No copy.
pub(crate) fn framed(bytes: Vec<u8>, body_bytes: u64, kin: Kin, ledger: &Arc<Ledger>) -> Bytes {
    track(bytes, body_bytes, kin, ledger)
}

/// A whole body. No copy: the slot is held until the peer has it.
pub(crate) fn body(slice: Slice, kin: Kin, ledger: &Arc<Ledger>) -> Bytes {
    let body_bytes = slice.len() as u64;
    track(slice, body_bytes, kin, ledger)
}

fn track<T: AsRef<[u8]> + Send + 'static>(
    held: T,
    body_bytes: u64,
    kin: Kin,
    ledger: &Arc<Ledger>,
) -> Bytes {
    ledger.pieces.fetch_add(1, Ordering::Relaxed);
    let lane_bytes = match kin {
        Kin::Lane => held.as_ref().len() as u64,
        Kin::Other => 0,
    };
    Bytes::from_owner(Piece {
        held,
        ledger: Arc::clone(ledger),
        body_bytes,
        lane_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_counts_when_its_last_part_is_gone() {
        let ledger = Arc::new(Ledger::default());
        let mut piece = framed(vec![1, 2, 3, 4], 3, Kin::Lane, &ledger);
        let head = piece.split_to(2);
        drop(piece);
        assert_eq!((ledger.freed(), ledger.is_clear()), (0, false));
        drop(head);
        assert_eq!((ledger.freed(), ledger.is_clear()), (3, true));
        assert_eq!(ledger.lanes_freed(), 4);
    }
}
