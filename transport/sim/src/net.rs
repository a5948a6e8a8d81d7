//! The network of a run: its state, its clock, and what a test may do to it.

use std::cell::{Ref, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ringway_buf::{Id, Instant, Table};
use ringway_driver::{Incoming, SharedPools};

use crate::clock::{Clock, Event};
use crate::datagram::{FLIGHTS_MAX, Flight, Mailbox};
use crate::listener::Listener;
use crate::names::Names;
use crate::node::Node;
use crate::rng::{Concern, Rng};
use crate::stream::{End, Owner};
use crate::trace::Trace;
use crate::{FaultCounts, Faults, NetConfig, SimDriver};

/// Most hosts of a network.
const NODES_MAX: usize = 4096;
/// Most ends of connections in a network.
const ENDS_MAX: usize = 256 * 1024;
/// Most listeners in a network.
const LISTENERS_MAX: usize = 16 * 1024;
/// Most datagram sockets in a network.
const MAILBOXES_MAX: usize = 64 * 1024;

/// A simulated network with a clock of its own. Cloning makes another handle of the same network.
///
/// Time stands still while drivers are polled and moves only in [`advance`](Self::advance): when every driver
/// is idle, to the next thing that happens. Everything random comes from the seed, so the same calls in the
/// same order give the same run; [`trace_hash`](Self::trace_hash) proves it.
#[derive(Clone)]
pub struct SimNet {
    net: Rc<RefCell<Net>>,
}

/// What a network still holds; all zero but for `listeners` and `datagram_sockets` means that it is quiet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Events that have not happened yet.
    pub events: usize,
    /// Ends of connections that nobody released.
    pub stream_ends: usize,
    /// Of these, the ones that were accepted, or wait to be, and that no driver adopted.
    pub unadopted_ends: usize,
    /// Open listeners.
    pub listeners: usize,
    /// Open datagram sockets.
    pub datagram_sockets: usize,
    /// Datagrams on their way.
    pub datagrams: usize,
}

/// The state behind all handles.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) seed: u64,
    pub(crate) config: NetConfig,
    pub(crate) clock: Clock,
    pub(crate) trace: Trace,
    pub(crate) counts: FaultCounts,
    pub(crate) nodes: Vec<Node>,
    pub(crate) names: Names,
    pub(crate) ends: Table<End>,
    pub(crate) listeners: Table<Listener>,
    pub(crate) mailboxes: Table<Mailbox>,
    pub(crate) flights: Table<Flight>,
    /// Directions and links made so far: each has generators of its own.
    pub(crate) directions: u64,
    /// Chooses among listeners that share a port.
    pub(crate) spread: Rng,
    pub(crate) spare_rings: Vec<Vec<u8>>,
    pub(crate) spare_payloads: Vec<Vec<u8>>,
}

impl SimNet {
    /// Makes a network without hosts.
    #[must_use]
    pub fn new(config: NetConfig, seed: u64) -> Self {
        let net = Net {
            seed,
            config,
            clock: Clock::new(),
            trace: Trace::default(),
            counts: FaultCounts::default(),
            nodes: Vec::new(),
            names: Names::new(),
            ends: Table::new(ENDS_MAX),
            listeners: Table::new(LISTENERS_MAX),
            mailboxes: Table::new(MAILBOXES_MAX),
            flights: Table::new(FLIGHTS_MAX),
            directions: 0,
            spread: Rng::split(seed, Concern::Spread, 0),
            spare_rings: Vec::new(),
            spare_payloads: Vec::new(),
        };
        Self {
            net: Rc::new(RefCell::new(net)),
        }
    }

