//! What a session concludes from acknowledgements and from their absence, `docs/wire/rudp.md#loss`.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "small counts, bytes of one session, and instants that saturate"
    )
)]

use core::time::Duration;

use ringway_buf::Instant;

use super::congestion::Acked;
use super::mtu::BASE_BYTES;
use super::number::narrow;
use super::sent::{Carried, LossRule};
use super::session::{Phase, Session, Shared};
use super::wire::Ack;
use crate::packet::{Fault, SessionEnd};
use crate::stream::nanos;

/// The threshold after proven reordering; more reordering than this costs retransmissions.
const THRESHOLD_MAX: u64 = 512;
/// Packets sent when nothing was acknowledged for a probe time (RFC 9002, section 6.2.4).
const PROBES: u32 = 2;
/// Longest time between two probes.
const PROBE_NS_MAX: u64 = 1_000_000_000;
/// Probe times without any acknowledgement after which the path counts as another one.
const COLLAPSE_PROBES: u32 = 3;

impl Session {
    pub(crate) fn on_ack(&mut self, shared: &mut Shared, ack: &Ack, now: Instant) {
        let mut arrived = core::mem::take(&mut shared.carried);
        let news = self.sent.on_ack(ack, &mut arrived);
        let Some(news) = news else {
            arrived.clear();
            shared.carried = arrived;
            return self.violated(shared, Fault::AckOfUnsent);
        };
        for carried in arrived.drain(..) {
            self.on_arrived(shared, carried);
        }
        shared.carried = arrived;
        if let Some(sent_at) = news.largest_sent_at {
            let delay = u64::from(ack.delay_us) * 1000;
            let delay_max = u64::from(self.remote.ack_delay_max_us) * 1000;
            let sample = nanos(now.saturating_since(sent_at));
            self.rtt.on_sample(sample, delay.min(delay_max));
        }
        if let Some(seen) = news.acked {
            self.received.on_ack_seen(seen);
        }
        if let Some(distance) = news.spurious {
            shared.stats.spurious += 1;
            self.threshold = self.threshold.max((distance + 1).min(THRESHOLD_MAX));
        }
        if let Some(size) = news.probe {
            self.mtu.on_probe_acked(size);
        }
        self.mtu.on_acked(news.longest);
        if news.bytes > 0 {
            self.progress_at = now;
            self.probe_count = 0;
            self.controller.on_ack(&Acked {
                now,
                bytes: news.bytes,
                rtt_ns: self.rtt.latest_ns,
                smoothed_ns: self.rtt.smoothed_ns,
                is_limited: news.is_limited,
                largest: self.sent.largest_acked.unwrap_or(0),
                next: self.sent.next(),
            });
        }
        if let Some(ce) = ack.ce
            && ce != self.ce_seen
        {
            self.ce_seen = ce;
            if news
                .largest_sent_at
                .is_some_and(|at| at > self.recovery_since)
            {
                self.recovery_since = now;
                self.controller.on_loss(now, true);
            }
        }
        self.lose(shared, now);
    }

    /// Something that a packet carried has arrived.
    fn on_arrived(&mut self, shared: &mut Shared, carried: Carried) {
        match carried {
            Carried::Piece(piece) => self.outbound.on_arrived(piece),
            Carried::Confirm => self.confirm = None,
            Carried::Close => {
                if let Phase::Closing { code } = self.phase {
                    self.end(shared, SessionEnd::Local(code), None);
                }
            }
            Carried::Credit | Carried::Goaway | Carried::Final | Carried::Room => {}
        }
    }

    /// Something that a packet carried has to be sent once more.
    pub(crate) fn on_missing(&mut self, carried: Carried) {
        match carried {
            Carried::Piece(piece) => self.outbound.on_lost(piece),
            Carried::Credit => self.wishes.credit = true,
            // It is part of every packet until it has arrived.
            Carried::Confirm => self.wishes.ping |= self.confirm.is_some(),
            Carried::Goaway => self.wishes.goaway = true,
            Carried::Room => self.wishes.room = true,
            Carried::Final => self.wishes.final_word = true,
            Carried::Close => self.wishes.close = true,
        }
    }

