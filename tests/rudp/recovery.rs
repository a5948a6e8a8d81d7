//! How packets are used, and what becomes of them on paths that change. What loss costs is measured, and kept within
//! its bounds, by `ringway bench recovery`.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringway_proto::packet::{Delivery, PacketEndpoint, PacketEvent, SessionEnd, SessionId};
use ringway_proto::rudp::RudpConfig;
use ringway_sim::{Fault, PathConfig};

use crate::world::{World, pair};

/// A network of 20 us round trips without faults.
fn quick() -> PathConfig {
    PathConfig::default()
}

/// The same, no faster than a gigabit per second, for packets as long as on Ethernet.
fn gigabit(queue_bytes: u32) -> PathConfig {
    let mut path = quick();
    path.link.bandwidth_bytes_per_s = 125_000_000;
    path.link.queue_bytes = queue_bytes;
    path.faults.black_hole_bytes = 1472;
    path
}

fn answered(world: &World, session: SessionId) -> u64 {
    world.nodes[0].lines[&session].arrivals.len() as u64
}

/// One call: a message and its echo. How long it took, in nanoseconds.
fn call(world: &mut World, session: SessionId, len: usize) -> u64 {
    let (began, before) = (world.now, answered(world, session));
    world.offer(0, session, Delivery::Unordered, len).unwrap();
    world.until("the answer came", |world| answered(world, session) > before);
    world.now - began
}

fn warm(seed: u64, path: PathConfig) -> (World, SessionId) {
    let (mut world, near, _) = pair(path, seed, &RudpConfig::default());
    world.nodes[1].echo = true;
    for _ in 0..50 {
        call(&mut world, near, 64);
    }
    (world, near)
}

/// Sends `total` bytes in messages of `len`, keeping the queue short. Nanoseconds until all arrived.
fn bulk(world: &mut World, flows: &[(SessionId, SessionId)], len: usize, total: u64) -> u64 {
    let began = world.now;
    let mut offered = vec![0_u64; flows.len()];
    let limit = world.now + 600_000_000_000;
    loop {
        let mut done = true;
        for ((near, far), offered) in flows.iter().zip(&mut offered) {
            while *offered < total && world.nodes[0].lines[near].queued < 4 * len.max(64 << 10) {
                world.offer(0, *near, Delivery::Unordered, len).unwrap();
                *offered += len as u64;
            }
            done &= world.nodes[1].lines[far].bytes_got >= total;
        }
        if done {
            return world.now - began;
        }
        assert!(world.step(limit), "the transfer stands still");
    }
}

#[test]
fn answers_acknowledge_requests() {
    let (mut world, near) = warm(5, quick());
    let (carried, alone) = (world.carried, acks_alone(&world));
    for _ in 0..1000 {
        call(&mut world, near, 64);
    }
    assert_eq!(
        acks_alone(&world),
        alone,
        "no packet carried only an acknowledgement"
    );
    assert_eq!(world.carried - carried, 2000, "two packets per call");
}

fn acks_alone(world: &World) -> u64 {
    let nodes = world.nodes.iter();
    nodes.map(|node| node.endpoint.stats().acks_alone).sum()
}

#[test]
fn messages_of_one_moment_share_packets() {
    let (mut world, near) = warm(6, quick());
    let carried = world.carried;
    for _ in 0..64 {
        world.offer(0, near, Delivery::Unordered, 64).unwrap();
    }
    world.until("all are answered", |world| answered(world, near) >= 50 + 64);
    assert!(
        world.carried - carried <= 16,
        "{} packets",
        world.carried - carried
    );
}

#[test]
fn long_paths_are_found_and_black_holes_are_left() {
    let (mut world, near, far) = pair(quick(), 7, &RudpConfig::default());
    bulk(&mut world, &[(near, far)], 256 << 10, 4 << 20);
    assert_eq!(world.nodes[0].endpoint.path_bytes(near), Some(65_507));
    world.net.config.faults.black_hole_bytes = 1400;
    world.nodes[1].lines.get_mut(&far).unwrap().bytes_got = 0;
    let took = bulk(&mut world, &[(near, far)], 256 << 10, 4 << 20);
    assert_eq!(world.nodes[0].endpoint.path_bytes(near), Some(1200));
    println!("4 MiB through a fresh black hole: {took} ns");
    assert!(took < 1_000_000_000, "{took}");
}

