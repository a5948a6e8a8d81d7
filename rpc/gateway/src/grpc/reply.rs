//! Answers in the dress that the client understands: trailers of HTTP/2, or at the end of the body for browsers.

use core::task::{Context, Poll, ready};
use std::rc::Rc;

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;

use super::ENCODING;
use super::frame::{PACKED, encode};
use crate::backend::End;
use crate::body::{Answers, Body, Cut, Frames};
use crate::gateway::Shared;
use crate::host::media_type;
use crate::rest::gzip;
use crate::{metadata, status};

/// The flag of gRPC-Web's trailers.
const TRAILERS: u8 = 0x80;
/// Shorter messages are not packed.
const PACK_BYTES_MIN: usize = 512;

/// How a client wants its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dress {
    content_type: &'static str,
    is_web: bool,
    /// Everything is base64.
    pub(super) is_text: bool,
    /// Messages are packed by gzip.
    pub(super) packs: bool,
}

impl Dress {
    /// The dress of a request; `None` if its messages are no protobuf.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let (content_type, is_web, is_text) = match &*media_type(headers)? {
            "application/grpc" => ("application/grpc", false, false),
            "application/grpc+proto" => ("application/grpc+proto", false, false),
            "application/grpc-web" => ("application/grpc-web", true, false),
            "application/grpc-web+proto" => ("application/grpc-web+proto", true, false),
            "application/grpc-web-text" => ("application/grpc-web-text", true, true),
            "application/grpc-web-text+proto" => ("application/grpc-web-text+proto", true, true),
            _ => return None,
        };
        Some(Self {
            content_type,
            is_web,
            is_text,
            packs: false,
        })
    }

    fn response(self, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(
            "grpc-accept-encoding",
            HeaderValue::from_static("gzip, identity"),
        );
        if self.packs {
            headers.insert(ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    fn framed(self, message: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        let packed = if self.packs && message.len() >= PACK_BYTES_MIN {
            gzip(message)
        } else {
            None
        };
        match packed {
            Some(packed) => encode(PACKED, &packed, &mut out),
            None => encode(0, message, &mut out),
        }
        out
    }

    fn message(self, message: &[u8]) -> Bytes {
        self.text(self.framed(message).freeze())
    }

    fn text(self, bytes: Bytes) -> Bytes {
        if self.is_text {
            base64::engine::general_purpose::STANDARD
                .encode(&bytes)
                .into()
        } else {
            bytes
        }
    }

    /// Trailers as the last part of a body, behind what stands in `out`.
    fn web_trailers(self, trailers: &HeaderMap, mut out: BytesMut) -> Bytes {
        let mut block = Vec::new();
        for (name, value) in trailers {
            block.extend_from_slice(name.as_str().as_bytes());
            block.extend_from_slice(b": ");
            block.extend_from_slice(value.as_bytes());
            block.extend_from_slice(b"\r\n");
        }
        encode(TRAILERS, &block, &mut out);
        self.text(out.freeze())
    }

    /// A call that ended before its first message: all that is known stands in the headers.
    pub(super) fn ended(self, shared: &Shared, end: &End) -> Response<Body> {
        let mut trailers = HeaderMap::new();
        status::to_trailers(&end.status, &mut trailers);
        let list = &shared.config.response_metadata;
        metadata::to_headers(&end.metadata, list, None, Some(&mut trailers));
        if self.is_web {
            return self.response(Body::of(self.web_trailers(&trailers, BytesMut::new())));
        }
        let mut response = self.response(Body::empty());
        response.headers_mut().extend(trailers);
        response
    }

    /// The one answer of a call.
    pub(super) fn whole(self, shared: &Shared, message: &[u8], end: &End) -> Response<Body> {
        let (mut headers, mut trailers) = (HeaderMap::new(), HeaderMap::new());
        status::to_trailers(&end.status, &mut trailers);
        let list = &shared.config.response_metadata;
        metadata::to_headers(&end.metadata, list, Some(&mut headers), Some(&mut trailers));
        let message = self.framed(message);
        let body = if self.is_web {
            Body::of(self.web_trailers(&trailers, message))
        } else {
            Body::Whole(Some(message.freeze()), Some(Box::new(trailers)))
        };
        let mut response = self.response(body);
        response.headers_mut().extend(headers);
        response
    }

    /// A stream that has begun.
    pub(super) fn stream(
        self,
        shared: &Rc<Shared>,
        first: Bytes,
        answers: Answers,
    ) -> Response<Body> {
        let stream = Stream {
            dress: self,
            shared: Rc::clone(shared),
            first: Some(first),
            answers: Some(answers),
        };
        self.response(Body::Stream(Box::new(stream)))
    }
}

struct Stream {
    dress: Dress,
    shared: Rc<Shared>,
    first: Option<Bytes>,
    answers: Option<Answers>,
}

impl Frames for Stream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let dress = self.dress;
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(dress.message(&first)))));
        }
        let Some(answers) = &mut self.answers else {
            return Poll::Ready(None);
        };
        let end = match ready!(answers.poll_next(cx)) {
            Ok(message) => return Poll::Ready(Some(Ok(Frame::data(dress.message(&message))))),
            Err(end) => end,
        };
        self.answers = None;
        let mut trailers = HeaderMap::new();
        status::to_trailers(&end.status, &mut trailers);
        let list = &self.shared.config.response_metadata;
        metadata::to_headers(&end.metadata, list, None, Some(&mut trailers));
        let frame = if dress.is_web {
            Frame::data(dress.web_trailers(&trailers, BytesMut::new()))
        } else {
            Frame::trailers(trailers)
        };
        Poll::Ready(Some(Ok(frame)))
    }
}
