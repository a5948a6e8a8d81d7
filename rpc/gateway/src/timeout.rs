//! How long a client waits, in the words of several protocols.

use core::time::Duration;

use http::HeaderMap;
use ringway_rpc::{Kind, Status};

use crate::config::GatewayConfig;
use crate::status::bad_request;

/// Until when a call has to end: as its client names it, or, if it does not stream, as the gateway does.
pub(crate) fn of_call(
    headers: &HeaderMap,
    config: &GatewayConfig,
    kind: Kind,
) -> Result<Option<Duration>, Status> {
    let own = config.unary_timeout.filter(|_| kind == Kind::Unary);
    Ok(of_headers(headers)?.or(own))
}

/// The timeout that a request names: `grpc-timeout`, `connect-timeout-ms`, or `x-request-timeout` in seconds.
///
/// # Errors
/// INVALID_ARGUMENT: it can't be read.
pub(crate) fn of_headers(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    type Reader = fn(&str) -> Option<Duration>;
    let known: [(&str, Reader); 3] = [
        ("grpc-timeout", grpc),
        ("connect-timeout-ms", |text| {
            digits(text, 10).map(Duration::from_millis)
        }),
        ("x-request-timeout", seconds),
    ];
    for (name, read) in known {
        if let Some(value) = headers.get(name) {
            let read = value.to_str().ok().and_then(read);
            return match read {
                Some(timeout) => Ok(Some(timeout)),
                None => Err(bad_request(name, "is no timeout")),
            };
        }
    }
    Ok(None)
}

fn digits(text: &str, most: usize) -> Option<u64> {
    let fine = (1..=most).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
    if fine { text.parse().ok() } else { None }
}

/// At most eight digits and a unit.
fn grpc(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = digits(number, 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Seconds with a fraction, as `1.5` or `1.5s`.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.strip_suffix('s').unwrap_or(text);
    let plain = !text.is_empty()
        && text.len() <= 12
        && text.bytes().all(|it| it.is_ascii_digit() || it == b'.');
    if !plain {
        return None;
    }
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn timeouts_are_read_and_nonsense_is_refused() {
        let of = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            of_headers(&headers).ok().flatten()
        };
        assert_eq!(
            of("grpc-timeout", "99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        assert_eq!(of("grpc-timeout", "10m"), Some(Duration::from_millis(10)));
        assert_eq!(
            of("connect-timeout-ms", "1500"),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(
            of("x-request-timeout", "1.5"),
            Some(Duration::from_millis(1500))
        );
        for (name, value) in [
            ("grpc-timeout", "999999999S"),
            ("grpc-timeout", "S"),
            ("grpc-timeout", "-1S"),
            ("grpc-timeout", "1x"),
            ("connect-timeout-ms", "1e3"),
            ("x-request-timeout", "inf"),
            ("x-request-timeout", "."),
        ] {
            assert_eq!(of(name, value), None, "{name}: {value}");
        }
    }
}
