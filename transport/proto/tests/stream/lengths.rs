//! `docs/wire/stream.md#message`, `docs/wire/stream.md#padding`, `docs/wire/stream.md#unknown`

use ringway_buf::Instant;
use ringway_proto::{
    CloseCode, Header, Input, StateName, StreamConfig, Violation, flag, kind, padded,
};

use crate::end::{control, header, message, opened};

const NOW: Instant = Instant::ZERO;

fn config() -> StreamConfig {
    StreamConfig {
        message_bytes_max: 5_000,
        large_bytes_min: 1_024,
        ..StreamConfig::default()
    }
}

#[test]
fn lengths_at_the_boundaries_are_judged_by_the_header_alone() {
    let (mut _client, mut server) = opened(&config(), NOW);
    for length in [
        0,
        1,
        15,
        16,
        17,
        1_007,
        1_008,
        1_009,
        4_999,
        5_000,
        5_001,
        u32::MAX,
    ] {
        let sent = Header::message(length, 1, 2);
        let front = header(sent);
        let frame_bytes = sent.frame_bytes();
        let expected = match length {
            0 => Ok(Input::Message(sent)),
            1..=1_008 => Ok(Input::Need(frame_bytes)),
            1_009..=5_000 => Ok(Input::Large(sent)),
            _ => Err(Violation::MessageTooLong { length, max: 5_000 }),
        };
        // The machine closes itself on a violation, so that row gets one of its own.
        let outcome = if length > 5_000 {
            let (_client, mut fresh) = opened(&config(), NOW);
            let outcome = fresh.stream.handle_bytes(&config(), &front, NOW);
            assert_eq!(fresh.stream.state(), StateName::Closed);
            let code = CloseCode::MessageTooLong.to_wire();
            assert_eq!(fresh.transmit(), control(kind::CLOSE, 0, code, 0));
            outcome
        } else {
            server.stream.handle_bytes(&config(), &front, NOW)
        };
        assert_eq!(outcome, expected, "length {length}");
    }
}

#[test]
fn a_whole_message_is_a_message_however_long() {
    let (_client, mut server) = opened(&config(), NOW);
    for len in [0, 1, 15, 16, 17, 1_008, 1_009, 5_000] {
        let mut bytes = message(len, 3);
        assert_eq!(bytes.len(), 16 + padded(len));
        bytes.extend([0xAB; 40]);
        let input = server.stream.handle_bytes(&config(), &bytes, NOW);
        let sent = Header::read(&bytes).unwrap();
        assert_eq!(input, Ok(Input::Message(sent)), "length {len}");
    }
}

#[test]
fn the_padding_is_part_of_the_frame() {
    let (_client, mut server) = opened(&config(), NOW);
    let bytes = message(17, 9);
    for len in 16..bytes.len() {
        let input = server.stream.handle_bytes(&config(), &bytes[..len], NOW);
        assert_eq!(input, Ok(Input::Need(48)), "{len} bytes");
    }
}

#[test]
fn every_kind_above_the_transport_is_delivered_untouched() {
    let (_client, mut server) = opened(&config(), NOW);
    for kind in kind::MESSAGE_MIN..=u8::MAX {
        let sent = Header {
            length: 0,
            kind,
            flags: 0xFF,
            tag: 0xABCD,
            word: u64::MAX,
        };
        let input = server.stream.handle_bytes(&config(), &header(sent), NOW);
        assert_eq!(input, Ok(Input::Message(sent)));
    }
}

#[test]
fn short_headers_ask_for_a_whole_one() {
    let (_client, mut server) = opened(&config(), NOW);
    for kind in [
        kind::PAD,
        kind::PING,
        kind::PONG,
        kind::GOAWAY,
        kind::CLOSE,
        kind::MESSAGE,
    ] {
        let bytes = control(kind, 0, 0, 7);
        for len in 0..bytes.len() {
            let input = server.stream.handle_bytes(&config(), &bytes[..len], NOW);
            assert_eq!(input, Ok(Input::Need(16)), "kind {kind}, {len} bytes");
        }
        assert!(!server.stream.wants_transmit());
        assert_eq!(server.stream.poll_event(), None);
    }
}

// docs/wire/stream.md#pad
#[test]
fn pads_vanish_in_whatever_pieces_they_come() {
    for piece in [1, 3, 16, 17, 33, 400, 5_000] {
        let (_client, mut server) = opened(&config(), NOW);
        let mut bytes = Vec::new();
        for length in [0_u32, 1, 16, 17, 1_500, 5_000] {
            bytes.extend(header(Header::pad(length)));
            bytes.extend(vec![0xFF; padded(length as usize)]);
            bytes.extend(message(5, 1));
        }
        for chunk in bytes.chunks(piece) {
            server.receive(chunk, NOW).unwrap();
        }
        assert_eq!(server.messages.len(), 6, "pieces of {piece}");
        assert_eq!(server.leftover(), 0);
    }
}

#[test]
fn what_looks_like_a_message_inside_a_pad_is_none() {
    for piece in [16, 32, 1_000] {
        let (_client, mut server) = opened(&config(), NOW);
        let mut bytes = header(Header::pad(64)).to_vec();
        for _ in 0..4 {
            bytes.extend(message(0, 1));
        }
        bytes.extend(message(9, 2));
        for chunk in bytes.chunks(piece) {
            server.receive(chunk, NOW).unwrap();
        }
        assert_eq!(server.messages.len(), 1, "pieces of {piece}");
    }
}

#[test]
fn unknown_frames_are_skipped_with_the_flag_and_refused_without() {
    for kind in [5, 0x20, 0x3F] {
        let (_client, mut server) = opened(&config(), NOW);
        let ignorable = Header {
            length: 100,
            kind,
            flags: flag::IGNORABLE,
            tag: 1,
            word: 2,
        };
        let mut bytes = header(ignorable).to_vec();
        bytes.extend([0xFF; 112]);
        bytes.extend(message(1, 1));
        server.receive(&bytes, NOW).unwrap();
        assert_eq!(server.messages.len(), 1);
        let refused = server.receive(&control(kind, 0x80, 0, 0), NOW);
        assert_eq!(refused, Err(Violation::UnknownFrame { kind }));
        let code = CloseCode::UnknownFrame.to_wire();
        assert_eq!(server.transmit(), control(kind::CLOSE, 0, code, 0));
    }
}

#[test]
fn skipped_frames_obey_the_length_limit_too() {
    for kind in [kind::PAD, 0x21] {
        let (_client, mut server) = opened(&config(), NOW);
        let long = Header {
            length: 5_001,
            kind,
            flags: flag::IGNORABLE,
            tag: 0,
            word: 0,
        };
        let refused = server.receive(&header(long), NOW);
        assert_eq!(
            refused,
            Err(Violation::MessageTooLong {
                length: 5_001,
                max: 5_000
            })
        );
    }
}

#[test]
fn control_frames_with_bodies_are_refused() {
    for kind in [kind::PING, kind::PONG, kind::GOAWAY, kind::CLOSE] {
        let (_client, mut server) = opened(&config(), NOW);
        let odd = Header {
            length: 1,
            kind,
            flags: 0,
            tag: 0,
            word: 0,
        };
        let refused = server.receive(&header(odd), NOW);
        assert_eq!(refused, Err(Violation::ControlLength { kind, length: 1 }));
    }
}
