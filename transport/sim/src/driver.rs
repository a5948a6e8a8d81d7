//! The driver of one simulated host: commands in, events out, time from the network.

use std::fmt;
use std::mem;
use std::task::Waker;
use std::time::Duration;

use ringway_buf::{Chain, Id, Instant, Table};
use ringway_driver::{
    Address, Burst, Capabilities, Close, Driver, DriverStats, Incoming, ListenOptions, OpenError,
    Park, Scratch, SharedPools, Sink, SocketId, SocketOptions,
};

use crate::open::capabilities;
use crate::socket::{Closing, Hands, Resume, Socket, Turn, delayed};
use crate::{Fault, SimNet};

/// Most sockets of one host.
const SOCKETS_MAX: usize = 64 * 1024;
/// Sockets that one poll looks at; the others wait for the next.
const POLL_SOCKETS_MAX: usize = 256;

/// A [`Driver`] on a [`SimNet`]: one host with its sockets.
///
/// `poll` never sleeps: told to park, it notes the deadline for [`SimNet::advance`] and returns. Dropping the
/// driver is what the end of a process is to a host: its connections are reset, its names are free.
pub struct SimDriver {
    pub(crate) net: SimNet,
    pub(crate) node: u32,
    pools: SharedPools,
    pub(crate) sockets: Table<Socket>,
    scratch: Scratch,
    /// Sockets with something to flush.
    dirty: Vec<Id>,
    /// Sockets that found no memory; looked at again in each poll.
    starved: Vec<Id>,
    /// Sockets that a poll looks at; empty in between, kept for its memory.
    ready: Vec<Id>,
    stats: DriverStats,
    capabilities: Capabilities,
}

impl SimDriver {
    pub(crate) fn new(net: SimNet, node: u32, pools: SharedPools) -> Self {
        let capabilities = capabilities(&net);
        Self {
            net,
            node,
            pools,
            sockets: Table::new(SOCKETS_MAX),
            scratch: Scratch::new(),
            dirty: Vec::new(),
            starved: Vec::new(),
            ready: Vec::new(),
            stats: DriverStats::default(),
            capabilities,
        }
    }

    /// The network this host is part of.
    #[must_use]
    pub fn net(&self) -> &SimNet {
        &self.net
    }

    /// Sockets that have not been closed.
    #[must_use]
    pub fn socket_count(&self) -> usize {
        self.sockets.len()
    }

    pub(crate) fn mark(&self, socket: Id) {
        self.net.net_mut().mark((self.node, socket));
    }

    /// The sockets, and apart from them what they work with.
    fn parts(&mut self) -> (&mut Table<Socket>, Hands<'_>) {
        let hands = Hands {
            net: &self.net,
            node: self.node,
            pools: &self.pools,
            scratch: &mut self.scratch,
            stats: &mut self.stats,
        };
        (&mut self.sockets, hands)
    }

    /// One socket's turn; returns how many events it reported.
    fn turn<S: Sink>(&mut self, id: Id, sink: &mut S) -> u32 {
        let (sockets, mut hands) = self.parts();
        let Some(socket) = sockets.get_mut(id) else {
            return 0;
        };
        let turn = match socket {
            Socket::Listener(listener) => listener.turn(id, &mut hands, sink),
            Socket::Stream(stream) => stream.turn(id, &mut hands, sink),
            Socket::Datagram(datagram) => datagram.turn(id, &mut hands, sink),
        };
        self.conclude(id, turn, sink)
    }

    /// Draws the consequences of a socket's turn.
    fn conclude<S: Sink>(&mut self, id: Id, turn: Turn, sink: &mut S) -> u32 {
        if let Some(cause) = turn.closed {
            if let Some(socket) = self.sockets.remove(id) {
                // An end that is over on both sides leaves without a word; any other is reset.
                release(&self.net, &socket);
            }
            sink.closed(SocketId(id), cause);
            return turn.events + 1;
        }
        if turn.starved {
            self.starved.push(id);
        }
        if turn.more {
            self.mark(id);
        }
        turn.events
    }
}

impl Driver for SimDriver {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn stats(&self) -> &DriverStats {
        &self.stats
    }

    fn now(&self) -> Instant {
        self.net.now()
    }

    fn waker(&self) -> Waker {
        self.net.net().nodes[self.node as usize].waker()
    }

