//! `Shards`: several engines behind one address.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use ringway::{
    CloseReason, Config, Context, Counter, DriverChoice, Handler, LinkError, ListenOptions,
    Message, Shards, ShardsConfig, ShardsError,
};

use crate::relay::Relay;
use crate::support::Host;
use crate::trust::trusting_each_other;

crate::on_kernel_drivers![
    one_acceptor_gives_each_engine_its_share,
    unix_connections_are_shared_too,
    the_kernel_spreads_over_a_shared_port,
    sessions_of_rudp_find_their_engine_from_whatever_address,
    sessions_of_quic_find_their_engine_from_whatever_address,
    a_drain_ends_all_engines,
    an_address_in_use_is_reported,
    threads_are_pinned_to_their_cores,
    what_can_not_start_is_named,
];

/// Answers with the index of its engine.
struct Whoami(u8);

impl Handler for Whoami {
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        cx.reply(&message, &[self.0]).unwrap();
    }
}

fn whoami(index: usize) -> Whoami {
    Whoami(u8::try_from(index).unwrap())
}

fn settings(count: usize, listen: &str) -> ShardsConfig {
    ShardsConfig {
        count,
        listen: vec![listen.to_owned()],
        ..ShardsConfig::default()
    }
}

fn engine(choice: DriverChoice) -> impl Fn(usize) -> Config + Clone + Send + 'static {
    move |index| {
        let config = Config::default().driver(choice).seed(index as u64);
        config.quic(trusting_each_other())
    }
}

/// Connects `count` times; returns which engines answered, in order.
fn ask(choice: DriverChoice, address: &str, count: usize) -> Vec<u8> {
    let client = Host::links(choice);
    let mut links: Vec<_> = (0..count)
        .map(|_| client.handle.connect_wait(address).unwrap())
        .collect();
    links
        .iter_mut()
        .map(|link| {
            link.send_wait(b"who?".to_vec()).unwrap();
            link.recv_wait().unwrap().body[0]
        })
        .collect()
}

fn sessions_of_rudp_find_their_engine_from_whatever_address(choice: DriverChoice) {
    sessions_find_their_engine_from_whatever_address("rudp", choice);
}

fn sessions_of_quic_find_their_engine_from_whatever_address(choice: DriverChoice) {
    sessions_find_their_engine_from_whatever_address("quic", choice);
}

/// Sessions can't be handed over: the engines share the port, and a client may move.
fn sessions_find_their_engine_from_whatever_address(scheme: &str, choice: DriverChoice) {
    const CLIENTS: usize = 12;
    let settings = settings(3, &format!("{scheme}://127.0.0.1:0"));
    let shards = Shards::start(&settings, engine(choice), whoami).unwrap();
    assert_eq!(shards.addresses().len(), 1);
    let server = shards.addresses()[0].socket_addr().unwrap();
    let mut relays: Vec<_> = (0..CLIENTS).map(|_| Relay::to(server)).collect();
    let fronts: Vec<_> = relays.iter().map(|relay| relay.address).collect();
    let (moves, stops) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (moved, stopped) = (Arc::clone(&moves), Arc::clone(&stops));
    let carrier = std::thread::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            let moves = moved.swap(false, Ordering::SeqCst);
            for relay in &mut relays {
                if moves {
                    relay.rebind();
                }
                relay.carry();
            }
            std::thread::yield_now();
        }
    });
    let client = Host::links(choice);
    let mut links: Vec<_> = fronts
        .iter()
        .map(|front| {
            client
                .handle
                .connect_wait(&format!("{scheme}://{front}"))
                .unwrap()
        })
        .collect();
    let mut ask_all = || -> Vec<u8> {
        let answers = links.iter_mut().map(|link| {
            link.send_wait(b"who?".to_vec()).unwrap();
            link.recv_wait().unwrap().body[0]
        });
        answers.collect()
    };
    let first = ask_all();
    let engines: BTreeSet<u8> = first.iter().copied().collect();
    assert!(engines.len() > 1, "{first:?}: more than one engine serves");
    for round in 0..3 {
        moves.store(true, Ordering::SeqCst);
        assert_eq!(ask_all(), first, "round {round}");
    }
    stops.store(true, Ordering::SeqCst);
    carrier.join().unwrap();
    let direct = ask(choice, &shards.addresses()[0].to_string(), 9);
    assert!(
        direct.iter().collect::<BTreeSet<_>>().len() > 1,
        "{direct:?}"
    );
}

fn one_acceptor_gives_each_engine_its_share(choice: DriverChoice) {
    let settings = settings(3, "tcp://127.0.0.1:0");
    let shards = Shards::start(&settings, engine(choice), whoami).unwrap();
    assert_eq!((shards.handles().len(), shards.addresses().len()), (3, 1));
    let answers = ask(choice, &shards.addresses()[0].to_string(), 9);
    for index in 0..3 {
        assert_eq!(
            answers.iter().filter(|answer| **answer == index).count(),
            3,
            "{answers:?}"
        );
    }
    for handle in shards.handles() {
        // Figures are published when an engine idles.
        while handle.counters().value(Counter::Accepted) < 3 {
            std::thread::yield_now();
        }
        assert_eq!(handle.counters().value(Counter::Accepted), 3);
    }
}

