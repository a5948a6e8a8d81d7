//! A made-up framing (`u32` length, body) over random chunks, modes, pauses and starvation, against an oracle
//! that knows every byte.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use proptest::prelude::*;
use ringway_buf::{Id, Lease, Mode, PoolsConfig, Slice, copies};

use super::*;
use crate::{AcceptFault, Address, CloseCause, DatagramMeta, Incoming};

const HEADER: usize = 4;
/// Bodies above this go to their final place.
const INLINE_MAX: usize = 60 * 1024 - HEADER;
const SLOT_BYTES: usize = 16 * 1024;
const SOCKET: SocketId = SocketId(Id::from_parts(0, 1));

/// Byte `offset` of the stream, in all messages: position-dependent, so that a shift shows.
fn byte_at(offset: usize) -> u8 {
    let mixed = (offset as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    mixed.to_le_bytes()[0]
}

/// The stream of messages with bodies of these sizes.
fn stream(sizes: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for size in sizes {
        bytes.extend_from_slice(&u32::try_from(*size).unwrap().to_le_bytes());
        let from = bytes.len();
        bytes.extend((from..from + size).map(byte_at));
    }
    bytes
}

/// Takes messages out and checks each against the oracle.
struct Receiver<'a> {
    expected: &'a [u8],
    /// Offset of the next byte that has not arrived.
    at: usize,
    messages: usize,
    /// What was asked for last: the next call must bring as much.
    asked: usize,
    paused: bool,
    pauses: VecDeque<bool>,
    retained: VecDeque<(usize, Slice)>,
    retain_every: usize,
    /// Leave the received part of a large body to the inlet instead of copying it.
    lazy_large: bool,
    large_split: bool,
    large_left: usize,
    large_pools: &'a Pools,
    /// Copies that this sink itself made: not the inlet's.
    own_copies: u64,
    /// Bytes that waited unread when the sink paused.
    paused_bytes: u64,
}

impl Receiver<'_> {
    fn check(&mut self, bytes: &[u8]) {
        let expected = &self.expected[self.at..self.at + bytes.len()];
        let wrong = bytes
            .iter()
            .zip(expected)
            .position(|(got, expected)| got != expected);
        assert_eq!(wrong, None, "in {} bytes at {}", bytes.len(), self.at);
        self.at += bytes.len();
    }

    fn pause(&mut self, unread: usize) -> bool {
        let pause = self.pauses.pop_front().unwrap_or(false);
        if pause {
            self.paused = true;
            self.paused_bytes += unread as u64;
        }
        pause
    }

    fn large_lease(&self, size: usize) -> RecvBuffer {
        self.large_pools
            .lease(size)
            .expect("large memory is not what starves here")
            .into_recv()
    }
}

impl Sink for Receiver<'_> {
    fn received(&mut self, _: SocketId, buffer: &mut RecvBuffer) -> Want {
        assert!(!self.paused, "shown bytes though it wanted nothing");
        assert!(!buffer.is_empty(), "called for nothing");
        assert!(
            buffer.len() >= self.asked,
            "{} bytes of {} asked for",
            buffer.len(),
            self.asked
        );
        self.asked = 0;
        loop {
            if self.pause(buffer.len()) {
                return Want::Nothing;
            }
            let Some(header) = buffer.bytes().first_chunk::<HEADER>().copied() else {
                self.asked = if buffer.is_empty() && self.messages.is_multiple_of(2) {
                    0
                } else {
                    HEADER
                };
                return Want::More(self.asked);
            };
            let size = u32::from_le_bytes(header) as usize;
            if size > INLINE_MAX {
                self.check(&header);
                buffer.consume(HEADER);
                let mut place = self.large_lease(size);
                let mut remaining = size;
                if !self.lazy_large {
                    let part = buffer.len().min(size);
                    place.spare_mut()[..part].copy_from_slice(&buffer.bytes()[..part]);
                    self.own_copies += part as u64;
                    place.filled(part);
                    buffer.consume(part);
                    remaining -= part;
                }
                self.large_left = 0;
                if self.large_split && remaining > 1 {
                    self.large_left = remaining / 2;
                    remaining -= self.large_left;
                }
                return Want::Large {
                    buffer: place,
                    remaining,
                };
            }
            if buffer.len() < HEADER + size {
                self.asked = HEADER + size;
                return Want::More(self.asked);
            }
            self.check(&header);
            let body = buffer.bytes()[HEADER..HEADER + size].to_vec();
            if self.retain_every > 0 && self.messages.is_multiple_of(self.retain_every) {
                let slice = buffer.share(HEADER..HEADER + size).unwrap();
                self.retained.push_back((self.at, slice));
                if self.retained.len() > 3 {
                    self.release_one();
                }
            }
            self.check(&body);
            buffer.consume(HEADER + size);
            self.messages += 1;
        }
    }

    fn large(&mut self, _: SocketId, buffer: RecvBuffer) -> Want {
        assert!(!self.paused, "shown bytes though it wanted nothing");
        if self.large_left > 0 {
            return Want::Large {
                buffer,
                remaining: core::mem::take(&mut self.large_left),
            };
        }
        self.check(buffer.bytes());
        self.messages += 1;
        self.asked = 0;
        if self.pause(0) {
            return Want::Nothing;
        }
        self.asked = HEADER;
        Want::More(HEADER)
    }

    fn connected(&mut self, _: SocketId) {}
    fn accepted(&mut self, _: SocketId, _: Incoming, _: Option<Address>) {}
    fn accept_failed(&mut self, _: SocketId, _: AcceptFault) {}
    fn datagrams(&mut self, _: SocketId, _: &mut RecvBuffer, _: DatagramMeta) {}
    fn sent(&mut self, _: SocketId, _: usize) {}
    fn datagram_too_long(&mut self, _: SocketId, _: Option<SocketAddr>, _: usize, _: usize) {}
    fn ended(&mut self, _: SocketId) {}
    fn closed(&mut self, _: SocketId, _: CloseCause) {}
}

