//! What the scenarios stand on: two engines that are stepped alternately on one thread, over any driver.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helper fails the test"
)]

mod drivers;
pub mod relay;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ringway::{
    Closed, Config, ConnectionId, Context, DriverKind, Engine, Handler, ListenerId, Message, Peer,
    SendError, StreamConfig, TimerId,
};

pub use drivers::*;

/// Turns that a condition may take before a test gives up; a hang, not a time, is what it detects.
const TURNS_MAX: u64 = 300_000;
/// Longest sleep of a kernel engine while the other one may have something to do.
const NAP: Duration = Duration::from_millis(1);

/// An engine and its recording handler.
pub struct Host {
    pub engine: Engine,
    pub app: App,
}

impl Host {
    pub fn new(world: &World, config: Config, name: &str) -> Self {
        Self {
            engine: world.engine(config, name),
            app: App::default(),
        }
    }

    pub fn turn(&mut self) -> u32 {
        self.engine.turn(&mut self.app)
    }

    pub fn send(&mut self, connection: ConnectionId, body: &[u8]) -> Result<(), SendError> {
        self.engine.context().send(connection, body)
    }
}

/// What a message was, copied out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub connection: ConnectionId,
    pub body: Vec<u8>,
    pub kind: u8,
    pub tag: u16,
    pub word: u64,
}

/// What was said about a closed connection.
#[derive(Clone, Debug)]
pub struct Gone {
    pub connection: ConnectionId,
    pub reason: String,
    pub text: String,
    pub unsent_bytes: u64,
}

/// A handler that records everything, and does what its switches say.
#[derive(Default)]
pub struct App {
    pub echo: bool,
    /// Echo answers that did not fit; sent on `writable`.
    pub backlog: Vec<(ConnectionId, Vec<u8>)>,
    pub panic_on: Option<Vec<u8>>,
    pub opened: Vec<(ConnectionId, Peer)>,
    pub got: Vec<Got>,
    pub writable: u32,
    pub draining: Vec<ConnectionId>,
    pub closed: Vec<Gone>,
    pub timers: Vec<TimerId>,
    pub too_long: Vec<usize>,
    pub retained: Vec<ringway::Slice>,
    pub retain: bool,
    pub refuse: bool,
    /// Counts instead of recording bodies.
    pub count_only: bool,
    pub count: u64,
    pub bytes: u64,
}

impl App {
    pub fn echo() -> Self {
        Self {
            echo: true,
            ..Self::default()
        }
    }

    pub fn reason(&self, connection: ConnectionId) -> Option<String> {
        let gone = self
            .closed
            .iter()
            .find(|gone| gone.connection == connection)?;
        Some(gone.reason.clone())
    }
}

impl Handler for App {
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        self.count += 1;
        self.bytes += message.body().len() as u64;
        if self.panic_on.as_deref() == Some(message.body()) {
            panic!("asked for");
        }
        if !self.count_only {
            self.got.push(Got {
                connection: message.connection(),
                body: message.body().to_vec(),
                kind: message.kind(),
                tag: message.tag(),
                word: message.word(),
            });
        }
        if self.retain {
            self.retained.push(message.retain());
        }
        if self.echo && cx.reply(&message, message.body()).is_err() {
            self.backlog
                .push((message.connection(), message.body().to_vec()));
            cx.pause(message.connection(), true);
        }
    }

    fn opened(&mut self, _cx: &mut Context<'_>, connection: ConnectionId, peer: &Peer) {
        self.opened.push((connection, peer.clone()));
    }

    fn writable(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        self.writable += 1;
        let mut kept = Vec::new();
        for (id, body) in std::mem::take(&mut self.backlog) {
            if id != connection || cx.send(id, &body).is_err() {
                kept.push((id, body));
            }
        }
        self.backlog = kept;
        if self.echo && self.backlog.iter().all(|(id, _)| *id != connection) {
            cx.pause(connection, false);
        }
    }

    fn draining(&mut self, _cx: &mut Context<'_>, connection: ConnectionId) {
        self.draining.push(connection);
    }

    fn closed(&mut self, _cx: &mut Context<'_>, connection: ConnectionId, closed: &Closed) {
        assert!(
            self.closed.iter().all(|gone| gone.connection != connection),
            "a connection closes exactly once"
        );
        self.closed.push(Gone {
            connection,
            reason: format!("{:?}", closed.reason),
            text: closed.reason.to_string(),
            unsent_bytes: closed.unsent_bytes,
        });
    }

    fn too_long(&mut self, _cx: &mut Context<'_>, _connection: ConnectionId, bytes_max: usize) {
        self.too_long.push(bytes_max);
    }

    fn timer(&mut self, _cx: &mut Context<'_>, timer: TimerId) {
        self.timers.push(timer);
    }

    fn accept(&mut self, _listener: ListenerId, _peer: Option<&ringway::Address>) -> bool {
        !self.refuse
    }
}

