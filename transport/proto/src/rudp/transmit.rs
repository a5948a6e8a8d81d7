//! Writing packets: what a session has to say now, in bursts of equal datagrams.
//!
//! A burst is one lease of the caller's memory and one system call, so its datagrams have one size. The first one
//! takes what fits and thereby sets the size; the others may be padded a little to meet it, and the first one
//! that falls short ends the burst.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "lengths inside of one lent burst, and bytes of one session"
    )
)]

use ringway_buf::Instant;

use super::mtu::BASE_BYTES;
use super::number::{low, narrow, wide};
use super::sent::{Carried, Leaving};
use super::session::{Farewell, Path, Phase, Session, Shared};
use super::wire::{
    Accept, Ack, First, Frame, INIT_BYTES_MIN, Init, Long, PACKET_HEADER_BYTES, PacketHeader,
    Parameters, VERSION, Writer, length, seal,
};
use crate::packet::{Marks, TransmitSink};
use crate::wire::CloseCode;

/// Most datagrams of one burst: the kernel's limit for segmentation.
const BURST_COUNT_MAX: usize = 64;
/// Most bytes of one burst: the kernel's limit for segmentation.
const BURST_BYTES_MAX: usize = 65_507;
/// Bursts of one session per call; the others get their turn.
const BURSTS_MAX: u32 = 4;
/// So many bytes of padding are cheaper than another system call.
const PADDING_MAX: usize = 64;
/// Room beside messages in an ordinary packet: header, acknowledgement, a few control frames.
const OVERHEAD_BYTES: usize = PACKET_HEADER_BYTES + Ack::BYTES_MAX + 2 * Frame::CONTROL_BYTES_MAX;

/// What came of a session's turn to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything that may leave has left.
    Idle,
    /// There is more for another turn.
    More,
    /// The sink takes nothing now.
    Blocked,
}

/// One packet was written.
struct Written {
    len: usize,
    /// There was more than fitted.
    overflows: bool,
}

impl Session {
    /// Sends what may be sent now.
    pub(crate) fn transmit(
        &mut self,
        shared: &mut Shared,
        sink: &mut dyn TransmitSink,
        now: Instant,
    ) -> Outcome {
        self.paced_until = None;
        match self.phase {
            Phase::Connecting { .. } | Phase::Waiting => return self.shake(shared, sink),
            Phase::Gone => return self.farewell(shared, sink, now),
            Phase::Open | Phase::Closing { .. } | Phase::PeerClosed { .. } => {}
        }
        if !self.challenge(shared, sink, now) {
            return Outcome::Blocked;
        }
        self.make_room(shared, now);
        for _ in 0..BURSTS_MAX {
            if !self.wants_packet(now) {
                break;
            }
            match self.burst(shared, sink, now) {
                Outcome::More => {}
                done => return done,
            }
        }
        if self.wants_longer && !self.search(shared, sink, now) {
            return Outcome::Blocked;
        }
        if self.wants_packet(now) {
            Outcome::More
        } else {
            Outcome::Idle
        }
    }

    /// The window and the pacer let data leave; remembers when they will, if not.
    fn may_send_data(&mut self, now: Instant) -> bool {
        if self.probes > 0 {
            return true;
        }
        let window = self.controller.window();
        let packet = u64::from(self.mtu.bytes());
        let fits =
            self.sent.in_flight + packet <= window && self.room.has_room(self.sent.held, packet);
        if self.sent.is_full() || (self.sent.in_flight > 0 && !fits) {
            return false;
        }
        let rtt_ns = self.rtt.smoothed_ns;
        let allowance = self
            .pacer
            .allowance(window, self.sent.in_flight, rtt_ns, packet, now);
        // Bursts of one packet would cost a system call each.
        let least = (2 * packet).min(window / 2);
        if allowance < least {
            self.paced_until = Some(self.pacer.ready_at(window, rtt_ns, least));
            return false;
        }
        true
    }

