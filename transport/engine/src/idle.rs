//! What an engine does when a turn found nothing.

use core::time::Duration;

use ringway_buf::Instant;

/// When an engine sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Idle {
    /// Never: the lowest latency, one core always busy.
    Spin,
    /// Spins for about the cost of one wake-up after the last message, then sleeps. The default.
    ///
    /// A busy exchange never sleeps, an idle engine costs nothing. After a wake-up that only a timer caused
    /// it does not spin.
    #[default]
    Adaptive,
    /// Sleeps at once: the least CPU, one wake-up per message.
    Park,
}

/// What to do after an empty turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Spin,
    Sleep,
}

/// The policy's memory: when something last happened.
#[derive(Debug)]
pub(crate) struct Resting {
    policy: Idle,
    spin: Duration,
    spin_until: Instant,
}

impl Resting {
    pub(crate) fn new(policy: Idle, spin: Duration) -> Self {
        Self {
            policy,
            spin,
            spin_until: Instant::ZERO,
        }
    }

    /// A message, a connection or a command came: under `Adaptive`, worth spinning for the next one.
    pub(crate) fn busy(&mut self, now: Instant) {
        self.spin_until = now + self.spin;
    }

    pub(crate) fn next(&self, now: Instant) -> Rest {
        match self.policy {
            Idle::Spin => Rest::Spin,
            Idle::Park => Rest::Sleep,
            Idle::Adaptive if now < self.spin_until => Rest::Spin,
            Idle::Adaptive => Rest::Sleep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adaptive_spins_after_traffic_and_sleeps_after_the_spin_time() {
        let at = Instant::from_nanos;
        let mut resting = Resting::new(Idle::Adaptive, Duration::from_nanos(100));
        assert_eq!(resting.next(at(5)), Rest::Sleep, "no traffic yet");
        resting.busy(at(10));
        assert_eq!(resting.next(at(109)), Rest::Spin);
        assert_eq!(resting.next(at(110)), Rest::Sleep);
    }

    #[test]
    fn spin_never_sleeps_and_park_always_does() {
        let mut spin = Resting::new(Idle::Spin, Duration::ZERO);
        let mut park = Resting::new(Idle::Park, Duration::from_secs(1));
        spin.busy(Instant::ZERO);
        park.busy(Instant::ZERO);
        assert_eq!(spin.next(Instant::MAX), Rest::Spin);
        assert_eq!(park.next(Instant::ZERO), Rest::Sleep);
    }
}