impl Receiver<'_> {
    fn release_one(&mut self) {
        if let Some((at, slice)) = self.retained.pop_front() {
            assert_eq!(
                &slice[..],
                &self.expected[at..at + slice.len()],
                "a kept slice changed"
            );
        }
    }
}

/// How the next bytes of the stream come in.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    /// A direct receive of at most this many bytes.
    Direct(usize),
    /// A pooled slot with this many bytes.
    Slot(usize),
    /// The large buffer is lent to an operation that fills at most this many bytes; a slot may come meanwhile.
    Lent(usize),
    /// Memory runs out, or comes back.
    Starve,
}

impl Arrival {
    fn whole(self) -> Self {
        match self {
            Self::Direct(_) => Self::Direct(usize::MAX),
            Self::Slot(_) => Self::Slot(usize::MAX),
            Self::Lent(_) => Self::Lent(usize::MAX),
            Self::Starve => Self::Starve,
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    sizes: Vec<usize>,
    arrivals: Vec<Arrival>,
    pauses: Vec<bool>,
    retain_every: usize,
    lazy_large: bool,
    large_split: bool,
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0_usize..80,
        2 => 0_usize..2_000,
        2 => 4_000_usize..4_200,
        1 => 16_200_usize..16_500,
        1 => 60_000_usize..=INLINE_MAX,
        1 => INLINE_MAX + 1..200_000,
    ]
}

fn chunk() -> impl Strategy<Value = usize> {
    prop_oneof![
        1_usize..8,
        1_usize..300,
        1_usize..5_000,
        Just(SLOT_BYTES),
        Just(usize::MAX)
    ]
}

fn arrival(direct: u32, slot: u32, starve: u32) -> impl Strategy<Value = Arrival> {
    prop_oneof![
        direct => chunk().prop_map(Arrival::Direct),
        slot => chunk().prop_map(Arrival::Slot),
        direct.min(slot) => chunk().prop_map(Arrival::Lent),
        starve => Just(Arrival::Starve),
    ]
}

fn case(direct: u32, slot: u32, starve: u32, pauses: bool) -> impl Strategy<Value = Case> {
    (
        proptest::collection::vec(size(), 1..24),
        proptest::collection::vec(arrival(direct, slot, starve), 1..40),
        proptest::collection::vec(
            proptest::bool::weighted(if pauses { 0.2 } else { 0.0 }),
            0..60,
        ),
        0_usize..4,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(sizes, arrivals, pauses, retain_every, lazy_large, large_split)| Case {
                sizes,
                arrivals,
                pauses,
                retain_every,
                lazy_large,
                large_split,
            },
        )
}

/// The driver of the test: delivers the stream as the case says.
struct Run<'a> {
    pools: &'a Pools,
    inlet: Inlet,
    scratch: Scratch,
    receiver: Receiver<'a>,
    stream: &'a [u8],
    delivered: usize,
    /// Everything the budget has left, while memory is meant to lack.
    hoard: Vec<Lease>,
    starved: u32,
    /// Receives that ended inside a message: the bytes of that message that may be copied.
    straddling: u64,
    bounds: Vec<usize>,
}

