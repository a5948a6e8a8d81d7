//! Compression by LZ4, block format: algorithm 0 of `docs/wire/rpc.md#compression`.

use std::rc::Rc;

use ringway_call::{Compressor, Compressors, Corrupt};

/// A byte of a packed block lengthens a match by 255 bytes at most; what a block begins and ends with adds less
/// than this.
const EXPANSION_MAX: usize = 255;

/// The LZ4 compressor, safe code on both ways. Messages that do not become shorter are sent as they are.
///
/// ```
/// use ringway_rpc::{CallConfig, Clients, Lz4};
///
/// // Compresses what this client sends, wherever the server can unpack it.
/// let config = CallConfig { compress: true, ..CallConfig::default() };
/// let clients = Clients::new(config, Lz4::compressors());
/// # drop(clients);
/// ```
///
/// Packing allocates a table of 8 or 16 KiB for the time of the call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lz4;

impl Lz4 {
    /// LZ4 alone, as servers and clients take it.
    #[must_use]
    pub fn compressors() -> Compressors {
        Compressors::new(vec![Rc::new(Self)])
    }
}

impl Compressor for Lz4 {
    fn algorithm(&self) -> u8 {
        0
    }

    fn plain_bytes_max(&self, packed_bytes: usize) -> usize {
        packed_bytes.saturating_add(1).saturating_mul(EXPANSION_MAX)
    }

    fn room_bytes(&self, plain_bytes: usize) -> usize {
        lz4_flex::block::get_maximum_output_size(plain_bytes)
    }

    fn compress(&self, plain: &[u8], out: &mut [u8]) -> Option<usize> {
        lz4_flex::block::compress_into(plain, out).ok()
    }

    fn decompress(&self, packed: &[u8], out: &mut [u8]) -> Result<usize, Corrupt> {
        lz4_flex::block::decompress_into(packed, out).map_err(|_corrupt| Corrupt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(plain: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; Lz4.room_bytes(plain.len())];
        let len = Lz4.compress(plain, &mut out)?;
        out.truncate(len);
        (len < plain.len()).then_some(out)
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let plain: Vec<u8> = (0..=140).flat_map(|byte| [byte; 700]).collect();
        let packed = packed(&plain).unwrap();
        assert!(packed.len() < plain.len() / 10);
        let mut out = vec![0; plain.len()];
        assert_eq!(Lz4.decompress(&packed, &mut out), Ok(plain.len()));
        assert_eq!(out, plain);
    }

    #[test]
    fn what_does_not_shrink_is_not_packed() {
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        });
        let noise = noise.take(4096).collect::<Vec<u8>>();
        assert!(packed(&noise).is_none());
    }

    #[test]
    fn the_most_that_a_block_can_stand_for_is_within_the_bound() {
        for len in [0, 1, 20, 4096, 10 << 20] {
            let plain = vec![0; len];
            let mut out = vec![0; Lz4.room_bytes(len)];
            let packed = Lz4.compress(&plain, &mut out).unwrap();
            assert!(len <= Lz4.plain_bytes_max(packed), "{len} of {packed}");
        }
    }

    #[test]
    fn unpacking_never_writes_beyond_its_room() {
        let packed = packed(&[7; 10_000]).unwrap();
        for room in [0, 1, 9_999] {
            assert_eq!(Lz4.decompress(&packed, &mut vec![0; room]), Err(Corrupt));
        }
        assert_eq!(Lz4.decompress(b"\xFF\xFF\xFF", &mut [0; 64]), Err(Corrupt));
    }
}
