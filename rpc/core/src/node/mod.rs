//! The node: one engine's handler, for connections that it serves and connections that it calls over.
//!
//! Above the engine, below services and channels. A connection that was accepted gets a [`Callee`] and the services of
//! this thread; one that [`Clients`] opened belongs to them. Both live on one thread, so that a handler's nested call
//! needs no hop.
//!
//! [`Callee`]: ringway_call::Callee

mod answer;
pub(crate) mod dispatch;
mod round;
pub(crate) mod session;

use core::fmt;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;

use ringway_buf::{Instant, RecvBuffer};
use ringway_call::{Frame, Violation, feature};
use ringway_engine::{
    CloseCode, Closed, ConnectionId, Context, Handler, Header, ListenerId, Message, Peer, TimerId,
};

use crate::client::inlet::Inlet;
use crate::client::{Clients, remote};
use crate::context::Origin;
use crate::node::dispatch::Dispatch;
use crate::outlet::{Kept, Wire, head};

/// How often services and clients hand something to each other within one callback; the rest is left to the next turn.
const SETTLES_MAX: u32 = 8;

/// The handler of an engine that serves calls, makes calls, or both. Built by
/// [`ServerBuilder::build`](crate::ServerBuilder::build) or [`Node::clients_only`].
pub struct Node {
    dispatch: Option<Dispatch>,
    clients: Clients,
    /// The engine's timer for deadlines of accepted calls.
    timer: Option<(TimerId, Instant)>,
    /// State of the sequence that spreads connection ages.
    jitter: u64,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("connections", &self.connections())
            .field("open_calls", &self.open_calls())
            .finish_non_exhaustive()
    }
}

impl Node {
    pub(crate) fn new(dispatch: Option<Dispatch>, mut clients: Clients) -> Self {
        if let Some(dispatch) = &dispatch {
            let local = &dispatch.runtime.local;
            let inlet = Inlet::new(Some(Arc::clone(&local.bell)));
            local.set_inlet(Arc::clone(&inlet));
            clients = clients.with_inlet(inlet);
        }
        Self {
            dispatch,
            clients,
            timer: None,
            jitter: 0,
        }
    }

    /// A node without services.
    #[must_use]
    pub fn clients_only(clients: Clients) -> Self {
        Self::new(None, clients)
    }

    /// The connections that this node calls over.
    pub fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    /// Accepted connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.dispatch.as_ref().map_or(0, |it| it.sessions.len())
    }

    /// Accepted calls that wait for a future, a deferred reply or a worker.
    #[must_use]
    pub fn open_calls(&self) -> usize {
        self.dispatch.as_ref().map_or(0, |it| it.runtime.live.len())
    }

    /// Drains every accepted connection: clients go elsewhere, accepted calls are finished, then it closes.
    pub fn drain(&mut self, cx: &mut Context<'_>) {
        for id in self.dispatch.iter().flat_map(|it| it.sessions.ids()) {
            cx.drain(id);
        }
    }

    /// Keeps the engine's timer at the earliest deadline.
    #[inline]
    fn rearm(&mut self, cx: &mut Context<'_>) {
        let next = self.dispatch.as_ref().and_then(Dispatch::next_due);
        let Some(next) = next else { return };
        if self.timer.is_none_or(|(_, at)| next < at) {
            if let Some((timer, _)) = self.timer.take() {
                cx.cancel_timer(timer);
            }
            let now = cx.now();
            self.timer = cx.set_timer(next - now).map(|timer| (timer, next));
        }
    }

    /// Serves a connection.
    fn accept(&mut self, cx: &mut Context<'_>, connection: ConnectionId, peer: &Peer) {
        let Some(dispatch) = &mut self.dispatch else {
            tracing::debug!(%connection, "closed: this node has no services");
            return cx.close(connection, CloseCode::Normal);
        };
        if peer.features & feature::RPC == 0 {
            tracing::debug!(%connection, "closed: the peer does not speak calls");
            return cx.close(connection, CloseCode::FeatureRequired);
        }
        let bell = &dispatch.runtime.local.bell;
        if !bell.is_hung() {
            let handle = cx.handle();
            if let Some(inlet) = dispatch.runtime.local.inlet() {
                inlet.open(handle.clone());
            }
            bell.hang(move || handle.notify());
        }
        let origin = Origin {
            connection: Some(connection),
            address: peer.address.clone(),
            epoch: peer.epoch,
        };
        let pools = Rc::clone(cx.pools());
        let age_max = dispatch.runtime.limits.connection_age_max;
        let mut wire = Wire::Engine(cx.reborrow());
        dispatch.accept(&mut wire, connection, origin, &pools);
        if let Some(age_max) = age_max {
            let age = jittered(age_max, &mut self.jitter, peer.epoch ^ connection.to_bits());
            let timer = cx.set_timer(age);
            if let Some(session) = dispatch.sessions.find(connection) {
                session.age = timer;
            }
        }
        tracing::debug!(%connection, "accepted");
    }

    /// Closes a connection whose peer broke the rules.
    #[cold]
    fn violated(cx: &mut Context<'_>, connection: ConnectionId, violation: Violation) {
        tracing::warn!(%connection, %violation, "closed");
        let code = match violation {
            Violation::Flood => CloseCode::Flood,
            _ => CloseCode::Malformed,
        };
        cx.close(connection, code);
    }
}

