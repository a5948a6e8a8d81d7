//! The io_uring driver: ring and direct system calls, whichever is cheaper in this turn.
//!
//! Below the engine, above the kernel. A message comes up through `recv.rs` (`datagram.rs`) and goes down
//! through `send.rs`; `park.rs` holds the turn ([`Driver::poll`]) that ties them together.
//!
//! * Many quiet sockets wait in multishot receives and share one ring of 16 KiB slots (`bufring.rs`); a few
//!   hot ones are read directly (`hot.rs`); a large message is received into its final place.
//! * One or two pending sends leave by direct calls, more as one batch of entries.
//! * Every operation in flight lives in a slab that owns what the kernel may touch (`ops.rs`); a socket's
//!   descriptor is closed when its last operation completed (`close.rs`).
//! * All of it talks to the kernel through the [`Ring`] trait, where tests alter completions.
//!
//! Needs Linux 6.1 (`DEFER_TASKRUN`); `start.rs` finds out, `selftest.rs` proves it under the seccomp profile
//! that is in force. One driver belongs to the thread that made it.

mod accept;
mod bufring;
mod close;
mod connect;
mod datagram;
mod hot;
mod ops;
mod park;
mod recv;
mod ring;
mod selftest;
mod send;
mod socket;
mod start;
mod starve;
mod sys;
mod wake;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::task::Waker;
use std::time::Duration;

use ringway_buf::{Chain, Instant, Table};

pub use ring::{Completion, Entry, KernelRing, Ring, RingShape};

use self::bufring::Slots;
use self::hot::Hot;
use self::ops::Flight;
use self::socket::Socket;
use self::wake::{Beacon, Wakeup};
use crate::socket::datagram::{RecvBatch, SendBatch};
use crate::socket::{open, udp};
use crate::{
    Address, BufferBytes, Burst, Capabilities, Close, Driver, DriverStats, Incoming, ListenOptions,
    OpenError, Park, Scratch, SharedPools, Sink, SocketId, SocketOptions, StartError,
};

/// Shape of a [`Uring`]. All sizes are checked when it starts.
#[derive(Clone, Copy, Debug)]
pub struct UringConfig {
    /// Entries of the submission queue, 1 to 4096; more at once cost one more system call each time it fills.
    pub submissions: u32,
    /// Entries of the completion queue, 2 to 65536 and no fewer than `submissions`. Too few cost re-armed
    /// receives, never data.
    pub completions: u32,
    /// Receive slots of 16 KiB at most, a power of two from 1 to 32768. The driver starts with 64 and doubles
    /// when they run out; they count against the pools' budget.
    pub slots_max: u16,
    /// Sockets at most, listeners and datagram sockets included.
    pub sockets_max: usize,
}

impl Default for UringConfig {
    fn default() -> Self {
        Self {
            submissions: 256,
            completions: 4096,
            slots_max: 1024,
            sockets_max: 64 * 1024,
        }
    }
}

/// The io_uring driver. Lives on one thread; only its [`waker`](Driver::waker) leaves it. See the
/// [module](self) for how it works.
///
/// ```
/// use std::rc::Rc;
/// use ringway_buf::{Pools, PoolsConfig};
/// use ringway_driver::uring::{Uring, UringConfig};
/// use ringway_driver::{Driver, DriverKind};
///
/// let pools = Rc::new(Pools::new(PoolsConfig::default()));
/// match Uring::new(UringConfig::default(), pools) {
///     Ok(driver) => assert_eq!(driver.capabilities().kind, DriverKind::Uring),
///     // A container's seccomp profile, perhaps: the text names cause and fix.
///     Err(error) => println!("{error}"),
/// }
/// ```
#[derive(Debug)]
pub struct Uring<R: Ring = KernelRing> {
    sockets: Table<Socket>,
    flight: Flight<R>,
    /// `None` after shutting down.
    slots: Option<Slots>,
    hot: Hot,
    /// Sockets that need a look: a command came, or something ended.
    noted: VecDeque<SocketId>,
    /// Sockets with something to send and no send in flight.
    outbox: VecDeque<SocketId>,
    /// Sockets whose receive found no slot, first come first served.
    starved: VecDeque<SocketId>,
    /// Sockets whose inlet found no memory.
    lean: VecDeque<SocketId>,
    /// Memory was lacking in this turn.
    short: bool,
    /// Turns in a row that left the ring's deferred work alone because a hot socket had data.
    skipped: u32,
    /// Turns in a row that looked and found nothing.
    quiet: u32,
    scratch: Scratch,
    batch: RecvBatch,
    sender: SendBatch,
    wakeup: Wakeup,
    /// Tells loops of others; made when one asks.
    beacon: Option<Beacon>,
    /// When the alarm in flight goes off.
    alarm: Option<Instant>,
    pools: SharedPools,
    capabilities: Capabilities,
    stats: DriverStats,
    down: bool,
}

