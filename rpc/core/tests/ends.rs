//! How calls end before their handler wants it, and how handlers end calls later: cancellation, deadlines, drain,
//! deferred replies, workers.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helper fails the test"
)]

mod world;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver as Inbox, Sender as Outbox, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringway_call::{Binding, Code};
use ringway_rpc::{
    CallInfo, Deferred, IncomingCall, Interceptor, Kind, Method, Raw, RemoteReply, Server,
    ServerBuilder, ServerLimits, Service, ServiceInfo, Status,
};
use world::{Pair, World, open};

static INFO: ServiceInfo = ServiceInfo {
    name: "test.Ends",
    methods: &[
        Method::new("test.Ends/Never", Kind::Unary, 0, 0),
        Method::new("test.Ends/Defer", Kind::Unary, 0, 0),
        Method::new("test.Ends/Remote", Kind::Unary, 0, 0),
        Method::new("test.Ends/Block", Kind::Unary, 0, 0),
        Method::new("test.Ends/BlockAsync", Kind::Unary, 0, 0),
        Method::new("test.Ends/Echo", Kind::Unary, 0, 0),
    ],
    descriptors: &[],
};
const NEVER: u32 = 0;
const DEFER: u32 = 1;
const REMOTE: u32 = 2;
const BLOCK: u32 = 3;
const BLOCK_ASYNC: u32 = 4;
const ECHO: u32 = 5;

fn bindings() -> Vec<Binding> {
    INFO.methods.iter().map(Method::binding).collect()
}

/// What a test sees and holds of the service.
#[derive(Clone, Default)]
struct Hands {
    dropped: Rc<RefCell<u32>>,
    deferred: Rc<RefCell<Vec<Deferred<[u8]>>>>,
    remote: Rc<RefCell<Vec<RemoteReply<[u8]>>>>,
    echoed: Rc<RefCell<u32>>,
    /// A job takes its turn from here.
    gate: Option<Arc<Mutex<Inbox<()>>>>,
    /// Jobs that took their turn or wait for it.
    started: Arc<AtomicU32>,
}

struct Ends(Hands);

struct Dropped(Rc<RefCell<u32>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        *self.0.borrow_mut() += 1;
    }
}

fn job(
    hands: &Hands,
    request: Vec<u8>,
) -> impl FnOnce(&ringway_rpc::Job) -> Result<Vec<u8>, Status> + Send + 'static {
    let (gate, started) = (hands.gate.clone(), Arc::clone(&hands.started));
    move |job| {
        started.fetch_add(1, Ordering::SeqCst);
        if request == b"panic" {
            panic!("asked for");
        }
        if request == b"until cancelled" {
            while !job.is_cancelled() {
                std::thread::yield_now();
            }
            return Ok(b"too late".to_vec());
        }
        if let Some(gate) = gate {
            gate.lock().unwrap().recv().unwrap();
        }
        Ok(request)
    }
}

impl Service for Ends {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        let hands = self.0.clone();
        match u32::try_from(call.method()).unwrap() {
            NEVER => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, _request| async move {
                let _dropped = Dropped(hands.dropped);
                std::future::pending().await
            }),
            DEFER => call.inline::<Raw, [u8], [u8]>(|_call, _request, reply| {
                let (deferred, replied) = reply.defer()?;
                hands.deferred.borrow_mut().push(deferred);
                Ok(replied)
            }),
            REMOTE => call.inline::<Raw, [u8], [u8]>(|_call, _request, reply| {
                let (deferred, replied) = reply.defer()?;
                hands.remote.borrow_mut().push(deferred.remote());
                Ok(replied)
            }),
            BLOCK => call.inline::<Raw, [u8], Vec<u8>>(|_call, request, reply| {
                reply.blocking(job(&hands, request.to_vec()))
            }),
            BLOCK_ASYNC => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|cx, request| async move {
                cx.blocking(job(&hands, request)).await
            }),
            ECHO => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                *hands.echoed.borrow_mut() += 1;
                reply.send(request)
            }),
            _ => call.unimplemented(),
        }
    }
}

fn pair(world: World, hands: &Hands) -> Pair {
    pair_with(world, hands, Server::builder().workers(1))
}

fn pair_with(world: World, hands: &Hands, server: ServerBuilder) -> Pair {
    let server = server.service_here(Ends(hands.clone()));
    Pair::new(world, server, &bindings())
}

