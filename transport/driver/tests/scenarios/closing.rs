//! How sockets end: gracefully, by abort, by the peer, by shutdown; exactly once each.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use ringway_buf::Instant;
use ringway_driver::{
    Address, Burst, Chain, Close, CloseCause, Driver, Park, SocketId, SocketOptions,
};

use super::{Appetite, Make, World, pattern};

/// How long a test sleeps for something that does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection whose far end is an ordinary blocking socket.
fn foreign<D: Driver>(world: &mut World<D>, options: &SocketOptions) -> (SocketId, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    let socket = world.driver.connect(&address, options).unwrap();
    let (peer, _) = listener.accept().unwrap();
    world.until("connected", |log| log.connected.contains(&socket));
    world.driver.read(socket, true);
    (socket, peer)
}

fn reset(peer: TcpStream) {
    setsockopt(
        &peer,
        sockopt::Linger,
        &libc::linger {
            l_onoff: 1,
            l_linger: 0,
        },
    )
    .unwrap();
    drop(peer);
}

pub(crate) fn a_graceful_close_delivers_all_and_then_ends<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (client, server) = world.pair("tcp://127.0.0.1:0");
    let bytes = pattern(3 << 20, 1);
    world.send(client, &bytes);
    world.driver.close(client, Close::Graceful);
    world.until("the end", |log| log.ended.contains(&server));
    assert!(
        world.take(server) == bytes,
        "all was delivered before the end"
    );
    assert_eq!(world.log.sent_bytes(client), bytes.len());
    world.settle();
    assert!(!world.log.is_closed(client), "it waits for the peer's end");
    world.driver.close(server, Close::Graceful);
    world.until("both closed", |log| log.closed.len() == 2);
    assert!(matches!(world.cause(client), CloseCause::Requested));
    assert!(matches!(world.cause(server), CloseCause::Requested));
    assert!(
        !world.log.ended.contains(&client),
        "a closing socket reports nothing but its close"
    );
}

pub(crate) fn a_closing_socket_discards_what_comes<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (client, server) = world.pair("tcp://127.0.0.1:0");
    world.driver.read(client, false);
    let bytes = pattern(4 << 20, 2);
    world.send(server, &bytes);
    world.settle();
    world.driver.close(client, Close::Graceful);
    world.until("all sent", |log| log.sent_bytes(server) == bytes.len());
    world.until("the end", |log| log.ended.contains(&server));
    world.driver.close(server, Close::Graceful);
    world.until("both closed", |log| log.closed.len() == 2);
    assert_eq!(world.log.received_bytes(client), 0);
    assert!(matches!(world.cause(client), CloseCause::Requested));
}

pub(crate) fn an_abort_resets_the_connection<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (socket, mut peer) = foreign(&mut world, &SocketOptions::default());
    world.driver.close(socket, Close::Abort);
    world.until("closed", |log| log.is_closed(socket));
    assert!(matches!(world.cause(socket), CloseCause::Requested));
    let error = peer.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

pub(crate) fn an_abort_ends_a_graceful_close_that_hangs<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (socket, peer) = foreign(&mut world, &SocketOptions::default());
    // More than the kernel takes while the peer does not read.
    let bytes = pattern(32 << 20, 3);
    world.send(socket, &bytes);
    world.driver.close(socket, Close::Graceful);
    world.settle();
    assert!(!world.log.is_closed(socket), "the queue is still full");
    assert!(world.log.sent_bytes(socket) < bytes.len());
    world.driver.close(socket, Close::Abort);
    world.until("closed", |log| log.is_closed(socket));
    assert!(matches!(world.cause(socket), CloseCause::Requested));
    drop(peer);
    world.settle();
}

pub(crate) fn a_connect_under_way_can_be_closed<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (_, address) = world.listen("tcp://127.0.0.1:0");
    let socket = world
        .driver
        .connect(&address, &SocketOptions::default())
        .unwrap();
    world.driver.close(socket, Close::Graceful);
    world.until("closed", |log| log.is_closed(socket));
    assert!(matches!(world.cause(socket), CloseCause::Requested));
    assert!(!world.log.connected.contains(&socket));
}

