//! What is done with an answer on the engine's own thread.

use core::fmt;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use ringway_engine::Context;

use super::answer::Answer;
use crate::executor::within_handler;

type Then = Box<dyn FnOnce(&mut Context<'_>, Answer)>;

/// What is done when a call has ended.
pub(crate) struct Continuation(Then);

impl Continuation {
    pub(crate) fn new(then: impl FnOnce(&mut Context<'_>, Answer) + 'static) -> Self {
        Self(Box::new(then))
    }

    /// Runs it; a panic ends here, so that the connection it came over lives on.
    pub(crate) fn run(self, cx: &mut Context<'_>, answer: Answer) {
        let _inside = within_handler();
        let then = AssertUnwindSafe(|| (self.0)(cx, answer));
        if catch_unwind(then).is_err() {
            tracing::error!("a continuation panicked");
        }
    }
}

impl fmt::Debug for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Continuation").finish_non_exhaustive()
    }
}
