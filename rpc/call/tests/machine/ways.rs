//! Which frames may leave the order of their connection, and how.

use std::time::Duration;

use ringway_call::{CallConfig, Code, Compressors, Keep, Open, Status, Way, kind};

use crate::line::Copied;
use crate::pair::{BIDI, CLIENT_STREAM, MISSING, Pair, SERVER_STREAM, UNARY};

const LANE: Way = Way::Lane { last: false };
const LAST: Way = Way::Lane { last: true };

/// How frames went, with their kinds.
type Ways = Vec<(u8, Way)>;

impl Pair {
    /// How frames went since the last time, down and up.
    fn ways(&mut self) -> (Ways, Ways) {
        let take = std::mem::take::<Ways>;
        (take(&mut self.down.ways), take(&mut self.up.ways))
    }
}

fn pair() -> Pair {
    let mut pair = Pair::new();
    let (down, up) = pair.ways();
    let all = down.iter().chain(&up);
    assert!(all.clone().all(|(_, way)| *way == Way::InOrder), "{all:?}");
    pair
}

// docs/wire/rpc.md#frame
#[test]
fn a_small_unary_call_is_apart_from_all_others() {
    let mut pair = pair();
    let call = pair.open(UNARY, b"small", true);
    pair.settle();
    pair.reply(call, b"small");
    pair.settle();
    let whole = (
        vec![(kind::OPEN, Way::Apart)],
        vec![(kind::END, Way::Apart)],
    );
    assert_eq!(pair.ways(), whole);
    // What ends in another way keeps the order, and so does what the server has not agreed to.
    let call = pair.open(UNARY, b"", true);
    pair.settle();
    pair.finish(call, &Status::of(Code::Aborted, ""));
    pair.settle();
    let failed = (
        vec![(kind::OPEN, Way::Apart)],
        vec![(kind::END, Way::InOrder)],
    );
    assert_eq!(pair.ways(), failed);
    let mut fresh = Pair::new();
    let binding = crate::pair::binding("test.Pair/Unary", ringway_call::Kind::Unary);
    let late = fresh.caller.bind(&mut fresh.down, &[binding]).unwrap();
    fresh.ways();
    fresh.open(late, b"", true);
    assert_eq!(fresh.ways().0, [(kind::OPEN, Way::InOrder)]);
    assert!(late > MISSING);
}

// docs/wire/rpc.md#frame
#[test]
fn a_one_way_call_may_get_lost_and_is_of_no_use_after_its_deadline() {
    let mut pair = pair();
    let deadline = pair.now + Duration::from_secs(1);
    let open = Open {
        method: UNARY,
        one_way: true,
        end: true,
        deadline: Some(deadline),
        ..Open::default()
    };
    pair.open_as(&open, b"fire");
    assert_eq!(pair.ways().0, [(kind::OPEN, Way::Loose { deadline })]);
}

// docs/wire/rpc.md#frame
#[test]
fn the_messages_of_a_stream_share_a_lane_and_its_end_closes_it() {
    let mut pair = pair();
    let call = pair.open(CLIENT_STREAM, b"first", false);
    for _ in 0..2 {
        let sent = pair
            .caller
            .send(&mut pair.down, call, &b"more"[..], false, false);
        sent.unwrap();
    }
    pair.caller.end(&mut pair.down, call);
    pair.settle();
    pair.reply(call, b"done");
    pair.settle();
    let down = vec![
        (kind::OPEN, Way::InOrder),
        (kind::DATA, LANE),
        (kind::DATA, LANE),
        (kind::DATA, LAST),
    ];
    // Credit goes in order; the server has said nothing else.
    assert_eq!(pair.ways(), (down, vec![(kind::END, Way::InOrder)]));

    let call = pair.open(SERVER_STREAM, b"", true);
    pair.settle();
    let sent = pair
        .callee
        .send(&mut pair.up, call, &b"answer"[..], pair.now);
    sent.unwrap();
    pair.finish(call, &Status::OK);
    pair.settle();
    let up = vec![(kind::DATA, LANE), (kind::END, LAST)];
    assert_eq!(pair.ways(), (vec![(kind::OPEN, Way::InOrder)], up));
    assert!(pair.down.dropped.is_empty() && pair.up.dropped.is_empty());
}

fn small_frames() -> Pair {
    let config = CallConfig {
        inline_bytes_max: 1_024,
        ..CallConfig::default()
    };
    let mut pair = Pair::with(config, &Compressors::default());
    pair.ways();
    pair
}

