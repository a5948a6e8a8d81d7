//! The serving half of a node, without the engine: frames come in, calls go to services, answers go out.
//!
//! Between the call machines (one [`Session`] per connection) and the services of this thread. It works on any
//! [`Wire`], so that services can be called without a connection as well.
//!
//! One callback is one round: the frame's call, the future it started, then whatever these two woke or wrote.

use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::Arc;

use ringway_buf::{Instant, Pools, RecvBuffer, Table};
use ringway_call::{
    Callee, CalleeEvent, Code, Compressors, Frame, Head, Opened, Status, Violation,
};
use ringway_engine::{ConnectionId, TimerId};

use crate::answer::Site;
use crate::context::{CallInfo, Origin};
use crate::executor::{Bell, Cells, Wakes};
use crate::incoming::IncomingCall;
use crate::interceptor::{Chain, Interceptor};
use crate::limits::ServerLimits;
use crate::live::Runtime;
use crate::node::session::{Session, Sessions};
use crate::outlet::{Line, Wire};
use crate::service::Registry;
use crate::stage::Local;
use crate::stats::{Began, Stats, StatsReader};
use crate::worker::{Workers, overloaded};

/// Calls of one turn between two looks at the clock.
const CALLS_PER_CLOCK: u32 = 64;
/// More than this between the turn's clock and the system's: the clock is a simulated one, and nothing waits.
const LAG_MAX: Duration = Duration::from_mins(1);

/// More of a large message joins the queue when at most this waits: one piece is on its way, the next is ready.
const BULK_BELOW_BYTES: usize = 256 * 1024;

/// What a dispatcher is made of.
pub(crate) struct Parts {
    pub(crate) registry: Registry,
    pub(crate) limits: ServerLimits,
    pub(crate) workers: Option<Arc<Workers>>,
    pub(crate) interceptors: Vec<Box<dyn Interceptor>>,
    pub(crate) stats: Option<StatsReader>,
    pub(crate) compressors: Compressors,
}

/// Services, connections and open calls of one thread.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) registry: Registry,
    pub(crate) sessions: Sessions,
    pub(crate) runtime: Runtime,
    compressors: Compressors,
    /// Connections with deadlines, the earliest first; each at most once.
    due: BTreeSet<(Instant, ConnectionId)>,
    pace: Pace,
}

/// How late the turn is.
#[derive(Debug)]
struct Pace {
    turn: Instant,
    calls: u32,
    is_late: bool,
}

impl Pace {
    /// Whether calls of this turn have waited too long already. Reads the clock for one call in 64 of a turn.
    #[inline]
    fn is_late(&mut self, now: Instant, wait_max: Duration) -> bool {
        if now != self.turn {
            *self = Self {
                turn: now,
                calls: 0,
                is_late: false,
            };
        }
        self.calls += 1;
        if self.calls.is_multiple_of(CALLS_PER_CLOCK) {
            let lag = Instant::monotonic() - now;
            let is_late = lag > wait_max && lag < LAG_MAX;
            if is_late && !self.is_late {
                // Once in a turn, not for each call.
                tracing::warn!(?lag, "calls of this turn are refused: it takes too long");
            }
            self.is_late = is_late;
        }
        self.is_late
    }
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        self.runtime.local.clear();
    }
}

impl Dispatch {
    pub(crate) fn new(parts: Parts) -> Self {
        let bell = Bell::new();
        let local = Local::new(Arc::clone(&bell), parts.workers);
        let names = parts.registry.routes.iter().map(|route| route.method.name);
        let stats = parts
            .stats
            .map(|reader| Box::new(Stats::new(names, reader, Arc::clone(&bell))));
        let mut interceptors = parts.interceptors;
        let interceptor = match interceptors.len() {
            0 | 1 => interceptors.pop(),
            _ => Some(Box::new(Chain(interceptors)) as Box<dyn Interceptor>),
        };
        let calls_max = parts.limits.calls_max;
        Self {
            registry: parts.registry,
            sessions: Sessions::default(),
            runtime: Runtime {
                live: Table::new(calls_max),
                local,
                wakes: Wakes::new(calls_max, bell),
                cells: Cells::default(),
                limits: parts.limits,
                stats,
                interceptor,
                fresh: None,
            },
            compressors: parts.compressors,
            due: BTreeSet::new(),
            pace: Pace {
                turn: Instant::ZERO,
                calls: 0,
                is_late: false,
            },
        }
    }

