//! The engine's side of calls that come through its [`Inlet`]: they are opened, wait for a connection or for room,
//! and are served as their callers say something new.

use std::collections::VecDeque;
use std::sync::Arc;

use ringway_buf::Instant;
use ringway_call::{Code, Open, Refused, Status};
use ringway_engine::{Context, OpenError};

use super::answer::Answer;
use super::endpoint::{State, WAITING_MAX};
use super::inlet::{COMMANDS_MAX, Command, Inlet, Note, Place};
use super::nested::Continuation;
use super::request::{Next, Opening, Request, Stage};
use super::session::{CallKey, Waiter};
use super::{Clients, Target, gone};

/// Commands, and notes, taken in one turn; the rest waits for the next.
const TURN_COMMANDS_MAX: usize = 256;

/// A call that is not open yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) request: Arc<Request>,
    /// Who gets the answer, if not the holder of the request.
    pub(crate) then: Option<Continuation>,
}

impl Pending {
    /// It ends before it was open.
    pub(crate) fn end(mut self, cx: &mut Context<'_>, status: Status) {
        let answer = Answer::of(status.not_started());
        match self.then.take() {
            Some(then) => then.run(cx, answer),
            None => self.request.end(answer),
        }
    }

    fn is_late(&self, now: Instant) -> bool {
        self.request.deadline().is_some_and(|at| at <= now)
    }
}

/// Takes what others want: a bounded number, the rest in the next turn.
pub(crate) fn take(clients: &mut Clients, cx: &mut Context<'_>, inlet: &Inlet) {
    for _ in 0..TURN_COMMANDS_MAX {
        match inlet.command() {
            None => break,
            Some(Command::Connect(place)) => {
                // A call will be told why.
                let _known = clients.target_of(cx, &place).is_ok();
            }
            Some(Command::Open(request)) => begin(
                clients,
                cx,
                Pending {
                    request,
                    then: None,
                },
            ),
        }
    }
    for _ in 0..TURN_COMMANDS_MAX {
        match inlet.next_note() {
            None => break,
            Some(Note::Attend(request)) => attend(clients, cx, &request),
            Some(Note::Leave(place)) => leave(clients, cx, inlet, place),
        }
    }
    if inlet.has_work() {
        inlet.come_back();
    }
}

/// The last channel to a server is gone. One-way calls of it may still wait in front of the inlet.
fn leave(clients: &mut Clients, cx: &mut Context<'_>, inlet: &Inlet, place: Arc<Place>) {
    for _ in 0..COMMANDS_MAX {
        if let Some(Command::Open(request)) = inlet.command() {
            begin(
                clients,
                cx,
                Pending {
                    request,
                    then: None,
                },
            );
        }
    }
    if let Some(target) = place.target.get() {
        clients.disconnect(cx, *target);
    }
}

/// A call is new.
pub(crate) fn begin(clients: &mut Clients, cx: &mut Context<'_>, pending: Pending) {
    pending.request.arrived(cx.now());
    let place = Arc::clone(&pending.request.settings.place);
    let target = match clients.target_of(cx, &place) {
        Ok(target) => target,
        Err(error) => return pending.end(cx, unusable(&error)),
    };
    // Those who came before go first.
    let must_queue = clients.has_waiting(target);
    let refused = if must_queue {
        Some(pending)
    } else {
        open(clients, cx, target, pending)
    };
    if let Some(pending) = refused {
        clients.wait_for_room(cx, target, pending);
    }
}

#[cold]
fn unusable(error: &OpenError) -> Status {
    let code = match error {
        OpenError::TooMany { .. } => Code::ResourceExhausted,
        OpenError::Draining => Code::Unavailable,
        _ => Code::InvalidArgument,
    };
    Status::new(code, &error.to_string())
}

/// Opens a call; gives it back if it has to wait for a connection or for room on it.
pub(crate) fn open(
    clients: &mut Clients,
    cx: &mut Context<'_>,
    target: Target,
    mut pending: Pending,
) -> Option<Pending> {
    let request = Arc::clone(&pending.request);
    let settings = &request.settings;
    if pending.is_late(cx.now()) {
        pending.end(cx, late());
        return None;
    }
    let method = match clients.bind_service(cx, target, &settings.methods) {
        Ok(first) => first + settings.index,
        Err(status) => {
            pending.end(cx, status);
            return None;
        }
    };
    let Some(Opening { first, end }) = request.opening() else {
        pending.end(cx, Status::of(Code::Cancelled, "the call was cancelled"));
        return None;
    };
    let open = Open {
        method,
        deadline: request.deadline(),
        priority: settings.priority,
        attempt: 0,
        idempotent: settings.idempotent,
        one_way: settings.one_way,
        compress: settings.compress,
        metadata: &settings.metadata,
        end,
    };
    let body = first.as_deref();
    let then = &mut pending.then;
    let now = cx.now();
    let opened = clients.open(cx, target, &open, body, now, || match then.take() {
        Some(then) => Waiter::Then(then),
        None => Waiter::Remote(Arc::clone(&request)),
    });
    match opened {
        Ok(_) if settings.one_way => {
            // Nothing comes back: it is over as soon as it is accepted for sending.
            let answer = Answer::of(Status::OK);
            request.end(answer);
        }
        Ok(key) => {
            request.opened(key, end);
            pump(clients, cx, key, &request);
        }
        Err(refused) if clients.is_worth_waiting(target, method, &refused) => {
            request.not_opened(first);
            return Some(pending);
        }
        Err(refused) => {
            let status = clients.status_of(target, method, &refused);
            pending.end(cx, status);
        }
    }
    None
}

#[cold]
fn late() -> Status {
    Status::of(Code::DeadlineExceeded, "the deadline has passed")
}