/// `age` less up to a tenth of it.
fn jittered(age: Duration, state: &mut u64, salt: u64) -> Duration {
    // SplitMix64, stirred with what differs between connections and restarts.
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_add(salt);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    let tenth = u64::try_from((age / 10).as_nanos())
        .unwrap_or(u64::MAX)
        .max(1);
    age.saturating_sub(Duration::from_nanos(mixed % tenth))
}

impl Handler for Node {
    #[inline]
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let id = message.connection();
        if let Some(dispatch) = &mut self.dispatch {
            let frame = Frame {
                head: head(&message.header()),
                body: message.body(),
                keep: &Kept(&message),
            };
            let now = cx.now();
            let mut wire = Wire::Engine(cx.reborrow());
            match dispatch.frame(&mut wire, id, frame, now) {
                Ok(true) => return self.done(cx),
                Ok(false) => {}
                Err(violation) => return Self::violated(cx, id, violation),
            }
        }
        self.with_clients(cx, |clients, cx| clients.message(cx, &message));
    }

    fn opened(&mut self, cx: &mut Context<'_>, connection: ConnectionId, peer: &Peer) {
        if self.clients.owns(connection) {
            self.with_clients(cx, |clients, cx| clients.opened(cx, connection, peer));
        } else {
            self.accept(cx, connection, peer);
        }
    }

    fn writable(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        let now = cx.now();
        match &mut self.dispatch {
            Some(dispatch) if dispatch.sessions.contains(connection) => {
                dispatch.writable(&mut Wire::Engine(cx.reborrow()), connection, now);
                self.done(cx);
            }
            _ => self.with_clients(cx, |clients, cx| clients.writable(cx, connection)),
        }
    }

    fn draining(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        // A client that drains opens nothing more; its open calls are finished.
        if self.clients.owns(connection) {
            self.with_clients(cx, |clients, cx| clients.draining(cx, connection));
        }
    }

    fn closed(&mut self, cx: &mut Context<'_>, connection: ConnectionId, closed: &Closed) {
        let now = cx.now();
        match &mut self.dispatch {
            Some(dispatch) if dispatch.sessions.contains(connection) => {
                tracing::debug!(%connection, %closed, "closed");
                let session = dispatch.sessions.find(connection);
                if let Some(timer) = session.and_then(|session| session.age.take()) {
                    cx.cancel_timer(timer);
                }
                dispatch.closed(&mut Wire::Engine(cx.reborrow()), connection, now);
                self.done(cx);
            }
            _ => self.with_clients(cx, |clients, cx| clients.closed(cx, connection, closed)),
        }
    }

    fn place(&mut self, connection: ConnectionId, header: &Header) -> Option<RecvBuffer> {
        match &mut self.dispatch {
            Some(dispatch) if dispatch.sessions.contains(connection) => {
                dispatch.place(connection, &head(header))
            }
            _ => self.clients.place(connection, header),
        }
    }

    fn placed(
        &mut self,
        cx: &mut Context<'_>,
        connection: ConnectionId,
        header: Header,
        buffer: RecvBuffer,
    ) {
        let now = cx.now();
        match &mut self.dispatch {
            Some(dispatch) if dispatch.sessions.contains(connection) => {
                let mut wire = Wire::Engine(cx.reborrow());
                match dispatch.placed(&mut wire, connection, head(&header), buffer, now) {
                    Ok(()) => self.done(cx),
                    Err(violation) => Self::violated(cx, connection, violation),
                }
            }
            _ => self.with_clients(cx, |clients, cx| {
                clients.placed(cx, connection, header, buffer);
            }),
        }
    }

    fn notified(&mut self, cx: &mut Context<'_>) {
        let now = cx.now();
        if let Some(dispatch) = &mut self.dispatch {
            dispatch.notified(&mut Wire::Engine(cx.reborrow()), now);
        }
        self.with_clients(cx, |clients, cx| clients.notified(cx));
    }

    fn timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        let now = cx.now();
        if let Some(dispatch) = &mut self.dispatch {
            if self.timer.is_some_and(|(own, _)| own == timer) {
                self.timer = None;
                dispatch.timeout(&mut Wire::Engine(cx.reborrow()), now);
                return self.done(cx);
            }
            if dispatch.runtime.limits.connection_age_max.is_some()
                && let Some(connection) = dispatch.aged(timer)
            {
                tracing::debug!(%connection, "drained for its age");
                return cx.drain(connection);
            }
        }
        self.with_clients(cx, |clients, cx| clients.timer(cx, timer));
    }

    fn accept(&mut self, _listener: ListenerId, _peer: Option<&ringway_engine::Address>) -> bool {
        self.dispatch.is_some()
    }
}

