//! Peers and strangers that lie, flood, stop or die.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringway_proto::packet::{Delivery, Fault, PacketEndpoint, SessionEnd, SessionId};
use ringway_proto::rudp::RudpConfig;
use ringway_proto::{CloseCode, Header, StreamConfig, Timeout};
use ringway_sim::{Chance, PathConfig};

use crate::forge::{Seen, ack, cid_of, frames, head, init, key, number_of, piece, record, sealed};
use crate::seeds::Random;
use crate::world::{BUDGET_BYTES, World, pair};

fn config() -> RudpConfig {
    RudpConfig {
        stream: StreamConfig {
            message_bytes_max: 1 << 20,
            ..StreamConfig::default()
        },
        credit_bytes: 64 << 10,
        credit_messages: 64,
        cookies_from: 16,
        ..RudpConfig::default()
    }
}

fn closed(world: &World, node: usize, session: SessionId) -> Option<SessionEnd> {
    let line = world.nodes[node].lines.get(&session)?;
    line.closed.as_ref().map(|(end, _)| *end)
}

/// An open pair that exchanged a message, and how a forger addresses the server's session.
fn open(seed: u64) -> (World, SessionId, SessionId, u64, u32) {
    let (mut world, near, far) = pair(PathConfig::default(), seed, &config());
    let seen = record(&mut world);
    world.offer(0, near, Delivery::Ordered, 10).unwrap();
    world.run(Duration::from_millis(5));
    let (cid, number) = key(&seen, world.nodes[1].address);
    (world, near, far, cid, number)
}

/// Injects a packet at the server as if its peer had sent it; how the session ended.
fn forged(packet: impl FnOnce(u64, u32) -> Vec<u8>) -> Option<SessionEnd> {
    let (mut world, _, far, cid, number) = open(1);
    let (from, to) = (world.nodes[0].address, world.nodes[1].address);
    world.inject(from, to, &packet(cid, number + 1));
    world.run(Duration::from_millis(5));
    closed(&world, 1, far)
}

fn fault(fault: Fault) -> Option<SessionEnd> {
    Some(SessionEnd::Violation(fault))
}

#[test]
fn broken_rules_end_the_session_with_their_names() {
    assert_eq!(
        forged(|cid, number| ack(cid, number, 5000)),
        fault(Fault::AckOfUnsent)
    );
    assert_eq!(
        forged(|cid, number| frames(cid, number, &[9, 0, 0, 0])),
        fault(Fault::Malformed { frame: 9 })
    );
    assert_eq!(
        forged(|cid, number| frames(cid, number, &[2, 0, 0, 0, 1])),
        fault(Fault::Malformed { frame: 2 })
    );
    // A length bomb: four gigabytes in twelve bytes.
    assert_eq!(
        forged(|cid, number| frames(cid, number, &piece(1, u32::MAX, 0, &[1; 12]))),
        fault(Fault::MessageTooLong {
            length: u64::from(u32::MAX),
            max: 1 << 20
        })
    );
    // Two pieces of one message that disagree about its length.
    assert_eq!(
        forged(|cid, number| {
            let mut both = piece(1, 1000, 0, &[1; 12]);
            both.extend(piece(1, 2000, 12, &[1; 12]));
            frames(cid, number, &both)
        }),
        fault(Fault::Contradiction)
    );
    // Far more messages than were granted.
    assert_eq!(
        forged(|cid, number| {
            let many: Vec<u8> = (1..200)
                .flat_map(|id| piece(id, 100, 0, &[1; 12]))
                .collect();
            frames(cid, number, &many)
        }),
        fault(Fault::BeyondCredit)
    );
    // Far more bytes than were granted, in few messages.
    assert_eq!(
        forged(|cid, number| {
            let many: Vec<u8> = (1..4)
                .flat_map(|id| piece(id, 1 << 20, 0, &[1; 12]))
                .collect();
            frames(cid, number, &many)
        }),
        fault(Fault::BeyondCredit)
    );
    // A message behind the last one.
    assert_eq!(
        forged(|cid, number| {
            let mut last = vec![7, 0, 0, 0];
            last.extend_from_slice(&1_u64.to_le_bytes());
            last.extend_from_slice(&0_u64.to_le_bytes());
            last.extend(piece(1, 100, 0, &[1; 12]));
            frames(cid, number, &last)
        }),
        fault(Fault::AfterFinal)
    );
    // An honest forger changes nothing.
    assert_eq!(
        forged(|cid, number| frames(cid, number, &[1, 0, 0, 0])),
        None
    );
}

