//! Large messages on their way down, piece by piece: the most urgent first, equals in turn.
//!
//! They keep the connection's queue short, so that a small urgent frame overtakes them: it waits for what the
//! queue holds, at most [`QUEUE_BYTES_MAX`] and one piece, never for a whole message.

use alloc::vec::Vec;

use crate::CallId;

/// Bulk is added while the connection's queue is shorter than this.
pub(crate) const QUEUE_BYTES_MAX: usize = 512 * 1024;

/// Calls with a granted large message, in turn.
#[derive(Debug, Default)]
pub(crate) struct Bulks {
    all: Vec<(u8, CallId)>,
    /// The queue has refused a piece: nothing goes on before it says that it has room.
    is_blocked: bool,
}

impl Bulks {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a piece may be tried.
    pub(crate) fn is_ready(&self) -> bool {
        !self.all.is_empty() && !self.is_blocked
    }

    /// There may be room again.
    pub(crate) fn unblock(&mut self) {
        self.is_blocked = false;
    }

    pub(crate) fn push(&mut self, priority: u8, call: CallId) {
        self.all.push((priority, call));
    }

    /// Takes the next call out; who has more to send pushes it again, behind its equals.
    pub(crate) fn take(&mut self) -> Option<(u8, CallId)> {
        let (at, _) = self
            .all
            .iter()
            .enumerate()
            .min_by_key(|(_, (priority, _))| *priority)?;
        Some(self.all.remove(at))
    }

    /// The queue took nothing of a call: puts it back in front of its equals.
    pub(crate) fn put_back(&mut self, priority: u8, call: CallId) {
        self.is_blocked = true;
        self.all.insert(0, (priority, call));
    }

    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }
}
