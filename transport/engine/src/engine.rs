//! The engine: one per thread, turned by its owner.

use core::time::Duration;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use ringway_buf::{Budget, Instant, Pools, mpsc};
use ringway_driver::socket::beacon::Beacon;
use ringway_driver::{Address, Capabilities, Close, CloseCause, Driver, Incoming, ListenOptions};
use ringway_proto::Role;

use crate::connection::{Carrier, Phase};
use crate::counters::Counter;
use crate::datagram::Datagrams;
use crate::drivers::{AnyDriver, Chosen, with_driver};
use crate::event::{Event, Events};
use crate::handle::Handle;
use crate::hub::{Hub, Settings};
use crate::idle::{Rest, Resting};
use crate::listener::Source;
use crate::packet::{EndpointId, Protocol};
use crate::remote::Shared;
use crate::sockets::Owner;
use crate::turn::{Inlets, arm, pass, sleep};
use crate::{
    CloseReason, Config, ConnectionId, Context, Handler, ListenerId, OpenError, StartError, Stats,
};

/// Empty turns between two looks at the clock while `wait` spins with a time limit.
const SPINS_PER_CLOCK: u32 = 16;
/// How often an engine that sleeps returns cold memory to the kernel.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);
/// How long dropping an engine waits for operations that the kernel still holds.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// One thread's engine: sockets, connections, timers and memory, turned by its owner.
///
/// `!Send`. Its memory is mapped on first use and capped by `budget_bytes`. Dropping it closes all
/// connections at once, tells the peers of packet transports in one last packet that may get lost (of the others the
/// kernel tells them), and waits (at most 2 s) for operations that the kernel still holds.
///
/// ```
/// use ringway_engine::{Config, Context, Handler, Message};
///
/// struct Echo;
/// impl Handler for Echo {
///     fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
///         // A full queue drops the answer here; a real server would pause the connection.
///         let _ = cx.reply(&message, message.body());
///     }
/// }
///
/// let mut engine = Config::default().build()?;
/// engine.listen("tcp://127.0.0.1:0")?;
/// engine.turn(&mut Echo);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Engine {
    hub: Hub,
    inlets: Inlets,
    driver: AnyDriver,
    fallback: Option<StartError>,
    resting: Resting,
    /// For loops of others; made when one asks.
    beacon: Option<Beacon>,
}

impl Engine {
    /// Settings with their defaults.
    #[must_use]
    pub fn builder() -> Config {
        Config::default()
    }

    pub(crate) fn start(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let pools = Rc::new(Pools::new(config.pools()));
        let chosen = AnyDriver::open(config.driver, &config.limits, Rc::clone(&pools))?;
        let chosen = impaired(&config, chosen);
        Ok(Self::assemble(config, chosen, pools))
    }

