//! What goes wrong around an engine: addresses, settings, descriptors, peers and memory.
//!
//! What changes the whole process (its environment, its limit of descriptors) happens in a child: this
//! binary again, told by a variable which part to play.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test's helper fails the test, a child answers by printing, dice are small"
)]

mod world;

use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Duration;

use ringway::{
    CloseCode, CloseReason, Config, ConfigError, Counter, DriverChoice, Limits, ListenOptions,
    Mode, OpenError, StartError, StreamConfig,
};
use world::{App, Host, Pair, World, config, config_with, pattern};

macro_rules! on_kernel_drivers {
    ($($scenario:ident),* $(,)?) => {
        mod uring { $( #[test] fn $scenario() { super::$scenario(super::World::uring()); } )* }
        mod epoll { $( #[test] fn $scenario() { super::$scenario(super::World::epoll()); } )* }
    };
}

on_kernel_drivers![
    an_address_in_use_names_the_fix,
    bad_addresses_say_how_good_ones_look,
    peers_that_reset_at_once_cost_nothing,
    connecting_to_a_full_queue_times_out,
    an_engine_with_everything_in_flight_leaves_no_descriptor,
    freed_memory_is_never_met_by_the_kernel,
    poisoned_memory_is_never_read,
    idle_honest_peers_stay,
];

fn choice(world: &World) -> DriverChoice {
    match world {
        World::Kernel(choice) => *choice,
        World::Sim(_) => unreachable!("kernel drivers only"),
    }
}

fn an_address_in_use_names_the_fix(world: World) {
    let mut pair = Pair::new(world);
    for scheme in ["tcp", "udp", "unix"] {
        let address = pair.world.address(scheme);
        let listener = pair.server.engine.listen(&address).unwrap();
        let address = pair
            .server
            .engine
            .local_address(listener)
            .unwrap()
            .to_string();
        let refused = pair.client.engine.listen(&address).unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, OpenError::Socket(_)), "{text}");
        assert!(
            text.contains(&address) && text.contains("choose another port"),
            "{text}"
        );
    }
    let foreign = pair
        .client
        .engine
        .listen("tcp://192.0.2.1:0")
        .unwrap_err()
        .to_string();
    assert!(
        foreign.contains("no interface of this machine has that address"),
        "{foreign}"
    );
    let path = pair
        .client
        .engine
        .listen("unix:///nonexistent/ringway.sock")
        .unwrap_err();
    assert!(
        path.to_string().contains("/nonexistent/ringway.sock"),
        "{path}"
    );
}

fn bad_addresses_say_how_good_ones_look(world: World) {
    let mut engine = world.engine(config(), "engine");
    let long = format!("unix:///{}", "x".repeat(200));
    let table = [
        ("", "tcp://host:port"),
        ("127.0.0.1:80", "tcp://host:port"),
        ("http://127.0.0.1:80", "tcp://host:port"),
        ("tcp:127.0.0.1:80", "tcp://host:port"),
        ("tcp://", "tcp://127.0.0.1:7000"),
        ("tcp://127.0.0.1", "tcp://127.0.0.1:7000"),
        ("tcp://[::1]", ""),
        ("tcp://127.0.0.1:70000", ""),
        ("udp://nowhere", "tcp://127.0.0.1:7000"),
        ("tcp://no host here:1", "can't be resolved"),
        ("unix://", "unix://@name"),
        ("unix://@", "unix://@name"),
        ("unix:///a\0b", "unix://@name"),
        (&long, "at most 107 bytes"),
    ];
    for (address, fix) in table {
        for refused in [
            engine.listen(address).map(drop).unwrap_err(),
            engine.connect(address).map(drop).unwrap_err(),
        ] {
            let text = refused.to_string();
            assert!(
                matches!(refused, OpenError::Address(_)),
                "{address}: {text}"
            );
            assert!(text.contains(fix), "{address}: {text}");
        }
    }
    // Inside a handler nobody waits for a name service.
    let refused = engine.context().connect("tcp://localhost:1").unwrap_err();
    assert!(matches!(refused, OpenError::Address(_)), "{refused}");
    assert_eq!(engine.stats().connections, 0);
}

#[test]
fn wrong_settings_name_their_field() {
    type Change = fn(&mut Limits);
    let zero: [(&str, Change); 7] = [
        ("connections_max", |limits| limits.connections_max = 0),
        ("listeners_max", |limits| limits.listeners_max = 0),
        ("handshakes_max", |limits| limits.handshakes_max = 0),
        ("queue_bytes_max", |limits| limits.queue_bytes_max = 0),
        ("timers_max", |limits| limits.timers_max = 0),
        ("commands_max", |limits| limits.commands_max = 0),
        ("link_messages_max", |limits| limits.link_messages_max = 0),
    ];
    for (field, change) in zero {
        let mut limits = Limits::default();
        change(&mut limits);
        let refused = Config::default().limits(limits).build().unwrap_err();
        let StartError::Config(ConfigError::Zero { field: named }) = refused else {
            unreachable!("{refused}")
        };
        assert_eq!(named, field);
    }
    for budget_bytes in [0, 1 << 20] {
        let limits = Limits {
            budget_bytes,
            ..Limits::default()
        };
        let text = Config::default()
            .limits(limits)
            .build()
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("`budget_bytes`") && text.contains("`message_bytes_max`"),
            "{text}"
        );
    }
    let stream = StreamConfig {
        keepalive_timeout: Duration::ZERO,
        ..StreamConfig::default()
    };
    let text = Config::default()
        .stream(stream)
        .build()
        .unwrap_err()
        .to_string();
    assert!(text.contains("keepalive_timeout"), "{text}");
    let text = Config::default()
        .message_bytes_max(0)
        .build()
        .unwrap_err()
        .to_string();
    assert!(text.contains("message_bytes_max"), "{text}");
}

/// Tells the child which part to play; without it the children's tests are over at once.
const PART: &str = "RINGWAY_TEST_PART";

/// Runs the test `name` of this binary in a child, by way of a shell command that ends in `exec "$0" "$@"`.
fn child(name: &str, before: &str, driver: Option<&str>) -> Output {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{before} exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(PART, name)
        .env_remove("RINGWAY_DRIVER");
    if let Some(driver) = driver {
        command.env("RINGWAY_DRIVER", driver);
    }
    command.output().unwrap()
}

fn plays(name: &str) -> bool {
    std::env::var(PART).as_deref() == Ok(name)
}

#[test]
fn child_starts_an_engine() {
    if plays("child_starts_an_engine") {
        match Config::default().build() {
            Ok(engine) => println!("<driver {}>", engine.capabilities().kind),
            Err(error) => println!("<error {error}>"),
        }
    }
}

#[test]
fn the_variable_chooses_the_driver() {
    let said = |driver: Option<&str>| {
        let output = child("child_starts_an_engine", "", driver);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        let from = text.find('<').unwrap() + 1;
        text[from..text.find('>').unwrap()].to_owned()
    };
    assert_eq!(said(Some("uring")), "driver uring");
    assert_eq!(said(Some("epoll")), "driver epoll");
    assert_eq!(said(Some("")), said(None), "empty is unset");
    for wrong in ["io_uring", "EPOLL", "sim", " "] {
        let text = said(Some(wrong));
        assert!(
            text.contains(&format!("RINGWAY_DRIVER is `{wrong}`")),
            "{text}"
        );
        assert!(text.contains("set it to `uring` or `epoll`"), "{text}");
    }
}

#[test]
fn a_listener_recovers_when_descriptors_ran_out() {
    for part in ["child_runs_out_on_uring", "child_runs_out_on_epoll"] {
        let output = child(part, "ulimit -n 60;", None);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && text.contains("<recovered>"),
            "{part}: {text}{errors}"
        );
    }
}

