//! A client: connections with a machine each, calls that follow their plans, tries again where that is safe.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ringway::rpc::Lz4;
use ringway::{
    CloseCode, Closed, ConnectionId, Context, Handler, Header, Instant, Message, Peer, RecvBuffer,
    TimerId,
};
use ringway_call::{
    CallConfig, CallId, Caller, CallerEvent, Code, Frame, Key, MetadataBuf, Open, Refused, Status,
    Violation,
};

use crate::BULK_BELOW_BYTES;
use crate::oracle::{End, SharedOracle, Try};
use crate::outlet::{Kept, Wire, head};
use crate::plan::{self, Plan};

/// Tries of one call.
const TRIES: u8 = 4;

struct Line {
    caller: Caller,
    ready: bool,
}

/// A try under way.
#[derive(Debug)]
struct Call {
    of: Try,
    plan: Plan,
    deadline: Option<Instant>,
    /// Messages that were sent, and that came.
    sent: u32,
    got: u32,
    ended: bool,
    full: bool,
    /// Costs of messages that the application holds.
    held: Vec<u32>,
}

pub(crate) struct Client {
    config: CallConfig,
    oracle: SharedOracle,
    lines: BTreeMap<ConnectionId, Line>,
    calls: BTreeMap<(ConnectionId, CallId), Call>,
    /// Tries that are due.
    pub(crate) due: VecDeque<Try>,
    timer: Option<(TimerId, Instant)>,
    /// Messages give their credit back at once.
    pub(crate) eager: bool,
    pub(crate) retried: u64,
}

impl Client {
    pub(crate) fn new(config: CallConfig, oracle: &SharedOracle) -> Self {
        Self {
            config,
            oracle: SharedOracle::clone(oracle),
            lines: BTreeMap::new(),
            calls: BTreeMap::new(),
            due: VecDeque::new(),
            timer: None,
            eager: false,
            retried: 0,
        }
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.lines.keys().copied()
    }

