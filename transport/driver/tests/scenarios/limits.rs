//! Limits that are reached: sockets, descriptors, memory.

use ringway_driver::{Close, Driver, OpenError, SocketOptions};

use super::{Appetite, Make, World, pattern};

/// Needs a driver that was made with room for exactly four sockets.
pub(crate) fn a_full_table_refuses_and_recovers<D: Driver>(make: Make<D>) {
    let mut world = World::new(make);
    let (_, address) = world.listen("tcp://127.0.0.1:0");
    let options = SocketOptions::default();
    let (client, server) = world.pair_with(&address, &options, &options);
    let (_, _) = world.listen("tcp://127.0.0.1:0");
    let full = world.driver.connect(&address, &options).unwrap_err();
    assert!(matches!(full, OpenError::TooMany { max: 4 }), "{full}");
    world.driver.close(client, Close::Abort);
    world.driver.close(server, Close::Abort);
    world.until("closed", |log| log.closed.len() == 2);
    world.pair_with(&address, &options, &options);
}

pub(crate) fn a_starved_socket_goes_on_when_memory_is_back<D: Driver>(make: Make<D>) {
    let mut world = World::with_budget(make, 4 << 20);
    let (client, server) = world.pair("tcp://127.0.0.1:0");
    world.log.appetite.insert(server, Appetite::Records(60_000));
    let bytes = pattern(60_000, 1);
    world.send(client, &bytes);
    // What is sent gives its lease back, which must not be there to receive into.
    world.driver.flush(&mut world.log);
    // Everything else of the budget is taken, down to the smallest class.
    let mut hoard = Vec::new();
    for size in [1 << 20, 64 * 1024, 16 * 1024, 4096] {
        while let Some(lease) = world.pools.lease(size) {
            hoard.push(lease);
        }
    }
    world.settle();
    assert_eq!(world.log.received_bytes(server), 0);
    assert!(world.driver.stats().starved > 0);
    drop(hoard);
    world.until("all bytes", |log| log.received_bytes(server) == bytes.len());
    assert!(world.take(server) == bytes);
}
