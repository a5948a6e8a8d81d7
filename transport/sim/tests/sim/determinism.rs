//! Same seed, same run; and one concern never disturbs another.

use ringway_driver::{Close, Driver};
use ringway_sim::{Chance, Fault, NetConfig, SimNet};

use crate::host::{Pair, host, pattern, settle};

/// A run with a bit of everything; returns its hash.
fn run(config: &NetConfig, seed: u64) -> u64 {
    let net = SimNet::new(*config, seed);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (_, address) = server.listen("tcp://127.0.0.1:0");
    let (_, mailbox) = server.bind("udp://127.0.0.1:0");
    let (socket, _) = client.bind("udp://127.0.0.1:0");
    let near = client.connect(&address);
    for index in 0..20 {
        client.send(near, &pattern(index * 500 + 1));
        client.send_to(socket, Some(mailbox), &[&pattern(index * 50)]);
        settle(&net, &mut [&mut server, &mut client]);
    }
    if let Some(bits) = server.log.accepted().first() {
        server.adopt(*bits);
    }
    settle(&net, &mut [&mut server, &mut client]);
    client.driver.close(near, Close::Abort);
    settle(&net, &mut [&mut server, &mut client]);
    net.trace_hash()
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..100 {
        let config = NetConfig::swarm(seed);
        assert_eq!(config, NetConfig::swarm(seed));
        assert_eq!(
            run(&config, seed),
            run(&config, seed),
            "RINGWAY_SEED={seed}"
        );
    }
}

#[test]
fn other_seeds_give_other_runs() {
    let mut hashes: Vec<u64> = (0..100)
        .map(|seed| run(&NetConfig::swarm(seed), seed))
        .collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 100);
}

#[test]
fn the_content_of_messages_is_part_of_the_hash() {
    let hash = |bytes: &[u8]| {
        let mut pair = Pair::new(&NetConfig::perfect(), 1);
        pair.client.send(pair.near, bytes);
        pair.settle();
        pair.net.trace_hash()
    };
    assert_eq!(hash(b"same"), hash(b"same"));
    assert_ne!(hash(b"same"), hash(b"sane"));
}

#[test]
fn switching_one_fault_on_leaves_the_others_as_they_were() {
    let lost = |duplicate: Chance| {
        let mut config = NetConfig::perfect();
        config.faults.datagram.loss = Chance::percent(30);
        config.faults.datagram.corrupt = duplicate;
        config.faults.datagram.reorder = duplicate;
        config.faults.datagram.duplicate = duplicate;
        let net = SimNet::new(config, 3);
        let mut host = host(&net, "host");
        let (socket, address) = host.bind("udp://127.0.0.1:0");
        (0..300_u32)
            .map(|_| {
                let before = net.fault_counts().of(Fault::Loss);
                host.send_to(socket, Some(address), &[b"x"]);
                host.turn();
                net.fault_counts().of(Fault::Loss) > before
            })
            .collect::<Vec<bool>>()
    };
    assert_eq!(lost(Chance::NEVER), lost(Chance::percent(50)));
}
