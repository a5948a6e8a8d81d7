//! A claim: room in a connection's batch, to be filled in place.

use core::ops::{Deref, DerefMut};

use crate::counters::Cells;
use crate::hub::Hub;
use crate::send::{Frame, Label, Room, count};

/// Room for one message in the connection's open batch; dereferences to its bytes.
///
/// Fill it and [`commit`](Self::commit); dropping it takes the claim back. The room's first contents are
/// unspecified bytes of this process: write all that you commit.
///
/// No allocation, no system call: the message leaves at the end of the turn, together with all others of its
/// connection.
#[derive(Debug)]
#[must_use = "a claim that is not committed is taken back"]
pub struct Claim<'a> {
    place: Place<'a>,
    len: usize,
    label: Label,
    settled: bool,
}

/// Where the room lies: a frame found once, or (for datagrams) by its token.
#[derive(Debug)]
enum Place<'a> {
    Frame(Frame<'a>, &'a mut Cells),
    Token(&'a mut Hub, Room),
}

impl<'a> Claim<'a> {
    #[inline]
    #[expect(
        clippy::expect_used,
        reason = "the room was claimed a moment ago, on this very hub"
    )]
    pub(crate) fn new(hub: &'a mut Hub, room: Room, label: Label) -> Self {
        let len = room.len;
        let place = if room.framed {
            let (frame, cells) = hub.frame(&room).expect("a fresh room has its frame");
            Place::Frame(frame, cells)
        } else {
            Place::Token(hub, room)
        };
        Self {
            place,
            len,
            label,
            settled: false,
        }
    }

    /// Sets the kind, `0x40` or above; lower ones belong to the transport and are raised to it.
    pub fn kind(mut self, kind: u8) -> Self {
        self.label.kind = kind.max(ringway_proto::kind::MESSAGE_MIN);
        self
    }

    /// Sets the flags of the layer above.
    pub fn flags(mut self, flags: u8) -> Self {
        self.label.flags = flags;
        self
    }

    /// Sets the tag.
    pub fn tag(mut self, tag: u16) -> Self {
        self.label.tag = tag;
        self
    }

    /// Sets the eight bytes for the layer above.
    pub fn word(mut self, word: u64) -> Self {
        self.label.word = word;
        self
    }

    /// Sends the whole room as one message.
    #[inline]
    pub fn commit(self) {
        let len = self.len;
        self.commit_len(len);
    }

    /// Sends the first `len` bytes of the room (all of it, if shorter) as one message.
    #[inline]
    pub fn commit_len(mut self, len: usize) {
        let len = len.min(self.len);
        let committed = match &mut self.place {
            Place::Frame(frame, cells) => {
                count(cells, len);
                frame.commit(len, self.label)
            }
            Place::Token(hub, room) => hub.commit(room, len, self.label),
        };
        debug_assert!(committed, "a borrowed claim is never stale");
        self.settled = true;
    }
}

impl Deref for Claim<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.place {
            Place::Frame(frame, _) => frame.body(),
            Place::Token(hub, room) => hub.body(room),
        }
        .unwrap_or_default()
    }
}

impl DerefMut for Claim<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.place {
            Place::Frame(frame, _) => frame.body_mut(),
            Place::Token(hub, room) => hub.body_mut(room),
        }
        .unwrap_or_default()
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.settled {
            match &mut self.place {
                Place::Frame(frame, _) => frame.abort(),
                Place::Token(hub, room) => hub.abort(room),
            }
        }
    }
}
