//! Services of every form over real sockets and the simulator: what a client's machine sees of them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helper fails the test"
)]

mod world;

use ringway_buf::Instant;
use ringway_call::{Binding, Code};
use ringway_rpc::{
    CallContext, IncomingCall, Kind, Method, Raw, Receiver, Sender, Server, Service, ServiceInfo,
    Status,
};
use world::{Pair, World, open};

static INFO: ServiceInfo = ServiceInfo {
    name: "test.Forms",
    methods: &[
        Method::new("test.Forms/Inline", Kind::Unary, 0, 0),
        Method::new("test.Forms/Async", Kind::Unary, 0, 0),
        Method::new("test.Forms/Count", Kind::ServerStream, 0, 0),
        Method::new("test.Forms/Sum", Kind::ClientStream, 0, 0),
        Method::new("test.Forms/Chat", Kind::Bidi, 0, 0),
    ],
    descriptors: &[],
};

fn bindings() -> Vec<Binding> {
    INFO.methods.iter().map(Method::binding).collect()
}

struct Forms;

impl Service for Forms {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        match call.method() {
            0 => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| match request {
                b"fail" => Err(Status::new(Code::NotFound, "not here").with_app_code(7)),
                b"panic" => panic!("asked for"),
                request => reply.send(request),
            }),
            1 => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(unary),
            2 => call.server_stream::<Raw, Vec<u8>, Vec<u8>, _>(count),
            3 => call.client_stream::<Raw, Vec<u8>, Vec<u8>, _>(sum),
            4 => call.bidi::<Raw, Vec<u8>, Vec<u8>, _>(chat),
            _ => call.unimplemented(),
        }
    }
}

/// Suspends once, woken at once.
async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut paused, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

async fn unary(_cx: CallContext, request: Vec<u8>) -> Result<Vec<u8>, Status> {
    match &*request {
        b"panic" => panic!("asked for"),
        b"fail" => Err(Status::of(Code::Aborted, "no")),
        b"pause" => {
            pause().await;
            Ok(request)
        }
        b"never" => std::future::pending().await,
        _ => Ok(request),
    }
}

async fn count(_cx: CallContext, request: Vec<u8>, mut out: Sender<Vec<u8>>) -> Result<(), Status> {
    let [bytes, times] = request[..] else {
        return Err(Status::of(Code::InvalidArgument, "two numbers"));
    };
    for number in 0..times {
        let mut message = vec![number; usize::from(bytes) * 256];
        message.push(number);
        out.send(&message).await?;
    }
    Ok(())
}

async fn sum(_cx: CallContext, mut input: Receiver<Vec<u8>>) -> Result<Vec<u8>, Status> {
    let mut sum = 0_u64;
    while let Some(message) = input.recv().await? {
        sum += message.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    }
    Ok(sum.to_le_bytes().to_vec())
}

async fn chat(
    _cx: CallContext,
    mut input: Receiver<Vec<u8>>,
    mut out: Sender<Vec<u8>>,
) -> Result<(), Status> {
    while let Some(message) = input.recv().await? {
        out.send(message).await?;
    }
    Ok(())
}

fn pair(world: World) -> Pair {
    Pair::new(world, Server::builder().service(|| Forms), &bindings())
}

fn an_inline_call_is_answered(world: World) {
    let mut pair = pair(world);
    let end = pair.call(&open(0), b"hello");
    assert!(end.status.is_ok(), "{}", end.status);
    assert_eq!(end.message.as_deref(), Some(&b"hello"[..]));
    let end = pair.call(&open(0), b"fail");
    assert_eq!((end.status.code, end.status.app_code), (Code::NotFound, 7));
    assert_eq!(end.status.message, "not here");
}

fn a_panic_ends_its_call_alone(world: World) {
    let mut pair = pair(world);
    for method in [0, 1] {
        let other = pair.open(&open(1), b"never");
        let end = pair.call(&open(method), b"panic");
        assert_eq!(end.status.code, Code::Internal);
        assert_eq!(
            pair.call(&open(method), b"after").message.unwrap(),
            b"after"
        );
        assert!(!pair.client.1.ends.contains_key(&other));
    }
    assert_eq!(pair.server.1.open_calls(), 2, "the two that never end");
}

