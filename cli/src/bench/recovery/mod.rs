//! `ringway bench recovery`: what loss costs, in virtual time.
//!
//! Whole engines on the simulated network, so that no noise of a machine is in the figures: the same seed gives the same
//! ones anywhere. Four questions: how long a call takes whose last packet is lost, how long calls take when one packet in a
//! hundred is, how much of a link such loss leaves to bulk, and how evenly two flows share a link. There is no
//! baseline beside it: the round trip and the link are known.

mod world;

use std::time::Duration;

use ringway::sim::{Chance, Fault, Faults, PathConfig, Span};
use ringway::{ConnectionId, Instant};
use serde::Serialize;

use super::plan::{Driver, Policy, Transport, Workload};
use crate::args;
use crate::failure::Failure;
use crate::output;
use world::{World, nanos, send};

/// One way of the network, in microseconds; a round trip is twice that.
const DELAY_US: u64 = 10;
/// The link of bulk: a gigabit per second.
const LINK_BYTES_PER_S: u64 = 125_000_000;
/// The queue before it.
const LINK_QUEUE_BYTES: u32 = 256 << 10;
/// Bytes of a message of bulk.
const BULK_BYTES: u32 = 64 << 10;
/// Bytes that a flow may have on its way.
const BULK_AHEAD_BYTES: u64 = 1 << 20;
/// Bytes before what is measured, and what is measured.
const BULK_WARM_BYTES: u64 = 4 << 20;
const BULK_MEASURED_BYTES: u64 = 12 << 20;
/// How long two flows are measured for each of `--rounds`; before that they run for a fifth of all of them.
const SHARE_ROUND: Duration = Duration::from_millis(250);
/// Rounds by default, and the fewest that are judged: many times as long as CUBIC swings, of which one swing alone shows
/// anything between 0.7 and 0.95.
const SHARE_ROUNDS: u32 = 10;
/// Most rounds.
const SHARE_ROUNDS_MAX: u32 = 1_000;
/// Seed of every run.
const SEED: u64 = 7;