#[test]
fn what_came_first_stays_when_pieces_overlap_with_different_bytes() {
    let (mut world, _, far, cid, number) = open(2);
    world.nodes[1].keep_bodies = true;
    let (from, to) = (world.nodes[0].address, world.nodes[1].address);
    let parts = [
        piece(1, 30, 10, &[2; 10]),
        piece(1, 30, 5, &[9; 10]),
        piece(1, 30, 0, &[1; 12]),
        piece(1, 30, 15, &[7; 15]),
    ];
    for (part, number) in parts.iter().zip(number + 1..) {
        world.inject(from, to, &frames(cid, number, part));
        world.run(Duration::from_micros(1));
    }
    world.run(Duration::from_millis(1));
    let bodies: Vec<&Vec<u8>> = world.nodes[1].bodies.iter().map(|(_, body)| body).collect();
    let expected: Vec<u8> = [[1; 5].as_slice(), &[9; 5], &[2; 10], &[7; 10]].concat();
    assert_eq!(bodies, [&expected]);
    assert_eq!(closed(&world, 1, far), None);
}

#[test]
fn replayed_cut_and_damaged_packets_change_nothing() {
    let (mut world, near, far) = pair(PathConfig::default(), 3, &config());
    let seen = record(&mut world);
    for _ in 0..50 {
        world.offer(0, near, Delivery::Unordered, 700).unwrap();
        world
            .offer(
                0,
                near,
                Delivery::Unreliable {
                    deadline: ringway_buf::Instant::MAX,
                },
                30,
            )
            .unwrap();
        world.run(Duration::from_micros(50));
    }
    let packets = seen.borrow().clone();
    for (to, bytes) in &packets {
        let from = world
            .nodes
            .iter()
            .map(|node| node.address)
            .find(|at| at != to)
            .unwrap();
        world.inject(from, *to, bytes);
        for cut in [0, 1, 19, 20, bytes.len() - 1] {
            world.inject(from, *to, &bytes[..cut]);
        }
        world.run(Duration::from_micros(10));
    }
    world.run(Duration::from_millis(50));
    // The world's owners refuse duplicates and damage by themselves; here the counts.
    let line = &world.nodes[1].lines[&far];
    assert_eq!((line.got_count(1), line.got_count(2)), (50, 50));
    assert_eq!(closed(&world, 1, far), None);
    assert!(world.nodes[1].endpoint.stats().dropped_in > 100);
}

#[test]
fn a_flood_of_inits_costs_bounded_memory_and_honest_peers_connect() {
    let mut world = World::new(PathConfig::default(), 4);
    let (client, server) = (world.add(config()), world.add(config()));
    let target = world.nodes[server].address;
    for number in 0..20_000_u32 {
        let [_, b, c, d] = number.to_be_bytes();
        let spoofed = SocketAddr::from(([10, 1 + b, c, d], 9));
        world.inject(spoofed, target, &init(u64::from(number), 1, (1, 1)));
        if number % 64 == 0 {
            world.run(Duration::from_micros(100));
        }
        assert!(world.nodes[server].endpoint.half_open() <= 16);
    }
    let session = world.connect(client, server);
    world.until("the honest peer is in", |world| {
        world.nodes[client].lines[&session].opened && !world.nodes[server].lines.is_empty()
    });
    assert!(world.nodes[server].endpoint.stats().cookies > 0);
    assert!(world.nodes[server].pools.budget().used() < BUDGET_BYTES / 100);
    assert_eq!(
        world.nodes[server].lines.len(),
        1,
        "nobody else was accepted"
    );
    world
        .offer(client, session, Delivery::Ordered, 1000)
        .unwrap();
    world.run(Duration::from_secs(60));
    assert_eq!(
        world.nodes[server].endpoint.half_open(),
        0,
        "the others are forgotten"
    );
}

