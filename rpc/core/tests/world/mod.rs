//! What the scenarios stand on: a server's engine with its node and a client's engine with a bare call machine,
//! stepped alternately on one thread, over any driver.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helper fails the test"
)]

#[path = "../../../../tests/world/drivers.rs"]
mod drivers;
mod outlet;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use ringway_call::{
    Binding, CallConfig, CallId, Caller, CallerEvent, Compressors, Frame, Open, Payload, Status,
};
use ringway_engine::{
    Closed, Config, ConnectionId, Context, Engine, Handler, Header, Message, Peer, RecvBuffer,
    TimerId,
};
use ringway_rpc::{Node, ServerBuilder, feature};

pub use drivers::*;
use outlet::{Kept, Wire, head};

/// An engine whose peers know that it speaks calls.
pub fn engine(world: &World, config: Config, name: &str) -> Engine {
    world.engine(config.features(feature::RPC), name)
}

/// How a call ended.
#[derive(Debug)]
pub struct End {
    pub status: Status,
    pub metadata: Vec<u8>,
    pub message: Option<Vec<u8>>,
}

/// The client: one connection, one machine, everything recorded.
pub struct Client {
    pub caller: Caller,
    pub connection: Option<ConnectionId>,
    pub ready: bool,
    pub bound: bool,
    pub messages: HashMap<CallId, Vec<Vec<u8>>>,
    pub ends: HashMap<CallId, End>,
    /// Ends of connections: calls that were cut.
    pub cut: Vec<(CallId, bool)>,
    pub closed: Vec<String>,
    pub draining: bool,
    /// Messages of streams give their credit back at once.
    pub grants: bool,
    /// Costs that were not given back.
    pub owed: Vec<(CallId, u32)>,
    /// Messages of streams.
    pub received: u64,
    /// Counts instead of keeping what came.
    pub count_only: bool,
    pub ended: u64,
}

impl Client {
    fn new(config: CallConfig, pools: &Rc<ringway_buf::Pools>) -> Self {
        Self {
            caller: Caller::new(config, Rc::clone(pools), Compressors::default()),
            connection: None,
            ready: false,
            bound: false,
            messages: HashMap::new(),
            ends: HashMap::new(),
            cut: Vec::new(),
            closed: Vec::new(),
            draining: false,
            grants: true,
            owed: Vec::new(),
            received: 0,
            count_only: false,
            ended: 0,
        }
    }

    fn event(&mut self, cx: &mut Context<'_>, event: CallerEvent<'_>) {
        match event {
            CallerEvent::Ready => self.ready = true,
            CallerEvent::Bound { .. } => self.bound = true,
            CallerEvent::Message {
                call,
                message,
                cost,
            } => {
                self.received += 1;
                if !self.count_only {
                    let known = self.messages.entry(call).or_default();
                    known.push(message.bytes().to_vec());
                }
                if self.grants {
                    let out = &mut Wire(cx, self.connection.unwrap());
                    self.caller.grant(out, call, cost);
                } else {
                    self.owed.push((call, cost));
                }
            }
            CallerEvent::Ended {
                call,
                status,
                metadata,
                message,
            } => {
                self.ended += 1;
                if self.count_only {
                    assert!(status.is_ok());
                    return;
                }
                let end = End {
                    status: status.to_status(),
                    metadata: metadata.bytes().to_vec(),
                    message: message.as_ref().map(Payload::bytes).map(<[u8]>::to_vec),
                };
                let twice = self.ends.insert(call, end);
                assert!(twice.is_none(), "a call ends exactly once");
            }
            CallerEvent::Writable { .. } => {}
        }
    }

    fn events(&mut self, cx: &mut Context<'_>) {
        while let Some(event) = self.caller.poll_event() {
            self.event(cx, event);
        }
        if self.caller.wants_flush()
            && let Some(id) = self.connection
            && !cx.writable_below(id, 1 << 18)
        {
            self.caller.flush(&mut Wire(cx, id));
        }
    }
}

impl Handler for Client {
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let id = message.connection();
        let frame = Frame {
            head: head(&message.header()),
            body: message.body(),
            keep: &Kept(&message),
        };
        let now = cx.now();
        let event = self
            .caller
            .handle_frame(&mut Wire(cx, id), frame, now)
            .unwrap();
        if let Some(event) = event {
            self.event(cx, event);
        }
        self.events(cx);
    }

    fn opened(&mut self, cx: &mut Context<'_>, connection: ConnectionId, peer: &Peer) {
        assert_eq!(peer.features & feature::RPC, 1);
        self.connection = Some(connection);
        self.caller.start(&mut Wire(cx, connection));
    }

    fn writable(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        self.caller.flush(&mut Wire(cx, connection));
        self.events(cx);
    }

    fn draining(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        self.draining = true;
        self.caller.handle_drain();
        if self.caller.open_calls() > 0 {
            cx.hold(connection, true);
        }
    }

    fn closed(&mut self, _cx: &mut Context<'_>, _connection: ConnectionId, closed: &Closed) {
        self.closed.push(closed.reason.to_string());
        self.cut.extend(self.caller.handle_closed());
    }

    fn place(&mut self, _connection: ConnectionId, header: &Header) -> Option<RecvBuffer> {
        self.caller.place(&head(header))
    }

    fn placed(
        &mut self,
        cx: &mut Context<'_>,
        connection: ConnectionId,
        header: Header,
        buffer: RecvBuffer,
    ) {
        let now = cx.now();
        let out = &mut Wire(cx, connection);
        let event = self
            .caller
            .handle_placed(out, head(&header), buffer, now)
            .unwrap();
        if let Some(event) = event {
            self.event(cx, event);
        }
        self.events(cx);
    }

    fn timer(&mut self, cx: &mut Context<'_>, _timer: TimerId) {
        let now = cx.now();
        let id = self.connection.unwrap();
        self.caller.handle_timeout(&mut Wire(cx, id), now);
        self.events(cx);
    }
}

