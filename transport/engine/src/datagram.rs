//! Datagrams of one socket: gathered into bursts of equal size for one peer, so that one call sends many.

use std::collections::VecDeque;
use std::net::SocketAddr;

use ringway_buf::Pools;
use ringway_driver::Burst;
use ringway_proto::datagram;

use crate::SendError;
use crate::connection::Outbox;
use crate::send::Room;

/// Most datagrams that leave in one burst: the kernel's limit for segmentation offload.
const BURST_COUNT_MAX: u32 = 64;
/// Most bytes of a burst: one IP datagram's worth, the kernel's limit for segmentation offload.
const BURST_BYTES_MAX: usize = 65_507;
/// Most bursts that wait in one turn; a turn's claims to many peers make one each.
const TURN_BURSTS_MAX: usize = 1024;

/// Send side of one datagram socket.
#[derive(Debug)]
pub(crate) struct Datagrams {
    /// Connected: datagrams go to the one peer.
    connected: bool,
    bytes_max: usize,
    /// Bursts of this turn; only the last one grows.
    bursts: VecDeque<Burst>,
    /// Size of recent bursts in bytes: chooses the next lease.
    hint: usize,
}

impl Datagrams {
    pub(crate) fn new(connected: bool, bytes_max: usize) -> Self {
        Self {
            connected,
            bytes_max,
            bursts: VecDeque::new(),
            hint: 0,
        }
    }

    /// The path carries no more than this.
    pub(crate) fn learn_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = self.bytes_max.min(bytes_max.max(1));
    }

    /// Room for one datagram, in a burst for the same peer if its size fits.
    pub(crate) fn room(
        &mut self,
        peer: Option<SocketAddr>,
        len: usize,
        outbox: &mut Outbox,
        queue_bytes_max: usize,
        pools: &Pools,
    ) -> Result<Option<(usize, usize)>, SendError> {
        let peer = if self.connected {
            None
        } else {
            Some(peer.ok_or(SendError::NoPeer)?)
        };
        datagram::check(len, self.bytes_max).map_err(|error| SendError::TooLong {
            bytes: error.len,
            bytes_max: error.max,
        })?;
        if outbox.queued_bytes > 0 && outbox.queued_bytes.saturating_add(len) > queue_bytes_max {
            return Ok(None);
        }
        let last = self
            .bursts
            .back_mut()
            .filter(|burst| burst.grows(peer, len));
        if last.is_none() {
            if self.bursts.len() == TURN_BURSTS_MAX {
                return Ok(None);
            }
            // A burst that ended for lack of memory, not at a limit, was leased too small.
            let cramped = self
                .bursts
                .back()
                .filter(|burst| burst.is_cramped(peer, len));
            let wish = cramped.map_or(0, |burst| 2 * burst.lease.len());
            self.hint = self.hint.max(wish);
            let size = self.hint.clamp(len, BURST_BYTES_MAX.max(len)).max(1);
            let Some(mut lease) = pools.lease(size).or_else(|| pools.lease(len)) else {
                return Ok(None);
            };
            lease.reset(0);
            let segment_bytes = u32::try_from(len).unwrap_or(u32::MAX);
            self.bursts.push_back(Burst {
                lease,
                segment_bytes,
                count: 0,
                peer,
            });
        }
        let ordinal = self.bursts.len() - 1;
        let Some(burst) = self.bursts.back_mut() else {
            return Ok(None);
        };
        let offset = burst.lease.len();
        if burst.lease.append(len).is_none() {
            return Ok(None);
        }
        burst.count += 1;
        outbox.queued_bytes += len;
        Ok(Some((ordinal, offset)))
    }

    pub(crate) fn body(&self, room: &Room) -> Option<&[u8]> {
        let burst = self.bursts.get(room.ordinal)?;
        burst.lease.bytes().get(room.offset..room.offset + room.len)
    }

    pub(crate) fn body_mut(&mut self, room: &Room) -> Option<&mut [u8]> {
        let burst = self.bursts.get_mut(room.ordinal)?;
        burst
            .lease
            .bytes_mut()
            .get_mut(room.offset..room.offset + room.len)
    }

    /// Shortens the last datagram to `len`; a shorter one ends its burst by itself, see [`grows`](Grow).
    pub(crate) fn commit(&mut self, room: &Room, len: usize, queued_bytes: &mut usize) -> bool {
        let Some(burst) = self.bursts.get_mut(room.ordinal) else {
            return false;
        };
        let is_last = room.offset + room.len == burst.lease.len();
        if len < room.len && is_last {
            burst.lease.truncate(room.offset + len);
            *queued_bytes -= room.len - len;
            if burst.count == 1 {
                burst.segment_bytes = u32::try_from(len).unwrap_or(u32::MAX);
            }
        }
        is_last || len >= room.len
    }

    pub(crate) fn abort(&mut self, room: &Room, queued_bytes: &mut usize) {
        let Some(burst) = self.bursts.get_mut(room.ordinal) else {
            return;
        };
        if room.offset + room.len != burst.lease.len() {
            return;
        }
        burst.lease.truncate(room.offset);
        burst.count -= 1;
        *queued_bytes -= room.len;
        if burst.count == 0 && room.ordinal + 1 == self.bursts.len() {
            self.bursts.pop_back();
        }
    }

    /// Hands all bursts down.
    pub(crate) fn flush(&mut self, mut send: impl FnMut(Burst), pools: &Pools) {
        let mut largest = None;
        while let Some(burst) = self.bursts.pop_front() {
            if burst.count == 0 {
                pools.give(burst.lease);
                continue;
            }
            largest = largest.max(Some(burst.lease.len()));
            send(burst);
        }
        if let Some(largest) = largest {
            self.hint = largest.max(self.hint / 2);
        }
    }
}

