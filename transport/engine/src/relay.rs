//! A proxy for datagrams that makes the network between a client and a server bad, for programs that are not ours to change.
//!
//! It stands beside the engine, not in it: it knows datagrams only, so that it serves `udp://`, `rudp://`, `quic://` and every
//! foreign protocol over UDP alike. Each client gets a socket towards the target, as a translator of addresses gives it a port;
//! every way is [impaired](ringway_sim::Impair) by the one model. One thread turns it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use ringway_buf::{Instant, Lease, Pools, PoolsConfig, RecvBuffer};
use ringway_driver::{
    AcceptFault, Address, Burst, Capabilities, Close, CloseCause, DatagramMeta, Driver, Incoming,
    ListenOptions, Park, Sink, SocketId, SocketOptions, Want,
};
use ringway_sim::{FaultCounts, PathConfig};

use crate::config::{DriverChoice, Limits};
use crate::drivers::{AnyDriver, with_driver};
use crate::{OpenError, StartError};

/// Receive and send buffers of the kernel, in bytes: bursts arrive faster than turns pass.
const BUFFER_BYTES: u32 = 4 << 20;
/// Clients that are served at most, whatever is wished.
const CLIENTS_MAX: usize = 16 * 1024;
/// How often clients are looked through for those that are gone.
const SWEEP: Duration = Duration::from_secs(1);

/// Settings of a [`Relay`].
#[derive(Clone, Copy, Debug)]
pub struct RelayConfig {
    /// What both ways of each client are like.
    pub path: PathConfig,
    /// Seed of everything random.
    pub seed: u64,
    /// Which driver.
    pub driver: DriverChoice,
    /// Clients that are served at a time; datagrams of others are dropped and counted. At most 16,384.
    pub clients_max: usize,
    /// How long a client may be silent, in both directions, before it is forgotten.
    pub idle: Duration,
}

