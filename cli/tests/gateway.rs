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

/// What a gateway complains about that does not come up.
fn complaint(code: i32, arguments: &[&str]) -> String {
    let ended = ringway(&[&["gateway", "--listen", "localhost:0"], arguments].concat());
    let told = stderr(&ended);
    assert_eq!(ended.status.code(), Some(code), "{told}");
    told
}

#[test]
fn a_backend_that_is_none_is_told_with_the_reason() {
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let foreign = format!("tcp://{}", http.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in http.incoming() {
            // Whoever connects may be gone already.
            let _gone = stream
                .unwrap()
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let messages = Server::start(&["tcp://127.0.0.1:0"], &["--idle", "park"]);
    for (backend, code, reason) in [
        ("tcp://127.0.0.1:1", 1, "Connection refused"),
        (&*foreign, 1, "speaks another protocol"),
        (&*messages.addresses[0], 1, "messages, not calls"),
        ("udp://127.0.0.1:1", 2, "plain datagrams"),
        ("quic://127.0.0.1:1", 2, "--ca"),
    ] {
        let told = complaint(code, &["--backend", backend, "--timeout", "0.1"]);
        assert!(told.contains(reason), "{told}");
        assert!(code == 2 || told.matches(backend).count() >= 1, "{told}");
    }
}

#[test]
fn what_can_t_be_served_is_told_with_its_place() {
    let folder = std::env::temp_dir().join(format!("ringway-gateway-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let wrong = write(
        "wrong.proto",
        "syntax = \"proto3\";\nmessage A { foo bar = 1; }",
    );
    let empty = write("empty.proto", "syntax = \"proto3\";");
    let alone = write(
        "alone.proto",
        "syntax = \"proto3\";\nimport \"other.proto\";",
    );
    let here = folder.display().to_string();
    for (kind, path, reason) in [
        (
            "--proto",
            "/no/such.proto",
            "such.proto: there is no such file".to_owned(),
        ),
        ("--proto", &*here, "is a folder".to_owned()),
        ("--proto", &*wrong, format!("{wrong}:2:13: name 'foo'")),
        (
            "--proto",
            &*empty,
            format!("{empty}: the definitions hold no service"),
        ),
        (
            "--proto",
            &*alone,
            format!("{alone}:2:1: import 'other.proto' not found; looked in {here}"),
        ),
        (
            "--descriptors",
            "/no/such.bin",
            "such.bin: No such file".to_owned(),
        ),
        ("--descriptors", &*wrong, "`FileDescriptorSet`".to_owned()),
    ] {
        let told = complaint(2, &["--backend", "tcp://127.0.0.1:1", kind, path]);
        assert!(
            told.contains(&reason) && told.matches(path).count() == 1,
            "{told}"
        );
    }
    let told = complaint(
        2,
        &[
            "--backend",
            "tcp://127.0.0.1:1",
            "--proto",
            &wrong,
            "--include",
            "/no",
        ],
    );
    assert!(told.contains("looked in /no"), "{told}");
    std::fs::remove_dir_all(&folder).unwrap();

    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let proto = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/services/proto/kv.proto"
    );
    let rest = ["--backend", "tcp://127.0.0.1:1", "--proto", proto];
    let origin = complaint(1, &[&rest[..], &["--origin", "app.example"]].concat());
    assert!(origin.contains("https://app.example"), "{origin}");
    let ended = ringway(&[&["gateway", "--listen", &taken], &rest[..]].concat());
    assert!(
        stderr(&ended).contains("choose another port"),
        "{}",
        stderr(&ended)
    );
    let ended = ringway(&[&["gateway", "--listen", "8080"], &rest[..]].concat());
    assert!(
        stderr(&ended).contains("localhost:8080"),
        "{}",
        stderr(&ended)
    );
}