#[test]
fn child_runs_out_on_uring() {
    if plays("child_runs_out_on_uring") {
        runs_out(DriverChoice::Uring);
    }
}

#[test]
fn child_runs_out_on_epoll() {
    if plays("child_runs_out_on_epoll") {
        runs_out(DriverChoice::Epoll);
    }
}

/// With 60 descriptors, uses them up by connections, sees accepts fail, and sees all be well afterwards.
fn runs_out(choice: DriverChoice) {
    let mut server = Host::new(&World::Kernel(choice), config(), "server");
    server.app = App::echo();
    let listener = server.engine.listen("tcp://127.0.0.1:0").unwrap();
    let address = server.engine.local_address(listener).unwrap();
    let raw = address.socket_addr().unwrap();
    let mut client = Host::new(&World::Kernel(choice), config(), "client");
    let counters = server.engine.handle().counters();

    // Connects first, as long as there are descriptors: then there are none left to accept with.
    let mut peers: Vec<TcpStream> = std::iter::from_fn(|| TcpStream::connect(raw).ok()).collect();
    assert!(peers.len() > 10 && peers.len() < 60, "{}", peers.len());
    // One is free again, so that some accepts succeed before they fail.
    peers.pop();
    while counters.value(Counter::AcceptFaults) == 0 {
        server
            .engine
            .park(&mut server.app, Some(Duration::from_millis(1)));
    }
    drop(peers);
    let connection = client.engine.connect(&address.to_string()).unwrap();
    while client.app.opened.is_empty() {
        assert!(client.app.closed.is_empty(), "{:?}", client.app.closed);
        client.turn();
        server
            .engine
            .park(&mut server.app, Some(Duration::from_millis(1)));
    }
    client.send(connection, b"well again").unwrap();
    while client.app.got.is_empty() {
        client.turn();
        server
            .engine
            .park(&mut server.app, Some(Duration::from_millis(1)));
    }
    assert_eq!(client.app.got[0].body, b"well again");
    println!("<recovered>");
}

