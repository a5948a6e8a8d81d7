//! Layouts of the stream transport: header, hello, control frames, close codes.
//!
//! The lowest part of the crate: plain values that are read from and written to byte slices. All integers are
//! little endian; field names equal the names in `docs/wire/stream.md`. Reading never fails on content, only
//! on length: which contents are legal in which state is the business of [`crate::stream`].

mod close;
pub(crate) mod control;
mod header;
mod hello;

pub use close::CloseCode;
pub use header::{FRAME_ALIGN, HEADER_BYTES, Header, flag, kind, padded};
pub use hello::{
    HELLO_BYTES, HELLO_BYTES_MAX, Hello, MAGIC, PREFACE_BYTES, Preface, VERSION_MAX, VERSION_MIN,
};

/// Widens a wire length to an index; saturates where `usize` has fewer than 32 bits.
#[inline]
pub(crate) fn index_of(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
