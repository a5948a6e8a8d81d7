//! REST: streams of answers as an array, as lines, as events; streams of requests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use ringway_gateway::GatewayConfig;
use serde_json::{Value, json};

use support::{ask, gateway, request, send};

fn accepting(path: &str, kind: &str) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let mut request = request("GET", path, None);
    request
        .headers_mut()
        .insert("accept", kind.parse().unwrap());
    request
}

#[test]
fn streams_come_as_array_lines_or_events() {
    let (running, _) = gateway(GatewayConfig::default());
    let two = "/v1/stream?big=2";
    let thing = json!({"big": "2"});
    let came = ask(&running, "GET", two, None);
    assert_eq!(came.json(), json!([thing, thing]));
    let came = send(&running, accepting(two, "application/x-ndjson"));
    assert_eq!(came.headers["content-type"], "application/x-ndjson");
    assert_eq!(came.text(), "{\"big\":\"2\"}\n{\"big\":\"2\"}\n");
    let came = send(&running, accepting(two, "text/event-stream, */*"));
    assert_eq!(came.headers["content-type"], "text/event-stream");
    let events = "data: {\"big\":\"2\"}\n\ndata: {\"big\":\"2\"}\n\nevent: end\ndata: {}\n\n";
    assert_eq!(came.text(), events);
    assert_eq!(ask(&running, "GET", "/v1/stream", None).json(), json!([]));
    let came = send(&running, accepting("/v1/stream", "application/x-ndjson"));
    assert_eq!(came.text(), "");
}

#[test]
fn an_error_before_the_first_message_has_its_http_status_and_later_ones_their_place() {
    let (running, _) = gateway(GatewayConfig::default());
    for kind in [
        "application/json",
        "application/x-ndjson",
        "text/event-stream",
    ] {
        let came = send(
            &running,
            accepting("/v1/stream?big=2&middle=5&name=gone", kind),
        );
        assert_eq!(
            (
                came.status.as_u16(),
                came.headers["content-type"].to_str().unwrap()
            ),
            (404, "application/json")
        );
        assert_eq!(came.json()["message"], "gone");
    }
    let torn = "/v1/stream?big=1&flag=true";
    let error = json!({"error": {"code": 15, "message": "torn", "details": []}});
    let came = ask(&running, "GET", torn, None).json();
    assert_eq!(came[1], error);
    let came = send(&running, accepting(torn, "application/x-ndjson"));
    let last = came.text().lines().last().unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Value>(&last).unwrap(), error);
    let came = send(&running, accepting(torn, "text/event-stream"));
    assert!(
        came.text()
            .contains("event: error\ndata: {\"error\":{\"code\":15"),
        "{}",
        came.text()
    );
}

#[test]
fn long_streams_keep_the_pace_of_their_reader() {
    // More than all credits and buffers on the way.
    let (running, _) = gateway(GatewayConfig::default());
    let name = "n".repeat(4000);
    let came = send(
        &running,
        accepting(
            &format!("/v1/stream?big=2000&name={name}"),
            "application/x-ndjson",
        ),
    );
    assert_eq!(came.text().lines().count(), 2000);
}

#[test]
fn requests_stream_as_lines_or_as_an_array() {
    let (running, _) = gateway(GatewayConfig::default());
    let lines = "{\"name\":\"a\",\"numbers\":[1]}\n\n{\"numbers\":[2]}";
    let mut request = request("POST", "/v1/gather", Some(lines));
    request
        .headers_mut()
        .insert("content-type", "application/x-ndjson".parse().unwrap());
    assert_eq!(
        send(&running, request).json(),
        json!({"name": "a", "numbers": [1, 2]})
    );
    let array = r#"[{"name":"a","numbers":[1]},{"numbers":[2]}]"#;
    assert_eq!(
        ask(&running, "POST", "/v1/gather", Some(array)).json(),
        json!({"name": "a", "numbers": [1, 2]})
    );
    assert_eq!(
        ask(&running, "POST", "/v1/chat", Some(array)).json(),
        json!([{"name": "a", "numbers": [1]}, {"numbers": [2]}])
    );
    assert_eq!(
        ask(&running, "POST", "/v1/gather", Some("[]")).json(),
        json!({})
    );
    for wrong in ["[1]", "[{}, 1]", "[{}", "[{} {}]", "[{\"nothing\": 1}]"] {
        let came = ask(&running, "POST", "/v1/gather", Some(wrong));
        assert_eq!(came.status, 400, "{wrong}");
    }
    let many = format!("[{}{{\"name\":\"last\"}}]", "{},".repeat(100_000));
    assert_eq!(
        ask(&running, "POST", "/v1/gather", Some(&many)).json(),
        json!({"name": "last"})
    );
    let mut torn = support::request("POST", "/v1/gather", Some("{\"name\":\"a\"}\n{"));
    torn.headers_mut()
        .insert("content-type", "application/x-ndjson".parse().unwrap());
    assert_eq!(send(&running, torn).status, 400);
}