fn unix_connections_are_shared_too(choice: DriverChoice) {
    let address = format!("unix://@ringway-shards-{}-{choice:?}", std::process::id());
    let shards = Shards::start(&settings(2, &address), engine(choice), whoami).unwrap();
    let answers = ask(choice, &address, 4);
    assert_eq!(
        answers.iter().filter(|answer| **answer == 0).count(),
        2,
        "{answers:?}"
    );
    drop(shards);
}

fn the_kernel_spreads_over_a_shared_port(choice: DriverChoice) {
    let options = ListenOptions {
        reuse_port: true,
        ..ListenOptions::default()
    };
    let settings = ShardsConfig {
        options,
        ..settings(3, "tcp://127.0.0.1:0")
    };
    let shards = Shards::start(&settings, engine(choice), whoami).unwrap();
    assert_eq!(shards.addresses().len(), 1);
    // By a hash of the ports: that 64 connections miss one of three engines has odds of 1 in 10^11.
    let answers = ask(choice, &shards.addresses()[0].to_string(), 64);
    assert_eq!(answers.into_iter().collect::<BTreeSet<_>>().len(), 3);
}

fn a_drain_ends_all_engines(choice: DriverChoice) {
    let settings = settings(3, "tcp://127.0.0.1:0");
    let shards = Shards::start(&settings, engine(choice), whoami).unwrap();
    let address = shards.addresses()[0].to_string();
    let client = Host::links(choice);
    let mut links: Vec<_> = (0..6)
        .map(|_| client.handle.connect_wait(&address).unwrap())
        .collect();
    for link in &links {
        link.send_wait(b"who?".to_vec()).unwrap();
    }
    for link in &mut links {
        link.recv_wait().unwrap();
    }
    let handles = shards.handles().to_vec();
    shards.drain();
    assert!(handles.iter().all(ringway::Handle::is_stopped));
    for link in &mut links {
        let LinkError::Closed(closed) = link.recv_wait().unwrap_err() else {
            unreachable!()
        };
        assert!(matches!(closed.reason, CloseReason::Drained), "{closed}");
    }
    assert!(
        client.handle.connect_wait(&address).is_err(),
        "nobody listens"
    );
}

fn an_address_in_use_is_reported(choice: DriverChoice) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", taken.local_addr().unwrap());
    let refused = Shards::start(&settings(2, &address), engine(choice), whoami).unwrap_err();
    assert!(matches!(refused, ShardsError::Listen(_)), "{refused:?}");
    let text = refused.to_string();
    assert!(
        text.contains(&address) && text.contains("choose another port"),
        "{text}"
    );
}

/// Cores that the calling thread may use, as the kernel lists them.
fn cores() -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap();
    line.trim().to_owned()
}

fn threads_are_pinned_to_their_cores(choice: DriverChoice) {
    let first = cores();
    let first: usize = first.split(['-', ',']).next().unwrap().parse().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let settings = ShardsConfig {
        cores: vec![first],
        ..settings(2, "tcp://127.0.0.1:0")
    };
    let seeing = Arc::clone(&seen);
    let handler = move |index| {
        seeing.lock().unwrap().push(cores());
        whoami(index)
    };
    let shards = Shards::start(&settings, engine(choice), handler).unwrap();
    assert_eq!(ask(choice, &shards.addresses()[0].to_string(), 2).len(), 2);
    drop(shards);
    assert_eq!(
        *seen.lock().unwrap(),
        [first.to_string(), first.to_string()]
    );
}

fn what_can_not_start_is_named(choice: DriverChoice) {
    let local = "tcp://127.0.0.1:0";
    let none = Shards::start(&settings(0, local), engine(choice), whoami).unwrap_err();
    assert!(matches!(none, ShardsError::None));
    let nowhere = ShardsConfig {
        cores: vec![1000],
        ..settings(1, local)
    };
    let pin = Shards::start(&nowhere, engine(choice), whoami).unwrap_err();
    assert!(matches!(pin, ShardsError::Pin { core: 1000, .. }), "{pin}");
    let beyond = ShardsConfig {
        cores: vec![1 << 20],
        ..settings(1, local)
    };
    let pin = Shards::start(&beyond, engine(choice), whoami).unwrap_err();
    assert!(
        matches!(
            pin,
            ShardsError::Pin {
                core: 1_048_576,
                ..
            }
        ),
        "{pin}"
    );
    let wrong = |_| Config::default().message_bytes_max(0);
    let start = Shards::start(&settings(2, local), wrong, whoami).unwrap_err();
    assert!(
        matches!(start, ShardsError::Start(_)) && start.to_string().contains("message_bytes_max")
    );
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (alive_in, alive) = channel::<()>();
    let died = Shards::start(&settings(2, local), engine(choice), move |index| {
        let _alive = alive_in.clone();
        assert!(index > 0, "asked for");
        whoami(index)
    });
    std::panic::set_hook(hook);
    assert!(matches!(died.unwrap_err(), ShardsError::Died));
    assert!(alive.recv().is_err(), "what was started is stopped again");
}
