//! The turn of the driver: what one [`poll`](crate::Driver::poll) does, and how it sleeps.
//!
//! ```text
//! look after noted sockets ─> completions from shared memory ─┬─ spinning, or found something ─> hot sockets,
//!                                                             │     then the ring if it asks for it
//!                                                             └─ may park ─> arm everything, submit and sleep
//!                                                                   in one enter, completions
//! ─> slots for those that starve ─> sends that can go on
//! ```
//!
//! A spinning turn with one hot socket and nothing to do is one `recv` and a few loads. The ring's deferred
//! work needs an `enter` (255 ns), so it is run when its flag is up; while hot sockets bring data, at most
//! [`SKIPS_MAX`] turns may pass first: an armed hot socket raises the flag with every message and for nothing.
//!
//! Before parking every hot socket is armed, and the entries go out with the `enter` that sleeps. A socket
//! is not read directly then: the receive that is being armed looks at the socket by itself.

use std::time::Duration;

use ringway_buf::Instant;

use super::Uring;
use super::hot::HOT_MAX;
use super::ops::{Found, NOBODY, Work};
use super::ring::{Completion, Ring};
use super::socket::{Phase, Role};
use crate::counted::Counted;
use crate::{Park, Sink, SocketId};

/// Completions handled in one pass over the queue.
const COMPLETIONS_MAX: usize = 1024;
/// Turns in a row that may leave deferred work alone because hot sockets had data.
const SKIPS_MAX: u32 = 3;
/// Rounds of one park that end without an event for the engine: internal completions only.
const ROUNDS_MAX: usize = 16;
/// Deadlines at least this far away ride on an alarm that outlives the sleep.
const ALARM_MIN: Duration = Duration::from_millis(100);
/// The longest sleep while memory is lacking: it may be freed by another thread, which tells nobody.
const SHORT_PARK: Duration = Duration::from_millis(1);

impl<R: Ring> Uring<R> {
    pub(super) fn turn<S: Sink>(&mut self, park: Park, sink: &mut S) -> u32 {
        if self.down {
            return 0;
        }
        let mut sink = Counted::new(sink);
        self.short = false;
        self.attend_noted(park != Park::No, &mut sink);
        let drained = self.drain(&mut sink);
        let mut moved = sink.events > 0;
        match park {
            Park::Until(deadline) if !moved => self.sleep(deadline, &mut sink),
            _ => moved |= self.look(drained, &mut sink),
        }
        if !self.lean.is_empty() {
            self.serve_lean(&mut sink);
        }
        self.serve_starved();
        if !self.outbox.is_empty() {
            self.flush_outbox(&mut sink);
        }
        if sink.events > 0 || moved {
            self.end_turn();
        }
        let vain = park == Park::No && sink.events == 0 && !moved;
        self.quiet = if vain {
            self.quiet.saturating_add(1)
        } else {
            0
        };
        sink.events.max(u32::from(moved))
    }

    /// A turn that does not sleep. True when bytes came in, shown or not.
    fn look<S: Sink>(&mut self, drained: bool, sink: &mut Counted<'_, S>) -> bool {
        let mut hit = false;
        for position in 0..HOT_MAX {
            if let Some(id) = self.hot.at(position) {
                hit |= self.look_at(id, drained, sink);
            }
        }
        if hit && self.skipped < SKIPS_MAX {
            self.skipped += 1;
        } else if self.flight.pending() || self.flight.ring.attention() {
            self.skipped = 0;
            self.enter(Park::No);
            let before = sink.events;
            self.drain(sink);
            self.stats.empty_polls += u64::from(sink.events == before);
        }
        for id in self.hot.take_seen().into_iter().flatten() {
            let Some(socket) = self.sockets.get_mut(id.0) else {
                continue;
            };
            if socket.is_open() && self.hot.counts(&mut socket.habit) {
                self.hot.promote(id);
            }
        }
        hit
    }

    fn look_at<S: Sink>(&mut self, id: SocketId, drained: bool, sink: &mut S) -> bool {
        let Some(socket) = self.sockets.get(id.0) else {
            self.hot.remove(id);
            return false;
        };
        let (armed, datagram) = (socket.input, matches!(socket.role, Role::Datagram(_)));
        let hit = if datagram {
            self.read_datagrams(id, sink)
        } else {
            let clean = armed.is_none() || (drained && !self.flight.ring.overflowed());
            self.read_directly(id, clean, sink)
        };
        // Streams count their hits themselves, by message.
        if hit && datagram && self.hot.hit(id, armed) {
            self.disarm(id);
        }
        hit
    }

