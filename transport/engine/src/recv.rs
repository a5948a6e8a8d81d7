//! The way up: from bytes of a driver to messages of the handler.
//!
//! Below stands the driver, which shows contiguous bytes; in the middle the framing machine of
//! `ringway-proto` finds the messages; above is the user's [`Handler`], or the inbox of a link.
//! Nothing is copied here but the part of a large message that arrived together with its header.

use std::net::SocketAddr;

use ringway_buf::{Instant, RecvBuffer, copy_counted};
use ringway_driver::{
    AcceptFault, Address, CloseCause, DatagramMeta, Incoming, Sink, SocketId, Want,
};
use ringway_proto::{Ending, HEADER_BYTES, Header, Input, StreamEvent, Violation};

use crate::connection::{Carrier, Peer, Phase};
use crate::counters::Counter;
use crate::event::Event;
use crate::filtered::filtered;
use crate::hub::{Arrival, Hub};
use crate::link::{Inbox, Received};
use crate::panics::guarded;
use crate::{CloseReason, ConnectionId, Context, Handler, Message};

/// Receives a driver's events for one turn.
#[derive(Debug)]
pub(crate) struct TurnSink<'a, H> {
    pub(crate) hub: &'a mut Hub,
    pub(crate) handler: &'a mut H,
}

impl<H: Handler> TurnSink<'_, H> {
    /// Runs a piece of receiving; a panic of the handler closes that connection.
    fn serve<T>(
        &mut self,
        id: ConnectionId,
        work: impl FnOnce(&mut Hub, &mut H) -> T,
    ) -> Option<T> {
        let (hub, handler) = (&mut *self.hub, &mut *self.handler);
        let done = guarded(|| work(hub, handler));
        if done.is_none() {
            self.hub.panicked(Some(id));
        }
        done
    }
}