fn peers_that_reset_at_once_cost_nothing(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app = App::echo();
    let listener = pair.server.engine.listen("tcp://127.0.0.1:0").unwrap();
    let address = pair.server.engine.local_address(listener).unwrap();
    let raw = address.socket_addr().unwrap();
    for number in 0..100 {
        let mut peer = TcpStream::connect(raw).unwrap();
        if number % 3 > 0 {
            std::io::Write::write_all(&mut peer, &[number; 7]).unwrap();
        }
        if number % 3 == 2 {
            pair.server.turn();
        }
        // An adopted socket that is aborted resets: its bytes were never read.
        reset(peer);
        if number % 7 == 0 {
            pair.server.turn();
        }
    }
    let (client, _) = pair.connect_to(&address.to_string());
    pair.until("the resets are forgotten", |pair| {
        pair.server.engine.stats().connections == 1
    });
    pair.client.send(client, b"unharmed").unwrap();
    pair.until("echo", |pair| pair.client.app.got.len() == 1);
    assert!(pair.server.app.closed.is_empty(), "none was announced");
}

/// Closes with a reset instead of an end: bytes that were not read are in its receive buffer.
fn reset(peer: TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt};
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&peer, sockopt::Linger, &linger).unwrap();
    drop(peer);
}

fn connecting_to_a_full_queue_times_out(world: World) {
    // A raw listener that accepts nobody: the kernel answers as many as its queue takes, then no more.
    let client = config().connect_timeout(Duration::from_millis(50));
    let mut pair = Pair::with(world, client, config());
    let quiet = World::Kernel(DriverChoice::Epoll);
    let mut listener = Host::new(&quiet, config(), "listener");
    let options = ListenOptions {
        backlog: 1,
        ..ListenOptions::default()
    };
    let id = listener
        .engine
        .listen_with("tcp://127.0.0.1:0", &options)
        .unwrap();
    let address = listener.engine.local_address(id).unwrap().to_string();
    let tried: Vec<_> = (0..8)
        .map(|_| pair.client.engine.connect(&address).unwrap())
        .collect();
    pair.until("some gave up", |pair| pair.client.app.closed.len() >= 4);
    for gone in &pair.client.app.closed {
        assert!(tried.contains(&gone.connection));
        assert_eq!(gone.reason, "ConnectTimeout");
        assert!(gone.text.contains("`connect_timeout`"), "{}", gone.text);
    }
    assert!(pair.client.app.opened.is_empty());
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// In a child, so that no other test opens descriptors meanwhile.
fn an_engine_with_everything_in_flight_leaves_no_descriptor(world: World) {
    let part = match choice(&world) {
        DriverChoice::Uring => "child_drops_everything_on_uring",
        _ => "child_drops_everything_on_epoll",
    };
    let output = child(part, "ulimit -n 20000;", None);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && text.contains("<clean>"),
        "{text}{errors}"
    );
}