    /// Arms everything, sleeps until something happens, and handles it.
    fn sleep<S: Sink>(&mut self, deadline: Option<Instant>, sink: &mut Counted<'_, S>) {
        self.hot.parked();
        self.batch.release(&self.pools);
        for _ in 0..ROUNDS_MAX {
            self.arm_hot();
            self.serve_starved();
            if core::mem::take(&mut self.wakeup.rung) || self.restless() {
                self.enter(Park::No);
                self.drain(sink);
                self.attend_noted(true, sink);
                break;
            }
            let deadline = self.cap(deadline);
            let now = Instant::monotonic();
            if deadline.is_some_and(|deadline| deadline <= now) {
                self.enter(Park::No);
                self.drain(sink);
                self.attend_noted(true, sink);
                break;
            }
            self.stats.parks += 1;
            let limit = deadline.filter(|deadline| !self.is_covered(*deadline, now));
            self.enter(Park::Until(limit));
            sink.woke(Instant::monotonic());
            self.drain(sink);
            self.attend_noted(true, sink);
            if sink.events > 0 || self.wakeup.rung {
                break;
            }
            if self.short || !self.lean.is_empty() {
                break;
            }
        }
        self.wakeup.rung = false;
        self.stats.empty_polls += u64::from(sink.events == 0);
        self.hot.forget_seen();
    }

    /// Whether the alarm ends a sleep in time for `deadline`, so that it needs no timer of its own. Sets the
    /// alarm if there is none and the deadline is far.
    ///
    /// A limit of `enter` is a kernel timer, started before each sleep and cancelled after it, when somebody
    /// waits for our answer. Between messages deadlines are seconds away and move on all the time, so one timer
    /// that stays from sleep to sleep does for hundreds of them; what it costs is a sleep cut short now and then.
    fn is_covered(&mut self, deadline: Instant, now: Instant) -> bool {
        if self.alarm.is_none() && deadline >= now + ALARM_MIN {
            self.alarm = Some(deadline);
            self.flight.alarm(deadline);
        }
        self.alarm.is_some_and(|alarm| alarm <= deadline)
    }

    /// Hot sockets are not looked at while the driver sleeps: the ring does it.
    fn arm_hot(&mut self) {
        for position in 0..HOT_MAX {
            if let Some(id) = self.hot.at(position) {
                self.arm(id, true);
            }
        }
    }

    /// Whether there is work that a sleep would delay.
    fn restless(&self) -> bool {
        !self.outbox.is_empty() || (!self.noted.is_empty() && !self.short)
    }

    /// After a poll that would have slept but for its deadline: whether everything is armed and nothing waits.
    pub(super) fn rests(&mut self) -> Park {
        let waits = self.flight.pending() || self.flight.ring.attention();
        if waits || self.wakeup.rung || self.restless() {
            return Park::No;
        }
        Park::Until(self.cap(None))
    }

    fn cap(&self, deadline: Option<Instant>) -> Option<Instant> {
        if !self.short && self.lean.is_empty() {
            return deadline;
        }
        let soon = Instant::monotonic() + SHORT_PARK;
        Some(deadline.map_or(soon, |deadline| deadline.min(soon)))
    }

    /// Submits, runs deferred work, sleeps if told to.
    pub(super) fn enter(&mut self, park: Park) {
        if self.flight.ring.overflowed() {
            self.stats.overflows += 1;
        }
        let entered = self.flight.enter(park, &mut self.stats);
        debug_assert!(
            entered.is_ok(),
            "entering our own ring on our own thread: {entered:?}"
        );
    }

    /// Handles completions from shared memory. True when none is left.
    fn drain<S: Sink>(&mut self, sink: &mut S) -> bool {
        for _ in 0..COMPLETIONS_MAX {
            let Some(completion) = self.flight.ring.next() else {
                return true;
            };
            self.complete(completion, sink);
        }
        false
    }