/// Turns that a condition may take before a test gives up; a hang, not a time, is what it detects.
const TURNS_MAX: u64 = 200_000;
/// Longest sleep of a kernel engine while the other one may have something to do.
const NAP: Duration = Duration::from_millis(1);

/// A client and a server, connected.
pub struct Pair {
    pub world: World,
    pub client: (Engine, Client),
    pub server: (Engine, Node),
    pub address: String,
}

/// An ordinary call.
pub fn open(method: u32) -> Open<'static> {
    Open {
        method,
        deadline: None,
        priority: 4,
        attempt: 0,
        idempotent: false,
        one_way: false,
        compress: false,
        metadata: &[],
        end: true,
    }
}

impl Pair {
    pub fn new(world: World, server: ServerBuilder, methods: &[Binding]) -> Self {
        Self::with(world, server, methods, "tcp", CallConfig::default())
    }

    pub fn with(
        world: World,
        server: ServerBuilder,
        methods: &[Binding],
        scheme: &str,
        config: CallConfig,
    ) -> Self {
        let engine = |name| engine(&world, Config::default().seed(7), name);
        let (client, mut server_engine) = (engine("client"), engine("server"));
        let node = server.build().unwrap();
        let listener = server_engine.listen(&world.address(scheme)).unwrap();
        let address = server_engine.local_address(listener).unwrap().to_string();
        let pools = Rc::new(ringway_buf::Pools::new(ringway_buf::PoolsConfig::default()));
        let mut pair = Self {
            world,
            client: (client, Client::new(config, &pools)),
            server: (server_engine, node),
            address,
        };
        let address = pair.address.clone();
        pair.client.0.connect(&address).unwrap();
        pair.until("the settings", |pair| pair.client.1.ready);
        if !methods.is_empty() {
            pair.with_client(|client, out| client.caller.bind(out, methods).map(|_| ()).unwrap());
            pair.until("the methods are bound", |pair| pair.client.1.bound);
        }
        pair
    }

    /// Does something with the client's machine and its outlet.
    pub fn with_client<R>(&mut self, act: impl FnOnce(&mut Client, &mut Wire<'_, '_>) -> R) -> R {
        let (engine, client) = &mut self.client;
        let id = client.connection.unwrap();
        let mut cx = engine.context();
        let done = act(client, &mut Wire(&mut cx, id));
        client.events(&mut cx);
        done
    }

    pub fn open(&mut self, open: &Open<'_>, body: &[u8]) -> CallId {
        let now = self.client.0.now();
        self.with_client(|client, out| client.caller.open(out, open, Some(body), now).unwrap())
    }

    /// One call from beginning to end.
    pub fn call(&mut self, request: &Open<'_>, body: &[u8]) -> End {
        let call = self.open(request, body);
        self.end(call)
    }

    /// Waits for a call's end.
    pub fn end(&mut self, call: CallId) -> End {
        self.until("the end of a call", |pair| {
            pair.client.1.ends.contains_key(&call)
        });
        self.client.1.ends.remove(&call).unwrap()
    }

    /// One turn of each engine; when both were idle, lets (virtual or real) time pass.
    pub fn step(&mut self) {
        let (client, server) = (&mut self.client, &mut self.server);
        let mut work = client.0.turn(&mut client.1) + server.0.turn(&mut server.1);
        let now = client.0.now();
        if client.1.caller.poll_timeout().is_some_and(|at| at <= now)
            && let Some(id) = client.1.connection
        {
            let mut cx = client.0.context();
            client.1.caller.handle_timeout(&mut Wire(&mut cx, id), now);
            client.1.events(&mut cx);
            work += 1;
        }
        if work > 0 {
            return;
        }
        match &self.world {
            World::Kernel(_) => {
                client.0.park(&mut client.1, Some(NAP));
                server.0.park(&mut server.1, Some(Duration::ZERO));
            }
            World::Sim(net) => {
                let net = net.clone();
                client.0.park(&mut client.1, None);
                server.0.park(&mut server.1, None);
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

    /// Steps `count` times.
    pub fn steps(&mut self, count: u32) {
        for _ in 0..count {
            self.step();
        }
    }
}
