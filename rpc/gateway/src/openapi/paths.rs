//! Bindings as operations.

use prost_reflect::{FieldDescriptor, Kind as FieldKind, MessageDescriptor};
use ringway_rpc::Kind;
use serde_json::{Map, Value, json};

use super::schemas::{STATUS, Schemas};
use crate::rest::is_http_body;
use crate::router::Part;
use crate::schema::{Body, Method, Rule, Schema, Verb, is_scalar_json};

/// Methods of HTTP that OpenAPI knows.
const VERBS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];
/// What a binding for any method is shown as.
const ANY: [&str; 5] = ["get", "put", "post", "delete", "patch"];
/// Messages within messages that become query parameters.
const QUERY_DEPTH: usize = 5;

/// All paths, in the order of methods.
pub(super) fn all(schema: &Schema, schemas: &mut Schemas<'_>) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for method in schema.methods() {
        for (index, rule) in method.rules.iter().enumerate() {
            let (path, parameters) = path(rule, schemas);
            let verbs: Vec<String> = match &rule.verb {
                Verb::Any => ANY.iter().map(ToString::to_string).collect(),
                Verb::One(verb) => vec![verb.to_ascii_lowercase()],
            };
            for verb in verbs {
                let is_any = rule.verb == Verb::Any;
                let id = id(method, index, is_any.then_some(&*verb));
                let operation = operation(schema, schemas, method, rule, &parameters, id);
                let item = paths.entry(path.clone()).or_insert_with(|| json!({}));
                let place = if VERBS.contains(&&*verb) {
                    item
                } else {
                    // What OpenAPI has no word for.
                    let object = item.as_object_mut();
                    let Some(object) = object else { continue };
                    object
                        .entry("x-ringway-operations")
                        .or_insert_with(|| json!({}))
                };
                if let Some(place) = place.as_object_mut() {
                    // Two templates that OpenAPI can't tell apart: the first one is shown.
                    place.entry(verb).or_insert(operation);
                }
            }
        }
    }
    Value::Object(paths)
}

fn id(method: &Method, index: usize, verb: Option<&str>) -> String {
    let mut id = method.name.replace('/', ".");
    if index > 0 {
        id.push_str(&format!(".{}", index + 1));
    }
    if let Some(verb) = verb {
        id.push_str(&format!(".{verb}"));
    }
    id
}

/// The path as OpenAPI writes it, and its parameters: one that stands for several segments is spelt out.
fn path(rule: &Rule, schemas: &mut Schemas<'_>) -> (String, Vec<Value>) {
    let mut text = String::new();
    let mut parameters: Vec<Value> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for part in rule.template.parts() {
        text.push('/');
        let (wanted, variable, is_rest) = match part {
            Part::Literal(literal) => {
                text.push_str(literal);
                continue;
            }
            Part::One { before, variable } => (before, variable, false),
            Part::Rest { before, variable } => (before, variable, true),
        };
        let fields = variable.and_then(|at| rule.variables.get(at));
        let is_whole = fields.is_some_and(|_| rule.template.is_single(variable));
        let name = match fields {
            Some(fields) if is_whole || is_rest => dotted(fields, schemas),
            _ => singular(wanted.unwrap_or("part")),
        };
        let mut unique = name.clone();
        let mut count = 1;
        while names.contains(&unique) {
            count += 1;
            unique = format!("{name}{count}");
        }
        names.push(unique.clone());
        text.push_str(&format!("{{{unique}}}"));
        let field = fields.and_then(|it| it.last()).filter(|_| is_whole);
        let schema = field.map_or_else(
            || json!({ "type": "string" }),
            |field| schemas.kind(&field.kind()),
        );
        let mut parameter =
            json!({ "name": unique, "in": "path", "required": true, "schema": schema });
        let mut notes: Vec<&str> = fields
            .and_then(|it| it.last())
            .and_then(|it| schemas.field_comment(it))
            .into_iter()
            .collect();
        if is_rest {
            notes.push("May hold slashes.");
            parameter["x-ringway-segments"] = "any".into();
        }
        if !notes.is_empty() {
            parameter["description"] = notes.join("\n\n").into();
        }
        parameters.push(parameter);
    }
    if let Some(verb) = rule.template.verb() {
        text.push(':');
        text.push_str(verb);
    }
    (text, parameters)
}

/// `shelves` names a shelf; what ends otherwise keeps its name.
fn singular(word: &str) -> String {
    word.strip_suffix('s')
        .filter(|it| !it.is_empty())
        .unwrap_or(word)
        .to_owned()
}

fn dotted(fields: &[FieldDescriptor], schemas: &Schemas<'_>) -> String {
    let names: Vec<&str> = fields.iter().map(|it| schemas.name(it)).collect();
    names.join(".")
}

