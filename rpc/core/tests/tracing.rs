//! What is logged: connections that come and go, refusals, panics; and nothing on the path of a call.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helper fails the test"
)]

mod net;
mod world;

use std::cell::Cell;
use std::fmt::{Debug, Write};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::{CLIENT, Net};
use ringway_call::Code;
use ringway_rpc::{
    CallOptions, IncomingCall, Kind, Method, Raw, Server, Service, ServiceInfo, Status,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use world::World;

/// Keeps the text of every event.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn has(&self, text: &str) -> bool {
        self.0
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains(text))
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("ringway_rpc")
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

static INFO: ServiceInfo = ServiceInfo {
    name: "test.Log",
    methods: &[
        Method::new("test.Log/Echo", Kind::Unary, 0, 0),
        Method::new("test.Log/Async", Kind::Unary, 0, 0),
        Method::new("test.Log/Never", Kind::Unary, 0, 0),
    ],
    descriptors: &[],
};
const ECHO: u32 = 0;
const ASYNC: u32 = 1;
const NEVER: u32 = 2;

#[derive(Clone, Default)]
struct Logged {
    running: Rc<Cell<u32>>,
}

impl Service for Logged {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        let running = Rc::clone(&self.running);
        match u32::try_from(call.method()).unwrap() {
            ECHO => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| match request {
                b"fail" => Err(Status::of(Code::Aborted, "asked for")),
                b"panic" => panic!("asked for"),
                request => reply.send(request),
            }),
            ASYNC => {
                call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, request| async move { Ok(request) });
            }
            NEVER => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, _request| async move {
                running.set(running.get() + 1);
                std::future::pending().await
            }),
            _ => call.unimplemented(),
        }
    }
}

#[test]
fn what_happens_beside_calls_is_logged_and_calls_are_not() {
    let log = Log::default();
    let of_net = log.clone();
    tracing::subscriber::with_default(log, || run(&of_net));
}

fn run(log: &Log) {
    let (mut net, service) = (Net::new(World::sim()), Logged::default());
    let (at, address) = net.serve(Server::builder().service_here(service.clone()));
    let target = net.connect(&address, INFO.methods);
    assert!(log.has("message=accepted") && log.has("message=connected"));

    assert!(net.call(target, ECHO, b"x").status.is_ok());
    let before = log.len();
    for _ in 0..100 {
        for method in [ECHO, ASYNC] {
            assert!(net.call(target, method, b"x").status.is_ok());
        }
        assert_eq!(net.call(target, ECHO, b"fail").status.code, Code::Aborted);
        let short = CallOptions::timeout(Duration::from_millis(1));
        let (late, _) = net.start(target, NEVER, b"", &short).unwrap();
        assert_eq!(net.end(late).status.code, Code::DeadlineExceeded);
    }
    let running = service.running.get();
    let (_, key) = net
        .start(target, NEVER, b"", &CallOptions::default())
        .unwrap();
    net.until("it runs", |_| service.running.get() > running);
    net.client(|clients, cx| clients.cancel(cx, key));
    net.until("it is over", |net| net.host(at).node.open_calls() == 0);
    assert_eq!(log.len(), before, "nothing is said about calls");

    assert_eq!(net.call(target, ECHO, b"panic").status.code, Code::Internal);
    assert!(log.has("panicked"));
    let unknown = [Method::new("test.Log/Nothing", Kind::Unary, 0, 0)];
    net.client(|clients, cx| clients.bind(cx, target, &unknown).unwrap());
    net.until("it is refused", |_| log.has("message=not bound"));

    let host = net.host(at);
    host.node.drain(&mut host.engine.context());
    net.until("the client knows", |_| log.has("the server drains"));
    net.until("it is closed", |_| log.has("message=closed"));
    net.kill(at);
    net.until("the next attempt fails", |_| {
        log.has("message=connecting failed")
    });
    assert_eq!(net.host(CLIENT).node.connections(), 0);
}
