//! Futures of handlers: not `Send`, polled on the engine's thread, first at once and in place.
//!
//! A future lives in a cell that is recycled by its method, so that a call whose future is ready at the first poll
//! allocates nothing once the cells are warm. Each live call has one waker, made when its place in the table of
//! calls is first used and kept for all who come after; a late wake of a predecessor costs one useless poll.
//!
//! Wakes go through one bounded queue, each call at most once, so it is never full. A wake from another thread
//! rings the engine; one from within the executor's own round does not have to.

use core::any::Any;
use core::cell::Cell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::sync::{Arc, OnceLock};
use std::task::Wake;

use ringway_buf::mpsc;
use ringway_call::{Code, Status};

use crate::answer::Answer;
use crate::coder::Coder;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

thread_local! {
    /// The bell of the executor that is in its round on this thread; 0: none.
    static INSIDE: Cell<u64> = const { Cell::new(0) };
}

/// Stands for a handler's code outside of any executor's round.
const OUTSIDE: u64 = u64::MAX;

/// Whether a handler's code is running on this thread: it must not wait for an engine.
#[inline]
pub(crate) fn is_within_handler() -> bool {
    INSIDE.get() != 0
}

/// Marks a handler's code that runs outside of a round; nests.
pub(crate) fn within_handler() -> Inside {
    match INSIDE.get() {
        0 => Inside(INSIDE.replace(OUTSIDE)),
        already => Inside(already),
    }
}

/// What a face that blocks answers inside a handler.
#[cold]
pub(crate) fn would_block() -> Status {
    let text = "this would block the engine that runs the handler; await the call instead";
    Status::of(Code::FailedPrecondition, text).not_started()
}

static BELLS: AtomicU64 = AtomicU64::new(1);

/// How to tell a node that something waits for it, from any thread.
pub(crate) struct Bell {
    number: u64,
    ring: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl core::fmt::Debug for Bell {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}

impl Bell {
    pub(crate) fn new() -> Arc<Self> {
        // Relaxed: the number only has to differ from others.
        let number = BELLS.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            number,
            ring: OnceLock::new(),
        })
    }

    pub(crate) fn is_hung(&self) -> bool {
        self.ring.get().is_some()
    }

    /// Says how to ring; the first one to say so wins.
    pub(crate) fn hang(&self, ring: impl Fn() + Send + Sync + 'static) {
        self.ring.get_or_init(|| Box::new(ring));
    }

    /// Rings, unless the node is in a round on this very thread and looks at its queues before it leaves.
    pub(crate) fn ring(&self) {
        if INSIDE.get() == self.number {
            return;
        }
        if let Some(ring) = self.ring.get() {
            ring();
        }
    }

    /// Marks a round of this bell's node on this thread; nests.
    pub(crate) fn enter(&self) -> Inside {
        Inside(INSIDE.replace(self.number))
    }
}

/// While it lives, the node looks at its queues before it leaves.
#[derive(Debug)]
pub(crate) struct Inside(u64);

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

/// Which calls want to be polled.
#[derive(Debug)]
pub(crate) struct Wakes {
    wakers: Vec<(Arc<CallWaker>, Waker)>,
    sender: Arc<mpsc::Sender<u32>>,
    queue: mpsc::Receiver<u32>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct CallWaker {
    index: u32,
    queued: AtomicBool,
    queue: Arc<mpsc::Sender<u32>>,
    bell: Arc<Bell>,
}

impl Wake for CallWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // SeqCst pairs with the swap in `Wakes::pop`: who finds `queued` set knows that a poll is still to come,
        // and that poll sees what was written before this wake.
        if !self.queued.swap(true, Ordering::SeqCst) {
            // Each call is in the queue at most once, and it has a place for each.
            let pushed = self.queue.push(self.index);
            debug_assert!(pushed.is_ok(), "the queue has a place for every call");
            self.bell.ring();
        }
    }
}

impl Wakes {
    /// For at most `calls_max` live calls.
    pub(crate) fn new(calls_max: usize, bell: Arc<Bell>) -> Self {
        let (sender, queue) = mpsc::channel(calls_max);
        Self {
            wakers: Vec::new(),
            sender: Arc::new(sender),
            queue,
            bell,
        }
    }