impl Default for RelayConfig {
    /// A perfect network, 1,024 clients, two minutes.
    fn default() -> Self {
        Self {
            path: PathConfig::default(),
            seed: 0,
            driver: DriverChoice::Auto,
            clients_max: 1024,
            idle: Duration::from_secs(120),
        }
    }
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams that came in.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a [`Relay`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayCounts {
    /// From clients.
    pub from_clients: Traffic,
    /// From the target.
    pub from_target: Traffic,
    /// Clients that were served.
    pub clients: u64,
    /// Datagrams of clients for whom there was no room.
    pub refused: u64,
    /// Datagrams for which there was no memory, or no socket.
    pub dropped: u64,
}

/// A proxy for datagrams that makes the network between clients and a server bad.
///
/// Each client gets a socket towards the target, as a translator of addresses gives it a port; both of its ways go through
/// the one model. It knows datagrams only, of every protocol. One thread turns it.
#[derive(Debug)]
pub struct Relay {
    driver: AnyDriver,
    listener: SocketId,
    target: SocketAddr,
    clients_max: usize,
    idle: Duration,
    next_sweep: Instant,
    clients: HashMap<SocketAddr, Client>,
    ear: Ear,
}

#[derive(Debug)]
struct Client {
    socket: SocketId,
    heard: Instant,
}

/// Datagrams that arrived, until the poll is over: a sink may not call its driver.
#[derive(Debug)]
struct Ear {
    pools: Rc<Pools>,
    listener: SocketId,
    arrived: Vec<Arrived>,
    /// Which client a socket towards the target is for.
    owners: HashMap<SocketId, SocketAddr>,
    /// Clients whose socket has ended by itself.
    cut: Vec<SocketAddr>,
    counts: RelayCounts,
}

#[derive(Debug)]
struct Arrived {
    from_client: bool,
    client: SocketAddr,
    meta: DatagramMeta,
    count: u32,
    lease: Lease,
}

impl Relay {
    /// Listens at `address` for what it sends on to `target`.
    ///
    /// # Errors
    /// Why no driver could be started, why the address can't be had, or why nothing can be sent to `target` from here;
    /// nobody has to listen there yet.
    pub fn open(
        config: &RelayConfig,
        address: SocketAddr,
        target: SocketAddr,
    ) -> Result<Self, RelayError> {
        let pools = Rc::new(Pools::new(PoolsConfig::default()));
        let clients_max = config.clients_max.min(CLIENTS_MAX);
        let limits = Limits {
            // A client's socket, one that is being closed in its stead, and the listener.
            connections_max: 2 * clients_max + 1,
            ..Limits::default()
        };
        let (driver, _) = AnyDriver::open(config.driver, &limits, Rc::clone(&pools))
            .map_err(RelayError::Start)?;
        let mut driver = driver.impaired(config.path, config.seed);
        let options = ListenOptions {
            socket: socket_options(),
            ..ListenOptions::default()
        };
        let bound = with_driver!(&mut driver, driver => {
            driver.bind(&Address::Udp(address), &options)
        });
        let listener = bound.map_err(|error| RelayError::Open(OpenError::Socket(error)))?;
        let now = with_driver!(&mut driver, driver => {
            // Clients' sockets are made later, when nobody can be told why that fails.
            let tried = driver.connect(&Address::Udp(target), &socket_options());
            let tried = tried.map_err(|error| RelayError::Target(OpenError::Socket(error)))?;
            driver.close(tried, Close::Abort);
            driver.read(listener, true);
            driver.now()
        });
        Ok(Self {
            driver,
            listener,
            target,
            clients_max,
            idle: config.idle,
            next_sweep: now + SWEEP,
            clients: HashMap::new(),
            ear: Ear {
                pools,
                listener,
                arrived: Vec::new(),
                owners: HashMap::new(),
                cut: Vec::new(),
                counts: RelayCounts::default(),
            },
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        let address = with_driver!(&self.driver, driver => driver.local_address(self.listener));
        address.and_then(|address| address.socket_addr())
    }

    /// What the driver found out about its kernel.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        with_driver!(&self.driver, driver => driver.capabilities())
    }

    /// Ends a [`turn`](Self::turn) that sleeps, from any thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        with_driver!(&self.driver, driver => driver.waker())
    }

    /// What it has done.
    #[must_use]
    pub fn counts(&self) -> RelayCounts {
        self.ear.counts
    }

    /// How often each fault fired, in both directions together.
    #[must_use]
    pub fn fault_counts(&self) -> FaultCounts {
        self.driver.fault_counts().unwrap_or_default()
    }

    /// Sends on what has arrived. Sleeps when there is nothing to do, for at most `limit`.
    pub fn turn(&mut self, limit: Duration) {
        let ear = &mut self.ear;
        let now = with_driver!(&mut self.driver, driver => {
            let now = driver.now();
            let until = self.next_sweep.min(now + limit);
            driver.poll(Park::Until(Some(until)), ear);
            driver.now()
        });
        for client in self.ear.cut.drain(..) {
            // Its next datagram makes another socket.
            self.clients.remove(&client);
        }
        let mut arrived = std::mem::take(&mut self.ear.arrived);
        for one in arrived.drain(..) {
            self.send_on(one, now);
        }
        self.ear.arrived = arrived;
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.sweep(now);
        }
        let ear = &mut self.ear;
        with_driver!(&mut self.driver, driver => driver.flush(ear));
    }

    fn send_on(&mut self, arrived: Arrived, now: Instant) {
        let Arrived {
            from_client,
            client,
            meta,
            count,
            lease,
        } = arrived;
        let socket = if from_client {
            match self.towards_target(client, now) {
                Ok(socket) => socket,
                Err(why) => {
                    *why += u64::from(count);
                    return;
                }
            }
        } else {
            if let Some(known) = self.clients.get_mut(&client) {
                known.heard = now;
            }
            self.listener
        };
        let burst = Burst {
            lease,
            segment_bytes: meta.segment_bytes,
            count,
            peer: (!from_client).then_some(client),
            source: None,
            ecn: Some(meta.ecn),
        };
        with_driver!(&mut self.driver, driver => driver.send_to(socket, burst));
    }

    /// The socket of a client, made if there is room; else what counts the datagrams that have none.
    fn towards_target(&mut self, client: SocketAddr, now: Instant) -> Result<SocketId, &mut u64> {
        if let Some(known) = self.clients.get_mut(&client) {
            known.heard = now;
            return Ok(known.socket);
        }
        if self.clients.len() >= self.clients_max {
            return Err(&mut self.ear.counts.refused);
        }
        let target = Address::Udp(self.target);
        let made = with_driver!(&mut self.driver, driver => {
            let made = driver.connect(&target, &socket_options());
            if let Ok(socket) = made {
                driver.read(socket, true);
            }
            made
        });
        let Ok(socket) = made else {
            return Err(&mut self.ear.counts.dropped);
        };
        self.ear.counts.clients += 1;
        self.ear.owners.insert(socket, client);
        self.clients.insert(client, Client { socket, heard: now });
        Ok(socket)
    }

    /// Forgets who has been silent for too long.
    fn sweep(&mut self, now: Instant) {
        let (idle, driver, ear) = (self.idle, &mut self.driver, &mut self.ear);
        self.clients.retain(|_, client| {
            let stays = now.saturating_since(client.heard) < idle;
            if !stays {
                ear.owners.remove(&client.socket);
                with_driver!(driver, driver => driver.close(client.socket, Close::Graceful));
            }
            stays
        });
    }
}

fn socket_options() -> SocketOptions {
    SocketOptions {
        send_buffer_bytes: Some(BUFFER_BYTES),
        recv_buffer_bytes: Some(BUFFER_BYTES),
        ..SocketOptions::default()
    }
}

/// Why a relay can't be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum RelayError {
    /// No driver could be started.
    Start(StartError),
    /// The address can't be listened on.
    Open(OpenError),
    /// Nothing can be sent to the target from here.
    Target(OpenError),
}

