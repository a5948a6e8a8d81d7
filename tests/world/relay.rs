//! A relay for datagrams between two engines.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::net::{SocketAddr, UdpSocket};

/// Says of a datagram whether it is dropped.
pub type Drops = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// A relay in front of a server, on sockets of this machine: its socket for clients can vanish and come back, and
/// it drops what it is told to.
pub struct Relay {
    front: Option<UdpSocket>,
    pub address: SocketAddr,
    back: UdpSocket,
    client: Option<SocketAddr>,
    /// Says of each datagram of the client whether it is dropped.
    pub drops: Drops,
}

impl Relay {
    pub fn to(server: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").unwrap();
        back.connect(server).unwrap();
        front.set_nonblocking(true).unwrap();
        back.set_nonblocking(true).unwrap();
        Self {
            address: front.local_addr().unwrap(),
            front: Some(front),
            back,
            client: None,
            drops: Box::new(|_| false),
        }
    }

    pub fn carry(&mut self) {
        let mut room = [0; 65_536];
        if let Some(front) = &self.front {
            while let Ok((len, from)) = front.recv_from(&mut room) {
                self.client = Some(from);
                if !(self.drops)(&room[..len]) {
                    self.back.send(&room[..len]).ok();
                }
            }
        }
        while let Ok(len) = self.back.recv(&mut room) {
            if let (Some(front), Some(client)) = (&self.front, self.client) {
                front.send_to(&room[..len], client).ok();
            }
        }
    }

    /// The server sees the client at another address from now on.
    pub fn rebind(&mut self) {
        let back = UdpSocket::bind("127.0.0.1:0").unwrap();
        back.connect(self.back.peer_addr().unwrap()).unwrap();
        back.set_nonblocking(true).unwrap();
        self.back = back;
    }

    pub fn vanish(&mut self) {
        self.front = None;
    }

    pub fn come_back(&mut self) {
        let front = UdpSocket::bind(self.address).unwrap();
        front.set_nonblocking(true).unwrap();
        self.front = Some(front);
    }
}
