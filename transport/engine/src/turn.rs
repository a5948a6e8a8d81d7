//! One pass of the loop.

use ringway_buf::Instant;
use ringway_driver::{Address, Close, Driver, Incoming, Park, SocketOptions};

use crate::connection::{Carrier, Phase};
use crate::context::Context;
use crate::event::Event;
use crate::filtered::plaintext;
use crate::handle::Command;
use crate::hub::{Action, Arrival, Hub, Owed};
use crate::link::{Acceptor, LinkEnd};
use crate::packet::Protocol;
use crate::panics::guarded;
use crate::recv::{TurnSink, gone};
use crate::timers::{Due, TURN_TIMERS_MAX};
use crate::{CloseReason, Full, Handler};

/// Most commands of other threads taken in one turn; the rest waits for the next.
const TURN_COMMANDS_MAX: usize = 256;
/// After this many events in one turn the clock is read again before timers and flush.
const TURN_EVENTS_STALE: u32 = 64;

/// Busy turns after which the counters are published all the same.
const TURNS_UNPUBLISHED_MAX: u32 = 64;

/// The ends of the queues that only the engine's thread reads.
#[derive(Debug)]
pub(crate) struct Inlets {
    pub(crate) commands: ringway_buf::mpsc::Receiver<Command>,
    pub(crate) links: ringway_buf::mpsc::Receiver<crate::ConnectionId>,
}

/// Commands, events, timers, sends: everything once. Returns how much there was to do.
pub(crate) fn pass<D: Driver, H: Handler>(
    hub: &mut Hub,
    inlets: &mut Inlets,
    driver: &mut D,
    handler: &mut H,
    park: Park,
) -> u32 {
    hub.work = 0;
    hub.turn += 1;
    hub.now = driver.now();
    // Parked, the bell must be left alone: answering it here would silence the rings of the coming sleep.
    if park == Park::No && hub.shared.bell.rang() {
        commands(hub, inlets, driver, handler);
    }
    if !hub.starved.is_empty() && hub.memory_came_back() {
        hub.feed_starved();
    }
    // What the owner wrote between two turns leaves before anyone looks whether something came: a look that finds nothing
    // costs a call half of what its own send does.
    if !hub.dirty.is_empty() {
        settle(hub, driver, handler);
    }
    driver.poll(park, &mut TurnSink { hub, handler });
    if park != Park::No {
        hub.now = driver.now();
        commands(hub, inlets, driver, handler);
    } else if hub.work > TURN_EVENTS_STALE {
        hub.now = driver.now();
    }
    if hub.timers.next().is_some_and(|at| at <= hub.now) {
        timers(hub, handler);
    }
    settle(hub, driver, handler);
    // Published when idle, so that nobody's answer waits for it; a busy engine does it now and then.
    if hub.work > 0 {
        hub.unpublished += 1;
    }
    if hub.unpublished > 0 && (hub.work == 0 || hub.unpublished == TURNS_UNPUBLISHED_MAX) {
        hub.unpublished = 0;
        hub.publish(driver.stats());
    }
    hub.work
}

/// Like [`pass`], but sleeps until something happens or `limit` is reached, unless something waits already.
pub(crate) fn sleep<D: Driver, H: Handler>(
    hub: &mut Hub,
    inlets: &mut Inlets,
    driver: &mut D,
    handler: &mut H,
    limit: Option<Instant>,
) -> u32 {
    if hub.unpublished > 0 {
        hub.unpublished = 0;
        hub.publish(driver.stats());
    }
    // Whoever rings from here on wakes the driver; who rang before makes `park` fail.
    let park = if hub.has_work() || !hub.shared.bell.park() {
        Park::No
    } else {
        hub.park(limit)
    };
    pass(hub, inlets, driver, handler, park)
}

/// Times that a driver is polled before its owner is told that it can't sleep yet.
const ARMS_MAX: u32 = 4;

/// Gets ready for a sleep in a loop of others, as [`sleep`] does, without sleeping. How long that may last: `Park::No`
/// if something waits already.
pub(crate) fn arm<D: Driver, H: Handler>(
    hub: &mut Hub,
    inlets: &mut Inlets,
    driver: &mut D,
    handler: &mut H,
) -> Park {
    if hub.unpublished > 0 {
        hub.unpublished = 0;
        hub.publish(driver.stats());
    }
    for _ in 0..ARMS_MAX {
        driver.hush();
        // What came before is found here; what comes from here on is told.
        let past = Park::Until(Some(driver.now()));
        if pass(hub, inlets, driver, handler, past) > 0 {
            return Park::No;
        }
        let Park::Until(limit) = driver.rest() else {
            continue;
        };
        // Whoever rings from here on wakes the driver; who rang before makes `park` fail.
        if hub.has_work() || !hub.shared.bell.park() {
            return Park::No;
        }
        return hub.park(limit);
    }
    Park::No
}

