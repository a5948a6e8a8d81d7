//! The bytes that `docs/wire/rpc.md` shows are the bytes that the code writes, and its tables are the code's.

use std::rc::Rc;
use std::time::Duration;

use ringway_buf::{Instant, Pools, PoolsConfig};
use ringway_call::{
    Binding, CallConfig, CallId, Callee, CalleeEvent, Caller, Code, Compressors, Key, Kind,
    MethodTable, Open, Status, method_id,
};

use crate::line::{Line, received};

const DOCUMENT: &str = include_str!("../../../../docs/wire/rpc.md");

/// The bytes of the block that starts with a line of three backquotes, `hex` and this name.
fn shown(name: &str) -> Vec<u8> {
    let fence = format!("```hex {name}\n");
    let (_, rest) = DOCUMENT
        .split_once(&fence)
        .unwrap_or_else(|| panic!("no block `{name}`"));
    let (block, _) = rest.split_once("```").unwrap();
    block
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

fn assert_shown(line: &mut Line, name: &str) {
    let bytes = line.bytes();
    assert_eq!(bytes, shown(name), "`{name}` is {bytes:02X?}");
}

struct Pair {
    caller: Caller,
    callee: Callee,
    down: Line,
    up: Line,
}

impl Pair {
    fn new() -> Self {
        let pools = Rc::new(Pools::new(PoolsConfig::default()));
        let binding = Binding {
            method: method_id("kv.Store/Get"),
            schema: 0x0102_0304,
            kind: Kind::Unary,
            codec: 1,
        };
        let (config, none) = (CallConfig::default(), Compressors::default());
        let table = Rc::new(MethodTable::new(&[binding]));
        let mut pair = Self {
            caller: Caller::new(config, Rc::clone(&pools), none.clone()),
            callee: Callee::new(config, table, pools, none),
            down: Line::default(),
            up: Line::default(),
        };
        pair.caller.start(&mut pair.down);
        pair.callee.start(&mut pair.up);
        pair
    }

    /// Delivers what the client has sent; keeps a copy for comparison.
    fn deliver(&mut self) -> Line {
        let now = Instant::ZERO;
        let mut copy = Line::default();
        while let Some((head, body)) = self.down.frames.pop_front() {
            let (callee, up) = (&mut self.callee, &mut self.up);
            received(head, &body, |frame| {
                if let Some(CalleeEvent::Opened(opened)) =
                    callee.handle_frame(up, frame, now).unwrap()
                {
                    callee
                        .reply(up, opened.call, &[], &b"pong"[..], now)
                        .unwrap();
                }
            });
            copy.frames.push_back((head, body));
        }
        copy
    }

    fn answer(&mut self) -> Line {
        let mut copy = Line::default();
        while let Some((head, body)) = self.up.frames.pop_front() {
            received(head, &body, |frame| {
                self.caller
                    .handle_frame(&mut self.down, frame, Instant::ZERO)
                    .map(|_| ())
                    .unwrap();
            });
            copy.frames.push_back((head, body));
        }
        copy
    }
}

// docs/wire/rpc.md#settings, docs/wire/rpc.md#bind, docs/wire/rpc.md#open, docs/wire/rpc.md#pieces
#[test]
fn shown_bytes_are_what_the_code_writes() {
    let now = Instant::ZERO;
    let mut pair = Pair::new();
    assert_shown(&mut pair.deliver(), "settings");
    assert_shown(&mut pair.answer(), "settings");
    let binding = Binding {
        method: method_id("kv.Store/Get"),
        schema: 0x0102_0304,
        kind: Kind::Unary,
        codec: 1,
    };
    assert_eq!(pair.caller.bind(&mut pair.down, &[binding]).unwrap(), 0);
    assert_shown(&mut pair.deliver(), "bind");
    assert_shown(&mut pair.answer(), "bound");

    let open = Open {
        deadline: Some(now + Duration::from_secs(1)),
        priority: 4,
        ..Open::default()
    };
    let ping = Some(&b"ping"[..]);
    pair.caller.open(&mut pair.down, &open, ping, now).unwrap();
    assert_shown(&mut pair.deliver(), "open");
    assert_shown(&mut pair.answer(), "end");

    let mut large = Pair::new();
    large.deliver();
    large.answer();
    large.caller.bind(&mut large.down, &[binding]).unwrap();
    large.deliver();
    large.answer();
    let open = Open {
        priority: 4,
        ..Open::default()
    };
    let body = vec![0; 100_000];
    let call = large
        .caller
        .open(&mut large.down, &open, Some(&body[..]), now);
    let call = call.unwrap();
    assert_shown(&mut large.deliver(), "announce");
    assert_shown(&mut large.answer(), "grant");
    large.down.frames.clear();
    assert!(large.caller.cancel(&mut large.down, call));
    let mut cancel = large.down.bytes();
    // The example is of another call, and for another reason.
    cancel[8..].copy_from_slice(&shown("cancel")[8..]);
    assert_eq!(cancel, shown("cancel"));
}

// docs/wire/rpc.md#status, docs/wire/rpc.md#metadata
#[test]
fn a_refusal_is_read_as_it_is_shown() {
    let bytes = shown("refused");
    let status = Status::of(Code::ResourceExhausted, "no").not_started();
    let id = CallId::from_wire(u32::from_le_bytes(bytes[8..12].try_into().unwrap()));
    assert_eq!((id.slot(), id.generation()), (3, 1));
    let (code, app_code) = (bytes[12], bytes[14]);
    assert_eq!(
        (u16::from(code), u16::from(app_code)),
        (status.code.to_wire(), 0)
    );
    let metadata = ringway_call::Metadata::parse(&bytes[16..]).unwrap();
    assert_eq!(metadata.value(Key::STATUS_MESSAGE), Some(&b"no"[..]));
    assert_eq!(bytes[5] & ringway_call::flag::NOT_STARTED, 0x20);
}

#[test]
fn every_kind_flag_and_key_stands_in_its_table() {
    use ringway_call::{flag, kind};
    let kinds = [
        (kind::SETTINGS, "SETTINGS"),
        (kind::BIND, "BIND"),
        (kind::BOUND, "BOUND"),
        (kind::OPEN, "OPEN"),
        (kind::DATA, "DATA"),
        (kind::END, "END"),
        (kind::CANCEL, "CANCEL"),
        (kind::CREDIT, "CREDIT"),
        (kind::NAK, "NAK"),
    ];
    let flags = [
        (flag::END, "`END`"),
        (flag::MORE, "`MORE`"),
        (flag::COMPRESSED, "`COMPRESSED`"),
        (flag::ONE_WAY, "`ONE_WAY`"),
        (flag::IDEMPOTENT, "`IDEMPOTENT`"),
        (flag::NOT_STARTED, "`NOT_STARTED`"),
        (flag::MESSAGE, "`MESSAGE`"),
    ];
    for (number, name) in kinds.into_iter().chain(flags) {
        let row = format!("| 0x{number:02X} | {name} |");
        assert!(DOCUMENT.contains(&row), "no row `{row}`");
    }
    let keys = [
        Key::STATUS_MESSAGE,
        Key::STATUS_DETAILS,
        Key::TRACEPARENT,
        Key::AUTHORIZATION,
        Key::USER_AGENT,
        Key::TENANT,
        Key::RETRY_AFTER_MS,
        Key::TRACESTATE,
        Key::REQUEST_ID,
    ];
    for key in keys {
        let row = format!("| {} | `{}` |", key.to_wire(), key.name().unwrap());
        assert!(DOCUMENT.contains(&row), "no row `{row}`");
    }
}
