//! Each fault fires, is counted, does what it says, and stops when healed.

use std::time::Duration;

use ringway_driver::{Close, Driver};
use ringway_sim::{Chance, Fault, NetConfig, SimNet, Span};

use crate::host::{Cause, Event, Pair, host, pattern, settle};

const ECONNREFUSED: i32 = 111;
const ECONNRESET: i32 = 104;

fn faulty(change: impl FnOnce(&mut NetConfig)) -> NetConfig {
    let mut config = NetConfig::perfect();
    change(&mut config);
    config
}

/// A pair that was connected before its network turned bad.
fn turned_bad(seed: u64, change: impl FnOnce(&mut NetConfig)) -> Pair {
    let pair = Pair::new(&NetConfig::perfect(), seed);
    pair.net.set_faults(faulty(change).faults);
    pair
}

#[test]
fn resets_break_both_ends() {
    let mut pair = turned_bad(1, |config| config.faults.stream.reset = Chance::ALWAYS);
    pair.client.send(pair.near, b"fatal");
    pair.settle();
    assert_eq!(
        pair.client.log.closed(pair.near),
        Some(Cause::Broken(ECONNRESET))
    );
    assert_eq!(
        pair.server.log.closed(pair.far),
        Some(Cause::Broken(ECONNRESET))
    );
    assert_eq!(pair.net.fault_counts().of(Fault::Reset), 1);
}

#[test]
fn stalls_hold_up_what_follows_them() {
    let mut pair = turned_bad(2, |config| {
        config.faults.stream.stall = Chance::ALWAYS;
        config.faults.stream.stall_time = Span::micros(1_000_000, 1_000_000);
    });
    let before = pair.net.now();
    pair.client.send(pair.near, b"slow ");
    pair.client.turn();
    pair.net.heal();
    pair.client.send(pair.near, b"but whole");
    pair.settle();
    assert_eq!(pair.server.log.bytes(pair.far), b"slow but whole");
    assert!(pair.net.now() - before >= Duration::from_secs(1));
    assert_eq!(pair.net.fault_counts().of(Fault::Stall), 1);
}

#[test]
fn partial_reads_and_writes_lose_nothing() {
    let mut pair = turned_bad(3, |config| {
        config.faults.stream.partial_read = Chance::ALWAYS;
        config.faults.stream.partial_write = Chance::ALWAYS;
        config.faults.stream.chunk_bytes_max = 700;
    });
    let bytes = pattern(200_000);
    pair.client.send(pair.near, &bytes);
    pair.settle();
    assert!(pair.server.log.bytes(pair.far) == bytes);
    let counts = pair.net.fault_counts();
    assert!(counts.of(Fault::PartialRead) > 10 && counts.of(Fault::PartialWrite) > 10);
}

#[test]
fn a_silent_direction_delivers_neither_bytes_nor_ends() {
    let config = faulty(|config| config.faults.stream.half_open = Chance::ALWAYS);
    let mut pair = Pair::new(&config, 4);
    pair.net.heal();
    pair.client.send(pair.near, b"into the void");
    pair.server.send(pair.far, b"likewise");
    pair.settle();
    pair.net.advance_by(Duration::from_secs(3600));
    pair.settle();
    assert_eq!(pair.server.log.bytes(pair.far), b"");
    assert_eq!(pair.client.log.bytes(pair.near), b"");
    pair.client.driver.close(pair.near, Close::Abort);
    pair.settle();
    assert_eq!(
        pair.server.log.closed(pair.far),
        None,
        "the reset is lost too"
    );
    assert_eq!(pair.net.fault_counts().of(Fault::HalfOpen), 2);
    // Nobody answers, so the sender's window stays closed: what it may write is bounded.
    pair.server.send(pair.far, &pattern(1_000_000));
    pair.settle();
    assert!(pair.server.log.sent(pair.far) <= 256 * 1024);
    pair.server.driver.close(pair.far, Close::Abort);
    pair.settle();
    assert_eq!(pair.net.pending().stream_ends, 0);
}

#[test]
fn a_direction_falls_silent_after_its_first_bytes() {
    let config = faulty(|config| {
        config.faults.stream.half_open = Chance::ALWAYS;
        config.faults.stream.half_open_bytes_max = 10_000;
    });
    let mut pair = Pair::new(&config, 5);
    for _ in 0..200 {
        pair.client.send(pair.near, &pattern(100));
        pair.settle();
    }
    let arrived = pair.server.log.bytes(pair.far).len();
    assert!(arrived > 0 && arrived <= 10_000, "{arrived}");
}

