//! The way down: from a socket's queue into the network.

use std::mem;

use ringway_buf::{Chain, Id};
use ringway_driver::{Burst, Close, Sink, SocketId};

use crate::Fault;
use crate::datagram::Sent;
use crate::socket::{Closing, DatagramSocket, Hands, StreamSocket, Turn};

/// Partial writes of one stream in one go; what is left goes at the next poll.
const WRITES_MAX: u32 = 16;

impl StreamSocket {
    /// Queues a chain, which is left empty.
    pub(crate) fn queue(&mut self, chain: &mut Chain) {
        if self.closing.is_asked() {
            chain.clear();
        } else {
            self.queued.append(chain);
        }
    }

    /// Moves what fits from the queue into the network, and reports what completed.
    pub(crate) fn send<S: Sink>(
        &mut self,
        id: Id,
        hands: &mut Hands<'_>,
        sink: &mut S,
        turn: &mut Turn,
    ) {
        let mut sent = 0;
        let now = hands.net.now();
        if let Some((len, at)) = self.in_flight {
            if at > now {
                return;
            }
            self.in_flight = None;
            self.queued.advance(len, |lease| hands.pools.give(lease));
            sent += len;
        }
        if self.connected && !self.finished {
            let mut writes = 0;
            while !self.queued.is_empty() {
                if writes == WRITES_MAX {
                    turn.more = true;
                    break;
                }
                writes += 1;
                let len = hands.net.net_mut().write(self.end, &self.queued);
                if len == 0 {
                    break;
                }
                hands.stats.send_direct += 1;
                if let Some(at) = hands.delayed(id, Fault::Late) {
                    self.in_flight = Some((len, at));
                    break;
                }
                self.queued.advance(len, |lease| hands.pools.give(lease));
                sent += len;
            }
        }
        if sent > 0 {
            sink.sent(SocketId(id), sent);
            turn.events += 1;
        }
    }

    /// Sends the end of the stream once all else is sent.
    pub(crate) fn finish(&mut self, hands: &Hands<'_>) {
        let asked = matches!(self.closing, Closing::Asked(Close::Graceful, _));
        if asked && !self.finished && self.queued.is_empty() && self.in_flight.is_none() {
            self.finished = true;
            hands.net.net_mut().finish(self.end);
        }
    }
}

impl DatagramSocket {
    /// Queues a burst.
    pub(crate) fn queue(&mut self, burst: Burst) {
        if !self.closing.is_asked() {
            self.queued.push_back(burst);
        }
    }

    /// Sends all that is queued, and reports what completed.
    pub(crate) fn send<S: Sink>(
        &mut self,
        id: Id,
        hands: &mut Hands<'_>,
        sink: &mut S,
        turn: &mut Turn,
    ) {
        let mut sent = 0;
        while let Some(burst) = self.queued.pop_front() {
            sent += burst.lease.len();
            self.send_burst(id, &burst, hands, sink);
            hands.pools.give(burst.lease);
        }
        let now = hands.net.now();
        if let Some((len, at)) = self.in_flight {
            if at > now {
                // One operation at a time: what left meanwhile is confirmed with it.
                self.in_flight = Some((len + sent, at));
                return;
            }
            self.in_flight = None;
            sent += len;
        } else if sent > 0
            && let Some(at) = hands.delayed(id, Fault::Late)
        {
            self.in_flight = Some((sent, at));
            return;
        }
        if sent > 0 {
            sink.sent(SocketId(id), sent);
            turn.events += 1;
        }
    }

    /// Reports late what was late, so that nothing comes behind `closed`.
    pub(crate) fn settle<S: Sink>(&mut self, id: Id, sink: &mut S) {
        if let Some((len, _)) = mem::take(&mut self.in_flight) {
            sink.sent(SocketId(id), len);
        }
    }

    fn send_burst<S: Sink>(&self, id: Id, burst: &Burst, hands: &mut Hands<'_>, sink: &mut S) {
        let segment = (burst.segment_bytes as usize).max(1);
        let mut left = burst.lease.bytes();
        for _ in 0..burst.count {
            let (payload, behind) = left.split_at(segment.min(left.len()));
            left = behind;
            let sent =
                hands
                    .net
                    .net_mut()
                    .send_datagram(self.mailbox, burst.peer, payload, burst.ecn);
            match sent {
                Sent::Left => hands.stats.datagrams_out += 1,
                Sent::Dropped => hands.stats.datagrams_dropped += 1,
                Sent::TooLong(bytes_max) => {
                    let bytes = payload.len();
                    sink.datagram_too_long(SocketId(id), burst.peer, bytes, bytes_max);
                }
            }
        }
        hands.stats.send_direct += 1;
    }
}
