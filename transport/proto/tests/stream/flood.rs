//! `docs/wire/stream.md#flood`

use ringway_proto::{CloseCode, Header, StreamConfig, Violation, flag, kind};

use crate::end::{at_ms, control, header, message, opened};

#[test]
fn a_ping_flood_is_cut_while_honest_pings_pass() {
    let config = StreamConfig::default();
    let (_client, mut server) = opened(&config, at_ms(0));
    // Honest: every 5 s for a day, with up to 4 s of jitter.
    let mut sent_ms = 0;
    for round in 0..17_280_u64 {
        sent_ms = round * 5_000 + (round * 7_919) % 4_000;
        let ping = control(kind::PING, 0, 0, round);
        server.receive(&ping, at_ms(sent_ms)).unwrap();
        assert_eq!(server.transmit(), control(kind::PONG, 0, 0, round));
    }
    // Hostile: the burst is granted, the next one is not.
    let later = at_ms(sent_ms + 60_000);
    for round in 0..8 {
        server
            .receive(&control(kind::PING, 0, 0, round), later)
            .unwrap();
    }
    let cut = server.receive(&control(kind::PING, 0, 0, 9), later);
    assert_eq!(cut, Err(Violation::Flood { kind: kind::PING }));
    assert_eq!(
        server.transmit(),
        control(kind::CLOSE, 0, CloseCode::Flood.to_wire(), 0)
    );
}

#[test]
fn pings_at_twice_the_rate_are_cut_in_the_end() {
    let (_client, mut server) = opened(&StreamConfig::default(), at_ms(0));
    let outcome = (0..100_u64)
        .map(|round| server.receive(&control(kind::PING, 0, 0, 0), at_ms(round * 2_500)))
        .position(|outcome| outcome.is_err());
    assert_eq!(outcome, Some(15), "8 ahead, gaining one every two pings");
}

#[test]
fn many_waiting_pings_cost_one_answer_to_the_latest() {
    let (_client, mut server) = opened(&StreamConfig::default(), at_ms(0));
    for token in 0..8 {
        server
            .receive(&control(kind::PING, 0, 0, token), at_ms(0))
            .unwrap();
    }
    assert_eq!(server.transmit(), control(kind::PONG, 0, 0, 7));
}

#[test]
fn each_useless_kind_is_cut_behind_its_burst() {
    let config = StreamConfig {
        control_burst: 50,
        ..StreamConfig::default()
    };
    let frames = [
        Header::pad(0),
        Header {
            kind: kind::PONG,
            ..Header::default()
        },
        Header {
            kind: kind::GOAWAY,
            ..Header::default()
        },
        Header {
            kind: 0x33,
            flags: flag::IGNORABLE,
            ..Header::default()
        },
    ];
    for frame in frames {
        let (_client, mut server) = opened(&config, at_ms(5));
        for _ in 0..50 {
            server.receive(&header(frame), at_ms(5)).unwrap();
        }
        let cut = server.receive(&header(frame), at_ms(5));
        assert_eq!(cut, Err(Violation::Flood { kind: frame.kind }));
        // One more per millisecond is allowed in the long run.
        let (_client, mut server) = opened(&config, at_ms(5));
        for round in 0..10_000 {
            server.receive(&header(frame), at_ms(5 + round)).unwrap();
        }
    }
}

#[test]
fn a_pad_per_message_is_honest_at_any_rate() {
    let config = StreamConfig {
        control_burst: 50,
        ..StreamConfig::default()
    };
    let (_client, mut server) = opened(&config, at_ms(0));
    for _ in 0..10_000 {
        server.receive(&message(1, 1), at_ms(0)).unwrap();
        server.receive(&header(Header::pad(0)), at_ms(0)).unwrap();
    }
    for _ in 0..10_000 {
        server.receive(&message(1, 1), at_ms(0)).unwrap();
    }
    let allowed = (0..1_000)
        .take_while(|_| server.receive(&header(Header::pad(0)), at_ms(0)).is_ok())
        .count();
    assert_eq!(allowed, 50, "earned tokens do not pile up beyond the burst");
}

#[test]
fn messages_are_never_counted_as_flood() {
    let config = StreamConfig {
        control_burst: 1,
        control_rate: 1,
        ..StreamConfig::default()
    };
    let (_client, mut server) = opened(&config, at_ms(0));
    for _ in 0..20_000 {
        server.receive(&message(0, 1), at_ms(0)).unwrap();
    }
    assert_eq!(server.messages.len(), 20_000);
}
