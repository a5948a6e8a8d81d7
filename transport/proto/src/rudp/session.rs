//! One session: everything that both ends of it know, and the rules that tie the parts together.
//!
//! ```text
//!   Connecting ──ACCEPT──► Open ──close()──► Closing ──CLOSE acknowledged──► Gone
//!   Waiting ───CONFIRM──►   │ └─CLOSE heard─► PeerClosed ──all taken──────────►│
//!       └── no CONFIRM, violation, time-out, RESET, restart of the peer ───────┘
//! ```
//!
//! Gone sessions have told their owner; what is left of them is one last packet. `docs/wire/rudp.md` has the
//! rules; this file takes packets, `transmit.rs` writes them, `loss.rs` and `lifecycle.rs` do the rest.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "small counts, bytes of one session, and instants that saturate"
    )
)]

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use ringway_buf::{Instant, Pools};

use super::config::{Congestion, RudpConfig};
use super::congestion::{Controller, Cubic, Fixed};
use super::mtu::{BASE_BYTES, Mtu};
use super::number::wide;
use super::pacer::Pacer;
use super::received::Received;
use super::recv::{Bounds, Inbound, Taken};
use super::room::{PeerRoom, Room};
use super::rtt::Rtt;
use super::send::Outbound;
use super::sent::{Carried, Sent};
use super::wire::{Ack, COOKIE_BYTES, Frame, PacketHeader, Parameters, Reader, body_of};
use crate::packet::{Body, Fault, PacketEvent, PacketMeta, SessionEnd, SessionId};
use crate::stream::{Bucket, Peer, Role, interval_ns_of_rate};
use crate::wire::{CloseCode, Header, VERSION_MAX};

/// Numbers by which an acknowledged packet has to be ahead of a lost one (RFC 9002, section 6.1.1).
const THRESHOLD: u64 = 3;
/// First wait for an answer to INIT, doubled each time.
pub(crate) const INIT_WAIT: Duration = Duration::from_millis(20);
/// Bytes that may go once more before anything new was sent.
const AGAIN_BYTES_START: i64 = 16 << 10;
/// Most bytes of retransmissions that may be saved up.
const AGAIN_BYTES_MAX: i64 = 1 << 20;
/// Each byte sent for the first time allows a third of a byte once more: a quarter of what is sent in all.
const AGAIN_SHARE: i64 = 3;

/// Figures of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RudpStats {
    /// Packets sent, those of the handshake included.
    pub packets_out: u64,
    /// Bytes of those packets.
    pub bytes_out: u64,
    /// Bytes of bodies and their heads that were sent once more, within the budget.
    pub again_bytes: u64,
    /// The same, as probes.
    pub probe_bytes: u64,
    /// Bytes of bodies and their heads that were sent for the first time.
    pub fresh_bytes: u64,
    /// Packets that carried nothing but an acknowledgement.
    pub acks_alone: u64,
    /// Packets that were taken.
    pub packets_in: u64,
    /// Datagrams that were dropped: damaged, cut, repeated, or for nobody.
    pub dropped_in: u64,
    /// Packets that counted as lost.
    pub lost: u64,
    /// Of those, the ones that had arrived after all.
    pub spurious: u64,
    /// Probe times that passed without an acknowledgement.
    pub probes: u64,
    /// Handshakes that were answered with a cookie.
    pub cookies: u64,
    /// Unreliable messages that were dropped because their time was over.
    pub expired: u64,
    /// Packets for unknown sessions that were answered.
    pub resets: u64,
}

/// What all sessions of an endpoint share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: RudpConfig,
    pub(crate) pools: Rc<Pools>,
    pub(crate) events: VecDeque<PacketEvent>,
    pub(crate) epoch: u64,
    /// What this end's system has room for.
    pub(crate) room: Room,
    pub(crate) stats: RudpStats,
    /// Half-open sessions.
    pub(crate) waiting: usize,
    /// Lists that are filled and emptied within one call, kept for their memory.
    pub(crate) carried: Vec<Carried>,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// INIT was sent.
    Connecting {
        cookie: Option<[u8; COOKIE_BYTES]>,
        wait: Duration,
        again_at: Instant,
    },
    /// ACCEPT was sent; the peer's address is not proven.
    Waiting,
    Open,
    /// This end closes as soon as everything has arrived.
    Closing {
        code: CloseCode,
    },
    /// The peer has closed; messages wait for a paused owner.
    PeerClosed {
        code: CloseCode,
    },
    Gone,
}

