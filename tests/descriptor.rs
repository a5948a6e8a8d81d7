//! An engine in a loop of somebody else, which sleeps on the engine's descriptor and on nothing more: a word that is not told
//! ends a test.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod world;

use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringway::Engine;
use world::{App, Host, Pair, World, is_kernel, pattern};

on_every_driver![
    every_message_is_told_of,
    a_descriptor_tells_of_timers_and_of_other_threads,
];
over_quic![every_message_is_told_of];
over_reliable_udp![every_message_is_told_of];
over_a_bad_network![every_message_is_told_of];

/// Longer than anything that is waited for.
const LIMIT: Duration = Duration::from_secs(60);

fn is_readable(fds: &[BorrowedFd<'_>], limit: Duration) -> bool {
    let mut fds: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    poll(&mut fds, PollTimeout::try_from(limit).unwrap()).unwrap() > 0
}

/// Turns both ends until `done`, and sleeps whenever both allow it.
fn until(pair: &mut Pair, what: &str, mut done: impl FnMut(&mut Pair) -> bool) {
    for host in [&mut pair.client, &mut pair.server] {
        host.engine.event_fd().unwrap();
    }
    loop {
        let (client, server) = (&mut pair.client, &mut pair.server);
        let armed = |host: &mut Host| {
            while host.turn() > 0 {}
            host.engine.arm(&mut host.app).unwrap()
        };
        // What the first hears while the second arms is told by the first one's descriptor.
        let rests = armed(client) && armed(server);
        if done(pair) {
            return;
        }
        if rests {
            let fds = [&mut pair.client, &mut pair.server].map(|it| it.engine.event_fd().unwrap());
            assert!(is_readable(&fds, LIMIT), "{what}");
        }
    }
}

fn has_none(engine: &mut Engine) -> bool {
    let none = !is_kernel(engine);
    if none {
        let refused = engine.event_fd().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    }
    none
}

fn every_message_is_told_of(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app = App::echo();
    if has_none(&mut pair.client.engine) {
        return;
    }
    let (client, _) = pair.connected("tcp");
    for round in 1..100 {
        let body = pattern(round * 50, 1);
        pair.client.send(client, &body).unwrap();
        until(&mut pair, "an echo", |pair| {
            pair.client.app.got.len() == round
        });
        assert!(pair.client.app.got[round - 1].body == body);
    }
}

fn a_descriptor_tells_of_timers_and_of_other_threads(world: World) {
    let mut host = Host::new(&world, world::config(), "host");
    let unasked = host.engine.arm(&mut host.app).unwrap_err();
    assert_eq!(unasked.kind(), ErrorKind::NotFound);
    if has_none(&mut host.engine) {
        return;
    }
    host.engine.event_fd().unwrap();
    let rests = |host: &mut Host| {
        while !host.engine.arm(&mut host.app).unwrap() {
            host.turn();
        }
        is_readable(&[host.engine.event_fd().unwrap()], Duration::ZERO)
    };
    assert!(!rests(&mut host), "nothing happens");
    let delay = Duration::from_millis(2);
    host.engine.context().set_timer(delay).unwrap();
    while host.app.timers.is_empty() {
        rests(&mut host);
        assert!(is_readable(&[host.engine.event_fd().unwrap()], LIMIT));
        host.turn();
    }
    assert!(!rests(&mut host), "it is over");
    let handle = host.engine.handle();
    let thread = std::thread::spawn(move || handle.wake());
    assert!(is_readable(&[host.engine.event_fd().unwrap()], LIMIT));
    thread.join().unwrap();
}
