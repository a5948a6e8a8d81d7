//! `ringway impair` between real programs: what it does to datagrams, and what it says of it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test has its name, and shall stop at what it does not expect"
)]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Server, command, drivers, ringway, signal, stderr, stdout};

/// A running `ringway impair`; dropping it ends it.
struct Proxy {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Proxy {
    fn start(to: &str, more: &[&str]) -> Self {
        let scheme = to.split_once(':').unwrap().0;
        let listen = format!("{scheme}://127.0.0.1:0");
        let mut child = command(&["impair", "--listen", &listen, "--to", to, "--json"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").unwrap();
        let address = address.to_owned();
        Self {
            child,
            stdout,
            address,
        }
    }

    /// A socket whose datagrams it takes.
    fn client(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at: SocketAddr = self.address.split_once("//").unwrap().1.parse().unwrap();
        socket.connect(at).unwrap();
        socket
    }

    /// Ends it; what it counted.
    fn stop(mut self) -> Value {
        signal(&self.child, Signal::SIGTERM);
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&said).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn server() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("udp://{}", socket.local_addr().unwrap());
    (socket, address)
}

/// Sends 200 numbered datagrams through a proxy, and whatever it takes until a last one arrives; which arrived, and
/// what the proxy counted.
fn survivors(more: &[&str]) -> (Vec<u32>, Value) {
    let (server, address) = server();
    let proxy = Proxy::start(&address, more);
    let client = proxy.client();
    let mut arrived = Vec::new();
    server.set_nonblocking(true).unwrap();
    let mut room = [0; 64];
    for number in 0.. {
        // Nothing overtakes here, so behind the first last one all others have come.
        if number < 200_u32 {
            client.send(&number.to_le_bytes()).unwrap();
        } else {
            client.send(b"last").unwrap();
        }
        // Taken as they come: the kernel keeps a few hundred small ones at most.
        while let Ok(len) = server.recv(&mut room) {
            if &room[..len] == b"last" {
                return (arrived, proxy.stop());
            }
            arrived.push(u32::from_le_bytes(room[..len].try_into().unwrap()));
        }
        std::thread::yield_now();
    }
    unreachable!("numbers go on for ever")
}

#[test]
fn the_same_seed_loses_the_same_datagrams() {
    for driver in drivers() {
        let lose = |seed: &str| {
            let more = ["--loss", "20%", "--seed", seed, "--driver", &driver];
            survivors(&more)
        };
        let (first, counts) = lose("7");
        assert!((120..190).contains(&first.len()), "{}", first.len());
        assert!(counts["faults"]["loss"].as_u64().unwrap() >= 200 - first.len() as u64);
        assert_eq!(counts["seed"], 7);
        assert_eq!(counts["clients"], 1);
        assert_eq!(lose("7").0, first);
        assert_ne!(lose("8").0, first);
    }
}

#[test]
fn datagrams_arrive_twice_when_asked() {
    let (arrived, _) = survivors(&["--duplicate", "100%"]);
    let expected: Vec<u32> = (0..200).flat_map(|number| [number, number]).collect();
    assert_eq!(arrived, expected);
}

#[test]
fn long_datagrams_vanish_and_damaged_ones_differ() {
    let (server, address) = server();
    let proxy = Proxy::start(&address, &["--mtu", "576", "--corrupt", "100%"]);
    let client = proxy.client();
    client.send(&[0; 549]).unwrap();
    client.send(&[0; 548]).unwrap();
    let mut room = [0; 1000];
    assert_eq!(server.recv(&mut room).unwrap(), 548);
    let flipped: u32 = room.iter().map(|byte| byte.count_ones()).sum();
    assert!(flipped <= 8, "{flipped} bits");
    let counts = proxy.stop();
    assert_eq!(counts["faults"]["black_hole"], 1);
    assert_eq!(counts["faults"]["corrupt"], 1);
}

#[test]
fn a_translator_that_forgets_shows_new_ports_and_answers_find_the_client() {
    for driver in drivers() {
        let (server, address) = server();
        let proxy = Proxy::start(&address, &["--rebind", "5ms", "--driver", &driver]);
        let client = proxy.client();
        client.set_nonblocking(true).unwrap();
        let (mut ports, mut room) = (BTreeSet::new(), [0; 64]);
        while ports.len() < 4 {
            client.send(b"question").unwrap();
            let (len, from) = server.recv_from(&mut room).unwrap();
            assert_eq!(&room[..len], b"question");
            ports.insert(from.port());
            server.send_to(b"answer", from).unwrap();
        }
        // The last answers went to a port that may be forgotten by now; one of the others came.
        let mut answered = false;
        while !answered {
            client.send(b"question").unwrap();
            let (_, from) = server.recv_from(&mut room).unwrap();
            server.send_to(b"answer", from).unwrap();
            answered = client
                .recv(&mut room)
                .is_ok_and(|len| &room[..len] == b"answer");
        }
        assert!(proxy.stop()["faults"]["rebind"].as_u64().unwrap() >= 3);
    }
}

#[test]
fn more_clients_than_allowed_are_refused_and_counted() {
    let (server, address) = server();
    let proxy = Proxy::start(&address, &["--clients", "1"]);
    let (first, second) = (proxy.client(), proxy.client());
    let mut room = [0; 64];
    first.send(b"first").unwrap();
    assert_eq!(server.recv(&mut room).unwrap(), 5);
    second.send(b"second").unwrap();
    first.send(b"again").unwrap();
    assert_eq!(server.recv(&mut room).unwrap(), 5, "the second got through");
    let counts = proxy.stop();
    assert_eq!(
        (&counts["clients"], &counts["refused"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn calls_over_rudp_and_quic_survive_it() {
    let bad = [
        "--loss",
        "5%",
        "--burst",
        "1%:4",
        "--delay",
        "200us",
        "--jitter",
        "200us",
        "--reorder",
        "5%:500us",
        "--duplicate",
        "5%",
        "--corrupt",
        "1%",
        "--rate",
        "200mbit",
        "--queue",
        "128k",
        "--seed",
        "3",
    ];
    let folder = std::env::temp_dir().join(format!("ringway-impair-{}", std::process::id()));
    let made = ringway(&["cert", "--out", folder.to_str().unwrap(), "--force"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    let [certificate, key] = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    for driver in drivers() {
        for scheme in ["rudp", "quic"] {
            let address = format!("{scheme}://127.0.0.1:0");
            let identity = ["--cert", certificate, "--key", key];
            let identity = if scheme == "quic" { &identity[..] } else { &[] };
            let more = ["--example", "kv", "--idle", "park", "--driver", &driver];
            let server = Server::start(&[&address], &[&more[..], identity].concat());
            let driver = ["--driver", &driver];
            let proxy = Proxy::start(&server.addresses[0], &[&bad[..], &driver].concat());
            let trust = ["--ca", certificate];
            let trust = if scheme == "quic" { &trust[..] } else { &[] };
            let load = [
                "load",
                &proxy.address,
                "kv.KeyValue/Put",
                "-d",
                r#"{"key": "a", "value": "aGVsbG8="}"#,
                "--rate",
                "500",
                "--duration",
                "1s",
                "--warmup",
                "0",
                "--idle",
                "park",
                "--json",
            ];
            let done = ringway(&[&load[..], &driver, trust].concat());
            assert!(done.status.success(), "{scheme}: {}", stderr(&done));
            let found: Value = serde_json::from_str(&stdout(&done)).unwrap();
            assert_eq!(found["statuses"]["OK"], 500, "{found}");
            let counts = proxy.stop();
            for fault in ["loss", "duplicate", "reorder", "corrupt"] {
                assert!(
                    counts["faults"][fault].as_u64() > Some(0),
                    "{scheme} {fault}: {counts}"
                );
            }
            assert!(counts["from_target"]["datagrams"].as_u64() > Some(100));
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_with_the_fix() {
    // Arguments behind `--listen udp://127.0.0.1:0 --to udp://127.0.0.1:9`; the exit code, and what is said.
    let cases: [(&[&str], i32, &str); 20] = [
        (&["--loss", "2"], 2, "write it as 1%"),
        (&["--delay", "2"], 2, "needs its unit"),
        (&["--rate", "20"], 2, "a rate needs its unit"),
        (&["--partition", "2s/1s"], 2, "shorter than its period"),
        (&["--partition", "0s/1s"], 2, "no time at all"),
        (&["--rebind", "0s"], 2, "no time at all"),
        (&["--idle", "0s"], 2, "no time at all"),
        (&["--mtu", "1000M"], 2, "576 to 65535"),
        (&["--queue", "1k"], 2, "--rate"),
        (&["--rate", "1mbit", "--mark", "1M"], 2, "--queue"),
        (&["--listen", "tcp://127.0.0.1:0"], 2, "write udp://"),
        (&["--listen", "udp://127.0.0.1:9"], 2, "another port"),
        (&["--listen", "udp://0.0.0.0:9"], 2, "another port"),
        (
            &["--to", "udp://0.0.0.0:9", "--listen", "udp://127.0.0.1:9"],
            2,
            "another port",
        ),
        (&["--to", "udp://127.0.0.1:0"], 2, "the server's port"),
        (&["--to", "unix://@there"], 2, "write udp://"),
        (
            &["--listen", "udp://192.0.2.1:1"],
            1,
            "no interface of this machine",
        ),
        (&["--to", "udp://255.255.255.255:9"], 2, "name one server"),
        (&["--to", "udp://[ff02::1]:9"], 2, "name one server"),
        // Of a link, without saying which.
        (&["--to", "udp://[fe80::1]:9"], 1, "[fe80::1]:9"),
    ];
    let usual = ["--listen", "udp://127.0.0.1:0", "--to", "udp://127.0.0.1:9"];
    for (arguments, code, fix) in cases {
        let mut all = vec!["impair"];
        for pair in usual.chunks(2).filter(|pair| !arguments.contains(&pair[0])) {
            all.extend_from_slice(pair);
        }
        let done = ringway(&[&all[..], arguments].concat());
        let said = stderr(&done);
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(fix), "{arguments:?}: {said}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    let (taken, address) = server();
    for driver in drivers() {
        let more = ["--to", "udp://127.0.0.1:9", "--driver", &driver];
        let done = ringway(&[&["impair", "--listen", &address], &more[..]].concat());
        assert_eq!(done.status.code(), Some(1));
        let said = stderr(&done);
        assert!(
            said.contains(&address) && said.contains("choose another port"),
            "{said}"
        );
    }
    drop(taken);
}

#[test]
fn a_server_that_comes_later_is_found_by_the_same_client() {
    // An address where no other test finds a free port meanwhile.
    let at = {
        let server = UdpSocket::bind("127.0.0.2:0").unwrap();
        server.local_addr().unwrap()
    };
    let address = format!("udp://{at}");
    for driver in drivers() {
        let proxy = Proxy::start(&address, &["--driver", &driver]);
        let client = proxy.client();
        for _ in 0..3 {
            client.send(b"nobody").unwrap();
        }
        let server = UdpSocket::bind(at).unwrap();
        let timeout = Some(std::time::Duration::from_millis(20));
        server.set_read_timeout(timeout).unwrap();
        let mut room = [0; 64];
        loop {
            client.send(b"somebody").unwrap();
            if let Ok(len) = server.recv(&mut room)
                && &room[..len] == b"somebody"
            {
                break;
            }
        }
        assert_eq!(proxy.stop()["clients"], 1);
    }
}

#[test]
fn it_ends_by_itself_when_told_how_long() {
    let (_server, address) = server();
    let listen = ["impair", "--listen", "udp://127.0.0.1:0", "--to", &address];
    let done = ringway(&[&listen[..], &["--duration", "10ms"]].concat());
    assert!(done.status.success());
    assert!(stdout(&done).ends_with("no faults\n"), "{}", stdout(&done));
}
