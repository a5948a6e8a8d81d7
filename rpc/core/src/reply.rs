//! The answering half of plain functions: at once in place, later on this thread, or from another one.
//!
//! On the way down: [`Reply::send`] encodes straight into the connection's open batch. A [`Replied`] is the proof
//! that a call was given its answer, or to somebody who will.

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};

use ringway_buf::{Id, Instant, Slice};
use ringway_call::{Body, CallId, Code, Status};

use crate::answer::Site;
use crate::client::channel::encoded;
use crate::client::nested::Continuation;
use crate::client::remote::Pending;
use crate::client::{Answer, CallOptions, Channel, Response};
use crate::codec::Codec;
use crate::coder::Coder;
use crate::context::CallInfo;
use crate::executor::Bell;
use crate::live::Work;
use crate::service::Methods;
use crate::stage::{Content, Local, RemoteAnswer, RemoteAnswers, Wish};
use crate::worker::{self, Job};

/// The call as a plain function sees it.
#[derive(Debug)]
pub struct Inline<'a> {
    pub(crate) info: &'a CallInfo<'a>,
}

impl<'a> core::ops::Deref for Inline<'a> {
    type Target = CallInfo<'a>;

    fn deref(&self) -> &CallInfo<'a> {
        self.info
    }
}

/// Proof that a call was answered, or that a [`Deferred`] or a job will do it.
#[derive(Debug)]
#[must_use = "return it from the handler"]
pub struct Replied {
    pub(crate) call: CallId,
}

/// The one answer that a call is owed.
pub struct Reply<'a, T: ?Sized> {
    pub(crate) site: Site<'a>,
    pub(crate) coder: Coder<T>,
    pub(crate) metadata: &'a [u8],
}

impl<T: ?Sized> fmt::Debug for Reply<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

/// A value with its writer.
pub(crate) struct Coded<'v, T: ?Sized> {
    pub(crate) coder: Coder<T>,
    pub(crate) value: &'v T,
    pub(crate) len: usize,
}

impl<'v, T: ?Sized> Coded<'v, T> {
    #[inline]
    pub(crate) fn new(coder: Coder<T>, value: &'v T) -> Self {
        let len = (coder.len)(value);
        Self { coder, value, len }
    }
}

impl<T: ?Sized> Body for Coded<'_, T> {
    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn write(self, out: &mut [u8]) {
        (self.coder.write)(self.value, out);
    }
}

/// A message that is written by a function.
struct Written<F> {
    len: usize,
    write: F,
}

impl<F: FnOnce(&mut [u8])> Body for Written<F> {
    fn len(&self) -> usize {
        self.len
    }

    fn write(self, out: &mut [u8]) {
        (self.write)(out);
    }
}

impl<'a, T: ?Sized> Reply<'a, T> {
    /// Adds metadata to the answer, as made by [`MetadataBuf`](ringway_call::MetadataBuf).
    pub fn metadata(mut self, metadata: &'a [u8]) -> Self {
        self.metadata = metadata;
        self
    }

    /// Answers with `value`, encoded in place. No copy, no allocation.
    ///
    /// # Errors
    /// The status to return when the message is too long for the client.
    #[inline]
    pub fn send(mut self, value: &T) -> Result<Replied, Status> {
        let body = Coded::new(self.coder, value);
        self.site.reply(body, self.metadata)?;
        Ok(Replied {
            call: self.site.call,
        })
    }

    /// Answers with `len` bytes that `write` fills in place: a message that is encoded already, or by other means.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn write(mut self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<Replied, Status> {
        self.site.reply(Written { len, write }, self.metadata)?;
        Ok(Replied {
            call: self.site.call,
        })
    }

    /// Answers with an encoded message that is shared, without copying it.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn slice(mut self, message: Slice) -> Result<Replied, Status> {
        self.site.reply(message, self.metadata)?;
        Ok(Replied {
            call: self.site.call,
        })
    }

    /// A channel to another server, as [`CallContext::channel`](crate::CallContext::channel) gives it to `async`
    /// handlers: for [`Deferred::call`] and one-way calls.
    ///
    /// # Errors
    /// As there.
    pub fn channel(&self, address: &str) -> Result<Channel, Status> {
        let local = &self.site.runtime.local;
        local.channel(address, self.site.deadline)
    }

    /// Keeps the answer for later, on this thread. The call's deadline and the client may end it before.
    ///
    /// # Errors
    /// The status to return when too many calls are open already.
    pub fn defer(mut self) -> Result<(Deferred<T>, Replied), Status> {
        let call = self.site.keep(Work::Deferred, None)?;
        let deferred = Deferred {
            local: Rc::clone(&self.site.runtime.local),
            call,
            deadline: self.site.deadline,
            coder: self.coder,
            answered: false,
        };
        let replied = Replied {
            call: self.site.call,
        };
        Ok((deferred, replied))
    }
}

