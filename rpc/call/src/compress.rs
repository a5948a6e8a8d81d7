//! Packing messages: algorithms are injected, the machine keeps the bounds.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;

use ringway_buf::{Lease, Pools, Slice, copy_counted};

/// Compressed bytes that are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the compressed message is corrupt")
    }
}

impl core::error::Error for Corrupt {}

/// One algorithm. Both functions run on the engine's thread and never block.
pub trait Compressor {
    /// Its number: 0 is lz4 (block format). At most 31.
    fn algorithm(&self) -> u8;

    /// Most bytes that so many packed ones can stand for: what claims more is corrupt, and no memory is taken for
    /// it. Default: no bound but `message_bytes_max`.
    fn plain_bytes_max(&self, packed_bytes: usize) -> usize {
        let _ = packed_bytes;
        usize::MAX
    }

    /// Room that packing may want for so many bytes. Default: as many, since longer results are of no use.
    fn room_bytes(&self, plain_bytes: usize) -> usize {
        plain_bytes
    }

    /// Packs `plain` into `out`; how many bytes were written, or `None` if they do not fit: the message is sent
    /// as it is.
    fn compress(&self, plain: &[u8], out: &mut [u8]) -> Option<usize>;

    /// Unpacks into `out`, never beyond it; how many bytes were written.
    ///
    /// # Errors
    /// The bytes are corrupt, or unpack to more than `out` holds.
    fn decompress(&self, packed: &[u8], out: &mut [u8]) -> Result<usize, Corrupt>;
}

/// The algorithms of one end, shared by its connections.
#[derive(Clone, Default)]
pub struct Compressors(Rc<Vec<Rc<dyn Compressor>>>);

impl fmt::Debug for Compressors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compressors({:#b})", self.bits())
    }
}

/// Bytes in front of a compressed message: its plain length.
const PLAIN_BYTES: usize = 4;

impl Compressors {
    /// These algorithms.
    #[must_use]
    pub fn new(algorithms: Vec<Rc<dyn Compressor>>) -> Self {
        Self(Rc::new(algorithms))
    }

    /// One bit for each algorithm.
    pub(crate) fn bits(&self) -> u32 {
        self.0
            .iter()
            .filter_map(|it| 1_u32.checked_shl(u32::from(it.algorithm())))
            .fold(0, |bits, bit| bits | bit)
    }

    /// The algorithm that both ends have, the one with the lowest number.
    fn common(&self, peer: u32) -> Option<&dyn Compressor> {
        let both = self.bits() & peer;
        let number = both.trailing_zeros();
        let found = self.0.iter().find(|it| u32::from(it.algorithm()) == number);
        found.map(|it| &**it)
    }

    /// Packs a message; `None` if that does not make it shorter, or memory lacks.
    pub(crate) fn pack(&self, plain: &[u8], peer: u32, pools: &Pools) -> Option<Slice> {
        let algorithm = self.common(peer)?;
        let room = PLAIN_BYTES.checked_add(algorithm.room_bytes(plain.len()))?;
        let mut lease = pools.lease(room)?;
        lease.reset(0);
        let (front, packed) = lease.append(room)?.split_first_chunk_mut::<PLAIN_BYTES>()?;
        *front = u32::try_from(plain.len()).ok()?.to_le_bytes();
        let len = PLAIN_BYTES + algorithm.compress(plain, packed)?;
        if len >= plain.len() {
            return None;
        }
        lease.truncate(len);
        if len <= room / 2 {
            // It may wait for long: not in memory of the plain one's size.
            if let Some(mut small) = pools.lease(len) {
                small.reset(0);
                copy_counted(small.append(len)?, lease.bytes());
                return Some(small.freeze());
            }
        }
        Some(lease.freeze())
    }

    /// Unpacks a message of at most `bytes_max` bytes.
    pub(crate) fn unpack(
        &self,
        packed: &[u8],
        peer: u32,
        bytes_max: usize,
        pools: &Pools,
    ) -> Result<Slice, Unpack> {
        let (front, rest) = packed
            .split_first_chunk::<PLAIN_BYTES>()
            .ok_or(Unpack::Corrupt)?;
        let plain = usize::try_from(u32::from_le_bytes(*front)).map_err(|_wide| Unpack::TooLong)?;
        if plain > bytes_max {
            return Err(Unpack::TooLong);
        }
        let algorithm = self.common(peer).ok_or(Unpack::Corrupt)?;
        if plain > algorithm.plain_bytes_max(rest.len()) {
            return Err(Unpack::Corrupt);
        }
        // Never more than was announced: what a message unpacks to is bounded before it is looked at.
        let mut lease: Lease = pools.lease(plain).ok_or(Unpack::NoMemory)?;
        lease.reset(0);
        let room = lease.append(plain).ok_or(Unpack::NoMemory)?;
        match algorithm.decompress(rest, room) {
            Ok(written) if written == plain => Ok(lease.freeze()),
            _ => Err(Unpack::Corrupt),
        }
    }
}

/// Why a message could not be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpack {
    Corrupt,
    TooLong,
    NoMemory,
}