    fn listen(
        &mut self,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<SocketId, OpenError> {
        self.open_listener(address, options)
    }

    fn connect(
        &mut self,
        address: &Address,
        options: &SocketOptions,
    ) -> Result<SocketId, OpenError> {
        match address {
            Address::Udp(peer) => self.open_connected_mailbox(*peer, options),
            _ => self.open_stream(address, options),
        }
    }

    fn bind(&mut self, address: &Address, options: &ListenOptions) -> Result<SocketId, OpenError> {
        self.open_mailbox(address, options)
    }

    fn adopt(&mut self, incoming: Incoming, _: &SocketOptions) -> Result<SocketId, OpenError> {
        self.take_over(incoming)
    }

    fn local_address(&self, socket: SocketId) -> Option<Address> {
        let net = self.net.net();
        match self.sockets.get(socket.0)? {
            Socket::Listener(socket) => net
                .listeners
                .get(socket.listener)
                .map(|listener| listener.address.clone()),
            Socket::Stream(socket) => net.ends.get(socket.end)?.local.clone(),
            Socket::Datagram(socket) => net
                .mailboxes
                .get(socket.mailbox)
                .map(|mailbox| Address::Udp(mailbox.local)),
        }
    }

    fn peer_address(&self, socket: SocketId) -> Option<Address> {
        let net = self.net.net();
        match self.sockets.get(socket.0)? {
            Socket::Listener(_) => None,
            Socket::Stream(socket) if socket.connected => net.ends.get(socket.end)?.remote.clone(),
            Socket::Stream(_) => None,
            Socket::Datagram(socket) => net.mailboxes.get(socket.mailbox)?.peer.map(Address::Udp),
        }
    }

    fn datagram_bytes_max(&self, socket: SocketId) -> Option<usize> {
        let net = self.net.net();
        match self.sockets.get(socket.0)? {
            Socket::Datagram(socket) if net.mailboxes.get(socket.mailbox)?.peer.is_some() => {
                Some(net.config.datagram.mtu_bytes as usize)
            }
            _ => None,
        }
    }

    fn read(&mut self, socket: SocketId, on: bool) {
        let Some(found) = self.sockets.get_mut(socket.0) else {
            return;
        };
        match found {
            Socket::Listener(listener) => listener.on = on,
            Socket::Stream(stream) => {
                stream.on = on;
                if on && stream.resume == Resume::AtRead {
                    stream.resume = Resume::Now;
                }
            }
            Socket::Datagram(datagram) => datagram.on = on,
        }
        if on {
            self.mark(socket.0);
        }
    }

    fn send(&mut self, socket: SocketId, chain: &mut Chain) {
        if let Some(Socket::Stream(stream)) = self.sockets.get_mut(socket.0) {
            stream.queue(chain);
            if !mem::replace(&mut stream.dirty, true) {
                self.dirty.push(socket.0);
            }
        }
    }

    fn send_to(&mut self, socket: SocketId, burst: Burst) {
        if let Some(Socket::Datagram(datagram)) = self.sockets.get_mut(socket.0) {
            datagram.queue(burst);
            if !mem::replace(&mut datagram.dirty, true) {
                self.dirty.push(socket.0);
            }
        }
    }

    fn close(&mut self, socket: SocketId, how: Close) {
        let id = socket.0;
        let Some(found) = self.sockets.get_mut(id) else {
            return;
        };
        let closing = match found {
            Socket::Listener(listener) => &mut listener.closing,
            Socket::Stream(stream) => &mut stream.closing,
            Socket::Datagram(datagram) => &mut datagram.closing,
        };
        // Graceful may turn into abort, never back; asking twice changes nothing.
        if matches!(closing, Closing::Asked(Close::Abort, _))
            || (closing.is_asked() && how == Close::Graceful)
        {
            return;
        }
        let late = delayed(&self.net, self.node, id, Fault::Late);
        *closing = Closing::Asked(how, late.unwrap_or(Instant::ZERO));
        match found {
            Socket::Listener(listener) => self.net.net_mut().unlisten(listener.listener),
            Socket::Stream(stream) if how == Close::Abort => {
                stream.queued.clear();
                stream.in_flight = None;
            }
            Socket::Datagram(datagram) if how == Close::Abort => datagram.queued.clear(),
            Socket::Stream(_) | Socket::Datagram(_) => {}
        }
        self.mark(id);
    }

    fn flush<S: Sink>(&mut self, sink: &mut S) {
        let mut dirty = mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let mut turn = Turn::default();
            let (sockets, mut hands) = self.parts();
            match sockets.get_mut(id) {
                Some(Socket::Stream(stream)) => {
                    stream.dirty = false;
                    stream.send(id, &mut hands, sink, &mut turn);
                }
                Some(Socket::Datagram(datagram)) => {
                    datagram.dirty = false;
                    datagram.send(id, &mut hands, sink, &mut turn);
                }
                Some(Socket::Listener(_)) | None => {}
            }
            self.conclude(id, turn, sink);
        }
        self.dirty = dirty;
    }

    fn poll<S: Sink>(&mut self, park: Park, sink: &mut S) -> u32 {
        let mut events = 0;
        let mut ready = mem::take(&mut self.ready);
        let slept = {
            let mut net = self.net.net_mut();
            let slept = net.clock.now();
            let node = &mut net.nodes[self.node as usize];
            events += u32::from(node.bell.silence());
            for id in self.starved.drain(..) {
                node.mark(id);
            }
            node.take_ready(&mut ready, POLL_SOCKETS_MAX);
            node.unpark().then_some(slept)
        };
        if let Some(now) = slept {
            sink.woke(now);
        }
        for id in ready.drain(..) {
            events += self.turn(id, sink);
        }
        self.ready = ready;
        if events == 0 {
            self.stats.empty_polls += 1;
            if let Park::Until(deadline) = park {
                self.stats.parks += 1;
                self.net.net_mut().nodes[self.node as usize].park(deadline);
            }
        }
        events
    }

    fn shutdown(&mut self, _limit: Duration) -> bool {
        for id in self.sockets.ids() {
            if let Some(socket) = self.sockets.remove(id) {
                release(&self.net, &socket);
            }
        }
        self.dirty = Vec::new();
        self.starved = Vec::new();
        self.ready = Vec::new();
        self.scratch = Scratch::new();
        self.net.net_mut().nodes[self.node as usize].retire();
        true
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

impl fmt::Debug for SimDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDriver")
            .field("node", &self.node)
            .field("sockets", &self.sockets.len())
            .finish_non_exhaustive()
    }
}

/// Gives the network's side of a socket up.
fn release(net: &SimNet, socket: &Socket) {
    let mut net = net.net_mut();
    match socket {
        Socket::Listener(listener) => net.unlisten(listener.listener),
        Socket::Stream(stream) => {
            let over = net.view(stream.end).is_some_and(|view| view.over);
            net.release(stream.end, !(stream.finished && over));
        }
        Socket::Datagram(datagram) => net.close_mailbox(datagram.mailbox),
    }
}
