//! Engines on threads of the library's own: how other threads get their functions done there, and where events go.
//!
//! A function of such an engine is done by its thread, while the caller waits ([`hop`]): one place, below every exported
//! function. Events go to one bounded queue per group; when that is full, its engines don't turn, which holds peers back
//! as a program that does not poll does.
//!
//! Invariant of [`Job`]: what it points to is on the stack of a thread that waits until the job was run or dropped, and
//! does nothing else meanwhile. Tests: `tests/c/threads.c`, under valgrind too (`.ci/full c_memory`).

use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use ringway::Handle;
use ringway::rpc::Target;

use crate::core::Core;
use crate::event::{Event, kind};
use crate::guard::{Fail, Rw};
use crate::registry::{enter, gone, remove};

/// Looks at a job's end before the waiting thread sleeps: some microseconds.
const SPINS: u32 = 2000;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a thread learns that its job has ended. Each has one, for all its jobs.
#[derive(Debug, Default)]
struct End {
    ended: AtomicBool,
    sleeper: Mutex<()>,
    changed: Condvar,
}

impl End {
    fn tell(&self) {
        // Release pairs with the Acquire in `wait`: what the job wrote is seen.
        self.ended.store(true, Ordering::Release);
        drop(locked(&self.sleeper));
        self.changed.notify_one();
    }

    fn wait(&self) {
        for _ in 0..SPINS {
            if self.ended.load(Ordering::Acquire) {
                return;
            }
            core::hint::spin_loop();
        }
        let mut sleeper = locked(&self.sleeper);
        while !self.ended.load(Ordering::Acquire) {
            sleeper = self
                .changed
                .wait(sleeper)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

thread_local! {
    static END: Arc<End> = Arc::default();
}

/// Something that another thread wants of an engine, and waits for.
struct Job {
    run: *mut (dyn FnMut() + 'static),
    end: Arc<End>,
}

// SAFETY: the thread that made it waits, so that only one thread uses what it points to.
unsafe impl Send for Job {}

impl Job {
    fn run(self) {
        // SAFETY: alive until it is ended, by the invariant of the type; nobody else uses it.
        let run = unsafe { &mut *self.run };
        // A panic leaves its result open, which the caller finds; the engine refuses everything from then on.
        drop(catch_unwind(AssertUnwindSafe(run)));
        self.end.tell();
    }
}

/// What other threads want of one engine; each of them waits, so there are no more than threads.
#[derive(Debug, Default)]
struct Inbox {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl core::fmt::Debug for Job {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

/// An engine's thread, as others see it.
#[derive(Debug)]
pub(crate) struct Host {
    inbox: Mutex<Inbox>,
    /// A job came, or there is room for events.
    changed: Condvar,
    /// It waits for room in the queue.
    starved: AtomicBool,
    pub(crate) handle: Handle,
}

/// Does something on the engine's thread and waits for it.
pub(crate) fn hop<T>(host: &Host, act: impl FnOnce() -> Result<T, Fail>) -> Result<T, Fail> {
    let end = END.with(Arc::clone);
    let (mut act, mut result) = (Some(act), None);
    let mut run = || result = act.take().map(|act| act());
    let run: *mut (dyn FnMut() + '_) = &raw mut run;
    // SAFETY: only the lifetime changes; this function does not return before the job is ended.
    let run = unsafe {
        core::mem::transmute::<*mut (dyn FnMut() + '_), *mut (dyn FnMut() + 'static)>(run)
    };
    end.ended.store(false, Ordering::Relaxed);
    let job = Job {
        run,
        end: Arc::clone(&end),
    };
    let mut inbox = locked(&host.inbox);
    if inbox.closed {
        return Err(gone());
    }
    inbox.jobs.push_back(job);
    host.changed.notify_one();
    drop(inbox);
    host.handle.wake();
    end.wait();
    result.unwrap_or_else(|| {
        let text = "the engine ended, or panicked, before it got to this";
        Err(Fail::new(Rw::E_STALE, text))
    })
}

/// What a thread waits for that no single turn brings.
#[derive(Debug)]
pub(crate) struct Waiter<T> {
    what: Mutex<Option<T>>,
    changed: Condvar,
}

impl<T> Default for Waiter<T> {
    fn default() -> Self {
        Self {
            what: Mutex::new(None),
            changed: Condvar::new(),
        }
    }
}

impl<T> Waiter<T> {
    pub(crate) fn tell(&self, what: T) {
        *locked(&self.what) = Some(what);
        self.changed.notify_one();
    }

    /// Waits; `None` when the time is up before.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Option<T> {
        let mut what = locked(&self.what);
        loop {
            if let Some(what) = what.take() {
                return Some(what);
            }
            what = waited(&self.changed, what, until)?;
        }
    }
}

/// Waits for a condition once; `None` when the time is up.
fn waited<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    until: Option<Instant>,
) -> Option<MutexGuard<'a, T>> {
    let Some(until) = until else {
        return Some(changed.wait(guard).unwrap_or_else(PoisonError::into_inner));
    };
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return None;
    }
    let waited = changed.wait_timeout(guard, left);
    Some(waited.unwrap_or_else(PoisonError::into_inner).0)
}

/// What such a thread is told: the end of a call, that a server is worth another look, or that the engine has ended.
pub(crate) type Told = Option<Option<Event>>;

/// Threads that wait in functions of one engine.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// For the end of a call, by its id.
    pub(crate) calls: HashMap<u64, Arc<Waiter<Told>>>,
    /// For a server.
    pub(crate) servers: Vec<(Target, Weak<Waiter<Told>>)>,
}

/// `rw_thread_event` of the header.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct ThreadEvent {
    pub(crate) engine: u64,
    pub(crate) event: Event,
}

/// An event, and what must live until it is handed out.
struct Queued(ThreadEvent, Option<Box<[u8]>>);

impl core::fmt::Debug for Queued {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// Engines that share a queue of events.
#[derive(Debug)]
pub(crate) struct Group {
    events: Mutex<VecDeque<Queued>>,
    more: Condvar,
    events_max: usize,
    stopping: AtomicBool,
    hosts: Mutex<Vec<Arc<Host>>>,
}

impl Group {
    pub(crate) fn new(events_max: usize) -> Self {
        Self {
            events: Mutex::default(),
            more: Condvar::new(),
            events_max,
            stopping: AtomicBool::new(false),
            hosts: Mutex::default(),
        }
    }

