//! What each machine does in each state with each event, as a table that is checked in.
//!
//! A failure prints the whole table as it is now; read its differences before you put it into `states.txt`.

use std::fmt::Write as _;
use std::time::Duration;

use ringway_call::{
    CallId, CalleeState, CallerState, Head, Open, Refused, Status, flag, kind, wire,
};

use crate::pair::{BIDI, Pair, UNARY};

const TABLE: &str = include_str!("states.txt");
const LARGE: usize = 100_000;

fn the_call() -> CallId {
    CallId::from_wire(0)
}

fn open_as(pair: &mut Pair, method: u32, bytes: usize) {
    let open = Open {
        method,
        deadline: Some(pair.now + Duration::from_secs(1)),
        ..Open::default()
    };
    assert_eq!(pair.open_as(&open, &vec![1; bytes]), the_call());
}

type Step = (&'static str, fn(&mut Pair) -> Option<String>);

fn refused<B>(done: Result<(), Refused<B>>) -> Option<String> {
    Some(match done {
        Ok(()) => "taken".to_owned(),
        Err(Refused::Full(_)) => "Full".to_owned(),
        Err(Refused::Ended(_)) => "Ended".to_owned(),
        Err(other) => other.to_string(),
    })
}

/// A frame for the server.
fn down(pair: &mut Pair, kind: u8, flags: u8, arg: u32, body: &[u8]) -> Option<String> {
    pair.down.frames.clear();
    pair.forge(Head::new(kind, flags, the_call(), arg), body);
    pair.deliver().err().map(|broken| format!("{broken:?}"))
}

/// A frame for the client.
fn up(pair: &mut Pair, kind: u8, flags: u8, arg: u32, body: &[u8]) -> Option<String> {
    pair.up.frames.clear();
    pair.forge_up(Head::new(kind, flags, the_call(), arg), body);
    pair.answer().err().map(|broken| format!("{broken:?}"))
}

fn large_open() -> [u8; wire::OPEN_FIELDS_BYTES] {
    let fields = wire::OpenFields {
        total_bytes: LARGE as u32,
        ..wire::OpenFields::default()
    };
    fields.to_bytes()
}

const MESSAGE: u8 = flag::MESSAGE;
const ANNOUNCED: u8 = flag::MESSAGE | flag::MORE;

/// A state's name, and how a fresh pair gets there.
type Reach = (&'static str, fn(&mut Pair));

const CALLEE_STATES: [Reach; 7] = [
    ("Free", |_| {}),
    ("Opening", |pair| {
        open_as(pair, BIDI, LARGE);
        pair.deliver().unwrap();
    }),
    ("Open, unary", |pair| {
        open_as(pair, UNARY, 1);
        pair.deliver().unwrap();
    }),
    ("Open, both stream", |pair| {
        open_as(pair, BIDI, 1);
        pair.deliver().unwrap();
    }),
    ("Open, cancelled", |pair| {
        open_as(pair, BIDI, 1);
        pair.caller.cancel(&mut pair.down, the_call());
        pair.deliver().unwrap();
    }),
    ("Ending, no room", |pair| {
        open_as(pair, UNARY, 1);
        pair.deliver().unwrap();
        pair.up.frames_max = 1;
        pair.forge_up(Head::of_connection(0xC0, 0), b"");
        pair.reply(the_call(), b"x");
    }),
    ("Ending, large answer", |pair| {
        open_as(pair, UNARY, 1);
        pair.deliver().unwrap();
        pair.reply(the_call(), &[1; LARGE]);
    }),
];

const CALLEE_EVENTS: [Step; 18] = [
    ("OPEN", |pair| {
        let flags = flag::END | MESSAGE;
        down(pair, kind::OPEN, flags, UNARY, &[0; 16])
    }),
    ("OPEN more", |pair| {
        let flags = flag::END | ANNOUNCED;
        down(pair, kind::OPEN, flags, UNARY, &large_open())
    }),
    ("DATA", |pair| down(pair, kind::DATA, MESSAGE, 0, b"x")),
    ("DATA more", |pair| {
        down(pair, kind::DATA, ANNOUNCED, LARGE as u32, b"")
    }),
    ("DATA, all of it", |pair| {
        down(pair, kind::DATA, MESSAGE, 0, &[1; LARGE])
    }),
    ("DATA end", |pair| down(pair, kind::DATA, flag::END, 0, b"")),
    ("CREDIT", |pair| down(pair, kind::CREDIT, 0, 100, b"")),
    ("CREDIT more", |pair| {
        down(pair, kind::CREDIT, flag::MORE, LARGE as u32, b"")
    }),
    ("CANCEL", |pair| down(pair, kind::CANCEL, 0, 0, b"")),
    ("END", |pair| down(pair, kind::END, flag::END, 0, b"")),
    ("room", |pair| {
        pair.up.frames_max = 0;
        pair.callee.flush(&mut pair.up);
        None
    }),
    ("deadline", |pair| {
        pair.now = pair.now + Duration::from_secs(2);
        pair.callee.handle_timeout(&mut pair.up, pair.now);
        None
    }),
    ("reply", |pair| {
        refused(
            pair.callee
                .reply(&mut pair.up, the_call(), &[], &b"x"[..], pair.now),
        )
    }),
    ("reply, large", |pair| {
        let large = vec![1; LARGE];
        let done = pair
            .callee
            .reply(&mut pair.up, the_call(), &[], &large[..], pair.now);
        refused(done)
    }),
    ("send", |pair| {
        refused(
            pair.callee
                .send(&mut pair.up, the_call(), &b"x"[..], pair.now),
        )
    }),
    ("finish", |pair| {
        pair.finish(the_call(), &Status::OK);
        None
    }),
    ("fail", |pair| {
        let status = Status::of(ringway_call::Code::Aborted, "");
        pair.callee
            .fail(&mut pair.up, the_call(), &status, pair.now);
        None
    }),
    ("closed", |pair| {
        Some(format!("{:?}", pair.callee.handle_closed()))
    }),
];

const CALLER_STATES: [Reach; 6] = [
    ("Free", |_| {}),
    ("Open, unary", |pair| open_as(pair, UNARY, 1)),
    ("Open, both stream", |pair| open_as(pair, BIDI, 1)),
    ("Open, announced", |pair| open_as(pair, BIDI, LARGE)),
    ("Open, answer announced", |pair| {
        open_as(pair, UNARY, 1);
        up(pair, kind::DATA, ANNOUNCED, LARGE as u32, b"");
    }),
    ("Cancelled", |pair| {
        open_as(pair, BIDI, 1);
        pair.caller.cancel(&mut pair.down, the_call());
    }),
];

const CALLER_EVENTS: [Step; 15] = [
    ("END", |pair| up(pair, kind::END, flag::END, 0, b"")),
    ("END with message", |pair| {
        up(pair, kind::END, flag::END | MESSAGE, 0, b"x")
    }),
    ("END not started", |pair| {
        up(pair, kind::END, flag::END | flag::NOT_STARTED, 14, b"")
    }),
    ("DATA", |pair| up(pair, kind::DATA, MESSAGE, 0, b"x")),
    ("DATA more", |pair| {
        up(pair, kind::DATA, ANNOUNCED, LARGE as u32, b"")
    }),
    ("DATA, all of it", |pair| {
        up(pair, kind::DATA, MESSAGE, 0, &[1; LARGE])
    }),
    ("CREDIT", |pair| up(pair, kind::CREDIT, 0, 100, b"")),
    ("CREDIT more", |pair| {
        up(pair, kind::CREDIT, flag::MORE, LARGE as u32, b"")
    }),
    ("CANCEL", |pair| up(pair, kind::CANCEL, 0, 0, b"")),
    ("deadline", |pair| {
        pair.now = pair.now + Duration::from_secs(2);
        pair.caller.handle_timeout(&mut pair.down, pair.now);
        None
    }),
    ("send", |pair| {
        let done = pair
            .caller
            .send(&mut pair.down, the_call(), &b"x"[..], false, false);
        refused(done)
    }),
    ("end", |pair| {
        pair.caller.end(&mut pair.down, the_call());
        None
    }),
    ("cancel", |pair| {
        let was_open = pair.caller.cancel(&mut pair.down, the_call());
        Some(was_open.to_string())
    }),
    ("drain", |pair| {
        pair.caller.handle_drain();
        None
    }),
    ("closed", |pair| {
        Some(format!("{:?}", pair.caller.handle_closed()))
    }),
];

/// Everything that was said since the last time.
fn said(pair: &mut Pair, before: usize, of_server: bool) -> String {
    pair.client_events();
    pair.server_events();
    let mut out = String::new();
    for seen in pair.opened.drain(..) {
        let bytes = seen.message.map_or(0, |it| it.len());
        write!(out, " Opened({bytes} bytes)").unwrap();
    }
    for (_, message, ..) in pair.messages.drain(..) {
        write!(out, " Message({} bytes)", message.len()).unwrap();
    }
    for _ in pair.ended.drain(..) {
        out.push_str(" Ended");
    }
    for (_, reason) in pair.cancelled.drain(..) {
        write!(out, " Cancelled({reason:?})").unwrap();
    }
    for (_, message, _) in pair.answers.drain(..) {
        write!(out, " Message({} bytes)", message.len()).unwrap();
    }
    for (_, status, message) in pair.ends.drain(..) {
        let not_started = if status.not_started {
            ", not started"
        } else {
            ""
        };
        let bytes = message.map_or(String::new(), |it| format!(", {} bytes", it.len()));
        write!(out, " Ended({}{not_started}{bytes})", status.code).unwrap();
    }
    let line = if of_server { &pair.up } else { &pair.down };
    for (head, body) in line.frames.iter().skip(before) {
        let name = match head.kind {
            kind::OPEN => "OPEN",
            kind::DATA => "DATA",
            kind::END => "END",
            kind::CANCEL => "CANCEL",
            kind::CREDIT => "CREDIT",
            _ => "other",
        };
        let more = if head.has(flag::MORE) { " more" } else { "" };
        let arg = head.arg();
        write!(out, " -> {name}{more} {arg} ({} bytes)", body.len()).unwrap();
    }
    out
}

fn table() -> String {
    let mut out = String::new();
    for (name, reach) in CALLEE_STATES {
        writeln!(out, "Callee: {name}").unwrap();
        for (event, act) in CALLEE_EVENTS {
            let mut pair = Pair::new();
            reach(&mut pair);
            said(&mut pair, 0, true);
            let before = pair.up.frames.len();
            let result = act(&mut pair).map_or(String::new(), |it| format!(" [{it}]"));
            let said = said(&mut pair, before, true);
            let state = pair.callee.calls().next().map(|(_, state)| state);
            let state = state.unwrap_or(CalleeState::Free);
            writeln!(out, "  {event:16} {state:?}{result}{said}").unwrap();
        }
    }
    for (name, reach) in CALLER_STATES {
        writeln!(out, "Caller: {name}").unwrap();
        for (event, act) in CALLER_EVENTS {
            let mut pair = Pair::new();
            reach(&mut pair);
            said(&mut pair, 0, false);
            let before = pair.down.frames.len();
            let result = act(&mut pair).map_or(String::new(), |it| format!(" [{it}]"));
            let said = said(&mut pair, before, false);
            let state = pair.caller.calls().next().map(|(_, state)| state);
            let state = state.unwrap_or(CallerState::Free);
            writeln!(out, "  {event:16} {state:?}{result}{said}").unwrap();
        }
    }
    out
}

// docs/wire/rpc.md#violations
#[test]
fn every_state_meets_every_event_as_the_table_says() {
    let table = table();
    let mut differences = String::new();
    for (at, (is, was)) in (1..).zip(table.lines().zip(TABLE.lines())) {
        if is != was {
            write!(differences, "\n{at}: - {was}\n{at}: + {is}").unwrap();
        }
    }
    let same = differences.is_empty() && table.lines().count() == TABLE.lines().count();
    assert!(
        same,
        "the table is now\n{table}\nand differs in{differences}"
    );
}