/// A gate for jobs and the key to it.
fn gate() -> (Hands, Outbox<()>) {
    let (key, gate) = channel();
    let hands = Hands {
        gate: Some(Arc::new(Mutex::new(gate))),
        ..Hands::default()
    };
    (hands, key)
}

fn cancel(pair: &mut Pair, call: ringway_call::CallId) {
    assert!(pair.with_client(|client, out| client.caller.cancel(out, call)));
}

fn cancelling_drops_the_future(world: World) {
    let hands = Hands::default();
    let mut pair = pair(world, &hands);
    let call = pair.open(&open(NEVER), b"");
    pair.until("it runs", |pair| pair.server.1.open_calls() == 1);
    assert_eq!(*hands.dropped.borrow(), 0);
    cancel(&mut pair, call);
    pair.until("it is dropped", |_| *hands.dropped.borrow() == 1);
    assert_eq!(pair.server.1.open_calls(), 0);
    pair.until("the slot is free", |pair| {
        pair.client.1.caller.open_calls() == 0
    });
}

fn a_deadline_drops_the_future(world: World) {
    let hands = Hands::default();
    let mut pair = pair(world, &hands);
    let mut request = open(NEVER);
    request.deadline = Some(pair.client.0.now() + Duration::from_millis(20));
    let call = pair.open(&request, b"");
    pair.until("it is dropped", |_| *hands.dropped.borrow() == 1);
    let end = pair.end(call);
    assert_eq!(end.status.code, Code::DeadlineExceeded, "{}", end.status);
    assert_eq!(pair.server.1.open_calls(), 0);
}

fn the_end_of_a_connection_drops_its_futures(world: World) {
    let hands = Hands::default();
    let mut pair = pair(world, &hands);
    pair.open(&open(NEVER), b"");
    pair.open(&open(DEFER), b"");
    pair.until("they run", |pair| pair.server.1.open_calls() == 2);
    let id = pair.client.1.connection.unwrap();
    pair.client
        .0
        .context()
        .close(id, ringway_engine::CloseCode::Normal);
    pair.until("they are gone", |pair| pair.server.1.open_calls() == 0);
    assert_eq!(*hands.dropped.borrow(), 1);
    assert!(hands.deferred.borrow()[0].is_cancelled());
    pair.until("the connection is gone", |pair| {
        pair.server.1.connections() == 0
    });
    pair.until("at both ends", |pair| !pair.client.1.closed.is_empty());
    let (_, started): (Vec<_>, Vec<bool>) = pair.client.1.cut.iter().copied().unzip();
    assert_eq!(started, [false, false], "both may have been executed");
}

fn a_deferred_reply_is_given_later(world: World) {
    let hands = Hands::default();
    let mut pair = pair(world, &hands);
    let calls = [(); 3].map(|()| pair.open(&open(DEFER), b""));
    pair.until("they are open", |pair| pair.server.1.open_calls() == 3);
    let mut all = std::mem::take(&mut *hands.deferred.borrow_mut()).into_iter();
    all.next().unwrap().send(b"later");
    all.next().unwrap().fail(Status::of(Code::DataLoss, "lost"));
    drop(all.next().unwrap());
    assert_eq!(pair.end(calls[0]).message.unwrap(), b"later");
    assert_eq!(pair.end(calls[1]).status.code, Code::DataLoss);
    assert_eq!(pair.end(calls[2]).status.code, Code::Internal);
    assert_eq!(pair.server.1.open_calls(), 0);
}

fn a_drain_finishes_accepted_calls(world: World) {
    let hands = Hands::default();
    let mut pair = pair(world, &hands);
    let call = pair.open(&open(DEFER), b"");
    pair.until("it is open", |pair| pair.server.1.open_calls() == 1);
    let (engine, node) = &mut pair.server;
    node.drain(&mut engine.context());
    pair.until("the client knows", |pair| pair.client.1.draining);
    if !pair.world.is_sim() {
        // Idle steps of the simulator would go on to the end of the drain's time.
        pair.steps(20);
    }
    assert!(
        pair.client.1.closed.is_empty(),
        "the call holds the connection"
    );
    hands.deferred.borrow_mut().pop().unwrap().send(b"done");
    assert_eq!(pair.end(call).message.unwrap(), b"done");
    let id = pair.client.1.connection.unwrap();
    pair.client.0.context().hold(id, false);
    pair.until("it is closed", |pair| !pair.client.1.closed.is_empty());
    assert_eq!(pair.client.1.cut, []);
    pair.until("at both ends", |pair| pair.server.1.connections() == 0);
}