/// How far one direction is on its way to its last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Half {
    Active,
    Draining,
    Final,
}

/// Frames that wait to be sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) init: bool,
    pub(crate) accept: bool,
    pub(crate) ping: bool,
    pub(crate) credit: bool,
    pub(crate) goaway: bool,
    pub(crate) final_word: bool,
    pub(crate) close: bool,
    pub(crate) room: bool,
    pub(crate) response: Option<u64>,
}

impl Wishes {
    pub(crate) const fn any(&self) -> bool {
        self.ping
            || self.credit
            || self.goaway
            || self.final_word
            || self.close
            || self.room
            || self.response.is_some()
    }
}

/// Where packets go, and which of our addresses they leave from; `None`: the socket has one, or the route decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) peer: SocketAddr,
    pub(crate) local: Option<IpAddr>,
}

impl Path {
    /// The way back to the sender of a packet.
    pub(crate) const fn back(meta: &PacketMeta) -> Self {
        Self {
            peer: meta.peer,
            local: meta.local,
        }
    }
}

/// A new address of the peer that is being tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    pub(crate) path: Path,
    pub(crate) token: u64,
    /// A challenge is to be sent.
    pub(crate) due: bool,
    /// Bytes that may be sent there: three times what came from there, less what was sent.
    pub(crate) allowed_bytes: usize,
    pub(crate) sent_at: Instant,
}

/// The last packet of a session that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// The peer is told.
    Close(CloseCode),
    /// The peer's CLOSE is acknowledged.
    Ack,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) role: Role,
    pub(crate) phase: Phase,
    pub(crate) path: Path,
    pub(crate) local_cid: u64,
    pub(crate) remote_cid: u64,
    /// The client's number in the handshake.
    pub(crate) nonce: u64,
    /// What the client sends in each packet until it arrived; what the server waits for.
    pub(crate) confirm: Option<u64>,
    pub(crate) remote: Parameters,
    /// Its owner knows it.
    pub(crate) announced: bool,
    /// Its owner knows that it is closed.
    pub(crate) told: bool,
    pub(crate) wishes: Wishes,
    pub(crate) farewell: Option<Farewell>,
    pub(crate) migration: Option<Migration>,
    pub(crate) sent: Sent,
    pub(crate) received: Received,
    pub(crate) outbound: Outbound,
    pub(crate) inbound: Inbound,
    pub(crate) rtt: Rtt,
    pub(crate) controller: Box<dyn Controller>,
    pub(crate) pacer: Pacer,
    pub(crate) mtu: Mtu,
    /// What the peer's system has room for.
    pub(crate) room: PeerRoom,
    /// A packet had less room than there was to send.
    pub(crate) wants_longer: bool,
    pub(crate) threshold: u64,
    pub(crate) loss_at: Option<Instant>,
    pub(crate) probe_count: u32,
    /// Packets that may leave whatever the window says.
    pub(crate) probes: u32,
    pub(crate) recovery_since: Instant,
    pub(crate) ce_seen: u32,
    /// Bytes that may be sent once more; below zero when a packet took more than there was.
    pub(crate) again_bytes: i64,
    pub(crate) paced_until: Option<Instant>,
    pub(crate) local: Half,
    /// Messages of each lane when this side began to drain.
    pub(crate) drain_totals: (u64, u64),
    /// The owner knows that the peer drains.
    pub(crate) is_draining: bool,
    pub(crate) has_remote_final: bool,
    pub(crate) is_drained: bool,
    pub(crate) since: Instant,
    pub(crate) heard_at: Instant,
    pub(crate) message_at: Instant,
    /// Since when an acknowledgement is owed.
    pub(crate) progress_at: Instant,
    pub(crate) drain_since: Option<Instant>,
    pub(crate) controls: Bucket,
    /// In the endpoint's list of sessions with something to send.
    pub(crate) queued: bool,
    /// The timer entry that counts.
    pub(crate) armed_at: Instant,
}

/// How a session begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    pub(crate) id: SessionId,
    pub(crate) role: Role,
    pub(crate) path: Path,
    pub(crate) local_cid: u64,
    pub(crate) nonce: u64,
    pub(crate) now: Instant,
}

