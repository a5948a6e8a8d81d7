//! The engine's handler: callbacks become events, calls go to the node.
//!
//! Connections that were made for messages are known by a flag per table index, so that a message costs one look more
//! than in a Rust handler. Everything else belongs to the [`Node`].

use core::time::Duration;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringway::rpc::{Answer, CallKey, Kind as Shape, Node, OwedCall};
use ringway::{
    Address, CloseReason, Closed, ConnectionId, Context, Handler, Header, Lease, ListenerId,
    Message, Peer, RecvBuffer, Slice, TimerId,
};
use ringway_buf::{Id, Instant, Table};

use crate::event::{Event, kind};
use crate::guard::{Fail, Rw};
use crate::ids::{Kind, Salt};
use crate::known::Known;

/// What a lease id of foreign code stands for.
#[derive(Debug)]
pub(crate) enum Held {
    /// A received message, or a written one that was frozen to be shared.
    Shared(Slice),
    /// A message of an answering stream: its cost goes back when it is released.
    Stream(Slice, CallKey, u32),
    /// A message of a client's stream, and the request that it belongs to: its cost goes back when it is released.
    Asked(Slice, u64, u32),
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
            Self::Shared(slice) | Self::Stream(slice, ..) | Self::Asked(slice, ..) => slice.bytes(),
            Self::Ended(answer) => answer.message.as_ref().map_or(&[], Slice::bytes),
            Self::Room(lease) => lease.bytes(),
            Self::Nothing => &[],
        }
    }
}

/// A call that foreign code owes an answer.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) call: OwedCall,
    pub(crate) shape: Shape,
    /// Goes out with the call's end.
    pub(crate) reply_metadata: Box<[u8]>,
    pub(crate) metadata: Box<[u8]>,
    pub(crate) timeout_ns: i64,
    pub(crate) priority: u8,
    pub(crate) attempt: u8,
    pub(crate) idempotent: bool,
    pub(crate) user: u64,
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
    /// Metadata of requests that were cancelled, one for each event: other threads may still read it. Kept only for an
    /// engine with a thread of its own.
    pub(crate) graves: Option<VecDeque<Box<[u8]>>>,
    /// Timers of foreign code.
    pub(crate) timers: Known<TimerId>,
    /// Where the look for calls that are over goes on.
    sweep_at: u32,
    /// How many owed calls have to be looked at before anybody sleeps.
    sweep_left: usize,
}

/// Leases of one engine. What peers can make it hold is bounded before, by the budget.
const TABLE_MAX: usize = 1 << 30;
/// Listeners of one engine, those that were closed a moment ago included.
const LISTENERS_MAX: usize = 4096;
/// Owed calls that one turn looks at.
const SWEEP: usize = 16;
/// Events that may wait when a call is waited for: who never takes them has to, at last.
pub(crate) const EVENTS_MAX: usize = 65_536;

