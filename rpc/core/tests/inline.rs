//! The inline face: one thread calls, turns the engine, and has many calls under way.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod hosted;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hosted::{
    CHAT, COUNT, EAT, ECHO, HELD, Hosted, INFO_OF_CALL, METHODS, NEVER, SUM, unix_address, until,
};
use ringway_engine::{Config, DriverChoice, Limits};
use ringway_rpc::{
    CallKey, CallOptions, Channel, Code, IncomingCall, InlineChannel, Kind, LocalRequest,
    MetadataBuf, Method, Raw, Server, Service, ServiceInfo, Status,
};

fn options() -> CallOptions<'static> {
    CallOptions::default()
}

fn patient() -> CallOptions<'static> {
    CallOptions {
        wait_for_ready: true,
        ..options()
    }
}

/// A client with the methods bound; their index is their place.
fn client(choice: DriverChoice, host: &Hosted) -> InlineChannel {
    let config = Config::default().driver(choice);
    let mut channel = InlineChannel::connect_with(config, &host.address).unwrap();
    assert_eq!(channel.bind(METHODS).unwrap(), 0);
    channel
}

fn echo(channel: &mut InlineChannel, body: &[u8]) -> Result<Vec<u8>, Status> {
    let answer = channel.call::<Raw, [u8], [u8]>(ECHO, body, &options())?;
    Ok(answer.bytes().to_vec())
}

fn a_call_is_answered(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let mut channel = client(choice, &host);
    assert_eq!(echo(&mut channel, b"hello").unwrap(), b"hello");
    let large: Vec<u8> = (0..=250_u8).cycle().take(3_000_000).collect();
    assert!(echo(&mut channel, &large).unwrap() == large);
    let mut metadata = MetadataBuf::new();
    metadata.add("color", b"blue").unwrap();
    let options = CallOptions {
        metadata: metadata.bytes(),
        priority: 6,
        idempotent: true,
        timeout: Some(Duration::from_secs(3600)),
        ..options()
    };
    let answer = channel
        .call::<Raw, [u8], [u8]>(INFO_OF_CALL, b"", &options)
        .unwrap();
    let text = format!("6 true true {:?}", Some(b"blue"));
    assert_eq!(answer.bytes(), text.as_bytes());
    assert_eq!(answer.metadata().named("color"), Some(&b"blue"[..]));
}

fn many_calls_are_under_way(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let mut channel = client(choice, &host);
    let mut keys = HashMap::new();
    let start = |channel: &mut InlineChannel, number: u32| {
        let body = number.to_le_bytes();
        channel
            .start::<Raw, [u8]>(ECHO, &body[..], &options())
            .unwrap()
    };
    for number in 0..200 {
        let key = start(&mut channel, number);
        keys.insert(format!("{key:?}"), number);
    }
    while !keys.is_empty() {
        channel.turn(None);
        while let Some((key, answer)) = channel.next_answer() {
            let number = keys.remove(&format!("{key:?}")).unwrap();
            assert_eq!(answer.message.unwrap().bytes(), number.to_le_bytes());
        }
    }
    // In another order than they were started in.
    let started: Vec<_> = (0..50).map(|it| (it, start(&mut channel, it))).collect();
    for (number, key) in started.into_iter().rev() {
        let answer = channel.finish(key);
        assert_eq!(answer.message.unwrap().bytes(), number.to_le_bytes());
    }
    assert!(channel.next_answer().is_none());
}

/// More calls than the server takes at once: starting waits for a slot, and none is lost.
fn starting_waits_for_a_slot(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let mut channel = client(choice, &host);
    let mut ended = 0;
    for _ in 0..5000 {
        channel.start::<Raw, [u8]>(ECHO, b"x", &options()).unwrap();
    }
    while ended < 5000 {
        while let Some((_, answer)) = channel.next_answer() {
            assert!(answer.status.is_ok());
            ended += 1;
        }
        channel.turn(Some(Duration::from_millis(1)));
    }
    assert_eq!(host.hands.echoed.load(Ordering::SeqCst), 5000);
}