#[test]
fn a_cookie_is_good_for_its_address_only() {
    let mut world = World::new(PathConfig::default(), 5);
    let ask_all = RudpConfig {
        cookies_from: 0,
        ..config()
    };
    let server = world.add(ask_all);
    let target = world.nodes[server].address;
    let seen = record(&mut world);
    let friend = SocketAddr::from(([10, 0, 0, 7], 7));
    world.inject(friend, target, &init(5, 6, (1, 1)));
    world.run(Duration::from_millis(1));
    let cookie = {
        let seen = seen.borrow();
        let (to, bytes) = seen.last().unwrap();
        assert_eq!((*to, bytes[0], cid_of(bytes)), (friend, 0xC2, 5));
        bytes[28..44].to_vec()
    };
    let with_cookie = |nonce: u64| {
        let mut bytes = init(5, nonce, (1, 1));
        bytes[100..102].copy_from_slice(&16_u16.to_le_bytes());
        bytes[104..120].copy_from_slice(&cookie);
        sealed(bytes)
    };
    let thief = SocketAddr::from(([10, 0, 0, 8], 7));
    for (from, nonce, first) in [(thief, 6, 0xC2), (friend, 7, 0xC2), (friend, 6, 0xC3)] {
        world.inject(from, target, &with_cookie(nonce));
        world.run(Duration::from_millis(1));
        let seen = seen.borrow();
        assert_eq!(
            (seen.last().unwrap().0, seen.last().unwrap().1[0]),
            (from, first)
        );
    }
    world.run(Duration::from_secs(40));
    world.inject(friend, target, &with_cookie(8));
    world.inject(friend, target, &with_cookie(6));
    world.run(Duration::from_millis(1));
    assert_eq!(seen.borrow().last().unwrap().1[0], 0xC2, "cookies grow old");
}

#[test]
fn peers_of_another_version_are_told_which_ones_there_are() {
    let mut world = World::new(PathConfig::default(), 6);
    let server = world.add(config());
    let seen = record(&mut world);
    let stranger = SocketAddr::from(([10, 0, 0, 7], 7));
    world.inject(stranger, world.nodes[server].address, &init(5, 6, (2, 9)));
    world.run(Duration::from_millis(1));
    let (to, answer) = seen.borrow().last().cloned().unwrap();
    assert_eq!((to, answer[0]), (stranger, 0xC4));
    assert_eq!(answer[20..28], 6_u64.to_le_bytes());
    assert_eq!(
        answer[28..34],
        [6, 0, 1, 0, 1, 0],
        "unsupported version; 1 to 1"
    );
    assert_eq!(world.nodes[server].endpoint.sessions(), 0);
}

#[test]
fn short_inits_and_public_addresses_get_no_answer() {
    let mut world = World::new(PathConfig::default(), 7);
    let server = world.add(config());
    let seen = record(&mut world);
    let target = world.nodes[server].address;
    let mut short = init(5, 6, (1, 1));
    short.truncate(1199);
    world.inject(SocketAddr::from(([10, 0, 0, 7], 7)), target, &sealed(short));
    world.inject(
        SocketAddr::from(([8, 8, 8, 8], 53)),
        target,
        &init(5, 6, (1, 1)),
    );
    let lost = frames(0x1234_5678_0000_0000, 1, &[1; 100]);
    world.inject(SocketAddr::from(([8, 8, 8, 8], 53)), target, &lost);
    world.run(Duration::from_secs(1));
    assert!(seen.borrow().is_empty());
    let now = world.instant();
    let public = SocketAddr::from(([8, 8, 8, 8], 53));
    let refused = world.nodes[server].endpoint.connect(public, now);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("public_addresses")
    );
}