    /// Finds packets that count as lost now.
    pub(crate) fn lose(&mut self, shared: &mut Shared, now: Instant) {
        // In a dialogue every packet has arrived by now.
        if self.sent.open == 0 && self.sent.forget_acked() {
            self.loss_at = None;
            return;
        }
        let granularity = nanos(shared.config.granularity);
        let delay = self.rtt.loss_delay_ns(granularity);
        let rule = LossRule {
            threshold: self.threshold,
            delay: Duration::from_nanos(delay),
            memory: Duration::from_nanos(delay.saturating_mul(4)),
        };
        let mut missing = core::mem::take(&mut shared.carried);
        let (losses, loss_at) = self.sent.detect(&rule, BASE_BYTES, now, &mut missing);
        self.loss_at = loss_at;
        for carried in missing.drain(..) {
            self.on_missing(carried);
        }
        shared.carried = missing;
        shared.stats.lost += losses.packets;
        if let Some(size) = losses.probe {
            self.mtu.on_probe_lost(size, now);
        }
        for _ in 0..losses.long {
            if self.mtu.on_lost(losses.longest, now) {
                break;
            }
        }
        if let Some((first, last)) = losses.span
            && last > self.recovery_since
        {
            self.recovery_since = now;
            self.controller.on_loss(now, false);
            let probe = self.probe_ns(shared);
            let span = nanos(last.saturating_since(first));
            if self.rtt.is_sampled() && span > probe.saturating_mul(3) && losses.packets > 3 {
                self.controller.on_collapse();
            }
        }
    }

    fn probe_ns(&self, shared: &Shared) -> u64 {
        let granularity = nanos(shared.config.granularity);
        let peer_delay = u64::from(self.remote.ack_delay_max_us) * 1000;
        self.rtt.probe_ns(granularity, peer_delay.min(100_000_000))
    }

    /// When to probe because no acknowledgement comes.
    pub(crate) fn probe_at(&self, shared: &Shared) -> Option<Instant> {
        let owed = self.sent.open > 0 || self.outbound.has_lost();
        if !owed || self.loss_at.is_some() {
            return None;
        }
        let wait = self.probe_ns(shared) << self.probe_count.min(20);
        Some(self.sent.eliciting_at + Duration::from_nanos(wait.min(PROBE_NS_MAX)))
    }

    pub(crate) fn probe(&mut self, shared: &mut Shared, now: Instant) {
        shared.stats.probes += 1;
        self.probe_count += 1;
        self.probes = PROBES;
        // Nothing arrives any more, and the peer was seen elsewhere: the challenge was lost, or its answer.
        if let Some(migration) = &mut self.migration {
            migration.due = true;
        }
        let mut again = core::mem::take(&mut shared.carried);
        self.sent.oldest(narrow(u64::from(PROBES)), &mut again);
        let mut found = false;
        for carried in again.drain(..).rev() {
            found = true;
            match carried {
                Carried::Piece(piece) => self.outbound.probe_with(piece),
                other => self.on_missing(other),
            }
        }
        shared.carried = again;
        if !found && !self.outbound.has_lost() {
            self.wishes.ping = true;
        }
        if self.probe_count >= COLLAPSE_PROBES {
            // Long packets may be what does not get through.
            for _ in 0..8 {
                if self.mtu.on_lost(self.mtu.bytes(), now) {
                    break;
                }
            }
        }
        if self.probe_count == COLLAPSE_PROBES {
            self.controller.on_collapse();
        }
    }

    /// The last probes brought no acknowledgement.
    pub(crate) const fn is_probing_again(&self) -> bool {
        self.probe_count > 1
    }

    /// Settles the oldest packets by force when the span is used up.
    pub(crate) fn make_room(&mut self, shared: &mut Shared, now: Instant) {
        if !self.sent.is_full() {
            return;
        }
        let mut missing = core::mem::take(&mut shared.carried);
        self.sent.make_room(now, &mut missing);
        for carried in missing.drain(..) {
            self.on_missing(carried);
        }
        shared.carried = missing;
    }
}
