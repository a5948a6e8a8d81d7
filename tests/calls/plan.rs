//! What a run does: numbers drawn from its seed, the plan of each call, bodies that prove themselves.

use std::time::Duration;

use ringway_call::{Binding, CallConfig, Kind, method_id};

use crate::seeds::Random;

/// Longest message.
pub(crate) const MESSAGE_BYTES_MAX: u32 = 400 << 10;

/// Mostly small, sometimes large; in heavy runs mostly large.
fn size(random: &mut Random, heavy: bool) -> usize {
    let top = match random.below(24) {
        0..=12 if heavy => u64::from(MESSAGE_BYTES_MAX) - 16,
        0 => u64::from(MESSAGE_BYTES_MAX) - 16,
        1..=2 => 70_000,
        3..=8 => 5_000,
        _ => 200,
    };
    16 + random.below(top) as usize
}

/// How a handler behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers as soon as it can, in the callback if the call is unary.
    Prompt,
    /// Answers some time later.
    Later,
    /// Answers when the network has healed, or never.
    Stuck,
    /// Like `Later`, and does not care that it was cancelled.
    Stubborn,
    /// Ends the call with an error at once.
    Fails,
}

/// All that is known about a call beforehand; both ends compute it from its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) behaviour: Behaviour,
    /// Messages of the client, and those of the server.
    pub(crate) requests: u32,
    pub(crate) answers: u32,
    pub(crate) request_bytes: usize,
    pub(crate) answer_bytes: usize,
    /// The first request comes with OPEN.
    pub(crate) with_first: bool,
    pub(crate) time: Option<Duration>,
    pub(crate) priority: u8,
    pub(crate) idempotent: bool,
    pub(crate) one_way: bool,
    pub(crate) compress: bool,
    /// The client ends its stream together with the last message, not after it.
    pub(crate) end_with_last: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64, number: u32) -> Self {
        let mut random = Random(seed.rotate_left(17) ^ (u64::from(number) << 32));
        let random = &mut random;
        let heavy = seed.is_multiple_of(5);
        let one_way = random.one_in(12);
        let kind = match random.below(8) {
            _ if one_way => Kind::Unary,
            0..=3 => Kind::Unary,
            4 => Kind::ClientStream,
            5 => Kind::ServerStream,
            _ => Kind::Bidi,
        };
        let behaviour = match random.below(12) {
            0..=4 => Behaviour::Prompt,
            5..=7 => Behaviour::Later,
            8 => Behaviour::Stuck,
            9..=10 => Behaviour::Stubborn,
            _ => Behaviour::Fails,
        };
        let requests = if kind.client_streams() {
            random.below(6) as u32
        } else {
            1
        };
        let answers = if kind.server_streams() {
            random.below(6) as u32
        } else {
            1
        };
        Self {
            kind,
            behaviour,
            requests,
            answers,
            request_bytes: if one_way { 100 } else { size(random, heavy) },
            answer_bytes: size(random, heavy),
            with_first: requests > 0 && (!kind.client_streams() || random.one_in(2)),
            time: random
                .one_in(3)
                .then(|| Duration::from_micros(1 + random.below(400_000))),
            priority: random.below(8) as u8,
            idempotent: random.one_in(3),
            one_way,
            compress: random.one_in(3),
            end_with_last: random.one_in(2),
        }
    }
}

/// The server's methods; the index is the number of the kind.
pub(crate) fn bindings() -> Vec<Binding> {
    let kinds = [
        Kind::Unary,
        Kind::ClientStream,
        Kind::ServerStream,
        Kind::Bidi,
    ];
    kinds
        .map(|kind| Binding {
            method: method_id(&format!("test.Calls/{kind:?}")),
            schema: 1,
            kind,
            codec: 0,
        })
        .to_vec()
}

/// The limits of a run, tiny in many.
pub(crate) fn config(random: &mut Random) -> CallConfig {
    CallConfig {
        calls_max: random.pick(&[2, 8, 64]),
        inline_bytes_max: random.pick(&[1024, 4096, 64 << 10]),
        message_bytes_max: MESSAGE_BYTES_MAX,
        metadata_bytes_max: random.pick(&[256, 16 << 10]),
        stream_credit: random.pick(&[1024, 16 << 10, 256 << 10]),
        one_way_max: random.pick(&[1, 16]),
        compress: random.one_in(4),
        compress_bytes_min: random.pick(&[0, 1024]),
        ..CallConfig::default()
    }
}

/// A body: number and index, filler that depends on them, a sum of all. Half of all calls can be compressed.
pub(crate) fn body(number: u32, index: u32, bytes: usize) -> Vec<u8> {
    let mut body = vec![0; bytes.max(16)];
    let (head, rest) = body.split_at_mut(8);
    head[..4].copy_from_slice(&number.to_le_bytes());
    head[4..].copy_from_slice(&index.to_le_bytes());
    let (filler, sum) = rest.split_at_mut(rest.len() - 8);
    let noisy = number.is_multiple_of(2);
    for (chunk, at) in filler.chunks_mut(8).zip(1_u64..) {
        let at = if noisy { at } else { at / 64 };
        let value = (at ^ u64::from(number)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        chunk.copy_from_slice(&value.to_le_bytes()[..chunk.len()]);
    }
    let total = sum_of(head, filler);
    sum.copy_from_slice(&total.to_le_bytes());
    body
}

/// Number and index of a body that is intact.
pub(crate) fn read(body: &[u8]) -> Option<(u32, u32)> {
    let (head, rest) = body.split_at_checked(8)?;
    let (filler, sum) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
    if sum_of(head, filler).to_le_bytes() != sum {
        return None;
    }
    let (number, index) = head.split_at(4);
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    Some((word(number), word(index)))
}

fn sum_of(head: &[u8], filler: &[u8]) -> u64 {
    let words = head.chunks(8).chain(filler.chunks(8));
    words.fold(filler.len() as u64, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517C_C1B7_2722_0A95)
    })
}
