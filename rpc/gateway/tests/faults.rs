//! Backends that go away and come back, clients that are slow, greedy or hostile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use ringway_gateway::{Gateway, GatewayConfig, Running, Schema, SchemaError};
use ringway_rpc::Channel;
use serde_json::json;

use support::{Mirror, SET, ask, framed, gateway, http2, read, request, run, send, until};

/// An abstract unix name of this test alone.
fn place(name: &str) -> String {
    format!("unix://@ringway-gateway-{name}-{}", std::process::id())
}

#[test]
fn a_backend_is_found_again_when_it_comes_back() {
    let address = place("returns");
    let mirror = Mirror::default();
    let channel = Channel::connect(&address).unwrap();
    let schema = Schema::from_descriptors(&SET).unwrap();
    let gateway = Gateway::new(channel, schema);
    let running = gateway
        .serve("127.0.0.1:0", GatewayConfig::default())
        .unwrap();
    let get = || ask(&running, "GET", "/v1/things/a", None);
    assert_eq!(get().status, 503);
    let grpc = || {
        let request = http::Request::builder()
            .method("POST")
            .uri("http://gateway.test/test.Mirror/Plain")
            .header("content-type", "application/grpc")
            .body(http_body_util::Full::new(framed(b"").into()))
            .unwrap();
        run(async { read(http2(&running).await.send_request(request).await.unwrap()).await })
    };
    assert_eq!(grpc().grpc_status(), "14");
    for _ in 0..2 {
        let server = mirror.server().shards(1, &[&address]).unwrap();
        // It is tried again by itself.
        while get().status == 503 {
            std::thread::yield_now();
        }
        assert_eq!(get().json(), json!({"name": "a"}));
        assert_eq!(grpc().grpc_status(), "0");
        drop(server);
        while get().status != 503 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_server_s_reflection_is_definition_enough() {
    let address = place("reflection");
    let server = Mirror::default().server().shards(1, &[&address]).unwrap();
    let channel = Channel::connect(&address).unwrap();
    let schema = Schema::from_server(&channel, Duration::from_secs(60)).unwrap();
    let running = Gateway::new(channel, schema)
        .serve("127.0.0.1:0", GatewayConfig::default())
        .unwrap();
    let came = ask(&running, "GET", "/v1/shelves/1/books/2?big=7", None);
    assert_eq!(
        came.json(),
        json!({"name": "shelves/1/books/2", "big": "7"})
    );
    let came = ask(&running, "GET", "/v1/stream?big=3", None);
    assert_eq!(came.json().as_array().unwrap().len(), 3);
    let came = ask(
        &running,
        "POST",
        "/v1/gather",
        Some(r#"[{"numbers":[1]},{"numbers":[2]}]"#),
    );
    assert_eq!(came.json(), json!({"numbers": [1, 2]}));
    let gone = ask(
        &running,
        "POST",
        "/test.Mirror/Fail",
        Some(r#"{"middle":5,"name":"why"}"#),
    );
    assert_eq!(
        (gone.status.as_u16(), gone.json()["message"].as_str()),
        (404, Some("why"))
    );
    drop(server);
}

#[test]
fn a_server_without_reflection_is_told_apart() {
    let address = place("bare");
    let server = Mirror::default().bare().shards(1, &[&address]).unwrap();
    let channel = Channel::connect(&address).unwrap();
    let error = Schema::from_server(&channel, Duration::from_secs(60)).unwrap_err();
    assert!(error.to_string().contains("has no reflection"), "{error}");
    drop(server);
}

#[test]
fn proto_files_are_definitions_and_mistakes_in_rules_are_named() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    Schema::from_proto(&here.join("tests/rules.proto"), &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wrong = |rule: &str| {
        let path = folder.path().join("wrong.proto");
        let text = format!(
            "syntax = \"proto3\"; package wrong; import \"google/api/annotations.proto\";
             message M {{ string name = 1; repeated string list = 2; M inner = 3; }}
             service S {{ rpc Do(M) returns (M) {{ option (google.api.http) = {{ {rule} }}; }} }}"
        );
        std::fs::write(&path, text).unwrap();
        match Schema::from_proto(&path, &[]) {
            Err(SchemaError::Rule { method, text }) => {
                assert_eq!(method, "wrong.S/Do");
                text
            }
            other => panic!("{rule}: {other:?}"),
        }
    };
    for (rule, told) in [
        ("get: \"v1\"", "begins with `/`"),
        ("get: \"/v1/{name\"", "not closed"),
        ("get: \"/v1/{name=**}/more\"", "`**` has to be the last"),
        ("get: \"/v1/{name={inner}}\"", "within a variable"),
        ("get: \"/v1//a\"", "empty"),
        ("get: \"/v1/{other}\"", "no field `other`"),
        ("get: \"/v1/{list}\"", "repeated"),
        ("get: \"/v1/{inner}\"", "is a message"),
        ("get: \"/v1/{name}/{name}\"", "stands twice"),
        ("post: \"/v1\" body: \"other\"", "no such field"),
        ("get: \"/v1\" response_body: \"other\"", "no such field"),
        ("body: \"*\"", "names no pattern"),
        ("get: \"/v1/{name}:a:b\"", "a verb is one word"),
    ] {
        let text = wrong(rule);
        assert!(text.contains(told), "{rule}: {text}");
    }
}

fn connect(running: &Running) -> TcpStream {
    TcpStream::connect(running.address()).unwrap()
}

/// All that comes until the other end closes.
fn all(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _reset = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn clients_that_say_too_little_are_cut_in_time() {
    let short = Duration::from_millis(50);
    let config = GatewayConfig::default()
        .header_timeout(short)
        .body_timeout(short);
    let (running, _) = gateway(config);
    // Nothing at all; the beginning of HTTP/2; a whole request, and then nothing.
    assert_eq!(all(connect(&running)), "");
    let mut stream = connect(&running);
    stream.write_all(b"PRI * HTTP/2.0\r\n").unwrap();
    assert!(!all(stream).contains("200"));
    let mut stream = connect(&running);
    stream
        .write_all(b"GET /v1/things/a HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    assert!(all(stream).contains("200 OK"));
    let mut stream = connect(&running);
    stream
        .write_all(b"GET /v1/things/a HTTP/1.1\r\nhost: a\r\nx-")
        .unwrap();
    assert!(!all(stream).contains("200"));
    let mut stream = connect(&running);
    let head = "POST /v1/things HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    let answer = all(stream);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[test]
fn a_client_that_reads_nothing_is_cut_and_its_stream_cancelled() {
    let config = GatewayConfig::default().write_timeout(Duration::from_millis(100));
    let (running, mirror) = gateway(config);
    let mut stream = connect(&running);
    let name = "n".repeat(4000);
    let head = format!("GET /v1/stream?big=1000000000&name={name} HTTP/1.1\r\nhost: a\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    run(until(|| *mirror.ended.lock().unwrap() == 1));
}

#[test]
fn thousands_of_calls_opened_and_reset_do_not_hurt_others() {
    let (running, mirror) = gateway(GatewayConfig::default());
    run(async {
        let mut sender = http2(&running).await;
        for _ in 0..3000 {
            let request = http::Request::builder()
                .method("POST")
                .uri("http://gateway.test/test.Mirror/Never")
                .header("content-type", "application/grpc")
                .body(http_body_util::Full::new(framed(b"").into()))
                .unwrap();
            if sender.ready().await.is_err() {
                // The gateway has had enough of this connection.
                break;
            }
            let call = tokio::spawn(sender.send_request(request));
            tokio::task::yield_now().await;
            call.abort();
        }
        drop(sender);
        // An honest client is served, and nothing of the others is left.
        let came = tokio::task::spawn_blocking({
            let request = request("GET", "/v1/things/a", None);
            let address = running.address();
            move || support::send_to(address, request)
        });
        assert_eq!(came.await.unwrap().status, 200);
        until(|| *mirror.begun.lock().unwrap() == *mirror.gone.lock().unwrap()).await;
    });
}

#[test]
fn requests_that_two_parsers_could_read_differently_are_refused() {
    let (running, _) = gateway(GatewayConfig::default());
    let head = "POST /v1/things HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let smuggled = "GET /v1/things/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for framing in [
        format!("content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}{smuggled}"),
        format!("content-length: 2, 3\r\n\r\n{{}}{smuggled}"),
        format!("content-length: +2\r\n\r\n{{}}{smuggled}"),
        format!("content-length: 0x2\r\n\r\n{{}}{smuggled}"),
        format!("content-length : 2\r\n\r\n{{}}{smuggled}"),
        format!("transfer-encoding: chunked, identity\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{smuggled}"),
        format!("transfer-encoding: xchunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{smuggled}"),
        format!("transfer-encoding: chunked\r\n\r\n2;\n{{}}\r\n0\r\n\r\n{smuggled}"),
        format!("transfer-encoding: chunked\r\n\r\n-2\r\n{{}}\r\n0\r\n\r\n{smuggled}"),
        format!("transfer-encoding: chunked\r\n\r\n2\r\n{{}}XX0\r\n\r\n{smuggled}"),
        format!(" folded: 1\r\ncontent-length: 2\r\n\r\n{{}}{smuggled}"),
        format!("bad name: 1\r\ncontent-length: 2\r\n\r\n{{}}{smuggled}"),
        format!("x-nul: a\0b\r\ncontent-length: 2\r\n\r\n{{}}{smuggled}"),
    ] {
        let mut stream = connect(&running);
        stream
            .write_all(format!("{head}{framing}").as_bytes())
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = all(stream);
        assert!(!answer.contains("smuggled"), "{framing:?}: {answer}");
        assert!(!answer.starts_with("HTTP/1.1 200"), "{framing:?}: {answer}");
    }
    // Both lengths at once: the chunks count, and what follows them is no second request's guess.
    let both = format!(
        "{head}connection: close\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    );
    let mut stream = connect(&running);
    stream.write_all(both.as_bytes()).unwrap();
    // Not half closed: a client that has gone is answered no more.
    assert_eq!(all(stream).matches("HTTP/1.1 ").count(), 1);
}

#[test]
fn connections_beyond_the_limit_wait() {
    let (running, _) = gateway(GatewayConfig::default().connections_max(1));
    let mut first = connect(&running);
    first
        .write_all(b"GET /v1/things/a HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).unwrap();
    let mut second = connect(&running);
    second
        .write_all(b"GET /v1/things/b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    second.set_nonblocking(true).unwrap();
    let waits = second.read(&mut byte).unwrap_err();
    assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock);
    second.set_nonblocking(false).unwrap();
    drop(first);
    assert!(all(second).contains("200 OK"));
}

#[test]
fn calls_whose_client_names_no_deadline_have_the_gateway_s() {
    let short = Duration::from_millis(50);
    let (running, mirror) = gateway(GatewayConfig::default().unary_timeout(Some(short)));
    assert_eq!(
        ask(&running, "POST", "/test.Mirror/Never", None).status,
        504
    );
    let grpc = http::Request::builder()
        .method("POST")
        .uri("http://gateway.test/test.Mirror/Never")
        .header("content-type", "application/grpc")
        .body(http_body_util::Full::new(framed(b"").into()))
        .unwrap();
    let came = run(async { read(http2(&running).await.send_request(grpc).await.unwrap()).await });
    assert_eq!(came.grpc_status(), "4");
    run(until(|| *mirror.gone.lock().unwrap() == 2));
}

#[test]
fn a_deadline_runs_while_the_request_comes() {
    let (running, mirror) = gateway(GatewayConfig::default());
    let mut slow = connect(&running);
    let head = "POST /test.Mirror/Never HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-request-timeout: 0.05\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{";
    slow.write_all(head.as_bytes()).unwrap();
    // The rest never comes.
    assert!(all(slow).starts_with("HTTP/1.1 504"));
    assert_eq!(
        *mirror.begun.lock().unwrap(),
        0,
        "it was over before it began"
    );
}

#[test]
fn calls_beyond_the_limit_of_a_connection_wait() {
    let (running, mirror) = gateway(GatewayConfig::default().streams_max(1));
    run(async {
        let mut sender = http2(&running).await;
        let mut call = |method: &str| {
            let body = http_body_util::Full::new(framed(b"").into());
            let request = http::Request::builder()
                .method("POST")
                .uri(format!("http://gateway.test/test.Mirror/{method}"))
                .header("content-type", "application/grpc")
                .body(body)
                .unwrap();
            tokio::spawn(sender.send_request(request))
        };
        // From its answer the client knows the limit.
        call("Plain").await.unwrap().unwrap();
        let first = call("Never");
        until(|| *mirror.begun.lock().unwrap() == 1).await;
        let second = call("Never");
        let mut other = http2(&running).await;
        let plain = request("GET", "/v1/things/a", None);
        let plain = other.send_request({
            let (mut head, body) = plain.into_parts();
            head.uri = "http://gateway.test/v1/things/a".parse().unwrap();
            http::Request::from_parts(head, body)
        });
        assert_eq!(plain.await.unwrap().status(), 200);
        assert_eq!(*mirror.begun.lock().unwrap(), 1);
        first.abort();
        until(|| *mirror.begun.lock().unwrap() == 2).await;
        drop(second);
    });
}

#[test]
fn requests_that_are_still_coming_share_their_memory() {
    let config = GatewayConfig::default()
        .message_bytes_max(1024)
        .bodies_bytes_max(1024);
    let (running, _) = gateway(config);
    let body = format!("{{\"name\":\"{}\"}}", "n".repeat(800));
    let (begin, rest) = body.split_at(700);
    let mut slow = connect(&running);
    let head = format!(
        "POST /v1/things HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    slow.write_all(head.as_bytes()).unwrap();
    slow.write_all(begin.as_bytes()).unwrap();
    // As soon as those bytes are held there is no room for as many others, in whatever dress they come.
    let rest_of = || ask(&running, "POST", "/v1/things", Some(&body));
    while rest_of().status == 200 {
        std::thread::yield_now();
    }
    assert_eq!(rest_of().status, 429);
    let mut lines = request("POST", "/v1/gather", Some(&body));
    lines
        .headers_mut()
        .insert("content-type", "application/x-ndjson".parse().unwrap());
    assert_eq!(send(&running, lines).status, 429);
    let mut message = vec![0, 0, 0, 3, 0x20];
    message.resize(805, 0);
    let grpc = http::Request::builder()
        .method("POST")
        .uri("http://gateway.test/test.Mirror/Plain")
        .header("content-type", "application/grpc")
        .body(http_body_util::Full::new(message.into()))
        .unwrap();
    assert_eq!(send(&running, grpc).grpc_status(), "8");
    slow.write_all(rest.as_bytes()).unwrap();
    assert!(all(slow).starts_with("HTTP/1.1 200"));
    assert_eq!(rest_of().status, 200);
}

#[test]
fn headers_beyond_the_limit_are_refused() {
    let (running, _) = gateway(GatewayConfig::default());
    let mut long = request("GET", "/v1/things/a", None);
    long.headers_mut()
        .insert("x-long", "a".repeat(20_000).parse().unwrap());
    assert_eq!(send(&running, long).status, 431);
}

#[test]
fn a_gateway_that_stops_lets_calls_end_and_takes_no_more() {
    let config = GatewayConfig::default().drain_timeout(Duration::from_millis(50));
    let (running, mirror) = gateway(config);
    let address = running.address();
    let mut stream = connect(&running);
    stream
        .write_all(b"POST /test.Mirror/Never HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    run(until(|| *mirror.begun.lock().unwrap() == 1));
    running.stop();
    assert_eq!(*mirror.gone.lock().unwrap(), 1);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn settings_out_of_range_and_bad_addresses_are_named() {
    let serve = |address: &str, config| {
        let mirror = Mirror::default();
        let error = Gateway::in_process(move || mirror.server())
            .serve(address, config)
            .unwrap_err();
        error.to_string()
    };
    let config = GatewayConfig::default;
    assert!(serve("localhost", config()).contains("127.0.0.1:8080"));
    assert!(serve("127.0.0.1:0", config().message_bytes_max(1)).contains("message_bytes_max"));
    assert!(serve("127.0.0.1:0", config().header_bytes_max(1)).contains("header_bytes_max"));
    assert!(serve("127.0.0.1:0", config().body_timeout(Duration::ZERO)).contains("body_timeout"));
    for origin in ["app.example", "https://", "https://app.example/"] {
        assert!(serve("127.0.0.1:0", config().origins([origin])).contains("origins"));
    }
    let (running, _) = gateway(config());
    assert!(serve(&running.address().to_string(), config()).contains("choose another port"));
    assert!(serve("192.0.2.1:80", config()).contains("no interface of this machine"));
}
