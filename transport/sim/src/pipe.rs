//! One direction of a connection: bytes accepted from the writer, on their way, arrived, read.
//!
//! ```text
//! read <= arrived <= accepted            offsets of the stream; the ring holds read..accepted
//! credited <= read                       what the writer knows of the reader
//! accepted - credited <= buffer_bytes    the writer's window: a reader that stops, stops the writer
//! ```
//! Bytes never overtake, as in TCP: what the network does to them below (loss, repair) is a delay here.

use std::time::Duration;

use ringway_buf::Instant;

use crate::ring::ByteRing;
use crate::rng::{Concern, Rng};
use crate::{Span, StreamFaults, StreamLink};

/// Most bytes of one segment, as with segmentation offload.
pub(crate) const SEGMENT_BYTES_MAX: usize = 64 * 1024;
/// Most segments on their way in one direction; a writer waits for the first of them to arrive.
pub(crate) const SEGMENTS_MAX: u32 = 128;

/// Whether a direction still delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Everything arrives.
    Open,
    /// Nothing arrives any more and nobody is told.
    Silent,
    /// A reset is on its way to both ends; nothing behind it arrives.
    Cut,
}

/// How far the writer's end of stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The writer may write.
    Open,
    /// The end is on its way, or lost in a silent direction.
    Sent,
    /// The reader may know.
    Arrived,
}

#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) ring: ByteRing,
    pub(crate) accepted: u64,
    pub(crate) arrived: u64,
    pub(crate) read: u64,
    pub(crate) credited: u64,
    pub(crate) finish: Finish,
    pub(crate) flow: Flow,
    /// Segments on their way.
    pub(crate) segments: u32,
    /// A credit is on its way back.
    pub(crate) credit_planned: bool,
    /// The writer met a full window and wants to know when it opens.
    pub(crate) writer_waits: bool,
    /// Offset from which the direction is silent.
    silent_from: u64,
    busy_until: Instant,
    last_arrival: Instant,
    delay: Rng,
    stall: Rng,
    pub(crate) reset: Rng,
    pub(crate) chunk: Rng,
}

impl Pipe {
    /// `index` is unique among all directions of a run.
    pub(crate) fn new(seed: u64, index: u64, storage: Vec<u8>, faults: &StreamFaults) -> Self {
        let lane = |concern| Rng::split(seed, concern, index);
        let mut silence = lane(Concern::StreamSilence);
        let silent_from = if silence.hits(faults.half_open) {
            silence.between(0, u64::from(faults.half_open_bytes_max))
        } else {
            u64::MAX
        };
        Self {
            ring: ByteRing::with_storage(storage),
            accepted: 0,
            arrived: 0,
            read: 0,
            credited: 0,
            finish: Finish::Open,
            flow: Flow::Open,
            segments: 0,
            credit_planned: false,
            writer_waits: false,
            silent_from,
            busy_until: Instant::ZERO,
            last_arrival: Instant::ZERO,
            delay: lane(Concern::StreamDelay),
            stall: lane(Concern::StreamStall),
            reset: lane(Concern::StreamReset),
            chunk: lane(Concern::StreamChunk),
        }
    }

    /// Bytes that the writer may add now.
    pub(crate) fn room(&self, buffer_bytes: u32) -> usize {
        let window = u64::from(buffer_bytes).saturating_sub(self.accepted - self.credited);
        let segments = SEGMENTS_MAX.saturating_sub(self.segments) as usize;
        usize::try_from(window)
            .unwrap_or(usize::MAX)
            .min(segments * SEGMENT_BYTES_MAX)
    }

    /// Bytes that the reader may take now.
    pub(crate) fn readable(&self) -> usize {
        usize::try_from(self.arrived - self.read).unwrap_or(usize::MAX)
    }

    /// True when all that was written has been read, and no more will come.
    pub(crate) fn is_over(&self) -> bool {
        self.finish == Finish::Arrived && self.arrived == self.read
    }

    /// Puts a segment of `bytes` on its way and says when it arrives. Segments keep their order.
    pub(crate) fn depart(
        &mut self,
        bytes: usize,
        stalled_for: Duration,
        now: Instant,
        link: &StreamLink,
    ) -> Instant {
        self.busy_until = self.busy_until.max(now) + wire_time(bytes, link.bandwidth_bytes_per_s);
        let arrival = self.busy_until + self.delay.duration(link.delay) + stalled_for;
        self.last_arrival = self.last_arrival.max(arrival);
        self.last_arrival
    }

    /// When something without bytes arrives that leaves now and keeps its place.
    pub(crate) fn behind_all(&mut self, now: Instant, link: &StreamLink) -> Instant {
        self.depart(0, Duration::ZERO, now, link)
    }

    /// How long something takes that need not keep its place.
    pub(crate) fn one_way(&mut self, link: &StreamLink) -> Duration {
        self.delay.duration(link.delay)
    }

    /// A time drawn from the generator of delays.
    pub(crate) fn duration(&mut self, span: Span) -> Duration {
        self.delay.duration(span)
    }

    /// The time a segment is held up, if it is.
    pub(crate) fn stall(&mut self, faults: &StreamFaults) -> Option<Duration> {
        self.stall
            .hits(faults.stall)
            .then(|| self.stall.duration(faults.stall_time))
    }

    /// Goes silent when its time has come; true in the moment it does.
    pub(crate) fn falls_silent(&mut self) -> bool {
        let falls = self.flow == Flow::Open && self.accepted >= self.silent_from;
        if falls {
            self.flow = Flow::Silent;
        }
        falls
    }
}

/// Time that `bytes` take to pass a link.
pub(crate) fn wire_time(bytes: usize, bandwidth_bytes_per_s: u64) -> Duration {
    if bandwidth_bytes_per_s == 0 {
        return Duration::ZERO;
    }
    let nanos = (bytes as u64).saturating_mul(1_000_000_000) / bandwidth_bytes_per_s;
    Duration::from_nanos(nanos)
}
