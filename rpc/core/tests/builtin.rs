//! The built-in services, statistics, and calls without a connection.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use ringway_buf::Instant;
use ringway_call::{Code, Kind};
use ringway_rpc::{
    BuildError, CallOptions, Channel, Health, IncomingCall, LocalEvent, LocalRequest, Method, Raw,
    Server, ServerLimits, Service, ServiceInfo, ServingStatus, StatsReader, Status,
};
use world::{Pair, World, open};

static INFO: ServiceInfo = ServiceInfo {
    name: "test.Echo",
    methods: &[
        Method::new("test.Echo/Say", Kind::Unary, 0, 0),
        Method::new("test.Echo/Later", Kind::Unary, 0, 0),
        Method::new("test.Echo/Chat", Kind::Bidi, 0, 0),
    ],
    descriptors: &[],
};

struct Echo;

impl Service for Echo {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        match call.method() {
            0 => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| match request {
                b"no" => Err(Status::of(Code::Aborted, "no")),
                _ => reply.send(request),
            }),
            1 => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|cx, request| async move {
                cx.blocking(|_job| Ok(request)).await
            }),
            2 => call.bidi::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, mut input, mut out| async move {
                while let Some(message) = input.recv().await? {
                    out.send(message).await?;
                }
                Ok(())
            }),
            _ => call.unimplemented(),
        }
    }
}

/// A message with one text field.
fn text(field: u8, value: &str) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2, u8::try_from(value.len()).unwrap()];
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

#[test]
fn descriptors_are_those_of_the_definitions() {
    for name in ["health", "reflection", "admin"] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
        let compiled = protox::compile([format!("{name}.proto")], [folder]).unwrap();
        let stored = std::fs::read(format!("{folder}/{name}.bin")).unwrap();
        assert!(
            FileDescriptorSet::decode(&*stored).unwrap() == compiled,
            "{name}.bin is not what {name}.proto compiles to"
        );
    }
}

#[test]
fn health_is_checked() {
    let health = Health::default();
    let mut server = Server::builder().health(health.clone()).local().unwrap();
    let mut check = |service: &str| {
        let request = text(1, service);
        server.unary(&LocalRequest::unary(
            "grpc.health.v1.Health/Check",
            &request,
        ))
    };
    assert_eq!(&*check("").unwrap(), [8, 1]);
    assert_eq!(check("test.Echo").unwrap_err().code, Code::NotFound);
    health.set("test.Echo", ServingStatus::NotServing);
    assert_eq!(&*check("test.Echo").unwrap(), [8, 2]);
}

