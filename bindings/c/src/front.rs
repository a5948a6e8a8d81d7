//! The engine's handler: callbacks become events, calls go to the node.
//!
//! Connections that were made for messages are known by a flag per table index, so that a message costs one look more
//! than in a Rust handler. Everything else belongs to the [`Node`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringway::rpc::{Answer, CallKey, Deferred, Metadata, Node};
use ringway::{
    Address, CloseReason, Closed, ConnectionId, Context, Handler, Header, Lease, ListenerId,
    Message, Peer, RecvBuffer, Slice, TimerId,
};
use ringway_buf::{Id, Table};

use crate::event::{Event, kind};
use crate::guard::{Fail, Rw};
use crate::ids::{Kind, Salt};

/// What a lease id of foreign code stands for.
#[derive(Debug)]
pub(crate) enum Held {
    /// A received message, or a written one that was frozen to be shared.
    Shared(Slice),
    /// A message of an answering stream: its cost goes back when it is released.
    Stream(Slice, CallKey, u32),
    /// The end of a call.
    Ended(Box<Answer>),
    /// Memory to write a message into.
    Room(Lease),
    /// For the moment in which a written lease is frozen.
    Nothing,
}

impl Held {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(slice) | Self::Stream(slice, ..) => slice.bytes(),
            Self::Ended(answer) => answer.message.as_ref().map_or(&[], Slice::bytes),
            Self::Room(lease) => lease.bytes(),
            Self::Nothing => &[],
        }
    }
}

/// A call that foreign code owes an answer.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) deferred: Deferred<[u8]>,
    pub(crate) metadata: Box<[u8]>,
    pub(crate) timeout_ns: i64,
    pub(crate) priority: u8,
    pub(crate) attempt: u8,
    pub(crate) idempotent: bool,
    pub(crate) user: u64,
}

impl Owed {
    pub(crate) fn metadata(&self) -> Metadata<'_> {
        Metadata::parse(&self.metadata).unwrap_or_default()
    }
}

/// What handler, services and exported functions share. Borrowed for moments, never across a callback.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) salt: Salt,
    /// What happened and was not handed out yet. Bounded by what one turn brings, as `rw_poll` turns only when it is
    /// empty, and by what `rw_call_sync` leaves.
    pub(crate) events: VecDeque<Event>,
    pub(crate) leases: Table<Held>,
    pub(crate) owed: Table<Owed>,
    /// Timers of foreign code, with what it gave along.
    pub(crate) timers: Table<(TimerId, u64)>,
    /// Where the look for calls that are over goes on.
    sweep_at: u32,
}

/// Leases of one engine. What peers can make it hold is bounded before, by the budget.
const TABLE_MAX: usize = 1 << 30;
/// Owed calls that one poll looks at.
const SWEEP: usize = 16;

impl Desk {
    pub(crate) fn new(salt: Salt) -> Self {
        Self {
            salt,
            events: VecDeque::new(),
            leases: Table::new(TABLE_MAX),
            owed: Table::new(TABLE_MAX),
            timers: Table::new(TABLE_MAX),
            sweep_at: 0,
        }
    }

    /// Keeps something for foreign code; its lease.
    #[inline]
    pub(crate) fn hold(&mut self, held: Held) -> Result<u64, Fail> {
        let salt = self.salt;
        let kept = self.leases.insert(held);
        kept.map(|id| salt.mix(Kind::Lease, id.to_bits()))
            .map_err(|_held| Fail::new(Rw::E_LIMIT, "too many leases are out; release some"))
    }

    #[inline]
    pub(crate) fn lease_id(&self, lease: u64) -> Id {
        Id::from_bits(self.salt.mix(Kind::Lease, lease))
    }

    /// An event that carries bytes.
    #[inline]
    pub(crate) fn deliver(&mut self, event: Event, held: Held) {
        let bytes: *const [u8] = held.bytes();
        let Ok(lease) = self.hold(held) else { return };
        let mut event = event;
        event.data = bytes.cast();
        event.len = bytes.len() as u64;
        event.lease = lease;
        self.events.push_back(event);
    }

