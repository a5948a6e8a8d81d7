//! A window that never moves, for links without other users.

use ringway_buf::Instant;

use super::{Acked, Controller};

/// Always the same window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed {
    window: u64,
}

impl Fixed {
    pub(crate) const fn new(window: u64) -> Self {
        Self { window }
    }
}

impl Controller for Fixed {
    fn on_ack(&mut self, _acked: &Acked) {}

    fn on_loss(&mut self, _now: Instant, _is_mark: bool) {}

    fn on_collapse(&mut self) {}

    fn window(&self) -> u64 {
        self.window
    }
}
