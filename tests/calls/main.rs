//! Calls over a seeded network full of faults, with virtual time and an oracle: all four kinds, large messages,
//! compression, cancellation, deadlines, drains, servers that die, tiny limits and budgets.
//!
//! `RINGWAY_SEEDS=N` sets how many seeds run (default 300), `RINGWAY_SEED=S` replays one and prints its events.
//! A failing seed prints the line that replays it. Same seed, same run, bit for bit.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test: it fails by panicking, prints what replays a seed, and counts in small numbers"
)]

mod client;
mod oracle;
#[path = "../../rpc/core/tests/world/outlet.rs"]
mod outlet;
mod plan;
#[path = "../seeds/mod.rs"]
mod seeds;
mod server;

use std::sync::atomic::{AtomicU64, Ordering};

use ringway::rpc::feature;
use ringway::{CloseCode, Config, Engine, Limits, StreamConfig};
use ringway_engine::sim::{NetConfig, SimNet};

use client::Client;
use oracle::{FIGURES, Figures, Oracle, SharedOracle};
use seeds::{Random, Seeds};
use server::Server;

/// Large messages go on when at most this waits.
pub(crate) const BULK_BELOW_BYTES: usize = 32 << 10;
const ADDRESS: &str = "tcp://127.0.0.1:7000";
const CLIENTS: usize = 2;
/// Calls of a run, without those that are tried again.
const CALLS: u32 = 60;
/// Connections of each client at a time.
const CONNECTIONS: usize = 2;
/// Steps of the faulty phase.
const STEPS: u32 = 500;
/// Steps after the network healed; every call has to end in them.
const STEPS_TO_END: u32 = 30_000;

struct Run {
    net: SimNet,
    clients: Vec<(Engine, Client)>,
    server: (Engine, Server),
    config: Bounds,
    oracle: SharedOracle,
    random: Random,
    restarts: u32,
}

/// Limits of the run.
#[derive(Clone, Copy)]
struct Bounds {
    calls: [ringway_call::CallConfig; 2],
    budget_bytes: [usize; 2],
    queue_bytes_max: usize,
}

fn engine(net: &SimNet, seed: u64, name: &str, budget_bytes: usize, queue: usize) -> Engine {
    let stream = StreamConfig {
        message_bytes_max: 272 << 10,
        ..StreamConfig::default()
    };
    let limits = Limits {
        budget_bytes,
        queue_bytes_max: queue,
        connections_max: 64,
        ..Limits::default()
    };
    let config = Config::default().seed(seed).limits(limits).stream(stream);
    Engine::simulated(config.features(feature::RPC), net, name).unwrap()
}

impl Run {
    fn new(seed: u64, print: bool) -> Self {
        let mut random = Random(seed ^ 0x5EED);
        let random_ref = &mut random;
        let net = SimNet::new(NetConfig::swarm(seed), seed);
        let oracle = Oracle::new(seed, print);
        let config = Bounds {
            calls: [plan::config(random_ref), plan::config(random_ref)],
            budget_bytes: [(); 2].map(|()| random_ref.pick(&[1200 << 10, 3 << 20, 64 << 20])),
            queue_bytes_max: random_ref.pick(&[16 << 10, 256 << 10, 4 << 20]),
        };
        let clients = (0..CLIENTS).map(|at| {
            let name = format!("client{at}");
            let engine = engine(
                &net,
                seed,
                &name,
                config.budget_bytes[0],
                config.queue_bytes_max,
            );
            let mut client = Client::new(config.calls[0], &oracle);
            let own = (0..CALLS).filter(|number| *number as usize % CLIENTS == at);
            client.due.extend(own.map(|number| (number, 0)));
            (engine, client)
        });
        let clients = clients.collect();
        let server = Self::serve(&net, seed, config, &oracle, 0);
        Self {
            net,
            clients,
            server,
            config,
            oracle,
            random,
            restarts: 0,
        }
    }