/// The result. Names that other workloads have mean the same here.
#[derive(Clone, Debug, Serialize)]
struct Line {
    workload: Workload,
    transport: Transport,
    /// Virtual time: neither of the others.
    driver: &'static str,
    size: u32,
    /// Calls that were measured.
    ops: u64,
    /// How many times 250 ms two flows were measured.
    rounds: u32,
    mtu: u32,
    rtt_ns: u64,
    /// The slower direction's time of a call whose last packet was lost.
    tail_ns: u64,
    /// Calls while one packet in a hundred is lost.
    ours: Calls,
    /// Share of the link that bulk gets while one packet in a hundred is lost.
    goodput: f64,
    /// The slower of two flows beside the faster one.
    share: f64,
    goals: Vec<Goal>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Calls {
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Goal {
    figure: &'static str,
    bound: String,
    met: bool,
}

/// Runs all four and prints them.
pub(super) fn run(arguments: &args::Bench) -> Result<(), Failure> {
    let (transport, size) = (arguments.transport, arguments.size.unwrap_or(64));
    if !matches!(transport, Transport::Rudp | Transport::Quic) {
        return Err(Failure::Usage(format!(
            "recovery from loss is {transport}'s kernel's business, or nobody's; choose --transport rudp or quic"
        )));
    }
    if !(1..=1_000).contains(&size) {
        return Err(Failure::Usage(
            "--size: a call of `recovery` is one packet; 1 to 1000 bytes".to_owned(),
        ));
    }
    let ops = arguments.ops.unwrap_or(2_000);
    if !(100..=1_000_000).contains(&ops) {
        return Err(Failure::Usage(
            "--ops: a 99th percentile takes 100 to 1000000 calls".to_owned(),
        ));
    }
    let rounds = arguments.rounds.unwrap_or(SHARE_ROUNDS);
    if !(1..=SHARE_ROUNDS_MAX).contains(&rounds) {
        return Err(Failure::Usage(format!(
            "--rounds: two flows are measured for 1 to {SHARE_ROUNDS_MAX} times 250 ms"
        )));
    }
    refuse_others(arguments)?;
    let line = measure(transport, size, ops, rounds)?;
    if arguments.json {
        let text = serde_json::to_string(&line)
            .map_err(|error| Failure::Peer(format!("can't write the result: {error}")))?;
        return output::line(text);
    }
    output::line(table(&line).trim_end())
}

/// What shapes a run on real sockets means nothing here, and must not seem to.
fn refuse_others(arguments: &args::Bench) -> Result<(), Failure> {
    let others = [
        ("--driver", arguments.driver != Driver::Uring),
        ("--policy", arguments.policy != Policy::Spin),
        ("--outstanding", arguments.outstanding.is_some()),
        ("--rate", arguments.rate.is_some()),
        ("--connections", arguments.connections.is_some()),
        ("--held", arguments.held.is_some()),
        ("--mtu", arguments.mtu.is_some()),
    ];
    match others.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => Err(Failure::Usage(format!(
            "{option} means nothing in the simulator; `recovery` takes --transport, --size, --ops, --rounds and --json"
        ))),
    }
}

fn measure(transport: Transport, size: u32, ops: u64, rounds: u32) -> Result<Line, Failure> {
    let rtt_ns = 2_000 * DELAY_US;
    let tail_ns = tail(transport, size)?;
    let ours = calls(transport, size, ops)?;
    let goodput = goodput(transport)?;
    let share = share(transport, rounds)?;
    let mut line = Line {
        workload: Workload::Recovery,
        transport,
        driver: "sim",
        size,
        ops,
        rounds,
        mtu: super::plan::MTU_ETHERNET,
        rtt_ns,
        tail_ns,
        ours,
        goodput,
        share,
        goals: Vec::new(),
    };
    line.goals = goals(&line);
    Ok(line)
}

/// What the figures are held to.
fn goals(line: &Line) -> Vec<Goal> {
    let goal = |figure, bound: &str, met| Goal {
        figure,
        bound: bound.to_owned(),
        met,
    };
    let mut goals = Vec::new();
    // QUIC's timers have a floor of a millisecond, which is its library's; sharing is asked of both.
    if line.transport == Transport::Rudp {
        let p99_ns = line.ours.p99_ns;
        goals = vec![
            goal("tail_ns", "< 150000", line.tail_ns < 150_000),
            goal("p99_ns", "< 5 round trips", p99_ns < 5 * line.rtt_ns),
            goal("goodput", ">= 0.9", line.goodput >= 0.9),
        ];
    }
    if line.rounds >= SHARE_ROUNDS {
        goals.push(goal("share", ">= 0.8", line.share >= 0.8));
    }
    goals
}

fn near_by() -> PathConfig {
    let mut path = PathConfig::default();
    path.link.delay = Span::micros(DELAY_US, DELAY_US);
    path.faults.black_hole_bytes = world::DATAGRAM_BYTES_MAX;
    path
}

fn gigabit() -> PathConfig {
    let mut path = near_by();
    path.link.bandwidth_bytes_per_s = LINK_BYTES_PER_S;
    path.link.queue_bytes = LINK_QUEUE_BYTES;
    path
}

/// The faults of a path, with so much loss on top.
fn losing(path: &PathConfig, loss: Chance) -> Faults {
    let mut faults = Faults::none();
    faults.datagram = path.faults;
    faults.datagram.loss = loss;
    faults
}

/// Two ends that have made a few calls.
fn warm(transport: Transport, size: u32) -> Result<(World, ConnectionId), Failure> {
    let mut world = World::new(transport, near_by(), SEED)?;
    let (near, _) = world.connect()?;
    world.echo(true);
    for _ in 0..50 {
        world.call(near, size)?;
    }
    Ok((world, near))
}

/// A call whose request is lost, and one whose answer is: the slower one's time.
fn tail(transport: Transport, size: u32) -> Result<u64, Failure> {
    let path = near_by();
    let mut slowest = 0;
    for loses_request in [true, false] {
        let (mut world, near) = warm(transport, size)?;
        let lost = |world: &World| world.net.fault_counts().of(Fault::Loss);
        let (began, answered, before) = (world.now(), world.near.messages, lost(&world));
        let losing = |chance| losing(&path, chance);
        if loses_request {
            world.net.set_faults(losing(Chance::ALWAYS));
        }
        send(&mut world.client, near, &vec![7; size as usize])?;
        world.client.turn(&mut world.near);
        world.net.set_faults(losing(Chance::ALWAYS));
        world.until(|world| lost(world) > before)?;
        world.net.set_faults(losing(Chance::NEVER));
        world.until(|world| world.near.messages > answered)?;
        slowest = slowest.max(nanos(world.now().saturating_since(began)));
    }
    Ok(slowest)
}

/// Calls one after the other while one packet in a hundred is lost.
fn calls(transport: Transport, size: u32, ops: u64) -> Result<Calls, Failure> {
    let (mut world, near) = warm(transport, size)?;
    world.net.set_faults(losing(&near_by(), Chance::percent(1)));
    let times: Result<Vec<u64>, Failure> = (0..ops).map(|_| world.call(near, size)).collect();
    let mut times = times?;
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied();
    Ok(Calls {
        p50_ns: at(50).unwrap_or(0),
        p99_ns: at(99).unwrap_or(0),
        max_ns: times.last().copied().unwrap_or(0),
    })
}

/// Keeps every flow of the server busy, since it `began`; `offered` are the bytes that it was given of each.
fn pour(
    world: &mut World,
    flows: &[(ConnectionId, ConnectionId)],
    offered: &mut [u64],
    body: &[u8],
    began: Instant,
) -> Result<(), Failure> {
    for ((near, far), offered) in flows.iter().zip(offered) {
        let got = world.near.bytes.get(near).copied().unwrap_or(0);
        while *offered - got < BULK_AHEAD_BYTES && send(&mut world.server, *far, body)? {
            *offered += body.len() as u64;
        }
    }
    world.go_on(began)
}

/// The share of a link that loss leaves.
#[expect(
    clippy::cast_precision_loss,
    reason = "a few megabytes, a few hundred milliseconds"
)]
fn goodput(transport: Transport) -> Result<f64, Failure> {
    let mut world = World::new(transport, gigabit(), SEED)?;
    let flow = world.connect()?;
    let body = vec![7; BULK_BYTES as usize];
    let mut offered = [0];
    let got = |world: &World| world.near.bytes.get(&flow.0).copied().unwrap_or(0);
    let began = world.now();
    while got(&world) < BULK_WARM_BYTES {
        pour(&mut world, &[flow], &mut offered, &body, began)?;
    }
    world.net.set_faults(losing(&gigabit(), Chance::percent(1)));
    let (began, before) = (world.now(), got(&world));
    while got(&world) < before + BULK_MEASURED_BYTES {
        pour(&mut world, &[flow], &mut offered, &body, began)?;
    }
    let seconds = world.now().saturating_since(began).as_secs_f64();
    Ok((got(&world) - before) as f64 / seconds / LINK_BYTES_PER_S as f64)
}

