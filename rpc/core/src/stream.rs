//! The two ends that an `async` handler holds of a stream.
//!
//! A [`Sender`] writes ahead of the connection by a bounded number of bytes and then waits until the client has
//! given credit; a [`Receiver`] gives credit back as its messages are taken. So a slow reader slows its own writer
//! and nobody else. Both are bound to the thread of their call.

use core::borrow::Borrow;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::rc::Rc;

use ringway_buf::{Id, Slice};
use ringway_call::{Code, Status};

use crate::coder::{Coder, Decoder};
use crate::owed::Watch;
use crate::stage::{Content, Local, SENDER_BYTES_MAX, Wish};
use crate::unsent::Unsent;

/// What a stream's two ends and the node know together.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Received messages that nobody took yet, with what they cost; bounded by the credit that was given.
    pub(crate) incoming: RefCell<VecDeque<(Slice, u32)>>,
    /// The client has said its last.
    pub(crate) ended: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    /// Messages that the connection did not take yet; bounded by what a sender may write ahead.
    pub(crate) unsent: RefCell<Unsent>,
    /// Bytes written and not yet taken by the connection.
    pub(crate) ahead_bytes: Cell<usize>,
    writer: RefCell<Option<Waker>>,
    /// Who is told instead of a task.
    watch: Option<Rc<dyn Watch>>,
    /// It had no room for a message.
    wants_room: Cell<bool>,
}

impl Streams {
    /// Streams without a task.
    pub(crate) fn watched(watch: Rc<dyn Watch>) -> Self {
        Self {
            watch: Some(watch),
            ..Self::default()
        }
    }

    /// A message came.
    pub(crate) fn push(&self, message: Slice, cost: u32) {
        if let Some(watch) = &self.watch {
            return watch.message(message, cost);
        }
        self.incoming.borrow_mut().push_back((message, cost));
        wake(&self.reader);
    }

    /// No more messages come.
    pub(crate) fn end(&self) {
        self.ended.set(true);
        match &self.watch {
            Some(watch) => watch.ended(),
            None => wake(&self.reader),
        }
    }

    /// Whether a sender has to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.ahead_bytes.get() >= SENDER_BYTES_MAX
    }

    /// Whoever watches is told when there is room.
    pub(crate) fn wants_room(&self) {
        self.wants_room.set(true);
    }

    /// A message of `len` bytes waits for the connection.
    pub(crate) fn wait_for_credit(&self, len: usize) {
        // An empty message takes room too: else a sender of empty ones would never wait.
        let ahead = self.ahead_bytes.get() + len + MESSAGE_OVERHEAD;
        self.ahead_bytes.set(ahead);
    }

    /// The connection took a message of `len` bytes.
    pub(crate) fn sent(&self, len: usize) {
        let was = self.ahead_bytes.get();
        let left = was.saturating_sub(len + MESSAGE_OVERHEAD);
        self.ahead_bytes.set(left);
        if was >= SENDER_BYTES_MAX && left < SENDER_BYTES_MAX {
            wake(&self.writer);
            if let Some(watch) = self.watch.as_ref().filter(|_| self.wants_room.take()) {
                watch.writable();
            }
        }
    }

    /// The call is over: who waits looks again.
    pub(crate) fn wake_all(&self) {
        wake(&self.reader);
        wake(&self.writer);
    }
}

fn wake(slot: &RefCell<Option<Waker>>) {
    let waker = slot.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn wait(slot: &RefCell<Option<Waker>>, waker: &Waker) {
    let mut slot = slot.borrow_mut();
    if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
        *slot = Some(waker.clone());
    }
}

fn gone() -> Status {
    Status::new(Code::Cancelled, "the call is over")
}

/// The sending end of a server-streaming or bidirectional call.
pub struct Sender<T: ?Sized> {
    streams: Rc<Streams>,
    local: Rc<Local>,
    call: Id,
    coder: Coder<T>,
}