    fn serve(
        net: &SimNet,
        seed: u64,
        config: Bounds,
        oracle: &SharedOracle,
        number: u32,
    ) -> (Engine, Server) {
        let name = format!("server{number}");
        let mut engine = engine(
            net,
            seed,
            &name,
            config.budget_bytes[1],
            config.queue_bytes_max,
        );
        engine.listen(ADDRESS).unwrap();
        (engine, Server::new(config.calls[1], oracle))
    }

    /// The server dies without a word, and another one takes its place.
    fn restart(&mut self) {
        self.restarts += 1;
        let seed = self.oracle.borrow().seed;
        // The old one is dropped first, and with it its sockets.
        let spare = engine(&self.net, seed, "spare", 3 << 20, 16 << 10);
        let eager = self.server.1.eager;
        drop(std::mem::replace(&mut self.server.0, spare));
        self.server = Self::serve(&self.net, seed, self.config, &self.oracle, self.restarts);
        self.server.1.eager = eager;
    }

    fn turn(&mut self) {
        let mut work = 0;
        for (engine, client) in &mut self.clients {
            work += engine.turn(client);
            client.check_deadlines(engine.now());
            let budget = engine.budget();
            assert!(budget.used() <= budget.limit(), "the budget was passed");
        }
        let (engine, server) = &mut self.server;
        work += engine.turn(server);
        let budget = engine.budget();
        assert!(budget.used() <= budget.limit(), "the budget was passed");
        if work == 0 {
            for (engine, client) in &mut self.clients {
                engine.park(client, None);
            }
            engine.park(server, None);
            self.net.advance();
        }
    }

    /// One thing that a client or the server does.
    fn act(&mut self) {
        let at = self.random.below(CLIENTS as u64) as usize;
        let number = self.random.next();
        let (engine, client) = &mut self.clients[at];
        let ids: Vec<_> = client.connections().collect();
        let mut cx = engine.context();
        match self.random.below(200) {
            0 if self.restarts < 2 && number.is_multiple_of(3) => self.restart(),
            1..=60 => match ids.get(number as usize % CONNECTIONS) {
                Some(id) => client.open(&mut cx, *id),
                None => client.connect(&mut cx, ADDRESS),
            },
            61..=62 => {
                if let Some(call) = client.call_at(number) {
                    client.cancel(&mut cx, call);
                }
            }
            63..=100 => {
                if let Some(call) = client.call_at(number) {
                    client.go_on(&mut cx, call);
                }
            }
            101 if number.is_multiple_of(3) => {
                if let Some(id) = ids.first() {
                    let code = self.random.pick(&[CloseCode::Normal, CloseCode::Internal]);
                    cx.close(*id, code);
                }
            }
            102 => {
                if let Some(id) = ids.first() {
                    cx.drain(*id);
                }
            }
            103..=106 => {
                if let Some(id) = ids.first() {
                    cx.pause(*id, number.is_multiple_of(4));
                }
            }
            other => self.act_at_server(other, number),
        }
    }

    fn act_at_server(&mut self, what: u64, number: u64) {
        let (engine, server) = &mut self.server;
        let mut cx = engine.context();
        match what {
            107..=108 => {
                if let Some(id) = server.connections().next() {
                    cx.drain(id);
                }
            }
            109..=112 => {
                if let Some(id) = server.connections().last() {
                    cx.pause(id, number.is_multiple_of(4));
                }
            }
            113..=120 => server.end_one_way(&mut cx),
            _ => {
                if let Some(task) = server.task_at(number) {
                    server.go_on(&mut cx, task);
                }
            }
        }
    }

