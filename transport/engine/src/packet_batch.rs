//! Messages of a connection's batch as slices, each of which lives until the peer has it.
//!
//! Above stands [`feed`](crate::hub::Hub::feed), which has sealed the batch; below the machine that gets the slices.
//! A large batch is frozen and shared in place. A small one is copied to a shelf.

use ringway_buf::{Pools, RecvBuffer, Segment, Slice, copy_counted};
use ringway_proto::packet::{Delivery, Ways};
use ringway_proto::{HEADER_BYTES, Header, kind, padded};

/// Batches up to this size are copied to a shelf that many of them share.
const SHELVED_BYTES_MAX: usize = 2048;
/// Size of a shelf in bytes: that of a receive slot.
const SHELF_BYTES: usize = 16 * 1024;

/// A copy of a small batch, behind others of its kind: a whole lease for each turn's few bytes would make a peer
/// that does not acknowledge cost many times what it was sent.
fn shelved(batch: &[u8], shelf: &mut Option<RecvBuffer>, pools: &Pools) -> Option<Slice> {
    if shelf.as_ref().is_none_or(|it| it.spare() < batch.len()) {
        let mut lease = pools.lease(SHELF_BYTES)?;
        lease.reset(0);
        let mut fresh = lease.into_recv();
        fresh.rewind(0);
        *shelf = Some(fresh);
    }
    let shelf = shelf.as_mut()?;
    // Nothing else lives there any more: from the start.
    if shelf.rewind(0) {
        debug_assert!(shelf.is_empty());
    }
    let at = shelf.len();
    let len = copy_counted(shelf.spare_mut().get_mut(..batch.len())?, batch);
    shelf.filled(len);
    shelf.share(at..at + len)
}

/// How the messages of a batch travel, in their order: runs of equal ones.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    pub(crate) runs: Vec<(Delivery, usize)>,
    /// Which ones lose nothing.
    pub(crate) ways: Ways,
}

impl Deliveries {
    #[inline]
    pub(crate) fn push(&mut self, delivery: Delivery) {
        match self.runs.last_mut() {
            Some((last, count)) if *last == delivery => *count += 1,
            _ => self.runs.push((delivery, 1)),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Delivery> + '_ {
        let runs = self.runs.iter();
        runs.flat_map(|(delivery, count)| std::iter::repeat_n(*delivery, *count))
    }

    pub(crate) fn iter_runs(&self) -> impl Iterator<Item = Delivery> + '_ {
        self.runs.iter().map(|(delivery, _)| *delivery)
    }

    pub(crate) fn clear(&mut self) {
        self.runs.clear();
    }
}

/// Messages taken out of a batch of frames.
pub(crate) struct Frames {
    pub(crate) whole: Vec<(Header, Slice)>,
    /// A header whose body is the next segment.
    pub(crate) waiting: Option<Header>,
    /// Padding of that body, at the start of the segment behind it.
    pub(crate) skip: usize,
}

impl Frames {
    pub(crate) fn take(&mut self, segment: Segment, shelf: &mut Option<RecvBuffer>, pools: &Pools) {
        let batch = match segment {
            Segment::Slice(body) => {
                if let Some(header) = self.waiting.take() {
                    self.skip = padded(body.len()) - body.len();
                    self.whole.push((header, body));
                }
                return;
            }
            Segment::Lease(batch) if batch.len() <= SHELVED_BYTES_MAX => {
                match shelved(batch.bytes(), shelf, pools) {
                    Some(copy) => {
                        pools.give(batch);
                        copy
                    }
                    None => batch.freeze(),
                }
            }
            Segment::Lease(batch) => batch.freeze(),
        };
        let mut at = std::mem::take(&mut self.skip);
        while let Some(header) = batch.bytes().get(at..).and_then(Header::read) {
            let body = at + HEADER_BYTES;
            let end = body + header.length as usize;
            if header.kind == kind::PAD {
                at = (at + header.frame_bytes()).min(batch.len());
                continue;
            }
            match batch.subslice(body..end) {
                Some(slice) => self.whole.push((header, slice)),
                None => {
                    self.waiting = Some(header);
                    return;
                }
            }
            at += header.frame_bytes();
        }
    }
}
