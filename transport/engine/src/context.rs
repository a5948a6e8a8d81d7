//! What a handler may do.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use ringway_buf::{Instant, Lease, Slice};
use ringway_driver::{Address, SharedPools};
use ringway_proto::packet::{Delivery, Ways};
use ringway_proto::{CloseCode, HEADER_BYTES, Header, Role, padded};

use crate::connection::{Carrier, Phase};
use crate::datagram::Way;
use crate::hub::{Action, Hub};
use crate::packet::Protocol;
use crate::send::Label;
use crate::{
    Claim, CloseReason, ConnectionId, Full, Handle, Message, OpenError, SendError, TimerId,
};

/// The engine as a handler sees it: a place to write commands.
///
/// Nothing here blocks or calls the kernel; what was written leaves at the end of the turn.
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) hub: &'a mut Hub,
}

impl Context<'_> {
    /// The time of this turn, read once per turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.hub.now
    }

    /// The same context for a shorter time: for layers that keep it beside other borrows.
    #[inline]
    #[must_use]
    pub fn reborrow(&mut self) -> Context<'_> {
        Context { hub: self.hub }
    }

    /// A handle of this engine for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            shared: Arc::clone(&self.hub.shared),
        }
    }

    /// Claims room for a message of `len` bytes in the connection's open batch. No copy, no allocation.
    ///
    /// # Errors
    /// [`SendError`]; nothing was consumed. After [`SendError::Full`] a `writable` follows.
    #[inline]
    pub fn claim(&mut self, connection: ConnectionId, len: usize) -> Result<Claim<'_>, SendError> {
        Claim::make(self.hub, connection, None, len, Label::default())
    }

    /// Like [`claim`](Self::claim), for a datagram to `peer` on an unconnected socket. Where that is bound to all addresses,
    /// the route decides which one it leaves from.
    ///
    /// # Errors
    /// [`SendError`]; nothing was consumed.
    pub fn claim_to(
        &mut self,
        socket: ConnectionId,
        peer: SocketAddr,
        len: usize,
    ) -> Result<Claim<'_>, SendError> {
        let way = Way { peer, source: None };
        Claim::make(self.hub, socket, Some(way), len, Label::default())
    }

    /// Claims room for an answer: same connection (for datagrams: to the sender, from the address that it wrote to), same
    /// kind, tag and word.
    ///
    /// # Errors
    /// [`SendError`]; nothing was consumed.
    #[inline]
    pub fn claim_reply(
        &mut self,
        message: &Message<'_>,
        len: usize,
    ) -> Result<Claim<'_>, SendError> {
        let header = message.header;
        let label = Label {
            kind: header.kind,
            flags: 0,
            tag: header.tag,
            word: header.word,
            ..Label::default()
        };
        let way = message.peer.map(|peer| Way {
            peer,
            source: message.local,
        });
        Claim::make(self.hub, message.connection, way, len, label)
    }

    /// Sends a copy of `body`.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent.
    #[inline]
    pub fn send(&mut self, connection: ConnectionId, body: &[u8]) -> Result<(), SendError> {
        let mut claim = self.claim(connection, body.len())?;
        claim.copy_from_slice(body);
        claim.commit();
        Ok(())
    }

    /// Answers `message` with a copy of `body`.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent.
    #[inline]
    pub fn reply(&mut self, message: &Message<'_>, body: &[u8]) -> Result<(), SendError> {
        let mut claim = self.claim_reply(message, body.len())?;
        claim.copy_from_slice(body);
        claim.commit();
        Ok(())
    }

    /// Sends a shared slice without copying it: fan-out, retries, forwarding of what was received.
    ///
    /// # Errors
    /// Hands the slice back with the reason.
    pub fn send_slice(
        &mut self,
        connection: ConnectionId,
        slice: Slice,
    ) -> Result<(), Full<Slice>> {
        self.hub
            .send_slice(connection, slice, Label::default())
            .map_err(|(message, error)| Full { message, error })
    }

    /// Like [`send_slice`](Self::send_slice), with kind, flags, tag and word of `header`; its length is ignored.
    ///
    /// # Errors
    /// Hands the slice back with the reason.
    pub fn send_slice_as(
        &mut self,
        connection: ConnectionId,
        header: Header,
        slice: Slice,
    ) -> Result<(), Full<Slice>> {
        self.hub
            .send_slice(connection, slice, Label::from(header))
            .map_err(|(message, error)| Full { message, error })
    }

    /// Like [`send_slice_as`](Self::send_slice_as); `delivery` says how it travels, as on a
    /// [claim](Claim::delivery).
    ///
    /// # Errors
    /// Hands the slice back with the reason.
    pub fn send_slice_with(
        &mut self,
        connection: ConnectionId,
        header: Header,
        slice: Slice,
        delivery: Delivery,
    ) -> Result<(), Full<Slice>> {
        let label = Label {
            delivery,
            ..Label::from(header)
        };
        self.hub
            .send_slice(connection, slice, label)
            .map_err(|(message, error)| Full { message, error })
    }

    /// Which ways to travel lose nothing on a connection now; `None` where there is only one.
    #[must_use]
    pub fn ways(&self, connection: ConnectionId) -> Option<Ways> {
        match &self.hub.connections.get(connection.0)?.carrier {
            Carrier::Packet(end) => Some(end.deliveries.ways),
            _ => None,
        }
    }

    /// Gives up what a [lane](Delivery::Lane) has not delivered: neither end holds it any longer. Messages of it that
    /// went in order with others still arrive. Does nothing where there are no lanes, or none of that name.
    pub fn drop_lane(&mut self, connection: ConnectionId, lane: u32) {
        if self.ways(connection).is_some_and(|ways| ways.lanes) {
            self.hub.drop_lane(connection, lane);
        }
    }

    /// Leases memory for a message of up to `len` bytes, with headroom for the frame. `None`: the budget is
    /// used up.
    #[must_use]
    pub fn lease(&self, len: usize) -> Option<Lease> {
        let bytes = HEADER_BYTES + padded(len);
        if !self.hub.leaves_room_to_seal(bytes) {
            return None;
        }
        let mut lease = self.hub.pools.lease(bytes)?;
        lease.reset(HEADER_BYTES);
        Some(lease)
    }

    /// Sends the content of a lease without copying it.
    ///
    /// # Errors
    /// Hands the lease back with the reason.
    pub fn send_lease(
        &mut self,
        connection: ConnectionId,
        lease: Lease,
    ) -> Result<(), Full<Lease>> {
        self.hub
            .send_slice(connection, lease.freeze(), Label::default())
            .map_err(|(slice, error)| match slice.try_unfreeze() {
                Ok(message) => Full { message, error },
                Err(_) => unreachable!("a refused slice has no other owner"),
            })
    }

    /// Starts connecting; the outcome comes as `opened` or `closed`.
    ///
    /// # Errors
    /// An address that can't be read (names must be resolved beforehand), or a full table.
    pub fn connect(&mut self, address: &str) -> Result<ConnectionId, OpenError> {
        let address: Address = address.parse()?;
        self.hub.connect_later(address)
    }

    /// Closes a connection: what is queued is sent, the peer gets `code`, `closed` follows.
    pub fn close(&mut self, connection: ConnectionId, code: CloseCode) {
        self.hub
            .close(connection, Some(code), CloseReason::Local(code));
    }

    /// Drains a connection: the peer is asked to send nothing new, both sides finish, then it closes.
    pub fn drain(&mut self, connection: ConnectionId) {
        self.hub.drain(connection);
    }

    /// Keeps a draining connection open (`true`) until the handler is done with it (`false`).
    pub fn hold(&mut self, connection: ConnectionId, hold: bool) {
        if let Some(entry) = self.hub.connections.get_mut(connection.0) {
            entry.held = hold;
            self.hub.mark_dirty(connection);
        }
    }

    /// Stops receiving on a connection (backpressure to the peer) or goes on.
    pub fn pause(&mut self, connection: ConnectionId, pause: bool) {
        let Some(entry) = self.hub.connections.get_mut(connection.0) else {
            return;
        };
        let was_paused = entry.pauses.any();
        entry.pauses.handler = pause;
        self.hub.settle_reading(connection, was_paused);
    }

    /// Bytes that wait for sending on a connection; `None` for a stale id.
    #[must_use]
    pub fn queued_bytes(&self, connection: ConnectionId) -> Option<usize> {
        self.hub
            .connections
            .get(connection.0)
            .map(|entry| entry.outbox.queued_bytes)
    }

    /// Asks for one `writable` when at most `bytes` wait for sending on a connection, without having met `Full`.
    /// For senders that keep their own queue short, so that urgent messages can pass it. False (and nothing
    /// follows) when no more than that wait already, or for a stale id.
    pub fn writable_below(&mut self, connection: ConnectionId, bytes: usize) -> bool {
        let Some(entry) = self.hub.connections.get_mut(connection.0) else {
            return false;
        };
        if entry.outbox.queued_bytes <= bytes {
            return false;
        }
        entry.outbox.writable_at = Some(bytes);
        true
    }

    /// The memory of this engine: leases from it count against its budget.
    #[must_use]
    pub fn pools(&self) -> &SharedPools {
        &self.hub.pools
    }

    /// Longest message this connection takes now, in bytes; `None` for a stale id or before `opened`.
    #[must_use]
    pub fn message_bytes_max(&self, connection: ConnectionId) -> Option<usize> {
        let entry = self.hub.connections.get(connection.0)?;
        if let Carrier::Packet(end) = &entry.carrier {
            return end.sends.then_some(end.bytes_max as usize);
        }
        let stream = entry.stream()?;
        stream
            .may_send()
            .then(|| stream.peer_message_bytes_max() as usize)
    }

    /// Sets a timer; `timer` is called after `delay`. `None` when `timers_max` are set.
    pub fn set_timer(&mut self, delay: Duration) -> Option<TimerId> {
        let at = self.hub.now + delay;
        self.hub.timers.set(at)
    }

    /// Cancels a timer; false when it was called already.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.hub.timers.cancel(timer)
    }

    /// Ends [`Engine::run`](crate::Engine::run) after this turn.
    pub fn stop(&mut self) {
        self.hub.stopping = true;
    }
}

