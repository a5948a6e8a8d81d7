//! Channels: calls from other threads, blocking and awaited, and what becomes of them when anything goes away.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod hosted;

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use hosted::{
    CHAT, COUNT, EAT, ECHO, HELD, Hosted, INFO_OF_CALL, METHODS, NEVER, SUM, unix_address, until,
};
use ringway_engine::{Config, DriverChoice};
use ringway_rpc::{
    Call, CallConfig, CallOptions, Channel, ClientEngine, Clients, Code, Compressor, Compressors,
    Corrupt, Kind, MetadataBuf, Method, Raw, Response, Server, Status,
};

type Bytes = Call<Raw, [u8]>;
type Answered = Result<Response<Raw, [u8]>, Status>;

fn engine(choice: DriverChoice) -> ClientEngine {
    ClientEngine::start(move || Config::default().driver(choice)).unwrap()
}

fn channel(choice: DriverChoice, address: &str) -> Channel {
    engine(choice).channel(address).unwrap()
}

fn call(channel: &Channel, method: u32, body: &[u8]) -> Bytes {
    call_with(channel, method, body, &CallOptions::default())
}

fn call_with(channel: &Channel, method: u32, body: &[u8], options: &CallOptions<'_>) -> Bytes {
    channel.call::<Raw, [u8], [u8]>(METHODS, method, body, options)
}

fn patient() -> CallOptions<'static> {
    CallOptions {
        wait_for_ready: true,
        ..CallOptions::default()
    }
}

fn code(answer: Answered) -> Code {
    answer.unwrap_err().code
}

