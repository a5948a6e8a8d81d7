//! The commands `probe`, `serve`, `ping` and `demo`, run as a user runs them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test has its name, and shall stop at what it does not expect"
)]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use std::io::Read as _;
use std::process::Stdio;

use nix::sys::signal::Signal;
use support::{Server, command, drivers, ringway, signal, stderr, stdout};

#[test]
fn probe_names_the_chosen_driver_and_both_candidates() {
    let text = ringway(&["probe"]);
    assert!(text.status.success());
    for part in ["kernel", "chosen", "driver uring:", "driver epoll: works"] {
        assert!(stdout(&text).contains(part), "{part} in {}", stdout(&text));
    }
    // A forced driver is no fallback.
    let json = command(&["probe", "--json"])
        .env_remove("RINGWAY_DRIVER")
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert!(found["chosen"] == "uring" || found["chosen"] == "epoll");
    assert_eq!(found["drivers"].as_array().unwrap().len(), 2);
    assert_eq!(found["chosen"] == "epoll", found["fallback"].is_string());
}

#[test]
fn the_environment_chooses_the_driver_and_nonsense_there_is_an_error() {
    let epoll = command(&["probe", "--json"])
        .env("RINGWAY_DRIVER", "epoll")
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_str(&stdout(&epoll)).unwrap();
    assert_eq!(found["chosen"], "epoll");
    let nonsense = command(&["probe"])
        .env("RINGWAY_DRIVER", "carrier pigeon")
        .output()
        .unwrap();
    assert_eq!(nonsense.status.code(), Some(1));
    assert!(
        stderr(&nonsense).contains("RINGWAY_DRIVER"),
        "{}",
        stderr(&nonsense)
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = command(&["probe"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    assert!(status.stderr.is_empty(), "{}", stderr(&status));
}

#[test]
fn every_transport_of_a_server_answers_pings_and_the_server_drains() {
    for driver in drivers() {
        let socket = format!("unix://@ringway-test-{}-{driver}", std::process::id());
        let addresses = ["tcp://127.0.0.1:0", socket.as_str(), "udp://127.0.0.1:0"];
        let server = Server::start(&addresses, &["--driver", &driver, "--idle", "park"]);
        for address in &server.addresses {
            let more = [
                "-c", "3", "-i", "0", "-s", "100", "--idle", "park", "--driver", &driver,
            ];
            let ping = command(&["ping", address]).args(more).output().unwrap();
            let text = stdout(&ping);
            assert!(
                ping.status.success(),
                "{address} by {driver}: {text}{}",
                stderr(&ping)
            );
            let answers = text
                .lines()
                .filter(|line| line.starts_with("100 bytes from "));
            assert_eq!(answers.count(), 3, "{text}");
            assert!(text.contains("3 sent, 3 answered, 0.0 % lost"), "{text}");
            assert!(text.contains("round trip min"), "{text}");
        }
        let (code, said) = server.stop();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("echoed 9 messages"), "{said}");
    }
}

#[test]
fn a_server_of_several_engines_serves_all_connections() {
    let server = Server::start(
        &["tcp://127.0.0.1:0"],
        &["--engines", "3", "--idle", "park"],
    );
    for _ in 0..6 {
        let ping = ringway(&["ping", &server.addresses[0], "-c", "2", "-i", "0"]);
        assert!(ping.status.success(), "{}", stderr(&ping));
    }
    let (code, said) = server.stop();
    assert_eq!(code, Some(0));
    assert!(
        said.contains("3 engines") && said.contains("echoed 12 messages on 6"),
        "{said}"
    );
}

#[test]
fn large_messages_come_back_whole() {
    let server = Server::start(&["tcp://127.0.0.1:0"], &["--idle", "park"]);
    let ping = ringway(&[
        "ping",
        &server.addresses[0],
        "-c",
        "2",
        "-i",
        "0",
        "-s",
        "9000001",
    ]);
    assert!(
        stdout(&ping).contains("2 answered"),
        "{}{}",
        stdout(&ping),
        stderr(&ping)
    );
}

#[test]
fn pings_stop_at_ctrl_c_and_still_sum_up() {
    let server = Server::start(&["udp://127.0.0.1:0"], &["--idle", "park"]);
    let mut ping = command(&["ping", &server.addresses[0], "-i", "0.01", "--idle", "park"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = ping.stdout.take().unwrap();
    // The first answer: by now the handler of the signal stands.
    let mut text = [0; 20];
    stdout.read_exact(&mut text).unwrap();
    signal(&ping, Signal::SIGINT);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(
        rest.contains("0.0 % lost") && rest.contains("round trip"),
        "{rest}"
    );
    assert!(ping.wait().unwrap().success());
}

#[test]
fn nobody_there_is_exit_code_1_and_says_what_to_do() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let tcp = ringway(&["ping", &format!("tcp://{closed}"), "-c", "1"]);
    assert_eq!(tcp.status.code(), Some(1));
    assert!(
        stderr(&tcp).contains("is the server running"),
        "{}",
        stderr(&tcp)
    );
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("udp://{}", silent.local_addr().unwrap());
    let udp = ringway(&["ping", &address, "-c", "2", "-i", "0.01"]);
    assert_eq!(udp.status.code(), Some(1));
    assert!(stdout(&udp).contains("100.0 % lost"), "{}", stdout(&udp));
    assert!(stderr(&udp).contains("ringway serve"), "{}", stderr(&udp));
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_is_right() {
    let table: [(&[&str], &str); 9] = [
        (&["serve"], "ADDRESS"),
        (&["serve", "127.0.0.1:7000"], "tcp://host:port"),
        (&["serve", "tcp://127.0.0.1"], "tcp://127.0.0.1:7000"),
        (&["serve", "unix://"], "unix:///path"),
        (&["ping", "udp://127.0.0.1:99999"], "udp"),
        (&["ping", "tcp://127.0.0.1:1", "-i", "-3"], "-3"),
        (&["bench", "rtt", "--size", "15"], "16 to"),
        (
            &["bench", "rtt", "--connections", "4"],
            "--connections belongs",
        ),
        (&["bench", "juggling"], "rtt"),
    ];
    for (arguments, hint) in table {
        let output = ringway(arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(hint),
            "{hint} in {}",
            stderr(&output)
        );
    }
}

#[test]
fn an_address_in_use_is_exit_code_1_and_says_so() {
    let server = Server::start(&["tcp://127.0.0.1:0"], &[]);
    let second = ringway(&["serve", &server.addresses[0]]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        stderr(&second).contains("another process listens there"),
        "{}",
        stderr(&second)
    );
}

#[test]
fn the_demo_talks_measures_and_writes_a_page_of_its_own() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("demo");
    let page = folder.join("report.html");
    let output = ringway(&["demo", "--rounds", "1", "--report", page.to_str().unwrap()]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    for part in [
        "hello, how are you?, goodbye",
        "watched all three; loaded 1000 values",
        "rudp://127.0.0.1:",
        "kv.KeyValue/Get",
        "drained and ended",
        "round trip, p50",
        "not a claim",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let html = std::fs::read_to_string(&page).unwrap();
    assert_eq!(html.matches("<svg ").count(), 11);
    assert_eq!(
        html.matches("<svg ").count(),
        html.matches("</svg>").count()
    );
    for foreign in ["http://", "https://", "<script", "src=", "NaN"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
}

#[test]
fn cert_writes_a_key_for_its_owner_only_and_replaces_nothing_unasked() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = std::env::temp_dir().join(format!("ringway-cert-{}", std::process::id()));
    let out = folder.to_str().unwrap();
    let made = ringway(&["cert", "--out", out, "--name", "localhost"]);
    assert!(made.status.success(), "{}", stderr(&made));
    assert!(stderr(&made).contains("development"), "it warns");
    let key = folder.join("key.pem");
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&key).unwrap();
    let again = ringway(&["cert", "--out", out]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("--force"));
    assert_eq!(std::fs::read(&key).unwrap(), before);
    assert!(ringway(&["cert", "--out", out, "--force"]).status.success());
    assert_ne!(std::fs::read(&key).unwrap(), before);
    for name in ["", "two words", "a..b"] {
        let refused = ringway(&["cert", "--out", out, "--name", name, "--force"]);
        assert_eq!(refused.status.code(), Some(2), "{name}");
        assert!(stderr(&refused).contains("localhost"), "{name}");
    }
    // A key is no certificate, and the message says which file is none.
    let key_path = key.to_str().unwrap();
    let trusting = ["call", "quic://127.0.0.1:1", "a.B/C", "--ca", key_path];
    let refused = ringway(&trusting);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains(key_path), "{}", stderr(&refused));
    let below_a_file = ringway(&["cert", "--out", key.join("below").to_str().unwrap()]);
    assert_eq!(below_a_file.status.code(), Some(2));
    assert!(
        stderr(&below_a_file).contains("key.pem/below"),
        "it names the folder"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
