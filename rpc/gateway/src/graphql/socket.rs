//! Subscriptions over WebSockets: the protocol graphql-transport-ws, with its close codes.
//!
//! One task speaks on one socket. It writes one message at a time and waits until the client has taken it, so a client
//! that reads slowly slows its own streams; one that takes nothing is cut by the connection's `write_timeout`.

use core::future::Future as _;
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use std::rc::Rc;
use std::sync::Arc;

use ::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use ::http::{HeaderMap, HeaderValue, Request as HttpRequest, Response, StatusCode};
use async_graphql::Response as Answer;
use futures_util::{SinkExt as _, Stream};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::Graph;
use super::calls::Common;
use super::http::{Asked, error, prepare, shown};
use crate::body::Body;
use crate::gateway::Shared;
use crate::metadata;

const PROTOCOL: &str = "graphql-transport-ws";
/// Operations at once on one socket.
const OPERATIONS_MAX: usize = 32;
/// Bytes of a message of a client.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether a request wants to become a WebSocket.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).map(HeaderValue::as_bytes);
    upgrade.is_some_and(|it| it.eq_ignore_ascii_case(b"websocket"))
}

/// Accepts, and goes on with the conversation in a task of its own.
pub(super) fn accept(
    shared: &Rc<Shared>,
    graph: &Graph,
    mut request: HttpRequest<Incoming>,
) -> Response<Body> {
    let refused = |http: StatusCode, text: &'static str| {
        let mut response = Response::new(Body::of(text));
        *response.status_mut() = http;
        response
    };
    let headers = request.headers();
    let protocols = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|it| it.to_str().ok());
    if !protocols
        .flat_map(|it| it.split(','))
        .any(|it| it.trim() == PROTOCOL)
    {
        return refused(
            StatusCode::BAD_REQUEST,
            "the protocol is graphql-transport-ws\n",
        );
    }
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
        return refused(StatusCode::BAD_REQUEST, "sec-websocket-key is missing\n");
    };
    let Ok(accepted) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        return refused(StatusCode::BAD_REQUEST, "sec-websocket-key is malformed\n");
    };
    let common = match metadata::of_headers(headers, &shared.config.request_metadata) {
        Ok(metadata) => Common {
            metadata,
            timeout: None,
        },
        Err(_status) => return refused(StatusCode::BAD_REQUEST, "a header is malformed\n"),
    };
    let Ok(place) = Arc::clone(&graph.sockets).try_acquire_owned() else {
        return refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many sockets are open\n",
        );
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let inside = Rc::clone(shared);
    tokio::task::spawn_local(async move {
        if let Ok(upgraded) = upgraded.await {
            let config = WebSocketConfig::default()
                .max_message_size(Some(MESSAGE_BYTES_MAX))
                .max_frame_size(Some(MESSAGE_BYTES_MAX));
            let io = TokioIo::new(upgraded);
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
            Conversation {
                shared: inside,
                common,
                is_acknowledged: false,
                operations: Vec::new(),
            }
            .run(socket)
            .await;
        }
        drop(place);
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    response
}

/// Why a socket is closed, as the protocol numbers it.
struct Close(u16, String);

struct Operation {
    id: String,
    answers: Pin<Box<dyn Stream<Item = Answer>>>,
}

struct Conversation {
    shared: Rc<Shared>,
    common: Common,
    is_acknowledged: bool,
    operations: Vec<Operation>,
}

/// What happens next.
enum Event {
    Said(Option<Message>),
    /// Of the operation at this place; `None`: it is over.
    Answered(usize, Option<Answer>),
    Late,
    /// The gateway stops.
    Stopping,
}

impl Conversation {
    async fn run(mut self, mut socket: Socket) {
        let shared = Rc::clone(&self.shared);
        let Some(graph) = &shared.graph else {
            return;
        };
        let mut stopping = pin!(graph.stopping.notified());
        let mut patience = pin!(tokio::time::sleep(shared.config.header_timeout));
        loop {
            let event = core::future::poll_fn(|cx| {
                if stopping.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Stopping);
                }
                if !self.is_acknowledged && patience.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Late);
                }
                self.poll_event(&mut socket, cx)
            });
            let told = match event.await {
                Event::Late => Err(Close(4408, "Connection initialisation timeout".to_owned())),
                Event::Stopping => Err(Close(1001, "The gateway stops".to_owned())),
                // Letting go of the operations cancels their calls.
                Event::Said(None | Some(Message::Close(_))) => return,
                Event::Said(Some(Message::Text(text))) => self.said(&text),
                Event::Said(Some(Message::Binary(_))) => {
                    Err(Close(4400, "Messages are text".to_owned()))
                }
                Event::Said(Some(_)) => Ok(None),
                Event::Answered(at, answer) => Ok(self.answered(at, answer)),
            };
            let sent = match told {
                Ok(None) => continue,
                Ok(Some(json)) => socket.send(Message::text(json.to_string())).await,
                Err(Close(code, reason)) => {
                    let frame = CloseFrame {
                        code: code.into(),
                        reason: reason.into(),
                    };
                    // It is over either way.
                    let _closed = socket.close(Some(frame)).await;
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }

    fn poll_event(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(came) = Pin::new(socket).poll_next(cx) {
            return Poll::Ready(Event::Said(came.and_then(Result::ok)));
        }
        for (at, operation) in self.operations.iter_mut().enumerate() {
            if let Poll::Ready(answer) = operation.answers.as_mut().poll_next(cx) {
                return Poll::Ready(Event::Answered(at, answer));
            }
        }
        Poll::Pending
    }

    fn answered(&mut self, at: usize, answer: Option<Answer>) -> Option<Value> {
        let Some(answer) = answer else {
            let operation = self.operations.remove(at);
            return Some(json!({ "type": "complete", "id": operation.id }));
        };
        // The others have their turn first.
        if let Some(from) = self.operations.get_mut(at..) {
            from.rotate_left(1);
        }
        let id = self.operations.last().map(|it| it.id.clone())?;
        let (payload, is_refused) = shown(&answer);
        if is_refused {
            self.operations.pop();
            return Some(json!({ "type": "error", "id": id, "payload": payload["errors"] }));
        }
        Some(json!({ "type": "next", "id": id, "payload": payload }))
    }

    fn said(&mut self, text: &str) -> Result<Option<Value>, Close> {
        let bad = |why: &str| Close(4400, why.to_owned());
        let mut message: Value =
            serde_json::from_str(text).map_err(|_error| bad("Invalid message: no JSON"))?;
        let kind = message["type"]
            .as_str()
            .ok_or_else(|| bad("Invalid message: no type"))?
            .to_owned();
        let id = message["id"]
            .as_str()
            .filter(|it| !it.is_empty())
            .map(ToOwned::to_owned);
        match (&*kind, id) {
            ("connection_init", _) if self.is_acknowledged => {
                Err(Close(4429, "Too many initialisation requests".to_owned()))
            }
            ("connection_init", _) => {
                self.is_acknowledged = true;
                Ok(Some(json!({ "type": "connection_ack" })))
            }
            ("ping", _) => Ok(Some(json!({ "type": "pong" }))),
            ("pong", _) => Ok(None),
            ("subscribe", Some(_)) if !self.is_acknowledged => {
                Err(Close(4401, "Unauthorized".to_owned()))
            }
            ("subscribe", Some(id)) => self.subscribe(id, message["payload"].take()),
            ("complete", Some(id)) => {
                self.operations.retain(|it| it.id != id);
                Ok(None)
            }
            _ => Err(bad("Invalid message: unknown type, or no id")),
        }
    }

    fn subscribe(&mut self, id: String, payload: Value) -> Result<Option<Value>, Close> {
        if self.operations.iter().any(|it| it.id == id) {
            return Err(Close(
                4409,
                format!("Subscriber for {id} already exists")
                    .chars()
                    .take(100)
                    .collect(),
            ));
        }
        let failed =
            |text: &str| json!({ "type": "error", "id": id, "payload": error(text)["errors"] });
        if self.operations.len() >= OPERATIONS_MAX {
            return Ok(Some(failed(&format!(
                "{OPERATIONS_MAX} operations are under way already"
            ))));
        }
        let Ok(asked) = Asked::of_json(payload) else {
            return Err(Close(
                4400,
                "Invalid message: the payload is no request".to_owned(),
            ));
        };
        let Some(graph) = &self.shared.graph else {
            return Err(Close(1011, "There is no GraphQL here".to_owned()));
        };
        let timeout = self.shared.config.unary_timeout;
        match prepare(graph, asked, self.common.clone(), timeout) {
            Ok(request) => {
                let answers = Box::pin(graph.executable.execute_stream(request));
                self.operations.push(Operation { id, answers });
                Ok(None)
            }
            Err(text) => Ok(Some(failed(&text))),
        }
    }
}
