//! Floods are cut, honest load is not, however much of it is cancelled.

use std::time::Duration;

use ringway_call::{CallConfig, Compressors, Head, Open, Status, Violation, flag, kind, wire};

use crate::pair::{BIDI, CLIENT_STREAM, MISSING, Pair, UNARY};

const FOREVER: u32 = 200_000;

/// Delivers what `attack` puts on the client's line until the server cuts it.
fn cut_after(mut attack: impl FnMut(&mut Pair, u32)) -> Option<u32> {
    let mut pair = Pair::new();
    for round in 0..FOREVER {
        attack(&mut pair, round);
        match pair.deliver() {
            Ok(()) => {}
            Err(violation) => {
                assert_eq!(violation, Violation::Flood);
                return Some(round);
            }
        }
        pair.up.frames.clear();
        pair.opened.clear();
        pair.cancelled.clear();
    }
    None
}

fn dead() -> ringway_call::CallId {
    ringway_call::CallId::from_wire(900)
}

// docs/wire/rpc.md#floods
#[test]
fn each_useless_frame_is_cut_behind_its_burst() {
    let useless = [
        Head::new(kind::CANCEL, 0, dead(), 0),
        Head::new(kind::CREDIT, 0, dead(), 16),
        Head::new(kind::CREDIT, flag::MORE, dead(), 16),
        Head::new(kind::DATA, flag::MESSAGE, dead(), 0),
        Head::of_connection(kind::NAK, 0),
        Head::of_connection(0x70, 0),
        Head::of_connection(0xC0, 0),
    ];
    for head in useless {
        let cut = cut_after(|pair, _| pair.forge(head, &[]));
        let cut = cut.unwrap_or_else(|| panic!("{head:?} is never cut"));
        assert!((10_000..30_000).contains(&cut), "{head:?} after {cut}");
    }
}

// docs/wire/rpc.md#floods
#[test]
fn useless_frames_of_a_living_call_are_cut_too() {
    let useless = [
        (kind::CREDIT, 0, 0),
        (kind::CREDIT, flag::MORE, 9),
        (kind::DATA, 0, 0),
    ];
    for (kind, flags, arg) in useless {
        let mut call = None;
        let cut = cut_after(|pair, _| {
            let call = *call.get_or_insert_with(|| pair.open(BIDI, b"", false));
            pair.forge(Head::new(kind, flags, call, arg), &[]);
        });
        assert!(cut.is_some(), "kind {kind:#x} flags {flags:#x}");
    }
    let mut call = None;
    let cut = cut_after(|pair, _| {
        let call = *call.get_or_insert_with(|| pair.open(UNARY, b"", true));
        pair.forge(Head::new(kind::CANCEL, 0, call, 0), &[]);
    });
    assert!(cut.is_some(), "CANCEL again and again");
}

// docs/wire/rpc.md#floods
#[test]
fn a_storm_of_announcements_and_cancels_is_cut() {
    let fields = wire::OpenFields {
        total_bytes: 1 << 20,
        ..wire::OpenFields::default()
    };
    let cut = cut_after(|pair, _| {
        let flags = flag::END | flag::MESSAGE | flag::MORE;
        pair.forge(
            Head::new(kind::OPEN, flags, dead(), UNARY),
            &fields.to_bytes(),
        );
        pair.forge(Head::new(kind::CANCEL, 0, dead(), 0), &[]);
    });
    assert!(cut.is_some());
}

// docs/wire/rpc.md#floods
#[test]
fn a_storm_of_calls_to_nowhere_is_cut() {
    let cut = cut_after(|pair, _| {
        let flags = flag::END | flag::MESSAGE;
        pair.forge(Head::new(kind::OPEN, flags, dead(), MISSING), &[0; 16]);
    });
    assert!(cut.is_some());
}

// docs/wire/rpc.md#ids
#[test]
fn opening_and_cancelling_in_haste_starts_no_more_handlers_than_slots() {
    let config = CallConfig {
        calls_max: 10,
        ..CallConfig::default()
    };
    let mut pair = Pair::with(config, &Compressors::default());
    let mut slots = 0..;
    let broken = loop {
        let call = ringway_call::CallId::from_wire(slots.next().unwrap());
        pair.forge(Head::new(kind::OPEN, flag::END, call, UNARY), &[0; 16]);
        pair.forge(Head::new(kind::CANCEL, 0, call, 0), &[]);
        if let Err(violation) = pair.deliver() {
            break violation;
        }
    };
    assert_eq!(broken, Violation::SlotRange);
    assert_eq!(pair.opened.len(), 10);
}

