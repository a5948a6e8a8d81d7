//! gRPC and gRPC-Web: messages pass through undecoded, framed by five bytes.

mod frame;
mod reply;

use std::rc::Rc;

use base64::Engine as _;
use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Response, StatusCode};
use hyper::body::Incoming;
use ringway_rpc::{Code, Kind, Status};

use crate::backend::{End, Options, Sink, Source};
use crate::body::{Answers, Body, Held, next_data};
use crate::gateway::Shared;
use crate::host::media_type;
use crate::{metadata, timeout};
use frame::Decoder;
use reply::Dress;

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Whether a request is gRPC's.
pub(crate) fn is_for_us(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|it| it.starts_with("application/grpc"))
}

/// Answers one call.
pub(crate) async fn handle(shared: &Rc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let Some(dress) = Dress::of(request.headers()) else {
        let mut response = Response::new(Body::of("this is no gRPC that is known here\n"));
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    };
    match call(shared, request, dress).await {
        Ok(response) => response,
        Err(status) => dress.ended(shared, &End::of(status)),
    }
}

/// What the request's messages are packed with.
fn unpacks(headers: &HeaderMap) -> Result<bool, Status> {
    match headers.get(&ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip") => Ok(true),
        Some(_) => Err(Status::of(
            Code::Unimplemented,
            "messages may be packed by gzip or not at all",
        )),
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all("grpc-accept-encoding").iter();
    let mut names = values
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','));
    names.any(|it| it.trim() == "gzip")
}

async fn call(
    shared: &Rc<Shared>,
    request: Request<Incoming>,
    mut dress: Dress,
) -> Result<Response<Body>, Status> {
    let (head, body) = request.into_parts();
    if head.method != HttpMethod::POST {
        return Err(Status::of(
            Code::Unimplemented,
            "gRPC calls are made by POST",
        ));
    }
    let name = head.uri.path().strip_prefix('/').unwrap_or_default();
    let is_packed = unpacks(&head.headers)?;
    // Who packs its requests likes packed answers.
    dress.packs = is_packed && accepts_gzip(&head.headers);
    let bytes_max = shared.config.message_bytes_max;
    let decoder = Decoder::new(bytes_max, is_packed);
    let inflow = Inflow {
        held: shared.bodies.hold(),
        body,
        decoder,
        text: dress.is_text.then(Base64::default),
    };
    let is_reflection = ["v1", "v1alpha"].iter().any(|version| {
        let rest = name
            .strip_prefix("grpc.reflection.")
            .and_then(|it| it.strip_prefix(version));
        rest == Some(".ServerReflection/ServerReflectionInfo")
    });
    if is_reflection {
        let mut answers = described(shared, inflow);
        return Ok(match answers.next().await {
            Err(end) => dress.ended(shared, &end),
            Ok(first) => dress.stream(shared, first, answers),
        });
    }
    let Some((_, method)) = shared.schema.method(name) else {
        let text = format!("there is no method `{name}`");
        return Err(Status::new(Code::Unimplemented, &text).not_started());
    };
    let mut options = Options {
        metadata: metadata::of_headers(&head.headers, &shared.config.request_metadata)?,
        timeout: timeout::of_call(&head.headers, &shared.config, method.kind)?,
    };
    let mut answers = if method.kind.client_streams() {
        let (sink, source) = shared.backend.open(method, &options, None, false);
        Answers::with(source, inflow.pour(sink))
    } else {
        let only = async {
            let message = tokio::time::timeout(shared.config.body_timeout, inflow.only()).await;
            let late = |_late| Status::of(Code::DeadlineExceeded, "the request took too long");
            message.map_err(late)?
        };
        let message = options.receive(only).await?;
        let (_sink, source) = shared.backend.open(method, &options, Some(&message), true);
        Answers::of(source)
    };
    if matches!(method.kind, Kind::Unary | Kind::ClientStream) {
        return Ok(match answers.answer().await {
            Ok((message, end)) => dress.whole(shared, &message, &end),
            Err(end) => dress.ended(shared, &end),
        });
    }
    Ok(match answers.next().await {
        Err(end) => dress.ended(shared, &end),
        Ok(first) => dress.stream(shared, first, answers),
    })
}

/// Reflection, v1 and v1alpha: the gateway knows all definitions, so it answers by itself, question by question.
fn described(shared: &Rc<Shared>, mut inflow: Inflow) -> Answers {
    let (out, source) = tokio::sync::mpsc::channel(1);
    let shared = Rc::clone(shared);
    Answers::with(Source::Own(source), async move {
        while let Some(question) = inflow.next().await? {
            let answer = shared.definitions.answer(&question)?;
            if out.send(Bytes::from(answer)).await.is_err() {
                break;
            }
        }
        Ok(())
    })
}

/// The messages of a request.
struct Inflow {
    held: Held,
    body: Incoming,
    decoder: Decoder,
    text: Option<Base64>,
}

impl Inflow {
    /// The next message; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(Some(message));
            }
            let Some(data) = next_data(&mut self.body).await? else {
                if let Some(text) = &self.text {
                    text.finish()?;
                }
                self.decoder.finish()?;
                return Ok(None);
            };
            match &mut self.text {
                None => self.decoder.push(data),
                Some(text) => self.decoder.push(text.decode(&data)?),
            }
            self.held.set(self.decoder.len())?;
        }
    }

    /// The one message of a call that does not stream.
    async fn only(mut self) -> Result<Bytes, Status> {
        let missing = || Status::of(Code::Internal, "the request has no message");
        let message = self.next().await?.ok_or_else(missing)?;
        // It waits for the end of the request, unpacked.
        self.held.set(message.len())?;
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(Status::of(
                Code::Internal,
                "the request has more than one message",
            )),
        }
    }

    /// Carries all messages into a call.
    async fn pour(mut self, mut sink: Sink) -> Result<(), Status> {
        while let Some(message) = self.next().await? {
            if sink.send(&message).await.is_err() {
                // The call is over: its answer tells why.
                break;
            }
        }
        Ok(())
    }
}

/// Base64 that comes in pieces, each of them padded.
#[derive(Default)]
struct Base64(Vec<u8>);

impl Base64 {
    fn finish(&self) -> Result<(), Status> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Status::of(
            Code::Internal,
            "the body ends within its base64",
        ))
    }

    fn decode(&mut self, data: &[u8]) -> Result<Bytes, Status> {
        self.0
            .extend(data.iter().filter(|it| !it.is_ascii_whitespace()));
        let whole = self.0.len() / 4 * 4;
        let mut out = Vec::with_capacity(whole / 4 * 3);
        for quad in self.0.drain(..whole).as_slice().chunks(4) {
            // Padding ends a piece, not the whole.
            let decoded = metadata::BASE64.decode(quad);
            out.extend(
                decoded.map_err(|_error| Status::of(Code::Internal, "the body is no base64"))?,
            );
        }
        Ok(out.into())
    }
}
