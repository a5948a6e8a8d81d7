//! Listening and connecting: addresses, refusals, errors that name their fix.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use ringway_driver::{
    Address, Close, CloseCause, Driver, Incoming, ListenOptions, OpenError, SocketId, SocketOptions,
};

use super::{Make, World};

/// A path of its own for each test, gone with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringway-{}-{number}.socket", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn address(&self) -> Address {
        Address::Unix(self.0.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Connecting may fail at once or by an event; both are the same to the caller.
fn refusal<D: Driver>(world: &mut World<D>, address: &Address) -> i32 {
    match world.driver.connect(address, &SocketOptions::default()) {
        Ok(socket) => {
            world.until("closed", |log| log.is_closed(socket));
            assert!(!world.log.connected.contains(&socket));
            match world.cause(socket) {
                CloseCause::ConnectFailed(error) => error.raw_os_error().unwrap(),
                other => panic!("connecting failed, not {other:?}"),
            }
        }
        Err(OpenError::System { error, .. }) => error.raw_os_error().unwrap(),
        Err(other) => panic!("the system refuses, not {other}"),
    }
}

fn exchange<D: Driver>(world: &mut World<D>, client: SocketId, server: SocketId) {
    world.send(client, b"ping");
    world.until("ping", |log| log.received_bytes(server) == 4);
    world.send(server, b"pong!");
    world.until("pong", |log| log.received_bytes(client) == 5);
    assert_eq!(world.take(client), b"pong!");
    assert_eq!(world.take(server), b"ping");
}

pub(crate) fn a_closed_port_refuses<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (listener, address) = world.listen("tcp://127.0.0.1:0");
    world.driver.close(listener, Close::Graceful);
    world.until("closed", |log| log.is_closed(listener));
    assert_eq!(refusal(&mut world, &address), libc::ECONNREFUSED);
}

pub(crate) fn a_missing_path_is_not_found<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let place = Place::new();
    assert_eq!(refusal(&mut world, &place.address()), libc::ENOENT);
}

pub(crate) fn an_address_in_use_names_the_fix<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (_, address) = world.listen("tcp://127.0.0.1:0");
    let error = world
        .driver
        .listen(&address, &ListenOptions::default())
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("stop it or choose another port"), "{text}");
    assert!(text.contains(&address.to_string()), "{text}");
}

pub(crate) fn two_listeners_share_a_port_when_asked<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let options = ListenOptions {
        reuse_port: true,
        ..ListenOptions::default()
    };
    let (first, address) = world.listen_with("tcp://127.0.0.1:0", &options);
    let second = world.driver.listen(&address, &options).unwrap();
    assert_ne!(first, second);
    let place = Place::new();
    let refused = world.driver.listen(&place.address(), &options);
    assert!(
        matches!(refused, Err(OpenError::Unsupported { .. })),
        "unix sockets have no ports"
    );
}

pub(crate) fn unix_paths_and_abstract_names_connect<D: Driver>(make: Make<D>) {
    let place = Place::new();
    let name = place.0.file_name().unwrap().to_str().unwrap().to_owned();
    for address in [place.address(), Address::Abstract(name)] {
        let mut world = World::new(make);
        let listener = world
            .driver
            .listen(&address, &ListenOptions::default())
            .unwrap();
        assert_eq!(world.driver.local_address(listener), Some(address.clone()));
        let options = SocketOptions::default();
        let (client, server) = world.pair_with(&address, &options, &options);
        assert_eq!(world.driver.peer_address(client), Some(address.clone()));
        exchange(&mut world, client, server);
    }
}

pub(crate) fn only_a_stale_socket_file_is_removed<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let place = Place::new();
    let options = ListenOptions::default();
    let in_use = |opened: Result<SocketId, OpenError>| match opened {
        Err(OpenError::System { error, .. }) => error.raw_os_error() == Some(libc::EADDRINUSE),
        _ => false,
    };
    // A file that is no socket is not ours.
    std::fs::write(&place.0, b"precious").unwrap();
    assert!(in_use(world.driver.listen(&place.address(), &options)));
    assert_eq!(std::fs::read(&place.0).unwrap(), b"precious");
    std::fs::remove_file(&place.0).unwrap();
    // Nor is one that somebody listens on.
    let other = UnixListener::bind(&place.0).unwrap();
    assert!(in_use(world.driver.listen(&place.address(), &options)));
    assert!(UnixStream::connect(&place.0).is_ok());
    drop(other);
    // A stale one is, unless told otherwise.
    let keep = ListenOptions {
        unlink_stale: false,
        ..ListenOptions::default()
    };
    assert!(in_use(world.driver.listen(&place.address(), &keep)));
    let listener = world.driver.listen(&place.address(), &options).unwrap();
    let options = SocketOptions::default();
    let (client, server) = world.pair_with(&place.address(), &options, &options);
    exchange(&mut world, client, server);
    assert!(!world.log.is_closed(listener));
}

