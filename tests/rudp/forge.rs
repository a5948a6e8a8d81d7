//! Packets written by hand, by the tables of `docs/wire/rudp.md`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use ringway_buf::crc32c;

use crate::world::World;

/// A packet's bytes with their sum in place.
pub fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[4..8].fill(0);
    let sum = crc32c(0, &bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

pub fn head(first: u8, flags: u8, cid: u64, number: u32) -> Vec<u8> {
    let mut bytes = vec![first, flags, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&cid.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}

/// A packet with frames.
pub fn frames(cid: u64, number: u32, frames: &[u8]) -> Vec<u8> {
    let mut bytes = head(0x50, 0, cid, number);
    bytes.extend_from_slice(frames);
    sealed(bytes)
}

/// A packet with an acknowledgement of one packet.
pub fn ack(cid: u64, number: u32, largest: u32) -> Vec<u8> {
    let mut bytes = head(0x50, 1, cid, number);
    bytes.extend_from_slice(&largest.to_le_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0]);
    sealed(bytes)
}

/// A piece of an ordered message.
pub fn piece(id: u32, total: u32, offset: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x41, 0, 0x40, 9];
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&[0; 10]);
    bytes.extend_from_slice(&(body.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&total.to_le_bytes());
    bytes.extend_from_slice(&offset.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An INIT of somebody who calls himself `cid`.
pub fn init(cid: u64, nonce: u64, versions: (u16, u16)) -> Vec<u8> {
    let mut bytes = head(0xC1, 0, 0, 0);
    bytes.extend_from_slice(&0x5044_5572_u32.to_le_bytes());
    bytes.extend_from_slice(&versions.0.to_le_bytes());
    bytes.extend_from_slice(&versions.1.to_le_bytes());
    for wide in [cid, nonce, 7, 0, 0] {
        bytes.extend_from_slice(&wide.to_le_bytes());
    }
    for short in [1_u32 << 20, 1 << 20, 1024, 1472, 25, 0, 5000, 0] {
        bytes.extend_from_slice(&short.to_le_bytes());
    }
    bytes.resize(1200, 0);
    sealed(bytes)
}

/// Connection ids and numbers of the last packet to each address.
pub type Seen = Rc<RefCell<Vec<(SocketAddr, Vec<u8>)>>>;

/// Records every packet that is sent from now on; none is dropped.
pub fn record(world: &mut World) -> Seen {
    let seen = Seen::default();
    let tape = Rc::clone(&seen);
    world.filter = Some(Box::new(move |to, packet| {
        tape.borrow_mut().push((to, packet.to_vec()));
        false
    }));
    seen
}

pub fn cid_of(packet: &[u8]) -> u64 {
    u64::from_le_bytes(packet[8..16].try_into().unwrap())
}

pub fn number_of(packet: &[u8]) -> u32 {
    u32::from_le_bytes(packet[16..20].try_into().unwrap())
}

/// The connection id under which a node is addressed, and the largest number used.
pub fn key(seen: &Seen, to: SocketAddr) -> (u64, u32) {
    let seen = seen.borrow();
    let last = seen
        .iter()
        .rfind(|(at, bytes)| *at == to && bytes[0] == 0x50)
        .expect("a packet went there");
    (cid_of(&last.1), number_of(&last.1))
}
