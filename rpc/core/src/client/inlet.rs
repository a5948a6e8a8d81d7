//! The way into an engine from elsewhere: other threads, and the futures of its own handlers.
//!
//! Calls wait in a bounded queue that answers when it is full. What follows for a call that is known already (more
//! to send, credit, cancellation) is a note: each call and each channel has at most one at a time, so that notes are
//! never refused and nobody ever waits for the engine to look.
//!
//! When the engine ends, whoever closes the inlet and whoever pushes meanwhile both look at what is left: every
//! call is answered.

use std::sync::{Arc, OnceLock};

use crossbeam_queue::{ArrayQueue, SegQueue};
use ringway_call::{Code, Status};
use ringway_engine::Handle;

use super::Target;
use super::request::Request;
use crate::executor::Bell;
use crate::sync::{AtomicBool, Ordering, fence};

/// Calls that may wait for an engine to look.
pub(crate) const COMMANDS_MAX: usize = 4096;

/// A server as those see it who have no engine: the engine learns of it with the first command.
#[derive(Debug)]
pub(crate) struct Place {
    /// With a numeric address: an engine asks no name service.
    pub(crate) address: String,
    /// Its name on the engine, written there.
    pub(crate) target: OnceLock<Target>,
}

impl Place {
    pub(crate) fn new(address: String) -> Arc<Self> {
        Arc::new(Self {
            address,
            target: OnceLock::new(),
        })
    }
}

/// Something new for an engine.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start connecting.
    Connect(Arc<Place>),
    Open(Arc<Request>),
}

/// Something about what the engine knows.
#[derive(Debug)]
pub(crate) enum Note {
    /// A call has something new.
    Attend(Arc<Request>),
    /// The last channel to a server is gone.
    Leave(Arc<Place>),
}

/// The way into one engine.
#[derive(Debug)]
pub(crate) struct Inlet {
    commands: ArrayQueue<Command>,
    /// Bounded by the calls and channels that there are.
    notes: SegQueue<Note>,
    closed: AtomicBool,
    handle: OnceLock<Handle>,
    /// Of the node whose handlers call: it is not rung for what they push while it runs them.
    bell: Option<Arc<Bell>>,
}

impl Inlet {
    pub(crate) fn new(bell: Option<Arc<Bell>>) -> Arc<Self> {
        Self::with_room(bell, COMMANDS_MAX)
    }

    fn with_room(bell: Option<Arc<Bell>>, commands_max: usize) -> Arc<Self> {
        Arc::new(Self {
            commands: ArrayQueue::new(commands_max),
            notes: SegQueue::new(),
            closed: AtomicBool::new(false),
            handle: OnceLock::new(),
            bell,
        })
    }

    /// Says which engine to wake.
    pub(crate) fn open(&self, handle: Handle) {
        self.handle.get_or_init(|| handle);
    }

    /// Whether the engine has something to take.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !self.commands.is_empty() || !self.notes.is_empty()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst) || self.handle.get().is_some_and(Handle::is_stopped)
    }

    fn ring(&self) {
        match (&self.bell, self.handle.get()) {
            (Some(bell), _) => bell.ring(),
            (None, Some(handle)) => handle.notify(),
            (None, None) => {}
        }
    }

    /// Gives the engine something new. A call that this accepts is answered, whatever happens.
    ///
    /// # Errors
    /// The queue is full, or the engine is gone; the command is dropped.
    pub(crate) fn push(&self, command: Command) -> Result<(), Status> {
        if self.is_closed() {
            return Err(stopped());
        }
        if self.commands.push(command).is_err() {
            let text = "too many calls wait for the client's engine";
            return Err(Status::of(Code::ResourceExhausted, text).not_started());
        }
        self.ring();
        self.look_again();
        Ok(())
    }

    /// Tells the engine about something that it knows.
    pub(crate) fn note(&self, note: Note) {
        self.notes.push(note);
        self.ring();
        self.look_again();
    }

    /// Pairs with the fence in `close`: either who closes finds what was pushed, or this sees that it is closed.
    fn look_again(&self) {
        fence(Ordering::SeqCst);
        if self.is_closed() {
            self.refuse_rest();
        }
    }

    /// The engine is gone: whoever waits is told, now and from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.refuse_rest();
    }

    fn refuse_rest(&self) {
        while let Some(command) = self.commands.pop() {
            if let Command::Open(request) = command {
                request.lost();
            }
        }
        while let Some(note) = self.notes.pop() {
            if let Note::Attend(request) = note {
                request.lost();
            }
        }
    }

    /// The engine's side: the next command.
    pub(crate) fn command(&self) -> Option<Command> {
        self.commands.pop()
    }

    /// The engine's side: the next note.
    pub(crate) fn next_note(&self) -> Option<Note> {
        self.notes.pop()
    }

    /// Asks the engine to come back for what it left.
    pub(crate) fn come_back(&self) {
        if let Some(handle) = self.handle.get() {
            handle.notify();
        }
    }
}

