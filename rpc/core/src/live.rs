//! Calls that outlive the callback in which they came: futures, deferred answers, jobs on workers.
//!
//! One bounded table per engine thread. A plain function that answers in place never gets here.

use core::fmt;
use std::rc::Rc;
use std::sync::Arc;

use ringway_buf::{Id, Table};
use ringway_call::{CallId, Status};
use ringway_engine::ConnectionId;

use crate::client::inlet::Inlet;
use crate::client::request::Request;
use crate::executor::{Cells, Task, Wakes};
use crate::interceptor::Interceptor;
use crate::limits::ServerLimits;
use crate::owed::Finish;
use crate::service::Method;
use crate::stage::Local;
use crate::stats::{Began, Stats};
use crate::stream::Streams;
use crate::worker::Job;

/// Who will answer.
pub(crate) enum Work {
    /// A future; `None` while it is being polled.
    Task(Option<Box<dyn Task>>),
    /// A deferred or remote reply.
    Deferred,
    /// A job of the worker pool.
    Job(Job),
    /// A nested call, whose continuation holds the deferred reply.
    Calling(Arc<Request>, Arc<Inlet>),
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Task(_) => "Task",
            Self::Deferred => "Deferred",
            Self::Job(_) => "Job",
            Self::Calling(..) => "Calling",
        })
    }
}

/// A call that is open.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) session: ConnectionId,
    pub(crate) call: CallId,
    /// Index in the table of methods.
    pub(crate) method: u32,
    pub(crate) route: &'static Method,
    pub(crate) work: Work,
    pub(crate) streams: Option<Rc<Streams>>,
    pub(crate) began: Began,
    pub(crate) one_way: bool,
    /// The handler is done; the end goes out behind what is unsent.
    pub(crate) finishing: Option<Finish>,
    /// The call was cancelled and its job goes on: what to answer when it returns.
    pub(crate) cancelled: Option<Status>,
}

/// What all connections and services of one thread share.
pub(crate) struct Runtime {
    pub(crate) live: Table<Live>,
    pub(crate) local: Rc<Local>,
    pub(crate) wakes: Wakes,
    pub(crate) cells: Cells,
    pub(crate) limits: ServerLimits,
    pub(crate) stats: Option<Box<Stats>>,
    pub(crate) interceptor: Option<Box<dyn Interceptor>>,
    /// The future that the service just started; polled before the callback ends.
    pub(crate) fresh: Option<Id>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("live", &self.live.len())
            .finish_non_exhaustive()
    }
}

impl Runtime {
    /// Whether futures want to be polled, or handlers' ends have said something.
    #[inline]
    pub(crate) fn is_stirred(&self) -> bool {
        self.fresh.is_some() || !self.local.is_empty() || !self.wakes.is_empty()
    }

    /// Takes a call out of the table; whoever still holds an end of it learns that it is over.
    pub(crate) fn remove(&mut self, id: Id) -> Option<Live> {
        let live = self.live.remove(id)?;
        self.local.set_alive(id, false);
        if let Some(streams) = &live.streams {
            streams.wake_all();
        }
        Some(live)
    }
}
