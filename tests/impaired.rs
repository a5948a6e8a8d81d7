//! Real sockets behind a bad network: what every transport promises holds there too.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod world;

use ringway_engine::sim::Fault;
use world::{App, Pair, World};

over_a_bad_network![
    every_size_comes_back_in_order,
    a_bad_network_does_what_it_says,
];

fn every_size_comes_back_in_order(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app = App::echo();
    let (client, _) = pair.connected("tcp");
    let small = (0..200).map(|number| number * 7);
    let large = [16 << 10, 64 << 10, 300_000, 2 << 20];
    let sizes: Vec<usize> = small.chain(large).collect();
    pair.assert_echoed(client, &sizes);
}

/// So that a network which does nothing can't pass for one that is survived.
fn a_bad_network_does_what_it_says(world: World) {
    let mut pair = Pair::new(world);
    let (client, server) = pair.connected("tcp");
    for number in 0..1_000_u32 {
        pair.client.send(client, &number.to_le_bytes()).unwrap();
        let before = pair.server.app.got.len();
        pair.until("it arrives", |pair| pair.server.app.got.len() > before);
        assert_eq!(pair.server.app.got[before].connection, server);
        assert_eq!(pair.server.app.got[before].body, number.to_le_bytes());
    }
    let [client, server] =
        [&pair.client, &pair.server].map(|host| host.engine.fault_counts().unwrap());
    let moves = client.of(Fault::Rebind) > 0;
    for fault in [Fault::Duplicate, Fault::Reorder] {
        let both = client.of(fault) > 0 && server.of(fault) > 0;
        assert_eq!(both, !world::is_over("tcp"), "{fault:?}");
    }
    for fault in [Fault::Loss, Fault::Corrupt] {
        let both = client.of(fault) > 0 && server.of(fault) > 0;
        assert_eq!(both, !moves && !world::is_over("tcp"), "{fault:?}");
    }
}
