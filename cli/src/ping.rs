//! `ringway ping`: the round trip to an echo server, message by message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use ringway::{
    Address, Closed, Config, ConnectionId, Context, DriverChoice, Engine, Handler, Instant,
    Message, Peer, SendError,
};

use crate::args;
use crate::bench::figures::float;
use crate::bench::load::{histogram, template};
use crate::bench::plan::Driver;
use crate::failure::Failure;
use crate::output::{self, duration};
use crate::{signals, tls};

/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The handler: notes what happens; the loop below decides and prints.
#[derive(Debug)]
struct Pings {
    size: usize,
    opened: bool,
    closed: Option<String>,
    answers: Vec<Answer>,
}

/// One answer that has not been printed yet.
#[derive(Clone, Copy, Debug)]
struct Answer {
    sequence: u64,
    nanos: u64,
}

impl Handler for Pings {
    fn message(&mut self, _cx: &mut Context<'_>, message: Message<'_>) {
        let body = message.body();
        let word = |at: usize| Some(u64::from_le_bytes(*body.get(at..)?.first_chunk()?));
        if let (Some(sequence), Some(stamp)) = (word(0), word(8))
            && body.len() == self.size
        {
            let nanos = Instant::monotonic().as_nanos().saturating_sub(stamp);
            self.answers.push(Answer { sequence, nanos });
        }
    }

    fn opened(&mut self, _cx: &mut Context<'_>, _connection: ConnectionId, _peer: &Peer) {
        self.opened = true;
    }

    fn closed(&mut self, _cx: &mut Context<'_>, _connection: ConnectionId, closed: &Closed) {
        self.closed = Some(closed.to_string());
    }
}

/// What was sent and what came back.
#[derive(Debug)]
struct Tally {
    sent: u64,
    answered: u64,
    sum_ns: u64,
    latencies: Histogram<u64>,
}

/// Pings until the count is reached, the connection ends, or Ctrl-C.
pub(crate) fn run(arguments: &args::Ping) -> Result<(), Failure> {
    let driver = arguments
        .driver
        .map_or(DriverChoice::Auto, Driver::required);
    let stopped = Arc::new(AtomicBool::new(false));
    let mut engine = {
        // The signal thread needs the engine's handle, and has to exist before other threads: an engine
        // starts none.
        let quic = tls::connecting(&arguments.tls, &arguments.address)?;
        let config = Config::default().driver(driver).idle(arguments.idle.idle());
        let config = tls::with(config, quic);
        config.build().map_err(Failure::Start)?
    };
    let (flag, handle) = (Arc::clone(&stopped), engine.handle());
    signals::on_stop(move || {
        // Pairs with the load in `ping`; the wake-up that follows orders them.
        flag.store(true, Ordering::Release);
        handle.wake();
    })?;
    let mut pings = Pings {
        size: arguments.size as usize,
        opened: false,
        closed: None,
        answers: Vec::new(),
    };
    let tally = ping(&mut engine, &mut pings, arguments, &stopped)?;
    summary(&arguments.address, &tally)?;
    match pings.closed {
        Some(why) => Err(Failure::Connection(format!("{}: {why}", arguments.address))),
        None if tally.answered == 0 => Err(Failure::NoAnswer),
        None => Ok(()),
    }
}

fn ping(
    engine: &mut Engine,
    pings: &mut Pings,
    arguments: &args::Ping,
    stopped: &AtomicBool,
) -> Result<Tally, Failure> {
    let address = &arguments.address;
    let open = |error| Failure::Open {
        address: address.clone(),
        error,
    };
    let connection = engine.connect(&address.to_string()).map_err(open)?;
    let body = template(arguments.size);
    let interval = Duration::from_secs_f64(arguments.interval);
    let mut tally = Tally {
        sent: 0,
        answered: 0,
        sum_ns: 0,
        latencies: histogram(),
    };
    let mut next = engine.now();
    let is_stopped = || stopped.load(Ordering::Acquire);
    while pings.closed.is_none() && !is_stopped() {
        let wish = arguments.count.is_none_or(|count| tally.sent < count);
        if !wish && tally.answered == tally.sent {
            break;
        }
        let now = engine.now();
        if now >= next {
            if !wish {
                break;
            }
            if pings.opened {
                send(engine, connection, &body, &mut tally)?;
                // The answers to the last message may take longer than the interval, and with an interval of
                // zero the next message waits for the answer to this one.
                let last = arguments.count == Some(tally.sent);
                let pause = if last || interval.is_zero() {
                    PATIENCE
                } else {
                    interval
                };
                next = engine.now() + pause;
            } else {
                // The engine itself limits how long connecting may take.
                next = now + interval;
            }
        }
        engine.wait(pings, Some(next.saturating_since(engine.now())));
        if interval.is_zero() && !pings.answers.is_empty() {
            next = engine.now();
        }
        take(pings, &mut tally, address)?;
    }
    Ok(tally)
}

fn send(
    engine: &mut Engine,
    connection: ConnectionId,
    body: &[u8],
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut cx = engine.context();
    match cx.claim(connection, body.len()) {
        Ok(mut claim) => {
            claim.copy_from_slice(body);
            let stamp = Instant::monotonic().as_nanos();
            for (at, word) in [(0, tally.sent), (8, stamp)] {
                if let Some(room) = claim.get_mut(at..at + 8) {
                    room.copy_from_slice(&word.to_le_bytes());
                }
            }
            claim.commit();
            tally.sent += 1;
            Ok(())
        }
        // The peer takes nothing any more; the next interval tries again.
        Err(SendError::Full) => Ok(()),
        Err(error) => Err(Failure::Connection(error.to_string())),
    }
}

fn take(pings: &mut Pings, tally: &mut Tally, address: &Address) -> Result<(), Failure> {
    for Answer { sequence, nanos } in pings.answers.drain(..) {
        tally.answered += 1;
        tally.sum_ns += nanos;
        tally.latencies.saturating_record(nanos.max(1));
        let size = pings.size;
        let time = duration(float(nanos));
        output::line(format!(
            "{size} bytes from {address}: seq={sequence} time={time}"
        ))?;
    }
    Ok(())
}

fn summary(address: &Address, tally: &Tally) -> Result<(), Failure> {
    let lost = tally.sent.saturating_sub(tally.answered);
    let percent = 100.0 * float(lost) / float(tally.sent.max(1));
    output::line(format!(
        "\n--- {address} ---\n{} sent, {} answered, {percent:.1} % lost",
        tally.sent, tally.answered
    ))?;
    if tally.answered == 0 {
        return Ok(());
    }
    let at = |quantile: f64| duration(float(tally.latencies.value_at_quantile(quantile)));
    let average = duration(float(tally.sum_ns) / float(tally.answered));
    let (min, max) = (float(tally.latencies.min()), float(tally.latencies.max()));
    output::line(format!(
        "round trip min {}, avg {average}, p50 {}, p99 {}, max {}",
        duration(min),
        at(0.5),
        at(0.99),
        duration(max)
    ))
}