/// Does what the turn's events asked for, until nothing is left to do.
fn settle<D: Driver, H: Handler>(hub: &mut Hub, driver: &mut D, handler: &mut H) {
    if !hub.has_work() {
        return;
    }
    hub.work += 1;
    if !hub.arrivals.is_empty() {
        admit(hub, driver, handler);
    }
    if !hub.replay.is_empty() {
        for id in std::mem::take(&mut hub.replay) {
            if guarded(|| plaintext(hub, handler, id)).is_none() {
                hub.panicked(Some(id));
            }
        }
    }
    hub.flush(driver);
    if !hub.endpoints_dirty.is_empty() {
        crate::packet_events::serve(hub, driver, handler);
    }
    if !hub.actions.is_empty() {
        let mut actions = std::mem::take(&mut hub.actions);
        for action in actions.drain(..) {
            act(hub, driver, action);
        }
        if hub.actions.is_empty() {
            hub.actions = actions;
        }
    }
    driver.flush(&mut TurnSink { hub, handler });
    if hub.owed.is_empty() {
        return;
    }
    for owed in std::mem::take(&mut hub.owed) {
        let (id, error) = match owed {
            Owed::Closed(id, error) => (id, error),
            Owed::Freed(id, bytes) => {
                if guarded(|| crate::packet_events::sent(hub, handler, id, bytes)).is_none() {
                    hub.panicked(Some(id));
                }
                continue;
            }
        };
        if let (Some(connection), Some(error)) = (hub.connections.get_mut(id.0), error) {
            connection
                .reason
                .get_or_insert(CloseReason::NotOpened(error));
        }
        gone(hub, handler, id, ringway_driver::CloseCause::Requested);
    }
}

fn act<D: Driver>(hub: &mut Hub, driver: &mut D, action: Action) {
    match action {
        Action::Read(socket, on) => driver.read(socket, on),
        Action::Close(socket, how) => driver.close(socket, how),
        Action::Connect(id, address, mut options) => {
            // Closed before it began: its end is owed, and nobody would own the socket.
            let awaited = hub.connections.get(id.0).map(|it| &it.phase);
            if !matches!(awaited, Some(Phase::Connecting(_))) {
                return;
            }
            if let Some(packets) = Protocol::of(&address) {
                crate::packet::widen(&mut options);
                match driver.connect(&Address::Udp(packets.1), &options) {
                    Ok(socket) => {
                        hub.check_buffers(driver, socket, &options);
                        hub.connect_packets(driver, id, socket, packets);
                    }
                    Err(error) => hub.owed.push(Owed::Closed(id, Some(error))),
                }
                return;
            }
            match driver.connect(&address, &options) {
                Ok(socket) => {
                    hub.check_buffers(driver, socket, &options);
                    hub.attach(id, socket);
                    let Some(connection) = hub.connections.get_mut(id.0) else {
                        return;
                    };
                    connection.peer_address = Some(Box::new(address));
                    if let Carrier::Datagram(datagrams) = &mut connection.carrier
                        && let Some(bytes_max) = driver.datagram_bytes_max(socket)
                    {
                        datagrams.learn_bytes_max(bytes_max);
                    }
                }
                Err(error) => hub.owed.push(Owed::Closed(id, Some(error))),
            }
        }
    }
}

/// Gives accepted connections to the engines that share them, this one included.
fn admit<D: Driver, H: Handler>(hub: &mut Hub, driver: &mut D, handler: &mut H) {
    for arrival in std::mem::take(&mut hub.arrivals) {
        let Arrival {
            listener,
            incoming,
            peer,
        } = arrival;
        let wanted = guarded(|| handler.accept(listener, peer.as_ref()));
        if wanted.is_none() {
            hub.panicked(None);
        }
        let target = hub.listener_mut(listener).map(|entry| {
            entry.rest = crate::listener::ACCEPT_REST_MIN;
            entry.next_engine()
        });
        let (Some(target), Some(true)) = (target, wanted) else {
            discard(driver, incoming);
            continue;
        };
        let (incoming, peer) = match target {
            Some(handle) => match handle.adopt(incoming, peer) {
                Ok(()) => continue,
                // That engine is gone or overwhelmed: this one takes it rather than drop it.
                Err(back) => back,
            },
            None => (incoming, peer),
        };
        adopt(hub, driver, Some(listener), incoming, peer);
    }
}

/// Closes a connection that nobody takes.
fn discard<D: Driver>(driver: &mut D, incoming: Incoming) {
    match incoming {
        Incoming::Fd(socket) => drop(socket),
        // A simulated end has no destructor: only its driver can close it.
        other => {
            if let Ok(socket) = driver.adopt(other, &SocketOptions::default()) {
                driver.close(socket, Close::Abort);
            }
        }
    }
}