// docs/wire/rpc.md#frame
#[test]
fn the_pieces_of_a_large_message_have_a_lane() {
    let mut pair = small_frames();
    let large = vec![7; 300_000];
    let call = pair.open(UNARY, &large, true);
    pair.settle();
    let (down, up) = pair.ways();
    let pieces = [
        (kind::OPEN, Way::InOrder),
        (kind::DATA, LANE),
        (kind::DATA, LAST),
    ];
    assert_eq!(down, pieces);
    assert_eq!(up, [(kind::CREDIT, Way::InOrder)]);
    pair.reply(call, &large);
    pair.settle();
    let (_, up) = pair.ways();
    let pieces = [
        (kind::DATA, LANE),
        (kind::DATA, LANE),
        (kind::DATA, LANE),
        (kind::END, LAST),
    ];
    assert_eq!(up, pieces, "announced, in two pieces, ended");
    assert_eq!(pair.the_end().2.unwrap(), large);
}

// docs/wire/rpc.md#frame
#[test]
fn who_gives_a_call_up_gives_up_its_lane() {
    let mut pair = pair();
    let call = pair.open(BIDI, b"first", false);
    let sent = pair
        .caller
        .send(&mut pair.down, call, &b"more"[..], false, false);
    sent.unwrap();
    pair.settle();
    let sent = pair
        .callee
        .send(&mut pair.up, call, &b"answer"[..], pair.now);
    sent.unwrap();
    pair.settle();
    pair.ways();
    pair.caller.cancel(&mut pair.down, call);
    assert_eq!(pair.down.dropped, [call]);
    pair.settle();
    pair.finish(call, &Status::of(Code::Cancelled, ""));
    pair.settle();
    assert_eq!(pair.up.dropped, [call]);
    let ended = (
        vec![(kind::CANCEL, Way::InOrder)],
        vec![(kind::END, Way::InOrder)],
    );
    assert_eq!(pair.ways(), ended);
    assert_eq!(pair.caller.open_calls() + pair.callee.open_calls(), 0);
    // A call that has no lane has none to give up.
    let call = pair.open(UNARY, b"", true);
    pair.caller.cancel(&mut pair.down, call);
    assert_eq!(pair.down.dropped.len(), 1);
}

// docs/wire/rpc.md#frame
#[test]
fn a_server_that_ends_early_makes_the_client_drop_what_it_still_sends() {
    let mut pair = pair();
    let call = pair.open(BIDI, b"first", false);
    let sent = pair
        .caller
        .send(&mut pair.down, call, &b"more"[..], false, false);
    sent.unwrap();
    pair.settle();
    pair.finish(call, &Status::OK);
    pair.settle();
    assert_eq!(pair.down.dropped, [call]);
}

/// A large answer that is on its way when its client gives it up.
#[test]
fn a_large_answer_that_nobody_wants_ends_in_order() {
    let mut pair = small_frames();
    let call = pair.open(UNARY, b"", true);
    pair.settle();
    pair.reply(call, &[7; 3_000_000]);
    pair.answer().unwrap();
    pair.deliver().unwrap();
    pair.ways();
    pair.caller.cancel(&mut pair.down, call);
    pair.settle();
    assert_eq!(pair.up.dropped, [call]);
    assert_eq!(pair.ways().1.last(), Some(&(kind::END, Way::InOrder)));
    assert_eq!(pair.caller.open_calls() + pair.callee.open_calls(), 0);
}

/// A frame that finds no room before its call is given up leaves behind the end of the lane, and begins no other one.
#[test]
fn what_waits_for_room_when_a_lane_is_dropped_goes_in_order() {
    let mut pair = pair();
    let call = pair.open(SERVER_STREAM, b"", true);
    pair.settle();
    let slice = Copied(&[7; 8_000]).retain(0..8_000);
    pair.up.frames_max = 1;
    for part in [slice.clone(), slice] {
        let sent = pair.callee.send(&mut pair.up, call, part, pair.now);
        sent.unwrap();
    }
    assert_eq!(
        pair.ways().1,
        [(kind::DATA, LANE)],
        "the second has no room"
    );
    pair.caller.cancel(&mut pair.down, call);
    pair.deliver().unwrap();
    pair.finish(call, &Status::of(Code::Cancelled, ""));
    assert_eq!(pair.up.dropped, [call]);
    pair.up.frames_max = 0;
    pair.settle();
    let up = [(kind::DATA, Way::InOrder), (kind::END, Way::InOrder)];
    assert_eq!(pair.ways().1, up);
    assert_eq!(pair.caller.open_calls() + pair.callee.open_calls(), 0);
}