    fn play(&mut self) {
        for _ in 0..STEPS {
            self.turn();
            self.act();
            self.act();
        }
        // The network heals: now everything has to come to an end by itself.
        self.net.heal();
        self.server.1.eager = true;
        for (_, client) in &mut self.clients {
            client.eager = true;
            client.due.clear();
        }
        for step in 0..STEPS_TO_END {
            self.turn();
            if step % 8 == 0 {
                self.settle();
            }
            let open: usize = self.clients.iter().map(|(_, it)| it.open_calls()).sum();
            if open == 0 && self.server.1.held_calls() == 0 {
                break;
            }
            if step == STEPS_TO_END - 1 {
                let mut oracle = self.oracle.borrow_mut();
                let server = &self.server.1;
                if oracle.print {
                    self.clients.iter().for_each(|(_, client)| client.print());
                    server.print();
                }
                oracle.rule(false, || {
                    format!(
                        "{open} calls are left, {} handlers, {} slots",
                        server.open_calls(),
                        server.held_calls()
                    )
                });
            }
        }
        for (engine, _) in &mut self.clients {
            engine.drain();
        }
        self.server.0.drain();
        for _ in 0..STEPS_TO_END {
            self.turn();
            let clients = self.clients.iter().map(|(engine, _)| engine);
            let mut engines = clients.chain([&self.server.0]);
            if engines.all(|engine| engine.stats().connections == 0) {
                return;
            }
        }
        panic!("connections are left after the network healed");
    }

    /// Everyone does what they still have to do.
    fn settle(&mut self) {
        for (engine, client) in &mut self.clients {
            let mut cx = engine.context();
            for id in client.connections().collect::<Vec<_>>() {
                cx.pause(id, false);
            }
            for call in client.all_calls() {
                client.go_on(&mut cx, call);
            }
        }
        let (engine, server) = &mut self.server;
        let mut cx = engine.context();
        for id in server.connections().collect::<Vec<_>>() {
            cx.pause(id, false);
        }
        server.end_one_way(&mut cx);
        for task in server.all_tasks() {
            server.go_on(&mut cx, task);
        }
    }

    fn check(&mut self) -> Figures {
        // Virtual time goes on until nothing is pending, then all memory is back.
        for _ in 0..100 {
            self.turn();
        }
        let clients = self.clients.iter().map(|(engine, _)| engine);
        for engine in clients.chain([&self.server.0]) {
            let kept = engine.budget().used();
            assert!(kept <= 3 << 20, "{kept} bytes are still held");
        }
        let mut oracle = self.oracle.borrow_mut();
        let mut figures = oracle.check();
        figures.0[10] = self.clients.iter().map(|(_, client)| client.retried).sum();
        let broken = &oracle.broken_rules;
        assert!(
            broken.is_empty(),
            "{} rules: {:#?}",
            broken.len(),
            &broken[..broken.len().min(5)]
        );
        figures
    }
}

/// What many runs did together, so that a run that does nothing can't pass for a good one.
static TOTALS: [AtomicU64; 12] = [const { AtomicU64::new(0) }; 12];

fn run(seed: u64, print: bool) -> (u64, u64) {
    let mut run = Run::new(seed, print);
    run.play();
    let figures = run.check();
    for (total, figure) in TOTALS.iter().zip(figures.0) {
        total.fetch_add(figure, Ordering::Relaxed);
    }
    let events = run.oracle.borrow().hash();
    (run.net.trace_hash(), events)
}

const SEEDS: Seeds<(u64, u64)> = Seeds {
    package: "ringway",
    test: "calls",
    count: 300,
    play: run,
};

#[test]
fn every_seed_keeps_the_rules() {
    let Some(last) = SEEDS.run() else { return };
    let totals = TOTALS.each_ref().map(|total| total.load(Ordering::Relaxed));
    println!("{last} seeds:");
    for (name, total) in FIGURES.iter().zip(totals) {
        println!("  {total:>8} {name}");
    }
    assert!(
        totals[0] > 5 * last && totals.iter().all(|total| *total > last / 50),
        "{totals:?}"
    );
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_not() {
    SEEDS.are_deterministic(1_000_000..1_000_020);
}
