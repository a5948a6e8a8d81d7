//! What a call costs once everything is warm: allocations and payload copies of both ends together, counted.

#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

#[path = "../../../tests/allocations/mod.rs"]
mod allocations;
mod world;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use allocations::allocations;
use ringway_buf::copies;
use ringway_call::Binding;
use ringway_engine::{Config, DriverChoice, Engine};
use ringway_rpc::{
    CallOptions, Clients, Deferred, IncomingCall, InlineChannel, Kind, Method, Node, Raw, Server,
    Service, ServiceInfo, StatsReader, rpc_config,
};
use world::{Pair, World, open};

#[global_allocator]
static COUNTING: allocations::Counting = allocations::Counting;

static INFO: ServiceInfo = ServiceInfo {
    name: "test.Steady",
    methods: &[
        Method::new("test.Steady/Inline", Kind::Unary, 0, 0),
        Method::new("test.Steady/Ready", Kind::Unary, 0, 0),
        Method::new("test.Steady/Woken", Kind::Unary, 0, 0),
        Method::new("test.Steady/Deferred", Kind::Unary, 0, 0),
        Method::new("test.Steady/Stream", Kind::ServerStream, 0, 0),
    ],
    descriptors: &[],
};

/// A request of eight bytes, plain.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Number {
    value: u64,
}
ringway_rpc::pod_layout!(Number { value: u64 });

/// Replies that the test gives.
type Later = Rc<RefCell<Vec<Deferred<[u8]>>>>;

#[derive(Default)]
struct Steady {
    deferred: Later,
}

impl Service for Steady {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        use ringway_rpc::Pod;
        match call.method() {
            0 => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| reply.send(request)),
            1 => call.unary::<Pod, Number, Number, _>(|_cx, request| async move { Ok(request) }),
            2 => call.unary::<Pod, Number, Number, _>(|_cx, request| async move {
                let mut woken = false;
                poll_fn(|cx| {
                    if std::mem::replace(&mut woken, true) {
                        return Poll::Ready(());
                    }
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
                Ok(request)
            }),
            3 => call.inline::<Raw, [u8], [u8]>(|_call, _request, reply| {
                let (deferred, replied) = reply.defer()?;
                self.deferred.borrow_mut().push(deferred);
                Ok(replied)
            }),
            4 => call.server_stream::<Pod, Number, Number, _>(|_cx, count, mut out| async move {
                for value in 0..count.value {
                    out.send(Number { value }).await?;
                }
                Ok(())
            }),
            _ => call.unimplemented(),
        }
    }
}

const CALLS: u64 = 1000;

/// Allocations of `CALLS` calls, and copies of payloads.
fn cost(pair: &mut Pair, method: u32, answer: &mut dyn FnMut()) -> (u64, u64) {
    let body = &7_u64.to_le_bytes()[..];
    let mut run = |calls: u64| {
        let target = pair.client.1.ended + calls;
        let mut asked = 0;
        while pair.client.1.ended < target {
            if asked < calls && pair.client.1.caller.open_calls() < 8 {
                pair.open(&open(method), body);
                asked += 1;
            }
            pair.step();
            answer();
        }
    };
    run(CALLS);
    let before = (allocations(), copies());
    run(CALLS);
    (allocations() - before.0, copies().count - before.1.count)
}

fn pair(choice: DriverChoice, stats: bool) -> (Pair, Later) {
    let steady = Steady::default();
    let deferred = Rc::clone(&steady.deferred);
    let mut server = Server::builder().service_here(steady);
    if stats {
        server = server.stats(StatsReader::default());
    }
    let bindings: Vec<Binding> = INFO.methods.iter().map(Method::binding).collect();
    let mut pair = Pair::new(World::Kernel(choice), server, &bindings);
    pair.client.1.count_only = true;
    (pair, deferred)
}

