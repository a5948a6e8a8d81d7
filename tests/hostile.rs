//! Peers that break the rules, as raw sockets against a real engine: each hurts only itself.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod world;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ringway::{Config, ConnectionId};
use world::{App, Host, World, config, config_with};

macro_rules! on_kernel_drivers {
    ($($scenario:ident),* $(,)?) => {
        mod uring { $( #[test] fn $scenario() { super::$scenario(super::World::uring()); } )* }
        mod epoll { $( #[test] fn $scenario() { super::$scenario(super::World::epoll()); } )* }
    };
}

on_kernel_drivers![
    garbage_instead_of_a_preface_gets_no_answer,
    an_unknown_version_is_told_ours,
    a_length_beyond_the_limit_is_refused_from_the_header,
    a_frame_cut_short_is_an_end_in_mid_message,
    a_silent_peer_is_cut_after_the_handshake_timeout,
    a_peer_that_trickles_its_hello_is_cut_too,
    handshakes_in_progress_are_bounded,
    a_ping_flood_is_cut,
    a_reset_is_reported_once,
    a_trickled_large_message_is_cut,
];

/// A server, an honest client that must not notice anything, and the address.
struct Scene {
    server: Host,
    honest: Host,
    connection: ConnectionId,
    address: String,
}

impl Scene {
    fn new(world: &World, server: Config) -> Self {
        // A bad peer that stays is not waited for: its end is what these tests look at.
        let server = server.linger_timeout(Duration::from_millis(50));
        let mut server = Host::new(world, server, "server");
        let mut honest = Host::new(world, config(), "honest");
        server.app = App::echo();
        let listener = server.engine.listen("tcp://127.0.0.1:0").unwrap();
        let address = server.engine.local_address(listener).unwrap();
        let connection = honest.engine.connect(&address.to_string()).unwrap();
        let address = address.socket_addr().unwrap().to_string();
        let mut scene = Self {
            server,
            honest,
            connection,
            address,
        };
        scene.until("honest client open", |scene| {
            scene.honest.app.opened.len() == 1
        });
        scene
    }

    fn raw(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..1_000_000_u32 {
            if done(self) {
                return;
            }
            if self.server.turn() + self.honest.turn() == 0 {
                self.server
                    .engine
                    .park(&mut self.server.app, Some(Duration::from_millis(1)));
            }
        }
        unreachable!("never happened: {what}");
    }

    /// Turns until the server has closed the raw stream; returns what it said before.
    fn last_words(&mut self, stream: &mut TcpStream) -> Vec<u8> {
        let mut said = Vec::new();
        self.until("the server closes", |_| {
            let mut bytes = [0; 4096];
            match stream.read(&mut bytes) {
                Ok(0) => true,
                Ok(count) => {
                    said.extend_from_slice(&bytes[..count]);
                    false
                }
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            }
        });
        said
    }

    /// The honest connection still works, and the bad one was never announced as open.
    fn unharmed(mut self) {
        let before = self.honest.app.got.len();
        self.honest.send(self.connection, b"still there?").unwrap();
        self.until("echo", |scene| scene.honest.app.got.len() == before + 1);
        assert!(self.honest.app.closed.is_empty());
        self.until("only the honest one is left", |scene| {
            scene.server.engine.stats().connections == 1
        });
    }
}

/// A valid hello of a client, taken from a real one.
fn hello(world: &World) -> Vec<u8> {
    let mut client = Host::new(world, config(), "client");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    client.engine.connect(&address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut stream = loop {
        client.turn();
        if let Ok((stream, _)) = listener.accept() {
            break stream;
        }
    };
    stream.set_nonblocking(true).unwrap();
    let mut bytes = Vec::new();
    let mut part = [0; 1024];
    while bytes.len() < 32 {
        client.turn();
        if let Ok(count) = stream.read(&mut part) {
            bytes.extend_from_slice(&part[..count]);
        }
    }
    bytes
}

fn header(length: u32, kind: u8) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[kind, 0, 0, 0]);
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

fn garbage_instead_of_a_preface_gets_no_answer(world: World) {
    let mut scene = Scene::new(&world, config());
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0; 200],
        &[0x16, 3, 1, 2, 0, 1],
    ] {
        let mut stream = scene.raw();
        stream.write_all(garbage).unwrap();
        drop(stream.shutdown(std::net::Shutdown::Write));
        assert_eq!(
            scene.last_words(&mut stream),
            b"",
            "a stranger gets no bytes"
        );
    }
    scene.unharmed();
}

fn an_unknown_version_is_told_ours(world: World) {
    let mut scene = Scene::new(&world, config());
    let mut bytes = hello(&world);
    // version_min and version_max stand behind the magic of eight bytes.
    bytes[8..12].copy_from_slice(&[0xFF, 0x7F, 0xFF, 0x7F]);
    let mut stream = scene.raw();
    stream.write_all(&bytes).unwrap();
    let said = scene.last_words(&mut stream);
    assert_eq!(
        said[..8],
        bytes[..8],
        "our preface, so that the peer learns our range"
    );
    scene.unharmed();
}

fn a_length_beyond_the_limit_is_refused_from_the_header(world: World) {
    let mut scene = Scene::new(
        &world,
        config_with(|stream| stream.message_bytes_max = 1 << 20),
    );
    let before = scene.server.engine.budget().used();
    let mut stream = scene.raw();
    let mut bytes = hello(&world);
    bytes.extend(header(u32::MAX, 0x40));
    stream.write_all(&bytes).unwrap();
    scene.last_words(&mut stream);
    let held = scene.server.engine.budget().peak().saturating_sub(before);
    assert!(
        held < 1 << 20,
        "{held} bytes were taken for a length that was refused"
    );
    scene.until("reported", |scene| !scene.server.app.closed.is_empty());
    let reason = scene.server.app.closed[0].reason.clone();
    assert!(reason.contains("Violation"), "{reason}");
    scene.unharmed();
}

fn a_frame_cut_short_is_an_end_in_mid_message(world: World) {
    let mut scene = Scene::new(&world, config());
    for (count, body) in [100_u32, 500_000].into_iter().enumerate() {
        let mut stream = scene.raw();
        let mut bytes = hello(&world);
        bytes.extend(header(body, 0x40));
        bytes.extend([7; 50]);
        stream.write_all(&bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        scene.last_words(&mut stream);
        scene.until("reported", |scene| scene.server.app.closed.len() > count);
        let last = scene.server.app.closed[count].text.clone();
        assert!(last.contains("ended the stream"), "{last}");
    }
    assert!(scene.server.app.got.is_empty(), "half a message is none");
    scene.unharmed();
}

fn impatient() -> Config {
    config_with(|stream| stream.handshake_timeout = Duration::from_millis(50))
}

fn a_silent_peer_is_cut_after_the_handshake_timeout(world: World) {
    let mut scene = Scene::new(&world, impatient());
    let mut streams: Vec<_> = (0..20).map(|_| scene.raw()).collect();
    for stream in &mut streams {
        scene.last_words(stream);
    }
    assert!(
        scene.server.app.closed.is_empty(),
        "never opened, so never announced"
    );
    scene.unharmed();
}

fn a_peer_that_trickles_its_hello_is_cut_too(world: World) {
    let mut scene = Scene::new(&world, impatient());
    let bytes = hello(&world);
    let mut stream = scene.raw();
    let mut next = 0;
    scene.until("cut", |_| {
        // One byte a turn, never the last one.
        if next + 1 < bytes.len() && stream.write(&bytes[next..=next]).is_ok() {
            next += 1;
        }
        matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_) if next + 1 >= bytes.len())
            && !matches!(stream.read(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    });
    scene.unharmed();
}

fn handshakes_in_progress_are_bounded(world: World) {
    let limits = ringway::Limits {
        handshakes_max: 4,
        ..ringway::Limits::default()
    };
    let mut scene = Scene::new(&world, impatient().limits(limits));
    let mut streams: Vec<_> = (0..30).map(|_| scene.raw()).collect();
    let mut most = 0;
    scene.until("all cut", |scene| {
        most = most.max(scene.server.engine.stats().connections);
        streams.retain_mut(|stream| match stream.read(&mut [0; 64]) {
            Ok(0) => false,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
            Ok(_) => true,
        });
        streams.is_empty()
    });
    assert!(
        most <= 5,
        "{most} connections, four handshakes and the honest one allowed"
    );
    scene.unharmed();
}

fn a_ping_flood_is_cut(world: World) {
    let mut scene = Scene::new(&world, config());
    let mut stream = scene.raw();
    let mut bytes = hello(&world);
    for _ in 0..10_000 {
        bytes.extend(header(0, 1));
    }
    let mut sent = 0;
    scene.until("cut", |_| {
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return true,
        }
        let mut part = [0; 4096];
        matches!(stream.read(&mut part), Ok(0))
            || (sent == bytes.len()
                && matches!(stream.read(&mut part), Err(error) if error.kind() != ErrorKind::WouldBlock))
    });
    scene.unharmed();
}

fn a_reset_is_reported_once(world: World) {
    let mut scene = Scene::new(&world, config());
    let stream = scene.raw();
    (&stream).write_all(&hello(&world)).unwrap();
    scene.until("open", |scene| scene.server.app.opened.len() == 2);
    // Unread bytes (the server's hello) turn a close into a reset.
    drop(stream);
    scene.until("closed", |scene| scene.server.app.closed.len() == 1);
    for _ in 0..100 {
        scene.server.turn();
    }
    scene.unharmed();
}

fn a_trickled_large_message_is_cut(world: World) {
    let server = config_with(|stream| {
        stream.keepalive_interval = Some(Duration::from_millis(200));
        stream.keepalive_timeout = Duration::from_millis(200);
    });
    let mut scene = Scene::new(&world, server);
    let mut stream = scene.raw();
    let mut bytes = hello(&world);
    bytes.extend(header(70_000, 0x40));
    stream.write_all(&bytes).unwrap();
    // A byte now and then, for ever: never silent, never done, far below the least rate.
    let mut turns = 0_u32;
    scene.until("cut", |scene| {
        turns += 1;
        if turns.is_multiple_of(64) {
            drop(stream.write(&[7]));
        }
        !scene.server.app.closed.is_empty()
    });
    assert_eq!(scene.server.app.closed[0].reason, "KeepaliveTimeout");
    assert!(scene.server.app.got.is_empty());
    scene.unharmed();
}