fn health_is_watched(world: World) {
    let health = Health::default();
    let watch = Method::new("grpc.health.v1.Health/Watch", Kind::ServerStream, 1, 0);
    let server = Server::builder().health(health.clone());
    let mut pair = Pair::new(world, server, &[watch.binding()]);
    let call = pair.open(&open(0), &text(1, "test.Echo"));
    let mut expect = |count: usize, byte: u8| {
        pair.until("a change", |pair| {
            pair.client
                .1
                .messages
                .get(&call)
                .is_some_and(|it| it.len() == count)
        });
        assert_eq!(pair.client.1.messages[&call][count - 1], [8, byte]);
    };
    expect(1, 3);
    health.set("test.Echo", ServingStatus::Serving);
    expect(2, 1);
    std::thread::spawn(move || health.set("test.Echo", ServingStatus::NotServing))
        .join()
        .unwrap();
    expect(3, 2);
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReflectionResponse {
    #[prost(message, optional, tag = "4")]
    files: Option<Files>,
    #[prost(message, optional, tag = "6")]
    services: Option<Services>,
    #[prost(message, optional, tag = "7")]
    error: Option<ReflectionError>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    service: Vec<Name>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReflectionError {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[test]
fn reflection_tells_services_and_files() {
    let server = Server::builder().service(|| Echo).admin().reflection();
    let mut server = server.local().unwrap();
    let requests = [
        text(7, ""),
        text(4, "ringway.admin.v1.Admin"),
        text(4, "ringway.admin.v1.MethodStats.queue"),
        text(3, "reflection.proto"),
        text(4, "no.Such"),
    ];
    let now = Instant::ZERO;
    let call = server
        .open(
            &LocalRequest {
                end: false,
                message: None,
                ..LocalRequest::unary(
                    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                    b"",
                )
            },
            now,
        )
        .unwrap();
    let mut answers = requests.iter().map(|request| {
        server.send(call, request, false, now).unwrap();
        match server.poll_event() {
            Some(LocalEvent::Message { message, .. }) => {
                ReflectionResponse::decode(&*message).unwrap()
            }
            other => panic!("{other:?}"),
        }
    });
    let services = answers.next().unwrap().services.unwrap().service;
    let names: Vec<_> = services.iter().map(|it| &*it.name).collect();
    assert_eq!(
        names,
        [
            "grpc.reflection.v1.ServerReflection",
            "ringway.admin.v1.Admin",
            "test.Echo"
        ]
    );
    for _ in 0..2 {
        let files = answers.next().unwrap().files.unwrap().file;
        let file = FileDescriptorProto::decode(&*files[0]).unwrap();
        assert_eq!(file.package(), "ringway.admin.v1");
        assert_eq!(file.service[0].name(), "Admin");
    }
    let files = answers.next().unwrap().files.unwrap().file;
    let file = FileDescriptorProto::decode(&*files[0]).unwrap();
    assert_eq!(file.name(), "reflection.proto");
    assert_eq!(answers.next().unwrap().error.unwrap().code, 5);
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatsResponse {
    #[prost(message, repeated, tag = "1")]
    methods: Vec<MethodStats>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MethodStats {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    started: u64,
    #[prost(uint64, tag = "3")]
    running: u64,
    #[prost(message, repeated, tag = "5")]
    ended: Vec<CodeCount>,
    #[prost(message, optional, tag = "8")]
    handler: Option<Times>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CodeCount {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(uint64, tag = "2")]
    count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Times {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(uint64, tag = "5")]
    p99_ns: u64,
    #[prost(uint64, repeated, tag = "8")]
    bucket_ns: Vec<u64>,
    #[prost(uint64, repeated, tag = "9")]
    bucket_count: Vec<u64>,
}

fn the_admin_service_shows_what_was_called(world: World) {
    let stats = Method::new("ringway.admin.v1.Admin/Stats", Kind::Unary, 1, 0);
    let server = Server::builder().service(|| Echo).admin();
    let methods = [INFO.methods[0].binding(), stats.binding()];
    let mut pair = Pair::new(world, server, &methods);
    for _ in 0..10 {
        assert!(pair.call(&open(0), b"yes").status.is_ok());
    }
    assert_eq!(pair.call(&open(0), b"no").status.code, Code::Aborted);
    let answer = pair.call(&open(1), b"").message.unwrap();
    let answer = StatsResponse::decode(&*answer).unwrap();
    let echo = answer.methods.iter().find(|it| it.name == "test.Echo/Say");
    let echo = echo.unwrap();
    assert_eq!((echo.started, echo.running), (11, 0));
    let ended: Vec<_> = echo.ended.iter().map(|it| (it.code, it.count)).collect();
    assert_eq!(ended, [(0, 10), (10, 1)]);
    let handler = echo.handler.as_ref().unwrap();
    assert_eq!(handler.count, 11);
    assert!(handler.p99_ns > 0);
    assert!(handler.bucket_ns.is_empty() && handler.bucket_count.is_empty());
    // With the counts behind them.
    let answer = pair.call(&open(1), &[8, 1]).message.unwrap();
    let answer = StatsResponse::decode(&*answer).unwrap();
    let echo = answer.methods.iter().find(|it| it.name == "test.Echo/Say");
    let handler = echo.unwrap().handler.as_ref().unwrap();
    assert_eq!(handler.bucket_count.iter().sum::<u64>(), handler.count);
    assert_eq!(handler.bucket_count.len(), handler.bucket_ns.len());
    assert!(handler.bucket_ns.is_sorted());
    assert!(handler.bucket_ns.last().unwrap() >= &handler.p99_ns);
}

#[test]
fn what_a_server_counted_stays_when_it_ends() {
    let reader = StatsReader::default();
    let server = Server::builder().service(|| Echo).stats(reader.clone());
    let mut server = server.local().unwrap();
    server
        .unary(&LocalRequest::unary("test.Echo/Say", b""))
        .unwrap();
    drop(server);
    assert_eq!(reader.methods()[0].started, 1);
}

over_every_transport!(health_is_watched, the_admin_service_shows_what_was_called);

#[test]
fn calls_are_dispatched_without_a_connection() {
    let reader = StatsReader::default();
    let mut server = Server::builder()
        .service(|| Echo)
        .workers(1)
        .stats(reader.clone())
        .local()
        .unwrap();
    let mut unary = |method, body| server.unary(&LocalRequest::unary(method, body));
    assert_eq!(&*unary("test.Echo/Say", b"hello").unwrap(), b"hello");
    assert_eq!(&*unary("test.Echo/Later", b"worker").unwrap(), b"worker");
    assert_eq!(
        unary("test.Echo/Say", b"no").unwrap_err().code,
        Code::Aborted
    );
    assert_eq!(
        unary("test.No/No", b"").unwrap_err().code,
        Code::Unimplemented
    );
    let large = vec![7; 1_000_000];
    assert!(*unary("test.Echo/Say", &large).unwrap() == *large);
    drop(reader.methods());
    server.turn(Instant::monotonic());
    let say = &reader.methods()[0];
    assert_eq!(
        (say.name, say.started, say.running()),
        ("test.Echo/Say", 3, 0)
    );
}

#[test]
fn dispatched_calls_keep_to_their_memory() {
    let server = Server::builder().service(|| Echo);
    let mut server = server.local_with(1 << 20, || {}).unwrap();
    let large = vec![7; 2 << 20];
    let mut say = |body| server.unary(&LocalRequest::unary("test.Echo/Say", body));
    for _ in 0..3 {
        let refused = say(&large).unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
        assert_eq!(&*say(b"hello").unwrap(), b"hello");
    }
}

#[test]
fn a_deadline_ends_a_dispatched_call() {
    let mut server = Server::builder().service(|| Echo).local().unwrap();
    let at = |ns| Instant::from_nanos(ns);
    let request = LocalRequest {
        deadline: Some(at(100)),
        end: false,
        message: None,
        ..LocalRequest::unary("test.Echo/Chat", b"")
    };
    let own = server.open(&request, at(1)).unwrap();
    assert_eq!(server.next_due(), Some(at(100)));
    server.turn(at(100));
    match server.poll_event() {
        Some(LocalEvent::Ended { call, status, .. }) => {
            assert_eq!((call, status.code), (own, Code::DeadlineExceeded));
        }
        other => panic!("{other:?}"),
    }
    let late = server.open(&request, at(101)).unwrap_err();
    assert_eq!(late.code, Code::DeadlineExceeded);
    assert!(late.not_started);
}

struct Named(&'static ServiceInfo);

impl Service for Named {
    fn info(&self) -> &'static ServiceInfo {
        self.0
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        call.unimplemented();
    }
}

#[test]
fn what_does_not_fit_together_is_found_at_build() {
    let twice = Server::builder().service(|| Echo).service(|| Echo).build();
    let name = "test.Echo";
    assert_eq!(twice.unwrap_err(), BuildError::DuplicateService { name });
    static FOREIGN: ServiceInfo = ServiceInfo {
        name: "a.B",
        methods: &[Method::new("a.C/D", Kind::Unary, 0, 0)],
        descriptors: &[],
    };
    static FORGED: ServiceInfo = ServiceInfo {
        name: "a.B",
        methods: &[Method {
            name: "a.B/D",
            ..INFO_METHOD
        }],
        descriptors: &[],
    };
    const INFO_METHOD: Method = Method::new("a.B/C", Kind::Unary, 0, 0);
    let build = |info| {
        Server::builder()
            .service_here(Named(info))
            .build()
            .unwrap_err()
    };
    let (service, method) = ("a.B", "a.C/D");
    assert_eq!(build(&FOREIGN), BuildError::MethodName { service, method });
    assert_eq!(build(&FORGED), BuildError::WrongId { method: "a.B/D" });
    let limits = ServerLimits {
        calls_max: 0,
        ..ServerLimits::default()
    };
    let none = Server::builder().limits(limits).build().unwrap_err();
    assert!(none.to_string().contains("calls_max"), "{none}");
}

#[test]
fn shards_serve_and_drain() {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let builder = Server::builder().service(|| {
        MADE.fetch_add(1, Ordering::SeqCst);
        Echo
    });
    let shards = builder.shards(2, &["tcp://127.0.0.1:0"]).unwrap();
    assert_eq!(shards.handles().len(), 2);
    assert!(
        MADE.load(Ordering::SeqCst) >= 2,
        "one service for each thread"
    );
    shards.drain();
}

#[test]
fn a_bound_server_stops_when_told() {
    let unix = format!("unix://@ringway-rpc-bound-{}", std::process::id());
    let builder = Server::builder().service(|| Echo);
    let mut bound = builder.bind(&["tcp://127.0.0.1:0", &unix]).unwrap();
    assert_eq!(bound.addresses().len(), 2);
    let handle = Arc::new(bound.handle());
    let other = Arc::clone(&handle);
    let thread = std::thread::spawn(move || other.stop().unwrap());
    bound.run();
    thread.join().unwrap();
}

#[test]
fn a_channel_calls_methods_that_are_known_only_at_run_time() {
    let server = Server::builder().service(|| Echo);
    let server = server.shards(1, &["tcp://127.0.0.1:0"]).unwrap();
    let channel = Channel::connect(&server.addresses()[0].to_string()).unwrap();
    let call = |name: &str, kind| {
        let methods: Arc<[Method]> = [Method::found(name, kind, 0, 0)].into();
        channel
            .call::<Raw, [u8], [u8]>(methods, 0, b"hello", &CallOptions::default())
            .wait()
    };
    // Each time another list: the same methods are found again, and no other ones.
    for _ in 0..3 {
        let names = ["test.Echo/Say".to_owned(), ["test.Echo", "Gone"].join("/")];
        assert_eq!(call(&names[0], Kind::Unary).unwrap().bytes(), b"hello");
        let gone = call(&names[1], Kind::Unary).unwrap_err();
        assert_eq!(gone.code, Code::Unimplemented);
        let wrong = call(&names[0], Kind::Bidi).unwrap_err();
        assert_eq!(wrong.code, Code::FailedPrecondition);
    }
}
