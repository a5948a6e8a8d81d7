//! GraphQL over HTTP: GET for queries, POST for everything, and a stream of events for subscriptions.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::rc::Rc;

use ::http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use ::http::{HeaderMap, HeaderValue, Method, Request as HttpRequest, Response, StatusCode};
use async_graphql::parser::types::{ExecutableDocument, OperationType};
use async_graphql::{Request, Response as Answer, Variables};
use bytes::Bytes;
use futures_util::Stream;
use http_body::Frame;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::calls::Common;
use super::{Graph, limits, socket};
use crate::body::{Body, Cut, Frames, Refusal, collect};
use crate::gateway::Shared;
use crate::host::media_type;
use crate::router::unescape_query;
use crate::{metadata, timeout};

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `application/json`: errors of requests are answers like others.
    Json,
    /// `application/graphql-response+json`: they have their HTTP status.
    Graphql,
    Events,
}

impl Form {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|it| it.to_str().ok())
            .peekable();
        if values.peek().is_none() {
            return Some(Self::Json);
        }
        for kind in values.flat_map(|it| it.split(',')) {
            match kind.split(';').next().unwrap_or_default().trim() {
                "application/graphql-response+json" => return Some(Self::Graphql),
                "text/event-stream" => return Some(Self::Events),
                "application/json" | "application/*" | "*/*" => return Some(Self::Json),
                _ => {}
            }
        }
        None
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Graphql => "application/graphql-response+json; charset=utf-8",
            Self::Events => "text/event-stream",
        }
    }
}

/// A request that is no GraphQL, or is refused before it runs.
struct Refused {
    http: StatusCode,
    text: String,
    /// The document itself is wrong: for plain JSON that is an answer like others.
    is_document: bool,
}

impl Refused {
    fn new(http: StatusCode, text: impl Into<String>) -> Self {
        Self {
            http,
            text: text.into(),
            is_document: false,
        }
    }

    fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let http = refusal.http.unwrap_or(StatusCode::BAD_REQUEST);
        Self::new(http, refusal.status.message)
    }
}

/// Answers one request.
pub(super) async fn handle(
    shared: &Rc<Shared>,
    graph: &Graph,
    request: HttpRequest<Incoming>,
) -> Response<Body> {
    if socket::is_wanted(request.headers()) {
        return socket::accept(shared, graph, request);
    }
    let Some(form) = Form::of(request.headers()) else {
        return write(
            Form::Json,
            StatusCode::NOT_ACCEPTABLE,
            &error("the answer is JSON or a stream of events"),
        );
    };
    match run(shared, graph, request, form).await {
        Ok(response) => response,
        Err(refused) => {
            let http = if refused.is_document && form == Form::Json {
                StatusCode::OK
            } else {
                refused.http
            };
            let form = if form == Form::Events {
                Form::Json
            } else {
                form
            };
            let mut response = write(form, http, &error(&refused.text));
            if refused.http == StatusCode::METHOD_NOT_ALLOWED {
                let allowed = HeaderValue::from_static("GET, POST");
                response.headers_mut().insert(ALLOW, allowed);
            }
            response
        }
    }
}

pub(super) fn error(text: &str) -> Value {
    json!({ "errors": [{ "message": text }] })
}

fn write(form: Form, http: StatusCode, json: &Value) -> Response<Body> {
    let mut response = Response::new(Body::of(json.to_string()));
    *response.status_mut() = http;
    head(form, response.headers_mut());
    response
}

fn head(form: Form, headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
}

/// What is asked, as the specification names it.
pub(super) struct Asked {
    query: String,
    variables: Value,
    operation: Option<String>,
}

impl Asked {
    fn request(self, document: ExecutableDocument, common: Common) -> Request {
        let mut request = Request::new(self.query)
            .variables(Variables::from_json(self.variables))
            .data(common);
        request.operation_name = self.operation;
        request.set_parsed_query(document);
        request
    }

    /// From the object that the specification describes; what is wrong with it else.
    pub(super) fn of_json(json: Value) -> Result<Self, &'static str> {
        let Value::Object(mut fields) = json else {
            return Err("the body has to be one object; batches are not taken");
        };
        let mut take = |name: &str| fields.remove(name).unwrap_or_default();
        let Value::String(query) = take("query") else {
            return Err("`query` has to be a string");
        };
        let variables = take("variables");
        let operation = match take("operationName") {
            Value::Null => None,
            Value::String(name) => Some(name).filter(|it| !it.is_empty()),
            _ => return Err("`operationName` has to be a string"),
        };
        if !matches!(take("extensions"), Value::Null | Value::Object(_)) {
            return Err("`extensions` has to be an object");
        }
        Self::checked(query, variables, operation)
    }

    fn checked(
        query: String,
        variables: Value,
        operation: Option<String>,
    ) -> Result<Self, &'static str> {
        if !matches!(variables, Value::Null | Value::Object(_)) {
            return Err("`variables` has to be an object");
        }
        Ok(Self {
            query,
            variables,
            operation,
        })
    }
}

