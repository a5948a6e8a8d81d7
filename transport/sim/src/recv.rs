//! The way up: from the network to the sink, and each socket's turn in a poll.

use std::io::IoSliceMut;

use ringway_buf::{Id, Instant, RecvBuffer};
use ringway_driver::{AcceptFault, Close, CloseCause, Fed, Incoming, Sink, SocketId, Target};

use crate::Fault;
use crate::errno::error;
use crate::listener::Accept;
use crate::socket::{Closing, DatagramSocket, Hands, ListenSocket, Resume, StreamSocket, Turn};
use crate::stream::Link;

/// Receives of one stream in one poll, so that a busy one does not starve the others.
const RECVS_MAX: u32 = 16;
/// Accepts of one listener in one poll.
const ACCEPTS_MAX: u32 = 64;
/// Bytes of a pooled slot.
const SLOT_BYTES: usize = 16 * 1024;

impl ListenSocket {
    pub(crate) fn turn<S: Sink>(&mut self, id: Id, hands: &mut Hands<'_>, sink: &mut S) -> Turn {
        let mut turn = Turn::default();
        if self.closing.is_asked() {
            if self.closing.is_due(hands.net.now()) {
                turn.closed = Some(CloseCause::Requested);
            }
            return turn;
        }
        while self.on {
            if turn.events == ACCEPTS_MAX {
                turn.more = true;
                break;
            }
            let accept = hands.net.net_mut().accept(self.listener, hands.node);
            match accept {
                Accept::Empty => break,
                Accept::Taken(end) => {
                    let peer = hands
                        .net
                        .net()
                        .ends
                        .get(end)
                        .and_then(|end| end.remote.clone());
                    sink.accepted(SocketId(id), Incoming::Virtual(end.to_bits()), peer);
                }
                Accept::Failed(errno) => {
                    hands.stats.accept_errors += 1;
                    self.on = false;
                    sink.accept_failed(
                        SocketId(id),
                        AcceptFault {
                            error: error(errno),
                        },
                    );
                }
            }
            turn.events += 1;
        }
        turn
    }
}

impl StreamSocket {
    pub(crate) fn turn<S: Sink>(&mut self, id: Id, hands: &mut Hands<'_>, sink: &mut S) -> Turn {
        let mut turn = Turn::default();
        let now = hands.net.now();
        let Some(view) = hands.net.net().view(self.end) else {
            turn.closed = Some(CloseCause::Requested);
            return turn;
        };
        if matches!(self.closing, Closing::Asked(Close::Abort, _)) || !self.connected {
            if self.closing.is_asked() {
                if self.closing.is_due(now) {
                    turn.closed = Some(CloseCause::Requested);
                }
                return turn;
            }
            match view.link {
                Link::Connecting => return turn,
                Link::Failed(errno) | Link::Broken(errno) => {
                    turn.closed = Some(CloseCause::ConnectFailed(error(errno)));
                    return turn;
                }
                Link::Up => {
                    self.connected = true;
                    sink.connected(SocketId(id));
                    turn.events += 1;
                }
            }
        }
        if self.closing.is_asked() {
            hands.net.net_mut().read_and_discard(self.end);
        } else if self.on {
            self.recv(id, now, hands, sink, &mut turn);
        }
        self.after_recv(id, now, hands, sink, &mut turn);
        turn
    }

    /// Ends of all kinds, and sending, once what arrived was shown.
    fn after_recv<S: Sink>(
        &mut self,
        id: Id,
        now: Instant,
        hands: &mut Hands<'_>,
        sink: &mut S,
        turn: &mut Turn,
    ) {
        let Some(view) = hands.net.net().view(self.end) else {
            return;
        };
        let reads = self.on && self.resume == Resume::No && self.starved_until <= now;
        if let Link::Broken(errno) | Link::Failed(errno) = view.link {
            if view.readable > 0 && reads && !self.closing.is_asked() {
                turn.more = true;
            } else {
                // Once all was sent, it does not matter how the peer goes.
                turn.closed = Some(match self.finished {
                    true => CloseCause::Requested,
                    false => CloseCause::Broken(error(errno)),
                });
            }
            return;
        }
        if view.over && reads && !self.ended && !self.closing.is_asked() {
            self.ended = true;
            sink.ended(SocketId(id));
            turn.events += 1;
        }
        self.send(id, hands, sink, turn);
        self.finish(hands);
        if self.finished && view.over && self.closing.is_due(now) {
            turn.closed = Some(CloseCause::Requested);
        }
    }

    fn recv<S: Sink>(
        &mut self,
        id: Id,
        now: Instant,
        hands: &mut Hands<'_>,
        sink: &mut S,
        turn: &mut Turn,
    ) {
        if self.resume == Resume::Now {
            let held = self.inlet.holds_bytes();
            let fed = self.inlet.resume(SocketId(id), hands.pools, sink);
            if held && fed != Fed::Starved {
                turn.events += 1;
            }
            if !self.goes_on(fed, hands, turn) {
                return;
            }
        }
        let mut recvs = 0;
        while self.resume == Resume::No && self.starved_until <= now {
            let Some(view) = hands.net.net().view(self.end) else {
                return;
            };
            if view.readable == 0 {
                return;
            }
            if recvs == RECVS_MAX {
                turn.more = true;
                return;
            }
            recvs += 1;
            if let Some(at) = hands.delayed(id, Fault::Starve) {
                hands.stats.starved += 1;
                self.starved_until = at;
                return;
            }
            let fed = if hands.slot_mode() {
                self.recv_slot(id, hands, sink)
            } else {
                self.recv_direct(id, hands, sink)
            };
            if fed != Fed::Starved {
                turn.events += 1;
            }
            if !self.goes_on(fed, hands, turn) {
                return;
            }
        }
    }

