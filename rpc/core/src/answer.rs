//! One call's place in the node: where its answer goes and what is counted about it.

use std::rc::Rc;

use ringway_buf::{Id, Instant};
use ringway_call::{Body, CallId, Code, Refused, Status};
use ringway_engine::ConnectionId;

use crate::coder::Coder;
use crate::live::{Live, Runtime, Work};
use crate::node::session::Session;
use crate::outlet::Line;
use crate::owed::Finish;
use crate::reply::{Coded, NO_METADATA};
use crate::service::Method;
use crate::stats::Began;
use crate::stream::Streams;
use crate::worker::overloaded;

/// A call during a callback.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    pub(crate) runtime: &'a mut Runtime,
    pub(crate) session: &'a mut Session,
    pub(crate) out: Line<'a>,
    pub(crate) call: CallId,
    /// Index in the table of methods.
    pub(crate) method: u32,
    pub(crate) route: &'static Method,
    pub(crate) now: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) began: Began,
    pub(crate) one_way: bool,
}

impl Site<'_> {
    /// The same call for a shorter time.
    #[inline]
    pub(crate) fn reborrow(&mut self) -> Site<'_> {
        Site {
            runtime: self.runtime,
            session: self.session,
            out: self.out.reborrow(),
            ..*self
        }
    }

    /// Answers with one message.
    #[inline]
    pub(crate) fn reply<B: Body>(&mut self, body: B, metadata: &[u8]) -> Result<(), Status> {
        let callee = &mut self.session.callee;
        match callee.reply(&mut self.out, self.call, metadata, body, self.now) {
            Ok(()) => {
                self.count(Code::Ok);
                Ok(())
            }
            Err(refused) => refusal(&refused),
        }
    }

    /// Ends a stream behind what it sent.
    pub(crate) fn finish(&mut self, finish: &Finish) {
        let (callee, Finish { status, metadata }) = (&mut self.session.callee, finish);
        callee.finish(&mut self.out, self.call, status, metadata, self.now);
        self.count(status.code);
    }

    /// Ends the call with a status.
    #[cold]
    pub(crate) fn fail(&mut self, status: &Status) {
        self.fail_with(status, NO_METADATA);
    }

    /// Ends the call with a status and metadata.
    #[cold]
    pub(crate) fn fail_with(&mut self, status: &Status, metadata: &[u8]) {
        let callee = &mut self.session.callee;
        callee.fail_with(&mut self.out, self.call, status, metadata, self.now);
        self.count(status.code);
    }

    /// Ends the call before its handler started.
    #[cold]
    pub(crate) fn refuse(&mut self, status: &Status) {
        let callee = &mut self.session.callee;
        callee.fail(&mut self.out, self.call, status, self.now);
        if let Some(stats) = &mut self.runtime.stats {
            stats.refused(self.method);
        }
    }

    #[inline]
    fn count(&mut self, code: Code) {
        if let Some(stats) = &mut self.runtime.stats {
            stats.ended(self.method, self.began, code);
        }
        if let Some(interceptor) = &mut self.runtime.interceptor {
            interceptor.ended(self.route, code);
        }
    }

    /// Keeps the call open beyond this callback.
    pub(crate) fn keep(&mut self, work: Work, streams: Option<Rc<Streams>>) -> Result<Id, Status> {
        let live = Live {
            session: self.session.id,
            call: self.call,
            method: self.method,
            route: self.route,
            work,
            streams,
            began: self.began,
            one_way: self.one_way,
            finishing: None,
            cancelled: None,
        };
        let id = self
            .runtime
            .live
            .insert(live)
            .map_err(|_full| overloaded("the server has `calls_max` calls open"))?;
        self.runtime.local.set_alive(id, true);
        if !self.one_way {
            self.session.set_live(self.call, Some(id));
        }
        Ok(id)
    }

    /// Undoes [`keep`](Self::keep).
    pub(crate) fn forget(&mut self, id: Id) {
        drop(self.runtime.remove(id));
        if !self.one_way {
            self.session.set_live(self.call, None);
        }
    }
}

/// What a message that the machine does not take means for its call.
#[cold]
fn refusal<B>(refused: &Refused<B>) -> Result<(), Status> {
    match refused {
        Refused::TooLong { bytes_max, .. } => Err(Status::new(
            Code::ResourceExhausted,
            &format!("the answer is longer than the client takes ({bytes_max} bytes)"),
        )),
        Refused::NoMemory(_) => Err(Status::new(
            Code::ResourceExhausted,
            "no memory for the answer; raise `budget_bytes`",
        )),
        // The call is over: there is nobody to tell.
        _ => Ok(()),
    }
}

/// The end of a future, as it becomes an answer.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) site: Site<'a>,
    pub(crate) streams: Option<Rc<Streams>>,
    /// The end has to wait behind messages that are unsent.
    pub(crate) finishing: &'a mut bool,
}

impl Answer<'_> {
    pub(crate) fn reply<R: ?Sized>(&mut self, coder: &Coder<R>, value: &R) {
        let body = Coded::new(*coder, value);
        if let Err(status) = self.site.reply(body, NO_METADATA) {
            self.site.fail(&status);
        }
    }

    pub(crate) fn finish(&mut self) {
        let unsent = self
            .streams
            .as_ref()
            .is_some_and(|streams| !streams.unsent.borrow().is_empty());
        if unsent {
            *self.finishing = true;
        } else {
            self.site.finish(&Finish::default());
        }
    }

    pub(crate) fn fail(&mut self, status: &Status) {
        self.site.fail(status);
    }
}

/// Names a connection that is none: calls that are dispatched in memory.
pub(crate) const NO_CONNECTION: ConnectionId = ConnectionId::from_bits(0);
