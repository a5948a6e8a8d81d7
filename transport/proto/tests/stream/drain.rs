//! `docs/wire/stream.md#goaway`

use ringway_buf::Instant;
use ringway_proto::{
    CloseCode, Role, StateName, StreamConfig, StreamEvent, Timeout, Violation, flag, kind,
};

use crate::end::{End, at_ms, control, message, opened};

const NOW: Instant = Instant::ZERO;

#[test]
fn draining_takes_two_steps_and_loses_nothing() {
    let (mut client, mut server) = opened(&StreamConfig::default(), NOW);
    server.stream.drain(NOW);
    assert_eq!(server.transmit(), control(kind::GOAWAY, 0, 0, 0));
    client
        .receive(&control(kind::GOAWAY, 0, 0, 0), NOW)
        .unwrap();
    assert_eq!(client.take_events(), [StreamEvent::Draining]);
    assert!(client.stream.may_send() && server.stream.may_send());

    // A request that crossed the announcement is still delivered and answered.
    server.receive(&message(10, 1), NOW).unwrap();
    assert_eq!(server.messages.len(), 1);
    client.receive(&message(11, 2), NOW).unwrap();

    client.stream.finish();
    assert!(!client.stream.may_send());
    server.receive(&client.transmit(), NOW).unwrap();
    assert_eq!(
        server.take_events(),
        [StreamEvent::Draining],
        "its final tells it too"
    );
    assert!(server.stream.may_send());
    client.receive(&message(12, 3), NOW).unwrap();
    server.stream.finish();
    assert_eq!(server.take_events(), [StreamEvent::Drained]);
    client.receive(&server.transmit(), NOW).unwrap();
    assert_eq!(client.take_events(), [StreamEvent::Drained]);
    assert_eq!(client.messages.len(), 2);

    assert_eq!(client.stream.state(), StateName::Drained);
    client.stream.close(CloseCode::Drained);
    server.receive(&client.transmit(), NOW).unwrap();
    assert_eq!(
        server.take_events(),
        [StreamEvent::PeerClosed(CloseCode::Drained)]
    );
}

#[test]
fn repeating_a_step_changes_nothing() {
    let (mut client, mut server) = opened(&StreamConfig::default(), NOW);
    for _ in 0..3 {
        server.stream.drain(NOW);
        server.stream.drain(at_ms(1_000));
    }
    assert_eq!(server.transmit().len(), 16);
    assert_eq!(
        server.next_timeout(),
        Some(at_ms(30_000)),
        "the first wish sets the deadline"
    );
    for _ in 0..3 {
        server.stream.finish();
        server.stream.drain(NOW);
    }
    assert_eq!(server.transmit(), control(kind::GOAWAY, flag::FINAL, 0, 0));
    server.stream.finish();
    assert!(!server.stream.wants_transmit());
    for frame in [
        control(3, 0, 0, 0),
        control(3, 0, 0, 0),
        control(3, 2, 0, 0),
        control(3, 2, 0, 0),
    ] {
        client.receive(&frame, NOW).unwrap();
    }
    client.receive(&control(3, 0, 0, 0), NOW).unwrap();
    assert_eq!(client.take_events(), [StreamEvent::Draining]);
}

#[test]
fn a_message_after_the_final_breaks_the_rule() {
    let (_client, mut server) = opened(&StreamConfig::default(), NOW);
    server
        .receive(&control(kind::GOAWAY, flag::FINAL, 0, 0), NOW)
        .unwrap();
    server.receive(&control(kind::PING, 0, 0, 1), NOW).unwrap();
    let violation = server.receive(&message(0, 0), NOW);
    assert_eq!(
        violation,
        Err(Violation::MessageAfterFinal {
            kind: kind::MESSAGE
        })
    );
}

#[test]
fn a_drain_before_the_hello_waits_for_it() {
    let mut client = End::new(StreamConfig::default(), Role::Client, NOW);
    let mut server = End::new(StreamConfig::default(), Role::Server, NOW);
    server.stream.drain(NOW);
    assert!(server.transmit().is_empty());
    server.receive(&client.transmit(), NOW).unwrap();
    client.receive(&server.transmit(), NOW).unwrap();
    let events = client.take_events();
    assert!(
        matches!(events[..], [StreamEvent::Opened(_), StreamEvent::Draining]),
        "{events:?}"
    );
    assert_eq!(server.stream.state(), StateName::Draining);
}

#[test]
fn a_peer_that_never_finishes_is_cut() {
    let (mut client, mut server) = opened(&StreamConfig::default(), NOW);
    server.stream.drain(at_ms(500));
    server.stream.finish();
    client.receive(&server.transmit(), NOW).unwrap();
    assert_eq!(server.timeout(at_ms(30_499)), None);
    assert_eq!(server.timeout(at_ms(30_500)), Some(Timeout::Drain));
    assert_eq!(
        server.transmit(),
        control(kind::CLOSE, 0, CloseCode::DrainTimeout.to_wire(), 0)
    );
    assert!(client.stream.is_open());
}
