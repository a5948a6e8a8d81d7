//! Frames that break a rule end their call, or their connection, and touch nothing else.

use std::rc::Rc;
use std::time::Duration;

use ringway_buf::{Instant, Pools, PoolsConfig};
use ringway_call::{
    Binding, Bound, CallConfig, CallId, CancelReason, Code, Compressors, Head, Kind, Open, Refused,
    Status, Violation, flag, kind, wire,
};

use crate::pair::{BIDI, CLIENT_STREAM, MISSING, Pair, SERVER_STREAM, UNARY, binding, bindings};

const OPEN_BYTES: usize = wire::OPEN_FIELDS_BYTES;

pub(crate) fn announced(call: CallId, total: u32, more: u8) -> Head {
    Head::new(kind::DATA, flag::MESSAGE | flag::MORE | more, call, total)
}

/// An OPEN that announces so many bytes.
pub(crate) fn open_large(pair: &mut Pair, call: CallId, total_bytes: u32) {
    let fields = wire::OpenFields {
        total_bytes,
        ..wire::OpenFields::default()
    };
    let flags = flag::END | flag::MESSAGE | flag::MORE;
    pair.forge(
        Head::new(kind::OPEN, flags, call, UNARY),
        &fields.to_bytes(),
    );
}

/// The connection works.
pub(crate) fn assert_alive(pair: &mut Pair) {
    let call = pair.open(UNARY, b"alive", true);
    pair.settle();
    assert_eq!(
        pair.opened.last().unwrap().message.as_deref(),
        Some(&b"alive"[..])
    );
    pair.reply(call, b"yes");
    pair.settle();
    let (ended, status, message) = pair.ends.pop().unwrap();
    assert_eq!((ended, status.code), (call, Code::Ok));
    assert_eq!(message.as_deref(), Some(&b"yes"[..]));
    assert_eq!(pair.caller.open_calls(), pair.callee.open_calls());
}

// docs/wire/rpc.md#bind
#[test]
fn a_method_that_is_not_there_or_differs_is_refused_before_it_starts() {
    let mut pair = Pair::new();
    let own = bindings()[0];
    let asked = [
        (
            Binding {
                kind: Kind::Bidi,
                ..own
            },
            Bound::WrongKind,
            Code::FailedPrecondition,
        ),
        (
            Binding { schema: 8, ..own },
            Bound::WrongSchema,
            Code::FailedPrecondition,
        ),
        (
            Binding { codec: 3, ..own },
            Bound::WrongCodec,
            Code::FailedPrecondition,
        ),
        (
            binding("test.Pair/Nowhere", Kind::Unary),
            Bound::Unknown,
            Code::Unimplemented,
        ),
    ];
    for (asked, word, code) in asked {
        let method = pair.caller.bind(&mut pair.down, &[asked]).unwrap();
        // At once, before the server has answered.
        let call = pair.open(method, b"x", true);
        pair.settle();
        assert_eq!(pair.caller.bound(method), Some(word));
        let (ended, status, _) = pair.the_end();
        assert_eq!((ended, status.code, status.not_started), (call, code, true));
        // Later the client knows.
        let open = Open {
            method,
            ..Open::default()
        };
        let refused = pair
            .caller
            .open(&mut pair.down, &open, Some(&b"x"[..]), pair.now);
        assert!(matches!(refused, Err(Refused::NotReady(_))));
    }
    assert!(pair.opened.is_empty());
    assert_eq!(pair.caller.bound(MISSING), Some(Bound::Unknown));
    assert_alive(&mut pair);
}

#[test]
fn a_method_that_was_never_bound_is_unimplemented() {
    let mut pair = Pair::new();
    let call = pair.open(UNARY, b"", true);
    pair.down.frames.clear();
    pair.forge(Head::new(kind::OPEN, flag::END, call, 77), &[0; OPEN_BYTES]);
    pair.settle();
    let (_, status, _) = pair.the_end();
    assert_eq!(
        (status.code, status.not_started),
        (Code::Unimplemented, true)
    );
    assert_alive(&mut pair);
}

