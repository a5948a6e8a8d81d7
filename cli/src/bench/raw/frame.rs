//! The same framed bytes as ringway's, read and written by hand: a header of 16 bytes, the body, padding to 16.
//!
//! One contiguous buffer on each side. The receive buffer is parsed in place; a body that is whole is handed
//! over where it arrived. What is left of an unfinished frame moves to the buffer's front when the room behind
//! it is short. For a large body the kernel is asked for its missing bytes and the next header only, so that
//! next to nothing has to move.

use std::io;

use super::super::baseline::Baseline;
use super::super::plan::Plan;

/// Bytes of a header: `length: u32, kind: u8, flags: u8, tag: u16, word: u64`, little endian.
pub(crate) const HEADER_BYTES: usize = 16;
/// Frames are padded to multiples of it.
const FRAME_ALIGN: usize = 16;
/// The kind of a plain message.
const MESSAGE: u8 = 0x40;
/// Smallest amount of room for a receive: a good part of a socket buffer.
pub(crate) const RECV_BYTES: usize = 64 << 10;
/// Where the first frame starts, so that its body lies on a cache line: a copy of 64 KiB to an address 16
/// bytes beside one costs five times as much on AMD.
const START: usize = 64 - HEADER_BYTES;
/// Most bytes of one write; the limit of ringway's batches.
pub(crate) const BATCH_BYTES: usize = 64 << 10;

/// Bytes of a frame with a body of `len` bytes.
pub(crate) const fn frame_bytes(len: usize) -> usize {
    HEADER_BYTES + len.next_multiple_of(FRAME_ALIGN)
}

/// The header of a frame.
fn header(len: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let length = u32::try_from(len).unwrap_or(u32::MAX);
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4] = MESSAGE;
    header
}

/// What stands around a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A header in front, padding behind.
    Stream,
    /// A datagram is a message, behind so many bytes of no meaning.
    Datagram { around: usize },
}

impl Framing {
    /// That of a baseline of this plan.
    pub(crate) fn new(plan: &Plan, baseline: Baseline) -> Self {
        if baseline.is_stream() {
            return Self::Stream;
        }
        let around = plan.around_bytes(baseline);
        Self::Datagram { around }
    }

    /// Bytes in front of a body.
    #[inline(always)]
    const fn front(self) -> usize {
        match self {
            Self::Stream => HEADER_BYTES,
            Self::Datagram { around } => around,
        }
    }
}

/// A receive buffer.
#[derive(Debug)]
pub(crate) struct Inbox {
    framing: Framing,
    bytes: Vec<u8>,
    /// Where the aligned part of `bytes` begins.
    origin: usize,
    head: usize,
    tail: usize,
    body_bytes_max: usize,
    /// For datagrams: size of each but the last.
    segment: usize,
}

impl Inbox {
    /// A buffer for bodies of up to `body_bytes_max`.
    pub(crate) fn new(body_bytes_max: usize, framing: Framing) -> Self {
        let capacity = START + frame_bytes(body_bytes_max).max(RECV_BYTES) + RECV_BYTES;
        let bytes = vec![0; capacity + 64];
        let origin = bytes.as_ptr().align_offset(64).min(63) + START;
        Self {
            framing,
            bytes,
            origin,
            head: origin,
            tail: origin,
            body_bytes_max,
            segment: 0,
        }
    }