fn streams_of_all_kinds(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let mut channel = client(choice, &host);
    let call = channel
        .open::<Raw, [u8]>(COUNT, Some(&[40, 200]), true, &options())
        .unwrap();
    for number in 0..200 {
        let message = channel.receive(call).unwrap();
        assert_eq!(message.bytes(), vec![number; 40 * 256]);
    }
    assert!(channel.receive(call).unwrap_err().status.is_ok());
    // Once more: it is over.
    assert_eq!(
        channel.receive(call).unwrap_err().status.code,
        Code::Cancelled
    );

    let call = channel
        .open::<Raw, [u8]>(SUM, None, false, &options())
        .unwrap();
    for byte in 1..=10 {
        channel
            .send::<Raw, [u8]>(call, &[byte], byte == 10)
            .unwrap();
    }
    let answer = channel.receive(call).unwrap_err();
    assert_eq!(answer.message.unwrap().bytes(), 55_u64.to_le_bytes());

    let call = channel
        .open::<Raw, [u8]>(CHAT, Some(b"first"), false, &options())
        .unwrap();
    assert_eq!(channel.receive(call).unwrap().bytes(), b"first");
    for round in 0_u8..50 {
        channel
            .send::<Raw, [u8]>(call, &[round; 5000], false)
            .unwrap();
        assert_eq!(channel.receive(call).unwrap().bytes(), [round; 5000]);
    }
    channel.end(call);
    assert!(channel.receive(call).unwrap_err().status.is_ok());
    assert!(channel.send::<Raw, [u8]>(call, b"late", false).is_err());
}

fn a_writer_without_a_reader_finds_no_room(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let mut channel = client(choice, &host);
    let call = channel
        .open::<Raw, [u8]>(EAT, None, false, &options())
        .unwrap();
    let mut taken = 0;
    while channel
        .try_send::<Raw, [u8]>(call, &[1; 10_000], false)
        .unwrap()
    {
        taken += 1;
        assert!(taken < 100, "the server gave credit for 26 messages");
    }
    // Others are not in its way.
    assert!(echo(&mut channel, b"x").is_ok());
    channel.cancel(call);
    channel.turn(Some(Duration::ZERO));
    until(|| host.hands.dropped.load(Ordering::SeqCst) == 1);
}

fn a_message_that_the_budget_can_not_hold_is_refused(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let limits = Limits {
        budget_bytes: 8 << 20,
        ..Limits::default()
    };
    let config = Config::default()
        .driver(choice)
        .message_bytes_max(2 << 20)
        .limits(limits);
    let mut channel = InlineChannel::connect_with(config, &host.address).unwrap();
    assert_eq!(channel.bind(METHODS).unwrap(), 0);
    let call = channel
        .open::<Raw, [u8]>(EAT, None, false, &options())
        .unwrap();
    let large = vec![1; 7 << 20];
    // Who waited for memory would wait for ever.
    let refused = channel.send::<Raw, [u8]>(call, &large, false).unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    let refused = channel.call::<Raw, [u8], [u8]>(ECHO, &large, &options());
    assert_eq!(refused.unwrap_err().code, Code::ResourceExhausted);
    assert!(echo(&mut channel, b"x").is_ok());
}

fn a_deadline_ends_a_call_at_both_ends(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let mut channel = client(choice, &host);
    let short = CallOptions::timeout(Duration::from_millis(20));
    let status = channel
        .call::<Raw, [u8], [u8]>(NEVER, b"", &short)
        .unwrap_err();
    assert_eq!(status.code, Code::DeadlineExceeded, "{status}");
    until(|| host.hands.dropped.load(Ordering::SeqCst) == 1);
    let past = CallOptions::timeout(Duration::ZERO);
    let status = channel
        .call::<Raw, [u8], [u8]>(ECHO, b"", &past)
        .unwrap_err();
    assert_eq!(
        (status.code, status.not_started),
        (Code::DeadlineExceeded, true)
    );
    assert!(echo(&mut channel, b"x").is_ok());
}

/// The slot in a key's text, `slot.generation`.
fn slot(key: CallKey) -> String {
    let text = format!("{key:?}");
    let (_, call) = text.rsplit_once("call: ").unwrap();
    call.split_once('.').unwrap().0.to_owned()
}

fn a_call_that_was_given_up_is_over(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let mut channel = client(choice, &host);
    let never = channel.start::<Raw, [u8]>(NEVER, b"", &options()).unwrap();
    while host.hands.started.load(Ordering::SeqCst) == 0 {
        channel.turn(Some(Duration::from_millis(1)));
    }
    channel.cancel(never);
    assert_eq!(channel.finish(never).status.code, Code::Cancelled);
    while host.hands.dropped.load(Ordering::SeqCst) == 0 {
        channel.turn(Some(Duration::from_millis(1)));
    }
    // Its slot is used again; its key names nobody.
    let mut held = Vec::new();
    while held.last().is_none_or(|last| slot(*last) != slot(never)) {
        let next = channel.start::<Raw, [u8]>(HELD, b"", &options());
        held.push(next.unwrap());
        channel.turn(Some(Duration::from_millis(1)));
    }
    channel.cancel(never);
    assert_eq!(channel.finish(never).status.code, Code::Cancelled);
    channel.turn(Some(Duration::ZERO));
    for _ in &held {
        host.hands.take_held().send(b"held");
    }
    for held in held {
        assert_eq!(channel.finish(held).message.unwrap().bytes(), b"held");
        assert_eq!(channel.finish(held).status.code, Code::Cancelled);
    }
}