    fn has_data(&self) -> bool {
        let again = self.outbound.has_lost() && (self.again_bytes > 0 || self.probes > 0);
        again || self.outbound.has_fresh()
    }

    /// Whether a packet can leave now.
    fn wants_packet(&mut self, now: Instant) -> bool {
        if self.probes > 0 || self.wishes.any() || self.received.is_due(now) {
            return true;
        }
        // The client's address is proven by the first packet that the server gets.
        if self.confirm.is_some() && self.sent.next() == 0 {
            return true;
        }
        self.has_data() && self.may_send_data(now)
    }

    /// One burst. `More`: there may be another.
    fn burst(&mut self, shared: &mut Shared, sink: &mut dyn TransmitSink, now: Instant) -> Outcome {
        // The first probes may repeat a long packet whole; later ones keep to what every path carries.
        let is_doubtful = self.probes > 0 && self.is_probing_again();
        let mtu = if is_doubtful {
            length(self.mtu.bytes().min(BASE_BYTES))
        } else {
            length(self.mtu.bytes())
        };
        let want = self.outbound.waiting_bytes() + OVERHEAD_BYTES;
        let segment = mtu.min(want.max(256));
        let allowed = self.allowed_bytes(now).max(segment);
        let most = (BURST_BYTES_MAX / segment).min(BURST_COUNT_MAX);
        let count = want.min(allowed).div_ceil(segment).clamp(1, most);
        let Some(out) = sink.lend(self.path.peer, segment, count) else {
            return Outcome::Blocked;
        };
        let mut at = 0;
        let mut size = segment;
        let mut more = false;
        for index in 0..count {
            if index > 0 && (!self.has_data() || !self.may_send_data(now)) {
                break;
            }
            let Some(slot) = out.get_mut(at..at + size) else {
                break;
            };
            let pad_to = if index == 0 { 0 } else { size };
            let Some(written) = self.packet(shared, slot, pad_to, now) else {
                break;
            };
            at += written.len;
            more = written.overflows;
            if index == 0 {
                size = written.len;
            } else if written.len < size {
                break;
            }
            self.wants_longer |= written.overflows;
        }
        if at == 0 {
            return Outcome::Idle;
        }
        commit(sink, self.path, at, size);
        if more || self.has_data() {
            Outcome::More
        } else {
            Outcome::Idle
        }
    }

    /// Bytes that the window and the pacer allow for one burst.
    fn allowed_bytes(&mut self, now: Instant) -> usize {
        let window = self.controller.window();
        let packet = u64::from(self.mtu.bytes());
        let room = window.saturating_sub(self.sent.in_flight);
        let rtt_ns = self.rtt.smoothed_ns;
        let paced = self
            .pacer
            .allowance(window, self.sent.in_flight, rtt_ns, packet, now);
        narrow(room.min(paced))
    }

