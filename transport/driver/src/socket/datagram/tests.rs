//! The fallback of sending, and the buffers of receiving, on sockets of this process.

use std::net::UdpSocket;
use std::os::fd::AsFd;

use ringway_buf::PoolsConfig;

use super::*;
use crate::socket::udp;

fn pair() -> (UdpSocket, UdpSocket) {
    let (near, far) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    near.connect(far.local_addr().unwrap()).unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    for socket in [&near, &far] {
        socket.set_nonblocking(true).unwrap();
        udp::prepare(socket.as_fd(), false, true).unwrap();
    }
    (near, far)
}

fn burst(pools: &Pools, count: u32) -> Burst {
    let mut lease = pools.lease(100 * count as usize).unwrap();
    for (number, bytes) in (0..).zip(lease.append(100 * count as usize).unwrap().chunks_mut(100)) {
        bytes.fill(number);
    }
    Burst {
        lease,
        segment_bytes: 100,
        count,
        peer: None,
        source: None,
        ecn: None,
    }
}

#[test]
fn a_device_without_gso_is_served_by_batches_and_remembered() {
    let (pools, mut stats) = (Pools::new(PoolsConfig::default()), DriverStats::default());
    let (near, far) = pair();
    // The kernel refuses to split what it may not checksum.
    sys::set_option(near.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    let mut batch = SendBatch::new(udp::probe_gso());
    let burst = burst(&pools, 20);
    assert!(matches!(
        batch.send(near.as_fd(), &burst, 0, &mut stats),
        Left::Datagrams(20)
    ));
    assert!(!batch.gso());
    let calls = stats.syscalls;
    assert!(matches!(
        batch.send(near.as_fd(), &burst, 5, &mut stats),
        Left::Datagrams(15)
    ));
    assert_eq!(stats.syscalls - calls, 1, "it is not tried again");
    let mut room = [0; 200];
    for number in (0..20).chain(5..20) {
        assert_eq!(far.recv(&mut room).unwrap(), 100);
        assert!(room[..100].iter().all(|byte| *byte == number));
    }
}

#[test]
fn a_burst_that_is_too_long_does_not_cost_gso() {
    let (pools, mut stats) = (Pools::new(PoolsConfig::default()), DriverStats::default());
    let (near, _far) = pair();
    let mut lease = pools.lease(140_000).unwrap();
    lease.append(140_000).unwrap().fill(1);
    let burst = Burst {
        lease,
        segment_bytes: 70_000,
        count: 2,
        peer: None,
        source: None,
        ecn: None,
    };
    let mut batch = SendBatch::new(true);
    assert!(matches!(
        batch.send(near.as_fd(), &burst, 0, &mut stats),
        Left::TooLong
    ));
    assert!(batch.gso());
}

#[test]
fn bytes_that_a_user_keeps_are_not_overwritten() {
    let (pools, mut stats) = (Pools::new(PoolsConfig::default()), DriverStats::default());
    let (near, far) = pair();
    let mut batch = RecvBatch::new();
    let mut kept = Vec::new();
    for count in [1, BATCH_MAX, BATCH_MAX] {
        for number in 0..count {
            near.send(&[u8::try_from(kept.len() + number).unwrap(); 33])
                .unwrap();
        }
        let received = batch.recv(far.as_fd(), count, true, &pools, &mut stats);
        assert!(matches!(received, Received::Slots(filled) if filled == count));
        for slot in 0..count {
            let peer = Some(near.local_addr().unwrap());
            let (buffer, meta) = batch.filled(slot, peer, &mut stats).unwrap();
            assert_eq!((buffer.len(), meta.segment_bytes), (33, 33));
            kept.push(buffer.share(0..33).unwrap());
            buffer.consume(33);
        }
    }
    for (number, slice) in (0..).zip(&kept) {
        assert!(slice.bytes().iter().all(|byte| *byte == number));
    }
    let received = batch.recv(far.as_fd(), BATCH_MAX, true, &pools, &mut stats);
    assert!(matches!(received, Received::WouldBlock));
    assert_eq!(
        (stats.syscalls, stats.empty_polls, stats.datagrams_in),
        (4, 1, 17)
    );
}
