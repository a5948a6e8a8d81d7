//! `ringway serve --gateway` and `ringway gateway`, run as a user runs them and called by plain HTTP.
#![cfg(feature = "gateway")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test has its name, and shall stop at what it does not expect"
)]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use support::{Server, command, ringway, signal, stderr, stdout};

fn kv() -> (Server, String) {
    let more = [
        "--example",
        "kv",
        "--idle",
        "park",
        "--gateway",
        "127.0.0.1:0",
    ];
    let mut server = Server::start(&["tcp://127.0.0.1:0"], &more);
    let line = server.line();
    let gateway = line.strip_prefix("gateway on http://").unwrap().to_owned();
    (server, gateway)
}

/// Head and body of an answer.
fn http(address: &str, verb: &str, path: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let request = format!(
        "{verb} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn one_store_is_served_to_native_clients_and_to_rest() {
    let (server, gateway) = kv();
    let (head, body) = http(
        &gateway,
        "PUT",
        "/v1/keys/fruit/apple",
        r#"{"value":"MQ=="}"#,
    );
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, r#"{"revision":"1"}"#);
    let key = r#"{"key":"fruit/apple"}"#;
    let native = ringway(&["call", &server.addresses[0], "kv.KeyValue/Get", key]);
    assert!(stdout(&native).contains("MQ=="), "{}", stderr(&native));
    let (head, _) = http(&gateway, "DELETE", "/v1/keys/fruit/apple", "");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (head, body) = http(&gateway, "GET", "/v1/keys/fruit/apple", "");
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    assert!(body.contains("has no value"), "{body}");
    let (code, said) = server.stop();
    assert_eq!(code, Some(0), "{said}");
}

/// A running `ringway gateway`; dropping it ends it.
struct Gateway(Child, String);

impl Gateway {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command(&["gateway", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim_end()
            .strip_prefix("gateway on http://")
            .unwrap()
            .to_owned();
        Self(child, address)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_server_elsewhere_is_offered_by_reflection_or_by_its_proto_file() {
    let (server, beside) = kv();
    http(&beside, "PUT", "/v1/keys/a", r#"{"value":"MQ=="}"#);
    let proto = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/services/proto/kv.proto"
    );
    let backend = ["--backend", &server.addresses[0]];
    for more in [&["--reflection"][..], &["--proto", proto]] {
        let mut gateway = Gateway::start(&[&backend, more].concat());
        let (_, body) = http(&gateway.1, "GET", "/v1/keys/a", "");
        assert_eq!(body, r#"{"value":"MQ==","revision":"1"}"#);
        signal(&gateway.0, nix::sys::signal::Signal::SIGTERM);
        assert_eq!(gateway.0.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn what_can_t_be_served_is_told_with_its_reason() {
    let gateway = |more: &[&str]| {
        let listen = [
            "gateway",
            "--listen",
            "127.0.0.1:0",
            "--backend",
            "tcp://127.0.0.1:1",
        ];
        ringway(&[&listen, more].concat())
    };
    let gone = gateway(&["--timeout", "0.1"]);
    assert_eq!(gone.status.code(), Some(1), "{}", stderr(&gone));
    assert!(
        stderr(&gone).contains("descriptor set instead"),
        "{}",
        stderr(&gone)
    );
    let missing = gateway(&["--proto", "/no/such.proto"]);
    assert_eq!(missing.status.code(), Some(2), "{}", stderr(&missing));
    assert!(
        stderr(&missing).contains("such.proto"),
        "{}",
        stderr(&missing)
    );
}
