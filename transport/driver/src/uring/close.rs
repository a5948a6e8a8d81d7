//! The end of a socket, and of the driver.
//!
//! Graceful: send what is queued, FIN, discard what comes until the peer's FIN, end the operations, close.
//! Abort: linger zero, end the operations, close, which resets a tcp connection. In both the descriptor is
//! closed only after the last operation completed: closing it earlier would neither end the operation nor tell
//! the peer, and its number could be another socket's by then.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use super::Uring;
use super::ring::Ring;
use super::socket::{Phase, Role};
use crate::socket::open;
use crate::{Close, CloseCause, Inlet, Park, Sink, SocketId};

/// How long dropping a driver waits for its operations.
pub(super) const DROP_LIMIT: Duration = Duration::from_secs(2);
/// One wait while shutting down; operations that were cancelled end in microseconds.
const REAP_WAIT: Duration = Duration::from_millis(10);

impl<R: Ring> Uring<R> {
    /// `close` of the engine.
    pub(super) fn begin_close(&mut self, id: SocketId, how: Close) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let drains = matches!(socket.phase, Phase::Open) && !matches!(socket.role, Role::Listener);
        match (how, &socket.phase) {
            (_, Phase::Dying(_)) | (Close::Graceful, Phase::Draining { .. }) => {}
            (Close::Graceful, _) if drains => {
                socket.phase = Phase::Draining { fin: false };
                self.forget_received(id);
                self.note(id);
            }
            (how, _) => {
                if how == Close::Abort {
                    // It fails for sockets that have no connection; those have nothing to reset either.
                    drop(open::reset_on_close(socket.fd()));
                }
                self.doom(id, CloseCause::Requested);
            }
        }
    }

    /// The next step of a graceful close.
    pub(super) fn drain_step(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let Phase::Draining { fin } = socket.phase else {
            return;
        };
        let sending = socket.output.is_some();
        let (empty, ended) = match &socket.role {
            Role::Stream(stream) => (stream.queue.is_empty(), stream.ended),
            Role::Datagram(datagram) => (datagram.queue.is_empty(), true),
            Role::Listener => (true, true),
        };
        if sending || !empty {
            return self.queue_for_sending(id);
        }
        let stream = matches!(socket.role, Role::Stream(_));
        if stream && !fin {
            socket.phase = Phase::Draining { fin: true };
            self.stats.syscalls += 1;
            if open::shutdown(socket.fd(), Shutdown::Write).is_err() {
                // The connection is gone already.
                return self.doom(id, CloseCause::Requested);
            }
        }
        if ended {
            return self.doom(id, CloseCause::Requested);
        }
        self.arm(id, false);
    }

    /// A call or an operation failed for good.
    pub(super) fn broken(&mut self, id: SocketId, error: io::Error) {
        let Some(socket) = self.sockets.get(id.0) else {
            return;
        };
        let cause = match socket.phase {
            Phase::Connecting => CloseCause::ConnectFailed(error),
            Phase::Open => CloseCause::Broken(error),
            Phase::Draining { .. } => CloseCause::Requested,
            Phase::Dying(_) => return,
        };
        self.doom(id, cause);
    }

    /// Ends a socket: nothing is sent or shown any more, its operations are cancelled.
    pub(super) fn doom(&mut self, id: SocketId, cause: CloseCause) {
        self.forget_received(id);
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        if matches!(socket.phase, Phase::Dying(_)) {
            return;
        }
        socket.phase = Phase::Dying(cause);
        match &mut socket.role {
            Role::Stream(stream) => stream.queue.clear(),
            Role::Datagram(datagram) => datagram.queue.clear(),
            Role::Listener => {}
        }
        for pending in [&mut socket.input, &mut socket.output]
            .into_iter()
            .flatten()
        {
            if !core::mem::replace(&mut pending.cancelled, true) {
                self.flight.cancel(pending.id);
            }
        }
        self.note(id);
    }

    /// Drops what was received and not shown, and stops reading directly.
    fn forget_received(&mut self, id: SocketId) {
        self.hot.remove(id);
        if let Some(socket) = self.sockets.get_mut(id.0)
            && let Role::Stream(stream) = &mut socket.role
        {
            stream.inlet = Inlet::default();
            stream.held.clear();
            stream.held_large = None;
        }
    }

    /// Closes the descriptor of a dying socket whose operations have all ended, and reports it.
    pub(super) fn bury<S: Sink>(&mut self, id: SocketId, sink: &mut S) {
        let gone = self.sockets.get(id.0).is_some_and(|socket| {
            let over = socket.input.is_none() && socket.output.is_none();
            over && matches!(socket.phase, Phase::Dying(_))
        });
        if !gone {
            return;
        }
        if let Some(socket) = self.sockets.remove(id.0)
            && let Phase::Dying(cause) = socket.phase
        {
            // Closed before it is reported, so that whoever hears of it may bind the address again.
            drop(socket.fd);
            sink.closed(id, cause);
        }
    }

    /// Ends everything: cancels, waits up to `limit`, frees. See [`Driver::shutdown`](crate::Driver::shutdown).
    pub(super) fn shut_down(&mut self, limit: Duration) -> bool {
        if core::mem::replace(&mut self.down, true) {
            return self.flight.is_empty();
        }
        let deadline = self.monotonic() + limit;
        self.flight.drop_deferred();
        self.flight.cancel_each();
        loop {
            self.reap();
            let now = self.monotonic();
            if self.flight.is_empty() || now >= deadline {
                break;
            }
            self.enter(Park::Until(Some((now + REAP_WAIT).min(deadline))));
        }
        let clean = self.flight.is_empty();
        if let Some(slots) = self.slots.take() {
            let released = clean && self.flight.unregister_slots();
            if released { drop(slots) } else { slots.leak() }
        }
        if !clean {
            self.flight.leak_all();
        }
        for id in self.sockets.ids() {
            drop(self.sockets.remove(id));
        }
        clean
    }

    /// Takes completions and frees what they end, without showing anything.
    ///
    /// A cancel may miss an operation that is being retried at that moment; `discard` asks again then.
    fn reap(&mut self) {
        while let Some(completion) = self.flight.ring.next() {
            self.flight.discard(completion);
        }
    }

    fn monotonic(&self) -> ringway_buf::Instant {
        crate::Driver::now(self)
    }
}