/// A call has something new.
fn attend(clients: &mut Clients, cx: &mut Context<'_>, request: &Arc<Request>) {
    match request.attended() {
        Stage::Open(key) => pump(clients, cx, key, request),
        Stage::Cancelled(Some(key)) => {
            clients.cancel(cx, key);
            request.end(Answer::of(Status::of(
                Code::Cancelled,
                "the call was cancelled",
            )));
        }
        Stage::Cancelled(None) => clients.forget_waiting(request),
        // Whoever opens it looks at everything.
        Stage::Waiting => {}
    }
}

/// Sends what a call has to send, as far as there is room.
pub(crate) fn pump(
    clients: &mut Clients,
    cx: &mut Context<'_>,
    key: CallKey,
    request: &Arc<Request>,
) {
    let granted = request.granted();
    if granted > 0 {
        clients.with(cx, key, |caller, out, call| {
            caller.grant(out, call, granted);
        });
    }
    loop {
        let (message, end) = match request.next() {
            Next::Nothing => return,
            Next::End => {
                clients.with(cx, key, |caller, out, call| caller.end(out, call));
                return;
            }
            Next::Message { message, end } => (message, end),
        };
        let compress = request.settings.compress;
        let sent = clients.with(cx, key, |caller, out, call| {
            caller.send(out, call, &*message, end, compress)
        });
        match sent {
            Some(Err(Refused::Full(_))) => return request.unsent(message),
            Some(Err(refused @ (Refused::TooLong { .. } | Refused::NoMemory(_)))) => {
                let status = Status::new(Code::ResourceExhausted, &refused.to_string());
                clients.cancel(cx, key);
                return request.end(Answer::of(status));
            }
            // Sent, or the call is over and its end is on the way to its caller.
            _ => request.sent(message.len(), end),
        }
    }
}

// Calls that wait for a connection, or for room on it.
impl Clients {
    fn has_waiting(&self, target: Target) -> bool {
        let endpoint = self.endpoints.get(target.0);
        endpoint.is_some_and(|endpoint| !endpoint.waiting.is_empty())
    }

    /// Keeps a call until there is a connection with room.
    fn wait_for_room(&mut self, cx: &mut Context<'_>, target: Target, pending: Pending) {
        let retries = self.retries.iter().any(|(_, id)| *id == target.0);
        let Some(endpoint) = self.endpoints.get_mut(target.0) else {
            return pending.end(cx, gone());
        };
        if endpoint.state == State::Failing && !pending.request.waits() {
            let status = endpoint.unavailable();
            return pending.end(cx, status);
        }
        if endpoint.waiting.len() >= WAITING_MAX {
            let text = "too many calls wait for the connection";
            return pending.end(cx, Status::of(Code::ResourceExhausted, text));
        }
        let deadline = pending.request.deadline();
        let is_stuck = endpoint.state == State::Failing && !retries;
        endpoint.waiting.push_back(pending);
        self.waits = true;
        self.watch_waiting(cx, deadline);
        if is_stuck {
            // There was no timer for the next attempt.
            self.attempt(cx, target.0);
        }
    }

    /// Keeps the engine's timer at the earliest deadline of a call that waits.
    fn watch_waiting(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) {
        let Some(at) = deadline else { return };
        if self.expiry.is_none_or(|(_, earliest)| at < earliest) {
            if let Some((timer, _)) = self.expiry.take() {
                cx.cancel_timer(timer);
            }
            let now = cx.now();
            self.expiry = cx.set_timer(at - now).map(|timer| (timer, at));
        }
    }

    /// Takes those calls out that wait and for which `leaves` holds.
    fn take_waiting(&mut self, leaves: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        let mut taken = Vec::new();
        for id in self.endpoints.ids() {
            if let Some(endpoint) = self.endpoints.get_mut(id)
                && endpoint.waiting.iter().any(&leaves)
            {
                let all = core::mem::take(&mut endpoint.waiting);
                let (leave, stay): (VecDeque<_>, _) = all.into_iter().partition(&leaves);
                endpoint.waiting = stay;
                taken.extend(leave);
            }
        }
        taken
    }

    /// Ends the calls whose deadline passed while they waited.
    pub(super) fn expire_waiting(&mut self, cx: &mut Context<'_>) {
        self.expiry = None;
        let now = cx.now();
        for pending in self.take_waiting(|pending| pending.is_late(now)) {
            pending.end(cx, late());
        }
        let all = self.endpoints.iter().flat_map(|(_, it)| &it.waiting);
        let next = all.filter_map(|pending| pending.request.deadline()).min();
        self.watch_waiting(cx, next);
    }

    /// A call that waits was cancelled.
    fn forget_waiting(&mut self, request: &Arc<Request>) {
        let same = |pending: &Pending| Arc::ptr_eq(&pending.request, request);
        for pending in self.take_waiting(same) {
            // Nobody wants to know; a continuation is dropped.
            drop(pending.then);
            let status = Status::of(Code::Cancelled, "the call was cancelled");
            pending.request.end(Answer::of(status.not_started()));
        }
    }

    /// Opens calls that wait for a server, as far as there is room.
    pub(super) fn go_on(&mut self, cx: &mut Context<'_>, target: Target) {
        while let Some(endpoint) = self.endpoints.get_mut(target.0) {
            if endpoint.ready().is_none() {
                return;
            }
            let Some(pending) = endpoint.waiting.pop_front() else {
                self.waits = self.endpoints.iter().any(|(_, it)| !it.waiting.is_empty());
                return;
            };
            if let Some(pending) = open(self, cx, target, pending) {
                if let Some(endpoint) = self.endpoints.get_mut(target.0) {
                    endpoint.waiting.push_front(pending);
                }
                return;
            }
        }
    }
}