/// An executor of the plainest kind: it polls only when it was woken.
fn run<F: Future>(future: F) -> F::Output {
    struct Flag(AtomicU32);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(1, Ordering::SeqCst);
        }
    }
    let flag = Arc::new(Flag(AtomicU32::new(1)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut future = pin!(future);
    loop {
        until(|| flag.0.swap(0, Ordering::SeqCst) == 1);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
    }
}

fn a_call_is_answered_blocking_and_awaited(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let channel = channel(choice, &host.address);
    assert_eq!(call(&channel, ECHO, b"one").wait().unwrap().bytes(), b"one");
    assert_eq!(run(call(&channel, ECHO, b"two")).unwrap().bytes(), b"two");
    let large: Vec<u8> = (0..=250_u8).cycle().take(3_000_000).collect();
    assert!(call(&channel, ECHO, &large).wait().unwrap().bytes() == large);
    // Many at once, answered in any order.
    let calls: Vec<_> = (0_u8..200).map(|it| call(&channel, ECHO, &[it])).collect();
    for (number, call) in (0_u8..).zip(calls) {
        assert_eq!(run(call).unwrap().bytes(), [number]);
    }
}

fn a_call_that_is_dropped_cancels_its_handler(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let channel = channel(choice, &host.address);
    let never = call(&channel, NEVER, b"");
    until(|| host.hands.started.load(Ordering::SeqCst) == 1);
    drop(never);
    until(|| host.hands.dropped.load(Ordering::SeqCst) == 1);
    // One that is dropped before it can have left.
    drop(call(&channel, NEVER, b""));
    assert!(call(&channel, ECHO, b"").wait().is_ok());
    let [started, dropped] = [&host.hands.started, &host.hands.dropped];
    until(|| started.load(Ordering::SeqCst) == dropped.load(Ordering::SeqCst));
}

fn streams_of_all_kinds_blocking_and_awaited(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let channel = channel(choice, &host.address);
    let options = CallOptions::default();
    let open = |method, first: Option<&Vec<u8>>, end| {
        channel.open::<Raw, Vec<u8>, Vec<u8>>(METHODS, method, first, end, &options)
    };

    let (_, mut messages) = open(COUNT, Some(&vec![4, 100]), true);
    for number in 0..100 {
        assert_eq!(messages.next_wait().unwrap().unwrap(), [number; 1024]);
    }
    assert_eq!(messages.next_wait().unwrap(), None);
    assert_eq!(messages.next_wait().unwrap(), None);

    let (mut out, answer) = open(SUM, None, false);
    for byte in 1..=10 {
        out.send_wait(&vec![byte]).unwrap();
    }
    out.finish();
    assert_eq!(answer.answer_wait().unwrap().bytes(), 55_u64.to_le_bytes());

    run(async {
        let (mut out, mut messages) = open(CHAT, Some(&b"first".to_vec()), false);
        assert_eq!(messages.next().await.unwrap().unwrap(), b"first");
        for round in 0_u8..50 {
            out.send(&vec![round; 3000]).await.unwrap();
            assert_eq!(messages.next().await.unwrap().unwrap(), vec![round; 3000]);
        }
        out.finish();
        assert_eq!(messages.next().await.unwrap(), None);
    });

    // The one answer to a client's stream also comes as a message.
    let (mut out, mut answer) = open(SUM, None, false);
    out.send_wait(&vec![7]).unwrap();
    drop(out);
    assert_eq!(answer.next_wait().unwrap().unwrap(), 7_u64.to_le_bytes());
    assert_eq!(answer.next_wait().unwrap(), None);
}

fn a_stream_that_is_dropped_cancels_its_handler(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let channel = channel(choice, &host.address);
    let options = CallOptions::default();
    let opened = channel.open::<Raw, Vec<u8>, Vec<u8>>(METHODS, EAT, None, false, &options);
    until(|| host.hands.started.load(Ordering::SeqCst) == 1);
    let (mut out, incoming) = opened;
    drop(incoming);
    until(|| host.hands.dropped.load(Ordering::SeqCst) == 1);
    assert_eq!(out.send_wait(&vec![1]).unwrap_err().code, Code::Cancelled);
}

/// Nobody reads at the server: the client writes ahead of it by its credit and 256 KiB, and then waits.
fn a_stream_waits_for_room(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let channel = channel(choice, &host.address);
    let options = CallOptions::default();
    let opened = channel.open::<Raw, Vec<u8>, Vec<u8>>(METHODS, EAT, None, false, &options);
    let (mut out, incoming) = opened;
    until(|| host.hands.started.load(Ordering::SeqCst) == 1);
    let message = vec![1; 10_000];
    let mut taken = 0;
    // Room comes as the engine sends on, up to the credit; then it stays away.
    let credit = CallConfig::default().stream_credit as usize;
    while taken * 10_000 < credit + 256 * 1024 {
        taken += usize::from(out.try_send(&message).unwrap());
    }
    for _ in 0..1000 {
        taken += usize::from(out.try_send(&message).unwrap());
        std::thread::yield_now();
    }
    let bound = credit + 256 * 1024 + 3 * 10_000;
    assert!(taken * 10_000 <= bound, "{taken} messages are ahead");
    // Who waits for room is told when the call is over.
    let waiting = std::thread::spawn(move || out.send_wait(&message).unwrap_err().code);
    drop(incoming);
    assert_eq!(waiting.join().unwrap(), Code::Cancelled);
}

/// A client that does not read stops its server after the credit, and nobody else.
fn a_slow_reader_slows_its_own_stream(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let channel = channel(choice, &host.address);
    let options = CallOptions::default();
    let first = vec![40, 200];
    let (_, mut messages) =
        channel.open::<Raw, Vec<u8>, Vec<u8>>(METHODS, COUNT, Some(&first), true, &options);
    let sent = &host.hands.sent;
    let ahead = u64::from(CallConfig::default().stream_credit) + 2 * 64 * 1024;
    for number in 0..200_u8 {
        assert!(call(&channel, ECHO, b"").wait().is_ok());
        let bytes = (sent.load(Ordering::SeqCst) - u64::from(number)) * 40 * 256;
        assert!(bytes <= ahead, "{bytes} bytes are ahead of the reader");
        assert_eq!(messages.next_wait().unwrap().unwrap()[0], number);
    }
    assert_eq!(messages.next_wait().unwrap(), None);
}

fn without_a_server_calls_fail_fast_or_wait(choice: DriverChoice) {
    let address = unix_address();
    let channel = channel(choice, &address);
    let status = call(&channel, ECHO, b"").wait().unwrap_err();
    assert_eq!(status.code, Code::Unavailable);
    assert!(status.not_started);
    assert!(status.message.contains(&address), "{status}");

    let waiting = call_with(&channel, ECHO, b"patient", &patient());
    let host = Hosted::at(choice, &address, Server::builder());
    assert_eq!(waiting.wait().unwrap().bytes(), b"patient");
    drop(host);
}

fn a_deadline_ends_a_call_wherever_it_is(choice: DriverChoice) {
    let nowhere = channel(choice, &unix_address());
    let options = CallOptions {
        timeout: Some(Duration::from_millis(20)),
        ..patient()
    };
    let status = call_with(&nowhere, ECHO, b"", &options).wait().unwrap_err();
    assert_eq!(status.code, Code::DeadlineExceeded, "{status}");
    assert!(status.not_started);

    let host = Hosted::start(choice);
    let channel = channel(choice, &host.address);
    assert!(call(&channel, ECHO, b"").wait().is_ok());
    let status = call_with(&channel, NEVER, b"", &options)
        .wait()
        .unwrap_err();
    assert_eq!(status.code, Code::DeadlineExceeded, "{status}");
    let [started, dropped] = [&host.hands.started, &host.hands.dropped];
    until(|| started.load(Ordering::SeqCst) == dropped.load(Ordering::SeqCst));

    let past = CallOptions::timeout(Duration::ZERO);
    let status = call_with(&channel, ECHO, b"", &past).wait().unwrap_err();
    assert_eq!(status.code, Code::DeadlineExceeded);
    assert!(status.not_started);
}

fn a_server_that_dies_ends_its_calls_and_may_come_back(choice: DriverChoice) {
    let address = unix_address();
    let host = Hosted::at(choice, &address, Server::builder());
    let channel = channel(choice, &address);
    assert!(call(&channel, ECHO, b"").wait().is_ok());
    let open = [call(&channel, NEVER, b""), call(&channel, HELD, b"")];
    until(|| !host.hands.held.lock().unwrap().is_empty());
    drop(host.shards);
    for call in open {
        let status = call.wait().unwrap_err();
        assert_eq!(status.code, Code::Unavailable, "{status}");
        assert!(!status.not_started, "both may have been executed");
    }
    let waiting = call_with(&channel, ECHO, b"again", &patient());
    let host = Hosted::at(choice, &address, Server::builder());
    assert_eq!(waiting.wait().unwrap().bytes(), b"again");
    drop(host);
}

fn calls_that_wait_are_bounded_and_cancelled_ones_make_room(choice: DriverChoice) {
    let channel = channel(choice, &unix_address());
    let mut waiting: Vec<_> = (0..1024)
        .map(|_| call_with(&channel, ECHO, b"", &patient()))
        .collect();
    let status = call_with(&channel, ECHO, b"", &patient())
        .wait()
        .unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted);
    assert!(status.not_started);
    drop(waiting.pop());
    // Refused as long as the cancelled one is still there; then it waits.
    let short = CallOptions {
        timeout: Some(Duration::from_millis(1)),
        ..patient()
    };
    loop {
        match code(call_with(&channel, ECHO, b"", &short).wait()) {
            Code::ResourceExhausted => {}
            Code::DeadlineExceeded => break,
            other => unreachable!("{other:?}"),
        }
    }
}