// docs/wire/rpc.md#metadata
#[test]
fn malformed_metadata_ends_its_call() {
    let mut pair = Pair::new();
    let overlong = [9, 0, 255, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
    let nameless = [0, 1, 4, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let padded = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for metadata in [overlong, nameless, padded] {
        let open = Open {
            metadata: &metadata,
            ..Open::default()
        };
        let call = pair.open_as(&open, b"x");
        pair.settle();
        let (ended, status, _) = pair.the_end();
        assert_eq!((ended, status.code), (call, Code::Internal), "{metadata:?}");
        assert!(status.not_started);
    }
    // More metadata than there are bytes.
    let call = pair.open(UNARY, b"", true);
    pair.down.frames.clear();
    let head = Head {
        tag: 9,
        ..Head::new(kind::OPEN, flag::END, call, UNARY)
    };
    pair.forge(head, &[0; OPEN_BYTES + 16]);
    pair.settle();
    assert_eq!(pair.the_end().1.code, Code::Internal);
    // In an answer as well.
    let call = pair.open(UNARY, b"", true);
    pair.settle();
    let head = Head {
        tag: 1,
        ..Head::new(kind::END, flag::END, call, 0)
    };
    pair.forge_up(head, &overlong);
    pair.answer().unwrap();
    let (_, status, _) = pair.the_end();
    assert_eq!((status.code, status.not_started), (Code::Internal, false));
    assert_eq!(pair.opened.len(), 1);
}

#[test]
fn metadata_beyond_the_limit_ends_its_call() {
    let config = CallConfig {
        metadata_bytes_max: 256,
        ..CallConfig::default()
    };
    let mut pair = Pair::with(config, &Compressors::default());
    let call = pair.open(UNARY, b"", true);
    pair.down.frames.clear();
    let head = Head {
        tag: 17,
        ..Head::new(kind::OPEN, flag::END, call, UNARY)
    };
    pair.forge(head, &[0; OPEN_BYTES + 17 * 16]);
    pair.settle();
    let (_, status, _) = pair.the_end();
    assert_eq!(
        (status.code, status.not_started),
        (Code::ResourceExhausted, true)
    );
    assert_alive(&mut pair);
}

// docs/wire/rpc.md#credit
#[test]
fn a_message_without_credit_ends_its_call() {
    let config = CallConfig {
        stream_credit: 1024,
        ..CallConfig::default()
    };
    let mut pair = Pair::with(config, &Compressors::default());
    let call = pair.open(CLIENT_STREAM, b"", false);
    for _ in 0..3 {
        pair.forge(Head::new(kind::DATA, flag::MESSAGE, call, 0), &[1; 600]);
    }
    pair.settle();
    assert_eq!(pair.messages.len(), 2, "the second one may start");
    let (_, status, _) = pair.the_end();
    assert_eq!(
        (status.code, status.not_started),
        (Code::ResourceExhausted, false)
    );
    assert_eq!(pair.cancelled, [(call, CancelReason::Broken)]);
    // The server's streams as well.
    let call = pair.open(SERVER_STREAM, b"", true);
    pair.settle();
    for _ in 0..3 {
        pair.forge_up(Head::new(kind::DATA, flag::MESSAGE, call, 0), &[1; 600]);
    }
    pair.answer().unwrap();
    assert_eq!(pair.answers.len(), 2);
    assert_eq!(pair.the_end().1.code, Code::ResourceExhausted);
    pair.deliver().unwrap();
    assert_eq!(pair.cancelled.last(), Some(&(call, CancelReason::ByPeer)));
    pair.finish(call, &Status::of(Code::Cancelled, ""));
    pair.settle();
    assert_alive(&mut pair);
}

// docs/wire/rpc.md#messages
#[test]
fn a_message_beyond_a_limit_ends_its_call() {
    let config = CallConfig {
        inline_bytes_max: 1024,
        message_bytes_max: 10_000,
        ..CallConfig::default()
    };
    let mut pair = Pair::with(config, &Compressors::default());
    let long = vec![0; 10_001];
    let open = Open::default();
    let refused = pair
        .caller
        .open(&mut pair.down, &open, Some(&long[..]), pair.now);
    assert!(matches!(
        refused,
        Err(Refused::TooLong {
            bytes_max: 10_000,
            ..
        })
    ));
    // One that is announced as too long, and one that comes whole though it should have asked.
    let call = pair.open(UNARY, b"", true);
    pair.down.frames.clear();
    open_large(&mut pair, call, 10_001);
    pair.settle();
    let (_, status, _) = pair.the_end();
    assert_eq!(
        (status.code, status.not_started),
        (Code::ResourceExhausted, true)
    );
    let call = pair.open(UNARY, b"", true);
    pair.down.frames.clear();
    let flags = flag::END | flag::MESSAGE;
    pair.forge(
        Head::new(kind::OPEN, flags, call, UNARY),
        &[0; OPEN_BYTES + 1025],
    );
    pair.settle();
    let (_, status, _) = pair.the_end();
    assert_eq!(
        (status.code, status.not_started),
        (Code::ResourceExhausted, true)
    );
    assert_alive(&mut pair);
}

#[test]
fn a_unary_answer_in_a_data_frame_ends_its_call() {
    let mut pair = Pair::new();
    let call = pair.open(UNARY, b"", true);
    pair.settle();
    pair.forge_up(Head::new(kind::DATA, flag::MESSAGE, call, 0), b"x");
    pair.answer().unwrap();
    assert_eq!(pair.the_end().1.code, Code::Internal);
    pair.settle();
    assert_eq!(pair.cancelled, [(call, CancelReason::ByPeer)]);
}

#[test]
fn a_client_that_may_not_stream_is_not_heard() {
    let mut pair = Pair::new();
    // Without END, as a client that streams would say it.
    let call = pair.open(SERVER_STREAM, b"", true);
    pair.down.frames.clear();
    pair.forge(
        Head::new(kind::OPEN, flag::MESSAGE, call, SERVER_STREAM),
        &[0; OPEN_BYTES],
    );
    pair.forge(Head::new(kind::DATA, flag::MESSAGE, call, 0), b"x");
    pair.settle();
    assert!(pair.opened[0].end);
    assert!(pair.messages.is_empty());
    pair.finish(call, &Status::OK);
    pair.settle();
    assert_eq!(pair.the_end().1.code, Code::Ok);
}

// docs/wire/rpc.md#ids
#[test]
fn frames_of_dead_slots_are_skipped() {
    let mut pair = Pair::new();
    let old = pair.open(BIDI, b"", false);
    pair.settle();
    pair.finish(old, &Status::OK);
    pair.settle();
    pair.ends.clear();
    let new = pair.open(BIDI, b"", false);
    assert_eq!(new.slot(), old.slot());
    pair.settle();
    for head in [
        Head::new(kind::DATA, flag::MESSAGE, old, 0),
        announced(old, 1 << 20, 0),
        Head::new(kind::DATA, flag::END, old, 0),
        Head::new(kind::CREDIT, 0, old, 9),
        Head::new(kind::CREDIT, flag::MORE, old, 9),
        Head::new(kind::CANCEL, 0, old, 0),
        Head::new(kind::CANCEL, 0, CallId::from_wire(500), 0),
    ] {
        pair.forge(head, &[]);
    }
    for head in [
        Head::new(kind::DATA, flag::MESSAGE, old, 0),
        Head::new(kind::CREDIT, 0, old, 9),
        Head::new(kind::END, flag::END, old, 0),
        Head::new(kind::END, flag::END, CallId::from_wire(500), 0),
    ] {
        pair.forge_up(head, &[]);
    }
    pair.settle();
    assert!(pair.messages.is_empty() && pair.ended.is_empty() && pair.cancelled.is_empty());
    assert!(pair.ends.is_empty() && pair.answers.is_empty());
    pair.finish(new, &Status::OK);
    pair.settle();
    assert_eq!(pair.the_end().0, new);
}

// docs/wire/rpc.md#violations
#[test]
fn frames_that_break_the_connection_s_rules_are_told_apart() {
    let call = CallId::from_wire(0);
    let down = |frames: &[(Head, usize)]| {
        let mut pair = Pair::new();
        for (head, len) in frames {
            pair.forge(*head, &vec![0; *len]);
        }
        pair.deliver().unwrap_err()
    };
    let open = Head::new(kind::OPEN, flag::MESSAGE | flag::END, call, UNARY);
    assert_eq!(down(&[(open, 15)]), Violation::BadFrame);
    assert_eq!(down(&[(open, 16), (open, 16)]), Violation::SlotBusy);
    let far = Head::new(kind::OPEN, flag::END, CallId::from_wire(1024), UNARY);
    assert_eq!(down(&[(far, 16)]), Violation::SlotRange);
    let one_way = Head::new(kind::OPEN, flag::ONE_WAY, call, UNARY);
    assert_eq!(down(&[(one_way, 16)]), Violation::BadFrame);
    for wrong_way in [kind::END, kind::BOUND] {
        assert_eq!(
            down(&[(Head::of_connection(wrong_way, 0), 16)]),
            Violation::BadFrame
        );
    }
    assert_eq!(
        down(&[(Head::of_connection(kind::SETTINGS, 0), 32)]),
        Violation::BadSettings
    );
    for (first, len) in [(4, 16), (6, 16), (5, 15), (5, 0), (5, 16 * 4092)] {
        assert_eq!(
            down(&[(Head::of_connection(kind::BIND, first), len)]),
            Violation::BadBind
        );
    }

    let up = |head: Head, len: usize| {
        let mut pair = Pair::new();
        pair.forge_up(head, &vec![0; len]);
        pair.answer().unwrap_err()
    };
    for wrong_way in [kind::OPEN, kind::BIND, kind::CANCEL] {
        assert_eq!(
            up(Head::of_connection(wrong_way, 0), 16),
            Violation::BadFrame
        );
    }
    assert_eq!(
        up(Head::of_connection(kind::SETTINGS, 0), 32),
        Violation::BadSettings
    );
    for (first, len) in [(5, 1), (0, 1), (3, 3)] {
        assert_eq!(
            up(Head::of_connection(kind::BOUND, first), len),
            Violation::BadBind
        );
    }
}

// docs/wire/rpc.md#frame
#[test]
fn an_unknown_kind_is_echoed_and_an_ignorable_one_is_skipped() {
    let mut pair = Pair::new();
    pair.forge(Head::of_connection(0x60, 0), b"news");
    pair.forge(Head::of_connection(0xA0, 0), b"news");
    pair.deliver().unwrap();
    let echo = pair.up.frames.pop_front().unwrap().0;
    assert_eq!((echo.kind, echo.arg()), (kind::NAK, 0x60));
    assert!(pair.up.frames.is_empty());
    pair.forge_up(Head::of_connection(0x61, 0), b"");
    pair.forge_up(echo, b"");
    pair.answer().unwrap();
    let echo = pair.down.frames.pop_front().unwrap().0;
    assert_eq!((echo.kind, echo.arg()), (kind::NAK, 0x61));
    assert_alive(&mut pair);
}

// docs/wire/rpc.md#timeout
#[test]
fn a_deadline_that_has_passed_opens_nothing() {
    let mut pair = Pair::new();
    for past in [pair.now, Instant::ZERO] {
        let open = Open {
            deadline: Some(past),
            ..Open::default()
        };
        let refused = pair
            .caller
            .open(&mut pair.down, &open, Some(&b"x"[..]), pair.now);
        assert!(matches!(refused, Err(Refused::Expired(Some(b"x")))));
    }
    assert!(pair.down.frames.is_empty());
}

// docs/wire/rpc.md#timeout
#[test]
fn both_ends_keep_the_deadline() {
    let mut pair = Pair::new();
    let deadline = pair.now + Duration::from_millis(10);
    let open = Open {
        deadline: Some(deadline),
        ..Open::default()
    };
    let call = pair.open_as(&open, b"x");
    pair.settle();
    let seen = pair.opened[0].deadline.unwrap();
    assert!(seen <= deadline && deadline - seen < Duration::from_micros(1));
    assert!(pair.caller.poll_timeout().unwrap() <= deadline);
    pair.pass(Duration::from_millis(10));
    let (_, status, _) = pair.the_end();
    assert_eq!(
        (status.code, status.not_started),
        (Code::DeadlineExceeded, false)
    );
    assert_eq!(pair.cancelled, [(call, CancelReason::Deadline)]);
    // The client's CANCEL tells the handler nothing new; the slot is taken until the handler is done.
    pair.settle();
    assert_eq!(pair.cancelled.len(), 1);
    assert_eq!((pair.caller.open_calls(), pair.callee.open_calls()), (1, 1));
    pair.reply(call, b"too late");
    pair.settle();
    assert!(pair.ends.is_empty());
    assert_alive(&mut pair);
}

// docs/wire/rpc.md#cancel
#[test]
fn a_cancelled_call_whose_handler_goes_on_holds_its_slot_and_ends_once() {
    let config = CallConfig {
        calls_max: 1,
        ..CallConfig::default()
    };
    let mut pair = Pair::with(config, &Compressors::default());
    let call = pair.open(UNARY, b"x", true);
    pair.settle();
    assert!(pair.caller.cancel(&mut pair.down, call));
    assert!(!pair.caller.cancel(&mut pair.down, call));
    pair.settle();
    assert_eq!(pair.cancelled, [(call, CancelReason::ByPeer)]);
    assert!(!pair.caller.has_slot());
    let full = pair
        .caller
        .open(&mut pair.down, &Open::default(), Some(&b""[..]), pair.now);
    assert!(matches!(full, Err(Refused::Full(_))));
    pair.reply(call, b"done all the same");
    let late = pair
        .callee
        .reply(&mut pair.up, call, &[], &b""[..], pair.now);
    assert!(matches!(late, Err(Refused::Ended(_))));
    pair.settle();
    assert!(pair.ends.is_empty() && pair.caller.has_slot());
    assert_alive(&mut pair);
}

// docs/wire/rpc.md#status
#[test]
fn a_lost_connection_ends_each_call_once_and_says_which_surely_did_not_start() {
    let mut pair = Pair::new();
    let small = pair.open(UNARY, b"x", true);
    let large = pair.open(UNARY, &[0; 200_000], true);
    let stream = pair.open(BIDI, b"x", false);
    let given_up = pair.open(UNARY, b"x", true);
    assert!(pair.caller.cancel(&mut pair.down, given_up));
    let mut cut = pair.caller.handle_closed();
    cut.sort_unstable();
    assert_eq!(cut, [(small, false), (large, true), (stream, false)]);
    assert!(pair.caller.handle_closed().is_empty());
    assert_eq!(pair.caller.open_calls(), 0);

    pair.deliver().unwrap();
    let mut open = pair.callee.handle_closed();
    open.sort_unstable();
    assert_eq!(
        open,
        [small, stream, given_up],
        "the large one was never seen"
    );
}

// docs/wire/rpc.md#end
#[test]
fn a_stream_that_ends_while_its_first_message_is_on_its_way_is_seen_to_end() {
    let mut pair = Pair::new();
    let call = pair.open(CLIENT_STREAM, &[3; 300_000], false);
    pair.caller.end(&mut pair.down, call);
    pair.settle();
    let seen = &pair.opened[0];
    assert_eq!(seen.message.as_ref().unwrap().len(), 300_000);
    assert!(seen.end);
    assert!(pair.messages.is_empty() && pair.ended.is_empty());
}

#[test]
fn priorities_beyond_the_last_count_as_the_last() {
    let mut pair = Pair::new();
    pair.open_as(
        &Open {
            priority: 200,
            ..Open::default()
        },
        b"",
    );
    pair.settle();
    let seen = &pair.opened[0];
    assert_eq!((seen.method, seen.priority), (UNARY, wire::PRIORITY_MAX));
}

// docs/wire/rpc.md#cancel
#[test]
fn a_cancelled_stream_takes_no_more_messages() {
    let mut pair = Pair::new();
    let call = pair.open(SERVER_STREAM, b"", true);
    pair.settle();
    assert!(pair.caller.cancel(&mut pair.down, call));
    pair.settle();
    // It would wait for credit that never comes.
    let refused = pair.callee.send(&mut pair.up, call, &b"x"[..], pair.now);
    assert!(matches!(refused, Err(Refused::Ended(b"x"))));
    pair.finish(call, &Status::OK);
    pair.settle();
    assert_eq!(pair.caller.open_calls(), 0);
}

#[test]
fn only_a_plain_answer_of_an_open_call_takes_the_short_way() {
    let mut pair = Pair::new();
    let call = pair.open(UNARY, b"x", true);
    let plain = Head::new(kind::END, flag::END | flag::MESSAGE, call, 0);
    let other = Head::new(
        kind::END,
        plain.flags,
        CallId::from_wire(call.to_wire() + 1),
        0,
    );
    let others = [
        Head {
            kind: kind::DATA,
            ..plain
        },
        Head {
            flags: plain.flags | flag::COMPRESSED,
            ..plain
        },
        Head {
            flags: flag::END,
            ..plain
        },
        Head { tag: 1, ..plain },
        Head::new(kind::END, plain.flags, call, 5),
        other,
    ];
    for head in others {
        assert_eq!(pair.caller.handle_answer(head, 1), None, "{head:?}");
    }
    assert_eq!(pair.caller.handle_answer(plain, usize::MAX), None);
    assert_eq!(pair.caller.open_calls(), 1);
    assert_eq!(pair.caller.handle_answer(plain, 1), Some(call));
    assert_eq!(pair.caller.open_calls(), 0);
    assert_eq!(pair.caller.handle_answer(plain, 1), None, "it is over");

    let cancelled = pair.open(UNARY, b"x", true);
    pair.caller.cancel(&mut pair.down, cancelled);
    let late = Head::new(kind::END, plain.flags, cancelled, 0);
    assert_eq!(
        pair.caller.handle_answer(late, 1),
        None,
        "nobody waits for it"
    );
}

// docs/wire/rpc.md#pieces
#[test]
fn large_messages_leave_memory_for_the_frames_that_let_them_go_on() {
    let pools = Rc::new(Pools::new(PoolsConfig {
        budget_bytes: 4 << 20,
        ..PoolsConfig::default()
    }));
    let mut pair = Pair::over(pools, CallConfig::default(), &Compressors::default());
    let mut opened = 0;
    let open = Open::default();
    let body = vec![0; 300_000];
    while pair
        .caller
        .open(&mut pair.down, &open, Some(&body[..]), pair.now)
        .is_ok()
    {
        opened += 1;
    }
    assert!(opened > 1);
    pair.deliver().unwrap();
    let budget = pair.pools.budget();
    assert!(budget.used() <= budget.limit() / 4 * 3);
}
