//! REST: a case for each rule of `google.api.http`, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use ringway_gateway::{GatewayConfig, JsonOptions};
use serde_json::{Value, json};

use support::{ask, gateway, request, send};

/// Method, path, body, HTTP status, answer.
type Case = (&'static str, &'static str, Option<&'static str>, u16, Value);

fn check(cases: Vec<Case>) {
    let (running, _) = gateway(GatewayConfig::default());
    for (verb, path, body, status, answer) in cases {
        let came = ask(&running, verb, path, body);
        assert_eq!(came.status, status, "{verb} {path}: {}", came.text());
        if status == 200 {
            assert_eq!(came.json(), answer, "{verb} {path}");
        } else {
            let text = came.json()["message"].as_str().unwrap().to_owned();
            let wanted = answer.as_str().unwrap();
            assert!(text.contains(wanted), "{verb} {path}: {text}");
        }
    }
}

#[test]
fn every_kind_of_pattern_finds_its_method() {
    let thing = || json!({"name": "a"});
    check(vec![
        ("GET", "/v1/things/a", None, 200, thing()),
        ("PUT", "/v1/things/a", Some("{}"), 200, thing()),
        ("POST", "/v1/things", Some(r#"{"name":"a"}"#), 200, thing()),
        ("DELETE", "/v1/things/a", None, 200, thing()),
        (
            "REPORT",
            "/v1/things",
            Some(r#"{"name":"a"}"#),
            200,
            thing(),
        ),
        ("GET", "/v1/any/a", None, 200, thing()),
        ("LOCK", "/v1/any/a", None, 200, thing()),
        ("POST", "/v1/things/a:archive", Some("{}"), 200, thing()),
        (
            "POST",
            "/test.Mirror/Plain",
            Some(r#"{"name":"a"}"#),
            200,
            thing(),
        ),
        ("POST", "/test.Mirror/Plain", None, 200, json!({})),
        // A method with a rule has no other path.
        (
            "POST",
            "/test.Mirror/Get",
            Some("{}"),
            404,
            json!("no such path"),
        ),
        ("GET", "/v1/nothing", None, 404, json!("no such path")),
        ("GET", "/v1/things/a/b", None, 404, json!("no such path")),
        ("GET", "/v1/things/", None, 404, json!("no such path")),
        ("GET", "/v1/things", None, 405, json!("POST, REPORT")),
        ("GET", "/test.Mirror/Plain", None, 405, json!("POST")),
        (
            "POST",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            Some("{}"),
            404,
            json!("no such path"),
        ),
    ]);
}

#[test]
fn path_templates_bind_what_they_stand_for() {
    check(vec![
        (
            "GET",
            "/v1/shelves/1/books/2",
            None,
            200,
            json!({"name": "shelves/1/books/2"}),
        ),
        (
            "GET",
            "/v1/shelves/1/books",
            None,
            404,
            json!("no such path"),
        ),
        (
            "GET",
            "/v1/files/a/b/c",
            None,
            200,
            json!({"name": "a/b/c"}),
        ),
        (
            "GET",
            "/v1/files/a/b:stat",
            None,
            200,
            json!({"name": "a/b"}),
        ),
        (
            "GET",
            "/v1/files/a:b/c",
            None,
            200,
            json!({"name": "a:b/c"}),
        ),
        // An unknown verb is part of the name.
        (
            "GET",
            "/v1/files/a:other",
            None,
            200,
            json!({"name": "a:other"}),
        ),
        (
            "GET",
            "/v1/wild/anything/a",
            None,
            200,
            json!({"name": "a"}),
        ),
        // Literals go first, variables where they lead nowhere.
        ("GET", "/v1/things/special", None, 200, json!({})),
        (
            "DELETE",
            "/v1/things/special",
            None,
            200,
            json!({"name": "special"}),
        ),
        (
            "GET",
            "/v1/nested/a/7",
            None,
            200,
            json!({"inner": {"name": "a", "number": 7}}),
        ),
        (
            "GET",
            "/v1/nested/a/x",
            None,
            400,
            json!("`x` is no 32-bit number"),
        ),
        // Escapes: one segment is decoded wholly, of several the slashes stay apart.
        (
            "GET",
            "/v1/things/a%2Fb%20c%C3%A9",
            None,
            200,
            json!({"name": "a/b cé"}),
        ),
        (
            "GET",
            "/v1/shelves/a%2Fb%20c/books/2",
            None,
            200,
            json!({"name": "shelves/a%2Fb c/books/2"}),
        ),
        (
            "GET",
            "/v1/files/a%2fb/c%20d",
            None,
            200,
            json!({"name": "a%2Fb/c d"}),
        ),
        ("GET", "/v1/things/%zz", None, 400, json!("malformed")),
        ("GET", "/v1/things/%ff", None, 400, json!("malformed")),
        ("GET", "/v1/things/%2e%2e", None, 400, json!("malformed")),
        ("GET", "/v1/files/a/../b", None, 400, json!("malformed")),
        (
            "GET",
            "/v1/things/a%0d%0ab",
            None,
            200,
            json!({"name": "a\r\nb"}),
        ),
    ]);
}

#[test]
fn every_type_of_value_stands_in_a_path() {
    check(vec![
        (
            "GET",
            "/v1/typed/-5/true/RED/1.5/_-8=/2020-01-02T03:04:05Z/7",
            None,
            200,
            json!({"big": "-5", "flag": true, "colour": "RED", "real": 1.5, "blob": "/+8=",
                "when": "2020-01-02T03:04:05Z", "wrapped": "7"}),
        ),
        (
            "GET",
            "/v1/typed/1/false/2/-Infinity/AA/1970-01-01T00:00:00Z/0",
            None,
            200,
            json!({"big": "1", "colour": "BLUE", "real": "-Infinity", "blob": "AA==",
                "when": "1970-01-01T00:00:00Z", "wrapped": "0"}),
        ),
        (
            "GET",
            "/v1/typed/1/maybe/RED/1/AA/1970-01-01T00:00:00Z/0",
            None,
            400,
            json!("neither true nor false"),
        ),
        (
            "GET",
            "/v1/typed/1/true/GREEN/1/AA/1970-01-01T00:00:00Z/0",
            None,
            400,
            json!("has no value `GREEN`"),
        ),
        (
            "GET",
            "/v1/typed/1/true/RED/one/AA/1970-01-01T00:00:00Z/0",
            None,
            400,
            json!("`one` is no number"),
        ),
        (
            "GET",
            "/v1/typed/1/true/RED/1/*/1970-01-01T00:00:00Z/0",
            None,
            400,
            json!("no base64"),
        ),
        (
            "GET",
            "/v1/typed/1/true/RED/1/AA/yesterday/0",
            None,
            400,
            json!("Timestamp"),
        ),
        (
            "GET",
            "/v1/typed/9223372036854775808/true/RED/1/AA/1970-01-01T00:00:00Z/0",
            None,
            400,
            json!("64-bit"),
        ),
    ]);
}

#[test]
fn additional_bindings_are_bindings() {
    check(vec![
        ("GET", "/v1/more/a", None, 200, json!({"name": "a"})),
        ("GET", "/v2/more/a", None, 200, json!({"name": "a"})),
        (
            "POST",
            "/v2/more",
            Some(r#"{"name":"in"}"#),
            200,
            json!({"name": "in"}),
        ),
    ]);
}

#[test]
fn bodies_are_the_message_or_a_field_of_it() {
    check(vec![
        (
            "POST",
            "/v1/field/a?big=3",
            Some(r#"{"number":2}"#),
            200,
            json!({"name": "a", "big": "3", "inner": {"number": 2}}),
        ),
        ("POST", "/v1/field/a", None, 200, json!({"name": "a"})),
        (
            "POST",
            "/v1/list",
            Some(r#"[{"name":"x"},{"number":2}]"#),
            200,
            json!([{"name": "x"}, {"number": 2}]),
        ),
        ("POST", "/v1/list", None, 200, json!([])),
        (
            "POST",
            "/v1/map",
            Some(r#"{"k":{"name":"x"}}"#),
            200,
            json!({"k": {"name": "x"}}),
        ),
        ("POST", "/v1/scalar", Some(r#""12""#), 200, json!("12")),
        ("POST", "/v1/scalar", Some("12"), 200, json!("12")),
        // The path counts more than the body, and a body holds one value and no other.
        (
            "PUT",
            "/v1/things/a",
            Some(r#"{"name":"b","big":1}"#),
            200,
            json!({"name": "a", "big": "1"}),
        ),
        (
            "POST",
            "/v1/scalar",
            Some(r#"1,"name":"smuggled""#),
            400,
            json!("trailing"),
        ),
        ("POST", "/v1/things", Some("{} {}"), 400, json!("trailing")),
        (
            "POST",
            "/v1/things?name=a",
            Some("{}"),
            400,
            json!("the body holds the whole message"),
        ),
        (
            "POST",
            "/v1/field/a?inner.number=3",
            Some("{}"),
            400,
            json!("is in the body"),
        ),
    ]);
}

#[test]
fn queries_fill_what_is_neither_in_path_nor_body() {
    check(vec![
        (
            "GET",
            "/v1/query?name=a+b%26&big=1",
            None,
            200,
            json!({"name": "a b&", "big": "1"}),
        ),
        (
            "GET",
            "/v1/query?inner.name=a&inner.inner.number=2",
            None,
            200,
            json!({"inner": {"name": "a", "inner": {"number": 2}}}),
        ),
        (
            "GET",
            "/v1/query?numbers=1&numbers=2&numbers=1",
            None,
            200,
            json!({"numbers": [1, 2, 1]}),
        ),
        (
            "GET",
            "/v1/query?colours=RED&colours=2&colour=BLUE",
            None,
            200,
            json!({"colours": ["RED", "BLUE"], "colour": "BLUE"}),
        ),
        (
            "GET",
            "/v1/query?inner.tags=x&inner.tags=y",
            None,
            200,
            json!({"inner": {"tags": ["x", "y"]}}),
        ),
        (
            "GET",
            "/v1/query?when=2020-01-02T03:04:05Z&long=1.5s&wrapped=3",
            None,
            200,
            json!({"when": "2020-01-02T03:04:05Z", "long": "1.500s", "wrapped": "3"}),
        ),
        (
            "GET",
            "/v1/query?updateMask=a.b,c",
            None,
            200,
            json!({"updateMask": "a.b,c"}),
        ),
        // Both spellings, and presence.
        (
            "GET",
            "/v1/query?snake_case_name=a",
            None,
            200,
            json!({"snakeCaseName": "a"}),
        ),
        (
            "GET",
            "/v1/query?snakeCaseName=a&small=0",
            None,
            200,
            json!({"snakeCaseName": "a", "small": 0}),
        ),
        (
            "GET",
            "/v1/query?&&name=a&",
            None,
            200,
            json!({"name": "a"}),
        ),
        // Several leaves of one member of a oneof; not of two.
        (
            "GET",
            "/v1/query?right.name=a&right.number=1",
            None,
            200,
            json!({"right": {"name": "a", "number": 1}}),
        ),
        (
            "GET",
            "/v1/query?left=a&right.name=b",
            None,
            400,
            json!("only one of the two"),
        ),
        (
            "GET",
            "/v1/oneof/a?right.number=3",
            None,
            200,
            json!({"right": {"name": "a", "number": 3}}),
        ),
        (
            "GET",
            "/v1/oneof/a?left=b",
            None,
            400,
            json!("only one of the two"),
        ),
        (
            "GET",
            "/v1/query?nothing=1",
            None,
            400,
            json!("`nothing`: there is no such parameter"),
        ),
        (
            "GET",
            "/v1/query?name=a&name=b",
            None,
            400,
            json!("stands twice"),
        ),
        (
            "GET",
            "/v1/things/a?name=b",
            None,
            400,
            json!("is in the path"),
        ),
        ("GET", "/v1/query?inner=a", None, 400, json!("is a message")),
        (
            "GET",
            "/v1/query?inners.name=a",
            None,
            400,
            json!("repeated messages"),
        ),
        ("GET", "/v1/query?inner.labels=a", None, 400, json!("maps")),
        (
            "GET",
            "/v1/query?name.more=a",
            None,
            400,
            json!("no fields of its own"),
        ),
        ("GET", "/v1/query?name=%f", None, 400, json!("escape")),
    ]);
}

#[test]
fn paths_and_queries_beyond_their_limits_are_refused() {
    let (running, _) = gateway(GatewayConfig::default());
    let deep = |count: usize| {
        let path = format!("/v1/files/{}", vec!["a"; count - 2].join("/"));
        ask(&running, "GET", &path, None).status
    };
    assert_eq!((deep(256).as_u16(), deep(257).as_u16()), (200, 404));
    let query = |count: usize| {
        let path = format!("/v1/things/a?{}", vec!["numbers=1"; count].join("&"));
        ask(&running, "GET", &path, None)
    };
    let fits = query(1000);
    assert_eq!(fits.json()["numbers"].as_array().unwrap().len(), 1000);
    let refused = query(1001);
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("more than 1000 parameters"));
}

#[test]
fn patch_without_a_mask_changes_what_is_in_the_body() {
    check(vec![
        (
            "PATCH",
            "/v1/things/a",
            Some(r#"{"name":"x","inner":{"number":1,"labels":{"k":"v"}}}"#),
            200,
            json!({"name": "a", "inner": {"name": "x", "inner": {"number": 1, "labels": {"k": "v"}}},
                "updateMask": "name,inner.number,inner.labels"}),
        ),
        (
            "PATCH",
            "/v1/things/a?updateMask=tags",
            Some(r#"{"name":"x"}"#),
            200,
            json!({"name": "a", "inner": {"name": "x"}, "updateMask": "tags"}),
        ),
        (
            "PATCH",
            "/v1/things/a",
            Some("{}"),
            200,
            json!({"name": "a", "inner": {}, "updateMask": ""}),
        ),
    ]);
}

#[test]
fn bad_bodies_are_named() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)).leak();
    check(vec![
        ("POST", "/v1/things", Some("{"), 400, json!("EOF")),
        (
            "POST",
            "/v1/things",
            Some(r#"{"nothing":1}"#),
            400,
            json!("nothing"),
        ),
        (
            "POST",
            "/v1/things",
            Some(r#"{"colour":"GREEN"}"#),
            400,
            json!("GREEN"),
        ),
        (
            "POST",
            "/v1/things",
            Some(r#"{"blob":"*"}"#),
            400,
            json!(""),
        ),
        (
            "POST",
            "/v1/things",
            Some(r#"{"left":"a","middle":1}"#),
            400,
            json!(""),
        ),
        ("POST", "/v1/list", Some(deep), 400, json!("recursion")),
        ("POST", "/v1/things", Some(deep), 400, json!("")),
    ]);
    let (running, _) = gateway(GatewayConfig::default());
    let came = ask(&running, "POST", "/v1/things", Some(r#"{"nothing":1}"#)).json();
    assert_eq!(came["code"], 3);
    let detail = &came["details"][0];
    assert_eq!(detail["@type"], "type.googleapis.com/google.rpc.BadRequest");
    assert_eq!(detail["fieldViolations"][0]["field"], "nothing");
    let mut form = request("POST", "/v1/things", Some("{}"));
    form.headers_mut()
        .insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(send(&running, form).status, 415);
    let long = format!(r#"{{"name":"{}"}}"#, "a".repeat(5 << 20));
    assert_eq!(ask(&running, "POST", "/v1/things", Some(&long)).status, 413);
}

#[test]
fn raw_bodies_pass_unread_both_ways() {
    let (running, _) = gateway(GatewayConfig::default());
    for path in ["/v1/raw", "/v1/raw/a"] {
        let mut raw = request("POST", path, Some("not { json"));
        raw.headers_mut()
            .insert("content-type", "image/strange".parse().unwrap());
        let came = send(&running, raw);
        assert_eq!(came.status, 200);
        assert_eq!(came.headers["content-type"], "image/strange");
        assert_eq!(came.text(), "not { json");
    }
    let came = ask(&running, "GET", "/v1/rawstream", None);
    assert_eq!(
        (came.headers["content-type"].to_str().unwrap(), came.text()),
        ("text/csv", "one,two")
    );
}

#[test]
fn json_options_change_what_is_written_and_read() {
    let json = JsonOptions {
        defaults: true,
        proto_names: true,
        enum_numbers: true,
        ignore_unknown: true,
    };
    let (running, _) = gateway(GatewayConfig::default().json(json));
    let came = ask(&running, "GET", "/v1/query?colour=RED&unknown=1", None).json();
    assert_eq!(
        (&came["colour"], &came["snake_case_name"]),
        (&json!(1), &json!(""))
    );
    let came = ask(
        &running,
        "POST",
        "/v1/things",
        Some(r#"{"unknown":1,"name":"a"}"#),
    )
    .json();
    assert_eq!(came["name"], "a");
}

#[test]
fn errors_have_their_http_status_and_their_code() {
    let (running, _) = gateway(GatewayConfig::default());
    for (code, http) in [(1, 499), (5, 404), (8, 429), (9, 400), (14, 503), (16, 401)] {
        let body = json!({"middle": code, "name": "why"}).to_string();
        let came = ask(&running, "POST", "/test.Mirror/Fail", Some(&body));
        assert_eq!(came.status, http);
        assert_eq!(
            came.json(),
            json!({"code": code, "message": "why", "details": []})
        );
    }
}

#[test]
fn head_is_get_without_its_body_and_405_names_what_is_allowed() {
    let (running, _) = gateway(GatewayConfig::default());
    let came = ask(&running, "HEAD", "/v1/things/a", None);
    assert_eq!((came.status.as_u16(), came.body.len()), (200, 0));
    assert_eq!(came.headers["content-length"], "12");
    assert_eq!(came.headers["cache-control"], "no-store");
    let came = ask(&running, "GET", "/v1/things", None);
    assert_eq!(came.headers["allow"], "POST, REPORT");
}

#[test]
fn long_answers_are_packed_for_those_who_take_it_and_packed_requests_unpacked() {
    use std::io::{Read as _, Write as _};
    let (running, _) = gateway(GatewayConfig::default().message_bytes_max(64 << 10));
    let name = "n".repeat(2000);
    let mut plain = request("GET", &format!("/v1/query?name={name}"), None);
    plain
        .headers_mut()
        .insert("accept-encoding", "br, gzip;q=0.5".parse().unwrap());
    let came = send(&running, plain);
    assert_eq!(came.headers["content-encoding"], "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*came.body)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["name"], *name);

    let packed = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        let mut request =
            request("POST", "/v1/things", Some("")).map(|_| encoder.finish().unwrap().into());
        request
            .headers_mut()
            .insert("content-encoding", "gzip".parse().unwrap());
        send(&running, request)
    };
    assert_eq!(packed(br#"{"name":"a"}"#).json(), json!({"name": "a"}));
    // A bomb: a megabyte of spaces in a kilobyte.
    assert_eq!(packed(&vec![b' '; 1 << 20]).status, 413);
    let mut other = request("POST", "/v1/things", Some("{}"));
    other
        .headers_mut()
        .insert("content-encoding", "br".parse().unwrap());
    assert_eq!(send(&running, other).status, 415);
}

#[test]
fn pages_of_other_origins_call_only_where_they_may() {
    let (running, _) = gateway(GatewayConfig::default().origins(["https://app.test"]));
    let of = |verb: &str, origin: &str| {
        let mut request = request(verb, "/v1/things/a", None);
        let headers = request.headers_mut();
        headers.insert("origin", origin.parse().unwrap());
        if verb == "OPTIONS" {
            headers.insert("access-control-request-method", "GET".parse().unwrap());
            headers.insert("access-control-request-headers", "x-one".parse().unwrap());
        }
        send(&running, request)
    };
    let came = of("OPTIONS", "https://app.test");
    assert_eq!(
        (
            came.status.as_u16(),
            &came.headers["access-control-allow-headers"]
        ),
        (204, &"x-one".parse().unwrap())
    );
    let came = of("GET", "https://app.test");
    assert_eq!(
        came.headers["access-control-allow-origin"],
        "https://app.test"
    );
    // Its own pages need no permission, others get none, and their requests do nothing.
    assert_eq!(of("GET", "http://gateway.test").status, 200);
    let came = of("DELETE", "https://evil.test");
    assert_eq!(
        (
            came.status.as_u16(),
            came.headers.get("access-control-allow-origin")
        ),
        (403, None)
    );
    assert_eq!(of("OPTIONS", "https://evil.test").status, 403);
}
