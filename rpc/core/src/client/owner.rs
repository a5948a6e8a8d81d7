//! The owner's face: who has engine and node in a loop of its own starts calls and takes what happened to them.
//!
//! For bindings to other languages and for poll loops. Nothing here waits or turns the engine; where
//! [`InlineChannel`](crate::InlineChannel) would, the caller gets the refusal.

use ringway_buf::{Instant, Slice};
use ringway_call::{Body, Code, Open, Refused, Status};
use ringway_engine::Context;

use super::answer::{Answer, CallOptions};
use super::session::{CallKey, Waiter};
use super::{Clients, Happening, Target};

/// What happened to a call that [`Clients::start`] opened.
#[derive(Debug)]
pub enum CallEvent {
    /// A message of the answering stream. Its cost goes back by [`Clients::grant`] when it is done with.
    Message(Slice, u32),
    /// There is room for a message of the client's stream again.
    Writable,
    /// The call is over; nothing more comes of it.
    Ended(Answer),
}

/// Why a message was not taken; it surely was not sent.
#[derive(Clone, Debug)]
pub enum NotTaken {
    /// The message or its metadata is longer than the server takes: trying again does not help.
    TooLong(Status),
    /// Anything else.
    Other(Status),
}

impl From<NotTaken> for Status {
    fn from(not_taken: NotTaken) -> Self {
        match not_taken {
            NotTaken::TooLong(status) | NotTaken::Other(status) => status,
        }
    }
}

impl NotTaken {
    fn new<B>(status: Status, refused: &Refused<B>) -> Self {
        match refused {
            Refused::TooLong { .. } | Refused::MetadataTooLong { .. } => Self::TooLong(status),
            _ => Self::Other(status),
        }
    }
}

impl Clients {
    /// Opens a call and does not wait. `now` is the clock's reading, for calls with a timeout. With a body and `end` it
    /// is a unary call or a server's stream; without `end` the client streams.
    ///
    /// # Errors
    /// Why the call could not be opened; it is surely not started. UNAVAILABLE: there is no connection now.
    pub fn start<B: Body>(
        &mut self,
        cx: &mut Context<'_>,
        target: Target,
        method: u32,
        options: &CallOptions<'_>,
        request: (Option<B>, bool),
        now: Instant,
    ) -> Result<CallKey, NotTaken> {
        if self.is_overfull() {
            let text = "too many answers wait to be taken";
            let status = Status::of(Code::ResourceExhausted, text).not_started();
            return Err(NotTaken::Other(status));
        }
        let (body, end) = request;
        let open = Open {
            end,
            ..options.open(method, now)
        };
        self.try_open(cx, target, &open, body, now, Waiter::Owner)
    }

    /// Makes a call that nobody answers. `Ok`: it is accepted for sending; whether it arrives is not known.
    ///
    /// # Errors
    /// Why the call could not be made; it is surely not started.
    pub fn one_way<B: Body>(
        &mut self,
        cx: &mut Context<'_>,
        target: Target,
        method: u32,
        options: &CallOptions<'_>,
        request: B,
    ) -> Result<(), NotTaken> {
        let now = cx.now();
        let open = Open {
            one_way: true,
            ..options.open(method, now)
        };
        self.try_open(cx, target, &open, Some(request), now, Waiter::Nobody)
            .map(|_no_key| ())
    }

    fn try_open<B: Body>(
        &mut self,
        cx: &mut Context<'_>,
        target: Target,
        open: &Open<'_>,
        body: Option<B>,
        now: Instant,
        waiter: Waiter,
    ) -> Result<CallKey, NotTaken> {
        self.open(cx, target, open, body, now, || waiter)
            .map_err(|refused| {
                let status = self.status_of(target, open.method, &refused);
                NotTaken::new(status, &refused)
            })
    }

    /// Sends a message of a client's stream if there is room now; `Ok(false)` if not,
    /// [`CallEvent::Writable`] follows then.
    ///
    /// # Errors
    /// CANCELLED: the call is over; RESOURCE_EXHAUSTED: the message is too long, or memory lacks.
    pub fn send<B: Body>(
        &mut self,
        cx: &mut Context<'_>,
        key: CallKey,
        message: B,
        end: bool,
    ) -> Result<bool, NotTaken> {
        let sent = self.with(cx, key, |caller, out, call| {
            caller.send(out, call, message, end, false)
        });
        match sent {
            Some(Ok(())) => Ok(true),
            Some(Err(Refused::Full(_))) => Ok(false),
            Some(Err(refused @ (Refused::TooLong { .. } | Refused::NoMemory(_)))) => {
                let status = Status::new(Code::ResourceExhausted, &refused.to_string());
                Err(NotTaken::new(status, &refused))
            }
            _ => {
                let status = Status::of(Code::Cancelled, "the call is over");
                Err(NotTaken::Other(status))
            }
        }
    }

    /// Ends a client's stream without a further message. False if it, or the call, is over already.
    pub fn end(&mut self, cx: &mut Context<'_>, key: CallKey) -> bool {
        let ended = self.with(cx, key, |caller, out, call| caller.end(out, call));
        ended == Some(true)
    }

    /// A message of the answering stream is done with: its cost goes back to the server as credit.
    pub fn grant(&mut self, cx: &mut Context<'_>, key: CallKey, cost: u32) {
        self.with(cx, key, |caller, out, call| caller.grant(out, call, cost));
    }

    /// The next thing that happened to a call of [`start`](Self::start). In the order in which it came.
    #[inline]
    pub fn next_event(&mut self) -> Option<(CallKey, CallEvent)> {
        let (key, happening) = self.next()?;
        let event = match happening {
            Happening::Message(message, cost) => CallEvent::Message(message, cost),
            Happening::Writable => CallEvent::Writable,
            Happening::Answered(message) => CallEvent::Ended(Answer::plain(message)),
            Happening::Ended(answer) => CallEvent::Ended(*answer),
        };
        Some((key, event))
    }
}
