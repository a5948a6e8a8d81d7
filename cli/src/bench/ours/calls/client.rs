//! The client of the RPC workloads: an inline channel, the closed loops of calls, and the open one.

use std::collections::HashMap;

use hdrhistogram::Histogram;
use ringway::rpc::{Answer, CallKey, CallOptions, Clients, InlineChannel, Node, Raw, Target};
use ringway::{Address, Engine, Slice};

use super::super::super::contestant::Client;
use super::super::super::load::{Calls, Flow, OpenLoop};
use super::super::super::plan::{Plan, Workload};
use super::super::super::usage::Counts;
use super::super::{STALL, counts, settle_time, trusted};
use super::service::{ECHO, INFO, SLEEP, STREAM, TAKE};
use super::{engine, failed};
use crate::cert::Certificate;
use crate::failure::Failure;

/// An engine that calls, turned by its inline channel.
#[derive(Debug)]
pub(crate) struct CallClient {
    plan: Plan,
    channel: InlineChannel,
    /// All servers that are called: the same one, over as many connections.
    targets: Vec<Target>,
    /// Index of the service's first method; the same for all targets.
    first: u32,
    calls: Calls,
    flow: Flow,
    open_loop: OpenLoop,
    /// The body of large requests, shared by all of them.
    large: Option<Slice>,
    request: Vec<u8>,
    /// Which server a call in flight went to, where there are many.
    on: HashMap<CallKey, Target>,
}

impl CallClient {
    /// Connects `count` times and agrees on the methods. `slow`: one call of the open loop in a hundred is slow.
    pub(crate) fn connect(
        plan: Plan,
        certificate: Option<&Certificate>,
        address: &Address,
        count: u32,
        slow: bool,
    ) -> Result<Self, Failure> {
        let text = address.to_string();
        let node = Node::clients_only(Clients::default());
        let (mut engine, flow) = (
            engine(&plan, trusted(certificate)?)?,
            Flow::new(&plan, false),
        );
        let large = match plan.workload {
            Workload::CallBandwidth => Some(shared(&mut engine, flow.body())?),
            _ => None,
        };
        let mut channel = InlineChannel::with_engine(engine, node, &text).map_err(failed)?;
        let mut targets = vec![channel.target()];
        for _ in 1..count {
            targets.push(channel.add(&text).map_err(failed)?);
            // One after the other: never more than fit the listener's accept queue.
            wait_for(&mut channel, targets[targets.len() - 1])?;
        }
        let (mut first, options) = (0, CallOptions::default());
        for target in &targets {
            first = channel.bind_at(*target, INFO.methods).map_err(failed)?;
            // The server counts a connection when it has answered its first call.
            let greeting = channel.start_with(*target, first + ECHO, &b"hello"[..], &options);
            body(channel.finish(greeting.map_err(failed)?))?;
        }
        Ok(Self {
            plan,
            channel,
            targets,
            first,
            calls: Calls::new(&plan),
            flow,
            open_loop: OpenLoop::new(&plan, slow),
            large,
            request: vec![0; plan.size as usize],
            on: HashMap::new(),
        })
    }

    /// One call after the other.
    fn one_by_one(&mut self, target: u64) -> Result<(), Failure> {
        let options = CallOptions::default();
        self.calls.start(target);
        while !self.calls.is_done() {
            self.calls.issue(&mut self.request);
            let answer = self
                .channel
                .call::<Raw, [u8], [u8]>(self.first + ECHO, &self.request, &options)
                .map_err(failed)?;
            answered(self.calls.answer(answer.bytes()))?;
        }
        Ok(())
    }

    /// As many calls in flight as the plan says, on one connection.
    fn in_flight(&mut self, target: u64) -> Result<(), Failure> {
        let options = CallOptions::default();
        self.calls.start(target);
        while !self.calls.is_done() {
            while self.calls.may_issue() {
                self.calls.issue(&mut self.request);
                self.channel
                    .start::<Raw, [u8]>(self.first + ECHO, &self.request, &options)
                    .map_err(failed)?;
            }
            self.channel.turn(None);
            while let Some((_, answer)) = self.channel.next_answer() {
                answered(self.calls.answer(&body(answer)?))?;
            }
        }
        Ok(())
    }

    /// One call in flight on each of many connections.
    fn one_each(&mut self, target: u64) -> Result<(), Failure> {
        self.calls.start(target);
        self.on.clear();
        for index in 0..self.targets.len() {
            if self.calls.may_issue() {
                self.call_at(self.targets[index])?;
            }
        }
        while !self.calls.is_done() {
            self.channel.turn(None);
            while let Some((key, answer)) = self.channel.next_answer() {
                answered(self.calls.answer(&body(answer)?))?;
                let on = self.on.remove(&key);
                if let Some(target) = on
                    && self.calls.may_issue()
                {
                    self.call_at(target)?;
                }
            }
        }
        Ok(())
    }

