//! Many connections at once: all are served, in turns, on every kernel driver.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod world;

use ringway::{ConnectionId, Idle};
use world::{App, Host, Pair, World, config};

/// Connections of a crowd: more than a driver has receive slots at first, fewer than descriptors.
const CROWD: usize = 1000;
/// Messages that each connection exchanges.
const ROUNDS: u64 = 5;

fn crowd(pair: &mut Pair) -> Vec<ConnectionId> {
    let address = pair.world.address("tcp");
    let (_, address) = pair.listening(&address);
    let ends: Vec<_> = (0..CROWD)
        .map(|_| pair.client.engine.connect(&address).unwrap())
        .collect();
    pair.until("all open", |pair| {
        pair.client.app.opened.len() == CROWD && pair.server.app.opened.len() == CROWD
    });
    ends
}

fn everybody_gets_an_answer_each_round(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app = App {
        count_only: true,
        ..App::echo()
    };
    pair.client.app = App {
        count_only: true,
        ..App::default()
    };
    let ends = crowd(&mut pair);
    for round in 1..=ROUNDS {
        for end in &ends {
            pair.client.send(*end, &[7; 64]).unwrap();
        }
        pair.until("a round of answers", |pair| {
            pair.client.app.count == round * CROWD as u64
        });
    }
}

/// Both engines on threads of their own, as in production: arrivals mix with sends.
fn everybody_gets_an_answer_across_threads(world: fn() -> World, idle: Idle) {
    let (address_in, address) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let mut server = Host::new(&world(), config().idle(idle), "server");
        server.app = App {
            count_only: true,
            ..App::echo()
        };
        let listener = server.engine.listen("tcp://127.0.0.1:0").unwrap();
        let address = server.engine.local_address(listener).unwrap().to_string();
        address_in.send((address, server.engine.handle())).unwrap();
        server.engine.run(&mut server.app);
        server.app.count
    });
    let (address, handle) = address.recv().unwrap();
    let mut client = Host::new(&world(), config().idle(idle), "client");
    client.app.count_only = true;
    let ends: Vec<_> = (0..CROWD)
        .map(|_| client.engine.connect(&address).unwrap())
        .collect();
    while client.app.opened.len() < CROWD {
        client.engine.wait(&mut client.app, None);
    }
    for round in 1..=ROUNDS {
        for end in &ends {
            client.send(*end, &[7; 64]).unwrap();
        }
        while client.app.count < round * CROWD as u64 {
            client.engine.wait(&mut client.app, None);
        }
    }
    handle.stop().unwrap();
    assert_eq!(server.join().unwrap(), ROUNDS * CROWD as u64);
}

macro_rules! on_kernel_drivers {
    ($($driver:ident),*) => { $(
        mod $driver {
            #[test]
            fn everybody_gets_an_answer_each_round() {
                super::everybody_gets_an_answer_each_round(super::World::$driver());
            }
            #[test]
            fn everybody_gets_an_answer_across_threads() {
                super::everybody_gets_an_answer_across_threads(super::World::$driver, super::Idle::Adaptive);
                super::everybody_gets_an_answer_across_threads(super::World::$driver, super::Idle::Spin);
            }
        }
    )* };
}

on_kernel_drivers![uring, epoll];
