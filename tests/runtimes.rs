//! Channels under runtimes that know nothing of ringway: their futures need no reactor, move between threads, and may
//! be dropped at any time.
#![cfg(feature = "rpc")]
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ringway::rpc::{
    Call, CallOptions, Channel, Incoming, IncomingCall, Kind, Method, OneWay, Outgoing, Raw,
    Server, Service, ServiceInfo, Status,
};

static METHODS: &[Method] = &[
    Method::new("test.Runtimes/Echo", Kind::Unary, 0, 0),
    Method::new("test.Runtimes/Chat", Kind::Bidi, 0, 0),
    Method::new("test.Runtimes/Never", Kind::Unary, 0, 0),
];

static INFO: ServiceInfo = ServiceInfo {
    name: "test.Runtimes",
    methods: METHODS,
    descriptors: &[],
};

/// Handlers of Never that run.
#[derive(Clone, Default)]
struct Runtimes(Arc<AtomicU32>);

struct Running(Arc<AtomicU32>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service for Runtimes {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        let running = Arc::clone(&self.0);
        match call.method() {
            0 => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| reply.send(request)),
            1 => call.bidi::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, mut input, mut out| async move {
                while let Some(message) = input.recv().await? {
                    out.send(message).await?;
                }
                Ok(())
            }),
            _ => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, _request| async move {
                running.fetch_add(1, Ordering::SeqCst);
                let _running = Running(running);
                std::future::pending().await
            }),
        }
    }
}

async fn converse(channel: Channel, number: u8) -> Result<(), Status> {
    let options = CallOptions::default();
    for round in 0..20 {
        let body = [number, round];
        let answer = channel.call::<Raw, [u8], [u8]>(METHODS, 0, &body, &options);
        assert_eq!(answer.await?.bytes(), body);
        tokio::task::yield_now().await;
    }
    let (mut out, mut messages) =
        channel.open::<Raw, Vec<u8>, Vec<u8>>(METHODS, 1, None, false, &options);
    let writer = tokio::spawn(async move {
        for round in 0..50 {
            out.send(&vec![round; 20_000]).await?;
        }
        Ok::<(), Status>(())
    });
    for round in 0..50 {
        assert_eq!(messages.next().await?, Some(vec![round; 20_000]));
    }
    assert_eq!(messages.next().await?, None);
    writer.await.unwrap()
}

async fn everything(channel: Channel, running: Arc<AtomicU32>) {
    let tasks: Vec<_> = (0..4)
        .map(|number| tokio::spawn(converse(channel.clone(), number)))
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    // A task that is aborted drops its call, and with it the handler at the server.
    let never = tokio::spawn(async move {
        let options = CallOptions::default();
        let call = channel.call::<Raw, [u8], [u8]>(METHODS, 2, b"", &options);
        call.await.map(|_answer| ())
    });
    while running.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    never.abort();
    assert!(never.await.unwrap_err().is_cancelled());
    while running.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn channels_work_under_tokio() {
    let runtimes = [
        tokio::runtime::Builder::new_current_thread(),
        tokio::runtime::Builder::new_multi_thread(),
    ];
    for mut runtime in runtimes {
        let service = Runtimes::default();
        let running = Arc::clone(&service.0);
        let server = Server::builder().service(move || service.clone());
        let shards = server.shards(1, &["tcp://127.0.0.1:0"]).unwrap();
        let channel = Channel::connect(&shards.addresses()[0].to_string()).unwrap();
        let runtime = runtime.worker_threads(2).build().unwrap();
        runtime.block_on(everything(channel, running));
    }
}

#[test]
fn what_other_threads_hold_may_move_between_them() {
    fn moves<T: Send + 'static>() {}
    fn is_shared<T: Send + Sync + Clone + 'static>() {}
    is_shared::<Channel>();
    moves::<Call<Raw, [u8]>>();
    moves::<OneWay>();
    moves::<Outgoing<Raw, Vec<u8>>>();
    moves::<Incoming<Raw, Vec<u8>>>();
}