fn an_engine_that_is_gone_answers_everything(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let engine = engine(choice);
    let channel = engine.channel(&host.address).unwrap();
    assert!(call(&channel, ECHO, b"").wait().is_ok());
    let nowhere = engine.channel(&unix_address()).unwrap();
    let waiting = call_with(&nowhere, ECHO, b"", &patient());
    let open = call(&channel, HELD, b"");
    let options = CallOptions::default();
    let (_out, mut stream) =
        channel.open::<Raw, Vec<u8>, Vec<u8>>(METHODS, CHAT, None, false, &options);
    drop(host.hands.take_held());
    // Before the end: whether the answer or the end is first would be chance.
    assert_eq!(code(open.wait()), Code::Internal, "its reply was dropped");
    let held = call(&channel, HELD, b"");
    let reply = host.hands.take_held();
    engine.handle().stop().unwrap();
    let status = held.wait().unwrap_err();
    assert_eq!(status.code, Code::Unavailable);
    assert!(!status.not_started, "it was at the server");
    let status = waiting.wait().unwrap_err();
    assert_eq!(status.code, Code::Unavailable);
    assert!(status.not_started);
    assert_eq!(stream.next_wait().unwrap_err().code, Code::Unavailable);
    let late = call(&channel, ECHO, b"").wait().unwrap_err();
    assert_eq!((late.code, late.not_started), (Code::Unavailable, true));
    assert_eq!(
        engine.channel(&host.address).unwrap_err().code,
        Code::Unavailable
    );
    drop(reply);
}

