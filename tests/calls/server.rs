//! A server: a machine for each connection, and handlers that follow the plans of their calls.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ringway::rpc::Lz4;
use ringway::{
    CloseCode, Closed, ConnectionId, Context, Handler, Header, Instant, Message, Peer, RecvBuffer,
    TimerId,
};
use ringway_call::{
    CallConfig, CallId, Callee, CalleeEvent, CancelReason, Code, Frame, Key, MetadataBuf,
    MethodTable, Opened, Refused, Status, Violation,
};

use crate::BULK_BELOW_BYTES;
use crate::oracle::{SharedOracle, Try};
use crate::outlet::{Kept, Wire, head};
use crate::plan::{self, Behaviour, Plan};

struct Line {
    callee: Callee,
    /// The engine was asked to keep the connection open while it drains.
    held: bool,
}

/// A handler at work.
#[derive(Debug)]
struct Task {
    of: Try,
    plan: Plan,
    deadline: Option<Instant>,
    input_ended: bool,
    answered: u32,
    full: bool,
    cancelled: bool,
    held: Vec<u32>,
}

pub(crate) struct Server {
    config: CallConfig,
    oracle: SharedOracle,
    lines: BTreeMap<ConnectionId, Line>,
    tasks: BTreeMap<(ConnectionId, CallId), Task>,
    /// One-way calls that run: only their connection is known.
    one_way: Vec<ConnectionId>,
    timer: Option<(TimerId, Instant)>,
    /// Everyone answers: the network has healed.
    pub(crate) eager: bool,
}

impl Server {
    pub(crate) fn new(config: CallConfig, oracle: &SharedOracle) -> Self {
        Self {
            config,
            oracle: SharedOracle::clone(oracle),
            lines: BTreeMap::new(),
            tasks: BTreeMap::new(),
            one_way: Vec::new(),
            timer: None,
            eager: false,
        }
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.lines.keys().copied()
    }

    pub(crate) fn open_calls(&self) -> usize {
        self.tasks.len()
    }

    /// Calls that the machines still hold.
    pub(crate) fn held_calls(&self) -> usize {
        self.lines.values().map(|it| it.callee.open_calls()).sum()
    }

    pub(crate) fn task_at(&self, at: u64) -> Option<(ConnectionId, CallId)> {
        let at = at.checked_rem(self.tasks.len() as u64)?;
        self.tasks.keys().nth(at as usize).copied()
    }

    /// What is still under way, for the report of a run that does not end.
    pub(crate) fn print(&self) {
        for (at, task) in &self.tasks {
            println!("{at:?} {task:?}");
        }
        for (id, line) in &self.lines {
            println!("{id}: {:?}", line.callee.calls().collect::<Vec<_>>());
        }
    }

    pub(crate) fn all_tasks(&self) -> Vec<(ConnectionId, CallId)> {
        self.tasks.keys().copied().collect()
    }

    /// A one-way handler is done.
    pub(crate) fn end_one_way(&mut self, cx: &mut Context<'_>) {
        let Some(id) = self.one_way.pop() else { return };
        if let Some(line) = self.lines.get_mut(&id) {
            let now = cx.now();
            let out = &mut Wire(cx, id);
            line.callee
                .finish(out, CallId::ONE_WAY, &Status::OK, &[], now);
        }
    }

    /// A handler goes on: takes what it holds, says its next message, ends.
    pub(crate) fn go_on(&mut self, cx: &mut Context<'_>, at: (ConnectionId, CallId)) {
        self.work(cx, at);
        self.after(cx, at.0);
    }

    fn work(&mut self, cx: &mut Context<'_>, at: (ConnectionId, CallId)) {
        let now = cx.now();
        let (Some(line), Some(task)) = (self.lines.get_mut(&at.0), self.tasks.get_mut(&at)) else {
            return;
        };
        let callee = &mut line.callee;
        let out = &mut Wire(cx, at.0);
        for cost in task.held.drain(..) {
            callee.grant(out, at.1, cost);
        }
        let is_stuck = task.plan.behaviour == Behaviour::Stuck && !self.eager;
        if is_stuck && !task.cancelled {
            return;
        }
        let mut oracle = self.oracle.borrow_mut();
        let body = || plan::body(task.of.0, task.answered, task.plan.answer_bytes);
        if !task.plan.kind.server_streams() {
            if !task.input_ended {
                return;
            }
            match callee.reply(out, at.1, &[], &body(), now) {
                Ok(()) => {
                    oracle.answered(task.of);
                    oracle.done(task.of, Code::Ok);
                }
                Err(Refused::NoMemory(_)) => {
                    let status = Status::of(Code::ResourceExhausted, "no memory");
                    callee.fail(out, at.1, &status, now);
                    oracle.done(task.of, status.code);
                }
                Err(refused) => oracle.rule(false, || format!("{:?}: {refused}", task.of)),
            }
            self.tasks.remove(&at);
        } else if task.answered < task.plan.answers {
            if task.full {
                return;
            }
            match callee.send(out, at.1, &body(), now) {
                Ok(()) => {
                    task.answered += 1;
                    oracle.answered(task.of);
                }
                Err(Refused::Full(_)) => task.full = true,
                Err(Refused::NoMemory(_) | Refused::Closed(_)) => {}
                Err(Refused::Ended(_)) if task.cancelled => task.answered = task.plan.answers,
                Err(refused) => oracle.rule(false, || format!("{:?}: {refused}", task.of)),
            }
        } else if task.input_ended {
            callee.finish(out, at.1, &Status::OK, &[], now);
            oracle.done(task.of, Code::Ok);
            self.tasks.remove(&at);
        }
    }