impl Hub {
    /// Makes a connection whose socket is opened at the end of the turn.
    pub(crate) fn connect_later(&mut self, address: Address) -> Result<ConnectionId, OpenError> {
        if self.draining {
            return Err(OpenError::Draining);
        }
        let packets = Protocol::of(&address);
        if let Some((protocol, peer)) = packets {
            self.may_reach(protocol, peer)?;
        }
        let deadline = self.now + self.settings.times.connect;
        let datagram = address.is_datagram();
        let begun = self.begin(Phase::Connecting(deadline), Role::Client);
        let max = self.connections.max();
        let id = begun.ok_or(OpenError::TooMany { max })?;
        if let Some(connection) = self.connections.get_mut(id.0) {
            connection.announced = true;
            if datagram {
                connection.become_datagram(true);
            }
            if packets.is_some() {
                connection.filter = None;
            }
        }
        let options = Box::new(self.settings.socket.clone());
        self.actions.push(Action::Connect(id, address, options));
        Ok(id)
    }

    /// Asks the peer to send nothing new, and closes when both sides are done.
    pub(crate) fn drain(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        if connection.is_packet() && connection.is_live() {
            connection.parting = true;
            self.mark_dirty(id);
            return self.drain_packets(id);
        }
        match connection.stream_mut() {
            Some(stream) if stream.is_open() => {
                stream.drain(now);
                connection.parting = true;
                self.mark_dirty(id);
                self.rearm(id);
            }
            _ => {
                let code = CloseCode::Normal;
                self.close(id, Some(code), CloseReason::Local(code));
            }
        }
    }
}