pub(crate) fn a_reset_by_the_peer_breaks_once<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (socket, peer) = foreign(&mut world, &SocketOptions::default());
    reset(peer);
    world.until("closed", |log| log.is_closed(socket));
    match world.cause(socket) {
        CloseCause::Broken(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        other => panic!("broken, not {other:?}"),
    }
    assert!(world.log.ended.is_empty());
    // The id is stale from here on.
    world.send(socket, b"nobody");
    world.driver.close(socket, Close::Abort);
    world.settle();
    assert_eq!(world.log.closed.len(), 1);
}

pub(crate) fn a_reset_while_sending_breaks_once<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (socket, peer) = foreign(&mut world, &SocketOptions::default());
    world.send(socket, &pattern(32 << 20, 4));
    world.settle();
    reset(peer);
    world.until("closed", |log| log.is_closed(socket));
    assert!(matches!(world.cause(socket), CloseCause::Broken(_)));
}

pub(crate) fn a_last_word_is_heard_although_sending_failed<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = world
        .driver
        .adopt(
            ringway_driver::Incoming::Fd(near.into()),
            &SocketOptions::default(),
        )
        .unwrap();
    (&far).write_all(b"too many requests").unwrap();
    drop(far);
    world.driver.read(socket, true);
    world.send(socket, b"one more");
    world.until("closed", |log| log.is_closed(socket));
    assert_eq!(world.take(socket), b"too many requests");
}

pub(crate) fn the_peers_end_leaves_our_direction_open<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (socket, mut peer) = foreign(&mut world, &SocketOptions::default());
    peer.write_all(b"last words").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    world.until("the end", |log| log.ended.contains(&socket));
    assert_eq!(world.take(socket), b"last words");
    world.send(socket, b"heard");
    world.driver.close(socket, Close::Graceful);
    world.until("closed", |log| log.is_closed(socket));
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"heard");
}

pub(crate) fn bytes_and_end_that_come_together_are_both_heard<D: Driver>(make: Make<D>) {
    for unix in [false, true] {
        let mut world = World::new(make);
        let socket = if unix {
            let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
            far.write_all(b"last words").unwrap();
            let options = SocketOptions::default();
            world
                .driver
                .adopt(ringway_driver::Incoming::Fd(near.into()), &options)
                .unwrap()
        } else {
            let (socket, mut peer) = foreign(&mut world, &SocketOptions::default());
            peer.write_all(b"last words").unwrap();
            socket
        };
        world.driver.read(socket, true);
        world.doze_until("the end", |log| log.ended.contains(&socket));
        assert_eq!(world.take(socket), b"last words");
    }
}

pub(crate) fn stale_ids_are_ignored<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (client, server) = world.pair("tcp://127.0.0.1:0");
    world.driver.close(client, Close::Abort);
    world.until("closed", |log| log.is_closed(client));
    let (second, _) = world.pair("tcp://127.0.0.1:0");
    assert_ne!(client, second);
    world.send(client, b"to nobody");
    let lease = world.pools.lease(1).unwrap();
    let burst = Burst {
        lease,
        segment_bytes: 0,
        count: 1,
        peer: None,
        source: None,
        ecn: None,
    };
    world.driver.send_to(client, burst);
    world.driver.read(client, true);
    world.driver.read(client, false);
    world.driver.close(client, Close::Graceful);
    world.driver.close(client, Close::Abort);
    assert_eq!(world.driver.local_address(client), None);
    assert_eq!(world.driver.peer_address(client), None);
    assert_eq!(world.driver.datagram_bytes_max(client), None);
    world.settle();
    assert!(!world.log.is_closed(second));
    assert_eq!(world.log.sent_bytes(second), 0);
    assert!(
        world.log.is_closed(server),
        "the other end heard of the abort"
    );
    assert_eq!(world.driver.stats().stale, 0);
}