impl<T: ?Sized> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("ahead_bytes", &self.streams.ahead_bytes.get())
            .finish_non_exhaustive()
    }
}

impl<T: ?Sized> Sender<T> {
    pub(crate) fn new(streams: Rc<Streams>, local: Rc<Local>, call: Id, coder: Coder<T>) -> Self {
        Self {
            streams,
            local,
            call,
            coder,
        }
    }

    /// Sends one message; waits while the client gives no credit. At most 64 KiB (and one message) are written
    /// ahead of the connection.
    ///
    /// # Errors
    /// CANCELLED when the call is over, RESOURCE_EXHAUSTED when memory lacks.
    pub async fn send(&mut self, message: impl Borrow<T>) -> Result<(), Status> {
        poll_fn(|cx| self.poll_room(cx)).await?;
        self.write(message.borrow())
    }

    /// Sends one message if there is room now.
    ///
    /// # Errors
    /// As [`send`](Self::send); `Ok(false)`: there is no room.
    pub fn try_send(&mut self, message: impl Borrow<T>) -> Result<bool, Status> {
        if !self.local.is_alive(self.call) {
            return Err(gone());
        }
        if self.streams.is_full() {
            return Ok(false);
        }
        self.write(message.borrow()).map(|()| true)
    }

    /// Whether [`try_send`](Self::try_send) would send; registers the task if not.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if !self.local.is_alive(self.call) {
            return Poll::Ready(Err(gone()));
        }
        if !self.streams.is_full() {
            return Poll::Ready(Ok(()));
        }
        wait(&self.streams.writer, cx.waker());
        Poll::Pending
    }

    /// Whether the call is over, for whatever reason.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.local.is_alive(self.call)
    }

    fn write(&self, message: &T) -> Result<(), Status> {
        let len = (self.coder.len)(message);
        let content = self
            .local
            .write(len, |out| (self.coder.write)(message, out))?;
        let cost = match &content {
            Content::Gathered(range) => range.len(),
            Content::Shared(slice) => slice.len(),
        };
        self.streams.wait_for_credit(cost);
        self.local.wish(self.call, Wish::Send(content));
        Ok(())
    }
}

/// What a message counts beyond its bytes while it waits.
const MESSAGE_OVERHEAD: usize = 16;

/// The receiving end of a client-streaming or bidirectional call.
pub struct Receiver<T> {
    streams: Rc<Streams>,
    local: Rc<Local>,
    call: Id,
    decode: Decoder<T>,
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("waiting", &self.streams.incoming.borrow().len())
            .finish_non_exhaustive()
    }
}

impl<T> Receiver<T> {
    pub(crate) fn new(
        streams: Rc<Streams>,
        local: Rc<Local>,
        call: Id,
        decode: Decoder<T>,
    ) -> Self {
        Self {
            streams,
            local,
            call,
            decode,
        }
    }

    /// The next message; `None` after the client's last.
    ///
    /// # Errors
    /// CANCELLED when the call is over, INTERNAL when a message can't be decoded.
    pub async fn recv(&mut self) -> Result<Option<T>, Status> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Like [`recv`](Self::recv), for futures written by hand.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Status>> {
        let taken = self.streams.incoming.borrow_mut().pop_front();
        if let Some((message, cost)) = taken {
            let decoded = (self.decode)(&message);
            drop(message);
            self.local.wish(self.call, Wish::Grant(cost));
            return Poll::Ready(decoded.map(Some).map_err(|error| undecodable(&error)));
        }
        if self.streams.ended.get() {
            return Poll::Ready(Ok(None));
        }
        if !self.local.is_alive(self.call) {
            return Poll::Ready(Err(gone()));
        }
        wait(&self.streams.reader, cx.waker());
        Poll::Pending
    }
}

/// The status of a request that its codec does not understand.
#[cold]
pub(crate) fn undecodable(error: &crate::DecodeError) -> Status {
    Status::new(
        Code::Internal,
        &format!("the message can't be decoded: {error}"),
    )
}
