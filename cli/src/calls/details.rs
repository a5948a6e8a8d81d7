//! Details of a status: a `google.rpc.Status`, for people.

use prost::Message as _;
use prost_reflect::prost_types::Any;
use prost_reflect::{DescriptorPool, DynamicMessage};

use super::form;

#[derive(Clone, PartialEq, prost::Message)]
struct Details {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// What the details say: JSON for google's own types, else name and bytes.
pub(crate) fn details(bytes: &[u8]) -> String {
    let Ok(Details { details }) = Details::decode(bytes) else {
        return form::to_hex(bytes);
    };
    let shown: Vec<String> = details.iter().map(one).collect();
    shown.join(", ")
}

fn one(any: &Any) -> String {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let json = || {
        let descriptor = DescriptorPool::global().get_message_by_name(name)?;
        let message = DynamicMessage::decode(descriptor, &*any.value).ok()?;
        String::from_utf8(form::to_json(&message, false, false).ok()?).ok()
    };
    let value = json().unwrap_or_else(|| form::to_hex(&any.value));
    format!("{name} {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_shown_as_far_as_they_are_known() {
        let any = |name: &str, value: &[u8]| Any {
            type_url: format!("type.googleapis.com/{name}"),
            value: value.to_vec(),
        };
        let known = any("google.protobuf.StringValue", &[10, 2, b'h', b'i']);
        let foreign = any("shop.Reason", &[8, 7]);
        let all = Details {
            details: vec![known, foreign],
        };
        assert_eq!(
            details(&all.encode_to_vec()),
            "google.protobuf.StringValue \"hi\", shop.Reason 0807"
        );
        assert_eq!(details(&[0xFF]), "ff");
    }
}
