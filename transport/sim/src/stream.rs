//! Connections as the network sees them.
//!
//! Above: a driver's stream socket owns one end and reads, writes, finishes or releases it. Below: the clock
//! brings segments, ends of stream, resets and credits. An end outlives neither its owner's release nor needs
//! its peer: events about an end that is gone do nothing.
//!
//! ```text
//! Connecting --answer--> Up --reset--> Broken
//!     '------refusal---> Failed
//! ```

use std::io::IoSliceMut;

use ringway_buf::{Chain, Id};
use ringway_driver::Address;

use crate::clock::Event;
use crate::config::BUFFER_BYTES_MAX;
use crate::errno::ECONNRESET;
use crate::net::Net;
use crate::pipe::{Finish, Flow, Pipe, SEGMENT_BYTES_MAX};
use crate::rng::Rng;
use crate::{Chance, Fault};

/// Rings whose storage is kept for the next connection.
const SPARE_RINGS_MAX: usize = 64;

/// Who owns a socket of the network: a node and its driver's id.
pub(crate) type Owner = (u32, Id);

/// Where a connection stands, seen from one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Connecting,
    Up,
    Failed(i32),
    Broken(i32),
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) owner: Option<Owner>,
    pub(crate) link: Link,
    pub(crate) peer: Id,
    pub(crate) inbound: Pipe,
    pub(crate) local: Option<Address>,
    pub(crate) remote: Option<Address>,
    pub(crate) attempts: u8,
    /// A reset for this end is on its way because its peer is gone.
    pub(crate) doomed: bool,
}

/// What a driver wants to know of its end before it acts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) link: Link,
    pub(crate) readable: usize,
    /// All was read and no more will come.
    pub(crate) over: bool,
}

impl Net {
    /// What the driver of `end` needs to know.
    pub(crate) fn view(&self, end: Id) -> Option<View> {
        let end = self.ends.get(end)?;
        let pipe = &end.inbound;
        Some(View {
            link: end.link,
            readable: pipe.readable(),
            over: pipe.is_over(),
        })
    }

    /// Takes bytes from the front of `chain` (which stays as it is) and says how many; 0 when the window is
    /// closed: the writer then hears when it opens.
    pub(crate) fn write(&mut self, end: Id, chain: &Chain) -> usize {
        let Some(writer) = self.ends.get(end) else {
            return 0;
        };
        if writer.link != Link::Up || chain.is_empty() {
            return 0;
        }
        let peer = writer.peer;
        if self.ends.get(peer).is_none() {
            return self.write_to_nobody(end, chain.bytes());
        }
        let buffer_bytes = self.buffer_bytes();
        let Some(reader) = self.ends.get_mut(peer) else {
            return 0;
        };
        let pipe = &mut reader.inbound;
        let room = pipe.room(buffer_bytes);
        let mut len = chain.bytes().min(room);
        if len < chain.bytes() {
            pipe.writer_waits = true;
        }
        if len == 0 {
            return 0;
        }
        let faults = &self.config.faults.stream;
        if let Some(chunk) = shorter(
            &mut pipe.chunk,
            faults.partial_write,
            faults.chunk_bytes_max,
            len,
        ) {
            len = chunk;
            self.counts.add(Fault::PartialWrite);
        }
        let mut left = len;
        for segment in chain.segments() {
            let bytes = segment.bytes();
            let bytes = &bytes[..bytes.len().min(left)];
            pipe.ring.push(bytes);
            self.trace.bytes(bytes);
            left -= bytes.len();
            if left == 0 {
                break;
            }
        }
        while left < len {
            let bytes = (len - left).min(SEGMENT_BYTES_MAX);
            self.send_segment(end, peer, bytes);
            left += bytes;
        }
        len
    }

