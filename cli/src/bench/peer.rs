//! The child of a measurement: holds the servers of all contestants and runs one of them at a time, block by
//! block, as told on standard input.

use std::io::{self, BufRead as _, Write as _};
use std::time::{Duration, Instant};

use super::contestant::Server;
use super::control::{Block, Order, Report, Side};
use super::ours::{CallServer, OurServer};
use super::plan::{Plan, Workload};
use super::raw::RawServer;
use super::usage::Meter;
use crate::args;
use crate::cert::Certificate;
use crate::failure::Failure;
use crate::machine;

/// Serves until standard input ends.
pub(crate) fn run(arguments: &args::BenchPeer) -> Result<(), Failure> {
    machine::end_with(arguments.parent)?;
    machine::pin(arguments.core)?;
    let mut peer = Peer {
        plan: None,
        certificate: None,
        servers: Vec::new(),
    };
    for line in io::stdin().lock().lines() {
        let line = line.map_err(Failure::system("read an order"))?;
        let order = serde_json::from_str(&line)
            .map_err(|error| Failure::Usage(format!("not an order: {error}")))?;
        if let Err(failure) = peer.obey(order) {
            return report(&Report::Failed(failure.to_string()));
        }
    }
    Ok(())
}

fn report(report: &Report) -> Result<(), Failure> {
    let mut line = serde_json::to_string(report)
        .map_err(|error| Failure::Peer(format!("can't write a report: {error}")))?;
    line.push('\n');
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Failure::system("report"))
}

struct Peer {
    plan: Option<Plan>,
    certificate: Option<Certificate>,
    servers: Vec<(Side, Box<dyn Server>)>,
}

impl Peer {
    fn obey(&mut self, order: Order) -> Result<(), Failure> {
        match order {
            Order::Plan(plan, certificate) => {
                (self.plan, self.certificate) = (Some(plan), certificate);
                Ok(())
            }
            Order::Listen(side) => self.listen(side),
            Order::Accept(side, count) => {
                let server = self.server(side)?;
                let before = machine::resident_bytes()?;
                server.accept(count)?;
                let now = machine::resident_bytes()?;
                server.settle()?;
                report(&Report::Resident { before, now })
            }
            Order::Block(side, block) => self.block(side, block),
            Order::Idle(side, milliseconds) => self.idle(side, milliseconds),
        }
    }

    fn listen(&mut self, side: Side) -> Result<(), Failure> {
        let Some(plan) = self.plan else {
            return Err(Failure::Usage("the plan comes first".to_owned()));
        };
        let certificate = self.certificate.as_ref();
        let server: Box<dyn Server> = match plan.baseline(side) {
            // Its baseline is itself without slow calls.
            Some(_) if plan.workload == Workload::CallTail => {
                Box::new(CallServer::listen(plan, certificate, "base")?)
            }
            Some(baseline) => Box::new(RawServer::listen(plan, baseline)?),
            None if plan.is_calls() => Box::new(CallServer::listen(plan, certificate, "calls")?),
            None => Box::new(OurServer::listen(plan, certificate)?),
        };
        let address = server.address()?.to_string();
        self.servers.push((side, server));
        report(&Report::Listening(address))
    }

    fn block(&mut self, side: Side, block: Block) -> Result<(), Failure> {
        let server = self.server(side)?;
        report(&Report::Ready)?;
        server.run(block.warm_up)?;
        let meter = Meter::start(server.counts());
        server.run(block.measured)?;
        let usage = meter.stop(server.counts());
        server.settle()?;
        report(&Report::Done(usage))
    }

    fn idle(&mut self, side: Side, milliseconds: u64) -> Result<(), Failure> {
        let server = self.server(side)?;
        report(&Report::Ready)?;
        let meter = Meter::start(server.counts());
        server.idle(Instant::now() + Duration::from_millis(milliseconds))?;
        let usage = meter.stop(server.counts());
        report(&Report::Done(usage))
    }

    fn server(&mut self, side: Side) -> Result<&mut Box<dyn Server>, Failure> {
        let found = self
            .servers
            .iter_mut()
            .find(|(listening, _)| *listening == side);
        found
            .map(|(_, server)| server)
            .ok_or_else(|| Failure::Usage("the listener comes before its connections".to_owned()))
    }
}