    fn opened(&mut self, cx: &mut Context<'_>, id: ConnectionId, opened: Opened<'_>) {
        let mut oracle = self.oracle.borrow_mut();
        let number = opened.metadata.value(Key::REQUEST_ID);
        let Some(number) = number.and_then(|it| Some(u32::from_le_bytes(it.try_into().ok()?)))
        else {
            return oracle.rule(false, || "a call without its number".to_owned());
        };
        let of = (number, opened.attempt);
        let plan = Plan::of(oracle.seed, number);
        oracle.ran(of);
        let named = opened.metadata.named("x-more") == Some(&[7; 40]);
        let right = opened.kind == plan.kind
            && opened.method == u32::from(plan.kind.to_wire())
            && opened.deadline.is_some() == plan.time.is_some()
            && opened.priority == plan.priority
            && opened.idempotent == plan.idempotent
            && opened.one_way == plan.one_way
            && opened.message.is_some() == plan.with_first
            && named == number.is_multiple_of(3);
        oracle.rule(right, || format!("{of:?} is not as planned: {opened:?}"));
        if let Some(message) = &opened.message {
            let read = plan::read(message);
            oracle.rule(read == Some((number, 0)), || format!("{of:?} is damaged"));
            oracle.got(of, 0);
        }
        if opened.one_way {
            self.one_way.push(id);
            return;
        }
        if plan.behaviour == Behaviour::Fails {
            let status = Status::of(Code::Aborted, "as planned")
                .with_app_code(7)
                .with_details(*b"details");
            let mut metadata = MetadataBuf::new();
            metadata.set(Key::TENANT, b"mark").unwrap();
            let now = cx.now();
            let callee = &mut self.lines.get_mut(&id).unwrap().callee;
            let out = &mut Wire(cx, id);
            callee.finish(out, opened.call, &status, metadata.bytes(), now);
            return oracle.done(of, Code::Aborted);
        }
        drop(oracle);
        let task = Task {
            of,
            plan,
            deadline: opened.deadline,
            input_ended: opened.end,
            answered: 0,
            full: false,
            cancelled: false,
            held: Vec::new(),
        };
        let at = (id, opened.call);
        let twice = self.tasks.insert(at, task);
        let mut oracle = self.oracle.borrow_mut();
        oracle.rule(twice.is_none(), || format!("{of:?} has the id of another"));
        drop(oracle);
        if plan.behaviour == Behaviour::Prompt {
            self.work(cx, at);
        }
    }

    fn event(&mut self, cx: &mut Context<'_>, id: ConnectionId, event: CalleeEvent<'_>) {
        match event {
            CalleeEvent::Opened(opened) => self.opened(cx, id, opened),
            CalleeEvent::Message {
                call,
                message,
                cost,
                end,
            } => {
                let Some(task) = self.tasks.get_mut(&(id, call)) else {
                    let mut oracle = self.oracle.borrow_mut();
                    return oracle.rule(false, || format!("{id} {call:?}: a message of no call"));
                };
                let mut oracle = self.oracle.borrow_mut();
                let Some((number, index)) = plan::read(&message) else {
                    return oracle.rule(false, || format!("{:?}: a damaged message", task.of));
                };
                oracle.rule(number == task.of.0, || format!("{:?}: {number}", task.of));
                oracle.got(task.of, index);
                task.input_ended |= end;
                if self.eager || task.of.0.is_multiple_of(2) {
                    let callee = &mut self.lines.get_mut(&id).unwrap().callee;
                    callee.grant(&mut Wire(cx, id), call, cost);
                } else {
                    task.held.push(cost);
                }
            }
            CalleeEvent::Ended { call } => match self.tasks.get_mut(&(id, call)) {
                Some(task) => task.input_ended = true,
                None => {
                    let mut oracle = self.oracle.borrow_mut();
                    oracle.rule(false, || format!("{id} {call:?}: the end of no stream"));
                }
            },
            CalleeEvent::Cancelled { call, reason } => self.cancelled(cx, id, call, reason),
            CalleeEvent::Writable { call } => {
                if let Some(task) = self.tasks.get_mut(&(id, call)) {
                    task.full = false;
                }
            }
        }
    }

