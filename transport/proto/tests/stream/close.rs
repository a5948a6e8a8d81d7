//! `docs/wire/stream.md#close`, `docs/wire/stream.md#end`

use ringway_buf::Instant;
use ringway_proto::{
    CloseCode, Ending, Role, StateName, StreamConfig, StreamEvent, Violation, kind,
};

use crate::end::{End, control, message, opened};

const NOW: Instant = Instant::ZERO;

#[test]
fn close_is_the_last_frame_and_silences_both() {
    let (mut client, mut server) = opened(&StreamConfig::default(), NOW);
    client.stream.close(CloseCode::Normal);
    client.stream.close(CloseCode::Internal);
    assert!(!client.stream.may_send() && !client.stream.is_open());
    let bytes = client.transmit();
    assert_eq!(
        bytes,
        control(kind::CLOSE, 0, CloseCode::Normal.to_wire(), 0)
    );
    server.receive(&bytes, NOW).unwrap();
    assert_eq!(
        server.take_events(),
        [StreamEvent::PeerClosed(CloseCode::Normal)]
    );
    server.stream.close(CloseCode::Normal);
    server.stream.drain(NOW);
    server.stream.finish();
    assert!(!server.stream.may_send() && !server.stream.wants_transmit());
    assert_eq!(server.stream.state(), StateName::PeerClosed);
    assert_eq!((client.next_timeout(), server.next_timeout()), (None, None));
}

#[test]
fn what_was_on_its_way_when_this_end_closed_is_dropped() {
    let (_client, mut server) = opened(&StreamConfig::default(), NOW);
    server.stream.close(CloseCode::Normal);
    server.receive(&message(5, 1), NOW).unwrap();
    server.receive(&[0xFF; 100], NOW).unwrap();
    assert!(server.messages.is_empty());
    assert_eq!(server.leftover(), 0);
    assert_eq!(server.stream.handle_end(0, NOW), Ending::Clean);
}

#[test]
fn what_was_pending_when_the_peer_closed_is_not_sent() {
    let (_client, mut server) = opened(&StreamConfig::default(), NOW);
    server.stream.drain(NOW);
    server.receive(&control(kind::PING, 0, 0, 3), NOW).unwrap();
    assert!(server.stream.wants_transmit());
    server.receive(&control(kind::CLOSE, 0, 0, 0), NOW).unwrap();
    assert!(server.transmit().is_empty());
}

#[test]
fn bytes_behind_close_break_a_rule_but_get_no_answer() {
    let (_client, mut server) = opened(&StreamConfig::default(), NOW);
    server
        .receive(&control(kind::CLOSE, 0, 500, 0), NOW)
        .unwrap();
    assert_eq!(
        server.take_events(),
        [StreamEvent::PeerClosed(CloseCode::Unknown(500))]
    );
    assert_eq!(
        server.receive(&message(5, 1), NOW),
        Err(Violation::AfterClose)
    );
    assert!(!server.stream.wants_transmit());
}

#[test]
fn an_end_is_clean_only_when_it_was_announced() {
    let (mut client, mut server) = opened(&StreamConfig::default(), NOW);
    assert_eq!(client.stream.handle_end(0, NOW), Ending::Abrupt);
    assert_eq!(client.stream.state(), StateName::Ended);
    assert!(!client.stream.may_send());

    server.receive(&message(100, 1)[..20], NOW).unwrap();
    let leftover = server.leftover();
    assert_eq!(
        server.stream.handle_end(leftover, NOW),
        Ending::Truncated { leftover: 20 }
    );

    let (mut client, mut server) = opened(&StreamConfig::default(), NOW);
    client.stream.finish();
    server.receive(&client.transmit(), NOW).unwrap();
    assert_eq!(server.stream.handle_end(0, NOW), Ending::Clean);

    let (mut client, mut server) = opened(&StreamConfig::default(), NOW);
    client.stream.drain(NOW);
    server.receive(&client.transmit(), NOW).unwrap();
    assert_eq!(
        server.stream.handle_end(0, NOW),
        Ending::Abrupt,
        "draining is no end"
    );

    let mut server = End::new(StreamConfig::default(), Role::Server, NOW);
    assert_eq!(server.stream.handle_end(0, NOW), Ending::Abrupt);
}

#[test]
fn an_end_inside_a_skipped_frame_is_truncation() {
    let (_client, mut server) = opened(&StreamConfig::default(), NOW);
    let pad = ringway_proto::Header::pad(64);
    server.receive(&crate::end::header(pad), NOW).unwrap();
    assert_eq!(
        server.stream.handle_end(0, NOW),
        Ending::Truncated { leftover: 0 }
    );
}

#[test]
fn nothing_is_sent_after_the_end() {
    let (_client, mut server) = opened(&StreamConfig::default(), NOW);
    server.receive(&control(kind::PING, 0, 0, 3), NOW).unwrap();
    server.stream.drain(NOW);
    assert!(server.stream.wants_transmit());
    assert_eq!(server.stream.handle_end(0, NOW), Ending::Abrupt);
    server.stream.close(CloseCode::Normal);
    assert!(!server.stream.wants_transmit());
    assert!(server.transmit().is_empty());
}

#[test]
fn pending_frames_leave_in_order_and_in_whole_frames() {
    let (_client, mut server) = opened(&StreamConfig::default(), NOW);
    server.stream.drain(NOW);
    server.stream.finish();
    server.receive(&control(kind::PING, 0, 0, 5), NOW).unwrap();
    let mut out = [0; 47];
    assert_eq!(server.stream.poll_transmit(&mut out), 32);
    assert_eq!(out[..16], control(kind::PONG, 0, 0, 5));
    assert_eq!(out[16..32], control(kind::GOAWAY, 0, 0, 0));
    server.stream.close(CloseCode::Drained);
    let rest = server.transmit();
    assert_eq!(rest[..16], control(kind::GOAWAY, 2, 0, 0));
    assert_eq!(
        rest[16..],
        control(kind::CLOSE, 0, CloseCode::Drained.to_wire(), 0)
    );
}
