//! The epoll driver: readiness from the kernel (through mio) turned into completions for the engine.
//!
//! Above: the engine, by the [`Driver`] contract. Below: `socket/`, whose direct calls move all bytes; epoll
//! only tells where to look.
//!
//! * Edge-triggered: an edge marks a socket readable and lists it; it stays listed until a receive finds
//!   nothing or its turn's budget is used, so that every listed socket gets its share (round robin).
//! * A receive on tcp that does not fill its room has emptied the socket: no second call is made to hear
//!   `EAGAIN`. On unix sockets a short receive may also mean a boundary between senders, so they are asked
//!   once more, in the next poll.
//! * Up to four hot sockets are tried without asking epoll first (`hot.rs`).
//! * Sockets that found no memory wait in a list of their own and are tried again by every poll.
//!
//! Files: `recv.rs` and `send.rs` are a stream's ways up and down, `datagram.rs` both ways of datagrams,
//! `accept.rs` listeners, `command.rs` what the engine asks for, `poll.rs` the turn, `socket.rs` the states.
//!
//! The kernel never holds memory of ours between calls, so that shutting down waits for nothing.

mod accept;
mod command;
mod datagram;
mod hot;
mod poll;
mod recv;
mod send;
mod socket;
mod sys;

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Waker;
use std::time::Duration;

use ringway_buf::{Chain, Instant, Table};

use self::hot::HotSet;
use self::socket::Socket;
use self::sys::Poller;
use crate::socket::datagram::{RecvBatch, SendBatch};
use crate::socket::{open, udp};
use crate::{
    Address, BufferBytes, Burst, Capabilities, Close, Driver, DriverKind, DriverStats, Fact,
    Incoming, ListenOptions, OpenError, Park, Scratch, SharedPools, Sink, SocketId, SocketOptions,
    StartError,
};

/// The longest wait of a loop of others while memory is lacking.
const STARVED_PARK: Duration = Duration::from_millis(1);

/// Settings of an [`Epoll`] driver.
#[derive(Clone, Copy, Debug)]
pub struct EpollConfig {
    /// Most sockets open at once, listeners included. Default 65,536; 1 to 2^24. Entries are made on use.
    pub sockets_max: usize,
}

impl Default for EpollConfig {
    fn default() -> Self {
        Self {
            sockets_max: 65_536,
        }
    }
}

/// A driver on epoll. Lives on one thread; only its [`waker`](Driver::waker) leaves it.
///
/// ```
/// # fn main() -> Result<(), ringway_driver::StartError> {
/// use std::rc::Rc;
/// use ringway_buf::{Pools, PoolsConfig};
/// use ringway_driver::{Driver, DriverKind, epoll::{Epoll, EpollConfig}};
///
/// let pools = Rc::new(Pools::new(PoolsConfig::default()));
/// let driver = Epoll::new(EpollConfig::default(), pools)?;
/// assert_eq!(driver.capabilities().kind, DriverKind::Epoll);
/// # Ok(()) }
/// ```
pub struct Epoll {
    sockets: Table<Socket>,
    lists: Lists,
    hot: HotSet,
    common: Common,
    poller: Poller,
    /// The waker was used while nobody was parked: the next park returns at once.
    woken: bool,
    capabilities: Capabilities,
}

/// What all sockets of a driver share.
#[derive(Debug)]
struct Common {
    pools: SharedPools,
    scratch: Scratch,
    stats: DriverStats,
    recv_batch: RecvBatch,
    send_batch: SendBatch,
    /// Turns in a row that looked and found nothing.
    quiet: u32,
}

/// Sockets with something to do. Each is in a list at most once, so the table's bound is theirs too.
#[derive(Debug, Default)]
struct Lists {
    /// To receive from (or accept on).
    ready: VecDeque<SocketId>,
    /// To send on.
    flush: VecDeque<SocketId>,
    /// Found no memory; tried again by the next poll.
    starved: Vec<SocketId>,
    /// Became usable within a command; `connected` is due.
    opened: Vec<SocketId>,
    /// Over; `closed` is due.
    doomed: Vec<SocketId>,
}

impl Epoll {
    /// Starts a driver that takes its memory from `pools`.
    ///
    /// # Errors
    /// [`StartError`] when the system has no descriptors left or `config` is out of range.
    pub fn new(config: EpollConfig, pools: SharedPools) -> Result<Self, StartError> {
        if !(1..=1 << 24).contains(&config.sockets_max) {
            return Err(StartError::Config {
                field: "sockets_max",
                range: "between 1 and 2^24",
            });
        }
        let poller = Poller::new()?;
        let capabilities = capabilities();
        let common = Common {
            pools,
            scratch: Scratch::new(),
            stats: DriverStats::default(),
            recv_batch: RecvBatch::new(),
            send_batch: SendBatch::new(capabilities.udp_gso),
            quiet: 0,
        };
        Ok(Self {
            sockets: Table::new(config.sockets_max),
            lists: Lists::default(),
            hot: HotSet::new(),
            common,
            poller,
            woken: false,
            capabilities,
        })
    }
}

