//! How much does the machine of calls cost by itself? One unary call from the client's OPEN to the server's END, in
//! memory, beside nothing but the copies of its bytes; and the whole service in memory on top.
#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench that goes wrong shall stop, and criterion's macros write undocumented items"
)]

use std::hint::black_box;
use std::ops::Range;
use std::rc::Rc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringway::rpc::{IncomingCall, Kind, LocalRequest, Method, Raw, Server, Service, ServiceInfo};
use ringway_buf::{Instant, Pools, PoolsConfig, Slice};
use ringway_call::{
    Blocked, CallConfig, Callee, CalleeEvent, Caller, CallerEvent, Compressors, Frame, Head, Keep,
    MethodTable, Open, Outlet, Way,
};

/// An order, a small answer, the longest message of one frame.
const SIZES: [usize; 3] = [64, 1 << 10, 64 << 10];

static INFO: ServiceInfo = ServiceInfo {
    name: "bench.Echo",
    methods: &[Method::new("bench.Echo/Echo", Kind::Unary, 0, 0)],
    descriptors: &[],
};

/// A wire that holds one frame, in memory that is used again and again.
#[derive(Default)]
struct Line {
    head: Head,
    bytes: Vec<u8>,
    len: usize,
}

impl Outlet for Line {
    #[inline]
    fn frame(
        &mut self,
        _way: Way,
        head: Head,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Blocked> {
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
        fill(&mut self.bytes[..len]);
        (self.head, self.len) = (head, len);
        Ok(())
    }

    fn slice(&mut self, way: Way, head: Head, slice: Slice) -> Result<(), (Slice, Blocked)> {
        let bytes = slice.bytes();
        let copied = self.frame(way, head, bytes.len(), |room| room.copy_from_slice(bytes));
        copied.map_err(|blocked| (slice, blocked))
    }

    fn queued_bytes(&self) -> usize {
        self.len
    }
}

impl Line {
    fn received<'a>(&'a self, keep: &'a Nobody) -> Frame<'a> {
        Frame {
            head: self.head,
            body: &self.bytes[..self.len],
            keep,
        }
    }
}

/// Nobody keeps a message here.
struct Nobody;

impl Keep for Nobody {
    fn retain(&self, _range: Range<usize>) -> Slice {
        panic!("no message is kept");
    }
}

/// Both machines, acquainted.
struct Ends {
    caller: Caller,
    callee: Callee,
    down: Line,
    up: Line,
}

impl Ends {
    fn new() -> Self {
        let table = MethodTable::new(&[INFO.methods[0].binding()]);
        let pools = Rc::new(Pools::new(PoolsConfig::default()));
        let (config, none) = (CallConfig::default(), Compressors::default());
        let mut ends = Self {
            caller: Caller::new(config, Rc::clone(&pools), none.clone()),
            callee: Callee::new(config, Rc::new(table), pools, none),
            down: Line::default(),
            up: Line::default(),
        };
        ends.callee.start(&mut ends.up);
        ends.answered();
        ends.caller.start(&mut ends.down);
        ends.asked(|_, _, _| ());
        let binding = INFO.methods[0].binding();
        ends.caller.bind(&mut ends.down, &[binding]).unwrap();
        ends.asked(|_, _, _| ());
        ends.answered();
        ends
    }

    /// The server takes what is on the wire down; `act` answers a call.
    #[inline]
    fn asked(&mut self, act: impl FnOnce(&mut Callee, &mut Line, CalleeEvent<'_>)) {
        let (callee, up) = (&mut self.callee, &mut self.up);
        let frame = self.down.received(&Nobody);
        let came = callee.handle_frame(up, frame, Instant::ZERO).unwrap();
        if let Some(event) = came {
            act(callee, up, event);
        }
    }

    /// The client takes what is on the wire up; bytes of the answer.
    #[inline]
    fn answered(&mut self) -> usize {
        let frame = self.up.received(&Nobody);
        let came = self
            .caller
            .handle_frame(&mut self.down, frame, Instant::ZERO);
        match came.unwrap() {
            Some(CallerEvent::Ended { message, .. }) => message.map_or(0, |it| it.bytes().len()),
            _ => 0,
        }
    }

    #[inline]
    fn call(&mut self, body: &[u8]) -> usize {
        let open = Open {
            priority: 4,
            end: true,
            ..Open::default()
        };
        self.caller
            .open(&mut self.down, &open, Some(body), Instant::ZERO)
            .unwrap();
        self.asked(|callee, up, event| {
            let CalleeEvent::Opened(opened) = event else {
                panic!("an OPEN opens a call");
            };
            let message = opened.message.unwrap();
            callee
                .reply(up, opened.call, &[], message.bytes(), Instant::ZERO)
                .unwrap();
        });
        self.answered()
    }
}

fn machines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("calls/machines");
    for size in SIZES {
        let body = vec![7; size];
        let mut ends = Ends::new();
        assert_eq!(ends.call(&body), size);
        group.bench_function(BenchmarkId::new("call", size), |bencher| {
            bencher.iter(|| ends.call(black_box(&body)));
        });
        let (mut down, mut up) = (vec![0; size], vec![0; size]);
        group.bench_function(BenchmarkId::new("two copies", size), |bencher| {
            bencher.iter(|| {
                down.copy_from_slice(black_box(&body));
                up.copy_from_slice(black_box(&down));
                black_box(&up).len()
            });
        });
    }
    group.finish();
}

struct Echo;

impl Service for Echo {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        call.inline::<Raw, [u8], [u8]>(|_call, request, reply| reply.send(request));
    }
}

fn service(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("calls/service in memory");
    let mut server = Server::builder().service(|| Echo).local().unwrap();
    for size in SIZES {
        let body = vec![7; size];
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let request = LocalRequest::unary("bench.Echo/Echo", black_box(&body));
                server.unary(&request).unwrap().len()
            });
        });
    }
    group.finish();
}

criterion_group!(calls, machines, service);
criterion_main!(calls);