    fn complete<S: Sink>(&mut self, completion: Completion, sink: &mut S) {
        if completion.result == -libc::EFAULT {
            self.stats.faults += 1;
        }
        let op = match self.flight.find(completion) {
            Found::Op(op) => op,
            Found::Cancelled(op) => {
                // It was being retried at that moment, and so was not found: ask again.
                if completion.result < 0 {
                    self.flight.cancel(op);
                }
                return;
            }
            Found::Nothing => return,
            Found::Stale => {
                self.stats.stale += 1;
                return;
            }
        };
        if completion.more() {
            let Some(op) = self.flight.get(op) else {
                return;
            };
            let id = op.socket;
            match op.work {
                Work::Accept => self.on_accept(id, completion.result, sink),
                Work::Recv { multi } => self.on_recv(id, completion, multi, sink),
                Work::PollIn => self.on_readable(id, completion.result, sink),
                Work::Wake => self.wakeup.rung = true,
                Work::Directed { .. } | Work::PollOut | Work::Send(_) | Work::Alarm(_) => {}
            }
        } else {
            self.land(op, completion, sink);
        }
    }

    /// The last completion of an operation.
    fn land<S: Sink>(&mut self, op: ringway_buf::Id, completion: Completion, sink: &mut S) {
        let Some(op) = self.flight.land(op) else {
            return;
        };
        let (id, result) = (op.socket, completion.result);
        let alive =
            self.sockets.get(id.0).is_some() || matches!(op.work, Work::Wake | Work::Alarm(_));
        debug_assert!(alive, "a socket outlives its operations");
        if let Some(socket) = self.sockets.get_mut(id.0) {
            match op.work {
                Work::Send(_) | Work::PollOut => socket.output = None,
                Work::Wake | Work::Alarm(_) => {}
                _ => socket.input = None,
            }
        }
        match op.work {
            Work::Accept => self.on_accept(id, result, sink),
            Work::Recv { multi } => self.on_recv(id, completion, multi, sink),
            Work::Directed { place, remaining } => {
                self.on_directed(id, place, remaining, result, sink);
            }
            Work::PollIn => self.on_readable(id, result, sink),
            Work::PollOut => self.on_writable(id, result, sink),
            Work::Send(outgoing) => self.on_sent(id, outgoing, result, sink),
            Work::Wake => {
                self.wakeup.rung = true;
                self.listen_for_wakes();
                return;
            }
            Work::Alarm(_) => {
                self.alarm = None;
                return;
            }
        }
        let dying = self
            .sockets
            .get(id.0)
            .is_some_and(|socket| !socket.is_open());
        if dying {
            self.note(id);
        }
    }

    fn on_writable<S: Sink>(&mut self, id: SocketId, result: i32, sink: &mut S) {
        match self.sockets.get(id.0).map(|socket| &socket.phase) {
            Some(Phase::Connecting) => self.on_connect_ready(id, result, sink),
            Some(_) => self.queue_for_sending(id),
            None => {}
        }
    }

    /// Polls the eventfd.
    pub(super) fn listen_for_wakes(&mut self) {
        self.flight.poll(self.wakeup.raw_fd(), NOBODY, Work::Wake);
    }

    /// Looks after sockets that a command or an ending operation left in an unfinished state.
    ///
    /// `sleeps` says that nobody looks at the hot sockets before the driver sleeps: what they hold and were
    /// announced for must be read here.
    fn attend_noted<S: Sink>(&mut self, sleeps: bool, sink: &mut S) {
        for _ in 0..self.noted.len() {
            let Some(id) = self.noted.pop_front() else {
                return;
            };
            let Some(socket) = self.sockets.get_mut(id.0) else {
                continue;
            };
            socket.noted = false;
            let resumed = core::mem::take(&mut socket.resumed);
            match socket.phase {
                Phase::Connecting if socket.output.is_none() => self.finish_connect(id, sink),
                Phase::Connecting => {}
                Phase::Open => {
                    let readable = socket.datagram().is_some_and(|datagram| datagram.readable);
                    if resumed {
                        self.resume(id, sink);
                    }
                    if readable && (sleeps || !self.hot.contains(id)) {
                        self.read_datagrams(id, sink);
                    }
                    self.arm(id, false);
                }
                Phase::Draining { .. } => self.drain_step(id),
                Phase::Dying(_) => self.bury(id, sink),
            }
        }
    }

    /// `read` of the engine.
    pub(super) fn switch(&mut self, id: SocketId, on: bool) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        socket.reading = on;
        if on {
            socket.resumed = true;
            if let Some(stream) = socket.stream() {
                stream.paused = false;
            }
        }
        self.note(id);
    }

    /// Ends a turn that had events: sockets that long had none are hot no longer.
    fn end_turn(&mut self) {
        for id in self.hot.end_turn().into_iter().flatten() {
            self.arm(id, false);
        }
    }
}
