//! The structured event stream: what an observer sees, in which order, and that the counters tell the same.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test's helper fails the test, and its numbers are small"
)]

mod world;

use std::cell::RefCell;
use std::rc::Rc;

use ringway::{
    CloseCode, Config, ConnectionId, Counter, Engine, Event, Instant, Limits, Observer, SendError,
};
use world::{App, Pair, World, config, config_with, pattern};

on_every_driver![
    a_connection_begins_opens_and_closes_once_each,
    a_datagram_socket_does_the_same,
    a_connection_that_never_opens_closes_once,
    an_engine_that_goes_closes_what_it_had,
    full_starved_and_panicked_are_told,
    refused_connections_name_the_limit,
    messages_are_told_only_to_who_wants_them,
    counters_agree_with_the_events,
];

/// An event without what it borrowed.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Listening,
    AcceptFailed,
    Refused(&'static str),
    Begun(ConnectionId),
    Opened(ConnectionId),
    Closed(ConnectionId, String, u64),
    Starved(ConnectionId),
    Full(ConnectionId),
    Panicked(Option<ConnectionId>),
    Message(ConnectionId, usize),
}

/// Records events; its clones share them.
#[derive(Clone, Default)]
struct Recorder {
    seen: Rc<RefCell<Vec<Seen>>>,
    messages: bool,
}

impl Observer for Recorder {
    fn event(&mut self, now: Instant, event: &Event<'_>) {
        assert!(now > Instant::ZERO, "events carry the time of their turn");
        let seen = match event {
            Event::Listening { address, .. } => {
                assert!(address.is_some());
                Seen::Listening
            }
            Event::AcceptFailed { .. } => Seen::AcceptFailed,
            Event::Refused { limit } => Seen::Refused(limit),
            Event::Begun { connection } => Seen::Begun(*connection),
            Event::Opened { connection } => Seen::Opened(*connection),
            Event::Closed { connection, closed } => Seen::Closed(
                *connection,
                format!("{:?}", closed.reason),
                closed.unsent_bytes,
            ),
            Event::Starved { connection } => Seen::Starved(*connection),
            Event::Full { connection } => Seen::Full(*connection),
            Event::Panicked { connection } => Seen::Panicked(*connection),
            Event::Message { connection, bytes } => Seen::Message(*connection, *bytes),
            other => unreachable!("an event that this test does not know: {other:?}"),
        };
        self.seen.borrow_mut().push(seen);
    }

    fn wants_messages(&self) -> bool {
        self.messages
    }
}

impl Recorder {
    fn with_messages() -> Self {
        Self {
            messages: true,
            ..Self::default()
        }
    }

    fn on(&self, config: Config) -> Config {
        config.observer(Box::new(self.clone()))
    }

    fn count(&self, matches: impl Fn(&Seen) -> bool) -> usize {
        self.seen
            .borrow()
            .iter()
            .filter(|seen| matches(seen))
            .count()
    }

    /// What was seen of one connection, in order.
    fn of(&self, id: ConnectionId) -> Vec<Seen> {
        let about = |seen: &&Seen| match seen {
            Seen::Begun(of) | Seen::Opened(of) | Seen::Closed(of, ..) => *of == id,
            Seen::Starved(of) | Seen::Full(of) | Seen::Message(of, _) => *of == id,
            Seen::Panicked(of) => *of == Some(id),
            Seen::Listening | Seen::AcceptFailed | Seen::Refused(_) => false,
        };
        self.seen.borrow().iter().filter(about).cloned().collect()
    }

    /// Every connection begins first, opens at most once, closes at most once and last; `open` still live.
    fn check(&self, open: usize) {
        let begun: Vec<_> = self
            .seen
            .borrow()
            .iter()
            .filter_map(|seen| match seen {
                Seen::Begun(id) => Some(*id),
                _ => None,
            })
            .collect();
        let mut live = begun.len();
        for id in begun {
            let of = self.of(id);
            let at = |matches: &dyn Fn(&Seen) -> bool| -> Vec<usize> {
                (0..of.len()).filter(|at| matches(&of[*at])).collect()
            };
            assert_eq!(at(&|seen| matches!(seen, Seen::Begun(_))), [0], "{of:?}");
            assert!(
                at(&|seen| matches!(seen, Seen::Opened(_))).len() <= 1,
                "{of:?}"
            );
            let closed = at(&|seen| matches!(seen, Seen::Closed(..)));
            assert!(closed.is_empty() || closed == [of.len() - 1], "{of:?}");
            live -= closed.len();
        }
        assert_eq!(live, open, "connections that have not closed");
    }
}

fn value(engine: &Engine, counter: Counter) -> usize {
    engine.handle().counters().value(counter) as usize
}

fn recorded(world: World) -> (Pair, Recorder, Recorder) {
    let (near, far) = (Recorder::default(), Recorder::default());
    let pair = Pair::with(world, near.on(config()), far.on(config()));
    (pair, near, far)
}

