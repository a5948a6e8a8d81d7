//! An engine on a thread, echoing or serving links, and what the scenarios share.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test's helper fails the test, and its numbers are small"
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, JoinHandle};

use ringway::{
    Acceptor, Config, DriverChoice, Handle, Handler, Limits, Link, LinksOnly, ListenOptions,
};

use crate::trust::trusting_each_other;

/// An engine on its own thread. Dropping it stops and joins.
pub(crate) struct Host {
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Runs an engine whose connections all are links.
    pub(crate) fn links(choice: DriverChoice) -> Self {
        Self::with(choice, Limits::default(), || LinksOnly)
    }

    pub(crate) fn with<H: Handler>(
        choice: DriverChoice,
        limits: Limits,
        handler: impl FnOnce() -> H + Send + 'static,
    ) -> Self {
        // Two engines of one seed choose the same ids, and a server would take one for the other.
        static SEED: AtomicU64 = AtomicU64::new(5);
        let seed = SEED.fetch_add(1, Ordering::Relaxed);
        let (handle_in, handle) = channel();
        let thread = thread::spawn(move || {
            let mut engine = Config::default()
                .driver(choice)
                .limits(limits)
                .message_bytes_max(1 << 20)
                .quic(trusting_each_other())
                .seed(seed)
                .build()
                .unwrap();
            handle_in.send(engine.handle()).unwrap();
            engine.run(&mut handler());
        });
        Self {
            handle: handle.recv().unwrap(),
            thread: Some(thread),
        }
    }

    pub(crate) fn listen(&self) -> (Acceptor, String) {
        self.listen_at("tcp://127.0.0.1:0")
    }

    pub(crate) fn listen_at(&self, address: &str) -> (Acceptor, String) {
        let acceptor = self
            .handle
            .listen_wait(address, ListenOptions::default())
            .unwrap();
        let address = acceptor.local_address().unwrap().to_string();
        (acceptor, address)
    }

    /// Waits for the engine's end, which somebody else brings about.
    pub(crate) fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }

    /// Ends the engine and waits for it.
    pub(crate) fn stop(self) {
        self.handle.stop().unwrap();
        self.join();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Both fail only after a failure that is reported already.
            let _stopped: Result<(), ringway::Stopped> = self.handle.stop();
            drop(thread.join());
        }
    }
}

/// Two engines on two threads and a link between them, both ends at hand.
pub(crate) struct Linked {
    pub(crate) near: Link,
    pub(crate) far: Link,
    pub(crate) client: Host,
    pub(crate) server: Host,
}

impl Linked {
    pub(crate) fn new(choice: DriverChoice) -> Self {
        Self::with(choice, Limits::default(), Limits::default())
    }

    pub(crate) fn with(choice: DriverChoice, client: Limits, server: Limits) -> Self {
        let client = Host::with(choice, client, || LinksOnly);
        let server = Host::with(choice, server, || LinksOnly);
        Self::between(client, server, "tcp://127.0.0.1:0")
    }

    /// A link over reliable UDP.
    pub(crate) fn over_rudp(choice: DriverChoice) -> Self {
        Self::between(
            Host::links(choice),
            Host::links(choice),
            "rudp://127.0.0.1:0",
        )
    }

    fn between(client: Host, server: Host, address: &str) -> Self {
        let (mut acceptor, address) = server.listen_at(address);
        let near = client.handle.connect_wait(&address).unwrap();
        let far = acceptor.accept_wait().unwrap();
        Self {
            near,
            far,
            client,
            server,
        }
    }
}

/// Counts how often a task was woken.
#[derive(Default)]
pub(crate) struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A future that is polled by hand.
pub(crate) struct Task<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
    wakes: Arc<Wakes>,
}

impl<'a, T> Task<'a, T> {
    pub(crate) fn new(future: impl Future<Output = T> + 'a) -> Self {
        Self {
            future: Box::pin(future),
            wakes: Arc::default(),
        }
    }

    pub(crate) fn poll(&mut self) -> Poll<T> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        self.future
            .as_mut()
            .poll(&mut TaskContext::from_waker(&waker))
    }

    pub(crate) fn wakes(&self) -> u32 {
        self.wakes.0.load(Ordering::SeqCst)
    }
}

/// A message's body that tells its number.
pub(crate) fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut body = vec![number as u8; len.max(8)];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

/// The number in a body made by [`numbered`].
pub(crate) fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().unwrap())
}
