//! The endpoint: one socket's sessions, its handshakes, and what needs no session at all.
//!
//! A session is found by arithmetic: its connection id holds the number of its place. Who cannot be trusted to be
//! where he says he is costs no memory beyond a bounded number of half-open sessions, and gets fewer bytes than
//! he sent.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "small counts, and instants that saturate"
    )
)]

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use ringway_buf::{Alarms, Id, Instant, Pools, RecvBuffer, Table};

use super::config::{RudpConfig, RudpConfigError};
use super::mac::Key;
use super::number::{narrow, wide};
use super::room::Room;
use super::send::HELD_BYTES;
use super::session::{Beginning, Migration, Path, Phase, RudpStats, Session, Shared};
use super::transmit::{Outcome, commit};
use super::wire::{Ack, First, Frame, Long, PacketHeader, Reader, is_intact};
use crate::packet::{
    ConnectRefusal, Outgoing, PacketEndpoint, PacketEvent, PacketMeta, SendRefusal, SessionEnd,
    SessionId, TransmitSink, Ways,
};
use crate::stream::{Bucket, Role};
use crate::wire::{CloseCode, Header};

/// Longest answer without a session.
pub(super) const ANSWER_BYTES_MAX: usize = 64;
/// Most timers that fire in one call; the rest fires in the next.
const TIMERS_MAX: usize = 1024;
/// Most sessions that send in one call.
const SENDERS_MAX: usize = 256;
/// ECN bits of a packet that met congestion (RFC 3168, section 5).
const CONGESTION_EXPERIENCED: u8 = 3;
/// Bytes that may be sent to an address that has not proven itself, for each that came from there (RFC 9000, section 8).
const AMPLIFICATION_MAX: usize = 3;

/// Reliable UDP behind one socket; see the [module](super).
#[derive(Debug)]
pub struct Rudp {
    pub(super) shared: Shared,
    pub(super) sessions: Table<Session>,
    /// Sessions by the peer's address and connection id.
    pub(super) by_peer: BTreeMap<(SocketAddr, u64), Id>,
    pub(super) timers: Alarms<Id>,
    /// Sessions with something to send.
    pub(super) senders: VecDeque<Id>,
    pub(super) answers: VecDeque<Answer>,
    pub(super) answer_tokens: Bucket,
    pub(super) random: u64,
    pub(super) key: Key,
    pub(super) refuses_new: bool,
    /// Owners of closed sessions that were not told yet.
    pub(super) untold: usize,
}

/// A packet that belongs to no session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) to: Path,
    pub(super) bytes: [u8; ANSWER_BYTES_MAX],
    pub(super) len: usize,
}

impl Rudp {
    /// An endpoint. `seed` should be random: connection ids and cookies are made of it.
    ///
    /// # Errors
    /// [`RudpConfigError`] names the field that cannot be used.
    pub fn new(config: RudpConfig, pools: Rc<Pools>, seed: u64) -> Result<Self, RudpConfigError> {
        config.validate()?;
        let mut random = seed;
        let mut next = || {
            random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mixed(random)
        };
        let key = Key(next(), next());
        let epoch = match config.epoch {
            0 => next() | 1,
            epoch => epoch,
        };
        let sessions = narrow(u64::from(config.sessions_max));
        Ok(Self {
            shared: Shared {
                config,
                pools,
                events: VecDeque::new(),
                epoch,
                room: Room::default(),
                stats: RudpStats::default(),
                waiting: 0,
                carried: Vec::new(),
            },
            sessions: Table::new(sessions),
            by_peer: BTreeMap::new(),
            timers: Alarms::new(),
            senders: VecDeque::new(),
            answers: VecDeque::new(),
            answer_tokens: Bucket::default(),
            random,
            key,
            refuses_new: false,
            untold: 0,
        })
    }

    /// Figures since the start.
    #[must_use]
    pub fn stats(&self) -> RudpStats {
        self.shared.stats
    }

