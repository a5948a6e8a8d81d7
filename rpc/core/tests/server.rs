//! A server's edges: who sees a call before its service, what is shed when there is too much, what is counted, and
//! how several engines share one.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod world;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ringway_buf::Instant;
use ringway_call::{Binding, CallConfig, Code};
use ringway_engine::CloseCode;
use ringway_rpc::{
    CallInfo, CallOptions, Channel, IncomingCall, Interceptor, Kind, LocalEvent, LocalRequest,
    Method, Raw, Server, ServerBuilder, ServerLimits, Service, ServiceInfo, StatsReader, Status,
};
use world::{Pair, World, open};

static INFO: ServiceInfo = ServiceInfo {
    name: "test.Edge",
    methods: &[
        Method::new("test.Edge/Echo", Kind::Unary, 0, 0),
        Method::new("test.Edge/Slow", Kind::Unary, 0, 0),
        Method::new("test.Edge/Never", Kind::Unary, 0, 0),
        Method::new("test.Edge/Block", Kind::Unary, 0, 0),
        Method::new("test.Edge/Count", Kind::ServerStream, 0, 0),
        Method::new("test.Edge/Sum", Kind::ClientStream, 0, 0),
        Method::new("test.Edge/Chat", Kind::Bidi, 0, 0),
        Method::new("test.Edge/Thread", Kind::Unary, 0, 0),
    ],
    descriptors: &[],
};
const ECHO: u32 = 0;
const SLOW: u32 = 1;
const NEVER: u32 = 2;
const BLOCK: u32 = 3;
const COUNT: u32 = 4;
const SUM: u32 = 5;
const CHAT: u32 = 6;
const THREAD: u32 = 7;

fn bindings() -> Vec<Binding> {
    INFO.methods.iter().map(Method::binding).collect()
}

/// What a test sees of the service, on whatever thread it runs.
#[derive(Clone, Default)]
struct Seen {
    made: Arc<AtomicU32>,
    ran: Arc<AtomicU32>,
    /// A job takes its turn from here.
    gate: Option<Arc<Mutex<mpsc::Receiver<()>>>>,
}

struct Edge(Seen);

impl Edge {
    fn new(seen: &Seen) -> Self {
        seen.made.fetch_add(1, Ordering::SeqCst);
        Self(seen.clone())
    }
}

/// Keeps its thread busy for a time.
fn work(time: Duration) {
    let until = Instant::monotonic() + time;
    while Instant::monotonic() < until {
        std::hint::spin_loop();
    }
}

impl Service for Edge {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        let seen = self.0.clone();
        match u32::try_from(call.method()).unwrap() {
            ECHO => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                seen.ran.fetch_add(1, Ordering::SeqCst);
                reply.send(request)
            }),
            SLOW => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                seen.ran.fetch_add(1, Ordering::SeqCst);
                work(Duration::from_micros(100));
                reply.send(request)
            }),
            NEVER => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, _request| async move {
                std::future::pending().await
            }),
            BLOCK => call.inline::<Raw, [u8], Vec<u8>>(|_call, _request, reply| {
                reply.blocking(move |_job| {
                    if let Some(gate) = seen.gate {
                        gate.lock().unwrap().recv().unwrap();
                    }
                    Ok(Vec::new())
                })
            }),
            COUNT => {
                call.server_stream::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, request, mut out| async move {
                    for number in 0..request[0] {
                        out.send(vec![number; 1000]).await?;
                    }
                    Ok(())
                })
            }
            SUM => call.client_stream::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, mut input| async move {
                let mut sum = 0_u64;
                while let Some(message) = input.recv().await? {
                    sum += message.iter().map(|byte| u64::from(*byte)).sum::<u64>();
                }
                Ok(sum.to_le_bytes().to_vec())
            }),
            CHAT => call.bidi::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, mut input, mut out| async move {
                while let Some(message) = input.recv().await? {
                    out.send(message).await?;
                }
                Ok(())
            }),
            THREAD => call.inline::<Raw, [u8], [u8]>(|_call, _request, reply| {
                let name = format!("{:?}", std::thread::current().id());
                reply.send(name.as_bytes())
            }),
            _ => call.unimplemented(),
        }
    }
}

fn server(seen: &Seen) -> ServerBuilder {
    Server::builder().service_here(Edge::new(seen))
}

/// Says what it saw, in one log with the others.
struct Logging {
    name: &'static str,
    log: Arc<Mutex<Vec<String>>>,
    refuses: bool,
}

impl Logging {
    fn say(&self, what: &str) {
        self.log
            .lock()
            .unwrap()
            .push(format!("{} {what}", self.name));
    }
}

