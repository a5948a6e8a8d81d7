//! A claim: room in a connection's batch, to be filled in place.

use core::ops::{Deref, DerefMut};

use ringway_proto::packet::{Delivery, Ways};

use crate::counters::Cells;
use crate::datagram::Way;
use crate::hub::Hub;
use crate::send::{Label, Room, count};
use crate::{ConnectionId, SendError};

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
    room: Room<'a>,
    cells: &'a mut Cells,
    len: usize,
    label: Label,
}

impl<'a> Claim<'a> {
    #[inline]
    pub(crate) fn make(
        hub: &'a mut Hub,
        connection: ConnectionId,
        way: Option<Way>,
        len: usize,
        label: Label,
    ) -> Result<Self, SendError> {
        let (room, cells) = hub.claim(connection, way, len)?;
        Ok(Self {
            room,
            cells,
            len,
            label,
        })
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

    /// Sets how the message travels. Streams and datagrams have one way each and take no notice.
    ///
    /// Over `quic` an unordered message costs a stream of its own, and an unreliable one has to fit a datagram of
    /// its path; a longer one is dropped and counted ([`Counter::Expired`](crate::Counter)). A [lane](Delivery::Lane) has
    /// a stream there, as long as there are some; elsewhere its messages go in order with all others.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.label.delivery = delivery;
        self
    }

    /// Which ways to travel lose nothing on this connection now; `None` where there is only one.
    #[must_use]
    #[inline]
    pub fn ways(&self) -> Option<Ways> {
        match &self.room {
            Room::Frame(frame) => frame.ways(),
            Room::Datagram(_) => None,
        }
    }

    /// Sends the whole room as one message.
    #[inline]
    pub fn commit(self) {
        let len = self.len;
        self.commit_len(len);
    }

    /// Sends the first `len` bytes of the room (all of it, if shorter) as one message.
    #[inline]
    pub fn commit_len(self, len: usize) {
        let len = len.min(self.len);
        count(self.cells, len);
        match self.room {
            Room::Frame(frame) => frame.commit(len, self.label),
            Room::Datagram(datagram) => datagram.commit(len),
        }
    }
}

impl Deref for Claim<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.room {
            Room::Frame(frame) => frame.body(self.len),
            Room::Datagram(datagram) => datagram.body(),
        }
        .unwrap_or_default()
    }
}

impl DerefMut for Claim<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.room {
            Room::Frame(frame) => frame.body_mut(self.len),
            Room::Datagram(datagram) => datagram.body_mut(),
        }
        .unwrap_or_default()
    }
}
