//! Bytes on streams: order, wholeness, backpressure, contiguity.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

use ringway_buf::copies;
use ringway_driver::{Driver, Incoming, SocketOptions};

use super::{Appetite, Log, Make, SPINS_MAX, World, pattern};

fn echo<D: Driver>(make: Make<D>, address: &str, len: usize) {
    let mut world = World::new(make);
    let (client, server) = world.pair(address);
    let bytes = pattern(len, 7);
    world.send(client, &bytes);
    let mut back = Vec::new();
    while back.len() < len {
        world.until("some bytes", |log| {
            log.received_bytes(server) > 0 || log.received_bytes(client) > 0
        });
        let some = world.take(server);
        world.send(server, &some);
        back.extend(world.take(client));
    }
    assert!(back == bytes, "the echo is what was sent");
    world.settle();
    assert_eq!(world.log.sent_bytes(client), len);
    assert_eq!(world.log.sent_bytes(server), len);
}

pub(crate) fn a_small_message_comes_back_over_tcp<D: Driver>(make: Make<D>) {
    echo(make, "tcp://127.0.0.1:0", 64);
}

pub(crate) fn eight_mebibytes_come_back_over_tcp<D: Driver>(make: Make<D>) {
    echo(make, "tcp://127.0.0.1:0", 8 << 20);
}

pub(crate) fn eight_mebibytes_come_back_over_unix<D: Driver>(make: Make<D>) {
    echo(make, &abstract_name(), 8 << 20);
}

/// An abstract name that nobody uses; they are shared by all of the machine.
fn abstract_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("unix://@ringway-driver-{}-{number}", std::process::id())
}

pub(crate) fn many_small_messages_ping_and_pong<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (client, server) = world.pair("tcp://127.0.0.1:0");
    for round in 0..2_000 {
        let message = pattern(64, round);
        world.send(client, &message);
        world.until("the request", |log| log.received_bytes(server) == 64);
        assert_eq!(world.take(server), message);
        world.send(server, &message);
        world.until("the response", |log| log.received_bytes(client) == 64);
        assert_eq!(world.take(client), message);
    }
    let stats = *world.driver.stats();
    assert_eq!(stats.stale, 0);
    assert_eq!(stats.faults, 0);
}

pub(crate) fn parked_ends_ping_and_pong<D: Driver>(make: Make<D>) {
    for address in ["tcp://127.0.0.1:0".to_owned(), abstract_name()] {
        let mut world = World::new(make);
        let (client, server) = world.pair(&address);
        for round in 0..200 {
            let message = pattern(1 + 97 * round as usize, round);
            world.send(client, &message);
            world.doze_until("the request", |log| {
                log.received_bytes(server) == message.len()
            });
            assert!(world.take(server) == message);
            world.send(server, &message);
            world.doze_until("the response", |log| {
                log.received_bytes(client) == message.len()
            });
            assert!(world.take(client) == message);
        }
    }
}

pub(crate) fn a_driver_that_waited_takes_half_of_a_window_first<D: Driver>(make: Make<D>) {
    const WINDOW: usize = 6000;
    for address in ["tcp://127.0.0.1:0".to_owned(), abstract_name()] {
        let mut world = World::new(make);
        let (client, server) = world.pair(&address);
        let window = pattern(WINDOW, 3);
        let mut exchange = |vain_looks: u32, dozes: bool| {
            for _ in 0..vain_looks {
                assert_eq!(world.spin(), 0);
            }
            world.send(client, &window);
            world.spin_until("the requests", |log| log.received_bytes(server) > 0);
            let first = world.log.received_bytes(server);
            let whole = |log: &Log| log.received_bytes(server) == WINDOW;
            if dozes {
                world.doze_until("the rest", whole);
            } else {
                world.spin_until("the rest", whole);
            }
            assert!(world.take(server) == window);
            world.send(server, &window);
            world.spin_until("the answers", |log| log.received_bytes(client) == WINDOW);
            world.take(client);
            first
        };
        for round in 0..5 {
            // Until the driver knows the connection.
            for _ in 0..50 {
                exchange(0, false);
            }
            assert_eq!(exchange(100, false), WINDOW, "what came before a wait");
            assert_eq!(exchange(0, false), WINDOW, "a busy driver takes all");
            assert_eq!(exchange(100, false), WINDOW, "two came without a wait");
            // However many looks: most of them leave epoll out, or the ring.
            for vain_looks in 100..120 {
                let first = exchange(vain_looks, false);
                assert_eq!(first, WINDOW / 2, "{vain_looks} vain looks");
            }
            // A sleep does not miss the other half.
            assert_eq!(exchange(100 + round, true), WINDOW / 2);
        }
    }
}

