//! The commands that call services, run as a user runs them: `call`, `describe`, `health`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test has its name, and shall stop at what it does not expect"
)]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Output, Stdio};

use ringway::Shards;
use ringway::rpc::{
    Code, IncomingCall, Kind, Metadata, Method, Pod, Raw, Server as Calls, Service, ServiceInfo,
    Status, pod_layout,
};
use support::{Server, command, drivers, ringway, stderr, stdout};

fn kv() -> Server {
    Server::start(
        &["tcp://127.0.0.1:0"],
        &["--example", "kv", "--idle", "park"],
    )
}

/// The command's words, with an address in its place.
fn at(server: &Server, arguments: &[&str]) -> Output {
    let (verb, rest) = arguments.split_first().unwrap();
    command(&[verb, &server.addresses[0]])
        .args(rest)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output)
}

/// What it complained, with this exit code and nothing on standard output.
fn complained(output: &Output, code: i32) -> String {
    let complaint = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{complaint}");
    assert_eq!(stdout(output), "", "{complaint}");
    complaint
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// What the command says when it reads these lines.
fn fed(server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut child = command(&["call", &server.addresses[0]])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn unary_calls_take_and_give_json_on_every_driver_and_transport() {
    let name = format!("unix://@ringway-calls-{}", std::process::id());
    for driver in drivers() {
        let server = Server::start(
            &["tcp://127.0.0.1:0", &name],
            &["--example", "kv", "--idle", "park", "--driver", &driver],
        );
        for address in &server.addresses {
            let put = r#"{"key": "a", "value": "aGVsbG8="}"#;
            let put = ["call", address, "kv.KeyValue/Put", put, "--driver", &driver];
            let revision = json(&said(&ringway(&put)))["revision"].clone();
            assert!(revision.is_string(), "{revision}");
            let get = [
                "call",
                address,
                "kv.KeyValue.Get",
                r#"{"key": "a"}"#,
                "-t",
                "10s",
            ];
            let got = json(&said(&ringway(&get)));
            assert_eq!(got["value"], "aGVsbG8=");
            assert_eq!(got["revision"], revision);
        }
        let (code, said) = server.stop();
        assert_eq!(code, Some(0));
        assert!(said.contains("served 8 calls on 4 connections"), "{said}");
    }
}

#[test]
fn streams_of_every_kind_are_lines_of_json() {
    let server = kv();
    let two = r#"{"key": "a", "value": "MQ=="} {"key": "b", "value": "Mg=="}"#;
    let load = at(
        &server,
        &["call", "kv.KeyValue/Load", two, r#"{"key": "c"}"#],
    );
    assert_eq!(json(&said(&load))["count"], "3");
    let lines = "{\"key\": \"d\"}\n\n{\"key\": \"e\"}\n";
    let load = fed(&server, &["kv.KeyValue/Load", "-"], lines);
    assert_eq!(json(&said(&load))["revision"], "5");
    let get = fed(
        &server,
        &["kv.KeyValue/Get", "-"],
        "{\n  \"key\": \"a\"\n}\n",
    );
    assert_eq!(json(&said(&get))["value"], "MQ==");
    let empty = at(&server, &["call", "kv.KeyValue/Load", "--defaults"]);
    assert_eq!(said(&empty), "{\"count\":\"0\",\"revision\":\"0\"}\n");
    let asked = r#"{"get": {"key": "a"}}{"get": {"key": "no"}}"#;
    let session = said(&at(&server, &["call", "kv.KeyValue/Session", asked]));
    let outcomes: Vec<_> = session.lines().map(json).collect();
    assert_eq!(outcomes[0]["get"]["value"], "MQ==");
    assert_eq!(outcomes[1]["failure"]["code"], 5);
    assert_eq!(outcomes.len(), 2);
    let watched = at(
        &server,
        &[
            "call",
            "kv.KeyValue/Watch",
            r#"{"fromRevision": 4}"#,
            "-t",
            "0.5",
        ],
    );
    // Its end was the deadline; all that came before was shown.
    assert_eq!(watched.status.code(), Some(68));
    let keys: Vec<_> = stdout(&watched)
        .lines()
        .map(|it| json(it)["key"].clone())
        .collect();
    assert_eq!(keys, ["d", "e"]);
    assert!(stderr(&watched).contains("Watch: DEADLINE_EXCEEDED"));
}

#[test]
fn each_message_of_a_conversation_is_answered_before_the_next_is_written() {
    let server = kv();
    let mut talk = command(&["call", &server.addresses[0], "kv.KeyValue/Session", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = talk.stdin.take().unwrap();
    let mut output = BufReader::new(talk.stdout.take().unwrap());
    for revision in 1..=3 {
        input.write_all(b"{\"put\": {\"key\": \"k\"}}\n").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(json(&line)["put"]["revision"], revision.to_string());
    }
    drop(input);
    assert!(talk.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_ends_the_call_and_is_no_failure() {
    let server = kv();
    let load = fed(
        &server,
        &["kv.KeyValue/Load", "-"],
        &"{\"key\": \"k\"}\n".repeat(2000),
    );
    said(&load);
    let mut watch = command(&["call", &server.addresses[0], "kv.KeyValue/Watch"])
        .arg(r#"{"fromRevision": 1}"#)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut reader = BufReader::new(watch.stdout.take().unwrap());
    reader.read_line(&mut first).unwrap();
    assert_eq!(json(&first)["revision"], "1");
    drop(reader);
    // Whatever does not fit into the pipe any more finds it broken.
    said(&fed(
        &server,
        &["kv.KeyValue/Load", "-"],
        &"{\"key\": \"k\"}\n".repeat(2000),
    ));
    let ended = watch.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", stderr(&ended));
    assert_eq!(stderr(&ended), "");
}

#[test]
fn a_call_that_ends_badly_says_so_by_text_and_exit_code() {
    let server = kv();
    let get = at(&server, &["call", "kv.KeyValue/Get", r#"{"key": "no"}"#]);
    let complaint = complained(&get, 69);
    assert!(
        complaint.contains("kv.KeyValue/Get: NOT_FOUND: `no` has no value"),
        "{complaint}"
    );
    assert!(!complaint.contains("not executed"), "{complaint}");
    let long = format!(r#"{{"key": "{}"}}"#, "k".repeat(2000));
    complained(&at(&server, &["call", "kv.KeyValue/Put", &long]), 67);
}

#[test]
fn a_wrong_name_is_answered_by_near_ones() {
    let server = kv();
    let table = [
        (
            "kv.KeyValue/Gett",
            "has no method `Gett`; did you mean `Get`?",
        ),
        ("kv.KeyValue/Zap", "there are `Delete`, `Get`, `Load`"),
        (
            "kv.KeyValu/Get",
            "the server has no `kv.KeyValu/Get`; did you mean `kv.KeyValue/Get`?",
        ),
        ("Watch", "`kv.KeyValue/Watch`"),
    ];
    for (method, hint) in table {
        let complaint = complained(&at(&server, &["call", method]), 2);
        assert!(complaint.contains(hint), "{hint} in {complaint}");
    }
    let complaint = complained(&at(&server, &["describe", "kv.PutRequst"]), 2);
    assert!(
        complaint.contains("did you mean `kv.PutRequest`?"),
        "{complaint}"
    );
}

#[test]
fn bad_data_is_refused_with_its_position_before_anything_is_sent() {
    let server = kv();
    let table: [(&[&str], &str); 7] = [
        (
            &["kv.KeyValue/Get", r#"{"kye": "a"}"#],
            "column 6; did you mean `key`?",
        ),
        (
            &["kv.KeyValue/Get", "{\"key\":\n 7}"],
            "DATA 1: no kv.GetRequest",
        ),
        (&["kv.KeyValue/Get", "{\"key\":\n 7}"], "at line 2 column 2"),
        (
            &["kv.KeyValue/Get", "{}", "{}"],
            "takes one message, but DATA holds 2",
        ),
        (&["kv.KeyValue/Load", "{}", "-"], "give no other DATA"),
        (
            &["kv.KeyValue/Load", "@/no/such/file"],
            "reading /no/such/file",
        ),
        (&["kv.KeyValue/Get", "{}", "-H", "nonsense"], "name: value"),
    ];
    for (arguments, hint) in table {
        let arguments = [&["call"], arguments].concat();
        let complaint = complained(&at(&server, &arguments), 2);
        assert!(complaint.contains(hint), "{hint} in {complaint}");
    }
    let (code, said) = server.stop();
    assert_eq!(code, Some(0));
    // The conversations with reflection, and nothing else.
    assert!(said.contains("served 6 calls"), "{said}");
}

#[test]
fn a_bad_line_of_a_stream_gives_the_call_up_instead_of_completing_it() {
    let server = kv();
    let lines = "{\"key\": \"a\"}\n{\"key\": 7}\n";
    let load = fed(&server, &["kv.KeyValue/Load", "-"], lines);
    let complaint = complained(&load, 2);
    assert!(
        complaint.contains("standard input, line 2: no kv.PutRequest"),
        "{complaint}"
    );
}

#[test]
fn a_compressed_request_arrives_as_it_was() {
    let server = kv();
    let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("large.json");
    let value = "QUFB".repeat(100_000);
    std::fs::write(&path, format!(r#"{{"key": "a", "value": "{value}"}}"#)).unwrap();
    let data = format!("@{}", path.display());
    said(&at(
        &server,
        &["call", "kv.KeyValue/Put", &data, "--compress"],
    ));
    let got = said(&at(
        &server,
        &["call", "kv.KeyValue/Get", r#"{"key": "a"}"#],
    ));
    assert_eq!(json(&got)["value"], value);
}

#[test]
fn requests_come_from_files() {
    let server = kv();
    let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("requests.json");
    std::fs::write(&path, "{\"key\": \"a\"}\n{\n  \"key\": \"b\"\n}\n").unwrap();
    let data = format!("@{}", path.display());
    let load = at(&server, &["call", "kv.KeyValue/Load", &data]);
    assert_eq!(json(&said(&load))["count"], "2");
}

#[test]
fn nobody_there_is_unavailable_and_not_started() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", closed.local_addr().unwrap());
    drop(closed);
    for arguments in [
        &["call", &address, "kv.KeyValue/Get"][..],
        &["call", &address, "kv.KeyValue/Get", "--raw"],
        &["describe", &address],
        &["health", &address],
    ] {
        let complaint = complained(&ringway(arguments), 78);
        assert!(complaint.contains("UNAVAILABLE"), "{complaint}");
        assert!(complaint.contains("trying again is safe"), "{complaint}");
    }
    // It would wait for ever, but for the deadline.
    let waiting = ["call", &address, "a.B/C", "--raw", "-w", "-t", "200ms"];
    let complaint = complained(&ringway(&waiting), 68);
    assert!(complaint.contains("DEADLINE_EXCEEDED"), "{complaint}");
    complained(&ringway(&["call", "udp://127.0.0.1:9", "a.B/C"]), 2);
}

#[test]
fn services_and_messages_are_described_as_their_author_wrote_them() {
    let server = kv();
    let all = said(&at(&server, &["describe"]));
    for part in [
        "// A key-value store in memory",
        "service kv.KeyValue {",
        "  // Sets the value of a key.\n  rpc Put(PutRequest) returns (PutResponse)",
        "rpc Watch(WatchRequest) returns (stream Event)",
        "service grpc.health.v1.Health {",
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
    let method = said(&at(&server, &["describe", "kv.KeyValue/Session"]));
    for part in [
        "rpc Session(stream Operation) returns (stream Outcome);",
        "message kv.Operation {\n  oneof kind {\n    GetRequest get = 1;",
        r#"kv.KeyValue/Session '{"get":{"key":""}}'"#,
    ] {
        assert!(method.contains(part), "{part} in {method}");
    }
    let message = said(&at(&server, &["describe", "kv.Event"]));
    assert!(message.contains("  optional bytes value = 3;"), "{message}");
    let found = json(&said(&at(
        &server,
        &["describe", "kv.KeyValue/Load", "--json"],
    )));
    assert_eq!(found["client_streams"], true);
    assert_eq!(found["server_streams"], false);
    assert_eq!(found["comment"], "Sets many values.");
    assert_eq!(found["input_message"]["fields"][1]["type"], "bytes");
    let found = json(&said(&at(&server, &["describe", "--json"])));
    assert_eq!(found["services"][2]["name"], "kv.KeyValue");
}

#[test]
fn an_example_that_describe_shows_can_be_called() {
    let server = kv();
    let text = said(&at(&server, &["describe", "kv.KeyValue/Put"]));
    let example = text.lines().last().unwrap();
    let (words, data) = example.split_once(" '").unwrap();
    let mut words: Vec<&str> = words.split(' ').skip(1).collect();
    words.push(data.trim_end_matches('\''));
    said(&ringway(&words));
}

#[test]
fn health_is_shown_by_text_and_exit_code() {
    let server = kv();
    assert_eq!(said(&at(&server, &["health"])), "SERVING\n");
    assert_eq!(said(&at(&server, &["health", "kv.KeyValue"])), "SERVING\n");
    let complaint = complained(&at(&server, &["health", "kv.Nothing"]), 69);
    assert!(complaint.contains("NOT_FOUND"), "{complaint}");
    let mut watch = command(&["health", &server.addresses[0], "--watch"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(watch.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "SERVING\n");
    drop(watch.kill());
    drop(watch.wait());
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Order {
    id: u64,
    size: u32,
    side: u32,
}
pod_layout!(Order {
    id: u64,
    size: u32,
    side: u32
});

static BARE: ServiceInfo = ServiceInfo {
    name: "test.Bare",
    methods: &[
        Method::new("test.Bare/Say", Kind::Unary, 0, 0),
        Method::new(
            "test.Bare/Double",
            Kind::Unary,
            2,
            <Order as ringway::rpc::Layout>::HASH,
        ),
        Method::new("test.Bare/Chat", Kind::Bidi, 0, 0),
    ],
    descriptors: &[],
};

/// A service that nothing is known of.
struct Bare;

impl Service for Bare {
    fn info(&self) -> &'static ServiceInfo {
        &BARE
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        match call.method() {
            0 => call.inline::<Raw, [u8], [u8]>(|call, request, reply| {
                let metadata: &Metadata<'_> = call.metadata();
                if let Some(code) = metadata.named("fail") {
                    let text = String::from_utf8_lossy(code);
                    let status = Status::new(Code::Aborted, &text).with_app_code(7);
                    return Err(status.with_details(*b"\x1a\x0c\x0a\x07test/It\x12\x01\x01"));
                }
                let mut answer = ringway::rpc::MetadataBuf::new();
                answer.add("colour", b"blue").unwrap();
                reply.metadata(answer.bytes()).send(request)
            }),
            1 => call.inline::<Pod, Order, Order>(|_call, order, reply| {
                reply.send(&Order {
                    size: order.size * 2,
                    ..*order
                })
            }),
            2 => call.bidi::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, mut input, mut out| async move {
                while let Some(message) = input.recv().await? {
                    out.send(message).await?;
                }
                Ok(())
            }),
            _ => call.unimplemented(),
        }
    }
}

fn bare(with_reflection: bool) -> (Shards, String) {
    let server = Calls::builder().service(|| Bare);
    let server = if with_reflection {
        server.reflection()
    } else {
        server
    };
    let shards = server.shards(1, &["tcp://127.0.0.1:0"]).unwrap();
    let address = shards.addresses()[0].to_string();
    (shards, address)
}

#[test]
fn services_without_descriptors_are_called_with_bytes() {
    let (_server, address) = bare(false);
    let call = |arguments: &[&str]| {
        command(&["call", &address])
            .args(arguments)
            .output()
            .unwrap()
    };
    assert_eq!(said(&call(&["test.Bare/Say", "--raw", "hello"])), "hello\n");
    assert_eq!(
        said(&call(&["test.Bare/Say", "--hex", "0x00 ff"])),
        "00ff\n"
    );
    let order = "0100000000000000 05000000 01000000";
    let doubled = call(&["test.Bare/Double", "--hex", "--codec", "pod", order]);
    assert_eq!(said(&doubled), "01000000000000000a00000001000000\n");
    let chat = call(&["test.Bare/Chat", "--raw", "--kind", "bidi", "one", "two"]);
    assert_eq!(said(&chat), "one\ntwo\n");
    let wrong_kind = complained(&call(&["test.Bare/Chat", "--raw"]), 73);
    assert!(
        wrong_kind.contains("disagree on who streams"),
        "{wrong_kind}"
    );
    let wrong_codec = complained(&call(&["test.Bare/Double", "--raw"]), 73);
    assert!(wrong_codec.contains("different codecs"), "{wrong_codec}");
    let unknown = complained(&call(&["test.Bare/Gone", "--raw"]), 76);
    assert!(unknown.contains("no such method"), "{unknown}");
    let digits = complained(&call(&["test.Bare/Say", "--hex", "0g"]), 2);
    assert!(digits.contains("DATA 1: `g` at digit 2"), "{digits}");
}

#[test]
fn metadata_and_details_go_both_ways() {
    let (_server, address) = bare(false);
    let call = |arguments: &[&str]| {
        command(&["call", &address, "test.Bare/Say", "--raw", "x"])
            .args(arguments)
            .output()
            .unwrap()
    };
    let failed = complained(&call(&["-H", "fail: as told"]), 74);
    for part in ["ABORTED: as told", "application code 7", "details It 01"] {
        assert!(failed.contains(part), "{part} in {failed}");
    }
    let fine = call(&["-v", "-H", "note: n", "-H", "key-bin: 0aff"]);
    assert_eq!(said(&fine), "x\n");
    for part in [
        "note: n",
        "key-bin: 0aff",
        "colour: blue",
        "< OK, 1 messages",
    ] {
        assert!(stderr(&fine).contains(part), "{part} in {}", stderr(&fine));
    }
}

#[test]
fn a_server_without_reflection_is_named_with_the_way_around_it() {
    let (_server, address) = bare(false);
    for arguments in [
        &["call", &address, "test.Bare/Say"][..],
        &["describe", &address],
    ] {
        let complaint = complained(&ringway(arguments), 1);
        assert!(complaint.contains("has no reflection"), "{complaint}");
        assert!(complaint.contains("--raw"), "{complaint}");
    }
    let health = complained(&ringway(&["health", &address]), 76);
    assert!(health.contains("UNIMPLEMENTED"), "{health}");
    // With reflection, but without descriptors.
    let (_server, address) = bare(true);
    let all = said(&ringway(&["describe", &address]));
    assert!(
        all.contains("service test.Bare\n  (without descriptors"),
        "{all}"
    );
    let call = complained(&ringway(&["call", &address, "test.Bare/Say"]), 2);
    assert!(
        call.contains("no descriptors of `test.Bare`; call it with --raw"),
        "{call}"
    );
}

#[test]
fn help_shows_examples_and_exit_codes() {
    for (verb, parts) in [
        (
            "call",
            &[
                "64 + N",
                "69 NOT_FOUND",
                "Examples",
                "--header <NAME: VALUE>",
            ][..],
        ),
        ("describe", &["kv.KeyValue/Put", "--json"]),
        ("health", &["0 it is serving", "--watch"]),
        ("serve", &["--example kv", "kv.KeyValue"]),
    ] {
        let help = said(&ringway(&[verb, "--help"]));
        for part in parts {
            assert!(help.contains(part), "{part} in {help}");
        }
    }
}