    /// How often each fault of [`Config::impair`] fired; `None` without it.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn fault_counts(&self) -> Option<ringway_sim::FaultCounts> {
        self.driver.fault_counts()
    }

    /// Starts an engine on a simulated host.
    ///
    /// # Errors
    /// A [`ConfigError`](crate::ConfigError).
    #[cfg(feature = "sim")]
    pub fn simulated(
        config: Config,
        net: &ringway_sim::SimNet,
        name: &str,
    ) -> Result<Self, StartError> {
        config.check()?;
        let pools = Rc::new(Pools::new(config.pools()));
        let driver = AnyDriver::Sim(Box::new(net.node(name, Rc::clone(&pools))));
        Ok(Self::assemble(config, (driver, None), pools))
    }

    fn assemble(config: Config, chosen: Chosen, pools: Rc<Pools>) -> Self {
        let (driver, fallback) = chosen;
        let (commands_in, commands) = mpsc::channel(config.limits.commands_max);
        let (links_in, links) = mpsc::channel(config.limits.connections_max);
        let waker = with_driver!(&driver, driver => driver.waker());
        let shared = Arc::new(Shared::new(commands_in, links_in, waker));
        let resting = Resting::new(
            config.idle,
            config.spin.unwrap_or(crate::config::SPIN_DEFAULT),
        );
        let seed = config.seed.unwrap_or_else(system_seed);
        let settings = Settings {
            limits: config.limits,
            rudp: config.rudp(),
            quic: config.quic_settings(),
            stream: config.stream,
            times: config.times,
            socket: config.socket,
        };
        let events = Events::new(config.observer);
        let mut hub = Hub::new(settings, pools, events, config.filter, shared, seed);
        hub.now = with_driver!(&driver, driver => driver.now());
        Self {
            hub,
            inlets: Inlets { commands, links },
            driver,
            fallback,
            resting,
            beacon: None,
        }
    }

    /// Listens on `tcp://…`, `quic://…`, `rudp://…`, `unix://…` or `udp://…`. Host names are resolved here, which may block.
    ///
    /// # Errors
    /// [`OpenError`]; the text names the fix.
    pub fn listen(&mut self, address: &str) -> Result<ListenerId, OpenError> {
        self.listen_with(address, &ListenOptions::default())
    }

    /// Another descriptor of a packet transport's listener, which keeps its place among those of its port.
    pub(crate) fn duplicate(&self, listener: ListenerId) -> Option<OwnedFd> {
        let Source::Packets(id) = listener.0 else {
            return None;
        };
        let socket = self.hub.endpoints.get(id.0)?.socket;
        with_driver!(&self.driver, driver => driver.duplicate(socket))
    }

    /// Listens with options.
    ///
    /// # Errors
    /// [`OpenError`]; the text names the fix.
    pub fn listen_with(
        &mut self,
        address: &str,
        options: &ListenOptions,
    ) -> Result<ListenerId, OpenError> {
        let address = Address::resolve(address)?;
        with_driver!(&mut self.driver, driver => self.hub.listen(&mut **driver, &address, options))
    }

    /// Shares the connections that a listener accepts with other engines, in turns. This engine is one of
    /// them if `and_self`.
    pub fn spread(&mut self, listener: ListenerId, others: &[Handle], and_self: bool) {
        if let Some(entry) = self.hub.listener_mut(listener) {
            entry.spread = others.iter().cloned().map(Some).collect();
            if and_self {
                entry.spread.push(None);
            }
        }
    }

    /// Closes a listener; accepted connections live on.
    pub fn unlisten(&mut self, listener: ListenerId) {
        self.hub.unlisten(listener);
    }

    /// The address a listener is bound to, with the port that the kernel chose.
    #[must_use]
    pub fn local_address(&self, listener: ListenerId) -> Option<Address> {
        match listener.0 {
            Source::Stream(id) => self.hub.listeners.get(id)?.address.clone(),
            Source::Packets(id) => {
                let endpoint = self.hub.endpoints.get(id.0)?;
                endpoint.listener.as_ref()?.address.clone()
            }
            Source::Datagram(id) => {
                let socket = self.hub.connections.get(id.0)?.socket?;
                with_driver!(&self.driver, driver => driver.local_address(socket))
            }
        }
    }

    /// The address of a connection's other side.
    #[must_use]
    pub fn peer_address(&self, connection: ConnectionId) -> Option<Address> {
        let entry = self.hub.connections.get(connection.0)?;
        if let Carrier::Packet(end) = &entry.carrier {
            return Some(end.protocol.address(end.address));
        }
        let socket = entry.socket?;
        with_driver!(&self.driver, driver => driver.peer_address(socket))
    }

    /// Starts connecting; the outcome comes as `opened` or `closed`. Host names are resolved here, which may
    /// block.
    ///
    /// # Errors
    /// [`OpenError`] for what fails before anything is under way.
    pub fn connect(&mut self, address: &str) -> Result<ConnectionId, OpenError> {
        let address = Address::resolve(address)?;
        self.hub.connect_later(address)
    }

    /// Takes over a connected stream or datagram socket that the user made. It is set non-blocking and, for
    /// TCP, `TCP_NODELAY`. The outcome comes as `opened` or `closed`.
    ///
    /// # Errors
    /// [`OpenError`]; the socket is closed then.
    pub fn adopt(&mut self, socket: OwnedFd, role: Role) -> Result<ConnectionId, OpenError> {
        let options = self.hub.settings.socket.clone();
        let incoming = Incoming::Fd(socket);
        let (socket, datagram, peer) = with_driver!(&mut self.driver, driver => {
            let socket = driver.adopt(incoming, &options)?;
            (socket, driver.datagram_bytes_max(socket), driver.peer_address(socket))
        });
        let deadline = self.hub.now + self.hub.settings.times.connect;
        let Some(id) = self.hub.begin(Phase::Connecting(deadline), role) else {
            with_driver!(&mut self.driver, driver => driver.close(socket, Close::Abort));
            return Err(OpenError::TooMany {
                max: self.hub.connections.max(),
            });
        };
        if let Some(connection) = self.hub.connections.get_mut(id.0) {
            connection.announced = true;
            connection.peer_address = peer.map(Box::new);
            if let Some(bytes_max) = datagram {
                connection.carrier = Carrier::Datagram(Box::new(Datagrams::new(true, bytes_max)));
            }
        }
        self.hub.attach(id, socket);
        self.hub.live(id);
        Ok(id)
    }

    /// A place to write commands outside of a handler. They leave with the next turn.
    pub fn context(&mut self) -> Context<'_> {
        Context { hub: &mut self.hub }
    }

    /// One pass of the loop: takes what is there, calls the handler, sends what it wrote. Never sleeps.
    ///
    /// Returns how much there was to do; 0 means idle.
    #[inline]
    pub fn turn<H: Handler>(&mut self, handler: &mut H) -> u32 {
        let (hub, inlets) = (&mut self.hub, &mut self.inlets);
        with_driver!(&mut self.driver, driver => {
            pass(hub, inlets, &mut **driver, handler, ringway_driver::Park::No)
        })
    }

    /// Turns under the idle policy until something happened, `limit` passed, or another thread woke it.
    ///
    /// Returns how much there was to do; 0 after the limit or a bare wake.
    pub fn wait<H: Handler>(&mut self, handler: &mut H, limit: Option<Duration>) -> u32 {
        // Who would sleep next looks before it sleeps; a look of its own would be wasted.
        let sleeps = limit.is_none() && self.resting.next(self.hub.now) == Rest::Sleep;
        let mut work = if sleeps { 0 } else { self.turn(handler) };
        let until = limit.map(|limit| self.now() + limit);
        let mut spins = 0_u32;
        loop {
            if work > 0 {
                self.resting.busy(self.hub.now);
                return work;
            }
            if spins.is_multiple_of(SPINS_PER_CLOCK)
                && until.is_some_and(|until| self.now() >= until)
            {
                return 0;
            }
            match self.resting.next(self.hub.now) {
                Rest::Spin => {
                    spins = spins.wrapping_add(1);
                    work = self.turn(handler);
                }
                Rest::Sleep => {
                    let (hub, inlets) = (&mut self.hub, &mut self.inlets);
                    if hub.now >= hub.trim_at {
                        hub.trim_at = hub.now + TRIM_INTERVAL;
                        hub.pools.trim();
                    }
                    work = with_driver!(&mut self.driver, driver => {
                        sleep(hub, inlets, &mut **driver, handler, until)
                    });
                    // A sleep ends at the limit at the latest: look at the clock after each.
                    spins = 0;
                }
            }
        }
    }

    /// One sleep and one pass: for owners with a loop of their own. Sleeps until something happens or
    /// `limit` passed, unless something waits already; never spins.
    pub fn park<H: Handler>(&mut self, handler: &mut H, limit: Option<Duration>) -> u32 {
        let until = limit.map(|limit| self.now() + limit);
        let (hub, inlets) = (&mut self.hub, &mut self.inlets);
        with_driver!(&mut self.driver, driver => {
            sleep(hub, inlets, &mut **driver, handler, until)
        })
    }

    /// One descriptor for the event loop of somebody else (epoll, libuv, …), which turns this engine beside its own
    /// work. It becomes readable when a [`turn`](Self::turn) would find something or a timer is due, if
    /// [`arm`](Self::arm) came before; it is the engine's, and must not be read from. The first call makes it.
    ///
    /// # Errors
    /// No descriptors are left, or the engine is simulated.
    pub fn event_fd(&mut self) -> io::Result<BorrowedFd<'_>> {
        if self.beacon.is_none() {
            let fd = with_driver!(&mut self.driver, driver => driver.event_fd())?;
            let fd = fd.ok_or(io::ErrorKind::Unsupported)?;
            self.beacon = Some(Beacon::new(fd)?);
        }
        let beacon = self.beacon.as_ref().map(Beacon::fd);
        beacon.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Makes the descriptor tell of what comes from here on. Takes one more look, so the handler may be called. False:
    /// something happened already, or waits; turn again and arm again before sleeping.
    ///
    /// A turn, and anything that is sent or set, ends it: arm again before the next sleep.
    ///
    /// # Errors
    /// [`event_fd`](Self::event_fd) was not called before, or the system refuses the timer.
    pub fn arm<H: Handler>(&mut self, handler: &mut H) -> io::Result<bool> {
        let beacon = self.beacon.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let (hub, inlets) = (&mut self.hub, &mut self.inlets);
        let park = with_driver!(&mut self.driver, driver => {
            arm(hub, inlets, &mut **driver, handler)
        });
        match park {
            ringway_driver::Park::No => Ok(false),
            ringway_driver::Park::Until(at) => {
                beacon.set(at)?;
                Ok(true)
            }
        }
    }

    /// Runs until [`Context::stop`], [`Handle::stop`], or the end of a drain.
    pub fn run<H: Handler>(&mut self, handler: &mut H) {
        self.hub.stopping = false;
        while !self.hub.is_done() {
            self.wait(handler, None);
        }
    }

    /// Drains: no new connections, every peer is asked to finish; `run` ends when all are closed.
    pub fn drain(&mut self) {
        self.hub.drain_all();
    }

    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            shared: Arc::clone(&self.hub.shared),
        }
    }

    /// What the driver found out about the kernel, and what it uses.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        with_driver!(&self.driver, driver => driver.capabilities())
    }

    /// Why another driver than the preferred one is in use; `None` if it is the preferred one.
    #[must_use]
    pub fn fallback(&self) -> Option<&StartError> {
        self.fallback.as_ref()
    }

    /// Figures of this engine.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            driver: *with_driver!(&self.driver, driver => driver.stats()),
            messages_in: self.hub.cells.value(Counter::MessagesIn),
            messages_out: self.hub.cells.value(Counter::MessagesOut),
            turns: self.hub.turn,
            connections: self.hub.connections.len(),
            budget_used: self.hub.pools.budget().used(),
            copies: ringway_buf::copies(),
        }
    }

    /// The account of all memory that peers can make this engine hold.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        self.hub.pools.budget()
    }

    /// The driver's clock: `CLOCK_MONOTONIC`, or virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        with_driver!(&self.driver, driver => driver.now())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.hub.shared.stop();
        let (_, none) = mpsc::channel(1);
        self.hub
            .shared
            .bury(std::mem::replace(&mut self.inlets.commands, none));
        let clean = with_driver!(&mut self.driver, driver => {
            self.hub.leave_packets(&mut **driver);
            driver.shutdown(SHUTDOWN_LIMIT)
        });
        debug_assert!(clean, "the kernel holds no operation of a closed engine");
        for id in self.hub.connections.ids() {
            let id = ConnectionId(id);
            if let Some((mut connection, mut closed)) = self.hub.finish(id, CloseCause::Requested)
                && let Some(link) = connection.link.take()
            {
                if connection.is_live() {
                    closed.reason = CloseReason::Local(ringway_proto::CloseCode::Normal);
                }
                link.close(closed);
            }
        }
        for id in self.hub.listeners.ids() {
            if let Some(links) = self
                .hub
                .listeners
                .get(id)
                .and_then(|entry| entry.links.as_ref())
            {
                links.stop();
            }
        }
    }
}