    fn is_full(&self) -> bool {
        locked(&self.events).len() >= self.events_max
    }

    pub(crate) fn hosts(&self) -> Vec<Arc<Host>> {
        locked(&self.hosts).clone()
    }

    /// A thread of this group that begins its work.
    pub(crate) fn host(&self, handle: Handle) -> Arc<Host> {
        let host = Arc::new(Host {
            inbox: Mutex::default(),
            changed: Condvar::new(),
            starved: AtomicBool::new(false),
            handle,
        });
        locked(&self.hosts).push(Arc::clone(&host));
        host
    }

    /// Hands events out; waits for the first one. False: none came in time, or the group has stopped.
    pub(crate) fn next(
        &self,
        timeout_ns: i64,
        cap: u32,
        mut place: impl FnMut(u32, ThreadEvent),
    ) -> u32 {
        let timeout = u64::try_from(timeout_ns).ok().map(Duration::from_nanos);
        let until = timeout.map(|timeout| Instant::now() + timeout);
        let mut events = locked(&self.events);
        while events.is_empty() && !self.stopping.load(Ordering::Acquire) {
            events = match waited(&self.more, events, until) {
                Some(events) => events,
                None => return 0,
            };
        }
        let was_full = events.len() >= self.events_max;
        let (mut count, mut begun) = (0, false);
        while count < cap
            && let Some(Queued(next, _)) = events.front()
        {
            // As `Desk::next_event` has it.
            let kind = next.event.kind;
            if begun && (kind::REQUEST_MESSAGE..=kind::REQUEST_WRITABLE).contains(&kind) {
                break;
            }
            begun |= kind == kind::REQUEST && next.event.flags == kind::CLIENT_STREAMS;
            let Some(Queued(event, _kept)) = events.pop_front() else {
                break;
            };
            place(count, event);
            count += 1;
        }
        let has_room = events.len() < self.events_max;
        if !events.is_empty() {
            // For another thread that waits.
            self.more.notify_one();
        }
        drop(events);
        if was_full && has_room {
            for host in self.hosts() {
                // SeqCst pairs with `work`: it says that it waits before it looks at the queue once more.
                if host.starved.load(Ordering::SeqCst) {
                    let _inbox = locked(&host.inbox);
                    host.changed.notify_one();
                }
            }
        }
        count
    }

