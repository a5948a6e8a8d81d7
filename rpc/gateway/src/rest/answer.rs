//! From answers to JSON: one message, or a stream as an array, as lines, or as events.

use core::task::{Context, Poll, ready};
use std::rc::Rc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Frame;
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, SerializeOptions, Value};
use ringway_rpc::{Code, Status};

use super::{Asked, answer_headers, common, failed, is_http_body, json_response};
use crate::backend::End;
use crate::body::{Answers, Body, Cut, Frames};
use crate::config::JsonOptions;
use crate::gateway::Shared;
use crate::status;

/// What becomes of an answer's bytes.
pub(super) struct Shape {
    shared: Rc<Shared>,
    output: MessageDescriptor,
    field: Option<FieldDescriptor>,
    form: Form,
}

/// An answer as it is sent.
enum Shown {
    Json(String),
    /// Bytes with their media type.
    Raw(String, Bytes),
}

fn undecodable(error: &dyn core::fmt::Display) -> Status {
    Status::new(
        Code::Internal,
        &format!("the answer can't be decoded: {error}"),
    )
}

fn options(json: &JsonOptions) -> SerializeOptions {
    SerializeOptions::new()
        .skip_default_fields(!json.defaults)
        .use_proto_field_name(json.proto_names)
        .use_enum_numbers(json.enum_numbers)
}

fn write(message: &DynamicMessage, json: &JsonOptions) -> Result<String, Status> {
    let mut out = serde_json::Serializer::new(Vec::new());
    message
        .serialize_with_options(&mut out, &options(json))
        .map_err(|error| undecodable(&error))?;
    String::from_utf8(out.into_inner()).map_err(|error| undecodable(&error))
}

impl Shape {
    pub(super) fn of(asked: &Asked) -> Self {
        Self {
            shared: Rc::clone(&asked.shared),
            output: asked.route.method.descriptor.output(),
            field: asked.route.rule.response.clone(),
            form: Form::of(&asked.headers),
        }
    }

    fn show(&self, bytes: &[u8]) -> Result<Shown, Status> {
        let json = &self.shared.config.json;
        let message = DynamicMessage::decode(self.output.clone(), bytes);
        let message = message.map_err(|error| undecodable(&error))?;
        let Some(field) = &self.field else {
            return show(&message, json);
        };
        if let Value::Message(inner) = message.get_field(field).as_ref() {
            return show(inner, json);
        }
        // Lists, maps and scalars: as they stand in the whole message, where the empty ones are left out.
        let whole = |options: SerializeOptions| {
            let whole = message.serialize_with_options(serde_json::value::Serializer, &options);
            whole.map_err(|error| undecodable(&error))
        };
        let name = if json.proto_names {
            field.name()
        } else {
            field.json_name()
        };
        let value = match whole(options(json))?.get(name) {
            Some(value) => value.clone(),
            None => {
                let defaults = whole(options(json).skip_default_fields(false))?;
                defaults.get(name).cloned().unwrap_or_default()
            }
        };
        Ok(Shown::Json(value.to_string()))
    }
}

fn show(message: &DynamicMessage, json: &JsonOptions) -> Result<Shown, Status> {
    use prost_reflect::ReflectMessage as _;
    if !is_http_body(&message.descriptor()) {
        return write(message, json).map(Shown::Json);
    }
    let kind = message.get_field_by_name("content_type");
    let kind = kind
        .and_then(|it| it.as_str().map(ToOwned::to_owned))
        .unwrap_or_default();
    let data = message.get_field_by_name("data");
    let data = data
        .and_then(|it| it.as_bytes().cloned())
        .unwrap_or_default();
    Ok(Shown::Raw(kind, data))
}

/// The answer of a call that answers once.
pub(super) fn unary(shape: &Shape, message: &[u8], end: &End) -> Response<Body> {
    let shared = &shape.shared;
    let mut response = match shape.show(message) {
        Err(status) => return failed(shared, &End::of(status)),
        Ok(Shown::Json(json)) => json_response(StatusCode::OK, json),
        Ok(Shown::Raw(kind, data)) => {
            let mut response = Response::new(Body::of(data));
            response.headers_mut().insert(CONTENT_TYPE, raw_kind(&kind));
            common(response.headers_mut());
            response
        }
    };
    answer_headers(shared, &end.metadata, response.headers_mut());
    response
}

