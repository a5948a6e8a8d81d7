//! GraphQL: types both ways, errors, subscriptions as events, HTTP's rules, and documents that are too much.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use ringway_gateway::{GatewayConfig, Running};
use serde_json::{Value, json};

use support::{Answer, Mirror, ask, request, run, send, until};

fn gateway() -> (Running, Mirror) {
    support::gateway(GatewayConfig::default().graphql(true))
}

fn post(running: &Running, document: &str, variables: Value) -> Answer {
    let body = json!({"query": document, "variables": variables}).to_string();
    ask(running, "POST", "/graphql", Some(&body))
}

fn data(running: &Running, document: &str, variables: Value) -> Value {
    let came = post(running, document, variables);
    let json = came.json();
    assert!(json.get("errors").is_none(), "{json}");
    json["data"].clone()
}

#[test]
fn every_type_goes_in_and_comes_out() {
    let (running, _) = gateway();
    let document = "query($in: test_Thing_Input) { mirrorQuery(input: $in) {
        name big flag real blob colour numbers colours when long wrapped small snakeCaseName left middle updateMask
        right { name number } inner { name tags inner { name } labels { key value } } inners { number }
        byName { key value { name } } } }";
    let sent = json!({"in": {
        "name": "a", "big": "-9007199254740993", "flag": true, "real": 1.5, "blob": "AP8=", "colour": "RED",
        "numbers": [1, 2], "colours": ["BLUE", "RED"], "when": "2020-01-02T03:04:05Z", "long": "1.500s",
        "wrapped": "7", "small": 4294967295_u32, "snakeCaseName": "s", "choice": {"right": {"name": "r"}},
        "inner": {"tags": ["x"], "inner": {"name": "deep"}, "labels": [{"key": "k", "value": "v"}]},
        "inners": [{"number": 1}, {"number": 2}], "updateMask": "a.b,c",
        "byName": [{"key": "b", "value": {"name": "B"}}, {"key": "a", "value": {"name": "A"}}],
    }});
    let came = data(&running, document, sent);
    assert_eq!(
        came["mirrorQuery"],
        json!({
            "name": "a", "big": "-9007199254740993", "flag": true, "real": 1.5, "blob": "AP8=", "colour": "RED",
            "numbers": [1, 2], "colours": ["BLUE", "RED"], "when": "2020-01-02T03:04:05Z", "long": "1.500s",
            "wrapped": "7", "small": 4294967295_u32, "snakeCaseName": "s", "left": null, "middle": null,
            "updateMask": "a.b,c", "right": {"name": "r", "number": 0},
            "inner": {"name": "", "tags": ["x"], "inner": {"name": "deep"}, "labels": [{"key": "k", "value": "v"}]},
            "inners": [{"number": 1}, {"number": 2}],
            "byName": [{"key": "a", "value": {"name": "A"}}, {"key": "b", "value": {"name": "B"}}],
        })
    );
    let came = data(
        &running,
        "{ mirrorQuery { name inner { name } numbers wrapped colour } }",
        json!(null),
    );
    assert_eq!(
        came["mirrorQuery"],
        json!({"name": "", "inner": null, "numbers": [], "wrapped": null, "colour": "COLOUR_UNSPECIFIED"})
    );
}

#[test]
fn methods_are_queries_mutations_and_subscriptions_by_their_options() {
    let (running, _) = gateway();
    let came = data(
        &running,
        "{ __schema { queryType { fields { name } } mutationType { fields { name } }
        subscriptionType { fields { name description } } } }",
        json!(null),
    );
    let names = |kind: &str| -> Vec<String> {
        let fields = came["__schema"][kind]["fields"].as_array().unwrap().iter();
        fields
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names("queryType"),
        ["mirrorQuery", "mirrorNever", "mirrorFail"]
    );
    assert!(names("mutationType").contains(&"mirrorPlain".to_owned()));
    assert_eq!(
        names("subscriptionType"),
        ["mirrorStream", "mirrorRawStream"]
    );
    assert!(!names("mutationType").contains(&"mirrorGather".to_owned()));
    let text = &came["__schema"]["subscriptionType"]["fields"][0]["description"];
    assert!(text.as_str().unwrap().starts_with("Sends the request"));
    let came = data(
        &running,
        "mutation { mirrorPlain(input: {name: \"a\"}) { name } }",
        json!(null),
    );
    assert_eq!(came, json!({"mirrorPlain": {"name": "a"}}));
}

