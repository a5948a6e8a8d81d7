//! Services in the gateway's own thread: a call of a plain function is answered before it returns.
//!
//! One task turns the dispatch when it is woken or something is due; what it says is sorted into a slot per call.
//! Messages that nobody took yet keep their stream's credit, so a client that reads slowly slows its own stream.

use core::cell::{Cell, RefCell};
use core::future::{Future as _, poll_fn};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use ringway_buf::Instant;
use ringway_rpc::{
    BuildError, CallId, Code, LocalDispatch, LocalEvent, LocalRequest, ServerBuilder, Status,
};
use tokio::sync::Notify;

use super::{End, Options};
use crate::schema::Method;

/// Memory that the messages of all calls may take.
const BUDGET_BYTES: usize = 256 << 20;

/// The services, and the calls of them that are open.
pub(crate) struct Local {
    dispatch: RefCell<LocalDispatch>,
    slots: RefCell<HashMap<CallId, Rc<Slot>>>,
    bell: Arc<Notify>,
    /// Until when the task sleeps that turns the dispatch.
    sleeps_until: Cell<Option<Instant>>,
}

/// What came for one call.
#[derive(Default)]
struct Slot {
    inbox: RefCell<VecDeque<(Bytes, u32)>>,
    end: RefCell<Option<End>>,
    is_over: Cell<bool>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
}

fn wake(slot: &Cell<Option<Waker>>) {
    if let Some(waker) = slot.take() {
        waker.wake();
    }
}

impl Local {
    pub(crate) fn new(server: ServerBuilder) -> Result<Rc<Self>, BuildError> {
        let bell = Arc::new(Notify::new());
        let rung = Arc::clone(&bell);
        let dispatch = server.local_with(BUDGET_BYTES, move || rung.notify_one())?;
        Ok(Rc::new(Self {
            dispatch: RefCell::new(dispatch),
            slots: RefCell::new(HashMap::new()),
            bell,
            sleeps_until: Cell::new(None),
        }))
    }

    /// Runs `read` on the dispatch, for its definitions.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&LocalDispatch) -> T) -> T {
        read(&self.dispatch.borrow())
    }

    /// Turns the dispatch for as long as the gateway lives.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            self.act(|dispatch| dispatch.turn(Instant::monotonic()));
            let due = self.dispatch.borrow().next_due();
            self.sleeps_until.set(due);
            let mut rung = pin!(self.bell.notified());
            match due {
                None => rung.await,
                Some(at) => {
                    let wait = at.saturating_since(Instant::monotonic());
                    let mut sleep = pin!(tokio::time::sleep(wait));
                    poll_fn(|cx| {
                        let ready =
                            rung.as_mut().poll(cx).is_ready() || sleep.as_mut().poll(cx).is_ready();
                        if ready {
                            Poll::Ready(())
                        } else {
                            Poll::Pending
                        }
                    })
                    .await;
                }
            }
        }
    }

    /// Does something with the dispatch, then sorts what it says.
    fn act<T>(&self, act: impl FnOnce(&mut LocalDispatch) -> T) -> T {
        let result = act(&mut self.dispatch.borrow_mut());
        self.sort();
        result
    }

    fn sort(&self) {
        loop {
            let event = self.dispatch.borrow_mut().poll_event();
            match event {
                None => break,
                Some(LocalEvent::Message {
                    call,
                    message,
                    cost,
                }) => {
                    if let Some(slot) = self.slot(call) {
                        slot.inbox
                            .borrow_mut()
                            .push_back((Bytes::from_owner(message), cost));
                        wake(&slot.reader);
                    }
                }
                Some(LocalEvent::Writable { call }) => {
                    if let Some(slot) = self.slot(call) {
                        wake(&slot.writer);
                    }
                }
                Some(LocalEvent::Ended {
                    call,
                    status,
                    metadata,
                    message,
                }) => {
                    let slot = self.slots.borrow_mut().remove(&call);
                    if let Some(slot) = slot {
                        let message = message.map(Bytes::from_owner);
                        slot.end.replace(Some(End {
                            status,
                            metadata,
                            message,
                        }));
                        slot.is_over.set(true);
                        wake(&slot.reader);
                        wake(&slot.writer);
                    }
                }
            }
        }
        // The task may have gone to sleep for longer than the new calls allow.
        let due = self.dispatch.borrow().next_due();
        if let Some(due) = due
            && self.sleeps_until.get().is_none_or(|until| due < until)
        {
            self.bell.notify_one();
        }
    }

    fn slot(&self, call: CallId) -> Option<Rc<Slot>> {
        self.slots.borrow().get(&call).cloned()
    }

    pub(super) fn open(
        local: &Rc<Self>,
        method: &Method,
        options: &Options,
        first: Option<&[u8]>,
        end: bool,
    ) -> Result<(LocalSink, LocalSource), Status> {
        let now = Instant::monotonic();
        let request = LocalRequest {
            method: &method.name,
            metadata: options.metadata.bytes(),
            deadline: options.timeout.map(|timeout| now + timeout),
            priority: 4,
            message: first,
            end,
        };
        let call = local.dispatch.borrow_mut().open(&request, now)?;
        let slot = Rc::new(Slot::default());
        local.slots.borrow_mut().insert(call, Rc::clone(&slot));
        local.sort();
        let sink = LocalSink {
            local: Rc::clone(local),
            slot: Rc::clone(&slot),
            call,
            is_ended: end,
        };
        let local = Rc::clone(local);
        Ok((sink, LocalSource { local, slot, call }))
    }
}