    /// A connection was accepted.
    pub(crate) fn accept(
        &mut self,
        wire: &mut Wire<'_>,
        id: ConnectionId,
        origin: Origin,
        pools: &Rc<Pools>,
    ) {
        self.runtime.local.adopt_pools(pools);
        let mut callee = Callee::new(
            self.runtime.limits.call,
            Rc::clone(&self.registry.table),
            Rc::clone(pools),
            self.compressors.clone(),
        );
        callee.start(&mut wire.line(id));
        self.sessions.insert(Session::new(id, callee, origin));
    }

    /// A frame came; false if it belongs to no connection of this dispatcher.
    #[inline]
    pub(crate) fn frame(
        &mut self,
        wire: &mut Wire<'_>,
        id: ConnectionId,
        frame: Frame<'_>,
        now: Instant,
    ) -> Result<bool, Violation> {
        // A call that is answered in place finds its connection once.
        let Some(session) = self.sessions.find(id) else {
            return Ok(false);
        };
        let mut out = wire.line(id);
        let event = session.callee.handle_frame(&mut out, frame, now)?;
        match event {
            Some(CalleeEvent::Opened(opened)) => {
                let (registry, runtime) = (&mut self.registry, &mut self.runtime);
                open(registry, runtime, &mut self.pace, session, out, opened, now);
                let is_over = session.callee.open_calls() == 0 && !session.is_held;
                if is_over && !runtime.is_stirred() {
                    return Ok(true);
                }
            }
            Some(event) => self.event(wire, id, event, now),
            None => {}
        }
        self.events(wire, id, now);
        self.after(wire, id, now);
        Ok(true)
    }

    /// Where a piece of a large message goes.
    pub(crate) fn place(&mut self, id: ConnectionId, head: &Head) -> Option<RecvBuffer> {
        self.sessions.find(id)?.callee.place(head)
    }

    /// A piece came into its place.
    pub(crate) fn placed(
        &mut self,
        wire: &mut Wire<'_>,
        id: ConnectionId,
        head: Head,
        place: RecvBuffer,
        now: Instant,
    ) -> Result<(), Violation> {
        let Some(session) = self.sessions.find(id) else {
            return Ok(());
        };
        let event = session
            .callee
            .handle_placed(&mut wire.line(id), head, place, now)?;
        if let Some(event) = event {
            self.event(wire, id, event, now);
        }
        self.events(wire, id, now);
        self.after(wire, id, now);
        Ok(())
    }

    /// The connection takes frames again.
    pub(crate) fn writable(&mut self, wire: &mut Wire<'_>, id: ConnectionId, now: Instant) {
        if let Some(session) = self.sessions.find(id) {
            session.callee.flush(&mut wire.line(id));
            self.events(wire, id, now);
            self.after(wire, id, now);
        }
    }

    /// The connection is gone, and with it its calls.
    pub(crate) fn closed(&mut self, wire: &mut Wire<'_>, id: ConnectionId, now: Instant) {
        let Some(mut session) = self.sessions.remove(id) else {
            return;
        };
        self.due.remove(&(session.due, id));
        let gone = Status::of(Code::Unavailable, "the connection is gone");
        for call in session.take_live() {
            self.abandon(call, &gone);
        }
        self.round(wire, now);
    }

    /// When [`timeout`](Self::timeout) wants to be called.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Ends the calls whose deadline has passed.
    pub(crate) fn timeout(&mut self, wire: &mut Wire<'_>, now: Instant) {
        while let Some((at, id)) = self.due.first().copied() {
            if at > now {
                break;
            }
            self.due.pop_first();
            if let Some(session) = self.sessions.find(id) {
                session.due = Instant::MAX;
                session.callee.handle_timeout(&mut wire.line(id), now);
                self.events(wire, id, now);
                self.after(wire, id, now);
            }
        }
    }

    /// Events that a machine made up by itself.
    fn events(&mut self, wire: &mut Wire<'_>, id: ConnectionId, now: Instant) {
        while let Some(event) = self
            .sessions
            .find(id)
            .and_then(|session| session.callee.poll_event())
        {
            self.event(wire, id, event, now);
        }
    }

    #[inline]
    fn event(
        &mut self,
        wire: &mut Wire<'_>,
        id: ConnectionId,
        event: CalleeEvent<'_>,
        now: Instant,
    ) {
        match event {
            CalleeEvent::Opened(opened) => {
                if let Some(session) = self.sessions.find(id) {
                    let (registry, runtime) = (&mut self.registry, &mut self.runtime);
                    let out = wire.line(id);
                    open(registry, runtime, &mut self.pace, session, out, opened, now);
                }
            }
            CalleeEvent::Message {
                call,
                message,
                cost,
                end,
            } => self.message(wire, id, call, message, cost, end),
            CalleeEvent::Ended { call } => self.ended(id, call),
            CalleeEvent::Cancelled { call, reason } => self.cancelled(wire, id, call, reason, now),
            CalleeEvent::Writable { call } => self.resume(wire, id, call, now),
        }
    }

