//! Calls without a connection and without an engine: for gateways and tests.
//!
//! The same machines and the same dispatch as over a socket, with two queues in memory in between, so that limits,
//! deadlines, streams and cancellation mean the same.

use core::fmt;
use core::ops::Range;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use ringway_buf::{Instant, Pools, PoolsConfig, Slice};
use ringway_call::{
    Blocked, CallId, Caller, CallerEvent, Code, Frame, Head, Keep, Metadata, Open, Outlet, Payload,
    Refused, Status, Way,
};

use crate::answer::NO_CONNECTION;
use crate::context::Origin;
use crate::node::dispatch::Dispatch;
use crate::outlet::Wire;
use crate::service::ServiceInfo;
use crate::sync::{AtomicBool, Ordering};

/// One direction: frames in memory. Their bytes are leases, counted by the budget of their pools.
#[derive(Debug)]
pub(crate) struct Pipe {
    frames: VecDeque<(Head, Slice)>,
    bytes: usize,
    pools: Rc<Pools>,
}

impl Pipe {
    fn new(pools: Rc<Pools>) -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            pools,
        }
    }

    fn pop(&mut self) -> Option<(Head, Slice)> {
        let (head, body) = self.frames.pop_front()?;
        self.bytes -= body.len();
        Some((head, body))
    }
}

impl Outlet for Pipe {
    fn frame(
        &mut self,
        _way: Way,
        head: Head,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Blocked> {
        let mut lease = self.pools.lease(len).ok_or(Blocked::Full)?;
        lease.reset(0);
        if let Some(room) = lease.append(len) {
            fill(room);
        }
        self.bytes += len;
        self.frames.push_back((head, lease.freeze()));
        Ok(())
    }

    fn slice(&mut self, _way: Way, head: Head, slice: Slice) -> Result<(), (Slice, Blocked)> {
        self.bytes += slice.len();
        self.frames.push_back((head, slice));
        Ok(())
    }

    fn queued_bytes(&self) -> usize {
        self.bytes
    }
}

/// Keeps parts of a frame in memory.
struct Kept<'a>(&'a Slice);

impl Keep for Kept<'_> {
    fn retain(&self, range: Range<usize>) -> Slice {
        self.0.subslice(range).unwrap_or_else(|| self.0.clone())
    }
}

/// A call to dispatch.
#[derive(Clone, Copy, Debug)]
pub struct LocalRequest<'a> {
    /// `package.Service/Method`.
    pub method: &'a str,
    /// A block made by [`MetadataBuf`](ringway_call::MetadataBuf); may be empty.
    pub metadata: &'a [u8],
    /// When the answer is of no use any more, on the clock of [`LocalDispatch::turn`].
    pub deadline: Option<Instant>,
    /// 0 most urgent, 7 least; 4 is ordinary.
    pub priority: u8,
    /// The request, or the first message of a stream.
    pub message: Option<&'a [u8]>,
    /// No more messages follow.
    pub end: bool,
}

impl<'a> LocalRequest<'a> {
    /// A unary call.
    #[must_use]
    pub fn unary(method: &'a str, message: &'a [u8]) -> Self {
        Self {
            method,
            metadata: &[],
            deadline: None,
            priority: 4,
            message: Some(message),
            end: true,
        }
    }
}

/// What became of a dispatched call.
#[derive(Debug)]
pub enum LocalEvent {
    /// A message of an answering stream.
    Message {
        /// Of which call.
        call: CallId,
        /// The message.
        message: Slice,
        /// What it took of the stream's credit: [`LocalDispatch::grant`] gives it back when the message is used up.
        cost: u32,
    },
    /// [`LocalDispatch::try_send`] found no room; now there is some.
    Writable {
        /// Of which call.
        call: CallId,
    },
    /// The call is over.
    Ended {
        /// Which call.
        call: CallId,
        /// How.
        status: Status,
        /// The answer's metadata.
        metadata: Metadata<'static>,
        /// The answer of a call that does not stream.
        message: Option<Slice>,
    },
}

/// Dispatches calls to the services of one thread. Made by [`ServerBuilder::local`](crate::ServerBuilder::local).
pub struct LocalDispatch {
    dispatch: Dispatch,
    caller: Caller,
    requests: Pipe,
    answers: Pipe,
    events: VecDeque<LocalEvent>,
    rung: Arc<AtomicBool>,
}

impl fmt::Debug for LocalDispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalDispatch")
            .field("open_calls", &self.caller.open_calls())
            .finish_non_exhaustive()
    }
}

