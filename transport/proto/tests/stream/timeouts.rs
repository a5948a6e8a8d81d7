//! `docs/wire/stream.md#keepalive`, `docs/wire/stream.md#idle`, `docs/wire/stream.md#handshake`

use std::time::Duration;

use ringway_proto::{CloseCode, Role, StateName, StreamConfig, Timeout, kind};

use crate::end::{End, at_ms, control, message, opened};

#[test]
fn a_silent_stranger_is_cut_without_a_word_and_a_silent_server_with_one() {
    let mut server = End::new(StreamConfig::default(), Role::Server, at_ms(7));
    assert_eq!(server.next_timeout(), Some(at_ms(10_007)));
    assert_eq!(server.timeout(at_ms(10_006)), None);
    assert_eq!(server.timeout(at_ms(10_007)), Some(Timeout::Handshake));
    assert!(server.transmit().is_empty());

    let mut client = End::new(StreamConfig::default(), Role::Client, at_ms(0));
    client.transmit();
    assert_eq!(client.timeout(at_ms(10_000)), Some(Timeout::Handshake));
    let code = CloseCode::HandshakeTimeout.to_wire();
    assert_eq!(client.transmit(), control(kind::CLOSE, 0, code, 0));
}

#[test]
fn slow_bytes_do_not_stretch_the_handshake() {
    let mut client = End::new(StreamConfig::default(), Role::Client, at_ms(0));
    let hello = client.transmit();
    let mut server = End::new(StreamConfig::default(), Role::Server, at_ms(0));
    for (second, byte) in hello.iter().enumerate().take(10) {
        server
            .receive(&[*byte], at_ms(second as u64 * 1_000))
            .unwrap();
    }
    assert_eq!(server.timeout(at_ms(10_000)), Some(Timeout::Handshake));
}

#[test]
fn a_quiet_peer_is_asked_and_its_answer_keeps_the_connection() {
    let (mut client, mut server) = opened(&StreamConfig::default(), at_ms(300));
    let mut now_ms = 300;
    for _ in 0..50 {
        let next = client.next_timeout().unwrap();
        now_ms = next.as_nanos() / 1_000_000;
        assert_eq!(now_ms % 1_000, 0, "bunched");
        assert_eq!(client.timeout(next), None);
        let ping = client.transmit();
        assert_eq!(ping.len(), 16);
        server.receive(&ping, next).unwrap();
        client
            .receive(&server.transmit(), at_ms(now_ms + 1))
            .unwrap();
    }
    assert!(now_ms >= 50 * 60_000);
    assert!(client.stream.is_open() && server.stream.is_open());
}

#[test]
fn a_dead_peer_is_found_after_interval_and_timeout() {
    let (mut client, _server) = opened(&StreamConfig::default(), at_ms(0));
    assert_eq!(client.timeout(at_ms(59_999)), None);
    assert!(!client.stream.wants_transmit());
    assert_eq!(client.timeout(at_ms(60_000)), None);
    assert_eq!(client.transmit().len(), 16);
    assert_eq!(client.timeout(at_ms(79_999)), None);
    assert_eq!(client.timeout(at_ms(80_000)), Some(Timeout::Keepalive));
    let code = CloseCode::KeepaliveTimeout.to_wire();
    assert_eq!(client.transmit(), control(kind::CLOSE, 0, code, 0));
    assert_eq!(client.stream.state(), StateName::Closed);
    assert_eq!(client.timeout(at_ms(1_000_000)), None);
}

#[test]
fn an_engine_that_slept_asks_before_it_judges() {
    let (mut client, _server) = opened(&StreamConfig::default(), at_ms(0));
    assert_eq!(client.timeout(at_ms(3_600_000)), None);
    assert_eq!(client.transmit().len(), 16);
    assert_eq!(client.next_timeout(), Some(at_ms(3_620_000)));
}

#[test]
fn traffic_makes_pings_needless() {
    let (mut client, _server) = opened(&StreamConfig::default(), at_ms(0));
    for second in 1..1_000 {
        client.stream.heard(at_ms(second * 1_000));
        assert_eq!(client.timeout(at_ms(second * 1_000)), None);
        assert!(!client.stream.wants_transmit());
    }
}

#[test]
fn keepalive_can_be_off_and_the_peer_can_stretch_it() {
    let off = StreamConfig {
        keepalive_interval: None,
        ..StreamConfig::default()
    };
    let (client, _server) = opened(&off, at_ms(0));
    assert_eq!(client.next_timeout(), None);

    let eager = StreamConfig {
        keepalive_interval: Some(Duration::from_millis(20)),
        keepalive_timeout: Duration::from_millis(30),
        ..StreamConfig::default()
    };
    let (client, _server) = opened(&eager, at_ms(0));
    assert_eq!(
        client.next_timeout(),
        Some(at_ms(5_000)),
        "the peer allows one per 5 s"
    );
    let allowed = StreamConfig {
        keepalive_interval_min: Duration::from_millis(10),
        ..eager
    };
    let (mut client, _server) = opened(&allowed, at_ms(0));
    assert_eq!(client.timeout(at_ms(20)), None);
    assert_eq!(client.timeout(at_ms(50)), Some(Timeout::Keepalive));
}

#[test]
fn only_messages_keep_an_idle_connection() {
    let config = StreamConfig {
        idle_timeout: Some(Duration::from_secs(100)),
        keepalive_interval: Some(Duration::from_secs(30)),
        ..StreamConfig::default()
    };
    let (mut client, mut server) = opened(&config, at_ms(0));
    // A message received, and one sent, each start the time anew.
    server.receive(&message(3, 1), at_ms(40_000)).unwrap();
    client.stream.sent(at_ms(40_000));
    let mut now_ms = 40_000;
    let expired = loop {
        now_ms += 1_000;
        assert!(now_ms <= 140_000);
        let timeouts = (client.timeout(at_ms(now_ms)), server.timeout(at_ms(now_ms)));
        if let (Some(client), Some(server)) = timeouts {
            break (client, server);
        }
        assert_eq!(timeouts, (None, None));
        let (to_server, to_client) = (client.transmit(), server.transmit());
        server.receive(&to_server, at_ms(now_ms)).unwrap();
        client.receive(&to_client, at_ms(now_ms)).unwrap();
    };
    assert_eq!(expired, (Timeout::Idle, Timeout::Idle));
    assert_eq!(now_ms, 140_000);
}

#[test]
fn a_ping_and_what_expired_behind_it_are_handled_in_one_call() {
    let config = StreamConfig {
        idle_timeout: Some(Duration::from_secs(100)),
        ..StreamConfig::default()
    };
    let (mut client, _server) = opened(&config, at_ms(0));
    assert_eq!(client.timeout(at_ms(500_000)), Some(Timeout::Idle));
    let code = CloseCode::IdleTimeout.to_wire();
    assert_eq!(client.transmit(), control(kind::CLOSE, 0, code, 0));
}
