//! gzip of whole bodies. Streams are not packed: a packer would hold their messages back.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use ringway_rpc::Code;

use crate::body::{Body, Refusal};

/// Shorter bodies are not worth it.
const PACK_BYTES_MIN: usize = 1024;

/// Whether a client takes gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|it| it.to_str().ok());
    let mut encodings = values.flat_map(|it| it.split(','));
    encodings.any(|encoding| {
        let (name, quality) = encoding.split_once(';').unwrap_or((encoding, ""));
        let quality = quality
            .trim()
            .strip_prefix("q=")
            .and_then(|it| it.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && quality.is_none_or(|it| it > 0.0)
    })
}

/// Packs an answer if it is long enough and text.
pub(super) fn pack(mut response: Response<Body>, accepts_gzip: bool) -> Response<Body> {
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_static("accept, accept-encoding"));
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    let is_text = kind.starts_with("text/")
        || kind.contains("json")
        || kind.contains("yaml")
        || kind.contains("xml");
    let Body::Whole(Some(bytes), _) = response.body() else {
        return response;
    };
    if !accepts_gzip
        || !is_text
        || bytes.len() < PACK_BYTES_MIN
        || response.headers().contains_key(CONTENT_ENCODING)
    {
        return response;
    }
    let Some(packed) = gzip(bytes) else {
        return response;
    };
    *response.body_mut() = Body::of(packed);
    response
        .headers_mut()
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

/// Packs; `None` if that fails, which writing to memory does not.
pub(crate) fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

/// Why packed bytes can't be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpack {
    TooLong,
    Malformed,
}

/// Unpacks at most `bytes_max` bytes, whatever the packed ones promise.
pub(crate) fn gunzip(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, Unpack> {
    let mut out = Vec::new();
    let limit = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let read = MultiGzDecoder::new(packed)
        .take(limit)
        .read_to_end(&mut out);
    read.map_err(|_error| Unpack::Malformed)?;
    if out.len() > bytes_max {
        Err(Unpack::TooLong)
    } else {
        Ok(out)
    }
}

/// A request's body as it was before it was packed.
pub(super) fn unpack(headers: &HeaderMap, body: Bytes, bytes_max: usize) -> Result<Bytes, Refusal> {
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(body),
        Some(b"gzip") => match gunzip(&body, bytes_max) {
            Ok(plain) => Ok(plain.into()),
            Err(Unpack::TooLong) => Err(Refusal::too_large(bytes_max)),
            Err(Unpack::Malformed) => {
                Err(crate::status::bad_request("", "the body is no gzip").into())
            }
        },
        Some(_) => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::InvalidArgument,
            "the body is packed in a way that is not known here; send it plain or by gzip",
        )),
    }
}