#[test]
fn a_peer_that_stops_acknowledging_is_given_up_in_time() {
    let (mut world, near, _) = pair(PathConfig::default(), 8, &config());
    world.nodes[0].lines.get_mut(&near).unwrap();
    world.net.partitioned = true;
    world.offer(0, near, Delivery::Ordered, 1000).unwrap();
    let (began, carried) = (world.now, world.carried);
    world.until("the session ends", |world| closed(world, 0, near).is_some());
    assert_eq!(
        closed(&world, 0, near),
        Some(SessionEnd::Expired(Timeout::Keepalive))
    );
    let took = world.now - began;
    let timeout = 20_000_000_000;
    assert!((timeout - 1_000_000..=timeout).contains(&took), "{took} ns");
    let sent = world.carried - carried;
    assert!(sent < 100, "{sent} packets into the void");
    let unsent = world.nodes[0].lines[&near].closed.unwrap().1;
    assert_eq!(unsent, world.nodes[0].endpoint.held_bytes(1000) as u64);
}

#[test]
fn a_silent_peer_is_found_by_keepalive_and_an_idle_session_lives_on() {
    let (mut world, near, far) = pair(PathConfig::default(), 9, &config());
    world.run(Duration::from_secs(600));
    assert_eq!(
        (closed(&world, 0, near), closed(&world, 1, far)),
        (None, None)
    );
    world.net.partitioned = true;
    world.run(Duration::from_secs(90));
    let gone = Some(SessionEnd::Expired(Timeout::Keepalive));
    assert_eq!(
        (closed(&world, 0, near), closed(&world, 1, far)),
        (gone, gone)
    );
}

#[test]
fn a_restarted_server_is_noticed_at_once() {
    let (mut world, near, _) = pair(PathConfig::default(), 10, &config());
    world.restart(1);
    world.offer(0, near, Delivery::Ordered, 100).unwrap();
    let began = world.now;
    world.until("the client knows", |world| closed(world, 0, near).is_some());
    assert_eq!(closed(&world, 0, near), Some(SessionEnd::Restarted));
    assert!(world.now - began < 100_000, "one round trip");
    let again = world.connect(0, 1);
    world.until("it connects anew", |world| {
        world.nodes[0].lines[&again].opened
    });
}

#[test]
fn a_restarted_client_replaces_its_old_sessions() {
    let (mut world, _, far) = pair(PathConfig::default(), 11, &config());
    world.restart(0);
    let again = world.connect(0, 1);
    world.until("it connects anew", |world| {
        world.nodes[0].lines[&again].opened
    });
    world.run(Duration::from_millis(1));
    assert_eq!(closed(&world, 1, far), Some(SessionEnd::Restarted));
}

#[test]
fn a_reset_that_names_no_packet_of_the_session_is_ignored() {
    let (mut world, near, _, _, _) = open(12);
    let seen = record(&mut world);
    world.offer(0, near, Delivery::Ordered, 100).unwrap();
    world.run(Duration::from_millis(1));
    let (cid, number) = key(&seen, world.nodes[1].address);
    let (from, to) = (world.nodes[1].address, world.nodes[0].address);
    let reset = |cid: u64, number: u32| {
        let mut bytes = head(0xC5, 0, cid, number);
        bytes.extend_from_slice(&77_u64.to_le_bytes());
        sealed(bytes)
    };
    world.inject(from, to, &reset(cid, number + 1000));
    world.inject(from, to, &reset(cid ^ (1 << 40), number));
    world.inject(
        SocketAddr::from(([10, 3, 3, 3], 3)),
        to,
        &reset(cid, number),
    );
    world.run(Duration::from_millis(1));
    assert_eq!(closed(&world, 0, near), None);
    world.inject(from, to, &reset(cid, number));
    world.run(Duration::from_millis(1));
    assert_eq!(closed(&world, 0, near), Some(SessionEnd::Restarted));
}

