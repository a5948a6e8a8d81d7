//! Large messages: announcements, grants and pieces, and the memory that they leave to others.

use std::rc::Rc;

use ringway_buf::{Pools, PoolsConfig};
use ringway_call::{
    CallConfig, CancelReason, Code, Compressors, Head, Open, Refused, Status, flag, kind,
};

use crate::pair::{CLIENT_STREAM, Pair, SERVER_STREAM, UNARY};
use crate::rules::{announced, assert_alive, open_large};

// docs/wire/rpc.md#pieces
#[test]
fn pieces_that_do_not_fit_their_announcement_end_their_call() {
    let config = CallConfig {
        inline_bytes_max: 1024,
        ..CallConfig::default()
    };
    let piece = |len: usize, more| (vec![5; len], more);
    let wrong = [
        vec![piece(1024, flag::MORE), piece(1024, 0)],
        vec![piece(1024, flag::MORE), piece(974, 0)],
        vec![piece(1000, flag::MORE)],
        vec![piece(2000, 0)],
        vec![piece(0, flag::MORE)],
        vec![piece(0, 0)],
        vec![piece(2016, flag::MORE)],
    ];
    for pieces in wrong {
        let mut pair = Pair::with(config, &Compressors::default());
        let call = pair.open(UNARY, b"", true);
        pair.down.frames.clear();
        open_large(&mut pair, call, 2000 - 1);
        pair.deliver().unwrap();
        for (bytes, more) in &pieces {
            pair.forge(Head::new(kind::DATA, flag::MESSAGE | more, call, 0), bytes);
        }
        pair.settle();
        let (_, status, _) = pair.the_end();
        assert_eq!((status.code, status.not_started), (Code::Internal, true));
        assert!(pair.opened.is_empty());
        assert_alive(&mut pair);
    }
}

#[test]
fn an_announcement_of_what_fits_one_frame_ends_its_call() {
    let mut pair = Pair::new();
    let call = pair.open(CLIENT_STREAM, b"", false);
    pair.forge(announced(call, 0, 0), &[]);
    pair.settle();
    assert_eq!(pair.the_end().1.code, Code::Internal);
    assert_eq!(pair.cancelled, [(call, CancelReason::Broken)]);
    assert_alive(&mut pair);
}

// docs/wire/rpc.md#pieces
#[test]
fn without_memory_a_large_request_is_refused_and_not_started() {
    let pools = Rc::new(Pools::new(PoolsConfig {
        budget_bytes: 1 << 20,
        ..PoolsConfig::default()
    }));
    let budget = pools.budget().clone();
    let mut pair = Pair::over(pools, CallConfig::default(), &Compressors::default());
    let call = pair.open(UNARY, b"", true);
    pair.down.frames.clear();
    open_large(&mut pair, call, 8 << 20);
    pair.settle();
    let (_, status, _) = pair.the_end();
    assert_eq!(
        (status.code, status.not_started),
        (Code::ResourceExhausted, true)
    );
    assert!(budget.used() <= budget.limit());
    assert_alive(&mut pair);
}

#[test]
fn a_quarter_of_the_budget_stays_free_of_large_messages_and_what_waits_for_reuse_is_free() {
    let pools = Rc::new(Pools::new(PoolsConfig {
        budget_bytes: 1200 << 10,
        ..PoolsConfig::default()
    }));
    let mut pair = Pair::over(
        Rc::clone(&pools),
        CallConfig::default(),
        &Compressors::default(),
    );
    let leases: Vec<_> = (0..9).map(|_| pools.lease(64 << 10).unwrap()).collect();
    let open = Open {
        method: UNARY,
        end: true,
        ..Open::default()
    };
    let refused = pair
        .caller
        .open(&mut pair.down, &open, Some(&[7; 300_000][..]), pair.now);
    assert!(matches!(refused, Err(Refused::NoMemory(_))));
    let packed = Open {
        compress: true,
        ..open
    };
    let refused = pair
        .caller
        .open(&mut pair.down, &packed, Some(&[7; 300_000][..]), pair.now);
    assert!(matches!(refused, Err(Refused::NoMemory(_))));
    // Given back they are kept for the next taker, and charged all the same.
    leases.into_iter().for_each(|lease| pools.give(lease));
    assert_eq!(pools.stashed_bytes(), 9 * (64 << 10));
    pair.open_as(&open, &[7; 300_000]);
    assert!(pools.budget().used() <= pools.budget().limit());
}