fn an_old_connection_is_drained(world: World) {
    let hands = Hands::default();
    let limits = ServerLimits {
        connection_age_max: Some(Duration::from_secs(1)),
        ..ServerLimits::default()
    };
    let mut pair = pair_with(world, &hands, Server::builder().limits(limits));
    pair.until("it is drained", |pair| pair.client.1.draining);
    pair.until("it is closed", |pair| !pair.client.1.closed.is_empty());
}

fn one_way_calls_are_executed_and_not_answered(world: World) {
    let hands = Hands::default();
    let mut pair = pair(world, &hands);
    let mut request = open(ECHO);
    request.one_way = true;
    for _ in 0..10 {
        pair.open(&request, b"fire");
    }
    assert_eq!(pair.call(&open(ECHO), b"last").message.unwrap(), b"last");
    assert_eq!(*hands.echoed.borrow(), 11);
    assert_eq!(pair.client.1.ends.len(), 0);
}

fn too_many_open_calls_are_refused(world: World) {
    let hands = Hands::default();
    let limits = ServerLimits {
        calls_max: 2,
        ..ServerLimits::default()
    };
    let mut pair = pair_with(world, &hands, Server::builder().limits(limits));
    for method in [NEVER, DEFER] {
        pair.open(&open(method), b"");
    }
    for method in [NEVER, DEFER] {
        let end = pair.call(&open(method), b"");
        assert_eq!(end.status.code, Code::ResourceExhausted);
        assert!(end.status.not_started);
    }
    // What needs no place is still served.
    assert!(pair.call(&open(ECHO), b"").status.is_ok());
}

#[derive(Clone, Default)]
struct Guard {
    ended: Rc<RefCell<Vec<Code>>>,
}

impl Interceptor for Guard {
    fn before(&mut self, call: &CallInfo<'_>) -> Result<(), Status> {
        if call.metadata().named("authorization") == Some(b"let me in") {
            return Ok(());
        }
        Err(Status::of(Code::Unauthenticated, "who are you?"))
    }

    fn ended(&mut self, method: &'static Method, code: Code) {
        assert_eq!(method.name, "test.Ends/Echo");
        self.ended.borrow_mut().push(code);
    }
}

fn an_interceptor_sees_every_call(world: World) {
    let hands = Hands::default();
    let server = Server::builder().interceptor(Guard::default);
    let mut pair = pair_with(world, &hands, server);
    let end = pair.call(&open(ECHO), b"");
    assert_eq!(end.status.code, Code::Unauthenticated);
    assert!(end.status.not_started);
    assert_eq!(*hands.echoed.borrow(), 0);
    let mut metadata = ringway_rpc::MetadataBuf::new();
    metadata.add("authorization", b"let me in").unwrap();
    let mut request = open(ECHO);
    request.metadata = metadata.bytes();
    assert!(pair.call(&request, b"").status.is_ok());
}

over_every_transport!(
    cancelling_drops_the_future,
    a_deadline_drops_the_future,
    the_end_of_a_connection_drops_its_futures,
    a_deferred_reply_is_given_later,
    a_drain_finishes_accepted_calls,
    an_old_connection_is_drained,
    one_way_calls_are_executed_and_not_answered,
    too_many_open_calls_are_refused,
    an_interceptor_sees_every_call,
);