    /// Looks at some of the owed calls: those that are over are told and forgotten.
    pub(crate) fn sweep(&mut self) {
        if self.owed.is_empty() {
            return;
        }
        for _ in 0..SWEEP {
            let Some(id) = self.owed.next_from(self.sweep_at) else {
                self.sweep_at = 0;
                return;
            };
            self.sweep_at = id.index() + 1;
            if self
                .owed
                .get(id)
                .is_some_and(|owed| owed.deferred.is_cancelled())
                && let Some(owed) = self.owed.remove(id)
            {
                let id = self.salt.mix(Kind::Request, id.to_bits());
                let mut event = Event::new(kind::CANCELLED, id);
                event.user = owed.user;
                self.events.push_back(event);
            }
        }
    }
}

/// The handler.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) desk: Rc<RefCell<Desk>>,
    pub(crate) node: Node,
    /// By table index: the connection for messages at that place.
    plain: Vec<u64>,
    /// All listeners ever made, in the order of their numbers.
    pub(crate) all_listeners: Vec<ListenerId>,
    /// Listeners for messages.
    pub(crate) listeners: Vec<ListenerId>,
    /// Connections that are not read, because too many leases are out.
    pub(crate) held_back: Vec<ConnectionId>,
    leases_max: usize,
    /// Another thread called `rw_wake`.
    woken: &'static AtomicBool,
}

fn index(connection: ConnectionId) -> usize {
    Id::from_bits(connection.to_bits()).index() as usize
}

impl Front {
    pub(crate) fn new(
        desk: Rc<RefCell<Desk>>,
        node: Node,
        leases_max: usize,
        woken: &'static AtomicBool,
    ) -> Self {
        Self {
            desk,
            node,
            plain: Vec::new(),
            all_listeners: Vec::new(),
            listeners: Vec::new(),
            held_back: Vec::new(),
            leases_max,
            woken,
        }
    }

    /// A connection carries messages, not calls.
    pub(crate) fn mark_plain(&mut self, connection: ConnectionId) {
        let index = index(connection);
        if self.plain.len() <= index {
            // The engine has checked it against `connections_max`.
            self.plain.resize(index + 1, 0);
        }
        if let Some(place) = self.plain.get_mut(index) {
            *place = connection.to_bits();
        }
    }

    #[inline]
    pub(crate) fn is_plain(&self, connection: ConnectionId) -> bool {
        self.plain.get(index(connection)) == Some(&connection.to_bits())
    }

    fn tell(&self, kind: u32, connection: ConnectionId) -> Event {
        let salt = self.desk.borrow().salt;
        Event::new(kind, salt.mix(Kind::Connection, connection.to_bits()))
    }

    fn push(&self, event: Event) {
        self.desk.borrow_mut().events.push_back(event);
    }

    /// Goes on reading where leases were the reason not to.
    pub(crate) fn resume(&mut self, cx: &mut Context<'_>) {
        if self.desk.borrow().leases.len() <= self.leases_max / 2 {
            for connection in self.held_back.drain(..) {
                cx.pause(connection, false);
            }
        }
    }
}

/// RW_CLOSED_*: why a connection is gone, for programs.
fn cause(reason: &CloseReason) -> i32 {
    match reason {
        CloseReason::Local(_) => 1,
        CloseReason::Peer(_) => 2,
        CloseReason::Drained => 3,
        CloseReason::Violation(_) | CloseReason::Filter(_) => 4,
        CloseReason::Ended { .. } => 5,
        CloseReason::ConnectFailed(_) | CloseReason::NotOpened(_) => 6,
        CloseReason::ConnectTimeout
        | CloseReason::HandshakeTimeout
        | CloseReason::KeepaliveTimeout
        | CloseReason::IdleTimeout
        | CloseReason::DrainTimeout => 7,
        CloseReason::Broken(_) => 8,
        _ => 9,
    }
}

