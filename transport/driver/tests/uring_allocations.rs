//! The steady state allocates nothing and copies no payload, on every way through the driver.
//!
//! Both ends are turned alternately on one thread; allocations are counted on that thread.

#![cfg(feature = "uring")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod uring_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use ringway_buf::copies;
use ringway_driver::uring::KernelRing;
use ringway_driver::{Burst, Chain, Driver, ListenOptions, Park, SocketId, SocketOptions};
use uring_support::{LARGE_BYTES, Node, Taste, pair, run};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // Threads that are being torn down have no counter left.
    let _gone = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: passed on.
        unsafe { System.realloc(old, layout, bytes) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A node whose sending needs no allocation of the test's own.
struct Sender {
    node: Node,
    chain: Chain,
}

impl Sender {
    fn new() -> Self {
        Self {
            node: Node::new(Taste::Counts),
            chain: Chain::new(),
        }
    }

    fn send(&mut self, id: SocketId, len: usize) {
        let mut lease = self.node.pools.lease(len).unwrap();
        lease.append(len).unwrap();
        self.chain.push_lease(lease);
        self.node.driver.send(id, &mut self.chain);
    }

    fn turn(&mut self, park: bool) {
        self.node.flush();
        let park = if park {
            Park::Until(Some(self.node.driver.now() + Duration::from_micros(10)))
        } else {
            Park::No
        };
        self.node.driver.poll(park, &mut self.node.sink);
    }
}

/// Runs `round` until warm, then counts what many more of them allocate and copy.
fn assert_steady(name: &str, mut round: impl FnMut()) {
    for _ in 0..500 {
        round();
    }
    let (allocations, copied) = (ALLOCATIONS.get(), copies());
    for _ in 0..500 {
        round();
    }
    assert_eq!(ALLOCATIONS.get() - allocations, 0, "{name}: allocations");
    assert_eq!(copies().count - copied.count, 0, "{name}: copies");
}

fn connected(count: usize, address: &str) -> (Sender, Sender, Vec<(SocketId, SocketId)>) {
    let (mut a, mut b) = (Sender::new(), Sender::new());
    let pairs: Vec<_> = (0..count)
        .map(|_| pair(&mut a.node, &mut b.node, address))
        .collect();
    for (near, far) in &pairs {
        a.node.sink.log(*near);
        b.node.sink.log(*far);
    }
    (a, b, pairs)
}

fn echo_round(count: usize, park: bool, len: usize) -> impl FnMut() {
    let (mut a, mut b, pairs) = connected(count, "tcp://127.0.0.1:0");
    move || {
        for (near, far) in &pairs {
            let (up, down) = (b.node.sink.of(*far).count, a.node.sink.of(*near).count);
            a.send(*near, len);
            b.send(*far, len);
            assert!(up == down);
        }
        let goal = a.node.sink.of(pairs[0].0).count + len;
        while !pairs.iter().all(|(near, far)| {
            a.node.sink.of(*near).count == goal && b.node.sink.of(*far).count == goal
        }) {
            a.turn(park);
            b.turn(park);
        }
    }
}

#[test]
fn a_hot_connection_allocates_nothing() {
    assert_steady("hot", echo_round(1, false, 64));
}

#[test]
fn a_parking_connection_allocates_nothing() {
    assert_steady("parking", echo_round(1, true, 64));
}

#[test]
fn many_connections_by_the_ring_allocate_nothing() {
    assert_steady("ring", echo_round(32, false, 64));
    assert_steady("ring, parking", echo_round(32, true, 4000));
}

#[test]
fn sends_that_wait_for_room_allocate_nothing() {
    // More than a socket buffer takes at once: the rest becomes an operation.
    let (mut a, mut b, pairs) = connected(1, "unix://@ringway-uring-allocations");
    let (near, far) = pairs[0];
    assert_steady("blocked sends", move || {
        let goal = b.node.sink.of(far).count + 20 * 60_000;
        for _ in 0..20 {
            a.send(near, 60_000);
        }
        while b.node.sink.of(far).count < goal {
            a.turn(false);
            b.turn(false);
        }
    });
}

#[test]
fn large_messages_are_received_in_place() {
    const LEN: usize = 1 << 20;
    const { assert!(LEN >= LARGE_BYTES) };
    for park in [false, true] {
        let (mut a, mut b) = (Sender::new(), Sender::new());
        b.node.sink.taste = Taste::LargeFrames;
        let (near, far) = pair(&mut a.node, &mut b.node, "tcp://127.0.0.1:0");
        b.node.sink.log(far);
        let mut round = || {
            let goal = b.node.sink.of(far).larges + 1;
            let mut head = a.node.pools.lease(4).unwrap();
            let len = u32::try_from(LEN).unwrap();
            head.append(4).unwrap().copy_from_slice(&len.to_le_bytes());
            a.chain.push_lease(head);
            a.send(near, LEN);
            while b.node.sink.of(far).larges < goal {
                a.turn(park);
                b.turn(park);
            }
        };
        for _ in 0..40 {
            round();
        }
        let (allocations, before) = (ALLOCATIONS.get(), copies());
        for _ in 0..40 {
            round();
        }
        assert_eq!(ALLOCATIONS.get() - allocations, 0, "park {park}");
        // What arrives together with a header is copied: 4 KiB at most.
        let copied = (copies().bytes - before.bytes) / 40;
        assert!(
            copied <= 16 * 1024,
            "park {park}: {copied} bytes copied per message of 1 MiB"
        );
    }
}

#[test]
fn datagrams_allocate_nothing() {
    let (mut a, mut b) = (Sender::new(), Sender::new());
    let address = "udp://127.0.0.1:0".parse().unwrap();
    let far = b
        .node
        .driver
        .bind(&address, &ListenOptions::default())
        .unwrap();
    b.node.driver.read(far, true);
    let address = b.node.driver.local_address(far).unwrap();
    let near = a
        .node
        .driver
        .connect(&address, &SocketOptions::default())
        .unwrap();
    a.node.driver.read(near, true);
    run(&mut a.node, &mut b.node, |a: &mut Node<KernelRing>, _| {
        a.sink.logs.contains_key(&near)
    });
    b.node.sink.log(far);
    let peer = a
        .node
        .driver
        .local_address(near)
        .and_then(|local| local.socket_addr());
    for (park, count) in [(false, 1), (true, 1), (false, 30), (true, 30)] {
        assert_steady("datagrams", || {
            let goal = [a.node.sink.of(near).count, b.node.sink.of(far).count]
                .map(|bytes| bytes + 100 * count as usize);
            for (end, socket, peer) in [(&mut a, near, None), (&mut b, far, peer)] {
                let len = 100 * count as usize;
                let mut lease = end.node.pools.lease(len).unwrap();
                lease.append(len).unwrap();
                end.node.driver.send_to(
                    socket,
                    Burst {
                        lease,
                        segment_bytes: 100,
                        count,
                        peer,
                        source: None,
                        ecn: None,
                    },
                );
            }
            while a.node.sink.of(near).count < goal[0] || b.node.sink.of(far).count < goal[1] {
                a.turn(park);
                b.turn(park);
            }
        });
    }
}
