//! The baseline's client.

use hdrhistogram::Histogram;
use ringway::Address;

use super::super::baseline::Baseline;
use super::super::contestant::Client;
use super::super::load::{Calls, Flow};
use super::super::plan::{Plan, Policy, Workload};
use super::super::usage::Counts;
use super::frame::{Framing, Inbox, Outbox};
use super::link::{Datagram, Manner, Stream};
use super::many::Many;
use super::open;
use super::single::Single;
use super::{counts, failed, sys};
use crate::failure::Failure;

/// What was built for the plan's shape.
#[derive(Debug)]
enum Shape {
    Stream(Single<Stream>),
    Datagram(Single<Datagram>),
    Streams(Many<Stream>),
    Datagrams(Many<Datagram>),
}

/// A hand-written client of one shape, connected.
#[derive(Debug)]
pub(crate) struct RawClient {
    plan: Plan,
    /// Of its messages, so many make one of the plan's.
    pieces: u64,
    shape: Shape,
    calls: Calls,
    flow: Flow,
}

impl RawClient {
    /// Connects `count` times.
    pub(crate) fn connect(
        plan: Plan,
        baseline: Baseline,
        address: &Address,
        count: u32,
    ) -> Result<Self, Failure> {
        let framing = Framing::new(&plan, baseline);
        let (plan, pieces) = plan.in_pieces(baseline);
        let lead = plan.lead_bytes();
        let (inbox, out) = (
            Inbox::new(plan.size as usize, framing),
            Outbox::new(framing),
        );
        let blocking = plan.policy != Policy::Spin;
        let bare = baseline == Baseline::UdpBare;
        let manner = Manner::of(baseline, false);
        let shape = match (baseline.is_stream(), plan.is_many()) {
            (true, false) => {
                let link = Stream::new(open::connect(address, blocking)?);
                Shape::Stream(Single::new(link, inbox, out, blocking, lead))
            }
            (true, true) => {
                let mut many = Many::new(inbox, out, blocking, lead)?;
                for _ in 0..count {
                    many.add(Stream::new(open::connect(address, false)?))?;
                }
                Shape::Streams(many)
            }
            (false, false) => {
                let fd = datagram_socket(address, &plan, blocking, bare)?;
                Shape::Datagram(Single::new(
                    Datagram::new(fd, manner),
                    inbox,
                    out,
                    blocking,
                    lead,
                ))
            }
            (false, true) => {
                let mut many = Many::new(inbox, out, blocking, lead)?;
                for _ in 0..count {
                    let fd = datagram_socket(address, &plan, false, false)?;
                    many.add(Datagram::new(fd, manner))?;
                }
                Shape::Datagrams(many)
            }
        };
        Ok(Self {
            plan,
            pieces,
            shape,
            calls: Calls::new(&plan),
            flow: Flow::new(&plan, !baseline.is_stream()),
        })
    }
}

impl Client for RawClient {
    fn run(&mut self, target: u64) -> Result<(), Failure> {
        let (calls, flow) = (&mut self.calls, &mut self.flow);
        let one_way = self.plan.is_one_way();
        let large = self.plan.workload.shape() == Workload::Bandwidth;
        let target = target * self.pieces;
        match &mut self.shape {
            Shape::Stream(single) if large => single.flow_large(flow, target),
            Shape::Stream(single) if one_way => single.flow(flow, target),
            Shape::Datagram(single) if one_way => single.flow(flow, target),
            Shape::Stream(single) => single.call(calls, target),
            Shape::Datagram(single) => single.call(calls, target),
            Shape::Streams(many) => many.call(calls, target),
            Shape::Datagrams(many) => many.call(calls, target),
        }
    }

    fn latencies(&self) -> &Histogram<u64> {
        self.calls.latencies()
    }

    fn counts(&self) -> Counts {
        counts()
    }
}

/// A connected datagram socket; a bare one says hello, so that the server can connect to it.
fn datagram_socket(
    address: &Address,
    plan: &Plan,
    blocking: bool,
    bare: bool,
) -> Result<std::os::fd::OwnedFd, Failure> {
    use std::os::fd::AsFd as _;
    let Address::Udp(address) = address else {
        return Err(Failure::Connection(format!(
            "{address} is no datagram address"
        )));
    };
    let what = "raw client, datagram socket";
    let fd = open::connect_udp(*address, plan, blocking, bare).map_err(failed(what))?;
    if bare {
        sys::send(fd.as_fd(), b"hello").map_err(failed(what))?;
    }
    Ok(fd)
}