/// Calls that race with the end of their engine: each is answered.
fn no_call_is_forgotten_when_its_engine_ends(choice: DriverChoice) {
    let host = Hosted::start(choice);
    for round in 0..40 {
        let engine = engine(choice);
        let channel = engine.channel(&host.address).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let channel = &channel;
                scope.spawn(move || {
                    let mut last = Ok(());
                    while last.is_ok() {
                        let calls = [(); 8].map(|()| call(channel, ECHO, b"race"));
                        for call in calls {
                            last = call.wait().map(|_answer| ());
                        }
                    }
                    let status = last.unwrap_err();
                    assert_eq!(status.code, Code::Unavailable, "{status}");
                });
            }
            let target = host.hands.echoed.load(Ordering::SeqCst) + round;
            until(|| host.hands.echoed.load(Ordering::SeqCst) >= target);
            engine.handle().stop().unwrap();
        });
    }
}

fn many_threads_share_one_channel(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let channel = channel(choice, &host.address);
    std::thread::scope(|scope| {
        for thread in 0_u32..8 {
            let channel = channel.clone();
            scope.spawn(move || {
                for number in 0_u32..100 {
                    let body = [thread.to_le_bytes(), number.to_le_bytes()].concat();
                    assert_eq!(call(&channel, ECHO, &body).wait().unwrap().bytes(), body);
                }
            });
        }
    });
    assert_eq!(host.hands.echoed.load(Ordering::SeqCst), 800);
}

/// The engine's thread is held up: what does not fit its queue is refused, what follows for known calls is not.
fn a_full_queue_refuses_and_nobody_spins(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let engine = engine(choice);
    let channel = engine.channel(&host.address).unwrap();
    assert!(call(&channel, ECHO, b"").wait().is_ok());
    let (go, gate) = mpsc::channel::<()>();
    let (here, arrived) = mpsc::channel();
    let block = move |_cx: &mut ringway_engine::Context<'_>| {
        here.send(()).unwrap();
        gate.recv().unwrap();
    };
    assert!(engine.handle().post(block).is_ok());
    arrived.recv().unwrap();
    let options = CallOptions::default();
    let (mut out, stream) =
        channel.open::<Raw, Vec<u8>, Vec<u8>>(METHODS, CHAT, None, false, &options);
    let mut calls: Vec<_> = (0..4095).map(|_| call(&channel, ECHO, b"")).collect();
    let status = call(&channel, ECHO, b"").wait().unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted);
    assert!(status.not_started);
    // Cancelled, written, ended: all without the engine.
    drop(calls.split_off(2000));
    out.send_wait(&b"later".to_vec()).unwrap();
    out.finish();
    go.send(()).unwrap();
    for call in calls {
        assert!(call.wait().is_ok());
    }
    let mut stream = stream;
    assert_eq!(stream.next_wait().unwrap().unwrap(), b"later");
    assert_eq!(stream.next_wait().unwrap(), None);
}

fn calls_beyond_the_server_s_limit_wait_for_a_slot(choice: DriverChoice) {
    let limits = ringway_rpc::ServerLimits {
        call: CallConfig {
            calls_max: 2,
            ..CallConfig::default()
        },
        ..ringway_rpc::ServerLimits::default()
    };
    let server = Server::builder().limits(limits);
    let host = Hosted::at(choice, "tcp://127.0.0.1:0", server);
    let channel = channel(choice, &host.address);
    let held = [call(&channel, HELD, b""), call(&channel, NEVER, b"")];
    until(|| host.hands.started.load(Ordering::SeqCst) == 1);
    let waiting: Vec<_> = (0_u8..50).map(|it| call(&channel, ECHO, &[it])).collect();
    let [first, never] = held;
    // A slot whose call nobody waits for is given to the next one as well.
    drop(never);
    for (number, call) in (0_u8..).zip(waiting) {
        assert_eq!(call.wait().unwrap().bytes(), [number]);
    }
    host.hands.take_held().send(b"held");
    assert_eq!(first.wait().unwrap().bytes(), b"held");
}