// docs/wire/rudp.md#path
#[test]
fn a_length_that_the_system_refuses_is_not_sent_again() {
    let mut path = quick();
    path.faults.black_hole_bytes = 9000;
    let (mut world, near, far) = pair(path, 5, &RudpConfig::default());
    let got = |world: &World| world.nodes[1].lines[&far].got_count(1);
    for _ in 0..20 {
        world.offer(0, near, Delivery::Unordered, 100_000).unwrap();
    }
    world.until("all came", |world| got(world) == 20);
    assert_eq!(world.nodes[0].endpoint.path_bytes(near), Some(8972));
    let (peer, now) = (world.nodes[1].address, world.instant());
    let stranger = world.nodes[0].address;
    let endpoint = &mut world.nodes[0].endpoint;
    endpoint.handle_too_long(Some(stranger), 1400, now);
    assert_eq!(endpoint.path_bytes(near), Some(8972), "another's path");
    endpoint.handle_too_long(Some(peer), 1400, now);
    assert_eq!(endpoint.path_bytes(near), Some(1400));
    // From here on the system refuses what is longer.
    world.filter = Some(Box::new(move |to, packet| {
        assert!(to != peer || packet.len() <= 1400, "{} bytes", packet.len());
        false
    }));
    for _ in 0..20 {
        world.offer(0, near, Delivery::Unordered, 100_000).unwrap();
    }
    world.until("all came", |world| got(world) == 40);
}

// docs/wire/rudp.md#path
#[test]
fn a_lost_challenge_is_asked_again() {
    let (mut world, near, far) = pair(quick(), 9, &RudpConfig::default());
    let inner = world.nodes[0].address;
    let outer = SocketAddr::from(([10, 9, 9, 9], 1));
    world.offer(1, far, Delivery::Unordered, 10).unwrap();
    world.until("it comes", |world| {
        world.nodes[0].lines[&near].got_count(1) == 1
    });
    // The acknowledgement is all that says where the client is now: it only listens.
    world.net.rebind(inner, outer);
    let challenges = Rc::new(Cell::new(0));
    let count = Rc::clone(&challenges);
    world.filter = Some(Box::new(move |to, _| {
        count.set(count.get() + u32::from(to == outer));
        to == outer && count.get() == 1
    }));
    world.run(Duration::from_millis(5));
    assert_eq!(challenges.get(), 1, "lost");
    world.offer(1, far, Delivery::Unordered, 100_000).unwrap();
    let began = world.now;
    world.until("it comes", |world| {
        world.nodes[0].lines[&near].got_count(1) == 2
    });
    assert!(challenges.get() > 1);
    println!("a lost challenge cost {} ns", world.now - began);
    assert!(world.now - began < 10_000_000);
    assert_eq!(world.nodes[1].endpoint.peer_address(far), Some(outer));
}

// docs/wire/rudp.md#handshake
#[test]
fn a_path_to_nobody_ends_what_has_not_heard_of_its_peer_and_nothing_else() {
    let (mut world, near, _) = pair(quick(), 5, &RudpConfig::default());
    let (peer, now) = (world.nodes[1].address, world.instant());
    let absent = crate::world::address(99);
    let node = &mut world.nodes[0];
    node.endpoint.handle_unreachable(Some(peer), now);
    node.endpoint.handle_unreachable(None, now);
    assert!(
        node.endpoint.poll_event().is_none(),
        "it has an open session"
    );
    let lost = node.endpoint.connect(absent, now).unwrap();
    node.endpoint.handle_unreachable(Some(peer), now);
    assert!(node.endpoint.poll_event().is_none(), "that was another");
    node.endpoint.handle_unreachable(Some(absent), now);
    let event = node.endpoint.poll_event();
    assert!(
        matches!(
            event,
            Some(PacketEvent::Closed { session, end: SessionEnd::Unreachable, .. })
                if session == lost
        ),
        "{event:?}"
    );
    assert_eq!(node.endpoint.sessions(), 1);
    world.offer(0, near, Delivery::Ordered, 10).unwrap();
    world.until("it goes on", |world| {
        world.nodes[1]
            .lines
            .values()
            .any(|line| line.got_count(0) == 1)
    });
}

#[test]
fn a_mark_slows_down_before_anything_is_lost() {
    let mut path = gigabit(1 << 20);
    path.link.ecn_threshold_bytes = 32 << 10;
    let (mut world, near, far) = pair(path, 8, &RudpConfig::default());
    bulk(&mut world, &[(near, far)], 64 << 10, 8 << 20);
    assert!(world.net.fault_counts().of(Fault::EcnMark) > 0);
    assert_eq!(world.nodes[0].endpoint.stats().lost, 0);
}
