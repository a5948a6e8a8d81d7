//! lz4 for the messages of calls: algorithm 0.

use std::rc::Rc;

use lz4_flex::block;
use ringway::rpc::{Compressor, Compressors, Corrupt};

/// The algorithm in its block format.
#[derive(Debug)]
struct Lz4;

impl Compressor for Lz4 {
    fn algorithm(&self) -> u8 {
        0
    }

    fn compress(&self, plain: &[u8], out: &mut [u8]) -> Option<usize> {
        // The algorithm wants room for the worst case, `out` has room for what is worth it.
        let packed = block::compress(plain);
        out.get_mut(..packed.len())?.copy_from_slice(&packed);
        Some(packed.len())
    }

    fn decompress(&self, packed: &[u8], out: &mut [u8]) -> Result<usize, Corrupt> {
        block::decompress_into(packed, out).map_err(|_corrupt| Corrupt)
    }
}

/// What the command's clients and servers can unpack.
pub(crate) fn compressors() -> Compressors {
    Compressors::new(vec![Rc::new(Lz4)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_what_does_not_shrink_is_refused() {
        let plain = [7; 4096];
        let (mut packed, mut back) = ([0; 4096], [0; 4096]);
        let length = Lz4.compress(&plain, &mut packed).unwrap();
        assert!(length < 100);
        assert_eq!(Lz4.decompress(&packed[..length], &mut back), Ok(4096));
        assert_eq!(back, plain);
        assert_eq!(
            Lz4.decompress(&packed[..length], &mut back[..4000]),
            Err(Corrupt)
        );
        assert_eq!(Lz4.compress(b"abcdefgh", &mut packed[..8]), None);
    }
}