impl Uring {
    /// Starts a driver on the calling thread, after a self-test.
    ///
    /// # Errors
    /// [`StartError`] names cause and fix: switched off by sysctl or seccomp, no memory lock, kernel too old.
    pub fn new(config: UringConfig, pools: SharedPools) -> Result<Self, StartError> {
        let opened = start::open(&config, &pools)?;
        Self::assemble(opened, config, pools)
    }
}

impl<R: Ring> Driver for Uring<R> {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn stats(&self) -> &DriverStats {
        &self.stats
    }

    fn now(&self) -> Instant {
        Instant::monotonic()
    }

    fn waker(&self) -> Waker {
        self.wakeup.waker()
    }

    fn listen(
        &mut self,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<SocketId, OpenError> {
        self.open_listener(address, options)
    }

    fn connect(
        &mut self,
        address: &Address,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        self.open_connection(address, options)
    }

    fn bind(&mut self, address: &Address, options: &ListenOptions) -> Result<SocketId, OpenError> {
        self.open_datagram(address, options)
    }

    fn adopt(
        &mut self,
        incoming: Incoming,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        self.take_over(incoming, options)
    }

    fn local_address(&self, socket: SocketId) -> Option<Address> {
        self.sockets.get(socket.0)?.local.clone()
    }

    fn peer_address(&self, socket: SocketId) -> Option<Address> {
        self.sockets.get(socket.0)?.peer.clone()
    }

    fn datagram_bytes_max(&self, socket: SocketId) -> Option<usize> {
        let socket = self.sockets.get(socket.0)?;
        let peer = socket.connected_datagram()?;
        udp::payload_bytes_max(socket.fd(), peer)
    }

    fn duplicate(&self, socket: SocketId) -> Option<std::os::fd::OwnedFd> {
        self.sockets.get(socket.0)?.fd().try_clone_to_owned().ok()
    }

    fn buffer_bytes(&self, socket: SocketId) -> Option<BufferBytes> {
        open::buffer_bytes(self.sockets.get(socket.0)?.fd())
    }

    fn read(&mut self, socket: SocketId, on: bool) {
        self.switch(socket, on);
    }

    fn send(&mut self, socket: SocketId, chain: &mut Chain) {
        self.queue_chain(socket, chain);
    }

    fn send_to(&mut self, socket: SocketId, burst: Burst) {
        self.queue_burst(socket, burst);
    }

    fn close(&mut self, socket: SocketId, how: Close) {
        self.begin_close(socket, how);
    }

    fn flush<S: Sink>(&mut self, sink: &mut S) {
        self.flush_outbox(sink);
    }

    fn poll<S: Sink>(&mut self, park: Park, sink: &mut S) -> u32 {
        self.turn(park, sink)
    }

    fn event_fd(&mut self) -> std::io::Result<Option<BorrowedFd<'_>>> {
        if self.beacon.is_none() {
            let beacon = Beacon::new()?;
            self.flight.ring.tell(beacon.raw_fd())?;
            self.beacon = Some(beacon);
        }
        Ok(self.beacon.as_ref().map(Beacon::fd))
    }

    fn hush(&mut self) {
        if let Some(beacon) = &self.beacon {
            beacon.hush();
        }
    }

    fn rest(&mut self) -> Park {
        self.rests()
    }

    fn shutdown(&mut self, limit: Duration) -> bool {
        self.shut_down(limit)
    }
}

impl<R: Ring> Uring<R> {
    /// Puts a socket into the queue of those that need a look.
    fn note(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(id.0)
            && !socket.noted
        {
            socket.noted = true;
            self.noted.push_back(id);
        }
    }

    /// Adds a socket to the table.
    fn admit(&mut self, socket: Socket) -> Result<SocketId, OpenError> {
        let max = self.sockets.max();
        match self.sockets.insert(socket) {
            Ok(id) => Ok(SocketId(id)),
            Err(_closed) => Err(OpenError::TooMany { max }),
        }
    }
}

impl<R: Ring> Drop for Uring<R> {
    fn drop(&mut self) {
        self.shut_down(close::DROP_LIMIT);
    }
}