pub(crate) fn a_dual_stack_listener_serves_both_families<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (_, address) = world.listen("tcp://[::]:0");
    let port = address.socket_addr().unwrap().port();
    for host in ["127.0.0.1", "[::1]"] {
        let address: Address = format!("tcp://{host}:{port}").parse().unwrap();
        let options = SocketOptions::default();
        let (client, server) = world.pair_with(&address, &options, &options);
        assert_eq!(world.driver.local_address(server), Some(address.clone()));
        assert_eq!(world.driver.peer_address(client), Some(address));
        exchange(&mut world, client, server);
    }
    let only = ListenOptions {
        dual_stack: false,
        ..ListenOptions::default()
    };
    let (_, address) = world.listen_with("tcp://[::1]:0", &only);
    let port = address.socket_addr().unwrap().port();
    let v4: Address = format!("tcp://127.0.0.1:{port}").parse().unwrap();
    assert_eq!(refusal(&mut world, &v4), libc::ECONNREFUSED);
}

pub(crate) fn a_connection_comes_from_the_local_address_asked_for<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (_, address) = world.listen("tcp://127.0.0.1:0");
    let local = Some("127.0.0.9:0".parse().unwrap());
    let near = SocketOptions {
        local,
        ..SocketOptions::default()
    };
    let (client, server) = world.pair_with(&address, &near, &SocketOptions::default());
    let peer = world.driver.peer_address(server).unwrap();
    assert_eq!(peer.socket_addr().unwrap().ip().to_string(), "127.0.0.9");
    assert_eq!(world.driver.local_address(client), Some(peer));
}

pub(crate) fn what_a_driver_cannot_carry_is_refused<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let udp: Address = "udp://127.0.0.1:0".parse().unwrap();
    let tcp: Address = "tcp://127.0.0.1:0".parse().unwrap();
    let unsupported =
        |opened: Result<SocketId, OpenError>| matches!(opened, Err(OpenError::Unsupported { .. }));
    assert!(unsupported(
        world.driver.listen(&udp, &ListenOptions::default())
    ));
    assert!(unsupported(
        world.driver.bind(&tcp, &ListenOptions::default())
    ));
    let virtual_end = Incoming::Virtual(1);
    assert!(unsupported(
        world.driver.adopt(virtual_end, &SocketOptions::default())
    ));
    let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listening = Incoming::Fd(listening.into());
    assert!(unsupported(
        world.driver.adopt(listening, &SocketOptions::default())
    ));
    let file = std::fs::File::open("/dev/null").unwrap();
    let file = world
        .driver
        .adopt(Incoming::Fd(file.into()), &SocketOptions::default());
    assert!(
        matches!(
            file,
            Err(OpenError::System {
                call: "getsockopt SO_TYPE",
                ..
            })
        ),
        "{file:?}"
    );
    let lonely = std::os::unix::net::UnixDatagram::unbound().unwrap();
    assert!(unsupported(
        world
            .driver
            .adopt(Incoming::Fd(lonely.into()), &SocketOptions::default())
    ));
}

pub(crate) fn a_listener_switched_off_lets_them_wait<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (listener, address) = world.listen("tcp://127.0.0.1:0");
    // A connection may have been accepted for us already; what is off now stays unseen.
    world.driver.read(listener, false);
    world.settle();
    let ip = address.socket_addr().unwrap();
    let _waiting: Vec<_> = (0..5)
        .map(|_| std::net::TcpStream::connect(ip).unwrap())
        .collect();
    world.settle();
    assert_eq!(world.log.accepted.len(), 0);
    world.driver.read(listener, true);
    world.until("all five", |log| log.accepted.len() == 5);
}
