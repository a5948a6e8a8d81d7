//! Handshakes, and the answers that need no session, `docs/wire/rudp.md#handshake`.
//!
//! Who cannot be trusted to be where he says he is gets a bounded number of half-open sessions between all of his
//! kind, then a cookie, and never more bytes than he sent.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "small counts, and a division by a constant"
    )
)]

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use ringway_buf::{Id, Instant};

use super::endpoint::{ANSWER_BYTES_MAX, Answer, Rudp};
use super::mac::sum;
use super::number::{expand, narrow};
use super::session::{Farewell, Path, Phase};
use super::transmit::long_header;
use super::wire::{
    Accept, COOKIE_BYTES, Cookie, INIT_BYTES_MIN, Init, Long, PACKET_HEADER_BYTES, PacketHeader,
    Reader, Refuse, VERSION, Writer, seal,
};
use crate::packet::{PacketMeta, SessionEnd, SessionId};
use crate::stream::{Role, interval_ns_of_rate};
use crate::wire::CloseCode;

/// Most answers without a session that wait to be sent.
const ANSWERS_MAX: usize = 64;
/// Answers without a session per second in the long run, and at once.
const ANSWER_RATE: u32 = 10_000;
const ANSWER_BURST: u32 = 256;
/// How long a cookie is good for: this long at least, twice as long at most.
const COOKIE_LIFE: Duration = Duration::from_secs(10);

impl Rudp {
    pub(super) fn on_init(
        &mut self,
        meta: &PacketMeta,
        bytes: usize,
        reader: &mut Reader<'_>,
        now: Instant,
    ) {
        let init = Init::read(reader).filter(|_| bytes >= INIT_BYTES_MIN);
        let Some(init) = init.filter(|_| !self.refuses(meta.peer.ip())) else {
            self.shared.stats.dropped_in += 1;
            return;
        };
        let parameters = &init.parameters;
        let refuse = |code: CloseCode| Refuse {
            nonce: parameters.nonce,
            code: code.to_wire(),
            version_min: VERSION,
            version_max: VERSION,
        };
        if init.version_min > VERSION || init.version_max < VERSION {
            let refusal = refuse(CloseCode::UnsupportedVersion);
            return self.refuse(Path::back(meta), parameters.cid, &refusal, now);
        }
        if let Some(id) = self.by_peer.get(&(meta.peer, parameters.cid)).copied() {
            if let Some(session) = self.sessions.get_mut(id)
                && session.nonce == parameters.nonce
            {
                session.accept_again();
                self.touch(id);
            }
            return;
        }
        let stream = &self.shared.config.stream;
        let features = stream.features_offered & parameters.features_offered;
        let required = stream.features_required | parameters.features_required;
        if required & !features != 0 {
            let refusal = refuse(CloseCode::FeatureRequired);
            return self.refuse(Path::back(meta), parameters.cid, &refusal, now);
        }
        if self.refuses_new {
            let refusal = refuse(CloseCode::ResourceExhausted);
            return self.refuse(Path::back(meta), parameters.cid, &refusal, now);
        }
        let is_proven = init
            .cookie
            .is_some_and(|cookie| self.knows(&cookie, meta.peer, parameters.nonce, now));
        let asks_all = self.shared.waiting >= narrow(u64::from(self.shared.config.cookies_from));
        if asks_all && !is_proven {
            return self.hand_cookie(Path::back(meta), parameters.cid, parameters.nonce, now);
        }
        let Some(SessionId(id)) = self.begin(Role::Server, Path::back(meta), parameters.nonce, now)
        else {
            let refusal = refuse(CloseCode::ResourceExhausted);
            return self.refuse(Path::back(meta), parameters.cid, &refusal, now);
        };
        let confirm = self.random();
        if let Some(session) = self.sessions.get_mut(id) {
            session.agree(&self.shared.config, parameters);
            session.confirm = Some(confirm);
        }
        self.by_peer.insert((meta.peer, parameters.cid), id);
        self.touch(id);
    }

    /// COOKIE, ACCEPT, REFUSE or RESET.
    pub(super) fn on_answer(
        &mut self,
        meta: &PacketMeta,
        kind: Long,
        header: &PacketHeader,
        reader: &mut Reader<'_>,
        now: Instant,
    ) {
        let id = match kind {
            // A reset names the connection id under which its receiver sent.
            Long::Reset => self.by_peer.get(&(meta.peer, header.cid)).copied(),
            _ => self.find(header.cid),
        };
        let Some((id, session)) = id.and_then(|id| Some((id, self.sessions.get_mut(id)?))) else {
            self.shared.stats.dropped_in += 1;
            return;
        };
        let is_connecting = matches!(session.phase, Phase::Connecting { .. });
        if meta.peer != session.path.peer || is_connecting != (kind != Long::Reset) {
            self.shared.stats.dropped_in += 1;
            return;
        }
        let nonce = session.nonce;
        match kind {
            Long::Cookie => {
                if let Some(answer) = Cookie::read(reader).filter(|answer| answer.nonce == nonce)
                    && let Phase::Connecting { cookie, .. } = &mut session.phase
                    && *cookie != Some(answer.cookie)
                {
                    *cookie = Some(answer.cookie);
                    session.wishes.init = true;
                }
            }
            Long::Accept => {
                let answer = Accept::read(reader);
                if let Some(answer) = answer.filter(|answer| answer.parameters.nonce == nonce) {
                    self.on_accept(id, &answer, now);
                }
            }
            Long::Refuse => {
                if let Some(answer) = Refuse::read(reader).filter(|answer| answer.nonce == nonce) {
                    let code = CloseCode::from_wire(answer.code);
                    session.end(&mut self.shared, SessionEnd::Refused(code), None);
                }
            }
            Long::Reset => {
                // It names a packet that was sent: who did not see it cannot know.
                let number = expand(session.sent.next(), header.number);
                let Some(epoch) = reader.u64().filter(|_| number < session.sent.next()) else {
                    return;
                };
                let end = match session.phase {
                    Phase::Closing { code } => SessionEnd::Local(code),
                    _ if epoch == session.remote.epoch => SessionEnd::Reset,
                    _ => SessionEnd::Restarted,
                };
                session.end(&mut self.shared, end, None);
            }
            Long::Init => {}
        }
        self.touch(id);
    }

