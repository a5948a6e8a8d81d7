//! Datagrams: single and in bursts, their limits, and errors that are not fatal.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use ringway_driver::{
    Address, Burst, Close, CloseCause, Driver, Incoming, ListenOptions, SocketId, SocketOptions,
};

use super::{Make, World, pattern};

fn bind<D: Driver>(world: &mut World<D>, address: &str) -> (SocketId, SocketAddr) {
    let socket = world
        .driver
        .bind(&address.parse().unwrap(), &ListenOptions::default())
        .unwrap();
    let address = world.driver.local_address(socket).unwrap();
    assert!(address.is_datagram());
    world.driver.read(socket, true);
    (socket, address.socket_addr().unwrap())
}

fn connect<D: Driver>(world: &mut World<D>, peer: SocketAddr) -> SocketId {
    let options = SocketOptions::default();
    let socket = world.driver.connect(&Address::Udp(peer), &options).unwrap();
    world.until("connected", |log| log.connected.contains(&socket));
    world.driver.read(socket, true);
    socket
}

fn burst<D: Driver>(
    world: &mut World<D>,
    socket: SocketId,
    peer: Option<SocketAddr>,
    bytes: &[u8],
    segment_bytes: u32,
) {
    marked(world, socket, peer, bytes, segment_bytes, None, None);
}

/// A burst whose IP headers hold what the caller says.
fn marked<D: Driver>(
    world: &mut World<D>,
    socket: SocketId,
    peer: Option<SocketAddr>,
    bytes: &[u8],
    segment_bytes: u32,
    source: Option<IpAddr>,
    ecn: Option<u8>,
) {
    let mut lease = world.pools.lease(bytes.len().max(1)).unwrap();
    lease.append(bytes.len()).unwrap().copy_from_slice(bytes);
    let len = u32::try_from(bytes.len()).unwrap();
    let count = if segment_bytes == 0 {
        1
    } else {
        len.div_ceil(segment_bytes)
    };
    world.driver.send_to(
        socket,
        Burst {
            lease,
            segment_bytes,
            count,
            peer,
            source,
            ecn,
        },
    );
}

/// All datagrams of `socket` in order, taken apart, and how many batches they came in.
fn parts<D>(world: &World<D>, socket: SocketId) -> (Vec<Vec<u8>>, usize) {
    let letters: Vec<_> = world
        .log
        .letters
        .iter()
        .filter(|letter| letter.socket == socket)
        .collect();
    let mut parts = Vec::new();
    for letter in &letters {
        assert!(!letter.meta.truncated);
        match letter.meta.segment_bytes as usize {
            0 => parts.push(Vec::new()),
            segment => parts.extend(letter.bytes.chunks(segment).map(<[u8]>::to_vec)),
        }
    }
    (parts, letters.len())
}

fn echo<D: Driver>(make: Make<D>, host: &str) {
    let mut world = World::new(make);
    let (server, address) = bind(&mut world, &format!("udp://{host}:0"));
    let client = connect(&mut world, address);
    let local = world
        .driver
        .local_address(client)
        .unwrap()
        .socket_addr()
        .unwrap();
    for round in 0..200 {
        let bytes = pattern(64, round);
        burst(&mut world, client, None, &bytes, 64);
        world.until("a request", |log| !log.letters.is_empty());
        let letter = world.log.letters.remove(0);
        assert_eq!((letter.socket, letter.meta.peer), (server, local));
        assert_eq!(
            (letter.bytes.as_slice(), letter.meta.segment_bytes),
            (bytes.as_slice(), 64)
        );
        burst(&mut world, server, Some(letter.meta.peer), &bytes, 64);
        world.until("a response", |log| !log.letters.is_empty());
        let letter = world.log.letters.remove(0);
        assert_eq!((letter.socket, letter.meta.peer), (client, address));
        assert_eq!(letter.bytes, bytes);
    }
    assert_eq!(world.log.sent_bytes(client), 200 * 64);
    let stats = *world.driver.stats();
    assert_eq!((stats.datagrams_in, stats.datagrams_out), (400, 400));
    assert_eq!((stats.datagrams_dropped, stats.stale), (0, 0));
}

