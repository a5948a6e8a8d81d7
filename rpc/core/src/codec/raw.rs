//! Bytes as they are.

use super::{Codec, DecodeError};

/// Messages that are bytes: no encoding at all.
#[derive(Clone, Copy, Debug)]
pub enum Raw {}

impl Codec<[u8]> for Raw {
    const ID: u8 = 0;
    type View<'a> = &'a [u8];

    #[inline]
    fn encoded_len(value: &[u8]) -> usize {
        value.len()
    }

    #[inline]
    fn encode(value: &[u8], out: &mut [u8]) {
        out.copy_from_slice(value);
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<&[u8], DecodeError> {
        Ok(bytes)
    }
}

impl Codec<Vec<u8>> for Raw {
    const ID: u8 = 0;
    type View<'a> = &'a [u8];

    #[inline]
    fn encoded_len(value: &Vec<u8>) -> usize {
        value.len()
    }

    #[inline]
    fn encode(value: &Vec<u8>, out: &mut [u8]) {
        out.copy_from_slice(value);
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<&[u8], DecodeError> {
        Ok(bytes)
    }

    fn decode_owned(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
        Ok(bytes.to_vec())
    }
}