// docs/wire/rudp.md#path
#[test]
fn who_is_not_the_server_says_nothing_to_its_client() {
    let (mut world, near, far, _, _) = open(25);
    let seen = record(&mut world);
    world.offer(1, far, Delivery::Ordered, 100).unwrap();
    world.run(Duration::from_millis(1));
    let (cid, number) = key(&seen, world.nodes[0].address);
    let (server, client) = (world.nodes[1].address, world.nodes[0].address);
    let close = frames(cid, number + 1, &[8, 0, 1, 0]);
    world.inject(SocketAddr::from(([10, 3, 3, 3], 3)), client, &close);
    world.run(Duration::from_millis(1));
    assert_eq!(closed(&world, 0, near), None);
    world.offer(1, far, Delivery::Ordered, 100).unwrap();
    world.run(Duration::from_millis(1));
    assert_eq!(world.nodes[0].lines[&near].ordered_next, 2);
    world.inject(server, client, &frames(cid, number + 9, &[8, 0, 1, 0]));
    world.run(Duration::from_millis(1));
    assert!(closed(&world, 0, near).is_some());
}

#[test]
fn two_endpoints_never_answer_each_others_answers() {
    let mut world = World::new(PathConfig::default(), 13);
    let (a, b) = (world.add(config()), world.add(config()));
    let (from, to) = (world.nodes[a].address, world.nodes[b].address);
    world.inject(from, to, &frames(0x1234_5678_0000_0000, 1, &[1; 100]));
    world.run(Duration::from_secs(1));
    assert_eq!(world.carried, 1, "one reset and nothing after it");
    assert_eq!(number_of(&frames(5, 9, &[])), 9);
}

#[test]
fn pings_without_end_are_a_flood() {
    let (mut world, _, far, cid, number) = open(14);
    let (from, to) = (world.nodes[0].address, world.nodes[1].address);
    let pings = [1, 0, 0, 0].repeat(300);
    for number in number + 1..number + 41 {
        world.inject(from, to, &frames(cid, number, &pings));
    }
    world.run(Duration::from_millis(5));
    assert_eq!(closed(&world, 1, far), fault(Fault::Flood));
}

#[test]
fn a_paused_owner_costs_no_more_than_was_granted() {
    let (mut world, near, far) = pair(PathConfig::default(), 15, &config());
    let base = world.nodes[1].pools.budget().used();
    world.pause(1, far, true);
    for _ in 0..500 {
        world.offer(0, near, Delivery::Ordered, 3000).unwrap();
    }
    world.run(Duration::from_secs(2));
    let held = world.nodes[1].pools.budget().used() - base;
    assert!(
        held <= 2 * ((64 << 10) + 64 * 4096),
        "{held} bytes are held"
    );
    assert_eq!(world.nodes[1].lines[&far].ordered_next, 0);
    let (carried, now) = (world.carried, world.now);
    world.run(Duration::from_secs(5));
    assert_eq!(
        world.carried, carried,
        "who has no credit is silent ({now})"
    );
    world.pause(1, far, false);
    world.until("everything comes", |world| {
        world.nodes[1].lines[&far].ordered_next == 500
    });
}

#[test]
fn of_unreliable_messages_a_paused_session_keeps_the_first_few() {
    let (mut world, near, far) = pair(PathConfig::default(), 21, &config());
    world.pause(1, far, true);
    let delivery = Delivery::Unreliable {
        deadline: ringway_buf::Instant::MAX,
    };
    for _ in 0..20 {
        world.offer(0, near, delivery, 100).unwrap();
        world.run(Duration::from_millis(1));
    }
    world.pause(1, far, false);
    world.run(Duration::from_millis(1));
    let got = &world.nodes[1].lines[&far].got[2];
    assert_eq!(got, &[true; 8]);
}

