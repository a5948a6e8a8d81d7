//! A call of another thread, or of a handler's future: what the caller and the engine share about it.
//!
//! Made by the caller, known to both sides. It enters the engine as a command; everything after that goes through
//! its own lock, which is held for moments only and never while code of others runs.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

use ringway_buf::{Instant, Slice};
use ringway_call::{Code, Status};

use super::Channel;
use super::answer::Answer;
use super::inlet::{Inlet, Note, Place};
use super::session::CallKey;
use crate::service::Methods;

/// Bytes of a stream that may wait to be sent, and one message.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// What a call is made with, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) place: Arc<Place>,
    pub(crate) methods: Methods,
    pub(crate) index: u32,
    pub(crate) metadata: Box<[u8]>,
    pub(crate) priority: u8,
    pub(crate) wait_for_ready: bool,
    pub(crate) idempotent: bool,
    pub(crate) compress: bool,
    pub(crate) one_way: bool,
    /// Counted by the engine's clock from when it takes the call; for callers who do not know that clock.
    pub(crate) timeout: Option<Duration>,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) settings: Settings,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    deadline: Option<Instant>,
    /// The first message, until the call is open.
    first: Option<Vec<u8>>,
    /// A call that nobody waits for keeps its channel, and so its engine, until it is on its way.
    keep: Option<Channel>,
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
    noted: bool,
    inbox: VecDeque<(Slice, u32)>,
    answer: Option<Answer>,
    over: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Where a call is, for the engine.
pub(crate) enum Stage {
    /// Nobody wants it any more.
    Cancelled(Option<CallKey>),
    /// It waits for its connection.
    Waiting,
    Open(CallKey),
}

/// What an engine opens a call with.
pub(crate) struct Opening {
    pub(crate) first: Option<Vec<u8>>,
    pub(crate) end: bool,
}

/// The next thing to send of a call.
pub(crate) enum Next {
    Nothing,
    /// No message; the stream ends.
    End,
    Message {
        message: Vec<u8>,
        end: bool,
    },
}

fn register(slot: &mut Option<Waker>, cx: &TaskContext<'_>) {
    if !slot.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}