    /// Ends all threads, as soon as they see it.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let events = locked(&self.events);
        self.more.notify_all();
        drop(events);
        for host in self.hosts() {
            let inbox = locked(&host.inbox);
            host.changed.notify_one();
            drop(inbox);
            host.handle.wake();
        }
    }

    /// What the engine's thread does until the group stops; the engine is destroyed then.
    pub(crate) fn work(&self, engine: u64, host: &Host) {
        while !self.stopping.load(Ordering::Acquire) {
            let jobs = core::mem::take(&mut locked(&host.inbox).jobs);
            for job in jobs {
                job.run();
            }
            if self.is_full() {
                self.pause(host, Self::is_full);
                continue;
            }
            // A panic leaves the engine refusing everything: its thread has nothing to turn any more.
            let turned = catch_unwind(AssertUnwindSafe(|| {
                enter(engine, |core| {
                    core.turn(None);
                    self.deliver(engine, core);
                    Ok(())
                })
            }));
            if !matches!(turned, Ok(Ok(()))) {
                self.pause(host, |_group| true);
            }
        }
        let mut inbox = locked(&host.inbox);
        inbox.closed = true;
        let jobs = core::mem::take(&mut inbox.jobs);
        drop(inbox);
        for job in jobs {
            job.end.tell();
        }
        let released = enter(engine, |core| {
            let waiting = core::mem::take(&mut core.waiting);
            let calls = waiting.calls.into_values();
            let servers = waiting.servers.iter().filter_map(|(_, who)| who.upgrade());
            calls.chain(servers).for_each(|who| who.tell(None));
            Ok(())
        });
        // A poisoned engine has nobody left that it could tell.
        drop(released);
        drop(remove(engine));
    }

    /// Sleeps while there is a reason to, and until somebody wants something.
    fn pause(&self, host: &Host, reason: impl Fn(&Self) -> bool) {
        let mut inbox = locked(&host.inbox);
        host.starved.store(true, Ordering::SeqCst);
        while inbox.jobs.is_empty() && reason(self) && !self.stopping.load(Ordering::Acquire) {
            inbox = host
                .changed
                .wait(inbox)
                .unwrap_or_else(PoisonError::into_inner);
        }
        host.starved.store(false, Ordering::SeqCst);
    }

    /// What a turn brought goes to the threads that wait for it, and all else to the queue.
    fn deliver(&self, engine: u64, core: &mut Core) {
        if !core.waiting.servers.is_empty() {
            let clients = core.front.node.clients();
            core.waiting.servers.retain(|(target, who)| {
                let Some(who) = who.upgrade() else {
                    return false;
                };
                let settled = clients.is_ready(*target) || clients.trouble(*target).is_some();
                if settled {
                    who.tell(Some(None));
                }
                !settled
            });
        }
        let mut desk = core.desk.borrow_mut();
        if desk.events.is_empty() {
            return;
        }
        let mut events = locked(&self.events);
        while let Some(event) = desk.next_event(&mut false) {
            if event.kind == kind::RESPONSE
                && let Some(who) = core.waiting.calls.remove(&event.id)
            {
                who.tell(Some(Some(event)));
                continue;
            }
            let kept = match (&mut desk.graves, event.kind) {
                (Some(graves), kind::CANCELLED) => graves.pop_front(),
                _ => None,
            };
            events.push_back(Queued(ThreadEvent { engine, event }, kept));
        }
        if !events.is_empty() {
            self.more.notify_one();
        }
    }
}
