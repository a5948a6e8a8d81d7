//! Several engines with their nodes, stepped in turns on one thread, over any driver: clients, servers, and servers
//! that call servers.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helper fails the test"
)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use ringway_engine::{Config, Engine, Idle};
use ringway_rpc::{
    Answer, CallKey, CallOptions, Clients, Method, Node, ServerBuilder, Status, Target,
};

use crate::world::{self, World};

/// Turns that a condition may take before a test gives up; a hang, not a time, is what it detects.
const TURNS_MAX: u64 = 200_000;
/// Longest sleep of a kernel engine while another one may have something to do.
const NAP: Duration = Duration::from_millis(1);

/// One engine of the net.
pub struct Host {
    pub engine: Engine,
    pub node: Node,
    pub address: String,
}

/// What was answered, by the number of the call.
pub type Answers = Rc<RefCell<HashMap<u32, Answer>>>;

pub struct Net {
    pub world: World,
    /// The first one is the client.
    pub hosts: Vec<Option<Host>>,
    pub answers: Answers,
    calls: u32,
}

pub const CLIENT: usize = 0;

impl Net {
    pub fn new(world: World) -> Self {
        let mut net = Self {
            world,
            hosts: Vec::new(),
            answers: Answers::default(),
            calls: 0,
        };
        let clients = Node::clients_only(Clients::default());
        net.add("client", clients, "");
        net
    }

    fn add(&mut self, name: &str, node: Node, listen: &str) -> usize {
        let config = Config::default().seed(7).idle(Idle::Park);
        let mut engine = world::engine(&self.world, config, name);
        let mut address = String::new();
        if !listen.is_empty() {
            let listener = engine.listen(listen).unwrap();
            address = engine.local_address(listener).unwrap().to_string();
        }
        self.hosts.push(Some(Host {
            engine,
            node,
            address,
        }));
        self.hosts.len() - 1
    }

    /// Adds a server; its number and its address.
    pub fn serve(&mut self, server: ServerBuilder) -> (usize, String) {
        // Nothing of the simulator listens on unix sockets; over another transport `tcp` is asked for.
        let scheme = if self.world.is_sim() || !world::is_over("tcp") {
            "tcp"
        } else {
            "unix"
        };
        let listen = self.world.address(scheme);
        self.serve_at(&listen, server)
    }

    pub fn serve_at(&mut self, address: &str, server: ServerBuilder) -> (usize, String) {
        let node = server.build().unwrap();
        let at = self.add("server", node, address);
        (at, self.host(at).address.clone())
    }

    pub fn host(&mut self, at: usize) -> &mut Host {
        self.hosts[at].as_mut().unwrap()
    }

    /// A host dies at once.
    pub fn kill(&mut self, at: usize) {
        drop(self.hosts[at].take());
    }

    /// Does something with the client's node.
    pub fn client<R>(
        &mut self,
        act: impl FnOnce(&mut Clients, &mut ringway_engine::Context<'_>) -> R,
    ) -> R {
        let host = self.host(CLIENT);
        act(host.node.clients(), &mut host.engine.context())
    }

    /// A server that the client calls, connected, its methods bound.
    pub fn connect(&mut self, address: &str, methods: &[Method]) -> Target {
        let target = self.client(|clients, cx| clients.connect(cx, address).unwrap());
        let first = self.client(|clients, cx| clients.bind(cx, target, methods).unwrap());
        assert_eq!(first, 0);
        self.until("the connection", |net| {
            net.client(|clients, _cx| clients.is_ready(target))
        });
        target
    }

    /// Starts a call of the client; its number, and its key.
    pub fn start(
        &mut self,
        target: Target,
        method: u32,
        body: &[u8],
        options: &CallOptions<'_>,
    ) -> Result<(u32, CallKey), Status> {
        self.calls += 1;
        let (number, answers) = (self.calls, Rc::clone(&self.answers));
        let key = self.client(|clients, cx| {
            clients.call(cx, target, method, options, body, move |_cx, answer| {
                let twice = answers.borrow_mut().insert(number, answer);
                assert!(twice.is_none(), "a call ends exactly once");
            })
        })?;
        Ok((number, key))
    }

    /// Waits for a call's end.
    pub fn end(&mut self, call: u32) -> Answer {
        let answers = Rc::clone(&self.answers);
        self.until("the end of a call", |_| {
            answers.borrow().contains_key(&call)
        });
        answers.borrow_mut().remove(&call).unwrap()
    }

    /// One call from beginning to end.
    pub fn call(&mut self, target: Target, method: u32, body: &[u8]) -> Answer {
        let started = self.start(target, method, body, &CallOptions::default());
        let (call, _key) = started.unwrap();
        self.end(call)
    }

    /// One turn of each engine; when all were idle, lets (virtual or real) time pass.
    pub fn step(&mut self) {
        let mut work = 0;
        for host in self.hosts.iter_mut().flatten() {
            work += host.engine.turn(&mut host.node);
        }
        if work > 0 {
            return;
        }
        let mut nap = match &self.world {
            World::Kernel(_) => Some(NAP),
            World::Sim(_) => None,
        };
        for host in self.hosts.iter_mut().flatten() {
            host.engine.park(&mut host.node, nap);
            nap = nap.map(|_| Duration::ZERO);
        }
        if let World::Sim(net) = &self.world {
            net.clone().advance();
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
}
