//! What machines tell the owners of their sessions, and what a turn owes to machines.
//!
//! Below stands a machine that has looked at datagrams or at the clock; above the [`Handler`], or the link of
//! another thread. Messages are handed up where they were received.

use std::net::SocketAddr;

use ringway_buf::{Pools, RecvBuffer, Table, copy_counted};
use ringway_driver::{CloseCause, DatagramMeta, Driver, SocketId};
use ringway_proto::packet::{Body, PacketEvent, PacketMeta, SessionEnd, SessionId};
use ringway_proto::{CloseCode, Header, Role, Timeout};

use crate::connection::{Carrier, Connection, Peer, Phase};
use crate::event::Event;
use crate::hub::Hub;
use crate::listener::Source;
use crate::packet::{Endpoint, EndpointId, PacketEnd};
use crate::panics::guarded;
use crate::recv::{announce, deliver, gone};
use crate::{CloseReason, ConnectionId, Context, Handler, ListenerId};

/// Does what the turn asked of endpoints: owners hear of events, packets leave.
pub(crate) fn serve<D: Driver, H: Handler>(hub: &mut Hub, driver: &mut D, handler: &mut H) {
    let due = std::mem::take(&mut hub.endpoints_due);
    let mut due = std::mem::replace(&mut hub.endpoints_dirty, due);
    for id in &due {
        if let Some(endpoint) = hub.endpoints.get_mut(id.0) {
            endpoint.dirty = false;
        }
        events(hub, handler, *id, None);
    }
    // Answers to what was just told leave with the rest.
    if !hub.dirty.is_empty() {
        hub.flush(driver);
    }
    for id in due.drain(..) {
        hub.transmit_packets(driver, id);
    }
    hub.endpoints_due = due;
}

/// Datagrams of an endpoint's socket.
pub(crate) fn datagrams<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: EndpointId,
    buffer: &RecvBuffer,
    meta: &DatagramMeta,
) {
    let now = hub.now;
    let Some(endpoint) = hub.endpoints.get_mut(id.0) else {
        return;
    };
    let meta = PacketMeta {
        peer: meta.peer,
        segment_bytes: meta.segment_bytes as usize,
        ecn: meta.ecn,
        local: meta.local,
    };
    endpoint
        .machine
        .handle_datagrams(&meta, buffer.bytes(), now);
    hub.touch_endpoint(id);
    events(hub, handler, id, Some(buffer));
}

/// Tells owners what a machine has learned. `buffer` holds the datagrams that it has just looked at.
fn events<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    endpoint: EndpointId,
    buffer: Option<&RecvBuffer>,
) {
    loop {
        let Some(entry) = hub.endpoints.get_mut(endpoint.0) else {
            return;
        };
        let Some(event) = entry.machine.poll_event() else {
            return;
        };
        hub.work += 1;
        let session = session_of(&event);
        let owner = entry.owner(session);
        let served = guarded(|| match (event, owner) {
            (PacketEvent::Accepted { session, address }, _) => {
                accept(hub, handler, endpoint, session, address);
            }
            (PacketEvent::Opened { peer, .. }, Some(id)) => opened(hub, handler, id, &peer),
            (
                PacketEvent::Message {
                    session,
                    header,
                    body,
                },
                Some(id),
            ) => message(hub, handler, id, session, header, body, buffer),
            (PacketEvent::Sent { bytes, .. }, Some(id)) => sent(hub, handler, id, bytes),
            (PacketEvent::Draining { .. }, Some(id)) => draining(hub, handler, id),
            (PacketEvent::Drained { .. }, Some(id)) => {
                hub.close(id, Some(CloseCode::Drained), CloseReason::Drained);
            }
            (PacketEvent::Closed { session, end, .. }, Some(id)) => {
                closed(hub, handler, id, session, end);
            }
            (_, None) => {}
        });
        if served.is_none() {
            hub.panicked(owner);
        }
    }
}

