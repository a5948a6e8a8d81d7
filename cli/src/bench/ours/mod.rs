//! ringway's side of a measurement: an ordinary user of the library, with the same load as the baseline.
//!
//! [`server`] answers, [`client`] calls; both own an engine and turn it themselves. Under `spin` they call
//! [`Engine::turn`] from a loop of their own, else [`Engine::wait`], which follows the engine's policy.

mod calls;
mod client;
mod server;

use ringway::{
    Config, Context, Engine, Handler, Limits, ListenOptions, ListenerId, SocketOptions, TimerId,
};

use super::STALL;
use super::plan::{Plan, Policy, Transport};
use super::usage::Counts;
use crate::failure::Failure;

pub(crate) use calls::{CallClient, CallServer};
pub(crate) use client::OurClient;
pub(crate) use server::OurServer;

/// Connections beyond those of the measurement that an engine has room for: listeners and such.
const CONNECTIONS_BESIDE: usize = 64;
/// Bytes that one turn of a sender adds: one write's worth, the batch limit of both contestants.
const TURN_BYTES: usize = 64 << 10;

/// An engine in the shape of `plan`, with the driver that it names or none.
fn engine(plan: &Plan) -> Result<Engine, Failure> {
    build(plan, config(plan))
}

fn config(plan: &Plan) -> Config {
    let default = Limits::default();
    let needed = plan.connections.max(plan.held) as usize + CONNECTIONS_BESIDE;
    let limits = Limits {
        connections_max: default.connections_max.max(needed),
        ..default
    };
    Config::default()
        .driver(plan.driver.required())
        .idle(plan.policy.idle())
        .limits(limits)
        .socket(socket_options(plan))
}

fn build(plan: &Plan, config: Config) -> Result<Engine, Failure> {
    let driver = plan.driver;
    config
        .build()
        .map_err(|error| Failure::DriverRefused { driver, error })
}

fn socket_options(plan: &Plan) -> SocketOptions {
    SocketOptions {
        recv_buffer_bytes: plan.recv_buffer_bytes(),
        ..SocketOptions::default()
    }
}

fn listen_options(plan: &Plan) -> ListenOptions {
    ListenOptions {
        socket: socket_options(plan),
        ..ListenOptions::default()
    }
}

/// Listens on loopback at a port, or in the abstract namespace at a name, of nobody else's.
fn listen(engine: &mut Engine, plan: &Plan, name: &str) -> Result<ListenerId, Failure> {
    let wish = match plan.transport {
        Transport::Tcp => "tcp://127.0.0.1:0".to_owned(),
        Transport::Udp => "udp://127.0.0.1:0".to_owned(),
        Transport::Unix => format!("unix://@ringway-{name}-{}", std::process::id()),
    };
    engine
        .listen_with(&wish, &listen_options(plan))
        .map_err(|error| Failure::Connection(format!("ringway server, {wish}: {error}")))
}

/// A handler that knows when a block is over, one way or the other.
trait Watched: Handler {
    /// What went wrong, if anything did.
    fn fault(&mut self) -> &mut Option<Failure>;

    /// The timer that ends a block without progress.
    fn stall(&mut self) -> &mut Stall;

    /// Writes what may be written now, outside of a callback. True: there is more for the next turn.
    fn pump(&mut self, cx: &mut Context<'_>) -> bool;

    /// Whether the block is over.
    fn is_over(&self) -> bool;
}

/// A timer of the engine that comes back as long as there is progress: it costs nothing per message.
#[derive(Debug, Default)]
struct Stall {
    timer: Option<TimerId>,
    seen: u64,
}

impl Stall {
    fn start(&mut self, cx: &mut Context<'_>) {
        self.timer = cx.set_timer(STALL);
        self.seen = u64::MAX;
    }

    /// Whether a timer is this one.
    fn owns(&self, timer: TimerId) -> bool {
        self.timer == Some(timer)
    }

    /// The timer came. True: nothing has happened since it came last.
    fn has_struck(&mut self, cx: &mut Context<'_>, progress: u64) -> bool {
        let struck = self.seen == progress;
        self.seen = progress;
        self.timer = if struck { None } else { cx.set_timer(STALL) };
        struck
    }

    fn stop(&mut self, cx: &mut Context<'_>) {
        if let Some(timer) = self.timer.take() {
            cx.cancel_timer(timer);
        }
    }
}

/// Turns the engine until the block is over.
fn turn_until_over<H: Watched>(
    engine: &mut Engine,
    handler: &mut H,
    policy: Policy,
) -> Result<(), Failure> {
    handler.stall().start(&mut engine.context());
    while !handler.is_over() && handler.fault().is_none() {
        let more = handler.pump(&mut engine.context());
        if more || policy == Policy::Spin {
            engine.turn(handler);
        } else {
            engine.wait(handler, None);
        }
    }
    handler.stall().stop(&mut engine.context());
    handler.fault().take().map_or(Ok(()), Err)
}

/// Counters of an engine so far.
fn counts(engine: &Engine) -> Counts {
    let stats = engine.stats();
    Counts {
        syscalls: stats.driver.syscalls,
        empty_polls: stats.driver.empty_polls,
        copies: stats.copies.count,
    }
}
