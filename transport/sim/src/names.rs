//! Who answers at which address. Addresses are global: all nodes share one loopback and one name space.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ringway_buf::Id;
use ringway_driver::Address;

/// First port that is given out when a program asks for port 0 (RFC 6335, section 6).
const EPHEMERAL_FIRST: u16 = 49_152;

/// Sockets by address. Only looked up, never walked, so the order of its hashing can't leak into a run.
#[derive(Debug)]
pub(crate) struct Names {
    entries: HashMap<Address, Vec<Id>>,
    next_port: u16,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            entries: HashMap::new(),
            next_port: EPHEMERAL_FIRST,
        }
    }

    /// Sockets bound to exactly this address.
    pub(crate) fn exactly(&self, address: &Address) -> &[Id] {
        self.entries.get(address).map_or(&[], Vec::as_slice)
    }

    /// Sockets that answer at this address: bound to it, or to its port on all addresses.
    pub(crate) fn answering(&self, address: &Address) -> &[Id] {
        let exact = self.exactly(address);
        if !exact.is_empty() {
            return exact;
        }
        let Some(target) = address.socket_addr() else {
            return exact;
        };
        if target.is_ipv4() {
            let any = self.exactly(&with_ip(address, IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
            if !any.is_empty() {
                return any;
            }
        }
        // `[::]` is dual-stack unless told otherwise, as on Linux.
        self.exactly(&with_ip(address, IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
    }

    pub(crate) fn insert(&mut self, address: &Address, id: Id) {
        match self.entries.get_mut(address) {
            Some(ids) => ids.push(id),
            None => drop(self.entries.insert(address.clone(), vec![id])),
        }
    }

    pub(crate) fn remove(&mut self, address: &Address, id: Id) {
        if let Some(ids) = self.entries.get_mut(address) {
            ids.retain(|entry| *entry != id);
            if ids.is_empty() {
                self.entries.remove(address);
            }
        }
    }

    /// The address with a free port in place of port 0; `None` when all ports are taken.
    pub(crate) fn with_port(&mut self, address: &Address) -> Option<Address> {
        if address
            .socket_addr()
            .is_none_or(|socket| socket.port() != 0)
        {
            return Some(address.clone());
        }
        for _ in EPHEMERAL_FIRST..=u16::MAX {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(EPHEMERAL_FIRST);
            let named = with_port(address, port);
            if self.answering(&named).is_empty() {
                return Some(named);
            }
        }
        None
    }
}

/// The address from which a socket bound to `local` reaches `target`.
pub(crate) fn source_of(local: SocketAddr, target: SocketAddr) -> SocketAddr {
    if !local.ip().is_unspecified() {
        return local;
    }
    let ip = match target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, local.port())
}

/// The wildcard address, port 0, of the family of `target`.
pub(crate) fn any_like(target: SocketAddr) -> SocketAddr {
    let ip = match target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}

fn with_ip(address: &Address, ip: IpAddr) -> Address {
    match address {
        Address::Tcp(socket) => Address::Tcp(SocketAddr::new(ip, socket.port())),
        Address::Udp(socket) => Address::Udp(SocketAddr::new(ip, socket.port())),
        other => other.clone(),
    }
}

fn with_port(address: &Address, port: u16) -> Address {
    match address {
        Address::Tcp(socket) => Address::Tcp(SocketAddr::new(socket.ip(), port)),
        Address::Udp(socket) => Address::Udp(SocketAddr::new(socket.ip(), port)),
        other => other.clone(),
    }
}