fn a_server_that_dies_ends_the_calls_and_may_come_back(choice: DriverChoice) {
    let address = unix_address();
    let host = Hosted::at(choice, &address, Server::builder());
    let mut channel = client(choice, &host);
    let held = channel.start::<Raw, [u8]>(HELD, b"", &options()).unwrap();
    channel.turn(Some(Duration::ZERO));
    let reply = host.hands.take_held();
    reply.fail(Status::of(Code::Aborted, "first"));
    assert_eq!(channel.finish(held).status.code, Code::Aborted);
    let held = channel.start::<Raw, [u8]>(HELD, b"", &options()).unwrap();
    channel.turn(Some(Duration::ZERO));
    let _reply = host.hands.take_held();
    drop(host.shards);
    let status = channel.finish(held).status;
    assert_eq!(
        (status.code, status.not_started),
        (Code::Unavailable, false)
    );
    // Down: those who do not wait are told, for certain.
    let status = loop {
        let failed = echo(&mut channel, b"x").unwrap_err();
        if failed.not_started {
            break failed;
        }
    };
    assert_eq!(status.code, Code::Unavailable);
    let host = Hosted::at(choice, &address, Server::builder());
    let answer = channel.call::<Raw, [u8], [u8]>(ECHO, b"again", &patient());
    assert_eq!(answer.unwrap().bytes(), b"again");
    drop(host);
}

fn without_a_server_connecting_fails(choice: DriverChoice) {
    let config = || Config::default().driver(choice);
    let status = InlineChannel::connect_with(config(), &unix_address()).unwrap_err();
    assert_eq!(status.code, Code::Unavailable);
    let status = InlineChannel::connect_with(config(), "nonsense").unwrap_err();
    assert_eq!(status.code, Code::InvalidArgument);
}

fn methods_that_do_not_fit_are_refused(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let mut channel = client(choice, &host);
    for (name, kind, codec, code) in [
        ("test.Host/Nothing", Kind::Unary, 0, Code::Unimplemented),
        ("test.Host/Echo", Kind::Bidi, 0, Code::FailedPrecondition),
        ("test.Host/Held", Kind::Unary, 2, Code::FailedPrecondition),
    ] {
        let method = Method::new(name, kind, codec, 1);
        let status = channel.bind(&[method]).unwrap_err();
        assert_eq!(status.code, code, "{name}: {status}");
    }
    assert_eq!(channel.bind(METHODS).unwrap(), 0, "the same list again");
    let status = channel
        .call::<Raw, [u8], [u8]>(999, b"", &options())
        .unwrap_err();
    assert_eq!(status.code, Code::FailedPrecondition, "{status}");
    assert!(echo(&mut channel, b"x").is_ok());
}

fn one_engine_calls_two_servers(choice: DriverChoice) {
    let [one, two] = [Hosted::start(choice), Hosted::start(choice)];
    let mut channel = client(choice, &one);
    let other = channel.add(&two.address).unwrap();
    let first = channel.bind_at(other, METHODS).unwrap();
    let body = &b"to the other"[..];
    let far = channel
        .start_with(other, first + ECHO, body, &options())
        .unwrap();
    assert!(echo(&mut channel, b"to the first").is_ok());
    assert_eq!(channel.finish(far).message.unwrap().bytes(), body);
    assert_eq!(two.hands.echoed.load(Ordering::SeqCst), 1);
    assert_eq!(one.hands.echoed.load(Ordering::SeqCst), 1);
}

fn one_way_calls_are_executed(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let mut channel = client(choice, &host);
    for _ in 0..10 {
        channel
            .one_way::<Raw, [u8]>(ECHO, b"x", &options())
            .unwrap();
    }
    assert!(echo(&mut channel, b"last").is_ok());
    assert_eq!(host.hands.echoed.load(Ordering::SeqCst), 11);
    let status = channel
        .one_way::<Raw, [u8]>(ECHO, &[0; 100_000], &options())
        .unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted, "{status}");
}

/// A large request of low priority is under way when a small urgent one is made.
fn a_small_urgent_call_overtakes_bulk(choice: DriverChoice) {
    let host = Hosted::start(choice);
    let mut channel = client(choice, &host);
    let bulk = CallOptions {
        priority: 7,
        ..options()
    };
    let large = channel
        .start::<Raw, [u8]>(ECHO, &vec![1; 32 << 20], &bulk)
        .unwrap();
    channel.turn(Some(Duration::ZERO));
    let urgent = CallOptions {
        priority: 0,
        ..options()
    };
    for _ in 0..3 {
        let small = channel.start::<Raw, [u8]>(ECHO, b"x", &urgent).unwrap();
        let first = loop {
            if let Some((key, answer)) = channel.next_answer() {
                assert!(answer.status.is_ok());
                break key;
            }
            channel.turn(None);
        };
        assert_eq!(first, small);
    }
    assert_eq!(channel.finish(large).message.unwrap().len(), 32 << 20);
}