    /// Half-open sessions: their peers' addresses are not proven.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.shared.waiting
    }

    /// Bytes that are on the way on a session and the window that bounds them; for checkers and counters.
    #[must_use]
    pub fn in_flight(&self, session: SessionId) -> Option<(u64, u64)> {
        let session = self.sessions.get(session.0)?;
        Some((session.sent.in_flight, session.controller.window()))
    }

    /// Where a session's peer is reached now: it may have moved, after it proved its new address.
    #[must_use]
    pub fn peer_address(&self, session: SessionId) -> Option<SocketAddr> {
        Some(self.sessions.get(session.0)?.path.peer)
    }

    /// Size in bytes of the longest packet that a session sends now.
    #[must_use]
    pub fn path_bytes(&self, session: SessionId) -> Option<u32> {
        Some(self.sessions.get(session.0)?.mtu.bytes())
    }

    pub(super) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.random)
    }

    /// A connection id for the session at `id`: shard, place, and 32 bits that nobody can guess.
    fn connection_id(&mut self, id: Id) -> u64 {
        let salt = self.random() << 32;
        salt | (u64::from(id.index()) << 8) | u64::from(self.shared.config.shard)
    }

    /// The session with this connection id.
    pub(super) fn find(&self, cid: u64) -> Option<Id> {
        let index = u32::try_from((cid >> 8) & 0xFF_FFFF).ok()?;
        let id = self.sessions.next_from(index)?;
        let session = self.sessions.get(id)?;
        (id.index() == index && session.local_cid == cid).then_some(id)
    }

    /// Begins a session.
    pub(super) fn begin(
        &mut self,
        role: Role,
        path: Path,
        nonce: u64,
        now: Instant,
    ) -> Option<SessionId> {
        let placeholder = Beginning {
            id: SessionId(Id::from_parts(0, 0)),
            role,
            path,
            local_cid: 0,
            nonce,
            now,
        };
        let session = Session::new(&self.shared.config, &placeholder);
        let id = self.sessions.insert(session).ok()?;
        let local_cid = self.connection_id(id);
        let session = self.sessions.get_mut(id)?;
        session.id = SessionId(id);
        session.local_cid = local_cid;
        if role == Role::Server {
            self.shared.waiting += 1;
        }
        Some(SessionId(id))
    }

    /// Something may have changed: the session gets its turn to send, which sets its timer anew.
    pub(super) fn touch(&mut self, id: Id) {
        if let Some(session) = self.sessions.get_mut(id)
            && !core::mem::replace(&mut session.queued, true)
        {
            self.senders.push_back(id);
        }
    }

    fn rearm(&mut self, id: Id) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if let Some(at) = session.deadline(&self.shared)
            && at < session.armed_at
        {
            let superseded = core::mem::replace(&mut session.armed_at, at) != Instant::MAX;
            self.timers.arm(at, id);
            if superseded {
                let sessions = &self.sessions;
                self.timers.supersede(|at, id| {
                    let session = sessions.get(id);
                    session.is_some_and(|session| session.armed_at == at)
                });
            }
        }
    }

    fn remove(&mut self, id: Id) {
        if let Some(session) = self.sessions.remove(id) {
            let key = (session.path.peer, session.remote_cid);
            if self.by_peer.get(&key) == Some(&id) {
                self.by_peer.remove(&key);
            }
            self.untold += usize::from(session.announced && !session.told);
            self.share_room();
        }
    }

    /// The number of sessions whose peers are proven has changed: their shares of the system's room may have, too.
    fn share_room(&mut self) {
        let proven = self.sessions.len().saturating_sub(self.shared.waiting);
        if !self.shared.room.share_among(wide(proven)) {
            return;
        }
        for id in self.sessions.ids() {
            if let Some(session) = self.sessions.get_mut(id)
                && session.phase == Phase::Open
            {
                session.wishes.room = true;
                self.touch(id);
            }
        }
    }

    /// One datagram.
    fn handle(&mut self, meta: &PacketMeta, packet: &[u8], at: usize, now: Instant) {
        let mut reader = Reader::new(packet);
        let header = PacketHeader::read(&mut reader).filter(|_| is_intact(packet));
        let Some(header) = header else {
            self.shared.stats.dropped_in += 1;
            return;
        };
        self.shared.stats.packets_in += 1;
        match header.first {
            First::Frames => self.on_frames(meta, &header, packet, at, now),
            First::Long(Long::Init) => self.on_init(meta, packet.len(), &mut reader, now),
            First::Long(kind) => self.on_answer(meta, kind, &header, &mut reader, now),
        }
    }

    fn on_frames(
        &mut self,
        meta: &PacketMeta,
        header: &PacketHeader,
        packet: &[u8],
        at: usize,
        now: Instant,
    ) {
        let found = self.find(header.cid);
        let Some((id, session)) = found.and_then(|id| Some((id, self.sessions.get_mut(id)?)))
        else {
            return self.reset(Path::back(meta), header, packet.len(), now);
        };
        // A server does not move: who sends from elsewhere is somebody else.
        if session.role == Role::Client && meta.peer != session.path.peer {
            self.shared.stats.dropped_in += 1;
            return;
        }
        match session.phase {
            Phase::Connecting { .. } => return,
            // The owner was told the end; who still sends is told as well.
            Phase::Gone => return self.reset(Path::back(meta), header, packet.len(), now),
            Phase::Waiting if meta.peer == session.path.peer => {
                if !proves(session.confirm, header, packet) {
                    self.shared.stats.dropped_in += 1;
                    return;
                }
                self.confirmed(id, now);
            }
            Phase::Waiting => return,
            Phase::Open | Phase::Closing { .. } | Phase::PeerClosed { .. } => {}
        }
        let token = self.random();
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let newest = session.received.largest();
        let is_marked = meta.ecn == CONGESTION_EXPERIENCED;
        let taken = session.on_packet(&mut self.shared, header, packet, at, is_marked, now);
        if !taken {
            self.shared.stats.dropped_in += 1;
        } else if meta.peer != session.path.peer && session.received.largest() > newest {
            self.moved(id, Path::back(meta), packet, token, now);
        }
        self.touch(id);
    }

    /// The first packet that proves a client's address: its owner learns of the session.
    fn confirmed(&mut self, id: Id, now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let (peer, epoch, cid) = (session.path.peer, session.remote.epoch, session.remote_cid);
        session.confirm = None;
        session.open(&mut self.shared, now);
        // Its share may have changed since it was told in ACCEPT.
        session.wishes.room = self.shared.room.serial > 0;
        self.share_room();
        // Whoever sits at the same address with another epoch is the same peer before its restart.
        let range = (peer, 0)..=(peer, u64::MAX);
        let others: Vec<Id> = self
            .by_peer
            .range(range)
            .filter(|((_, other), _)| *other != cid)
            .map(|(_, id)| *id)
            .collect();
        for other in others {
            if let Some(old) = self.sessions.get_mut(other)
                && old.role == Role::Server
                && old.remote.epoch != epoch
            {
                old.end(&mut self.shared, SessionEnd::Restarted, None);
                self.touch(other);
            }
        }
    }

    /// A packet of a session came from another address than before.
    fn moved(&mut self, id: Id, from: Path, packet: &[u8], token: u64, now: Instant) {
        if self.refuses(from.peer.ip()) {
            return;
        }
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if session.role != Role::Server {
            return;
        }
        let is_answer = session
            .migration
            .is_some_and(|it| it.path == from && answers(it.token, packet));
        if is_answer {
            let (old, cid) = (session.path.peer, session.remote_cid);
            session.migrate(&mut self.shared, from);
            self.by_peer.remove(&(old, cid));
            self.by_peer.insert((from.peer, cid), id);
            return;
        }
        let asked = session.migration.filter(|migration| migration.path == from);
        let wait = Duration::from_nanos(session.rtt.smoothed_ns.saturating_mul(2));
        let due = asked.is_none_or(|migration| migration.due || now >= migration.sent_at + wait);
        let before = asked.map_or(0, |migration| migration.allowed_bytes);
        session.migration = Some(Migration {
            path: from,
            token: asked.map_or(token, |migration| migration.token),
            due,
            allowed_bytes: before.saturating_add(packet.len().saturating_mul(AMPLIFICATION_MAX)),
            sent_at: asked
                .filter(|_| !due)
                .map_or(now, |migration| migration.sent_at),
        });
    }

    pub(super) fn refuses(&self, ip: IpAddr) -> bool {
        !self.shared.config.public_addresses && !is_private(ip)
    }

    fn with(&mut self, session: SessionId, act: impl FnOnce(&mut Session, &mut Shared)) {
        if let Some(entry) = self.sessions.get_mut(session.0) {
            act(entry, &mut self.shared);
            self.touch(session.0);
        }
    }
}

