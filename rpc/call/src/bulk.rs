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
pub(crate) struct Bulks(Vec<(u8, CallId)>);

impl Bulks {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, priority: u8, call: CallId) {
        self.0.push((priority, call));
    }

    /// Takes the next call out; who has more to send pushes it again, behind its equals.
    pub(crate) fn take(&mut self) -> Option<(u8, CallId)> {
        let (at, _) = self
            .0
            .iter()
            .enumerate()
            .min_by_key(|(_, (priority, _))| *priority)?;
        Some(self.0.remove(at))
    }

    /// Puts a call back in front of its equals.
    pub(crate) fn put_back(&mut self, priority: u8, call: CallId) {
        self.0.insert(0, (priority, call));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
