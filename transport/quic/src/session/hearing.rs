//! Whether a peer that speaks also hears.
//!
//! quinn-proto gives up a peer that falls silent. One that goes on speaking and acknowledges nothing would live for ever,
//! and with it all that was sent to it. So now and then it is looked whether anything new was acknowledged since the last
//! look; if nothing was, because nothing that wants one was sent, or because the peer is deaf, the next look asks for one.
//!
//! ```text
//!   Calm ── none since the last look ──► Asked ── none again, though it speaks ──► deaf
//!     ▲                                    │
//!     └────────────── some ────────────────┘
//! ```
//! What a packet pays for it is one addition, in [`congestion`](crate::congestion). The frames that acknowledge would be no
//! measure: who hears nothing any more repeats the last one in each packet.

use std::time::Duration;

use ringway_buf::Instant;

/// How often it is looked, and how long an answer may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// What a look has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The peer hears, as far as is known.
    Fine,
    /// Something has to be sent that wants an acknowledgement.
    Ask,
    /// Nothing was acknowledged in time.
    Deaf,
}

/// The looks at one peer.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    patience: Option<Patience>,
    /// What was acknowledged at the last look, in bytes.
    acked_bytes: u64,
    /// It was asked for an acknowledgement, when so many datagrams had come.
    asked: Option<u64>,
    next: Option<Instant>,
}

impl Hearing {
    /// `None`: never looks.
    pub(super) fn new(patience: Option<Patience>) -> Self {
        Self {
            patience,
            ..Self::default()
        }
    }

    /// Begins to look.
    pub(super) fn begin(&mut self, now: Instant) {
        self.next = self.patience.map(|patience| now + patience.interval);
    }

    /// When the next look is due.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// So many bytes were acknowledged since the start, and so many datagrams came.
    pub(super) fn look(&mut self, acked_bytes: u64, heard: u64, now: Instant) -> Look {
        let Some(patience) = self.patience else {
            return Look::Fine;
        };
        if acked_bytes != self.acked_bytes {
            self.acked_bytes = acked_bytes;
            self.asked = None;
            self.next = Some(now + patience.interval);
            return Look::Fine;
        }
        self.next = Some(now + patience.timeout);
        match self.asked {
            None => {
                self.asked = Some(heard);
                Look::Ask
            }
            // It says nothing either.
            Some(before) if before == heard => Look::Fine,
            Some(_) => Look::Deaf,
        }
    }
}
