//! The measured service: raw bytes, plain functions, one stream, and one handler that blocks.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ringway::rpc::{
    CallContext, Code, IncomingCall, Kind, Method, Raw, Sender, Service, ServiceInfo, Status,
};

use super::super::super::load::template;
use super::super::super::plan::{Plan, SIZE_MIN};

/// Sends the request back.
pub(crate) const ECHO: u32 = 0;
/// Takes a large request; the answer is the number of requests so far.
pub(crate) const TAKE: u32 = 1;
/// Sends as many messages as the request says.
pub(crate) const STREAM: u32 = 2;
/// Sends the request back from the worker pool, after [`SLOW`].
pub(crate) const SLEEP: u32 = 3;

/// How long a slow handler sleeps.
const SLOW: Duration = Duration::from_millis(5);
/// Threads that slow handlers sleep on.
pub(crate) const WORKERS: usize = 4;

pub(crate) static INFO: ServiceInfo = ServiceInfo {
    name: "ringway.bench.Echo",
    methods: &[
        Method::new("ringway.bench.Echo/Echo", Kind::Unary, 0, 0),
        Method::new("ringway.bench.Echo/Take", Kind::Unary, 0, 0),
        Method::new("ringway.bench.Echo/Stream", Kind::ServerStream, 0, 0),
        Method::new("ringway.bench.Echo/Sleep", Kind::Unary, 0, 0),
    ],
    descriptors: &[],
};

/// The service; it counts what it served of the current block.
#[derive(Clone, Debug)]
pub(crate) struct Echo {
    served: Rc<Cell<u64>>,
    body: Rc<Vec<u8>>,
}

impl Echo {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            served: Rc::default(),
            body: Rc::new(template(plan.size)),
        }
    }

    /// Calls, or messages of a stream, since [`start`](Self::start).
    #[inline]
    pub(crate) fn served(&self) -> u64 {
        self.served.get()
    }

    /// Starts a block.
    pub(crate) fn start(&self) {
        self.served.set(0);
    }

    #[inline]
    fn count(&self) -> u64 {
        let served = self.served.get() + 1;
        self.served.set(served);
        served
    }
}

impl Service for Echo {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    #[inline]
    fn call(&mut self, call: IncomingCall<'_, '_>) {
        match u32::try_from(call.method()) {
            Ok(ECHO) => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                self.count();
                reply.send(request)
            }),
            Ok(TAKE) => call.inline::<Raw, [u8], [u8]>(|_call, _request, reply| {
                let mut answer = [0; SIZE_MIN as usize];
                answer[..8].copy_from_slice(&self.count().to_le_bytes());
                reply.send(&answer)
            }),
            Ok(STREAM) => {
                let echo = self.clone();
                call.server_stream::<Raw, Vec<u8>, Vec<u8>, _>(|cx, request, out| {
                    stream(cx, echo, request, out)
                });
            }
            Ok(SLEEP) => call.inline::<Raw, [u8], Vec<u8>>(|_call, request, reply| {
                self.count();
                let request = request.to_vec();
                reply.blocking(move |_job| {
                    std::thread::sleep(SLOW);
                    Ok(request)
                })
            }),
            _ => call.unimplemented(),
        }
    }
}

async fn stream(
    _cx: CallContext,
    echo: Echo,
    request: Vec<u8>,
    mut out: Sender<Vec<u8>>,
) -> Result<(), Status> {
    let Some(count) = request.first_chunk() else {
        return Err(Status::new(Code::InvalidArgument, "how many?"));
    };
    for _ in 0..u64::from_le_bytes(*count) {
        out.send(&*echo.body).await?;
        echo.count();
    }
    Ok(())
}