    /// The seed of this run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.net().seed
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.net().clock.now()
    }

    /// Adds a host and returns its driver. `name` is for people and for the trace.
    ///
    /// # Panics
    /// With the 4097th host of one network.
    #[must_use]
    pub fn node(&self, name: &str, pools: SharedPools) -> SimDriver {
        let mut net = self.net_mut();
        let index = net.nodes.len();
        assert!(index < NODES_MAX, "at most {NODES_MAX} hosts in a network");
        let seed = net.seed;
        net.nodes.push(Node::new(name, seed, index as u64));
        net.trace.bytes(name.as_bytes());
        drop(net);
        SimDriver::new(
            self.clone(),
            u32::try_from(index).unwrap_or(u32::MAX),
            pools,
        )
    }

    /// Moves time to the next event or to the earliest deadline of a parked driver, whichever comes first.
    ///
    /// Call it when every driver's poll found nothing. Time stays where it is if a parked driver has news
    /// already (a waker rang). Returns false when nothing will ever happen again by itself.
    pub fn advance(&self) -> bool {
        self.net_mut().advance()
    }

    /// Moves time by `duration`; all events until then happen, each at its time.
    pub fn advance_by(&self, duration: Duration) {
        let mut net = self.net_mut();
        let until = net.clock.now() + duration;
        while let Some(at) = net.clock.next().filter(|at| *at <= until) {
            net.clock.move_to(at);
            net.fire_due();
        }
        net.clock.move_to(until);
        net.rouse();
    }

    /// Replaces all faults, for everything that happens from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.net_mut().config.faults = faults;
    }

    /// Ends all faults: the phase in which what is still alive has to come to its end.
    ///
    /// What is lost stays lost: directions that fell silent stay so, connects left unanswered stay so.
    pub fn heal(&self) {
        self.set_faults(Faults::none());
    }

    /// A hash over everything that happened in the network so far: same seed, same calls, same number.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.net().trace.hash()
    }

    /// How often each fault fired.
    #[must_use]
    pub fn fault_counts(&self) -> FaultCounts {
        self.net().counts
    }

    /// What the network still holds.
    #[must_use]
    pub fn pending(&self) -> Pending {
        let net = self.net();
        Pending {
            events: net.clock.len(),
            stream_ends: net.ends.len(),
            unadopted_ends: net
                .ends
                .iter()
                .filter(|(_, end)| end.owner.is_none())
                .count(),
            listeners: net.listeners.len(),
            datagram_sockets: net.mailboxes.len(),
            datagrams: net.flights.len(),
        }
    }

    /// A connection whose two ends nobody owns yet, as by `socketpair`; `None` when the network is full.
    #[must_use]
    pub fn pair(&self) -> Option<[Incoming; 2]> {
        let ends = self.net_mut().pair()?;
        Some(ends.map(|end| Incoming::Virtual(end.to_bits())))
    }

    /// Closes an accepted connection that nobody adopts, as dropping its descriptor does.
    ///
    /// A number can't close itself: who drops an [`Incoming::Virtual`] without this leaves its peer waiting.
    pub fn discard(&self, incoming: &Incoming) {
        if let Incoming::Virtual(bits) = incoming {
            let mut net = self.net_mut();
            let end = Id::from_bits(*bits);
            if net.ends.get(end).is_some_and(|end| end.owner.is_none()) {
                net.release(end, true);
            }
        }
    }

    pub(crate) fn net(&self) -> Ref<'_, Net> {
        self.net.borrow()
    }

    pub(crate) fn net_mut(&self) -> RefMut<'_, Net> {
        self.net.borrow_mut()
    }
}

impl fmt::Debug for SimNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.net.try_borrow() {
            Ok(net) => {
                let names: Vec<&str> = net.nodes.iter().map(|node| &*node.name).collect();
                f.debug_struct("SimNet")
                    .field("seed", &net.seed)
                    .field("now", &net.clock.now())
                    .field("nodes", &names)
                    .finish_non_exhaustive()
            }
            Err(_) => f.write_str("SimNet"),
        }
    }
}

impl Net {
    /// Notes that a socket has news for its driver.
    pub(crate) fn mark(&mut self, (node, socket): Owner) {
        if let Some(node) = self.nodes.get_mut(node as usize) {
            node.mark(socket);
        }
    }

    fn advance(&mut self) -> bool {
        if self.rouse() {
            return true;
        }
        let parked = self.nodes.iter().filter(|node| node.parked);
        let deadline = parked.filter_map(|node| node.deadline).min();
        let Some(at) = self.clock.next().into_iter().chain(deadline).min() else {
            return false;
        };
        self.clock.move_to(at);
        self.fire_due();
        self.rouse();
        true
    }

    fn fire_due(&mut self) {
        let now = self.clock.now().as_nanos();
        while let Some(event) = self.clock.pop() {
            self.trace.word(now);
            self.trace.words(event.words());
            match event {
                Event::Syn { end } => self.on_syn(end),
                Event::SynAnswer { end, errno } => self.on_syn_answer(end, errno),
                Event::Segment { end, upto } => self.on_segment(end, upto),
                Event::Fin { end } => self.on_fin(end),
                Event::Reset { end } => self.on_reset(end),
                Event::Credit { end } => self.on_credit(end),
                Event::Datagram { flight } => self.on_datagram(flight),
                Event::Nudge { node, socket } => self.mark((node, socket)),
            }
        }
    }

    /// Ends the sleep of every host that has news or whose deadline has come; true if there was one.
    fn rouse(&mut self) -> bool {
        let now = self.clock.now();
        let mut any = false;
        for node in self.nodes.iter_mut().filter(|node| node.parked) {
            if node.has_news() || node.deadline.is_some_and(|deadline| deadline <= now) {
                node.rouse();
                any = true;
            }
        }
        any
    }
}