impl LocalDispatch {
    /// `wake` is called, from any thread, when [`turn`](Self::turn) has something to do.
    pub(crate) fn new(
        mut dispatch: Dispatch,
        budget_bytes: usize,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let pools = Rc::new(Pools::new(PoolsConfig {
            budget_bytes,
            ..PoolsConfig::default()
        }));
        let rung = Arc::new(AtomicBool::new(false));
        let (own, flag) = (thread::current(), Arc::clone(&rung));
        dispatch.runtime.local.bell.hang(move || {
            // Release pairs with the Acquire in `unary`: what was pushed before is seen after.
            flag.store(true, Ordering::Release);
            own.unpark();
            wake();
        });
        let mut requests = Pipe::new(Rc::clone(&pools));
        let mut answers = Pipe::new(Rc::clone(&pools));
        let mut config = dispatch.runtime.limits.call;
        config.methods_max = config.methods_max.max(1);
        let mut caller = Caller::new(config, Rc::clone(&pools), Default::default());
        caller.start(&mut requests);
        let mut wire = Wire::Memory(&mut answers);
        dispatch.accept(&mut wire, NO_CONNECTION, Origin::default(), &pools);
        let mut local = Self {
            dispatch,
            caller,
            requests,
            answers,
            events: VecDeque::new(),
            rung,
        };
        local.pump(Instant::ZERO);
        let bindings: Vec<_> = local.routes().map(|method| method.binding()).collect();
        if !bindings.is_empty() {
            // Refused only beyond `methods_max`: the calls then end with UNIMPLEMENTED.
            local.caller.bind(&mut local.requests, &bindings).ok();
        }
        local.pump(Instant::ZERO);
        local
    }