fn operation(
    schema: &Schema,
    schemas: &mut Schemas<'_>,
    method: &Method,
    rule: &Rule,
    path_parameters: &[Value],
    id: String,
) -> Value {
    let descriptor = &method.descriptor;
    let service = descriptor.parent_service();
    let mut operation = json!({ "operationId": id, "tags": [service.full_name()] });
    let comment = schema
        .comments()
        .at(&descriptor.parent_file(), descriptor.path());
    if let Some(text) = comment {
        let summary = text.split(['\n', ';']).next().unwrap_or_default();
        operation["summary"] = summary.trim_end_matches('.').into();
        operation["description"] = text.into();
    }
    if is_deprecated(method) {
        operation["deprecated"] = true.into();
    }
    let input = descriptor.input();
    let mut parameters = path_parameters.to_vec();
    if !matches!(rule.body, Body::Whole) {
        query(
            schemas,
            rule,
            &input,
            &mut Vec::new(),
            &mut Vec::new(),
            &mut parameters,
        );
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = request_body(schemas, method, rule, &input) {
        operation["requestBody"] = body;
    }
    let failed = json!({
        "description": "The request failed; the HTTP status tells in which way.",
        "content": { "application/json": { "schema": { "$ref": format!("#/components/schemas/{STATUS}") } } },
    });
    let answered = answer(schemas, method, rule);
    operation["responses"] = json!({ "200": answered, "default": failed });
    operation
}

fn is_deprecated(method: &Method) -> bool {
    let options = method.descriptor.method_descriptor_proto().options.as_ref();
    options.is_some_and(|it| it.deprecated.unwrap_or_default())
}

/// A parameter for each leaf that is neither in the path nor in the body.
fn query(
    schemas: &mut Schemas<'_>,
    rule: &Rule,
    of: &MessageDescriptor,
    above: &mut Vec<FieldDescriptor>,
    within: &mut Vec<String>,
    parameters: &mut Vec<Value>,
) {
    within.push(of.full_name().to_owned());
    for field in of.fields() {
        above.push(field.clone());
        let is_bound = rule.variables.contains(above);
        let is_body = matches!(&rule.body, Body::Field(body) if above.first() == Some(body));
        let inner = match field.kind() {
            FieldKind::Message(inner) if !is_scalar_json(&inner) => Some(inner),
            _ => None,
        };
        match inner {
            _ if is_bound || is_body || field.is_map() => {}
            Some(inner) => {
                let repeats = within.iter().any(|it| it == inner.full_name());
                let shown = !field.is_list() && !repeats && within.len() < QUERY_DEPTH;
                if shown && !inner.full_name().starts_with("google.protobuf.") {
                    query(schemas, rule, &inner, above, within, parameters);
                }
            }
            None => {
                let mut parameter = json!({
                    "name": dotted(above, schemas),
                    "in": "query",
                    "schema": schemas.field(&field),
                });
                if let Some(text) = schemas.field_comment(&field) {
                    parameter["description"] = text.into();
                }
                parameters.push(parameter);
            }
        }
        above.pop();
    }
    within.pop();
}

fn request_body(
    schemas: &mut Schemas<'_>,
    method: &Method,
    rule: &Rule,
    input: &MessageDescriptor,
) -> Option<Value> {
    let (item, message) = match &rule.body {
        Body::None => return None,
        Body::Whole => (None, Some(input.clone())),
        Body::Field(field) => {
            let message = field
                .kind()
                .as_message()
                .filter(|_| !field.is_list() && !field.is_map())
                .cloned();
            (Some(field), message)
        }
    };
    if message.as_ref().is_some_and(is_http_body) {
        return Some(json!({ "content": { "*/*": {} } }));
    }
    let schema = match item {
        Some(field) => schemas.field(field),
        None => schemas.message(input),
    };
    let example = message.map(|it| schemas.example_of(&it));
    let mut json_body = json!({ "schema": schema });
    if method.kind.client_streams() {
        json_body = json!({ "schema": { "type": "array", "items": schema } });
        let lines = json!({ "schema": { "type": "string" }, "x-ringway-item": schema });
        return Some(json!({
            "description": "A stream of messages: one per line as they come, or all in an array.",
            "content": { "application/x-ndjson": lines, "application/json": json_body },
        }));
    }
    if let Some(example) = example {
        json_body["example"] = example;
    }
    Some(json!({ "content": { "application/json": json_body } }))
}

fn answer(schemas: &mut Schemas<'_>, method: &Method, rule: &Rule) -> Value {
    let output = method.descriptor.output();
    let raw = match &rule.response {
        None => is_http_body(&output),
        Some(field) => field.kind().as_message().is_some_and(is_http_body),
    };
    let text = schemas.comment(&output).unwrap_or("The answer.").to_owned();
    if raw {
        return json!({ "description": text, "content": { "*/*": {} } });
    }
    let schema = match &rule.response {
        Some(field) => schemas.field(field),
        None => schemas.message(&output),
    };
    if !matches!(method.kind, Kind::ServerStream | Kind::Bidi) {
        let mut content = json!({ "schema": schema });
        if rule.response.is_none() {
            content["example"] = schemas.example_of(&output);
        }
        return json!({ "description": text, "content": { "application/json": content } });
    }
    let item = json!({ "schema": { "type": "string" }, "x-ringway-item": schema });
    json!({
        "description": format!("A stream. {text}"),
        "content": {
            "application/json": { "schema": { "type": "array", "items": schema } },
            "application/x-ndjson": item,
            "text/event-stream": item,
        },
    })
}