pub(crate) fn datagrams_come_back_over_ipv4<D: Driver>(make: Make<D>) {
    echo(make, "127.0.0.1");
}

pub(crate) fn datagrams_come_back_over_ipv6<D: Driver>(make: Make<D>) {
    echo(make, "[::1]");
}

pub(crate) fn a_dual_stack_socket_answers_ipv4<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (server, address) = bind(&mut world, "udp://[::]:0");
    let v4 = SocketAddr::from(([127, 0, 0, 1], address.port()));
    let client = connect(&mut world, v4);
    burst(&mut world, client, None, b"four", 4);
    world.until("a request", |log| !log.letters.is_empty());
    let letter = world.log.letters.remove(0);
    assert_eq!(letter.socket, server);
    assert!(
        letter.meta.peer.is_ipv4(),
        "{} is an IPv4 address in plain clothes",
        letter.meta.peer
    );
    assert_eq!(letter.meta.ecn, 2, "ECN bits of IPv4 on an IPv6 socket");
    burst(&mut world, server, Some(letter.meta.peer), b"to you", 6);
    world.until("a response", |log| !log.letters.is_empty());
    assert_eq!(world.log.letters[0].meta.peer, v4);
}

pub(crate) fn a_burst_of_sixty_four_arrives_whole<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (server, address) = bind(&mut world, "udp://127.0.0.1:0");
    let client = connect(&mut world, address);
    let bytes = pattern(64 * 1_000 - 300, 1);
    let before = world.driver.stats().working_syscalls();
    burst(&mut world, client, None, &bytes, 1_000);
    world.until("all datagrams", |log| {
        log.letters
            .iter()
            .map(|letter| letter.bytes.len())
            .sum::<usize>()
            == bytes.len()
    });
    let (parts, batches) = parts(&world, server);
    assert!(parts.iter().map(Vec::as_slice).eq(bytes.chunks(1_000)));
    let capabilities = world.driver.capabilities();
    if capabilities.udp_gso && capabilities.udp_gro {
        assert_eq!(batches, 1, "the loopback hands over what was sent as one");
        let calls = world.driver.stats().working_syscalls() - before;
        assert!(calls < 16, "{calls} system calls for 64 datagrams");
    }
    assert_eq!(world.log.sent_bytes(client), bytes.len());
    assert_eq!(world.driver.stats().datagrams_in, 64);
    assert_eq!(world.driver.stats().datagrams_out, 64);
}

pub(crate) fn a_burst_beyond_one_send_is_split<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let options = SocketOptions {
        recv_buffer_bytes: Some(4 << 20),
        ..SocketOptions::default()
    };
    let listen = ListenOptions {
        socket: options,
        ..ListenOptions::default()
    };
    let server = world
        .driver
        .bind(&"udp://127.0.0.1:0".parse().unwrap(), &listen)
        .unwrap();
    world.driver.read(server, true);
    let address = world
        .driver
        .local_address(server)
        .unwrap()
        .socket_addr()
        .unwrap();
    let (client, _) = bind(&mut world, "udp://127.0.0.1:0");
    // More than 64 small ones, and more bytes than one IP packet.
    for (seed, (segment, count)) in [(100_u32, 150_usize), (1_400, 100)].into_iter().enumerate() {
        let bytes = pattern(segment as usize * count, u32::try_from(seed).unwrap());
        world.log.letters.clear();
        burst(&mut world, client, Some(address), &bytes, segment);
        world.until("all datagrams", |log| {
            log.letters
                .iter()
                .map(|letter| letter.bytes.len())
                .sum::<usize>()
                == bytes.len()
        });
        let (parts, batches) = parts(&world, server);
        assert!(
            parts
                .iter()
                .map(Vec::as_slice)
                .eq(bytes.chunks(segment as usize))
        );
        let capabilities = world.driver.capabilities();
        if capabilities.udp_gso && capabilities.udp_gro {
            assert!(
                batches <= 4,
                "{batches} batches: the limits of one send are kept, not tried"
            );
        }
        assert!(world.log.too_long.is_empty());
    }
}

