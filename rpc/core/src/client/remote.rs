//! Calls of other threads: what they share with the engine, and the engine's side of it.
//!
//! A call is one [`Request`], made by its thread and known to both sides. The thread puts it into the engine's
//! bounded [`Inlet`]; everything after that goes through the request's own lock, held for moments only.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

use crossbeam_queue::ArrayQueue;
use ringway_buf::{Instant, Slice};
use ringway_call::{Code, Refused, Status};
use ringway_engine::{Context, Handle, OpenError};

use super::answer::{Answer, CallOptions};
use super::session::{CallKey, Waiter};
use super::{Clients, Target};
use crate::service::Method;

/// Commands that may wait for an engine.
const COMMANDS_MAX: usize = 4096;
/// Commands taken in one turn; the rest waits for the next.
const TURN_COMMANDS_MAX: usize = 256;
/// Bytes of a stream that may wait to be sent.
pub(crate) const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// What other threads want of an engine.
#[derive(Debug)]
pub(crate) enum Command {
    Connect(String, Arc<Connecting>),
    Disconnect(Target),
    Open(Arc<Request>),
    /// A request has something new for the engine.
    Attend(Arc<Request>),
}

/// The way into an engine.
#[derive(Debug)]
pub(crate) struct Inlet {
    queue: ArrayQueue<Command>,
    handle: OnceLock<Handle>,
}

impl Inlet {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: ArrayQueue::new(COMMANDS_MAX),
            handle: OnceLock::new(),
        })
    }

    /// The engine runs.
    pub(crate) fn open(&self, handle: Handle) {
        self.handle.get_or_init(|| handle);
    }

    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.handle.get()
    }

    /// Puts a command in; gives it back when the queue is full or the engine is gone.
    pub(crate) fn push(&self, command: Command) -> Result<(), Command> {
        match &self.handle() {
            Some(handle) if !handle.is_stopped() => {
                self.queue.push(command)?;
                handle.notify();
                Ok(())
            }
            _ => Err(command),
        }
    }

    /// The engine is gone: whoever waits is told.
    pub(crate) fn close(&self) {
        while let Some(command) = self.queue.pop() {
            match command {
                Command::Open(request) | Command::Attend(request) => {
                    request.end(Answer::of(super::gone()));
                }
                Command::Connect(_, connecting) => connecting.answer(Err(OpenError::Draining)),
                Command::Disconnect(_) => {}
            }
        }
    }
}

/// A thread that waits for the name of a server.
#[derive(Debug, Default)]
pub(crate) struct Connecting {
    outcome: Mutex<Option<Result<Target, OpenError>>>,
    changed: std::sync::Condvar,
}

impl Connecting {
    fn answer(&self, outcome: Result<Target, OpenError>) {
        *lock(&self.outcome) = Some(outcome);
        self.changed.notify_one();
    }