#[test]
fn closing_sends_what_was_accepted_and_both_ends_learn_why() {
    let (mut world, near, far) = pair(PathConfig::default(), 16, &config());
    world.net.config.faults.loss = Chance::percent(20);
    for _ in 0..100 {
        world.offer(0, near, Delivery::Ordered, 5000).unwrap();
    }
    let now = world.instant();
    world.nodes[0].endpoint.close(near, CloseCode::Normal, now);
    let refused = world.send(
        0,
        near,
        Header::message(0, 0, 0),
        b"late",
        Delivery::Ordered,
    );
    assert!(refused.is_err());
    world.until("both ends know", |world| {
        closed(world, 0, near).is_some() && closed(world, 1, far).is_some()
    });
    assert_eq!(world.nodes[1].lines[&far].ordered_next, 100);
    let code = CloseCode::Normal;
    assert_eq!(closed(&world, 0, near), Some(SessionEnd::Local(code)));
    assert_eq!(closed(&world, 1, far), Some(SessionEnd::Peer(code)));
}

/// Frames that are right in form more often than not, and packets that are none.
fn babble(random: &mut Random, cid: u64, number: u32) -> Vec<u8> {
    let any = |random: &mut Random| match random.below(4) {
        0 => random.below(4),
        1 => random.below(5000),
        2 => u64::from(u32::MAX) - random.below(3),
        _ => random.next(),
    };
    let mut frames = Vec::new();
    for _ in 0..random.below(12) {
        match random.below(14) {
            kind @ 0..=9 => {
                frames.extend_from_slice(&[kind as u8, 0]);
                frames.extend_from_slice(&(any(random) as u16).to_le_bytes());
                for _ in 0..random.below(3) {
                    frames.extend_from_slice(&any(random).to_le_bytes());
                }
            }
            10..=12 => {
                let body = vec![7; random.below(300) as usize];
                let mut frame = piece(
                    any(random) as u32,
                    any(random) as u32,
                    any(random) as u32,
                    &body,
                );
                frame[1] = random.below(4) as u8;
                frames.extend(frame);
            }
            _ => frames.extend_from_slice(&any(random).to_le_bytes()),
        }
    }
    let mut packet = head(
        [0x50, 0x50, 0x50, 0xC1, 0xC3, 0xC5, 0x58, 0x00][random.below(8) as usize],
        random.below(4) as u8,
        cid,
        number.wrapping_add(any(random) as u32 % 50),
    );
    if random.below(2) == 0 {
        packet.extend_from_slice(&(any(random) as u32).to_le_bytes());
        packet.extend_from_slice(&[0, 0, random.below(9) as u8, random.below(3) as u8]);
    }
    packet.extend(frames);
    sealed(packet)
}

#[test]
fn whatever_a_peer_says_costs_no_more_than_its_own_session() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (mut world, _, _, cid, number) = open(seed);
        let base = world.nodes[1].pools.budget().used();
        let other = world.add(config());
        let session = world.connect(other, 1);
        world.until("a second client is in", |world| {
            world.nodes[other].lines[&session].opened && world.nodes[1].lines.len() == 2
        });
        let (from, to) = (world.nodes[0].address, world.nodes[1].address);
        world.nodes[1].is_trusting = true;
        for _ in 0..40 {
            let packet = babble(&mut random, cid, number);
            world.inject(from, to, &packet);
            world.run(Duration::from_micros(random.below(2000)));
            let held = world.nodes[1].pools.budget().used() - base;
            // The credit, one message beyond it, and what each message takes at least, for three sessions.
            assert!(
                held <= 3 * ((64 << 10) + (1 << 20) + 64 * 8192),
                "seed {seed}: {held}"
            );
        }
        world.nodes[1].is_trusting = false;
        for _ in 0..3 {
            world.offer(other, session, Delivery::Ordered, 100).unwrap();
        }
        world.run(Duration::from_secs(1));
        assert_eq!(
            world.nodes[other].lines[&session].queued, 0,
            "seed {seed}: others go on"
        );
    }
}

