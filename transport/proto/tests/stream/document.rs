//! The bytes that `docs/wire/stream.md` shows are the bytes that the code writes, and what it names exists.

use ringway_buf::Instant;
use ringway_proto::{CloseCode, Role, StreamConfig, kind};

use crate::end::{End, control, opened};

const DOCUMENT: &str = include_str!("../../../../docs/wire/stream.md");

/// The bytes of the block that starts with a line of three backquotes, `hex` and this name.
fn shown(name: &str) -> Vec<u8> {
    let fence = format!("```hex {name}\n");
    let (_, rest) = DOCUMENT
        .split_once(&fence)
        .unwrap_or_else(|| panic!("no block `{name}`"));
    let (block, _) = rest.split_once("```").unwrap();
    block
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

#[test]
fn shown_bytes_are_what_the_code_writes() {
    let now = Instant::ZERO;
    let mut client = End::new(StreamConfig::default(), Role::Client, now);
    let hello = client.transmit();
    assert_eq!(hello, shown("hello"), "{hello:02X?}");

    let header = ringway_proto::Header::message(5, 7, 0x0102);
    let mut bytes = [0xFF; 32];
    ringway_proto::stream::frame(&header, &mut bytes)
        .unwrap()
        .copy_from_slice(b"hello");
    assert_eq!(bytes[..], shown("message"));

    let (mut client, mut server) = opened(&StreamConfig::default(), now);
    client.receive(&shown("ping"), now).unwrap();
    assert_eq!(client.transmit(), shown("pong"));
    client.stream.drain(now);
    assert_eq!(client.transmit(), shown("goaway"));
    client.stream.finish();
    assert_eq!(client.transmit(), shown("goaway-final"));
    server.stream.close(CloseCode::Flood);
    assert_eq!(server.transmit(), shown("close-flood"));
    assert_eq!(shown("ping"), control(kind::PING, 0, 0, 9));
}

#[test]
fn every_close_code_stands_in_the_table() {
    for code in CloseCode::ALL {
        let row = format!("| {} | {code:?} |", code.to_wire());
        assert!(DOCUMENT.contains(&row), "no row `{row}`");
    }
}