impl Session {
    pub(crate) fn new(config: &RudpConfig, beginning: &Beginning) -> Self {
        let Beginning {
            id,
            role,
            path,
            local_cid,
            nonce,
            now,
        } = *beginning;
        let phase = match role {
            Role::Client => Phase::Connecting {
                cookie: None,
                wait: INIT_WAIT,
                again_at: now + INIT_WAIT,
            },
            Role::Server => Phase::Waiting,
        };
        let controller: Box<dyn Controller> = match config.congestion {
            Congestion::Cubic => Box::new(Cubic::new(u64::from(config.initial_window_bytes))),
            Congestion::Fixed { window_bytes } => Box::new(Fixed::new(u64::from(window_bytes))),
        };
        let bounds = Bounds {
            message_bytes_max: config.stream.message_bytes_max,
            credit_bytes: u64::from(config.credit_bytes),
            credit_messages: u64::from(config.credit_messages),
        };
        Self {
            id,
            role,
            phase,
            path,
            local_cid,
            remote_cid: 0,
            nonce,
            confirm: None,
            remote: Parameters::default(),
            announced: role == Role::Client,
            told: false,
            wishes: Wishes {
                init: role == Role::Client,
                accept: role == Role::Server,
                ..Wishes::default()
            },
            farewell: None,
            migration: None,
            sent: Sent::default(),
            received: Received::default(),
            outbound: Outbound::new(),
            inbound: Inbound::new(bounds),
            rtt: Rtt::new(config.initial_rtt),
            controller,
            pacer: Pacer::default(),
            mtu: Mtu::new(config.datagram_bytes_max),
            room: PeerRoom::new(0),
            wants_longer: false,
            threshold: THRESHOLD,
            loss_at: None,
            probe_count: 0,
            probes: 0,
            recovery_since: Instant::ZERO,
            ce_seen: 0,
            again_bytes: AGAIN_BYTES_START,
            paced_until: None,
            local: Half::Active,
            drain_totals: (0, 0),
            is_draining: false,
            has_remote_final: false,
            is_drained: false,
            since: now,
            heard_at: now,
            message_at: now,
            progress_at: now,
            drain_since: None,
            controls: Bucket::default(),
            queued: false,
            armed_at: Instant::MAX,
        }
    }

    /// What the peer said of itself was good.
    pub(crate) fn agree(&mut self, config: &RudpConfig, remote: &Parameters) {
        self.remote = *remote;
        self.remote_cid = remote.cid;
        self.outbound.on_credit(
            u64::from(remote.credit_bytes),
            u64::from(remote.credit_messages),
        );
        let longest = config.datagram_bytes_max.min(remote.datagram_bytes_max);
        self.mtu = Mtu::new(longest.max(BASE_BYTES));
        self.room = PeerRoom::new(u64::from(remote.room_bytes));
    }

    /// Messages can flow: tells the owner.
    pub(crate) fn open(&mut self, shared: &mut Shared, now: Instant) {
        self.phase = Phase::Open;
        self.heard_at = now;
        self.message_at = now;
        let remote = &self.remote;
        let peer = Peer {
            features: shared.config.stream.features_offered & remote.features_offered,
            epoch: remote.epoch,
            message_bytes_max: remote.message_bytes_max,
            keepalive_interval_min_ms: remote.keepalive_interval_min_ms,
            idle_timeout_ms: remote.idle_timeout_ms,
            version: VERSION_MAX,
        };
        if self.role == Role::Server {
            self.announced = true;
            shared.waiting = shared.waiting.saturating_sub(1);
            shared.events.push_back(PacketEvent::Accepted {
                session: self.id,
                address: self.path.peer,
            });
        }
        shared.events.push_back(PacketEvent::Opened {
            session: self.id,
            peer,
        });
    }

    /// Ends the session: the owner is told, `farewell` is the last packet.
    pub(crate) fn end(&mut self, shared: &mut Shared, end: SessionEnd, farewell: Option<Farewell>) {
        if self.phase == Phase::Gone {
            return;
        }
        if self.phase == Phase::Waiting {
            shared.waiting = shared.waiting.saturating_sub(1);
        }
        self.report_freed(shared);
        self.phase = Phase::Gone;
        self.farewell = farewell;
        if self.announced {
            shared.events.push_back(PacketEvent::Closed {
                session: self.id,
                end,
                unsent_bytes: wide(self.outbound.queued_bytes),
            });
        }
    }