fn session_of(event: &PacketEvent) -> SessionId {
    match event {
        PacketEvent::Accepted { session, .. }
        | PacketEvent::Opened { session, .. }
        | PacketEvent::Message { session, .. }
        | PacketEvent::Sent { session, .. }
        | PacketEvent::Draining { session }
        | PacketEvent::Drained { session }
        | PacketEvent::Closed { session, .. } => *session,
    }
}

/// A peer opened a session at a listener.
fn accept<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    endpoint: EndpointId,
    session: SessionId,
    address: SocketAddr,
) {
    let listener = ListenerId(Source::Packets(endpoint));
    let Some(protocol) = hub.endpoints.get(endpoint.0).map(|entry| entry.protocol) else {
        return;
    };
    let peer = protocol.address(address);
    let refused = if hub.draining {
        Some("draining")
    } else if hub.connections.is_full() {
        Some("connections_max")
    } else {
        None
    };
    let wanted = refused.is_none() && handler.accept(listener, Some(&peer));
    if let Some(limit) = refused {
        hub.emit(&Event::Refused { limit });
    }
    let deadline = hub.now + hub.settings.times.connect;
    let end = PacketEnd::new(endpoint, protocol, Some(session), address);
    let carrier = Carrier::Packet(Box::new(end));
    let entry = Connection::new(Phase::Connecting(deadline), Role::Server, carrier);
    let id = wanted.then(|| hub.connections.insert(entry).ok()).flatten();
    let now = hub.now;
    let shared = std::sync::Arc::clone(&hub.shared);
    let inbox_max = hub.settings.limits.link_messages_max;
    let Some(entry) = hub.endpoints.get_mut(endpoint.0) else {
        return;
    };
    let Some(id) = id.map(ConnectionId) else {
        entry
            .machine
            .close(session, CloseCode::ResourceExhausted, now);
        return;
    };
    entry.own(session, id);
    let links = entry.listener.as_ref().and_then(|it| it.links.clone());
    if let Some(connection) = hub.connections.get_mut(id.0) {
        connection.listener = Some(listener);
        connection.peer_address = Some(Box::new(peer));
        connection.link = links.map(|accept| {
            let end = crate::link::LinkEnd::accepting(&shared, id, inbox_max, accept);
            Box::new(end)
        });
    }
    hub.cells.add(crate::Counter::Accepted, 1);
    hub.emit(&Event::Begun { connection: id });
}

/// Messages can flow.
fn opened<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    hello: &ringway_proto::Peer,
) {
    let ways = match hub.machine(id) {
        Some((_, session, machine)) => machine.ways(session),
        None => return,
    };
    let Some(connection) = hub.connections.get_mut(id.0) else {
        return;
    };
    if !matches!(connection.phase, Phase::Connecting(_)) {
        return;
    }
    connection.phase = Phase::Live;
    let Carrier::Packet(end) = &mut connection.carrier else {
        return;
    };
    end.bytes_max = hello.message_bytes_max;
    end.sends = true;
    end.deliveries.ways = ways;
    let peer = Peer {
        address: connection.peer_address.take().map(|address| *address),
        listener: connection.listener,
        message_bytes_max: hello.message_bytes_max,
        features: hello.features,
        epoch: hello.epoch,
    };
    announce(hub, handler, id, Some(peer));
    if hub.draining {
        hub.drain(id);
    }
}

fn message<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    session: SessionId,
    header: Header,
    body: Body,
    buffer: Option<&RecvBuffer>,
) {
    let Some(connection) = hub.connections.get(id.0) else {
        return;
    };
    if !connection.is_live() {
        return;
    }
    if connection.pauses.any() {
        let kept = match body {
            Body::Owned(place) => Ok(place),
            Body::Received(range) => copied(&hub.pools, buffer, &range).ok_or(range),
        };
        match kept {
            Ok(place) => {
                if let Some((_, _, machine)) = hub.machine(id) {
                    machine.put_back(session, header, place);
                }
            }
            // Without memory to keep it, it is better delivered now than lost.
            Err(range) => {
                if let Some(buffer) = buffer {
                    deliver(hub, handler, id, header, buffer, range.start);
                }
            }
        }
        return;
    }
    match body {
        Body::Owned(place) => deliver(hub, handler, id, header, &place, 0),
        Body::Received(range) => {
            if let Some(buffer) = buffer {
                deliver(hub, handler, id, header, buffer, range.start);
            }
        }
    }
}

