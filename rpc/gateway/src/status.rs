//! Statuses as HTTP, JSON and gRPC tell them.

use http::{HeaderMap, HeaderValue, StatusCode};
use prost::Message as _;
use prost_reflect::prost_types::Any;
use prost_reflect::{DescriptorPool, DynamicMessage};
use ringway_rpc::{Code, Status};
use serde_json::{Value, json};

use base64::Engine as _;

use crate::metadata::BASE64;
use crate::schema::google;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    violations: Vec<Violation>,
}

/// A part of a request that can't be right.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Violation {
    /// Path of the field, or name of the parameter; empty for the whole body.
    #[prost(string, tag = "1")]
    pub(crate) field: String,
    #[prost(string, tag = "2")]
    pub(crate) description: String,
}

/// INVALID_ARGUMENT with `google.rpc.BadRequest`.
pub(crate) fn bad_request(field: &str, description: &str) -> Status {
    let message = if field.is_empty() {
        description.to_owned()
    } else {
        format!("`{field}`: {description}")
    };
    let violation = Violation {
        field: field.to_owned(),
        description: description.to_owned(),
    };
    let details = RpcStatus {
        code: i32::from(Code::InvalidArgument.to_wire()),
        message: message.clone(),
        details: vec![Any {
            type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(),
            value: BadRequest {
                violations: vec![violation],
            }
            .encode_to_vec(),
        }],
    };
    Status::new(Code::InvalidArgument, &message)
        .with_details(details.encode_to_vec())
        .not_started()
}

/// The HTTP status of a code, as grpc-gateway and google's own front ends have it.
pub(crate) fn http(code: Code) -> StatusCode {
    let number = match code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Cancelled => 499,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    };
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A status as `google.rpc.Status` in JSON.
pub(crate) fn to_json(status: &Status, pool: &DescriptorPool) -> Value {
    let details = status
        .details
        .as_deref()
        .and_then(|it| RpcStatus::decode(it).ok());
    let details = details.unwrap_or_default().details;
    let details: Vec<Value> = details.iter().map(|any| any_to_json(any, pool)).collect();
    json!({
        "code": status.code.to_wire(),
        "message": status.message,
        "details": details,
    })
}

fn any_to_json(any: &Any, pool: &DescriptorPool) -> Value {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let known = pool
        .get_message_by_name(name)
        .or_else(|| google().get_message_by_name(name));
    let message = known.and_then(|it| DynamicMessage::decode(it, &*any.value).ok());
    let json = message.and_then(|it| serde_json::to_value(&it).ok());
    let mut object = serde_json::Map::new();
    object.insert("@type".to_owned(), Value::from(&*any.type_url));
    match json {
        Some(Value::Object(fields)) => object.extend(fields),
        // A well-known type that is no object in JSON.
        Some(value) => drop(object.insert("value".to_owned(), value)),
        // Nobody here knows the type: its bytes.
        None => drop(object.insert("value".to_owned(), Value::from(BASE64.encode(&any.value)))),
    }
    Value::Object(object)
}

/// Adds a status to gRPC's trailers.
pub(crate) fn to_trailers(status: &Status, trailers: &mut HeaderMap) {
    trailers.insert("grpc-status", HeaderValue::from(status.code.to_wire()));
    if !status.message.is_empty()
        && let Ok(text) = HeaderValue::from_str(&percent(&status.message))
    {
        trailers.insert("grpc-message", text);
    }
    if let Some(details) = &status.details
        && let Ok(text) = HeaderValue::from_str(&BASE64.encode(details))
    {
        trailers.insert("grpc-status-details-bin", text);
    }
}

/// The message of a status as gRPC escapes it: all but printable ASCII, and the percent sign.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_http_status() {
        let table = [
            (Code::Ok, 200),
            (Code::Cancelled, 499),
            (Code::Unknown, 500),
            (Code::InvalidArgument, 400),
            (Code::DeadlineExceeded, 504),
            (Code::NotFound, 404),
            (Code::AlreadyExists, 409),
            (Code::PermissionDenied, 403),
            (Code::ResourceExhausted, 429),
            (Code::FailedPrecondition, 400),
            (Code::Aborted, 409),
            (Code::OutOfRange, 400),
            (Code::Unimplemented, 501),
            (Code::Internal, 500),
            (Code::Unavailable, 503),
            (Code::DataLoss, 500),
            (Code::Unauthenticated, 401),
        ];
        assert_eq!(table.len(), Code::ALL.len());
        for (code, number) in table {
            assert_eq!(http(code).as_u16(), number, "{code}");
        }
    }

    #[test]
    fn messages_are_escaped_as_grpc_wants() {
        assert_eq!(percent("a%b \u{e9}\r\n"), "a%25b %C3%A9%0D%0A");
    }

    #[test]
    fn bad_requests_name_their_field_in_json() {
        let json = to_json(&bad_request("user.age", "is no number"), google());
        assert_eq!(json["code"], 3);
        let detail = &json["details"][0];
        assert_eq!(detail["@type"], "type.googleapis.com/google.rpc.BadRequest");
        assert_eq!(detail["fieldViolations"][0]["field"], "user.age");
    }
}