/// Whether one more datagram fits a burst.
trait Grow {
    /// Whether one more datagram keeps the burst's rules, whatever memory it has.
    fn would_grow(&self, peer: Option<SocketAddr>, len: usize) -> bool;

    fn grows(&self, peer: Option<SocketAddr>, len: usize) -> bool;

    /// Whether only the memory that was leased for the burst keeps one more datagram out.
    fn is_cramped(&self, peer: Option<SocketAddr>, len: usize) -> bool;
}

impl Grow for Burst {
    /// All datagrams of a burst but the last have one size; an empty datagram travels alone.
    fn would_grow(&self, peer: Option<SocketAddr>, len: usize) -> bool {
        let segment = self.segment_bytes as usize;
        self.peer == peer
            && len > 0
            && len <= segment
            && self.lease.len() == segment * self.count as usize
            && self.count < BURST_COUNT_MAX
            && self.lease.len() + len <= BURST_BYTES_MAX
    }

    fn grows(&self, peer: Option<SocketAddr>, len: usize) -> bool {
        self.would_grow(peer, len) && self.lease.tailroom() >= len
    }

    fn is_cramped(&self, peer: Option<SocketAddr>, len: usize) -> bool {
        self.would_grow(peer, len) && self.lease.tailroom() < len
    }
}

#[cfg(test)]
mod tests {
    use ringway_buf::PoolsConfig;

    use super::*;

    /// Claims `count` datagrams of `len` bytes and flushes; the sizes of the bursts.
    fn bursts(datagrams: &mut Datagrams, pools: &Pools, count: usize, len: usize) -> Vec<u32> {
        let mut outbox = Outbox::default();
        for _ in 0..count {
            let room = datagrams.room(None, len, &mut outbox, usize::MAX, pools);
            assert!(matches!(room, Ok(Some(_))), "{room:?}");
        }
        let mut counts = Vec::new();
        datagrams.flush(|burst| counts.push(burst.count), pools);
        counts
    }

    #[test]
    fn bursts_grow_to_what_one_call_carries() {
        let pools = Pools::new(PoolsConfig::default());
        let mut datagrams = Datagrams::new(true, BURST_BYTES_MAX);
        for (len, most) in [(64, 64), (1200, 54), (9000, 7)] {
            bursts(&mut datagrams, &pools, 200, len);
            let counts = bursts(&mut datagrams, &pools, 3 * most, len);
            let most = u32::try_from(most).unwrap();
            assert_eq!(counts, [most; 3], "datagrams of {len} bytes");
        }
    }
}
