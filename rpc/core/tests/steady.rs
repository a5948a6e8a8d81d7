//! What a call costs once everything is warm: allocations and payload copies of both ends together, counted.

#[path = "../../../tests/allocations/mod.rs"]
mod allocations;
mod world;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use allocations::allocations;
use ringway_buf::copies;
use ringway_call::Binding;
use ringway_engine::DriverChoice;
use ringway_rpc::{
    Deferred, IncomingCall, Kind, Method, Raw, Server, Service, ServiceInfo, StatsReader,
};
use world::{Pair, World, open};

#[global_allocator]
static COUNTING: allocations::Counting = allocations::Counting;

static INFO: ServiceInfo = ServiceInfo {
    name: "test.Steady",
    methods: &[
        Method::new("test.Steady/Inline", Kind::Unary, 0, 0),
        Method::new("test.Steady/Ready", Kind::Unary, 0, 0),
        Method::new("test.Steady/Woken", Kind::Unary, 0, 0),
        Method::new("test.Steady/Deferred", Kind::Unary, 0, 0),
    ],
    descriptors: &[],
};

/// A request of eight bytes, plain.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Number {
    value: u64,
}
ringway_rpc::pod_layout!(Number { value: u64 });

/// Replies that the test gives.
type Later = Rc<RefCell<Vec<Deferred<[u8]>>>>;

#[derive(Default)]
struct Steady {
    deferred: Later,
}

impl Service for Steady {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        use ringway_rpc::Pod;
        match call.method() {
            0 => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| reply.send(request)),
            1 => call.unary::<Pod, Number, Number, _>(|_cx, request| async move { Ok(request) }),
            2 => call.unary::<Pod, Number, Number, _>(|_cx, request| async move {
                let mut woken = false;
                poll_fn(|cx| {
                    if std::mem::replace(&mut woken, true) {
                        return Poll::Ready(());
                    }
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
                Ok(request)
            }),
            3 => call.inline::<Raw, [u8], [u8]>(|_call, _request, reply| {
                let (deferred, replied) = reply.defer()?;
                self.deferred.borrow_mut().push(deferred);
                Ok(replied)
            }),
            _ => call.unimplemented(),
        }
    }
}

const CALLS: u64 = 1000;

/// Allocations of `CALLS` calls, and copies of payloads.
fn cost(pair: &mut Pair, method: u32, answer: &mut dyn FnMut()) -> (u64, u64) {
    let body = &7_u64.to_le_bytes()[..];
    let mut run = |calls: u64| {
        let target = pair.client.1.ended + calls;
        let mut asked = 0;
        while pair.client.1.ended < target {
            if asked < calls && pair.client.1.caller.open_calls() < 8 {
                pair.open(&open(method), body);
                asked += 1;
            }
            pair.step();
            answer();
        }
    };
    run(CALLS);
    let before = (allocations(), copies());
    run(CALLS);
    (allocations() - before.0, copies().count - before.1.count)
}

fn pair(choice: DriverChoice, stats: bool) -> (Pair, Later) {
    let steady = Steady::default();
    let deferred = Rc::clone(&steady.deferred);
    let mut server = Server::builder().service_here(steady);
    if stats {
        server = server.stats(StatsReader::default());
    }
    let bindings: Vec<Binding> = INFO.methods.iter().map(Method::binding).collect();
    let mut pair = Pair::new(World::Kernel(choice), server, &bindings);
    pair.client.1.count_only = true;
    (pair, deferred)
}

#[test]
fn a_warm_call_allocates_nothing_and_copies_nothing() {
    for choice in [DriverChoice::Uring, DriverChoice::Epoll] {
        for stats in [false, true] {
            let (mut pair, deferred) = pair(choice, stats);
            let mut answer = || {
                for deferred in deferred.borrow_mut().drain(..) {
                    deferred.send(b"later");
                }
            };
            for method in 0..4 {
                let what = INFO.methods[method as usize].name;
                let cost = cost(&mut pair, method, &mut answer);
                assert_eq!(cost, (0, 0), "{what} on {choice:?}, statistics {stats}");
            }
        }
    }
}