impl<H: Handler> Sink for TurnSink<'_, H> {
    fn woke(&mut self, now: Instant) {
        self.hub.now = now;
    }

    fn connected(&mut self, socket: SocketId) {
        self.hub.work += 1;
        if let Some(id) = self.hub.sockets.endpoint(socket) {
            return self.hub.packets_connected(id);
        }
        if let Some(id) = self.hub.sockets.connection(socket) {
            self.hub.live(id);
            let datagram = self
                .hub
                .connections
                .get(id.0)
                .is_some_and(|it| it.stream().is_none());
            if datagram {
                self.serve(id, |hub, handler| announce(hub, handler, id, None));
            }
        }
    }

    fn accepted(&mut self, listener: SocketId, incoming: Incoming, peer: Option<Address>) {
        self.hub.work += 1;
        if let Some(listener) = self.hub.sockets.listener(listener) {
            self.hub.arrivals.push(Arrival {
                listener,
                incoming,
                peer,
            });
        }
    }

    fn accept_failed(&mut self, listener: SocketId, fault: AcceptFault) {
        self.hub.work += 1;
        if let Some(listener) = self.hub.sockets.listener(listener) {
            self.hub.accept_failed(listener, &fault);
        }
    }

    #[inline]
    fn received(&mut self, socket: SocketId, buffer: &mut RecvBuffer) -> Want {
        self.hub.work += 1;
        let Some(id) = self.hub.sockets.connection(socket) else {
            buffer.consume(buffer.len());
            return Want::Nothing;
        };
        match self.serve(id, |hub, handler| bytes(hub, handler, id, buffer)) {
            Some(want) => want,
            None => {
                buffer.consume(buffer.len());
                Want::Nothing
            }
        }
    }

    fn large(&mut self, socket: SocketId, buffer: RecvBuffer) -> Want {
        self.hub.work += 1;
        let Some(id) = self.hub.sockets.connection(socket) else {
            return Want::Nothing;
        };
        let served = self.serve(id, |hub, handler| {
            let Some(connection) = hub.connections.get_mut(id.0) else {
                return;
            };
            connection.large_until = None;
            if let (Some(header), true) = (connection.large.take(), connection.is_live()) {
                deliver_large(hub, handler, id, header, buffer);
            }
        });
        let open = self
            .hub
            .connections
            .get(id.0)
            .is_some_and(|it| it.is_live() && !it.pauses.any());
        if served.is_some() && open {
            Want::More(HEADER_BYTES)
        } else {
            Want::Nothing
        }
    }

    fn datagrams(&mut self, socket: SocketId, buffer: &mut RecvBuffer, meta: DatagramMeta) {
        self.hub.work += 1;
        if let Some(id) = self.hub.sockets.endpoint(socket) {
            if !meta.truncated {
                crate::packet_events::datagrams(self.hub, self.handler, id, buffer, &meta);
            }
        } else if let Some(id) = self.hub.sockets.connection(socket)
            && !meta.truncated
        {
            self.serve(id, |hub, handler| datagrams(hub, handler, id, buffer, meta));
        }
        buffer.consume(buffer.len());
    }

    fn sent(&mut self, socket: SocketId, bytes: usize) {
        if let Some(id) = self.hub.sockets.endpoint(socket) {
            return self.hub.endpoint_sent(id, bytes);
        }
        let Some(id) = self.hub.sockets.connection(socket) else {
            return;
        };
        if self.hub.sent(id, bytes) {
            self.hub.work += 1;
            self.serve(id, |hub, handler| {
                if hub
                    .connections
                    .get(id.0)
                    .is_some_and(|it| it.link.is_some())
                {
                    hub.pump_link(id);
                } else {
                    handler.writable(&mut Context { hub }, id);
                }
            });
        }
    }

    fn unreachable(&mut self, socket: SocketId, error: std::io::Error) {
        // Plain datagrams promise nothing: who sends them to nobody is not disturbed.
        if let Some(id) = self.hub.sockets.endpoint(socket) {
            self.hub.endpoint_unreachable(id, error);
        }
    }

    fn datagram_too_long(
        &mut self,
        socket: SocketId,
        peer: Option<SocketAddr>,
        _bytes: usize,
        bytes_max: usize,
    ) {
        if let Some(id) = self.hub.sockets.endpoint(socket) {
            return self.hub.endpoint_too_long(id, peer, bytes_max);
        }
        let Some(id) = self.hub.sockets.connection(socket) else {
            return;
        };
        if let Some(connection) = self.hub.connections.get_mut(id.0)
            && let Carrier::Datagram(datagrams) = &mut connection.carrier
        {
            datagrams.learn_bytes_max(bytes_max);
        }
        self.hub.work += 1;
        self.serve(id, |hub, handler| {
            handler.too_long(&mut Context { hub }, id, bytes_max)
        });
    }

    fn ended(&mut self, socket: SocketId) {
        self.hub.work += 1;
        let Some(id) = self.hub.sockets.connection(socket) else {
            return;
        };
        let now = self.hub.now;
        let Some(connection) = self.hub.connections.get_mut(id.0) else {
            return;
        };
        let unread = usize::from(connection.large.is_some());
        let ending = connection
            .stream_mut()
            .map(|stream| stream.handle_end(unread, now));
        let reason = match ending {
            Some(Ending::Clean) => CloseReason::Peer(ringway_proto::CloseCode::Normal),
            _ => CloseReason::Ended {
                unread_bytes: unread,
            },
        };
        self.hub.close(id, None, reason);
    }

    fn closed(&mut self, socket: SocketId, cause: CloseCause) {
        self.hub.work += 1;
        if let Some(id) = self.hub.sockets.endpoint(socket) {
            return crate::packet_events::socket_closed(self.hub, self.handler, id, socket, cause);
        }
        let Some(id) = self.hub.sockets.connection(socket) else {
            if self.hub.sockets.listener(socket).is_some() {
                self.hub.listeners_closing = self.hub.listeners_closing.saturating_sub(1);
                self.hub.sockets.remove(socket);
            }
            return;
        };
        gone(self.hub, self.handler, id, cause);
    }
}

/// Takes a connection out and tells whoever owned it, once.
pub(crate) fn gone<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    cause: CloseCause,
) {
    let Some((mut connection, closed)) = hub.finish(id, cause) else {
        return;
    };
    if let Some(link) = connection.link.take() {
        link.close(closed);
    } else if connection.announced
        && guarded(|| handler.closed(&mut Context { hub: &mut *hub }, id, &closed)).is_none()
    {
        hub.panicked(None);
    }
}

/// Tells the owner that messages can flow now.
pub(crate) fn announce<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    peer: Option<Peer>,
) {
    hub.emit(&Event::Opened { connection: id });
    let Some(connection) = hub.connections.get_mut(id.0) else {
        return;
    };
    connection.announced = true;
    let peer = peer.unwrap_or_else(|| Peer {
        address: connection.peer_address.take().map(|address| *address),
        listener: connection.listener,
        message_bytes_max: u32::from(u16::MAX),
        features: 0,
        epoch: 0,
    });
    if let Some(link) = &mut connection.link {
        link.opened(peer);
        hub.pump_link(id);
    } else {
        handler.opened(&mut Context { hub }, id, &peer);
    }
}

