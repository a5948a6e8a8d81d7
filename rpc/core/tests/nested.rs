//! Handlers that call other servers: by `await`, by continuation; deadlines are inherited, cancellation cascades.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helper fails the test"
)]

mod net;
mod world;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use net::{CLIENT, Net};
use ringway_call::Code;
use ringway_rpc::{
    CallContext, CallOptions, Deferred, IncomingCall, Kind, LocalRequest, Method, Raw, Response,
    Server, Service, ServiceInfo, Status, Target,
};
use world::World;

static BACK: ServiceInfo = ServiceInfo {
    name: "test.Back",
    methods: &[
        Method::new("test.Back/Echo", Kind::Unary, 0, 0),
        Method::new("test.Back/Never", Kind::Unary, 0, 0),
        Method::new("test.Back/Deadline", Kind::Unary, 0, 0),
        Method::new("test.Back/Count", Kind::ServerStream, 0, 0),
    ],
    descriptors: &[],
};
const BACK_ECHO: u32 = 0;
const BACK_NEVER: u32 = 1;
const BACK_DEADLINE: u32 = 2;
const BACK_COUNT: u32 = 3;

/// How many handlers run and how many futures were dropped.
#[derive(Clone, Default)]
struct Lives {
    started: Rc<Cell<u32>>,
    dropped: Rc<Cell<u32>>,
    echoed: Rc<Cell<u32>>,
}

struct Dropped(Lives);

impl Dropped {
    fn started(lives: &Lives) -> Self {
        lives.started.set(lives.started.get() + 1);
        Self(lives.clone())
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.set(self.0.dropped.get() + 1);
    }
}

struct Back(Lives);

impl Service for Back {
    fn info(&self) -> &'static ServiceInfo {
        &BACK
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        let lives = self.0.clone();
        match u32::try_from(call.method()).unwrap() {
            BACK_ECHO => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                lives.echoed.set(lives.echoed.get() + 1);
                match request {
                    b"fail" => Err(Status::of(Code::NotFound, "not at the back")),
                    request => reply.send(request),
                }
            }),
            BACK_NEVER => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, _request| async move {
                let _dropped = Dropped::started(&lives);
                std::future::pending().await
            }),
            BACK_DEADLINE => call.inline::<Raw, [u8], [u8]>(|call, _request, reply| {
                let left = call.remaining().map_or(u128::MAX, |it| it.as_nanos());
                reply.send(&left.to_le_bytes()[..])
            }),
            BACK_COUNT => {
                call.server_stream::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, request, mut out| async move {
                    for number in 0..request[0] {
                        out.send(vec![number; 5000]).await?;
                    }
                    Ok(())
                })
            }
            _ => call.unimplemented(),
        }
    }
}

static FRONT: ServiceInfo = ServiceInfo {
    name: "test.Front",
    methods: &[
        Method::new("test.Front/Await", Kind::Unary, 0, 0),
        Method::new("test.Front/Then", Kind::Unary, 0, 0),
        Method::new("test.Front/Three", Kind::Unary, 0, 0),
        Method::new("test.Front/Twice", Kind::Unary, 0, 0),
        Method::new("test.Front/Panic", Kind::Unary, 0, 0),
        Method::new("test.Front/Relay", Kind::Unary, 0, 0),
        Method::new("test.Front/Fire", Kind::Unary, 0, 0),
        Method::new("test.Front/Echo", Kind::Unary, 0, 0),
    ],
    descriptors: &[],
};
const AWAIT: u32 = 0;
const THEN: u32 = 1;
const THREE: u32 = 2;
const TWICE: u32 = 3;
const PANIC: u32 = 4;
const RELAY: u32 = 5;
const FIRE: u32 = 6;
const FRONT_ECHO: u32 = 7;

/// The first byte of a request is the method of the back that is called, the rest what it is called with.
#[derive(Clone)]
struct Front {
    back: Rc<RefCell<String>>,
    lives: Lives,
}

type Came = Result<Response<Raw, [u8]>, Status>;

fn split(request: &[u8]) -> (u32, &[u8]) {
    (u32::from(request[0]), &request[1..])
}

async fn nested(cx: &CallContext, back: &str, request: &[u8]) -> Result<Vec<u8>, Status> {
    let (method, body) = split(request);
    let channel = cx.channel(back)?;
    let call = channel.call::<Raw, [u8], [u8]>(BACK.methods, method, body, &options());
    Ok(call.await?.bytes().to_vec())
}

