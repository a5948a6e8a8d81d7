//! A service that gives everything back, a gateway in front of it, and a client that speaks HTTP to both.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method as Verb, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use prost_reflect::{DescriptorPool, DynamicMessage};
use protox::file::{ChainFileResolver, GoogleFileResolver, IncludeFileResolver};
use ringway_gateway::{Gateway, GatewayConfig, Running};
use ringway_google::Google;
use ringway_rpc::{
    CallContext, Code, IncomingCall, Kind, Method, Raw, Receiver, Sender, Server, ServerBuilder,
    Service, ServiceInfo, Status,
};

/// The definitions of `rules.proto`, compiled.
pub(crate) static SET: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(here.join("tests")));
    resolver.add(Google);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_source_info(true).include_imports(true);
    compiler.open_file(here.join("tests/rules.proto")).unwrap();
    compiler.encode_file_descriptor_set()
});

pub(crate) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(&**SET).unwrap());

static INFO: LazyLock<&'static ServiceInfo> = LazyLock::new(|| {
    let service = POOL.get_service_by_name("test.Mirror").unwrap();
    let methods = service.methods().map(|method| {
        let name: &'static str = format!("test.Mirror/{}", method.name()).leak();
        let kind = match (method.is_client_streaming(), method.is_server_streaming()) {
            (false, false) => Kind::Unary,
            (true, false) => Kind::ClientStream,
            (false, true) => Kind::ServerStream,
            (true, true) => Kind::Bidi,
        };
        Method::new(name, kind, 1, 0)
    });
    Box::leak(Box::new(ServiceInfo {
        name: "test.Mirror",
        methods: methods.collect::<Vec<_>>().leak(),
        descriptors: &SET,
    }))
});

/// Names and values.
type Pairs = Vec<(String, Vec<u8>)>;

/// The service, and what it saw.
#[derive(Clone, Default)]
pub(crate) struct Mirror {
    /// Calls of `Never` that began.
    pub(crate) begun: Arc<Mutex<u32>>,
    /// Those of them that were cancelled.
    pub(crate) gone: Arc<Mutex<u32>>,
    /// Calls of `Stream` that are over.
    pub(crate) ended: Arc<Mutex<u32>>,
    /// Names and values of the metadata of the last call.
    pub(crate) metadata: Arc<Mutex<Pairs>>,
}

struct OnDrop(Arc<Mutex<u32>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

fn thing(bytes: &[u8]) -> DynamicMessage {
    DynamicMessage::decode(POOL.get_message_by_name("test.Thing").unwrap(), bytes).unwrap()
}

fn text(thing: &DynamicMessage, field: &str) -> String {
    thing
        .get_field_by_name(field)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

fn failure(thing: &DynamicMessage) -> Option<Status> {
    let code = thing.get_field_by_name("middle").unwrap().as_i32().unwrap();
    let code = Code::from_wire(code.try_into().unwrap());
    (code != Code::Ok).then(|| Status::new(code, &text(thing, "name")))
}

async fn stream(request: Vec<u8>, mut out: Sender<Vec<u8>>, ended: OnDrop) -> Result<(), Status> {
    let _ended = ended;
    let thing = thing(&request);
    if let Some(status) = failure(&thing) {
        return Err(status);
    }
    let count = thing.get_field_by_name("big").unwrap().as_i64().unwrap();
    for _ in 0..count {
        out.send(request.clone()).await?;
    }
    let fails = thing.get_field_by_name("flag").unwrap().as_bool().unwrap();
    if fails {
        Err(Status::new(Code::DataLoss, "torn"))
    } else {
        Ok(())
    }
}

async fn raw_stream(
    _cx: CallContext,
    _request: Vec<u8>,
    mut out: Sender<Vec<u8>>,
) -> Result<(), Status> {
    for part in ["one,", "two"] {
        // google.api.HttpBody.
        let mut body = vec![10, 8];
        body.extend_from_slice(b"text/csv");
        body.extend_from_slice(&[18, u8::try_from(part.len()).unwrap()]);
        body.extend_from_slice(part.as_bytes());
        out.send(body).await?;
    }
    Ok(())
}

async fn gather(_cx: CallContext, mut requests: Receiver<Vec<u8>>) -> Result<Vec<u8>, Status> {
    let mut all = Vec::new();
    while let Some(request) = requests.recv().await? {
        all.extend(request);
    }
    Ok(all)
}

async fn chat(
    _cx: CallContext,
    mut requests: Receiver<Vec<u8>>,
    mut out: Sender<Vec<u8>>,
) -> Result<(), Status> {
    while let Some(request) = requests.recv().await? {
        if let Some(status) = failure(&thing(&request)) {
            return Err(status);
        }
        out.send(request).await?;
    }
    Ok(())
}

impl Service for Mirror {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        let metadata = call.info().metadata().iter();
        let metadata = metadata.map(|it| (it.name.to_owned(), it.value.to_vec()));
        *self.metadata.lock().unwrap() = metadata.collect();
        let name = call.info().method().name;
        match name.rsplit('/').next().unwrap() {
            "Stream" => {
                let ended = OnDrop(Arc::clone(&self.ended));
                call.server_stream::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, request, out| {
                    stream(request, out, ended)
                });
            }
            "RawStream" => call.server_stream::<Raw, Vec<u8>, Vec<u8>, _>(raw_stream),
            "Gather" => call.client_stream::<Raw, Vec<u8>, Vec<u8>, _>(gather),
            "Chat" => call.bidi::<Raw, Vec<u8>, Vec<u8>, _>(chat),
            "Never" => {
                let gone = OnDrop(Arc::clone(&self.gone));
                *self.begun.lock().unwrap() += 1;
                call.unary::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, _request| async move {
                    let _gone = gone;
                    core::future::pending().await
                });
            }
            "Fail" => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                match failure(&thing(request)) {
                    Some(status) => Err(status),
                    None => reply.send(request),
                }
            }),
            _ => call.inline::<Raw, [u8], [u8]>(|call, request, reply| {
                let mut answer = ringway_rpc::MetadataBuf::new();
                for entry in call
                    .metadata()
                    .iter()
                    .filter(|it| it.name.starts_with("x-"))
                {
                    answer.add(entry.name, entry.value).unwrap();
                    answer
                        .add(&format!("trailer-{}", entry.name), entry.value)
                        .unwrap();
                }
                reply.metadata(answer.bytes()).send(request)
            }),
        }
    }
}

