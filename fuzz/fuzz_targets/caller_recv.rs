//! Arbitrary frames for a client's machine.
//!
//! Checked: no panic; memory stays within the budget; every call ends exactly once.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_buf::Instant;
use ringway_call::{CallId, CallerEvent, Head, Open, kind};
use ringway_fuzz::{Copied, Foreign, Line, bindings, caller, pools, settings};

fuzz_target!(|frames: Vec<Foreign>| {
    let pools = pools();
    let mut caller = caller(&pools);
    let mut out = Line::default();
    caller.start(&mut out);
    let mut now = Instant::from_nanos(1);
    let head = Head::of_connection(kind::SETTINGS, 0);
    caller
        .handle_frame(&mut out, Copied(&settings()).frame(head), now)
        .expect("good settings");
    caller.bind(&mut out, &bindings()).expect("within the limit");
    let mut open: Vec<CallId> = Vec::new();
    for foreign in frames {
        now = now + foreign.pause();
        out.limit = foreign.room();
        act(&mut caller, &mut out, &mut open, &foreign, now);
        let head = foreign.head();
        let body = Copied(&foreign.body);
        let handled = match foreign.placed(|head| caller.place(head)) {
            Some(buffer) => caller.handle_placed(&mut out, head, buffer, now),
            None => caller.handle_frame(&mut out, body.frame(head), now),
        };
        match handled {
            Ok(event) => event.into_iter().for_each(|event| note(&mut open, &event)),
            Err(_) => break,
        }
        caller.handle_timeout(&mut out, now);
        caller.flush(&mut out);
        while let Some(event) = caller.poll_event() {
            note(&mut open, &event);
        }
        out.frames.clear();
        assert!(pools.budget().used() <= pools.budget().limit());
    }
    while let Some(event) = caller.poll_event() {
        note(&mut open, &event);
    }
    let mut cut: Vec<CallId> = caller.handle_closed().into_iter().map(|(call, _)| call).collect();
    cut.sort_unstable();
    open.sort_unstable();
    assert_eq!(cut, open, "every call ends once");
});

fn note(open: &mut Vec<CallId>, event: &CallerEvent<'_>) {
    match event {
        CallerEvent::Ended { call, .. } => {
            assert!(open.contains(call), "a call ends once");
            open.retain(|it| it != call);
        }
        CallerEvent::Message { call, .. } => assert!(open.contains(call)),
        CallerEvent::Ready | CallerEvent::Bound { .. } | CallerEvent::Writable { .. } => {}
    }
}

fn act(
    caller: &mut ringway_call::Caller,
    out: &mut Line,
    open: &mut Vec<CallId>,
    foreign: &Foreign,
    now: Instant,
) {
    let len = [10, 3000][usize::from(foreign.flags & 1)];
    let body = &[7; 3000][..len];
    let first = open.first().copied();
    match (foreign.act(), first) {
        (0..=2, _) => {
            let request = Open {
                method: u32::from(foreign.slot % 4),
                deadline: (foreign.tag & 1 == 0).then(|| now + std::time::Duration::from_millis(20)),
                end: foreign.tag & 2 == 0,
                ..Open::default()
            };
            if let Ok(call) = caller.open(out, &request, Some(body), now) {
                assert!(!open.contains(&call));
                open.push(call);
            }
        }
        (3, Some(call)) => drop(caller.send(out, call, body, foreign.tag & 1 == 0, false)),
        (4, Some(call)) => {
            if caller.cancel(out, call) {
                open.retain(|it| *it != call);
            }
        }
        (5, Some(call)) => caller.grant(out, call, 300),
        (6, Some(call)) => caller.end(out, call),
        _ => {}
    }
}