#[test]
fn child_drops_everything_on_uring() {
    if plays("child_drops_everything_on_uring") {
        drops_everything(World::uring());
    }
}

#[test]
fn child_drops_everything_on_epoll() {
    if plays("child_drops_everything_on_epoll") {
        drops_everything(World::epoll());
    }
}

fn drops_everything(world: World) {
    const CONNECTIONS: usize = 2000;
    let before = descriptors();
    let mut pair = Pair::new(world);
    let (_, address) = pair.listening("tcp://127.0.0.1:0");
    for batch in 1..=CONNECTIONS / 100 {
        for _ in 0..100 {
            pair.client.engine.connect(&address).unwrap();
        }
        pair.until("a hundred more", |pair| {
            pair.client.app.opened.len() == batch * 100
                && pair.server.app.opened.len() == batch * 100
        });
    }
    assert!(descriptors() >= before + 2 * CONNECTIONS);
    let ends: Vec<_> = pair.client.app.opened.iter().map(|(id, _)| *id).collect();
    for (number, end) in ends.iter().enumerate() {
        // Some leave at once, some fill the kernel's buffers, some are large and half-way received.
        pair.client
            .send(*end, &pattern([64, 20_000, 200_000][number % 3], 1))
            .unwrap();
    }
    pair.client.turn();
    pair.server.turn();
    drop(pair);
    // The kernel takes a ring's own descriptors back in its own time, those of sockets at once.
    let mut after = descriptors();
    while after > before {
        std::thread::yield_now();
        after = descriptors();
    }
    println!("<clean>");
}

fn freed_memory_is_never_met_by_the_kernel(world: World) {
    storm(world, Mode::Guard);
}

fn poisoned_memory_is_never_read(world: World) {
    storm(world, Mode::Poison);
}