impl Mirror {
    pub(crate) fn server(&self) -> ServerBuilder {
        self.bare().reflection()
    }

    /// Without reflection.
    pub(crate) fn bare(&self) -> ServerBuilder {
        let mirror = self.clone();
        Server::builder().service(move || mirror.clone())
    }
}

/// A gateway in front of a mirror in its own process.
pub(crate) fn gateway(config: GatewayConfig) -> (Running, Mirror) {
    let mirror = Mirror::default();
    let inside = mirror.clone();
    let gateway = Gateway::in_process(move || inside.server());
    (gateway.serve("127.0.0.1:0", config).unwrap(), mirror)
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// gRPC's status, wherever it stands.
    pub(crate) fn grpc_status(&self) -> &str {
        let status = self
            .trailers
            .get("grpc-status")
            .or_else(|| self.headers.get("grpc-status"));
        status
            .unwrap_or_else(|| panic!("no status: {self:?}"))
            .to_str()
            .unwrap()
    }
}

/// Runs a test's client.
pub(crate) fn run<T>(client: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(client)
}

pub(crate) type Sending = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// Makes one request on a connection of its own.
pub(crate) fn send(running: &Running, request: Request<Full<Bytes>>) -> Answer {
    send_to(running.address(), request)
}

pub(crate) fn send_to(address: std::net::SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    run(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        read(response).await
    })
}

pub(crate) async fn read(response: http::Response<hyper::body::Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Answer {
        status: head.status,
        headers: head.headers,
        body: collected.to_bytes(),
        trailers,
    }
}

/// A request with JSON, or without a body.
pub(crate) fn request(verb: &str, path: &str, body: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(Verb::from_bytes(verb.as_bytes()).unwrap())
        .uri(path)
        .header("host", "gateway.test");
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    request
        .body(Full::new(Bytes::from(body.unwrap_or_default().to_owned())))
        .unwrap()
}

pub(crate) fn ask(running: &Running, verb: &str, path: &str, body: Option<&str>) -> Answer {
    send(running, request(verb, path, body))
}

/// An HTTP/2 connection.
pub(crate) async fn http2(running: &Running) -> Sending {
    let stream = tokio::net::TcpStream::connect(running.address())
        .await
        .unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

/// Waits for what will come; a test that hangs has failed. The client's own tasks go on meanwhile.
pub(crate) async fn until(is_there: impl Fn() -> bool) {
    while !is_there() {
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
}

/// A message with gRPC's five bytes in front.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &len, message].concat()
}