impl Handler for Front {
    #[inline]
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let connection = message.connection();
        if !self.is_plain(connection) {
            return self.node.message(cx, message);
        }
        let mut desk = self.desk.borrow_mut();
        let id = desk.salt.mix(Kind::Connection, connection.to_bits());
        let mut event = Event::new(kind::MESSAGE, id);
        event.tag = message.tag();
        event.flags = message.flags();
        event.message_kind = message.kind();
        event.word = message.word();
        desk.deliver(event, Held::Shared(message.retain()));
        if desk.leases.len() >= self.leases_max {
            cx.pause(connection, true);
            self.held_back.push(connection);
        }
    }

    fn opened(&mut self, cx: &mut Context<'_>, connection: ConnectionId, peer: &Peer) {
        if let Some(listener) = peer.listener
            && self.listeners.contains(&listener)
        {
            self.mark_plain(connection);
        }
        if !self.is_plain(connection) {
            return self.node.opened(cx, connection, peer);
        }
        let mut event = self.tell(kind::OPENED, connection);
        if let Some(listener) = peer.listener {
            let at = self.all_listeners.iter().position(|it| *it == listener);
            let salt = self.desk.borrow().salt;
            event.user = at.map_or(0, |at| salt.mix(Kind::Listener, at as u64));
        }
        event.len = u64::from(peer.message_bytes_max);
        self.push(event);
    }

    fn writable(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        if self.is_plain(connection) {
            self.push(self.tell(kind::WRITABLE, connection));
        } else {
            self.node.writable(cx, connection);
        }
    }

    fn draining(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        if self.is_plain(connection) {
            self.push(self.tell(kind::DRAINING, connection));
        } else {
            self.node.draining(cx, connection);
        }
    }

    fn closed(&mut self, cx: &mut Context<'_>, connection: ConnectionId, closed: &Closed) {
        if !self.is_plain(connection) {
            return self.node.closed(cx, connection, closed);
        }
        if let Some(place) = self.plain.get_mut(index(connection)) {
            *place = 0;
        }
        self.held_back.retain(|it| *it != connection);
        let mut event = self.tell(kind::CLOSED, connection);
        event.status = cause(&closed.reason);
        event.word = closed.unsent_bytes;
        // The reason as text.
        let text = closed.to_string();
        let room = cx.lease(text.len()).and_then(|mut lease| {
            lease.append(text.len())?.copy_from_slice(text.as_bytes());
            Some(lease)
        });
        match room {
            Some(lease) => {
                let held = Held::Shared(lease.freeze());
                self.desk.borrow_mut().deliver(event, held);
            }
            // Without the text, if memory lacks.
            None => self.push(event),
        }
    }

    fn place(&mut self, connection: ConnectionId, header: &Header) -> Option<RecvBuffer> {
        if self.is_plain(connection) {
            None
        } else {
            self.node.place(connection, header)
        }
    }

    fn placed(
        &mut self,
        cx: &mut Context<'_>,
        connection: ConnectionId,
        header: Header,
        buffer: RecvBuffer,
    ) {
        self.node.placed(cx, connection, header, buffer);
    }

    fn notified(&mut self, cx: &mut Context<'_>) {
        // Pairs with the Release in `rw_wake`: what was written before it is seen by who takes the event.
        if self.woken.swap(false, Ordering::Acquire) {
            self.push(Event::new(kind::WOKEN, 0));
        }
        self.node.notified(cx);
    }

    fn timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        let mut desk = self.desk.borrow_mut();
        let own = desk
            .timers
            .iter()
            .find(|(_, (it, _))| *it == timer)
            .map(|(id, _)| id);
        let Some(id) = own else {
            drop(desk);
            return self.node.timer(cx, timer);
        };
        let mut event = Event::new(kind::TIMER, desk.salt.mix(Kind::Timer, id.to_bits()));
        event.user = desk.timers.remove(id).map_or(0, |(_, user)| user);
        desk.events.push_back(event);
    }

    fn accept(&mut self, listener: ListenerId, peer: Option<&Address>) -> bool {
        self.listeners.contains(&listener) || self.node.accept(listener, peer)
    }
}
