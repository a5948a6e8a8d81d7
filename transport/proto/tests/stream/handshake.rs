//! `docs/wire/stream.md#handshake`

use ringway_buf::Instant;
use ringway_proto::wire::{HELLO_BYTES, Hello, MAGIC};
use ringway_proto::{
    CloseCode, Header, Role, StateName, StreamConfig, StreamEvent, Violation, kind,
};

use crate::end::{End, control, opened};

const NOW: Instant = Instant::ZERO;

fn end(role: Role) -> End {
    End::new(StreamConfig::default(), role, NOW)
}

#[test]
fn both_ends_learn_what_the_other_said() {
    let mut client = End::new(
        StreamConfig {
            features_offered: 6,
            message_bytes_max: 1000,
            ..StreamConfig::default()
        },
        Role::Client,
        NOW,
    );
    let mut server = End::new(
        StreamConfig {
            features_offered: 3,
            features_required: 2,
            message_bytes_max: 2000,
            idle_timeout: Some(std::time::Duration::from_micros(1500)),
            ..StreamConfig::default()
        },
        Role::Server,
        NOW,
    );
    assert_eq!(client.stream.peer_message_bytes_max(), 0);
    server.receive(&client.transmit(), NOW).unwrap();
    client.receive(&server.transmit(), NOW).unwrap();
    let [StreamEvent::Opened(seen)] = client.take_events()[..] else {
        panic!("not opened")
    };
    assert_eq!(
        (seen.version, seen.features, seen.message_bytes_max),
        (1, 2, 2000)
    );
    assert_eq!(
        seen.idle_timeout(),
        Some(std::time::Duration::from_millis(2))
    );
    assert_eq!(
        seen.keepalive_interval_min(),
        std::time::Duration::from_secs(5)
    );
    let [StreamEvent::Opened(seen)] = server.take_events()[..] else {
        panic!("not opened")
    };
    assert_eq!(
        (seen.version, seen.features, seen.message_bytes_max),
        (1, 2, 1000)
    );
    assert_eq!(seen.idle_timeout(), None);
    assert_eq!(server.stream.peer_message_bytes_max(), 1000);
    assert_eq!(
        (client.stream.state(), server.stream.state()),
        (StateName::Open, StateName::Open)
    );
}

#[test]
fn the_server_waits_and_garbage_gets_no_bytes_back() {
    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0",
        &[0xFF; 100],
        &[0x9D, b'R', b'N', b'G', b'W', b'\n', 0x1A, 0],
    ];
    for bytes in garbage {
        let mut server = end(Role::Server);
        assert!(server.transmit().is_empty());
        let violation = server.receive(bytes, NOW).unwrap_err();
        assert!(
            matches!(violation, Violation::BadMagic { .. }),
            "{violation}"
        );
        assert_eq!(violation.code(), None);
        assert_eq!(server.stream.state(), StateName::Closed, "it closed itself");
        server.stream.close(CloseCode::Malformed);
        server.stream.drain(NOW);
        server.stream.finish();
        assert!(server.transmit().is_empty(), "{bytes:?}");
        assert_eq!(server.stream.state(), StateName::Closed);
        assert_eq!(server.next_timeout(), None);
    }
}

#[test]
fn wrong_bytes_are_found_at_the_first_one() {
    for at in 0..MAGIC.len() {
        let mut bytes = MAGIC;
        bytes[at] ^= 0x20;
        let mut server = end(Role::Server);
        assert_eq!(server.receive(&bytes[..at], NOW), Ok(()));
        let found = bytes[at];
        let wrong = server.receive(&bytes[at..=at], NOW);
        assert_eq!(wrong, Err(Violation::BadMagic { at, found }));
    }
}

#[test]
fn a_version_mismatch_is_answered_with_the_own_range() {
    let mut client = end(Role::Client);
    let mut server = end(Role::Server);
    let mut bytes = client.transmit();
    bytes[8..12].copy_from_slice(&[7, 0, 9, 0]);
    let violation = server.receive(&bytes, NOW).unwrap_err();
    assert_eq!(
        violation,
        Violation::UnsupportedVersion {
            peer_min: 7,
            peer_max: 9
        }
    );
    let answer = server.transmit();
    assert_eq!(answer.len(), HELLO_BYTES + 16);
    let hello = Hello::read(&answer).unwrap();
    assert_eq!(
        (hello.preface.version_min, hello.preface.version_max),
        (1, 1)
    );
    let close = Header::read(&answer[HELLO_BYTES..]).unwrap();
    assert_eq!(
        (close.kind, close.tag),
        (kind::CLOSE, CloseCode::UnsupportedVersion.to_wire())
    );
    assert!(server.take_events().is_empty());
}

