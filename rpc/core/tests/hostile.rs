//! Clients that break rules or do not keep up: what they may hold, and that nobody else notices.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod world;

use std::time::Duration;

use ringway_call::{Binding, CallConfig, Code, Head, Outlet, Way, flag, kind};
use ringway_rpc::{
    IncomingCall, Kind, Method, Raw, Server, ServerBuilder, ServerLimits, Service, ServiceInfo,
};
use world::{Pair, World, open};

static INFO: ServiceInfo = ServiceInfo {
    name: "test.Hostile",
    methods: &[
        Method::new("test.Hostile/Echo", Kind::Unary, 0, 0),
        Method::new("test.Hostile/Flow", Kind::ServerStream, 0, 0),
        Method::new("test.Hostile/Eat", Kind::ClientStream, 0, 0),
    ],
    descriptors: &[],
};

struct Hostile;

impl Service for Hostile {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        match call.method() {
            0 => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| reply.send(request)),
            // A stream without an end.
            1 => call.server_stream::<Raw, Vec<u8>, Vec<u8>, _>(
                |_cx, _request, mut out| async move {
                    loop {
                        out.send(vec![7; 5000]).await?;
                    }
                },
            ),
            // Reads nothing.
            2 => call.client_stream::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, _input| async move {
                std::future::pending().await
            }),
            _ => call.unimplemented(),
        }
    }
}

fn bindings() -> Vec<Binding> {
    INFO.methods.iter().map(Method::binding).collect()
}

fn server() -> ServerBuilder {
    Server::builder().service(|| Hostile)
}

/// Frames that the connection's peer must not send end the connection, and nothing else.
fn a_broken_rule_closes_its_connection(world: World) {
    let mut pair = Pair::new(world, server(), &bindings());
    pair.with_client(|_client, out| {
        let settings = Head::of_connection(kind::SETTINGS, 0);
        out.frame(Way::InOrder, settings, 32, |room| room.fill(0))
            .unwrap();
    });
    pair.until("the connection is closed", |pair| {
        !pair.client.1.closed.is_empty()
    });
    pair.until("at both ends", |pair| pair.server.1.connections() == 0);
}

fn a_stream_that_nobody_reads_holds_a_bounded_amount(world: World) {
    let mut pair = Pair::new(world, server(), &bindings());
    pair.client.1.grants = false;
    let before = pair.server.0.budget().used();
    let calls = [(); 4].map(|()| pair.open(&open(1), b""));
    pair.until("all are stuck", |pair| {
        calls.iter().all(|call| {
            pair.client
                .1
                .messages
                .get(call)
                .is_some_and(|it| it.len() > 50)
        })
    });
    for _ in 0..100 {
        pair.step();
        if pair.world.is_sim() {
            break;
        }
    }
    let counts = calls.map(|call| pair.client.1.messages[&call].len());
    for count in counts {
        assert!(
            count * 5024 <= 256 * 1024 + 5024,
            "credit bounds it: {count}"
        );
    }
    let held = pair.server.0.budget().used().saturating_sub(before);
    assert!(held < 2 << 20, "{held} bytes for four streams");
    // Others are served as before.
    assert!(pair.call(&open(0), b"x").status.is_ok());
    for call in calls {
        assert!(pair.with_client(|client, out| client.caller.cancel(out, call)));
    }
    pair.until("they are over", |pair| pair.server.1.open_calls() == 0);
}

fn a_message_without_credit_ends_its_call(world: World) {
    let mut pair = Pair::new(world, server(), &bindings());
    let mut request = open(2);
    request.end = false;
    let call = pair.open(&request, b"");
    // Sent past the client's machine, which keeps the rules.
    for _ in 0..20 {
        pair.with_client(|_client, out| {
            let head = Head::new(kind::DATA, flag::MESSAGE, call, 0);
            out.frame(Way::InOrder, head, 30_000, |room| room.fill(1))
                .unwrap();
        });
        pair.step();
    }
    let end = pair.end(call);
    assert_eq!(end.status.code, Code::ResourceExhausted, "{}", end.status);
    assert_eq!(pair.server.1.open_calls(), 0);
    assert!(pair.call(&open(0), b"x").status.is_ok());
}

