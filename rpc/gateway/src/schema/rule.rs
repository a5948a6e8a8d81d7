//! The rules of `google.api.http`, read from a method's options and checked against its messages.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value,
};

use crate::error::SchemaError;
use crate::router::{Template, Variable};

/// What an HTTP request has to be made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Any method.
    Any,
    /// This one, in capitals.
    One(String),
}

/// Which part of the request message the body is.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// There is no body: what is not in the path is in the query.
    None,
    /// The whole message; there is no query.
    Whole,
    /// One field; the rest is in the query.
    Field(FieldDescriptor),
}

/// One HTTP binding of a method.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) verb: Verb,
    pub(crate) template: Template,
    /// The field of each variable of the template, from the message downwards.
    pub(crate) variables: Vec<Vec<FieldDescriptor>>,
    pub(crate) body: Body,
    /// The answer's field that is the response body; the whole answer if none.
    pub(crate) response: Option<FieldDescriptor>,
}

impl Rule {
    /// `POST /package.Service/Method`, for methods without a rule.
    pub(super) fn unannotated(name: &str) -> Result<Self, SchemaError> {
        let template = Template::parse(&format!("/{name}")).map_err(|text| SchemaError::Rule {
            method: name.to_owned(),
            text,
        })?;
        Ok(Self {
            verb: Verb::One("POST".to_owned()),
            template,
            variables: Vec::new(),
            body: Body::Whole,
            response: None,
        })
    }
}

/// The bindings of a method; empty without a rule.
pub(super) fn of(name: &str, method: &MethodDescriptor) -> Result<Vec<Rule>, SchemaError> {
    let pool = method.parent_service().parent_pool().clone();
    let Some(extension) = pool.get_extension_by_name("google.api.http") else {
        return Ok(Vec::new());
    };
    let options = method.options();
    if !options.has_extension(&extension) {
        return Ok(Vec::new());
    }
    let value = options.get_extension(&extension);
    let Some(primary) = value.as_message() else {
        return Ok(Vec::new());
    };
    let wrong = |text: String| SchemaError::Rule {
        method: name.to_owned(),
        text,
    };
    let mut rules = vec![read(primary, method).map_err(wrong)?];
    let more = primary.get_field_by_name("additional_bindings");
    for each in more.iter().filter_map(|it| it.as_list()).flatten() {
        let Some(each) = each.as_message() else {
            continue;
        };
        let nested = each.get_field_by_name("additional_bindings");
        if nested.is_some_and(|it| it.as_list().is_some_and(|it| !it.is_empty())) {
            return Err(wrong(
                "an additional binding has further ones; list all at the first".to_owned(),
            ));
        }
        rules.push(read(each, method).map_err(wrong)?);
    }
    Ok(rules)
}

fn text(rule: &DynamicMessage, field: &str) -> String {
    let value = rule.get_field_by_name(field);
    value
        .and_then(|it| it.as_str().map(ToOwned::to_owned))
        .unwrap_or_default()
}

fn read(rule: &DynamicMessage, method: &MethodDescriptor) -> Result<Rule, String> {
    let (verb, path) = pattern(rule)?;
    let template = Template::parse(&path).map_err(|why| format!("`{path}`: {why}"))?;
    let input = method.input();
    let variables = template
        .variables()
        .iter()
        .map(|variable| bound(variable, &input))
        .collect::<Result<Vec<_>, _>>()?;
    let body = match &*text(rule, "body") {
        "" => Body::None,
        "*" => Body::Whole,
        name => Body::Field(top(name, &input, "body")?),
    };
    let response = match &*text(rule, "response_body") {
        "" => None,
        name => Some(top(name, &method.output(), "response_body")?),
    };
    Ok(Rule {
        verb,
        template,
        variables,
        body,
        response,
    })
}

fn pattern(rule: &DynamicMessage) -> Result<(Verb, String), String> {
    for verb in ["get", "put", "post", "delete", "patch"] {
        if rule.has_field_by_name(verb) {
            return Ok((Verb::One(verb.to_ascii_uppercase()), text(rule, verb)));
        }
    }
    let custom = rule.get_field_by_name("custom");
    let custom = custom.filter(|_| rule.has_field_by_name("custom"));
    let Some(custom) = custom.as_deref().and_then(Value::as_message) else {
        return Err(
            "it names no pattern; give it one of get, put, post, delete, patch, custom".to_owned(),
        );
    };
    let kind = text(custom, "kind");
    let is_token = |kind: &str| {
        !kind.is_empty()
            && kind
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it))
    };
    let verb = match &*kind {
        "*" => Verb::Any,
        kind if is_token(kind) => Verb::One(kind.to_ascii_uppercase()),
        kind => return Err(format!("`{kind}` is no HTTP method")),
    };
    Ok((verb, text(custom, "path")))
}

fn top(name: &str, message: &MessageDescriptor, what: &str) -> Result<FieldDescriptor, String> {
    message.get_field_by_name(name).ok_or_else(|| {
        format!(
            "`{what}: \"{name}\"`: `{}` has no such field",
            message.full_name()
        )
    })
}

/// The fields of a variable's path; the last one takes one value.
fn bound(variable: &Variable, input: &MessageDescriptor) -> Result<Vec<FieldDescriptor>, String> {
    let path = &variable.path;
    let mut message = input.clone();
    let mut fields: Vec<FieldDescriptor> = Vec::new();
    for (at, name) in path.iter().enumerate() {
        let field = message.get_field_by_name(name).ok_or_else(|| {
            format!(
                "`{{{}}}`: `{}` has no field `{name}`",
                path.join("."),
                message.full_name()
            )
        })?;
        let is_last = at + 1 == path.len();
        match field.kind() {
            _ if field.is_list() || field.is_map() => {
                return Err(format!(
                    "`{{{}}}`: `{name}` is repeated; a path takes one value",
                    path.join(".")
                ));
            }
            Kind::Message(inner) if !is_last => message = inner,
            Kind::Message(inner) if !is_scalar_json(&inner) => {
                return Err(format!(
                    "`{{{}}}`: `{name}` is a message; name one of its fields",
                    path.join(".")
                ));
            }
            _ if !is_last => {
                return Err(format!("`{{{}}}`: `{name}` has no fields", path.join(".")));
            }
            _ => {}
        }
        fields.push(field);
    }
    Ok(fields)
}

/// Messages that are one value in JSON, and so can stand in paths and queries.
pub(crate) fn is_scalar_json(message: &MessageDescriptor) -> bool {
    matches!(
        message.full_name(),
        "google.protobuf.Timestamp"
            | "google.protobuf.Duration"
            | "google.protobuf.FieldMask"
            | "google.protobuf.DoubleValue"
            | "google.protobuf.FloatValue"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.Int32Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.BoolValue"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue"
    )
}
