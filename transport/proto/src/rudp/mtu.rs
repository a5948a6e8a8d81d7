//! How long a packet may be on this path: DPLPMTUD (RFC 8899) with a ladder of the sizes that networks have.
//!
//! A probe is an ordinary packet filled up with padding; its loss says nothing of congestion. Three lost probes
//! end the search at the size below, for ten minutes. When only long packets get lost, the path has become a
//! black hole for them: back to the base at once, and up again after half a minute.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "small counts, and instants that saturate"
    )
)]

use core::time::Duration;

use ringway_buf::Instant;

/// What every path carries.
pub(crate) const BASE_BYTES: u32 = 1200;
/// Payload sizes worth trying: Ethernet with IPv6 and IPv4, jumbo frames with both, loopback.
const LADDER: [u32; 6] = [1452, 1472, 4048, 8932, 8972, 65_507];
/// Lost probes that end the search.
const PROBES_MAX: u32 = 3;
/// Long packets lost in a row, with none acknowledged between, that mean a black hole.
const LOST_MAX: u32 = 6;
const SEARCH_AGAIN: Duration = Duration::from_mins(10);
const REST_AFTER_HOLE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Mtu {
    current: u32,
    max: u32,
    lost_probes: u32,
    /// A probe of this size is on its way.
    probing: Option<u32>,
    /// The search rests until then.
    rests_until: Instant,
    /// Sizes from here on failed, until the search begins anew.
    ceiling: u32,
    long_lost: u32,
}

impl Mtu {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            current: BASE_BYTES.min(max),
            max,
            lost_probes: 0,
            probing: None,
            rests_until: Instant::ZERO,
            ceiling: u32::MAX,
            long_lost: 0,
        }
    }

    pub(crate) const fn bytes(&self) -> u32 {
        self.current
    }

    /// The size to try now, if any.
    pub(crate) fn probe(&mut self, now: Instant) -> Option<u32> {
        if self.probing.is_some() || now < self.rests_until {
            return None;
        }
        if self.rests_until != Instant::ZERO {
            self.rests_until = Instant::ZERO;
            self.ceiling = u32::MAX;
        }
        let sizes = LADDER.into_iter().map(|size| size.min(self.max));
        sizes
            .filter(|size| *size > self.current && *size < self.ceiling)
            .min()
    }

    pub(crate) fn on_probe_sent(&mut self, size: u32) {
        self.probing = Some(size);
    }

    pub(crate) fn on_probe_acked(&mut self, size: u32) {
        self.probing = None;
        self.lost_probes = 0;
        self.long_lost = 0;
        self.current = self.current.max(size.min(self.max));
    }

    pub(crate) fn on_probe_lost(&mut self, size: u32, now: Instant) {
        self.probing = None;
        self.lost_probes += 1;
        if self.lost_probes >= PROBES_MAX {
            self.lost_probes = 0;
            self.ceiling = self.ceiling.min(size);
            self.rests_until = now + SEARCH_AGAIN;
        }
    }

    pub(crate) fn on_acked(&mut self, size: u32) {
        if size > BASE_BYTES {
            self.long_lost = 0;
        }
    }

    /// A packet was lost. True when the path turns out to be a black hole for long ones.
    pub(crate) fn on_lost(&mut self, size: u32, now: Instant) -> bool {
        if size <= BASE_BYTES || self.current <= BASE_BYTES {
            return false;
        }
        self.long_lost += 1;
        let is_hole = self.long_lost >= LOST_MAX;
        if is_hole {
            self.fall(now);
        }
        is_hole
    }

    /// The system says that the path carries no more than this.
    pub(crate) fn on_too_long(&mut self, bytes_max: u32, now: Instant) {
        let bytes_max = bytes_max.max(BASE_BYTES.min(self.max));
        if bytes_max < self.current {
            // Unlike a black hole, it names a size that passes: as long as the system remembers it (ten minutes,
            // `net.ipv4.route.mtu_expires`), nothing longer does.
            self.current = bytes_max;
            self.long_lost = 0;
            self.lost_probes = 0;
            self.rests_until = now + SEARCH_AGAIN;
        }
        self.ceiling = self.ceiling.min(bytes_max.saturating_add(1));
        self.probing = None;
    }

    fn fall(&mut self, now: Instant) {
        self.current = BASE_BYTES.min(self.max);
        self.long_lost = 0;
        self.lost_probes = 0;
        self.probing = None;
        self.rests_until = now + REST_AFTER_HOLE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(path: u32, max: u32) -> Mtu {
        let mut mtu = Mtu::new(max);
        let now = Instant::from_nanos(1);
        for _ in 0..50 {
            let Some(size) = mtu.probe(now) else { break };
            assert!(size <= max);
            mtu.on_probe_sent(size);
            assert_eq!(mtu.probe(now), None, "one at a time");
            if size <= path {
                mtu.on_probe_acked(size);
            } else {
                mtu.on_probe_lost(size, now);
            }
        }
        mtu
    }

    #[test]
    fn the_search_ends_at_what_the_path_carries() {
        for (path, max, found) in [
            (1472, 65_507, 1472),
            (1300, 65_507, 1200),
            (65_535, 65_507, 65_507),
            (9000, 1472, 1472),
            (9000, 1400, 1400),
        ] {
            assert_eq!(search(path, max).bytes(), found, "path {path} max {max}");
        }
    }

    #[test]
    fn only_long_losses_in_a_row_make_a_hole_and_the_search_comes_back() {
        let mut mtu = search(8972, 65_507);
        let now = Instant::from_nanos(9);
        for _ in 0..LOST_MAX - 1 {
            assert!(!mtu.on_lost(8972, now));
        }
        mtu.on_acked(8972);
        assert!(!mtu.on_lost(8972, now), "one got through in between");
        for _ in 0..20 {
            assert!(!mtu.on_lost(1200, now), "short ones say nothing");
        }
        assert!((0..LOST_MAX).any(|_| mtu.on_lost(8972, now)));
        assert_eq!(mtu.bytes(), BASE_BYTES);
        assert_eq!(mtu.probe(now), None);
        assert_eq!(mtu.probe(now + REST_AFTER_HOLE), Some(1452));
    }

    #[test]
    fn what_the_system_refuses_is_not_tried_again() {
        let mut mtu = search(65_535, 65_507);
        let now = Instant::from_nanos(1);
        mtu.on_too_long(1472, now);
        assert_eq!(mtu.bytes(), 1472, "what passes is used at once");
        assert_eq!(mtu.probe(now + REST_AFTER_HOLE), None);
        assert_eq!(mtu.probe(now + SEARCH_AGAIN), Some(4048));
        mtu.on_too_long(68, now);
        assert_eq!(
            mtu.bytes(),
            BASE_BYTES,
            "no word makes it shorter than that"
        );
        let mut searching = search(1200, 65_507);
        searching.on_too_long(1460, now);
        assert_eq!(searching.bytes(), BASE_BYTES, "a probe that was too long");
    }
}