fn adopt<D: Driver>(
    hub: &mut Hub,
    driver: &mut D,
    listener: Option<crate::ListenerId>,
    incoming: Incoming,
    peer: Option<Address>,
) {
    let limits = hub.settings.limits;
    let refused = if hub.draining {
        Some("draining")
    } else if hub.handshakes >= limits.handshakes_max {
        Some("handshakes_max")
    } else if hub.connections.is_full() {
        Some("connections_max")
    } else {
        None
    };
    if let Some(limit) = refused {
        discard(driver, incoming);
        hub.emit(&Event::Refused { limit });
        return;
    }
    let settings = std::rc::Rc::clone(&hub.settings);
    let links = listener
        .and_then(|id| hub.listener_mut(id))
        .map(|entry| (entry.options.socket.clone(), entry.links.clone()));
    let (options, links) = links.unwrap_or_else(|| (settings.socket.clone(), None));
    let Ok(socket) = driver.adopt(incoming, &options) else {
        return hub.emit(&Event::Refused {
            limit: "sockets of the driver",
        });
    };
    let deadline = hub.now + settings.times.connect;
    let phase = Phase::Connecting(deadline);
    let Some(id) = hub.begin(phase, ringway_proto::Role::Server) else {
        driver.close(socket, Close::Abort);
        return;
    };
    hub.cells.add(crate::Counter::Accepted, 1);
    let shared = std::sync::Arc::clone(&hub.shared);
    if let Some(connection) = hub.connections.get_mut(id.0) {
        connection.listener = listener;
        connection.peer_address = peer.map(Box::new);
        connection.link = links.map(|accept| {
            Box::new(LinkEnd::accepting(
                &shared,
                id,
                limits.link_messages_max,
                accept,
            ))
        });
    }
    hub.attach(id, socket);
    hub.live(id);
}

/// Answers the bell: takes commands of other threads, a bounded number.
fn commands<D: Driver, H: Handler>(
    hub: &mut Hub,
    inlets: &mut Inlets,
    driver: &mut D,
    handler: &mut H,
) {
    if !hub.shared.bell.unpark() {
        return;
    }
    hub.work += 1;
    if hub.shared.take_notified()
        && guarded(|| handler.notified(&mut Context { hub: &mut *hub })).is_none()
    {
        hub.panicked(None);
    }
    let mut taken = 0;
    while taken < TURN_COMMANDS_MAX {
        let Some(command) = inlets.commands.pop() else {
            break;
        };
        taken += 1;
        if guarded(|| command_of(hub, driver, command)).is_none() {
            hub.panicked(None);
        }
    }
    if taken > 0 {
        hub.shared.made_room();
    }
    // Counted apart: a flood of commands must not keep the links waiting.
    for _ in 0..TURN_COMMANDS_MAX {
        let Some(link) = inlets.links.pop() else {
            break;
        };
        hub.attend_link(link);
    }
    if hub.shared.take_missed() {
        for id in hub.connections.ids() {
            hub.attend_link(crate::ConnectionId(id));
        }
    }
    if !inlets.commands.is_empty() || !inlets.links.is_empty() {
        // Not all fitted into this turn: ring for the next one.
        let woken = hub.shared.bell.ring();
        debug_assert!(!woken, "the engine is awake");
    }
}

fn command_of<D: Driver>(hub: &mut Hub, driver: &mut D, command: Command) {
    match command {
        Command::Run(work) => work(&mut Context { hub }),
        Command::Send {
            connection,
            body,
            reply,
        } => {
            let sent = Context { hub }.send(connection, &body);
            reply.answer(sent.map_err(|error| Full {
                message: body,
                error,
            }));
        }
        Command::Connect { address, reply } => match hub.connect_later(address) {
            Ok(id) => {
                let inbox_max = hub.settings.limits.link_messages_max;
                let shared = std::sync::Arc::clone(&hub.shared);
                if let Some(connection) = hub.connections.get_mut(id.0) {
                    let link = LinkEnd::connecting(&shared, id, inbox_max, reply);
                    connection.link = Some(Box::new(link));
                }
            }
            Err(error) => {
                reply.answer(Err(crate::LinkError::Open(std::sync::Arc::new(error))));
            }
        },
        Command::Listen {
            address,
            options,
            reply,
        } => {
            let opened = hub.listen(driver, &address, &options).map(|id| {
                let shared = std::sync::Arc::clone(&hub.shared);
                let real = hub.listener_mut(id).and_then(|entry| entry.address.clone());
                let (acceptor, end) = Acceptor::new(&shared, id, real);
                if let Some(entry) = hub.listener_mut(id) {
                    entry.links = Some(end);
                }
                acceptor
            });
            reply.answer(opened);
        }
        Command::Adopt { incoming, peer } => adopt(hub, driver, None, incoming, peer),
        Command::Drain => hub.drain_all(),
        Command::Stop => hub.stopping = true,
    }
}

fn timers<H: Handler>(hub: &mut Hub, handler: &mut H) {
    for _ in 0..TURN_TIMERS_MAX {
        let Some((at, due)) = hub.timers.pop(hub.now) else {
            return;
        };
        match due {
            Due::Connection(id) => hub.due(id, at),
            Due::Paused(id) => hub.reassure(id),
            Due::Endpoint(id) => hub.endpoint_due(id, at),
            Due::Listener(id) => {
                if let Some(listener) = hub.listener_mut(id) {
                    let socket = listener.socket;
                    hub.actions.push(Action::Read(socket, true));
                }
            }
            Due::User(timer) => {
                hub.work += 1;
                if guarded(|| handler.timer(&mut Context { hub }, timer)).is_none() {
                    hub.panicked(None);
                }
            }
        }
    }
}
