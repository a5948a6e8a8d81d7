//! Compression: negotiated, per message, and bounded before anything is unpacked.

use std::rc::Rc;

use ringway_buf::{Pools, PoolsConfig};
use ringway_call::{
    CallConfig, CallId, Code, Compressor, Compressors, Corrupt, Head, Open, Outlet, Status, flag,
    kind, wire,
};

use crate::pair::{BIDI, CLIENT_STREAM, Pair, SERVER_STREAM, UNARY};

/// Runs of one byte: its count (u32), the byte.
struct Runs {
    algorithm: u8,
    plain_bytes_max: usize,
}

impl Compressor for Runs {
    fn algorithm(&self) -> u8 {
        self.algorithm
    }

    fn plain_bytes_max(&self, _packed_bytes: usize) -> usize {
        self.plain_bytes_max
    }

    fn compress(&self, plain: &[u8], out: &mut [u8]) -> Option<usize> {
        let mut len = 0;
        for run in plain.chunk_by(|a, b| a == b) {
            let to = out.get_mut(len..len + 5)?;
            to[..4].copy_from_slice(&(run.len() as u32).to_le_bytes());
            to[4] = run[0];
            len += 5;
        }
        Some(len)
    }

    fn decompress(&self, packed: &[u8], out: &mut [u8]) -> Result<usize, Corrupt> {
        let mut len = 0;
        for run in packed.chunks(5) {
            let [a, b, c, d, byte] = run.try_into().map_err(|_odd| Corrupt)?;
            let count = u32::from_le_bytes([a, b, c, d]) as usize;
            out.get_mut(len..len + count).ok_or(Corrupt)?.fill(byte);
            len += count;
        }
        Ok(len)
    }
}

fn runs(algorithm: u8) -> Compressors {
    Compressors::new(vec![Rc::new(Runs {
        algorithm,
        plain_bytes_max: usize::MAX,
    })])
}

fn config() -> CallConfig {
    CallConfig {
        compress: true,
        message_bytes_max: 1 << 20,
        ..CallConfig::default()
    }
}

fn packed(plain: u32, runs: &[(u32, u8)]) -> Vec<u8> {
    let mut out = plain.to_le_bytes().to_vec();
    for (count, byte) in runs {
        out.extend(count.to_le_bytes());
        out.push(*byte);
    }
    out
}

/// A request whose compressed bytes are given.
fn send(pair: &mut Pair, call: CallId, bytes: &[u8]) {
    let mut body = wire::OpenFields::default().to_bytes().to_vec();
    body.extend(bytes);
    let flags = flag::END | flag::MESSAGE | flag::COMPRESSED;
    pair.forge(Head::new(kind::OPEN, flags, call, UNARY), &body);
}

// docs/wire/rpc.md#compression
#[test]
fn messages_are_packed_both_ways_when_both_ends_can() {
    let mut pair = Pair::with(config(), &runs(0));
    let body = vec![7; 900_000];
    let call = pair.open(BIDI, &body, false);
    assert!(pair.down.queued_bytes() < 100, "one frame, and short");
    pair.caller
        .send(&mut pair.down, call, &body[..], true, false)
        .unwrap();
    pair.settle();
    assert_eq!(pair.opened[0].message.as_ref(), Some(&body));
    assert_eq!(pair.messages[0].1, body);
    pair.callee
        .send(&mut pair.up, call, &body[..], pair.now)
        .unwrap();
    assert!(pair.up.queued_bytes() < 100);
    pair.finish(call, &Status::OK);
    pair.settle();
    assert_eq!(pair.answers[0].1, body);
    // What does not become shorter goes as it is.
    let noise: Vec<u8> = (0..4000_u32).map(|at| at as u8).collect();
    pair.open(UNARY, &noise, true);
    assert!(!pair.down.frames[0].0.has(flag::COMPRESSED));
}

// docs/wire/rpc.md#compression
#[test]
fn nothing_is_packed_unless_both_ends_have_the_algorithm() {
    let mut pair = Pair::with(config(), &Compressors::default());
    pair.open(UNARY, &[7; 10_000], true);
    assert!(!pair.down.frames[0].0.has(flag::COMPRESSED));
    pair.settle();
    // And a frame that is packed all the same can't be read.
    let call = pair.open(UNARY, b"", true);
    pair.down.frames.clear();
    send(&mut pair, call, &packed(10, &[(10, 1)]));
    pair.settle();
    let (_, status, _) = pair.the_end();
    assert_eq!((status.code, status.not_started), (Code::Internal, true));
}

// docs/wire/rpc.md#compression
#[test]
fn a_call_can_ask_for_compression() {
    let off = CallConfig {
        compress: false,
        ..config()
    };
    let mut pair = Pair::with(off, &runs(0));
    pair.open(UNARY, &[7; 10_000], true);
    assert!(!pair.down.frames[0].0.has(flag::COMPRESSED));
    pair.settle();
    let open = Open {
        compress: true,
        ..Open::default()
    };
    pair.open_as(&open, &[7; 10_000]);
    assert!(pair.down.frames[0].0.has(flag::COMPRESSED));
    pair.settle();
    assert_eq!(pair.opened[1].message.as_deref(), Some(&[7; 10_000][..]));
}

