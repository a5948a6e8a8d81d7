//! The stream-filter stage between driver and framing: identity by default, TLS later.
//!
//! Bytes received pass [`Stage::open`] on their way up, batches to be sent pass [`Stage::seal`] on their way
//! down. The identity stage costs one untaken branch each; a filter works in place where the memory is
//! exclusive, and gathers its plaintext so that a message is contiguous again (one counted copy).

use std::rc::Rc;

use ringway_buf::{Chain, Instant, Lease, Pools, RecvBuffer, copy_counted};
use ringway_proto::{Filter, FilterError, Role};

/// Makes the filter of each new stream connection.
pub type FilterFactory = Rc<dyn Fn(Role) -> Box<dyn Filter>>;

/// The filter of one connection.
pub(crate) struct Stage {
    filter: Box<dyn Filter>,
    /// Plaintext that the framing has not consumed yet.
    plain: Option<RecvBuffer>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage")
            .field("plain", &self.plain)
            .finish_non_exhaustive()
    }
}

/// What a pass of received bytes through the filter gave.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Plaintext was added; parse it.
    Plain,
    /// At least this many bytes are needed for the next record.
    Need(usize),
    /// No memory for the plaintext now.
    Starved,
}

/// Largest control output (handshake records) a filter may produce at once, in bytes.
const FILTER_TRANSMIT_BYTES_MAX: usize = 16 * 1024;

impl Stage {
    pub(crate) fn new(filter: Box<dyn Filter>) -> Self {
        Self {
            filter,
            plain: None,
        }
    }

    pub(crate) fn directed_recv(&self) -> bool {
        self.filter.directed_recv()
    }

    /// Whether records can be sealed.
    pub(crate) fn is_ready(&self) -> bool {
        self.filter.is_ready()
    }

    /// Opens at most one record at the front of `buffer`, with room for `want` contiguous plain bytes.
    pub(crate) fn open(
        &mut self,
        buffer: &mut RecvBuffer,
        want: usize,
        pools: &Pools,
        now: Instant,
    ) -> Result<Opened, FilterError> {
        let len = buffer.len();
        // Exclusive by construction: the framing above shares slices of `plain`, never of this buffer.
        let Some(bytes) = buffer.bytes_mut() else {
            return Ok(Opened::Starved);
        };
        let room = self.filter.room().plain_max.min(len);
        if !make_room(&mut self.plain, want, room, pools) {
            return Ok(Opened::Starved);
        }
        let opened = self.filter.open(bytes, now)?;
        if opened.consumed == 0 {
            return Ok(Opened::Need(opened.need.max(len + 1)));
        }
        let text = bytes.get(opened.plain).unwrap_or_default();
        if let Some(plain) = &mut self.plain {
            let copied = copy_counted(plain.spare_mut(), text);
            plain.filled(copied);
        }
        buffer.consume(opened.consumed);
        Ok(Opened::Plain)
    }

    /// The plaintext so far; taken while the framing looks at it, put back by [`keep`](Self::keep).
    pub(crate) fn take(&mut self) -> Option<RecvBuffer> {
        self.plain.take()
    }

    pub(crate) fn keep(&mut self, plain: RecvBuffer) {
        if !plain.is_empty() {
            self.plain = Some(plain);
        }
    }

    /// Turns the plain frames of `chain` into sealed records, in order. On lack of memory what was not
    /// sealed stays in `chain` for the next turn.
    pub(crate) fn seal(
        &mut self,
        chain: &mut Chain,
        sealed: &mut Chain,
        pools: &Pools,
    ) -> Result<(), FilterError> {
        self.transmit(sealed, pools);
        if !self.filter.is_ready() {
            return Ok(());
        }
        let room = self.filter.room();
        loop {
            let Some(segment) = chain.segments().next() else {
                break;
            };
            let part = segment.bytes();
            let part = &part[..part.len().min(room.plain_max)];
            let taken = part.len();
            let Some(mut record) = pools.lease(room.head + taken + room.tail) else {
                break;
            };
            record.reset(0);
            if let Some(space) = record.append(room.head + taken + room.tail) {
                copy_counted(&mut space[room.head..], part);
                self.filter.seal(space)?;
            }
            sealed.push_lease(record);
            chain.advance(taken, |lease| pools.give(lease));
        }
        Ok(())
    }

    fn transmit(&mut self, sealed: &mut Chain, pools: &Pools) {
        let Some(mut lease) = pools.lease(FILTER_TRANSMIT_BYTES_MAX) else {
            return;
        };
        lease.reset(0);
        let written = lease
            .append(FILTER_TRANSMIT_BYTES_MAX)
            .map(|out| self.filter.poll_transmit(out));
        lease.truncate(written.unwrap_or(0));
        match lease.is_empty() {
            true => pools.give(lease),
            false => sealed.push_lease(lease),
        }
    }
}

/// Makes sure `plain` can take `more` bytes and hold `want` contiguous ones.
fn make_room(plain: &mut Option<RecvBuffer>, want: usize, more: usize, pools: &Pools) -> bool {
    let held = plain.as_ref().map_or(0, RecvBuffer::len);
    if plain
        .as_ref()
        .is_some_and(|plain| plain.spare() >= more.max(want.saturating_sub(held)))
    {
        return true;
    }
    let Some(lease) = pools.lease(want.max(held + more)) else {
        return false;
    };
    let mut wider = Lease::into_recv(lease);
    match plain {
        Some(plain) => plain.move_to(&mut wider, 0),
        None => {
            wider.rewind(0);
        }
    }
    *plain = Some(wider);
    true
}
