//! The one place where a handler's panic stops.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; `None` when it panicked.
///
/// Why that is sound: the engine's own state is changed only by complete commands, and the connection that was
/// being served is closed by the caller. The handler's state is its owner's affair, as documented on
/// [`Handler`](crate::Handler).
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