impl Node {
    /// A callback of an outgoing connection, which may answer calls of this node's own services.
    #[inline]
    fn with_clients(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Clients, &mut Context<'_>),
    ) {
        let Some(dispatch) = &self.dispatch else {
            return act(&mut self.clients, cx);
        };
        {
            // What it wakes is looked at below.
            let _inside = dispatch.runtime.local.bell.enter();
            act(&mut self.clients, cx);
        }
        self.settle(cx);
    }

    /// After a callback of an accepted connection, in which handlers may have made calls.
    #[inline]
    fn done(&mut self, cx: &mut Context<'_>) {
        let dispatch = self.dispatch.as_ref();
        if dispatch.is_some_and(|it| it.runtime.local.has_calls()) {
            self.settle(cx);
        } else {
            self.rearm(cx);
        }
    }

    /// Services and clients of this node have something for each other: until nothing is left, or a bounded number
    /// of times.
    fn settle(&mut self, cx: &mut Context<'_>) {
        let Some(dispatch) = &mut self.dispatch else {
            return;
        };
        let (now, local) = (cx.now(), Rc::clone(&dispatch.runtime.local));
        for _ in 0..SETTLES_MAX {
            dispatch.settle(&mut Wire::Engine(cx.reborrow()), now);
            if !local.has_calls() {
                break;
            }
            let _inside = local.bell.enter();
            for pending in local.take_nested() {
                remote::begin(&mut self.clients, cx, pending);
            }
            self.clients.notified(cx);
        }
        if dispatch.runtime.is_stirred() || local.has_calls() {
            cx.handle().notify();
        }
        self.rearm(cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_up_to_a_tenth() {
        let (age, mut state) = (Duration::from_secs(3600), 0);
        let mut all: Vec<_> = (0..100).map(|it| jittered(age, &mut state, it)).collect();
        assert!(all.iter().all(|it| *it <= age && *it > age * 9 / 10));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100, "clients come back at different times");
    }
}
