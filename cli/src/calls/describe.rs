//! `ringway describe`: what a server's services and messages look like.

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    ReflectMessage as _, ServiceDescriptor,
};
use serde_json::{Value, json};

use super::args;
use super::form;
use super::names;
use super::proto_text::{self, Text};
use super::reflection::{self, MethodName, Reflection};
use super::remote::Remote;
use crate::failure::Failure;
use crate::output;

/// What was asked for.
enum Thing {
    All {
        services: Vec<ServiceDescriptor>,
        /// Services that only have names.
        bare: Vec<String>,
    },
    Service(ServiceDescriptor),
    Method(MethodDescriptor),
    Message(MessageDescriptor),
    Enum(EnumDescriptor),
}

/// Asks, and shows.
pub(crate) fn run(arguments: &args::Describe) -> Result<(), Failure> {
    let remote = Remote::new(&arguments.address, &arguments.reach)?;
    let mut reflection = Reflection::open(&remote, Some(arguments.timeout));
    let thing = match &arguments.name {
        None => all(&mut reflection)?,
        Some(name) => find(&mut reflection, name)?,
    };
    if arguments.json {
        let value = to_json(&thing);
        return output::line(format!("{value:#}"));
    }
    let text = to_text(&thing, &remote.address().to_string());
    output::line(text.trim_end())
}

fn all(reflection: &mut Reflection) -> Result<Thing, Failure> {
    let names = reflection.services()?;
    for name in &names {
        reflection.learn(name)?;
    }
    let pool = reflection.pool()?;
    let service = |name: &String| pool.get_service_by_name(name);
    let bare = names.iter().filter(|name| service(name).is_none());
    Ok(Thing::All {
        bare: bare.cloned().collect(),
        services: names.iter().filter_map(service).collect(),
    })
}

fn find(reflection: &mut Reflection, name: &str) -> Result<Thing, Failure> {
    let name = name.trim_start_matches('.');
    if name.contains('/') {
        return reflection.method(&MethodName::of(name)).map(Thing::Method);
    }
    if reflection.learn(name)? {
        let pool = reflection.pool()?;
        if let Some(thing) = named(&pool, name) {
            return Ok(thing);
        }
        // A field or an enum's value: what it stands in is the next larger thing.
        let outer = name
            .rsplit_once('.')
            .and_then(|(outer, _)| named(&pool, outer));
        if let Some(thing) = outer {
            return Ok(thing);
        }
    }
    let Thing::All { services, bare } = all(reflection)? else {
        return Err(Failure::Usage(format!("the server has no `{name}`")));
    };
    if bare.iter().any(|it| it == name) {
        let text = format!("the server has no descriptors of `{name}`");
        return Err(Failure::Usage(text));
    }
    let mut known: Vec<String> = bare;
    for service in &services {
        known.push(service.full_name().to_owned());
        for method in service.methods() {
            known.push(method.input().full_name().to_owned());
            known.push(method.output().full_name().to_owned());
        }
    }
    known.sort();
    known.dedup();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let hint = names::sentence(name, &known);
    Err(Failure::Usage(format!("the server has no `{name}`{hint}")))
}

fn named(pool: &DescriptorPool, name: &str) -> Option<Thing> {
    let method = || {
        let MethodName { service, method } = MethodName::of(name);
        let service = pool.get_service_by_name(&service)?;
        service.methods().find(|it| it.name() == method)
    };
    (pool.get_service_by_name(name).map(Thing::Service))
        .or_else(|| pool.get_message_by_name(name).map(Thing::Message))
        .or_else(|| pool.get_enum_by_name(name).map(Thing::Enum))
        .or_else(|| method().map(Thing::Method))
}

fn to_text(thing: &Thing, address: &str) -> String {
    let mut text = Text::default();
    match thing {
        Thing::All { services, bare } => {
            let each = services.iter().map(|service| {
                let mut text = Text::default();
                text.service(service);
                text.into_string()
            });
            let bare = bare.iter().map(|name| {
                format!("service {name}\n  (without descriptors; call it with --raw or --hex)\n")
            });
            return each.chain(bare).collect::<Vec<_>>().join("\n");
        }
        Thing::Service(service) => text.service(service),
        Thing::Message(message) => text.message(message),
        Thing::Enum(found) => text.enumeration(found),
        Thing::Method(method) => {
            text.method(method);
            let mut parts = vec![text.into_string()];
            let (input, output) = (method.input(), method.output());
            let mut messages = vec![input];
            if messages.iter().all(|it| *it != output) {
                messages.push(output);
            }
            for message in &messages {
                let mut text = Text::default();
                text.message(message);
                parts.push(text.into_string());
            }
            parts.push(example(method, address));
            return parts.join("\n");
        }
    }
    text.into_string()
}

