//! Counters of one engine: plain cells on its thread, published for readers on others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringway_driver::DriverStats;

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// One entry per counter of an engine.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $variant,)* }

        impl Counter {
            /// All counters, in the order in which they are published.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name as the command line prints it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

counters! {
    /// Passes of the loop.
    Turns => "turns",
    /// Messages handed to the handler or to a link.
    MessagesIn => "messages_in",
    /// Messages accepted for sending.
    MessagesOut => "messages_out",
    /// Bytes of message bodies received.
    BytesIn => "bytes_in",
    /// Bytes of frames accepted for sending.
    BytesOut => "bytes_out",
    /// Connections accepted and adopted.
    Accepted => "accepted",
    /// Connections that finished their handshake.
    Opened => "opened",
    /// Connections closed, for whatever reason.
    Closed => "closed",
    /// Connections closed because the peer broke the protocol.
    Violations => "violations",
    /// Incoming connections refused because a limit was reached.
    Refused => "refused",
    /// Accepts that the system refused (descriptors exhausted).
    AcceptFaults => "accept_faults",
    /// Unreliable messages that were dropped unsent: past their deadline, or longer than their path carries.
    Expired => "expired",
    /// Sends refused with `Full`.
    Full => "full",
    /// Times a connection waited for receive memory.
    Starved => "starved",
    /// Handlers that panicked.
    Panics => "panics",
    /// Bytes accepted for sending that a closing connection never gave to the kernel.
    UnsentBytes => "unsent_bytes",
    /// Connections open now.
    Connections => "connections",
    /// Bytes of the memory budget in use.
    BudgetUsed => "budget_used",
    /// Copies of payload bytes inside the engine.
    Copies => "copies",
    /// System calls of the driver.
    Syscalls => "syscalls",
    /// System calls that found nothing.
    EmptyPolls => "empty_polls",
    /// Times the engine slept in the kernel.
    Parks => "parks",
}

const COUNT: usize = Counter::ALL.len();

/// The engine's own cells.
#[derive(Debug)]
pub(crate) struct Cells([u64; COUNT]);

impl Cells {
    pub(crate) fn new() -> Self {
        Self([0; COUNT])
    }

    #[inline]
    pub(crate) fn add(&mut self, counter: Counter, amount: u64) {
        self.0[counter as usize] = self.0[counter as usize].wrapping_add(amount);
    }

    pub(crate) fn set(&mut self, counter: Counter, value: u64) {
        self.0[counter as usize] = value;
    }

    pub(crate) fn value(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}

/// Counters of one engine as another thread sees them: current when it idles, at most 64
/// turns old while it is busy. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Counters(Arc<[AtomicU64]>);

impl Counters {
    pub(crate) fn new() -> Self {
        Self((0..COUNT).map(|_| AtomicU64::new(0)).collect())
    }

    /// Reads one counter; wait-free.
    #[must_use]
    pub fn value(&self, counter: Counter) -> u64 {
        // Relaxed: each figure stands alone, no memory is handed over with it.
        self.0[counter as usize].load(Ordering::Relaxed)
    }

    /// Name and value of every counter.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Counter::ALL
            .iter()
            .map(|counter| (counter.name(), self.value(*counter)))
    }

    pub(crate) fn publish(&self, cells: &Cells) {
        for (shared, own) in self.0.iter().zip(cells.0) {
            shared.store(own, Ordering::Relaxed);
        }
    }
}

/// An engine's figures at one moment, read on its own thread.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// Counters of the driver.
    pub driver: DriverStats,
    /// Messages handed up so far.
    pub messages_in: u64,
    /// Messages accepted for sending so far.
    pub messages_out: u64,
    /// Passes of the loop so far.
    pub turns: u64,
    /// Connections in the table now, in whatever state.
    pub connections: usize,
    /// Bytes of the memory budget in use.
    pub budget_used: usize,
    /// Copies of payload bytes made by this thread so far.
    pub copies: ringway_buf::Copies,
}
