//! Arbitrary frames for a server's machine.
//!
//! Checked: no panic; memory stays within the budget; every call that was opened is ended at most once and, at the end,
//! all are.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_buf::Instant;
use ringway_call::{CalleeEvent, CallId, Head, Status, kind};
use ringway_fuzz::{Copied, Foreign, Line, callee, pools, settings};

fuzz_target!(|frames: Vec<Foreign>| {
    let pools = pools();
    let mut callee = callee(&pools);
    let mut out = Line::default();
    callee.start(&mut out);
    let mut now = Instant::from_nanos(1);
    let mut open: Vec<CallId> = Vec::new();
    let mut broken = callee
        .handle_frame(&mut out, Copied(&settings()).frame(Head::of_connection(kind::SETTINGS, 0)), now)
        .is_err();
    for foreign in frames {
        if broken {
            break;
        }
        now = now + foreign.pause();
        let head = foreign.head();
        out.limit = foreign.room();
        let body = Copied(&foreign.body);
        let handled = match foreign.placed(|head| callee.place(head)) {
            Some(buffer) => callee.handle_placed(&mut out, head, buffer, now),
            None => callee.handle_frame(&mut out, body.frame(head), now),
        };
        match handled {
            Ok(event) => event.into_iter().for_each(|event| note(&mut open, &event)),
            Err(_) => broken = true,
        }
        callee.handle_timeout(&mut out, now);
        while let Some(event) = callee.poll_event() {
            note(&mut open, &event);
        }
        act(&mut callee, &mut out, &mut open, foreign.act(), now);
        callee.flush(&mut out);
        out.frames.clear();
        assert!(pools.budget().used() <= pools.budget().limit());
    }
    let mut cut = callee.handle_closed();
    cut.sort_unstable();
    open.sort_unstable();
    assert_eq!(cut, open, "the application and the machine agree on what is open");
});

/// Keeps the list of calls that are owed an end.
fn note(open: &mut Vec<CallId>, event: &CalleeEvent<'_>) {
    match event {
        CalleeEvent::Opened(opened) if !opened.one_way => {
            assert!(!open.contains(&opened.call), "a call opens once");
            open.push(opened.call);
        }
        CalleeEvent::Cancelled { call, reason } => {
            assert!(open.contains(call), "an unknown call is cancelled");
            if *reason == ringway_call::CancelReason::Broken {
                open.retain(|it| it != call);
            }
        }
        CalleeEvent::Message { call, .. } | CalleeEvent::Ended { call } => {
            assert!(open.contains(call), "a message of an unknown call");
        }
        CalleeEvent::Opened(_) | CalleeEvent::Writable { .. } => {}
    }
}

fn act(
    callee: &mut ringway_call::Callee,
    out: &mut Line,
    open: &mut Vec<CallId>,
    act: u8,
    now: Instant,
) {
    let Some(call) = open.first().copied() else {
        return;
    };
    match act {
        0 => {
            if callee.reply(out, call, &[], &[1; 100][..], now).is_ok() {
                open.retain(|it| *it != call);
            }
        }
        1 => {
            if callee.reply(out, call, &[], &[1; 3000][..], now).is_ok() {
                open.retain(|it| *it != call);
            }
        }
        2 => {
            callee.finish(out, call, &Status::OK, &[], now);
            open.retain(|it| *it != call);
        }
        3 => drop(callee.send(out, call, &[2; 200][..], now)),
        4 => drop(callee.send(out, call, &[2; 5000][..], now)),
        5 => callee.grant(out, call, 300),
        _ => {}
    }
}