    /// Where the next bytes of the stream belong.
    #[inline]
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let (held, missing) = (self.tail - self.head, self.missing());
        if held == 0 {
            (self.head, self.tail) = (self.origin, self.origin);
        } else if self.bytes.len() - self.tail < missing.max(RECV_BYTES / 4) {
            self.bytes.copy_within(self.head..self.tail, self.origin);
            (self.head, self.tail) = (self.origin, self.origin + held);
        }
        let end = if missing > RECV_BYTES {
            self.tail + missing + HEADER_BYTES
        } else {
            self.tail + RECV_BYTES.max(missing)
        };
        let end = end.min(self.bytes.len());
        &mut self.bytes[self.tail..end]
    }

    /// The kernel put `len` bytes into the room.
    #[inline]
    pub(crate) fn filled(&mut self, len: usize) {
        self.tail += len;
    }

    /// The next whole message.
    ///
    /// # Errors
    /// `InvalidData` for a frame that is no message, or longer than agreed.
    #[inline]
    pub(crate) fn next_frame(&mut self) -> io::Result<Option<&[u8]>> {
        let held = &self.bytes[self.head..self.tail];
        let Some(header) = held.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, kind, ..] = *header;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if kind != MESSAGE || len > self.body_bytes_max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if held.len() < frame_bytes(len) {
            return Ok(None);
        }
        let from = self.head + HEADER_BYTES;
        self.head += frame_bytes(len);
        Ok(Some(&self.bytes[from..from + len]))
    }

    /// Room for one receive of datagrams; what was there is gone.
    #[inline]
    pub(crate) fn datagram_room(&mut self) -> &mut [u8] {
        (self.head, self.tail) = (self.origin, self.origin);
        &mut self.bytes[self.origin..self.origin + RECV_BYTES]
    }

    /// The kernel put `len` bytes into the room, datagrams of `segment` bytes each.
    #[inline]
    pub(crate) fn datagrams_filled(&mut self, len: usize, segment: usize) {
        self.tail += len;
        self.segment = segment;
    }

    /// The next datagram.
    #[inline]
    pub(crate) fn next_segment(&mut self) -> Option<&[u8]> {
        let len = self.segment.min(self.tail - self.head);
        if len == 0 {
            return None;
        }
        let from = self.head;
        self.head += len;
        self.bytes[from..from + len].get(self.framing.front()..)
    }

    /// Takes what is left of an unfinished frame, so that the buffer can serve another connection.
    pub(crate) fn unfinished(&mut self) -> &[u8] {
        let rest = &self.bytes[self.head..self.tail];
        self.head = self.tail;
        rest
    }

    /// Puts it back, in front of what comes next.
    pub(crate) fn resume(&mut self, rest: &[u8]) {
        let end = self.origin + rest.len();
        self.bytes[self.origin..end].copy_from_slice(rest);
        (self.head, self.tail) = (self.origin, end);
    }

    /// Bytes that the frame at the head still lacks; 1 when not even its header is there.
    fn missing(&self) -> usize {
        let held = &self.bytes[self.head..self.tail];
        let Some([l0, l1, l2, l3]) = held.first_chunk() else {
            return 1;
        };
        let len = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
        frame_bytes(len.min(self.body_bytes_max))
            .saturating_sub(held.len())
            .max(1)
    }
}

/// Messages on their way out, gathered for one write. Memory is initialised once and reused.
#[derive(Debug)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// End of what is gathered.
    end: usize,
    /// End of what has left.
    sent: usize,
    framing: Framing,
    /// For datagrams: size of each. All that are gathered have one size.
    segment: usize,
}