impl<T: 'static> Reply<'_, T> {
    /// Answers from the server's worker pool, for work that blocks or takes long.
    ///
    /// # Errors
    /// The status to return: RESOURCE_EXHAUSTED when the pool or the table of calls is full, FAILED_PRECONDITION
    /// when the server has no workers.
    pub fn blocking(
        mut self,
        handler: impl FnOnce(&Job) -> Result<T, Status> + Send + 'static,
    ) -> Result<Replied, Status> {
        let local = Rc::clone(&self.site.runtime.local);
        let workers = local.workers.as_ref().ok_or_else(worker::no_workers)?;
        let job = Job::new(self.site.deadline);
        let call = self.site.keep(Work::Job(job.clone()), None)?;
        let answers = Arc::clone(&local.remote);
        let (bell, coder) = (Arc::clone(&local.bell), self.coder);
        let since = Instant::monotonic();
        let submitted = workers.submit(job, move |job| {
            let waited = Instant::monotonic() - since;
            let result = job.and_then(|job| {
                worker::guarded(job, |job| handler(job).map(|value| encode(coder, &value)))
            });
            post(&answers, &bell, call, waited, result);
        });
        if let Err(status) = submitted {
            self.site.forget(call);
            return Err(status);
        }
        Ok(Replied {
            call: self.site.call,
        })
    }
}

fn encode<T: ?Sized>(coder: Coder<T>, value: &T) -> Vec<u8> {
    let mut bytes = vec![0; (coder.len)(value)];
    (coder.write)(value, &mut bytes);
    bytes
}

fn post(answers: &RemoteAnswers, bell: &Bell, call: Id, waited: Duration, answer: RemoteAnswer) {
    // Pushing leaves the vector whole, whatever happens.
    let mut all = answers.lock().unwrap_or_else(PoisonError::into_inner);
    all.push((call, waited, answer));
    drop(all);
    bell.ring();
}

#[cold]
fn dropped() -> Status {
    Status::new(Code::Internal, "the handler dropped its reply")
}

/// An answer that is given later, on the call's thread. Dropping it ends the call with INTERNAL.
pub struct Deferred<T: ?Sized> {
    local: Rc<Local>,
    call: Id,
    deadline: Option<Instant>,
    coder: Coder<T>,
    answered: bool,
}

impl<T: ?Sized> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").finish_non_exhaustive()
    }
}

impl<T: ?Sized> Deferred<T> {
    /// Answers the call; nothing happens if it is over already.
    pub fn send(mut self, value: &T) {
        self.answered = true;
        if self.is_cancelled() {
            return;
        }
        let len = (self.coder.len)(value);
        let written = self.local.write(len, |out| (self.coder.write)(value, out));
        let wish = match written {
            Ok(content) => Wish::Reply(content),
            Err(status) => Wish::Fail(status),
        };
        self.local.wish(self.call, wish);
    }

    /// Answers with an encoded message that is shared, without copying it; nothing happens if the call is over.
    pub fn slice(mut self, message: Slice) {
        self.answered = true;
        let wish = Wish::Reply(Content::Shared(message));
        self.local.wish(self.call, wish);
    }

    /// Ends the call with a status.
    pub fn fail(mut self, status: Status) {
        self.answered = true;
        self.local.wish(self.call, Wish::Fail(status));
    }

    /// Ends the call with what a nested call or a computation came to.
    pub fn finish(self, result: Result<&T, Status>) {
        match result {
            Ok(value) => self.send(value),
            Err(status) => self.fail(status),
        }
    }

