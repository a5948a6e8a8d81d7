//! Headers become metadata and the other way round.
//!
//! Names pass by a list ([`GatewayConfig::request_metadata`](crate::GatewayConfig::request_metadata)); trace context
//! passes always; what belongs to HTTP, gRPC or ringway's own statuses never does. Names that end in `-bin` carry
//! bytes: base64 in HTTP, as they are in metadata.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName, HeaderValue};
use ringway_rpc::{Code, Key, Metadata, MetadataBuf, Status};

/// Reads both with padding and without it, writes without.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether a list of names, some with a `*` at one end, holds a name.
fn allows(list: &[String], name: &str) -> bool {
    list.iter().any(
        |pattern| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(end), _) => name.ends_with(end),
            (_, Some(begin)) => name.starts_with(begin),
            _ => pattern == name,
        },
    )
}

/// Names that are not a user's, whatever a list says.
fn is_reserved(name: &str) -> bool {
    let own = [
        "status-message",
        "status-details-bin",
        "traceparent-bin",
        "retry-after-ms-bin",
    ];
    let http = [
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "accept-encoding",
        "host",
        "keep-alive",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-timeout",
    ];
    own.contains(&name) || http.contains(&name) || name.starts_with("grpc-")
}

/// The metadata of a request with these headers.
///
/// # Errors
/// INVALID_ARGUMENT: a value is too long, or a `-bin` one is no base64.
pub(crate) fn of_headers(headers: &HeaderMap, list: &[String]) -> Result<MetadataBuf, Status> {
    let bad = |name: &str, what: &str| {
        let text = format!("the header `{name}` {what}");
        Status::new(Code::InvalidArgument, &text).not_started()
    };
    let mut metadata = MetadataBuf::new();
    // One that can't be read, or two of them, are no trace: the standard says to begin a new one.
    let mut traces = headers.get_all("traceparent").iter();
    if let (Some(trace), None) = (traces.next(), traces.next())
        && let Some(binary) = trace_to_binary(trace.as_bytes())
    {
        let set = metadata.set(Key::TRACEPARENT, &binary);
        set.map_err(|_error| bad("traceparent", "is too long"))?;
    }
    // It may stand in several headers, which are one list.
    let states = headers.get_all("tracestate").iter();
    let states: Vec<&[u8]> = states.map(HeaderValue::as_bytes).collect();
    if !states.is_empty() {
        let set = metadata.set(Key::TRACESTATE, &states.join(&b","[..]));
        set.map_err(|_error| bad("tracestate", "is too long"))?;
    }
    for (name, value) in headers {
        let name = name.as_str();
        let too_long = |_error| bad(name, "is too long");
        let is_trace = matches!(name, "traceparent" | "tracestate");
        if is_trace || is_reserved(name) || !allows(list, name) {
            continue;
        }
        if name.ends_with("-bin") {
            for part in value.as_bytes().split(|it| *it == b',') {
                let bytes = BASE64
                    .decode(part.trim_ascii())
                    .map_err(|_error| bad(name, "is no base64"))?;
                metadata.add(name, &bytes).map_err(too_long)?;
            }
        } else {
            metadata.add(name, value.as_bytes()).map_err(too_long)?;
        }
    }
    Ok(metadata)
}

/// Adds the metadata of an answer to its headers, or to its trailers.
pub(crate) fn to_headers(
    metadata: &Metadata<'_>,
    list: &[String],
    mut headers: Option<&mut HeaderMap>,
    mut trailers: Option<&mut HeaderMap>,
) {
    for entry in metadata.iter() {
        if entry.key == Some(Key::RETRY_AFTER_MS) {
            if let (Some(headers), Ok(bytes)) =
                (headers.as_deref_mut(), <[u8; 4]>::try_from(entry.value))
            {
                let seconds = u32::from_le_bytes(bytes).div_ceil(1000);
                headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            continue;
        }
        if !allows(list, entry.name) {
            continue;
        }
        let (name, into) = match entry.name.strip_prefix("trailer-") {
            Some(name) => (name, trailers.as_deref_mut()),
            None if headers.is_some() => (entry.name, headers.as_deref_mut()),
            None => (entry.name, trailers.as_deref_mut()),
        };
        let Some(into) = into.filter(|_| !is_reserved(name)) else {
            continue;
        };
        let value = if name.ends_with("-bin") {
            HeaderValue::from_str(&BASE64.encode(entry.value)).ok()
        } else {
            // Bytes that no header can carry, as line ends, stay behind.
            HeaderValue::from_bytes(entry.value).ok()
        };
        if let (Ok(name), Some(value)) = (HeaderName::from_bytes(name.as_bytes()), value) {
            into.append(name, value);
        }
    }
}

/// `00-<trace>-<parent>-<flags>` as 26 bytes.
fn trace_to_binary(text: &[u8]) -> Option<[u8; 26]> {
    let text = core::str::from_utf8(text).ok()?;
    let mut parts = text.split('-');
    let mut binary = [0; 26];
    let mut at = 0;
    for len in [1, 16, 8, 1] {
        let part = parts.next()?;
        if part.len() != 2 * len || !part.is_ascii() {
            return None;
        }
        for pair in part.as_bytes().chunks(2) {
            let pair = core::str::from_utf8(pair).ok()?;
            *binary.get_mut(at)? = u8::from_str_radix(pair, 16).ok()?;
            at += 1;
        }
    }
    let is_known = binary.first() == Some(&0) && parts.next().is_none();
    is_known.then_some(binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_listed_headers_pass_and_own_ones_never() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-one", "1"),
            ("cookie", "secret"),
            ("grpc-encoding", "gzip"),
            ("status-message", "forged"),
            ("x-some-bin", "AQI"),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.append("tracestate", HeaderValue::from_static("a=1"));
        headers.append("tracestate", HeaderValue::from_static("b=2"));
        let metadata = of_headers(&headers, &list(&["x-*", "*-message", "grpc-*"])).unwrap();
        let view = metadata.view();
        let mut names: Vec<&str> = view.iter().map(|it| it.name).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["traceparent-bin", "tracestate", "x-one", "x-some-bin"]
        );
        assert_eq!(view.value(Key::TRACESTATE), Some(&b"a=1,b=2"[..]));
        assert_eq!(view.named("x-some-bin"), Some(&[1, 2][..]));
        let trace = view.value(Key::TRACEPARENT).unwrap();
        assert_eq!((trace.len(), trace[1], trace[25]), (26, 0x0a, 1));
        let again = headers["traceparent"].clone();
        headers.append("traceparent", again);
        let twice = of_headers(&headers, &[]).unwrap();
        assert_eq!(twice.view().value(Key::TRACEPARENT), None);
    }

    #[test]
    fn line_ends_in_values_never_reach_headers() {
        let mut metadata = MetadataBuf::new();
        metadata.add("x-evil", b"a\r\nset-cookie: b").unwrap();
        metadata.add("x-good", b"fine").unwrap();
        metadata.add("trailer-x-late", b"end").unwrap();
        let (mut headers, mut trailers) = (HeaderMap::new(), HeaderMap::new());
        let list = list(&["x-*", "trailer-x-*"]);
        to_headers(
            &metadata.view(),
            &list,
            Some(&mut headers),
            Some(&mut trailers),
        );
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-good"], "fine");
        assert_eq!(trailers["x-late"], "end");
    }
}
