//! PATCH without an update mask: the mask is what stands in the body.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value,
};

/// Sets `update_mask` of the request to the fields of the body, if it has such a field and nobody set it.
pub(super) fn fill(message: &mut DynamicMessage, field: &FieldDescriptor, body: &[u8]) {
    let descriptor = message.descriptor();
    let Some(mask) = descriptor.get_field_by_name("update_mask") else {
        return;
    };
    let Kind::Message(of) = mask.kind() else {
        return;
    };
    if of.full_name() != "google.protobuf.FieldMask" || mask.is_list() || message.has_field(&mask) {
        return;
    }
    let Kind::Message(resource) = field.kind() else {
        return;
    };
    // It was read before, so it is JSON.
    let json = serde_json::from_slice(body).unwrap_or_default();
    let mut paths = Vec::new();
    walk(&resource, &json, "", &mut paths);
    let paths = paths.into_iter().map(Value::String).collect();
    let mut value = DynamicMessage::new(of);
    if value
        .try_set_field_by_name("paths", Value::List(paths))
        .is_ok()
    {
        message.set_field(&mask, Value::Message(value));
    }
}

/// Goes down to fields that are no plain messages: lists, maps and well-known types are set as a whole.
fn walk(of: &MessageDescriptor, json: &serde_json::Value, prefix: &str, paths: &mut Vec<String>) {
    for (name, value) in json.as_object().into_iter().flatten() {
        let field = of
            .get_field_by_json_name(name)
            .or_else(|| of.get_field_by_name(name));
        let Some(field) = field else { continue };
        let path = format!("{prefix}{}", field.name());
        match field.kind() {
            Kind::Message(inner)
                if !field.is_list()
                    && !field.is_map()
                    && !inner.full_name().starts_with("google.protobuf.")
                    && value.as_object().is_some_and(|it| !it.is_empty()) =>
            {
                walk(&inner, value, &format!("{path}."), paths);
            }
            _ => paths.push(path),
        }
    }
}