pub(crate) fn a_spinning_driver_sees_newcomers_beside_a_busy_dialogue<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (listener, address) = world.listen("tcp://127.0.0.1:0");
    let options = SocketOptions::default();
    let (client, server) = world.pair_with(&address, &options, &options);
    let (quiet, quiet_peer) = world.pair_with(&address, &options, &options);
    for round in 0..500 {
        match round % 10 {
            5 => world.send(quiet, b"psst"),
            9 => drop(TcpStream::connect(address.socket_addr().unwrap()).unwrap()),
            _ => {}
        }
        for _ in 0..5 {
            world.send(client, b"ping");
            world.spin_until("ping", |log| log.received_bytes(server) == 4);
            world.take(server);
        }
        match round % 10 {
            5 => {
                world.spin_until("psst", |log| log.received_bytes(quiet_peer) == 4);
                world.take(quiet_peer);
            }
            9 => {
                world.spin_until("a newcomer", |log| !log.accepted.is_empty());
                assert_eq!(world.log.accepted.pop().map(|(at, ..)| at), Some(listener));
            }
            _ => {}
        }
    }
}

/// Turns both drivers alternately until `done`; neither ever sleeps.
fn both_until<D: Driver>(
    near: &mut World<D>,
    far: &mut World<D>,
    done: impl Fn(&Log, &Log) -> bool,
) {
    for _ in 0..SPINS_MAX {
        if done(&near.log, &far.log) {
            return;
        }
        near.spin();
        far.spin();
    }
    panic!("spun in vain; {:#?} {:#?}", near.log, far.log);
}

pub(crate) fn two_drivers_on_one_thread_take_turns<D: Driver>(make: Make<D>) {
    let (mut near, mut far) = (World::new(make), World::new(make));
    let (_, address) = far.listen("tcp://127.0.0.1:0");
    let client = near
        .driver
        .connect(&address, &SocketOptions::default())
        .unwrap();
    both_until(&mut near, &mut far, |near, far| {
        !near.connected.is_empty() && !far.accepted.is_empty()
    });
    let (_, incoming, _) = far.log.accepted.remove(0);
    let server = far
        .driver
        .adopt(incoming, &SocketOptions::default())
        .unwrap();
    near.driver.read(client, true);
    far.driver.read(server, true);
    for round in 0..500 {
        let message = pattern(100, round);
        near.send(client, &message);
        both_until(&mut near, &mut far, |_, far| {
            far.received_bytes(server) == 100
        });
        let message = far.take(server);
        far.send(server, &message);
        both_until(&mut near, &mut far, |near, _| {
            near.received_bytes(client) == 100
        });
        assert_eq!(near.take(client), message);
    }
}