pub(crate) fn a_waker_ends_a_park_from_another_thread<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    // A deadline so far off that only the waker can end the park while anyone is patient.
    let far = Instant::monotonic() + PATIENCE;
    for round in 0..20 {
        let (waker, woke) = (world.driver.waker(), Arc::new(AtomicBool::new(false)));
        let (start, seen) = (Arc::new(Barrier::new(2)), Arc::clone(&woke));
        let gate = Arc::clone(&start);
        let thread = std::thread::spawn(move || {
            gate.wait();
            seen.store(true, Ordering::Release);
            if round % 2 == 0 {
                waker.wake()
            } else {
                waker.wake_by_ref()
            }
        });
        start.wait();
        while !woke.load(Ordering::Acquire) {
            world.driver.poll(Park::Until(Some(far)), &mut world.log);
            assert!(Instant::monotonic() < far, "the wake was lost");
        }
        thread.join().unwrap();
    }
    assert!(world.driver.stats().parks <= 80, "parks sleep");
}

pub(crate) fn a_wake_before_the_park_is_not_lost<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    for spins in [0, 1, 20] {
        world.driver.waker().wake();
        for _ in 0..spins {
            world.spin();
        }
        let far = Instant::monotonic() + PATIENCE;
        world.driver.poll(Park::Until(Some(far)), &mut world.log);
        assert!(Instant::monotonic() < far, "the wake was lost");
    }
}

pub(crate) fn a_park_ends_at_its_deadline<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    for nap in [
        Duration::from_micros(300),
        Duration::from_millis(3),
        Duration::from_millis(30),
    ] {
        let until = Instant::monotonic() + nap;
        while Instant::monotonic() < until {
            assert_eq!(
                world.driver.poll(Park::Until(Some(until)), &mut world.log),
                0
            );
        }
    }
    let polls = world.driver.stats().parks;
    assert!(
        (3..100).contains(&polls),
        "{polls} parks: it sleeps, and does not spin"
    );
}

pub(crate) fn shutdown_with_sends_in_flight_frees_everything<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (client, server) = world.pair("tcp://127.0.0.1:0");
    world.log.appetite.insert(server, Appetite::Records(50_000));
    world.driver.read(client, true);
    world.send(client, &pattern(16 << 20, 9));
    for _ in 0..10 {
        world.spin();
    }
    let closed = world.log.closed.len();
    assert!(
        world.driver.shutdown(Duration::from_secs(10)),
        "nothing is left in flight"
    );
    assert_eq!(
        world.log.closed.len(),
        closed,
        "no `closed` events are reported"
    );
    let pools = world.pools;
    drop(world.driver);
    drop(world.log);
    assert_eq!(
        pools.budget().used(),
        pools.stashed_bytes(),
        "all memory came back"
    );
}

pub(crate) fn memory_comes_back_after_every_kind_of_close<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    for how in [Close::Graceful, Close::Abort] {
        let (client, server) = world.pair("tcp://127.0.0.1:0");
        world.log.appetite.insert(server, Appetite::Records(50_000));
        world.send(client, &pattern(220_000, 1));
        world.until("records", |log| log.received_bytes(server) == 200_000);
        world.driver.close(client, how);
        world.settle();
        world.driver.close(server, Close::Abort);
        world.until("both closed", |log| {
            log.is_closed(client) && log.is_closed(server)
        });
    }
    let pools = world.pools;
    drop(world.driver);
    drop(world.log);
    assert_eq!(pools.budget().used(), pools.stashed_bytes());
}

pub(crate) fn an_empty_chain_sends_nothing<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (client, server) = world.pair("tcp://127.0.0.1:0");
    world.driver.send(client, &mut Chain::new());
    world.settle();
    assert_eq!(
        world.log.sent_bytes(client) + world.log.received_bytes(server),
        0
    );
}
