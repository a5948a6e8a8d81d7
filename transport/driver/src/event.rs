//! What a driver reports.

use std::io;
use std::net::SocketAddr;

use ringway_buf::{Instant, RecvBuffer};

use crate::{Address, Incoming, SocketId};

/// Why a socket was closed.
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseCause {
    /// The engine asked for it.
    Requested,
    /// Connecting failed: refused, unreachable, timed out in the kernel.
    ConnectFailed(io::Error),
    /// The connection broke: reset, timed out, descriptor error.
    Broken(io::Error),
}

/// Why an accept failed. The listener is switched off then; the engine switches it on again.
#[derive(Debug)]
pub struct AcceptFault {
    /// What the system said: `EMFILE`, `ENFILE`, `ENOMEM`, `ENOBUFS`, `ECONNABORTED`…
    pub error: io::Error,
}

/// What a driver knows about received datagrams.
#[derive(Clone, Copy, Debug)]
pub struct DatagramMeta {
    /// Who sent them.
    pub peer: SocketAddr,
    /// The buffer holds datagrams of this size (the last may be shorter). Equal to the buffer's length for
    /// a single one. Zero only for one empty datagram.
    pub segment_bytes: u32,
    /// ECN bits of the IP header (0 to 3), 0 when not asked for.
    pub ecn: u8,
    /// The address of ours that they were sent to; known of sockets that are bound to all addresses.
    pub local: Option<std::net::IpAddr>,
    /// The datagram was longer than the buffer and lost its end; it must not be delivered.
    pub truncated: bool,
}

/// What the receiver of stream bytes wants next.
#[derive(Debug)]
pub enum Want {
    /// At least this many contiguous bytes, counted from the start of what is unconsumed, before the next
    /// call. At most 60 KiB.
    More(usize),
    /// The next bytes of the stream belong into this buffer's spare room. The driver fills exactly
    /// `remaining` bytes, then calls [`Sink::large`]; bytes behind go the ordinary way again.
    ///
    /// What is left unconsumed in the ordinary buffer goes there first (a counted copy).
    Large {
        /// Has at least `remaining` bytes spare.
        buffer: RecvBuffer,
        /// How many bytes to fill.
        remaining: usize,
    },
    /// Nothing: the socket is being closed or was switched off. What is unconsumed stays and is shown again
    /// after [`read`](crate::Driver::read) switched it on.
    Nothing,
}

/// Receives a driver's events. Implemented by the engine.
///
/// A sink may not call the driver; it answers by return values and by commands after `poll`.
pub trait Sink {
    /// The driver slept and it is `now`; called before the events that ended the sleep.
    fn woke(&mut self, _now: Instant) {}

    /// A stream or datagram socket opened by `connect` is usable.
    fn connected(&mut self, socket: SocketId);

    /// A listener accepted a connection; it belongs to whoever adopts it.
    fn accepted(&mut self, listener: SocketId, incoming: Incoming, peer: Option<Address>);

    /// A listener could not accept, and was switched off.
    fn accept_failed(&mut self, listener: SocketId, fault: AcceptFault);

    /// Stream bytes are in `buffer`. The sink consumes what it understands and says what it wants next.
    fn received(&mut self, socket: SocketId, buffer: &mut RecvBuffer) -> Want;

    /// A buffer that was handed out by [`Want::Large`] is full.
    fn large(&mut self, socket: SocketId, buffer: RecvBuffer) -> Want;

    /// Datagrams are in `buffer`; the sink consumes them all.
    fn datagrams(&mut self, socket: SocketId, buffer: &mut RecvBuffer, meta: DatagramMeta);

    /// `bytes` of what was queued on this socket left for the kernel (for datagrams: or were dropped by it).
    fn sent(&mut self, socket: SocketId, bytes: usize);

    /// A datagram to `peer` was longer than the path carries: it was not sent, or was dropped on its way (ICMP).
    fn datagram_too_long(
        &mut self,
        socket: SocketId,
        peer: Option<SocketAddr>,
        bytes: usize,
        bytes_max: usize,
    );

    /// The network says that an earlier datagram of a connected socket found nobody or no way (ICMP). The socket
    /// lives on: who connects may take it for an answer, who is connected waits whether it stays so.
    fn unreachable(&mut self, _socket: SocketId, _error: io::Error) {}

    /// The peer ended its direction of the stream; no more bytes come. The engine will close.
    fn ended(&mut self, socket: SocketId);

    /// The socket is gone. Exactly once, and the last event of this id.
    fn closed(&mut self, socket: SocketId, cause: CloseCause);
}