/// Two engines and the world between them.
pub struct Pair {
    pub world: World,
    pub client: Host,
    pub server: Host,
}

/// Settings whose limits a test reaches quickly.
pub fn config() -> Config {
    Config::default().seed(7)
}

/// Like [`config`], with other stream settings.
pub fn config_with(change: impl FnOnce(&mut StreamConfig)) -> Config {
    let mut stream = StreamConfig::default();
    change(&mut stream);
    config().stream(stream)
}

impl Pair {
    pub fn new(world: World) -> Self {
        Self::with(world, config(), config())
    }

    pub fn with(world: World, client: Config, server: Config) -> Self {
        let client = Host::new(&world, client, "client");
        let server = Host::new(&world, server, "server");
        Self {
            world,
            client,
            server,
        }
    }

    /// Listens on the server and opens a connection from the client; both have seen `opened`.
    pub fn connected(&mut self, scheme: &str) -> (ConnectionId, ConnectionId) {
        let address = self.world.address(scheme);
        let (_, address) = self.listening(&address);
        self.connect_to(&address)
    }

    pub fn connect_to(&mut self, address: &str) -> (ConnectionId, ConnectionId) {
        let before = self.server.app.opened.len();
        let connection = self.client.engine.connect(address).unwrap();
        self.until("both sides opened", |pair| {
            pair.server.app.opened.len() > before
                && pair
                    .client
                    .app
                    .opened
                    .iter()
                    .any(|(id, _)| *id == connection)
        });
        (connection, self.server.app.opened.last().unwrap().0)
    }

    /// One turn of each engine; when both were idle, lets (virtual or real) time pass.
    pub fn step(&mut self) {
        let work = self.client.turn() + self.server.turn();
        if work > 0 {
            return;
        }
        match &self.world {
            World::Kernel(_) => {
                self.client.engine.park(&mut self.client.app, Some(NAP));
                self.server
                    .engine
                    .park(&mut self.server.app, Some(Duration::ZERO));
            }
            World::Sim(net) => {
                let net = net.clone();
                self.client.engine.park(&mut self.client.app, None);
                self.server.engine.park(&mut self.server.app, None);
                net.advance();
            }
        }
    }

    /// Steps until `done`; panics when that takes implausibly many turns.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("never happened: {what}");
    }

    /// A listener of the server, and the address that it got.
    pub fn listening(&mut self, address: &str) -> (ListenerId, String) {
        let listener = self.server.engine.listen(address).unwrap();
        let address = self.server.engine.local_address(listener).unwrap();
        (listener, address.to_string())
    }

    /// Sends a message of each size to a server that echoes; all come back, in order and intact.
    pub fn assert_echoed(&mut self, client: ConnectionId, sizes: &[usize]) {
        for (seed, size) in sizes.iter().enumerate() {
            let body = pattern(*size, seed as u64);
            self.until("room to send", |pair| {
                pair.client.send(client, &body).is_ok()
            });
        }
        self.until("all came back", |pair| {
            pair.client.app.got.len() == sizes.len()
        });
        for (seed, (size, got)) in sizes.iter().zip(&self.client.app.got).enumerate() {
            assert!(
                got.body == pattern(*size, seed as u64),
                "message of {size} bytes differs"
            );
        }
    }

    /// Steps `count` times.
    pub fn steps(&mut self, count: u32) {
        for _ in 0..count {
            self.step();
        }
    }
}

/// A recorder of the event stream.
#[derive(Clone, Default)]
pub struct Tape(pub Rc<RefCell<Vec<String>>>);

impl ringway::Observer for Tape {
    fn event(&mut self, _now: ringway::Instant, event: &ringway::Event<'_>) {
        self.0.borrow_mut().push(format!("{event:?}"));
    }
}

/// A body of `len` bytes that differs everywhere.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[4]
        })
        .collect()
}

/// Whether a driver of the kernel is in use: some figures exist only there.
pub fn is_kernel(engine: &Engine) -> bool {
    engine.capabilities().kind != DriverKind::Sim
}