/// Stream bytes of a connection, filtered or not.
fn bytes<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    buffer: &mut RecvBuffer,
) -> Want {
    let now = hub.now;
    let Some(connection) = hub.connections.get_mut(id.0) else {
        buffer.consume(buffer.len());
        return Want::Nothing;
    };
    if let Carrier::Stream(stream) = &mut connection.carrier {
        stream.heard(now);
    }
    // A filter that allows directed receives leaves the bytes alone (the kernel decrypts them).
    match &connection.filter {
        Some(filter) if !filter.stage.directed_recv() => filtered(hub, handler, id, buffer),
        _ => parse(hub, handler, id, buffer, true),
    }
}

/// Finds the messages at the front of `buffer` and hands them up, until one is unfinished.
pub(crate) fn parse<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    buffer: &mut RecvBuffer,
    directed: bool,
) -> Want {
    loop {
        let now = hub.now;
        let Some(connection) = hub.connections.get_mut(id.0) else {
            buffer.consume(buffer.len());
            return Want::Nothing;
        };
        if !connection.is_live() {
            buffer.consume(buffer.len());
            return Want::Nothing;
        }
        if connection.pauses.any() {
            return Want::Nothing;
        }
        let Carrier::Stream(stream) = &mut connection.carrier else {
            return Want::Nothing;
        };
        match stream.handle_bytes(&hub.settings.stream, buffer.bytes(), now) {
            Ok(Input::Message(header)) => {
                if connection.link.is_none() && !hub.events.messages {
                    hand_up(hub, handler, id, header, buffer, HEADER_BYTES);
                } else {
                    deliver(hub, handler, id, header, buffer, HEADER_BYTES);
                }
                buffer.consume(header.frame_bytes());
                // The usual end: no need to ask the machine what it wants of nothing.
                if buffer.is_empty() {
                    return Want::More(HEADER_BYTES);
                }
            }
            Ok(Input::Need(bytes)) => return Want::More(bytes),
            Ok(Input::Consumed(bytes)) => {
                buffer.consume(bytes);
                control(hub, handler, id);
            }
            Ok(Input::Large(header)) => return large(hub, handler, id, header, buffer, directed),
            Err(violation) => {
                violated(hub, id, violation);
                buffer.consume(buffer.len());
                return Want::Nothing;
            }
        }
    }
}

/// Hands one message to the handler: the way of nearly all of them.
#[inline]
fn hand_up<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    header: Header,
    buffer: &RecvBuffer,
    offset: usize,
) {
    hub.cells.add(Counter::MessagesIn, 1);
    hub.cells.add(Counter::BytesIn, u64::from(header.length));
    let message = Message {
        connection: id,
        header,
        buffer,
        offset,
        peer: None,
        local: None,
        ecn: 0,
    };
    handler.message(&mut Context { hub }, message);
}

/// Hands one message to the handler or to the link that owns the connection, and tells the observer.
pub(crate) fn deliver<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    header: Header,
    buffer: &RecvBuffer,
    offset: usize,
) {
    if hub.events.messages {
        hub.emit(&Event::Message {
            connection: id,
            bytes: header.length as usize,
        });
    }
    let Some(connection) = hub.connections.get_mut(id.0) else {
        return;
    };
    let Some(link) = &mut connection.link else {
        return hand_up(hub, handler, id, header, buffer, offset);
    };
    hub.cells.add(Counter::MessagesIn, 1);
    hub.cells.add(Counter::BytesIn, u64::from(header.length));
    let message = Message {
        connection: id,
        header,
        buffer,
        offset,
        peer: None,
        local: None,
        ecn: 0,
    };
    if link.deliver(Received::new(&message)) == Inbox::Full {
        let was_paused = connection.pauses.any();
        connection.pauses.link = true;
        hub.settle_reading(id, was_paused);
    }
}

/// Hands up a message that was received into its final place.
pub(crate) fn deliver_large<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    header: Header,
    place: RecvBuffer,
) {
    let is_placed = hub
        .connections
        .get_mut(id.0)
        .is_some_and(|it| std::mem::take(&mut it.large_placed));
    if !is_placed {
        return deliver(hub, handler, id, header, &place, 0);
    }
    if hub.events.messages {
        hub.emit(&Event::Message {
            connection: id,
            bytes: header.length as usize,
        });
    }
    hub.cells.add(Counter::MessagesIn, 1);
    hub.cells.add(Counter::BytesIn, u64::from(header.length));
    handler.placed(&mut Context { hub }, id, header, place);
}

