//! What an engine shares with other threads: its command queue, its doorbell, and the ways to wait.
//!
//! No runtime is needed: a wait is a plain future, [`block_on`] turns it into a blocking call.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use ringway_buf::mpsc;

use crate::ConnectionId;
use crate::counters::Counters;
use crate::doorbell::Doorbell;
use crate::handle::Command;

/// The part of an engine that its handles and links keep alive.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) commands: mpsc::Sender<Command>,
    /// Links that want the engine's attention, each at most once.
    pub(crate) links: mpsc::Sender<ConnectionId>,
    /// `links` was full, of links that are closed already: the engine looks at all that live.
    links_missed: AtomicBool,
    /// The handler is to be called.
    notified: AtomicBool,
    pub(crate) bell: Doorbell,
    pub(crate) waker: Waker,
    pub(crate) counters: Counters,
    stopped: AtomicBool,
    /// The engine's end of `commands`, once the engine is gone.
    buried: Mutex<Option<mpsc::Receiver<Command>>>,
    /// Tasks that wait for room in `commands`.
    waiting: Waiting,
}

impl Shared {
    pub(crate) fn new(
        commands: mpsc::Sender<Command>,
        links: mpsc::Sender<ConnectionId>,
        waker: Waker,
    ) -> Self {
        Self {
            commands,
            links,
            links_missed: AtomicBool::new(false),
            notified: AtomicBool::new(false),
            bell: Doorbell::new(),
            waker,
            counters: Counters::new(),
            stopped: AtomicBool::new(false),
            buried: Mutex::new(None),
            waiting: Waiting::default(),
        }
    }

    /// Gives a command to the engine, or gives it back when the queue is full or the engine is gone.
    pub(crate) fn post(&self, command: Command) -> Result<(), Command> {
        if self.is_stopped() {
            return Err(command);
        }
        self.commands.push(command).map_err(|full| full.0)?;
        self.ring();
        // Pairs with the fence in `stop`: either the engine finds the command when it buries its queue, or
        // this sees that it stopped and refuses the command itself.
        fence(Ordering::SeqCst);
        if self.is_stopped() {
            self.refuse_buried();
        }
        Ok(())
    }

    /// The engine leaves its end of the command queue behind: whatever is in it, or still comes, is refused.
    pub(crate) fn bury(&self, commands: mpsc::Receiver<Command>) {
        *lock(&self.buried) = Some(commands);
        self.refuse_buried();
    }

    fn refuse_buried(&self) {
        loop {
            // Released before the waiter is woken.
            let command = lock(&self.buried).as_mut().and_then(mpsc::Receiver::pop);
            let Some(command) = command else { return };
            command.refuse();
        }
    }

    /// Tells the engine to look at a link.
    pub(crate) fn notify(&self, link: ConnectionId) {
        if self.links.push(link).is_err() {
            // SeqCst: comes before the ring, as the push does.
            self.links_missed.store(true, Ordering::SeqCst);
        }
        self.ring();
    }

    /// Whether a link could not be listed since the last time.
    pub(crate) fn take_missed(&self) -> bool {
        self.links_missed.load(Ordering::SeqCst) && self.links_missed.swap(false, Ordering::SeqCst)
    }

    /// Asks for a call of the handler's `notified`.
    pub(crate) fn notify_handler(&self) {
        // SeqCst: comes before the ring, as the pushes do.
        self.notified.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// Whether anybody asked for a call of `notified` since the last time.
    pub(crate) fn take_notified(&self) -> bool {
        self.notified.load(Ordering::SeqCst) && self.notified.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn ring(&self) {
        if self.bell.ring() {
            self.waker.wake_by_ref();
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        // Acquire pairs with the Release in `stop`.
        self.stopped.load(Ordering::Acquire)
    }

    /// The engine is gone: nothing is taken any more, all who wait are told.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.waiting.wake();
    }

    /// The engine took commands out: there is room again.
    pub(crate) fn made_room(&self) {
        self.waiting.wake();
    }

    pub(crate) fn wait_for_room(&self, waker: &Waker) {
        self.waiting.add(waker);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these mutexes guard is a waker or a value that is replaced whole: never half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakers of any number of tasks.
#[derive(Debug, Default)]
struct Waiting {
    some: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Waiting {
    fn add(&self, waker: &Waker) {
        lock(&self.wakers).push(waker.clone());
        self.some.store(true, Ordering::SeqCst);
        // Pairs with the fence in `wake`: who waits looks again after this, who made room looks for waiters
        // after that; at least one sees the other.
        fence(Ordering::SeqCst);
    }

    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.some.swap(false, Ordering::SeqCst) {
            for waker in std::mem::take(&mut *lock(&self.wakers)) {
                waker.wake();
            }
        }
    }
}

/// The waker of one task.
#[derive(Debug, Default)]
pub(crate) struct Signal(Mutex<Option<Waker>>);

impl Signal {
    /// The task waits. It looks at its condition again after this, so that no wake is lost.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut slot = lock(&self.0);
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    pub(crate) fn wake(&self) {
        let waker = lock(&self.0).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Runs a future to its end on the calling thread, which sleeps while it waits. Needs no runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[derive(Debug)]
struct Answer<T> {
    value: Option<T>,
    waker: Option<Waker>,
    dropped: bool,
}

/// The answering end of a question to the engine. Dropping it answers "the engine is gone".
#[derive(Debug)]
pub(crate) struct Reply<T>(Arc<Mutex<Answer<T>>>);

/// The asking end.
#[derive(Debug)]
pub(crate) struct Promise<T>(Arc<Mutex<Answer<T>>>);

/// A question and its answer, once.
pub(crate) fn promise<T>() -> (Reply<T>, Promise<T>) {
    let answer = Answer {
        value: None,
        waker: None,
        dropped: false,
    };
    let answer = Arc::new(Mutex::new(answer));
    (Reply(Arc::clone(&answer)), Promise(answer))
}

impl<T> Reply<T> {
    pub(crate) fn answer(self, value: T) {
        lock(&self.0).value = Some(value);
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let waker = {
            let mut answer = lock(&self.0);
            answer.dropped = true;
            answer.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Promise<T> {
    /// `None` when the engine went away without an answer.
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut answer = lock(&self.0);
        if let Some(value) = answer.value.take() {
            return Poll::Ready(Some(value));
        }
        if answer.dropped {
            return Poll::Ready(None);
        }
        answer.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
