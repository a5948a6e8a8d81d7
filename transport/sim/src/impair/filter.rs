//! Which socket below stands for which socket of the engine, and the events of those that stand for none any more.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::net::SocketAddr;

use ringway_buf::{Instant, RecvBuffer};
use ringway_driver::{
    AcceptFault, Address, Close, CloseCause, DatagramMeta, Incoming, Sink, SocketId, SocketOptions,
    Want,
};

use super::ECN_CAPABLE;

/// A datagram socket as the engine knows it.
#[derive(Debug)]
struct Face {
    inner: SocketId,
    /// Where it leads and how it was opened, if it is connected.
    connected: Option<(SocketAddr, SocketOptions)>,
    ecn: bool,
    reading: bool,
    rebinds: u64,
    /// Datagrams that wait for their time.
    waiting: usize,
    closing: Option<Close>,
    /// The driver was told to close it.
    told: bool,
}

/// All datagram sockets. Others stand for themselves.
#[derive(Debug, Default)]
pub(super) struct Faces {
    faces: HashMap<SocketId, Face>,
    /// Sockets below that have replaced the first ones.
    owners: HashMap<SocketId, SocketId>,
    /// Sockets below that were replaced, until they are closed.
    retired: Vec<SocketId>,
    /// Sockets of the engine whose end is told.
    gone: Vec<SocketId>,
    /// Faces that wait to be closed; so that nobody has to look for them.
    lingering: usize,
}

impl Faces {
    pub(super) fn opened(
        &mut self,
        socket: SocketId,
        connected: Option<(SocketAddr, SocketOptions)>,
        ecn: bool,
        rebinds: u64,
    ) {
        let face = Face {
            inner: socket,
            connected,
            ecn,
            reading: false,
            rebinds,
            waiting: 0,
            closing: None,
            told: false,
        };
        self.faces.insert(socket, face);
    }

    /// A socket that sends datagrams: one that was adopted shows only now what it is.
    pub(super) fn known(&mut self, socket: SocketId) {
        if !self.faces.contains_key(&socket) {
            self.opened(socket, None, true, 0);
        }
    }

    /// The socket below.
    pub(super) fn inner(&self, socket: SocketId) -> SocketId {
        self.faces.get(&socket).map_or(socket, |face| face.inner)
    }

    /// The socket of the engine; `None` for one that was replaced.
    fn outer(&self, inner: SocketId) -> Option<SocketId> {
        if self.retired.contains(&inner) {
            return None;
        }
        Some(self.owners.get(&inner).copied().unwrap_or(inner))
    }

    /// ECN bits of what a socket sends if nothing else is said.
    pub(super) fn ecn(&self, socket: SocketId) -> u8 {
        let sets = self.faces.get(&socket).is_some_and(|face| face.ecn);
        if sets { ECN_CAPABLE } else { 0 }
    }

    pub(super) fn read(&mut self, socket: SocketId, on: bool) {
        if let Some(face) = self.faces.get_mut(&socket) {
            face.reading = on;
        }
    }

    /// Where a connected socket leads that shall get another port.
    pub(super) fn is_due(
        &mut self,
        socket: SocketId,
        rebinds: u64,
    ) -> Option<(SocketAddr, SocketOptions)> {
        let face = self.faces.get_mut(&socket)?;
        if rebinds <= face.rebinds || face.told {
            return None;
        }
        face.rebinds = rebinds;
        face.connected.clone()
    }

    /// Puts `fresh` below a socket; what stood there before, and whether it was read.
    pub(super) fn replace(&mut self, socket: SocketId, fresh: SocketId) -> (SocketId, bool) {
        let Some(face) = self.faces.get_mut(&socket) else {
            return (fresh, false);
        };
        let old = mem::replace(&mut face.inner, fresh);
        self.owners.remove(&old);
        self.owners.insert(fresh, socket);
        self.retired.push(old);
        (old, face.reading)
    }

    pub(super) fn departs(&mut self, socket: SocketId) {
        if let Some(face) = self.faces.get_mut(&socket) {
            face.waiting += 1;
        }
    }

    pub(super) fn arrived(&mut self, socket: SocketId) {
        if let Some(face) = self.faces.get_mut(&socket) {
            face.waiting = face.waiting.saturating_sub(1);
        }
    }

    /// Puts off a close until nothing waits any more; false if nothing does.
    pub(super) fn closes(&mut self, socket: SocketId, how: Close, queued: bool) -> bool {
        let Some(face) = self.faces.get_mut(&socket) else {
            return false;
        };
        if face.waiting == 0 && !queued || face.told {
            return false;
        }
        if face.closing.replace(how).is_none() {
            self.lingering += 1;
        }
        true
    }

