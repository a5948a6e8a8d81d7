//! The body of a message that arrives in pieces.

use bytes::Bytes;
use ringway_buf::{Lease, Pools, RecvBuffer, copy_counted};

/// Bodies up to this length get all their memory at once. A longer one starts with so much and gets the rest in one
/// piece, for one more copy of so many bytes: who waits for memory holds little, so that there is always somebody
/// who can finish and give back what he has, and who announces much without sending it costs little.
const AT_ONCE_BYTES: usize = 64 << 10;

/// Memory lacks now; nothing was taken.
#[derive(Debug)]
pub(super) struct Starved;

/// A body of known length that fills up from the front.
#[derive(Debug)]
pub(super) struct Filling {
    lease: Option<Lease>,
    total: usize,
}

impl Filling {
    /// Takes no memory yet.
    pub(super) const fn new(total: usize) -> Self {
        Self { lease: None, total }
    }

    fn len(&self) -> usize {
        self.lease.as_ref().map_or(0, Lease::len)
    }

    /// Bytes that are still to come.
    pub(super) fn missing(&self) -> usize {
        self.total.saturating_sub(self.len())
    }

    /// Moves what belongs to the body from the front of `bytes` into it. The copy is the one that QUIC costs on
    /// the way up: quinn-proto decrypts into memory of its own.
    pub(super) fn fill(&mut self, bytes: &mut Bytes, pools: &Pools) -> Result<(), Starved> {
        let count = self.missing().min(bytes.len());
        self.grow(count, pools)?;
        let Some(room) = self.lease.as_mut().and_then(|lease| lease.append(count)) else {
            return Err(Starved);
        };
        copy_counted(room, &bytes.split_to(count));
        Ok(())
    }

    /// Makes room for `more` bytes.
    fn grow(&mut self, more: usize, pools: &Pools) -> Result<(), Starved> {
        let have = self.len();
        if self
            .lease
            .as_ref()
            .is_some_and(|lease| lease.tailroom() >= more)
        {
            return Ok(());
        }
        let wanted = have.saturating_add(more);
        let bytes = if wanted <= AT_ONCE_BYTES {
            self.total.min(AT_ONCE_BYTES)
        } else {
            self.total
        };
        let mut larger = pools.lease(bytes).ok_or(Starved)?;
        larger.reset(0);
        if let Some(old) = &self.lease {
            let room = larger.append(have).ok_or(Starved)?;
            copy_counted(room, old.bytes());
        }
        self.lease = Some(larger);
        Ok(())
    }

    /// The whole body.
    pub(super) fn done(&mut self, pools: &Pools) -> Result<RecvBuffer, Starved> {
        self.grow(0, pools)?;
        self.lease.take().map(Lease::into_recv).ok_or(Starved)
    }
}
