//! Datagrams of one socket: gathered into bursts of equal size for one peer, so that one call sends many.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use ringway_buf::Pools;
use ringway_driver::Burst;
use ringway_proto::datagram;

use crate::SendError;
use crate::connection::Outbox;

/// Most datagrams that leave in one burst: the kernel's limit for segmentation offload.
const BURST_COUNT_MAX: u32 = 64;
/// Most bytes of a burst: one IP datagram's worth, the kernel's limit for segmentation offload.
const BURST_BYTES_MAX: usize = 65_507;
/// Most bursts that wait in one turn; a turn's claims to many peers make one each.
const TURN_BURSTS_MAX: usize = 1024;

/// Where a datagram of an unconnected socket goes, and which of our addresses it leaves from, if not the route decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) peer: SocketAddr,
    pub(crate) source: Option<IpAddr>,
}

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

    /// Room for one datagram, in a burst for the same peer if its size fits. `None`, and marked as full: queue,
    /// memory or the turn's bursts are used up.
    #[inline(never)]
    pub(crate) fn room<'a>(
        &'a mut self,
        way: Option<Way>,
        len: usize,
        outbox: &'a mut Outbox,
        queue_bytes_max: usize,
        pools: &Pools,
    ) -> Result<Option<DatagramRoom<'a>>, SendError> {
        let way = if self.connected {
            None
        } else {
            Some(way.ok_or(SendError::NoPeer)?)
        };
        datagram::check(len, self.bytes_max).map_err(|error| SendError::TooLong {
            bytes: error.len,
            bytes_max: error.max,
        })?;
        let queued = outbox.queued_bytes;
        let fits = queued == 0 || queued.saturating_add(len) <= queue_bytes_max;
        let offset = fits.then(|| self.append(way, len, pools)).flatten();
        let Some(offset) = offset else {
            outbox.full = true;
            return Ok(None);
        };
        outbox.queued_bytes += len;
        Ok(Some(DatagramRoom {
            bursts: &mut self.bursts,
            queued_bytes: &mut outbox.queued_bytes,
            offset,
            len,
            committed: false,
        }))
    }

    /// Appends a datagram to the last burst or begins one; where it starts.
    fn append(&mut self, way: Option<Way>, len: usize, pools: &Pools) -> Option<usize> {
        let last = self.bursts.back_mut().filter(|burst| burst.grows(way, len));
        if last.is_none() {
            if self.bursts.len() == TURN_BURSTS_MAX {
                return None;
            }
            // A burst that ended for lack of memory, not at a limit, was leased too small.
            let cramped = self
                .bursts
                .back()
                .filter(|burst| burst.is_cramped(way, len));
            let wish = cramped.map_or(0, |burst| 2 * burst.lease.len());
            self.hint = self.hint.max(wish);
            let size = self.hint.clamp(len, BURST_BYTES_MAX.max(len)).max(1);
            let mut lease = pools.lease(size).or_else(|| pools.lease(len))?;
            lease.reset(0);
            let segment_bytes = u32::try_from(len).unwrap_or(u32::MAX);
            self.bursts.push_back(Burst {
                lease,
                segment_bytes,
                count: 0,
                peer: way.map(|way| way.peer),
                source: way.and_then(|way| way.source),
                ecn: None,
            });
        }
        let burst = self.bursts.back_mut()?;
        let offset = burst.lease.len();
        burst.lease.append(len)?;
        burst.count += 1;
        Some(offset)
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

/// A claimed datagram: the last one of the last burst. Taken back when dropped.
#[derive(Debug)]
pub(crate) struct DatagramRoom<'a> {
    bursts: &'a mut VecDeque<Burst>,
    queued_bytes: &'a mut usize,
    offset: usize,
    len: usize,
    committed: bool,
}

impl DatagramRoom<'_> {
    pub(crate) fn body(&self) -> Option<&[u8]> {
        self.bursts.back()?.lease.bytes().get(self.offset..)
    }

    pub(crate) fn body_mut(&mut self) -> Option<&mut [u8]> {
        let burst = self.bursts.back_mut()?;
        burst.lease.bytes_mut().get_mut(self.offset..)
    }

    /// Shortens the datagram to `len`; a shorter one ends its burst by itself, see [`grows`](Grow).
    pub(crate) fn commit(mut self, len: usize) {
        self.committed = true;
        if let Some(burst) = self.bursts.back_mut()
            && len < self.len
        {
            burst.lease.truncate(self.offset + len);
            *self.queued_bytes -= self.len - len;
            if burst.count == 1 {
                burst.segment_bytes = u32::try_from(len).unwrap_or(u32::MAX);
            }
        }
    }
}

impl Drop for DatagramRoom<'_> {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        let Some(burst) = self.bursts.back_mut() else {
            return;
        };
        burst.lease.truncate(self.offset);
        burst.count -= 1;
        *self.queued_bytes -= self.len;
        if burst.count == 0 {
            self.bursts.pop_back();
        }
    }
}

/// Whether one more datagram fits a burst.
trait Grow {
    /// Whether one more datagram keeps the burst's rules, whatever memory it has.
    fn would_grow(&self, way: Option<Way>, len: usize) -> bool;

    fn grows(&self, way: Option<Way>, len: usize) -> bool;

    /// Whether only the memory that was leased for the burst keeps one more datagram out.
    fn is_cramped(&self, way: Option<Way>, len: usize) -> bool;
}

impl Grow for Burst {
    /// All datagrams of a burst but the last have one size; an empty datagram travels alone.
    fn would_grow(&self, way: Option<Way>, len: usize) -> bool {
        let segment = self.segment_bytes as usize;
        self.peer == way.map(|way| way.peer)
            && self.source == way.and_then(|way| way.source)
            && len > 0
            && len <= segment
            && self.lease.len() == segment * self.count as usize
            && self.count < BURST_COUNT_MAX
            && self.lease.len() + len <= BURST_BYTES_MAX
    }

    fn grows(&self, way: Option<Way>, len: usize) -> bool {
        self.would_grow(way, len) && self.lease.tailroom() >= len
    }

    fn is_cramped(&self, way: Option<Way>, len: usize) -> bool {
        self.would_grow(way, len) && self.lease.tailroom() < len
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
            room.unwrap().unwrap().commit(len);
        }
        assert_eq!(outbox.queued_bytes, count * len);
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