#[test]
fn a_warm_call_allocates_nothing_and_copies_nothing() {
    for choice in [DriverChoice::Uring, DriverChoice::Epoll] {
        for stats in [false, true] {
            let (mut pair, deferred) = pair(choice, stats);
            let mut answer = || {
                for deferred in deferred.borrow_mut().drain(..) {
                    deferred.send(b"later");
                }
            };
            for method in 0..4 {
                let what = INFO.methods[method as usize].name;
                let cost = cost(&mut pair, method, &mut answer);
                assert_eq!(cost, (0, 0), "{what} on {choice:?}, statistics {stats}");
            }
        }
    }
}

/// Faster than its credit comes back: most messages wait for some.
#[test]
fn a_warm_stream_costs_no_allocation_and_no_copy_per_message() {
    const MESSAGES: u64 = 200_000;
    for choice in [DriverChoice::Uring, DriverChoice::Epoll] {
        let (mut pair, _) = pair(choice, false);
        pair.open(&open(4), &MESSAGES.to_le_bytes());
        let mut until = |count| {
            while pair.client.1.received < count {
                pair.step();
            }
            (allocations(), copies().count, pair.client.1.received)
        };
        let (before, after) = (until(MESSAGES / 2), until(MESSAGES - 10_000));
        let messages = after.2 - before.2;
        assert!(messages > MESSAGES / 4, "{messages} between");
        // Some for each burst; and a message that straddles two receives is put together.
        let (allocations, copies) = (after.0 - before.0, after.1 - before.1);
        let what = format!("{choice:?}: {allocations} and {copies} for {messages} messages");
        assert!(
            allocations <= messages / 1000 && copies <= messages / 100,
            "{what}"
        );
    }
}

/// An inline client and its server, turned alternately on this thread.
struct Inline {
    client: InlineChannel,
    server: (Engine, Node),
}

/// What calls cost, both ends together.
#[derive(Debug)]
struct Cost {
    allocations: u64,
    copies: u64,
    working_syscalls: u64,
}

impl Inline {
    fn new(choice: DriverChoice, scheme: &str) -> Self {
        let engine = || -> Engine { rpc_config().driver(choice).build().unwrap() };
        let mut server = engine();
        let node = Server::builder()
            .service_here(Steady::default())
            .build()
            .unwrap();
        let listener = server.listen(&format!("{scheme}://127.0.0.1:0")).unwrap();
        let address = server.local_address(listener).unwrap().to_string();
        let clients = Node::clients_only(Clients::default());
        let client = InlineChannel::connect_later(engine(), clients, &address).unwrap();
        let mut pair = Self {
            client,
            server: (server, node),
        };
        let target = pair.client.target();
        while !pair.client.is_ready(target) {
            pair.turn();
        }
        assert_eq!(pair.client.bind_later(target, INFO.methods).unwrap(), 0);
        pair
    }

    fn turn(&mut self) {
        self.client.turn(Some(Duration::ZERO));
        let (engine, node) = &mut self.server;
        engine.turn(node);
    }

    /// Makes `calls` calls with `outstanding` under way, and reads every answer in place.
    fn run(&mut self, calls: u64, outstanding: u64, options: &CallOptions<'_>) {
        let (mut started, mut ended) = (0, 0);
        while ended < calls {
            while started < calls && started - ended < outstanding {
                let body = u64::to_le_bytes(started);
                self.client.start::<Raw, [u8]>(0, &body, options).unwrap();
                started += 1;
            }
            self.turn();
            while let Some((_, answer)) = self.client.next_answer() {
                let response = answer.decode::<Raw, [u8]>().unwrap();
                assert_eq!(response.view().unwrap().len(), 8);
                ended += 1;
            }
        }
    }

    fn cost(&mut self, calls: u64, outstanding: u64, options: &CallOptions<'_>) -> Cost {
        self.run(calls, outstanding, options);
        let working = |pair: &Self| {
            let ends = [pair.client.engine().stats(), pair.server.0.stats()];
            ends.map(|it| it.driver.working_syscalls())
                .iter()
                .sum::<u64>()
        };
        let before = (allocations(), copies().count, working(self));
        self.run(calls, outstanding, options);
        Cost {
            allocations: allocations() - before.0,
            copies: copies().count - before.1,
            working_syscalls: working(self) - before.2,
        }
    }
}

