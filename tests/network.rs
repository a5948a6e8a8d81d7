//! What the network says against a packet transport, on the drivers of the kernel: nobody there, too long, no room.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod world;

use std::net::UdpSocket;
use std::time::Duration;

use ringway::{DriverChoice, ListenOptions, SocketOptions};
use world::relay::Relay;
use world::{App, Pair, Tape, World, config, config_with, pattern};

/// So long that a test which waits for it has hung.
const NEVER: Duration = Duration::from_hours(1);

macro_rules! played {
    ($driver:ident: $($scenario:ident),*) => {
        mod $driver {
            mod rudp { $( #[test] fn $scenario() {
                crate::world::over("rudp", || crate::$scenario(crate::World::$driver()));
            } )* }
            mod quic { $( #[test] fn $scenario() {
                crate::world::over("quic", || crate::$scenario(crate::World::$driver()));
            } )* }
        }
    };
}

macro_rules! on_kernel_drivers {
    ($($scenario:ident),* $(,)?) => { played!(uring: $($scenario),*); played!(epoll: $($scenario),*); };
}

/// Datagrams that the kernel has dropped at the sockets of a port, because nobody had read those before.
fn dropped_at(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let at = format!(":{port:04X}");
    let lines = table.lines().filter(|line| {
        let local = line.split_whitespace().nth(1);
        local.is_some_and(|local| local.ends_with(&at))
    });
    let drops = lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok());
    drops.sum()
}

/// Senders as fast as they can, and a receiver that looks seldom and has little room.
fn nothing_is_dropped_where_nobody_reads(choice: DriverChoice) {
    let options = ListenOptions {
        socket: SocketOptions {
            recv_buffer_bytes: Some(100_000),
            ..SocketOptions::default()
        },
        ..ListenOptions::default()
    };
    let world = World::Kernel(choice);
    let mut server = world::Host::new(&world, config(), "server");
    server.app.count_only = true;
    let listener = server
        .engine
        .listen_with("rudp://127.0.0.1:0", &options)
        .unwrap();
    let address = server.engine.local_address(listener).unwrap();
    let port = address.socket_addr().unwrap().port();
    // One packet a message, many a message, and both from several sides at once.
    for (clients, len, count) in [(1, 900, 4000), (1, 500_000, 12), (3, 20_000, 100)] {
        server.app.count = 0;
        let mut senders: Vec<_> = (0..clients)
            .map(|_| {
                let mut sender = world::Host::new(&world, config(), "client");
                let id = sender.engine.connect(&address.to_string()).unwrap();
                while sender.app.opened.is_empty() {
                    sender.turn();
                    server.turn();
                }
                (sender, id, 0)
            })
            .collect();
        let body = pattern(len, 1);
        while server.app.count < clients * count {
            for _ in 0..200 {
                for (sender, id, sent) in &mut senders {
                    while *sent < count && sender.send(*id, &body).is_ok() {
                        *sent += 1;
                    }
                    sender.turn();
                }
            }
            server.turn();
            assert_eq!(dropped_at(port), 0, "{clients} with {len} bytes");
        }
    }
}

#[test]
fn nothing_is_dropped_where_nobody_reads_on_both_drivers() {
    for choice in [DriverChoice::Uring, DriverChoice::Epoll] {
        nothing_is_dropped_where_nobody_reads(choice);
    }
}

/// Plain datagrams promise nothing, but an answer is one.
fn datagrams_are_answered_from_the_address_that_was_asked(world: World) {
    let mut server = world::Host::new(&world, config(), "server");
    server.app = App::echo();
    let listener = server.engine.listen("udp://0.0.0.0:0").unwrap();
    let real = server.engine.local_address(listener).unwrap();
    let port = real.socket_addr().unwrap().port();
    let clients = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|host| {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_nonblocking(true).unwrap();
        client.connect((host, port)).unwrap();
        client
    });
    for client in &clients {
        client.send(b"who are you?").unwrap();
    }
    let mut room = [0; 64];
    for client in &clients {
        let answered = (0..300_000).any(|_| {
            server.turn();
            client.recv(&mut room).is_ok()
        });
        assert!(answered, "{:?}", client.peer_addr());
    }
}

#[test]
fn datagrams_are_answered_from_the_address_that_was_asked_on_both_drivers() {
    for world in [World::uring(), World::epoll()] {
        datagrams_are_answered_from_the_address_that_was_asked(world);
    }
}

on_kernel_drivers![
    connecting_to_nobody_is_refused_at_once,
    nobody_for_a_while_does_not_end_a_connection,
    a_path_narrower_than_datagrams_may_be_carries_everything,
    who_listens_on_all_addresses_answers_from_the_one_that_was_asked,
    a_buffer_that_the_system_caps_is_told_once,
];

fn connecting_to_nobody_is_refused_at_once(world: World) {
    let patient = config_with(|stream| stream.handshake_timeout = NEVER).connect_timeout(NEVER);
    let mut pair = Pair::with(world, patient, config());
    let absent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = absent.local_addr().unwrap().port();
    drop(absent);
    let free = pair.world.address("tcp");
    let address = free.replace(":0", &format!(":{port}"));
    let connection = pair.client.engine.connect(&address).unwrap();
    pair.until("the refusal", |pair| !pair.client.app.closed.is_empty());
    let gone = &pair.client.app.closed[0];
    assert_eq!(gone.connection, connection);
    assert!(gone.reason.starts_with("ConnectFailed"), "{}", gone.reason);
    assert!(
        gone.text.contains("refused") && gone.text.contains("is the server running"),
        "{}",
        gone.text
    );
}

