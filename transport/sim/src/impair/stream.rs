//! Bytes of streams that wait for their time. They never overtake.

use std::collections::{HashMap, VecDeque};
use std::mem;

use ringway_buf::{Chain, Instant};
use ringway_driver::{Close, Driver, SocketId};

use crate::PathConfig;

/// What waits of one stream.
#[derive(Debug, Default)]
struct Lane {
    held: VecDeque<(Instant, Chain)>,
    closing: Option<Close>,
}

/// All streams of which something waits. As long as the engine queues: what waits was not reported as sent.
#[derive(Debug, Default)]
pub(super) struct Streams {
    lanes: HashMap<SocketId, Lane>,
}

impl Streams {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether bytes pass at once: nothing waits, and the network neither delays nor bounds nor parts.
    pub(super) fn is_plain(&self, socket: SocketId, config: &PathConfig) -> bool {
        let link = &config.link;
        link.delay.max.is_zero()
            && link.jitter.is_zero()
            && link.bandwidth_bytes_per_s == 0
            && config.faults.partition_every.is_zero()
            && !self.lanes.contains_key(&socket)
    }

    /// Keeps a chain, which is left empty, until `at`.
    pub(super) fn hold(&mut self, socket: SocketId, at: Instant, chain: &mut Chain) {
        let lane = self.lanes.entry(socket).or_default();
        if lane.closing.is_none() {
            lane.held.push_back((at, mem::take(chain)));
        }
        chain.clear();
    }

    /// When something may go on.
    pub(super) fn next(&self) -> Option<Instant> {
        let fronts = self.lanes.values().filter_map(|lane| lane.held.front());
        fronts.map(|(at, _)| *at).min()
    }

    /// Hands over what has waited long enough, and closes what has waited for that. Whether there was any.
    pub(super) fn pump<D: Driver>(&mut self, now: Instant, driver: &mut D) -> bool {
        let mut any = false;
        // The order among streams does not matter: each goes to a socket of its own.
        self.lanes.retain(|socket, lane| {
            while let Some((_, mut chain)) = lane.held.pop_front_if(|(at, _)| *at <= now) {
                driver.send(*socket, &mut chain);
                any = true;
            }
            if let (true, Some(how)) = (lane.held.is_empty(), lane.closing) {
                driver.close(*socket, how);
                any = true;
            }
            !lane.held.is_empty()
        });
        any
    }

    /// Puts off a close until all is sent; false if nothing waits.
    pub(super) fn closes(&mut self, socket: SocketId, how: Close) -> bool {
        let Some(lane) = self.lanes.get_mut(&socket) else {
            return false;
        };
        lane.closing = Some(how);
        true
    }

    pub(super) fn forget(&mut self, socket: SocketId) {
        self.lanes.remove(&socket);
    }
}