#[test]
fn a_warm_call_of_the_inline_client_allocates_nothing_and_copies_nothing() {
    let options = [
        CallOptions::default(),
        CallOptions::timeout(Duration::from_secs(3600)),
    ];
    for choice in [DriverChoice::Uring, DriverChoice::Epoll] {
        for options in &options {
            let mut pair = Inline::new(choice, "tcp");
            for outstanding in [1, 8, 64] {
                let cost = pair.cost(64 * 50, outstanding, options);
                let what = format!("{choice:?}, {outstanding} outstanding: {cost:?}");
                assert_eq!((cost.allocations, cost.copies), (0, 0), "{what}");
            }
        }
    }
}

#[test]
fn calls_that_are_under_way_together_share_system_calls() {
    for choice in [DriverChoice::Uring, DriverChoice::Epoll] {
        let mut pair = Inline::new(choice, "tcp");
        let calls = 64 * 200;
        let cost = pair.cost(calls, 64, &CallOptions::default());
        // Two sends and two receives for 64 calls; now and then epoll is asked whether others wait, which counts too.
        let bound = match choice {
            DriverChoice::Epoll => calls / 16 + calls / 256,
            _ => calls / 16,
        };
        let what = format!("{choice:?}: {cost:?} for {calls} calls");
        assert!(cost.working_syscalls <= bound, "{what}");
    }
}

/// Reliable UDP keeps what may have to go once more: a small turn's bytes are copied to a shelf, a large one's stay where
/// they were written.
#[test]
fn warm_calls_over_reliable_udp_allocate_nothing_and_share_system_calls() {
    for choice in [DriverChoice::Uring, DriverChoice::Epoll] {
        let mut pair = Inline::new(choice, "rudp");
        // Paths are searched and tables grow meanwhile.
        pair.run(64 * 200, 64, &CallOptions::default());
        for outstanding in [1, 8, 64] {
            let calls = 64 * 100;
            // Two sends and two receives for all that are under way together: a sixteenth of a call each at 64. Epoll is
            // asked now and then who else waits, which counts when the one socket had something.
            let rounds = calls / outstanding;
            // Time is real: where the machine is busy elsewhere a round trip takes longer than expected, which costs probes
            // and their acknowledgements: four calls. The shortest run has seldom more than one.
            let beside = match choice {
                DriverChoice::Uring if rounds <= 100 => rounds / 16,
                DriverChoice::Epoll if rounds <= 100 => rounds / 8,
                _ => rounds / 2,
            };
            let mut costs = Vec::new();
            let quiet = (0..20).any(|_| {
                let cost = pair.cost(calls, outstanding, &CallOptions::default());
                let is_quiet = cost.allocations == 0
                    && cost.copies <= 2 * rounds
                    && cost.working_syscalls <= 4 * rounds + beside;
                costs.push(cost);
                is_quiet
            });
            assert!(quiet, "{choice:?}, {outstanding} outstanding: {costs:?}");
        }
    }
}

/// The blocking call of the paved path: connect, bind, call, with the server on a thread of its own.
#[test]
fn a_warm_blocking_call_allocates_nothing_on_its_thread() {
    for choice in [DriverChoice::Uring, DriverChoice::Epoll] {
        let config = move || Config::default().driver(choice);
        let server = Server::builder()
            .service(Steady::default)
            .engine(config)
            .shards(1, &["tcp://127.0.0.1:0"])
            .unwrap();
        let address = server.addresses()[0].to_string();
        let mut client = InlineChannel::connect_with(config(), &address).unwrap();
        let method = client.bind(INFO.methods).unwrap();
        let options = CallOptions::default();
        let mut run = |calls: u64| {
            for number in 0..calls {
                let body = number.to_le_bytes();
                let answer = client.call::<Raw, [u8], [u8]>(method, &body, &options);
                assert_eq!(answer.unwrap().bytes(), body);
            }
        };
        run(3000);
        let before = (allocations(), copies().count);
        run(CALLS);
        let cost = (allocations() - before.0, copies().count - before.1);
        assert_eq!(cost, (0, 0), "{choice:?}");
    }
}