fn options() -> CallOptions<'static> {
    CallOptions::default()
}

fn pass_on(deferred: Deferred<[u8]>, came: Came) {
    match came {
        Ok(answer) => deferred.send(answer.bytes()),
        Err(status) => deferred.fail(status),
    }
}

impl Service for Front {
    fn info(&self) -> &'static ServiceInfo {
        &FRONT
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        let (back, lives) = (self.back.borrow().clone(), self.lives.clone());
        let method = u32::try_from(call.method()).unwrap();
        match method {
            AWAIT => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|cx, request| async move {
                let _dropped = Dropped::started(&lives);
                nested(&cx, &back, &request).await
            }),
            THREE => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|cx, request| async move {
                let channel = cx.channel(&back)?;
                let call = |body: &[u8]| {
                    channel.call::<Raw, [u8], [u8]>(BACK.methods, BACK_ECHO, body, &options())
                };
                let calls = [call(&request), call(b" and "), call(&request)];
                let mut all = Vec::new();
                for call in calls {
                    all.extend_from_slice(call.await?.bytes());
                }
                Ok(all)
            }),
            RELAY => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|cx, request| async move {
                let channel = cx.channel(&back)?;
                let (_, mut stream) = channel.open::<Raw, Vec<u8>, Vec<u8>>(
                    BACK.methods,
                    BACK_COUNT,
                    Some(&request),
                    true,
                    &options(),
                );
                let mut sum = 0_u64;
                while let Some(message) = stream.next().await? {
                    sum += message.iter().map(|byte| u64::from(*byte)).sum::<u64>();
                }
                Ok(sum.to_le_bytes().to_vec())
            }),
            FRONT_ECHO => {
                call.inline::<Raw, [u8], [u8]>(|_call, request, reply| reply.send(request))
            }
            _ => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                let channel = reply.channel(&back)?;
                if method == FIRE {
                    drop(channel.one_way::<Raw, [u8]>(
                        BACK.methods,
                        BACK_ECHO,
                        request,
                        &options(),
                    ));
                    return reply.send(b"fired");
                }
                let (deferred, replied) = reply.defer()?;
                let (back_method, body) = split(request);
                let dropped = Dropped::started(&lives);
                let next = channel.clone();
                let then = move |deferred: Deferred<[u8]>, came: Came| {
                    let _dropped = dropped;
                    match method {
                        PANIC => panic!("asked for"),
                        TWICE => {
                            let first = came.unwrap().bytes().to_vec();
                            deferred.call::<Raw, [u8], [u8]>(
                                &next,
                                BACK.methods,
                                BACK_ECHO,
                                &[&first[..], b"+"].concat(),
                                &options(),
                                pass_on,
                            );
                        }
                        _ => pass_on(deferred, came),
                    }
                };
                deferred.call(&channel, BACK.methods, back_method, body, &options(), then);
                Ok(replied)
            }),
        }
    }
}

/// A client, a front server, and a back server that the front one calls.
struct Chain {
    net: Net,
    front: (usize, Target),
    back: usize,
    lives: Lives,
    back_lives: Lives,
}

impl Chain {
    fn new(world: World) -> Self {
        let mut net = Net::new(world);
        let (lives, back_lives) = (Lives::default(), Lives::default());
        let (back, address) = net.serve(Server::builder().service_here(Back(back_lives.clone())));
        let service = Front {
            back: Rc::new(RefCell::new(address)),
            lives: lives.clone(),
        };
        let (front, address) = net.serve(Server::builder().service_here(service));
        let target = net.connect(&address, FRONT.methods);
        Self {
            net,
            front: (front, target),
            back,
            lives,
            back_lives,
        }
    }

    fn call(&mut self, method: u32, request: &[u8]) -> Result<Vec<u8>, Status> {
        let answer = self.net.call(self.front.1, method, request);
        answer.decode::<Raw, [u8]>().map(|it| it.bytes().to_vec())
    }
}

fn with(method: u32, body: &[u8]) -> Vec<u8> {
    let mut request = vec![u8::try_from(method).unwrap()];
    request.extend_from_slice(body);
    request
}

