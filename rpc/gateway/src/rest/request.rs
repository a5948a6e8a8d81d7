//! From path, query and body to the bytes of a request message.

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use ringway_rpc::Status;

use super::value::{is_http_body, of_text};
use super::{Asked, mask};
use crate::body::Refusal;
use crate::config::JsonOptions;
use crate::host::media_type;
use crate::router::unescape_query;
use crate::schema::{Body, is_scalar_json};
use crate::status::bad_request;

/// Fields that a query's names may go down.
const DEPTH_MAX: usize = 32;
/// Parameters of a query.
const PARAMETERS_MAX: usize = 1000;

/// The request message, encoded.
pub(super) fn message(asked: &Asked, body: &Bytes) -> Result<Vec<u8>, Refusal> {
    Ok(build(asked, body)?.encode_to_vec())
}

fn build(asked: &Asked, body: &Bytes) -> Result<DynamicMessage, Refusal> {
    let input = asked.route.method.descriptor.input();
    let mut message = DynamicMessage::new(input.clone());
    let json = &asked.shared.config.json;
    match &asked.route.rule.body {
        Body::None => {}
        Body::Whole if is_http_body(&input) => message = raw(&input, asked, body),
        Body::Whole => {
            check_media_type(asked, body)?;
            if !body.is_empty() {
                message = read(&input, body, json)?;
            }
        }
        Body::Field(field) => body_field(asked, field, body, &mut message)?,
    }
    for (fields, text) in asked.route.rule.variables.iter().zip(&asked.captures) {
        let name = dotted(fields);
        set(&mut message, fields, text).map_err(|why| bad_request(&name, &why))?;
    }
    query(asked, &mut message)?;
    if asked.verb == http::Method::PATCH
        && let Body::Field(field) = &asked.route.rule.body
    {
        mask::fill(&mut message, field, body);
    }
    Ok(message)
}

/// Pages of other sites can send forms and text without asking; JSON they can't.
fn check_media_type(asked: &Asked, body: &Bytes) -> Result<(), Refusal> {
    let kind = media_type(&asked.headers);
    let is_json = kind.as_deref().is_none_or(|it| {
        it == "application/json"
            || it.ends_with("+json")
            || it.ends_with("ndjson")
            || it.ends_with("jsonl")
    });
    if is_json || body.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ringway_rpc::Code::InvalidArgument,
        "the body has to be JSON; say `content-type: application/json`",
    ))
}

fn raw(of: &MessageDescriptor, asked: &Asked, body: &Bytes) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    let kind = asked
        .headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|it| it.to_str().ok());
    let kind = Value::String(kind.unwrap_or_default().to_owned());
    // The fields are those of google's own definition; a program's own type of that name may lack them.
    let _other = message.try_set_field_by_name("content_type", kind);
    let _other = message.try_set_field_by_name("data", Value::Bytes(body.clone()));
    message
}

fn body_field(
    asked: &Asked,
    field: &FieldDescriptor,
    body: &Bytes,
    message: &mut DynamicMessage,
) -> Result<(), Refusal> {
    let single = if field.is_list() || field.is_map() {
        None
    } else {
        field.kind().as_message().cloned()
    };
    if let Some(of) = single.as_ref().filter(|of| is_http_body(of)) {
        message.set_field(field, Value::Message(raw(of, asked, body)));
        return Ok(());
    }
    check_media_type(asked, body)?;
    if body.is_empty() {
        return Ok(());
    }
    let json = &asked.shared.config.json;
    if let Some(of) = single {
        message.set_field(field, Value::Message(read(&of, body, json)?));
        return Ok(());
    }
    // Lists, maps and scalars have no message of their own: they are read as the only field of the whole one.
    let value: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    let whole = serde_json::json!({ field.json_name(): value });
    let options = DeserializeOptions::new().deny_unknown_fields(!json.ignore_unknown);
    let input = asked.route.method.descriptor.input();
    let whole = DynamicMessage::deserialize_with_options(input, whole, &options);
    let mut whole = whole.map_err(|error| malformed(&error))?;
    if let Some(value) = whole.take_field(field) {
        message.set_field(field, value);
    }
    Ok(())
}

/// A message from JSON.
pub(super) fn read(
    of: &MessageDescriptor,
    json: &[u8],
    options: &JsonOptions,
) -> Result<DynamicMessage, Status> {
    let options = DeserializeOptions::new().deny_unknown_fields(!options.ignore_unknown);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize_with_options(of.clone(), &mut reader, &options);
    let message = message.and_then(|message| reader.end().map(|()| message));
    message.map_err(|error| malformed(&error))
}

