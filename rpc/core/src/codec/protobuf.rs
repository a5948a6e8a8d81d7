//! Protobuf with borrowed views, by buffa.

use buffa::{DecodeOptions, HasMessageView, Message, SizeCache};

use super::{Codec, DecodeError};

/// Generated protobuf messages with borrowed views: strings and bytes stay where they were received.
#[derive(Clone, Copy, Debug)]
pub enum Protobuf {}

impl<T: Message + HasMessageView> Codec<T> for Protobuf {
    const ID: u8 = 1;
    type View<'a>
        = <T as HasMessageView>::View<'a>
    where
        T: 'a;

    #[inline]
    fn encoded_len(value: &T) -> usize {
        value.compute_size(&mut SizeCache::new()) as usize
    }

    #[inline]
    fn encode(value: &T, mut out: &mut [u8]) {
        // The sizes of nested messages are computed once more: keeping them would need a place in every caller.
        let mut sizes = SizeCache::new();
        value.compute_size(&mut sizes);
        value.write_to(&mut sizes, &mut out);
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<Self::View<'_>, DecodeError> {
        T::decode_view(bytes).map_err(|_malformed| DecodeError::Malformed)
    }

    fn decode_owned(bytes: &[u8]) -> Result<T, DecodeError> {
        DecodeOptions::new()
            .decode_from_slice(bytes)
            .map_err(|_malformed| DecodeError::Malformed)
    }
}
