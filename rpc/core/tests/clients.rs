//! The clients of one engine: connections that are made anew, drained, forgotten; what calls get meanwhile.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod net;
mod world;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use net::{CLIENT, Net};
use ringway_buf::Instant;
use ringway_call::{CallConfig, Code, Status};
use ringway_engine::Counter;
use ringway_engine::sim::{Chance, DatagramFaults, Fault, Faults, NetConfig, SimNet};
use ringway_rpc::{
    CallOptions, Deferred, IncomingCall, Kind, Method, NotTaken, Raw, Server, ServerBuilder,
    ServerLimits, Service, ServiceInfo,
};
use world::World;

static INFO: ServiceInfo = ServiceInfo {
    name: "test.Plain",
    methods: &[
        Method::new("test.Plain/Echo", Kind::Unary, 0, 0),
        Method::new("test.Plain/Defer", Kind::Unary, 0, 0),
    ],
    descriptors: &[],
};
const ECHO: u32 = 0;
const DEFER: u32 = 1;

#[derive(Clone, Default)]
struct Plain {
    echoed: Rc<Cell<u32>>,
    deferred: Rc<RefCell<Vec<Deferred<[u8]>>>>,
}

impl Service for Plain {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        match u32::try_from(call.method()).unwrap() {
            ECHO => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                self.echoed.set(self.echoed.get() + 1);
                reply.send(request)
            }),
            DEFER => call.inline::<Raw, [u8], [u8]>(|_call, _request, reply| {
                let (deferred, replied) = reply.defer()?;
                self.deferred.borrow_mut().push(deferred);
                Ok(replied)
            }),
            _ => call.unimplemented(),
        }
    }
}

fn server(plain: &Plain) -> ServerBuilder {
    Server::builder().service_here(plain.clone())
}

fn options() -> CallOptions<'static> {
    CallOptions::default()
}

fn before_there_is_a_connection_calls_fail_at_once(world: World) {
    let mut net = Net::new(world);
    let (_, address) = net.serve(server(&Plain::default()));
    let target = net.client(|clients, cx| clients.connect(cx, &address).unwrap());
    net.client(|clients, cx| clients.bind(cx, target, INFO.methods).unwrap());
    let status = net.start(target, ECHO, b"", &options()).unwrap_err();
    assert_eq!((status.code, status.not_started), (Code::Unavailable, true));
    let status = net.client(|clients, cx| {
        let sent = clients.one_way(cx, target, ECHO, &options(), &b""[..]);
        Status::from(sent.unwrap_err())
    });
    assert_eq!((status.code, status.not_started), (Code::Unavailable, true));
}

fn one_way_calls_are_executed(world: World) {
    let (mut net, plain) = (Net::new(world), Plain::default());
    let (_, address) = net.serve(server(&plain));
    let target = net.connect(&address, INFO.methods);
    for _ in 0..10 {
        net.client(|clients, cx| {
            let sent = clients.one_way(cx, target, ECHO, &options(), &b"x"[..]);
            sent.unwrap();
        });
    }
    assert!(net.call(target, ECHO, b"last").status.is_ok());
    assert_eq!(plain.echoed.get(), 11);
}

/// Who would try again later has to know when that is of no use.
fn a_message_that_is_too_long_is_told_from_a_lack_of_room(world: World) {
    let mut net = Net::new(world);
    let call = CallConfig {
        inline_bytes_max: 1024,
        message_bytes_max: 2048,
        calls_max: 1,
        ..CallConfig::default()
    };
    let limits = ServerLimits {
        call,
        ..ServerLimits::default()
    };
    let (_, address) = net.serve(server(&Plain::default()).limits(limits));
    let target = net.connect(&address, INFO.methods);
    let mut start = |body: &[u8]| {
        net.client(|clients, cx| {
            let request = (Some(body), true);
            clients.start(cx, target, DEFER, &options(), request, Instant::ZERO)
        })
    };
    let refused = start(&[0; 2049]).unwrap_err();
    assert!(
        matches!(&refused, NotTaken::TooLong(status) if status.not_started),
        "{refused:?}"
    );
    start(&[0; 16]).unwrap();
    let refused = start(&[0; 16]).unwrap_err();
    assert!(
        matches!(&refused, NotTaken::Other(status) if status.not_started),
        "{refused:?}"
    );
}