fn capabilities() -> Capabilities {
    let (udp_gso, udp_gro) = (udp::probe_gso(), udp::probe_gro());
    let probed = |used, option: &str| {
        let verdict = if used { "accepted" } else { "refused" };
        format!("the kernel {verdict} {option} on a fresh socket")
    };
    let facts = vec![
        Fact {
            name: "epoll",
            used: true,
            why: "edge-triggered, through mio".to_owned(),
        },
        Fact {
            name: "hot sockets",
            used: true,
            why: "read directly, up to 4".to_owned(),
        },
        Fact {
            name: "udp gso",
            used: udp_gso,
            why: probed(udp_gso, "UDP_SEGMENT"),
        },
        Fact {
            name: "udp gro",
            used: udp_gro,
            why: probed(udp_gro, "UDP_GRO"),
        },
    ];
    Capabilities {
        kind: DriverKind::Epoll,
        facts,
        directed_recv: true,
        udp_gso,
        udp_gro,
    }
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoll")
            .field("sockets", &self.sockets.len())
            .field("hot", &self.hot.len())
            .field("stats", &self.common.stats)
            .finish_non_exhaustive()
    }
}

impl Driver for Epoll {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn stats(&self) -> &DriverStats {
        &self.common.stats
    }

    fn now(&self) -> Instant {
        Instant::monotonic()
    }

    fn waker(&self) -> Waker {
        self.poller.waker()
    }

    fn listen(
        &mut self,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<SocketId, OpenError> {
        self.on_listen(address, options)
    }

    fn connect(
        &mut self,
        address: &Address,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        self.on_connect(address, options)
    }

    fn bind(&mut self, address: &Address, options: &ListenOptions) -> Result<SocketId, OpenError> {
        self.on_bind(address, options)
    }

    fn adopt(
        &mut self,
        incoming: Incoming,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        self.on_adopt(incoming, options)
    }

    fn local_address(&self, socket: SocketId) -> Option<Address> {
        self.local_address_of(socket)
    }

    fn peer_address(&self, socket: SocketId) -> Option<Address> {
        self.peer_address_of(socket)
    }

    fn datagram_bytes_max(&self, socket: SocketId) -> Option<usize> {
        self.datagram_bytes_max_of(socket)
    }

    fn duplicate(&self, socket: SocketId) -> Option<std::os::fd::OwnedFd> {
        self.sockets.get(socket.0)?.fd.try_clone().ok()
    }

    fn buffer_bytes(&self, socket: SocketId) -> Option<BufferBytes> {
        open::buffer_bytes(self.sockets.get(socket.0)?.fd.as_fd())
    }

    fn read(&mut self, socket: SocketId, on: bool) {
        self.on_read(socket, on);
    }

    #[inline]
    fn send(&mut self, socket: SocketId, chain: &mut Chain) {
        self.on_send(socket, chain);
    }

    #[inline]
    fn send_to(&mut self, socket: SocketId, burst: Burst) {
        self.on_send_to(socket, burst);
    }

    fn close(&mut self, socket: SocketId, how: Close) {
        self.on_close(socket, how);
    }

    #[inline]
    fn flush<S: Sink>(&mut self, sink: &mut S) {
        self.flush_listed(sink);
        self.settle(sink);
    }

    #[inline]
    fn poll<S: Sink>(&mut self, park: Park, sink: &mut S) -> u32 {
        self.turn(park, sink)
    }

    fn event_fd(&mut self) -> std::io::Result<Option<BorrowedFd<'_>>> {
        Ok(Some(self.poller.fd()))
    }

    fn rest(&mut self) -> Park {
        let lists = &self.lists;
        let due = !(lists.ready.is_empty() && lists.flush.is_empty());
        if due || self.woken || !(lists.opened.is_empty() && lists.doomed.is_empty()) {
            return Park::No;
        }
        // Memory may be freed by another thread, which tells nobody.
        let lacks = !lists.starved.is_empty();
        Park::Until(lacks.then(|| Instant::monotonic() + STARVED_PARK))
    }

    fn shutdown(&mut self, _limit: Duration) -> bool {
        for id in self.sockets.ids() {
            if let Some(socket) = self.sockets.remove(id) {
                self.poller.unwatch(socket.fd.as_fd());
            }
        }
        self.lists = Lists::default();
        self.hot.clear();
        self.common.recv_batch.release(&self.common.pools);
        true
    }
}