fn a_connection_begins_opens_and_closes_once_each(world: World) {
    let (mut pair, near, far) = recorded(world);
    let (client, server) = pair.connected("tcp");
    assert_eq!(near.of(client), [Seen::Begun(client), Seen::Opened(client)]);
    assert_eq!(
        far.seen.borrow()[..2],
        [Seen::Listening, Seen::Begun(server)]
    );
    pair.client
        .engine
        .context()
        .close(client, CloseCode::Normal);
    pair.until("both closed", |pair| {
        pair.client.app.closed.len() == 1 && pair.server.app.closed.len() == 1
    });
    let local = Seen::Closed(client, "Local(Normal)".into(), 0);
    assert_eq!(
        near.of(client),
        [Seen::Begun(client), Seen::Opened(client), local]
    );
    let peer = Seen::Closed(server, "Peer(Normal)".into(), 0);
    assert_eq!(
        far.of(server),
        [Seen::Begun(server), Seen::Opened(server), peer]
    );
    near.check(0);
    far.check(0);
}

fn a_datagram_socket_does_the_same(world: World) {
    let (mut pair, near, far) = recorded(world);
    let (listener, address) = pair.listening("udp://127.0.0.1:0");
    let socket = listener.datagram_socket().unwrap();
    let client = pair.client.engine.connect(&address).unwrap();
    pair.until("usable", |pair| !pair.client.app.opened.is_empty());
    near.check(1);
    far.check(1);
    pair.server.engine.unlisten(listener);
    pair.client
        .engine
        .context()
        .close(client, CloseCode::Normal);
    pair.until("both closed", |pair| {
        pair.client.app.closed.len() == 1 && pair.server.app.closed.len() == 1
    });
    for (recorder, id) in [(near, client), (far, socket)] {
        let closed = Seen::Closed(id, "Local(Normal)".into(), 0);
        assert_eq!(recorder.of(id), [Seen::Begun(id), Seen::Opened(id), closed]);
        recorder.check(0);
    }
}

fn a_connection_that_never_opens_closes_once(world: World) {
    let (mut pair, near, _) = recorded(world);
    let (listener, address) = pair.listening("tcp://127.0.0.1:0");
    pair.server.engine.unlisten(listener);
    pair.steps(5);
    let refused = pair.client.engine.connect(&address).unwrap();
    let given_up = pair.client.engine.connect(&address).unwrap();
    pair.client
        .engine
        .context()
        .close(given_up, CloseCode::Normal);
    pair.until("both gone", |pair| pair.client.app.closed.len() == 2);
    assert!(
        matches!(&near.of(refused)[1], Seen::Closed(_, why, 0) if why.contains("ConnectFailed"))
    );
    assert_eq!(
        near.of(given_up)[1],
        Seen::Closed(given_up, "Local(Normal)".into(), 0)
    );
    assert_eq!(near.count(|seen| matches!(seen, Seen::Opened(_))), 0);
    near.check(0);
}

fn an_engine_that_goes_closes_what_it_had(world: World) {
    let (mut pair, near, far) = recorded(world);
    for _ in 0..5 {
        let (client, _) = pair.connected("tcp");
        pair.client.send(client, &pattern(100_000, 1)).unwrap();
    }
    pair.server.engine.listen("udp://127.0.0.1:0").unwrap();
    near.check(5);
    far.check(6);
    drop(pair);
    near.check(0);
    far.check(0);
}

fn full_starved_and_panicked_are_told(world: World) {
    let (near, far) = (Recorder::default(), Recorder::default());
    let client = near.on(config().limits(Limits {
        queue_bytes_max: 100_000,
        ..Limits::default()
    }));
    let budget = Limits {
        budget_bytes: 16 << 20,
        ..Limits::default()
    };
    let server = config_with(|stream| stream.message_bytes_max = 4 << 20).limits(budget);
    let mut pair = Pair::with(world, client, far.on(server));
    let (first, first_server) = pair.connected("tcp");
    pair.client.send(first, &pattern(90_000, 1)).unwrap();
    assert_eq!(
        pair.client.send(first, &pattern(90_000, 2)),
        Err(SendError::Full)
    );
    assert_eq!(near.count(|seen| *seen == Seen::Full(first)), 1);

    pair.server.app.count_only = true;
    let ends: Vec<_> = (0..8).map(|_| pair.connected("tcp").0).collect();
    for end in ends {
        pair.client.send(end, &pattern(3 << 20, 3)).unwrap();
    }
    pair.until("all arrived", |pair| pair.server.app.count == 9);
    assert!(
        far.count(|seen| matches!(seen, Seen::Starved(_))) > 0,
        "memory for three of eight"
    );

    pair.server.app.panic_on = Some(b"boom".to_vec());
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    pair.client.send(first, b"boom").unwrap();
    pair.until("closed", |pair| {
        pair.server.app.reason(first_server).is_some()
    });
    std::panic::set_hook(hook);
    let of = far.of(first_server);
    assert_eq!(of[of.len() - 2], Seen::Panicked(Some(first_server)));
    assert!(matches!(&of[of.len() - 1], Seen::Closed(_, why, _) if why == "HandlerPanicked"));
    far.check(8);
    pair.steps(2);
    for (counter, seen) in [
        (
            Counter::Starved,
            far.count(|seen| matches!(seen, Seen::Starved(_))),
        ),
        (Counter::Panics, 1),
        (Counter::Full, 0),
    ] {
        assert_eq!(value(&pair.server.engine, counter), seen, "{counter:?}");
    }
    assert_eq!(value(&pair.client.engine, Counter::Full), 1);
}

