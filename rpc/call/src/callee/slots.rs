//! The server's slots: an array that the client's numbers index, made as they are used.

use alloc::boxed::Box;
use alloc::vec::Vec;

use ringway_buf::Instant;

use crate::lane::Lane;
use crate::{CallId, Kind};

/// Where a call stands at the server's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// There is no such call.
    #[default]
    Free,
    /// Its large request is on its way.
    Opening,
    /// The application has it.
    Open,
    /// Its END waits for room or stands behind a large answer.
    Ending,
}

/// What an OPEN said whose message is still coming.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) method: u32,
    pub(crate) since: Instant,
    pub(crate) attempt: u8,
    pub(crate) flags: u8,
    pub(crate) metadata: Box<[u8]>,
}

#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) state: State,
    pub(crate) kind: Kind,
    pub(crate) priority: u8,
    /// The client has said its last.
    pub(crate) client_ended: bool,
    /// The application was told that it is of no use any more.
    pub(crate) cancelled: bool,
    generation: u16,
    deadline: Instant,
    pub(crate) lane: Option<Box<Lane>>,
    pub(crate) opening: Option<Box<Opening>>,
}

impl Slot {
    /// The call is of no use any more. Its client grants nothing, so that a large message would wait for ever.
    pub(crate) fn cancel(&mut self) {
        self.cancelled = true;
        if let Some(lane) = &mut self.lane {
            lane.bulk = None;
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Slots {
    all: Vec<Slot>,
    busy: usize,
}

/// Why a slot can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Range,
    Busy,
}

impl Slots {
    pub(crate) fn busy(&self) -> usize {
        self.busy
    }

    /// Takes the slot that the client chose.
    #[inline]
    pub(crate) fn take(
        &mut self,
        call: CallId,
        calls_max: u32,
        deadline: Instant,
    ) -> Result<&mut Slot, Taken> {
        let index = call.slot() as usize;
        if call.slot() >= calls_max {
            return Err(Taken::Range);
        }
        if index >= self.all.len() {
            self.all.resize_with(index + 1, Slot::default);
        }
        let slot = self.all.get_mut(index).ok_or(Taken::Range)?;
        if slot.state != State::Free {
            return Err(Taken::Busy);
        }
        slot.state = State::Open;
        slot.kind = Kind::Unary;
        slot.generation = call.generation();
        slot.deadline = deadline;
        slot.client_ended = false;
        slot.cancelled = false;
        self.busy += 1;
        Ok(slot)
    }

    /// The slot of a call that has not left.
    #[inline]
    pub(crate) fn slot_mut(&mut self, call: CallId) -> Option<&mut Slot> {
        let slot = self.all.get_mut(call.slot() as usize)?;
        (slot.generation == call.generation() && slot.state != State::Free).then_some(slot)
    }

    #[inline]
    pub(crate) fn open_mut(&mut self, call: CallId) -> Option<&mut Slot> {
        self.slot_mut(call).filter(|slot| slot.state == State::Open)
    }

    #[inline]
    pub(crate) fn is_open(&self, call: CallId) -> bool {
        self.is(call, State::Open)
    }

    pub(crate) fn is_opening(&self, call: CallId) -> bool {
        self.is(call, State::Opening)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (CallId, State)> + '_ {
        let all = (0_u32..).zip(&self.all);
        all.map(|(index, slot)| (CallId::new(index, slot.generation), slot.state))
    }

    #[inline]
    fn is(&self, call: CallId, state: State) -> bool {
        let slot = self.all.get(call.slot() as usize);
        slot.is_some_and(|slot| slot.generation == call.generation() && slot.state == state)
    }

    pub(crate) fn deadline(&mut self, call: CallId) -> Option<Instant> {
        let deadline = self.slot_mut(call)?.deadline;
        (deadline != Instant::MAX).then_some(deadline)
    }

    /// The lane of a call in any state but free.
    pub(crate) fn lane_mut(&mut self, call: CallId) -> Option<&mut Lane> {
        self.slot_mut(call)?.lane.as_deref_mut()
    }

    #[inline]
    pub(crate) fn free(&mut self, call: CallId) {
        if let Some(slot) = self.slot_mut(call) {
            slot.state = State::Free;
            slot.lane = None;
            slot.opening = None;
            self.busy -= 1;
        }
    }

    /// Calls whose deadline has passed and that were not told so, and the earliest of the others.
    #[cold]
    pub(crate) fn expired(&mut self, now: Instant) -> (Vec<CallId>, Instant) {
        let mut next = Instant::MAX;
        let mut expired = Vec::new();
        for (index, slot) in (0_u32..).zip(&mut self.all) {
            let lives = matches!(slot.state, State::Open | State::Opening);
            if !lives || slot.cancelled {
                continue;
            }
            if slot.deadline <= now {
                slot.cancel();
                expired.push(CallId::new(index, slot.generation));
            } else {
                next = next.min(slot.deadline);
            }
        }
        (expired, next)
    }

    /// Ends everything: the calls that the application knows and has not ended.
    pub(crate) fn drain(&mut self) -> Vec<CallId> {
        self.busy = 0;
        let all = core::mem::take(&mut self.all);
        let open = (0_u32..)
            .zip(all)
            .filter(|(_, slot)| slot.state == State::Open);
        open.map(|(index, slot)| CallId::new(index, slot.generation))
            .collect()
    }
}
