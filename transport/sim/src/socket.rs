//! Sockets as a driver sees them: what it queues, what it promised, and how far closing has come.

use std::collections::VecDeque;

use ringway_buf::{Chain, Id, Instant, Pools, RecvBuffer};
use ringway_driver::{Burst, Close, CloseCause, DriverStats, Inlet, Scratch};

use crate::clock::Event;
use crate::node::Node;
use crate::rng::Rng;
use crate::{Chance, Fault, SimNet};

/// A socket of one driver. `end`, `listener` and `mailbox` are ids of the network.
#[derive(Debug)]
pub(crate) enum Socket {
    Listener(ListenSocket),
    Stream(Box<StreamSocket>),
    Datagram(Box<DatagramSocket>),
}

#[derive(Debug)]
pub(crate) struct ListenSocket {
    pub(crate) listener: Id,
    pub(crate) on: bool,
    pub(crate) closing: Closing,
}

#[derive(Debug)]
pub(crate) struct StreamSocket {
    pub(crate) end: Id,
    pub(crate) inlet: Inlet,
    pub(crate) queued: Chain,
    /// Bytes at the front of `queued` that the network has taken but not confirmed, and when it will.
    pub(crate) in_flight: Option<(usize, Instant)>,
    /// In the driver's list of sockets to flush.
    pub(crate) dirty: bool,
    /// `connected` was reported, or somebody else made the connection.
    pub(crate) connected: bool,
    pub(crate) on: bool,
    /// The sink wanted nothing, or memory lacked: the inlet has to be resumed first.
    pub(crate) resume: Resume,
    /// Until then no buffer is to be had.
    pub(crate) starved_until: Instant,
    pub(crate) ended: bool,
    pub(crate) finished: bool,
    pub(crate) closing: Closing,
}

/// Whether the inlet holds back bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// No.
    No,
    /// The sink paused; `read` switches on again.
    AtRead,
    /// To be resumed at the next occasion.
    Now,
}

#[derive(Debug)]
pub(crate) struct DatagramSocket {
    pub(crate) mailbox: Id,
    pub(crate) queued: VecDeque<Burst>,
    /// Bytes that left and were not reported, and when they will be.
    pub(crate) in_flight: Option<(usize, Instant)>,
    pub(crate) dirty: bool,
    /// `connected` is still to be reported.
    pub(crate) connecting: bool,
    pub(crate) on: bool,
    pub(crate) starved_until: Instant,
    pub(crate) closing: Closing,
}

/// How far closing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Nobody asked.
    No,
    /// Asked; nothing is reported before that instant.
    Asked(Close, Instant),
}

impl Closing {
    pub(crate) fn is_asked(self) -> bool {
        self != Self::No
    }

    /// True when closing was asked for and may be reported.
    pub(crate) fn is_due(self, now: Instant) -> bool {
        matches!(self, Self::Asked(_, at) if at <= now)
    }
}

impl StreamSocket {
    pub(crate) fn new(end: Id, connected: bool) -> Self {
        Self {
            end,
            inlet: Inlet::default(),
            queued: Chain::new(),
            in_flight: None,
            dirty: false,
            connected,
            on: false,
            resume: Resume::No,
            starved_until: Instant::ZERO,
            ended: false,
            finished: false,
            closing: Closing::No,
        }
    }
}

/// What came of looking at a socket.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Events that were reported.
    pub(crate) events: u32,
    /// There is more to do at once.
    pub(crate) more: bool,
    /// Memory lacked: try again at each poll.
    pub(crate) starved: bool,
    /// The socket is gone for this reason.
    pub(crate) closed: Option<CloseCause>,
}

/// The parts of a driver that its sockets work with.
pub(crate) struct Hands<'a> {
    pub(crate) net: &'a SimNet,
    pub(crate) node: u32,
    pub(crate) pools: &'a Pools,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) stats: &'a mut DriverStats,
}

impl Hands<'_> {
    /// Draws one of the driver's faults. If it fires, the socket is looked at again at the returned instant.
    pub(crate) fn delayed(&self, socket: Id, fault: Fault) -> Option<Instant> {
        delayed(self.net, self.node, socket, fault)
    }

    pub(crate) fn give_back(&self, buffer: RecvBuffer) {
        if let Ok(lease) = buffer.try_into_lease() {
            self.pools.give(lease);
        }
    }
}

/// As [`Hands::delayed`].
pub(crate) fn delayed(net: &SimNet, node: u32, socket: Id, fault: Fault) -> Option<Instant> {
    let mut net = net.net_mut();
    let faults = net.config.faults.driver;
    let (chance, lane): (Chance, fn(&mut Node) -> &mut Rng) = match fault {
        Fault::Starve => (faults.starve, |node| &mut node.starve),
        _ => (faults.late, |node| &mut node.late),
    };
    if chance == Chance::NEVER {
        return None;
    }
    let lane = lane(net.nodes.get_mut(node as usize)?);
    if !lane.hits(chance) {
        return None;
    }
    let wait = lane.duration(faults.late_time);
    let at = net.clock.now() + wait;
    net.counts.add(fault);
    net.clock.plan(at, Event::Nudge { node, socket });
    Some(at)
}
