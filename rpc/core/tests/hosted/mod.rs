//! A server on a thread of its own, whose handlers the test holds in its hands, for clients that block.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ringway_engine::{Config, DriverChoice, Shards};
use ringway_rpc::{
    CallContext, IncomingCall, Kind, Method, Raw, Receiver, RemoteReply, Sender, Server,
    ServerBuilder, Service, ServiceInfo, Status,
};

pub static METHODS: &[Method] = &[
    Method::new("test.Host/Echo", Kind::Unary, 0, 0),
    Method::new("test.Host/Never", Kind::Unary, 0, 0),
    Method::new("test.Host/Held", Kind::Unary, 0, 0),
    Method::new("test.Host/Count", Kind::ServerStream, 0, 0),
    Method::new("test.Host/Sum", Kind::ClientStream, 0, 0),
    Method::new("test.Host/Chat", Kind::Bidi, 0, 0),
    Method::new("test.Host/Info", Kind::Unary, 0, 0).idempotent(),
    Method::new("test.Host/Eat", Kind::ClientStream, 0, 0),
];
pub const ECHO: u32 = 0;
pub const NEVER: u32 = 1;
pub const HELD: u32 = 2;
pub const COUNT: u32 = 3;
pub const SUM: u32 = 4;
pub const CHAT: u32 = 5;
pub const INFO_OF_CALL: u32 = 6;
pub const EAT: u32 = 7;

static INFO: ServiceInfo = ServiceInfo {
    name: "test.Host",
    methods: METHODS,
    descriptors: &[],
};

/// What a test sees and holds of the service.
#[derive(Default)]
pub struct Hands {
    /// Calls of Echo.
    pub echoed: AtomicU32,
    /// Handlers of Never and Eat that started, and whose future was dropped.
    pub started: AtomicU32,
    pub dropped: AtomicU32,
    /// Messages that Count could send.
    pub sent: AtomicU64,
    /// Replies of Held.
    pub held: Mutex<Vec<RemoteReply<[u8]>>>,
}

impl Hands {
    /// Waits for the reply of a call of Held.
    pub fn take_held(&self) -> RemoteReply<[u8]> {
        loop {
            if let Some(reply) = self.held.lock().unwrap().pop() {
                return reply;
            }
            std::thread::yield_now();
        }
    }
}

/// Waits; hangs rather than guess how long something may take.
pub fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::yield_now();
    }
}

pub struct Host(pub Arc<Hands>);

struct Dropped(Arc<Hands>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Service for Host {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        let hands = Arc::clone(&self.0);
        match u32::try_from(call.method()).unwrap() {
            ECHO => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                hands.echoed.fetch_add(1, Ordering::SeqCst);
                reply.send(request)
            }),
            NEVER => call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, _request| async move {
                hands.started.fetch_add(1, Ordering::SeqCst);
                let _dropped = Dropped(hands);
                std::future::pending().await
            }),
            HELD => call.inline::<Raw, [u8], [u8]>(|_call, _request, reply| {
                let (deferred, replied) = reply.defer()?;
                hands.held.lock().unwrap().push(deferred.remote());
                Ok(replied)
            }),
            COUNT => call.server_stream::<Raw, Vec<u8>, Vec<u8>, _>(|cx, request, out| {
                count(cx, request, out, hands)
            }),
            SUM => call.client_stream::<Raw, Vec<u8>, Vec<u8>, _>(sum),
            CHAT => call.bidi::<Raw, Vec<u8>, Vec<u8>, _>(chat),
            INFO_OF_CALL => call.inline::<Raw, [u8], [u8]>(|call, _request, reply| {
                let text = format!(
                    "{} {} {} {:?}",
                    call.priority(),
                    call.is_idempotent(),
                    call.remaining().is_some(),
                    call.metadata().named("color")
                );
                reply
                    .metadata(call.metadata().bytes())
                    .send(text.as_bytes())
            }),
            EAT => call.client_stream::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, input| async move {
                hands.started.fetch_add(1, Ordering::SeqCst);
                let _dropped = Dropped(hands);
                let _input = input;
                std::future::pending().await
            }),
            _ => call.unimplemented(),
        }
    }
}

async fn count(
    _cx: CallContext,
    request: Vec<u8>,
    mut out: Sender<Vec<u8>>,
    hands: Arc<Hands>,
) -> Result<(), Status> {
    let [bytes, times] = request[..] else {
        return Err(Status::new(
            ringway_rpc::Code::InvalidArgument,
            "two numbers",
        ));
    };
    for number in 0..times {
        out.send(vec![number; usize::from(bytes) * 256]).await?;
        hands.sent.fetch_add(1, Ordering::SeqCst);
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

/// A running server.
pub struct Hosted {
    pub hands: Arc<Hands>,
    pub address: String,
    pub shards: Shards,
}

impl Hosted {
    /// On a port that the kernel chooses.
    pub fn start(choice: DriverChoice) -> Self {
        Self::at(choice, "tcp://127.0.0.1:0", Server::builder())
    }

    pub fn at(choice: DriverChoice, address: &str, server: ServerBuilder) -> Self {
        let hands = Arc::new(Hands::default());
        let of_service = Arc::clone(&hands);
        let shards = server
            .engine(move || Config::default().driver(choice))
            .service(move || Host(Arc::clone(&of_service)))
            .shards(1, &[address])
            .unwrap();
        let address = shards.addresses()[0].to_string();
        Self {
            hands,
            address,
            shards,
        }
    }
}

/// An address that stays free for a server that comes back.
pub fn unix_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("unix://@ringway-hosted-{}-{number}", std::process::id())
}

/// Makes each scenario a test on each of the kernel's drivers.
#[macro_export]
macro_rules! on_kernel_drivers {
    ($($scenario:ident),* $(,)?) => {
        mod uring {
            $( #[test] fn $scenario() { super::$scenario(ringway_engine::DriverChoice::Uring); } )*
        }
        mod epoll {
            $( #[test] fn $scenario() { super::$scenario(ringway_engine::DriverChoice::Epoll); } )*
        }
    };
}
