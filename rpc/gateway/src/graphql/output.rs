//! From messages to what resolvers give.

use std::borrow::Cow;

use async_graphql::dynamic::FieldValue;
use async_graphql::{Error, ErrorExtensions as _, Name, Value as Plain};
use base64::Engine as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, Value};
use ringway_rpc::Status;

use super::types::{Shape, shape};

/// An entry of a map.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Plain,
    pub(super) value: Value,
    pub(super) kind: Kind,
}

/// A call's end as an error of its field.
pub(super) fn failed(status: &Status) -> Error {
    let text = if status.message.is_empty() {
        status.code.name()
    } else {
        &status.message
    };
    Error::new(text).extend_with(|_, extensions| {
        extensions.set("code", status.code.name());
        extensions.set("status", i32::from(status.code.to_wire()));
    })
}

/// A field of a message; `None` is null.
pub(super) fn field<'a>(
    message: &'a DynamicMessage,
    field: &FieldDescriptor,
) -> Result<Option<FieldValue<'a>>, Error> {
    if field.supports_presence() && !message.has_field(field) {
        return Ok(None);
    }
    match message.get_field(field) {
        Cow::Borrowed(value) => of(value, field).map(Some),
        // The default of its type: it holds nothing that could be borrowed.
        Cow::Owned(Value::List(_) | Value::Map(_)) => {
            Ok(Some(FieldValue::list(Vec::<FieldValue<'a>>::new())))
        }
        Cow::Owned(value) => plain(&value, &field.kind()).map(|it| Some(FieldValue::value(it))),
    }
}

fn of<'a>(value: &'a Value, field: &FieldDescriptor) -> Result<FieldValue<'a>, Error> {
    let kind = field.kind();
    match value {
        Value::List(items) => {
            let items = items.iter().map(|item| one(item, &kind));
            Ok(FieldValue::list(items.collect::<Result<Vec<_>, _>>()?))
        }
        Value::Map(entries) => {
            let Kind::Message(entry) = kind else {
                return Err(Error::new("the map is no map"));
            };
            let kind = entry.map_entry_value_field().kind();
            let mut entries: Vec<_> = entries.iter().collect();
            // In an order that does not change from answer to answer.
            entries.sort_by(|(one, _), (other, _)| order(one).cmp(&order(other)));
            let entries = entries.into_iter().map(|(key, value)| {
                FieldValue::owned_any(Entry {
                    key: key_of(key),
                    value: value.clone(),
                    kind: kind.clone(),
                })
            });
            Ok(FieldValue::list(entries))
        }
        single => one(single, &kind),
    }
}

/// One value: a message by reference, anything else as it is.
pub(super) fn one<'a>(value: &'a Value, kind: &Kind) -> Result<FieldValue<'a>, Error> {
    match (value, kind) {
        (Value::Message(message), Kind::Message(of)) if matches!(shape(of), Shape::Object) => {
            Ok(FieldValue::borrowed_any(message))
        }
        _ => plain(value, kind).map(FieldValue::value),
    }
}

fn order(key: &MapKey) -> (u64, &str) {
    match key {
        MapKey::String(text) => (0, text),
        MapKey::Bool(it) => (u64::from(*it), ""),
        MapKey::I32(it) => (i64::from(*it).cast_unsigned() ^ 1 << 63, ""),
        MapKey::I64(it) => (it.cast_unsigned() ^ 1 << 63, ""),
        MapKey::U32(it) => (u64::from(*it), ""),
        MapKey::U64(it) => (*it, ""),
    }
}

fn key_of(key: &MapKey) -> Plain {
    match key {
        MapKey::String(text) => Plain::from(&**text),
        MapKey::Bool(it) => Plain::from(*it),
        MapKey::I32(it) => Plain::from(*it),
        MapKey::U32(it) => Plain::from(*it),
        MapKey::I64(it) => Plain::from(it.to_string()),
        MapKey::U64(it) => Plain::from(it.to_string()),
    }
}

/// A value that is no object.
fn plain(value: &Value, kind: &Kind) -> Result<Plain, Error> {
    Ok(match (value, kind) {
        (Value::Bool(it), _) => Plain::from(*it),
        (Value::I32(it), _) => Plain::from(*it),
        (Value::U32(it), _) => Plain::from(*it),
        // 64 bits are more than numbers of JavaScript hold.
        (Value::I64(it), _) => Plain::from(it.to_string()),
        (Value::U64(it), _) => Plain::from(it.to_string()),
        (Value::F32(it), _) => float(f64::from(*it))?,
        (Value::F64(it), _) => float(*it)?,
        (Value::String(it), _) => Plain::from(&**it),
        (Value::Bytes(it), _) => Plain::from(base64::engine::general_purpose::STANDARD.encode(it)),
        (Value::EnumNumber(number), Kind::Enum(of)) => match of.get_value(*number) {
            Some(value) => Plain::Enum(Name::new(value.name())),
            None => {
                return Err(Error::new(format!(
                    "`{}` has no value {number}",
                    of.full_name()
                )));
            }
        },
        (Value::Message(message), _) => {
            let json =
                serde_json::to_value(message).map_err(|error| Error::new(error.to_string()))?;
            Plain::from_json(json).map_err(|error| Error::new(error.to_string()))?
        }
        _ => return Err(Error::new("the value is of another type")),
    })
}

fn float(value: f64) -> Result<Plain, Error> {
    if value.is_finite() {
        Ok(Plain::from(value))
    } else {
        Err(Error::new(format!("GraphQL has no word for {value}")))
    }
}