impl std::fmt::Display for RelayError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::Open(error) | Self::Target(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RelayError {}

impl Sink for Ear {
    fn connected(&mut self, _: SocketId) {}

    fn accepted(&mut self, _: SocketId, _: Incoming, _: Option<Address>) {}

    fn accept_failed(&mut self, _: SocketId, _: AcceptFault) {}

    fn received(&mut self, _: SocketId, _: &mut RecvBuffer) -> Want {
        Want::Nothing
    }

    fn large(&mut self, _: SocketId, _: RecvBuffer) -> Want {
        Want::Nothing
    }

    fn datagrams(&mut self, socket: SocketId, buffer: &mut RecvBuffer, meta: DatagramMeta) {
        let len = buffer.len();
        let count = match meta.segment_bytes {
            0 => 1,
            segment => u32::try_from(len).unwrap_or(u32::MAX).div_ceil(segment),
        };
        let from_client = self.listener == socket;
        let client = if from_client {
            Some(meta.peer)
        } else {
            self.owners.get(&socket).copied()
        };
        let way = if from_client {
            &mut self.counts.from_clients
        } else {
            &mut self.counts.from_target
        };
        way.datagrams += u64::from(count);
        way.bytes += len as u64;
        let lease = self.pools.lease(len).filter(|_| !meta.truncated);
        match (client, lease) {
            (Some(client), Some(mut lease)) => {
                lease.reset(0);
                if let Some(room) = lease.append(len) {
                    room.copy_from_slice(buffer.bytes());
                    self.arrived.push(Arrived {
                        from_client,
                        client,
                        meta,
                        count,
                        lease,
                    });
                }
            }
            _ => self.counts.dropped += u64::from(count),
        }
        buffer.consume(len);
    }

    fn sent(&mut self, _: SocketId, _: usize) {}

    fn datagram_too_long(&mut self, _: SocketId, _: Option<SocketAddr>, _: usize, _: usize) {}

    fn ended(&mut self, _: SocketId) {}

    fn closed(&mut self, socket: SocketId, _: CloseCause) {
        self.cut.extend(self.owners.remove(&socket));
    }
}