    pub(crate) fn open_calls(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn call_at(&self, at: u64) -> Option<(ConnectionId, CallId)> {
        let at = at.checked_rem(self.calls.len() as u64)?;
        self.calls.keys().nth(at as usize).copied()
    }

    /// What is still under way, for the report of a run that does not end.
    pub(crate) fn print(&self) {
        for (at, call) in &self.calls {
            println!("{at:?} {call:?}");
        }
        for (id, line) in &self.lines {
            println!("{id}: {:?}", line.caller.calls().collect::<Vec<_>>());
        }
    }

    pub(crate) fn all_calls(&self) -> Vec<(ConnectionId, CallId)> {
        self.calls.keys().copied().collect()
    }

    pub(crate) fn connect(&mut self, cx: &mut Context<'_>, address: &str) {
        if let Ok(id) = cx.connect(address) {
            let pools = std::rc::Rc::clone(cx.pools());
            let caller = Caller::new(self.config, pools, Lz4::compressors());
            let line = Line {
                caller,
                ready: false,
            };
            self.lines.insert(id, line);
        }
    }

    /// Opens the next try on this connection.
    pub(crate) fn open(&mut self, cx: &mut Context<'_>, id: ConnectionId) {
        let Some(line) = self.lines.get_mut(&id).filter(|line| line.ready) else {
            return;
        };
        let Some(of) = self.due.pop_front() else {
            return;
        };
        let plan = Plan::of(self.oracle.borrow().seed, of.0);
        let now = cx.now();
        let mut metadata = MetadataBuf::new();
        metadata.set(Key::REQUEST_ID, &of.0.to_le_bytes()).unwrap();
        if of.0.is_multiple_of(3) {
            metadata.add("x-more", &[7; 40]).unwrap();
        }
        let deadline = plan.time.map(|time| now + time);
        let ended = plan.with_first && plan.requests == 1 && plan.end_with_last;
        let open = Open {
            method: u32::from(plan.kind.to_wire()),
            deadline,
            priority: plan.priority,
            attempt: of.1,
            idempotent: plan.idempotent,
            one_way: plan.one_way,
            compress: plan.compress,
            metadata: metadata.bytes(),
            end: ended,
        };
        let first = plan
            .with_first
            .then(|| plan::body(of.0, 0, plan.request_bytes));
        let opened = line
            .caller
            .open(&mut Wire(cx, id), &open, first.as_ref(), now);
        match opened {
            Ok(call) => {
                let mut oracle = self.oracle.borrow_mut();
                oracle.opened(of);
                if plan.one_way {
                    return;
                }
                let started = Call {
                    of,
                    plan,
                    deadline,
                    sent: u32::from(plan.with_first),
                    got: 0,
                    ended: ended || !plan.kind.client_streams(),
                    full: false,
                    held: Vec::new(),
                };
                let twice = self.calls.insert((id, call), started);
                oracle.rule(twice.is_none(), || format!("{of:?} has the id of another"));
            }
            Err(
                Refused::Full(_)
                | Refused::NotReady(_)
                | Refused::Draining(_)
                | Refused::NoMemory(_)
                | Refused::Closed(_),
            ) => self.due.push_front(of),
            Err(refused) => {
                let said = refused.to_string();
                self.oracle
                    .borrow_mut()
                    .rule(false, || format!("{of:?}: {said}"));
            }
        }
        self.after(cx, id);
    }

    /// Goes on with a call: its next message, its end, credit for what it holds.
    pub(crate) fn go_on(&mut self, cx: &mut Context<'_>, at: (ConnectionId, CallId)) {
        let (Some(line), Some(call)) = (self.lines.get_mut(&at.0), self.calls.get_mut(&at)) else {
            return;
        };
        let out = &mut Wire(cx, at.0);
        for cost in call.held.drain(..) {
            line.caller.grant(out, at.1, cost);
        }
        if !call.ended && !call.full {
            if call.sent == call.plan.requests {
                line.caller.end(out, at.1);
                call.ended = true;
            } else {
                let body = plan::body(call.of.0, call.sent, call.plan.request_bytes);
                let last = call.sent + 1 == call.plan.requests;
                let end = last && call.plan.end_with_last;
                let sent = line.caller.send(out, at.1, &body, end, call.plan.compress);
                match sent {
                    Ok(()) => {
                        call.sent += 1;
                        call.ended = end;
                    }
                    Err(Refused::Full(_)) => call.full = true,
                    Err(Refused::NoMemory(_) | Refused::Closed(_)) => {}
                    Err(refused) => {
                        let said = refused.to_string();
                        let mut oracle = self.oracle.borrow_mut();
                        oracle.rule(false, || format!("{:?}: {said}", call.of));
                    }
                }
            }
        }
        self.after(cx, at.0);
    }

    pub(crate) fn cancel(&mut self, cx: &mut Context<'_>, at: (ConnectionId, CallId)) {
        let (Some(line), Some(call)) = (self.lines.get_mut(&at.0), self.calls.remove(&at)) else {
            return;
        };
        let was_open = line.caller.cancel(&mut Wire(cx, at.0), at.1);
        let mut oracle = self.oracle.borrow_mut();
        oracle.ended(call.of, End::Cancelled);
        // Its end may be among the events that are not polled: there are none between callbacks.
        oracle.rule(was_open, || format!("{:?} was not open", call.of));
        drop(oracle);
        self.after(cx, at.0);
    }

    fn event(&mut self, cx: &mut Context<'_>, id: ConnectionId, event: CallerEvent<'_>) {
        match event {
            CallerEvent::Ready => {
                let line = self.lines.get_mut(&id).unwrap();
                let bound = line.caller.bind(&mut Wire(cx, id), &plan::bindings());
                assert_eq!(bound.unwrap(), 0);
                line.ready = true;
            }
            CallerEvent::Bound { first, count } => {
                let line = &self.lines[&id];
                let agreed = (first..first + count)
                    .all(|at| line.caller.bound(at) == Some(ringway_call::Bound::Ok));
                let mut oracle = self.oracle.borrow_mut();
                oracle.rule(agreed, || "a method is not bound".to_owned());
            }
            CallerEvent::Message {
                call,
                message,
                cost,
            } => self.message(cx, (id, call), &message, cost),
            CallerEvent::Ended {
                call,
                status,
                metadata,
                message,
            } => {
                let marked = metadata.value(Key::TENANT) == Some(b"mark");
                self.ended((id, call), status.to_status(), marked, message.as_deref());
            }
            CallerEvent::Writable { call } => {
                if let Some(call) = self.calls.get_mut(&(id, call)) {
                    call.full = false;
                }
            }
        }
    }

    fn message(
        &mut self,
        cx: &mut Context<'_>,
        at: (ConnectionId, CallId),
        message: &[u8],
        cost: u32,
    ) {
        let mut oracle = self.oracle.borrow_mut();
        let Some(call) = self.calls.get_mut(&at) else {
            return oracle.rule(false, || format!("{at:?}: a message of no call"));
        };
        let right = Some((call.of.0, call.got));
        let read = plan::read(message);
        oracle.rule(read == right, || {
            format!("{:?}: {read:?} came instead of {right:?}", call.of)
        });
        call.got += 1;
        if self.eager || call.of.0.is_multiple_of(2) {
            let line = self.lines.get_mut(&at.0).unwrap();
            line.caller.grant(&mut Wire(cx, at.0), at.1, cost);
        } else {
            call.held.push(cost);
        }
    }

    fn ended(
        &mut self,
        at: (ConnectionId, CallId),
        status: Status,
        marked: bool,
        message: Option<&[u8]>,
    ) {
        let mut oracle = self.oracle.borrow_mut();
        let Some(mut call) = self.calls.remove(&at) else {
            return oracle.rule(false, || format!("{at:?}: the end of no call, {status}"));
        };
        if let Some(message) = message {
            let right = Some((call.of.0, call.got));
            oracle.rule(plan::read(message) == right && status.is_ok(), || {
                format!("{:?}: a damaged answer", call.of)
            });
            call.got += 1;
        }
        if status.code == Code::Aborted {
            let whole = status.message == "as planned"
                && status.app_code == 7
                && status.details.as_deref() == Some(b"details")
                && marked;
            oracle.rule(whole, || format!("{:?}: damaged status {status}", call.of));
        }
        let again =
            status.not_started || (call.plan.idempotent && status.code == Code::ResourceExhausted);
        oracle.ended(call.of, End::Status(status, call.got));
        drop(oracle);
        if again {
            self.again(call.of);
        }
    }

    /// The call is tried again: it surely was not executed, or may be twice.
    fn again(&mut self, (number, attempt): Try) {
        if attempt + 1 < TRIES {
            self.due.push_back((number, attempt + 1));
            self.retried += 1;
        }
    }

    /// What is left to do after anything was done with a machine.
    fn after(&mut self, cx: &mut Context<'_>, id: ConnectionId) {
        loop {
            let Some(line) = self.lines.get_mut(&id) else {
                return;
            };
            if let Some(event) = line.caller.poll_event() {
                self.event(cx, id, event);
            } else if line.caller.wants_flush() && !cx.writable_below(id, BULK_BELOW_BYTES) {
                line.caller.flush(&mut Wire(cx, id));
            } else {
                break;
            }
        }
        let next = self
            .lines
            .values()
            .filter_map(|it| it.caller.poll_timeout());
        let Some(next) = next.min() else { return };
        if self.timer.is_none_or(|(_, at)| next < at) {
            if let Some((timer, _)) = self.timer.take() {
                cx.cancel_timer(timer);
            }
            let delay = if next > cx.now() {
                next - cx.now()
            } else {
                Duration::ZERO
            };
            self.timer = cx.set_timer(delay).map(|timer| (timer, next));
        }
    }

    fn violated(&self, cx: &mut Context<'_>, id: ConnectionId, violation: Violation) {
        let mut oracle = self.oracle.borrow_mut();
        oracle.rule(false, || format!("the client accuses: {violation}"));
        drop(oracle);
        cx.close(id, CloseCode::Malformed);
    }

    /// No call outlives its deadline here.
    pub(crate) fn check_deadlines(&self, now: Instant) {
        for call in self.calls.values() {
            let late = call.deadline.is_some_and(|at| at < now);
            let mut oracle = self.oracle.borrow_mut();
            oracle.rule(!late, || format!("{:?} outlives its deadline", call.of));
        }
    }
}

impl Handler for Client {
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let id = message.connection();
        let now = cx.now();
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        let kept = Kept(&message);
        let frame = Frame {
            head: head(&message.header()),
            body: message.body(),
            keep: &kept,
        };
        match line.caller.handle_frame(&mut Wire(cx, id), frame, now) {
            Ok(Some(event)) => self.event(cx, id, event),
            Ok(None) => {}
            Err(violation) => return self.violated(cx, id, violation),
        }
        self.after(cx, id);
    }

