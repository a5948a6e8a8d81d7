//! Seeds full of faults, with every promise checked: each reliable message comes once and whole, in order where that was
//! promised; nothing leaves beyond the window, the credit (the receiver accuses who passes it, and no honest peer may be
//! accused) or three times what came from an unproven address; repairs stay within their budget, memory within its own,
//! and all of it comes back; a process that died is never spoken to again by a session that began later; who has nothing
//! to say is silent.
//!
//! `RINGWAY_SEEDS=N` sets how many seeds run (default 80), `RINGWAY_SEED=S` replays one. A failing seed prints
//! the line that replays it. Same seed, same run, bit for bit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringway_buf::Instant;
use ringway_proto::CloseCode;
use ringway_proto::StreamConfig;
use ringway_proto::packet::{Delivery, PacketEndpoint, SendRefusal, SessionEnd};
use ringway_proto::rudp::{Congestion, RudpConfig};
use ringway_sim::{Fault, PathConfig};

use crate::seeds::{Random, Seeds};
use crate::world::{Line, Node, World};

const STEPS: u32 = 150;

fn config(random: &mut Random) -> RudpConfig {
    RudpConfig {
        stream: StreamConfig {
            message_bytes_max: 300 << 10,
            keepalive_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(600),
            ..StreamConfig::default()
        },
        credit_bytes: [8 << 10, 64 << 10, 1 << 20][random.below(3) as usize],
        credit_messages: [16, 128, 1024][random.below(3) as usize],
        cookies_from: [0, 256][random.below(2) as usize],
        ack_delay_max: Duration::from_micros([25, 1000, 20_000][random.below(3) as usize]),
        congestion: [
            Congestion::Cubic,
            Congestion::Fixed {
                window_bytes: 64 << 10,
            },
        ][random.below(2) as usize],
        ..RudpConfig::default()
    }
}

fn size(random: &mut Random) -> usize {
    let top = match random.below(20) {
        0 => 300 << 10,
        1..=3 => 20_000,
        4 => 1,
        _ => 300,
    };
    random.below(top) as usize
}

/// Paths change while a seed runs.
fn weather(world: &mut World) {
    if world.random.below(60) == 0 {
        let sizes = [1200, 1472, 9000, 0];
        world.net.config.faults.black_hole_bytes = sizes[world.random.below(4) as usize];
    }
}

/// Plays one seed; returns what happened as a number, and figures.
pub fn play(seed: u64) -> (u64, [u64; 6]) {
    let mut random = Random(seed ^ 0x5EED);
    let mut world = World::new(PathConfig::swarm(seed), seed);
    let configs = [config(&mut random), config(&mut random)];
    for config in configs {
        world.add(config);
    }
    let base: Vec<usize> = world
        .nodes
        .iter()
        .map(|node| node.pools.budget().used())
        .collect();
    for _ in 0..1 + random.below(3) {
        world.connect(0, 1);
    }
    let client = world.nodes[0].address;
    world.net.translate(client);
    let has_weather = random.below(2) == 0;
    let has_crashes = random.below(3) == 0;
    for _ in 0..STEPS {
        let pause = random.below(3_000_000);
        world.run(Duration::from_nanos(pause));
        if has_weather {
            weather(&mut world);
        }
        if has_crashes && random.below(60) == 0 {
            world.restart(random.below(2) as usize);
            world.connect(0, 1);
        }
        let at = random.below(2) as usize;
        let open: Vec<_> = world.nodes[at]
            .lines
            .iter()
            .filter(|(_, line)| line.opened && line.closed.is_none())
            .map(|(id, _)| *id)
            .collect();
        let Some(session) = open.get(random.below(open.len() as u64) as usize).copied() else {
            continue;
        };
        if world.nodes[at].lines[&session].queued > 1 << 20 {
            continue;
        }
        match random.below(40) {
            0 => world.pause(at, session, true),
            1 | 2 => world.pause(at, session, false),
            _ => {}
        }
        let delivery = match random.below(5) {
            0 | 1 => Delivery::Ordered,
            2 | 3 => Delivery::Unordered,
            _ => Delivery::Unreliable {
                deadline: Instant::from_nanos(world.now + random.below(5_000_000)),
            },
        };
        for _ in 0..1 + random.below(20) {
            let len = size(&mut random);
            match world.offer(at, session, delivery, len) {
                Ok(()) | Err(SendRefusal::Closed) => {}
                Err(refusal) => panic!("{refusal:?}"),
            }
        }
    }
    let clean = end(&mut world, &base);
    let got = |world: &World, lane: usize| -> u64 {
        let lines = world.nodes.iter().flat_map(every_line);
        lines.map(|line| line.got_count(lane)).sum()
    };
    let figures = [
        got(&world, 0) + got(&world, 1),
        got(&world, 2),
        world
            .nodes
            .iter()
            .map(|node| node.endpoint.stats().lost)
            .sum(),
        world.net.fault_counts().of(Fault::Rebind),
        u64::from(clean),
        world
            .nodes
            .iter()
            .flat_map(|node| node.lines.values())
            .filter(|line| {
                matches!(
                    line.closed,
                    Some((SessionEnd::Restarted | SessionEnd::Reset, _))
                )
            })
            .count() as u64,
    ];
    let hash = world.hash;
    world.retire();
    (hash, figures)
}