/// Opens, sends, pauses, closes and cancels in a seeded disorder; whatever arrives is intact.
fn storm(world: World, mode: Mode) {
    let limits = Limits {
        budget_bytes: 64 << 20,
        ..Limits::default()
    };
    let settings = || {
        config_with(|stream| stream.message_bytes_max = 2 << 20)
            .limits(limits)
            .pool_mode(mode)
            // Some ends wait for a peer that is paused: they are aborted in the midst of the storm.
            .linger_timeout(Duration::from_millis(50))
    };
    let mut pair = Pair::with(world, settings(), settings());
    pair.server.app.retain = true;
    let (_, address) = pair.listening("tcp://127.0.0.1:0");
    let mut dice = 0x1234_5678_9ABC_DEF1_u64;
    let mut roll = move |sides: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice >> 32) % sides
    };
    let sizes = [0, 64, 3000, 16_000, 70_000, 300_000];
    let mut open = Vec::new();
    for _ in 0..3000 {
        match roll(16) {
            0 | 1 if open.len() < 24 => {
                open.push(pair.client.engine.connect(&address).unwrap());
            }
            2 if open.len() > 4 => {
                let end = open.swap_remove(roll(open.len() as u64) as usize);
                pair.client.engine.context().close(end, CloseCode::Normal);
            }
            3 if !pair.server.app.opened.is_empty() => {
                let (end, _) = pair.server.app.opened.swap_remove(0);
                pair.server.engine.context().close(end, CloseCode::Internal);
            }
            4 => check_and_forget(&mut pair),
            5 | 6 => pair.step(),
            7 if !open.is_empty() => {
                let end = open[roll(open.len() as u64) as usize];
                let pause = roll(2) == 0;
                pair.client.engine.context().pause(end, pause);
            }
            _ if !open.is_empty() => {
                let end = open[roll(open.len() as u64) as usize];
                let len = sizes[roll(6) as usize];
                // Not open yet, closed by the other side, or full: the storm goes on.
                let _outcome: Result<(), ringway::SendError> =
                    pair.client.send(end, &pattern(len, len as u64));
            }
            _ => pair.step(),
        }
    }
    for end in open {
        pair.client.engine.context().close(end, CloseCode::Normal);
    }
    pair.until("all is over", |pair| {
        pair.client.engine.stats().connections + pair.server.engine.stats().connections == 0
    });
    check_and_forget(&mut pair);
    for host in [&pair.client, &pair.server] {
        let driver = host.engine.stats().driver;
        assert_eq!(
            (driver.faults, driver.stale, driver.overflows),
            (0, 0, 0),
            "{driver:?}"
        );
    }
    assert!(
        pair.server.app.count > 300,
        "{} arrived",
        pair.server.app.count
    );
}

/// Every message that arrived is one of those that were sent, read through the slice that was kept of it.
fn check_and_forget(pair: &mut Pair) {
    for slice in &pair.server.app.retained {
        assert!(
            slice.bytes() == pattern(slice.len(), slice.len() as u64),
            "{} bytes",
            slice.len()
        );
    }
    pair.server.app.retained.clear();
    pair.server.app.got.clear();
    pair.client.app.closed.clear();
    pair.server.app.closed.clear();
}

fn idle_honest_peers_stay(world: World) {
    let lively = || {
        config_with(|stream| {
            stream.keepalive_interval = Some(Duration::from_millis(20));
            stream.keepalive_interval_min = Duration::from_millis(10);
            stream.keepalive_timeout = Duration::from_secs(10);
        })
    };
    let mut pair = Pair::with(world, lively(), lively());
    let ends: Vec<_> = (0..10).map(|_| pair.connected("tcp")).collect();
    let timer = pair
        .client
        .engine
        .context()
        .set_timer(Duration::from_millis(500))
        .unwrap();
    // Only pings pass: about 25 on each connection, each way.
    pair.until("half a second passed", |pair| {
        pair.client.app.timers.contains(&timer)
    });
    assert!(pair.client.app.closed.is_empty() && pair.server.app.closed.is_empty());
    for (client, server) in ends {
        pair.client.send(client, b"still there").unwrap();
        pair.server.send(server, b"so am I").unwrap();
    }
    pair.until("all arrived", |pair| {
        pair.client.app.got.len() == 10 && pair.server.app.got.len() == 10
    });
    assert_eq!(
        pair.client
            .engine
            .handle()
            .counters()
            .value(Counter::Violations),
        0
    );
    // A peer that is silent is the other case: it is closed with the reason.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", silent.local_addr().unwrap());
    let mut strict = Host::new(
        &pair.world,
        config_with(|stream| stream.handshake_timeout = Duration::from_millis(20)),
        "strict",
    );
    let connection = strict.engine.connect(&address).unwrap();
    while strict.app.closed.is_empty() {
        strict
            .engine
            .park(&mut strict.app, Some(Duration::from_millis(1)));
    }
    let expected = format!("{:?}", CloseReason::HandshakeTimeout);
    assert_eq!(strict.app.reason(connection).unwrap(), expected);
}
