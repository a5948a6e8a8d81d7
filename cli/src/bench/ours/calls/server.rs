//! The server of the RPC workloads: a node with the measured service, behind a handler that knows when a block is
//! over.

use std::time::Instant;

use ringway::rpc::{Node, Server as RpcServer};
use ringway::{
    Address, Closed, ConnectionId, Context, Engine, Handler, Header, ListenerId, Message, Peer,
    RecvBuffer, TimerId,
};

use super::super::super::contestant::Server;
use super::super::super::plan::{Plan, Workload};
use super::super::super::usage::Counts;
use super::super::{
    Connected, Stall, Watched, counts, let_leave, listen, settle, shown, turn_until_over,
};
use super::engine;
use super::service::{Echo, WORKERS};
use crate::cert::Certificate;
use crate::failure::Failure;

/// An engine that answers calls.
#[derive(Debug)]
pub(crate) struct CallServer {
    plan: Plan,
    engine: Engine,
    listener: ListenerId,
    answering: Answering,
}

/// The handler.
#[derive(Debug)]
struct Answering {
    node: Node,
    echo: Echo,
    target: u64,
    connections: Vec<ConnectionId>,
    stall: Stall,
    fault: Option<Failure>,
}

impl CallServer {
    /// Listens at an address of nobody else's; `name` tells several servers of one process apart.
    pub(crate) fn listen(
        plan: Plan,
        certificate: Option<&Certificate>,
        name: &str,
    ) -> Result<Self, Failure> {
        let mut engine = engine(&plan, shown(certificate)?)?;
        let listener = listen(&mut engine, &plan, name)?;
        let echo = Echo::new(&plan);
        let workers = match plan.workload {
            Workload::CallTail => WORKERS,
            _ => 0,
        };
        let node = RpcServer::builder()
            .service_here(echo.clone())
            .workers(workers)
            .build()
            .map_err(|error| Failure::Connection(format!("ringway server: {error}")))?;
        let answering = Answering {
            node,
            echo,
            target: 0,
            connections: Vec::new(),
            stall: Stall::default(),
            fault: None,
        };
        Ok(Self {
            plan,
            engine,
            listener,
            answering,
        })
    }

    /// Serves until so many calls, or messages of a stream, are over and no call is open.
    fn serve(&mut self, target: u64) -> Result<(), Failure> {
        self.answering.echo.start();
        self.answering.target = target;
        turn_until_over(&mut self.engine, &mut self.answering, self.plan.policy)?;
        self.let_answers_leave()
    }

    /// Lets answers leave that the sockets did not take at once. Over packets they are queued until the client has
    /// them: that is waited for when all is over.
    fn let_answers_leave(&mut self) -> Result<(), Failure> {
        if self.plan.transport.has_packets() {
            return Ok(());
        }
        let_leave(&mut self.engine, &mut self.answering)
    }
}

impl Server for CallServer {
    fn address(&self) -> Result<Address, Failure> {
        self.engine
            .local_address(self.listener)
            .ok_or_else(|| Failure::Connection("the ringway server has no address".to_owned()))
    }

    fn accept(&mut self, count: u32) -> Result<(), Failure> {
        // A connection is there when its first call was answered: then both sides know each other.
        self.serve(u64::from(count))
    }

    fn run(&mut self, target: u64) -> Result<(), Failure> {
        self.serve(target)
    }

    fn idle(&mut self, until: Instant) -> Result<(), Failure> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.engine.wait(&mut self.answering, Some(left));
        }
    }

    fn settle(&mut self) -> Result<(), Failure> {
        settle(&mut self.engine, &mut self.answering, &self.plan)
    }

    fn counts(&self) -> Counts {
        counts(&self.engine)
    }
}

impl Handler for Answering {
    #[inline]
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        self.node.message(cx, message);
    }

    fn opened(&mut self, cx: &mut Context<'_>, connection: ConnectionId, peer: &Peer) {
        self.connections.push(connection);
        self.node.opened(cx, connection, peer);
    }

    fn writable(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        self.node.writable(cx, connection);
    }

    fn draining(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        self.node.draining(cx, connection);
    }

    fn closed(&mut self, cx: &mut Context<'_>, connection: ConnectionId, closed: &Closed) {
        self.node.closed(cx, connection, closed);
        self.fault = Some(Failure::Connection(format!(
            "ringway server, connection: {closed}"
        )));
    }

    fn too_long(&mut self, cx: &mut Context<'_>, connection: ConnectionId, bytes_max: usize) {
        self.node.too_long(cx, connection, bytes_max);
    }

    fn place(&mut self, connection: ConnectionId, header: &Header) -> Option<RecvBuffer> {
        self.node.place(connection, header)
    }

    fn placed(
        &mut self,
        cx: &mut Context<'_>,
        connection: ConnectionId,
        header: Header,
        buffer: RecvBuffer,
    ) {
        self.node.placed(cx, connection, header, buffer);
    }

    fn notified(&mut self, cx: &mut Context<'_>) {
        self.node.notified(cx);
    }

    fn timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        if !self.stall.owns(timer) {
            return self.node.timer(cx, timer);
        }
        let progress = self.echo.served() + self.connections.len() as u64;
        if self.stall.has_struck(cx, progress) {
            self.fault = Some(Failure::Stalled {
                what: "the ringway server",
            });
        }
    }

    fn accept(&mut self, listener: ListenerId, peer: Option<&Address>) -> bool {
        self.node.accept(listener, peer)
    }
}

impl Connected for Answering {
    fn connections(&self) -> &[ConnectionId] {
        &self.connections
    }
}

impl Watched for Answering {
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
        self.echo.served() >= self.target && self.node.open_calls() == 0
    }
}
