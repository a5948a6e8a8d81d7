//! What a message costs once everything is warm: allocations, payload copies, system calls, all counted.
//!
//! Both engines are turned alternately on one thread, so that every figure is exact and the same on every
//! run: nothing here depends on the speed of the machine.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod allocations;
mod world;

use allocations::allocations;
use ringway::{
    Closed, ConnectionId, Context, DriverChoice, Engine, Handler, Message, Peer, copies,
};
use world::config;

#[global_allocator]
static COUNTING: allocations::Counting = allocations::Counting;

/// How a side sends.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Answers every message in the same form, by claim.
    Echo,
    /// Answers every message with a lease of this many bytes.
    Lease(usize),
    /// Answers every message with an empty one.
    Acknowledge,
}

/// One side of a conversation: it answers as long as it may.
struct Side {
    way: Way,
    connections: Vec<ConnectionId>,
    received: u64,
    bytes: u64,
}

impl Side {
    fn new(way: Way) -> Self {
        Self {
            way,
            connections: Vec::with_capacity(64),
            received: 0,
            bytes: 0,
        }
    }

    fn say(way: Way, cx: &mut Context<'_>, connection: ConnectionId) {
        let Way::Lease(len) = way else {
            unreachable!("only leases are sent unasked")
        };
        let mut lease = cx.lease(len).unwrap();
        lease.append(len).unwrap().fill(5);
        cx.send_lease(connection, lease).unwrap();
    }
}

impl Handler for Side {
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        self.received += 1;
        self.bytes += message.body().len() as u64;
        match self.way {
            Way::Echo => {
                let mut claim = cx.claim_reply(&message, message.body().len()).unwrap();
                claim.copy_from_slice(message.body());
                claim.commit();
            }
            Way::Lease(_) => Self::say(self.way, cx, message.connection()),
            Way::Acknowledge => cx.claim_reply(&message, 0).unwrap().commit(),
        }
    }

    fn opened(&mut self, _cx: &mut Context<'_>, connection: ConnectionId, _peer: &Peer) {
        self.connections.push(connection);
    }

    fn closed(&mut self, _cx: &mut Context<'_>, _connection: ConnectionId, closed: &Closed) {
        unreachable!("{closed}");
    }
}

/// Two engines, turned in turns.
struct Bench {
    client: Engine,
    server: Engine,
    near: Side,
    far: Side,
}

/// What a number of messages cost, both engines together.
#[derive(Debug)]
struct Cost {
    messages: u64,
    allocations: u64,
    copies: u64,
    copied_bytes: u64,
    working: u64,
    text: String,
}

impl Bench {
    fn new(choice: DriverChoice, near: Way, far: Way) -> Self {
        let engine = || config().driver(choice).build().unwrap();
        Self {
            client: engine(),
            server: engine(),
            near: Side::new(near),
            far: Side::new(far),
        }
    }

