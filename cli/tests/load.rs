//! The commands `load` and `top`, run as a user runs them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test has its name, and shall stop at what it does not expect"
)]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Output, Stdio};

use nix::sys::signal::Signal;
use ringway::rpc::Server as Calls;
use serde_json::Value;
use support::{Server, command, drivers, ringway, signal, stderr, stdout};

fn kv(more: &[&str]) -> Server {
    let options = [&["--example", "kv", "--idle", "park"], more].concat();
    Server::start(&["tcp://127.0.0.1:0"], &options)
}

fn load(server: &Server, arguments: &[&str]) -> Output {
    command(&["load", &server.addresses[0]])
        .args(arguments)
        .args(["--idle", "park", "--warmup", "0"])
        .output()
        .unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

const PUT: [&str; 3] = ["kv.KeyValue/Put", "-d", r#"{"key": "a", "value": "MQ=="}"#];

#[test]
fn at_a_rate_every_call_is_made_and_counts_from_when_it_was_due() {
    for driver in drivers() {
        let server = kv(&["--driver", &driver]);
        let more = ["--rate", "500", "--duration", "500ms", "-c", "2", "--json"];
        let output = load(&server, &[&PUT[..], &more, &["--driver", &driver]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let found = json(&stdout(&output));
        assert_eq!(found["calls"], 250);
        assert_eq!(found["statuses"], json(r#"{"OK": 250}"#));
        assert_eq!(found["driver"], driver);
        assert_eq!(
            (
                found["connections"].as_u64(),
                number(&found["rate_wished_per_s"])
            ),
            (Some(2), 500.0)
        );
        for figure in ["p50_ns", "p99_ns", "p999_ns", "max_ns"] {
            let [due, sent] = ["from_due", "from_sending"].map(|it| number(&found[it][figure]));
            assert!(due >= sent && sent > 0.0, "{figure}: {found}");
        }
        let stretches = found["timeline"].as_array().unwrap();
        let ended: f64 = stretches.iter().map(|it| number(&it["per_s"]) * 0.02).sum();
        assert!(stretches.len() == 25 && ended > 0.0, "{found}");
        let (_, said) = server.stop();
        // Three connections: one learned what to call.
        assert!(said.contains("served 251 calls on 3 connections"), "{said}");
    }
}

#[test]
fn with_a_number_outstanding_the_table_has_one_column() {
    let server = kv(&[]);
    let more = ["--outstanding", "8", "--duration", "200ms"];
    let output = load(&server, &[&PUT[..], &more].concat());
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    for part in [
        "closed loop, 8 outstanding",
        "achieved",
        "  OK",
        "latency",
        "p99.99",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("from due time"), "{text}");
}

#[test]
fn answering_streams_are_calls_that_end_with_their_stream() {
    let server = Server::start(
        &["tcp://127.0.0.1:0"],
        &["--example", "echo", "--idle", "park"],
    );
    let pour = [
        "bench.Echo/Pour",
        "-d",
        r#"{"count": 100, "bodyBytes": 10000}"#,
    ];
    let more = ["-o", "2", "--duration", "200ms", "--json"];
    let output = load(&server, &[&pour[..], &more].concat());
    let found = json(&stdout(&output));
    assert_eq!(found["statuses"]["OK"], found["calls"], "{found}");
}

#[test]
fn the_page_has_curves_and_nothing_from_elsewhere() {
    let server = kv(&[]);
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("load");
    let page = folder.join("page.html");
    let more = [
        "--rate",
        "1k",
        "--duration",
        "300ms",
        "--html",
        page.to_str().unwrap(),
    ];
    let output = load(&server, &[&PUT[..], &more].concat());
    assert!(stdout(&output).contains("page.html"), "{}", stderr(&output));
    let html = std::fs::read_to_string(&page).unwrap();
    assert_eq!(html.matches("<svg ").count(), 3);
    for part in [
        "Latency by percentile",
        "from due time",
        "p99",
        "open loop, 1.0 k/s",
        "calls: OK 300",
    ] {
        assert!(html.contains(part), "{part} in {html}");
    }
    for foreign in ["http://", "https://", "<script", "src=", "NaN", "inf"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
}

#[test]
fn statuses_are_counted_and_no_success_at_all_is_a_failure() {
    let server = kv(&[]);
    let get = [
        "kv.KeyValue/Get",
        "-d",
        r#"{"key": "no"}"#,
        "-o",
        "2",
        "--duration",
        "100ms",
    ];
    let output = load(&server, &get);
    assert_eq!(output.status.code(), Some(69));
    let text = stdout(&output);
    assert!(text.contains("NOT_FOUND"), "{text}");
    assert!(text.contains("first: `no` has no value"), "{text}");
    // Nobody there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", closed.local_addr().unwrap());
    drop(closed);
    let output = ringway(&["load", &address, "a.B/C", "--raw", "-o", "1"]);
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
}

#[test]
fn a_server_that_dies_and_ctrl_c_still_leave_a_report() {
    let server = kv(&[]);
    let address = server.addresses[0].clone();
    let mut load = command(&["load", &address])
        .args(PUT)
        .args([
            "--rate",
            "200",
            "--duration",
            "1h",
            "--warmup",
            "0",
            "-t",
            "100ms",
            "--json",
        ])
        .args(["--idle", "park"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{error}"));
    let is_called = || {
        let seen = ringway(&["top", &address, "--once", "--json", "-i", "10ms"]);
        let methods = json(&stdout(&seen))["methods"].clone();
        let mut methods = methods.as_array().unwrap().iter();
        methods.any(|it| it["name"] == PUT[0] && it["started"].as_u64() > Some(0))
    };
    while !is_called() {
        assert!(load.try_wait().unwrap().is_none(), "it ended early");
    }
    drop(server);
    signal(&load, Signal::SIGINT);
    let mut text = String::new();
    BufReader::new(load.stdout.take().unwrap())
        .read_line(&mut text)
        .unwrap();
    let found = json(&text);
    assert!(number(&found["statuses"]["OK"]) > 0.0, "{found}");
    assert!(number(&found["seconds"]) < 3600.0);
    assert!(load.wait().unwrap().success());
}

#[test]
fn wrong_usage_of_load_is_exit_code_2_and_says_what_is_right() {
    let server = kv(&[]);
    let table: [(&[&str], &str); 7] = [
        (&["kv.KeyValue/Get"], "--rate <R>"),
        (
            &["kv.KeyValue/Get", "--rate", "1", "-o", "1"],
            "cannot be used with",
        ),
        (&["kv.KeyValue/Get", "--rate", "fast"], "20k"),
        (&["kv.KeyValue/Get", "-o", "0"], "1..=100000"),
        (&["kv.KeyValue/Gte", "-o", "1"], "did you mean `Get`"),
        (
            &["kv.KeyValue/Get", "-o", "1", "-d", "{\"key\": 1}"],
            "line 1 column",
        ),
        (
            &["kv.KeyValue/Load", "-o", "1", "-d", "{}{}"],
            "takes one message, but DATA holds 2",
        ),
    ];
    for (arguments, hint) in table {
        let output = command(&["load", &server.addresses[0]])
            .args(arguments)
            .output()
            .unwrap();
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
fn top_shows_rates_and_times_of_all_threads_of_a_server() {
    let server = kv(&["--engines", "2"]);
    let address = &server.addresses[0];
    let mut load = command(&["load", address])
        .args(PUT)
        .args(["-o", "4", "-c", "4", "--duration", "1h", "--idle", "park"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let view = || {
        let view = ringway(&["top", address, "--once", "--json", "-i", "50ms"]);
        let methods = json(&stdout(&view))["methods"].clone();
        let mut methods = methods.as_array().unwrap().clone().into_iter();
        methods.find(|it| it["name"] == PUT[0] && number(&it["calls_per_s"]) > 0.0)
    };
    let put = loop {
        if let Some(put) = view() {
            break put;
        }
        assert!(load.try_wait().unwrap().is_none(), "it ended early");
    };
    for times in ["queue", "wire", "handler"] {
        let times = &put[times];
        let [p50, p99, p999] = ["p50_ns", "p99_ns", "p999_ns"].map(|it| number(&times[it]));
        assert!(0.0 < p50 && p50 <= p99 && p99 <= p999, "{put}");
    }
    assert_eq!(number(&put["failed_per_s"]), 0.0);
    // Not a terminal: blocks, until the reader has seen enough.
    let mut top = command(&["top", address, "-i", "10ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    let mut block = || {
        let lines = lines.by_ref().map_while(Result::ok);
        lines
            .take_while(|it| !it.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    };
    for _ in 0..2 {
        let text = block();
        assert!(!text.contains('\x1b'), "{text}");
        for part in ["calls/s", "running", "queue", "arriving", "handler", PUT[0]] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    drop(lines);
    let ended = top.wait_with_output().unwrap();
    assert!(
        ended.status.success() && stderr(&ended).is_empty(),
        "{}",
        stderr(&ended)
    );
    signal(&load, Signal::SIGINT);
    assert!(load.wait().unwrap().success());
}

#[test]
fn top_needs_the_admin_service() {
    let server = Calls::builder().reflection();
    let server = server.shards(1, &["tcp://127.0.0.1:0"]).unwrap();
    let output = ringway(&["top", &server.addresses()[0].to_string(), "--once"]);
    assert_eq!(output.status.code(), Some(76));
    assert!(
        stderr(&output).contains("ringway.admin.v1.Admin/Stats"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn help_of_load_and_top_says_what_is_measured() {
    for (verb, parts) in [
        (
            "load",
            &["coordinated omission", "--rate 20k", "64 + N"][..],
        ),
        ("top", &["in the queue", "--once", "ServerBuilder::admin"]),
    ] {
        let help = stdout(&ringway(&[verb, "--help"]));
        for part in parts {
            assert!(help.contains(part), "{part} in {help}");
        }
    }
}
