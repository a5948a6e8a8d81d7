//! Calls that are answered between turns, by whoever owns engine and node.
//!
//! Handlers answer within a callback or through [`stage`](crate::stage); who turns the engine itself, and holds its
//! calls meanwhile, can write straight into the connection's batch. That is what a binding to another language does:
//! it has no callbacks. [`IncomingCall::owe`](crate::IncomingCall::owe) makes them, [`Node`](crate::Node) answers them.

use core::fmt;
use std::rc::Rc;

use ringway_buf::{Id, Slice};
use ringway_call::{Code, Status};

use crate::stage::{Local, Wish};
use crate::stream::Streams;

/// Who is told what happens to a call with streams, during callbacks of its node: it may keep what it gets, and does
/// nothing else there.
pub trait Watch: fmt::Debug {
    /// A message of the client's stream came. [`Node::grant`](crate::Node::grant) gives `cost` back when it is taken.
    fn message(&self, message: Slice, cost: u32);
    /// The client has said its last.
    fn ended(&self);
    /// After [`Node::send`](crate::Node::send) had no room: there is room again.
    fn writable(&self);
}

/// A call that is owed its end: one of [`Node::answer`](crate::Node::answer) and [`Node::end`](crate::Node::end).
/// Dropping it ends the call with INTERNAL.
pub struct OwedCall {
    pub(crate) local: Rc<Local>,
    pub(crate) call: Id,
    pub(crate) streams: Option<Rc<Streams>>,
    pub(crate) answered: bool,
}

impl fmt::Debug for OwedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwedCall").finish_non_exhaustive()
    }
}

impl OwedCall {
    /// Whether nobody waits any more: the client cancelled, the deadline passed, or the connection is gone.
    #[must_use]
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        !self.local.is_alive(self.call)
    }
}

impl Drop for OwedCall {
    fn drop(&mut self) {
        if !self.answered {
            let dropped = Status::new(Code::Internal, "the service dropped the call");
            self.local.wish(self.call, Wish::Fail(dropped));
        }
    }
}

/// How a stream ends, behind what is unsent.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) status: Status,
    pub(crate) metadata: Box<[u8]>,
}

impl Default for Finish {
    fn default() -> Self {
        Self {
            status: Status::OK,
            metadata: Box::default(),
        }
    }
}