    /// Tells the owner what needs no more room; what is not told by the end would count as neither sent nor unsent.
    fn report_freed(&mut self, shared: &mut Shared) {
        if let Some(bytes) = self.outbound.take_freed()
            && self.announced
            && self.phase != Phase::Gone
        {
            shared.events.push_back(PacketEvent::Sent {
                session: self.id,
                bytes,
            });
        }
    }

    pub(crate) fn violated(&mut self, shared: &mut Shared, fault: Fault) {
        let code = match fault {
            Fault::MessageTooLong { .. } => CloseCode::MessageTooLong,
            Fault::Flood => CloseCode::Flood,
            _ => CloseCode::Malformed,
        };
        self.end(
            shared,
            SessionEnd::Violation(fault),
            Some(Farewell::Close(code)),
        );
    }

    /// Takes a packet with frames, found intact and for it. `at` is where it starts in its batch.
    /// False when it counts as not received.
    pub(crate) fn on_packet(
        &mut self,
        shared: &mut Shared,
        header: &PacketHeader,
        packet: &[u8],
        at: usize,
        is_marked: bool,
        now: Instant,
    ) -> bool {
        let number = self.received.expand(header.number);
        if !self.received.is_new(number) {
            // Its acknowledgement may have been lost.
            self.received.hurry();
            return false;
        }
        let mut reader = Reader::new(packet);
        let _header = PacketHeader::read(&mut reader);
        self.heard_at = now;
        if header.has_ack() {
            let Some(ack) = Ack::read(&mut reader, header) else {
                self.violated(shared, Fault::Malformed { frame: 0 });
                return false;
            };
            self.on_ack(shared, &ack, now);
        }
        let mut eliciting = false;
        let mut is_whole = true;
        while self.phase != Phase::Gone {
            match Frame::read(&mut reader) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    eliciting = true;
                    is_whole &= self.on_frame(shared, frame, packet, at, now);
                }
                Err(unreadable) => {
                    let frame = u64::from(unreadable.0);
                    self.violated(shared, Fault::Malformed { frame });
                }
            }
        }
        if is_whole {
            let delay = shared.config.ack_delay_max;
            self.received
                .on_packet(number, eliciting, is_marked, delay, now);
        }
        self.settle(shared);
        is_whole
    }

    /// Takes a frame; false when memory lacks.
    fn on_frame(
        &mut self,
        shared: &mut Shared,
        frame: Frame,
        packet: &[u8],
        at: usize,
        now: Instant,
    ) -> bool {
        match frame {
            Frame::Message(head, offset) => {
                let Some(body) = body_of(packet, offset, &head) else {
                    return true;
                };
                self.message_at = now;
                // Who closes reads no more.
                if self.phase != Phase::Open {
                    return true;
                }
                match self.inbound.on_message(&head, body, &shared.pools) {
                    Ok(taken) => {
                        let start = at + offset;
                        return self.hand_up(shared, taken, start..start + body.len());
                    }
                    Err(fault) => self.violated(shared, fault),
                }
            }
            Frame::Credit { bytes, messages } => self.outbound.on_credit(bytes, messages),
            Frame::Confirm(_) => {}
            Frame::Ping => self.on_control(shared, now),
            Frame::Challenge(token) => {
                self.wishes.response = Some(token);
                self.on_control(shared, now);
            }
            // Answers are looked at where their address is known.
            Frame::Response(_) => {}
            Frame::Goaway { ordered, unordered } => self.inbound.on_goaway(ordered, unordered),
            Frame::Final { ordered, unordered } => {
                self.inbound.on_goaway(ordered, unordered);
                match self.inbound.on_final(ordered, unordered) {
                    Ok(()) => self.has_remote_final = true,
                    Err(fault) => self.violated(shared, fault),
                }
            }
            Frame::Room { serial, bytes } => self.room.on_room(serial, bytes),
            Frame::Close(code) => self.on_close(shared, CloseCode::from_wire(code)),
        }
        true
    }

    /// A frame that makes this side answer and carries nothing.
    fn on_control(&mut self, shared: &mut Shared, now: Instant) {
        let stream = &shared.config.stream;
        let interval = interval_ns_of_rate(stream.control_rate);
        if !self.controls.take(interval, stream.control_burst, now) {
            self.violated(shared, Fault::Flood);
        }
    }

    fn on_close(&mut self, shared: &mut Shared, code: CloseCode) {
        match self.phase {
            Phase::Open => {
                self.received.hurry();
                self.phase = Phase::PeerClosed { code };
            }
            Phase::Closing { code } => {
                self.end(shared, SessionEnd::Local(code), Some(Farewell::Ack));
            }
            Phase::Connecting { .. } | Phase::Waiting => {
                self.end(shared, SessionEnd::Peer(code), None);
            }
            Phase::PeerClosed { .. } | Phase::Gone => {}
        }
    }

    fn hand_up(
        &mut self,
        shared: &mut Shared,
        taken: Taken,
        range: core::ops::Range<usize>,
    ) -> bool {
        match taken {
            Taken::NoMemory => return false,
            Taken::Kept => return true,
            Taken::Whole(header) => self.deliver(shared, header, Body::Received(range)),
            Taken::Assembled(header, place) if self.inbound.is_waiting() => {
                self.inbound.wait(header, place);
            }
            Taken::Assembled(header, place) => self.deliver(shared, header, Body::Owned(place)),
        }
        while let Some((header, place)) = self.inbound.next_held() {
            if self.inbound.is_waiting() {
                self.inbound.wait(header, place);
            } else {
                self.deliver(shared, header, Body::Owned(place));
            }
        }
        true
    }

    fn deliver(&mut self, shared: &mut Shared, header: Header, body: Body) {
        self.inbound.on_taken(&header);
        shared.events.push_back(PacketEvent::Message {
            session: self.id,
            header,
            body,
        });
    }

    /// The owner goes on, or pauses.
    pub(crate) fn pause(&mut self, shared: &mut Shared, paused: bool) {
        self.inbound.is_paused = paused;
        while let Some((header, place)) = self.inbound.next_ready() {
            self.deliver(shared, header, Body::Owned(place));
        }
        self.settle(shared);
    }

    /// Draws the conclusions of what has changed: credit to grant, memory freed, ends reached.
    pub(crate) fn settle(&mut self, shared: &mut Shared) {
        self.report_freed(shared);
        match self.phase {
            Phase::Open => {
                self.wishes.credit |= self.inbound.wants_credit();
                // What the peer sent before it asked is handed up before.
                if self.inbound.is_draining() && !core::mem::replace(&mut self.is_draining, true) {
                    shared
                        .events
                        .push_back(PacketEvent::Draining { session: self.id });
                }
                let is_drained = self.local == Half::Final
                    && self.has_remote_final
                    && self.inbound.is_final()
                    && self.outbound.is_settled();
                if is_drained && !core::mem::replace(&mut self.is_drained, true) {
                    shared
                        .events
                        .push_back(PacketEvent::Drained { session: self.id });
                }
            }
            Phase::Closing { .. } => {
                self.wishes.close |= self.outbound.is_settled() && !self.is_close_out();
            }
            Phase::PeerClosed { code } if !self.inbound.has_ready() => {
                self.end(shared, SessionEnd::Peer(code), Some(Farewell::Ack));
            }
            _ => {}
        }
    }

    /// A CLOSE is on its way.
    fn is_close_out(&self) -> bool {
        self.sent.open > 0
    }

    /// Bytes were sent for the first time, or (`again`) once more.
    pub(crate) fn on_bytes(&mut self, shared: &mut Shared, fresh: usize, again: usize) {
        shared.stats.fresh_bytes += wide(fresh);
        let signed = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        let earned = signed(fresh) / AGAIN_SHARE;
        self.again_bytes = (self.again_bytes + earned).min(AGAIN_BYTES_MAX);
        if self.probes > 0 {
            shared.stats.probe_bytes += wide(again);
        } else {
            shared.stats.again_bytes += wide(again);
            self.again_bytes -= signed(again);
        }
    }

    /// An acknowledgement is owed from now on, if none was before.
    pub(crate) fn on_eliciting(&mut self, now: Instant) {
        if self.sent.open == 0 {
            self.progress_at = now;
        }
    }
}
