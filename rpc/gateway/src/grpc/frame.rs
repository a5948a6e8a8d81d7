//! The five bytes in front of a message: a flag and a length.

use bytes::{Buf as _, Bytes, BytesMut};
use ringway_rpc::{Code, Status};

use crate::rest::{Unpack, gunzip};

const HEADER_BYTES: usize = 5;
/// The message is packed.
pub(super) const PACKED: u8 = 1;

/// Cuts a request's bytes into messages.
#[derive(Debug)]
pub(super) struct Decoder {
    kept: BytesMut,
    bytes_max: usize,
    unpacks: bool,
}

impl Decoder {
    pub(super) fn new(bytes_max: usize, unpacks: bool) -> Self {
        Self {
            kept: BytesMut::new(),
            bytes_max,
            unpacks,
        }
    }

    /// Bytes that are no whole message yet, or were not asked for.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn push(&mut self, data: Bytes) {
        if self.kept.is_empty() {
            // Without a copy where nobody else holds it.
            self.kept = data
                .try_into_mut()
                .unwrap_or_else(|data| BytesMut::from(&*data));
        } else {
            self.kept.extend_from_slice(&data);
        }
    }

    /// The next whole message. A length beyond the limit is refused before its bytes come.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some([flag, l0, l1, l2, l3]) = self.kept.first_chunk::<HEADER_BYTES>().copied() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes([l0, l1, l2, l3]);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let too_long = || {
            let text = format!("the message is longer than {} bytes", self.bytes_max);
            Status::new(Code::ResourceExhausted, &text)
        };
        if len > self.bytes_max {
            return Err(too_long());
        }
        if flag > PACKED {
            return Err(Status::of(Code::Internal, "a message has an unknown flag"));
        }
        if self.kept.len() < HEADER_BYTES + len {
            return Ok(None);
        }
        self.kept.advance(HEADER_BYTES);
        let message = self.kept.split_to(len).freeze();
        if flag != PACKED {
            return Ok(Some(message));
        }
        if !self.unpacks {
            return Err(Status::of(
                Code::Internal,
                "a message is packed, but no grpc-encoding says how",
            ));
        }
        match gunzip(&message, self.bytes_max) {
            Ok(plain) => Ok(Some(plain.into())),
            Err(Unpack::TooLong) => Err(too_long()),
            Err(Unpack::Malformed) => Err(Status::of(Code::Internal, "a message is no gzip")),
        }
    }

    /// The request is over.
    pub(super) fn finish(&self) -> Result<(), Status> {
        if self.kept.is_empty() {
            return Ok(());
        }
        Err(Status::of(
            Code::Internal,
            "the request ends within a message",
        ))
    }
}

/// Writes a message with its header.
pub(super) fn encode(flag: u8, message: &[u8], out: &mut BytesMut) {
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    out.reserve(HEADER_BYTES + message.len());
    out.extend_from_slice(&[flag]);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        encode(flag, message, &mut out);
        out.to_vec()
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let bytes = [frame(0, b"one"), frame(0, b""), frame(0, b"three")].concat();
        for step in 1..=bytes.len() {
            let mut decoder = Decoder::new(100, false);
            let mut came = Vec::new();
            for piece in bytes.chunks(step) {
                decoder.push(Bytes::copy_from_slice(piece));
                while let Some(message) = decoder.next().unwrap() {
                    came.push(message.to_vec());
                }
            }
            decoder.finish().unwrap();
            assert_eq!(came, [&b"one"[..], b"", b"three"], "{step}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_messages_or_an_error(bytes: Vec<u8>, unpacks: bool, step in 1_usize..20) {
            let mut decoder = Decoder::new(100, unpacks);
            for piece in bytes.chunks(step) {
                decoder.push(Bytes::copy_from_slice(piece));
                while let Ok(Some(message)) = decoder.next() {
                    assert!(message.len() <= 100);
                }
            }
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_by_the_header_alone() {
        let mut decoder = Decoder::new(100, false);
        decoder.push(Bytes::from_static(&[0, 0xFF, 0xFF, 0xFF, 0xFF]));
        assert_eq!(decoder.next().unwrap_err().code, Code::ResourceExhausted);
    }

    #[test]
    fn a_bomb_is_refused_before_it_unfolds() {
        let packed = crate::rest::gzip(&vec![0; 1 << 20]).unwrap();
        assert!(packed.len() < 8192);
        let mut decoder = Decoder::new(8192, true);
        decoder.push(frame(PACKED, &packed).into());
        assert_eq!(decoder.next().unwrap_err().code, Code::ResourceExhausted);
    }

    #[test]
    fn wrong_flags_and_torn_messages_are_told() {
        let mut decoder = Decoder::new(100, false);
        decoder.push(frame(PACKED, b"x").into());
        assert_eq!(decoder.next().unwrap_err().code, Code::Internal);
        let mut decoder = Decoder::new(100, false);
        decoder.push(frame(2, b"x").into());
        assert_eq!(decoder.next().unwrap_err().code, Code::Internal);
        let mut decoder = Decoder::new(100, false);
        decoder.push(Bytes::from_static(&[0, 0, 0, 0, 9, 1]));
        assert!(decoder.next().unwrap().is_none());
        assert!(decoder.finish().is_err());
    }
}
