//! `quic://` from the command line: certificates and trust by flags, for messages and for calls.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test has its name, and shall stop at what it does not expect"
)]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use std::path::PathBuf;

use support::{Server, command, drivers, ringway, stderr, stdout};

/// A certificate in a folder of its own, which goes with it.
struct Certificate {
    folder: PathBuf,
    cert: String,
    key: String,
}

impl Certificate {
    fn new(name: &str) -> Self {
        let folder = format!("ringway-quic-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let out = folder.to_str().unwrap();
        let made = ringway(&["cert", "--out", out, "--name", "127.0.0.1"]);
        assert!(made.status.success(), "{}", stderr(&made));
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| format!("{out}/{name}"));
        Self { folder, cert, key }
    }

    /// The flags by which an end shows it.
    fn shown(&self) -> [&str; 4] {
        ["--cert", &self.cert, "--key", &self.key]
    }

    /// The flags by which the other end demands it.
    fn demanded(&self) -> [&str; 2] {
        ["--ca", &self.cert]
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

const QUIC: &str = "quic://127.0.0.1:0";

#[test]
fn a_server_shows_its_certificate_and_a_client_says_whom_it_trusts() {
    let made = Certificate::new("ping");
    let server = Server::start(&[QUIC], &made.shown());
    let address = &server.addresses[0];
    for trust in [&made.demanded()[..], &["--insecure"]] {
        let ping = command(&["ping", address, "-c", "2", "-i", "0"])
            .args(trust)
            .output()
            .unwrap();
        assert!(ping.status.success(), "{}", stderr(&ping));
        assert!(stdout(&ping).contains("2 answered"), "{}", stdout(&ping));
    }
    let bare = ringway(&["serve", QUIC]);
    assert_eq!(bare.status.code(), Some(2));
    assert!(stderr(&bare).contains("--cert"), "{}", stderr(&bare));
    let other = Certificate::new("other");
    let stranger = command(&["ping", address, "-c", "1"])
        .args(other.demanded())
        .output()
        .unwrap();
    assert_eq!(stranger.status.code(), Some(1), "{}", stdout(&stranger));
    let complaint = stderr(&stranger);
    assert!(complaint.contains("TLS handshake"), "{complaint}");
}

const PUT: &str = r#"{"key": "a", "value": "MQ=="}"#;

/// What every command that calls is asked, behind its address.
const CALLS: &[&[&str]] = &[
    &["call", "kv.KeyValue/Put", PUT],
    &["describe", "kv.KeyValue"],
    &["health"],
    &[
        "load",
        "kv.KeyValue/Put",
        "-d",
        PUT,
        "-o",
        "2",
        "--duration",
        "50ms",
        "--warmup",
        "0",
    ],
    &["top", "--once"],
];

fn asked(address: &str, line: &[&str], flags: &[&str]) -> std::process::Output {
    let (verb, rest) = line.split_first().unwrap();
    command(&[verb, address])
        .args(rest)
        .args(flags)
        .output()
        .unwrap()
}

#[test]
fn every_command_that_calls_does_it_with_certificates_of_both_ends() {
    let (of_server, of_client) = (Certificate::new("server"), Certificate::new("client"));
    for driver in drivers() {
        let flags = ["--example", "kv", "--idle", "park", "--driver", &driver];
        let flags = [&flags[..], &of_server.shown(), &of_client.demanded()].concat();
        let server = Server::start(&[QUIC], &flags);
        let address = &server.addresses[0];
        let known = [
            &of_server.demanded()[..],
            &of_client.shown(),
            &["--driver", &driver],
        ]
        .concat();
        for line in CALLS {
            let output = asked(address, line, &known);
            assert!(output.status.success(), "{line:?}: {}", stderr(&output));
            assert!(!output.stdout.is_empty(), "{line:?}");
        }
        // A stream of answers, and one of requests.
        let two = ["call", "kv.KeyValue/Load", r#"{"key": "x"}{"key": "y"}"#];
        let loaded = asked(address, &two, &known);
        assert!(
            stdout(&loaded).contains(r#""count":"2""#),
            "{}",
            stdout(&loaded)
        );
        // Without a certificate of its own nobody gets in.
        let nameless = asked(address, CALLS[0], &of_server.demanded());
        assert!(!nameless.status.success(), "{}", stdout(&nameless));
        let (code, said) = server.stop();
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn who_calls_without_trust_is_told_which_flag_lacks() {
    for line in CALLS {
        let output = asked("quic://127.0.0.1:9", line, &[]);
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        assert!(stderr(&output).contains("--ca"), "{}", stderr(&output));
    }
}

#[test]
fn keys_and_traces_are_written_when_asked_and_only_then() {
    let made = Certificate::new("logs");
    let [keys, served, called] = ["keys", "served", "called"].map(|name| made.folder.join(name));
    let shown = [&["--qlog", served.to_str().unwrap()][..], &made.shown()].concat();
    let server = Server::start(&[QUIC], &shown);
    let address = server.addresses[0].clone();
    let ping = |more: &[&str]| {
        let output = command(&["ping", &address, "-c", "3", "-i", "0"])
            .args(made.demanded())
            .args(more)
            .env("SSLKEYLOGFILE", &keys)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    };
    ping(&[]);
    assert!(!keys.exists(), "the environment alone asks for nothing");
    ping(&["--key-log", "--qlog", called.to_str().unwrap()]);
    let keys = std::fs::read_to_string(&keys).unwrap();
    for label in [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    ] {
        let lines = keys
            .lines()
            .filter(|line| line.split(' ').next() == Some(label));
        assert_eq!(lines.count(), 1, "one session: {keys}");
    }
    drop(server.stop());
    // Both sessions at the server, one at the client; each line is JSON behind a record separator.
    for (path, sessions) in [(&served, 2), (&called, 1)] {
        let text = std::fs::read_to_string(path).unwrap();
        let records: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line.trim_start_matches('\u{1e}')).unwrap())
            .collect();
        assert!(records[0]["qlog_version"].is_string(), "{}", records[0]);
        let mut names = std::collections::BTreeSet::new();
        let mut groups = std::collections::BTreeSet::new();
        for record in &records[1..] {
            names.insert(record["name"].as_str().unwrap());
            groups.insert(record["group_id"].as_str().unwrap_or_default());
        }
        assert!(names.contains("transport:packet_sent"), "{names:?}");
        assert!(names.contains("transport:packet_received"), "{names:?}");
        // A session may have one for its handshake and one for the rest.
        assert!(
            groups.len() >= sessions && !groups.contains(""),
            "{groups:?}"
        );
    }
}

#[test]
fn keys_without_a_file_and_a_trace_without_a_place_are_wrong_usage() {
    let flags = ["--insecure", "--key-log"];
    let output = command(&["ping", "quic://127.0.0.1:9"])
        .args(flags)
        .env_remove("SSLKEYLOGFILE")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("SSLKEYLOGFILE"),
        "{}",
        stderr(&output)
    );
    let output = ringway(&[
        "ping",
        "quic://127.0.0.1:9",
        "--insecure",
        "--qlog",
        "/no/such/folder/x",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("/no/such/folder/x"),
        "{}",
        stderr(&output)
    );
}