pub(crate) fn large_bodies_are_received_in_place<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (client, server) = world.pair("tcp://127.0.0.1:0");
    world.log.appetite.insert(server, Appetite::Bodies);
    let lens = [3_usize, 200_000, 10, 5_000_000, 65_536, 1, 300_000];
    let mut stream = Vec::new();
    for (seed, len) in (0..).zip(lens) {
        stream.extend(u32::try_from(len).unwrap().to_le_bytes());
        stream.extend(pattern(len, seed));
    }
    let before = copies();
    world.send(client, &stream);
    world.until("all bodies", |log| log.bodies.len() == lens.len());
    for (seed, (len, (socket, body))) in (0..).zip(lens.iter().zip(&world.log.bodies)) {
        assert_eq!(*socket, server);
        assert!(*body == pattern(*len, seed), "body {seed} is whole");
    }
    // Cut headers move, and what a driver had already received elsewhere when it learned of the body.
    let moved = copies().bytes - before.bytes;
    assert!(
        moved < stream.len() as u64 / 2,
        "{moved} bytes were copied on the way"
    );
}

pub(crate) fn unconsumed_bytes_are_shown_again_in_front<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (client, server) = world.pair("tcp://127.0.0.1:0");
    world.log.appetite.insert(server, Appetite::Records(1000));
    let bytes = pattern(100_000, 3);
    for piece in bytes.chunks(777) {
        world.send(client, piece);
        world.spin();
    }
    world.until("all records", |log| {
        log.received_bytes(server) == bytes.len()
    });
    assert!(world.take(server) == bytes);
}

pub(crate) fn a_paused_sink_is_shown_the_rest_when_switched_on<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (client, server) = world.pair("tcp://127.0.0.1:0");
    world.log.appetite.insert(server, Appetite::Fasting);
    let bytes = pattern(5_000, 4);
    world.send(client, &bytes);
    world.until("the bytes were shown", |log| log.shown_max > 0);
    world.settle();
    assert_eq!(world.log.received_bytes(server), 0);
    world.log.appetite.insert(server, Appetite::All);
    world.driver.read(server, true);
    world.until("all bytes", |log| log.received_bytes(server) == bytes.len());
    assert!(world.take(server) == bytes);
}

pub(crate) fn a_sink_that_sips_gets_everything_in_order<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (client, server) = world.pair("tcp://127.0.0.1:0");
    world.log.appetite.insert(server, Appetite::Sip);
    let bytes = pattern(1 << 20, 5);
    world.send(client, &bytes);
    let mut shown = 0;
    while shown < bytes.len() {
        world.driver.read(server, true);
        world.until("a sip", |log| log.received_bytes(server) > shown);
        shown = world.log.received_bytes(server);
    }
    assert!(world.take(server) == bytes);
}

pub(crate) fn reading_off_closes_the_window_and_on_goes_on<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let small = SocketOptions {
        send_buffer_bytes: Some(16 * 1024),
        recv_buffer_bytes: Some(16 * 1024),
        ..SocketOptions::default()
    };
    let (_, address) = world.listen_with(
        "tcp://127.0.0.1:0",
        &ringway_driver::ListenOptions {
            socket: small.clone(),
            ..Default::default()
        },
    );
    let (client, server) = world.pair_with(&address, &small, &small);
    world.driver.read(server, false);
    let bytes = pattern(4 << 20, 6);
    world.send(client, &bytes);
    world.settle();
    assert_eq!(
        world.log.received_bytes(server),
        0,
        "nothing is read while off"
    );
    let stuck = world.log.sent_bytes(client);
    assert!(
        stuck < bytes.len() / 4,
        "{stuck} bytes left although nobody reads"
    );
    world.settle();
    assert_eq!(world.log.sent_bytes(client), stuck, "backpressure holds");
    world.driver.read(server, true);
    world.until("all bytes", |log| log.received_bytes(server) == bytes.len());
    world.until("all sent", |log| log.sent_bytes(client) == bytes.len());
    assert!(world.take(server) == bytes);
}

