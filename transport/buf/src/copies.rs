//! The counter behind the claim "no payload copies": every copy of message bytes inside ringway goes here.

use std::cell::Cell;

/// Payload copies made by the calling thread since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// How many copies.
    pub count: u64,
    /// How many bytes they moved.
    pub bytes: u64,
}

thread_local! {
    static COPIES: Cell<Copies> = const { Cell::new(Copies { count: 0, bytes: 0 }) };
}

/// Copies made by the calling thread so far. Engines live on one thread, so this is a per-engine figure.
#[must_use]
pub fn copies() -> Copies {
    COPIES.get()
}

/// Copies `source` to the front of `target` and counts it. Copies the shorter of both lengths.
///
/// Returns the number of bytes copied.
pub fn copy_counted(target: &mut [u8], source: &[u8]) -> usize {
    let bytes = target.len().min(source.len());
    target[..bytes].copy_from_slice(&source[..bytes]);
    let before = COPIES.get();
    COPIES.set(Copies {
        count: before.count + 1,
        bytes: before.bytes + bytes as u64,
    });
    bytes
}
