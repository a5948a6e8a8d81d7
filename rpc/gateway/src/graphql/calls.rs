//! From resolvers, which may run anywhere, to calls, which are made in the gateway's thread.

use core::future::Future as _;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::rc::Rc;

use bytes::Bytes;
use ringway_rpc::{Code, MetadataBuf, Status};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use crate::backend::Options;
use crate::gateway::Shared;

/// Calls that wait to be begun; further resolvers wait.
const QUEUE: usize = 256;

/// What all calls of one request have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Common {
    pub(super) metadata: MetadataBuf,
    pub(super) timeout: Option<Duration>,
}

enum Reply {
    Once(oneshot::Sender<Result<Bytes, Status>>),
    Stream(mpsc::Sender<Result<Bytes, Status>>),
}

struct Job {
    method: usize,
    request: Vec<u8>,
    common: Common,
    reply: Reply,
}

/// The resolvers' end.
#[derive(Clone, Debug)]
pub(super) struct Calls(mpsc::Sender<Job>);

/// The gateway's end.
pub(super) struct Jobs(mpsc::Receiver<Job>);

impl core::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

pub(super) fn queue() -> (Calls, Jobs) {
    let (calls, jobs) = mpsc::channel(QUEUE);
    (Calls(calls), Jobs(jobs))
}

fn gone() -> Status {
    Status::of(Code::Unavailable, "the gateway stops")
}

impl Calls {
    /// Makes a call that does not stream. Dropping the future cancels it.
    pub(super) async fn unary(
        &self,
        method: usize,
        request: Vec<u8>,
        common: Common,
    ) -> Result<Bytes, Status> {
        let (reply, answer) = oneshot::channel();
        let job = Job {
            method,
            request,
            common,
            reply: Reply::Once(reply),
        };
        self.0.send(job).await.map_err(|_gone| gone())?;
        answer.await.map_err(|_gone| gone())?
    }

    /// Makes a call that streams. Dropping the receiver cancels it.
    pub(super) async fn stream(
        &self,
        method: usize,
        request: Vec<u8>,
        common: Common,
    ) -> Result<mpsc::Receiver<Result<Bytes, Status>>, Status> {
        let (reply, answers) = mpsc::channel(1);
        let job = Job {
            method,
            request,
            common,
            reply: Reply::Stream(reply),
        };
        self.0.send(job).await.map_err(|_gone| gone())?;
        Ok(answers)
    }
}

/// Makes the calls.
pub(super) async fn serve(shared: Rc<Shared>, mut jobs: Jobs) {
    while let Some(job) = jobs.0.recv().await {
        spawn_local(make(Rc::clone(&shared), job));
    }
}

async fn make(shared: Rc<Shared>, job: Job) {
    let Some(method) = shared.schema.methods().get(job.method) else {
        return;
    };
    let options = Options {
        metadata: job.common.metadata,
        timeout: job.common.timeout,
    };
    let (_sink, mut source) = shared
        .backend
        .open(method, &options, Some(&job.request), true);
    match job.reply {
        Reply::Once(mut reply) => {
            let answer = core::future::poll_fn(|cx| {
                if reply.poll_closed(cx).is_ready() {
                    // Nobody waits: letting go of the source cancels the call.
                    return Poll::Ready(None);
                }
                source.poll_next(cx).map(Some)
            });
            if let Some(Err(end)) = answer.await {
                let answer = end
                    .into_answer()
                    .map(|(message, _)| message)
                    .map_err(|end| end.status);
                // Whoever asked may be gone meanwhile.
                let _gone = reply.send(answer);
            }
        }
        Reply::Stream(reply) => loop {
            let next = {
                let mut closed = pin!(reply.closed());
                core::future::poll_fn(|cx| {
                    if closed.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(None);
                    }
                    source.poll_next(cx).map(Some)
                })
                .await
            };
            let (message, is_last) = match next {
                None => return,
                Some(Ok(message)) => (Ok(message), false),
                Some(Err(end)) if end.status.is_ok() => return,
                Some(Err(end)) => (Err(end.status), true),
            };
            if reply.send(message).await.is_err() || is_last {
                return;
            }
        },
    }
}
