//! The OpenAPI document: what stands in it, and that it is always the same.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use ringway_gateway::GatewayConfig;
use serde_json::{Value, json};

use support::{ask, gateway};

fn document() -> Value {
    let (running, _) = gateway(GatewayConfig::default().docs(true));
    ask(&running, "GET", "/openapi.json", None).json()
}

#[test]
fn every_binding_is_an_operation_with_an_id_of_its_own() {
    let document = document();
    let mut ids = Vec::new();
    for (_, item) in document["paths"].as_object().unwrap() {
        let operations = item
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(verb, operation)| {
                let inner = (verb == "x-ringway-operations")
                    .then(|| operation.as_object().unwrap().values());
                inner
                    .into_iter()
                    .flatten()
                    .chain((verb != "x-ringway-operations").then_some(operation))
            });
        ids.extend(operations.map(|it| it["operationId"].as_str().unwrap().to_owned()));
    }
    for id in [
        "test.Mirror.Get",
        "test.Mirror.More",
        "test.Mirror.More.2",
        "test.Mirror.More.3",
        "test.Mirror.Custom",
        "test.Mirror.Plain",
    ] {
        assert!(ids.iter().any(|it| it == id), "{id}: {ids:?}");
    }
    // 31 methods: two more bindings of one, and one for any of five HTTP methods.
    assert_eq!(ids.len(), 31 + 2 + 4, "{ids:?}");
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn paths_are_spelt_out_and_the_rest_is_in_the_query() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    assert!(
        paths.contains_key("/v1/shelves/{shelve}/books/{book}"),
        "{:?}",
        paths.keys()
    );
    assert!(paths.contains_key("/v1/things/{name}:archive"));
    let get = &document["paths"]["/v1/things/{name}"]["get"];
    assert_eq!(get["parameters"][0]["name"], "name");
    assert_eq!(get["parameters"][0]["in"], "path");
    let names: Vec<&str> = get["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"inner.number") && names.contains(&"when") && names.contains(&"numbers"),
        "{names:?}"
    );
    assert!(
        !names.contains(&"inner.labels") && !names.iter().any(|it| it.starts_with("inner.inner")),
        "{names:?}"
    );
    let patch = &document["paths"]["/v1/things/{name}"]["patch"];
    let schema = &patch["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["$ref"], "#/components/schemas/test.Inner");
}

#[test]
fn schemas_tell_types_oneofs_streams_and_comments() {
    let document = document();
    let thing = &document["components"]["schemas"]["test.Thing"];
    assert_eq!(
        thing["properties"]["big"],
        json!({"type": "string", "format": "int64"})
    );
    assert_eq!(
        thing["properties"]["byName"]["additionalProperties"]["$ref"],
        "#/components/schemas/test.Inner"
    );
    assert_eq!(thing["not"]["anyOf"].as_array().unwrap().len(), 3);
    assert_eq!(
        document["components"]["schemas"]["test.Colour"]["enum"],
        json!(["COLOUR_UNSPECIFIED", "RED", "BLUE"])
    );
    let stream = &document["paths"]["/v1/stream"]["get"];
    assert!(
        stream["description"]
            .as_str()
            .unwrap()
            .starts_with("Sends the request")
    );
    let content = &stream["responses"]["200"]["content"];
    assert_eq!(
        content["text/event-stream"]["x-ringway-item"]["$ref"],
        "#/components/schemas/test.Thing"
    );
    assert_eq!(
        document["tags"][0]["description"],
        "Gives every request back as its answer."
    );
    let failed = &stream["responses"]["default"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(failed, "#/components/schemas/google.rpc.Status");
}

#[test]
fn the_document_is_the_same_each_time_and_only_served_where_it_is_asked_for() {
    let texts = [(); 2].map(|()| {
        let (running, _) = gateway(GatewayConfig::default().docs(true));
        let yaml = ask(&running, "GET", "/openapi.yaml", None);
        assert_eq!(yaml.headers["content-type"], "application/yaml");
        assert!(
            yaml.text().starts_with("\"openapi\": \"3.1.0\"\n"),
            "{}",
            yaml.text()
        );
        assert_eq!(ask(&running, "POST", "/openapi.json", None).status, 405);
        let json = ask(&running, "GET", "/openapi.json", None);
        (json.text().to_owned(), yaml.text().to_owned())
    });
    assert_eq!(texts[0], texts[1]);
    let (running, _) = gateway(GatewayConfig::default());
    assert_eq!(ask(&running, "GET", "/openapi.json", None).status, 404);
    assert_eq!(ask(&running, "GET", "/docs", None).status, 404);
}

#[cfg(all(feature = "ui", feature = "graphql"))]
#[test]
fn the_pages_need_nothing_from_elsewhere() {
    let (running, _) = gateway(GatewayConfig::default().docs(true).graphql(true));
    for (path, count) in [("/docs", 3), ("/graphiql", 6)] {
        let page = ask(&running, "GET", path, None);
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self'"));
        let below = format!("{path}/");
        let sources = page.text().split('"').filter(|it| it.starts_with(&below));
        let sources: Vec<String> = sources.map(ToOwned::to_owned).collect();
        assert_eq!(sources.len(), count);
        assert!(!page.text().contains("http"), "{}", page.text());
        for source in sources {
            let came = ask(&running, "GET", &source, None);
            assert_eq!(came.status, 200, "{source}");
            assert!(
                !came.body.is_empty() && !came.headers.contains_key("content-encoding"),
                "{source}"
            );
        }
        assert_eq!(ask(&running, "GET", &below, None).headers["location"], path);
        assert_eq!(ask(&running, "POST", path, None).status, 405);
    }
}