/// How evenly two flows share a link: that of the server's socket, which both leave by.
#[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
fn share(transport: Transport, rounds: u32) -> Result<f64, Failure> {
    let mut path = gigabit();
    path.link.delay = Span::micros(5 * DELAY_US, 5 * DELAY_US);
    let mut world = World::new(transport, path, SEED)?;
    let flows = [world.connect()?, world.connect()?];
    let body = vec![7; BULK_BYTES as usize];
    let mut offered = [0, 0];
    let got =
        |world: &World| flows.map(|(near, _)| world.near.bytes.get(&near).copied().unwrap_or(0));
    let measured = SHARE_ROUND * rounds;
    let began = world.now();
    let mut until = began + measured / 5;
    while world.now() < until {
        pour(&mut world, &flows, &mut offered, &body, began)?;
    }
    let before = got(&world);
    until = world.now() + measured;
    while world.now() < until {
        pour(&mut world, &flows, &mut offered, &body, began)?;
    }
    let after = got(&world);
    let [one, two] = [after[0] - before[0], after[1] - before[1]];
    Ok(one.min(two) as f64 / one.max(two).max(1) as f64)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn table(line: &Line) -> String {
    let time = |nanos: u64| {
        let trips = nanos as f64 / line.rtt_ns as f64;
        format!(
            "{:>10}  {trips:5.1} round trips",
            output::duration(nanos as f64)
        )
    };
    let mut text = format!(
        "recovery over {}, virtual time, round trips of {}\n\n",
        line.transport,
        output::duration(line.rtt_ns as f64)
    );
    let rows = [
        ("a call whose last packet is lost", time(line.tail_ns)),
        ("calls with 1 % loss, p50", time(line.ours.p50_ns)),
        ("calls with 1 % loss, p99", time(line.ours.p99_ns)),
        ("calls with 1 % loss, slowest", time(line.ours.max_ns)),
        (
            "bulk with 1 % loss",
            format!("{:>9.1} % of the link", line.goodput * 100.0),
        ),
        (
            "the slower of two flows",
            format!("{:>9.1} % of the faster", line.share * 100.0),
        ),
    ];
    for (what, value) in rows {
        text += &format!("  {what:<34}{value}\n");
    }
    for goal in &line.goals {
        let verdict = if goal.met { "met" } else { "missed" };
        text += &format!("\n  goal {} {}: {verdict}", goal.figure, goal.bound);
    }
    if line.rounds < SHARE_ROUNDS {
        text += &format!(
            "\n  two flows ran for less than {SHARE_ROUNDS} rounds of 250 ms, too short to judge how they share"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // docs/wire/rudp.md#loss
    #[test]
    fn one_lost_tail_costs_less_than_eight_round_trips() {
        let took = tail(Transport::Rudp, 64).expect("measured");
        assert!(took < 150_000, "{took} ns");
        let alike = tail(Transport::Rudp, 64).expect("measured");
        assert_eq!(took, alike, "the same seed is the same run");
    }

    #[test]
    fn one_percent_of_loss_costs_the_slowest_call_less_than_five_round_trips() {
        let found = calls(Transport::Rudp, 64, 2_000).expect("measured");
        assert!(found.p99_ns < 5 * 20_000, "{found:?}");
        assert_eq!(found.p50_ns, 20_000, "one round trip, and nothing else");
        assert!(found.max_ns > 20_000, "something was lost");
    }

    #[test]
    fn a_link_that_loses_one_percent_is_used_to_nine_tenths() {
        let found = goodput(Transport::Rudp).expect("measured");
        assert!((0.9..=1.0).contains(&found), "{found}");
    }

    #[test]
    fn two_flows_share_a_link_evenly() {
        let found = share(Transport::Rudp, SHARE_ROUNDS).expect("measured");
        assert!(found > 0.8, "{found}");
    }

    #[test]
    fn sharing_is_judged_over_many_swings_only() {
        let judged = |transport, rounds| {
            let line = Line {
                workload: Workload::Recovery,
                transport,
                driver: "sim",
                size: 64,
                ops: 100,
                rounds,
                mtu: 1500,
                rtt_ns: 20_000,
                tail_ns: 70_000,
                ours: Calls {
                    p50_ns: 20_000,
                    p99_ns: 120_000,
                    max_ns: 120_000,
                },
                goodput: 0.95,
                share: 0.9,
                goals: Vec::new(),
            };
            let goals = goals(&line).into_iter();
            goals.map(|it| (it.figure, it.met)).collect::<Vec<_>>()
        };
        let alone = [("tail_ns", true), ("p99_ns", false), ("goodput", true)];
        assert_eq!(judged(Transport::Rudp, SHARE_ROUNDS - 1), alone);
        assert_eq!(judged(Transport::Rudp, SHARE_ROUNDS).len(), 4);
        assert_eq!(judged(Transport::Quic, SHARE_ROUNDS - 1), []);
        assert_eq!(judged(Transport::Quic, SHARE_ROUNDS), [("share", true)]);
    }

    #[test]
    fn quic_recovers_too() {
        let took = tail(Transport::Quic, 64).expect("measured");
        let found = calls(Transport::Quic, 64, 300).expect("measured");
        assert!(took > 20_000 && found.p50_ns >= 20_000);
        assert!(goodput(Transport::Quic).expect("measured") > 0.0);
    }
}