#[test]
fn connects_are_refused_though_somebody_listens() {
    let config = faulty(|config| config.faults.stream.connect_refused = Chance::ALWAYS);
    let net = SimNet::new(config, 6);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (_, address) = server.listen("tcp://127.0.0.1:0");
    let near = client.connect(&address);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(
        client.log.closed(near),
        Some(Cause::ConnectFailed(ECONNREFUSED))
    );
    assert_eq!(net.fault_counts().of(Fault::ConnectRefused), 1);
    net.heal();
    let near = client.connect(&address);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(client.log.count(&Event::Connected(near)), 1);
}

#[test]
fn unanswered_connects_are_counted() {
    let config = faulty(|config| config.faults.stream.connect_silent = Chance::ALWAYS);
    let net = SimNet::new(config, 7);
    let mut client = host(&net, "client");
    client.connect(&crate::host::parse("tcp://127.0.0.1:1"));
    settle(&net, &mut [&mut client]);
    assert_eq!(net.fault_counts().of(Fault::ConnectSilent), 1);
    assert!(client.log.events.is_empty());
}

#[test]
fn failed_accepts_switch_the_listener_off_and_lose_no_connection_but_aborted_ones() {
    const ECONNABORTED: i32 = 103;
    let config = faulty(|config| config.faults.driver.accept = Chance::percent(60));
    let net = SimNet::new(config, 8);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (listener, address) = server.listen("tcp://127.0.0.1:0");
    for _ in 0..40 {
        client.connect(&address);
    }
    for _ in 0..1000 {
        settle(&net, &mut [&mut server, &mut client]);
        server.driver.read(listener, true);
    }
    let failed: Vec<i32> = server
        .log
        .events
        .iter()
        .filter_map(|event| match event {
            Event::AcceptFailed(_, errno) => Some(*errno),
            _ => None,
        })
        .collect();
    let aborted = failed
        .iter()
        .filter(|errno| **errno == ECONNABORTED)
        .count();
    assert_eq!(server.log.accepted().len() + aborted, 40);
    assert!(
        failed.len() > aborted && aborted > 0,
        "several kinds of failure"
    );
    assert_eq!(net.fault_counts().of(Fault::Accept), failed.len() as u64);
    assert_eq!(server.driver.stats().accept_errors, failed.len() as u64);
}

#[test]
fn starved_receives_and_late_completions_only_take_time() {
    let mut pair = turned_bad(9, |config| {
        config.faults.driver.starve = Chance::percent(50);
        config.faults.driver.late = Chance::percent(50);
        config.faults.driver.late_time = Span::micros(1, 5000);
    });
    let bytes = pattern(300_000);
    for part in bytes.chunks(10_000) {
        pair.client.send(pair.near, part);
        pair.client.turn();
    }
    pair.settle();
    assert!(pair.server.log.bytes(pair.far) == bytes);
    let counts = pair.net.fault_counts();
    assert!(counts.of(Fault::Starve) > 0 && counts.of(Fault::Late) > 0);
    assert_eq!(pair.server.driver.stats().starved, counts.of(Fault::Starve));
}

/// Sends `count` numbered datagrams, a millisecond apart, and returns the network and what arrived.
fn stream_of_datagrams(config: &NetConfig, count: u32) -> (SimNet, Vec<Vec<u8>>, Vec<bool>) {
    let mut config = *config;
    config.habits.coalesce = Chance::NEVER;
    let net = SimNet::new(config, 10);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (_, address) = server.bind("udp://127.0.0.1:0");
    let (socket, _) = client.bind("udp://127.0.0.1:0");
    for number in 0..count {
        let mut payload = pattern(200);
        payload[..4].copy_from_slice(&number.to_le_bytes());
        client.send_to(socket, Some(address), &[&payload]);
        client.turn();
        net.advance_by(Duration::from_millis(1));
        server.turn();
    }
    settle(&net, &mut [&mut server, &mut client]);
    let payloads = server
        .log
        .arrived
        .iter()
        .map(|one| one.bytes.clone())
        .collect();
    let truncated = server.log.arrived.iter().map(|one| one.truncated).collect();
    (net, payloads, truncated)
}

fn numbers(payloads: &[Vec<u8>]) -> Vec<u32> {
    let head = |bytes: &Vec<u8>| u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
    payloads.iter().map(head).collect()
}

#[test]
fn datagrams_are_lost_one_by_one() {
    let config = faulty(|config| config.faults.datagram.loss = Chance::percent(30));
    let (net, payloads, _) = stream_of_datagrams(&config, 1000);
    let lost = net.fault_counts().of(Fault::Loss);
    assert!((200..400).contains(&lost), "{lost}");
    assert_eq!(payloads.len() as u64 + lost, 1000);
    assert!(numbers(&payloads).is_sorted());
}