impl Hub {
    /// Opens a listener, or binds a datagram socket.
    pub(crate) fn listen<D: Driver>(
        &mut self,
        driver: &mut D,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<ListenerId, OpenError> {
        if self.draining {
            return Err(OpenError::Draining);
        }
        if let Some((protocol, at)) = Protocol::of(address) {
            return self.listen_packets(driver, protocol, at, options);
        }
        if address.is_datagram() {
            return self.bind(driver, address, options);
        }
        if self.listeners.is_full() {
            return Err(OpenError::TooMany {
                max: self.listeners.max(),
            });
        }
        let socket = driver.listen(address, options)?;
        self.check_buffers(driver, socket, &options.socket);
        let real = driver.local_address(socket);
        let listed = self.add_listener(socket, real.clone(), options.clone());
        let id = listed.ok_or_else(|| OpenError::TooMany {
            max: self.listeners.max(),
        })?;
        self.emit(&Event::Listening {
            listener: id,
            address: real.as_ref(),
        });
        Ok(id)
    }

    fn bind<D: Driver>(
        &mut self,
        driver: &mut D,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<ListenerId, OpenError> {
        if self.connections.is_full() {
            return Err(OpenError::TooMany {
                max: self.connections.max(),
            });
        }
        let socket = driver.bind(address, options)?;
        self.check_buffers(driver, socket, &options.socket);
        let bytes_max = driver.datagram_bytes_max(socket);
        let carrier = Datagrams::new(
            false,
            bytes_max.unwrap_or(ringway_proto::datagram::PAYLOAD_BYTES_MAX_V4),
        );
        let carrier = Carrier::Datagram(Box::new(carrier));
        let entry = crate::connection::Connection::new(Phase::Live, Role::Server, carrier);
        let max = self.connections.max();
        let id = self
            .connections
            .insert(entry)
            .map_err(|_unused| OpenError::TooMany { max })?;
        let id = ConnectionId(id);
        let listener = ListenerId(Source::Datagram(id));
        if let Some(connection) = self.connections.get_mut(id.0) {
            connection.listener = Some(listener);
            connection.announced = true;
        }
        self.attach(id, socket);
        driver.read(socket, true);
        let real = driver.local_address(socket);
        self.emit(&Event::Listening {
            listener,
            address: real.as_ref(),
        });
        self.emit(&Event::Begun { connection: id });
        self.emit(&Event::Opened { connection: id });
        Ok(listener)
    }

    /// Closes a listener or a bound datagram socket.
    pub(crate) fn unlisten(&mut self, listener: ListenerId) {
        match listener.0 {
            Source::Stream(id) => {
                if let Some(entry) = self.listeners.remove(id) {
                    if let Some(links) = &entry.links {
                        links.stop();
                    }
                    self.actions
                        .push(crate::hub::Action::Close(entry.socket, Close::Abort));
                    debug_assert_eq!(
                        self.sockets.owner(entry.socket),
                        Some(Owner::Listener(listener))
                    );
                    // Its socket stays known until the driver has closed it: a drain waits for that.
                    self.listeners_closing += 1;
                }
            }
            Source::Packets(id) => self.unlisten_packets(id),
            Source::Datagram(id) => {
                let code = ringway_proto::CloseCode::Normal;
                self.close(id, None, CloseReason::Local(code));
            }
        }
    }

    /// Stops accepting and drains every connection.
    pub(crate) fn drain_all(&mut self) {
        self.draining = true;
        for id in self.listeners.ids() {
            self.unlisten(ListenerId(Source::Stream(id)));
        }
        for id in self.endpoints.ids() {
            self.unlisten(ListenerId(Source::Packets(EndpointId(id))));
        }
        for id in self.connections.ids() {
            self.drain(ConnectionId(id));
        }
    }
}

/// A seed from the system's randomness, by way of the standard library's hasher keys.
fn system_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

#[cfg(feature = "sim")]
fn impaired(config: &Config, (driver, fallback): Chosen) -> Chosen {
    match config.impairment {
        Some((path, seed)) => (driver.impaired(path, seed), fallback),
        None => (driver, fallback),
    }
}

#[cfg(not(feature = "sim"))]
fn impaired(_config: &Config, chosen: Chosen) -> Chosen {
    chosen
}
