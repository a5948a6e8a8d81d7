//! The command `bench`: every workload on every transport by every driver, tiny.
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
use serde_json::Value;
use support::{command, drivers, ringway, signal, stderr, stdout};

/// Runs one tiny measurement and returns its JSON line.
fn bench(workload: &str, transport: &str, driver: &str, more: &[&str]) -> Value {
    let fixed = [
        "bench",
        workload,
        "--transport",
        transport,
        "--driver",
        driver,
        "--json",
    ];
    let output = command(&fixed).args(more).output().unwrap();
    let what = format!("{workload} over {transport} by {driver}");
    assert!(output.status.success(), "{what}: {}", stderr(&output));
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 1, "{what}: one line per result");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["workload"], workload);
    assert_eq!(line["transport"], transport);
    assert_eq!(line["driver"], driver, "never a silent fallback");
    line
}

/// Every transport of every driver, with few messages and sleeping sides, which share cores in peace.
fn everywhere(workload: &str, more: &[&str], check: impl Fn(&Value)) {
    let mut arguments = vec!["--policy", "park", "--rounds", "3"];
    arguments.extend_from_slice(more);
    for driver in drivers() {
        for transport in ["tcp", "unix", "udp", "rudp", "quic"] {
            check(&bench(workload, transport, &driver, &arguments));
        }
    }
}

fn positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|value| value > 0.0)
}

/// Ratio and band of a figure are there, and the band is in order.
fn compared(line: &Value, figure: &str) {
    assert!(
        positive(&line[format!("ratio_{figure}")]),
        "{figure}: {line}"
    );
    let band = line[format!("band_{figure}")].as_array().unwrap();
    assert!(
        band[0].as_f64() <= band[1].as_f64() && positive(&band[0]),
        "{figure}: {line}"
    );
}

fn is_stream(line: &Value) -> bool {
    line["transport"] == "tcp" || line["transport"] == "unix"
}

/// Datagrams of every kind have a second baseline, and ratios to it.
fn second(line: &Value) {
    let second = &line["second"];
    assert_eq!(is_stream(line), second.is_null(), "{line}");
    if !is_stream(line) {
        assert!(
            positive(&second["ratio_rate"]) && positive(&second["figures"]["per_s"]),
            "{line}"
        );
        assert_ne!(second["baseline"], line["baseline"], "{line}");
    }
}

