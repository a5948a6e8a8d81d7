//! The park/wake handshake between an engine and the threads that give it commands.
//!
//! A producer pushes its command, then rings. Only the ring that finds the engine parked pays a system call.
//! The engine announces that it will park, looks at its queue once more, and only then sleeps.
//!
//! Proof obligation (checked by loom below): no command that was pushed stays unseen while the engine sleeps
//! without a wake on its way.

use crate::sync::{AtomicU32, Ordering};

const RUNNING: u32 = 0;
const PARKED: u32 = 1;
const NOTIFIED: u32 = 2;

/// The engine's state as producers see it.
#[derive(Debug)]
pub(crate) struct Doorbell {
    state: AtomicU32,
}

impl Doorbell {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self {
            state: AtomicU32::new(RUNNING),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU32::new(RUNNING),
        }
    }

    /// Producer, after its push: returns whether it has to wake the engine.
    ///
    /// SeqCst pairs with `park`: the push comes before this swap and the engine's look at the queue after
    /// its own, so at least one of both sees the other.
    #[must_use]
    pub(crate) fn ring(&self) -> bool {
        // Plain load first: while the engine runs and was already told, no cache line moves.
        if self.state.load(Ordering::SeqCst) == NOTIFIED {
            return false;
        }
        self.state.swap(NOTIFIED, Ordering::SeqCst) == PARKED
    }

    /// Engine, before it sleeps: returns whether it may, provided that its queue is still empty afterwards.
    #[must_use]
    pub(crate) fn park(&self) -> bool {
        // Fails when a producer rang since the last `unpark`: its command may be in the queue.
        self.state
            .compare_exchange(RUNNING, PARKED, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Engine, after it slept or decided not to, and before it looks at its queue. Returns whether anybody
    /// rang since the last time.
    pub(crate) fn unpark(&self) -> bool {
        // SeqCst: the look at the queue that follows must not move in front of this store; otherwise a
        // command pushed in between would find NOTIFIED, stay silent, and wait for the next ring.
        self.state.swap(RUNNING, Ordering::SeqCst) == NOTIFIED
    }

    /// Engine, each turn: a cheap look whether anybody rang.
    pub(crate) fn rang(&self) -> bool {
        self.state.load(Ordering::SeqCst) != RUNNING
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::atomic::AtomicBool;
    use loom::sync::{Arc, Condvar, Mutex};
    use ringway_buf::mpsc;

    use super::*;

    /// A stand-in for the eventfd: a wake stays until it is consumed.
    struct Event {
        set: Mutex<bool>,
        changed: Condvar,
    }

    impl Event {
        fn wake(&self) {
            *self.set.lock().unwrap() = true;
            self.changed.notify_one();
        }

        fn sleep(&self) {
            let mut set = self.set.lock().unwrap();
            while !*set {
                set = self.changed.wait(set).unwrap();
            }
            *set = false;
        }
    }

    fn engine_gets(
        commands: usize,
        queue: &mut mpsc::Receiver<u32>,
        bell: &Doorbell,
        event: &Event,
    ) {
        let mut got = 0;
        while got < commands {
            if bell.rang() {
                bell.unpark();
            }
            while queue.pop().is_some() {
                got += 1;
            }
            if got < commands && bell.park() {
                if queue.is_empty() {
                    // Loom reports a deadlock here if a wake can be lost.
                    event.sleep();
                }
                bell.unpark();
            }
        }
    }

    #[test]
    fn no_command_is_left_behind_by_a_parked_engine() {
        loom::model(|| {
            let (sender, mut receiver) = mpsc::channel::<u32>(4);
            let bell = Arc::new(Doorbell::new());
            let event = Arc::new(Event {
                set: Mutex::new(false),
                changed: Condvar::new(),
            });
            let woken = Arc::new(AtomicBool::new(false));
            let producers: Vec<_> = (0..2)
                .map(|value| {
                    let (sender, bell, event) = (sender.clone(), bell.clone(), event.clone());
                    let woken = woken.clone();
                    loom::thread::spawn(move || {
                        sender.push(value).ok();
                        if bell.ring() {
                            woken.store(true, Ordering::Relaxed);
                            event.wake();
                        }
                    })
                })
                .collect();
            engine_gets(2, &mut receiver, &bell, &event);
            for producer in producers {
                producer.join().unwrap();
            }
        });
    }
}