    pub(crate) fn wait(&self) -> Result<Target, OpenError> {
        let mut outcome = lock(&self.outcome);
        loop {
            match outcome.take() {
                Some(outcome) => return outcome,
                None => {
                    outcome = self
                        .changed
                        .wait(outcome)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// What a call is made with, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) target: Target,
    pub(crate) methods: &'static [Method],
    pub(crate) index: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) metadata: Box<[u8]>,
    pub(crate) priority: u8,
    pub(crate) wait_for_ready: bool,
    pub(crate) idempotent: bool,
    pub(crate) compress: bool,
}

/// One call of another thread.
#[derive(Debug)]
pub(crate) struct Request {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The first message, until the call is open.
    first: Option<Vec<u8>>,
    key: Option<CallKey>,
    unsent: VecDeque<Vec<u8>>,
    unsent_bytes: usize,
    /// The client has said its last (behind what is unsent).
    end: bool,
    end_sent: bool,
    /// Credit to give back.
    granted: u32,
    cancelled: bool,
    /// The engine is told already.
    attended: bool,
    inbox: VecDeque<(Slice, u32)>,
    answer: Option<Answer>,
    over: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What these locks guard is changed in steps that can't fail half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Request {
    pub(crate) fn new(settings: Settings, first: Option<Vec<u8>>, end: bool) -> Arc<Self> {
        Arc::new(Self {
            settings,
            state: Mutex::new(State {
                first,
                end,
                ..State::default()
            }),
        })
    }

    pub(crate) fn waits(&self) -> bool {
        self.settings.wait_for_ready
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.settings.deadline
    }

    /// The call is over. The first word counts.
    pub(crate) fn end(&self, answer: Answer) {
        let wakers = {
            let mut state = lock(&self.state);
            if state.over {
                return;
            }
            state.over = true;
            state.answer = Some(answer);
            state.unsent.clear();
            [state.reader.take(), state.writer.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// A message of the answering stream. Bounded by the stream's credit.
    pub(crate) fn message(&self, message: Slice, cost: u32) {
        let waker = {
            let mut state = lock(&self.state);
            state.inbox.push_back((message, cost));
            state.reader.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for the end of the call.
    pub(crate) fn poll_answer(&self, cx: &TaskContext<'_>) -> Poll<Answer> {
        let mut state = lock(&self.state);
        if let Some(answer) = state.answer.take() {
            return Poll::Ready(answer);
        }
        if state.over {
            return Poll::Ready(Answer::of(super::gone()));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits for the next message of the answering stream, or its end.
    pub(crate) fn poll_message(
        self: &Arc<Self>,
        inlet: &Inlet,
        cx: &TaskContext<'_>,
    ) -> Poll<Result<Slice, Answer>> {
        let (message, attend) = {
            let mut state = lock(&self.state);
            let Some((message, cost)) = state.inbox.pop_front() else {
                if let Some(answer) = state.answer.take() {
                    return Poll::Ready(Err(answer));
                }
                if state.over {
                    return Poll::Ready(Err(Answer::of(Status::OK)));
                }
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            state.granted = state.granted.saturating_add(cost);
            (message, state.wants_attention())
        };
        if attend {
            self.attend(inlet);
        }
        Poll::Ready(Ok(message))
    }

    /// Waits for room for one more message.
    pub(crate) fn poll_room(&self, cx: &TaskContext<'_>) -> Poll<Result<(), Status>> {
        let mut state = lock(&self.state);
        if state.over || state.end {
            return Poll::Ready(Err(Status::of(Code::Cancelled, "the stream is over")));
        }
        if state.unsent_bytes < UNSENT_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Adds a message to the client's stream.
    pub(crate) fn send(self: &Arc<Self>, inlet: &Inlet, message: Vec<u8>) {
        let attend = {
            let mut state = lock(&self.state);
            if state.over || state.end {
                return;
            }
            state.unsent_bytes += message.len().max(1);
            state.unsent.push_back(message);
            state.wants_attention()
        };
        if attend {
            self.attend(inlet);
        }
    }

    /// Ends the client's stream.
    pub(crate) fn finish(self: &Arc<Self>, inlet: &Inlet) {
        let attend = {
            let mut state = lock(&self.state);
            if state.over || state.end {
                return;
            }
            state.end = true;
            state.wants_attention()
        };
        if attend {
            self.attend(inlet);
        }
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn cancel(self: &Arc<Self>, inlet: &Inlet) {
        let attend = {
            let mut state = lock(&self.state);
            if state.over || state.cancelled {
                return;
            }
            state.cancelled = true;
            state.wants_attention()
        };
        if attend {
            self.attend(inlet);
        }
    }

    fn attend(self: &Arc<Self>, inlet: &Inlet) {
        let mut command = Command::Attend(Arc::clone(self));
        // The queue is full of the commands of others: the engine is at work on them.
        while let Err(back) = inlet.push(command) {
            if inlet.handle().is_none_or(Handle::is_stopped) {
                return self.end(Answer::of(super::gone()));
            }
            command = back;
            std::thread::yield_now();
        }
    }
}

impl State {
    /// Whether the engine has to be told; true once until it has looked.
    fn wants_attention(&mut self) -> bool {
        !core::mem::replace(&mut self.attended, true)
    }
}

/// Takes the commands of other threads: a bounded number, the rest in the next turn.
pub(crate) fn take(clients: &mut Clients, cx: &mut Context<'_>, inlet: &Inlet) {
    for _ in 0..TURN_COMMANDS_MAX {
        let Some(command) = inlet.queue.pop() else {
            return;
        };
        match command {
            Command::Connect(address, connecting) => {
                connecting.answer(clients.connect(cx, &address));
            }
            Command::Disconnect(target) => clients.disconnect(cx, target),
            Command::Open(request) => {
                let target = request.settings.target;
                if let Some(request) = open(clients, cx, target, request) {
                    clients.wait_for_room(cx, target, request);
                }
            }
            Command::Attend(request) => attended(clients, cx, &request),
        }
    }
    if let Some(handle) = inlet.handle() {
        handle.notify();
    }
}

/// Opens a call; gives the request back if it has to wait for a connection or for room on it.
pub(crate) fn open(
    clients: &mut Clients,
    cx: &mut Context<'_>,
    target: Target,
    request: Arc<Request>,
) -> Option<Arc<Request>> {
    let settings = &request.settings;
    let now = cx.now();
    let timeout = match settings.deadline {
        Some(deadline) if deadline <= now => {
            let status = Status::of(Code::DeadlineExceeded, "the deadline has passed");
            request.end(Answer::of(status.not_started()));
            return None;
        }
        deadline => deadline.map(|deadline| deadline - now),
    };
    let method = match clients.bind(cx, target, settings.methods) {
        Ok(first) => first + settings.index,
        Err(status) => {
            request.end(Answer::of(status.not_started()));
            return None;
        }
    };
    let (first, end) = {
        let mut state = lock(&request.state);
        if state.cancelled {
            drop(state);
            request.end(Answer::of(Status::of(Code::Cancelled, "").not_started()));
            return None;
        }
        let end = state.end && state.unsent.is_empty();
        (state.first.take(), end)
    };
    let options = CallOptions {
        timeout,
        metadata: &settings.metadata,
        priority: settings.priority,
        wait_for_ready: settings.wait_for_ready,
        idempotent: settings.idempotent,
        compress: settings.compress,
    };
    let waiter = Waiter::Remote(Arc::clone(&request));
    let body = first.as_ref();
    match clients.open(cx, target, method, &options, body, end, waiter) {
        Ok(key) => {
            {
                let mut state = lock(&request.state);
                state.key = Some(key);
                state.end_sent = end;
            }
            pump(clients, cx, key, &request);
            None
        }
        Err(refused) => {
            let must_wait = match &refused {
                Refused::Full(_) | Refused::Draining(_) => true,
                // Not connected: a method that was refused is refused at once, the others wait for the connection.
                Refused::NotReady(_) => !matches!(clients.bound(target, method), Some(Err(_))),
                _ => false,
            };
            if must_wait {
                lock(&request.state).first = first;
                return Some(request);
            }
            let status = clients.status_of(target, method, &refused);
            request.end(Answer::of(status));
            None
        }
    }
}

/// A request has something new.
fn attended(clients: &mut Clients, cx: &mut Context<'_>, request: &Arc<Request>) {
    let (key, cancelled) = {
        let mut state = lock(&request.state);
        state.attended = false;
        (state.key, state.cancelled)
    };
    match key {
        Some(key) if cancelled => {
            clients.cancel(cx, key);
            request.end(Answer::of(Status::of(Code::Cancelled, "")));
        }
        Some(key) => pump(clients, cx, key, request),
        // It still waits for its connection, which looks at it again.
        None => {}
    }
}

/// Sends what a request has to send, as far as there is room.
pub(crate) fn pump(
    clients: &mut Clients,
    cx: &mut Context<'_>,
    key: CallKey,
    request: &Arc<Request>,
) {
    let granted = core::mem::take(&mut lock(&request.state).granted);
    if granted > 0 {
        clients.with(cx, key, |caller, out, call| {
            caller.grant(out, call, granted)
        });
    }
    loop {
        let (message, end) = {
            let mut state = lock(&request.state);
            if state.over || state.end_sent {
                return;
            }
            match state.unsent.pop_front() {
                Some(message) => {
                    let end = state.end && state.unsent.is_empty();
                    (Some(message), end)
                }
                None if state.end => (None, true),
                None => return,
            }
        };
        let Some(message) = message else {
            clients.with(cx, key, |caller, out, call| caller.end(out, call));
            lock(&request.state).end_sent = true;
            return;
        };
        let compress = request.settings.compress;
        let sent = clients.with(cx, key, |caller, out, call| {
            caller.send(out, call, &message, end, compress)
        });
        let full = matches!(sent, Some(Err(Refused::Full(_))));
        let failed = match sent {
            Some(Err(refused)) if !full => Some(refused.to_string()),
            _ => None,
        };
        let waker = {
            let mut state = lock(&request.state);
            if full {
                state.unsent.push_front(message);
                return;
            }
            state.unsent_bytes = state.unsent_bytes.saturating_sub(message.len().max(1));
            state.end_sent |= end;
            state.writer.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(why) = failed {
            clients.cancel(cx, key);
            let status = Status::new(Code::ResourceExhausted, &why);
            return request.end(Answer::of(status));
        }
    }
}