    /// A channel to another server, as [`Reply::channel`] gives it.
    ///
    /// # Errors
    /// As there.
    pub fn channel(&self, address: &str) -> Result<Channel, Status> {
        self.local.channel(address, self.deadline)
    }

    /// Calls another server, and goes on with `then` when the answer is there, on this thread. The nested call
    /// inherits the deadline of the call that is served; when that one ends before, the nested one is cancelled and
    /// `then` is dropped. `channel` has to come from [`channel`](Self::channel) or [`Reply::channel`] of this engine;
    /// with another one the call that is served ends with FAILED_PRECONDITION.
    pub fn call<C, Q, R>(
        self,
        channel: &Channel,
        methods: impl Into<Methods>,
        index: u32,
        request: &Q,
        options: &CallOptions<'_>,
        then: impl FnOnce(Self, Result<Response<C, R>, Status>) + 'static,
    ) where
        C: Codec<Q> + Codec<R>,
        Q: ?Sized,
        R: ?Sized,
        T: 'static,
    {
        if self.is_cancelled() {
            return;
        }
        let methods = methods.into();
        let is_own = self.local.inlet().is_some_and(|it| channel.is_of(it));
        if !is_own || index as usize >= methods.len() {
            let text = "a nested call needs a channel of its own engine and a method of the list";
            return self.fail(Status::of(Code::FailedPrecondition, text));
        }
        let (local, call) = (Rc::clone(&self.local), self.call);
        let first = Some(encoded::<C, Q>(request));
        let channel = channel.until(self.deadline);
        let request = channel.request(methods, index, first, true, options, false);
        let over = Arc::clone(&request);
        let then = Continuation::new(move |_cx, answer| {
            over.end(Answer::of(Status::OK));
            then(self, answer.decode());
        });
        let pending = Pending {
            request,
            then: Some(then),
        };
        local.wish(call, Wish::Call(Box::new(pending)));
    }

    /// Whether nobody waits any more: the client cancelled, the deadline passed, or the connection is gone.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        !self.local.is_alive(self.call)
    }

    /// The same answer, to be given from any thread.
    #[must_use]
    pub fn remote(mut self) -> RemoteReply<T> {
        self.answered = true;
        RemoteReply {
            answers: Arc::clone(&self.local.remote),
            bell: Arc::clone(&self.local.bell),
            call: self.call,
            coder: self.coder,
            answered: false,
            marker: PhantomData,
        }
    }
}

impl<T: ?Sized> Drop for Deferred<T> {
    fn drop(&mut self) {
        if !self.answered {
            self.local.wish(self.call, Wish::Fail(dropped()));
        }
    }
}

/// An answer that may be given from any thread. Dropping it ends the call with INTERNAL.
pub struct RemoteReply<T: ?Sized> {
    answers: Arc<RemoteAnswers>,
    bell: Arc<Bell>,
    call: Id,
    coder: Coder<T>,
    answered: bool,
    marker: PhantomData<fn(&T)>,
}

impl<T: ?Sized> fmt::Debug for RemoteReply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteReply").finish_non_exhaustive()
    }
}

impl<T: ?Sized> RemoteReply<T> {
    /// Answers the call, and wakes its engine if that sleeps; nothing happens if the call is over already.
    pub fn send(mut self, value: &T) {
        self.answered = true;
        post(
            &self.answers,
            &self.bell,
            self.call,
            Duration::ZERO,
            Ok(encode(self.coder, value)),
        );
    }

    /// Ends the call with a status.
    pub fn fail(mut self, status: Status) {
        self.answered = true;
        let waited = Duration::ZERO;
        post(&self.answers, &self.bell, self.call, waited, Err(status));
    }
}

impl<T: ?Sized> Drop for RemoteReply<T> {
    fn drop(&mut self) {
        if !self.answered {
            let waited = Duration::ZERO;
            post(&self.answers, &self.bell, self.call, waited, Err(dropped()));
        }
    }
}

/// An empty set of metadata for answers without any.
pub(crate) const NO_METADATA: &[u8] = &[];