/// What is wrong with a body; names the field where that is known.
fn malformed(error: &serde_json::Error) -> Status {
    let text = error.to_string();
    let field = text.strip_prefix("unrecognized field name '");
    let field = field
        .and_then(|rest| rest.split('\'').next())
        .unwrap_or_default();
    bad_request(field, &text)
}

fn dotted(fields: &[FieldDescriptor]) -> String {
    let names: Vec<&str> = fields.iter().map(FieldDescriptor::name).collect();
    names.join(".")
}

/// Sets the last of `fields`, or adds to it if it is repeated. Another member of a oneof is not thrown out.
fn set(message: &mut DynamicMessage, fields: &[FieldDescriptor], text: &str) -> Result<(), String> {
    let Some((field, deeper)) = fields.split_first() else {
        return Ok(());
    };
    if let Some(oneof) = field.containing_oneof() {
        let other = oneof
            .fields()
            .find(|it| it != field && message.has_field(it));
        if let Some(other) = other {
            return Err(format!(
                "`{}` is set already, and only one of the two can be",
                other.name()
            ));
        }
    }
    if deeper.is_empty() {
        let value = of_text(field, text)?;
        match message.get_field_mut(field) {
            Value::List(list) => list.push(value),
            single => *single = value,
        }
        return Ok(());
    }
    match message.get_field_mut(field) {
        Value::Message(inner) => set(inner, deeper, text),
        _ => Err(format!("`{}` has no fields", field.name())),
    }
}

/// The query's parameters.
fn query(asked: &Asked, message: &mut DynamicMessage) -> Result<(), Status> {
    let parts = asked.query.split('&').filter(|it| !it.is_empty());
    let mut seen: Vec<Vec<FieldDescriptor>> = Vec::new();
    for (count, part) in parts.enumerate() {
        if count >= PARAMETERS_MAX {
            return Err(bad_request(
                "",
                &format!("the query has more than {PARAMETERS_MAX} parameters"),
            ));
        }
        let (name, text) = part.split_once('=').unwrap_or((part, ""));
        let escapes = |_malformed| bad_request("", "an escape in the query is malformed");
        let (name, text) = (
            unescape_query(name).map_err(escapes)?,
            unescape_query(text).map_err(escapes)?,
        );
        let input = asked.route.method.descriptor.input();
        let fields = match resolve(&input, &name)
            .and_then(|fields| may_stand(asked, &fields).map(|()| fields))
        {
            Ok(fields) => fields,
            Err(_unknown) if asked.shared.config.json.ignore_unknown => continue,
            Err(why) => return Err(bad_request(&name, &why)),
        };
        let is_list = fields.last().is_some_and(FieldDescriptor::is_list);
        if !is_list {
            if seen.contains(&fields) {
                return Err(bad_request(&name, "stands twice in the query"));
            }
            seen.push(fields.clone());
        }
        set(message, &fields, &text).map_err(|why| bad_request(&name, &why))?;
    }
    Ok(())
}

/// The fields of a dotted name: in the `.proto`'s spelling or in JSON's.
fn resolve(input: &MessageDescriptor, name: &str) -> Result<Vec<FieldDescriptor>, String> {
    let mut message = Some(input.clone());
    let mut fields = Vec::new();
    for part in name.split('.') {
        if fields.len() >= DEPTH_MAX {
            return Err(format!("goes down more than {DEPTH_MAX} fields"));
        }
        let of = message
            .take()
            .ok_or("a field within has no fields of its own")?;
        let field = of
            .get_field_by_name(part)
            .or_else(|| of.get_field_by_json_name(part));
        let field = field.ok_or("there is no such parameter")?;
        if field.is_map() {
            return Err("maps can't stand in a query".to_owned());
        }
        if let Kind::Message(inner) = field.kind()
            && !is_scalar_json(&inner)
        {
            if field.is_list() {
                return Err("repeated messages can't stand in a query".to_owned());
            }
            message = Some(inner);
        }
        fields.push(field);
    }
    if message.is_some() {
        return Err("is a message; name one of its fields".to_owned());
    }
    Ok(fields)
}

/// Path and body come first: what they say the query can't say again.
fn may_stand(asked: &Asked, fields: &[FieldDescriptor]) -> Result<(), String> {
    match &asked.route.rule.body {
        Body::Whole => {
            return Err("there is no such parameter; the body holds the whole message".to_owned());
        }
        Body::Field(field) if fields.first() == Some(field) => {
            return Err("is in the body".to_owned());
        }
        _ => {}
    }
    let is_bound = asked
        .route
        .rule
        .variables
        .iter()
        .any(|bound| bound == fields);
    if is_bound {
        Err("is in the path".to_owned())
    } else {
        Ok(())
    }
}
