//! A claim: room in a connection's batch, to be filled in place.

use core::ops::{Deref, DerefMut};

use crate::hub::Hub;
use crate::send::{Label, Room};

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
    hub: &'a mut Hub,
    room: Room,
    label: Label,
    settled: bool,
}

impl<'a> Claim<'a> {
    pub(crate) fn new(hub: &'a mut Hub, room: Room, label: Label) -> Self {
        Self {
            hub,
            room,
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
        let len = self.room.len;
        self.commit_len(len);
    }

    /// Sends the first `len` bytes of the room (all of it, if shorter) as one message.
    #[inline]
    pub fn commit_len(mut self, len: usize) {
        let committed = self
            .hub
            .commit(&self.room, len.min(self.room.len), self.label);
        debug_assert!(committed, "a borrowed claim is never stale");
        self.settled = true;
    }
}

impl Deref for Claim<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.hub.body(&self.room).unwrap_or_default()
    }
}

impl DerefMut for Claim<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.hub.body_mut(&self.room).unwrap_or_default()
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.hub.abort(&self.room);
        }
    }
}
