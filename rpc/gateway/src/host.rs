//! Hosting: hyper on one thread. Connections come in, requests go to the adapter that they are for.

use core::convert::Infallible;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::rc::Rc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, HOST, ORIGIN, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_local;
use tokio::time::{Instant, Sleep};

use crate::body::{Body, Refusal};
use crate::gateway::Shared;
use crate::{graphql, grpc, rest};

/// Pause after a failed accept, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// hyper's tasks stay on this thread.
#[derive(Clone, Copy, Debug)]
struct Here;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// Serves until `stop`, then lets connections end.
pub(crate) async fn serve(shared: &Rc<Shared>, listener: TcpListener, stop: &Notify) {
    let config = &shared.config;
    let places = std::sync::Arc::new(Semaphore::new(config.connections_max));
    let graceful = GracefulShutdown::new();
    let mut stopped = pin!(stop.notified());
    loop {
        let next = async {
            // Closed never: it is ours.
            let place = std::sync::Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let mut next = pin!(next);
        let came = poll_fn(|cx| {
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            next.as_mut().poll(cx).map(Some)
        });
        match came.await {
            None => break,
            Some((place, Ok((stream, _peer)))) => {
                let connection = connection(shared, stream);
                let connection = graceful.watch(connection);
                spawn_local(async move {
                    // A broken connection is its client's business.
                    let _ended = connection.await;
                    drop(place);
                });
            }
            Some((_place, Err(error))) => {
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async {
        if let Some(graph) = &shared.graph {
            graph.stop();
        }
        graceful.shutdown().await;
        if let Some(graph) = &shared.graph {
            graph.stopped().await;
        }
    };
    let drained = tokio::time::timeout(config.drain_timeout, drained);
    if drained.await.is_err() {
        tracing::warn!("connections were cut: their calls took too long to end");
    }
}

type Service = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

fn connection(
    shared: &Rc<Shared>,
    stream: TcpStream,
) -> impl hyper_util::server::graceful::GracefulConnection<
    Error = Box<dyn std::error::Error + Send + Sync>,
> + use<> {
    let config = &shared.config;
    // Small answers are not held back; a socket that refuses the option works all the same.
    let _slower: io::Result<()> = stream.set_nodelay(true);
    let patient = Patient::new(stream, config.write_timeout, config.header_timeout);
    let io = TokioIo::new(patient);
    let mut builder = auto::Builder::new(Here);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(
            usize::try_from(config.header_bytes_max)
                .unwrap_or(usize::MAX)
                .max(8192),
        );
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.streams_max)
        .max_header_list_size(config.header_bytes_max)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let shared = Rc::clone(shared);
    let service = service_fn(move |request| -> Service {
        let shared = Rc::clone(&shared);
        Box::pin(async move { Ok(handle(&shared, request).await) })
    });
    builder
        .serve_connection_with_upgrades(io, service)
        .into_owned()
}

async fn handle(shared: &Rc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let origin = match Cors::of(shared, &request) {
        Ok(origin) => origin,
        Err(refusal) => return rest::refuse(shared, &refusal),
    };
    let is_preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight {
        origin.preflight(request.headers())
    } else if grpc::is_for_us(request.headers()) {
        grpc::handle(shared, request).await
    } else {
        match graphql::handle(shared, request).await {
            Ok(response) => response,
            Err(request) => rest::handle(shared, request).await,
        }
    };
    origin.allow(response.headers_mut());
    response
}

/// Which page's script may see the answer.
struct Cors(Option<HeaderValue>);

impl Cors {
    /// Refuses requests that a page of another origin makes without being allowed to: some are sent without asking
    /// first.
    fn of(shared: &Shared, request: &Request<Incoming>) -> Result<Self, Refusal> {
        let headers = request.headers();
        let Some(origin) = headers.get(ORIGIN) else {
            return Ok(Self(None));
        };
        let text = origin.to_str().unwrap_or_default();
        let host = headers.get(HOST).and_then(|it| it.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(Authority::as_str));
        let own = text.split_once("://").map(|(_, own)| own);
        let origins = &shared.config.origins;
        if origins.iter().any(|it| it == "*" || it == text) {
            return Ok(Self(Some(origin.clone())));
        }
        if own.is_some() && own == host {
            return Ok(Self(None));
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            ringway_rpc::Code::PermissionDenied,
            "pages of this origin may not call; the gateway has a list of those that may",
        ))
    }

    fn allow(&self, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = &self.0 {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            let exposed = HeaderValue::from_static(
                "*, grpc-status, grpc-message, grpc-status-details-bin, retry-after",
            );
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    fn preflight(&self, asked: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if self.0.is_some() {
            let headers = response.headers_mut();
            let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
            }
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        response
    }
}

/// The media type of a request's body, without parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = value.split(';').next().unwrap_or_default();
    Some(kind.trim().to_ascii_lowercase())
}

/// What HTTP/2 begins with. Until a connection differs from it hyper waits for it, without a limit of its own.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that is given up when its client takes nothing for too long, or does not say what it speaks.
struct Patient {
    stream: TcpStream,
    patience: Duration,
    /// Armed while a write waits.
    sleep: Option<Pin<Box<Sleep>>>,
    /// What of [`PREFACE`] may still come, and until when; `None`: it came, or something else did.
    greeting: Option<(&'static [u8], Pin<Box<Sleep>>)>,
}

impl Patient {
    fn new(stream: TcpStream, patience: Duration, greeting: Duration) -> Self {
        Self {
            stream,
            patience,
            sleep: None,
            greeting: Some((PREFACE, Box::pin(tokio::time::sleep(greeting)))),
        }
    }

    /// Takes note of bytes that came.
    fn heard(&mut self, bytes: &[u8]) {
        if let Some((rest, _)) = &mut self.greeting {
            match rest.strip_prefix(bytes) {
                Some(more) if !more.is_empty() => *rest = more,
                _ => self.greeting = None,
            }
        }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.sleep = None;
            return done;
        }
        let until = self.patience;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + until)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some((_, late)) = &mut self.greeting else {
            return read;
        };
        match read {
            Poll::Pending if late.as_mut().poll(cx).is_ready() => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Ready(Ok(())) => self.heard(buf.filled().get(before..).unwrap_or_default()),
            _ => {}
        }
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