#[test]
fn datagrams_are_lost_in_bursts() {
    let config = faulty(|config| {
        config.faults.datagram.burst_enter = Chance::percent(2);
        config.faults.datagram.burst_leave = Chance::percent(10);
        config.faults.datagram.burst_loss = Chance::ALWAYS;
    });
    let (net, payloads, _) = stream_of_datagrams(&config, 1000);
    let lost = net.fault_counts().of(Fault::BurstLoss);
    assert_eq!(payloads.len() as u64 + lost, 1000);
    let numbers = numbers(&payloads);
    let bursts = numbers
        .windows(2)
        .filter(|pair| pair[1] > pair[0] + 1)
        .count() as u64;
    assert!(
        bursts > 3 && lost / bursts >= 4,
        "{lost} lost in {bursts} bursts"
    );
}

#[test]
fn datagrams_are_duplicated() {
    let config = faulty(|config| config.faults.datagram.duplicate = Chance::percent(20));
    let (net, payloads, _) = stream_of_datagrams(&config, 500);
    let twice = net.fault_counts().of(Fault::Duplicate);
    assert!(twice > 50);
    assert_eq!(payloads.len() as u64, 500 + twice);
}

#[test]
fn datagrams_are_reordered_within_the_window() {
    let config = faulty(|config| {
        config.faults.datagram.reorder = Chance::percent(20);
        config.faults.datagram.reorder_window = Duration::from_millis(10);
    });
    let (net, payloads, _) = stream_of_datagrams(&config, 500);
    let numbers = numbers(&payloads);
    assert_eq!(numbers.len(), 500);
    assert!(!numbers.is_sorted());
    assert!(net.fault_counts().of(Fault::Reorder) > 50);
    // Sent a millisecond apart, held back ten at most: nobody falls back by more than ten places.
    let late = numbers
        .iter()
        .enumerate()
        .map(|(place, number)| (place as i64) - i64::from(*number));
    assert!(late.max() <= Some(11));
}

#[test]
fn jitter_alone_does_not_reorder() {
    let config = faulty(|config| config.datagram.jitter = Duration::from_millis(20));
    let (_, payloads, _) = stream_of_datagrams(&config, 500);
    assert!(numbers(&payloads).is_sorted());
}

#[test]
fn datagrams_are_corrupted_without_a_sign() {
    let config = faulty(|config| config.faults.datagram.corrupt = Chance::percent(20));
    let (net, payloads, truncated) = stream_of_datagrams(&config, 500);
    let mut damaged = 0;
    for (number, payload) in (0_u32..).zip(&payloads) {
        let mut expected = pattern(200);
        expected[..4].copy_from_slice(&number.to_le_bytes());
        let bits: u32 = payload
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        assert!(bits <= 8);
        damaged += u64::from(bits > 0);
    }
    // An even number of flips of one bit leaves no damage, rarely.
    let flipped = net.fault_counts().of(Fault::Corrupt);
    assert!(
        damaged > 50 && damaged <= flipped && flipped - damaged < 5,
        "{damaged} {flipped}"
    );
    assert!(truncated.iter().all(|truncated| !truncated));
}

#[test]
fn datagrams_are_truncated_and_say_so() {
    let config = faulty(|config| config.faults.datagram.truncate = Chance::percent(20));
    let (net, payloads, truncated) = stream_of_datagrams(&config, 500);
    for (payload, truncated) in payloads.iter().zip(&truncated) {
        assert_eq!(payload.len() < 200, *truncated);
    }
    let cut = truncated.iter().filter(|truncated| **truncated).count();
    assert!(cut > 50 && cut as u64 == net.fault_counts().of(Fault::Truncate));
}

#[test]
fn long_datagrams_fall_into_a_black_hole() {
    let config = faulty(|config| config.faults.datagram.black_hole_bytes = 199);
    let (net, payloads, _) = stream_of_datagrams(&config, 10);
    assert!(payloads.is_empty());
    assert_eq!(net.fault_counts().of(Fault::BlackHole), 10);
}

#[test]
fn healing_ends_all_faults() {
    let mut all = NetConfig::perfect();
    all.faults.datagram.loss = Chance::percent(50);
    all.faults.datagram.duplicate = Chance::percent(50);
    let net = SimNet::new(all, 11);
    let mut host = host(&net, "host");
    let (socket, address) = host.bind("udp://127.0.0.1:0");
    for _ in 0..100 {
        host.send_to(socket, Some(address), &[b"x"]);
    }
    settle(&net, &mut [&mut host]);
    net.heal();
    let counts = net.fault_counts();
    let before = host.driver.stats().datagrams_in;
    for _ in 0..100 {
        host.send_to(socket, Some(address), &[b"x"]);
    }
    settle(&net, &mut [&mut host]);
    assert_eq!(net.fault_counts(), counts);
    assert_eq!(host.driver.stats().datagrams_in, before + 100);
    assert!(counts.of(Fault::Loss) > 0 && counts.to_string().contains("loss "));
}
