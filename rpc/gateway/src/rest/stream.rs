//! Streams of requests: one JSON message per line as they come, or a JSON array at once.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use hyper::body::Incoming;
use ringway_rpc::{Code, Status};

use super::{Asked, pack, request};
use crate::backend::{Options, Sink};
use crate::body::{Answers, Refusal, collect, next_data};
use crate::host::media_type;
use crate::status::bad_request;

/// Opens a call that the request's body streams into.
pub(super) async fn open(
    asked: Asked,
    options: &Options,
    mut body: Incoming,
) -> Result<Answers, Refusal> {
    let shared = Rc::clone(&asked.shared);
    let kind = media_type(&asked.headers).unwrap_or_default();
    let is_lines = matches!(
        &*kind,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl"
    );
    if !is_lines {
        let config = &shared.config;
        let raw = collect(&mut body, config.message_bytes_max, config.body_timeout).await?;
        let raw = pack::unpack(&asked.headers, raw, config.message_bytes_max)?;
        let messages = array(&asked, &raw)?;
        let (mut sink, source) = shared
            .backend
            .open(&asked.route.method, options, None, false);
        return Ok(Answers::with(source, async move {
            for message in messages {
                if sink.send(&message).await.is_err() {
                    // The call is over: its answer tells why.
                    break;
                }
            }
            Ok(())
        }));
    }
    if asked.headers.contains_key(http::header::CONTENT_ENCODING) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::InvalidArgument,
            "a stream of requests can't be packed",
        ));
    }
    let (sink, source) = shared
        .backend
        .open(&asked.route.method, options, None, false);
    Ok(Answers::with(source, lines(asked, body, sink)))
}

/// Sends each line as a message, as soon as it is there.
async fn lines(asked: Asked, mut body: Incoming, mut sink: Sink) -> Result<(), Status> {
    let bytes_max = asked.shared.config.message_bytes_max;
    let mut kept = BytesMut::new();
    while let Some(data) = next_data(&mut body).await? {
        kept.extend_from_slice(&data);
        while let Some(end) = kept.iter().position(|it| *it == b'\n') {
            let line = kept.split_to(end + 1).freeze();
            if !send_line(&asked, &mut sink, &line).await? {
                return Ok(());
            }
        }
        if kept.len() > bytes_max {
            return Err(Refusal::too_large(bytes_max).status);
        }
    }
    send_line(&asked, &mut sink, &kept.freeze()).await.map(drop)
}

/// False when the call is over: its answer tells why.
async fn send_line(asked: &Asked, sink: &mut Sink, line: &Bytes) -> Result<bool, Status> {
    let line = line.slice_ref(line.trim_ascii());
    if line.is_empty() {
        return Ok(true);
    }
    let message = request::message(asked, &line).map_err(|refusal| refusal.status)?;
    Ok(sink.send(&message).await.is_ok())
}

/// The messages of an array; anything else is its only one.
fn array(asked: &Asked, raw: &Bytes) -> Result<Vec<Vec<u8>>, Refusal> {
    let is_array = raw.iter().find(|it| !it.is_ascii_whitespace()) == Some(&b'[');
    if !is_array {
        return Ok(vec![request::message(asked, raw)?]);
    }
    let values: Vec<serde_json::Value> =
        serde_json::from_slice(raw).map_err(|error| bad_request("", &error.to_string()))?;
    values
        .iter()
        .map(|value| request::message(asked, &Bytes::from(value.to_string())))
        .collect()
}