#[test]
fn packets_from_elsewhere_move_no_session_without_a_proof_and_gain_little() {
    let (mut world, near, far, cid, _) = open(17);
    let (home, target) = (world.nodes[0].address, world.nodes[1].address);
    let elsewhere = |port: u16| SocketAddr::from(([10, 4, 4, 4], port));
    // Somebody on the way takes the client's packets and sends them from addresses of his choice.
    let (stolen, seen) = (Rc::new(RefCell::new(Vec::new())), Seen::default());
    let (loot, tape) = (Rc::clone(&stolen), Rc::clone(&seen));
    world.filter = Some(Box::new(move |to, packet| {
        if to == target {
            loot.borrow_mut().push(packet.to_vec());
        } else {
            tape.borrow_mut().push((to, packet.to_vec()));
        }
        to == target
    }));
    let mut total = 0;
    let mut resend = |world: &mut World, port: u16| {
        let packets: Vec<Vec<u8>> = stolen.borrow_mut().drain(..).collect();
        for packet in packets {
            total += packet.len();
            world.inject(elsewhere(port), target, &packet);
        }
        world.run(Duration::from_micros(1));
        total
    };
    let rounds = 60;
    for round in 0..rounds {
        world.offer(0, near, Delivery::Ordered, 10).unwrap();
        world.offer(1, far, Delivery::Ordered, 3000).unwrap();
        world.run(Duration::from_micros(50));
        // One address that insists, and many that come once.
        resend(&mut world, if round % 2 == 0 { 1 } else { 100 + round });
    }
    for _ in 0..100 {
        world.run(Duration::from_micros(50));
        resend(&mut world, 1);
    }
    let spent = resend(&mut world, 1);
    assert_eq!(world.nodes[1].endpoint.peer_address(far), Some(home));
    let got = |node: usize, session| world.nodes[node].lines[&session].ordered_next;
    let all = (u64::from(rounds), u64::from(rounds) + 1);
    assert_eq!((got(0, near), got(1, far)), all, "the session goes on");
    let gained: usize = {
        let seen = seen.borrow();
        let strangers = seen.iter().filter(|(to, _)| *to != home);
        strangers.map(|(_, bytes)| bytes.len()).sum()
    };
    // The world checks the factor for each address.
    assert!(gained > 0 && gained < spent, "{gained} bytes for {spent}");

    // What was asked of one address is no answer from another, and what was asked of nobody is none at all.
    let asked = |port: u16| -> Vec<u8> {
        let seen = seen.borrow();
        let mut sent = seen.iter().rev().filter(|(to, _)| *to == elsewhere(port));
        let packet = &sent.next().expect("he was asked").1;
        assert_eq!((packet.len(), packet[20]), (32, 4), "a challenge alone");
        packet[24..].to_vec()
    };
    world.offer(0, near, Delivery::Ordered, 10).unwrap();
    world.run(Duration::from_nanos(1));
    let number = number_of(stolen.borrow().last().unwrap());
    let packet = stolen.borrow_mut().pop().unwrap();
    world.inject(elsewhere(2), target, &packet);
    world.run(Duration::from_nanos(1));
    let response = |token: &[u8]| [&[5, 0, 0, 0], token].concat();
    let answers = [
        (vec![9; 8], home),
        (asked(1), home),
        (asked(2), elsewhere(2)),
    ];
    for ((token, at), number) in answers.iter().zip(number + 1..) {
        let packet = frames(cid, number, &response(token));
        world.inject(elsewhere(2), target, &packet);
        world.run(Duration::from_nanos(1));
        assert_eq!(world.nodes[1].endpoint.peer_address(far), Some(*at));
    }
}