    fn opened(&mut self, cx: &mut Context<'_>, id: ConnectionId, _peer: &Peer) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.caller.start(&mut Wire(cx, id));
        }
    }

    fn writable(&mut self, cx: &mut Context<'_>, id: ConnectionId) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.caller.flush(&mut Wire(cx, id));
            self.after(cx, id);
        }
    }

    fn draining(&mut self, _cx: &mut Context<'_>, id: ConnectionId) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.caller.handle_drain();
        }
    }

    fn closed(&mut self, cx: &mut Context<'_>, id: ConnectionId, _closed: &Closed) {
        let Some(mut line) = self.lines.remove(&id) else {
            return;
        };
        while let Some(event) = line.caller.poll_event() {
            self.event(cx, id, event);
        }
        for (call, not_started) in line.caller.handle_closed() {
            let Some(call) = self.calls.remove(&(id, call)) else {
                let mut oracle = self.oracle.borrow_mut();
                oracle.rule(false, || format!("{id}: {call:?} was cut and not open"));
                continue;
            };
            self.oracle
                .borrow_mut()
                .ended(call.of, End::Cut { not_started });
            if not_started || call.plan.idempotent {
                self.again(call.of);
            }
        }
        let left = self.calls.range((id, CallId::from_wire(0))..);
        let left = left.take_while(|((of, _), _)| *of == id).count();
        let mut oracle = self.oracle.borrow_mut();
        oracle.rule(left == 0, || format!("{id}: {left} calls were not cut"));
    }

    fn place(&mut self, id: ConnectionId, header: &Header) -> Option<RecvBuffer> {
        self.lines.get_mut(&id)?.caller.place(&head(header))
    }

    fn placed(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnectionId,
        header: Header,
        buffer: RecvBuffer,
    ) {
        let now = cx.now();
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        let placed = line
            .caller
            .handle_placed(&mut Wire(cx, id), head(&header), buffer, now);
        match placed {
            Ok(Some(event)) => self.event(cx, id, event),
            Ok(None) => {}
            Err(violation) => return self.violated(cx, id, violation),
        }
        self.after(cx, id);
    }

    fn timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        if self.timer.is_none_or(|(own, _)| own != timer) {
            return;
        }
        self.timer = None;
        let now = cx.now();
        for id in self.lines.keys().copied().collect::<Vec<_>>() {
            if let Some(line) = self.lines.get_mut(&id) {
                line.caller.handle_timeout(&mut Wire(cx, id), now);
            }
            self.after(cx, id);
        }
    }
}
