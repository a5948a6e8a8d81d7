//! The stage between driver and framing: identity by default, TLS when wanted.
//!
//! On the way up the engine calls [`Filter::open`] on received bytes before it shows them to
//! [`Stream::handle_bytes`](crate::Stream::handle_bytes); on the way down it leaves
//! [`room`](Filter::room) around what it frames and calls [`Filter::seal`] once per record. A filter works in
//! place, in memory that the caller owns alone; it holds no payload and does no I/O. What it has to say by
//! itself (handshake, alerts, key updates) comes out of [`Filter::poll_transmit`] and goes before any record
//! that is sealed later.
//!
//! The contract, kept by every implementation and proved on a test filter in `tests/filter.rs`:
//!
//! 1. `open` consumes at most one record per call. It returns `need` = 0 when it consumed something, else how
//!    many contiguous bytes it wants to see from the start of `bytes`; it never consumes and asks at once.
//! 2. `plain` lies inside `..consumed`; what the caller did with earlier plaintext does not matter to it.
//! 3. `seal` gets exactly `head + plain + tail` bytes with `1 <= plain <= plain_max` and overwrites all of them.
//! 4. Records are sealed in the order in which they are sent, and opened in the order of arrival.
//! 5. After an error the filter is dead: every later call errs, and only `poll_transmit` may still have an alert.

use core::fmt;
use core::ops::Range;

use ringway_buf::Instant;

/// Room that a record takes beyond its plaintext, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterRoom {
    /// In front of the plaintext.
    pub head: usize,
    /// Behind the plaintext.
    pub tail: usize,
    /// Longest plaintext of one record.
    pub plain_max: usize,
}

/// What [`Filter::open`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of input that are done with, from the start.
    pub consumed: usize,
    /// Where the plaintext now lies; empty for a record that was the filter's own.
    pub plain: Range<usize>,
    /// Contiguous bytes that are wanted before anything can be consumed; 0 when something was.
    pub need: usize,
}

/// A sans-IO stage over a byte stream; see the [module](self) for the contract.
pub trait Filter {
    /// Whether received bytes may go straight to a message's final place: only if the filter changes nothing.
    fn directed_recv(&self) -> bool;

    /// Room around the plaintext of a record. Constant for the life of the filter.
    fn room(&self) -> FilterRoom;

    /// Opens the record at the front of `bytes`, in place.
    ///
    /// # Errors
    /// [`FilterError`] when the record can't be opened; the connection has to be closed.
    fn open(&mut self, bytes: &mut [u8], now: Instant) -> Result<Opened, FilterError>;

    /// Makes a record of `record`, which holds head room, plaintext and tail room.
    ///
    /// # Errors
    /// [`FilterError`] when the record is not of that form or the filter is not [ready](Self::is_ready).
    fn seal(&mut self, record: &mut [u8]) -> Result<(), FilterError>;

    /// Writes what the filter itself has to send; returns the bytes written, 0 if nothing is pending.
    fn poll_transmit(&mut self, out: &mut [u8]) -> usize;

    /// Whether records can be sealed: the filter's handshake is done.
    fn is_ready(&self) -> bool;
}

/// The filter that changes nothing.
///
/// ```
/// use ringway_buf::Instant;
/// use ringway_proto::{Filter, Identity};
///
/// let opened = Identity.open(&mut [1, 2, 3], Instant::ZERO)?;
/// assert_eq!((opened.consumed, opened.plain, opened.need), (3, 0..3, 0));
/// # Ok::<(), ringway_proto::FilterError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity;

impl Filter for Identity {
    fn directed_recv(&self) -> bool {
        true
    }

    fn room(&self) -> FilterRoom {
        FilterRoom {
            head: 0,
            tail: 0,
            plain_max: usize::MAX,
        }
    }

    fn open(&mut self, bytes: &mut [u8], _now: Instant) -> Result<Opened, FilterError> {
        let need = usize::from(bytes.is_empty());
        Ok(Opened {
            consumed: bytes.len(),
            plain: 0..bytes.len(),
            need,
        })
    }

    fn seal(&mut self, _record: &mut [u8]) -> Result<(), FilterError> {
        Ok(())
    }

    fn poll_transmit(&mut self, _out: &mut [u8]) -> usize {
        0
    }

    fn is_ready(&self) -> bool {
        true
    }
}

/// Why a record could not be opened or sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilterError {
    /// The peer's bytes are no record of this filter.
    Malformed,
    /// The peer announced a record longer than the filter allows.
    RecordTooLong {
        /// Announced bytes.
        len: usize,
        /// Allowed bytes.
        max: usize,
    },
    /// A record was changed on its way, or sealed with another key.
    Authentication,
    /// The peer refused, with the code of its alert.
    Alert(u8),
    /// The caller sealed before the filter's handshake was done.
    NotReady,
    /// The caller's record is not head room, plaintext and tail room.
    RecordShape {
        /// Bytes given.
        len: usize,
    },
    /// An earlier error ended this filter.
    Dead,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str(
                "the peer's bytes are no record; check that both ends use the same filter",
            ),
            Self::RecordTooLong { len, max } => {
                write!(
                    f,
                    "the peer announced a record of {len} bytes, {max} are allowed"
                )
            }
            Self::Authentication => {
                f.write_str("a record failed authentication: changed on its way or another key")
            }
            Self::Alert(code) => write!(f, "the peer refused with alert {code}"),
            Self::NotReady => {
                f.write_str("sealed before the handshake was done; wait for is_ready")
            }
            Self::RecordShape { len } => {
                write!(
                    f,
                    "a record of {len} bytes has no plaintext or too much; see Filter::room"
                )
            }
            Self::Dead => {
                f.write_str("the filter ended with an earlier error; close the connection")
            }
        }
    }
}

impl core::error::Error for FilterError {}
