//! The few sockets that are tried without asking epoll first.
//!
//! A receive that finds nothing costs 370 ns, an empty `epoll_wait` 139 ns, but a hit after `epoll_wait` pays
//! both. One hot socket is therefore read directly poll after poll, and epoll asked now and then for the rest.

use crate::SocketId;

/// Sockets tried directly at most; beyond three ready sockets, asking once for all is cheaper.
const HOT_MAX: usize = 4;
/// Misses in a row after which a socket cools, if something else had data meanwhile.
const MISSES_MAX: u32 = 64;
/// Polls in a row that skip epoll when nothing but the hot sockets moves; twice as many while they hit.
const SKIPS_MAX: u32 = 15;

/// The hot sockets, and how long epoll need not be asked.
#[derive(Debug, Default)]
pub(super) struct HotSet {
    entries: Vec<Entry>,
    /// Polls that may skip epoll: 0 while other sockets have events, then 1, 3, 7, 15.
    skips: u32,
    skipped: u32,
}

#[derive(Debug)]
struct Entry {
    socket: SocketId,
    misses: u32,
}

impl HotSet {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::with_capacity(HOT_MAX),
            skips: 0,
            skipped: 0,
        }
    }

    /// Whether the hot sockets are tried before anyone thinks of asking epoll.
    #[inline]
    pub(super) fn leads(&self) -> bool {
        !self.entries.is_empty() && self.skips > 0
    }

    /// Whether this poll may leave epoll out; counts it if so. After a `hit` it may twice as long: epoll would tell of
    /// that hit as well.
    #[inline]
    pub(super) fn skip(&mut self, hit: bool) -> bool {
        let most = if hit { 2 * self.skips } else { self.skips };
        let skip = !self.entries.is_empty() && self.skipped < most;
        self.skipped += u32::from(skip);
        skip
    }

    /// Epoll was asked; `others` tells whether a socket outside this set had an event.
    pub(super) fn asked(&mut self, others: bool) {
        self.skipped = 0;
        self.skips = if others {
            0
        } else {
            (2 * self.skips + 1).min(SKIPS_MAX)
        };
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn socket(&self, position: usize) -> Option<SocketId> {
        self.entries.get(position).map(|entry| entry.socket)
    }

    pub(super) fn contains(&self, socket: SocketId) -> bool {
        self.entries.iter().any(|entry| entry.socket == socket)
    }

    /// A socket had data: it is or becomes hot if there is room.
    #[inline]
    pub(super) fn hit(&mut self, socket: SocketId) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.socket == socket) {
            entry.misses = 0;
        } else if self.entries.len() < HOT_MAX {
            self.entries.push(Entry { socket, misses: 0 });
        }
    }

    /// A hot socket was tried in vain.
    #[inline]
    pub(super) fn miss(&mut self, socket: SocketId) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.socket == socket) {
            entry.misses = entry.misses.saturating_add(1);
        }
    }

    /// Something had data: those that long had none cool.
    #[inline]
    pub(super) fn cool(&mut self) {
        self.entries.retain(|entry| entry.misses < MISSES_MAX);
    }

    pub(super) fn remove(&mut self, socket: SocketId) {
        self.entries.retain(|entry| entry.socket != socket);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
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
    fn a_lone_hot_socket_skips_fifteen_polls_of_sixteen() {
        let mut hot = HotSet::new();
        assert!(!hot.skip(false) && !hot.leads(), "nothing is hot");
        hot.hit(socket(0));
        for skips in [0, 1, 3, 7, 15, 15] {
            assert_eq!((0..100).take_while(|_| hot.skip(false)).count(), skips);
            assert_eq!((0..100).take_while(|_| hot.skip(true)).count(), skips);
            hot.asked(false);
        }
        hot.asked(true);
        assert!(
            !hot.skip(true) && !hot.leads(),
            "others had events: ask every time"
        );
    }

    #[test]
    fn a_socket_cools_only_when_others_have_data() {
        let mut hot = HotSet::new();
        for index in 0..6 {
            hot.hit(socket(index));
        }
        assert_eq!(hot.len(), HOT_MAX);
        for _ in 0..MISSES_MAX {
            hot.miss(socket(1));
        }
        assert!(hot.contains(socket(1)));
        hot.cool();
        assert!(!hot.contains(socket(1)) && hot.contains(socket(2)));
    }
}
