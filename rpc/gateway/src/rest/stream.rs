//! Streams of requests: one JSON message per line as they come, or a JSON array at once.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use hyper::body::Incoming;
use ringway_rpc::{Code, Status};
use serde::de::IgnoredAny;

use super::{Asked, pack, request};
use crate::backend::{Options, Sink};
use crate::body::{Answers, Refusal, collect, next_data};
use crate::host::media_type;
use crate::status::bad_request;

/// Opens a call that the request's body streams into.
pub(super) async fn open(
    asked: Asked,
    mut options: Options,
    mut body: Incoming,
) -> Result<Answers, Refusal> {
    let shared = Rc::clone(&asked.shared);
    let kind = media_type(&asked.headers).unwrap_or_default();
    let is_lines = matches!(
        &*kind,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl"
    );
    if !is_lines {
        let raw = options.receive(collect(&shared, &mut body)).await?;
        let raw = pack::unpack(&asked.headers, raw, shared.config.message_bytes_max)?;
        let mut elements = Elements::of(raw)?;
        // What is wrong with the first one is told before a call begins.
        let first = elements.next();
        let first = first.map(|first| request::message(&asked, &first));
        let first = first.transpose()?;
        let (sink, source) = shared
            .backend
            .open(&asked.route.method, &options, None, false);
        return Ok(Answers::with(source, array(asked, first, elements, sink)));
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
        .open(&asked.route.method, &options, None, false);
    Ok(Answers::with(source, lines(asked, body, sink)))
}

/// Sends the elements of an array, one by one as the call takes them.
async fn array(
    asked: Asked,
    first: Option<Vec<u8>>,
    elements: Elements,
    mut sink: Sink,
) -> Result<(), Status> {
    if let Some(first) = first
        && sink.send(&first).await.is_err()
    {
        // The call is over: its answer tells why.
        return Ok(());
    }
    for element in elements {
        if !send_one(&asked, &mut sink, &element).await? {
            break;
        }
    }
    Ok(())
}

/// Sends each line as a message, as soon as it is there.
async fn lines(asked: Asked, mut body: Incoming, mut sink: Sink) -> Result<(), Status> {
    let bytes_max = asked.shared.config.message_bytes_max;
    let mut kept = BytesMut::new();
    let mut held = asked.shared.bodies.hold();
    while let Some(data) = next_data(&mut body).await? {
        // What was kept has no line's end: it is not looked at again.
        let mut seen = kept.len();
        kept.extend_from_slice(&data);
        while let Some(end) = kept.iter().skip(seen).position(|it| *it == b'\n') {
            let line = kept.split_to(seen + end + 1).freeze();
            seen = 0;
            if !send_one(&asked, &mut sink, &line).await? {
                return Ok(());
            }
        }
        if kept.len() > bytes_max {
            return Err(Refusal::too_large(bytes_max).status);
        }
        held.set(kept.len())?;
    }
    send_one(&asked, &mut sink, &kept.freeze()).await.map(drop)
}

/// False when the call is over: its answer tells why. Other requests have their turn in between.
async fn send_one(asked: &Asked, sink: &mut Sink, json: &Bytes) -> Result<bool, Status> {
    let json = json.slice_ref(json.trim_ascii());
    if json.is_empty() {
        return Ok(true);
    }
    let bytes_max = asked.shared.config.message_bytes_max;
    if json.len() > bytes_max {
        return Err(Refusal::too_large(bytes_max).status);
    }
    let message = request::message(asked, &json).map_err(|refusal| refusal.status)?;
    tokio::task::yield_now().await;
    Ok(sink.send(&message).await.is_ok())
}

/// The elements of an array, each as the JSON that it is; anything else is its only one. They are cut off one by one:
/// all of them at once would take many times the memory of their text.
struct Elements {
    raw: Bytes,
    /// Where the next one is looked for.
    at: usize,
}

impl Elements {
    fn of(raw: Bytes) -> Result<Self, Status> {
        let start = raw.iter().position(|it| !it.is_ascii_whitespace());
        let Some(start) = start.filter(|at| raw.get(*at) == Some(&b'[')) else {
            return Ok(Self { raw, at: 0 });
        };
        if let Err(error) = serde_json::from_slice::<Vec<IgnoredAny>>(&raw) {
            return Err(bad_request("", &error.to_string()));
        }
        Ok(Self { raw, at: start + 1 })
    }
}

impl Iterator for Elements {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.at == 0 {
            self.at = self.raw.len().max(1);
            return Some(self.raw.clone());
        }
        let rest = self.raw.get(self.at..)?;
        let between = |it: &u8| it.is_ascii_whitespace() || *it == b',';
        let start = self.at + rest.iter().position(|it| !between(it))?;
        let rest = self
            .raw
            .get(start..)
            .filter(|it| it.first() != Some(&b']'))?;
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        self.at = start + values.byte_offset();
        Some(self.raw.slice(start..self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &'static str) -> Result<Vec<Bytes>, Status> {
        Elements::of(Bytes::from_static(text.as_bytes())).map(Iterator::collect)
    }

    #[test]
    fn an_array_is_cut_into_its_elements() {
        let cut = elements(" [ {\"a\":[1,2]} ,\n\"],[\", 1,2 ,[[]],null,-1.5e3] ").unwrap();
        let wanted = [
            "{\"a\":[1,2]}",
            "\"],[\"",
            "1",
            "2",
            "[[]]",
            "null",
            "-1.5e3",
        ];
        assert_eq!(cut, wanted);
        assert!(elements("[ ]").unwrap().is_empty());
        for whole in ["", "{}", " {\"a\": 1} ", "nonsense"] {
            assert_eq!(elements(whole).unwrap(), [whole]);
        }
        for torn in ["[", "[1", "[1,]", "[1 2]", "[,1]", "[1]]", "[{]"] {
            assert!(elements(torn).is_err(), "{torn}");
        }
    }

    proptest::proptest! {
        #[test]
        fn elements_are_those_that_a_parser_finds(items: Vec<(i32, String, Option<bool>)>) {
            let json = serde_json::to_string(&items).unwrap();
            let cut: Vec<Bytes> = Elements::of(Bytes::from(json)).unwrap().collect();
            let read: Vec<(i32, String, Option<bool>)> = cut.iter().map(|it| serde_json::from_slice(it).unwrap()).collect();
            assert_eq!(read, items);
        }
    }
}
