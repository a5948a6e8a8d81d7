//! The few sockets that are read directly, and who gets there.
//!
//! A ring adds 0.7 us to a TCP receive (1.15 us to a datagram's), an empty direct receive costs 0.37 us: trying
//! directly pays when more than one try in three hits, or when the engine would spin idly anyway. So a socket
//! is *promoted* when it got a message in three turns that lie close together, while few others had any, and
//! the engine spins. It is *demoted* after 64 misses in a row while others had work.
//!
//! A hot socket has two forms. First its multishot stays *armed*, which costs 3-7 % (task work that finds
//! nothing), and parking costs nothing extra. After [`DISARM_HITS`] direct hits without a park it is
//! *disarmed*: then a message is one `recv` and nothing else. Before a park every hot socket is armed again,
//! by an entry that rides on the parking `enter`. So a ping-pong that parks between messages never pays for
//! arming and disarming, and one that spins pays once.

use super::socket::{Habit, Pending};
use crate::SocketId;

/// Sockets read directly at most; from three ready sockets on the ring is cheaper.
pub(super) const HOT_MAX: usize = 4;
/// Messages in close succession that make a socket hot.
const PROMOTE_HITS: u8 = 3;
/// Turns with events between two such messages, at most: as many as others may be hot.
const PROMOTE_GAP: u32 = 4;
/// Misses in a row, in turns when others had work, that make it cold.
const DEMOTE_MISSES: u32 = 64;
/// Direct hits without a park that disarm it. A pair of cancel and re-arm costs about 1.5 us and being armed
/// 0.35 us a message: even after five, three times over for safety.
const DISARM_HITS: u32 = 16;

/// A hot socket.
#[derive(Clone, Copy, Debug)]
struct Entry {
    socket: SocketId,
    /// Direct hits since the last park.
    hits: u32,
    /// Misses in a row while others had work.
    misses: u32,
    /// Hit in this turn.
    hit: bool,
}

/// The hot set and its statistics.
#[derive(Debug)]
pub(super) struct Hot {
    entries: [Option<Entry>; HOT_MAX],
    /// Turns that had events.
    turn: u32,
    /// Sockets that the ring brought data for in this turn, the first few.
    seen: [Option<SocketId>; HOT_MAX],
    seen_count: usize,
}

impl Hot {
    pub(super) fn new() -> Self {
        Self {
            entries: [None; HOT_MAX],
            turn: 0,
            seen: [None; HOT_MAX],
            seen_count: 0,
        }
    }

    /// The hot socket at `position`, below [`HOT_MAX`].
    #[inline]
    pub(super) fn at(&self, position: usize) -> Option<SocketId> {
        self.entries
            .get(position)
            .copied()
            .flatten()
            .map(|entry| entry.socket)
    }

    pub(super) fn contains(&self, socket: SocketId) -> bool {
        self.entries
            .iter()
            .flatten()
            .any(|entry| entry.socket == socket)
    }

    /// Makes a socket hot if there is room.
    pub(super) fn promote(&mut self, socket: SocketId) {
        if self.contains(socket) {
            return;
        }
        if let Some(place) = self.entries.iter_mut().find(|place| place.is_none()) {
            *place = Some(Entry {
                socket,
                hits: 0,
                misses: 0,
                hit: false,
            });
        }
    }

    pub(super) fn remove(&mut self, socket: SocketId) {
        for place in &mut self.entries {
            if place.is_some_and(|entry| entry.socket == socket) {
                *place = None;
            }
        }
    }

    /// The ring brought data for a socket.
    pub(super) fn seen(&mut self, socket: SocketId) {
        if self
            .seen
            .iter()
            .take(self.seen_count)
            .flatten()
            .any(|seen| *seen == socket)
        {
            return;
        }
        if let Some(place) = self.seen.get_mut(self.seen_count) {
            *place = Some(socket);
        }
        self.seen_count = (self.seen_count + 1).min(HOT_MAX + 1);
    }

    /// What this turn saw, unless it was too many; forgets it.
    pub(super) fn take_seen(&mut self) -> [Option<SocketId>; HOT_MAX] {
        let few = core::mem::take(&mut self.seen_count) <= HOT_MAX;
        let seen = core::mem::replace(&mut self.seen, [None; HOT_MAX]);
        if few { seen } else { [None; HOT_MAX] }
    }