/// A command that calls the method.
fn example(method: &MethodDescriptor, address: &str) -> String {
    let service = method.parent_service().full_name();
    let request = template(&method.input());
    format!(
        "ringway call {address} {service}/{} '{request}'\n",
        method.name()
    )
}

/// A message with every field, as JSON; of a group of alternatives the first.
fn template(message: &MessageDescriptor) -> String {
    let mut filled = DynamicMessage::new(message.clone());
    for oneof in message.oneofs() {
        if let Some(field) = oneof.fields().next() {
            let value = match field.kind() {
                Kind::Message(inner) => prost_reflect::Value::Message(DynamicMessage::new(inner)),
                _ => field.default_value(),
            };
            filled.set_field(&field, value);
        }
    }
    let text = form::to_json(&filled, true, false).unwrap_or_default();
    let mut text = String::from_utf8(text).unwrap_or_default();
    if filled.descriptor().oneofs().len() > 0 {
        // The alternatives that are not chosen would be refused beside the chosen one.
        let kept: Option<serde_json::Map<String, Value>> = serde_json::from_str(&text).ok();
        if let Some(mut kept) = kept {
            kept.retain(|name, value| {
                let field = message.get_field_by_json_name(name);
                let is_real = field.is_some_and(|it| it.containing_oneof().is_some());
                !(is_real && value.is_null())
            });
            text = Value::Object(kept).to_string();
        }
    }
    text
}

fn to_json(thing: &Thing) -> Value {
    match thing {
        Thing::All { services, bare } => {
            let bare = bare
                .iter()
                .map(|name| json!({"name": name, "descriptors": false}));
            let services = services.iter().map(service_json).chain(bare);
            json!({"services": services.collect::<Vec<_>>()})
        }
        Thing::Service(service) => service_json(service),
        Thing::Method(method) => {
            let mut value = method_json(method);
            let types = [
                ("input_message", message_json(&method.input())),
                ("output_message", message_json(&method.output())),
            ];
            if let Value::Object(fields) = &mut value {
                fields.extend(types.map(|(name, value)| (name.to_owned(), value)));
            }
            value
        }
        Thing::Message(message) => message_json(message),
        Thing::Enum(found) => {
            let values = found.values().map(|value| {
                json!({
                    "name": value.name(),
                    "number": value.number(),
                    "comment": proto_text::comment(&found.parent_file(), value.path()),
                })
            });
            json!({
                "name": found.full_name(),
                "comment": proto_text::comment(&found.parent_file(), found.path()),
                "values": values.collect::<Vec<_>>(),
            })
        }
    }
}

fn service_json(service: &ServiceDescriptor) -> Value {
    json!({
        "name": service.full_name(),
        "descriptors": true,
        "comment": proto_text::comment(&service.parent_file(), service.path()),
        "methods": service.methods().map(|it| method_json(&it)).collect::<Vec<_>>(),
    })
}

fn method_json(method: &MethodDescriptor) -> Value {
    let kind = reflection::kind(method);
    json!({
        "name": method.name(),
        "method": format!("{}/{}", method.parent_service().full_name(), method.name()),
        "comment": proto_text::comment(&method.parent_file(), method.path()),
        "client_streams": kind.client_streams(),
        "server_streams": kind.server_streams(),
        "idempotency": proto_text::idempotency(method),
        "input": method.input().full_name(),
        "output": method.output().full_name(),
    })
}

fn message_json(message: &MessageDescriptor) -> Value {
    let fields = message.fields().map(|field| {
        let oneof = field.containing_oneof().filter(|it| !it.is_synthetic());
        json!({
            "name": field.name(),
            "json": field.json_name(),
            "number": field.number(),
            "type": proto_text::kind_name(&field),
            "repeated": field.is_list(),
            "oneof": oneof.map(|it| it.name().to_owned()),
            "comment": proto_text::comment(&message.parent_file(), field.path()),
        })
    });
    json!({
        "name": message.full_name(),
        "comment": proto_text::comment(&message.parent_file(), message.path()),
        "fields": fields.collect::<Vec<_>>(),
    })
}