fn a_future_is_answered_at_once_or_later(world: World) {
    let mut pair = pair(world);
    for request in [&b"now"[..], b"pause"] {
        let end = pair.call(&open(1), request);
        assert_eq!(end.message.as_deref(), Some(request), "{}", end.status);
    }
    assert_eq!(pair.call(&open(1), b"fail").status.code, Code::Aborted);
    assert_eq!(pair.server.1.open_calls(), 0);
}

fn a_server_streams_as_far_as_credit_goes(world: World) {
    let mut pair = pair(world);
    pair.client.1.grants = false;
    let call = pair.open(&open(2), &[255, 20]);
    pair.until("credit ends", |pair| {
        pair.client
            .1
            .messages
            .get(&call)
            .is_some_and(|it| it.len() >= 5)
    });
    pair.steps(50);
    let come = pair.client.1.messages[&call].len();
    assert!(
        come < 20,
        "the client gave credit for four messages: {come}"
    );
    pair.client.1.grants = true;
    let owed = std::mem::take(&mut pair.client.1.owed);
    pair.with_client(|client, out| {
        for (call, cost) in owed {
            client.caller.grant(out, call, cost);
        }
    });
    let end = pair.end(call);
    assert!(end.status.is_ok(), "{}", end.status);
    let messages = &pair.client.1.messages[&call];
    assert_eq!(messages.len(), 20);
    for (number, message) in (0_u8..).zip(messages) {
        assert_eq!(message.len(), 255 * 256 + 1);
        assert!(message.iter().all(|byte| *byte == number));
    }
}

fn a_client_streams_and_gets_one_answer(world: World) {
    let mut pair = pair(world);
    let mut request = open(3);
    request.end = false;
    let call = pair.open(&request, &[1, 2]);
    for byte in 3..=10 {
        pair.with_client(|client, out| {
            client
                .caller
                .send(out, call, &[byte][..], byte == 10, false)
                .unwrap();
        });
        pair.step();
    }
    let end = pair.end(call);
    let message = end.message.unwrap();
    assert_eq!(message, 55_u64.to_le_bytes());
}

fn both_sides_stream(world: World) {
    let mut pair = pair(world);
    let mut request = open(4);
    request.end = false;
    let call = pair.open(&request, b"first");
    for round in 0_u8..50 {
        pair.with_client(|client, out| {
            client
                .caller
                .send(out, call, &[round; 1000][..], false, false)
                .unwrap();
        });
        pair.until("the echo", |pair| {
            pair.client
                .1
                .messages
                .get(&call)
                .is_some_and(|it| it.len() == usize::from(round) + 2)
        });
    }
    pair.with_client(|client, out| client.caller.end(out, call));
    assert!(pair.end(call).status.is_ok());
    assert_eq!(pair.client.1.messages[&call][50], [49; 1000]);
}

fn an_unknown_method_is_refused_before_it_starts(world: World) {
    let unknown = Method::new("test.Forms/Nothing", Kind::Unary, 0, 0).binding();
    let wrong = Binding {
        kind: Kind::Bidi,
        ..INFO.methods[0].binding()
    };
    let mut pair = Pair::new(world, Server::builder().service(|| Forms), &[]);
    // Opened before the server's word about the methods can have come.
    let calls = pair.with_client(|client, out| {
        client.caller.bind(out, &[unknown, wrong]).unwrap();
        let now = Instant::ZERO;
        let body = Some(&b""[..]);
        let mut one = |method| client.caller.open(out, &open(method), body, now).unwrap();
        [one(0), one(1)]
    });
    for (call, code) in calls
        .into_iter()
        .zip([Code::Unimplemented, Code::FailedPrecondition])
    {
        let end = pair.end(call);
        assert_eq!(end.status.code, code, "{}", end.status);
        assert!(end.status.not_started);
    }
}

fn large_messages_go_both_ways(world: World) {
    let mut pair = pair(world);
    let body: Vec<u8> = (0..=250_u8).cycle().take(3_000_000).collect();
    for method in [0, 1] {
        let end = pair.call(&open(method), &body);
        assert!(end.status.is_ok(), "{}", end.status);
        assert!(end.message.unwrap() == body);
    }
}

over_every_transport!(
    an_inline_call_is_answered,
    a_panic_ends_its_call_alone,
    a_future_is_answered_at_once_or_later,
    a_server_streams_as_far_as_credit_goes,
    a_client_streams_and_gets_one_answer,
    both_sides_stream,
    an_unknown_method_is_refused_before_it_starts,
    large_messages_go_both_ways,
);