fn refused_connections_name_the_limit(world: World) {
    let far = Recorder::default();
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let mut pair = Pair::with(world, config(), far.on(config().limits(limits)));
    let address = pair.world.address("tcp");
    let (_, address) = pair.listening(&address);
    pair.connect_to(&address);
    pair.connect_to(&address);
    let extra = pair.client.engine.connect(&address).unwrap();
    pair.until("refused", |pair| pair.client.app.reason(extra).is_some());
    assert_eq!(
        far.count(|seen| *seen == Seen::Refused("connections_max")),
        1
    );
    assert_eq!(value(&pair.server.engine, Counter::Refused), 1);
    far.check(2);
}

fn messages_are_told_only_to_who_wants_them(world: World) {
    let (near, far) = (Recorder::default(), Recorder::with_messages());
    let mut pair = Pair::with(world, near.on(config()), far.on(config()));
    pair.server.app = App::echo();
    let (client, server) = pair.connected("tcp");
    for len in [0, 100, 200_000] {
        pair.client.send(client, &pattern(len, 1)).unwrap();
    }
    pair.until("all came back", |pair| pair.client.app.got.len() == 3);
    assert_eq!(near.count(|seen| matches!(seen, Seen::Message(..))), 0);
    let told: Vec<_> = far.of(server).split_off(2);
    let expected = [0, 100, 200_000].map(|bytes| Seen::Message(server, bytes));
    assert_eq!(told, expected);
}

fn counters_agree_with_the_events(world: World) {
    let (near, far) = (Recorder::with_messages(), Recorder::with_messages());
    let mut pair = Pair::with(world, near.on(config()), far.on(config()));
    pair.server.app = App::echo();
    let mut ends = Vec::new();
    for _ in 0..20 {
        let (client, server) = pair.connected("tcp");
        pair.client.send(client, &pattern(50, 1)).unwrap();
        ends.push((client, server));
    }
    pair.until("all came back", |pair| pair.client.app.got.len() == 20);
    for (at, (client, server)) in ends.into_iter().enumerate().take(15) {
        let (host, id) = if at % 2 == 0 {
            (&mut pair.client, client)
        } else {
            (&mut pair.server, server)
        };
        host.engine.context().close(id, CloseCode::Normal);
    }
    pair.until("closed", |pair| {
        pair.client.app.closed.len() == 15 && pair.server.app.closed.len() == 15
    });
    pair.steps(2);
    for (engine, recorder) in [(&pair.client.engine, &near), (&pair.server.engine, &far)] {
        recorder.check(5);
        let counts = [
            (
                Counter::Opened,
                recorder.count(|seen| matches!(seen, Seen::Opened(_))),
            ),
            (
                Counter::Closed,
                recorder.count(|seen| matches!(seen, Seen::Closed(..))),
            ),
            (
                Counter::MessagesIn,
                recorder.count(|seen| matches!(seen, Seen::Message(..))),
            ),
        ];
        for (counter, seen) in counts {
            assert_eq!(value(engine, counter), seen, "{counter:?}");
        }
        assert_eq!(value(engine, Counter::Connections), 5);
        assert_eq!(engine.stats().connections, 5);
    }
    assert_eq!(
        (
            value(&pair.client.engine, Counter::Accepted),
            near.count(|_| true)
        ),
        (0, 75)
    );
    assert_eq!(value(&pair.server.engine, Counter::Accepted), 20);
}

#[test]
fn a_listener_that_can_not_accept_says_so_and_recovers() {
    use ringway_engine::sim::{Chance, DriverFaults, Faults};
    let far = Recorder::default();
    let mut pair = Pair::with(World::sim(), config(), far.on(config()));
    let World::Sim(net) = &pair.world else {
        unreachable!("simulated")
    };
    let net = net.clone();
    let driver = DriverFaults {
        accept: Chance::ALWAYS,
        ..DriverFaults::default()
    };
    net.set_faults(Faults {
        driver,
        ..Faults::none()
    });
    let (_, address) = pair.listening("tcp://127.0.0.1:0");
    let failed = || far.count(|seen| *seen == Seen::AcceptFailed);
    for times in 1..=3 {
        pair.client.engine.connect(&address).unwrap();
        pair.until("in vain", |_| failed() >= times);
    }
    // Figures are published when an engine idles.
    pair.until("counted", |pair| {
        value(&pair.server.engine, Counter::AcceptFaults) == failed()
    });
    net.set_faults(Faults::none());
    pair.connect_to(&address);
    far.check(pair.server.engine.stats().connections);
}
