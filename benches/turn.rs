//! How much does a turn cost? An idle one, and an echo with both engines turned by one thread: the processor time of
//! a whole round trip, without any wake-up. The same round trip by plain calls stands beside it.
#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that goes wrong shall stop, and criterion's macros write undocumented items"
)]

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::{Config, ConnectionId, Context, DriverChoice, Engine, Handler, Idle, Message, Peer};

const BODY_BYTES: usize = 64;

struct Echo;

impl Handler for Echo {
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        cx.reply(&message, message.body())
            .expect("a closed loop has room");
    }
}

#[derive(Default)]
struct Count {
    opened: bool,
    answers: usize,
}

impl Handler for Count {
    fn message(&mut self, _cx: &mut Context<'_>, message: Message<'_>) {
        black_box(message.body());
        self.answers += 1;
    }

    fn opened(&mut self, _cx: &mut Context<'_>, _connection: ConnectionId, _peer: &Peer) {
        self.opened = true;
    }
}

/// Both engines of a connection, turned by one thread.
struct Pair {
    server: Engine,
    client: Engine,
    connection: ConnectionId,
    count: Count,
}

impl Pair {
    fn connect(driver: DriverChoice, address: &str) -> Self {
        let engine = || {
            Config::default()
                .driver(driver)
                .idle(Idle::Spin)
                .build()
                .unwrap()
        };
        let (mut server, mut client) = (engine(), engine());
        let listener = server.listen(address).unwrap();
        let address = server.local_address(listener).unwrap().to_string();
        let connection = client.connect(&address).unwrap();
        let mut pair = Self {
            server,
            client,
            connection,
            count: Count::default(),
        };
        while !pair.count.opened {
            pair.turn();
        }
        pair
    }

    fn turn(&mut self) {
        self.client.turn(&mut self.count);
        self.server.turn(&mut Echo);
    }

    /// `calls` requests in one write, and all their answers.
    fn exchange(&mut self, calls: usize) {
        self.count.answers = 0;
        for _ in 0..calls {
            self.client
                .context()
                .send(self.connection, &[7; BODY_BYTES])
                .unwrap();
        }
        while self.count.answers < calls {
            self.turn();
        }
    }
}

/// The drivers that work here.
fn drivers() -> Vec<(&'static str, DriverChoice)> {
    let all = [
        ("uring", DriverChoice::Uring),
        ("epoll", DriverChoice::Epoll),
    ];
    let works = |choice| Config::default().driver(choice).build().is_ok();
    all.into_iter()
        .filter(|(_, choice)| works(*choice))
        .collect()
}

fn idle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn/idle");
    for (name, driver) in drivers() {
        let mut engine = Config::default().driver(driver).build().unwrap();
        group.bench_function(BenchmarkId::new("no connection", name), |bencher| {
            bencher.iter(|| engine.turn(&mut Echo));
        });
        let mut pair = Pair::connect(driver, "unix://@ringway-bench-idle");
        group.bench_function(BenchmarkId::new("one connection", name), |bencher| {
            bencher.iter(|| pair.server.turn(&mut Echo));
        });
    }
    group.finish();
}

fn echo(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn/echo");
    for calls in [1, 64] {
        group.throughput(Throughput::Elements(calls as u64));
        for (name, driver) in drivers() {
            for (transport, address) in [
                ("tcp", "tcp://127.0.0.1:0"),
                ("unix", "unix://@ringway-bench-echo"),
                ("udp", "udp://127.0.0.1:0"),
            ] {
                let mut pair = Pair::connect(driver, address);
                let id = BenchmarkId::new(format!("{transport}, {name}"), calls);
                group.bench_function(id, |bencher| bencher.iter(|| pair.exchange(calls)));
            }
        }
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let mut bytes = vec![7; calls * (16 + BODY_BYTES)];
        group.bench_function(BenchmarkId::new("unix, plain calls", calls), |bencher| {
            bencher.iter(|| {
                near.write_all(&bytes).unwrap();
                far.read_exact(&mut bytes).unwrap();
                far.write_all(&bytes).unwrap();
                near.read_exact(&mut bytes).unwrap();
            });
        });
    }
    group.finish();
}

criterion_group!(turn, idle, echo);
criterion_main!(turn);
