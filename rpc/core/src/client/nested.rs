//! Calls that a handler makes: their answer comes as a continuation on the same thread.

use core::fmt;

use ringway_engine::Context;

use super::answer::Answer;

type Then = Box<dyn FnOnce(&mut Context<'_>, Answer)>;

/// What is done when a call has ended.
pub(crate) struct Continuation(Then);

impl Continuation {
    pub(crate) fn new(then: impl FnOnce(&mut Context<'_>, Answer) + 'static) -> Self {
        Self(Box::new(then))
    }

    pub(crate) fn run(self, cx: &mut Context<'_>, answer: Answer) {
        (self.0)(cx, answer);
    }
}

impl fmt::Debug for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Continuation").finish_non_exhaustive()
    }
}
