//! Protobuf with borrowed views, by buffa.

use buffa::{DecodeOptions, HasMessageView, Message, MessageView, SizeCache, ViewEncode};
use ringway_call::Status;

use super::{Codec, DecodeError};
use crate::reply::{Replied, Reply};

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

impl<T: Message + HasMessageView> Reply<'_, T> {
    /// Answers with a view of data that lies elsewhere, encoded in place: no message is put together first. One
    /// copy, no allocation.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_view<'v, V>(self, view: &V) -> Result<Replied, Status>
    where
        V: ViewEncode<'v> + MessageView<'v, Owned = T>,
    {
        let mut sizes = SizeCache::new();
        let len = view.compute_size(&mut sizes) as usize;
        self.write(len, |mut out| view.write_to(&mut sizes, &mut out))
    }
}
