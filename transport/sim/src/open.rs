//! How a driver opens sockets: an id of its own first, then the network's side of it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use ringway_buf::{Id, Instant};
use ringway_driver::{
    Address, Capabilities, DriverKind, Fact, Incoming, ListenOptions, OpenError, SocketId,
    SocketOptions,
};

use crate::datagram::MailboxOptions;
use crate::driver::SimDriver;
use crate::errno::{EADDRINUSE, EBADF, ENFILE, error};
use crate::names::{any_like, source_of};
use crate::net::SimNet;
use crate::socket::{Closing, DatagramSocket, ListenSocket, Socket, StreamSocket};
use crate::stream::Owner;

impl SimDriver {
    pub(crate) fn open_listener(
        &mut self,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<SocketId, OpenError> {
        if address.is_datagram() {
            return Err(OpenError::Unsupported {
                what: "listening on udp; bind it instead",
            });
        }
        let open = |net: &SimNet, owner| net.net_mut().listen(owner, address, options);
        self.open("listen", address, open, |(listener, _)| {
            Socket::Listener(ListenSocket {
                listener,
                on: true,
                closing: Closing::No,
            })
        })
    }

    pub(crate) fn open_stream(
        &mut self,
        address: &Address,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        let open = |net: &SimNet, owner| {
            let mut net = net.net_mut();
            let local = match address {
                Address::Tcp(peer) => {
                    let asked = options.local.unwrap_or_else(|| any_like(*peer));
                    let asked = Address::Tcp(source_of(asked, *peer));
                    Some(net.names.with_port(&asked).ok_or(EADDRINUSE)?)
                }
                _ => None,
            };
            net.connect(owner, address, local).ok_or(ENFILE)
        };
        self.open("connect", address, open, |end| {
            Socket::Stream(Box::new(StreamSocket::new(end, false)))
        })
    }

    pub(crate) fn open_mailbox(
        &mut self,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<SocketId, OpenError> {
        let Address::Udp(local) = address else {
            return Err(OpenError::Unsupported {
                what: "binding a stream; listen on it instead",
            });
        };
        let mailbox = MailboxOptions {
            local: *local,
            peer: None,
            reuse_port: options.reuse_port,
            ecn: options.socket.ecn,
        };
        self.open_datagram("bind", address, mailbox)
    }

    pub(crate) fn open_connected_mailbox(
        &mut self,
        peer: SocketAddr,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        let mailbox = MailboxOptions {
            local: options
                .local
                .unwrap_or_else(|| source_of(any_like(peer), peer)),
            peer: Some(peer),
            reuse_port: false,
            ecn: options.ecn,
        };
        let socket = self.open_datagram("connect", &Address::Udp(peer), mailbox)?;
        // It is connected at once; the next poll says so.
        self.mark(socket.0);
        Ok(socket)
    }

    /// Makes an end that nobody owns this driver's own.
    pub(crate) fn take_over(&mut self, incoming: Incoming) -> Result<SocketId, OpenError> {
        let Incoming::Virtual(bits) = incoming else {
            return Err(OpenError::Unsupported {
                what: "descriptors in a simulated network",
            });
        };
        let end = Id::from_bits(bits);
        if self
            .net
            .net()
            .ends
            .get(end)
            .is_none_or(|end| end.owner.is_some())
        {
            let error = error(EBADF);
            return Err(OpenError::System {
                call: "adopt",
                address: None,
                error,
            });
        }
        let socket = Socket::Stream(Box::new(StreamSocket::new(end, true)));
        let max = self.sockets.max();
        let Ok(id) = self.sockets.insert(socket) else {
            self.net.discard(&Incoming::Virtual(bits));
            return Err(OpenError::TooMany { max });
        };
        let mut net = self.net.net_mut();
        if let Some(end) = net.ends.get_mut(end) {
            end.owner = Some((self.node, id));
        }
        // What happened before the adoption is news to the new owner.
        net.mark((self.node, id));
        Ok(SocketId(id))
    }

    fn open_datagram(
        &mut self,
        call: &'static str,
        address: &Address,
        options: MailboxOptions,
    ) -> Result<SocketId, OpenError> {
        let open = |net: &SimNet, owner| net.net_mut().open_mailbox(owner, options);
        self.open(call, address, open, |(mailbox, _)| {
            Socket::Datagram(Box::new(DatagramSocket {
                mailbox,
                queued: VecDeque::new(),
                in_flight: None,
                dirty: false,
                connecting: options.peer.is_some(),
                on: false,
                starved_until: Instant::ZERO,
                closing: Closing::No,
            }))
        })
    }

    /// Reserves an id, then opens the network's side; gives the id back when that fails.
    fn open<T>(
        &mut self,
        call: &'static str,
        address: &Address,
        open: impl FnOnce(&SimNet, Owner) -> Result<T, i32>,
        make: impl FnOnce(T) -> Socket,
    ) -> Result<SocketId, OpenError> {
        let vacant = Socket::Listener(ListenSocket {
            listener: Id::from_parts(u32::MAX, 0),
            on: false,
            closing: Closing::No,
        });
        let max = self.sockets.max();
        let id = self
            .sockets
            .insert(vacant)
            .map_err(|_full| OpenError::TooMany { max })?;
        match open(&self.net, (self.node, id)) {
            Ok(opened) => {
                if let Some(socket) = self.sockets.get_mut(id) {
                    *socket = make(opened);
                }
                Ok(SocketId(id))
            }
            Err(errno) => {
                self.sockets.remove(id);
                let address = Some(address.clone());
                Err(OpenError::System {
                    call,
                    address,
                    error: error(errno),
                })
            }
        }
    }
}

/// What a simulated host can do, and which run it belongs to.
pub(crate) fn capabilities(net: &SimNet) -> Capabilities {
    let fact = |name, why: String| Fact {
        name,
        used: true,
        why,
    };
    Capabilities {
        kind: DriverKind::Sim,
        facts: vec![
            fact(
                "virtual time",
                "moves only when every driver is idle".to_owned(),
            ),
            fact("seeded network", format!("seed {}", net.seed())),
        ],
        directed_recv: true,
        udp_gso: true,
        udp_gro: true,
    }
}