fn a_handler_awaits_another_server(world: World) {
    let mut chain = Chain::new(world);
    for _ in 0..3 {
        let answer = chain.call(AWAIT, &with(BACK_ECHO, b"through"));
        assert_eq!(answer.unwrap(), b"through");
    }
    let large = with(BACK_ECHO, &[7; 300_000]);
    assert_eq!(chain.call(AWAIT, &large).unwrap(), &large[1..]);
    let status = chain.call(AWAIT, &with(BACK_ECHO, b"fail")).unwrap_err();
    assert_eq!(
        (status.code, &*status.message),
        (Code::NotFound, "not at the back")
    );
    assert_eq!(chain.call(THREE, b"one").unwrap(), b"one and one");
    assert_eq!(
        chain.call(RELAY, &[100]).unwrap(),
        (4950 * 5000_u64).to_le_bytes()
    );
    assert_eq!(
        chain.net.host(chain.back).node.connections(),
        1,
        "one connection for all"
    );
    assert_eq!(chain.net.host(chain.front.0).node.open_calls(), 0);
}

fn a_plain_function_goes_on_with_the_answer(world: World) {
    let mut chain = Chain::new(world);
    let answer = chain.call(THEN, &with(BACK_ECHO, b"through"));
    assert_eq!(answer.unwrap(), b"through");
    let answer = chain.call(TWICE, &with(BACK_ECHO, b"once"));
    assert_eq!(answer.unwrap(), b"once+");
    let status = chain.call(THEN, &with(BACK_ECHO, b"fail")).unwrap_err();
    assert_eq!(status.code, Code::NotFound);
    assert_eq!(chain.net.host(chain.front.0).node.open_calls(), 0);
    assert_eq!(chain.lives.started.get(), chain.lives.dropped.get());
}

fn a_continuation_that_panics_ends_its_call_alone(world: World) {
    let mut chain = Chain::new(world);
    let status = chain.call(PANIC, &with(BACK_ECHO, b"x")).unwrap_err();
    assert_eq!(status.code, Code::Internal);
    assert_eq!(
        chain.call(THEN, &with(BACK_ECHO, b"after")).unwrap(),
        b"after"
    );
    assert_eq!(
        chain.net.host(chain.back).node.connections(),
        1,
        "it was not closed"
    );
}

fn the_deadline_is_inherited(world: World) {
    let mut chain = Chain::new(world);
    let hour = Duration::from_secs(3600);
    for method in [AWAIT, THEN] {
        let request = with(BACK_DEADLINE, b"");
        // Without one there is none.
        let left = chain.call(method, &request).unwrap();
        assert_eq!(left, u128::MAX.to_le_bytes());
        let options = CallOptions::timeout(hour);
        let started = chain.net.start(chain.front.1, method, &request, &options);
        let answer = chain.net.end(started.unwrap().0);
        let left = u128::from_le_bytes((*answer.message.unwrap()).try_into().unwrap());
        assert!(left > 0 && left <= hour.as_nanos(), "{left}");
        // The nested call ends with the outer one, at both servers.
        let dropped = chain.back_lives.dropped.get();
        let options = CallOptions::timeout(Duration::from_millis(20));
        let request = with(BACK_NEVER, b"");
        let started = chain.net.start(chain.front.1, method, &request, &options);
        let answer = chain.net.end(started.unwrap().0);
        assert_eq!(answer.status.code, Code::DeadlineExceeded);
        let lives = chain.back_lives.clone();
        chain.net.until("the back's handler is dropped", |_| {
            lives.dropped.get() == dropped + 1
        });
    }
}

fn cancellation_cascades(world: World) {
    let mut chain = Chain::new(world);
    for (method, round) in [(AWAIT, 1), (THEN, 2)] {
        let request = with(BACK_NEVER, b"");
        let started = chain.net.start(chain.front.1, method, &request, &options());
        let (_, key) = started.unwrap();
        let (front, back) = (chain.lives.clone(), chain.back_lives.clone());
        chain.net.until("both run", |_| back.started.get() == round);
        assert_eq!(
            (front.dropped.get(), back.dropped.get()),
            (round - 1, round - 1)
        );
        chain.net.client(|clients, cx| clients.cancel(cx, key));
        chain.net.until("both are dropped", |_| {
            front.dropped.get() == round && back.dropped.get() == round
        });
        assert_eq!(chain.net.host(chain.front.0).node.open_calls(), 0);
        let back = chain.back;
        chain.net.until("the back has nothing left", |net| {
            net.host(back).node.open_calls() == 0
        });
        assert_eq!(chain.call(FRONT_ECHO, b"alive").unwrap(), b"alive");
        assert_eq!(chain.call(AWAIT, &with(BACK_ECHO, b"x")).unwrap(), b"x");
        chain.lives.started.set(round);
        chain.lives.dropped.set(round);
    }
}