    /// Takes arrived bytes into `near`, then `far`; may take fewer than there are.
    pub(crate) fn read(&mut self, end: Id, room: &mut [IoSliceMut<'_>]) -> usize {
        let faults = self.config.faults.stream;
        let Some(reader) = self.ends.get_mut(end) else {
            return 0;
        };
        let pipe = &mut reader.inbound;
        let mut len = pipe
            .readable()
            .min(room.iter().map(|part| part.len()).sum());
        if let Some(chunk) = shorter(
            &mut pipe.chunk,
            faults.partial_read,
            faults.chunk_bytes_max,
            len,
        ) {
            len = chunk;
            self.counts.add(Fault::PartialRead);
        }
        let mut left = len;
        for part in room {
            let want = part.len().min(left);
            left -= pipe.ring.pop(&mut part[..want]);
        }
        pipe.read += len as u64;
        self.trace.words([end.to_bits(), len as u64]);
        self.plan_credit(end);
        len
    }

    /// Reads all that arrived and forgets it.
    pub(crate) fn read_and_discard(&mut self, end: Id) {
        let Some(reader) = self.ends.get_mut(end) else {
            return;
        };
        let pipe = &mut reader.inbound;
        pipe.ring.skip(pipe.readable());
        pipe.read = pipe.arrived;
        self.plan_credit(end);
    }

    /// Ends the direction in which `end` writes.
    pub(crate) fn finish(&mut self, end: Id) {
        let Some(peer) = self.ends.get(end).map(|end| end.peer) else {
            return;
        };
        let now = self.clock.now();
        let Some(reader) = self.ends.get_mut(peer) else {
            return;
        };
        let pipe = &mut reader.inbound;
        if pipe.finish != Finish::Open {
            return;
        }
        pipe.finish = Finish::Sent;
        if pipe.falls_silent() {
            self.counts.add(Fault::HalfOpen);
        }
        if pipe.flow == Flow::Open {
            let at = pipe.behind_all(now, &self.config.stream);
            self.clock.plan(at, Event::Fin { end: peer });
        }
    }

    /// Gives an end up. With `reset` its peer learns that the connection broke, unless that way is silent.
    pub(crate) fn release(&mut self, end: Id, reset: bool) {
        let Some(mut gone) = self.ends.remove(end) else {
            return;
        };
        self.trace.words([end.to_bits(), u64::from(reset)]);
        if self.spare_rings.len() < SPARE_RINGS_MAX {
            self.spare_rings.push(gone.inbound.ring.take_storage());
        }
        if !reset || matches!(gone.link, Link::Failed(_) | Link::Broken(_)) {
            return;
        }
        let now = self.clock.now();
        let Some(peer) = self.ends.get_mut(gone.peer) else {
            return;
        };
        let pipe = &mut peer.inbound;
        if pipe.falls_silent() {
            self.counts.add(Fault::HalfOpen);
        }
        if pipe.flow == Flow::Silent {
            return;
        }
        // A reset comes behind the bytes that were sent before it, or kills them: TCP knows both.
        let link = &self.config.stream;
        let ordered = pipe.reset.hits(Chance::percent(50));
        let at = if ordered {
            pipe.behind_all(now, link)
        } else {
            now + pipe.one_way(link)
        };
        self.clock.plan(at, Event::Reset { end: gone.peer });
    }

    pub(crate) fn on_segment(&mut self, reader: Id, upto: u64) {
        let buffer_bytes = self.buffer_bytes();
        let Some(end) = self.ends.get_mut(reader) else {
            return;
        };
        let pipe = &mut end.inbound;
        pipe.segments -= 1;
        // A reset that overtook the segment has killed it.
        if matches!(end.link, Link::Broken(_)) {
            return;
        }
        // In release builds too: a simulator that reorders a stream would blame the engine for it.
        assert!(upto >= pipe.arrived, "segments keep their order");
        pipe.arrived = upto;
        let peer = end.peer;
        let opened = pipe.writer_waits && pipe.room(buffer_bytes) > 0;
        if opened {
            pipe.writer_waits = false;
        }
        self.mark_end(reader);
        if opened {
            self.mark_end(peer);
        }
    }

    pub(crate) fn on_fin(&mut self, reader: Id) {
        let Some(end) = self.ends.get_mut(reader) else {
            return;
        };
        end.inbound.finish = Finish::Arrived;
        self.mark_end(reader);
    }

    pub(crate) fn on_reset(&mut self, reader: Id) {
        let Some(end) = self.ends.get_mut(reader) else {
            return;
        };
        if !matches!(end.link, Link::Connecting | Link::Up) {
            return;
        }
        end.link = Link::Broken(ECONNRESET);
        // What arrived before may still be read, or is lost: systems and drivers differ.
        let pipe = &mut end.inbound;
        if pipe.reset.hits(Chance::percent(50)) {
            pipe.ring.skip(pipe.readable());
            pipe.read = pipe.arrived;
        }
        self.mark_end(reader);
    }

    pub(crate) fn on_credit(&mut self, reader: Id) {
        let buffer_bytes = self.buffer_bytes();
        let Some(end) = self.ends.get(reader) else {
            return;
        };
        let writer = end.peer;
        let heard = self
            .ends
            .get(writer)
            .is_some_and(|end| end.inbound.flow != Flow::Silent);
        let Some(end) = self.ends.get_mut(reader) else {
            return;
        };
        let pipe = &mut end.inbound;
        pipe.credit_planned = false;
        if heard {
            pipe.credited = pipe.read;
            if pipe.writer_waits && pipe.room(buffer_bytes) > 0 {
                pipe.writer_waits = false;
                self.mark_end(writer);
            }
        }
    }

    /// Tells the owner of an end that there is news.
    pub(crate) fn mark_end(&mut self, end: Id) {
        if let Some(owner) = self.ends.get(end).and_then(|end| end.owner) {
            self.mark(owner);
        }
    }

    /// The peer is gone: the system takes the bytes and answers with a reset, if answers come through.
    fn write_to_nobody(&mut self, end: Id, len: usize) -> usize {
        let now = self.clock.now();
        let Some(writer) = self.ends.get_mut(end) else {
            return 0;
        };
        if writer.inbound.flow == Flow::Silent {
            return 0;
        }
        if !writer.doomed {
            writer.doomed = true;
            let link = &self.config.stream;
            let at = now + writer.inbound.one_way(link) + writer.inbound.one_way(link);
            self.clock.plan(at, Event::Reset { end });
        }
        len
    }

    /// Puts `bytes`, which the ring holds already, on their way.
    fn send_segment(&mut self, writer: Id, reader: Id, bytes: usize) {
        let now = self.clock.now();
        let Self {
            ends,
            clock,
            config,
            counts,
            ..
        } = self;
        let Some(end) = ends.get_mut(reader) else {
            return;
        };
        let pipe = &mut end.inbound;
        pipe.accepted += bytes as u64;
        if pipe.falls_silent() {
            counts.add(Fault::HalfOpen);
        }
        if pipe.flow != Flow::Open {
            return;
        }
        let stalled = pipe.stall(&config.faults.stream);
        if stalled.is_some() {
            counts.add(Fault::Stall);
        }
        let at = pipe.depart(bytes, stalled.unwrap_or_default(), now, &config.stream);
        if pipe.reset.hits(config.faults.stream.reset) {
            counts.add(Fault::Reset);
            pipe.flow = Flow::Cut;
            clock.plan(at, Event::Reset { end: reader });
            if ends
                .get(writer)
                .is_some_and(|end| end.inbound.flow != Flow::Silent)
            {
                clock.plan(at, Event::Reset { end: writer });
            }
            return;
        }
        pipe.segments += 1;
        clock.plan(
            at,
            Event::Segment {
                end: reader,
                upto: pipe.accepted,
            },
        );
    }

    /// Tells the writer what was read, a quarter of the buffer at a time.
    ///
    /// A writer that waits has filled the buffer, so a reader that reads on comes to tell it.
    fn plan_credit(&mut self, reader: Id) {
        let quarter = u64::from(self.buffer_bytes() / 4).max(1);
        let now = self.clock.now();
        let Some(end) = self.ends.get_mut(reader) else {
            return;
        };
        let pipe = &mut end.inbound;
        let due = pipe.read - pipe.credited >= quarter;
        if due && !pipe.credit_planned && end.link == Link::Up {
            pipe.credit_planned = true;
            let at = now + pipe.one_way(&self.config.stream);
            self.clock.plan(at, Event::Credit { end: reader });
        }
    }

    fn buffer_bytes(&self) -> u32 {
        self.config.stream.buffer_bytes.clamp(1, BUFFER_BYTES_MAX)
    }
}

/// The length of a partial read or write, if this one is to be partial.
fn shorter(chunk: &mut Rng, chance: Chance, bytes_max: u32, len: usize) -> Option<usize> {
    if len == 0 || !chunk.hits(chance) {
        return None;
    }
    Some(chunk.len(bytes_max as usize)).filter(|short| *short < len)
}
