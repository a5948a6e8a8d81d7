//! QUIC on real sockets: addresses, a NAT that forgets, certificates that change.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod world;

use std::net::{SocketAddr, UdpSocket};

use ringway::{ConnectionId, DriverChoice};
use ringway_engine::{Identity, Roots, TlsConfig};
use world::{Host, Pair, World, config, over, pattern};

/// Makes each scenario a test over QUIC on each of the kernel's drivers.
macro_rules! on_kernel_drivers {
    ($($scenario:ident),* $(,)?) => {
        mod uring { $( #[test] fn $scenario() { super::over("quic", || super::$scenario(super::DriverChoice::Uring)); } )* }
        mod epoll { $( #[test] fn $scenario() { super::over("quic", || super::$scenario(super::DriverChoice::Epoll)); } )* }
    };
}

on_kernel_drivers![
    a_server_on_all_addresses_answers_from_the_one_that_was_asked,
    a_session_goes_on_when_a_nat_forgets_it,
    a_reloaded_certificate_counts_for_new_connections_and_old_ones_go_on,
];

fn listening(pair: &mut Pair, address: &str) -> SocketAddr {
    let listener = pair.server.engine.listen(address).unwrap();
    let address = pair.server.engine.local_address(listener).unwrap();
    address.socket_addr().unwrap()
}

/// Sends a message and waits until the echo is back.
fn echoed(pair: &mut Pair, connection: ConnectionId, body: &[u8], mut meanwhile: impl FnMut()) {
    let before = pair.client.app.got.len();
    pair.client.send(connection, body).unwrap();
    pair.until("the echo", |pair| {
        meanwhile();
        pair.client.app.got.len() > before
    });
    assert!(pair.client.app.got.last().unwrap().body == body);
}

fn a_server_on_all_addresses_answers_from_the_one_that_was_asked(choice: DriverChoice) {
    for (all, asked) in [
        ("0.0.0.0", "127.0.0.9"),
        ("[::]", "[::1]"),
        ("[::]", "127.0.0.9"),
    ] {
        let mut pair = Pair::new(World::Kernel(choice));
        pair.server.app.echo = true;
        let address = listening(&mut pair, &format!("quic://{all}:0"));
        let (connection, _) = pair.connect_to(&format!("quic://{asked}:{}", address.port()));
        echoed(&mut pair, connection, &pattern(100_000, 1), || ());
    }
}

/// A network address translation: one way in, and a port of its own towards the server, which it may forget.
struct Nat {
    front: UdpSocket,
    back: UdpSocket,
    client: Option<SocketAddr>,
    server: SocketAddr,
}

impl Nat {
    fn new(server: SocketAddr) -> Self {
        Self {
            front: Self::port(),
            back: Self::port(),
            client: None,
            server,
        }
    }

    fn port() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// The server sees another port from now on; what it sends to the old one is lost.
    fn forget(&mut self) {
        self.back = Self::port();
    }

    /// Passes on what waits. A full socket loses it, as a router would.
    fn pass(&mut self) {
        let mut room = [0; 2048];
        while let Ok((len, from)) = self.front.recv_from(&mut room) {
            self.client = Some(from);
            drop(self.back.send_to(&room[..len], self.server));
        }
        while let Ok((len, _)) = self.back.recv_from(&mut room) {
            if let Some(client) = self.client {
                drop(self.front.send_to(&room[..len], client));
            }
        }
    }
}

fn a_session_goes_on_when_a_nat_forgets_it(choice: DriverChoice) {
    let mut pair = Pair::new(World::Kernel(choice));
    pair.server.app.echo = true;
    let server = listening(&mut pair, "quic://127.0.0.1:0");
    let mut nat = Nat::new(server);
    let way = format!("quic://{}", nat.front.local_addr().unwrap());
    let connection = pair.client.engine.connect(&way).unwrap();
    pair.until("it is open", |pair| {
        nat.pass();
        !pair.client.app.opened.is_empty()
    });
    for round in 0..4 {
        echoed(&mut pair, connection, &pattern(50_000, round), || {
            nat.pass()
        });
        nat.forget();
    }
    assert_eq!(pair.server.app.opened.len(), 1, "always the same session");
    assert!(pair.server.app.closed.is_empty() && pair.client.app.closed.is_empty());
}

/// A certificate for `ringway.test` and its key, as PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["ringway.test".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn a_reloaded_certificate_counts_for_new_connections_and_old_ones_go_on(choice: DriverChoice) {
    let folder = format!("ringway-reload-{}-{choice:?}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    let write = |made: &(String, String)| {
        std::fs::write(&cert, &made.0).unwrap();
        std::fs::write(&key, &made.1).unwrap();
    };
    let (first, second) = (certificate(), certificate());
    write(&first);
    let identity = Identity::from_files(&cert, &key).unwrap();
    let tls = TlsConfig::builder().identity(identity).build().unwrap();
    let trusting = |made: &(String, String)| {
        let roots = Roots::from_pem(made.0.as_bytes()).unwrap();
        let tls = TlsConfig::builder()
            .roots(roots)
            .server_name("ringway.test");
        config().tls(tls.build().unwrap()).driver(choice)
    };
    // The engines' own settings, not those of the world.
    let host = |config: ringway::Config| Host {
        engine: config.build().unwrap(),
        app: world::App::default(),
    };
    let mut pair = Pair {
        world: World::Kernel(choice),
        client: host(trusting(&first)),
        server: host(config().tls(tls.clone()).driver(choice)),
    };
    pair.server.app.echo = true;
    let address = format!("quic://{}", listening(&mut pair, "quic://127.0.0.1:0"));
    let (old, _) = pair.connect_to(&address);
    echoed(&mut pair, old, b"before", || ());

    write(&second);
    tls.reload().unwrap();
    echoed(&mut pair, old, b"afterwards", || ());
    let refused = pair.client.engine.connect(&address).unwrap();
    pair.until("who trusts the first one only is told", |pair| {
        pair.client.app.reason(refused).is_some()
    });
    let reason = pair.client.app.reason(refused).unwrap();
    assert!(reason.contains("Untrusted"), "{reason}");
    echoed(&mut pair, old, b"still", || ());

    pair.client = host(trusting(&second));
    let (new, _) = pair.connect_to(&address);
    echoed(&mut pair, new, b"new", || ());
    std::fs::remove_dir_all(&folder).unwrap();
}
