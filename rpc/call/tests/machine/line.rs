//! A line: frames on their way in one direction, laid out as the transport does.

use std::collections::VecDeque;
use std::ops::Range;

use ringway_buf::{Pools, PoolsConfig, Slice};
use ringway_call::{Blocked, CallId, Frame, Head, Keep, Outlet, Way};

/// Frames that were sent and not yet received.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) frames: VecDeque<(Head, Vec<u8>)>,
    /// More frames than these are refused; 0: no limit.
    pub(crate) frames_max: usize,
    pub(crate) is_closed: bool,
    /// How the frames that were sent went, by their kinds, and lanes that were dropped.
    pub(crate) ways: Vec<(u8, Way)>,
    pub(crate) dropped: Vec<CallId>,
}

impl Line {
    fn room(&self) -> Result<(), Blocked> {
        if self.is_closed {
            Err(Blocked::Closed)
        } else if self.frames_max > 0 && self.frames.len() >= self.frames_max {
            Err(Blocked::Full)
        } else {
            Ok(())
        }
    }

    /// Takes all frames as the bytes that a stream carries.
    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (head, body) in self.frames.drain(..) {
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend([head.kind, head.flags]);
            bytes.extend(head.tag.to_le_bytes());
            bytes.extend(head.word.to_le_bytes());
            bytes.extend(&body);
            bytes.resize(bytes.len().next_multiple_of(16), 0);
        }
        bytes
    }
}

impl Outlet for Line {
    fn frame(
        &mut self,
        way: Way,
        head: Head,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Blocked> {
        self.room()?;
        let mut body = vec![0xEE; len];
        fill(&mut body);
        self.ways.push((head.kind, way));
        self.frames.push_back((head, body));
        Ok(())
    }

    fn slice(&mut self, way: Way, head: Head, slice: Slice) -> Result<(), (Slice, Blocked)> {
        match self.room() {
            Ok(()) => {
                self.ways.push((head.kind, way));
                self.frames.push_back((head, slice.bytes().to_vec()));
                Ok(())
            }
            Err(blocked) => Err((slice, blocked)),
        }
    }

    fn drop_lane(&mut self, call: CallId) {
        self.dropped.push(call);
    }

    fn queued_bytes(&self) -> usize {
        self.frames.iter().map(|(_, body)| 16 + body.len()).sum()
    }
}

/// Copies what is kept.
pub(crate) struct Copied<'a>(pub(crate) &'a [u8]);

impl Keep for Copied<'_> {
    fn retain(&self, range: Range<usize>) -> Slice {
        let part = &self.0[range];
        let pools = Pools::new(PoolsConfig::default());
        let mut lease = pools.lease(part.len()).unwrap();
        lease.reset(0);
        lease.append(part.len()).unwrap().copy_from_slice(part);
        lease.freeze()
    }
}

/// Hands a frame to `handle` as it would come from an engine.
pub(crate) fn received<R>(
    head: Head,
    body: &[u8],
    handle: impl for<'a> FnOnce(Frame<'a>) -> R,
) -> R {
    handle(Frame {
        head,
        body,
        keep: &Copied(body),
    })
}
