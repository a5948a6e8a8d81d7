//! Threads for handlers that block, so that one slow handler never delays the others on its core.
//!
//! A bounded queue in front of N threads. A full queue refuses at once (RESOURCE_EXHAUSTED, surely not started);
//! what waited longer than the limit is refused when its turn comes, so that an overloaded pool spends its time on
//! calls whose clients still wait. Results go back to the engine's thread by a queue and its bell.

use core::fmt;
use core::future::Future;
use core::panic::AssertUnwindSafe;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::panic::catch_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use ringway_buf::Instant;
use ringway_call::{Code, Status};

use crate::sync::{AtomicBool, Ordering};

/// What a blocking handler may ask while it runs, on its worker's thread.
#[derive(Clone, Debug)]
pub struct Job {
    deadline: Option<Instant>,
    cancelled: Arc<AtomicBool>,
}

impl Job {
    pub(crate) fn new(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            cancelled: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Whether nobody waits for the result any more: cancelled by the client, or past the deadline. Long work asks
    /// now and then and stops early.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // Acquire pairs with the Release in `cancel`; nothing else is handed over.
        self.cancelled.load(Ordering::Acquire) || self.is_late()
    }

    /// When the client stops waiting, on the clock of [`Instant::monotonic`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|at| Instant::monotonic() >= at)
    }
}

type Work = Box<dyn FnOnce(Result<&Job, Status>) + Send>;

struct Waiting {
    job: Job,
    work: Work,
    since: Instant,
}

struct Queue {
    waiting: VecDeque<Waiting>,
    stopping: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    jobs_max: usize,
    wait_max: Duration,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A queue is never half-changed: no code of others runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pool of worker threads; shared by the engines of one server. The last owner stops and joins them.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

impl Workers {
    /// Starts `count` threads behind a queue of `jobs_max`.
    pub(crate) fn start(
        count: usize,
        jobs_max: usize,
        wait_max: Duration,
    ) -> Result<Self, std::io::Error> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                stopping: false,
            }),
            wake: Condvar::new(),
            jobs_max,
            wait_max,
        });
        let mut workers = Self {
            shared,
            threads: Vec::with_capacity(count),
        };
        for index in 0..count {
            let shared = Arc::clone(&workers.shared);
            let thread = thread::Builder::new()
                .name(format!("ringway-work-{index}"))
                .spawn(move || work(&shared))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Gives a job to the pool. `work` is called once: with the job, or with the reason why it is not run.
    ///
    /// # Errors
    /// The queue is full; `work` was dropped.
    pub(crate) fn submit(
        &self,
        job: Job,
        work: impl FnOnce(Result<&Job, Status>) + Send + 'static,
    ) -> Result<(), Status> {
        let since = Instant::monotonic();
        let mut queue = self.shared.lock();
        if queue.waiting.len() >= self.shared.jobs_max {
            drop(queue);
            return Err(overloaded("all workers are busy and their queue is full"));
        }
        queue.waiting.push_back(Waiting {
            job,
            work: Box::new(work),
            since,
        });
        drop(queue);
        self.shared.wake.notify_one();
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_all();
        let own = thread::current().id();
        for thread in self.threads.drain(..) {
            // A job may hold the last owner: its own thread can't wait for itself.
            if thread.thread().id() != own {
                drop(thread.join());
            }
        }
    }
}

/// The life of one worker.
fn work(shared: &Shared) {
    loop {
        let mut queue = shared.lock();
        let waiting = loop {
            if let Some(waiting) = queue.waiting.pop_front() {
                break waiting;
            }
            if queue.stopping {
                return;
            }
            queue = shared
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        };
        let stopping = queue.stopping;
        drop(queue);
        let waited = Instant::monotonic() - waiting.since;
        let job = if stopping {
            Err(Status::new(Code::Unavailable, "the server stops").not_started())
        } else if waiting.job.is_cancelled() {
            Err(Status::new(Code::Cancelled, "cancelled while it waited").not_started())
        } else if waited > shared.wait_max {
            Err(overloaded("it waited too long for a worker"))
        } else {
            Ok(&waiting.job)
        };
        // The work catches its handler's panics itself; this keeps the thread if an answer panics.
        drop(catch_unwind(AssertUnwindSafe(|| (waiting.work)(job))));
    }
}

#[cold]
pub(crate) fn overloaded(why: &str) -> Status {
    Status::new(Code::ResourceExhausted, why).not_started()
}

/// Runs a blocking handler; its panic becomes INTERNAL.
pub(crate) fn guarded<R>(
    job: &Job,
    handler: impl FnOnce(&Job) -> Result<R, Status>,
) -> Result<R, Status> {
    catch_unwind(AssertUnwindSafe(|| handler(job))).unwrap_or_else(|_panic| Err(panicked()))
}

#[cold]
pub(crate) fn panicked() -> Status {
    Status::new(Code::Internal, "the handler panicked")
}

struct Slot<R> {
    result: Option<Result<R, Status>>,
    waker: Option<Waker>,
}

/// The result of [`CallContext::blocking`](crate::CallContext::blocking). Dropping it tells the job that nobody
/// waits any more.
pub struct Blocking<R> {
    slot: Arc<Mutex<Slot<R>>>,
    job: Job,
}

impl<R> fmt::Debug for Blocking<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking").finish_non_exhaustive()
    }
}

fn lock<R>(slot: &Mutex<Slot<R>>) -> MutexGuard<'_, Slot<R>> {
    // Both fields are replaced whole.
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Send + 'static> Blocking<R> {
    pub(crate) fn start(
        workers: Option<&Workers>,
        deadline: Option<Instant>,
        handler: impl FnOnce(&Job) -> Result<R, Status> + Send + 'static,
    ) -> Self {
        let slot = Arc::new(Mutex::new(Slot {
            result: None,
            waker: None,
        }));
        let job = Job::new(deadline);
        let target = Arc::clone(&slot);
        let done = move |job: Result<&Job, Status>| {
            let result = job.and_then(|job| guarded(job, handler));
            let mut slot = lock(&target);
            slot.result = Some(result);
            let waker = slot.waker.take();
            drop(slot);
            if let Some(waker) = waker {
                waker.wake();
            }
        };
        let submitted = match workers {
            Some(workers) => workers.submit(job.clone(), done),
            None => Err(no_workers()),
        };
        if let Err(status) = submitted {
            lock(&slot).result = Some(Err(status));
        }
        Self { slot, job }
    }
}

#[cold]
pub(crate) fn no_workers() -> Status {
    Status::new(
        Code::FailedPrecondition,
        "the server has no workers; build it with `workers(n)`",
    )
}

impl<R> Future for Blocking<R> {
    type Output = Result<R, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = lock(&self.slot);
        if let Some(result) = slot.result.take() {
            return Poll::Ready(result);
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<R> Drop for Blocking<R> {
    fn drop(&mut self) {
        self.job.cancel();
    }
}