    fn call_at(&mut self, target: Target) -> Result<CallKey, Failure> {
        self.calls.issue(&mut self.request);
        let options = CallOptions::default();
        let key = self
            .channel
            .start_with(target, self.first + ECHO, &self.request[..], &options)
            .map_err(failed)?;
        self.on.insert(key, target);
        Ok(key)
    }

    /// Large requests, some in flight.
    fn large(&mut self, target: u64) -> Result<(), Failure> {
        let options = CallOptions::default();
        let (at, method) = (self.channel.target(), self.first + TAKE);
        let Some(large) = self.large.clone() else {
            return Err(Failure::Connection("there is no large body".to_owned()));
        };
        self.flow.start(target);
        let window = u64::from(self.plan.outstanding);
        while !self.flow.is_done() {
            while self.flow.may_issue() > 0 && self.flow.in_flight() < window {
                self.channel
                    .start_with(at, method, large.clone(), &options)
                    .map_err(failed)?;
                self.flow.issued();
            }
            self.channel.turn(None);
            while let Some((_, answer)) = self.channel.next_answer() {
                self.flow.acknowledge(&body(answer)?)?;
            }
        }
        Ok(())
    }

    /// One stream of messages from the server.
    fn stream(&mut self, target: u64) -> Result<(), Failure> {
        let (size, options) = (self.flow.body().len(), CallOptions::default());
        let request = &target.to_le_bytes()[..];
        let key = self
            .channel
            .open::<Raw, [u8]>(self.first + STREAM, Some(request), true, &options)
            .map_err(failed)?;
        let mut received = 0;
        let end = loop {
            match self.channel.receive(key) {
                Ok(message) => received += u64::from(message.len() == size),
                Err(end) => break end,
            }
        };
        if !end.status.is_ok() {
            return Err(failed(end.status));
        }
        answered(received == target)
    }

    /// Calls of the open loop at the times that it says, whatever comes back. The generator never sleeps: what it would
    /// oversleep would be counted as the server's.
    fn at_a_rate(&mut self) -> Result<(), Failure> {
        let options = CallOptions::default();
        while !self.open_loop.is_done() {
            while let Some(slow) = self.open_loop.issue_due(&mut self.request) {
                let method = self.first + if slow { SLEEP } else { ECHO };
                self.channel
                    .start::<Raw, [u8]>(method, &self.request, &options)
                    .map_err(failed)?;
            }
            self.channel.turn(Some(core::time::Duration::ZERO));
            while let Some((_, answer)) = self.channel.next_answer() {
                answered(self.open_loop.answer(&body(answer)?))?;
            }
        }
        Ok(())
    }
}

impl Client for CallClient {
    fn run(&mut self, target: u64) -> Result<(), Failure> {
        match self.plan.workload {
            Workload::CallRate => self.in_flight(target),
            Workload::CallConnections => self.one_each(target),
            Workload::CallBandwidth => self.large(target),
            Workload::CallStream => self.stream(target),
            Workload::CallTail => {
                self.open_loop.start(target);
                self.at_a_rate()
            }
            _ => self.one_by_one(target),
        }
    }

    fn warm_up(&mut self, target: u64) -> Result<(), Failure> {
        if self.plan.workload != Workload::CallTail {
            return self.run(target);
        }
        self.open_loop.start_late(target, self.plan.together());
        self.at_a_rate()
    }

    fn latencies(&self) -> &Histogram<u64> {
        match self.plan.workload {
            Workload::CallTail => self.open_loop.latencies(),
            _ => self.calls.latencies(),
        }
    }

    fn settle(&mut self) -> Result<(), Failure> {
        let started = std::time::Instant::now();
        while settle_time(&self.plan).is_some_and(|time| started.elapsed() < time) {
            self.channel.turn(Some(core::time::Duration::ZERO));
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        counts(self.channel.engine())
    }
}

/// Turns until a further connection is ready.
fn wait_for(channel: &mut InlineChannel, target: Target) -> Result<(), Failure> {
    let started = std::time::Instant::now();
    while !channel.is_ready(target) {
        channel.turn(Some(STALL));
        if started.elapsed() > STALL {
            return Err(Failure::Stalled {
                what: "the ringway client, connecting,",
            });
        }
    }
    Ok(())
}

/// `bytes` in memory of the engine.
fn shared(engine: &mut Engine, bytes: &[u8]) -> Result<Slice, Failure> {
    let full = || Failure::Connection("the engine's memory budget is used up".to_owned());
    let mut lease = engine.context().lease(bytes.len()).ok_or_else(full)?;
    let room = lease.append(bytes.len()).ok_or_else(full)?;
    room.copy_from_slice(bytes);
    Ok(lease.freeze())
}

/// The message of an answer that went well.
fn body(answer: Answer) -> Result<Slice, Failure> {
    match answer.message {
        Some(message) if answer.status.is_ok() => Ok(message),
        _ => Err(failed(answer.status)),
    }
}

fn answered(known: bool) -> Result<(), Failure> {
    if known {
        return Ok(());
    }
    Err(Failure::Connection(
        "the server answered what was not asked".to_owned(),
    ))
}