    /// Forgets what this turn saw: it slept, so nothing tells that a direct read would have found it.
    pub(super) fn forget_seen(&mut self) {
        self.seen_count = 0;
        self.seen = [None; HOT_MAX];
    }

    /// Counts a message into a socket's habit; true when it shall be hot.
    pub(super) fn counts(&self, habit: &mut Habit) -> bool {
        let close = self.turn.wrapping_sub(habit.turn) <= PROMOTE_GAP;
        habit.hits = if close {
            habit.hits.saturating_add(1)
        } else {
            1
        };
        habit.turn = self.turn;
        habit.hits >= PROMOTE_HITS
    }

    /// A direct receive brought something. True when an armed socket shall be disarmed now.
    pub(super) fn hit(&mut self, socket: SocketId, input: Option<Pending>) -> bool {
        let entry = self
            .entries
            .iter_mut()
            .flatten()
            .find(|entry| entry.socket == socket);
        let Some(entry) = entry else { return false };
        entry.hits = entry.hits.saturating_add(1);
        entry.misses = 0;
        entry.hit = true;
        entry.hits >= DISARM_HITS && input.is_some_and(|input| !input.cancelled)
    }

    /// Ends a turn that had events; gives out the sockets that are hot no longer.
    pub(super) fn end_turn(&mut self) -> [Option<SocketId>; HOT_MAX] {
        self.turn = self.turn.wrapping_add(1);
        let mut cold = [None; HOT_MAX];
        for (place, cold) in self.entries.iter_mut().zip(&mut cold) {
            let Some(entry) = place else { continue };
            if core::mem::take(&mut entry.hit) {
                continue;
            }
            entry.misses += 1;
            if entry.misses >= DEMOTE_MISSES {
                *cold = Some(entry.socket);
                *place = None;
            }
        }
        cold
    }

    /// The driver is about to sleep: all shall be armed until they proved again that it pays.
    pub(super) fn parked(&mut self) {
        for entry in self.entries.iter_mut().flatten() {
            entry.hits = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use ringway_buf::Id;

    use super::*;

    fn socket(index: u32) -> SocketId {
        SocketId(Id::from_parts(index, 1))
    }

    #[test]
    fn three_messages_close_together_make_hot_and_scattered_ones_do_not() {
        let mut hot = Hot::new();
        let mut habit = Habit::default();
        for expected in [false, false, true] {
            assert_eq!(hot.counts(&mut habit), expected);
            hot.end_turn();
        }
        let mut scattered = Habit::default();
        for _ in 0..10 {
            assert!(!hot.counts(&mut scattered));
            for _ in 0..=PROMOTE_GAP {
                hot.end_turn();
            }
        }
    }

    #[test]
    fn a_turn_with_many_ready_sockets_counts_for_none() {
        let mut hot = Hot::new();
        for index in 0..5 {
            hot.seen(socket(index));
        }
        assert!(hot.take_seen().iter().all(Option::is_none));
        hot.seen(socket(1));
        hot.seen(socket(1));
        assert_eq!(hot.take_seen().iter().flatten().count(), 1);
    }

    #[test]
    fn misses_cool_and_hits_keep_warm() {
        let mut hot = Hot::new();
        hot.promote(socket(0));
        hot.promote(socket(1));
        for turn in 1..=DEMOTE_MISSES {
            hot.hit(socket(1), None);
            let cold = hot.end_turn();
            assert_eq!(cold.contains(&Some(socket(0))), turn == DEMOTE_MISSES);
        }
        assert!(!hot.contains(socket(0)) && hot.contains(socket(1)));
    }

    #[test]
    fn an_armed_socket_is_disarmed_after_sixteen_hits_and_a_park_starts_over() {
        let mut hot = Hot::new();
        hot.promote(socket(0));
        let armed = Some(Pending::new(Id::from_parts(0, 1)));
        for _ in 1..DISARM_HITS {
            assert!(!hot.hit(socket(0), armed));
        }
        assert!(hot.hit(socket(0), armed));
        hot.parked();
        assert!(!hot.hit(socket(0), armed));
    }
}