#[test]
fn a_call_that_fails_is_an_error_of_its_field_alone() {
    let (running, _) = gateway();
    let document = "{ good: mirrorQuery(input: {name: \"a\"}) { name }
        bad: mirrorFail(input: {name: \"why\", choice: {middle: 5}}) { name } }";
    let came = post(&running, document, json!(null));
    assert_eq!(came.status, 200);
    let json = came.json();
    assert_eq!(json["data"], json!({"good": {"name": "a"}, "bad": null}));
    assert_eq!(json["errors"][0]["message"], "why");
    assert_eq!(
        json["errors"][0]["extensions"],
        json!({"code": "NOT_FOUND", "status": 5})
    );
    for (wrong, told) in [
        (
            "{ mirrorQuery(input: {choice: {left: \"a\", middle: 1}}) { name } }",
            "",
        ),
        ("{ mirrorQuery(input: {when: \"yesterday\"}) { name } }", ""),
        (
            "{ mirrorQuery(input: {byName: [{key: \"a\", value: {}}, {key: \"a\", value: {}}]}) { name } }",
            "stands twice",
        ),
        ("{ mirrorQuery(input: {colour: GREEN}) { name } }", "GREEN"),
        ("{ mirrorQuery(input: {real: 1e400}) { name } }", ""),
    ] {
        let json = post(&running, wrong, json!(null)).json();
        let text = json["errors"][0]["message"].as_str().unwrap();
        assert!(text.contains(told), "{wrong}: {text}");
    }
}

fn events(running: &Running, document: &str) -> String {
    let body = json!({"query": document}).to_string();
    let mut request = request("POST", "/graphql", Some(&body));
    request
        .headers_mut()
        .insert("accept", "text/event-stream".parse().unwrap());
    send(running, request).text().to_owned()
}

#[test]
fn subscriptions_are_streams_of_events() {
    let (running, mirror) = gateway();
    let came = events(
        &running,
        "subscription { mirrorStream(input: {big: \"2\"}) { big } }",
    );
    let next = "event: next\ndata: {\"data\":{\"mirrorStream\":{\"big\":\"2\"}}}\n\n";
    assert_eq!(came, format!("{next}{next}event: complete\ndata:\n\n"));
    let torn = events(
        &running,
        "subscription { mirrorStream(input: {big: \"1\", flag: true}) { big } }",
    );
    assert!(
        torn.contains("\"message\":\"torn\"") && torn.ends_with("event: complete\ndata:\n\n"),
        "{torn}"
    );
    let plain = events(&running, "{ mirrorQuery { name } }");
    assert_eq!(
        plain,
        "event: next\ndata: {\"data\":{\"mirrorQuery\":{\"name\":\"\"}}}\n\nevent: complete\ndata:\n\n"
    );
    let without = post(
        &running,
        "subscription { mirrorStream { big } }",
        json!(null),
    );
    assert_eq!(without.status, 406);
    run(until(|| *mirror.ended.lock().unwrap() == 2));
}

#[test]
fn a_client_that_goes_cancels_what_it_asked_for() {
    let (running, mirror) = gateway();
    run(async {
        let body = json!({"query": "{ mirrorNever { name } }"}).to_string();
        let stream = tokio::net::TcpStream::connect(running.address())
            .await
            .unwrap();
        let length = body.len();
        let text = format!(
            "POST /graphql HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.writable().await.unwrap();
        assert_eq!(stream.try_write(text.as_bytes()).unwrap(), text.len());
        until(|| *mirror.begun.lock().unwrap() == 1).await;
        drop(stream);
        until(|| *mirror.gone.lock().unwrap() == 1).await;
    });
}

#[test]
fn http_s_rules_are_kept() {
    let (running, _) = gateway();
    let get = |query: &str| ask(&running, "GET", &format!("/graphql?query={query}"), None);
    assert_eq!(
        get("%7BmirrorQuery%7Bname%7D%7D").json(),
        json!({"data": {"mirrorQuery": {"name": ""}}})
    );
    let mutation = get("mutation%7BmirrorPlain%7Bname%7D%7D");
    assert_eq!(
        (
            mutation.status.as_u16(),
            mutation.headers["allow"].to_str().unwrap()
        ),
        (405, "GET, POST")
    );
    assert_eq!(ask(&running, "GET", "/graphql", None).status, 400);
    assert_eq!(ask(&running, "PUT", "/graphql", Some("{}")).status, 405);
    for body in [
        "{",
        "[]",
        "{}",
        r#"{"query":1}"#,
        r#"{"query":"{a}","variables":[]}"#,
        r#"{"query":"{a}","operationName":1}"#,
        r#"{"query":"{a}","extensions":"x"}"#,
        r#"[{"query":"{__typename}"}]"#,
    ] {
        assert_eq!(
            ask(&running, "POST", "/graphql", Some(body)).status,
            400,
            "{body}"
        );
    }
    let mut form = request("POST", "/graphql", Some("query={__typename}"));
    form.headers_mut().insert(
        "content-type",
        "application/x-www-form-urlencoded".parse().unwrap(),
    );
    assert_eq!(send(&running, form).status, 415);
    // A document that is wrong: an answer as JSON, a bad request as GraphQL's own type.
    for document in [
        "{",
        "{ nothing }",
        "query A { __typename } query B { __typename }",
    ] {
        for (kind, status) in [
            ("application/json", 200),
            ("application/graphql-response+json", 400),
        ] {
            let mut wrong = request(
                "POST",
                "/graphql",
                Some(&json!({"query": document}).to_string()),
            );
            wrong.headers_mut().insert("accept", kind.parse().unwrap());
            let came = send(&running, wrong);
            assert_eq!(came.status, status, "{document}: {came:?}");
            assert!(
                came.headers["content-type"]
                    .to_str()
                    .unwrap()
                    .starts_with(kind)
            );
            let json = came.json();
            assert!(
                json.get("data").is_none() && json["errors"][0]["message"].is_string(),
                "{json}"
            );
        }
    }
    let mut other = request("POST", "/graphql", Some("{}"));
    other
        .headers_mut()
        .insert("accept", "image/png".parse().unwrap());
    assert_eq!(send(&running, other).status, 406);
}

#[test]
fn documents_that_are_too_much_are_refused_before_a_call_is_made() {
    let (running, mirror) = gateway();
    let aliases: String = (0..1000)
        .map(|at| format!("a{at}: mirrorNever {{ name }} "))
        .collect();
    let deep = format!(
        "{{ mirrorNever {} name {} }}",
        "{ inner ".repeat(30),
        "}".repeat(30)
    );
    let lists = "{ mirrorNever { inners { inner { inner { tags labels { key } } } } byName { value { labels { key value } tags } } } }";
    let wide: String = (0..200)
        .map(|at| lists.replace("mirrorNever", &format!("b{at}: mirrorNever")))
        .collect();
    let fat = format!(
        "{{ mirrorNever {{ {} }} }}",
        (0..1200)
            .map(|at| format!("a{at}: inners {{ name }} "))
            .collect::<String>()
    );
    let bombs = [
        format!("{{ {aliases} }}"),
        deep,
        wide,
        fat,
        format!("{{ mirrorNever {}", "{ inner".repeat(100_000)),
        "{ ...f } fragment f on Query { ...g } fragment g on Query { ...f }".to_owned(),
    ];
    for bomb in bombs {
        let came = post(&running, &bomb, json!(null));
        let json = came.json();
        assert!(
            json["errors"][0]["message"].is_string() && json.get("data").is_none(),
            "{json}"
        );
    }
    assert_eq!(*mirror.begun.lock().unwrap(), 0);
    // Nothing is served without being asked for.
    let (running, _) = support::gateway(GatewayConfig::default());
    assert_eq!(post(&running, "{ __typename }", json!(null)).status, 404);
}