fn copied(
    pools: &Pools,
    buffer: Option<&RecvBuffer>,
    range: &std::ops::Range<usize>,
) -> Option<RecvBuffer> {
    let body = buffer?.bytes().get(range.clone())?;
    let mut lease = pools.lease(body.len())?;
    lease.reset(0);
    let mut place = lease.into_recv();
    place.rewind(0);
    let len = copy_counted(place.spare_mut().get_mut(..body.len())?, body);
    place.filled(len);
    Some(place)
}

/// Bytes of a session's messages are free.
pub(crate) fn sent<H: Handler>(hub: &mut Hub, handler: &mut H, id: ConnectionId, bytes: usize) {
    if !hub.freed(id, bytes) {
        return;
    }
    let linked = hub
        .connections
        .get(id.0)
        .is_some_and(|it| it.link.is_some());
    if linked {
        hub.pump_link(id);
    } else {
        handler.writable(&mut Context { hub }, id);
    }
}

fn draining<H: Handler>(hub: &mut Hub, handler: &mut H, id: ConnectionId) {
    let Some(connection) = hub.connections.get_mut(id.0) else {
        return;
    };
    connection.parting = true;
    let owned_elsewhere = connection.link.is_some();
    hub.mark_dirty(id);
    if !owned_elsewhere {
        handler.draining(&mut Context { hub }, id);
    }
}

fn closed<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    session: SessionId,
    end: SessionEnd,
) {
    let Some(connection) = hub.connections.get_mut(id.0) else {
        return;
    };
    let reason = match end {
        SessionEnd::Local(code) => CloseReason::Local(code),
        SessionEnd::Peer(CloseCode::Drained) => CloseReason::Drained,
        SessionEnd::Peer(code) => CloseReason::Peer(code),
        SessionEnd::Expired(Timeout::Handshake) => CloseReason::HandshakeTimeout,
        SessionEnd::Expired(Timeout::Keepalive) => CloseReason::KeepaliveTimeout,
        SessionEnd::Expired(Timeout::Idle) => CloseReason::IdleTimeout,
        SessionEnd::Expired(Timeout::Drain) => CloseReason::DrainTimeout,
        // The same as from a stream: what the system said.
        SessionEnd::Unreachable => refused(&mut hub.endpoints, &connection.carrier),
        other => CloseReason::Session(other),
    };
    connection.reason.get_or_insert(reason);
    if let Carrier::Packet(packet) = &connection.carrier {
        let endpoint = packet.endpoint;
        if let Some(entry) = hub.endpoints.get_mut(endpoint.0) {
            entry.disown(session);
        }
    }
    gone(hub, handler, id, CloseCause::Requested);
}

/// Why a session found nobody.
fn refused(endpoints: &mut Table<Endpoint>, carrier: &Carrier) -> CloseReason {
    let error = match carrier {
        Carrier::Packet(end) => endpoints
            .get_mut(end.endpoint.0)
            .and_then(|entry| entry.refusal.take()),
        _ => None,
    };
    error.map_or(
        CloseReason::Session(SessionEnd::Unreachable),
        CloseReason::ConnectFailed,
    )
}

/// The driver's last word about an endpoint's socket: its sessions go with it.
pub(crate) fn socket_closed<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: EndpointId,
    socket: SocketId,
    cause: CloseCause,
) {
    hub.sockets.remove(socket);
    let Some(endpoint) = hub.endpoints.remove(id.0) else {
        return;
    };
    let owners = endpoint.sessions.iter().flatten().map(|(_, owner)| *owner);
    let mut owners: Vec<ConnectionId> = owners.chain(endpoint.outgoing).collect();
    owners.dedup();
    let mut cause = Some(cause);
    for owner in owners {
        if hub.connections.get(owner.0).is_some() {
            let cause = cause.take().unwrap_or(CloseCause::Requested);
            gone(hub, handler, owner, cause);
        }
    }
}