fn raw_kind(kind: &str) -> HeaderValue {
    let unknown = HeaderValue::from_static("application/octet-stream");
    if kind.is_empty() {
        unknown
    } else {
        HeaderValue::from_str(kind).unwrap_or(unknown)
    }
}

/// How a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Array,
    Lines,
    Events,
    /// Bytes as they are.
    Raw,
}

impl Form {
    /// What the client wants to have: the first form of its list that is known.
    fn of(headers: &HeaderMap) -> Self {
        let values = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|it| it.to_str().ok());
        for kind in values.flat_map(|it| it.split(',')) {
            match kind.split(';').next().unwrap_or_default().trim() {
                "text/event-stream" => return Self::Events,
                "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                    return Self::Lines;
                }
                "application/json" => return Self::Array,
                _ => {}
            }
        }
        Self::Array
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Array => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
            Self::Raw => "application/octet-stream",
        }
    }
}

/// The answer of a call that streams, after its first message or its end: an error that comes first has its own
/// HTTP status.
pub(super) fn stream(
    mut shape: Shape,
    first: Result<Bytes, End>,
    answers: Answers,
) -> Response<Body> {
    let mut kind = HeaderValue::from_static(shape.form.media_type());
    let (first, answers) = match first {
        Err(end) if !end.status.is_ok() => return failed(&shape.shared, &end),
        Err(_end) => (shape.form.end(true), None),
        Ok(message) => match shape.show(&message) {
            Err(status) => return failed(&shape.shared, &End::of(status)),
            Ok(shown) => {
                if let Shown::Raw(raw, _) = &shown {
                    shape.form = Form::Raw;
                    kind = raw_kind(raw);
                }
                (shape.form.message(&shown, true), Some(answers))
            }
        },
    };
    let stream = Stream {
        shape,
        answers,
        first: Some(first),
    };
    let mut response = Response::new(Body::Stream(Box::new(stream)));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    common(response.headers_mut());
    response
}

impl Form {
    fn message(self, shown: &Shown, is_first: bool) -> Bytes {
        let json = match shown {
            Shown::Raw(_, data) => return data.clone(),
            Shown::Json(json) => json,
        };
        match self {
            Self::Array => format!("{}{json}", if is_first { "[" } else { ",\n" }).into(),
            Self::Lines => format!("{json}\n").into(),
            // JSON has no line ends of its own here.
            Self::Events => format!("data: {json}\n\n").into(),
            Self::Raw => Bytes::new(),
        }
    }

    fn end(self, is_first: bool) -> Bytes {
        match self {
            Self::Array if is_first => Bytes::from_static(b"[]"),
            Self::Array => Bytes::from_static(b"]"),
            Self::Events => Bytes::from_static(b"event: end\ndata: {}\n\n"),
            Self::Lines | Self::Raw => Bytes::new(),
        }
    }

    fn error(self, json: &serde_json::Value) -> Bytes {
        let error = serde_json::json!({ "error": json });
        match self {
            Self::Array => format!(",\n{error}]").into(),
            Self::Lines => format!("{error}\n").into(),
            Self::Events => format!("event: error\ndata: {error}\n\n").into(),
            Self::Raw => Bytes::new(),
        }
    }
}

struct Stream {
    shape: Shape,
    /// `None`: the call is over.
    answers: Option<Answers>,
    first: Option<Bytes>,
}

impl Frames for Stream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(answers) = &mut self.answers else {
            return Poll::Ready(None);
        };
        let next = ready!(answers.poll_next(cx));
        let shown = next.and_then(|message| self.shape.show(&message).map_err(End::of));
        let form = self.shape.form;
        let bytes = match shown {
            Ok(shown) => form.message(&shown, false),
            Err(end) => {
                self.answers = None;
                if end.status.is_ok() {
                    form.end(false)
                } else if form == Form::Raw {
                    // Bytes have no place for an error.
                    return Poll::Ready(Some(Err(Cut)));
                } else {
                    let pool = self.shape.shared.schema.pool();
                    form.error(&status::to_json(&end.status, pool))
                }
            }
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}