#[cold]
fn stopped() -> Status {
    Status::of(Code::Unavailable, "the client's engine is gone").not_started()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Poll, Waker};

    use super::super::answer::CallOptions;
    use super::super::request::Settings;
    use super::*;

    fn request() -> Arc<Request> {
        let options = CallOptions::default();
        let settings = Settings {
            place: Place::new("tcp://127.0.0.1:1".to_owned()),
            methods: (&[][..]).into(),
            index: 0,
            metadata: options.metadata.into(),
            priority: options.priority,
            wait_for_ready: options.wait_for_ready,
            idempotent: options.idempotent,
            compress: options.compress,
            one_way: false,
            timeout: None,
        };
        Request::new(settings, None, None, true, None)
    }

    fn is_answered(request: &Arc<Request>, inlet: &Inlet) -> bool {
        let polled = request.poll_answer(inlet, &Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(answer) if answer.status.code == Code::Unavailable)
    }

    /// Two threads meet at every round: one pushes while the other closes.
    #[test]
    fn a_call_that_is_pushed_while_the_inlet_closes_is_answered() {
        const ROUNDS: usize = 20_000;
        let inlets: Vec<_> = (0..ROUNDS).map(|_| Inlet::with_room(None, 1)).collect();
        let at = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let meet = |own: usize, round: usize| {
            at[own].store(round + 1, Ordering::SeqCst);
            let mut spins = 0_u32;
            while at[1 - own].load(Ordering::SeqCst) <= round {
                spins += 1;
                if spins.is_multiple_of(1000) {
                    std::thread::yield_now();
                }
                std::hint::spin_loop();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (round, inlet) in inlets.iter().enumerate() {
                    meet(0, round);
                    inlet.close();
                }
                meet(0, ROUNDS);
            });
            let mut pushed = Vec::new();
            for (round, inlet) in inlets.iter().enumerate() {
                let request = request();
                meet(1, round);
                if inlet.push(Command::Open(Arc::clone(&request))).is_ok() {
                    pushed.push((round, request));
                }
            }
            meet(1, ROUNDS);
            for (round, request) in pushed {
                assert!(is_answered(&request, &inlets[round]), "round {round}");
            }
        });
    }

    #[test]
    fn notes_of_a_closed_inlet_are_answered() {
        let (inlet, one, two) = (Inlet::new(None), request(), request());
        inlet.note(Note::Attend(Arc::clone(&one)));
        inlet.close();
        inlet.note(Note::Attend(Arc::clone(&two)));
        assert!(is_answered(&one, &inlet) && is_answered(&two, &inlet));
        assert!(!inlet.has_work());
    }

    #[test]
    fn a_full_queue_refuses_calls_and_takes_notes() {
        let inlet = Inlet::new(None);
        for _ in 0..COMMANDS_MAX {
            assert!(inlet.push(Command::Open(request())).is_ok());
        }
        let refused = inlet.push(Command::Open(request()));
        assert_eq!(refused.map_err(|it| it.code), Err(Code::ResourceExhausted));
        inlet.note(Note::Attend(request()));
        assert!(inlet.next_note().is_some());
    }
}