// docs/wire/rpc.md#compression
#[test]
fn a_bomb_ends_its_call_and_takes_no_memory() {
    // Longer than a message may be; unpacks to more than it says; to less; no packed bytes at all.
    let bombs = [
        (packed(2 << 20, &[(2 << 20, 0)]), Code::ResourceExhausted),
        (packed(u32::MAX, &[(u32::MAX, 0)]), Code::ResourceExhausted),
        (packed(1000, &[(1001, 0)]), Code::Internal),
        (packed(1000, &[(1000, 0), (u32::MAX, 0)]), Code::Internal),
        (packed(1000, &[(999, 0)]), Code::Internal),
        (vec![1, 0], Code::Internal),
        (vec![1, 0, 0, 0, 9], Code::Internal),
    ];
    for (bomb, code) in bombs {
        let mut pair = Pair::with(config(), &runs(0));
        let call = pair.open(UNARY, b"", true);
        pair.down.frames.clear();
        let before = pair.pools.budget().peak();
        send(&mut pair, call, &bomb);
        pair.settle();
        let (_, status, _) = pair.the_end();
        assert_eq!((status.code, status.not_started), (code, true), "{bomb:?}");
        assert!(pair.opened.is_empty());
        assert!(pair.pools.budget().peak() <= before + (64 << 10));
        // An answer is no better.
        let call = pair.open(UNARY, b"", true);
        pair.settle();
        let flags = flag::END | flag::MESSAGE | flag::COMPRESSED;
        pair.forge_up(Head::new(kind::END, flags, call, 0), &bomb);
        pair.answer().unwrap();
        let (_, status, message) = pair.the_end();
        assert_eq!(
            (status.code, status.not_started, message),
            (code, false, None)
        );
    }
}

// docs/wire/rpc.md#compression
#[test]
fn more_than_the_algorithm_can_express_takes_no_memory() {
    let modest = Compressors::new(vec![Rc::new(Runs {
        algorithm: 0,
        plain_bytes_max: 5000,
    })]);
    let mut pair = Pair::with(config(), &modest);
    let before = pair.pools.budget().peak();
    for (plain, code) in [(5000, Code::Ok), (1 << 20, Code::Internal)] {
        let call = pair.open(UNARY, b"", true);
        pair.down.frames.clear();
        send(&mut pair, call, &packed(plain, &[(plain, 0)]));
        pair.settle();
        if code == Code::Ok {
            pair.reply(call, b"");
            pair.settle();
        }
        assert_eq!(pair.the_end().1.code, code);
    }
    assert!(pair.pools.budget().peak() <= before + (64 << 10));
}

// docs/wire/rpc.md#compression
#[test]
fn a_bomb_that_comes_in_pieces_ends_its_call() {
    let small = CallConfig {
        inline_bytes_max: 1024,
        ..config()
    };
    let mut pair = Pair::with(small, &runs(0));
    let call = pair.open(CLIENT_STREAM, b"", false);
    // Thousands of empty runs, then one beyond the end.
    let mut parts = vec![(0, 0); 3000];
    parts.push((1001, 0));
    let bomb = packed(1000, &parts);
    let flags = flag::MESSAGE | flag::MORE | flag::COMPRESSED;
    pair.forge(Head::new(kind::DATA, flags, call, bomb.len() as u32), &[]);
    pair.forge(Head::new(kind::DATA, flag::MESSAGE, call, 0), &bomb);
    pair.settle();
    let (_, status, _) = pair.the_end();
    assert_eq!(status.code, Code::Internal, "{status}");
}

// docs/wire/rpc.md#credit
#[test]
fn a_packed_message_costs_what_it_holds_when_unpacked() {
    let mut pair = Pair::with(config(), &runs(0));
    let call = pair.open(CLIENT_STREAM, b"", false);
    pair.settle();
    // 256 KiB of credit: three messages of 100 KB, however short they travel.
    let body = vec![7; 100_000];
    let mut sent = 0;
    while pair
        .caller
        .send(&mut pair.down, call, &body[..], false, false)
        .is_ok()
    {
        sent += 1;
    }
    assert_eq!(sent, 3);
    pair.settle();
    assert_eq!(pair.messages.len(), 3);
    assert!(pair.messages.iter().all(|it| it.2 == wire::cost(100_000)));
    for (call, _, cost, _) in std::mem::take(&mut pair.messages) {
        pair.callee.grant(&mut pair.up, call, cost);
    }
    pair.settle();
    assert_eq!(pair.writable, [call]);
    // The other way too.
    let call = pair.open(SERVER_STREAM, b"", true);
    pair.settle();
    let mut sent = 0;
    while pair
        .callee
        .send(&mut pair.up, call, &body[..], pair.now)
        .is_ok()
    {
        sent += 1;
    }
    assert_eq!(sent, 3);
    pair.settle();
    assert_eq!(pair.answers.len(), 3);
}

#[test]
fn without_memory_a_message_goes_unpacked() {
    let pools = Rc::new(Pools::new(PoolsConfig {
        budget_bytes: 1 << 20,
        ..PoolsConfig::default()
    }));
    let mut pair = Pair::over(Rc::clone(&pools), config(), &runs(0));
    let mut held = Vec::new();
    while let Some(lease) = pools.lease(1 << 14) {
        held.push(lease);
    }
    let refused = pair.caller.open(
        &mut pair.down,
        &Open::default(),
        Some(&[7; 60_000][..]),
        pair.now,
    );
    assert!(refused.is_err(), "it is handed back, not lost");
    drop(held);
    pair.open(UNARY, &[7; 60_000], true);
    pair.settle();
    assert_eq!(pair.opened[0].message.as_deref(), Some(&[7; 60_000][..]));
}