    fn on_accept(&mut self, id: Id, answer: &Accept, now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let parameters = &answer.parameters;
        let stream = &self.shared.config.stream;
        let features = stream.features_offered & parameters.features_offered;
        let required = stream.features_required | parameters.features_required;
        session.agree(&self.shared.config, parameters);
        session.confirm = Some(answer.confirm);
        if required & !features == 0 {
            session.open(&mut self.shared, now);
        } else {
            let code = CloseCode::FeatureRequired;
            let end = SessionEnd::Refused(code);
            session.end(&mut self.shared, end, Some(Farewell::Close(code)));
        }
        self.by_peer.insert((session.path.peer, parameters.cid), id);
    }

    /// Queues a packet without a session, if their rate allows it.
    fn answer(
        &mut self,
        to: Path,
        now: Instant,
        write: impl FnOnce(&mut Writer<'_>) -> bool,
    ) -> bool {
        let interval = interval_ns_of_rate(ANSWER_RATE);
        if self.answers.len() >= ANSWERS_MAX
            || !self.answer_tokens.take(interval, ANSWER_BURST, now)
        {
            return false;
        }
        let mut bytes = [0; ANSWER_BYTES_MAX];
        let mut writer = Writer::new(&mut bytes);
        let whole = write(&mut writer);
        let len = writer.len();
        if whole && let Some(packet) = bytes.get_mut(..len) {
            seal(packet);
            self.answers.push_back(Answer { to, bytes, len });
        }
        whole
    }

    fn refuse(&mut self, to: Path, cid: u64, refusal: &Refuse, now: Instant) {
        self.answer(to, now, |writer| {
            long_header(Long::Refuse, cid).write(writer) && refusal.write(writer)
        });
    }

    /// A packet for a session that is not known: the peer should know, unless it is too short to be answered.
    pub(super) fn reset(&mut self, to: Path, header: &PacketHeader, bytes: usize, now: Instant) {
        const RESET_BYTES: usize = PACKET_HEADER_BYTES + 8;
        self.shared.stats.dropped_in += 1;
        if bytes <= RESET_BYTES || self.refuses(to.peer.ip()) {
            return;
        }
        let epoch = self.shared.epoch;
        let reset = PacketHeader {
            number: header.number,
            ..long_header(Long::Reset, header.cid)
        };
        let queued = self.answer(to, now, |writer| {
            reset.write(writer) && writer.put(&epoch.to_le_bytes())
        });
        self.shared.stats.resets += u64::from(queued);
    }

    fn hand_cookie(&mut self, to: Path, cid: u64, nonce: u64, now: Instant) {
        let period = period_of(now);
        let mut cookie = [0; COOKIE_BYTES];
        let mut writer = Writer::new(&mut cookie);
        let sum = self.cookie_sum(to.peer, nonce, period);
        let whole = writer.put(&period.to_le_bytes()) && writer.put(&sum.to_le_bytes());
        debug_assert!(whole, "a cookie has room for its two numbers");
        let body = Cookie { nonce, cookie };
        let queued = self.answer(to, now, |writer| {
            long_header(Long::Cookie, cid).write(writer) && body.write(writer)
        });
        self.shared.stats.cookies += u64::from(queued);
    }

    fn cookie_sum(&self, peer: SocketAddr, nonce: u64, period: u64) -> u64 {
        let (high, low) = match peer.ip() {
            IpAddr::V4(ip) => (0, u64::from(ip.to_bits())),
            IpAddr::V6(ip) => {
                let bits = ip.to_bits();
                let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
                (half(bits >> 64), half(bits))
            }
        };
        sum(
            self.key,
            &[high, low, u64::from(peer.port()), nonce, period],
        )
    }

    /// Whether a cookie was made here, for this peer, not long ago.
    fn knows(
        &self,
        cookie: &[u8; COOKIE_BYTES],
        peer: SocketAddr,
        nonce: u64,
        now: Instant,
    ) -> bool {
        let mut reader = Reader::new(cookie);
        let (Some(period), Some(said)) = (reader.u64(), reader.u64()) else {
            return false;
        };
        let age = period_of(now).checked_sub(period);
        age.is_some_and(|age| age <= 1) && self.cookie_sum(peer, nonce, period) == said
    }
}

fn period_of(now: Instant) -> u64 {
    now.as_nanos() / crate::stream::nanos(COOKIE_LIFE).max(1)
}
