//! The contract of `Filter`, proved on a filter with records: length, sequence number, XOR, checksum.
//!
//! The record is `[length u16 | plaintext ^ key | sum u8]`; a key exchange of one byte each way is its
//! handshake. It is no cipher: it has what a cipher has that matters here (room at both ends, records, a
//! handshake, failure), in few enough lines to be read as documentation.

#[cfg(test)]
mod xor {
    use ringway_buf::Instant;
    use ringway_proto::{Filter, FilterError, FilterRoom, Opened};

    const HEAD: usize = 2;
    const TAIL: usize = 1;
    const PLAIN_MAX: usize = 300;

    pub(super) struct Xor {
        key: u8,
        peer_key: Option<u8>,
        hello_sent: bool,
        sealed: u8,
        opened: u8,
        dead: bool,
    }

    impl Xor {
        pub(super) fn new(key: u8) -> Self {
            Self {
                key,
                peer_key: None,
                hello_sent: false,
                sealed: 0,
                opened: 0,
                dead: false,
            }
        }

        fn shared(&self) -> Option<u8> {
            self.peer_key.map(|peer| peer ^ self.key)
        }

        fn fail(&mut self, error: FilterError) -> FilterError {
            self.dead = true;
            error
        }

        fn sum(plain: &[u8], sequence: u8) -> u8 {
            plain.iter().fold(sequence, |sum, byte| {
                sum.wrapping_mul(31).wrapping_add(*byte)
            })
        }
    }

    impl Filter for Xor {
        fn directed_recv(&self) -> bool {
            false
        }

        fn room(&self) -> FilterRoom {
            FilterRoom {
                head: HEAD,
                tail: TAIL,
                plain_max: PLAIN_MAX,
            }
        }

        fn open(&mut self, bytes: &mut [u8], _now: Instant) -> Result<Opened, FilterError> {
            if self.dead {
                return Err(FilterError::Dead);
            }
            let wait = |need| {
                Ok(Opened {
                    consumed: 0,
                    plain: 0..0,
                    need,
                })
            };
            let Some(key) = self.shared() else {
                let Some(first) = bytes.first() else {
                    return wait(1);
                };
                self.peer_key = Some(*first);
                return Ok(Opened {
                    consumed: 1,
                    plain: 0..0,
                    need: 0,
                });
            };
            let [low, high, ..] = *bytes else {
                return wait(HEAD);
            };
            let len = usize::from(u16::from_le_bytes([low, high]));
            if len == 0 {
                return Err(self.fail(FilterError::Malformed));
            }
            if len > PLAIN_MAX {
                return Err(self.fail(FilterError::RecordTooLong {
                    len,
                    max: PLAIN_MAX,
                }));
            }
            let consumed = HEAD + len + TAIL;
            if bytes.len() < consumed {
                return wait(consumed);
            }
            let plain = HEAD..HEAD + len;
            for byte in &mut bytes[plain.clone()] {
                *byte ^= key;
            }
            let sum = Self::sum(&bytes[plain.clone()], self.opened);
            if sum != bytes[HEAD + len] {
                return Err(self.fail(FilterError::Authentication));
            }
            self.opened = self.opened.wrapping_add(1);
            Ok(Opened {
                consumed,
                plain,
                need: 0,
            })
        }

        fn seal(&mut self, record: &mut [u8]) -> Result<(), FilterError> {
            if self.dead {
                return Err(FilterError::Dead);
            }
            let Some(key) = self.shared() else {
                return Err(FilterError::NotReady);
            };
            let len = record.len();
            let plain_len = len.saturating_sub(HEAD + TAIL);
            if plain_len == 0 || plain_len > PLAIN_MAX {
                return Err(FilterError::RecordShape { len });
            }
            let plain = HEAD..HEAD + plain_len;
            record[HEAD + plain_len] = Self::sum(&record[plain.clone()], self.sealed);
            self.sealed = self.sealed.wrapping_add(1);
            for byte in &mut record[plain] {
                *byte ^= key;
            }
            record[..HEAD].copy_from_slice(&u16::try_from(plain_len).unwrap().to_le_bytes());
            Ok(())
        }

        fn poll_transmit(&mut self, out: &mut [u8]) -> usize {
            match out.first_mut() {
                Some(first) if !self.hello_sent => {
                    *first = self.key;
                    self.hello_sent = true;
                    1
                }
                _ => 0,
            }
        }