    fn connect(&mut self, scheme: &str, count: usize) {
        let listener = self
            .server
            .listen(&format!("{scheme}://127.0.0.1:0"))
            .unwrap();
        let address = self.server.local_address(listener).unwrap().to_string();
        for _ in 0..count {
            self.client.connect(&address).unwrap();
        }
        while self.near.connections.len() < count {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.client.turn(&mut self.near);
        self.server.turn(&mut self.far);
    }

    /// Puts `count` messages of `len` bytes on each connection.
    fn begin(&mut self, count: usize, len: usize) {
        for connection in self.near.connections.clone() {
            for _ in 0..count {
                let mut cx = self.client.context();
                match self.near.way {
                    Way::Lease(_) => Side::say(self.near.way, &mut cx, connection),
                    _ => {
                        let mut claim = cx.claim(connection, len).unwrap();
                        claim.fill(7);
                        claim.commit();
                    }
                }
            }
        }
    }

    /// Turns until the client got `count` more answers.
    fn run(&mut self, count: u64) -> Cost {
        let stats = [self.client.stats(), self.server.stats()];
        let (allocated, copied) = (allocations(), copies());
        let goal = self.near.received + count;
        let before = self.near.received + self.far.received;
        while self.near.received < goal {
            self.turn();
        }
        let (allocated, now) = (allocations() - allocated, copies());
        let after = [self.client.stats(), self.server.stats()];
        let working =
            |at: usize| after[at].driver.working_syscalls() - stats[at].driver.working_syscalls();
        Cost {
            messages: self.near.received + self.far.received - before,
            allocations: allocated,
            copies: now.count - copied.count,
            copied_bytes: now.bytes - copied.bytes,
            working: working(0) + working(1),
            text: format!("before {stats:?}\nafter {after:?}"),
        }
    }
}

/// More than enough to fill every stash and grow every table once.
const WARM_UP: u64 = 3000;

macro_rules! on_kernel_drivers {
    ($($scenario:ident),* $(,)?) => {
        mod uring { $( #[test] fn $scenario() { super::$scenario(ringway::DriverChoice::Uring); } )* }
        mod epoll { $( #[test] fn $scenario() { super::$scenario(ringway::DriverChoice::Epoll); } )* }
    };
}

on_kernel_drivers![
    the_counter_counts,
    a_round_trip_costs_two_sends_and_two_receives,
    a_round_trip_over_unix_sockets_costs_the_same,
    messages_in_flight_together_share_system_calls,
    large_messages_by_lease_are_received_in_place,
    datagrams_in_flight_together_share_system_calls,
    a_round_trip_over_reliable_udp_costs_no_memory,
    reliable_datagrams_in_flight_together_share_system_calls,
    eight_busy_connections_cost_no_memory,
    four_hundred_busy_connections_cost_no_memory,
];

fn the_counter_counts(_choice: DriverChoice) {
    let before = allocations();
    drop(std::hint::black_box(Box::new(1_u64)));
    assert_eq!(allocations() - before, 1);
}

fn a_round_trip_costs_two_sends_and_two_receives(choice: DriverChoice) {
    round_trips(choice, "tcp");
}

fn a_round_trip_over_unix_sockets_costs_the_same(choice: DriverChoice) {
    round_trips(choice, "unix");
}

fn round_trips(choice: DriverChoice, scheme: &str) {
    let mut bench = Bench::new(choice, Way::Echo, Way::Echo);
    if scheme == "unix" {
        let world = world::World::Kernel(choice);
        let address = world.address("unix");
        bench.server.listen(&address).unwrap();
        bench.client.connect(&address).unwrap();
        while bench.near.connections.is_empty() {
            bench.turn();
        }
    } else {
        bench.connect(scheme, 1);
    }
    bench.begin(1, 64);
    bench.run(WARM_UP);
    let cost = bench.run(2000);
    assert_eq!((cost.allocations, cost.copies), (0, 0), "{cost:?}");
    // One send and one receive each; now and then epoll is asked whether others wait, which counts too.
    assert!(
        cost.working <= 2 * cost.messages + cost.messages / 16,
        "{cost:?}\n{}",
        cost.text
    );
}

fn messages_in_flight_together_share_system_calls(choice: DriverChoice) {
    in_flight_together(choice, "tcp");
}

/// 64 small messages at once; 16 of them share a system call, and none costs memory.
fn in_flight_together(choice: DriverChoice, scheme: &str) -> Bench {
    let mut bench = Bench::new(choice, Way::Echo, Way::Echo);
    bench.connect(scheme, 1);
    bench.begin(64, 64);
    bench.run(64 * WARM_UP / 10);
    let cost = bench.run(64 * 500);
    assert_eq!((cost.allocations, cost.copies), (0, 0), "{cost:?}");
    assert!(
        cost.working * 16 <= cost.messages,
        "{cost:?}\n{}",
        cost.text
    );
    bench
}

fn large_messages_by_lease_are_received_in_place(choice: DriverChoice) {
    const BYTES: usize = 1 << 20;
    let mut bench = Bench::new(choice, Way::Lease(BYTES), Way::Acknowledge);
    bench.connect("tcp", 1);
    bench.begin(2, 0);
    bench.run(100);
    let bytes = bench.far.bytes;
    let cost = bench.run(200);
    let messages = (bench.far.bytes - bytes) / BYTES as u64;
    assert!(messages >= 199, "{messages}");
    assert_eq!(cost.allocations, 0, "{cost:?}");
    assert!(
        cost.copied_bytes <= messages * (BYTES as u64 / 100),
        "{cost:?}"
    );
}

fn datagrams_in_flight_together_share_system_calls(choice: DriverChoice) {
    let bench = in_flight_together(choice, "udp");
    assert!(
        bench.client.capabilities().udp_gso,
        "this kernel segments datagrams"
    );
    assert_eq!(bench.client.stats().driver.datagrams_dropped, 0);
}

/// Each message is copied once, to the sender's shelf: the peer may ask for it again.
fn a_round_trip_over_reliable_udp_costs_no_memory(choice: DriverChoice) {
    let mut bench = Bench::new(choice, Way::Echo, Way::Echo);
    bench.connect("rudp", 1);
    bench.begin(1, 64);
    bench.run(WARM_UP);
    let cost = bench.run(2000);
    assert_eq!(cost.allocations, 0, "{cost:?}");
    assert!(cost.copies <= cost.messages, "{cost:?}");
    // One send and one receive each, and the acknowledgements travel with the messages.
    assert!(
        cost.working <= 2 * cost.messages + cost.messages / 16,
        "{cost:?}\n{}",
        cost.text
    );
}

fn reliable_datagrams_in_flight_together_share_system_calls(choice: DriverChoice) {
    in_flight_together(choice, "rudp");
}

fn eight_busy_connections_cost_no_memory(choice: DriverChoice) {
    let mut bench = Bench::new(choice, Way::Echo, Way::Echo);
    bench.connect("tcp", 8);
    bench.begin(1, 64);
    bench.run(8 * WARM_UP);
    let cost = bench.run(8 * 1000);
    assert_eq!((cost.allocations, cost.copies), (0, 0), "{cost:?}");
    // The ring carries many receives and sends in one call; epoll needs one for each, and one to ask.
    let bound = match choice {
        DriverChoice::Uring => cost.messages,
        _ => cost.messages * 9 / 4,
    };
    assert!(cost.working <= bound, "{cost:?}\n{}", cost.text);
}

/// More connections than one submission queue takes sends.
fn four_hundred_busy_connections_cost_no_memory(choice: DriverChoice) {
    let mut bench = Bench::new(choice, Way::Echo, Way::Echo);
    bench.connect("tcp", 400);
    bench.begin(1, 64);
    bench.run(400 * 100);
    let cost = bench.run(400 * 100);
    assert_eq!((cost.allocations, cost.copies), (0, 0), "{cost:?}");
}