/// Whether a packet starts with the number that the server told only this address.
fn proves(confirm: Option<u64>, header: &PacketHeader, packet: &[u8]) -> bool {
    let mut reader = Reader::new(packet);
    let _header = PacketHeader::read(&mut reader);
    if header.has_ack() && Ack::read(&mut reader, header).is_none() {
        return false;
    }
    match Frame::read(&mut reader) {
        Ok(Some(Frame::Confirm(nonce))) => Some(nonce) == confirm,
        _ => false,
    }
}

/// Whether a packet holds the answer to a challenge.
fn answers(token: u64, packet: &[u8]) -> bool {
    let mut reader = Reader::new(packet);
    let Some(header) = PacketHeader::read(&mut reader) else {
        return false;
    };
    if header.has_ack() && Ack::read(&mut reader, &header).is_none() {
        return false;
    }
    while let Ok(Some(frame)) = Frame::read(&mut reader) {
        if frame == Frame::Response(token) {
            return true;
        }
    }
    false
}

/// Whether no packet of the internet has this address: loopback, private, link-local, carrier-grade NAT.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_unspecified()
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(mapped) => is_private(IpAddr::V4(mapped)),
            None => {
                let [first, ..] = ip.segments();
                ip.is_loopback()
                    || ip.is_unspecified()
                    || first & 0xFE00 == 0xFC00
                    || first & 0xFFC0 == 0xFE80
            }
        },
    }
}