/// The server asks to go elsewhere: open calls are finished where they are, new ones go over a new connection.
fn a_drained_connection_is_replaced(world: World) {
    let (mut net, plain) = (Net::new(world), Plain::default());
    let (at, address) = net.serve(server(&plain));
    let target = net.connect(&address, INFO.methods);
    let (held, _) = net.start(target, DEFER, b"", &options()).unwrap();
    net.until("it runs", |_| plain.deferred.borrow().len() == 1);
    let host = net.host(at);
    host.node.drain(&mut host.engine.context());
    net.until("there are two connections", |net| {
        net.host(at).node.connections() == 2
    });
    net.until("calls go again", |net| {
        net.client(|clients, _cx| clients.is_ready(target))
    });
    let answer = net.call(target, ECHO, b"new");
    assert_eq!(answer.message.unwrap().bytes(), b"new");
    plain.deferred.borrow_mut().pop().unwrap().send(b"old");
    assert_eq!(net.end(held).message.unwrap().bytes(), b"old");
    net.until("the old one is gone", |net| {
        net.host(at).node.connections() == 1
    });
    assert!(net.call(target, ECHO, b"x").status.is_ok());
}

fn a_server_that_is_forgotten_is_let_go(world: World) {
    let (mut net, plain) = (Net::new(world), Plain::default());
    let (at, address) = net.serve(server(&plain));
    let target = net.connect(&address, INFO.methods);
    let (held, _) = net.start(target, DEFER, b"", &options()).unwrap();
    net.until("it runs", |_| plain.deferred.borrow().len() == 1);
    net.client(|clients, cx| clients.disconnect(cx, target));
    let status = net.start(target, ECHO, b"", &options()).unwrap_err();
    assert_eq!((status.code, status.not_started), (Code::Unavailable, true));
    // What is open is finished first.
    plain.deferred.borrow_mut().pop().unwrap().send(b"held");
    assert_eq!(net.end(held).message.unwrap().bytes(), b"held");
    net.until("the connection is gone", |net| {
        net.host(at).node.connections() == 0
    });
    net.until("at both ends", |net| {
        net.host(CLIENT).engine.stats().connections == 0
    });
}

fn a_lost_server_is_found_again(world: World) {
    let (mut net, plain) = (Net::new(world), Plain::default());
    let (at, address) = net.serve(server(&plain));
    let target = net.connect(&address, INFO.methods);
    let (held, _) = net.start(target, DEFER, b"", &options()).unwrap();
    net.until("it runs", |_| plain.deferred.borrow().len() == 1);
    net.kill(at);
    let status = net.end(held).status;
    assert_eq!(
        (status.code, status.not_started),
        (Code::Unavailable, false)
    );
    net.until("a call is refused for certain", |net| {
        net.start(target, ECHO, b"", &options()).is_err()
    });
    let (_, again) = net.serve_at(&address, server(&plain));
    assert_eq!(again, address);
    net.until("calls go again", |net| {
        net.client(|clients, _cx| clients.is_ready(target))
    });
    // Methods keep their indices.
    let answer = net.call(target, ECHO, b"again");
    assert_eq!(answer.message.unwrap().bytes(), b"again");
}

fn more_methods_than_the_server_allows_are_refused(world: World) {
    let limits = ServerLimits {
        call: CallConfig {
            methods_max: 2,
            ..CallConfig::default()
        },
        ..ServerLimits::default()
    };
    let mut net = Net::new(world);
    let (_, address) = net.serve(server(&Plain::default()).limits(limits));
    let target = net.connect(&address, INFO.methods);
    let more = [Method::new("test.Plain/More", Kind::Unary, 0, 0)];
    let status = net.client(|clients, cx| clients.bind(cx, target, &more).unwrap_err());
    assert_eq!(status.code, Code::FailedPrecondition);
    let first = net.client(|clients, cx| clients.bind(cx, target, &INFO.methods[1..]).unwrap());
    assert_eq!(first, 1, "what is bound already needs no place");
    assert!(net.call(target, ECHO, b"x").status.is_ok());
}

over_every_transport!(
    before_there_is_a_connection_calls_fail_at_once,
    a_message_that_is_too_long_is_told_from_a_lack_of_room,
    one_way_calls_are_executed,
    a_drained_connection_is_replaced,
    a_server_that_is_forgotten_is_let_go,
    a_lost_server_is_found_again,
    more_methods_than_the_server_allows_are_refused,
);

