//! How a session goes on and ends: what its owner wishes, and what time brings.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "small counts, bytes of one session, and instants that saturate"
    )
)]

use core::time::Duration;

use ringway_buf::Instant;

use super::mtu::{BASE_BYTES, Mtu};
use super::rtt::Rtt;
use super::session::{Farewell, Half, Path, Phase, Session, Shared};
use super::wire::length;
use crate::packet::{SendRefusal, SessionEnd};
use crate::stream::Timeout;
use crate::wire::CloseCode;

/// Longest wait for an answer to INIT.
const INIT_WAIT_MAX: Duration = Duration::from_secs(1);

impl Session {
    /// The longest message that is taken now.
    pub(crate) fn message_bytes_max(&self) -> Result<usize, SendRefusal> {
        match self.phase {
            Phase::Connecting { .. } | Phase::Waiting => Err(SendRefusal::NotOpen),
            Phase::Open if self.local < Half::Final => Ok(length(self.remote.message_bytes_max)),
            _ => Err(SendRefusal::Closed),
        }
    }

    pub(crate) fn on_send(&mut self, now: Instant) {
        self.message_at = now;
    }

    pub(crate) fn drain(&mut self, now: Instant) {
        if self.local == Half::Active {
            self.local = Half::Draining;
            self.wishes.goaway = true;
            self.drain_totals = self.outbound.totals();
        }
        self.drain_since.get_or_insert(now);
    }

    pub(crate) fn finish(&mut self, shared: &mut Shared) {
        if self.local < Half::Final {
            self.local = Half::Final;
            self.wishes.goaway = false;
            self.wishes.final_word = true;
        }
        self.settle(shared);
    }

    pub(crate) fn close(&mut self, shared: &mut Shared, code: CloseCode) {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Closing { code };
                self.settle(shared);
            }
            Phase::Connecting { .. } | Phase::Waiting => {
                self.end(shared, SessionEnd::Local(code), None);
            }
            Phase::PeerClosed { .. } => {
                self.end(shared, SessionEnd::Local(code), Some(Farewell::Ack));
            }
            Phase::Closing { .. } | Phase::Gone => {}
        }
    }

    pub(crate) fn abort(&mut self, shared: &mut Shared) {
        let code = match self.phase {
            Phase::Closing { code } => code,
            _ => CloseCode::Normal,
        };
        let farewell = match self.phase {
            Phase::Connecting { .. } | Phase::Waiting => None,
            _ => Some(Farewell::Close(code)),
        };
        self.end(shared, SessionEnd::Local(code), farewell);
    }

    /// The peer moved to another address, which is proven now.
    pub(crate) fn migrate(&mut self, shared: &mut Shared, path: Path) {
        self.path = path;
        self.migration = None;
        let mut missing = core::mem::take(&mut shared.carried);
        self.sent.give_up(&mut missing);
        for carried in missing.drain(..) {
            self.on_missing(carried);
        }
        shared.carried = missing;
        self.loss_at = None;
        self.probe_count = 0;
        let longest = shared
            .config
            .datagram_bytes_max
            .min(self.remote.datagram_bytes_max);
        self.mtu = Mtu::new(longest.max(BASE_BYTES));
        self.rtt = Rtt::new(shared.config.initial_rtt);
        self.controller.on_collapse();
    }

    fn keepalive_interval(&self, shared: &Shared) -> Option<Duration> {
        let least = Duration::from_millis(u64::from(self.remote.keepalive_interval_min_ms));
        shared
            .config
            .stream
            .keepalive_interval
            .map(|interval| interval.max(least))
    }

    /// Acts on deadlines that have passed.
    pub(crate) fn on_timeout(&mut self, shared: &mut Shared, now: Instant) {
        let stream = &shared.config.stream;
        let (handshake, keepalive) = (stream.handshake_timeout, stream.keepalive_timeout);
        let (idle, drain) = (stream.idle_timeout, stream.drain_timeout);
        match &mut self.phase {
            Phase::Gone => return,
            Phase::Connecting { wait, again_at, .. } => {
                if now >= self.since + handshake {
                    let end = SessionEnd::Expired(Timeout::Handshake);
                    return self.end(shared, end, None);
                }
                if now >= *again_at {
                    *wait = (*wait * 2).min(INIT_WAIT_MAX);
                    *again_at = now + *wait;
                    self.wishes.init = true;
                }
                return;
            }
            Phase::Waiting => {
                if now >= self.since + handshake {
                    let end = SessionEnd::Expired(Timeout::Handshake);
                    self.end(shared, end, None);
                }
                return;
            }
            Phase::Open | Phase::Closing { .. } | Phase::PeerClosed { .. } => {}
        }
        let is_owed = self.sent.open > 0 || self.outbound.has_lost();
        let expired = if is_owed && now >= self.progress_at + keepalive {
            Some(Timeout::Keepalive)
        } else if self.drain_since.is_some_and(|since| now >= since + drain) {
            Some(Timeout::Drain)
        } else if idle.is_some_and(|idle| now >= self.message_at + idle) {
            Some(Timeout::Idle)
        } else {
            None
        };
        if let Some(timeout) = expired {
            let farewell = Some(Farewell::Close(timeout.code()));
            return self.end(shared, SessionEnd::Expired(timeout), farewell);
        }
        if self.loss_at.is_some_and(|at| at <= now) {
            self.lose(shared, now);
        } else if self.probe_at(shared).is_some_and(|at| at <= now) {
            self.probe(shared, now);
        }
        if let Some(interval) = self.keepalive_interval(shared)
            && now >= self.heard_at + interval
            && self.sent.open == 0
        {
            self.wishes.ping = true;
        }
        self.settle(shared);
    }

    /// The earliest deadline.
    pub(crate) fn deadline(&self, shared: &Shared) -> Option<Instant> {
        let stream = &shared.config.stream;
        match self.phase {
            Phase::Gone => return None,
            Phase::Connecting { again_at, .. } => {
                return Some(again_at.min(self.since + stream.handshake_timeout));
            }
            Phase::Waiting => return Some(self.since + stream.handshake_timeout),
            Phase::Open | Phase::Closing { .. } | Phase::PeerClosed { .. } => {}
        }
        // One after the other: an array of them, flattened, costs each packet a thousand instructions.
        let mut earliest = Instant::MAX;
        let mut consider = |at: Option<Instant>| {
            if let Some(at) = at {
                earliest = earliest.min(at);
            }
        };
        consider(self.received.due());
        consider(self.loss_at);
        consider(self.probe_at(shared));
        consider(self.paced_until);
        if self.sent.open > 0 || self.outbound.has_lost() {
            consider(Some(self.progress_at + stream.keepalive_timeout));
        }
        if self.sent.open == 0
            && let Some(interval) = self.keepalive_interval(shared)
        {
            consider(Some(self.heard_at + interval));
        }
        if let Some(since) = self.drain_since {
            consider(Some(since + stream.drain_timeout));
        }
        if let Some(idle) = stream.idle_timeout {
            consider(Some(self.message_at + idle));
        }
        (earliest < Instant::MAX).then_some(earliest)
    }
}