    fn routes(&self) -> impl Iterator<Item = &'static crate::Method> {
        self.dispatch.registry.routes.iter().map(|it| it.method)
    }

    /// Starts a call; its outcome comes by [`poll_event`](Self::poll_event).
    ///
    /// # Errors
    /// UNIMPLEMENTED if there is no such method, RESOURCE_EXHAUSTED if too many calls are open or the message is too
    /// long, DEADLINE_EXCEEDED if it is past.
    pub fn open(&mut self, request: &LocalRequest<'_>, now: Instant) -> Result<CallId, Status> {
        let index = self
            .routes()
            .position(|method| method.name == request.method)
            .and_then(|index| u32::try_from(index).ok());
        let Some(method) = index else {
            return Err(Status::new(
                Code::Unimplemented,
                &format!("there is no method `{}`", request.method),
            )
            .not_started());
        };
        let open = Open {
            method,
            deadline: request.deadline,
            priority: request.priority,
            attempt: 0,
            idempotent: false,
            one_way: false,
            compress: false,
            metadata: request.metadata,
            end: request.end,
        };
        let opened = self
            .caller
            .open(&mut self.requests, &open, request.message, now)
            .map_err(|refused| refused_status(&refused))?;
        self.pump(now);
        Ok(opened)
    }

    /// Sends a message of a client's stream.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED: no room now, try again after a turn; CANCELLED: the call is over.
    pub fn send(
        &mut self,
        call: CallId,
        message: &[u8],
        end: bool,
        now: Instant,
    ) -> Result<(), Status> {
        self.caller
            .send(&mut self.requests, call, message, end, false)
            .map_err(|refused| refused_status(&refused))?;
        self.pump(now);
        Ok(())
    }

    /// Like [`send`](Self::send); `Ok(false)`: there is no room, and [`LocalEvent::Writable`] will follow.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED: the message is too long, or memory lacks; CANCELLED: the call is over.
    pub fn try_send(&mut self, call: CallId, message: &[u8], now: Instant) -> Result<bool, Status> {
        let sent = self
            .caller
            .send(&mut self.requests, call, message, false, false);
        match sent {
            Ok(_sent) => self.pump(now),
            Err(Refused::Full(_)) => return Ok(false),
            Err(refused) => return Err(refused_status(&refused)),
        }
        Ok(true)
    }

    /// Gives the credit of a message back, so that its stream may go on. Without it a stream stops when
    /// `stream_credit` is used up.
    pub fn grant(&mut self, call: CallId, cost: u32, now: Instant) {
        self.caller.grant(&mut self.requests, call, cost);
        self.pump(now);
    }

    /// The services that calls are dispatched to, those that the server adds itself included.
    pub fn services(&self) -> impl Iterator<Item = &'static ServiceInfo> {
        self.dispatch.registry.services.iter().map(|it| it.info())
    }

    /// Ends a client's stream.
    pub fn end(&mut self, call: CallId, now: Instant) {
        self.caller.end(&mut self.requests, call);
        self.pump(now);
    }

    /// Gives a call up; no further event comes of it.
    pub fn cancel(&mut self, call: CallId, now: Instant) {
        self.caller.cancel(&mut self.requests, call);
        self.pump(now);
    }

    /// Does what is there to do at `now`: futures, answers of workers, deadlines.
    pub fn turn(&mut self, now: Instant) {
        let mut wire = Wire::Memory(&mut self.answers);
        self.dispatch.notified(&mut wire, now);
        if self.dispatch.next_due().is_some_and(|at| at <= now) {
            self.dispatch.timeout(&mut wire, now);
        }
        self.caller.handle_timeout(&mut self.requests, now);
        self.pump(now);
    }

    /// When [`turn`](Self::turn) has something to do even if nobody wakes it.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let dues = [self.dispatch.next_due(), self.caller.poll_timeout()];
        dues.into_iter().flatten().min()
    }

    /// What became of calls.
    pub fn poll_event(&mut self) -> Option<LocalEvent> {
        self.events.pop_front()
    }

    /// Makes one unary call and waits for its end, on the calling thread and the system's clock.
    ///
    /// # Errors
    /// The call's status.
    pub fn unary(&mut self, request: &LocalRequest<'_>) -> Result<Slice, Status> {
        let own = self.open(request, Instant::monotonic())?;
        loop {
            let mut others = VecDeque::new();
            while let Some(event) = self.events.pop_front() {
                match event {
                    LocalEvent::Ended {
                        call,
                        status,
                        message,
                        ..
                    } if call == own => {
                        others.append(&mut self.events);
                        self.events = others;
                        return match message {
                            Some(message) if status.is_ok() => Ok(message),
                            _ if status.is_ok() => Err(Status::of(
                                Code::Internal,
                                "the call ended well without an answer",
                            )),
                            _ => Err(status),
                        };
                    }
                    other => others.push_back(other),
                }
            }
            self.events = others;
            let now = Instant::monotonic();
            if !self.rung.swap(false, Ordering::Acquire) {
                match self.next_due() {
                    Some(at) => thread::park_timeout(at - now),
                    None => thread::park(),
                }
            }
            self.turn(Instant::monotonic());
        }
    }

    /// Moves frames until both queues are empty.
    fn pump(&mut self, now: Instant) {
        loop {
            let mut moved = false;
            while let Some((head, body)) = self.requests.pop() {
                moved = true;
                let frame = Frame {
                    head,
                    body: body.bytes(),
                    keep: &Kept(&body),
                };
                let mut wire = Wire::Memory(&mut self.answers);
                let taken = self.dispatch.frame(&mut wire, NO_CONNECTION, frame, now);
                debug_assert!(taken.is_ok(), "our own machines keep the rules");
            }
            while let Some((head, body)) = self.answers.pop() {
                moved = true;
                let frame = Frame {
                    head,
                    body: body.bytes(),
                    keep: &Kept(&body),
                };
                let taken = self.caller.handle_frame(&mut self.requests, frame, now);
                debug_assert!(taken.is_ok(), "our own machines keep the rules");
                if let Ok(Some(event)) = taken {
                    on_event(&mut self.events, event);
                }
            }
            while let Some(event) = self.caller.poll_event() {
                on_event(&mut self.events, event);
            }
            if !moved {
                self.caller.flush(&mut self.requests);
                let mut wire = Wire::Memory(&mut self.answers);
                self.dispatch.writable(&mut wire, NO_CONNECTION, now);
                if self.requests.frames.is_empty() && self.answers.frames.is_empty() {
                    return;
                }
            }
        }
    }
}

/// Keeps an event for its taker.
fn on_event(events: &mut VecDeque<LocalEvent>, event: CallerEvent<'_>) {
    match event {
        CallerEvent::Message {
            call,
            message,
            cost,
        } => events.push_back(LocalEvent::Message {
            call,
            message: message.into_slice(),
            cost,
        }),
        CallerEvent::Ended {
            call,
            status,
            metadata,
            message,
        } => events.push_back(LocalEvent::Ended {
            call,
            status: status.to_status(),
            metadata: metadata.into_owned(),
            message: message.map(Payload::into_slice),
        }),
        CallerEvent::Writable { call } => events.push_back(LocalEvent::Writable { call }),
        CallerEvent::Ready | CallerEvent::Bound { .. } => {}
    }
}

#[cold]
fn refused_status<B>(refused: &Refused<B>) -> Status {
    let code = match refused {
        Refused::Ended(_) | Refused::Closed(_) => Code::Cancelled,
        Refused::Expired(_) => Code::DeadlineExceeded,
        Refused::Draining(_) | Refused::NotReady(_) => Code::Unavailable,
        _ => Code::ResourceExhausted,
    };
    Status::new(code, &refused.to_string()).not_started()
}