        fn is_ready(&self) -> bool {
            self.peer_key.is_some()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringway_buf::Instant;
    use ringway_proto::{
        Filter, FilterError, Header, Identity, Input, Role, Stream, StreamConfig,
        TRANSMIT_BYTES_MAX,
    };

    use super::xor::Xor;

    const NOW: Instant = Instant::ZERO;

    /// Seals `plain` in as many records as the filter's room asks for.
    fn seal(filter: &mut impl Filter, plain: &[u8], wire: &mut Vec<u8>) {
        let room = filter.room();
        for part in plain.chunks(room.plain_max) {
            let mut record = vec![0xAA; room.head];
            record.extend_from_slice(part);
            record.resize(record.len() + room.tail, 0xAA);
            filter.seal(&mut record).unwrap();
            wire.extend(record);
        }
    }

    /// Opens what can be opened; checks rules 1 and 2 of the contract on the way.
    fn open(
        filter: &mut impl Filter,
        inbox: &mut Vec<u8>,
        plain: &mut Vec<u8>,
    ) -> Result<(), FilterError> {
        loop {
            let available = inbox.len();
            let opened = filter.open(inbox, NOW)?;
            if opened.need > 0 {
                assert_eq!(opened.consumed, 0, "never consumes and asks at once");
                assert!(opened.need > available, "asks for more than it was shown");
                return Ok(());
            }
            assert!(opened.consumed > 0 && opened.consumed <= available);
            assert!(opened.plain.start <= opened.plain.end);
            assert!(opened.plain.end <= opened.consumed);
            plain.extend_from_slice(&inbox[opened.plain]);
            inbox.drain(..opened.consumed);
        }
    }

    fn handshaken() -> (Xor, Xor) {
        let (mut left, mut right) = (Xor::new(0x5A), Xor::new(0x33));
        for (from, to) in [(true, false), (false, true)] {
            let (from, to) = if from && !to {
                (&mut left, &mut right)
            } else {
                (&mut right, &mut left)
            };
            assert!(!to.is_ready());
            assert_eq!(to.seal(&mut [0; 9]), Err(FilterError::NotReady));
            let mut out = [0; 8];
            assert_eq!(from.poll_transmit(&mut []), 0);
            assert_eq!(from.poll_transmit(&mut out), 1);
            assert_eq!(from.poll_transmit(&mut out), 0);
            let (mut inbox, mut plain) = (vec![out[0]], Vec::new());
            open(to, &mut inbox, &mut plain).unwrap();
            assert!(plain.is_empty() && to.is_ready());
        }
        (left, right)
    }

    proptest! {
        #[test]
        fn plaintext_survives_any_chunking(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..700), 1..8),
            chunk in 1..90_usize,
        ) {
            let (mut left, mut right) = handshaken();
            let mut wire = Vec::new();
            for part in &parts {
                seal(&mut left, part, &mut wire);
            }
            let (mut inbox, mut plain) = (Vec::new(), Vec::new());
            for piece in wire.chunks(chunk) {
                inbox.extend_from_slice(piece);
                open(&mut right, &mut inbox, &mut plain).unwrap();
            }
            prop_assert_eq!(plain, parts.concat());
            prop_assert!(inbox.is_empty());
        }

        #[test]
        fn a_changed_record_kills_the_filter(at in 0..13_usize, flip in 1..=255_u8) {
            let (mut left, mut right) = handshaken();
            let mut wire = Vec::new();
            seal(&mut left, b"ten bytes.", &mut wire);
            wire[at] ^= flip;
            let mut plain = Vec::new();
            let outcome = open(&mut right, &mut wire, &mut plain);
            prop_assert!(plain.is_empty());
            if outcome.is_err() {
                prop_assert_eq!(right.open(&mut [1, 0, 0, 0], NOW), Err(FilterError::Dead));
                prop_assert_eq!(right.seal(&mut [0; 9]), Err(FilterError::Dead));
            } else {
                // A longer length only waits for bytes that never come.
                prop_assert!(at < 2);
            }
        }
    }

    #[test]
    fn records_out_of_shape_are_refused() {
        let (mut left, _right) = handshaken();
        for len in [0, 3, 304] {
            let mut record = vec![0; len];
            assert_eq!(
                left.seal(&mut record),
                Err(FilterError::RecordShape { len })
            );
        }
        assert_eq!(left.seal(&mut [0; 303]), Ok(()));
    }

    #[test]
    fn identity_changes_nothing_and_allows_directed_receive() {
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        seal(&mut Identity, b"as it is", &mut wire);
        assert_eq!(wire, b"as it is");
        open(&mut Identity, &mut wire, &mut plain).unwrap();
        assert_eq!(plain, b"as it is");
        assert!(Identity.directed_recv() && Identity.is_ready());
        assert_eq!(Identity.poll_transmit(&mut [0; 9]), 0);
    }

    #[test]
    fn a_stream_runs_over_a_filter() {
        let config = StreamConfig::default();
        let (mut left, mut right) = handshaken();
        let mut client = Stream::new(&config, Role::Client, 1, NOW);
        let mut server = Stream::new(&config, Role::Server, 2, NOW);
        let mut out = [0; TRANSMIT_BYTES_MAX];
        let (mut wire, mut plain) = (Vec::new(), Vec::new());

        let len = client.poll_transmit(&mut out);
        seal(&mut left, &out[..len], &mut wire);
        open(&mut right, &mut wire, &mut plain).unwrap();
        assert_eq!(
            server.handle_bytes(&config, &plain, NOW),
            Ok(Input::Consumed(len))
        );
        plain.clear();
        let len = server.poll_transmit(&mut out);
        seal(&mut right, &out[..len], &mut wire);
        open(&mut left, &mut wire, &mut plain).unwrap();
        assert_eq!(
            client.handle_bytes(&config, &plain, NOW),
            Ok(Input::Consumed(len))
        );
        plain.clear();

        let header = Header::message(900, 1, 2);
        let mut frame = vec![0; header.frame_bytes()];
        ringway_proto::stream::frame(&header, &mut frame)
            .unwrap()
            .fill(0x77);
        seal(&mut left, &frame, &mut wire);
        open(&mut right, &mut wire, &mut plain).unwrap();
        assert_eq!(
            server.handle_bytes(&config, &plain, NOW),
            Ok(Input::Message(header))
        );
        assert_eq!(plain, frame);
    }
}
