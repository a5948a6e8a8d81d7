//! What a steady dialogue costs on epoll: system calls, allocations and copies per message, counted.
//!
//! Both ends are driven alternately on one thread, so that the figures do not depend on timing.

#![cfg(feature = "epoll")]
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; its parts are plain functions"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;

use ringway_buf::{Chain, Pools, PoolsConfig, RecvBuffer, copies};
use ringway_driver::epoll::{Epoll, EpollConfig};
use ringway_driver::{
    AcceptFault, Address, Burst, Close, CloseCause, DatagramMeta, Driver, Incoming, ListenOptions,
    Park, SharedPools, Sink, SocketId, SocketOptions, Want,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Counts what arrives and keeps none of it.
#[derive(Default)]
struct Tally {
    accepted: Vec<Incoming>,
    bytes: usize,
    datagrams: usize,
    closed: usize,
}

impl Sink for Tally {
    fn connected(&mut self, _: SocketId) {}

    fn accepted(&mut self, _: SocketId, incoming: Incoming, _: Option<Address>) {
        self.accepted.push(incoming);
    }

    fn accept_failed(&mut self, _: SocketId, _: AcceptFault) {}

    fn received(&mut self, _: SocketId, buffer: &mut RecvBuffer) -> Want {
        self.bytes += buffer.len();
        buffer.consume(buffer.len());
        Want::More(1)
    }

    fn large(&mut self, _: SocketId, _: RecvBuffer) -> Want {
        Want::More(1)
    }

    fn datagrams(&mut self, _: SocketId, buffer: &mut RecvBuffer, _: DatagramMeta) {
        self.datagrams += 1;
        self.bytes += buffer.len();
        buffer.consume(buffer.len());
    }

    fn sent(&mut self, _: SocketId, _: usize) {}

    fn datagram_too_long(&mut self, _: SocketId, _: Option<SocketAddr>, _: usize, _: usize) {}

    fn ended(&mut self, _: SocketId) {}

    fn closed(&mut self, _: SocketId, _: CloseCause) {
        self.closed += 1;
    }
}

struct End {
    driver: Epoll,
    tally: Tally,
    pools: SharedPools,
    chain: Chain,
}

impl End {
    fn new() -> Self {
        let pools: SharedPools = Rc::new(Pools::new(PoolsConfig::default()));
        let driver = Epoll::new(EpollConfig::default(), Rc::clone(&pools)).unwrap();
        Self {
            driver,
            tally: Tally::default(),
            pools,
            chain: Chain::new(),
        }
    }

    fn send(&mut self, socket: SocketId) {
        let mut lease = self.pools.lease(64).unwrap();
        lease.append(64).unwrap().fill(7);
        self.chain.push_lease(lease);
        self.driver.send(socket, &mut self.chain);
        self.driver.flush(&mut self.tally);
    }

    fn send_to(&mut self, socket: SocketId) {
        let mut lease = self.pools.lease(64).unwrap();
        lease.append(64).unwrap().fill(7);
        self.driver.send_to(
            socket,
            Burst {
                lease,
                segment_bytes: 64,
                count: 1,
                peer: None,
                source: None,
                ecn: None,
            },
        );
        self.driver.flush(&mut self.tally);
    }

    fn hear(&mut self) {
        while self.tally.bytes < 64 {
            self.driver.poll(Park::No, &mut self.tally);
        }
        assert_eq!(self.tally.bytes, 64);
        self.tally.bytes = 0;
    }

    fn working(&self) -> u64 {
        self.driver.stats().working_syscalls()
    }

    fn empty(&self) -> u64 {
        self.driver.stats().empty_polls
    }
}

const WARM: u64 = 500;
const ROUNDS: u64 = 4_000;

/// Working and empty system calls, allocations and copies of `ROUNDS` round trips.
fn measure(near: &mut End, far: &mut End, round: impl Fn(&mut End, &mut End)) -> [u64; 4] {
    for _ in 0..WARM {
        round(near, far);
    }
    let figures = |near: &End, far: &End| {
        let working = near.working() + far.working();
        [
            working,
            near.empty() + far.empty(),
            ALLOCATIONS.get(),
            copies().count,
        ]
    };
    let before = figures(near, far);
    for _ in 0..ROUNDS {
        round(near, far);
    }
    let after = figures(near, far);
    [0, 1, 2, 3].map(|figure| after[figure] - before[figure])
}

#[test]
fn a_tcp_message_costs_one_send_and_one_receive() {
    let (mut near, mut far) = (End::new(), End::new());
    let tcp = "tcp://127.0.0.1:0".parse().unwrap();
    let listener = far.driver.listen(&tcp, &ListenOptions::default()).unwrap();
    let address = far.driver.local_address(listener).unwrap();
    let options = SocketOptions::default();
    let client = near.driver.connect(&address, &options).unwrap();
    while far.tally.accepted.is_empty() {
        near.driver.poll(Park::No, &mut near.tally);
        far.driver.poll(Park::No, &mut far.tally);
    }
    let incoming = far.tally.accepted.pop().unwrap();
    let server = far.driver.adopt(incoming, &options).unwrap();
    near.driver.read(client, true);
    far.driver.read(server, true);
    let [working, empty, allocations, copies] =
        measure(&mut near, &mut far, |near: &mut End, far: &mut End| {
            near.send(client);
            far.hear();
            far.send(server);
            near.hear();
        });
    assert_eq!((allocations, copies), (0, 0));
    // Two messages a round; every sixteenth poll asks epoll, which may find the message first.
    let bare = 2 * 2 * ROUNDS;
    assert!(
        working <= bare + bare / 16,
        "{working} calls, {bare} would be bare"
    );
    assert!(empty <= ROUNDS / 4, "{empty} calls found nothing");
}

#[test]
fn a_udp_message_costs_one_send_and_two_receives() {
    let (mut near, mut far) = (End::new(), End::new());
    let bound = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let (a, b) = (bound(), bound());
    a.connect(b.local_addr().unwrap()).unwrap();
    b.connect(a.local_addr().unwrap()).unwrap();
    let options = SocketOptions::default();
    let near_socket = near.driver.adopt(Incoming::Fd(a.into()), &options).unwrap();
    let far_socket = far.driver.adopt(Incoming::Fd(b.into()), &options).unwrap();
    near.driver.read(near_socket, true);
    far.driver.read(far_socket, true);
    let [working, empty, allocations, copies] =
        measure(&mut near, &mut far, |near: &mut End, far: &mut End| {
            near.send_to(near_socket);
            far.hear();
            far.send_to(far_socket);
            near.hear();
        });
    assert_eq!((allocations, copies), (0, 0));
    let bare = 2 * 2 * ROUNDS;
    assert!(
        working <= bare + bare / 16,
        "{working} calls, {bare} would be bare"
    );
    // The second receive hears that the socket is empty; it comes after the answer has left.
    assert!(
        empty <= 2 * ROUNDS + ROUNDS / 2,
        "{empty} calls found nothing"
    );
}

#[test]
fn a_close_that_is_due_is_reported_before_a_sleep() {
    let mut end = End::new();
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = end
        .driver
        .adopt(Incoming::Fd(near.into()), &SocketOptions::default())
        .unwrap();
    // The peer's end is known, but nobody has read it when the close begins.
    drop(far);
    end.driver.poll(Park::No, &mut end.tally);
    end.driver.close(socket, Close::Graceful);
    end.driver.flush(&mut end.tally);
    // Would never return if it slept first.
    end.driver.poll(Park::Until(None), &mut end.tally);
    assert_eq!((end.tally.closed, end.driver.stats().parks), (1, 0));
}
