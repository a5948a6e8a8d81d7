//! What the engine asks of a driver.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;
use std::{fmt, io};

use ringway_buf::{Chain, Id, Instant, Lease, Pools};

use crate::{Address, DriverStats, Sink};

/// A socket of one driver. Generation-checked: an id of a closed socket is ignored, never mistaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub Id);

/// Which driver it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DriverKind {
    /// io_uring, with direct system calls for hot sockets.
    Uring,
    /// epoll through mio.
    Epoll,
    /// Virtual time and a seeded network.
    Sim,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
            Self::Sim => "sim",
        })
    }
}

/// What a driver found out about its kernel when it started; the CLI prints it.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// Which driver.
    pub kind: DriverKind,
    /// Named facts in the order they were found, e.g. `("multishot recv", true, "self-test passed")`.
    pub facts: Vec<Fact>,
    /// Large messages can be received straight into their final place.
    pub directed_recv: bool,
    /// Several datagrams of one size leave in one system call.
    pub udp_gso: bool,
    /// Several datagrams of one sender arrive in one system call.
    pub udp_gro: bool,
}

/// One probed feature.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Name of the feature.
    pub name: &'static str,
    /// Whether the driver uses it.
    pub used: bool,
    /// Why, or why not.
    pub why: String,
}

/// Options of a stream or datagram socket.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Kernel send buffer in bytes (`SO_SNDBUF`); `None` leaves the kernel's auto-tuning.
    pub send_buffer_bytes: Option<u32>,
    /// Kernel receive buffer in bytes (`SO_RCVBUF`); `None` leaves the kernel's auto-tuning.
    pub recv_buffer_bytes: Option<u32>,
    /// Sets and reports ECN bits on datagrams.
    pub ecn: bool,
    /// Local address of a datagram socket or of an outgoing connection; `None` lets the kernel choose.
    pub local: Option<std::net::SocketAddr>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            send_buffer_bytes: None,
            recv_buffer_bytes: None,
            ecn: true,
            local: None,
        }
    }
}

/// What the kernel grants to a socket's buffers, in the unit of [`SocketOptions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferBytes {
    /// Bytes that may wait for sending.
    pub send: u32,
    /// Bytes that may wait to be received.
    pub recv: u32,
}

/// How the kernel spreads the datagrams of one port among the sockets that share it: by a byte of each datagram,
/// modulo the number of sockets, so that a peer's address may change. Sockets count in the order of their binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steer {
    /// Which of them this socket is.
    pub index: u8,
    /// How many there will be, at least 1.
    pub count: u8,
    /// The first rule whose `mask` makes `value` of the first byte says which byte counts. Without one, or where the
    /// datagram is shorter, it is the first socket's.
    pub rules: &'static [SteerRule],
}

/// Says which byte of a datagram counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteerRule {
    /// Bits of the first byte that are looked at.
    pub mask: u8,
    /// What they have to be.
    pub value: u8,
    /// Where the byte lies.
    pub at: u8,
}

/// Options of a listener.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Length of the kernel's accept queue.
    pub backlog: u32,
    /// `SO_REUSEPORT`: each engine has its own listener on the same port. Closing one resets what still waits
    /// in its accept queue, and unix sockets lack it; the default is one acceptor that hands sockets over.
    pub reuse_port: bool,
    /// With `reuse_port`, for datagrams: which of the sockets of the port gets which. Default: by a hash of the
    /// addresses.
    pub steer: Option<Steer>,
    /// For `[::]`: also accept IPv4 (`IPV6_V6ONLY` off).
    pub dual_stack: bool,
    /// For unix paths: remove a stale socket file that nobody listens on.
    pub unlink_stale: bool,
    /// Options of each accepted (or, for UDP, of the bound) socket.
    pub socket: SocketOptions,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 1024,
            reuse_port: false,
            steer: None,
            dual_stack: true,
            unlink_stale: true,
            socket: SocketOptions::default(),
        }
    }
}

/// A connection that somebody else made: accepted by this or another engine, or opened by the user.
#[derive(Debug)]
pub enum Incoming {
    /// A connected stream or datagram socket.
    Fd(OwnedFd),
    /// One end of a simulated connection.
    Virtual(u64),
}