// The caller's side.
impl Request {
    pub(crate) fn new(
        settings: Settings,
        deadline: Option<Instant>,
        first: Option<Vec<u8>>,
        end: bool,
        keep: Option<Channel>,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            state: Mutex::new(State {
                deadline,
                first,
                keep,
                end,
                ..State::default()
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is changed in steps that can't fail half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of the call. Messages of a stream that nobody took are let go.
    pub(crate) fn poll_answer(
        self: &Arc<Self>,
        inlet: &Inlet,
        cx: &TaskContext<'_>,
    ) -> Poll<Answer> {
        let mut state = self.lock();
        let left = core::mem::take(&mut state.inbox);
        if let Some(answer) = state.answer.take() {
            return Poll::Ready(answer);
        }
        if state.over {
            return Poll::Ready(Answer::of(Status::of(Code::Cancelled, "the call is over")));
        }
        register(&mut state.reader, cx);
        for (_, cost) in &left {
            state.granted = state.granted.saturating_add(*cost);
        }
        let attend = !left.is_empty() && state.wants_attention();
        drop(state);
        if attend {
            inlet.note(Note::Attend(Arc::clone(self)));
        }
        Poll::Pending
    }

    /// Waits for the next message of the answering stream, or its end.
    pub(crate) fn poll_message(
        self: &Arc<Self>,
        inlet: &Inlet,
        cx: &TaskContext<'_>,
    ) -> Poll<Result<Slice, Answer>> {
        let mut state = self.lock();
        let Some((message, cost)) = state.inbox.pop_front() else {
            if let Some(answer) = state.answer.take() {
                return Poll::Ready(Err(answer));
            }
            if state.over {
                return Poll::Ready(Err(Answer::of(Status::OK)));
            }
            register(&mut state.reader, cx);
            return Poll::Pending;
        };
        state.granted = state.granted.saturating_add(cost);
        let attend = !state.over && state.wants_attention();
        drop(state);
        if attend {
            inlet.note(Note::Attend(Arc::clone(self)));
        }
        Poll::Ready(Ok(message))
    }

    /// Waits for room for one more message.
    pub(crate) fn poll_room(&self, cx: &TaskContext<'_>) -> Poll<Result<(), Status>> {
        let mut state = self.lock();
        if state.over || state.end || state.cancelled {
            return Poll::Ready(Err(Status::of(Code::Cancelled, "the call is over")));
        }
        if state.unsent_bytes < UNSENT_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        register(&mut state.writer, cx);
        Poll::Pending
    }

    /// Adds a message to the client's stream.
    pub(crate) fn send(self: &Arc<Self>, inlet: &Inlet, message: Vec<u8>) {
        self.change(inlet, |state| {
            if state.end {
                return false;
            }
            state.unsent_bytes += message.len().max(1);
            state.unsent.push_back(message);
            true
        });
    }

    /// Ends the client's stream.
    pub(crate) fn finish(self: &Arc<Self>, inlet: &Inlet) {
        self.change(inlet, |state| !core::mem::replace(&mut state.end, true));
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn cancel(self: &Arc<Self>, inlet: &Inlet) {
        self.change(inlet, |state| {
            !core::mem::replace(&mut state.cancelled, true)
        });
    }

    /// Changes something of a call that is not over, and tells the engine of it.
    fn change(self: &Arc<Self>, inlet: &Inlet, change: impl FnOnce(&mut State) -> bool) {
        let attend = {
            let mut state = self.lock();
            !state.over && change(&mut state) && state.wants_attention()
        };
        if attend {
            inlet.note(Note::Attend(Arc::clone(self)));
        }
    }
}

// The engine's side.
impl Request {
    pub(crate) fn waits(&self) -> bool {
        self.settings.wait_for_ready
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lock().deadline
    }

    /// The engine has it: a timeout becomes a deadline.
    pub(crate) fn arrived(&self, now: Instant) {
        if let Some(timeout) = self.settings.timeout {
            let at = now + timeout;
            let mut state = self.lock();
            state.deadline = Some(state.deadline.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// The call is over. The first word counts.
    pub(crate) fn end(&self, answer: Answer) {
        let (wakers, _keep) = {
            let mut state = self.lock();
            if state.over {
                return;
            }
            state.over = true;
            state.answer = Some(answer);
            state.first = None;
            state.unsent = VecDeque::new();
            let wakers = [state.reader.take(), state.writer.take()];
            (wakers, state.keep.take())
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// The engine is gone.
    #[cold]
    pub(crate) fn lost(&self) {
        let status = Status::of(Code::Unavailable, "the client's engine is gone");
        let is_open = self.lock().key.is_some();
        let status = if is_open {
            status
        } else {
            status.not_started()
        };
        self.end(Answer::of(status));
    }

    /// A message of the answering stream. Bounded by the stream's credit.
    pub(crate) fn message(&self, message: Slice, cost: u32) {
        let waker = {
            let mut state = self.lock();
            state.inbox.push_back((message, cost));
            state.reader.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes what to open the call with; `None` if it was cancelled meanwhile.
    pub(crate) fn opening(&self) -> Option<Opening> {
        let mut state = self.lock();
        if state.cancelled {
            return None;
        }
        Some(Opening {
            end: state.end && state.unsent.is_empty(),
            first: state.first.take(),
        })
    }

    /// It could not be opened yet.
    pub(crate) fn not_opened(&self, first: Option<Vec<u8>>) {
        self.lock().first = first;
    }

    pub(crate) fn opened(&self, key: CallKey, end: bool) {
        let mut state = self.lock();
        state.key = Some(key);
        state.end_sent = end;
    }

    /// Looks at what is new; from here on another note tells of what comes next.
    pub(crate) fn attended(&self) -> Stage {
        let mut state = self.lock();
        state.noted = false;
        match state.key {
            key if state.cancelled => Stage::Cancelled(key),
            Some(key) => Stage::Open(key),
            None => Stage::Waiting,
        }
    }

    /// Credit to give back.
    pub(crate) fn granted(&self) -> u32 {
        core::mem::take(&mut self.lock().granted)
    }

    pub(crate) fn next(&self) -> Next {
        let mut state = self.lock();
        if state.over || state.end_sent {
            return Next::Nothing;
        }
        match state.unsent.pop_front() {
            Some(message) => Next::Message {
                message,
                end: state.end && state.unsent.is_empty(),
            },
            None if state.end => {
                state.end_sent = true;
                Next::End
            }
            None => Next::Nothing,
        }
    }

    /// The connection had no room for it.
    pub(crate) fn unsent(&self, message: Vec<u8>) {
        self.lock().unsent.push_front(message);
    }

    /// A message of `len` bytes is sent.
    pub(crate) fn sent(&self, len: usize, end: bool) {
        let waker = {
            let mut state = self.lock();
            state.unsent_bytes = state.unsent_bytes.saturating_sub(len.max(1));
            state.end_sent |= end;
            state.writer.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    /// Whether the engine has to be told; true once until it has looked.
    fn wants_attention(&mut self) -> bool {
        !core::mem::replace(&mut self.noted, true)
    }
}
