//! Descriptors run out, and none stay behind: scenarios that need a process of their own.
//!
//! The limit and the table of descriptors belong to all threads of a process, so this is one test, and
//! nothing runs beside it.

#![cfg(any(feature = "epoll", feature = "uring"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking; the scenarios are plain functions"
)]
#![expect(dead_code, reason = "the other scenarios are run by conformance.rs")]

mod scenarios;

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringway_driver::{Close, Driver, ListenOptions, SocketOptions};

use scenarios::{Make, World, pattern};

#[test]
fn every_driver_lives_with_exhausted_descriptors_and_leaves_none() {
    #[cfg(feature = "epoll")]
    exhaust(|pools| {
        let config = ringway_driver::epoll::EpollConfig::default();
        ringway_driver::epoll::Epoll::new(config, pools).unwrap()
    });
    #[cfg(feature = "uring")]
    exhaust(|pools| {
        let config = ringway_driver::uring::UringConfig::default();
        ringway_driver::uring::Uring::new(config, pools).unwrap()
    });
}

fn exhaust<D: Driver>(make: Make<D>) {
    a_dropped_driver_leaves_no_descriptors(make);
    accepting_recovers_when_descriptors_are_back(make);
    a_dropped_driver_leaves_no_descriptors(make);
}

/// Descriptors this process has open.
fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Descriptors are gone, a listener says so, is switched off, and serves who waited once there are some.
fn accepting_recovers_when_descriptors_are_back<D: Driver>(make: Make<D>) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Lowered before anything is under way: io_uring notes the limit when an accept is submitted.
    let few = u64::try_from(open_descriptors()).unwrap() + 32;
    setrlimit(Resource::RLIMIT_NOFILE, few, hard).unwrap();
    let mut world = World::new(make);
    let (listener, address) = world.listen("tcp://127.0.0.1:0");
    world.settle();
    let mut hoard: Vec<OwnedFd> = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file.into());
    }
    // One descriptor for the client; the far end has none.
    drop(hoard.pop());
    let client = TcpStream::connect(address.socket_addr().unwrap()).unwrap();
    world.until("the failure", |log| !log.accept_failed.is_empty());
    let (at, fault) = &world.log.accept_failed[0];
    assert_eq!(
        (*at, fault.error.raw_os_error()),
        (listener, Some(libc::EMFILE))
    );
    assert!(world.log.accepted.is_empty());
    drop(hoard.pop());
    let second = TcpStream::connect(address.socket_addr().unwrap()).unwrap();
    world.settle();
    assert_eq!(
        world.log.accept_failed.len(),
        1,
        "a listener that failed is switched off"
    );
    assert!(world.driver.stats().accept_errors > 0);
    // Switched on too early it fails again, and once.
    world.driver.read(listener, true);
    world.until("the second failure", |log| log.accept_failed.len() == 2);
    drop(hoard);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    world.driver.read(listener, true);
    world.until("who waited", |log| log.accepted.len() == 2);
    drop((client, second));
    assert!(!world.log.is_closed(listener));
}

/// Opening everything there is and dropping the driver leaves the process as it was.
fn a_dropped_driver_leaves_no_descriptors<D: Driver>(make: Make<D>) {
    let before = open_descriptors();
    {
        let mut world = World::new(make);
        let (client, server) = world.pair("tcp://127.0.0.1:0");
        let udp = "udp://127.0.0.1:0".parse().unwrap();
        world.driver.bind(&udp, &ListenOptions::default()).unwrap();
        let (_, address) = world.listen("tcp://[::1]:0");
        for _ in 0..20 {
            world
                .driver
                .connect(&address, &SocketOptions::default())
                .unwrap();
        }
        world.settle();
        world.log.accepted.truncate(5);
        world.send(client, &pattern(8 << 20, 1));
        world.driver.close(server, Close::Graceful);
        world.spin();
        assert!(open_descriptors() > before + 20);
    }
    assert_eq!(open_descriptors(), before);
}