/// Virtual time only: a minute of failed attempts is over at once.
#[test]
fn a_server_that_never_stays_is_not_hammered() {
    let mut net = Net::new(World::sim());
    let (at, address) = net.serve(server(&Plain::default()));
    net.connect(&address, INFO.methods);
    let until = net.host(CLIENT).engine.now() + Duration::from_secs(60);
    let counters = net.host(at).engine.handle().counters();
    let mut accepted = 0;
    net.until("a minute has passed", |net| {
        let host = net.host(at);
        let now = counters.value(Counter::Accepted);
        if now > accepted && host.node.connections() > 0 {
            accepted = now;
            host.node.drain(&mut host.engine.context());
        }
        net.host(CLIENT).engine.now() >= until
    });
    // 20 ms, doubled up to 5 s, each 20 % more or less: 8 attempts in the first 5 s, then 9 to 14.
    assert!((10..=30).contains(&accepted), "{accepted} connections");
}

/// A server that falls silent is noticed by keepalive, and its calls end.
#[test]
fn a_silent_server_is_noticed() {
    let (mut net, plain) = (Net::new(World::sim()), Plain::default());
    let (at, address) = net.serve(server(&plain));
    let target = net.connect(&address, INFO.methods);
    let (held, _) = net.start(target, DEFER, b"", &options()).unwrap();
    net.until("it runs", |_| plain.deferred.borrow().len() == 1);
    let begin = net.host(CLIENT).engine.now();
    // It is there, but nobody turns it any more.
    let silent = net.hosts[at].take();
    let status = net.end(held).status;
    assert_eq!(
        (status.code, status.not_started),
        (Code::Unavailable, false)
    );
    let took = net.host(CLIENT).engine.now() - begin;
    assert!(took < Duration::from_secs(100), "{took:?}");
    drop(silent);
}

#[test]
fn servers_of_one_engine_and_methods_of_one_server_are_bounded() {
    let mut net = Net::new(World::sim());
    let (named, refused) = net.client(|clients, cx| {
        let mut named = 0;
        loop {
            match clients.connect(cx, "tcp://127.0.0.1:9") {
                Ok(_) => named += 1,
                Err(error) => break (named, error.to_string()),
            }
        }
    });
    assert_eq!(named, 1024, "{refused}");
    let mut net = Net::new(World::sim());
    let many = vec![INFO.methods[0]; 65_537];
    let status = net.client(|clients, cx| {
        let target = clients.connect(cx, "tcp://127.0.0.1:9").unwrap();
        clients.bind(cx, target, &many).unwrap_err()
    });
    assert_eq!(status.code, Code::FailedPrecondition, "{status}");
}

/// The datagram with the first of two calls is lost. True if the second one is answered before the first.
fn the_second_call_overtakes() -> bool {
    let sim = SimNet::new(NetConfig::perfect(), 1);
    let (mut net, plain) = (Net::new(World::Sim(sim.clone())), Plain::default());
    let (_, address) = net.serve(server(&plain));
    let target = net.connect(&address, INFO.methods);
    // Until nothing but calls and their answers is on the way.
    for _ in 0..10 {
        assert!(net.call(target, ECHO, b"before").status.is_ok());
    }
    let faults = Faults {
        datagram: DatagramFaults {
            loss: Chance::ALWAYS,
            ..Faults::none().datagram
        },
        ..Faults::none()
    };
    let client_turns = |net: &mut Net| {
        let host = net.host(CLIENT);
        host.engine.turn(&mut host.node);
    };
    let lost = |sim: &SimNet| sim.fault_counts().of(Fault::Loss);
    sim.set_faults(faults);
    let (first, _) = net.start(target, ECHO, b"first", &options()).unwrap();
    client_turns(&mut net);
    sim.heal();
    assert!(lost(&sim) > 0, "it left, and got lost");
    let (second, _) = net.start(target, ECHO, b"second", &options()).unwrap();
    client_turns(&mut net);
    let answers = Rc::clone(&net.answers);
    net.until("an answer", |_| !answers.borrow().is_empty());
    let overtakes = !answers.borrow().contains_key(&first);
    for call in [first, second] {
        assert!(net.end(call).status.is_ok());
    }
    assert_eq!(plain.echoed.get(), 12, "each ran once");
    overtakes
}

// docs/wire/rpc.md#frame
#[test]
fn over_reliable_udp_a_call_does_not_wait_for_what_another_lost() {
    world::over("rudp", || assert!(the_second_call_overtakes()));
}

// docs/wire/quic.md#ordered-messages
#[test]
fn over_quic_calls_wait_for_what_was_lost_before_them() {
    world::over("quic", || assert!(!the_second_call_overtakes()));
}