impl Desk {
    pub(crate) fn new(salt: Salt) -> Self {
        Self {
            salt,
            events: VecDeque::new(),
            leases: Table::new(TABLE_MAX),
            owed: Table::new(TABLE_MAX),
            graves: None,
            timers: Known::new(Kind::Timer, salt, TABLE_MAX),
            sweep_at: 0,
            sweep_left: 0,
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
    fn lease_id(&self, lease: u64) -> Id {
        Id::from_bits(self.salt.mix(Kind::Lease, lease))
    }

    #[inline]
    pub(crate) fn lease(&mut self, lease: u64) -> Result<&mut Held, Fail> {
        let held = self.leases.get_mut(self.lease_id(lease));
        held.ok_or_else(|| Fail::stale("lease"))
    }

    #[inline]
    pub(crate) fn let_go(&mut self, lease: u64) -> Option<Held> {
        self.leases.remove(self.lease_id(lease))
    }

    fn owed_id(&self, request: u64) -> Id {
        Id::from_bits(self.salt.mix(Kind::Request, request))
    }

    #[inline]
    pub(crate) fn owed(&mut self, request: u64) -> Result<&mut Owed, Fail> {
        let owed = self.owed.get_mut(self.owed_id(request));
        owed.ok_or_else(|| Fail::stale("request"))
    }

    /// Takes what is owed, to be answered.
    #[inline]
    pub(crate) fn settle(&mut self, request: u64) -> Option<Owed> {
        self.owed.remove(self.owed_id(request))
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

    /// The next event to hand out. `begun`: a client's stream began among those that go out together; its messages come
    /// with the next ones, so that they carry what foreign code gives to the request.
    #[inline]
    pub(crate) fn next_event(&mut self, begun: &mut bool) -> Option<Event> {
        let next = self.events.front()?.kind;
        if next >= kind::REQUEST_MESSAGE && *begun && next <= kind::REQUEST_WRITABLE {
            return None;
        }
        let mut event = self.events.pop_front()?;
        match event.kind {
            kind::REQUEST => *begun |= event.flags == kind::CLIENT_STREAMS,
            kind::REQUEST_MESSAGE..=kind::REQUEST_WRITABLE => {
                if let Ok(owed) = self.owed(event.id) {
                    event.user = owed.user;
                }
            }
            _ => {}
        }
        Some(event)
    }

    /// Whether some owed calls were not looked at since something happened.
    #[inline]
    pub(crate) fn is_sweeping(&self) -> bool {
        self.sweep_left > 0
    }

    /// Looks at some of the owed calls, at all in turn: those that are over are told and forgotten. `worked`:
    /// something happened, so that any of them may be over.
    #[inline]
    pub(crate) fn sweep(&mut self, worked: bool) {
        if worked {
            self.sweep_left = self.owed.len();
        }
        for _ in 0..self.sweep_left.min(SWEEP) {
            let next = self.owed.next_from(self.sweep_at);
            let Some(id) = next.or_else(|| self.owed.next_from(0)) else {
                self.sweep_left = 0;
                return;
            };
            self.sweep_at = id.index() + 1;
            self.sweep_left -= 1;
            let owed = self.owed.get(id);
            if owed.is_some_and(|owed| owed.call.is_cancelled())
                && let Some(owed) = self.owed.remove(id)
            {
                let id = self.salt.mix(Kind::Request, id.to_bits());
                let mut event = Event::new(kind::CANCELLED, id);
                event.user = owed.user;
                self.events.push_back(event);
                if let Some(graves) = &mut self.graves {
                    graves.push_back(owed.metadata);
                }
            }
        }
    }
}

/// A connection for messages.
#[derive(Clone, Copy, Debug, Default)]
struct Plain {
    bits: u64,
    /// By foreign code.
    paused: bool,
    /// Because too many leases are out.
    held_back: bool,
}

/// A listener of foreign code.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) listener: ListenerId,
    /// For messages, not for calls.
    pub(crate) plain: bool,
    /// Since when it is closed. What it accepted may still open.
    pub(crate) closed: Option<Instant>,
}

/// Longer than any handshake may take.
const ACCEPTED_MAX: Duration = Duration::from_secs(60);

/// The handler.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) desk: Rc<RefCell<Desk>>,
    pub(crate) node: Node,
    /// By table index: the connection for messages at that place.
    plain: Vec<Plain>,
    listeners: Table<Listening>,
    /// Connections that are not read, because too many leases are out.
    held_back: Vec<ConnectionId>,
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
            listeners: Table::new(LISTENERS_MAX),
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
            self.plain.resize(index + 1, Plain::default());
        }
        if let Some(place) = self.plain.get_mut(index) {
            *place = Plain {
                bits: connection.to_bits(),
                ..Plain::default()
            };
        }
    }

    #[inline]
    fn plain(&mut self, connection: ConnectionId) -> Option<&mut Plain> {
        let place = self.plain.get_mut(index(connection));
        place.filter(|it| it.bits == connection.to_bits())
    }

    #[inline]
    pub(crate) fn is_plain(&self, connection: ConnectionId) -> bool {
        let place = self.plain.get(index(connection));
        place.is_some_and(|it| it.bits == connection.to_bits())
    }

    /// Room for one more listener.
    pub(crate) fn has_room_for_listener(&mut self, now: Instant) -> bool {
        if !self.listeners.is_full() {
            return true;
        }
        let over = |it: &Listening| it.closed.is_some_and(|at| at + ACCEPTED_MAX < now);
        for id in self.listeners.ids() {
            if self.listeners.get(id).is_some_and(over) {
                self.listeners.remove(id);
            }
        }
        !self.listeners.is_full()
    }

    /// Its id for foreign code; `None` if there was no room.
    pub(crate) fn add_listener(&mut self, listener: ListenerId, plain: bool) -> Option<Id> {
        let listening = Listening {
            listener,
            plain,
            closed: None,
        };
        self.listeners.insert(listening).ok()
    }

    /// A listener that was not closed.
    pub(crate) fn listener(&mut self, id: Id) -> Option<&mut Listening> {
        let listening = self.listeners.get_mut(id);
        listening.filter(|it| it.closed.is_none())
    }

    fn tell(&self, kind: u32, connection: ConnectionId) -> Event {
        let salt = self.desk.borrow().salt;
        Event::new(kind, salt.mix(Kind::Connection, connection.to_bits()))
    }

    fn push(&self, event: Event) {
        self.desk.borrow_mut().events.push_back(event);
    }

    /// Stops reading, or goes on, as foreign code wants it.
    pub(crate) fn pause(&mut self, cx: &mut Context<'_>, connection: ConnectionId, pause: bool) {
        if let Some(plain) = self.plain(connection) {
            plain.paused = pause;
            let held_back = plain.held_back;
            cx.pause(connection, pause || held_back);
        }
    }

    /// Stops reading until leases are released.
    #[cold]
    fn hold_back(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        if let Some(plain) = self.plain(connection)
            && !plain.held_back
        {
            plain.held_back = true;
            self.held_back.push(connection);
            cx.pause(connection, true);
        }
    }

    /// Goes on reading where leases were the reason not to.
    #[inline]
    pub(crate) fn resume(&mut self, cx: &mut Context<'_>) {
        if self.held_back.is_empty() || self.desk.borrow().leases.len() > self.leases_max / 2 {
            return;
        }
        for connection in core::mem::take(&mut self.held_back) {
            if let Some(plain) = self.plain(connection) {
                plain.held_back = false;
                let paused = plain.paused;
                cx.pause(connection, paused);
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
        let is_full = desk.leases.len() >= self.leases_max;
        drop(desk);
        if is_full {
            self.hold_back(cx, connection);
        }
    }

    fn opened(&mut self, cx: &mut Context<'_>, connection: ConnectionId, peer: &Peer) {
        let came_by = peer.listener.and_then(|listener| {
            let mut all = self.listeners.iter();
            let (id, it) = all.find(|(_, it)| it.listener == listener)?;
            Some((id, it.plain))
        });
        if came_by.is_some_and(|(_, plain)| plain) {
            self.mark_plain(connection);
        }
        if !self.is_plain(connection) {
            return self.node.opened(cx, connection, peer);
        }
        let mut event = self.tell(kind::OPENED, connection);
        if let Some((id, _)) = came_by {
            let salt = self.desk.borrow().salt;
            event.user = salt.mix(Kind::Listener, id.to_bits());
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
        if let Some(plain) = self.plain(connection) {
            *plain = Plain::default();
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
        let Some(own) = desk.timers.remove(timer) else {
            drop(desk);
            return self.node.timer(cx, timer);
        };
        let mut event = Event::new(kind::TIMER, own.id);
        event.user = own.user;
        desk.events.push_back(event);
    }

    fn accept(&mut self, listener: ListenerId, peer: Option<&Address>) -> bool {
        let mut all = self.listeners.iter();
        all.any(|(_, it)| it.plain && it.listener == listener) || self.node.accept(listener, peer)
    }
}