impl Interceptor for Logging {
    fn before(&mut self, call: &CallInfo<'_>) -> Result<(), Status> {
        if self.refuses && call.metadata().named("pass").is_none() {
            self.say("refuses");
            return Err(Status::of(Code::PermissionDenied, "no pass"));
        }
        self.say("lets pass");
        Ok(())
    }

    fn ended(&mut self, _method: &'static Method, code: Code) {
        self.say(&format!("ended {code:?}"));
    }
}

fn logged(server: ServerBuilder) -> (ServerBuilder, Arc<Mutex<Vec<String>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let of = |name, refuses| {
        let log = Arc::clone(&log);
        move || Logging {
            name,
            log: Arc::clone(&log),
            refuses,
        }
    };
    let server = server
        .interceptor(of("first", false))
        .interceptor(of("second", true))
        .interceptor(of("third", false));
    (server, log)
}

fn taken(log: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

/// In order; who has let a call pass is told its end, whatever that is.
fn interceptors_see_beginning_and_end_in_pairs(world: World) {
    let seen = Seen::default();
    let (server, log) = logged(server(&seen));
    let mut pair = Pair::new(world, server, &bindings());
    let end = pair.call(&open(ECHO), b"");
    assert_eq!(end.status.code, Code::PermissionDenied);
    assert!(end.status.not_started);
    assert_eq!(seen.ran.load(Ordering::SeqCst), 0);
    let refused = [
        "first lets pass",
        "second refuses",
        "first ended PermissionDenied",
    ];
    assert_eq!(taken(&log), refused);

    let mut metadata = ringway_rpc::MetadataBuf::new();
    metadata.add("pass", b"here").unwrap();
    let with_pass = |method| {
        let mut request = open(method);
        request.metadata = metadata.bytes();
        request
    };
    assert!(pair.call(&with_pass(ECHO), b"").status.is_ok());
    let passed = ["first lets pass", "second lets pass", "third lets pass"];
    let ended = |code| ["first", "second", "third"].map(|name| format!("{name} ended {code}"));
    let mut all = passed.map(str::to_owned).to_vec();
    all.extend(ended("Ok"));
    assert_eq!(taken(&log), all);

    // A connection that is lost ends its calls too.
    pair.open(&with_pass(NEVER), b"");
    pair.until("it runs", |pair| pair.server.1.open_calls() == 1);
    let id = pair.client.1.connection.unwrap();
    pair.client.0.context().close(id, CloseCode::Normal);
    pair.until("it is gone", |pair| pair.server.1.connections() == 0);
    let mut all = passed.map(str::to_owned).to_vec();
    all.extend(ended("Unavailable"));
    assert_eq!(taken(&log), all);
}

/// A request in several frames was on the wire for a while; a job waits in a queue; both take time in the handler.
fn times_are_split(world: World) {
    let seen = Seen::default();
    let reader = StatsReader::default();
    let is_sim = world.is_sim();
    let mut pair = Pair::new(world, server(&seen).stats(reader.clone()), &bindings());
    assert!(pair.call(&open(ECHO), b"small").status.is_ok());
    assert!(pair.call(&open(SUM), &[1; 10]).status.is_ok());
    let body = vec![1; 2_000_000];
    assert!(pair.call(&open(SLOW), &body).status.is_ok());
    let methods = published(&mut pair, &reader);
    let of = |name: &str| methods.iter().find(|it| it.name == name).unwrap().clone();
    let (small, large) = (of("test.Edge/Echo"), of("test.Edge/Slow"));
    assert_eq!((small.started, small.ended[0], small.running()), (1, 1, 0));
    assert!(small.wire.unwrap().max_ns() <= 1, "one frame");
    let wire = large.wire.unwrap().max_ns();
    assert!(wire > 1000, "{wire} ns for 2 MB in many frames");
    let handler = large.handler.unwrap().max_ns();
    assert!(handler >= 99_000, "{handler} ns of 100 us work");
    if !is_sim {
        assert!(large.queue.unwrap().count() == 1);
    }
}

/// The figures of a server that is turned here.
fn published(pair: &mut Pair, reader: &StatsReader) -> Vec<ringway_rpc::MethodStats> {
    let count = |reader: &StatsReader| reader.methods().iter().map(|it| it.started).sum::<u64>();
    pair.until("the figures are published", |_| count(reader) > 0);
    reader.methods()
}

over_every_transport!(interceptors_see_beginning_and_end_in_pairs, times_are_split);

macro_rules! on_kernel_drivers {
    ($($scenario:ident),* $(,)?) => {
        mod threads_uring { $( #[test] fn $scenario() { super::$scenario(crate::world::World::uring()); } )* }
        mod threads_epoll { $( #[test] fn $scenario() { super::$scenario(crate::world::World::epoll()); } )* }
    };
}

/// A turn that takes too long sheds the calls that wait behind: they are refused, surely not started, and the
/// server goes on with the next ones.
fn an_overlong_turn_sheds_calls(world: World) {
    let seen = Seen::default();
    let limits = ServerLimits {
        queue_time_max: Duration::from_millis(1),
        ..ServerLimits::default()
    };
    let mut pair = Pair::new(world, server(&seen).limits(limits), &bindings());
    // All in one batch: the client's engine is not turned in between.
    let calls: Vec<_> = (0..500).map(|_| pair.open(&open(SLOW), b"x")).collect();
    let ends: Vec<_> = calls.into_iter().map(|call| pair.end(call)).collect();
    let shed = ends
        .iter()
        .filter(|end| end.status.code == Code::ResourceExhausted);
    assert!(shed.clone().all(|end| end.status.not_started));
    let shed = shed.count();
    let served = ends.iter().filter(|end| end.status.is_ok()).count();
    assert_eq!(shed + served, 500);
    assert_eq!(seen.ran.load(Ordering::SeqCst) as usize, served);
    assert!(
        served >= 63,
        "the first look at the clock comes at the 64th: {served}"
    );
    assert!(shed > 0, "500 calls of 100 us do not fit 1 ms");
    assert!(pair.call(&open(ECHO), b"after").status.is_ok());
}

/// The time that a job waits for a worker counts as queue, not as handler.
fn waiting_for_a_worker_is_queue_time(world: World) {
    let (key, gate) = mpsc::channel();
    let seen = Seen {
        gate: Some(Arc::new(Mutex::new(gate))),
        ..Seen::default()
    };
    let reader = StatsReader::default();
    let builder = server(&seen).workers(1).stats(reader.clone());
    let mut pair = Pair::new(world, builder, &bindings());
    let [first, second] = [(); 2].map(|()| pair.open(&open(BLOCK), b""));
    let since = pair.server.0.now();
    let wait = Duration::from_millis(20);
    pair.until("time passes", |pair| {
        pair.server.1.open_calls() == 2 && pair.server.0.now() - since > wait
    });
    for _ in 0..2 {
        key.send(()).unwrap();
    }
    assert!(pair.end(first).status.is_ok() && pair.end(second).status.is_ok());
    let methods = published(&mut pair, &reader);
    let block = methods
        .iter()
        .find(|it| it.name == "test.Edge/Block")
        .unwrap();
    let queue = block.queue.as_ref().unwrap();
    assert_eq!(queue.count(), 2);
    let waited = u64::try_from(wait.as_nanos()).unwrap();
    assert!(queue.max_ns() >= waited * 9 / 10, "{} ns", queue.max_ns());
}

on_kernel_drivers!(
    an_overlong_turn_sheds_calls,
    waiting_for_a_worker_is_queue_time
);

/// Messages that nobody has used up keep their stream's credit, in memory too.
#[test]
fn a_dispatched_stream_waits_until_its_credit_comes_back() {
    let seen = Seen::default();
    let call = CallConfig {
        stream_credit: 16 << 10,
        ..CallConfig::default()
    };
    let credit = usize::try_from(call.stream_credit).unwrap();
    let limits = ServerLimits {
        call,
        ..ServerLimits::default()
    };
    let mut local = Server::builder()
        .service(move || Edge::new(&seen))
        .limits(limits)
        .local()
        .unwrap();
    let now = Instant::ZERO;
    // 255 messages of 1,000 bytes: far more than a stream's credit.
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let request = LocalRequest::unary("test.Edge/Count", &[255]);
            local.open(&request, now).unwrap()
        })
        .collect();
    let (mut held, mut bytes, mut ended) = (Vec::new(), 0, 0);
    while ended < calls.len() {
        match local.poll_event() {
            Some(LocalEvent::Message {
                call,
                message,
                cost,
            }) => {
                bytes += message.len();
                held.push((call, cost));
            }
            Some(LocalEvent::Ended { status, .. }) => {
                assert!(status.is_ok(), "{status}");
                ended += 1;
            }
            Some(LocalEvent::Writable { .. }) => {}
            None if held.is_empty() => local.turn(now),
            None => {
                assert!(bytes <= calls.len() * (credit + 1000), "{bytes}");
                bytes = 0;
                for (call, cost) in held.drain(..) {
                    local.grant(call, cost, now);
                }
            }
        }
    }
}

/// A service is made once on each engine thread, and each thread serves its own connections.
#[test]
fn every_engine_has_its_own_service() {
    let seen = Seen::default();
    let of_service = seen.clone();
    let shards = Server::builder()
        .service(move || Edge::new(&of_service))
        .shards(2, &["tcp://127.0.0.1:0"])
        .unwrap();
    let address = shards.addresses()[0].to_string();
    // Connections are handed out in turns.
    let channels = [(); 4].map(|()| Channel::connect(&address).unwrap());
    let mut names: Vec<_> = channels
        .iter()
        .map(|channel| {
            let options = CallOptions {
                wait_for_ready: true,
                ..CallOptions::default()
            };
            let call = channel.call::<Raw, [u8], [u8]>(INFO.methods, THREAD, b"", &options);
            call.wait().unwrap().bytes().to_vec()
        })
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 2, "both engines serve");
    // One more was made before: the builder checks that the services fit together.
    assert!(seen.made.load(Ordering::SeqCst) >= 2);
    shards.drain();
}

/// All kinds of calls without a connection and without an engine.
#[test]
fn calls_of_every_kind_are_dispatched_in_memory() {
    let seen = Seen::default();
    let mut local = server(&seen).workers(1).local().unwrap();
    let now = Instant::monotonic();
    let request = |method, message, end| LocalRequest {
        message,
        end,
        ..LocalRequest::unary(method, b"")
    };
    let mut messages = Vec::new();
    let mut ended = Vec::new();
    let count = local
        .open(&request("test.Edge/Count", Some(&[100]), true), now)
        .unwrap();
    let sum = local
        .open(&request("test.Edge/Sum", Some(&[1, 2]), false), now)
        .unwrap();
    let chat = local
        .open(&request("test.Edge/Chat", None, false), now)
        .unwrap();
    for byte in 3..=10 {
        local.send(sum, &[byte], byte == 10, now).unwrap();
        local.send(chat, &[byte; 100], false, now).unwrap();
    }
    local.end(chat, now);
    while ended.len() < 3 {
        match local.poll_event() {
            Some(LocalEvent::Message { call, message, .. }) => messages.push((call, message)),
            Some(LocalEvent::Ended {
                call,
                status,
                message,
                ..
            }) => {
                assert!(status.is_ok(), "{status}");
                ended.push((call, message.map(|it| it.to_vec())));
            }
            Some(LocalEvent::Writable { .. }) => {}
            None => local.turn(now),
        }
    }
    let of = |call| messages.iter().filter(move |(it, _)| *it == call);
    assert_eq!(of(count).count(), 100);
    for (number, (_, message)) in (0_u8..).zip(of(count)) {
        assert_eq!(&**message, [number; 1000]);
    }
    let echoed: Vec<u8> = of(chat).map(|(_, message)| message[0]).collect();
    assert_eq!(echoed, [3, 4, 5, 6, 7, 8, 9, 10]);
    let answer = ended.iter().find(|(call, _)| *call == sum).unwrap();
    assert_eq!(answer.1.as_deref(), Some(&55_u64.to_le_bytes()[..]));
    assert!(
        local
            .unary(&LocalRequest::unary("test.Edge/Block", b""))
            .is_ok()
    );
    // Cancelled, and past its deadline.
    let never = local
        .open(&LocalRequest::unary("test.Edge/Never", b""), now)
        .unwrap();
    local.cancel(never, now);
    let mut late = LocalRequest::unary("test.Edge/Never", b"");
    late.deadline = Some(now + Duration::from_secs(1));
    let late = local.open(&late, now).unwrap();
    local.turn(now + Duration::from_secs(2));
    match local.poll_event() {
        Some(LocalEvent::Ended { call, status, .. }) => {
            assert_eq!((call, status.code), (late, Code::DeadlineExceeded));
        }
        other => unreachable!("{other:?}"),
    }
    assert!(
        local.poll_event().is_none(),
        "nothing comes of a call that was given up"
    );
}

#[test]
fn limits_out_of_their_range_are_named() {
    let refuse = |limits: ServerLimits| {
        let refused = server(&Seen::default()).limits(limits).build();
        refused.unwrap_err().to_string()
    };
    let zero = ServerLimits {
        calls_max: 0,
        ..ServerLimits::default()
    };
    assert!(refuse(zero).contains("calls_max"));
    let short = ServerLimits {
        queue_time_max: Duration::ZERO,
        ..ServerLimits::default()
    };
    assert!(refuse(short).contains("queue_time_max"));
    let machine = ServerLimits {
        call: CallConfig {
            calls_max: 0,
            ..CallConfig::default()
        },
        ..ServerLimits::default()
    };
    assert!(refuse(machine).contains("calls_max"));
}