pub(crate) fn partial_writes_keep_their_order<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let small = SocketOptions {
        send_buffer_bytes: Some(4_096),
        ..SocketOptions::default()
    };
    let address = ringway_driver::Address::Tcp(peer.local_addr().unwrap());
    let client = world.driver.connect(&address, &small).unwrap();
    let (mut peer, _) = peer.accept().unwrap();
    peer.set_nonblocking(true).unwrap();
    world.until("connected", |log| log.connected.contains(&client));
    let bytes = pattern(1 << 20, 8);
    let mut got = Vec::new();
    // Many small chains: some leave whole, some in pieces.
    for piece in bytes.chunks(999) {
        world.send(client, piece);
    }
    let mut room = vec![0; 5_000];
    for _ in 0..SPINS_MAX {
        if got.len() >= bytes.len() {
            break;
        }
        world.spin();
        match peer.read(&mut room) {
            Ok(len) => got.extend_from_slice(&room[..len]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    assert!(got == bytes);
    world.until("all is reported sent", |log| {
        log.sent_bytes(client) == bytes.len()
    });
}

pub(crate) fn sixteen_connections_get_their_share<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (_, address) = world.listen("tcp://127.0.0.1:0");
    let options = SocketOptions::default();
    let pairs: Vec<_> = (0..16)
        .map(|_| world.pair_with(&address, &options, &options))
        .collect();
    let len = 300_000;
    for round in 0..3_u32 {
        for (seed, (client, server)) in (0..).zip(&pairs) {
            world.send(*client, &pattern(len, seed + 100 * round));
            world.send(*server, &pattern(500, seed + 100 * round));
        }
        for (seed, (client, server)) in (0..).zip(&pairs) {
            world.until("a share", |log| {
                log.received_bytes(*server) == len && log.received_bytes(*client) == 500
            });
            assert!(world.take(*server) == pattern(len, seed + 100 * round));
            assert!(world.take(*client) == pattern(500, seed + 100 * round));
        }
    }
}

pub(crate) fn an_adopted_socketpair_carries_bytes<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = world
        .driver
        .adopt(Incoming::Fd(near.into()), &SocketOptions::default())
        .unwrap();
    assert_eq!(world.driver.peer_address(socket), None);
    far.write_all(b"before reading is on").unwrap();
    world.settle();
    assert_eq!(
        world.log.received_bytes(socket),
        0,
        "an adopted socket starts switched off"
    );
    world.driver.read(socket, true);
    world.until("the bytes", |log| log.received_bytes(socket) == 20);
    world.send(socket, b"answer");
    world.until("sent", |log| log.sent_bytes(socket) == 6);
    let mut answer = [0; 6];
    far.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
}

pub(crate) fn an_adopted_tcp_socket_has_no_delay<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(!stream.nodelay().unwrap());
    let twin = stream.try_clone().unwrap();
    let socket = world
        .driver
        .adopt(Incoming::Fd(stream.into()), &SocketOptions::default())
        .unwrap();
    assert!(twin.nodelay().unwrap(), "adopting sets TCP_NODELAY");
    let local = ringway_driver::Address::Tcp(twin.local_addr().unwrap());
    assert_eq!(world.driver.local_address(socket), Some(local));
    // A second descriptor of a closed socket must not bring events of it.
    world.driver.close(socket, ringway_driver::Close::Abort);
    world.until("closed", |log| log.is_closed(socket));
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"late").unwrap();
    world.settle();
    assert_eq!(world.driver.stats().stale, 0);
}

pub(crate) fn accepted_and_connected_tcp_sockets_have_no_delay<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (_, address) = world.listen("tcp://127.0.0.1:0");
    let ip = address.socket_addr().unwrap();
    let peer = TcpStream::connect(ip).unwrap();
    world.until("accepted", |log| !log.accepted.is_empty());
    let (_, incoming, from) = world.log.accepted.remove(0);
    assert_eq!(
        from,
        Some(ringway_driver::Address::Tcp(peer.local_addr().unwrap()))
    );
    let Incoming::Fd(fd) = incoming else {
        panic!("a kernel driver accepts descriptors")
    };
    assert!(
        TcpStream::from(fd).nodelay().unwrap(),
        "inherited from the listener"
    );
}