fn one_way_calls_are_executed(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let engine = engine(choice);
    let options = CallOptions::default();
    let fire = |channel: &Channel| channel.one_way::<Raw, [u8]>(METHODS, ECHO, b"x", &options);
    let channel = engine.channel(&host.address).unwrap();
    fire(&channel).wait().unwrap();
    run(fire(&channel)).unwrap();
    for _ in 0..10 {
        drop(fire(&channel));
    }
    until(|| host.hands.echoed.load(Ordering::SeqCst) == 12);
    // A channel that is dropped at once, and its engine with it, still delivers.
    drop((channel, engine));
    let engine = ClientEngine::start(move || Config::default().driver(choice)).unwrap();
    let channel = engine.channel(&host.address).unwrap();
    drop(fire(&channel));
    drop((channel, engine));
    until(|| host.hands.echoed.load(Ordering::SeqCst) == 13);

    let nowhere = self::channel(choice, &unix_address());
    let status = fire(&nowhere).wait().unwrap_err();
    assert_eq!((status.code, status.not_started), (Code::Unavailable, true));
}

fn what_goes_with_a_call_arrives(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let channel = channel(choice, &host.address);
    let mut metadata = MetadataBuf::new();
    metadata.add("color", b"blue").unwrap();
    let options = CallOptions {
        metadata: metadata.bytes(),
        priority: 1,
        timeout: Some(Duration::from_secs(3600)),
        ..CallOptions::default()
    };
    let answer = call_with(&channel, INFO_OF_CALL, b"", &options)
        .wait()
        .unwrap();
    let text = String::from_utf8(answer.bytes().to_vec()).unwrap();
    assert_eq!(text, format!("1 true true {:?}", Some(b"blue")));
    assert_eq!(answer.metadata().named("color"), Some(&b"blue"[..]));
    let answer = call(&channel, INFO_OF_CALL, b"").wait().unwrap();
    assert_eq!(answer.bytes(), b"4 true false None");
}

/// Packs runs of one byte: enough to see that it was used.
struct Runs(Arc<AtomicU32>);

impl Compressor for Runs {
    fn algorithm(&self) -> u8 {
        7
    }

