//! A call as its service gets it, before it has a form.
//!
//! Generated code picks the form by the shape of the user's trait: [`inline`](IncomingCall::inline) runs a plain
//! function on borrowed bytes; the others start a future, which is polled before the callback ends.

use core::future::Future;
use std::rc::Rc;

use ringway_buf::{Id, Slice};
use ringway_call::{Code, Payload, Status};

use crate::Codec;
use crate::answer::Site;
use crate::coder::Coder;
use crate::context::{CallContext, CallInfo, Origin};
use crate::executor::Outcome;
use crate::live::Work;
use crate::owed::{OwedCall, Watch};
use crate::reply::{Inline, NO_METADATA, Replied, Reply};
use crate::stream::{Receiver, Sender, Streams, undecodable};
use crate::worker::panicked;

/// A call that waits for its service to give it a form. Dropped without one, it ends with INTERNAL.
#[derive(Debug)]
#[must_use = "a call that is dropped ends with INTERNAL"]
pub struct IncomingCall<'a, 'f> {
    pub(crate) site: Option<Site<'a>>,
    pub(crate) info: CallInfo<'f>,
    pub(crate) origin: &'f Rc<Origin>,
    /// Index within the service.
    pub(crate) index: usize,
    pub(crate) message: Option<Payload<'f>>,
    /// The client has said its last.
    pub(crate) end: bool,
    /// Its place among the open calls, while a future is being made.
    pub(crate) kept: Option<Id>,
}

impl Drop for IncomingCall<'_, '_> {
    fn drop(&mut self) {
        if let Some(mut site) = self.site.take() {
            if let Some(id) = self.kept {
                site.forget(id);
            }
            let status = if std::thread::panicking() {
                panicked()
            } else {
                Status::new(Code::Internal, "the service dropped the call")
            };
            site.fail(&status);
        }
    }
}