pub(crate) fn an_empty_datagram_arrives<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (server, address) = bind(&mut world, "udp://127.0.0.1:0");
    let client = connect(&mut world, address);
    burst(&mut world, client, None, &[], 0);
    burst(&mut world, client, None, b"x", 1);
    world.until("both", |log| log.letters.len() == 2);
    let (parts, _) = parts(&world, server);
    assert_eq!(parts, [b"".to_vec(), b"x".to_vec()]);
    assert_eq!(world.log.letters[0].meta.segment_bytes, 0);
}

pub(crate) fn ecn_bits_are_set_and_reported<D: Driver>(make: Make<D>) {
    for host in ["127.0.0.1", "[::1]"] {
        let mut world = World::new(make);
        let (_, address) = bind(&mut world, &format!("udp://{host}:0"));
        let client = connect(&mut world, address);
        burst(&mut world, client, None, b"marked", 6);
        world.until("a datagram", |log| !log.letters.is_empty());
        assert_eq!(world.log.letters[0].meta.ecn, 2, "ECT(0) over {host}");
        let plain = SocketOptions {
            ecn: false,
            ..SocketOptions::default()
        };
        let client = world
            .driver
            .connect(&Address::Udp(address), &plain)
            .unwrap();
        burst(&mut world, client, None, b"plain", 5);
        world.until("a datagram", |log| log.letters.len() == 2);
        assert_eq!(world.log.letters[1].meta.ecn, 0);
    }
}

pub(crate) fn a_burst_has_ecn_bits_of_its_own<D: Driver>(make: Make<D>) {
    for host in ["127.0.0.1", "[::1]"] {
        let mut world = World::new(make);
        let (server, address) = bind(&mut world, &format!("udp://{host}:0"));
        let client = connect(&mut world, address);
        let back = world.driver.local_address(client).unwrap();
        let back = back.socket_addr();
        // Alone, and in a burst that the kernel splits; connected, and not.
        for (count, bits) in [(1, 0), (3, 1), (2, 3)] {
            for (socket, peer) in [(client, None), (server, back)] {
                let bytes = vec![bits; 4 * count];
                world.log.letters.clear();
                marked(&mut world, socket, peer, &bytes, 4, None, Some(bits));
                world.until("all", |log| {
                    log.letters.iter().map(|it| it.bytes.len()).sum::<usize>() == bytes.len()
                });
                assert!(world.log.letters.iter().all(|it| it.meta.ecn == bits));
            }
        }
    }
}

pub(crate) fn an_answer_leaves_from_the_address_that_was_asked<D: Driver>(make: Make<D>) {
    for (host, asked, local) in [
        ("0.0.0.0", "127.0.0.9", "127.0.0.9"),
        ("[::]", "[::1]", "::1"),
        // IPv4 on a socket that speaks both.
        ("[::]", "127.0.0.9", "::ffff:127.0.0.9"),
    ] {
        let mut world = World::new(make);
        let (server, address) = bind(&mut world, &format!("udp://{host}:0"));
        let asked: IpAddr = asked.trim_matches(['[', ']']).parse().unwrap();
        let client = connect(&mut world, SocketAddr::new(asked, address.port()));
        burst(&mut world, client, None, b"who is there?", 13);
        world.until("the question", |log| !log.letters.is_empty());
        let meta = world.log.letters[0].meta;
        assert_eq!(meta.local, Some(local.parse().unwrap()));
        // A connected socket hears nobody else. Three, because a burst takes another way through the driver.
        marked(
            &mut world,
            server,
            Some(meta.peer),
            b"me me me ",
            3,
            meta.local,
            None,
        );
        world.until("the answer", |log| {
            let back = log.letters.iter().filter(|it| it.socket == client);
            back.map(|it| it.bytes.len()).sum::<usize>() == 9
        });
    }
}