#[test]
fn a_peer_that_lives_and_does_not_acknowledge_is_given_up_in_time() {
    let (mut world, near, _) = pair(PathConfig::default(), 18, &config());
    let seen = record(&mut world);
    world
        .offer(
            1,
            *world.nodes[1].lines.keys().next().unwrap(),
            Delivery::Ordered,
            10,
        )
        .unwrap();
    world.run(Duration::from_millis(5));
    let (home, peer) = (world.nodes[0].address, world.nodes[1].address);
    let (cid, number) = key(&seen, home);
    // What the client sends is lost; the server says something twice a second all the same.
    world.filter = Some(Box::new(move |to, _| to == peer));
    for _ in 0..200 {
        world.offer(0, near, Delivery::Ordered, 1000).unwrap();
    }
    let (began, carried) = (world.now, world.carried);
    for number in number + 1..number + 60 {
        world.inject(peer, home, &frames(cid, number, &[1, 0, 0, 0]));
        world.run(Duration::from_millis(500));
        if closed(&world, 0, near).is_some() {
            break;
        }
    }
    let gone = SessionEnd::Expired(Timeout::Keepalive);
    assert_eq!(closed(&world, 0, near), Some(gone));
    let took = Duration::from_nanos(world.now - began);
    assert!((20..=21).contains(&took.as_secs()), "{took:?}");
    let sent = world.carried - carried;
    assert!(sent < 250, "{sent} packets for nobody");
}

#[test]
fn sessions_beyond_the_limit_are_refused_on_both_sides() {
    let few = RudpConfig {
        sessions_max: 2,
        ..config()
    };
    let mut world = World::new(PathConfig::default(), 19);
    let (client, server) = (world.add(config()), world.add(few.clone()));
    let sessions: Vec<_> = (0..3).map(|_| world.connect(client, server)).collect();
    world.until("each has its answer", |world| {
        let lines = &world.nodes[client].lines;
        sessions
            .iter()
            .all(|it| lines[it].opened || lines[it].closed.is_some())
    });
    let refused: Vec<_> = sessions
        .iter()
        .filter_map(|it| closed(&world, client, *it))
        .collect();
    assert_eq!(refused, [SessionEnd::Refused(CloseCode::ResourceExhausted)]);
    // When one is gone there is room again.
    let now = world.instant();
    world.nodes[client]
        .endpoint
        .close(sessions[0], CloseCode::Normal, now);
    world.until("one ends", |world| {
        world.nodes[server].endpoint.sessions() == 1
    });
    let again = world.connect(client, server);
    world.until("it is in", |world| world.nodes[client].lines[&again].opened);
    let own = world.add(few);
    let (peer, now) = (world.nodes[server].address, world.instant());
    let endpoint = &mut world.nodes[own].endpoint;
    let begun: Vec<_> = (0..3)
        .map(|_| endpoint.connect(peer, now).is_ok())
        .collect();
    assert_eq!(begun, [true, true, false]);
}

#[test]
fn answers_to_strangers_are_few_whatever_they_send() {
    let mut world = World::new(PathConfig::default(), 20);
    let ask_all = RudpConfig {
        cookies_from: 0,
        ..config()
    };
    let server = world.add(ask_all);
    let target = world.nodes[server].address;
    let stranger = |number: u32| {
        let [_, b, c, d] = number.to_be_bytes();
        SocketAddr::from(([10, 1 + b, c, d], 9))
    };
    // All in one moment: what waits for the socket is bounded, and each turn of it counts against the burst.
    for number in 0..1000 {
        world.inject(stranger(number), target, &init(5, 6, (1, 1)));
    }
    world.run(Duration::from_nanos(1));
    assert_eq!(world.carried, 64, "the others were not answered");
    // In the long run as many as the rate allows, and the burst.
    for number in 0..40_000 {
        world.inject(stranger(number), target, &init(5, 6, (1, 1)));
        world.run(Duration::from_micros(10));
    }
    let seconds = (world.now - 1_000_000) as f64 / 1e9;
    let most = 256.0 + 10_000.0 * seconds;
    let answers = world.carried as f64;
    assert!(answers <= most && answers > most / 2.0, "{answers}, {most}");
}