impl Run<'_> {
    fn arrive(&mut self, arrival: Arrival) {
        if self.receiver.paused || !self.inlet.backlog.is_empty() {
            // An armed receive may still bring a slot after the pause; then the driver is switched on again.
            if let Arrival::Slot(len) = arrival
                && self.inlet.holds_bytes()
            {
                self.slot(len);
            }
            self.go_on();
            return;
        }
        match arrival {
            Arrival::Direct(len) => self.direct(len),
            Arrival::Slot(len) => self.slot(len),
            Arrival::Lent(len) => self.lent(len),
            Arrival::Starve => self.starve(),
        }
    }

    fn go_on(&mut self) {
        self.receiver.paused = false;
        self.hoard.clear();
        let fed = self.inlet.resume(SOCKET, self.pools, &mut self.receiver);
        self.heed(fed);
    }

    fn heed(&mut self, fed: Fed) {
        assert_eq!(
            fed == Fed::Paused,
            self.receiver.paused,
            "pause is passed on: {fed:?}"
        );
        self.starved += u32::from(fed == Fed::Starved);
        let leftover = self.scratch.buffer.as_ref().map_or(0, RecvBuffer::len);
        assert_eq!(
            leftover, 0,
            "the shared scratch holds nobody's bytes between calls"
        );
    }

    fn next(&mut self, len: usize) -> std::ops::Range<usize> {
        let from = self.delivered;
        self.delivered += len.min(self.stream.len() - from);
        self.cut(self.delivered);
        from..self.delivered
    }

    /// Notes that a receive ended at `offset`: at most this one message has to be carried over.
    fn cut(&mut self, offset: usize) {
        let behind = self.bounds.partition_point(|bound| *bound <= offset);
        if behind > 0 && behind < self.bounds.len() && self.bounds[behind - 1] < offset {
            self.straddling += (self.bounds[behind] - self.bounds[behind - 1]).min(
                // A large body is placed, not carried; what one receive brought of it is copied once.
                INLINE_MAX + HEADER,
            ) as u64;
        }
    }

    fn direct(&mut self, len: usize) {
        let (rest, pools) = (&self.stream[self.delivered..], self.pools);
        let mut wire = &rest[..len.min(rest.len())];
        let offered = wire.len();
        let room = match self.inlet.target(&mut self.scratch, pools) {
            None => {
                self.starved += 1;
                self.hoard.clear();
                return self.slot(len);
            }
            Some(Target::One(room)) => {
                assert!(!room.is_empty(), "room to receive");
                io::Read::read(&mut wire, room).unwrap();
                room.len()
            }
            Some(Target::Two(mut rooms)) => {
                io::Read::read_vectored(&mut wire, &mut rooms).unwrap();
                rooms.iter().map(|room| room.len()).sum()
            }
        };
        let got = offered - wire.len();
        self.next(got);
        let fed = self.inlet.took(
            SOCKET,
            got,
            got == room,
            &mut self.scratch,
            self.pools,
            &mut self.receiver,
        );
        self.heed(fed);
    }

    fn slot(&mut self, len: usize) {
        // The kernel's slots were leased before memory ran out.
        let Some(lease) = self.pools.lease(SLOT_BYTES).or_else(|| {
            self.hoard.clear();
            self.pools.lease(SLOT_BYTES)
        }) else {
            return self.go_on();
        };
        let mut slot = lease.into_recv();
        let range = self.next(len.min(SLOT_BYTES));
        slot.spare_mut()[..range.len()].copy_from_slice(&self.stream[range.clone()]);
        slot.filled(range.len());
        let waiting = self.inlet.backlog.len();
        let (fed, back) = self
            .inlet
            .feed(SOCKET, slot, self.pools, &mut self.receiver);
        assert_eq!(
            back.is_none(),
            self.inlet.backlog.len() > waiting,
            "kept or given back"
        );
        assert!(back.is_none_or(|slot| slot.is_empty()));
        self.heed(fed);
    }

    /// An operation owns the large buffer for a while.
    fn lent(&mut self, len: usize) {
        let Some((mut place, remaining)) = self.inlet.take_large() else {
            return self.slot(len);
        };
        assert!(self.inlet.holds_bytes());
        assert!(self.inlet.target(&mut self.scratch, self.pools).is_none());
        let got = self.next(len.min(remaining));
        place.spare_mut()[..got.len()].copy_from_slice(&self.stream[got.clone()]);
        place.filled(got.len());
        let left = remaining - got.len();
        let behind = self.next(if left == 0 { 100 } else { 0 });
        if !behind.is_empty()
            && let Some(lease) = self.pools.lease(behind.len())
        {
            let mut slot = lease.into_recv();
            slot.spare_mut()[..behind.len()].copy_from_slice(&self.stream[behind.clone()]);
            slot.filled(behind.len());
            let (fed, back) = self
                .inlet
                .feed(SOCKET, slot, self.pools, &mut self.receiver);
            assert!(
                fed == Fed::More && back.is_none(),
                "it waits behind the large message"
            );
        } else {
            self.delivered = behind.start;
        }
        let fed = self
            .inlet
            .large_back(SOCKET, place, left, self.pools, &mut self.receiver);
        self.heed(fed);
    }

    fn starve(&mut self) {
        for bytes in [64 * 1024, SLOT_BYTES, 1] {
            self.hoard
                .extend(core::iter::from_fn(|| self.pools.lease(bytes)));
        }
    }
}

