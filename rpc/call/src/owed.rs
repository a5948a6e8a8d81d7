//! Frames that found the connection's queue full. They wait here in order; everything that follows waits behind
//! them.
//!
//! Bound: per slot one END or one CANCEL, one grant and two credits; per connection the answers to BIND, which
//! `methods_max` bounds.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use ringway_buf::Slice;

use crate::{Blocked, CallId, Head, Outlet, Way, kind};

/// A frame that waits.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) way: Way,
    pub(crate) head: Head,
    /// OPEN's fields and metadata.
    pub(crate) front: Box<[u8]>,
    pub(crate) slice: Option<Slice>,
    /// The call whose slot is free when the frame has left.
    pub(crate) frees: Option<CallId>,
}

/// All frames that wait.
#[derive(Debug, Default)]
pub(crate) struct Debts(VecDeque<Owed>);

impl Debts {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The slot of a call is free when the youngest frame has left.
    pub(crate) fn last_frees(&mut self, call: CallId) {
        if let Some(last) = self.0.back_mut() {
            last.frees = Some(call);
        }
    }

    /// Whether the OPEN of this call waits here.
    pub(crate) fn opens(&self, call: CallId) -> bool {
        let mut all = self.0.iter();
        all.any(|owed| owed.head.kind == kind::OPEN && owed.head.call() == call)
    }

    /// A call's lane is given up: what waits here of it goes in order, or it would begin the lane anew, and nobody ends it.
    pub(crate) fn leave_lane(&mut self, call: CallId) {
        for owed in self.0.iter_mut().filter(|owed| owed.head.call() == call) {
            owed.way = Way::InOrder;
        }
    }

    pub(crate) fn push(&mut self, owed: Owed) {
        self.0.push_back(owed);
    }

    /// Sends the oldest. `None`: nothing waits.
    pub(crate) fn pay(&mut self, out: &mut impl Outlet) -> Option<Result<Option<CallId>, Blocked>> {
        let owed = self.0.front()?;
        let sent = send(out, owed.way, owed.head, &owed.front, owed.slice.as_ref());
        Some(sent.map(|()| self.0.pop_front().and_then(|paid| paid.frees)))
    }
}

/// One frame whose payload stands in a slice.
pub(crate) fn send(
    out: &mut impl Outlet,
    way: Way,
    head: Head,
    front: &[u8],
    slice: Option<&Slice>,
) -> Result<(), Blocked> {
    match slice {
        Some(slice) if front.is_empty() => out
            .slice(way, head, slice.clone())
            .map_err(|(_slice, blocked)| blocked),
        _ => {
            let payload = slice.map_or(&[][..], Slice::bytes);
            out.frame(way, head, front.len() + payload.len(), |room| {
                if let Some((to_front, to_payload)) = room.split_at_mut_checked(front.len()) {
                    to_front.copy_from_slice(front);
                    to_payload.copy_from_slice(payload);
                }
            })
        }
    }
}
