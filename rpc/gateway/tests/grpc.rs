//! gRPC over HTTP/2, and gRPC-Web: every kind of call, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use base64::Engine as _;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost_reflect::{DynamicMessage, Value};
use ringway_gateway::{GatewayConfig, Running};

use support::{Answer, POOL, framed, gateway, http2, read, run, until};

const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;

fn thing(fields: &[(&str, Value)]) -> Vec<u8> {
    let mut thing = DynamicMessage::new(POOL.get_message_by_name("test.Thing").unwrap());
    for (name, value) in fields {
        thing.set_field_by_name(name, value.clone());
    }
    prost::Message::encode_to_vec(&thing)
}

fn grpc(method: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    Request::builder()
        .method("POST")
        .uri(format!("http://gateway.test/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(body.into()))
        .unwrap()
}

fn send(running: &Running, request: Request<Full<Bytes>>) -> Answer {
    run(async { read(http2(running).await.send_request(request).await.unwrap()).await })
}

#[test]
fn unary_calls_pass_messages_metadata_and_statuses() {
    let (running, mirror) = gateway(GatewayConfig::default());
    let message = thing(&[("name", Value::String("a".into()))]);
    let mut request = grpc("test.Mirror/Plain", framed(&message));
    let headers = request.headers_mut();
    headers.insert("x-some", "text".parse().unwrap());
    headers.insert("x-some-bin", BASE64.encode([0, 255]).parse().unwrap());
    headers.insert("cookie", "secret".parse().unwrap());
    headers.insert("grpc-timeout", "10S".parse().unwrap());
    let came = send(&running, request);
    assert_eq!((came.status.as_u16(), came.grpc_status()), (200, "0"));
    assert_eq!(&*came.body, framed(&message));
    assert_eq!(came.headers["x-some"], "text");
    assert_eq!(came.headers["x-some-bin"], "AP8");
    assert_eq!(came.trailers["x-some"], "text");
    let metadata = mirror.metadata.lock().unwrap().clone();
    let names: Vec<&str> = metadata.iter().map(|(name, _)| &**name).collect();
    assert!(
        names.contains(&"x-some-bin") && !names.contains(&"cookie"),
        "{names:?}"
    );

    let fails = thing(&[
        ("middle", Value::I32(9)),
        ("name", Value::String("é%\n".into())),
    ]);
    let came = send(&running, grpc("test.Mirror/Fail", framed(&fails)));
    assert_eq!(
        (came.grpc_status(), &came.headers["grpc-message"]),
        ("9", &"%C3%A9%25%0A".parse().unwrap())
    );
}

#[test]
fn streams_of_all_kinds_end_with_their_status() {
    let (running, _) = gateway(GatewayConfig::default());
    let message = thing(&[("big", Value::I64(3)), ("flag", Value::Bool(true))]);
    let came = send(&running, grpc("test.Mirror/Stream", framed(&message)));
    assert_eq!(&*came.body, framed(&message).repeat(3));
    assert_eq!(
        (came.grpc_status(), &came.trailers["grpc-message"]),
        ("15", &"torn".parse().unwrap())
    );
    let two = [framed(&message), framed(&message)].concat();
    let came = send(&running, grpc("test.Mirror/Gather", two.clone()));
    assert_eq!(
        (&*came.body, came.grpc_status()),
        (&*framed(&message.repeat(2)), "0")
    );
    let came = send(&running, grpc("test.Mirror/Chat", two.clone()));
    assert_eq!((&*came.body, came.grpc_status()), (&*two, "0"));
    let came = send(&running, grpc("test.Mirror/Chat", Vec::new()));
    assert_eq!((came.body.len(), came.grpc_status()), (0, "0"));
}

#[test]
fn both_sides_of_a_conversation_speak_in_turn() {
    let (running, _) = gateway(GatewayConfig::default());
    run(async {
        let stream = tokio::net::TcpStream::connect(running.address())
            .await
            .unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let (out, frames) = tokio::sync::mpsc::channel::<Bytes>(1);
        let frames = futures_of(frames);
        let request = grpc("test.Mirror/Chat", Vec::new()).map(|_| StreamBody::new(frames));
        out.send(framed(b"").into()).await.unwrap();
        let mut response = sender.send_request(request).await.unwrap().into_body();
        for round in 0..5_u8 {
            let frame = response
                .frame()
                .await
                .unwrap()
                .unwrap()
                .into_data()
                .unwrap();
            let number = thing(&[("big", Value::I64(round.into()))]);
            if round > 0 {
                let last = thing(&[("big", Value::I64(i64::from(round) - 1))]);
                assert_eq!(&*frame, framed(&last));
            }
            out.send(framed(&number).into()).await.unwrap();
        }
    });
}

/// A channel as a stream of frames.
fn futures_of(
    mut frames: tokio::sync::mpsc::Receiver<Bytes>,
) -> impl futures_core::Stream<Item = Result<http_body::Frame<Bytes>, std::convert::Infallible>> {
    futures_util::stream::poll_fn(move |cx| {
        frames
            .poll_recv(cx)
            .map(|it| it.map(|data| Ok(http_body::Frame::data(data))))
    })
}

#[test]
fn browsers_get_trailers_in_the_body() {
    let (running, _) = gateway(GatewayConfig::default());
    let message = thing(&[("name", Value::String("a".into()))]);
    for (kind, is_text) in [
        ("application/grpc-web+proto", false),
        ("application/grpc-web-text", true),
    ] {
        let body = if is_text {
            BASE64.encode(framed(&message)).into_bytes()
        } else {
            framed(&message)
        };
        let mut request = grpc("test.Mirror/Plain", body);
        request
            .headers_mut()
            .insert("content-type", kind.parse().unwrap());
        let came = support::send(&running, {
            let mut request = request;
            *request.uri_mut() = "/test.Mirror/Plain".parse().unwrap();
            request
                .headers_mut()
                .insert("host", "gateway.test".parse().unwrap());
            request
        });
        assert_eq!(came.headers["content-type"], kind);
        let body = if is_text {
            BASE64.decode(&came.body).unwrap()
        } else {
            came.body.to_vec()
        };
        let (data, trailers) = body.split_at(framed(&message).len());
        assert_eq!(data, framed(&message));
        assert_eq!(trailers[0], 0x80);
        assert_eq!(&trailers[5..], b"grpc-status: 0\r\n");
    }
}

#[test]
fn packed_messages_are_unpacked_and_answered_alike() {
    use std::io::{Read as _, Write as _};
    let (running, _) = gateway(GatewayConfig::default());
    let message = thing(&[("name", Value::String("n".repeat(2000)))]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&message).unwrap();
    let mut body = framed(&encoder.finish().unwrap());
    body[0] = 1;
    let mut request = grpc("test.Mirror/Plain", body);
    request
        .headers_mut()
        .insert("grpc-encoding", "gzip".parse().unwrap());
    request
        .headers_mut()
        .insert("grpc-accept-encoding", "identity, gzip".parse().unwrap());
    let came = send(&running, request);
    assert_eq!(
        (
            came.headers["grpc-encoding"].to_str().unwrap(),
            came.body[0]
        ),
        ("gzip", 1)
    );
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&came.body[5..])
        .read_to_end(&mut plain)
        .unwrap();
    assert_eq!(plain, message);
    let mut other = grpc("test.Mirror/Plain", framed(&message));
    other
        .headers_mut()
        .insert("grpc-encoding", "br".parse().unwrap());
    assert_eq!(send(&running, other).grpc_status(), "12");
}

#[test]
fn what_is_no_call_is_told_apart() {
    let (running, _) = gateway(GatewayConfig::default().message_bytes_max(4096));
    let status =
        |method: &str, body: Vec<u8>| send(&running, grpc(method, body)).grpc_status().to_owned();
    assert_eq!(status("test.Mirror/Nothing", framed(b"")), "12");
    assert_eq!(status("no.Service/Nothing", framed(b"")), "12");
    assert_eq!(status("test.Mirror/Plain", Vec::new()), "13");
    assert_eq!(status("test.Mirror/Plain", framed(b"").repeat(2)), "13");
    assert_eq!(status("test.Mirror/Plain", vec![0, 0, 0]), "13");
    assert_eq!(status("test.Mirror/Plain", framed(&[0; 5000])), "8");
    assert_eq!(status("test.Mirror/Chat", vec![0, 255, 255, 255, 255]), "8");
    let mut late = grpc("test.Mirror/Plain", framed(b""));
    late.headers_mut()
        .insert("grpc-timeout", "soon".parse().unwrap());
    assert_eq!(send(&running, late).grpc_status(), "3");
    let mut json = grpc("test.Mirror/Plain", framed(b""));
    json.headers_mut()
        .insert("content-type", "application/grpc+json".parse().unwrap());
    assert_eq!(send(&running, json).status, 415);
}

#[test]
fn a_deadline_ends_the_call_here_and_there() {
    let (running, mirror) = gateway(GatewayConfig::default());
    let mut request = grpc("test.Mirror/Never", framed(b""));
    request
        .headers_mut()
        .insert("grpc-timeout", "50m".parse().unwrap());
    assert_eq!(send(&running, request).grpc_status(), "4");
    run(until(|| *mirror.gone.lock().unwrap() == 1));
}

#[test]
fn a_client_that_goes_cancels_its_call() {
    let (running, mirror) = gateway(GatewayConfig::default());
    run(async {
        let mut sender = http2(&running).await;
        let call = tokio::spawn(sender.send_request(grpc("test.Mirror/Never", framed(b""))));
        until(|| *mirror.begun.lock().unwrap() == 1).await;
        // The client resets the stream.
        call.abort();
        until(|| *mirror.gone.lock().unwrap() == 1).await;
        // REST: the connection is gone.
        let stream = tokio::net::TcpStream::connect(running.address())
            .await
            .unwrap();
        let text = "POST /test.Mirror/Never HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
        stream.writable().await.unwrap();
        stream.try_write(text.as_bytes()).unwrap();
        until(|| *mirror.begun.lock().unwrap() == 2).await;
        drop(stream);
        until(|| *mirror.gone.lock().unwrap() == 2).await;
    });
}

#[test]
fn reflection_of_both_versions_tells_the_definitions() {
    let (running, _) = gateway(GatewayConfig::default());
    for version in ["v1", "v1alpha"] {
        let name = format!("grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        // list_services, then the file of a symbol, then nothing that is known.
        let list = framed(&[0x3A, 0]);
        let symbol = |name: &str| {
            let len = u8::try_from(name.len()).unwrap();
            framed(&[&[0x22, len], name.as_bytes()].concat())
        };
        let asked = [list, symbol("test.Mirror.Get"), symbol("no.Such")].concat();
        let came = send(&running, grpc(&name, asked));
        assert_eq!(came.grpc_status(), "0");
        let text = String::from_utf8_lossy(&came.body);
        assert!(
            text.contains("test.Mirror") && text.contains("rules.proto"),
            "{text}"
        );
        assert!(text.contains("google/api/annotations.proto"), "imports too");
        let malformed = grpc(&name, framed(&[0x3A, 9]));
        assert_eq!(send(&running, malformed).grpc_status(), "3");
        assert!(text.contains("there is no symbol `no.Such`"), "{text}");
    }
}