fn check(case: &Case, budget_bytes: usize, bounded_copies: bool) {
    let stream = stream(&case.sizes);
    let pools = Pools::new(PoolsConfig {
        budget_bytes,
        mode: Mode::Poison,
    });
    let large_pools = Pools::new(PoolsConfig::default());
    let mut bounds = vec![0];
    bounds.extend(case.sizes.iter().scan(0, |end, size| {
        *end += HEADER + size;
        Some(*end)
    }));
    let before = copies();
    let mut run = Run {
        pools: &pools,
        inlet: Inlet::default(),
        scratch: Scratch::new(),
        receiver: Receiver {
            expected: &stream,
            at: 0,
            messages: 0,
            asked: 0,
            paused: false,
            pauses: case.pauses.iter().copied().collect(),
            retained: VecDeque::new(),
            retain_every: case.retain_every,
            lazy_large: case.lazy_large,
            large_split: case.large_split,
            large_left: 0,
            large_pools: &large_pools,
            own_copies: 0,
            paused_bytes: 0,
        },
        stream: &stream,
        delivered: 0,
        hoard: Vec::new(),
        starved: 0,
        straddling: 0,
        bounds,
    };
    for turn in 0.. {
        if run.delivered == stream.len() && run.receiver.at == stream.len() {
            break;
        }
        assert!(
            turn < 4_000,
            "no progress at {} of {}: {} delivered, {} in backlog, own {:?}, want {}, large {:?}, used {}",
            run.receiver.at,
            stream.len(),
            run.delivered,
            run.inlet.backlog.len(),
            run.inlet.own.as_ref().map(|own| (own.len(), own.spare())),
            run.inlet.want,
            run.inlet.large.as_ref().map(|large| large.remaining),
            pools.budget().used()
        );
        // Crumbs for the start, whole buffers for the rest: a case is bounded in time as well.
        let arrival = case.arrivals[turn % case.arrivals.len()];
        run.arrive(if turn < 200 { arrival } else { arrival.whole() });
        if run.receiver.retained.len() > 2 && turn % 3 == 0 {
            run.receiver.release_one();
        }
        if case
            .arrivals
            .iter()
            .all(|arrival| matches!(arrival, Arrival::Starve))
        {
            run.arrive(Arrival::Slot(500));
        }
        if turn % 64 == 63 {
            // Slices that hold the last memory are let go in the end.
            while !run.receiver.retained.is_empty() {
                run.receiver.release_one();
            }
        }
    }
    while !run.receiver.retained.is_empty() {
        run.receiver.release_one();
    }
    assert_eq!(run.receiver.messages, case.sizes.len());
    assert!(
        !run.inlet.holds_bytes() || run.receiver.paused,
        "nothing is left behind"
    );
    if bounded_copies {
        let copied = copies().bytes - before.bytes;
        let heads = 2 * HEADER as u64 * case.sizes.len() as u64;
        let bound = run.straddling + heads + run.receiver.paused_bytes + lazy_bytes(case, &run);
        assert!(copied <= bound, "copied {copied} of at most {bound} bytes");
    }
    drop((run.inlet, run.scratch, run.hoard));
    assert_eq!(
        pools.budget().used(),
        pools.stashed_bytes(),
        "nothing leaks"
    );
    assert_eq!(
        large_pools.budget().used(),
        large_pools.stashed_bytes(),
        "nothing leaks"
    );
}

/// What slots brought of large bodies has to be copied to their place, once.
fn lazy_bytes(case: &Case, _: &Run<'_>) -> u64 {
    case.sizes
        .iter()
        .filter(|size| **size > INLINE_MAX)
        .map(|size| *size as u64)
        .sum()
}

const BUDGET_BYTES: usize = 8 << 20;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn direct_receives_bring_every_byte_once(case in case(1, 0, 0, false)) {
        check(&case, BUDGET_BYTES, true);
    }

    #[test]
    fn slots_bring_every_byte_once(case in case(0, 1, 0, false)) {
        check(&case, BUDGET_BYTES, true);
    }

    #[test]
    fn both_modes_mix_with_pauses(case in case(3, 3, 0, true)) {
        check(&case, BUDGET_BYTES, false);
    }

    #[test]
    fn starvation_delays_and_loses_nothing(case in case(3, 3, 2, true)) {
        check(&case, 640 * 1024, false);
    }
}