// docs/wire/rpc.md#floods
#[test]
fn honest_load_that_is_all_cancelled_is_never_cut() {
    let mut pair = Pair::new();
    for round in 0..100_000_u32 {
        let call = pair.open(UNARY, b"x", true);
        pair.deliver().unwrap();
        // Cancelled before, while and after it is answered, at a rate far above that of the bucket.
        match round % 3 {
            0 => {
                assert!(pair.caller.cancel(&mut pair.down, call));
                pair.deliver().unwrap();
                pair.finish(call, &Status::OK);
            }
            1 => {
                pair.reply(call, b"y");
                assert!(pair.caller.cancel(&mut pair.down, call));
                pair.deliver().unwrap();
            }
            _ => {
                assert!(pair.caller.cancel(&mut pair.down, call));
                pair.reply(call, b"y");
                pair.deliver().unwrap();
            }
        }
        pair.answer().unwrap();
        pair.opened.clear();
        pair.cancelled.clear();
        pair.now = pair.now + Duration::from_nanos(500);
    }
    assert_eq!((pair.caller.open_calls(), pair.callee.open_calls()), (0, 0));
}

// docs/wire/rpc.md#floods
#[test]
fn streams_that_the_server_ends_early_are_never_cut_for_what_was_on_its_way() {
    let mut pair = Pair::new();
    for _ in 0..1000 {
        let call = pair.open(CLIENT_STREAM, b"", false);
        pair.deliver().unwrap();
        let mut sent = 0;
        while pair
            .caller
            .send(&mut pair.down, call, &[][..], false, false)
            .is_ok()
        {
            sent += 1;
        }
        assert_eq!(sent, 16_384, "all that the credit allows");
        pair.caller.end(&mut pair.down, call);
        pair.reply(call, b"enough");
        pair.settle();
        assert!(pair.ends.pop().unwrap().1.is_ok());
        if pair.opened.len() == 20 {
            return;
        }
    }
}

// docs/wire/rpc.md#floods
#[test]
fn a_client_that_cancels_is_not_offended_by_what_was_on_its_way() {
    let mut pair = Pair::new();
    for _ in 0..20 {
        let call = pair.open(BIDI, b"", false);
        pair.settle();
        while pair
            .callee
            .send(&mut pair.up, call, &[][..], pair.now)
            .is_ok()
        {}
        assert!(pair.caller.cancel(&mut pair.down, call));
        pair.answer().unwrap();
        pair.deliver().unwrap();
        pair.finish(call, &Status::OK);
        pair.answer().unwrap();
    }
    // A server that goes on and on for a call that was given up is cut.
    let call = pair.open(BIDI, b"", false);
    pair.settle();
    assert!(pair.caller.cancel(&mut pair.down, call));
    let broken = loop {
        pair.forge_up(Head::new(kind::DATA, flag::MESSAGE, call, 0), &[0; 1000]);
        if let Err(violation) = pair.answer() {
            break violation;
        }
    };
    assert_eq!(broken, Violation::Flood);
}

// docs/wire/rpc.md#one-way
#[test]
fn one_way_calls_beyond_the_limit_are_dropped_and_no_flood() {
    let config = CallConfig {
        one_way_max: 5,
        ..CallConfig::default()
    };
    let mut pair = Pair::with(config, &Compressors::default());
    let open = Open {
        one_way: true,
        ..Open::default()
    };
    for _ in 0..50_000 {
        pair.open_as(&open, b"x");
        pair.deliver().unwrap();
    }
    assert_eq!(pair.opened.len(), 5);
    assert_eq!(pair.callee.dropped_one_way(), 49_995);
    assert!(pair.up.frames.is_empty());
    let call = pair.opened[0].call;
    pair.reply(call, b"nobody hears it");
    pair.open_as(&open, b"x");
    pair.deliver().unwrap();
    assert_eq!(pair.opened.len(), 6);
}

// docs/wire/rpc.md#pieces
#[test]
fn a_peer_that_never_reads_is_owed_a_bounded_number_of_frames() {
    let mut pair = Pair::new();
    pair.up.frames_max = 1;
    let call = pair.open(CLIENT_STREAM, b"", false);
    pair.deliver().unwrap();
    // Announced as long as may be, to be granted and never to be read.
    let inline = CallConfig::default().inline_bytes_max;
    let mut granted = 0;
    loop {
        let total = inline + 16;
        let more = flag::MESSAGE | flag::MORE;
        pair.forge(Head::new(kind::DATA, more, call, total), &[]);
        pair.forge(
            Head::new(kind::DATA, flag::MESSAGE, call, 0),
            &vec![0; total as usize],
        );
        pair.deliver().unwrap();
        if pair.messages.len() == granted {
            break;
        }
        granted += 1;
    }
    assert!(granted <= 5, "{granted} grants wait for one stream");
}
