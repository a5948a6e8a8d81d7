//! `rudp://` from the command line: every command that calls, against a server of an example.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test has its name, and shall stop at what it does not expect"
)]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use std::process::Stdio;

use serde_json::Value;
use support::{Server, command, drivers, ringway, stderr, stdout};

const PUT: &str = "kv.KeyValue/Put";
const DATA: &str = r#"{"key": "a", "value": "aGVsbG8="}"#;

fn serve(driver: &str) -> Server {
    Server::start(
        &["rudp://127.0.0.1:0"],
        &["--example", "kv", "--idle", "park", "--driver", driver],
    )
}

fn said(arguments: &[&str]) -> String {
    let output = ringway(arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    stdout(&output)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn an_example_is_described_called_and_healthy() {
    for driver in drivers() {
        let server = serve(&driver);
        let address = server.addresses[0].as_str();
        assert!(address.starts_with("rudp://"), "{address}");
        assert!(said(&["describe", address]).contains("kv.KeyValue"));
        let put = json(&said(&["call", address, PUT, DATA, "--driver", &driver]));
        let get = [r#"{"key": "a"}"#, "--driver", &driver];
        let got = json(&said(
            &[&["call", address, "kv.KeyValue/Get"][..], &get].concat(),
        ));
        assert_eq!(got["value"], "aGVsbG8=");
        assert_eq!(got["revision"], put["revision"]);
        assert_eq!(said(&["health", address]), "SERVING\n");
        let (code, said) = server.stop();
        assert_eq!(code, Some(0));
        assert!(said.contains("on 4 connections"), "{said}");
    }
}

#[test]
fn load_makes_every_call_of_its_rate() {
    for driver in drivers() {
        let server = serve(&driver);
        let load = ["load", &server.addresses[0], PUT, "-d", DATA];
        let rate = [
            "--rate",
            "500",
            "--duration",
            "200ms",
            "--warmup",
            "0",
            "-c",
            "2",
        ];
        let more = ["--idle", "park", "--json", "--driver", &driver];
        let found = json(&said(&[&load[..], &rate, &more].concat()));
        assert_eq!(found["statuses"], json(r#"{"OK": 100}"#), "{found}");
    }
}

#[test]
fn top_sees_what_load_does() {
    let driver = drivers().remove(0);
    let server = serve(&driver);
    let address = server.addresses[0].as_str();
    let mut load = command(&["load", address, PUT, "-d", DATA])
        .args(["-o", "4", "--duration", "1h", "--idle", "park"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let is_seen = || {
        let view = json(&said(&["top", address, "--once", "--json", "-i", "20ms"]));
        let methods = view["methods"].as_array().unwrap();
        methods
            .iter()
            .any(|it| it["name"] == PUT && it["calls_per_s"].as_f64() > Some(0.0))
    };
    while !is_seen() {
        assert!(load.try_wait().unwrap().is_none(), "it ended early");
    }
    drop(load.kill());
    drop(load.wait());
}