/// The client's stream of a call.
pub(crate) struct LocalSink {
    local: Rc<Local>,
    slot: Rc<Slot>,
    call: CallId,
    is_ended: bool,
}

impl LocalSink {
    pub(super) async fn send(&self, message: &[u8]) -> Result<(), Status> {
        poll_fn(|cx| {
            if self.slot.is_over.get() {
                return Poll::Ready(Err(Status::of(Code::Cancelled, "the call is over")));
            }
            // First: the event may come while the message is being refused.
            self.slot.writer.set(Some(cx.waker().clone()));
            let now = Instant::monotonic();
            match self
                .local
                .act(|dispatch| dispatch.try_send(self.call, message, now))
            {
                Ok(true) => Poll::Ready(Ok(())),
                Ok(false) => Poll::Pending,
                Err(status) => Poll::Ready(Err(status)),
            }
        })
        .await
    }
}

impl Drop for LocalSink {
    fn drop(&mut self) {
        if !self.is_ended && !self.slot.is_over.get() {
            let now = Instant::monotonic();
            self.local.act(|dispatch| dispatch.end(self.call, now));
        }
    }
}

/// The answers of a call.
pub(crate) struct LocalSource {
    local: Rc<Local>,
    slot: Rc<Slot>,
    call: CallId,
}

impl LocalSource {
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Result<Bytes, End>> {
        let next = self.slot.inbox.borrow_mut().pop_front();
        if let Some((message, cost)) = next {
            if !self.slot.is_over.get() {
                let now = Instant::monotonic();
                self.local
                    .act(|dispatch| dispatch.grant(self.call, cost, now));
            }
            return Poll::Ready(Ok(message));
        }
        if self.slot.is_over.get() {
            let end = self.slot.end.take();
            let over = || End::of(Status::of(Code::Cancelled, "the call is over"));
            return Poll::Ready(Err(end.unwrap_or_else(over)));
        }
        self.slot.reader.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for LocalSource {
    fn drop(&mut self) {
        if !self.slot.is_over.replace(true) {
            self.local.slots.borrow_mut().remove(&self.call);
            let now = Instant::monotonic();
            self.local.act(|dispatch| dispatch.cancel(self.call, now));
        }
    }
}