/// The output function of SplitMix64: neighbouring states give unrelated numbers.
const fn mixed(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl PacketEndpoint for Rudp {
    fn connect(&mut self, peer: SocketAddr, now: Instant) -> Result<SessionId, ConnectRefusal> {
        if self.refuses(peer.ip()) {
            return Err(ConnectRefusal::PublicAddress);
        }
        let nonce = self.random();
        let max = self.sessions.max();
        let session = self
            .begin(Role::Client, Path { peer, local: None }, nonce, now)
            .ok_or(ConnectRefusal::TooMany { max })?;
        self.touch(session.0);
        Ok(session)
    }

    fn handle_datagrams(&mut self, meta: &PacketMeta, bytes: &[u8], now: Instant) {
        let size = meta.segment_bytes.max(1);
        let mut at = 0;
        for packet in bytes.chunks(size) {
            self.handle(meta, packet, at, now);
            at += packet.len();
        }
        if bytes.len() > size {
            for id in &self.senders {
                if let Some(session) = self.sessions.get_mut(*id) {
                    session.received.on_batch_end(now);
                }
            }
        }
    }

    fn handle_too_long(&mut self, peer: Option<SocketAddr>, bytes_max: usize, now: Instant) {
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        for id in self.sessions.ids() {
            if let Some(session) = self.sessions.get_mut(id)
                && peer.is_none_or(|peer| peer == session.path.peer)
            {
                session.mtu.on_too_long(bytes_max, now);
            }
        }
    }

    fn handle_unreachable(&mut self, peer: Option<SocketAddr>, _now: Instant) {
        for id in self.sessions.ids() {
            if let Some(session) = self.sessions.get_mut(id)
                && matches!(session.phase, Phase::Connecting { .. })
                && peer.is_none_or(|peer| peer == session.path.peer)
            {
                session.end(&mut self.shared, SessionEnd::Unreachable, None);
                self.touch(id);
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..TIMERS_MAX {
            let Some((at, id)) = self.timers.pop(now) else {
                return;
            };
            let Some(session) = self.sessions.get_mut(id) else {
                continue;
            };
            if session.armed_at != at {
                self.timers.outlived();
                continue;
            }
            session.armed_at = Instant::MAX;
            // A busy session has set its deadline further off meanwhile.
            if session.deadline(&self.shared).is_none_or(|at| at > now) {
                self.rearm(id);
                continue;
            }
            session.on_timeout(&mut self.shared, now);
            self.touch(id);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    fn poll_event(&mut self) -> Option<PacketEvent> {
        let event = self.shared.events.pop_front()?;
        if let PacketEvent::Closed { session, .. } = &event {
            match self.sessions.get_mut(session.0) {
                Some(session) => session.told = true,
                None => self.untold = self.untold.saturating_sub(1),
            }
        }
        Some(event)
    }

    fn wants_transmit(&self) -> bool {
        !self.senders.is_empty() || !self.answers.is_empty()
    }

    fn poll_transmit(&mut self, sink: &mut dyn TransmitSink, now: Instant) -> bool {
        while let Some(answer) = self.answers.pop_front() {
            let lent = sink.lend(answer.to.peer, answer.len, 1);
            let (Some(out), Some(bytes)) = (
                lent.and_then(|out| out.get_mut(..answer.len)),
                answer.bytes.get(..answer.len),
            ) else {
                self.answers.push_front(answer);
                return false;
            };
            out.copy_from_slice(bytes);
            commit(sink, answer.to, answer.len, answer.len);
            self.shared.stats.packets_out += 1;
            self.shared.stats.bytes_out += wide(answer.len);
        }
        for _ in 0..self.senders.len().min(SENDERS_MAX) {
            let Some(id) = self.senders.pop_front() else {
                break;
            };
            let Some(session) = self.sessions.get_mut(id) else {
                continue;
            };
            let outcome = session.transmit(&mut self.shared, sink, now);
            session.received.on_turn();
            match outcome {
                Outcome::Idle => {
                    session.queued = false;
                    if session.phase == Phase::Gone {
                        self.remove(id);
                    } else {
                        self.rearm(id);
                    }
                }
                Outcome::More => self.senders.push_back(id),
                Outcome::Blocked => {
                    self.senders.push_front(id);
                    return false;
                }
            }
        }
        !self.senders.is_empty()
    }

    fn message_bytes_max(&self, session: SessionId) -> Result<usize, SendRefusal> {
        self.sessions
            .get(session.0)
            .map_or(Err(SendRefusal::Closed), Session::message_bytes_max)
    }

    fn send(
        &mut self,
        session: SessionId,
        message: Outgoing,
        now: Instant,
    ) -> Result<(), (Outgoing, SendRefusal)> {
        let id = session.0;
        let Some(session) = self.sessions.get_mut(id) else {
            return Err((message, SendRefusal::Closed));
        };
        match session.message_bytes_max() {
            Err(refusal) => return Err((message, refusal)),
            Ok(bytes_max) if message.body.len() > bytes_max => {
                return Err((message, SendRefusal::TooLong { bytes_max }));
            }
            Ok(_) => {}
        }
        session.on_send(now);
        session.outbound.push(message);
        self.touch(id);
        Ok(())
    }

    fn ways(&mut self, _session: SessionId) -> Ways {
        Ways {
            unordered_bytes_min: 0,
            ..Ways::ONE
        }
    }

    fn held_bytes(&self, len: usize) -> usize {
        len + HELD_BYTES
    }

    fn recv_buffer(&mut self, bytes: u64) {
        self.shared.room = Room::of(bytes);
    }

    fn expired(&self) -> u64 {
        self.shared.stats.expired
    }

    fn put_back(&mut self, session: SessionId, header: Header, body: RecvBuffer) {
        self.with(session, |session, _| {
            session.inbound.on_returned(&header);
            session.inbound.wait(header, body);
        });
    }

    fn pause(&mut self, session: SessionId, paused: bool, _now: Instant) {
        self.with(session, |session, shared| session.pause(shared, paused));
    }

    fn drain(&mut self, session: SessionId, now: Instant) {
        self.with(session, |session, _| session.drain(now));
    }

    fn finish(&mut self, session: SessionId, _now: Instant) {
        self.with(session, Session::finish);
    }

    fn close(&mut self, session: SessionId, code: CloseCode, _now: Instant) {
        self.with(session, |session, shared| session.close(shared, code));
    }

    fn abort(&mut self, session: SessionId, _now: Instant) {
        self.with(session, Session::abort);
    }

    fn refuse_new(&mut self, refuse: bool) {
        self.refuses_new = refuse;
    }

    fn sessions(&self) -> usize {
        let told = self.sessions.iter().filter(|(_, session)| session.told);
        self.sessions.len() + self.untold - told.count()
    }
}