impl Outbox {
    /// An empty one.
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            bytes: vec![0; 2 * BATCH_BYTES],
            end: 0,
            sent: 0,
            framing,
            segment: 0,
        }
    }

    /// Room for the body of one more message, to be filled in place.
    ///
    /// Inlined whoever else calls it: a loop written by hand for one shape has no call here, and a baseline that
    /// makes one flatters whatever stands beside it.
    #[inline(always)]
    pub(crate) fn claim(&mut self, len: usize) -> &mut [u8] {
        let framed = self.framing == Framing::Stream;
        let from = self.end + self.framing.front();
        let end = from
            + if framed {
                len.next_multiple_of(FRAME_ALIGN)
            } else {
                len
            };
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        if framed {
            self.bytes[self.end..from].copy_from_slice(&header(len));
            if from + len < end {
                self.bytes[from + len..end].fill(0);
            }
        } else {
            let segment = from - self.end + len;
            debug_assert!(
                self.end == 0 || self.segment == segment,
                "one size per burst"
            );
            self.segment = segment;
        }
        self.end = end;
        &mut self.bytes[from..from + len]
    }

    /// Room for a body behind `lead` bytes of fields, which are zero.
    #[inline]
    pub(crate) fn claim_behind(&mut self, lead: usize, len: usize) -> &mut [u8] {
        let (fields, body) = self.claim(lead + len).split_at_mut(lead);
        if !fields.is_empty() {
            fields.fill(0);
        }
        body
    }

    /// One more message with this body.
    #[inline(always)]
    pub(crate) fn push(&mut self, body: &[u8]) {
        self.claim(body.len()).copy_from_slice(body);
    }

    /// The first `end` bytes of the memory once more, as they were gathered before.
    #[inline]
    pub(crate) fn again(&mut self, end: usize) {
        (self.sent, self.end) = (0, end);
    }

    /// Whether a write should come before one more message of `next` bytes.
    #[inline]
    pub(crate) fn is_full(&self, next: usize) -> bool {
        self.end > 0 && self.end + frame_bytes(next) > BATCH_BYTES
    }

    /// Size of each gathered datagram.
    #[inline]
    pub(crate) fn segment(&self) -> usize {
        self.segment
    }

    /// What has not left yet.
    #[inline]
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..self.end]
    }

    /// `len` bytes left.
    #[inline]
    pub(crate) fn left(&mut self, len: usize) {
        self.sent += len;
        if self.sent >= self.end {
            (self.sent, self.end) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bodies of many sizes, some of them larger than a receive.
    fn bodies() -> Vec<Vec<u8>> {
        let sizes = [0, 1, 15, 16, 17, 64, 1000, 4096, 70_000, 200_000, 3, 64];
        let body =
            |size: usize| (0..size).map(move |index| u8::try_from((index + size) % 256).unwrap());
        sizes.into_iter().map(|size| body(size).collect()).collect()
    }

    fn received(stream: &[u8], mut chunk: impl FnMut() -> usize) -> Vec<Vec<u8>> {
        let (mut inbox, mut found, mut at) = (Inbox::new(200_000, Framing::Stream), Vec::new(), 0);
        while at < stream.len() {
            let room = inbox.room();
            assert!(!room.is_empty());
            let len = chunk().clamp(1, room.len()).min(stream.len() - at);
            room[..len].copy_from_slice(&stream[at..at + len]);
            inbox.filled(len);
            at += len;
            while let Some(body) = inbox.next_frame().unwrap() {
                found.push(body.to_vec());
            }
        }
        found
    }

    #[test]
    fn the_header_has_the_bytes_of_the_wire_format() {
        assert_eq!(
            header(0x0102),
            [2, 1, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            [frame_bytes(0), frame_bytes(1), frame_bytes(64)],
            [16, 32, 80]
        );
    }

    #[test]
    fn frames_come_back_whole_however_the_stream_is_cut() {
        let bodies = bodies();
        let mut out = Outbox::new(Framing::Stream);
        bodies.iter().for_each(|body| out.push(body));
        let mut step = 0;
        let cuts: [&mut dyn FnMut() -> usize; 4] =
            [&mut || 1, &mut || 17, &mut || usize::MAX, &mut || {
                step = (step * 31 + 7) % 9973;
                step
            }];
        for cut in cuts {
            assert_eq!(received(out.rest(), cut), bodies);
        }
    }

    #[test]
    fn small_frames_do_not_ask_for_more_than_a_receive_and_large_ones_for_no_more_than_needed() {
        let mut inbox = Inbox::new(1 << 20, Framing::Stream);
        assert_eq!(inbox.room().len(), RECV_BYTES);
        assert_eq!(
            inbox.room().as_ptr().align_offset(64),
            HEADER_BYTES,
            "the body starts a cache line"
        );
        inbox.room()[..HEADER_BYTES].copy_from_slice(&header(1 << 20));
        inbox.filled(HEADER_BYTES);
        assert!(inbox.next_frame().unwrap().is_none());
        assert_eq!(inbox.room().len(), (1 << 20) + HEADER_BYTES);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (at, value) in [(4, 0), (4, 0x41), (3, 1)] {
            let mut inbox = Inbox::new(64, Framing::Stream);
            let mut bytes = header(64);
            bytes[at] = value;
            inbox.room()[..HEADER_BYTES].copy_from_slice(&bytes);
            inbox.filled(HEADER_BYTES);
            assert!(inbox.next_frame().is_err(), "byte {at} = {value}");
        }
    }

    #[test]
    fn an_unfinished_frame_moves_between_buffers() {
        let mut out = Outbox::new(Framing::Stream);
        out.push(b"one message");
        let (mut inbox, bytes) = (Inbox::new(64, Framing::Stream), out.rest());
        inbox.room()[..20].copy_from_slice(&bytes[..20]);
        inbox.filled(20);
        assert!(inbox.next_frame().unwrap().is_none());
        let stash = inbox.unfinished().to_vec();
        assert_eq!(stash, &bytes[..20]);
        inbox.resume(&stash);
        inbox.room()[..12].copy_from_slice(&bytes[20..]);
        inbox.filled(12);
        assert_eq!(inbox.next_frame().unwrap(), Some(&b"one message"[..]));
        assert!(inbox.unfinished().is_empty());
    }

    #[test]
    fn datagrams_have_no_header_and_the_last_may_be_short() {
        let bare = Framing::Datagram { around: 0 };
        let mut out = Outbox::new(bare);
        out.push(b"abcd");
        out.push(b"efgh");
        assert_eq!((out.rest(), out.segment()), (&b"abcdefgh"[..], 4));
        let mut inbox = Inbox::new(64, bare);
        inbox.datagram_room()[..6].copy_from_slice(b"abcdef");
        inbox.datagrams_filled(6, 4);
        assert_eq!(inbox.next_segment(), Some(&b"abcd"[..]));
        assert_eq!(inbox.next_segment(), Some(&b"ef"[..]));
        assert_eq!(inbox.next_segment(), None);
    }

    #[test]
    fn bytes_around_a_datagram_are_sent_and_dropped() {
        let framing = Framing::Datagram { around: 3 };
        let (mut out, mut inbox) = (Outbox::new(framing), Inbox::new(64, framing));
        out.push(b"abcd");
        out.push(b"efgh");
        assert_eq!((out.rest().len(), out.segment()), (14, 7));
        inbox.datagram_room()[..14].copy_from_slice(out.rest());
        inbox.datagrams_filled(14, 7);
        assert_eq!(inbox.next_segment(), Some(&b"abcd"[..]));
        assert_eq!(inbox.next_segment(), Some(&b"efgh"[..]));
        assert_eq!(inbox.next_segment(), None);
    }
}