    /// Drops what waits; the socket below, to be closed.
    pub(super) fn aborts(&mut self, socket: SocketId) -> SocketId {
        let Some(face) = self.faces.get_mut(&socket) else {
            return socket;
        };
        if face.closing.take().is_some() {
            self.lingering -= 1;
        }
        face.told = true;
        face.inner
    }

    /// Sockets below of which nothing waits any more and that shall be closed then.
    pub(super) fn take_finished(&mut self) -> Vec<(SocketId, Close)> {
        if self.lingering == 0 {
            return Vec::new();
        }
        let ready = self.faces.values_mut().filter(|face| face.waiting == 0);
        let finished: Vec<_> = ready
            .filter_map(|face| {
                let how = face.closing.take()?;
                face.told = true;
                Some((face.inner, how))
            })
            .collect();
        self.lingering -= finished.len();
        finished
    }

    /// Sockets of the engine whose end was told since the last time.
    pub(super) fn take_gone(&mut self) -> Vec<SocketId> {
        mem::take(&mut self.gone)
    }

    /// The end of a socket below; the socket of the engine that ends with it.
    fn on_closed(&mut self, inner: SocketId) -> Option<SocketId> {
        if let Some(at) = self.retired.iter().position(|retired| *retired == inner) {
            self.retired.swap_remove(at);
            return None;
        }
        let outer = self.owners.remove(&inner).unwrap_or(inner);
        if let Some(face) = self.faces.remove(&outer)
            && face.closing.is_some()
        {
            self.lingering -= 1;
        }
        self.gone.push(outer);
        Some(outer)
    }

    /// Whether it is a datagram socket: what left it was reported when it was sent.
    fn is_datagram(&self, outer: SocketId) -> bool {
        self.faces.contains_key(&outer)
    }
}

/// The engine's sink behind the driver below.
pub(super) struct Filter<'a, S> {
    pub(super) sink: &'a mut S,
    pub(super) faces: &'a mut Faces,
}

impl<S: Sink> Sink for Filter<'_, S> {
    fn woke(&mut self, now: Instant) {
        self.sink.woke(now);
    }

    fn connected(&mut self, socket: SocketId) {
        // A socket that stands for another one was connected long ago.
        if self.faces.outer(socket) == Some(socket) {
            self.sink.connected(socket);
        }
    }

    fn accepted(&mut self, listener: SocketId, incoming: Incoming, peer: Option<Address>) {
        self.sink.accepted(listener, incoming, peer);
    }

    fn accept_failed(&mut self, listener: SocketId, fault: AcceptFault) {
        self.sink.accept_failed(listener, fault);
    }

    fn received(&mut self, socket: SocketId, buffer: &mut RecvBuffer) -> Want {
        self.sink.received(socket, buffer)
    }

    fn large(&mut self, socket: SocketId, buffer: RecvBuffer) -> Want {
        self.sink.large(socket, buffer)
    }

    fn datagrams(&mut self, socket: SocketId, buffer: &mut RecvBuffer, meta: DatagramMeta) {
        match self.faces.outer(socket) {
            Some(outer) => self.sink.datagrams(outer, buffer, meta),
            // Nobody is reached under an address that was forgotten.
            None => buffer.consume(buffer.len()),
        }
    }

    fn sent(&mut self, socket: SocketId, bytes: usize) {
        if let Some(outer) = self.faces.outer(socket)
            && !self.faces.is_datagram(outer)
        {
            self.sink.sent(outer, bytes);
        }
    }

    fn datagram_too_long(
        &mut self,
        socket: SocketId,
        peer: Option<SocketAddr>,
        bytes: usize,
        bytes_max: usize,
    ) {
        if let Some(outer) = self.faces.outer(socket) {
            self.sink.datagram_too_long(outer, peer, bytes, bytes_max);
        }
    }

    fn unreachable(&mut self, socket: SocketId, error: io::Error) {
        if let Some(outer) = self.faces.outer(socket) {
            self.sink.unreachable(outer, error);
        }
    }

    fn ended(&mut self, socket: SocketId) {
        self.sink.ended(socket);
    }

    fn closed(&mut self, socket: SocketId, cause: CloseCause) {
        if let Some(outer) = self.faces.on_closed(socket) {
            self.sink.closed(outer, cause);
        }
    }
}
