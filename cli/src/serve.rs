//! `ringway serve`: echoes every message, or serves an example's calls, until it is told to stop; then it drains.

use std::collections::VecDeque;
use std::sync::{Once, mpsc};

use ringway::rpc::StatsReader;
use ringway::{
    Closed, Config, ConnectionId, Context, Counter, DriverChoice, Event, Handler, Instant, Message,
    Observer, SendError, Shards, ShardsConfig, Slice,
};

use crate::args;
use crate::bench::plan::Driver;
use crate::failure::Failure;
use crate::{calls, gateway, machine, output, signals, tls};

/// A message that found its connection's queue full. Its bytes stay where they were received.
#[derive(Debug)]
struct Waiting {
    connection: ConnectionId,
    kind: u8,
    tag: u16,
    word: u64,
    body: Slice,
}

/// Sends every message back, in order and without losing any.
///
/// A connection that does not take its echoes is not read from until it does; what was already received waits
/// in place, counts against the engine's memory budget, and is no more than one receive's worth.
#[derive(Debug, Default)]
struct Echo {
    waiting: VecDeque<Waiting>,
}

impl Echo {
    fn keep(&mut self, cx: &mut Context<'_>, message: &Message<'_>) {
        cx.pause(message.connection(), true);
        self.waiting.push_back(Waiting {
            connection: message.connection(),
            kind: message.kind(),
            tag: message.tag(),
            word: message.word(),
            body: message.retain(),
        });
    }

    fn owes(&self, connection: ConnectionId) -> bool {
        self.waiting
            .iter()
            .any(|waiting| waiting.connection == connection)
    }
}

impl Handler for Echo {
    #[inline]
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let body = message.body();
        if !self.waiting.is_empty() && self.owes(message.connection()) {
            return self.keep(cx, &message);
        }
        // A datagram may be lost, and waiting would slow nobody down.
        if cx.reply(&message, body) == Err(SendError::Full) && message.peer().is_none() {
            self.keep(cx, &message);
        }
    }

    fn writable(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        while let Some(index) = self
            .waiting
            .iter()
            .position(|it| it.connection == connection)
        {
            let Some(waiting) = self.waiting.get(index) else {
                return;
            };
            match cx.claim(connection, waiting.body.len()) {
                Ok(mut claim) => {
                    claim.copy_from_slice(&waiting.body);
                    claim
                        .kind(waiting.kind)
                        .tag(waiting.tag)
                        .word(waiting.word)
                        .commit();
                }
                Err(SendError::Full) => return,
                Err(_) => {}
            }
            self.waiting.remove(index);
        }
        cx.pause(connection, false);
    }

    fn closed(&mut self, _cx: &mut Context<'_>, connection: ConnectionId, _closed: &Closed) {
        self.waiting
            .retain(|waiting| waiting.connection != connection);
    }
}

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(arguments: &args::Serve) -> Result<(), Failure> {
    let driver = arguments
        .driver
        .map_or(DriverChoice::Auto, Driver::required);
    if let Some(parent) = arguments.parent {
        machine::end_with(parent)?;
    }
    // Before any other thread: they inherit which signals are blocked.
    let (stop, stopped) = mpsc::channel();
    signals::on_stop(move || {
        // Fails only when the other end, below, is gone with the whole command.
        let _gone: Result<(), _> = stop.send(());
    })?;
    machine::raise_descriptors();
    let kind = which_driver(driver)?;
    let config = ShardsConfig {
        count: usize::from(arguments.engines),
        listen: arguments
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect(),
        ..ShardsConfig::default()
    };
    let idle = arguments.idle.idle();
    let quic = tls::serving(&arguments.tls, &arguments.addresses)?;
    let engine = move || {
        let config = Config::default().driver(driver).idle(idle);
        tls::with(config.observer(Box::new(Notes)), quic.clone())
    };
    let example = arguments.example.map(calls::Services::new);
    let (shards, stats) = match &example {
        None => {
            let shards = Shards::start(&config, move |_| engine(), |_| Echo::default());
            (shards.map_err(Failure::Shards)?, None)
        }
        Some(example) => {
            let stats = StatsReader::default();
            let server = example.server().stats(stats.clone()).engine(engine);
            (
                server.shards_with(&config).map_err(Failure::Serve)?,
                Some(stats),
            )
        }
    };
    for address in shards.addresses() {
        output::line(format!("listening on {address}"))?;
    }
    let gateway = example.as_ref().zip(arguments.gateway);
    let gateway = gateway.map(|(example, address)| gateway::beside(example, address));
    // Stopped first, while what it serves still lives.
    let gateway = gateway.transpose()?;
    let engines = if arguments.engines == 1 {
        "engine"
    } else {
        "engines"
    };
    output::note(format!(
        "driver {kind}, policy {}, {} {engines}; Ctrl-C drains and stops",
        arguments.idle, arguments.engines
    ));
    // Fails only if the thread that waits for signals is gone; then nobody can tell us to go on either.
    let _gone: Result<(), _> = stopped.recv();
    let counters: Vec<_> = shards
        .handles()
        .iter()
        .map(ringway::Handle::counters)
        .collect();
    if let Some(gateway) = gateway {
        gateway.stop();
    }
    shards.drain();
    let sum = |counter| {
        counters
            .iter()
            .map(|counters| counters.value(counter))
            .sum::<u64>()
    };
    let connections = sum(Counter::Opened);
    output::note(match stats {
        None => format!(
            "echoed {} messages on {connections} connections",
            sum(Counter::MessagesOut)
        ),
        Some(stats) => format!(
            "served {} calls on {connections} connections",
            stats.methods().iter().map(|it| it.started).sum::<u64>()
        ),
    });
    Ok(())
}

/// Tells once what the system does not grant.
struct Notes;

impl Observer for Notes {
    fn event(&mut self, _now: Instant, event: &Event<'_>) {
        static TOLD: Once = Once::new();
        if let Event::BufferCapped(cap) = event {
            TOLD.call_once(|| output::note(format!("ringway: {cap}")));
        }
    }
}

/// Which driver the engines will get, and why it isn't the preferred one, if so.
fn which_driver(choice: DriverChoice) -> Result<String, Failure> {
    let engine = Config::default()
        .driver(choice)
        .build()
        .map_err(Failure::Start)?;
    if let Some(fallback) = engine.fallback() {
        output::note(format!(
            "ringway: driver uring can't be used, so this is epoll: {fallback}"
        ));
    }
    Ok(engine.capabilities().kind.to_string())
}