pub(crate) fn a_datagram_too_long_is_an_event_and_not_sent<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (server, address) = bind(&mut world, "udp://127.0.0.1:0");
    let client = connect(&mut world, address);
    let max = world.driver.datagram_bytes_max(client).unwrap();
    assert_eq!(max, 65_507, "the loopback carries what IPv4 can say");
    assert_eq!(
        world.driver.datagram_bytes_max(server),
        None,
        "no peer, no path"
    );
    let (lone, _) = bind(&mut world, "udp://127.0.0.1:0");
    for (socket, peer) in [(client, None), (lone, Some(address))] {
        world.log.too_long.clear();
        world.log.letters.clear();
        let len = u32::try_from(max + 1).unwrap();
        burst(&mut world, socket, peer, &pattern(max + 1, 1), len);
        let fits = pattern(max, 2);
        burst(&mut world, socket, peer, &fits, len - 1);
        world.until("the one that fits", |log| !log.letters.is_empty());
        assert!(world.log.letters[0].bytes == fits);
        assert_eq!(world.log.too_long, [(socket, max + 1, max)]);
        assert_eq!(
            world.log.sent_bytes(socket),
            2 * max + 1,
            "both have left the queue"
        );
        assert!(!world.log.is_closed(socket));
    }
}

pub(crate) fn a_refused_datagram_is_not_fatal<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let absent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = absent.local_addr().unwrap();
    drop(absent);
    let client = connect(&mut world, address);
    for _ in 0..5 {
        burst(&mut world, client, None, b"anyone?", 7);
        world.settle();
    }
    assert!(!world.log.is_closed(client));
    assert!(
        world.driver.stats().datagrams_dropped > 0,
        "the refusals are counted"
    );
    assert_eq!(world.log.sent_bytes(client), 35);
    let refusals = std::mem::take(&mut world.log.unreachable);
    assert!(!refusals.is_empty(), "and told");
    for (socket, error) in refusals {
        assert_eq!(socket, client);
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    // The same socket reaches whoever comes later.
    let present = UdpSocket::bind(address).unwrap();
    burst(&mut world, client, None, b"you!", 4);
    world.settle();
    burst(&mut world, client, None, b"you!", 4);
    world.settle();
    let mut room = [0; 16];
    let (len, from) = present.recv_from(&mut room).unwrap();
    assert_eq!(&room[..len], b"you!");
    present.send_to(b"me", from).unwrap();
    world.until("an answer", |log| !log.letters.is_empty());
    assert_eq!(world.log.letters[0].bytes, b"me");
}

pub(crate) fn many_peers_reach_one_socket<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (server, address) = bind(&mut world, "udp://127.0.0.1:0");
    let peers: Vec<_> = (0..40)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    for (number, peer) in (0_u8..).zip(&peers) {
        peer.send_to(&[number], address).unwrap();
    }
    world.until("all of them", |log| log.letters.len() == peers.len());
    let (parts, _) = parts(&world, server);
    assert!(
        parts.iter().map(Vec::as_slice).eq((0..40)
            .map(|number| [number])
            .collect::<Vec<_>>()
            .iter()
            .map(<[u8; 1]>::as_slice))
    );
    for (letter, peer) in world.log.letters.iter().zip(&peers) {
        assert_eq!(letter.meta.peer, peer.local_addr().unwrap());
    }
}

pub(crate) fn a_busy_socket_that_sleeps_finds_all_that_came_together<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (_server, address) = bind(&mut world, "udp://127.0.0.1:0");
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.connect(address).unwrap();
    for _ in 0..50 {
        // One after the other while it spins: busy enough for any short cut.
        world.log.letters.clear();
        for number in 1..=20 {
            peer.send(b"one").unwrap();
            world.spin_until("it", |log| log.letters.len() == number);
        }
        // Several at once, for which there is one announcement.
        for more in 1..=5 {
            let sent = world.log.letters.len() + more;
            for _ in 0..more {
                peer.send(b"one of many").unwrap();
            }
            world.doze_until("all of them", |log| log.letters.len() == sent);
        }
    }
}

pub(crate) fn a_socket_switched_off_keeps_its_datagrams<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (server, address) = bind(&mut world, "udp://127.0.0.1:0");
    world.driver.read(server, false);
    world.settle();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..3 {
        peer.send_to(&[number], address).unwrap();
    }
    world.settle();
    assert!(world.log.letters.is_empty());
    world.driver.read(server, true);
    world.until("all three", |log| log.letters.len() == 3);
}

