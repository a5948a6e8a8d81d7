//! A sink that counts what passes through it, for the figure that `poll` returns.

use std::io;
use std::net::SocketAddr;

use ringway_buf::{Instant, RecvBuffer};

use crate::{AcceptFault, Address, CloseCause, DatagramMeta, Incoming, Sink, SocketId, Want};

/// Hands every event on and counts it.
#[derive(Debug)]
pub(crate) struct Counted<'a, S> {
    sink: &'a mut S,
    pub(crate) events: u32,
}

impl<'a, S> Counted<'a, S> {
    pub(crate) fn new(sink: &'a mut S) -> Self {
        Self { sink, events: 0 }
    }

    fn next(&mut self) -> &mut S {
        self.events = self.events.saturating_add(1);
        self.sink
    }
}

impl<S: Sink> Sink for Counted<'_, S> {
    fn woke(&mut self, now: Instant) {
        self.sink.woke(now);
    }

    fn connected(&mut self, socket: SocketId) {
        self.next().connected(socket);
    }

    fn accepted(&mut self, listener: SocketId, incoming: Incoming, peer: Option<Address>) {
        self.next().accepted(listener, incoming, peer);
    }

    fn accept_failed(&mut self, listener: SocketId, fault: AcceptFault) {
        self.next().accept_failed(listener, fault);
    }

    #[inline]
    fn received(&mut self, socket: SocketId, buffer: &mut RecvBuffer) -> Want {
        self.next().received(socket, buffer)
    }

    fn large(&mut self, socket: SocketId, buffer: RecvBuffer) -> Want {
        self.next().large(socket, buffer)
    }

    #[inline]
    fn datagrams(&mut self, socket: SocketId, buffer: &mut RecvBuffer, meta: DatagramMeta) {
        self.next().datagrams(socket, buffer, meta);
    }

    #[inline]
    fn sent(&mut self, socket: SocketId, bytes: usize) {
        self.next().sent(socket, bytes);
    }

    fn datagram_too_long(
        &mut self,
        socket: SocketId,
        peer: Option<SocketAddr>,
        bytes: usize,
        bytes_max: usize,
    ) {
        self.next()
            .datagram_too_long(socket, peer, bytes, bytes_max);
    }

    fn unreachable(&mut self, socket: SocketId, error: io::Error) {
        self.next().unreachable(socket, error);
    }

    fn ended(&mut self, socket: SocketId) {
        self.next().ended(socket);
    }

    fn closed(&mut self, socket: SocketId, cause: CloseCause) {
        self.next().closed(socket, cause);
    }
}
