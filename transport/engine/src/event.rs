//! The structured event stream of an engine: one source for checkers, logs and counters.
//!
//! Nothing is formatted here. Events off the message path are always made; [`Event::Message`] only for an
//! observer that asks for it, so that the hot path pays one untaken branch.

use ringway_buf::Instant;
use ringway_driver::{AcceptFault, Address};

use crate::counters::{Cells, Counter};
use crate::{CloseReason, Closed, ConnectionId, ListenerId, SendError};

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A listener is open at this address.
    Listening {
        /// Which listener.
        listener: ListenerId,
        /// Its real address.
        address: Option<&'a Address>,
    },
    /// A listener could not accept and rests for a moment.
    AcceptFailed {
        /// Which listener.
        listener: ListenerId,
        /// What the system said.
        fault: &'a AcceptFault,
    },
    /// The system grants less than was asked for to the buffers of a socket. Once per engine and direction; the
    /// text names the setting to change.
    BufferCapped(BufferCap),
    /// An incoming connection was dropped because a limit was reached.
    Refused {
        /// The limit's name.
        limit: &'static str,
    },
    /// A connection was accepted, or is being opened.
    Begun {
        /// Which connection.
        connection: ConnectionId,
    },
    /// Its handshake is done.
    Opened {
        /// Which connection.
        connection: ConnectionId,
    },
    /// It is gone.
    Closed {
        /// Which connection.
        connection: ConnectionId,
        /// Why, and what was not sent.
        closed: &'a Closed,
    },
    /// It waits for receive memory.
    Starved {
        /// Which connection.
        connection: ConnectionId,
    },
    /// A message was refused with `Full`.
    Full {
        /// Which connection.
        connection: ConnectionId,
    },
    /// A handler panicked.
    Panicked {
        /// On which connection, if on one.
        connection: Option<ConnectionId>,
    },
    /// A message was received. Only for observers that ask for messages.
    Message {
        /// Which connection.
        connection: ConnectionId,
        /// Length of its body.
        bytes: usize,
    },
}

/// How the system capped the buffer of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferCap {
    /// Bytes that were asked for.
    pub asked_bytes: u32,
    /// Bytes that were granted.
    pub granted_bytes: u32,
    /// The setting that caps.
    pub sysctl: &'static str,
}

impl std::fmt::Display for BufferCap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            asked_bytes,
            granted_bytes,
            sysctl,
        } = self;
        write!(
            f,
            "the system grants {granted_bytes} of {asked_bytes} bytes to a socket's buffer, so bursts may be lost; \
             raise it: sysctl -w {sysctl}={asked_bytes}"
        )
    }
}

/// Receives the event stream, on the engine's thread.
pub trait Observer {
    /// Takes one event. Must not block; may not call the engine.
    fn event(&mut self, now: Instant, event: &Event<'_>);

    /// Whether [`Event::Message`] is wanted; asked once, when the engine is built.
    fn wants_messages(&self) -> bool {
        false
    }
}

/// The stream's head: counts each event and passes it on.
pub(crate) struct Events {
    observer: Option<Box<dyn Observer>>,
    pub(crate) messages: bool,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("messages", &self.messages)
            .finish_non_exhaustive()
    }
}

impl Events {
    pub(crate) fn new(observer: Option<Box<dyn Observer>>) -> Self {
        let messages = observer
            .as_ref()
            .is_some_and(|observer| observer.wants_messages());
        Self { observer, messages }
    }

    /// Tells that a send was refused; gives the refusal.
    #[cold]
    pub(crate) fn full(&mut self, cells: &mut Cells, now: Instant, id: ConnectionId) -> SendError {
        self.emit(cells, now, &Event::Full { connection: id });
        SendError::Full
    }

    pub(crate) fn emit(&mut self, cells: &mut Cells, now: Instant, event: &Event<'_>) {
        match event {
            Event::AcceptFailed { .. } => cells.add(Counter::AcceptFaults, 1),
            Event::Refused { .. } => cells.add(Counter::Refused, 1),
            Event::Opened { .. } => cells.add(Counter::Opened, 1),
            Event::Closed { closed, .. } => {
                cells.add(Counter::Closed, 1);
                cells.add(Counter::UnsentBytes, closed.unsent_bytes);
                if matches!(closed.reason, CloseReason::Violation(_)) {
                    cells.add(Counter::Violations, 1);
                }
            }
            Event::Starved { .. } => cells.add(Counter::Starved, 1),
            Event::Full { .. } => cells.add(Counter::Full, 1),
            Event::Panicked { .. } => cells.add(Counter::Panics, 1),
            Event::Listening { .. }
            | Event::BufferCapped(_)
            | Event::Begun { .. }
            | Event::Message { .. } => {}
        }
        if let Some(observer) = &mut self.observer {
            observer.event(now, event);
        }
    }
}