fn a_client_that_goes_away_cancels_everything_behind_it(world: World) {
    let mut chain = Chain::new(world);
    for method in [AWAIT, THEN] {
        let request = with(BACK_NEVER, b"");
        let started = chain.net.start(chain.front.1, method, &request, &options());
        started.unwrap();
    }
    let lives = chain.back_lives.clone();
    chain.net.until("both run", |_| lives.started.get() == 2);
    chain.net.kill(CLIENT);
    chain
        .net
        .until("both are dropped", |_| lives.dropped.get() == 2);
    let (front, back) = (chain.front.0, chain.back);
    chain.net.until("nothing is left", |net| {
        net.host(front).node.open_calls() == 0 && net.host(back).node.open_calls() == 0
    });
    assert_eq!(chain.lives.dropped.get(), chain.lives.started.get());
}

fn a_back_server_that_dies_is_told_to_the_client(world: World) {
    let mut chain = Chain::new(world);
    let mut calls = Vec::new();
    for method in [AWAIT, THEN] {
        let request = with(BACK_NEVER, b"");
        let started = chain.net.start(chain.front.1, method, &request, &options());
        calls.push(started.unwrap().0);
    }
    let lives = chain.back_lives.clone();
    chain.net.until("both run", |_| lives.started.get() == 2);
    chain.net.kill(chain.back);
    for call in calls {
        let status = chain.net.end(call).status;
        assert_eq!(status.code, Code::Unavailable, "{status}");
        assert!(!status.not_started, "it had started at the front");
    }
    for method in [AWAIT, THEN] {
        let status = chain.call(method, &with(BACK_ECHO, b"x")).unwrap_err();
        assert_eq!(status.code, Code::Unavailable, "{status}");
    }
}

fn a_handler_fires_and_forgets(world: World) {
    let mut chain = Chain::new(world);
    for _ in 0..5 {
        assert_eq!(chain.call(FIRE, b"x").unwrap(), b"fired");
    }
    let lives = chain.back_lives.clone();
    chain
        .net
        .until("all have arrived", |_| lives.echoed.get() == 5);
}

/// The engine calls itself: nothing waits for anything that it would have to do itself.
fn a_server_calls_itself(world: World) {
    let mut net = Net::new(world);
    let back = Rc::new(RefCell::new(String::new()));
    let front = Front {
        back: Rc::clone(&back),
        lives: Lives::default(),
    };
    let server = Server::builder()
        .service_here(front)
        .service_here(Back(Lives::default()));
    let (_, address) = net.serve(server);
    *back.borrow_mut() = address.clone();
    let target = net.connect(&address, FRONT.methods);
    for method in [AWAIT, THEN] {
        let answer = net.call(target, method, &with(BACK_ECHO, b"myself"));
        assert_eq!(answer.message.unwrap().bytes(), b"myself");
    }
}

over_every_transport!(
    a_handler_awaits_another_server,
    a_plain_function_goes_on_with_the_answer,
    a_continuation_that_panics_ends_its_call_alone,
    the_deadline_is_inherited,
    cancellation_cascades,
    a_client_that_goes_away_cancels_everything_behind_it,
    a_back_server_that_dies_is_told_to_the_client,
    a_handler_fires_and_forgets,
    a_server_calls_itself,
);

#[test]
fn without_an_engine_there_is_no_channel() {
    let front = Front {
        back: Rc::new(RefCell::new("tcp://127.0.0.1:1".to_owned())),
        lives: Lives::default(),
    };
    let mut server = Server::builder().service_here(front).local().unwrap();
    for method in ["test.Front/Await", "test.Front/Then"] {
        let request = with(BACK_ECHO, b"x");
        let status = server
            .unary(&LocalRequest::unary(method, &request))
            .unwrap_err();
        assert_eq!(status.code, Code::FailedPrecondition, "{status}");
    }
}
