//! How long repair takes, in virtual time.

mod world;

use std::time::Duration;

use ringway_proto::packet::Delivery;
use ringway_sim::Chance;
use world::World;

/// What a peer may wait with an acknowledgement is what a sender waits for a lost tail; 25 ms of it would be the usual.
#[test]
fn a_lost_tail_is_repaired_within_a_few_milliseconds() {
    let mut world = World::pair(1);
    let (server, client) = world.open();
    for (host, session) in [(1, client), (0, server)] {
        // Until both know their path, and what was agreed on about acknowledgements.
        for _ in 0..10 {
            world.send(host, session, 1, b"before", Delivery::Ordered);
            world.pass(Duration::from_millis(100));
        }
        let before = world.messages(1 - host).len();
        world.send(host, session, 1, b"lost", Delivery::Ordered);
        let begun = world.now;
        world.net.config.faults.loss = Chance::ALWAYS;
        world.pass(Duration::from_nanos(1));
        world.net.config.faults.loss = Chance::NEVER;
        let limit = Duration::from_secs(1);
        assert!(world.run(limit, |world| world.messages(1 - host).len() > before));
        let took = world.now - begun;
        assert!(took < Duration::from_millis(5), "{took:?}");
    }
}