/// The network heals: everything comes to its end by itself, nothing is missing and nothing is left. Whether no session
/// was cut short.
fn end(world: &mut World, base: &[usize]) -> bool {
    let mut healed = PathConfig::default();
    healed.link.delay = world.net.config.link.delay;
    world.net.config = healed;
    let now = world.instant();
    for at in 0..2 {
        let ids: Vec<_> = world.nodes[at].lines.keys().copied().collect();
        for id in ids {
            world.pause(at, id, false);
            world.nodes[at].endpoint.drain(id, now);
            world.nodes[at].endpoint.finish(id, now);
        }
        world.nodes[at].endpoint.refuse_new(true);
    }
    world.until("all sessions end", |world| {
        let mut lines = world.nodes.iter().flat_map(|node| node.lines.values());
        lines.all(|line| line.closed.is_some())
    });
    world.run(Duration::from_secs(30));
    let clean = check_delivery(world);
    let carried = world.carried;
    world.run(Duration::from_secs(3600));
    assert_eq!(world.carried, carried, "who has nothing to say is silent");
    for (node, base) in world.nodes.iter().zip(base) {
        let stats = node.endpoint.stats();
        let sessions = node.lines.len() as u64;
        let allowed = (stats.fresh_bytes + stats.again_bytes) / 4 + sessions * (82 << 10);
        assert!(
            stats.again_bytes <= allowed,
            "retransmissions stay in their budget: {stats:?}"
        );
        assert_eq!(node.endpoint.sessions(), 0);
        let kept = node.pools.budget().used() - base - node.pools.stashed_bytes();
        assert_eq!(kept, 0, "all memory is back");
    }
    clean
}

/// What the owners of a node's sessions knew, those of dead processes too.
fn every_line(node: &Node) -> impl Iterator<Item = &Line> {
    node.lines.values().chain(&node.past)
}

fn check_delivery(world: &World) -> bool {
    // Sessions are numbered in the order in which they began on the client; the server may see another order, so
    // both sides are compared in sum, per lane, when nothing was cut short.
    let clean = world.nodes.iter().flat_map(every_line).all(|line| {
        let end = line.closed.as_ref().map(|(end, _)| *end);
        match end {
            Some(SessionEnd::Local(CloseCode::Drained) | SessionEnd::Peer(CloseCode::Drained)) => {
                true
            }
            Some(SessionEnd::Violation(fault)) => panic!("an honest peer is accused: {fault}"),
            _ => false,
        }
    });
    for lane in 0..3 {
        let total = |at: usize, count: &dyn Fn(&Line) -> u64| -> u64 {
            every_line(&world.nodes[at]).map(count).sum()
        };
        for (from, to) in [(0, 1), (1, 0)] {
            let sent = total(from, &|line| line.sent[lane]);
            let got = total(to, &|line| line.got_count(lane));
            assert!(got <= sent);
            if clean && lane < 2 {
                assert_eq!(got, sent, "lane {lane}: nothing is missing");
            }
        }
    }
    clean
}

const SEEDS: Seeds<(u64, [u64; 6])> = Seeds {
    package: "ringway",
    test: "rudp",
    count: 80,
    play: |seed, _print| {
        let played = play(seed);
        for (total, figure) in TOTALS.iter().zip(played.1) {
            total.fetch_add(figure, Ordering::Relaxed);
        }
        played
    },
};

/// Reliable and unreliable messages, lost packets, rebinds, runs in which nothing was cut short, sessions that noticed
/// that their peer was started anew: so that a run that does
/// nothing can't pass for a good one.
static TOTALS: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];

#[test]
fn promises_hold_in_every_seed() {
    if SEEDS.run().is_none() {
        return;
    }
    let totals = TOTALS.each_ref().map(|total| total.load(Ordering::Relaxed));
    println!("[reliable, unreliable, lost, rebinds, clean, saw a restart] = {totals:?}");
    assert!(totals.iter().all(|total| *total > 20), "{totals:?}");
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_not() {
    SEEDS.are_deterministic(3..6);
}