    fn compress(&self, plain: &[u8], out: &mut [u8]) -> Option<usize> {
        let byte = *plain.first()?;
        if !plain.iter().all(|it| *it == byte) || out.len() < 5 {
            return None;
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        out[0] = byte;
        out[1..5].copy_from_slice(&u32::try_from(plain.len()).ok()?.to_le_bytes());
        Some(5)
    }

    fn decompress(&self, packed: &[u8], out: &mut [u8]) -> Result<usize, Corrupt> {
        let [byte, len @ ..] = packed else {
            return Err(Corrupt);
        };
        let len = u32::from_le_bytes(len.try_into().map_err(|_wrong| Corrupt)?) as usize;
        out.get_mut(..len).ok_or(Corrupt)?.fill(*byte);
        Ok(len)
    }
}

fn a_request_is_packed_when_asked_for(choice: DriverChoice) {
    let (packed, answers) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let of = |count: &Arc<AtomicU32>| {
        let count = Arc::clone(count);
        move || Compressors::new(vec![Rc::new(Runs(Arc::clone(&count))) as Rc<dyn Compressor>])
    };
    let server = Server::builder().compressors(of(&answers));
    let host = Hosted::at(choice, "tcp://127.0.0.1:0", server);
    let algorithms = of(&packed);
    let clients = move || Clients::new(CallConfig::default(), algorithms());
    let config = move || Config::default().driver(choice);
    let engine = ClientEngine::start_with(config, clients).unwrap();
    let channel = engine.channel(&host.address).unwrap();
    let body = vec![9; 50_000];
    assert!(call(&channel, ECHO, &body).wait().unwrap().bytes() == body);
    assert_eq!(packed.load(Ordering::SeqCst), 0);
    let options = CallOptions {
        compress: true,
        ..CallOptions::default()
    };
    let answer = call_with(&channel, ECHO, &body, &options).wait().unwrap();
    assert!(answer.bytes() == body);
    assert_eq!(packed.load(Ordering::SeqCst), 1);
    let (mut out, stream) =
        channel.open::<Raw, Vec<u8>, Vec<u8>>(METHODS, SUM, None, false, &options);
    out.send_wait(&body).unwrap();
    drop(out);
    assert_eq!(
        stream.answer_wait().unwrap().bytes(),
        450_000_u64.to_le_bytes()
    );
    assert_eq!(packed.load(Ordering::SeqCst), 2);
}

fn a_method_that_the_server_lacks_is_refused(choice: DriverChoice) {
    static UNKNOWN: &[Method] = &[
        Method::new("test.Host/Nothing", Kind::Unary, 0, 0),
        Method::new("test.Host/Echo", Kind::Bidi, 0, 0),
        Method::new("test.Host/Held", Kind::Unary, 2, 77),
    ];
    let host = Hosted::start(choice);
    let channel = channel(choice, &host.address);
    let options = CallOptions::default();
    let expected = [
        Code::Unimplemented,
        Code::FailedPrecondition,
        Code::FailedPrecondition,
    ];
    // Twice: before the server's word about them can have come, and after it.
    for _ in 0..2 {
        for (index, code) in (0..).zip(expected) {
            let call = channel.call::<Raw, [u8], [u8]>(UNKNOWN, index, b"", &options);
            let status = call.wait().unwrap_err();
            assert_eq!(status.code, code, "{status}");
            assert!(status.not_started);
        }
    }
    let call = channel.call::<Raw, [u8], [u8]>(UNKNOWN, 3, b"", &options);
    assert_eq!(code(call.wait()), Code::InvalidArgument);
}

fn a_drain_finishes_what_was_accepted(choice: DriverChoice) {
    let address = unix_address();
    let host = Hosted::at(choice, &address, Server::builder());
    let channel = channel(choice, &address);
    let held = call(&channel, HELD, b"");
    let reply = host.hands.take_held();
    for handle in host.shards.handles() {
        handle.drain().unwrap();
    }
    // Nothing new is accepted; what was accepted is finished.
    until(|| code_of(&call(&channel, ECHO, b"").wait()) == Some(Code::Unavailable));
    reply.send(b"finished");
    assert_eq!(held.wait().unwrap().bytes(), b"finished");
    host.shards.drain();
}

fn code_of(answer: &Answered) -> Option<Code> {
    answer.as_ref().err().map(|status| status.code)
}

fn names_are_resolved_and_nonsense_is_refused(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let port = host.address.rsplit(':').next().unwrap();
    let engine = engine(choice);
    let named = engine.channel(&format!("tcp://localhost:{port}")).unwrap();
    assert!(call_with(&named, ECHO, b"", &patient()).wait().is_ok());
    let status = engine.channel("nonsense").unwrap_err();
    assert_eq!(status.code, Code::InvalidArgument);
}

on_kernel_drivers!(
    a_call_is_answered_blocking_and_awaited,
    a_call_that_is_dropped_cancels_its_handler,
    streams_of_all_kinds_blocking_and_awaited,
    a_stream_that_is_dropped_cancels_its_handler,
    a_stream_waits_for_room,
    a_slow_reader_slows_its_own_stream,
    without_a_server_calls_fail_fast_or_wait,
    a_deadline_ends_a_call_wherever_it_is,
    a_server_that_dies_ends_its_calls_and_may_come_back,
    calls_that_wait_are_bounded_and_cancelled_ones_make_room,
    an_engine_that_is_gone_answers_everything,
    no_call_is_forgotten_when_its_engine_ends,
    many_threads_share_one_channel,
    a_full_queue_refuses_and_nobody_spins,
    calls_beyond_the_server_s_limit_wait_for_a_slot,
    one_way_calls_are_executed,
    what_goes_with_a_call_arrives,
    a_request_is_packed_when_asked_for,
    a_method_that_the_server_lacks_is_refused,
    a_drain_finishes_what_was_accepted,
    names_are_resolved_and_nonsense_is_refused,
);

#[test]
fn channels_of_one_process_share_an_engine() {
    let host = Hosted::start(DriverChoice::Auto);
    let one = Channel::connect(&host.address).unwrap();
    let two = Channel::connect(&host.address).unwrap();
    assert!(call(&one, ECHO, b"").wait().is_ok());
    drop(one);
    assert!(call(&two, ECHO, b"").wait().is_ok());
    drop(two);
    let three = Channel::connect(&host.address).unwrap();
    assert!(call(&three, ECHO, b"").wait().is_ok());
}
