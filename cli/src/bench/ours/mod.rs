//! ringway's side of a measurement: an ordinary user of the library, with the same load as the baseline.
//!
//! [`server`] answers, [`client`] calls; both own an engine and turn it themselves. Under `spin` they call
//! [`Engine::turn`] from a loop of their own, else [`Engine::wait`], which follows the engine's policy.

mod calls;
mod client;
mod server;

use std::time::{Duration, Instant};

use ringway::{
    Config, ConnectionId, Context, Engine, Handler, Identity, Limits, ListenOptions, ListenerId,
    QuicConfig, Roots, SocketOptions, TimerId, TlsConfig, TlsError,
};

use super::STALL;
use super::plan::{Plan, Policy, Transport};
use super::usage::Counts;
use crate::cert::Certificate;
use crate::failure::Failure;

pub(crate) use calls::{CallClient, CallServer};
pub(crate) use client::OurClient;
pub(crate) use server::OurServer;

/// Connections beyond those of the measurement that an engine has room for: listeners and such.
const CONNECTIONS_BESIDE: usize = 64;
/// Bytes that one turn of a sender adds: one write's worth, the batch limit of both contestants.
const TURN_BYTES: usize = 64 << 10;

/// An engine in the shape of `plan`, with the driver that it names or none.
fn engine(plan: &Plan, tls: Option<TlsConfig>) -> Result<Engine, Failure> {
    build(plan, config(plan, tls))
}

/// What a server shows.
fn shown(certificate: Option<&Certificate>) -> Result<Option<TlsConfig>, Failure> {
    let Some(Certificate { certificate, key }) = certificate else {
        return Ok(None);
    };
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes());
    let built = identity.and_then(|identity| TlsConfig::builder().identity(identity).build());
    built.map(Some).map_err(unusable)
}

/// Whom a client trusts.
fn trusted(certificate: Option<&Certificate>) -> Result<Option<TlsConfig>, Failure> {
    let Some(Certificate { certificate, .. }) = certificate else {
        return Ok(None);
    };
    let roots = Roots::from_pem(certificate.as_bytes());
    let built = roots.and_then(|roots| TlsConfig::builder().roots(roots).build());
    built.map(Some).map_err(unusable)
}

#[expect(clippy::needless_pass_by_value, reason = "it ends here")]
fn unusable(error: TlsError) -> Failure {
    Failure::Usage(format!("certificate: {error}"))
}

fn config(plan: &Plan, tls: Option<TlsConfig>) -> Config {
    let default = Limits::default();
    let needed = plan.connections.max(plan.held) as usize + CONNECTIONS_BESIDE;
    let limits = Limits {
        connections_max: default.connections_max.max(needed),
        ..default
    };
    let mut config = Config::default()
        .driver(plan.driver.required())
        .idle(plan.policy.idle())
        .limits(limits)
        .socket(socket_options(plan));
    if let Some(bytes) = plan.datagram_bytes_max() {
        config = config.datagram_bytes_max(bytes);
    }
    match tls {
        Some(tls) => config.quic(QuicConfig::new(tls)),
        None => config,
    }
}

fn build(plan: &Plan, config: Config) -> Result<Engine, Failure> {
    let driver = plan.driver;
    config
        .build()
        .map_err(|error| Failure::DriverRefused { driver, error })
}

fn socket_options(plan: &Plan) -> SocketOptions {
    SocketOptions {
        // Of packets the engine asks for as much by itself.
        recv_buffer_bytes: plan
            .recv_buffer_bytes()
            .filter(|_| !plan.transport.has_packets()),
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
        Transport::Rudp => "rudp://127.0.0.1:0".to_owned(),
        Transport::Quic => "quic://127.0.0.1:0".to_owned(),
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

/// A handler that knows its connections.
trait Connected: Watched {
    fn connections(&self) -> &[ConnectionId];
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

/// How long both ends of a connection over packets turn on after a block: acknowledgements that were held back leave
/// within this time (reliable UDP's within 25 us, or 1 ms where the engine sleeps; QUIC's within 25 ms).
fn settle_time(plan: &Plan) -> Option<Duration> {
    match plan.transport {
        Transport::Rudp => Some(Duration::from_millis(3)),
        Transport::Quic => Some(Duration::from_millis(30)),
        _ => None,
    }
}

/// Over packets, turns until what waits for the peer has not changed for so long: then the peer rests, too.
fn settle<H: Connected>(engine: &mut Engine, handler: &mut H, plan: &Plan) -> Result<(), Failure> {
    let Some(time) = settle_time(plan) else {
        return Ok(());
    };
    let queued = |engine: &mut Engine, handler: &H| -> usize {
        let context = engine.context();
        let connections = handler.connections().iter();
        connections
            .filter_map(|connection| context.queued_bytes(*connection))
            .sum()
    };
    let (mut before, mut since) = (queued(engine, handler), Instant::now());
    while since.elapsed() < time {
        engine.turn(handler);
        let now = queued(engine, handler);
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    handler.fault().take().map_or(Ok(()), Err)
}

/// Lets answers leave that the sockets did not take at once.
fn let_leave<H: Connected>(engine: &mut Engine, handler: &mut H) -> Result<(), Failure> {
    let started = Instant::now();
    for index in 0..handler.connections().len() {
        let connection = handler.connections()[index];
        while engine
            .context()
            .queued_bytes(connection)
            .is_some_and(|queued| queued > 0)
        {
            engine.turn(handler);
            if started.elapsed() > STALL {
                return Err(Failure::Stalled {
                    what: "ringway, sending,",
                });
            }
        }
    }
    Ok(())
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