#[test]
fn packets_are_as_long_as_asked() {
    let driver = drivers().remove(0);
    let more = ["--policy", "park", "--rounds", "1", "--ops", "4"];
    for (mtu, bytes) in [("1500", 1500), ("loopback", 65_535)] {
        let more = [&more[..], &["--mtu", mtu]].concat();
        assert_eq!(bench("bandwidth", "rudp", &driver, &more)["mtu"], bytes);
    }
    let refused = |more: &[&str]| {
        let output = command(&["bench", "rtt"]).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    assert!(refused(&["--mtu", "1500"]).contains("--mtu belongs to"));
    assert!(refused(&["--transport", "rudp", "--mtu", "1000"]).contains("1228 to 65535"));
}

#[test]
fn rtt_everywhere() {
    everywhere("rtt", &["--ops", "64"], |line| {
        for figure in ["p50", "p99", "rate"] {
            compared(line, figure);
        }
        assert!(
            positive(&line["ours"]["p50_ns"]) && positive(&line["raw"]["p50_ns"]),
            "{line}"
        );
        // One receive and one send on each side is the least; a ring may do with fewer calls.
        assert_eq!(line["raw"]["syscalls_per_op"], 4.0, "{line}");
        assert_eq!(
            line["transport"] == "udp",
            line["raw_bare"].is_object(),
            "{line}"
        );
        second(line);
    });
}

#[test]
fn rate_everywhere() {
    everywhere("rate", &["--ops", "64", "--outstanding", "8"], |line| {
        compared(line, "rate");
        second(line);
        assert!(positive(&line["ours"]["p50_ns"]), "{line}");
    });
}

#[test]
fn stream_everywhere() {
    everywhere("stream", &["--ops", "64"], |line| {
        compared(line, "rate");
        assert!(
            line["ratio_p50"].is_null() && line["ours"]["p50_ns"].is_null(),
            "{line}"
        );
    });
}

#[test]
fn bandwidth_everywhere() {
    everywhere("bandwidth", &["--ops", "8", "--size", "50000"], |line| {
        compared(line, "rate");
        let (bytes, messages) = (&line["ours"]["bytes_per_s"], &line["ours"]["per_s"]);
        let size = bytes.as_f64().unwrap() / messages.as_f64().unwrap();
        assert!((size / 50_000.0 - 1.0).abs() < 1e-9, "{line}");
    });
}

#[test]
fn connections_everywhere() {
    everywhere(
        "connections",
        &["--connections", "20", "--held", "30", "--ops", "100"],
        |line| {
            compared(line, "p50");
            compared(line, "rate");
            assert_eq!(line["connections"], 20);
            assert_eq!(
                is_stream(line),
                positive(&line["ours"]["rss_per_connection"]),
                "{line}"
            );
        },
    );
}

/// Every transport that carries calls, by every driver.
fn calls_everywhere(workload: &str, more: &[&str], check: impl Fn(&Value)) {
    let mut arguments = vec!["--policy", "park", "--rounds", "3"];
    arguments.extend_from_slice(more);
    for driver in drivers() {
        for transport in ["tcp", "unix", "rudp", "quic"] {
            let line = bench(workload, transport, &driver, &arguments);
            compared(&line, "rate");
            check(&line);
        }
    }
}

#[test]
fn calls_one_by_one_everywhere() {
    calls_everywhere("call-rtt", &["--ops", "64"], |line| {
        compared(line, "p50");
        assert_eq!(line["raw"]["syscalls_per_op"], 4.0, "{line}");
        second(line);
        if !is_stream(line) {
            return;
        }
        for counted in ["allocs_per_op", "copies_per_op"] {
            assert_eq!(line["ours"][counted], 0.0, "{counted}: {line}");
        }
    });
}

#[test]
fn calls_in_flight_everywhere() {
    let more = ["--ops", "64", "--outstanding", "8"];
    calls_everywhere("call-rate", &more, |line| compared(line, "p50"));
}

#[test]
fn a_stream_of_a_call_everywhere() {
    calls_everywhere("call-stream", &["--ops", "64"], |line| {
        assert!(line["ours"]["p50_ns"].is_null(), "{line}");
    });
}

#[test]
fn large_calls_everywhere() {
    let more = ["--ops", "8", "--size", "200000", "--outstanding", "2"];
    calls_everywhere("call-bandwidth", &more, |line| {
        let (bytes, calls) = (&line["ours"]["bytes_per_s"], &line["ours"]["per_s"]);
        let size = bytes.as_f64().unwrap() / calls.as_f64().unwrap();
        assert!((size / 200_000.0 - 1.0).abs() < 1e-9, "{line}");
    });
}

#[test]
fn calls_on_many_connections_everywhere() {
    let more = ["--connections", "20", "--held", "30", "--ops", "100"];
    calls_everywhere("call-connections", &more, |line| {
        compared(line, "p50");
        let rss = &line["ours"]["rss_per_connection"];
        assert_eq!(is_stream(line), positive(rss), "{line}");
    });
}

// Slow calls are no figures of their own, but they are made: each costs what a worker's answer allocates.
#[test]
fn calls_at_a_rate_beside_slow_ones_everywhere() {
    let more = ["--ops", "400", "--rate", "4000"];
    calls_everywhere("call-tail", &more, |line| {
        compared(line, "p99");
        assert!(positive(&line["ours"]["allocs_per_op"]), "{line}");
        if is_stream(line) {
            assert_eq!(line["raw"]["allocs_per_op"], 0.0, "{line}");
        }
    });
}

#[test]
fn calls_over_plain_datagrams_are_refused_with_the_way_out() {
    let output = ringway(&["bench", "call-rtt", "--transport", "udp"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("use another --transport"));
}

#[test]
fn an_idle_server_uses_little_and_a_spinning_one_a_core() {
    let driver = drivers().remove(0);
    for (transport, policy) in [("tcp", "park"), ("udp", "adaptive"), ("unix", "spin")] {
        let more = ["--policy", policy, "--rounds", "1", "--connections", "20"];
        let line = bench("idle", transport, &driver, &more);
        let cpu = line["ours"]["cpu_percent"].as_f64().unwrap();
        assert!((0.0..=101.0).contains(&cpu), "{line}");
        assert!(policy == "spin" || cpu < 50.0, "{line}");
        assert!(
            line["ours"]["per_s"].is_null() && line["ratio_rate"].is_null(),
            "{line}"
        );
    }
}

#[test]
fn spinning_sides_measure_too_and_the_table_names_the_verdicts() {
    let output = ringway(&[
        "bench", "rtt", "--driver", "epoll", "--rounds", "3", "--ops", "16",
    ]);
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    for part in [
        "ringway",
        "A/A band",
        "<= 1.25",
        "only 3 rounds",
        "syscalls per message",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn few_rounds_are_said_to_be_no_claim_beside_the_json_too() {
    let arguments = [
        "bench", "rtt", "--driver", "epoll", "--policy", "park", "--rounds", "3",
    ];
    let output = command(&arguments)
        .args(["--ops", "16", "--json"])
        .output()
        .unwrap();
    assert!(
        stderr(&output).contains("not a claim"),
        "{}",
        stderr(&output)
    );
}

// The child inherits standard error; its end comes only when parent and child are both gone.
#[test]
fn the_child_of_a_killed_measurement_ends_with_it() {
    let arguments = [
        "bench",
        "idle",
        "--driver",
        "epoll",
        "--policy",
        "park",
        "--connections",
        "2",
    ];
    let mut bench = command(&arguments)
        .args(["--rounds", "1000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", bench.id());
    while std::fs::read_to_string(&children)
        .unwrap()
        .trim()
        .is_empty()
    {
        std::thread::yield_now();
    }
    signal(&bench, Signal::SIGKILL);
    let mut said = String::new();
    bench
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(!bench.wait().unwrap().success());
}

#[test]
fn the_hidden_command_refuses_to_run_without_its_parent() {
    let output = ringway(&["bench-peer", "--parent", "1", "--core", "0"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

/// Measures shortly what loss costs over `transport`; returns the line as it was printed, and what it says.
fn recovery(transport: &str) -> (String, Value) {
    let shortly = ["--ops", "200", "--rounds", "1", "--json"];
    let output = command(&["bench", "recovery", "--transport", transport])
        .args(shortly)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["workload"], "recovery");
    assert_eq!(
        (&line["transport"], &line["driver"]),
        (&transport.into(), &"sim".into())
    );
    assert!(line["ours"]["p50_ns"].as_u64() >= Some(20_000), "{line}");
    for share in ["goodput", "share"] {
        let share = line[share].as_f64().unwrap();
        assert!(share > 0.0 && share <= 1.0, "{line}");
    }
    assert!(line["tail_ns"].as_u64() > line["rtt_ns"].as_u64(), "{line}");
    assert_eq!(line["rounds"], 1, "{line}");
    (text, line)
}

// How two flows share takes longer than one round: tests beside its code hold it.
#[test]
fn recovery_over_reliable_udp_is_the_same_everywhere_and_meets_its_goals() {
    let (first, line) = recovery("rudp");
    let goals = line["goals"].as_array().unwrap();
    assert_eq!(goals.len(), 3, "{line}");
    assert!(goals.iter().all(|goal| goal["met"] == true), "{line}");
    assert_eq!(recovery("rudp").0, first, "virtual time has no noise");
}

#[test]
fn recovery_over_quic_says_what_loss_costs() {
    recovery("quic");
}

#[test]
fn recovery_refuses_what_means_nothing_to_it_and_says_what_does() {
    let refused = |more: &[&str]| {
        let output = command(&["bench", "recovery"]).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    assert!(refused(&[]).contains("--transport rudp or quic"));
    for [option, value] in [
        ["--driver", "epoll"],
        ["--policy", "park"],
        ["--outstanding", "2"],
        ["--rate", "5"],
        ["--connections", "2"],
        ["--held", "2"],
        ["--mtu", "1500"],
    ] {
        let text = refused(&["--transport", "rudp", option, value]);
        let expected = format!("{option} means nothing");
        assert!(
            text.contains(&expected) && text.contains("--rounds"),
            "{text}"
        );
    }
    for [option, value, range] in [
        ["--rounds", "0", "1 to 1000"],
        ["--ops", "99", "100 to 1000000"],
        ["--size", "1001", "1 to 1000"],
    ] {
        let text = refused(&["--transport", "quic", option, value]);
        assert!(text.contains(option) && text.contains(range), "{text}");
    }
}