    /// Writes one packet into `out`, up to its length. `None` when there is nothing to say.
    fn packet(
        &mut self,
        shared: &mut Shared,
        out: &mut [u8],
        pad_to: usize,
        now: Instant,
    ) -> Option<Written> {
        let mark = self.sent.log_len();
        let number = self.sent.next();
        let is_limited = self.sent.in_flight * 2 >= self.controller.window();
        let ack = self
            .received
            .is_pending()
            .then(|| self.received.ack(now))
            .flatten();
        let mut writer = Writer::new(out);
        let flags = ack.as_ref().map_or(0, |(ack, _)| ack.flags());
        if !PacketHeader::frames(self.remote_cid, low(number), flags).write(&mut writer) {
            return None;
        }
        let acked = ack.as_ref().map(|(_, largest)| *largest);
        if let Some((ack, _)) = &ack
            && !ack.write(&mut writer)
        {
            return None;
        }
        let head = writer.len();
        self.controls(shared, &mut writer);
        let may_send = self.may_send_data(now);
        let mut overflows = false;
        let (mut fresh, mut again) = (0, 0);
        if may_send {
            let again_max = if self.probes > 0 {
                usize::MAX
            } else {
                usize::try_from(self.again_bytes).unwrap_or(0)
            };
            let capacity = length(self.mtu.bytes()).saturating_sub(OVERHEAD_BYTES);
            let filled = self
                .outbound
                .fill(&mut writer, &mut self.sent, again_max, capacity, now);
            overflows = filled.overflows;
            shared.stats.expired += filled.expired;
            (fresh, again) = (filled.fresh, filled.again);
        }
        if self.probes > 0 && writer.len() == head {
            let _fits = Frame::Ping.write(&mut writer);
        }
        let eliciting = writer.len() > head;
        if !eliciting && acked.is_none() {
            return None;
        }
        let lacking = pad_to.saturating_sub(writer.len());
        if overflows && lacking > 0 && lacking <= PADDING_MAX {
            writer.zeros(lacking);
        }
        let len = writer.len();
        self.on_bytes(shared, fresh, again);
        if eliciting {
            self.on_eliciting(now);
            self.probes = self.probes.saturating_sub(1);
            self.pacer.on_sent(wide(len));
        } else {
            shared.stats.acks_alone += 1;
        }
        let leaving = Leaving {
            bytes: len,
            eliciting,
            is_probe: false,
            is_limited,
            acked,
        };
        self.sent.record(&leaving, mark, now);
        if acked.is_some() {
            self.received.on_ack_sent();
        }
        finish(shared, out, len);
        Some(Written { len, overflows })
    }

    /// Control frames that wait, as far as there is room.
    fn controls(&mut self, shared: &Shared, writer: &mut Writer<'_>) {
        let has_room = |writer: &Writer<'_>| writer.room() >= Frame::CONTROL_BYTES_MAX;
        // Without the proof of this end's address the server reads nothing.
        if let Some(nonce) = self.confirm
            && Frame::Confirm(nonce).write(writer)
        {
            self.sent.carry(Carried::Confirm);
        }
        if let Some(token) = self.wishes.response
            && has_room(writer)
            && Frame::Response(token).write(writer)
        {
            self.wishes.response = None;
        }
        if (self.wishes.credit || self.inbound.may_tell_credit()) && has_room(writer) {
            let (bytes, messages) = self.inbound.tell_credit();
            if (Frame::Credit { bytes, messages }).write(writer) {
                self.wishes.credit = false;
                self.sent.carry(Carried::Credit);
            }
        }
        if self.wishes.room && has_room(writer) {
            let (serial, bytes) = (shared.room.serial, shared.room.share());
            if (Frame::Room { serial, bytes }).write(writer) {
                self.wishes.room = false;
                self.sent.carry(Carried::Room);
            }
        }
        if self.wishes.goaway && has_room(writer) {
            let (ordered, unordered) = self.drain_totals;
            if (Frame::Goaway { ordered, unordered }).write(writer) {
                self.wishes.goaway = false;
                self.sent.carry(Carried::Goaway);
            }
        }
        if self.wishes.final_word && has_room(writer) {
            let (ordered, unordered) = self.outbound.totals();
            if (Frame::Final { ordered, unordered }).write(writer) {
                self.wishes.final_word = false;
                self.sent.carry(Carried::Final);
            }
        }
        if self.wishes.close && has_room(writer) {
            self.wishes.close = false;
            if let Phase::Closing { code } = self.phase
                && Frame::Close(code.to_wire()).write(writer)
            {
                self.sent.carry(Carried::Close);
            }
        }
        if self.wishes.ping && has_room(writer) && Frame::Ping.write(writer) {
            self.wishes.ping = false;
        }
    }