on_kernel_drivers!(
    a_call_is_answered,
    many_calls_are_under_way,
    starting_waits_for_a_slot,
    streams_of_all_kinds,
    a_writer_without_a_reader_finds_no_room,
    a_message_that_the_budget_can_not_hold_is_refused,
    a_deadline_ends_a_call_at_both_ends,
    a_call_that_was_given_up_is_over,
    a_server_that_dies_ends_the_calls_and_may_come_back,
    without_a_server_connecting_fails,
    methods_that_do_not_fit_are_refused,
    one_engine_calls_two_servers,
    one_way_calls_are_executed,
    a_small_urgent_call_overtakes_bulk,
);

/// Answers that nobody takes are bounded.
#[test]
fn answers_that_are_not_taken_stop_further_calls() {
    let host = Hosted::start(DriverChoice::Auto);
    let mut channel = client(DriverChoice::Auto, &host);
    let mut started = 0_u32;
    let refused = loop {
        match channel.start::<Raw, [u8]>(ECHO, b"", &options()) {
            Ok(_) => started += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    assert!(started <= 65_536 + 1024, "{started}");
    for _ in 0..started {
        loop {
            if channel.next_answer().is_some() {
                break;
            }
            channel.turn(None);
        }
    }
    assert!(echo(&mut channel, b"x").is_ok());
}

static INSIDE: ServiceInfo = ServiceInfo {
    name: "test.Inside",
    methods: &[
        Method::new("test.Inside/Plain", Kind::Unary, 0, 0),
        Method::new("test.Inside/Async", Kind::Unary, 0, 0),
    ],
    descriptors: &[],
};

/// A service that does what must not be done: it waits for an engine.
struct Inside {
    inline: Rc<RefCell<InlineChannel>>,
    channel: Channel,
}

fn codes(inline: &RefCell<InlineChannel>, channel: &Channel) -> Vec<Code> {
    let mut inline = inline.borrow_mut();
    let waits = inline.call::<Raw, [u8], [u8]>(ECHO, b"", &options());
    assert_eq!(inline.turn(None), 0);
    let started = inline.start::<Raw, [u8]>(ECHO, b"", &options()).unwrap();
    let finished = inline.finish(started);
    let connect = InlineChannel::connect(channel.address());
    let call = channel.call::<Raw, [u8], [u8]>(METHODS, ECHO, b"", &options());
    let one_way = channel.one_way::<Raw, [u8]>(METHODS, ECHO, b"", &options());
    let (mut out, mut stream) =
        channel.open::<Raw, Vec<u8>, Vec<u8>>(METHODS, CHAT, None, false, &options());
    vec![
        waits.unwrap_err().code,
        finished.status.code,
        connect.unwrap_err().code,
        call.wait().unwrap_err().code,
        one_way.wait().unwrap_err().code,
        out.send_wait(&vec![]).unwrap_err().code,
        stream.next_wait().unwrap_err().code,
        stream.answer_wait().unwrap_err().code,
    ]
}

impl Service for Inside {
    fn info(&self) -> &'static ServiceInfo {
        &INSIDE
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        let (inline, channel) = (Rc::clone(&self.inline), self.channel.clone());
        match call.method() {
            0 => call.inline::<Raw, [u8], [u8]>(|_call, _request, reply| {
                assert_eq!(codes(&inline, &channel), [Code::FailedPrecondition; 8]);
                reply.send(b"refused")
            }),
            _ => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, _request| async move {
                assert_eq!(codes(&inline, &channel), [Code::FailedPrecondition; 8]);
                Ok(b"refused".to_vec())
            }),
        }
    }
}

#[test]
fn inside_a_handler_nothing_waits_for_an_engine() {
    let host = Hosted::start(DriverChoice::Auto);
    let inline = Rc::new(RefCell::new(client(DriverChoice::Auto, &host)));
    let service = Inside {
        inline: Rc::clone(&inline),
        channel: Channel::connect(&host.address).unwrap(),
    };
    let mut server = Server::builder().service_here(service).local().unwrap();
    for method in ["test.Inside/Plain", "test.Inside/Async"] {
        let answer = server.unary(&LocalRequest::unary(method, b"")).unwrap();
        assert_eq!(&*answer, b"refused");
    }
    // Outside it works as before.
    assert!(echo(&mut inline.borrow_mut(), b"x").is_ok());
}
