//! What the system at the other end holds of packets that nobody has read yet, `docs/wire/rudp.md#room`.
//!
//! A packet costs a receive buffer more than its bytes: the kernel counts the memory that it lies in. As long as the costs
//! of all packets on the way stay below what the receiver's socket was granted, none of them is dropped there,
//! however long nobody reads. The socket is shared by the sessions behind it, and so is its room.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "packets are shorter than 64 KiB, buffers than 4 GiB"
    )
)]

/// No session is given less: beyond so many sessions the congestion control has to see to it.
const SHARE_MIN: u64 = 16 << 10;

/// What a packet of so many bytes costs the buffer that it waits in.
///
/// Linux 6.18 on x86-64 counts 832 bytes for one of up to 150, 1,280 up to 600, 2,304 up to 1,650, then twice
/// the bytes at most up to 16 KiB, and behind that the bytes and 832 (`sk_rmem_alloc`, by `SO_MEMINFO`). Packets that
/// arrive as one segmented buffer cost less than the sum.
pub(crate) const fn cost(bytes: u64) -> u64 {
    if bytes < 16_000 {
        (bytes + 400).next_power_of_two() + 320
    } else {
        bytes + 2048
    }
}

/// The room of one socket, and how its sessions share it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    /// All of it; 0: nobody knows.
    bytes: u64,
    /// For so many sessions, a power of two.
    sessions: u64,
    /// How often the share has changed.
    pub(crate) serial: u64,
}

impl Room {
    /// The room of a buffer to which the system has granted `bytes`, as it counts them. A quarter it may count once more, for
    /// packets that were read already (`udp_rmem_release`); an eighth is for what no window holds back: acknowledgements and
    /// probes.
    pub(crate) const fn of(bytes: u64) -> Self {
        Self {
            bytes: bytes / 8 * 5,
            sessions: 1,
            serial: 0,
        }
    }

    /// What each session is told; 0 when nothing is known.
    pub(crate) fn share(&self) -> u64 {
        match self.bytes {
            0 => 0,
            bytes => (bytes / self.sessions.max(1)).max(SHARE_MIN),
        }
    }

    /// There are so many sessions now. True when their shares have changed: smaller ones at once, larger ones when
    /// a quarter is left.
    pub(crate) fn share_among(&mut self, sessions: u64) -> bool {
        let is_many = sessions > self.sessions;
        let is_few = sessions.saturating_mul(4) <= self.sessions;
        if self.bytes == 0 || !(is_many || is_few) {
            return false;
        }
        let before = self.share();
        self.sessions = sessions.max(1).next_power_of_two();
        let has_changed = self.share() != before;
        self.serial += u64::from(has_changed);
        has_changed
    }
}

/// What the peer has room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerRoom {
    bytes: u64,
    serial: u64,
}

impl PeerRoom {
    /// What it said in the handshake; 0: nothing.
    pub(crate) fn new(said: u64) -> Self {
        Self {
            bytes: if said == 0 { u64::MAX } else { said },
            serial: 0,
        }
    }

    /// A later word; one that was overtaken by a newer one counts no more.
    pub(crate) fn on_room(&mut self, serial: u64, bytes: u64) {
        if serial > self.serial {
            self.serial = serial;
            self.bytes = if bytes == 0 { u64::MAX } else { bytes };
        }
    }

    /// Whether one more packet of so many bytes has room beside what costs `held` already.
    pub(crate) fn has_room(&self, held: u64, bytes: u64) -> bool {
        held.saturating_add(cost(bytes)) <= self.bytes
    }

    /// Whether packets of so many bytes are worth trying: a window that holds but one of them would lie idle.
    pub(crate) fn suits(&self, bytes: u64) -> bool {
        cost(bytes) <= self.bytes / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_costs_at_least_what_the_kernel_counts() {
        let counted = [
            (1, 832),
            (150, 832),
            (200, 1280),
            (600, 1280),
            (700, 2304),
            (1472, 2304),
            (2000, 4352),
            (4048, 8448),
            (8000, 16_640),
            (16_000, 16_640),
            (30_000, 30_832),
            (65_507, 66_339),
        ];
        for (bytes, counted) in counted {
            assert!(cost(bytes) >= counted, "{bytes}: {}", cost(bytes));
            assert!(cost(bytes) <= 2 * counted, "{bytes}: {}", cost(bytes));
        }
    }

    #[test]
    fn shares_shrink_at_once_and_grow_late_and_never_end() {
        let mut room = Room::of(800 << 10);
        assert_eq!(room.share(), 500 << 10);
        assert!(!room.share_among(1) && room.share_among(2));
        assert_eq!((room.share(), room.serial), (250 << 10, 1));
        assert!(room.share_among(3) && !room.share_among(4) && !room.share_among(2));
        assert!(room.share_among(1));
        assert_eq!(room.share(), 500 << 10);
        assert!(room.share_among(1000));
        assert_eq!(room.share(), SHARE_MIN);
        let mut unknown = Room::default();
        assert!(!unknown.share_among(9));
        assert_eq!(unknown.share(), 0);
    }

    #[test]
    fn the_newest_word_of_a_peer_counts() {
        let mut peer = PeerRoom::new(0);
        assert!(peer.has_room(1 << 40, 1472), "it said nothing");
        peer.on_room(2, 10_000);
        peer.on_room(1, 90_000);
        assert!(peer.has_room(7600, 1472) && !peer.has_room(7700, 1472));
        assert!(peer.suits(1472) && !peer.suits(4048));
    }
}
