//! One host of the network as the network sees it: which of its sockets have news, and until when it sleeps.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use ringway_buf::{Id, Instant};

use crate::rng::{Concern, Rng};

/// What a waker rings; the only part of the simulator that other threads may touch.
#[derive(Debug, Default)]
pub(crate) struct Bell(AtomicBool);

impl Bell {
    /// True while it rings.
    pub(crate) fn rings(&self) -> bool {
        // Acquire pairs with the Release in `wake_by_ref`: what was written before the wake is seen after.
        self.0.load(Ordering::Acquire)
    }

    /// Silences it; true if it rang.
    pub(crate) fn silence(&self) -> bool {
        // The plain load keeps an idle poll free of a locked instruction; Acquire as in `rings`.
        self.rings() && self.0.swap(false, Ordering::Acquire)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release pairs with the Acquire in `rings` and `silence`.
        self.0.store(true, Ordering::Release);
    }
}

/// One host.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: Box<str>,
    pub(crate) bell: Arc<Bell>,
    /// False once its driver is gone.
    pub(crate) alive: bool,
    /// Its last poll found nothing and was allowed to sleep, and nothing has ended that sleep.
    pub(crate) parked: bool,
    /// It slept since its last poll.
    slept: bool,
    pub(crate) deadline: Option<Instant>,
    /// Sockets with news, each once: as many as the host has sockets, at most.
    ready: Vec<Id>,
    /// By index of a socket: the generation that stands in `ready`, or 0.
    listed: Vec<u32>,
    pub(crate) starve: Rng,
    pub(crate) late: Rng,
    pub(crate) accept: Rng,
    pub(crate) mode: Rng,
    pub(crate) coalesce: Rng,
}

impl Node {
    pub(crate) fn new(name: &str, seed: u64, index: u64) -> Self {
        let lane = |concern| Rng::split(seed, concern, index);
        Self {
            name: name.into(),
            bell: Arc::default(),
            alive: true,
            parked: false,
            slept: false,
            deadline: None,
            ready: Vec::new(),
            listed: Vec::new(),
            starve: lane(Concern::Starve),
            late: lane(Concern::Late),
            accept: lane(Concern::Accept),
            mode: lane(Concern::Mode),
            coalesce: lane(Concern::Coalesce),
        }
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.bell))
    }

    /// Notes that a socket has news.
    pub(crate) fn mark(&mut self, socket: Id) {
        if !self.alive {
            return;
        }
        let index = socket.index() as usize;
        if index >= self.listed.len() {
            self.listed.resize(index + 1, 0);
        }
        if self.listed[index] != socket.generation() {
            self.listed[index] = socket.generation();
            self.ready.push(socket);
        }
    }

    /// Moves up to `max` sockets with news to `target`; the others keep their turn.
    pub(crate) fn take_ready(&mut self, target: &mut Vec<Id>, max: usize) {
        let count = self.ready.len().min(max);
        for socket in self.ready.drain(..count) {
            if let Some(listed) = self.listed.get_mut(socket.index() as usize)
                && *listed == socket.generation()
            {
                *listed = 0;
            }
            target.push(socket);
        }
    }

    /// True when a poll would find something at once.
    pub(crate) fn has_news(&self) -> bool {
        !self.ready.is_empty() || self.bell.rings()
    }

    /// Sleeps until `deadline`, for the eyes of the clock.
    pub(crate) fn park(&mut self, deadline: Option<Instant>) {
        self.parked = true;
        self.slept = true;
        self.deadline = deadline;
    }

    /// Ends the sleep: there is news, or the deadline has come.
    pub(crate) fn rouse(&mut self) {
        self.parked = false;
        self.deadline = None;
    }

    /// Ends the sleep because the driver polls; true if it slept since it last did.
    pub(crate) fn unpark(&mut self) -> bool {
        self.rouse();
        mem::take(&mut self.slept)
    }

    /// The driver is gone.
    pub(crate) fn retire(&mut self) {
        self.rouse();
        self.alive = false;
        self.ready = Vec::new();
        self.listed = Vec::new();
    }
}