fn nobody_for_a_while_does_not_end_a_connection(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app = App::echo();
    let address = pair.world.address("tcp");
    let listener = pair.server.engine.listen(&address).unwrap();
    let real = pair.server.engine.local_address(listener).unwrap();
    let mut relay = Relay::to(real.socket_addr().unwrap());
    let scheme = address.split_once("://").unwrap().0;
    let client = pair
        .client
        .engine
        .connect(&format!("{scheme}://{}", relay.address))
        .unwrap();
    pair.until("opened", |pair| {
        relay.carry();
        !pair.client.app.opened.is_empty()
    });
    let dropped = |pair: &Pair| pair.client.engine.stats().driver.datagrams_dropped;
    let before = dropped(&pair);
    relay.vanish();
    pair.client.send(client, b"anyone?").unwrap();
    pair.until("the network says that nobody is there", |pair| {
        relay.carry();
        dropped(pair) >= before + 2
    });
    relay.come_back();
    pair.until("the answer", |pair| {
        relay.carry();
        !pair.client.app.got.is_empty()
    });
    assert_eq!(pair.client.app.got[0].body, b"anyone?");
    assert!(pair.client.app.closed.is_empty());
}

/// Over IPv6 the loopback carries 19 bytes less than the longest datagram, which is tried and refused.
fn a_path_narrower_than_datagrams_may_be_carries_everything(world: World) {
    let mut pair = Pair::new(world);
    let address = pair.world.address("tcp").replace("127.0.0.1", "[::1]");
    let listener = pair.server.engine.listen(&address).unwrap();
    let address = pair.server.engine.local_address(listener).unwrap();
    let (client, _) = pair.connect_to(&address.to_string());
    for seed in 0..8 {
        let body = pattern(1 << 20, seed);
        pair.until("room", |pair| pair.client.send(client, &body).is_ok());
    }
    pair.until("all of them", |pair| pair.server.app.got.len() == 8);
    for (seed, got) in (0..8).zip(&pair.server.app.got) {
        assert!(got.body == pattern(1 << 20, seed));
    }
    assert!(pair.client.app.closed.is_empty());
}

/// Clients' sockets are connected: what comes from another address than they wrote to never reaches them.
fn who_listens_on_all_addresses_answers_from_the_one_that_was_asked(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app = App::echo();
    for (all, asked) in [
        ("0.0.0.0", &["127.0.0.1", "127.0.0.2"][..]),
        ("[::]", &["[::1]"][..]),
    ] {
        let address = pair.world.address("tcp").replace("127.0.0.1", all);
        let listener = pair.server.engine.listen(&address).unwrap();
        let real = pair.server.engine.local_address(listener).unwrap();
        for host in asked {
            let address = real.to_string().replace(all, host);
            let (client, _) = pair.connect_to(&address);
            let before = pair.client.app.got.len();
            for seed in 0..3 {
                let body = pattern(100_000, seed);
                pair.until("room", |pair| pair.client.send(client, &body).is_ok());
            }
            pair.until("the answers", |pair| {
                pair.client.app.got.len() == before + 3
            });
        }
    }
    assert!(pair.client.app.closed.is_empty());
}

fn a_buffer_that_the_system_caps_is_told_once(world: World) {
    let max = |name: &str| -> u32 {
        let path = format!("/proc/sys/net/core/{name}");
        std::fs::read_to_string(path)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    let (send, recv) = (max("wmem_max") + 1024, max("rmem_max") + 1024);
    let options = ListenOptions {
        socket: SocketOptions {
            send_buffer_bytes: Some(send),
            recv_buffer_bytes: Some(recv),
            ..SocketOptions::default()
        },
        ..ListenOptions::default()
    };
    let tape = Tape::default();
    let observed = config().observer(Box::new(tape.clone()));
    let mut pair = Pair::with(world, config(), observed);
    for _ in 0..2 {
        let address = pair.world.address("tcp");
        pair.server.engine.listen_with(&address, &options).unwrap();
    }
    let told: Vec<String> = tape.0.borrow().clone();
    let caps: Vec<&String> = told.iter().filter(|it| it.contains("BufferCap")).collect();
    assert_eq!(caps.len(), 2, "one for each direction: {told:?}");
    for (asked, name) in [(send, "net.core.wmem_max"), (recv, "net.core.rmem_max")] {
        let asked = format!("asked_bytes: {asked}");
        assert!(
            caps.iter()
                .any(|it| it.contains(&asked) && it.contains(name)),
            "{caps:?}"
        );
    }
    let cap = ringway::BufferCap {
        asked_bytes: 4096,
        granted_bytes: 2048,
        sysctl: "net.core.rmem_max",
    };
    let text = cap.to_string();
    assert!(text.contains("sysctl -w net.core.rmem_max=4096"), "{text}");
}
