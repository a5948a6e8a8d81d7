//! A received message, borrowed from the buffer it arrived in.

use std::net::{IpAddr, SocketAddr};

use ringway_buf::{RecvBuffer, Slice};
use ringway_proto::Header;

use crate::ConnectionId;

/// A message as the handler sees it: borrowed, in place, valid during the callback.
#[derive(Debug)]
pub struct Message<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) header: Header,
    pub(crate) buffer: &'a RecvBuffer,
    /// Where the body starts in the buffer's content.
    pub(crate) offset: usize,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<IpAddr>,
    pub(crate) ecn: u8,
}

impl<'a> Message<'a> {
    /// The connection it arrived on; for datagrams the socket.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The bytes of the message, in place: no copy was made for it unless it straddled two receive slots.
    #[must_use]
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        let end = self.offset + self.header.length as usize;
        self.buffer
            .bytes()
            .get(self.offset..end)
            .unwrap_or_default()
    }

    /// Kind of the message, `0x40` or above; [`kind::MESSAGE`](ringway_proto::kind::MESSAGE) unless the
    /// sender said otherwise. Not carried by plain datagrams.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.header.kind
    }

    /// Kind, flags, tag, word and length in one.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// Flags of the layer above.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.header.flags
    }

    /// A number that the sender chose. Not carried by plain datagrams.
    #[must_use]
    pub fn tag(&self) -> u16 {
        self.header.tag
    }

    /// Eight bytes that the sender chose, for the layer above. Not carried by plain datagrams.
    #[must_use]
    pub fn word(&self) -> u64 {
        self.header.word
    }

    /// Who sent this datagram; `None` on streams.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Which of our addresses this datagram was sent to, where its socket is bound to all of them. An answer by
    /// [`claim_reply`](crate::Context::claim_reply) leaves from there.
    #[must_use]
    pub fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// ECN bits of the datagram's IP header (3 = congestion experienced); 0 on streams.
    #[must_use]
    pub fn ecn(&self) -> u8 {
        self.ecn
    }

    /// Keeps the body beyond the callback, on any thread, without copying it.
    ///
    /// The receive memory stays leased while the slice lives and counts against the engine's budget.
    #[must_use]
    #[expect(
        clippy::missing_panics_doc,
        reason = "the engine made the range from this buffer"
    )]
    #[expect(
        clippy::expect_used,
        reason = "the engine made the range from this buffer"
    )]
    pub fn retain(&self) -> Slice {
        let end = self.offset + self.header.length as usize;
        self.buffer
            .share(self.offset..end)
            .expect("the body lies inside its buffer")
    }
}
