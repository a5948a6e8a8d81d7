//! A connection of an engine, as the call machines see it.

use std::ops::Range;

use ringway_call::{Blocked, Head, Keep, Outlet, Way};
use ringway_engine::{ConnectionId, Context, Header, Message, SendError, Slice};

pub(crate) struct Wire<'a, 'c>(pub(crate) &'a mut Context<'c>, pub(crate) ConnectionId);

fn blocked(error: SendError) -> Blocked {
    match error {
        SendError::Full => Blocked::Full,
        SendError::Closed => Blocked::Closed,
        // The machines keep to what the transport takes.
        other => panic!("the transport refuses a frame: {other}"),
    }
}

impl Outlet for Wire<'_, '_> {
    fn frame(
        &mut self,
        _way: Way,
        head: Head,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Blocked> {
        let mut claim = self.0.claim(self.1, len).map_err(blocked)?;
        fill(&mut claim);
        claim
            .kind(head.kind)
            .flags(head.flags)
            .tag(head.tag)
            .word(head.word)
            .commit();
        Ok(())
    }

    fn slice(&mut self, _way: Way, head: Head, slice: Slice) -> Result<(), (Slice, Blocked)> {
        let header = Header {
            length: 0,
            kind: head.kind,
            flags: head.flags,
            tag: head.tag,
            word: head.word,
        };
        self.0
            .send_slice_as(self.1, header, slice)
            .map_err(|full| (full.message, blocked(full.error)))
    }

    fn queued_bytes(&self) -> usize {
        self.0.queued_bytes(self.1).unwrap_or(0)
    }
}

pub(crate) fn head(header: &Header) -> Head {
    Head {
        kind: header.kind,
        flags: header.flags,
        tag: header.tag,
        word: header.word,
    }
}

pub(crate) struct Kept<'a, 'm>(pub(crate) &'a Message<'m>);

impl Keep for Kept<'_, '_> {
    fn retain(&self, range: Range<usize>) -> Slice {
        self.0.retain().subslice(range).unwrap()
    }
}