impl<'f> IncomingCall<'_, 'f> {
    /// Index of the called method in its service's [`ServiceInfo::methods`](crate::ServiceInfo::methods).
    #[must_use]
    #[inline]
    pub fn method(&self) -> usize {
        self.index
    }

    /// What came with the call.
    #[must_use]
    pub fn info(&self) -> &CallInfo<'f> {
        &self.info
    }

    /// The request's bytes: its only message, or the first of a stream; `None` if that is still to come.
    #[must_use]
    pub fn request(&self) -> Option<&[u8]> {
        self.message.as_ref().map(Payload::bytes)
    }

    /// Keeps the request's bytes beyond the callback, without a copy; [`request`](Self::request) has none then. They
    /// count against the engine's budget while the slice lives.
    #[must_use]
    pub fn take_request(&mut self) -> Option<Slice> {
        self.message.take().map(Payload::into_slice)
    }

    /// Makes this thread's statistics visible to readers, this call's included.
    pub(crate) fn publish_stats(&mut self) {
        if let Some(site) = &mut self.site
            && let Some(stats) = &mut site.runtime.stats
        {
            stats.publish();
        }
    }

    /// Ends the call with a status.
    pub fn fail(mut self, status: &Status) {
        if let Some(mut site) = self.site.take() {
            site.fail(status);
        }
    }

    /// Ends the call with UNIMPLEMENTED.
    pub fn unimplemented(self) {
        self.fail(
            &Status::new(Code::Unimplemented, "the service has no such method").not_started(),
        );
    }

    /// Runs a plain function to its end, on borrowed bytes, and without an allocation.
    #[inline]
    pub fn inline<C, Q, R>(
        mut self,
        handler: impl FnOnce(
            &mut Inline<'_>,
            <C as Codec<Q>>::View<'_>,
            Reply<'_, R>,
        ) -> Result<Replied, Status>,
    ) where
        C: Codec<Q> + Codec<R>,
        Q: ?Sized + 'static,
        R: ?Sized,
    {
        let Some(site) = &mut self.site else { return };
        let bytes = self.message.as_ref().map(Payload::bytes);
        let call = site.call;
        let result = match <C as Codec<Q>>::decode(bytes.unwrap_or_default()) {
            Ok(request) => {
                let reply = Reply {
                    site: site.reborrow(),
                    coder: Coder::of::<C>(),
                    metadata: NO_METADATA,
                };
                let mut inline = Inline { info: &self.info };
                handler(&mut inline, request, reply)
            }
            Err(error) => Err(undecodable(&error)),
        };
        match result {
            Ok(replied) if replied.call == call => {}
            Ok(_) => site.fail(&Status::new(
                Code::Internal,
                "the handler returned the reply of another call",
            )),
            Err(status) => site.fail(&status),
        }
        self.site = None;
    }

    /// Starts a future that answers with one message.
    pub fn unary<C, Q, R, F>(mut self, handler: impl FnOnce(CallContext, Q) -> F)
    where
        C: Codec<Q> + Codec<R>,
        R: 'static,
        F: Future<Output = Result<R, Status>> + 'static,
    {
        if let Some(request) = self.decode::<C, Q>() {
            self.start(None, Some(Coder::of::<C>()), |cx| handler(cx, request));
        }
    }

    /// Starts a future that sends a stream of messages.
    pub fn server_stream<C, Q, R, F>(mut self, handler: impl FnOnce(CallContext, Q, Sender<R>) -> F)
    where
        C: Codec<Q> + Codec<R>,
        R: 'static,
        F: Future<Output = Result<(), Status>> + 'static,
    {
        if let Some(request) = self.decode::<C, Q>() {
            let streams = Rc::new(Streams::default());
            self.start(Some(&streams), None, |cx| {
                let out = sender::<C, R>(&cx, &streams);
                handler(cx, request, out)
            });
        }
    }

    /// Starts a future that receives a stream of messages and answers with one.
    pub fn client_stream<C, Q, R, F>(mut self, handler: impl FnOnce(CallContext, Receiver<Q>) -> F)
    where
        C: Codec<Q> + Codec<R>,
        Q: 'static,
        R: 'static,
        F: Future<Output = Result<R, Status>> + 'static,
    {
        let streams = self.incoming();
        self.start(Some(&streams), Some(Coder::of::<C>()), |cx| {
            let input = receiver::<C, Q>(&cx, &streams);
            handler(cx, input)
        });
    }

    /// Starts a future that receives and sends.
    pub fn bidi<C, Q, R, F>(
        mut self,
        handler: impl FnOnce(CallContext, Receiver<Q>, Sender<R>) -> F,
    ) where
        C: Codec<Q> + Codec<R>,
        Q: 'static,
        R: 'static,
        F: Future<Output = Result<(), Status>> + 'static,
    {
        let streams = self.incoming();
        self.start(Some(&streams), None, |cx| {
            let input = receiver::<C, Q>(&cx, &streams);
            let out = sender::<C, R>(&cx, &streams);
            handler(cx, input, out)
        });
    }

    /// Keeps the call to be answered between turns, by who owns engine and node; see [`OwedCall`]. `watch` is told of
    /// the streams of a method that has some. A client's stream begins with [`take_request`](Self::take_request), if
    /// its first message came along, and [`is_last`](Self::is_last) tells whether it ends there.
    ///
    /// `None`: too many calls are open already; this one has ended with RESOURCE_EXHAUSTED.
    pub fn owe(mut self, watch: Option<Rc<dyn Watch>>) -> Option<OwedCall> {
        let mut site = self.site.take()?;
        let streams = watch.map(|watch| Rc::new(Streams::watched(watch)));
        match site.keep(Work::Deferred, streams.clone()) {
            Ok(call) => Some(OwedCall {
                local: Rc::clone(&site.runtime.local),
                call,
                streams,
                answered: false,
            }),
            Err(status) => {
                site.fail(&status);
                None
            }
        }
    }

    /// Whether the client has said its last: more of its stream follows otherwise.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.end
    }

    /// The request as an owned value; ends the call if it can't be decoded.
    fn decode<C: Codec<Q>, Q>(&mut self) -> Option<Q> {
        let bytes = self.message.as_ref().map(Payload::bytes);
        match C::decode_owned(bytes.unwrap_or_default()) {
            Ok(request) => Some(request),
            Err(error) => {
                if let Some(mut site) = self.site.take() {
                    site.fail(&undecodable(&error));
                }
                None
            }
        }
    }

    /// The receiving end's state, with the first message if it came along.
    fn incoming(&mut self) -> Rc<Streams> {
        let streams = Rc::new(Streams::default());
        if let Some(message) = self.message.take() {
            // What comes with the OPEN costs no credit.
            streams.push(message.into_slice(), 0);
        }
        streams.ended.set(self.end);
        streams
    }

    fn start<F>(
        &mut self,
        streams: Option<&Rc<Streams>>,
        form: <F::Output as Outcome>::Form,
        make: impl FnOnce(CallContext) -> F,
    ) where
        F: Future + 'static,
        F::Output: Outcome,
    {
        let Some(site) = &mut self.site else { return };
        let id = match site.keep(Work::Task(None), streams.cloned()) {
            Ok(id) => id,
            Err(status) => {
                site.fail(&status);
                self.site = None;
                return;
            }
        };
        self.kept = Some(id);
        let future = make(self.context(id));
        if let Some(site) = self.site.take() {
            let runtime = site.runtime;
            let task = runtime.cells.fill(site.method, future, form);
            if let Some(live) = runtime.live.get_mut(id) {
                live.work = Work::Task(Some(task));
                runtime.fresh = Some(id);
            }
        }
    }

    fn context(&self, call: Id) -> CallContext {
        let info = &self.info;
        let bytes = info.metadata.bytes();
        CallContext {
            method: info.method,
            origin: Rc::clone(self.origin),
            metadata: (!bytes.is_empty()).then(|| Rc::from(bytes)),
            began: info.now,
            deadline: info.deadline,
            priority: info.priority,
            attempt: info.attempt,
            idempotent: info.idempotent,
            one_way: info.one_way,
            call,
            local: match &self.site {
                Some(site) => Rc::clone(&site.runtime.local),
                None => unreachable!("a call has its site until it has its form"),
            },
        }
    }
}

fn sender<C: Codec<R>, R: ?Sized>(cx: &CallContext, streams: &Rc<Streams>) -> Sender<R> {
    Sender::new(
        Rc::clone(streams),
        Rc::clone(&cx.local),
        cx.call,
        Coder::of::<C>(),
    )
}

fn receiver<C: Codec<Q>, Q>(cx: &CallContext, streams: &Rc<Streams>) -> Receiver<Q> {
    Receiver::new(
        Rc::clone(streams),
        Rc::clone(&cx.local),
        cx.call,
        C::decode_owned,
    )
}