/// Threads and the simulator's clock do not go together: these run on the kernel's drivers only.
macro_rules! on_kernel_drivers {
    ($($scenario:ident),* $(,)?) => {
        mod threads_uring { $( #[test] fn $scenario() { super::$scenario(crate::world::World::uring()); } )* }
        mod threads_epoll { $( #[test] fn $scenario() { super::$scenario(crate::world::World::epoll()); } )* }
    };
}

fn another_thread_answers(world: World) {
    let hands = Hands::default();
    let mut pair = pair(world, &hands);
    let calls = [(); 2].map(|()| pair.open(&open(REMOTE), b""));
    pair.until("they are open", |pair| pair.server.1.open_calls() == 2);
    let second = hands.remote.borrow_mut().pop().unwrap();
    let first = hands.remote.borrow_mut().pop().unwrap();
    let thread = std::thread::spawn(move || {
        first.send(b"from afar");
        drop(second);
    });
    assert_eq!(pair.end(calls[0]).message.unwrap(), b"from afar");
    assert_eq!(pair.end(calls[1]).status.code, Code::Internal);
    thread.join().unwrap();
}

fn a_slow_job_does_not_delay_others(world: World) {
    let (hands, key) = gate();
    let mut pair = pair(world, &hands);
    for method in [BLOCK, BLOCK_ASYNC] {
        let slow = pair.open(&open(method), b"slow");
        for _ in 0..100 {
            assert!(pair.call(&open(ECHO), b"fast").status.is_ok());
        }
        assert!(!pair.client.1.ends.contains_key(&slow));
        key.send(()).unwrap();
        assert_eq!(pair.end(slow).message.unwrap(), b"slow");
    }
}

fn a_panic_of_a_job_ends_its_call_alone(world: World) {
    let hands = Hands::default();
    let mut pair = pair(world, &hands);
    for method in [BLOCK, BLOCK_ASYNC] {
        assert_eq!(
            pair.call(&open(method), b"panic").status.code,
            Code::Internal
        );
        assert_eq!(
            pair.call(&open(method), b"after").message.unwrap(),
            b"after"
        );
    }
}

fn a_full_pool_refuses(world: World) {
    let (hands, key) = gate();
    let limits = ServerLimits {
        jobs_max: 1,
        ..ServerLimits::default()
    };
    let server = Server::builder().workers(1).limits(limits);
    let mut pair = pair_with(world, &hands, server);
    // One runs or waits, and at most one more waits: of four, two at least find no place.
    let calls = [BLOCK, BLOCK_ASYNC, BLOCK, BLOCK_ASYNC].map(|it| pair.open(&open(it), b"job"));
    pair.until("two are refused", |pair| pair.client.1.ends.len() >= 2);
    let is_refused =
        |end: &world::End| end.status.code == Code::ResourceExhausted && end.status.not_started;
    assert!(pair.client.1.ends.values().all(is_refused));
    for _ in 0..2 {
        key.send(()).unwrap();
    }
    pair.until("the others are answered", |pair| {
        pair.client.1.ends.len() == 4
    });
    let ends = calls.map(|call| pair.end(call).status.code);
    let well = ends.iter().filter(|code| **code == Code::Ok).count();
    assert!((1..=2).contains(&well), "{ends:?}");
}

fn cancelling_reaches_a_job(world: World) {
    let hands = Hands::default();
    let mut pair = pair(world, &hands);
    for method in [BLOCK, BLOCK_ASYNC] {
        let call = pair.open(&open(method), b"until cancelled");
        pair.until("it runs", |pair| pair.server.1.open_calls() == 1);
        cancel(&mut pair, call);
        // The only worker is free again: the job has seen it.
        assert!(pair.call(&open(BLOCK), b"next").status.is_ok());
        pair.until("it is over", |pair| pair.client.1.caller.open_calls() == 0);
    }
}

fn a_job_that_waited_too_long_is_not_started(world: World) {
    let (hands, key) = gate();
    let limits = ServerLimits {
        queue_time_max: Duration::from_millis(1),
        ..ServerLimits::default()
    };
    let server = Server::builder().workers(1).limits(limits);
    let mut pair = pair_with(world, &hands, server);
    // On a busy machine even the first may wait too long.
    let first = loop {
        let call = pair.open(&open(BLOCK), b"first");
        let started = Arc::clone(&hands.started);
        pair.until("it starts or is refused", |pair| {
            started.load(Ordering::SeqCst) == 1 || pair.client.1.ends.contains_key(&call)
        });
        if hands.started.load(Ordering::SeqCst) == 1 {
            break call;
        }
    };
    let second = pair.open(&open(BLOCK), b"second");
    let since = pair.server.0.now();
    pair.until("time passes", |pair| {
        pair.server.1.open_calls() == 2 && pair.server.0.now() - since > Duration::from_millis(5)
    });
    key.send(()).unwrap();
    assert!(pair.end(first).status.is_ok());
    let end = pair.end(second);
    assert_eq!(end.status.code, Code::ResourceExhausted);
    assert!(end.status.not_started);
}

on_kernel_drivers!(
    another_thread_answers,
    a_slow_job_does_not_delay_others,
    a_panic_of_a_job_ends_its_call_alone,
    a_full_pool_refuses,
    cancelling_reaches_a_job,
    a_job_that_waited_too_long_is_not_started,
);