/// A message that is larger than what arrived of it: the rest goes straight into its final place.
fn large<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    header: Header,
    buffer: &mut RecvBuffer,
    directed: bool,
) -> Want {
    let body_bytes = header.frame_bytes() - HEADER_BYTES;
    let is_linked = hub
        .connections
        .get(id.0)
        .is_some_and(|it| it.link.is_some());
    let given = if is_linked {
        None
    } else {
        handler
            .place(id, &header)
            .filter(|place| place.spare() >= body_bytes)
    };
    let is_placed = given.is_some();
    let mut place = if let Some(place) = given {
        place
    } else {
        let Some(lease) = hub.pools.lease(body_bytes) else {
            hub.starve(id);
            return Want::Nothing;
        };
        let mut place = lease.into_recv();
        place.rewind(0);
        place
    };
    let until = hub.large_until(body_bytes);
    let Some(connection) = hub.connections.get_mut(id.0) else {
        return Want::Nothing;
    };
    buffer.consume(HEADER_BYTES);
    let room = place.spare_mut().get_mut(..body_bytes).unwrap_or_default();
    let copied = copy_counted(room, buffer.bytes());
    place.filled(copied);
    buffer.consume(copied);
    connection.large = Some(header);
    connection.large_placed = is_placed;
    connection.large_until = Some(until);
    let remaining = body_bytes - copied;
    if !directed && let Some(filtered) = &mut connection.filter {
        filtered.gather = Some((place, remaining));
        return Want::More(1);
    }
    Want::Large {
        buffer: place,
        remaining,
    }
}

/// Reacts to what the framing machine learned from a control unit.
fn control<H: Handler>(hub: &mut Hub, handler: &mut H, id: ConnectionId) {
    loop {
        let Some(connection) = hub.connections.get_mut(id.0) else {
            return;
        };
        let Carrier::Stream(stream) = &mut connection.carrier else {
            return;
        };
        let wants_transmit = stream.wants_transmit();
        match stream.poll_event() {
            Some(StreamEvent::Opened(hello)) => {
                let peer = Peer {
                    address: connection.peer_address.take().map(|address| *address),
                    listener: connection.listener,
                    message_bytes_max: hello.message_bytes_max,
                    features: hello.features,
                    epoch: hello.epoch,
                };
                connection.end_handshake(&mut hub.handshakes);
                // Both sides' hello was seen; what the machine has to say leaves before any message.
                hub.mark_dirty(id);
                hub.transmit(id);
                announce(hub, handler, id, Some(peer));
                if hub.draining {
                    hub.drain(id);
                }
            }
            Some(StreamEvent::Draining) => {
                connection.parting = true;
                let owned_elsewhere = connection.link.is_some();
                hub.mark_dirty(id);
                if !owned_elsewhere {
                    handler.draining(&mut Context { hub }, id);
                }
            }
            Some(StreamEvent::Drained) => {
                let code = Some(ringway_proto::CloseCode::Drained);
                hub.close(id, code, CloseReason::Drained);
            }
            Some(StreamEvent::PeerClosed(code)) => hub.close(id, None, CloseReason::Peer(code)),
            None => {
                if wants_transmit {
                    hub.mark_dirty(id);
                }
                break;
            }
        }
    }
    hub.rearm(id);
}

fn violated(hub: &mut Hub, id: ConnectionId, violation: Violation) {
    let code = violation.code();
    hub.close(id, code, CloseReason::Violation(violation));
}

/// Datagrams of one sender, split by the size that the kernel reports.
fn datagrams<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    buffer: &mut RecvBuffer,
    meta: DatagramMeta,
) {
    let size = (meta.segment_bytes as usize).max(1);
    loop {
        let Some(connection) = hub.connections.get(id.0) else {
            return;
        };
        if !matches!(connection.phase, Phase::Live) {
            return;
        }
        let length = buffer.len().min(size);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a datagram is shorter than 64 KiB"
        )]
        let header = Header::message(length as u32, 0, 0);
        hub.cells.add(Counter::MessagesIn, 1);
        hub.cells.add(Counter::BytesIn, length as u64);
        if hub.events.messages {
            hub.emit(&Event::Message {
                connection: id,
                bytes: length,
            });
        }
        let (peer, ecn) = (Some(meta.peer), meta.ecn);
        let message = Message {
            connection: id,
            header,
            buffer,
            offset: 0,
            peer,
            local: meta.local,
            ecn,
        };
        handler.message(&mut Context { hub }, message);
        buffer.consume(length);
        if buffer.is_empty() {
            return;
        }
    }
}

impl Hub {
    /// A handler panicked: the connection it served is closed, the engine lives.
    pub(crate) fn panicked(&mut self, id: Option<ConnectionId>) {
        self.emit(&Event::Panicked { connection: id });
        if let Some(id) = id {
            let code = ringway_proto::CloseCode::Internal;
            self.close(id, Some(code), CloseReason::HandlerPanicked);
        }
    }
}