    /// Something else happened on this thread, which may have woken futures or answered calls.
    #[inline]
    pub(crate) fn settle(&mut self, wire: &mut Wire<'_>, now: Instant) {
        if self.runtime.is_stirred() {
            self.round(wire, now);
        }
    }

    /// The connection whose age this timer tells.
    pub(crate) fn aged(&mut self, timer: TimerId) -> Option<ConnectionId> {
        self.sessions.ids().into_iter().find(|id| {
            let session = self.sessions.find(*id);
            session.is_some_and(|it| it.age.take_if(|age| *age == timer).is_some())
        })
    }

    /// Large messages wait for a short queue: asks the engine to tell, or goes on at once.
    #[cold]
    fn push_bulk(&mut self, wire: &mut Wire<'_>, id: ConnectionId, now: Instant) {
        // In memory there is nobody to wait for: who empties the queue flushes.
        while let Some(mut cx) = wire.engine() {
            if cx.writable_below(id, BULK_BELOW_BYTES) {
                return;
            }
            let Some(session) = self.sessions.find(id) else {
                return;
            };
            session.callee.flush(&mut wire.line(id));
            self.events(wire, id, now);
            let more = self
                .sessions
                .find(id)
                .is_some_and(|it| it.callee.wants_flush());
            if !more {
                return;
            }
        }
    }

    /// What is left to do when an event was handled.
    #[inline]
    fn after(&mut self, wire: &mut Wire<'_>, id: ConnectionId, now: Instant) {
        if self.runtime.is_stirred() {
            self.round(wire, now);
        }
        let Some(session) = self.sessions.find(id) else {
            return;
        };
        let is_busy = session.callee.open_calls() > 0;
        if is_busy != session.is_held {
            session.is_held = is_busy;
            if let Some(mut cx) = wire.engine() {
                cx.hold(id, is_busy);
            }
        }
        if session.callee.wants_flush() {
            self.push_bulk(wire, id, now);
        }
        let Some(session) = self.sessions.find(id) else {
            return;
        };
        if is_busy
            && let Some(at) = session.callee.poll_timeout()
            && at < session.due
        {
            self.due.remove(&(session.due, id));
            session.due = at;
            self.due.insert((at, id));
        }
    }
}

/// Hands a new call to its service.
fn open(
    registry: &mut Registry,
    runtime: &mut Runtime,
    pace: &mut Pace,
    session: &mut Session,
    out: Line<'_>,
    opened: Opened<'_>,
    now: Instant,
) {
    let Some(route) = registry.routes.get(opened.method as usize).copied() else {
        return;
    };
    let Some(service) = registry.services.get_mut(route.service) else {
        return;
    };
    let origin = Rc::clone(&session.origin);
    let info = CallInfo {
        method: route.method,
        origin: &origin,
        metadata: opened.metadata,
        now,
        deadline: opened.deadline,
        priority: opened.priority,
        attempt: opened.attempt,
        idempotent: opened.idempotent,
        one_way: opened.one_way,
    };
    // Whatever the handler says or wakes is looked at before this callback ends.
    let _inside = runtime.local.bell.enter();
    let is_late = pace.is_late(now, runtime.limits.queue_time_max);
    let mut site = Site {
        runtime,
        session,
        out,
        call: opened.call,
        method: opened.method,
        route: route.method,
        now,
        deadline: opened.deadline,
        began: Began::OFF,
        one_way: opened.one_way,
    };
    if is_late {
        return site.refuse(&overloaded("the server is behind with its work"));
    }
    if let Some(interceptor) = &mut site.runtime.interceptor
        && let Err(status) = interceptor.before(&info)
    {
        return site.refuse(&status.not_started());
    }
    if let Some(stats) = &mut site.runtime.stats {
        site.began = stats.started(opened.method, now, opened.first);
    }
    // The call is made inside of the guard, where it is handed on: it is large, and moving it costs more than
    // making it. It is ended by its own destructor; the service is left in whatever state the panic left it.
    let act = || {
        service.call(IncomingCall {
            site: Some(site),
            info,
            origin: &origin,
            index: route.index,
            message: opened.message,
            end: opened.end,
            kept: None,
        });
    };
    if catch_unwind(AssertUnwindSafe(act)).is_err() {
        panicked(route.method.name);
    }
}

/// Says that a handler panicked.
#[cold]
pub(crate) fn panicked(method: &'static str) {
    tracing::error!(method, "a handler panicked; its call ended with INTERNAL");
}