#[test]
fn a_server_that_has_no_room_says_so_behind_its_hello() {
    let mut client = end(Role::Client);
    let mut server = end(Role::Server);
    server.receive(&client.transmit(), NOW).unwrap();
    server.stream.close(CloseCode::ResourceExhausted);
    client.receive(&server.transmit(), NOW).unwrap();
    let events = client.take_events();
    let [StreamEvent::Opened(_), StreamEvent::PeerClosed(code)] = events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(code, CloseCode::ResourceExhausted);
}

#[test]
fn a_client_that_reached_itself_notices() {
    let mut client = end(Role::Client);
    let own = client.transmit();
    assert_eq!(
        client.receive(&own, NOW),
        Err(Violation::WrongRole { role: 1 })
    );
    let close = client.transmit();
    assert_eq!(
        close,
        control(kind::CLOSE, 0, CloseCode::Malformed.to_wire(), 0)
    );
}

#[test]
fn every_prefix_of_a_hello_asks_for_more() {
    let mut client = end(Role::Client);
    let hello = client.transmit();
    for len in 0..HELLO_BYTES {
        let mut server = end(Role::Server);
        assert_eq!(server.receive(&hello[..len], NOW), Ok(()), "{len} bytes");
        assert!(server.take_events().is_empty());
        assert_eq!(server.receive(&hello[len..], NOW), Ok(()));
        assert!(matches!(server.take_events()[..], [StreamEvent::Opened(_)]));
        assert_eq!(server.leftover(), 0);
    }
}

#[test]
fn a_longer_hello_of_a_newer_peer_is_read_up_to_what_is_known() {
    let mut client = end(Role::Client);
    let mut bytes = client.transmit();
    bytes[10] = 9;
    bytes[12..14].copy_from_slice(&96_u16.to_le_bytes());
    bytes.extend([0x5A; 32]);
    bytes.extend(crate::end::message(5, 1));
    let mut server = end(Role::Server);
    for byte in bytes {
        server.receive(&[byte], NOW).unwrap();
    }
    let [StreamEvent::Opened(peer)] = server.take_events()[..] else {
        panic!("not opened")
    };
    assert_eq!(peer.version, 1);
    assert_eq!(server.messages.len(), 1);
}

#[test]
fn reserved_fields_are_zero_when_sent_and_ignored_when_received() {
    let mut client = end(Role::Client);
    let mut bytes = client.transmit();
    for at in [15, 44, 45, 46, 47, 56, 63] {
        assert_eq!(bytes[at], 0);
        bytes[at] = 0xFF;
    }
    let mut server = end(Role::Server);
    assert_eq!(server.receive(&bytes, NOW), Ok(()));
}

#[test]
fn a_hello_without_a_required_feature_is_refused_by_code() {
    let mut client = end(Role::Client);
    let config = StreamConfig {
        features_offered: 4,
        features_required: 4,
        ..StreamConfig::default()
    };
    let mut server = End::new(config, Role::Server, NOW);
    let violation = server.receive(&client.transmit(), NOW).unwrap_err();
    assert_eq!(violation, Violation::PeerLacksFeatures { missing: 4 });
    let mut client_events = client;
    let refused = client_events.receive(&server.transmit(), NOW).unwrap_err();
    assert_eq!(refused, Violation::PeerRequiresFeatures { missing: 4 });
    assert_eq!(refused.code(), Some(CloseCode::FeatureRequired));
}

#[test]
fn a_second_hello_is_no_frame() {
    let mut again = end(Role::Client);
    let (_, mut server) = opened(&StreamConfig::default(), NOW);
    let violation = server.receive(&again.transmit(), NOW).unwrap_err();
    assert!(
        matches!(violation, Violation::MessageTooLong { .. }),
        "{violation}"
    );
}

#[test]
fn a_hello_that_does_not_fit_waits_for_room() {
    let mut client = end(Role::Client);
    client.stream.drain(NOW);
    let mut small = [0; HELLO_BYTES - 1];
    assert_eq!(client.stream.poll_transmit(&mut small), 0);
    assert_eq!(small, [0; HELLO_BYTES - 1]);
    assert!(client.stream.wants_transmit());
    assert_eq!(
        client.transmit().len(),
        HELLO_BYTES + 16,
        "nothing overtakes the hello"
    );
}

#[test]
fn same_seed_same_bytes_and_other_seed_other_epoch() {
    let make = |seed| {
        let config = StreamConfig::default();
        let mut stream = ringway_proto::Stream::new(&config, Role::Client, seed, NOW);
        let mut out = [0; HELLO_BYTES];
        assert_eq!(stream.poll_transmit(&mut out), HELLO_BYTES);
        out
    };
    assert_eq!(make(7), make(7));
    assert_ne!(make(7)[48..56], make(8)[48..56]);
    assert_eq!(make(7)[..48], make(8)[..48]);
}
