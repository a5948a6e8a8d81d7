//! Times of a stream: handshake, keepalive, idle, drain. `docs/wire/stream.md#keepalive`
//!
//! Nothing is armed and nothing is cancelled: the machine stores when things happened, and the next deadline
//! is computed from them when somebody asks. Hearing a batch of bytes therefore costs one store.

use core::time::Duration;

use ringway_buf::Instant;

use super::flood::nanos;
use super::state::State;
use super::{StreamConfig, Timeout};

/// Deadlines are rounded up to multiples of this, so that idle connections wake their engine together.
const BUNCH_NS: u64 = 1_000_000_000;
/// Times below this are exact: who asks for fast detection must not get it a second late.
const BUNCH_FROM: Duration = Duration::from_secs(10);

/// When things happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Start of the connection.
    since: Instant,
    /// Bytes were last heard.
    heard: Instant,
    /// A message last passed, in either direction.
    message: Instant,
    /// Our last ping; it waits for an answer while it is later than `heard`.
    pinged: Instant,
    /// This end began to drain; [`Instant::MAX`] while it has not.
    drain_since: Instant,
}

/// What is to be done when a deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Ping,
    Expired(Timeout),
}

impl Times {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            since: now,
            heard: now,
            message: now,
            pinged: Instant::ZERO,
            drain_since: Instant::MAX,
        }
    }

    pub(crate) const fn on_open(&mut self, now: Instant) {
        self.heard = now;
        self.message = now;
    }

    #[inline]
    pub(crate) const fn on_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    #[inline]
    pub(crate) const fn on_message(&mut self, now: Instant) {
        self.message = now;
    }

    pub(crate) const fn on_ping(&mut self, now: Instant) {
        self.pinged = now;
    }

    /// Only the first call counts: repeating the wish does not move the deadline.
    pub(crate) fn on_drain(&mut self, now: Instant) {
        self.drain_since = self.drain_since.min(now);
    }

    /// The earliest deadline and what it brings. `peer_interval_min` is how often the peer lets us ping.
    pub(crate) fn next(
        &self,
        config: &StreamConfig,
        state: State,
        peer_interval_min: Duration,
    ) -> Option<(Instant, Due)> {
        let drain = self.drain(config);
        if state.is_hello() {
            let handshake = self.since + config.handshake_timeout;
            return earlier(Some((handshake, Due::Expired(Timeout::Handshake))), drain);
        }
        if !state.is_open() {
            return None;
        }
        let alive = self.keepalive(config, peer_interval_min);
        earlier(drain, earlier(alive, self.idle(config)))
    }

    fn drain(&self, config: &StreamConfig) -> Option<(Instant, Due)> {
        (self.drain_since != Instant::MAX).then(|| {
            (
                self.drain_since + config.drain_timeout,
                Due::Expired(Timeout::Drain),
            )
        })
    }

    fn idle(&self, config: &StreamConfig) -> Option<(Instant, Due)> {
        let timeout = config.idle_timeout?;
        Some((bunched(self.message, timeout), Due::Expired(Timeout::Idle)))
    }

    fn keepalive(&self, config: &StreamConfig, interval_min: Duration) -> Option<(Instant, Due)> {
        let interval = config.keepalive_interval?.max(interval_min);
        if self.pinged > self.heard {
            let deadline = self.pinged + config.keepalive_timeout;
            return Some((deadline, Due::Expired(Timeout::Keepalive)));
        }
        Some((bunched(self.heard, interval), Due::Ping))
    }
}

/// The earlier of two deadlines; the first one when they are equal.
fn earlier(a: Option<(Instant, Due)>, b: Option<(Instant, Due)>) -> Option<(Instant, Due)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn bunched(from: Instant, wait: Duration) -> Instant {
    let exact_ns = (from + wait).as_nanos();
    if wait < BUNCH_FROM {
        return Instant::from_nanos(exact_ns);
    }
    // Saturated at the end of time there is nothing left to round to.
    Instant::from_nanos(
        exact_ns
            .checked_next_multiple_of(BUNCH_NS)
            .unwrap_or(exact_ns),
    )
}

/// Whole milliseconds for the wire: rounded up, so that a short time does not become "none"; saturating.
pub(crate) fn wire_ms(duration: Duration) -> u32 {
    u32::try_from(nanos(duration).div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::state::Half;

    const OPEN: State = State::Open {
        local: Half::Active,
        remote: Half::Active,
    };

    fn secs(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn millis(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    // docs/wire/stream.md#keepalive
    #[test]
    fn keepalives_of_many_connections_fall_together() {
        let config = StreamConfig::default();
        for ms in [1, 500, 999, 1_000] {
            let times = Times::new(millis(ms));
            let next = times.next(&config, OPEN, Duration::ZERO);
            assert_eq!(next, Some((secs(61), Due::Ping)), "heard at {ms} ms");
        }
    }

    #[test]
    fn short_intervals_are_exact_and_the_peer_may_stretch_them() {
        let interval = Duration::from_millis(50);
        let config = StreamConfig {
            keepalive_interval: Some(interval),
            ..StreamConfig::default()
        };
        let times = Times::new(millis(3));
        assert_eq!(
            times.next(&config, OPEN, Duration::ZERO),
            Some((millis(53), Due::Ping))
        );
        let slow = Duration::from_millis(700);
        assert_eq!(
            times.next(&config, OPEN, slow),
            Some((millis(703), Due::Ping))
        );
    }

    #[test]
    fn an_unanswered_ping_expires_and_any_byte_answers_it() {
        let config = StreamConfig::default();
        let mut times = Times::new(secs(0));
        times.on_ping(secs(60));
        let expired = Due::Expired(Timeout::Keepalive);
        assert_eq!(
            times.next(&config, OPEN, Duration::ZERO),
            Some((secs(80), expired))
        );
        times.on_heard(secs(60));
        assert_eq!(
            times.next(&config, OPEN, Duration::ZERO),
            Some((secs(120), Due::Ping))
        );
    }

    #[test]
    fn the_end_of_time_is_no_trap() {
        let config = StreamConfig::default();
        let times = Times::new(Instant::from_nanos(u64::MAX - 1));
        let next = times.next(&config, OPEN, Duration::ZERO);
        assert_eq!(next, Some((Instant::MAX, Due::Ping)));
        assert_eq!(wire_ms(Duration::MAX), u32::MAX);
        assert_eq!(wire_ms(Duration::from_nanos(1)), 1);
        assert_eq!(wire_ms(Duration::ZERO), 0);
    }
}