fn more_than_the_limits_is_refused(world: World) {
    let limits = ServerLimits {
        call: CallConfig {
            calls_max: 4,
            message_bytes_max: 100_000,
            metadata_bytes_max: 256,
            ..CallConfig::default()
        },
        ..ServerLimits::default()
    };
    let mut pair = Pair::new(world, server().limits(limits), &bindings());
    let now = pair.client.0.now();
    let too_long = vec![0; 100_001];
    pair.with_client(|client, out| {
        let refused = client.caller.open(out, &open(0), Some(&too_long[..]), now);
        assert!(refused.unwrap_err().to_string().contains("100000"));
        let mut request = open(0);
        request.metadata = &[0; 272];
        assert!(
            client
                .caller
                .open(out, &request, Some(&b""[..]), now)
                .is_err()
        );
        for _ in 0..4 {
            client
                .caller
                .open(out, &open(1), Some(&b""[..]), now)
                .unwrap();
        }
        assert!(
            client
                .caller
                .open(out, &open(1), Some(&b""[..]), now)
                .is_err()
        );
    });
    pair.until("four run", |pair| pair.server.1.open_calls() == 4);
    assert_eq!(pair.server.1.connections(), 1);
}

fn an_answer_beyond_the_client_s_limit_is_an_error(world: World) {
    let config = CallConfig {
        inline_bytes_max: 1024,
        message_bytes_max: 1024,
        ..CallConfig::default()
    };
    let mut pair = Pair::with(world, server(), &bindings(), "tcp", config);
    let end = pair.call(&open(0), &[1; 2000]);
    assert_eq!(end.status.code, Code::ResourceExhausted, "{}", end.status);
    assert!(!end.status.not_started);
    assert!(pair.call(&open(0), &[1; 1000]).status.is_ok());
}

fn malformed_metadata_ends_its_call(world: World) {
    let mut pair = Pair::new(world, server(), &bindings());
    let mut request = open(0);
    // A field that reaches beyond the block.
    request.metadata = &[9, 0, 255, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
    let end = pair.call(&request, b"x");
    assert_eq!(end.status.code, Code::Internal, "{}", end.status);
    assert!(end.status.not_started);
    assert!(pair.call(&open(0), b"x").status.is_ok());
}

/// A client that asks and does not read its answers gets no more memory than its queue and its slots.
fn a_client_that_never_reads_is_bounded(world: World) {
    let mut pair = Pair::new(world, server(), &bindings());
    let body = vec![3; 60_000];
    let id = pair.client.1.connection.unwrap();
    pair.client.0.context().pause(id, true);
    let mut opened = 0_u32;
    for _ in 0..3000 {
        let now = pair.client.0.now();
        let taken = pair.with_client(|client, out| {
            client
                .caller
                .open(out, &open(0), Some(&body[..]), now)
                .is_ok()
        });
        opened += u32::from(taken);
        let (engine, client) = &mut pair.client;
        engine.turn(client);
        let (engine, node) = &mut pair.server;
        engine.turn(node);
    }
    let used = pair.server.0.budget().used();
    assert!(used < 256 << 20, "{used} bytes held for one client");
    pair.client.0.context().pause(id, false);
    pair.until("all are answered", |pair| {
        pair.client.1.ends.len() == opened as usize
    });
    assert!(pair.client.1.ends.values().all(|end| end.status.is_ok()));
}

fn a_dead_client_leaves_nothing(world: World) {
    let mut pair = Pair::new(world, server(), &bindings());
    pair.open(&open(1), b"");
    let mut request = open(2);
    request.end = false;
    request.deadline = Some(pair.client.0.now() + Duration::from_secs(3600));
    pair.open(&request, b"");
    pair.until("they run", |pair| pair.server.1.open_calls() == 2);
    let id = pair.client.1.connection.unwrap();
    pair.client
        .0
        .context()
        .close(id, ringway_engine::CloseCode::Internal);
    pair.until("they are gone", |pair| {
        pair.server.1.open_calls() == 0 && pair.server.1.connections() == 0
    });
}

over_every_transport!(
    a_broken_rule_closes_its_connection,
    a_stream_that_nobody_reads_holds_a_bounded_amount,
    a_message_without_credit_ends_its_call,
    more_than_the_limits_is_refused,
    an_answer_beyond_the_client_s_limit_is_an_error,
    malformed_metadata_ends_its_call,
    a_client_that_never_reads_is_bounded,
    a_dead_client_leaves_nothing,
);
