//! The client's slots: an array, a list of the free ones, and deadlines that are looked at only when one may be due.

use alloc::boxed::Box;
use alloc::vec::Vec;

use ringway_buf::Instant;

use crate::lane::Lane;
use crate::{CallId, Kind};

/// Where a call stands at the client's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// There is no such call.
    Free,
    /// The server has not ended it.
    Open,
    /// Given up; the server has not ended it.
    Cancelled,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) state: State,
    pub(crate) kind: Kind,
    generation: u16,
    deadline: Instant,
    pub(crate) lane: Option<Box<Lane>>,
}

#[derive(Debug, Default)]
pub(crate) struct Slots {
    all: Vec<Slot>,
    /// Last in, first out: the slots in use stay few and warm.
    free: Vec<u32>,
}

impl Slots {
    pub(crate) fn busy(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// The id that the next call will have.
    #[inline]
    pub(crate) fn peek(&self, calls_max: u32) -> Option<CallId> {
        match self.free.last() {
            Some(slot) => {
                let entry = self.all.get(*slot as usize)?;
                Some(CallId::new(*slot, entry.generation))
            }
            None => {
                let slot = crate::send::total(self.all.len());
                (slot < calls_max).then(|| CallId::new(slot, 0))
            }
        }
    }

    /// Takes the slot that [`peek`](Self::peek) showed.
    #[inline]
    pub(crate) fn take(&mut self, call: CallId, kind: Kind, deadline: Instant) {
        let slot = Slot {
            state: State::Open,
            kind,
            generation: call.generation(),
            deadline,
            lane: None,
        };
        if self.free.pop().is_none() {
            self.all.push(slot);
        } else if let Some(entry) = self.all.get_mut(call.slot() as usize) {
            *entry = slot;
        }
    }

    /// The slot of a call, open or given up.
    #[inline]
    pub(crate) fn slot_mut(&mut self, call: CallId) -> Option<&mut Slot> {
        let slot = self.all.get_mut(call.slot() as usize)?;
        (slot.generation == call.generation() && slot.state != State::Free).then_some(slot)
    }

    /// The slot of a call that is open.
    #[inline]
    pub(crate) fn open_mut(&mut self, call: CallId) -> Option<&mut Slot> {
        self.slot_mut(call).filter(|slot| slot.state == State::Open)
    }

    pub(crate) fn lane_mut(&mut self, call: CallId) -> Option<&mut Lane> {
        self.open_mut(call)?.lane.as_deref_mut()
    }

    /// The server has ended a call.
    #[inline]
    pub(crate) fn free(&mut self, call: CallId) {
        if let Some(slot) = self.slot_mut(call) {
            slot.state = State::Free;
            slot.lane = None;
            slot.generation = CallId::next_generation(slot.generation);
            self.free.push(call.slot());
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (CallId, State)> + '_ {
        let all = (0_u32..).zip(&self.all);
        all.map(|(index, slot)| (CallId::new(index, slot.generation), slot.state))
    }

    /// The server has ended a call that nobody gave up and that has no lane; false: there is no such call.
    #[inline]
    pub(crate) fn free_plain(&mut self, call: CallId) -> bool {
        let Some(slot) = self.all.get_mut(call.slot() as usize) else {
            return false;
        };
        let is_plain = slot.generation == call.generation()
            && slot.state == State::Open
            && slot.lane.is_none();
        if is_plain {
            slot.state = State::Free;
            slot.generation = CallId::next_generation(slot.generation);
            self.free.push(call.slot());
        }
        is_plain
    }

    /// Calls whose deadline has passed, and the earliest of the others.
    #[cold]
    pub(crate) fn expired(&self, now: Instant) -> (Vec<CallId>, Instant) {
        let mut next = Instant::MAX;
        let mut expired = Vec::new();
        for (index, slot) in (0_u32..).zip(&self.all) {
            if slot.state != State::Open {
            } else if slot.deadline <= now {
                expired.push(CallId::new(index, slot.generation));
            } else {
                next = next.min(slot.deadline);
            }
        }
        (expired, next)
    }

    /// Ends everything: the calls that were open, and which of them have surely not started.
    pub(crate) fn drain(&mut self) -> Vec<(CallId, bool)> {
        self.free.clear();
        let all = core::mem::take(&mut self.all);
        let open = (0_u32..)
            .zip(all)
            .filter(|(_, slot)| slot.state == State::Open);
        open.map(|(index, slot)| {
            let lane = slot.lane.as_deref();
            let unsent = lane.and_then(|lane| lane.bulk.as_ref());
            let not_started = unsent.is_some_and(|bulk| bulk.opens);
            (CallId::new(index, slot.generation), not_started)
        })
        .collect()
    }
}