pub(crate) fn an_adopted_datagram_socket_works<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (near, far) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    near.connect(far.local_addr().unwrap()).unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    let options = SocketOptions::default();
    let socket = world
        .driver
        .adopt(Incoming::Fd(near.into()), &options)
        .unwrap();
    let peer = Address::Udp(far.local_addr().unwrap());
    assert_eq!(world.driver.peer_address(socket), Some(peer));
    world.driver.read(socket, true);
    far.send(b"hello").unwrap();
    world.until("a datagram", |log| !log.letters.is_empty());
    burst(&mut world, socket, None, b"there", 5);
    world.settle();
    let mut room = [0; 8];
    assert_eq!(far.recv(&mut room).unwrap(), 5);
}

pub(crate) fn a_device_that_refuses_to_split_bursts_is_served_piece_by_piece<D: Driver>(
    make: Make<D>,
) {
    let mut world = World::new(make);
    let (near, far) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    near.connect(far.local_addr().unwrap()).unwrap();
    // The kernel splits only what it may checksum: this socket is what a device without offload is.
    let off: libc::c_int = 1;
    // SAFETY: the option is an integer that lives during the call, which reads it by its size.
    let refused = unsafe {
        libc::setsockopt(
            near.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const off).cast(),
            4,
        )
    };
    assert_eq!(refused, 0);
    let options = SocketOptions::default();
    let socket = world
        .driver
        .adopt(Incoming::Fd(near.into()), &options)
        .unwrap();
    let bytes = pattern(20 * 700, 3);
    for _ in 0..3 {
        burst(&mut world, socket, None, &bytes, 700);
    }
    world.until("all left", |log| log.sent_bytes(socket) == 3 * bytes.len());
    let mut room = [0; 1_000];
    for number in 0..60 {
        let len = far.recv(&mut room).unwrap();
        let at = number % 20 * 700;
        assert_eq!(room[..len], bytes[at..at + 700]);
    }
    let stats = world.driver.stats();
    assert_eq!((stats.datagrams_out, stats.datagrams_dropped), (60, 0));
}

pub(crate) fn a_graceful_close_sends_queued_datagrams<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (server, address) = bind(&mut world, "udp://127.0.0.1:0");
    let client = connect(&mut world, address);
    for number in 0..10_u8 {
        burst(&mut world, client, None, &[number; 20], 20);
    }
    world.driver.close(client, Close::Graceful);
    world.until("closed", |log| log.is_closed(client));
    assert!(matches!(world.cause(client), CloseCause::Requested));
    world.until("all ten", |log| {
        log.letters
            .iter()
            .map(|letter| letter.bytes.len())
            .sum::<usize>()
            == 200
    });
    assert_eq!(parts(&world, server).0.len(), 10);
}

pub(crate) fn a_full_send_buffer_delays_and_loses_nothing<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let wide = SocketOptions {
        recv_buffer_bytes: Some(8 << 20),
        ..SocketOptions::default()
    };
    let listen = ListenOptions {
        socket: wide,
        ..ListenOptions::default()
    };
    let server = world
        .driver
        .bind(&"udp://127.0.0.1:0".parse().unwrap(), &listen)
        .unwrap();
    let address = world
        .driver
        .local_address(server)
        .unwrap()
        .socket_addr()
        .unwrap();
    let narrow = SocketOptions {
        send_buffer_bytes: Some(5_000),
        ..SocketOptions::default()
    };
    let client = world
        .driver
        .connect(&Address::Udp(address), &narrow)
        .unwrap();
    // The server does not read: what was sent stays charged to the sender's small buffer.
    for number in 0..60_u8 {
        burst(&mut world, client, None, &[number; 1_000], 1_000);
    }
    world.settle();
    world.driver.read(server, true);
    world.until("all sixty", |log| {
        log.letters
            .iter()
            .map(|letter| letter.bytes.len())
            .sum::<usize>()
            == 60_000
    });
    let (parts, _) = parts(&world, server);
    assert!(
        parts
            .iter()
            .zip(0_u8..)
            .all(|(part, number)| *part == [number; 1_000])
    );
    assert_eq!(world.log.sent_bytes(client), 60_000);
}