    /// INIT or ACCEPT.
    fn shake(&mut self, shared: &mut Shared, sink: &mut dyn TransmitSink) -> Outcome {
        let is_init = matches!(self.phase, Phase::Connecting { .. }) && self.wishes.init;
        let is_accept = self.phase == Phase::Waiting && self.wishes.accept;
        if !is_init && !is_accept {
            return Outcome::Idle;
        }
        let size = if is_init { INIT_BYTES_MIN } else { 128 };
        let Some(out) = sink.lend(self.path.peer, size, 1) else {
            return Outcome::Blocked;
        };
        let Some(out) = out.get_mut(..size) else {
            return Outcome::Blocked;
        };
        let mut writer = Writer::new(out);
        let parameters = self.parameters(shared);
        let whole = match self.phase {
            Phase::Connecting { cookie, .. } => {
                self.wishes.init = false;
                let init = Init {
                    version_min: VERSION,
                    version_max: VERSION,
                    parameters,
                    cookie,
                };
                let whole =
                    long_header(Long::Init, 0).write(&mut writer) && init.write(&mut writer);
                let rest = writer.room();
                writer.zeros(rest);
                whole
            }
            _ => {
                self.wishes.accept = false;
                let accept = Accept {
                    parameters,
                    confirm: self.confirm.unwrap_or_default(),
                };
                long_header(Long::Accept, self.remote_cid).write(&mut writer)
                    && accept.write(&mut writer)
            }
        };
        debug_assert!(whole, "a handshake packet has room for its fields");
        let len = writer.len();
        finish(shared, out, len);
        commit(sink, self.path, len, len);
        Outcome::Idle
    }

    /// What this end says of itself.
    fn parameters(&self, shared: &Shared) -> Parameters {
        let config = &shared.config;
        let millis =
            |time: core::time::Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let micros =
            |time: core::time::Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        Parameters {
            cid: self.local_cid,
            nonce: self.nonce,
            epoch: shared.epoch,
            features_offered: config.stream.features_offered,
            features_required: config.stream.features_required,
            message_bytes_max: config.stream.message_bytes_max,
            credit_bytes: config.credit_bytes,
            credit_messages: config.credit_messages,
            datagram_bytes_max: config.datagram_bytes_max,
            ack_delay_max_us: micros(config.ack_delay_max),
            idle_timeout_ms: config.stream.idle_timeout.map_or(0, millis),
            keepalive_interval_min_ms: millis(config.stream.keepalive_interval_min),
            room_bytes: u32::try_from(shared.room.share()).unwrap_or(u32::MAX),
        }
    }

    /// The last packet of a session that is gone.
    fn farewell(
        &mut self,
        shared: &mut Shared,
        sink: &mut dyn TransmitSink,
        now: Instant,
    ) -> Outcome {
        let Some(farewell) = self.farewell else {
            return Outcome::Idle;
        };
        let size = PACKET_HEADER_BYTES + Ack::BYTES_MAX + Frame::CONTROL_BYTES_MAX;
        let Some(out) = sink.lend(self.path.peer, size, 1) else {
            return Outcome::Blocked;
        };
        self.farewell = None;
        let mut writer = Writer::new(out);
        let ack = self.received.ack(now);
        let flags = ack.as_ref().map_or(0, |(ack, _)| ack.flags());
        let number = low(self.sent.next());
        let mut whole = PacketHeader::frames(self.remote_cid, number, flags).write(&mut writer);
        if let Some((ack, _)) = &ack {
            whole = whole && ack.write(&mut writer);
        }
        if let Farewell::Close(code) = farewell {
            let code: CloseCode = code;
            whole = whole && Frame::Close(code.to_wire()).write(&mut writer);
        }
        let len = writer.len();
        if whole {
            finish(shared, out, len);
            commit(sink, self.path, len, len);
        }
        Outcome::Idle
    }