    /// The waker of the call at `index`.
    pub(crate) fn waker(&mut self, index: u32) -> &Waker {
        let at = index as usize;
        while self.wakers.len() <= at {
            #[expect(clippy::cast_possible_truncation, reason = "as many as indices")]
            let waker = Arc::new(CallWaker {
                index: self.wakers.len() as u32,
                queued: AtomicBool::new(false),
                queue: Arc::clone(&self.sender),
                bell: Arc::clone(&self.bell),
            });
            let task = Waker::from(Arc::clone(&waker));
            self.wakers.push((waker, task));
        }
        self.wakers
            .get(at)
            .map_or(Waker::noop(), |(_, waker)| waker)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next call that wants to be polled.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let index = self.queue.pop()?;
        if let Some((waker, _)) = self.wakers.get(index as usize) {
            waker.queued.swap(false, Ordering::SeqCst);
        }
        Some(index)
    }
}

/// A future of a call, its type forgotten.
pub(crate) trait Task {
    /// True when it is ready; the output waits for [`answer`](Self::answer).
    fn poll(&mut self, cx: &mut Context<'_>) -> bool;
    /// Gives the output to the call.
    fn answer(&mut self, answer: Answer<'_>);
    /// Drops the future and the output; the cell can be used again.
    fn clear(&mut self);
    /// For the cell's next user, who knows the type.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// What a future of a handler ends with, and how it becomes an answer.
pub(crate) trait Outcome: Sized + 'static {
    /// What is needed to write it.
    type Form: Copy + 'static;
    fn deliver(self, form: Self::Form, answer: Answer<'_>);
}

/// Unary and client-streaming calls: one message.
impl<R: 'static> Outcome for Result<R, Status> {
    type Form = Option<Coder<R>>;

    fn deliver(self, form: Self::Form, mut answer: Answer<'_>) {
        match (self, form) {
            (Ok(value), Some(coder)) => answer.reply(&coder, &value),
            // Server-streaming and bidirectional calls: the messages went out by themselves.
            (Ok(_), None) => answer.finish(),
            (Err(status), _) => answer.fail(&status),
        }
    }
}

/// The recycled home of a future.
struct TaskCell<F: Future>
where
    F::Output: Outcome,
{
    future: Pin<Box<Option<F>>>,
    output: Option<F::Output>,
    form: <F::Output as Outcome>::Form,
}

impl<F> Task for TaskCell<F>
where
    F: Future + 'static,
    F::Output: Outcome,
{
    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(future) = self.future.as_mut().as_pin_mut() else {
            return false;
        };
        match future.poll(cx) {
            Poll::Ready(output) => {
                self.output = Some(output);
                true
            }
            Poll::Pending => false,
        }
    }

    fn answer(&mut self, answer: Answer<'_>) {
        if let Some(output) = self.output.take() {
            output.deliver(self.form, answer);
        }
    }

    fn clear(&mut self) {
        self.future.as_mut().set(None);
        self.output = None;
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Empty cells, by method.
#[derive(Default)]
pub(crate) struct Cells(Vec<Vec<Box<dyn Task>>>);

/// Empty cells kept for each method; a burst of more slow calls than this allocates again.
const CELLS_KEPT_MAX: usize = 64;

impl core::fmt::Debug for Cells {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Cells").finish_non_exhaustive()
    }
}

impl Cells {
    /// A cell with `future` in it: a used one of this method, if there is one of the right type.
    pub(crate) fn fill<F>(
        &mut self,
        method: u32,
        future: F,
        form: <F::Output as Outcome>::Form,
    ) -> Box<dyn Task>
    where
        F: Future + 'static,
        F::Output: Outcome,
    {
        let kept = self.0.get_mut(method as usize).and_then(Vec::pop);
        if let Some(mut kept) = kept
            && let Some(cell) = kept.as_any().downcast_mut::<TaskCell<F>>()
        {
            cell.future.as_mut().set(Some(future));
            cell.form = form;
            return kept;
        }
        Box::new(TaskCell {
            future: Box::pin(Some(future)),
            output: None,
            form,
        })
    }

    /// Takes an empty cell back.
    pub(crate) fn keep(&mut self, method: u32, task: Box<dyn Task>) {
        let at = method as usize;
        if self.0.len() <= at {
            self.0.resize_with(at + 1, Vec::new);
        }
        if let Some(kept) = self.0.get_mut(at)
            && kept.len() < CELLS_KEPT_MAX
        {
            kept.push(task);
        }
    }
}