/// How to close a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Sends what is queued, then FIN, reads and discards until the peer's FIN, then closes. The driver sets
    /// no time limit: the engine follows with [`Close::Abort`] when its linger time is over.
    Graceful,
    /// Drops what is queued and resets the connection.
    Abort,
}

/// Whether [`Driver::poll`] may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Park {
    /// Never: look at what is there and return.
    No,
    /// Sleep until something happens or this instant is reached; `None` means no deadline.
    Until(Option<Instant>),
}

/// Datagrams for one peer: `lease` holds segments of `segment_bytes` each, the last may be shorter.
#[derive(Debug)]
pub struct Burst {
    /// The payloads, one after the other.
    pub lease: Lease,
    /// Size of each datagram but the last, in bytes. Zero with an empty lease is one empty datagram.
    pub segment_bytes: u32,
    /// Number of datagrams.
    pub count: u32,
    /// Where to; `None` on a connected socket.
    pub peer: Option<std::net::SocketAddr>,
    /// The local address to leave from, of the family of `peer`; `None` leaves the choice to the route.
    pub source: Option<std::net::IpAddr>,
    /// ECN bits of the IP headers, 0 to 3; `None` means those of the socket.
    pub ecn: Option<u8>,
}

/// Why a socket could not be opened. Each variant's text names cause and fix.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The driver has its configured maximum of sockets.
    TooMany {
        /// That maximum.
        max: usize,
    },
    /// The system refused.
    System {
        /// The system call that failed.
        call: &'static str,
        /// Which address it was about.
        address: Option<Address>,
        /// What it said.
        error: io::Error,
    },
    /// This driver cannot carry that address or object.
    Unsupported {
        /// What is missing.
        what: &'static str,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { max } => write!(
                f,
                "this engine already holds its maximum of {max} sockets; raise `connections_max`"
            ),
            Self::System {
                call,
                address,
                error,
            } => {
                write!(f, "{call}")?;
                if let Some(address) = address {
                    write!(f, " on {address}")?;
                }
                write!(f, ": {error}")?;
                match error.raw_os_error() {
                    Some(libc::EADDRINUSE) => f.write_str(
                        "; another process listens there: stop it or choose another port",
                    ),
                    Some(libc::EMFILE) => {
                        f.write_str("; this process is out of descriptors: raise `ulimit -n`")
                    }
                    Some(libc::EACCES) => {
                        f.write_str("; ports below 1024 and protected paths need privileges")
                    }
                    Some(libc::ENOENT) => f.write_str(
                        "; to listen, create the folder first; to connect, start the server first",
                    ),
                    Some(libc::EADDRNOTAVAIL) => {
                        f.write_str("; no interface of this machine has that address")
                    }
                    _ => Ok(()),
                }
            }
            Self::Unsupported { what } => write!(f, "not supported by this driver: {what}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// One kernel interface (or the simulator), driven by one engine on one thread.
///
/// Contract, checked for every driver by the same suite:
/// * commands never call the sink; events come only out of [`flush`](Self::flush) and [`poll`](Self::poll);
/// * every socket id that a command returned, or that `accepted` + [`adopt`](Self::adopt) made, ends with
///   exactly one `closed`, which is its last event;
/// * commands with a stale id do nothing;
/// * bytes of one stream arrive in order and leave in order; at most one send operation per stream is in
///   flight, later chains queue behind it and coalesce;
/// * what the sink does not consume is shown again, contiguously, in front of later bytes;
/// * memory that the kernel may touch is owned by the driver until the operation's last completion.
///
/// The engine bounds what is queued: a driver's send queues need no limit of their own.
pub trait Driver {
    /// What was found at start-up.
    fn capabilities(&self) -> &Capabilities;

    /// Counters of this driver; plain cells, read between turns.
    fn stats(&self) -> &DriverStats;

    /// Reads the clock: `CLOCK_MONOTONIC`, or virtual time.
    fn now(&self) -> Instant;

    /// A waker that ends a parked [`poll`](Self::poll) from any thread (one `eventfd` write). A wake that
    /// comes while nobody is parked makes the next park return at once.
    fn waker(&self) -> Waker;

    /// Opens a stream listener (tcp, unix). It accepts until [`read`](Self::read) switches it off.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing stays open.
    fn listen(&mut self, address: &Address, options: &ListenOptions)
    -> Result<SocketId, OpenError>;

    /// Starts connecting a stream (tcp, unix) or opens a connected datagram socket (udp).
    ///
    /// Ends in `connected` or `closed`; the time limit is the engine's, by [`close`](Self::close).
    ///
    /// # Errors
    /// What fails before anything is under way.
    fn connect(
        &mut self,
        address: &Address,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError>;

    /// Opens an unconnected datagram socket bound to a `udp` address.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn bind(&mut self, address: &Address, options: &ListenOptions) -> Result<SocketId, OpenError>;

    /// Takes over a connected socket. Sets it non-blocking and `TCP_NODELAY`; it starts switched off, call
    /// [`read`](Self::read).
    ///
    /// # Errors
    /// See [`OpenError`]; the socket is closed then.
    fn adopt(&mut self, incoming: Incoming, options: &SocketOptions)
    -> Result<SocketId, OpenError>;

    /// The address the socket is bound to, with the port that the kernel chose.
    fn local_address(&self, socket: SocketId) -> Option<Address>;

    /// The peer's address, once connected.
    fn peer_address(&self, socket: SocketId) -> Option<Address>;

    /// The largest datagram payload this connected socket's path is known to carry, in bytes.
    fn datagram_bytes_max(&self, socket: SocketId) -> Option<usize>;

    /// What the kernel granted to this socket's buffers: it caps what was asked for (`net.core.rmem_max` and
    /// `wmem_max`) without a word. Two system calls. `None` where there is no kernel.
    fn buffer_bytes(&self, _socket: SocketId) -> Option<BufferBytes> {
        None
    }

    /// Another descriptor of a socket, which keeps its place among those of its port. `None` where there is no kernel.
    fn duplicate(&self, _socket: SocketId) -> Option<OwnedFd> {
        None
    }

    /// Switches receiving (or, for a listener, accepting) on or off. Sockets start switched off, listeners on.
    ///
    /// Off means: after this call at most what already was received in this turn is shown; nothing more is
    /// read from the kernel, so that TCP's window closes.
    fn read(&mut self, socket: SocketId, on: bool);

    /// Queues all of `chain` (which is left empty) to be sent by the next [`flush`](Self::flush).
    fn send(&mut self, socket: SocketId, chain: &mut Chain);

    /// Queues datagrams to be sent by the next [`flush`](Self::flush).
    fn send_to(&mut self, socket: SocketId, burst: Burst);

    /// Closes a socket; `closed` follows from a later [`poll`](Self::poll).
    fn close(&mut self, socket: SocketId, how: Close);

    /// Starts what was queued since the last flush, and reports what completed at once (`sent`, `closed`).
    fn flush<S: Sink>(&mut self, sink: &mut S);

    /// Looks for events, hands them to `sink`, and returns how many there were (bounded per call).
    ///
    /// With [`Park::Until`] it may sleep, but only when nothing was found first.
    fn poll<S: Sink>(&mut self, park: Park, sink: &mut S) -> u32;

    /// A descriptor that becomes readable when [`poll`](Self::poll) would find something, for loops of others; `None`
    /// where there is no kernel. The first call makes it, and it lives as long as the driver. It tells of what comes
    /// after a [`rest`](Self::rest) that allowed to sleep.
    ///
    /// # Errors
    /// What the system says: no descriptors are left.
    fn event_fd(&mut self) -> io::Result<Option<BorrowedFd<'_>>> {
        Ok(None)
    }

    /// The descriptor forgets what it told. Before the last [`poll`](Self::poll) ahead of a sleep, whose [`Park`] has a
    /// deadline that is past: it arms everything, and does not sleep.
    fn hush(&mut self) {}

    /// After that poll: how long the owner may wait for the descriptor, if at all.
    fn rest(&mut self) -> Park {
        Park::No
    }

    /// Closes everything, waits up to `limit` for operations in flight, and frees what they held.
    ///
    /// No `closed` events are reported. Returns `true` when nothing is left in flight; otherwise what the
    /// kernel still may touch is leaked, never freed. Dropping a driver does this with a limit of 2 s.
    fn shutdown(&mut self, limit: Duration) -> bool;
}

/// Pools are shared by an engine and its driver, on one thread.
pub type SharedPools = Rc<Pools>;
