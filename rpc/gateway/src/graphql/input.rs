//! From arguments to messages, by way of JSON.

use async_graphql::Value as Plain;
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::types::{Shape, camel, shape};

/// The bytes of a message that an argument holds.
pub(super) fn message(of: &MessageDescriptor, argument: Option<&Plain>) -> Result<Vec<u8>, String> {
    let json = match argument {
        None | Some(Plain::Null) => Value::Object(Map::new()),
        Some(argument) => object(of, argument)?,
    };
    let options = prost_reflect::DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(of.clone(), json, &options);
    Ok(message.map_err(|error| error.to_string())?.encode_to_vec())
}

fn object(of: &MessageDescriptor, argument: &Plain) -> Result<Value, String> {
    let Plain::Object(fields) = argument else {
        return Err(format!("`{}` is an object", of.full_name()));
    };
    let mut json = Map::new();
    for (name, value) in fields
        .iter()
        .filter(|(_, value)| !matches!(value, Plain::Null))
    {
        if let Some(field) = of.get_field_by_json_name(name) {
            json.insert(name.to_string(), of_field(&field, value)?);
            continue;
        }
        let oneof = of.oneofs().find(|it| camel(it.name()) == name.as_str());
        let members = match (&oneof, value) {
            (Some(_), Plain::Object(members)) => members,
            // `_` stands in for no field at all.
            _ if name.as_str() == "_" => continue,
            _ => return Err(format!("`{}` has no field `{name}`", of.full_name())),
        };
        for (name, value) in members {
            let field = of.get_field_by_json_name(name);
            let field =
                field.ok_or_else(|| format!("`{}` has no field `{name}`", of.full_name()))?;
            json.insert(name.to_string(), of_field(&field, value)?);
        }
    }
    Ok(Value::Object(json))
}

fn of_field(field: &FieldDescriptor, value: &Plain) -> Result<Value, String> {
    let kind = field.kind();
    let Plain::List(items) = value else {
        return of_kind(&kind, value);
    };
    let entry = match &kind {
        Kind::Message(entry) if field.is_map() => entry,
        _ => {
            let items = items.iter().map(|item| of_kind(&kind, item));
            return Ok(Value::Array(items.collect::<Result<_, _>>()?));
        }
    };
    let value_kind = entry.map_entry_value_field().kind();
    let mut map = Map::new();
    for item in items {
        let Plain::Object(entry) = item else {
            return Err(format!("`{}` is a list of entries", field.name()));
        };
        let key = match entry.get("key") {
            Some(Plain::String(key)) => key.clone(),
            Some(key) => key.to_string(),
            None => return Err("an entry has no key".to_owned()),
        };
        let value = entry.get("value").unwrap_or(&Plain::Null);
        if map
            .insert(key.clone(), of_kind(&value_kind, value)?)
            .is_some()
        {
            return Err(format!("the key `{key}` stands twice"));
        }
    }
    Ok(Value::Object(map))
}

fn of_kind(kind: &Kind, value: &Plain) -> Result<Value, String> {
    match kind {
        Kind::Message(of) if matches!(shape(of), Shape::Object) => object(of, value),
        _ => value.clone().into_json().map_err(|error| error.to_string()),
    }
}
