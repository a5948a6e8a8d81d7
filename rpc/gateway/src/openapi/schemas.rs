//! Messages and enums as JSON schemas, and an example of each.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::config::JsonOptions;
use crate::schema::Schema;

/// Name of the schema of errors.
pub(super) const STATUS: &str = "google.rpc.Status";
/// Messages within messages that an example shows.
const EXAMPLE_DEPTH: usize = 4;

/// The schemas that the operations need.
pub(super) struct Schemas<'a> {
    schema: &'a Schema,
    options: &'a JsonOptions,
    done: BTreeMap<String, Value>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(schema: &'a Schema, options: &'a JsonOptions) -> Self {
        let mut done = BTreeMap::new();
        let any = json!({
            "type": "object",
            "properties": { "@type": { "type": "string" } },
            "required": ["@type"],
            "additionalProperties": true,
        });
        let status = json!({
            "type": "object",
            "description": "Why a request failed.",
            "properties": {
                "code": { "type": "integer", "format": "int32", "description": "A status code as gRPC counts them." },
                "message": { "type": "string" },
                "details": { "type": "array", "items": any },
            },
        });
        done.insert(STATUS.to_owned(), status);
        Self {
            schema,
            options,
            done,
        }
    }

    pub(super) fn comment(&self, of: &MessageDescriptor) -> Option<&'a str> {
        self.schema.comments().at(&of.parent_file(), of.path())
    }

    pub(super) fn field_comment(&self, field: &FieldDescriptor) -> Option<&'a str> {
        let file = field.parent_message().parent_file();
        self.schema.comments().at(&file, field.path())
    }

    pub(super) fn name<'f>(&self, field: &'f FieldDescriptor) -> &'f str {
        if self.options.proto_names {
            field.name()
        } else {
            field.json_name()
        }
    }

    /// All that were asked for, by name.
    pub(super) fn finish(self) -> Value {
        Value::Object(self.done.into_iter().collect())
    }

    /// A message, by reference where it has a name of its own.
    pub(super) fn message(&mut self, of: &MessageDescriptor) -> Value {
        if let Some(known) = well_known(of) {
            return known;
        }
        let name = of.full_name().to_owned();
        if !self.done.contains_key(&name) {
            // First, so that a message within itself finds it.
            self.done.insert(name.clone(), Value::Null);
            let object = self.object(of);
            self.done.insert(name.clone(), object);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    fn object(&mut self, of: &MessageDescriptor) -> Value {
        let mut properties = Map::new();
        for field in of.fields() {
            let mut schema = self.field(&field);
            if let (Some(text), Some(object)) = (self.field_comment(&field), schema.as_object_mut())
            {
                object.insert("description".to_owned(), text.into());
            }
            properties.insert(self.name(&field).to_owned(), schema);
        }
        let mut object = json!({ "type": "object", "properties": properties });
        let mut notes: Vec<String> = self
            .comment(of)
            .map(ToOwned::to_owned)
            .into_iter()
            .collect();
        let mut exclusive = Vec::new();
        for oneof in of.oneofs().filter(|it| !it.is_synthetic()) {
            let names: Vec<String> = oneof.fields().map(|it| self.name(&it).to_owned()).collect();
            notes.push(format!("At most one of: {}.", names.join(", ")));
            for (at, one) in names.iter().enumerate() {
                for other in names.iter().skip(at + 1) {
                    exclusive.push(json!({ "required": [one, other] }));
                }
            }
        }
        if !exclusive.is_empty() {
            object["not"] = json!({ "anyOf": exclusive });
        }
        if !notes.is_empty() {
            object["description"] = notes.join("\n\n").into();
        }
        object
    }

    fn enumeration(&mut self, of: &EnumDescriptor) -> Value {
        if of.full_name() == "google.protobuf.NullValue" {
            return json!({ "type": "null" });
        }
        let name = of.full_name().to_owned();
        if !self.done.contains_key(&name) {
            let comments = self.schema.comments();
            let mut schema = if self.options.enum_numbers {
                let numbers: Vec<i32> = of.values().map(|it| it.number()).collect();
                json!({ "type": "integer", "enum": numbers })
            } else {
                let names: Vec<String> = of.values().map(|it| it.name().to_owned()).collect();
                json!({ "type": "string", "enum": names })
            };
            let mut notes: Vec<String> = Vec::new();
            notes.extend(
                comments
                    .at(&of.parent_file(), of.path())
                    .map(ToOwned::to_owned),
            );
            for value in of.values() {
                if let Some(text) = comments.at(&of.parent_file(), value.path()) {
                    notes.push(format!("{}: {text}", value.name()));
                }
            }
            if !notes.is_empty() {
                schema["description"] = notes.join("\n\n").into();
            }
            self.done.insert(name.clone(), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// A field with its repetition.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Value {
        if let Kind::Message(entry) = field.kind()
            && field.is_map()
        {
            let value = self.kind(&entry.map_entry_value_field().kind());
            return json!({ "type": "object", "additionalProperties": value });
        }
        let one = self.kind(&field.kind());
        if field.is_list() {
            json!({ "type": "array", "items": one })
        } else {
            one
        }
    }

    /// One value.
    pub(super) fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Message(of) => self.message(of),
            Kind::Enum(of) => self.enumeration(of),
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Double => json!({ "type": "number", "format": "double" }),
            Kind::Float => json!({ "type": "number", "format": "float" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "format": "int32" })
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": u32::MAX })
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "format": "int64" })
            }
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "format": "uint64" }),
        }
    }

    /// A message as it may look.
    pub(super) fn example(&self, of: &MessageDescriptor, depth: usize) -> Value {
        match of.full_name() {
            "google.protobuf.Timestamp" => return json!("2024-01-02T03:04:05Z"),
            "google.protobuf.Duration" => return json!("1.5s"),
            "google.protobuf.FieldMask" => return json!("name"),
            "google.protobuf.Any" => {
                return json!({ "@type": "type.googleapis.com/google.protobuf.Empty", "value": {} });
            }
            "google.protobuf.ListValue" => return json!([]),
            "google.protobuf.Value" => return Value::Null,
            name if name.starts_with("google.protobuf.") && name.ends_with("Value") => {
                let inner = of.get_field_by_name("value");
                return inner.map_or(Value::Null, |it| self.example_kind(&it.kind(), depth));
            }
            _ => {}
        }
        let mut object = Map::new();
        let mut oneofs: Vec<String> = Vec::new();
        for field in of.fields() {
            if let Some(oneof) = field.containing_oneof().filter(|it| !it.is_synthetic()) {
                // The first member stands for all.
                if oneofs.iter().any(|it| it == oneof.name()) {
                    continue;
                }
                oneofs.push(oneof.name().to_owned());
            }
            if depth == 0 && matches!(field.kind(), Kind::Message(_)) {
                continue;
            }
            let value = match field.kind() {
                Kind::Message(entry) if field.is_map() => {
                    let value = entry.map_entry_value_field().kind();
                    let key = match entry.map_entry_key_field().kind() {
                        Kind::String => "key",
                        Kind::Bool => "true",
                        _ => "1",
                    };
                    json!({ key: self.example_kind(&value, depth.saturating_sub(1)) })
                }
                kind => self.example_kind(&kind, depth.saturating_sub(1)),
            };
            let value = if field.is_list() {
                json!([value])
            } else {
                value
            };
            object.insert(self.name(&field).to_owned(), value);
        }
        Value::Object(object)
    }

    fn example_kind(&self, kind: &Kind, depth: usize) -> Value {
        match kind {
            Kind::Message(of) => self.example(of, depth),
            Kind::Enum(of) => {
                let value = of.values().nth(1).unwrap_or_else(|| of.default_value());
                if self.options.enum_numbers {
                    json!(value.number())
                } else {
                    json!(value.name())
                }
            }
            Kind::Bool => json!(true),
            Kind::String => json!("text"),
            Kind::Bytes => json!("Ynl0ZXM="),
            Kind::Double | Kind::Float => json!(1.5),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => {
                json!("1")
            }
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => json!(1),
        }
    }

    /// The example of a body.
    pub(super) fn example_of(&self, of: &MessageDescriptor) -> Value {
        self.example(of, EXAMPLE_DEPTH)
    }
}

