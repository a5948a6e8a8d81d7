//! The bytes of `docs/wire/rudp.md`.

use std::string::String;
use std::vec::Vec;

use super::*;

/// The bytes of one example of the document: hex in the code block under this heading.
fn documented(name: &str) -> Vec<u8> {
    let text = include_str!("../../../../../docs/wire/rudp.md");
    let (_, rest) = text
        .split_once(&std::format!("### Example: {name}\n"))
        .unwrap_or_else(|| panic!("the document has no example {name}"));
    let block = rest.split("```").nth(1).unwrap_or_default();
    let hex: String = block
        .lines()
        .skip(1)
        .map(|line| line.split('#').next().unwrap_or_default())
        .collect();
    let digits: Vec<char> = hex.chars().filter(char::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

fn packet(write: impl FnOnce(&mut Writer<'_>) -> bool) -> Vec<u8> {
    let mut bytes = [0; 2000];
    let mut writer = Writer::new(&mut bytes);
    assert!(write(&mut writer));
    let len = writer.len();
    seal(&mut bytes[..len]);
    bytes[..len].to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| std::format!("{byte:02x} "))
        .collect()
}

fn agrees(name: &str, written: &[u8]) {
    let documented = documented(name);
    assert!(is_intact(written));
    assert!(documented == written, "{name} is {}", hex(written));
}

fn parameters() -> Parameters {
    Parameters {
        cid: 0x1122_3344_0000_0500,
        nonce: 0x0807_0605_0403_0201,
        epoch: 0x00E0_0000_0000_0001,
        features_offered: 1,
        features_required: 0,
        message_bytes_max: 64 << 20,
        credit_bytes: 1 << 20,
        credit_messages: 1024,
        datagram_bytes_max: 65_507,
        ack_delay_max_us: 25,
        idle_timeout_ms: 0,
        keepalive_interval_min_ms: 5000,
        room_bytes: 1 << 19,
    }
}

fn long(kind: Long, cid: u64, number: u32) -> PacketHeader {
    PacketHeader {
        first: First::Long(kind),
        flags: 0,
        cid,
        number,
    }
}

// docs/wire/rudp.md#handshake
#[test]
fn handshakes_have_the_bytes_of_the_document() {
    let init = Init {
        version_min: 1,
        version_max: 1,
        parameters: parameters(),
        cookie: Some([0xC0; COOKIE_BYTES]),
    };
    let written = packet(|writer| long(Long::Init, 0, 0).write(writer) && init.write(writer));
    agrees("INIT", &written);
    let mut reader = Reader::new(&written);
    let header = PacketHeader::read(&mut reader).unwrap();
    assert_eq!(header.first, First::Long(Long::Init));
    assert_eq!(Init::read(&mut reader), Some(init));

    let accept = Accept {
        parameters: parameters(),
        confirm: 0x1817_1615_1413_1211,
    };
    let written = packet(|writer| {
        long(Long::Accept, 0xAABB_CCDD_0000_0100, 0).write(writer) && accept.write(writer)
    });
    agrees("ACCEPT", &written);
    let mut reader = Reader::new(&written);
    PacketHeader::read(&mut reader).unwrap();
    assert_eq!(Accept::read(&mut reader), Some(accept));

    let cookie = Cookie {
        nonce: 0x0807_0605_0403_0201,
        cookie: [0xC0; COOKIE_BYTES],
    };
    let written = packet(|writer| long(Long::Cookie, 7, 0).write(writer) && cookie.write(writer));
    agrees("COOKIE", &written);
    let refuse = Refuse {
        nonce: 0x0807_0605_0403_0201,
        code: 6,
        version_min: 1,
        version_max: 1,
    };
    let written = packet(|writer| long(Long::Refuse, 7, 0).write(writer) && refuse.write(writer));
    agrees("REFUSE", &written);
    let written = packet(|writer| {
        long(Long::Reset, 0x1122_3344_0000_0500, 9).write(writer)
            && writer.put(&0x00E0_0000_0000_0002_u64.to_le_bytes())
    });
    agrees("RESET", &written);
}

// docs/wire/rudp.md#frames
#[test]
fn messages_and_acknowledgements_have_the_bytes_of_the_document() {
    let mut ack = Ack {
        largest: 41,
        delay_us: 12,
        first: 2,
        pair_count: 1,
        ce: Some(3),
        ..Ack::default()
    };
    ack.pairs[0] = (1, 30);
    let head = MessageHead {
        lane: Lane::Unordered,
        kind: 0x40,
        flags: 0,
        id: 17,
        word: 0x0807_0605_0403_0201,
        tag: 0x0A09,
        len: 5,
        piece: None,
    };
    let piece = MessageHead {
        lane: Lane::Ordered,
        len: 2,
        piece: Some((100_000, 99_998)),
        ..head
    };
    let header = PacketHeader::frames(0x1122_3344_0000_0500, 9, ack.flags());
    let written = packet(|writer| {
        header.write(writer)
            && ack.write(writer)
            && head.write(b"hello", writer)
            && piece.write(b"ab", writer)
    });
    agrees("messages", &written);
    let mut reader = Reader::new(&written);
    assert_eq!(PacketHeader::read(&mut reader), Some(header));
    assert_eq!(Ack::read(&mut reader, &header), Some(ack));
    let Ok(Some(Frame::Message(first, at))) = Frame::read(&mut reader) else {
        panic!("no message");
    };
    assert_eq!(
        (first, body_of(&written, at, &first)),
        (head, Some(&b"hello"[..]))
    );
    let Ok(Some(Frame::Message(second, at))) = Frame::read(&mut reader) else {
        panic!("no piece");
    };
    assert_eq!(
        (second, body_of(&written, at, &second)),
        (piece, Some(&b"ab"[..]))
    );
    assert_eq!(Frame::read(&mut reader), Ok(None));
}

const CONTROLS: [Frame; 9] = [
    Frame::Ping,
    Frame::Credit {
        bytes: 1 << 20,
        messages: 1024,
    },
    Frame::Confirm(0x1817_1615_1413_1211),
    Frame::Challenge(1),
    Frame::Response(1),
    Frame::Goaway {
        ordered: 2,
        unordered: 4,
    },
    Frame::Final {
        ordered: 3,
        unordered: 4,
    },
    Frame::Close(1),
    Frame::Room {
        serial: 1,
        bytes: 1 << 18,
    },
];

// docs/wire/rudp.md#frames
#[test]
fn control_frames_have_the_bytes_of_the_document() {
    let written = packet(|writer| {
        PacketHeader::frames(0x1122_3344_0000_0500, 10, 0).write(writer)
            && CONTROLS.iter().all(|frame| frame.write(writer))
    });
    agrees("control frames", &written);
    let mut reader = Reader::new(&written);
    PacketHeader::read(&mut reader).unwrap();
    for control in CONTROLS {
        assert_eq!(Frame::read(&mut reader), Ok(Some(control)));
    }
}

#[test]
fn cut_frames_and_unknown_ones_are_told_apart_from_the_end() {
    for control in CONTROLS {
        let mut bytes = [0; 40];
        let mut writer = Writer::new(&mut bytes);
        assert!(control.write(&mut writer));
        let len = writer.len();
        for cut in 1..len {
            let read = Frame::read(&mut Reader::new(&bytes[..cut]));
            assert!(read.is_err(), "{control:?} cut to {cut} bytes: {read:?}");
        }
    }
    for unknown in [10, 0x3F, 0x42, 0xFF] {
        let bytes = [unknown; 40];
        assert_eq!(
            Frame::read(&mut Reader::new(&bytes)),
            Err(Unreadable(unknown))
        );
    }
    // A piece that ends behind its message, and one whose end passes 32 bits.
    for (total, offset) in [(10_u32, 9_u32), (u32::MAX, u32::MAX)] {
        let mut bytes = [0; 40];
        bytes[0] = 0x41;
        bytes[18] = 2;
        bytes[20..24].copy_from_slice(&total.to_le_bytes());
        bytes[24..28].copy_from_slice(&offset.to_le_bytes());
        assert_eq!(Frame::read(&mut Reader::new(&bytes)), Err(Unreadable(0x41)));
    }
}

// docs/wire/rudp.md#packets
#[test]
fn every_flipped_bit_is_found() {
    let written =
        packet(|writer| PacketHeader::frames(5, 10, 0).write(writer) && Frame::Ping.write(writer));
    for bit in 0..written.len() * 8 {
        let mut damaged = written.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_intact(&damaged), "bit {bit}");
    }
    for cut in 0..written.len() {
        assert!(!is_intact(&written[..cut]), "cut to {cut}");
    }
}