    /// Asks a new address of the peer to prove itself. False when the sink takes nothing.
    fn challenge(
        &mut self,
        shared: &mut Shared,
        sink: &mut dyn TransmitSink,
        now: Instant,
    ) -> bool {
        let Some(migration) = self.migration.filter(|migration| migration.due) else {
            return true;
        };
        let size = PACKET_HEADER_BYTES + Frame::CONTROL_BYTES_MAX;
        if migration.allowed_bytes < size {
            if let Some(migration) = &mut self.migration {
                migration.due = false;
            }
            return true;
        }
        let Some(out) = sink.lend(migration.path.peer, size, 1) else {
            return false;
        };
        let mark = self.sent.log_len();
        let mut writer = Writer::new(out);
        let number = low(self.sent.next());
        let whole = PacketHeader::frames(self.remote_cid, number, 0).write(&mut writer)
            && Frame::Challenge(migration.token).write(&mut writer);
        let len = writer.len();
        if whole {
            // Its acknowledgement proves nothing, so it is none of the packets that are waited for.
            let leaving = Leaving {
                bytes: len,
                eliciting: false,
                is_probe: false,
                is_limited: false,
                acked: None,
            };
            self.sent.record(&leaving, mark, now);
            finish(shared, out, len);
            commit(sink, migration.path, len, len);
        }
        if let Some(migration) = &mut self.migration {
            migration.due = false;
            migration.allowed_bytes = migration.allowed_bytes.saturating_sub(size);
            migration.sent_at = now;
        }
        true
    }

    /// Tries a longer packet. False when the sink takes nothing.
    fn search(&mut self, shared: &mut Shared, sink: &mut dyn TransmitSink, now: Instant) -> bool {
        self.wants_longer = false;
        if self.confirm.is_some() || self.phase != Phase::Open || self.sent.is_full() {
            return true;
        }
        let probe = self.mtu.probe(now).filter(|size| {
            let bytes = u64::from(*size);
            self.room.suits(bytes) && self.room.has_room(self.sent.held, bytes)
        });
        let Some(size) = probe else {
            return true;
        };
        let bytes = length(size);
        let Some(out) = sink.lend(self.path.peer, bytes, 1) else {
            return false;
        };
        let Some(out) = out.get_mut(..bytes) else {
            return false;
        };
        let mark = self.sent.log_len();
        let mut writer = Writer::new(out);
        let number = low(self.sent.next());
        let whole = PacketHeader::frames(self.remote_cid, number, 0).write(&mut writer)
            && Frame::Ping.write(&mut writer);
        let rest = writer.room();
        writer.zeros(rest);
        if whole {
            self.on_eliciting(now);
            let leaving = Leaving {
                bytes,
                eliciting: true,
                is_probe: true,
                is_limited: false,
                acked: None,
            };
            self.sent.record(&leaving, mark, now);
            self.mtu.on_probe_sent(size);
            finish(shared, out, bytes);
            commit(sink, self.path, bytes, bytes);
        }
        true
    }

    /// The server heard an INIT again: its answer may have been lost.
    pub(crate) fn accept_again(&mut self) {
        self.wishes.accept = self.phase == Phase::Waiting;
    }
}

pub(crate) const fn long_header(kind: Long, cid: u64) -> PacketHeader {
    PacketHeader {
        first: First::Long(kind),
        flags: 0,
        cid,
        number: 0,
    }
}

/// Hands down what was lent, to leave from the address of ours that the peer speaks to.
pub(super) fn commit(sink: &mut dyn TransmitSink, path: Path, bytes: usize, segment_bytes: usize) {
    if path.local.is_some() {
        sink.mark(Marks {
            source: path.local,
            ecn: None,
        });
    }
    sink.commit(bytes, segment_bytes);
}

/// Seals the packet in the first `len` bytes and counts it.
fn finish(shared: &mut Shared, out: &mut [u8], len: usize) {
    if let Some(packet) = out.get_mut(..len) {
        seal(packet);
    }
    shared.stats.packets_out += 1;
    shared.stats.bytes_out += wide(len);
}