async fn run(
    shared: &Rc<Shared>,
    graph: &Graph,
    request: HttpRequest<Incoming>,
    form: Form,
) -> Result<Response<Body>, Refused> {
    let (parts, mut body) = request.into_parts();
    let asked = match parts.method {
        Method::GET | Method::HEAD => of_query(parts.uri.query().unwrap_or_default())?,
        Method::POST => {
            if media_type(&parts.headers).as_deref() != Some("application/json") {
                let text = "the body has to be JSON; say `content-type: application/json`";
                return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
            }
            let raw = collect(shared, &mut body).await?;
            of_body(&raw)?
        }
        _ => {
            return Err(Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "it takes GET and POST",
            ));
        }
    };
    let wrong = |text: String| Refused {
        is_document: true,
        ..Refused::bad(text)
    };
    let (document, kind) = plan(graph, &asked).map_err(wrong)?;
    if parts.method != Method::POST && kind == OperationType::Mutation {
        let mut refused =
            Refused::new(StatusCode::METHOD_NOT_ALLOWED, "mutations are made by POST");
        refused.is_document = false;
        return Err(refused);
    }
    let common = Common {
        metadata: metadata::of_headers(&parts.headers, &shared.config.request_metadata)
            .map_err(Refusal::from)?,
        timeout: timeout::of_headers(&parts.headers)
            .map_err(Refusal::from)?
            .or_else(|| {
                shared
                    .config
                    .unary_timeout
                    .filter(|_| kind != OperationType::Subscription)
            }),
    };
    let request = asked.request(document, common);
    if form == Form::Events {
        let events = Events {
            answers: Box::pin(graph.executable.execute_stream(request)),
            is_over: false,
        };
        let mut response = Response::new(Body::Stream(Box::new(events)));
        head(form, response.headers_mut());
        return Ok(response);
    }
    if kind == OperationType::Subscription {
        let text =
            "a subscription is answered by a stream of events; say `accept: text/event-stream`";
        return Err(Refused::new(StatusCode::NOT_ACCEPTABLE, text));
    }
    let answer = graph.executable.execute(request).await;
    let (json, is_refused) = shown(&answer);
    let http = if is_refused && form == Form::Graphql {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    Ok(write(form, http, &json))
}

/// The document, measured, and the kind of the operation that is to run.
fn plan(graph: &Graph, asked: &Asked) -> Result<(ExecutableDocument, OperationType), String> {
    let document = limits::parse(&asked.query, &graph.roots)?;
    let kind = kind(&document, asked.operation.as_deref())?;
    Ok((document, kind))
}

/// A request that is ready to run; what does not stream ends after `unary_timeout`.
pub(super) fn prepare(
    graph: &Graph,
    asked: Asked,
    mut common: Common,
    unary_timeout: Option<Duration>,
) -> Result<Request, String> {
    let (document, kind) = plan(graph, &asked)?;
    if kind != OperationType::Subscription {
        common.timeout = unary_timeout;
    }
    Ok(asked.request(document, common))
}

/// The operation that is to run.
fn kind(document: &ExecutableDocument, name: Option<&str>) -> Result<OperationType, String> {
    let mut operations = document.operations.iter();
    let found = match name {
        Some(name) => operations.find(|(known, _)| known.is_some_and(|it| it.as_str() == name)),
        None => {
            let only = operations.next();
            if operations.next().is_some() {
                return Err(
                    "the document has several operations; say which by `operationName`".to_owned(),
                );
            }
            only
        }
    };
    let (_, operation) = found.ok_or("the document has no such operation")?;
    Ok(operation.node.ty)
}

/// An answer as JSON, and whether nothing of it was run.
pub(super) fn shown(answer: &Answer) -> (Value, bool) {
    let is_null = answer.data == async_graphql::Value::Null;
    let is_refused =
        is_null && !answer.errors.is_empty() && answer.errors.iter().all(|it| it.path.is_empty());
    let mut json = serde_json::to_value(answer).unwrap_or_default();
    if is_refused && let Some(object) = json.as_object_mut() {
        object.remove("data");
    }
    (json, is_refused)
}

fn of_body(raw: &[u8]) -> Result<Asked, Refused> {
    let json: Value = serde_json::from_slice(raw)
        .map_err(|error| Refused::bad(format!("the body is no JSON: {error}")))?;
    Asked::of_json(json).map_err(Refused::bad)
}

fn of_query(text: &str) -> Result<Asked, Refused> {
    let (mut query, mut variables, mut operation) = (None, Value::Null, None);
    for part in text.split('&').filter(|it| !it.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value =
            unescape_query(value).map_err(|_malformed| Refused::bad("an escape is malformed"))?;
        match name {
            "query" => query = Some(value),
            "operationName" => operation = Some(value).filter(|it| !it.is_empty()),
            "variables" if !value.is_empty() => {
                let read = serde_json::from_str(&value);
                variables =
                    read.map_err(|error| Refused::bad(format!("`variables` is no JSON: {error}")))?;
            }
            _ => {}
        }
    }
    let query = query.ok_or_else(|| Refused::bad("`query` is missing"))?;
    Asked::checked(query, variables, operation).map_err(Refused::bad)
}

/// Answers as events: `next` for each, `complete` at the end.
struct Events {
    answers: Pin<Box<dyn Stream<Item = Answer>>>,
    is_over: bool,
}

impl Frames for Events {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let text = match ready!(self.answers.as_mut().poll_next(cx)) {
            Some(answer) => format!("event: next\ndata: {}\n\n", shown(&answer).0),
            None => {
                self.is_over = true;
                "event: complete\ndata:\n\n".to_owned()
            }
        };
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}