    /// Notes what the inlet said; true when receiving goes on.
    fn goes_on(&mut self, fed: Fed, hands: &mut Hands<'_>, turn: &mut Turn) -> bool {
        self.resume = match fed {
            Fed::More => Resume::No,
            Fed::Paused => Resume::AtRead,
            Fed::Starved => {
                hands.stats.starved += 1;
                turn.starved = true;
                Resume::Now
            }
        };
        fed == Fed::More
    }

    fn recv_direct<S: Sink>(&mut self, id: Id, hands: &mut Hands<'_>, sink: &mut S) -> Fed {
        let Some(target) = self.inlet.target(hands.scratch, hands.pools) else {
            return Fed::Starved;
        };
        let (len, room) = match target {
            Target::One(room) => {
                let bytes = room.len();
                (
                    hands
                        .net
                        .net_mut()
                        .read(self.end, &mut [IoSliceMut::new(room)]),
                    bytes,
                )
            }
            Target::Two(mut parts) => {
                let bytes = parts.iter().map(|part| part.len()).sum();
                (hands.net.net_mut().read(self.end, &mut parts), bytes)
            }
        };
        hands.stats.recv_direct += 1;
        let brimful = len == room;
        self.inlet
            .took(SocketId(id), len, brimful, hands.scratch, hands.pools, sink)
    }

    fn recv_slot<S: Sink>(&mut self, id: Id, hands: &mut Hands<'_>, sink: &mut S) -> Fed {
        let Some(lease) = hands.pools.lease(SLOT_BYTES) else {
            return Fed::Starved;
        };
        let mut slot = lease.into_recv();
        let room = IoSliceMut::new(slot.spare_mut());
        let len = hands.net.net_mut().read(self.end, &mut [room]);
        slot.filled(len);
        hands.stats.recv_ring += 1;
        let (fed, back) = self.inlet.feed(SocketId(id), slot, hands.pools, sink);
        if let Some(slot) = back {
            hands.give_back(slot);
        }
        fed
    }
}

impl DatagramSocket {
    pub(crate) fn turn<S: Sink>(&mut self, id: Id, hands: &mut Hands<'_>, sink: &mut S) -> Turn {
        let mut turn = Turn::default();
        let now = hands.net.now();
        if self.connecting && !self.closing.is_asked() {
            self.connecting = false;
            sink.connected(SocketId(id));
            turn.events += 1;
        }
        self.send(id, hands, sink, &mut turn);
        if self.closing.is_asked() {
            if self.closing.is_due(now) {
                self.settle(id, sink);
                turn.closed = Some(CloseCause::Requested);
            }
            return turn;
        }
        let mut recvs = 0;
        while self.on && self.starved_until <= now {
            let Some(len) = hands.net.net().datagram_waits(self.mailbox) else {
                break;
            };
            if recvs == RECVS_MAX {
                turn.more = true;
                break;
            }
            recvs += 1;
            if let Some(at) = hands.delayed(id, Fault::Starve) {
                hands.stats.starved += 1;
                self.starved_until = at;
                break;
            }
            if !self.recv(id, len, hands, sink) {
                hands.stats.starved += 1;
                turn.starved = true;
                break;
            }
            turn.events += 1;
        }
        turn
    }

    /// Shows the datagram that waits longest, `len` bytes, and those that are like it. False without memory.
    fn recv<S: Sink>(&self, id: Id, len: usize, hands: &mut Hands<'_>, sink: &mut S) -> bool {
        // The scratch buffer goes on behind what slices hold, so it may be too short for a long datagram.
        let shared = hands
            .scratch
            .ready(hands.pools, 0)
            .filter(|buffer| buffer.spare() >= len);
        let mut own = None;
        let Some(buffer) = shared.or_else(|| {
            own = hands.pools.lease(len).map(|lease| lease.into_recv());
            own.as_mut()
        }) else {
            return false;
        };
        show(
            self.mailbox,
            id,
            buffer,
            hands.net,
            hands.node,
            hands.stats,
            sink,
        );
        if let Some(own) = own {
            hands.give_back(own);
        }
        true
    }
}

fn show<S: Sink>(
    mailbox: Id,
    id: Id,
    buffer: &mut RecvBuffer,
    net: &crate::SimNet,
    node: u32,
    stats: &mut ringway_driver::DriverStats,
    sink: &mut S,
) {
    let taken = net
        .net_mut()
        .take_datagrams(mailbox, node, buffer.spare_mut());
    let Some((meta, count, bytes)) = taken else {
        return;
    };
    buffer.filled(bytes);
    stats.recv_direct += 1;
    stats.datagrams_in += u64::from(count);
    sink.datagrams(SocketId(id), buffer, meta);
    buffer.consume(buffer.len());
}

impl Hands<'_> {
    /// Whether the next receive goes into a pooled slot.
    fn slot_mode(&self) -> bool {
        let mut net = self.net.net_mut();
        let chance = net.config.habits.slot_recv;
        net.nodes
            .get_mut(self.node as usize)
            .is_some_and(|node| node.mode.hits(chance))
    }
}
