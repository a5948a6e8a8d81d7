//! The baseline's server.

use std::net::UdpSocket;
use std::time::Instant;

use ringway::Address;

use super::super::baseline::Baseline;
use super::super::contestant::Server;
use super::super::load::Tally;
use super::super::plan::{Plan, Policy};
use super::super::usage::Counts;
use super::frame::{Framing, Inbox, Outbox};
use super::link::{Datagram, Manner, Stream};
use super::many::Many;
use super::open::{self, Listening};
use super::single::Single;
use super::{counts, failed};
use crate::failure::Failure;

/// What was built for the plan's shape.
#[derive(Debug)]
enum Shape {
    /// Nobody has connected yet.
    Nobody,
    Stream(Single<Stream>),
    Datagram(Single<Datagram>),
    Streams(Many<Stream>),
    /// One idle datagram socket, watched by epoll.
    Watched(Many<Datagram>),
}

/// A hand-written server of one shape.
#[derive(Debug)]
pub(crate) struct RawServer {
    plan: Plan,
    baseline: Baseline,
    framing: Framing,
    /// Of its messages, so many make one of the plan's.
    pieces: u64,
    listening: Listening,
    shape: Shape,
    tally: Tally,
}

impl RawServer {
    /// Opens a listener, or binds a datagram socket.
    pub(crate) fn listen(plan: Plan, baseline: Baseline) -> Result<Self, Failure> {
        let name = format!("ringway-raw-{}", std::process::id());
        let listening = Listening::open(&plan, baseline, &name)?;
        let framing = Framing::new(&plan, baseline);
        let (plan, pieces) = plan.in_pieces(baseline);
        Ok(Self {
            plan,
            baseline,
            framing,
            pieces,
            listening,
            shape: Shape::Nobody,
            tally: Tally::new(&plan, !baseline.is_stream()),
        })
    }

    fn accept_streams(&mut self, count: u32) -> Result<(), Failure> {
        let (inbox, out) = (self.inbox(), Outbox::new(self.framing));
        let (blocking, lead) = (self.is_blocking(), self.plan.lead_bytes());
        if !self.plan.is_many() {
            let fd = self
                .listening
                .accept(blocking)
                .map_err(failed("raw server, accept"))?;
            self.shape = Shape::Stream(Single::new(Stream::new(fd), inbox, out, blocking, lead));
            return Ok(());
        }
        let mut many = Many::new(inbox, out, blocking, lead)?;
        for _ in 0..count {
            let fd = self
                .listening
                .accept(false)
                .map_err(failed("raw server, accept"))?;
            many.add(Stream::new(fd))?;
        }
        self.shape = Shape::Streams(many);
        Ok(())
    }

    fn accept_datagrams(&mut self, socket: UdpSocket) -> Result<(), Failure> {
        let what = "raw server, datagram socket";
        let (inbox, out) = (self.inbox(), Outbox::new(self.framing));
        let bare = self.baseline == Baseline::UdpBare;
        if bare {
            // The client's first datagram tells who it is.
            socket.set_nonblocking(false).map_err(failed(what))?;
            let (_, peer) = socket.recv_from(&mut [0; 16]).map_err(failed(what))?;
            socket.connect(peer).map_err(failed(what))?;
        }
        let manner = Manner::of(self.baseline, true);
        let (blocking, lead) = (self.is_blocking(), self.plan.lead_bytes());
        let watched = self.plan.is_idle();
        let fd = open::udp(socket, &self.plan, blocking && !watched, bare).map_err(failed(what))?;
        let link = Datagram::new(fd, manner);
        self.shape = if watched {
            let mut many = Many::new(inbox, out, blocking, lead)?;
            many.add(link)?;
            Shape::Watched(many)
        } else {
            Shape::Datagram(Single::new(link, inbox, out, blocking, lead))
        };
        Ok(())
    }

    fn inbox(&self) -> Inbox {
        Inbox::new(
            self.plan.lead_bytes() + self.plan.size as usize,
            self.framing,
        )
    }

    fn is_blocking(&self) -> bool {
        self.plan.policy != Policy::Spin
    }
}

impl Server for RawServer {
    fn address(&self) -> Result<Address, Failure> {
        self.listening.address()
    }

    fn accept(&mut self, count: u32) -> Result<(), Failure> {
        match &self.listening {
            Listening::Udp(socket) => {
                let socket = socket
                    .try_clone()
                    .map_err(failed("raw server, datagram socket"))?;
                self.accept_datagrams(socket)
            }
            _ => self.accept_streams(count),
        }
    }

    fn run(&mut self, target: u64) -> Result<(), Failure> {
        let one_way = self.plan.is_one_way();
        let target = target * self.pieces;
        match &mut self.shape {
            Shape::Stream(single) if one_way => single.sink(&mut self.tally, target),
            Shape::Datagram(single) if one_way => single.sink(&mut self.tally, target),
            Shape::Stream(single) => single.echo(target),
            Shape::Datagram(single) => single.echo(target),
            Shape::Streams(many) => many.echo(target),
            Shape::Watched(many) => many.echo(target),
            Shape::Nobody => Err(Failure::Connection("nobody has connected".to_owned())),
        }
    }

    fn idle(&mut self, until: Instant) -> Result<(), Failure> {
        match &mut self.shape {
            Shape::Streams(many) => many.idle(until),
            Shape::Watched(many) => many.idle(until),
            _ => Err(Failure::Connection(
                "only many connections can idle".to_owned(),
            )),
        }
    }

    fn counts(&self) -> Counts {
        counts()
    }
}
