//! ringway's client: the closed loop of calls, or one-way traffic.

use hdrhistogram::Histogram;
use ringway::{
    Address, Closed, ConnectionId, Context, Engine, Handler, Message, Peer, SendError, Slice,
    TimerId,
};

use super::super::contestant::Client;
use super::super::load::{Calls, Flow};
use super::super::plan::{Plan, Transport, Workload};
use super::super::usage::Counts;
use super::{
    Connected, Stall, TURN_BYTES, Watched, counts, engine, settle, trusted, turn_until_over,
};
use crate::cert::Certificate;
use crate::failure::Failure;

/// Connections that are made at once: fewer than a listener's accept queue holds.
const CONNECTING_MAX: usize = 256;

/// An engine that calls.
#[derive(Debug)]
pub(crate) struct OurClient {
    plan: Plan,
    engine: Engine,
    calling: Calling,
}

/// What the client is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// So many connections.
    Connections(usize),
    /// All answers.
    Answers,
    /// The acknowledgement of all that flowed.
    Flow,
}

/// The handler.
#[derive(Debug)]
struct Calling {
    aim: Aim,
    calls: Calls,
    flow: Flow,
    connections: Vec<ConnectionId>,
    /// The body of large messages, shared by all of them.
    large: Option<Slice>,
    /// The send queue is full; `writable` will follow.
    full: bool,
    stall: Stall,
    fault: Option<Failure>,
}

impl OurClient {
    /// Connects `count` times.
    pub(crate) fn connect(
        plan: Plan,
        certificate: Option<&Certificate>,
        address: &Address,
        count: u32,
    ) -> Result<Self, Failure> {
        let calling = Calling {
            aim: Aim::Connections(0),
            calls: Calls::new(&plan),
            flow: Flow::new(&plan, plan.transport == Transport::Udp),
            connections: Vec::new(),
            large: None,
            full: false,
            stall: Stall::default(),
            fault: None,
        };
        let mut client = Self {
            plan,
            engine: engine(&plan, trusted(certificate)?)?,
            calling,
        };
        let (text, count) = (address.to_string(), count as usize);
        while client.calling.connections.len() < count {
            let opened = client.calling.connections.len();
            let next = count.min(opened + CONNECTING_MAX);
            for _ in opened..next {
                let connecting = client.engine.connect(&text);
                connecting.map_err(|error| Failure::Open {
                    address: address.clone(),
                    error,
                })?;
            }
            client.aim(Aim::Connections(next))?;
        }
        if plan.workload == Workload::Bandwidth && plan.transport != Transport::Udp {
            client.calling.large = Some(client.large_body()?);
        }
        Ok(client)
    }

    fn aim(&mut self, aim: Aim) -> Result<(), Failure> {
        self.calling.aim = aim;
        turn_until_over(&mut self.engine, &mut self.calling, self.plan.policy)
    }

    fn large_body(&mut self) -> Result<Slice, Failure> {
        let body = self.calling.flow.body();
        let full = || Failure::Connection("the engine's memory budget is used up".to_owned());
        let mut lease = self.engine.context().lease(body.len()).ok_or_else(full)?;
        lease
            .append(body.len())
            .ok_or_else(full)?
            .copy_from_slice(body);
        Ok(lease.freeze())
    }
}

impl Client for OurClient {
    fn run(&mut self, target: u64) -> Result<(), Failure> {
        if self.plan.is_one_way() {
            self.calling.flow.start(target);
            return self.aim(Aim::Flow);
        }
        self.calling.calls.start(target);
        let cx = &mut self.engine.context();
        for index in 0.. {
            let Some(connection) = self.calling.connections.get(index) else {
                break;
            };
            self.calling.issue(cx, *connection);
        }
        self.aim(Aim::Answers)
    }

    fn latencies(&self) -> &Histogram<u64> {
        self.calling.calls.latencies()
    }

    fn settle(&mut self) -> Result<(), Failure> {
        settle(&mut self.engine, &mut self.calling, &self.plan)
    }

    fn counts(&self) -> Counts {
        counts(&self.engine)
    }
}

impl Calling {
    /// Sends the calls that may leave now: on many connections one each, else all.
    #[inline]
    fn issue(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        while self.calls.may_issue() {
            match cx.claim(connection, self.calls.size()) {
                Ok(mut claim) => {
                    self.calls.issue(&mut claim);
                    claim.commit();
                }
                Err(error) => return self.refused(error),
            }
            if self.connections.len() > 1 {
                return;
            }
        }
    }

    fn flow_one(&self, cx: &mut Context<'_>, connection: ConnectionId) -> Result<(), SendError> {
        if let Some(large) = &self.large {
            return cx
                .send_slice(connection, large.clone())
                .map_err(|full| full.error);
        }
        cx.send(connection, self.flow.body())
    }

    /// A number that changes with every step.
    fn progress(&self) -> u64 {
        self.calls.answered() + self.flow.acknowledged() + self.connections.len() as u64
    }

    fn refused(&mut self, error: SendError) {
        self.fault = Some(Failure::Connection(format!(
            "ringway client, send: {error}"
        )));
    }
}

impl Handler for Calling {
    #[inline]
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        if self.aim == Aim::Flow {
            if let Err(fault) = self.flow.acknowledge(message.body()) {
                self.fault = Some(fault);
            }
        } else if self.calls.answer(message.body()) {
            self.issue(cx, message.connection());
        }
    }

    fn opened(&mut self, _cx: &mut Context<'_>, connection: ConnectionId, _peer: &Peer) {
        self.connections.push(connection);
    }

    fn writable(&mut self, _cx: &mut Context<'_>, _connection: ConnectionId) {
        self.full = false;
    }

    fn closed(&mut self, _cx: &mut Context<'_>, _connection: ConnectionId, closed: &Closed) {
        self.fault = Some(Failure::Connection(format!(
            "ringway client, connection: {closed}"
        )));
    }

    fn timer(&mut self, cx: &mut Context<'_>, _timer: TimerId) {
        let progress = self.progress();
        if self.stall.has_struck(cx, progress) {
            self.fault = Some(Failure::Stalled {
                what: "the ringway client",
            });
        }
    }
}

impl Connected for Calling {
    fn connections(&self) -> &[ConnectionId] {
        &self.connections
    }
}

impl Watched for Calling {
    fn fault(&mut self) -> &mut Option<Failure> {
        &mut self.fault
    }

    #[inline]
    fn stall(&mut self) -> &mut Stall {
        &mut self.stall
    }

    fn pump(&mut self, cx: &mut Context<'_>) -> bool {
        if self.aim != Aim::Flow || self.full {
            return false;
        }
        let Some(connection) = self.connections.first().copied() else {
            return false;
        };
        let mut room = TURN_BYTES;
        while self.flow.may_issue() > 0 && room > 0 {
            match self.flow_one(cx, connection) {
                Ok(()) => self.flow.issued(),
                Err(SendError::Full) => {
                    self.full = true;
                    return false;
                }
                Err(error) => {
                    self.refused(error);
                    return false;
                }
            }
            room = room.saturating_sub(self.flow.body().len() + 16);
        }
        room < TURN_BYTES
    }

    #[inline]
    fn is_over(&self) -> bool {
        match self.aim {
            Aim::Connections(count) => self.connections.len() >= count,
            Aim::Answers => self.calls.is_done(),
            Aim::Flow => self.flow.is_done(),
        }
    }
}