// docs/wire/rpc.md#end
#[test]
fn a_large_message_of_a_stream_that_the_server_has_ended_goes_nowhere() {
    let mut pair = Pair::new();
    let call = pair.open(CLIENT_STREAM, b"", false);
    pair.settle();
    let body = &[1; 600_000][..];
    pair.caller
        .send(&mut pair.down, call, body, false, false)
        .unwrap();
    pair.deliver().unwrap();
    pair.answer().unwrap();
    // The pieces are on their way; the answer is large too, so that its call is not over at once.
    let used = pair.pools.budget().used();
    pair.reply(call, &[2; 300_000]);
    assert!(
        pair.pools.budget().used() <= used,
        "the message's place is given back"
    );
    pair.settle();
    assert!(pair.messages.is_empty());
    let (_, status, message) = pair.the_end();
    assert_eq!((status.code, message.unwrap().len()), (Code::Ok, 300_000));
    assert_alive(&mut pair);
}

// docs/wire/rpc.md#pieces
#[test]
fn a_large_answer_behind_a_full_queue_is_announced_too() {
    let mut pair = Pair::new();
    let (first, second) = (pair.open(UNARY, b"", true), pair.open(UNARY, b"", true));
    pair.deliver().unwrap();
    pair.up.frames_max = 1;
    pair.forge_up(Head::of_connection(0xC0, 0), b"");
    pair.reply(first, b"small");
    pair.reply(second, &[4; 300_000]);
    pair.up.frames_max = 0;
    pair.settle();
    let ends = core::mem::take(&mut pair.ends);
    assert_eq!(ends[0].2.as_deref(), Some(&b"small"[..]));
    assert_eq!((ends[1].0, ends[1].1.code), (second, Code::Ok));
    assert_eq!(ends[1].2.as_deref(), Some(&[4; 300_000][..]));
    // Longer than the client takes: refused, however full the queue is.
    let (call, other) = (pair.open(UNARY, b"", true), pair.open(UNARY, b"", true));
    pair.deliver().unwrap();
    pair.up.frames_max = 1;
    pair.forge_up(Head::of_connection(0xC0, 0), b"");
    pair.reply(other, b"");
    let long = vec![0; (64 << 20) + 1];
    let refused = pair
        .callee
        .reply(&mut pair.up, call, &[], &long[..], pair.now);
    assert!(matches!(refused, Err(Refused::TooLong { .. })));
}

#[test]
fn a_queue_that_refuses_a_piece_is_not_asked_again_before_it_has_room() {
    let mut pair = Pair::new();
    pair.open(UNARY, &[4; 300_000], true);
    pair.deliver().unwrap();
    pair.down.frames_max = 1;
    pair.forge(Head::of_connection(0xC0, 0), b"");
    pair.answer().unwrap();
    // Who loops while it is wanted would loop for ever.
    assert!(!pair.caller.wants_flush());
    assert!(pair.caller.is_blocked());
    pair.down.frames_max = 0;
    pair.settle();
    assert_eq!(pair.opened[0].message.as_deref(), Some(&[4; 300_000][..]));
}

// docs/wire/rpc.md#cancel
#[test]
fn a_large_answer_to_a_cancelled_call_does_not_wait_for_a_grant() {
    let mut pair = Pair::new();
    let call = pair.open(UNARY, b"", true);
    pair.settle();
    assert!(pair.caller.cancel(&mut pair.down, call));
    pair.settle();
    pair.reply(call, &[1; 300_000]);
    pair.settle();
    assert_eq!((pair.caller.open_calls(), pair.callee.open_calls()), (0, 0));
    // One of a stream that is announced when CANCEL comes.
    let call = pair.open(SERVER_STREAM, b"", true);
    pair.settle();
    let body = &[1; 300_000][..];
    pair.callee
        .send(&mut pair.up, call, body, pair.now)
        .unwrap();
    assert!(pair.caller.cancel(&mut pair.down, call));
    pair.settle();
    pair.finish(call, &Status::OK);
    pair.settle();
    assert_eq!((pair.caller.open_calls(), pair.callee.open_calls()), (0, 0));
}