/// Types with a JSON form of their own.
fn well_known(of: &MessageDescriptor) -> Option<Value> {
    let name = of.full_name().strip_prefix("google.protobuf.")?;
    Some(match name {
        "Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "Duration" => json!({ "type": "string", "pattern": r"^-?\d+(\.\d{1,9})?s$" }),
        "FieldMask" => {
            json!({ "type": "string", "description": "Paths of fields, separated by commas." })
        }
        "Struct" => json!({ "type": "object", "additionalProperties": true }),
        "ListValue" => json!({ "type": "array", "items": {} }),
        "Value" => json!({}),
        "Empty" => json!({ "type": "object" }),
        "Any" => json!({
            "type": "object",
            "properties": { "@type": { "type": "string" } },
            "required": ["@type"],
            "additionalProperties": true,
        }),
        "BoolValue" => json!({ "type": ["boolean", "null"] }),
        "StringValue" => json!({ "type": ["string", "null"] }),
        "BytesValue" => json!({ "type": ["string", "null"], "contentEncoding": "base64" }),
        "DoubleValue" | "FloatValue" => json!({ "type": ["number", "null"] }),
        "Int32Value" | "UInt32Value" => json!({ "type": ["integer", "null"] }),
        "Int64Value" | "UInt64Value" => json!({ "type": ["string", "null"] }),
        _ => return None,
    })
}
