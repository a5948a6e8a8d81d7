//! ringway's server: echoes, or counts and acknowledges.

use std::time::Instant;

use ringway::{
    Address, Closed, ConnectionId, Context, Engine, Handler, ListenerId, Message, Peer, SendError,
    TimerId,
};

use super::super::contestant::Server;
use super::super::load::Tally;
use super::super::plan::{Plan, Transport};
use super::super::usage::Counts;
use super::{
    Connected, Stall, Watched, counts, engine, let_leave, listen, settle, shown, turn_until_over,
};
use crate::cert::Certificate;
use crate::failure::Failure;

/// An engine that serves.
#[derive(Debug)]
pub(crate) struct OurServer {
    plan: Plan,
    engine: Engine,
    listener: ListenerId,
    serving: Serving,
}

/// What the server is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// So many connections.
    Connections(usize),
    /// So many echoes.
    Echoes(u64),
    /// All that the tally expects.
    Arrivals,
}

/// The handler.
#[derive(Debug)]
struct Serving {
    aim: Aim,
    echoed: u64,
    tally: Tally,
    connections: Vec<ConnectionId>,
    stall: Stall,
    fault: Option<Failure>,
}

impl OurServer {
    /// Listens at an address of nobody else's.
    pub(crate) fn listen(plan: Plan, certificate: Option<&Certificate>) -> Result<Self, Failure> {
        let mut engine = engine(&plan, shown(certificate)?)?;
        let listener = listen(&mut engine, &plan, "ours")?;
        let serving = Serving {
            aim: Aim::Connections(0),
            echoed: 0,
            tally: Tally::new(&plan, plan.transport == Transport::Udp),
            connections: Vec::new(),
            stall: Stall::default(),
            fault: None,
        };
        Ok(Self {
            plan,
            engine,
            listener,
            serving,
        })
    }

    fn aim(&mut self, aim: Aim) -> Result<(), Failure> {
        self.serving.aim = aim;
        turn_until_over(&mut self.engine, &mut self.serving, self.plan.policy)
    }

    /// Lets answers leave that the sockets did not take at once. Over packets they are queued until the client has
    /// them: that is waited for when all is over.
    fn let_answers_leave(&mut self) -> Result<(), Failure> {
        if self.plan.transport.has_packets() {
            return Ok(());
        }
        let_leave(&mut self.engine, &mut self.serving)
    }
}

impl Server for OurServer {
    fn address(&self) -> Result<Address, Failure> {
        self.engine
            .local_address(self.listener)
            .ok_or_else(|| Failure::Connection("the ringway server has no address".to_owned()))
    }

    fn accept(&mut self, count: u32) -> Result<(), Failure> {
        if self.plan.transport == Transport::Udp {
            return Ok(());
        }
        self.aim(Aim::Connections(count as usize))
    }

    fn run(&mut self, target: u64) -> Result<(), Failure> {
        if self.plan.is_one_way() {
            self.serving.tally.start(target);
            self.aim(Aim::Arrivals)?;
        } else {
            self.aim(Aim::Echoes(target))?;
        }
        self.let_answers_leave()?;
        // While the last answers left, the first calls of the next block may have come: those count there.
        self.serving.echoed = self.serving.echoed.saturating_sub(target);
        Ok(())
    }

    fn idle(&mut self, until: Instant) -> Result<(), Failure> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.engine.wait(&mut self.serving, Some(left));
        }
    }

    fn settle(&mut self) -> Result<(), Failure> {
        settle(&mut self.engine, &mut self.serving, &self.plan)
    }

    fn counts(&self) -> Counts {
        counts(&self.engine)
    }
}

impl Serving {
    /// A number that changes with every step.
    fn progress(&self) -> u64 {
        self.echoed + self.tally.arrived() + self.connections.len() as u64
    }

    fn refused(&mut self, error: SendError) {
        self.fault = Some(Failure::Connection(format!(
            "ringway server, send: {error}"
        )));
    }
}

impl Handler for Serving {
    #[inline]
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let body = message.body();
        if self.aim == Aim::Arrivals {
            if let Some(acknowledgement) = self.tally.count(body)
                && let Err(error) = cx.reply(&message, &acknowledgement)
            {
                self.refused(error);
            }
            return;
        }
        match cx.claim_reply(&message, body.len()) {
            Ok(mut claim) => {
                claim.copy_from_slice(body);
                claim.commit();
                self.echoed += 1;
            }
            Err(error) => self.refused(error),
        }
    }

    fn opened(&mut self, _cx: &mut Context<'_>, connection: ConnectionId, _peer: &Peer) {
        self.connections.push(connection);
    }

    fn closed(&mut self, _cx: &mut Context<'_>, _connection: ConnectionId, closed: &Closed) {
        self.fault = Some(Failure::Connection(format!(
            "ringway server, connection: {closed}"
        )));
    }

    fn timer(&mut self, cx: &mut Context<'_>, _timer: TimerId) {
        let progress = self.progress();
        if self.stall.has_struck(cx, progress) {
            self.fault = Some(Failure::Stalled {
                what: "the ringway server",
            });
        }
    }
}

impl Connected for Serving {
    fn connections(&self) -> &[ConnectionId] {
        &self.connections
    }
}

impl Watched for Serving {
    fn fault(&mut self) -> &mut Option<Failure> {
        &mut self.fault
    }

    fn stall(&mut self) -> &mut Stall {
        &mut self.stall
    }

    fn pump(&mut self, _cx: &mut Context<'_>) -> bool {
        false
    }

    #[inline]
    fn is_over(&self) -> bool {
        match self.aim {
            Aim::Connections(count) => self.connections.len() >= count,
            Aim::Echoes(count) => self.echoed >= count,
            Aim::Arrivals => self.tally.is_done(),
        }
    }
}