    fn cancelled(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnectionId,
        call: CallId,
        reason: CancelReason,
    ) {
        let now = cx.now();
        let mut oracle = self.oracle.borrow_mut();
        let Some(task) = self.tasks.get_mut(&(id, call)) else {
            return oracle.rule(false, || format!("{id} {call:?}: no call is cancelled"));
        };
        let early = reason == CancelReason::Deadline && task.deadline.is_none_or(|at| at > now);
        oracle.rule(!early, || format!("{:?} is cancelled too early", task.of));
        let again = task.cancelled && reason != CancelReason::Broken;
        oracle.rule(!again, || format!("{:?}: cancelled twice", task.of));
        task.cancelled = true;
        // Nobody will say more, nor give credit.
        task.input_ended = true;
        task.full = false;
        let code = match reason {
            CancelReason::Broken => {
                // Ended already: there was no memory for a message of its stream.
                oracle.done(task.of, Code::ResourceExhausted);
                self.tasks.remove(&(id, call));
                return;
            }
            CancelReason::ByPeer => Code::Cancelled,
            CancelReason::Deadline => Code::DeadlineExceeded,
        };
        if task.plan.behaviour != Behaviour::Stubborn {
            let callee = &mut self.lines.get_mut(&id).unwrap().callee;
            callee.fail(&mut Wire(cx, id), call, &Status::of(code, "given up"), now);
            oracle.done(task.of, code);
            self.tasks.remove(&(id, call));
        }
    }

    fn after(&mut self, cx: &mut Context<'_>, id: ConnectionId) {
        loop {
            let Some(Line { callee, .. }) = self.lines.get_mut(&id) else {
                return;
            };
            if let Some(event) = callee.poll_event() {
                self.event(cx, id, event);
            } else if callee.wants_flush() && !cx.writable_below(id, BULK_BELOW_BYTES) {
                callee.flush(&mut Wire(cx, id));
            } else {
                break;
            }
        }
        // While it drains, the connection stays open for the calls that it has accepted.
        if let Some(line) = self.lines.get_mut(&id) {
            let is_busy = line.callee.open_calls() > 0;
            if is_busy != line.held {
                line.held = is_busy;
                cx.hold(id, is_busy);
            }
        }
        let next = self
            .lines
            .values()
            .filter_map(|it| it.callee.poll_timeout());
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
        oracle.rule(false, || format!("the server accuses: {violation}"));
        drop(oracle);
        cx.close(id, CloseCode::Malformed);
    }
}

impl Handler for Server {
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let id = message.connection();
        let now = cx.now();
        let Some(Line { callee, .. }) = self.lines.get_mut(&id) else {
            return;
        };
        let kept = Kept(&message);
        let frame = Frame {
            head: head(&message.header()),
            body: message.body(),
            keep: &kept,
        };
        match callee.handle_frame(&mut Wire(cx, id), frame, now) {
            Ok(Some(event)) => self.event(cx, id, event),
            Ok(None) => {}
            Err(violation) => return self.violated(cx, id, violation),
        }
        self.after(cx, id);
    }

    fn opened(&mut self, cx: &mut Context<'_>, id: ConnectionId, _peer: &Peer) {
        let table = Rc::new(MethodTable::new(&plan::bindings()));
        let pools = Rc::clone(cx.pools());
        let mut callee = Callee::new(self.config, table, pools, Lz4::compressors());
        callee.start(&mut Wire(cx, id));
        let line = Line {
            callee,
            held: false,
        };
        self.lines.insert(id, line);
    }

    fn writable(&mut self, cx: &mut Context<'_>, id: ConnectionId) {
        if let Some(Line { callee, .. }) = self.lines.get_mut(&id) {
            callee.flush(&mut Wire(cx, id));
            self.after(cx, id);
        }
    }

    fn closed(&mut self, _cx: &mut Context<'_>, id: ConnectionId, _closed: &Closed) {
        let Some(Line { mut callee, .. }) = self.lines.remove(&id) else {
            return;
        };
        self.one_way.retain(|of| *of != id);
        let mut oracle = self.oracle.borrow_mut();
        // Events that were made and not polled are of calls that are cut anyway.
        let mut cut = callee.handle_closed();
        cut.sort_unstable();
        let tasks = self.tasks.range((id, CallId::from_wire(0))..);
        let of_line = tasks.take_while(|((of, _), _)| *of == id);
        let open: Vec<CallId> = of_line.map(|((_, call), _)| *call).collect();
        oracle.rule(cut == open, || {
            format!("{id}: {cut:?} were cut of {open:?}")
        });
        for call in open {
            self.tasks.remove(&(id, call));
        }
    }

    fn place(&mut self, id: ConnectionId, header: &Header) -> Option<RecvBuffer> {
        self.lines.get_mut(&id)?.callee.place(&head(header))
    }

    fn placed(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnectionId,
        header: Header,
        buffer: RecvBuffer,
    ) {
        let now = cx.now();
        let Some(Line { callee, .. }) = self.lines.get_mut(&id) else {
            return;
        };
        match callee.handle_placed(&mut Wire(cx, id), head(&header), buffer, now) {
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
            if let Some(Line { callee, .. }) = self.lines.get_mut(&id) {
                callee.handle_timeout(&mut Wire(cx, id), now);
            }
            self.after(cx, id);
        }
    }
}
