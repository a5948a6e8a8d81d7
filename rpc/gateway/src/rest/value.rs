//! Values that stand as text in paths and queries.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde::de::DeserializeSeed as _;

use crate::metadata::BASE64;
use crate::schema::is_scalar_json;

const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether messages of this type are bytes with a media type, not JSON.
pub(crate) fn is_http_body(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.api.HttpBody"
}

/// One value of a field, read from text. Of a repeated field: one element.
pub(super) fn of_text(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    fn number<T: core::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
        text.parse()
            .map_err(|_error| format!("`{text}` is no {what}"))
    }
    Ok(match field.kind() {
        Kind::Bool => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err(format!("`{text}` is neither true nor false")),
        },
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number(text, "32-bit number")?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number(text, "64-bit number")?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number(text, "unsigned 32-bit number")?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number(text, "unsigned 64-bit number")?),
        Kind::Float => Value::F32(float(text)?),
        Kind::Double => Value::F64(float(text)?),
        Kind::String => Value::String(text.to_owned()),
        Kind::Bytes => {
            let bytes = BASE64_URL
                .decode(text)
                .or_else(|_error| BASE64.decode(text));
            Value::Bytes(bytes.map_err(|_error| "it is no base64".to_owned())?.into())
        }
        Kind::Enum(of) => {
            let by_name = of.get_value_by_name(text).map(|it| it.number());
            let number = by_name.or_else(|| text.parse().ok());
            Value::EnumNumber(
                number.ok_or_else(|| format!("`{}` has no value `{text}`", of.full_name()))?,
            )
        }
        Kind::Message(of) if is_scalar_json(&of) => Value::Message(scalar_message(of, text)?),
        Kind::Message(of) => {
            return Err(format!(
                "it is a message of type `{}`; name one of its fields",
                of.full_name()
            ));
        }
    })
}

fn float<T: core::str::FromStr>(text: &str) -> Result<T, String> {
    let is_plain = text
        .bytes()
        .all(|it| it.is_ascii_digit() || b"+-.eE".contains(&it));
    let is_special = matches!(text, "NaN" | "Infinity" | "-Infinity");
    let parsed = if is_plain || is_special {
        text.parse().ok()
    } else {
        None
    };
    parsed.ok_or_else(|| format!("`{text}` is no number"))
}

/// Timestamps, durations, masks and wrappers, by their form in JSON.
fn scalar_message(of: MessageDescriptor, text: &str) -> Result<DynamicMessage, String> {
    let name = of.full_name().to_owned();
    let json = match &*name {
        "google.protobuf.BoolValue" => match text {
            "true" => serde_json::Value::Bool(true),
            "false" => serde_json::Value::Bool(false),
            _ => return Err(format!("`{text}` is neither true nor false")),
        },
        _ => serde_json::Value::from(text),
    };
    of.deserialize(json)
        .map_err(|error| format!("`{text}` is no {name}: {error}"))
}
