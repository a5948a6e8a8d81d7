//! The schema: messages as object and input types, methods as root fields.

use std::collections::{BTreeSet, HashMap};

use async_graphql::Error;
use async_graphql::dynamic::{
    Enum, EnumItem, Field, FieldFuture, FieldValue, InputObject, InputValue, Object,
    ResolverContext, Scalar, Schema as Executable, SchemaBuilder, Subscription, SubscriptionField,
    SubscriptionFieldFuture, TypeRef,
};
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind as FieldKind, MessageDescriptor,
};
use ringway_rpc::Kind;

use super::calls::{Calls, Common};
use super::input;
use super::output::{self, Entry, failed};
use crate::error::SchemaError;
use crate::schema::{Method, Schema};

/// The answer's message of each root field, for the measuring of documents.
pub(super) type Roots = HashMap<String, MessageDescriptor>;

/// Number of that idempotency level.
const NO_SIDE_EFFECTS: i32 = 1;

const SCALARS: [(&str, &str); 8] = [
    ("Int64", "A whole number of 64 bits, as a string."),
    (
        "UInt64",
        "A whole number of 64 bits that is not negative, as a string.",
    ),
    ("UInt32", "A whole number of 32 bits that is not negative."),
    ("Base64", "Bytes."),
    ("Timestamp", "A point in time, as 2024-01-02T03:04:05Z."),
    ("Duration", "A span of time in seconds, as 1.5s."),
    ("FieldMask", "Paths of fields, separated by commas."),
    ("JSON", "Any JSON."),
];

/// How a message looks in GraphQL.
pub(super) enum Shape {
    Object,
    /// A scalar of this name.
    Scalar(&'static str),
}

pub(super) fn shape(of: &MessageDescriptor) -> Shape {
    let Some(name) = of.full_name().strip_prefix("google.protobuf.") else {
        return Shape::Object;
    };
    Shape::Scalar(match name {
        "Timestamp" => "Timestamp",
        "Duration" => "Duration",
        "FieldMask" => "FieldMask",
        "DoubleValue" | "FloatValue" => TypeRef::FLOAT,
        "Int64Value" => "Int64",
        "UInt64Value" => "UInt64",
        "Int32Value" => TypeRef::INT,
        "UInt32Value" => "UInt32",
        "BoolValue" => TypeRef::BOOLEAN,
        "StringValue" => TypeRef::STRING,
        "BytesValue" => "Base64",
        "Any" | "Struct" | "Value" | "ListValue" => "JSON",
        _ => return Shape::Object,
    })
}

/// `snake_case` and `CamelCase` as `lowerCamelCase`.
pub(super) fn camel(name: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for (at, letter) in name.chars().enumerate() {
        if letter == '_' {
            upper = true;
        } else if upper {
            out.extend(letter.to_uppercase());
            upper = false;
        } else if at == 0 {
            out.extend(letter.to_lowercase());
        } else {
            out.push(letter);
        }
    }
    out
}

fn type_name(full: &str) -> String {
    full.replace('.', "_")
}

struct Types<'a> {
    schema: &'a Schema,
    builder: Option<SchemaBuilder>,
    done: BTreeSet<String>,
}

impl Types<'_> {
    fn register(&mut self, it: impl Into<async_graphql::dynamic::Type>) {
        self.builder = self.builder.take().map(|builder| builder.register(it));
    }

    fn is_new(&mut self, name: &str) -> bool {
        self.done.insert(name.to_owned())
    }

    fn comment(&self, file: &prost_reflect::FileDescriptor, path: &[i32]) -> Option<String> {
        self.schema.comments().at(file, path).map(ToOwned::to_owned)
    }

    fn field_comment(&self, field: &FieldDescriptor) -> Option<String> {
        self.comment(&field.parent_message().parent_file(), field.path())
    }

    /// Name of the type of one value; registers what it needs.
    fn name(&mut self, kind: &FieldKind, is_input: bool) -> String {
        match kind {
            FieldKind::Double | FieldKind::Float => TypeRef::FLOAT.to_owned(),
            FieldKind::Int32 | FieldKind::Sint32 | FieldKind::Sfixed32 => TypeRef::INT.to_owned(),
            FieldKind::Uint32 | FieldKind::Fixed32 => "UInt32".to_owned(),
            FieldKind::Int64 | FieldKind::Sint64 | FieldKind::Sfixed64 => "Int64".to_owned(),
            FieldKind::Uint64 | FieldKind::Fixed64 => "UInt64".to_owned(),
            FieldKind::Bool => TypeRef::BOOLEAN.to_owned(),
            FieldKind::String => TypeRef::STRING.to_owned(),
            FieldKind::Bytes => "Base64".to_owned(),
            FieldKind::Enum(of) => self.enumeration(of),
            FieldKind::Message(of) => match shape(of) {
                Shape::Scalar(name) => name.to_owned(),
                Shape::Object if is_input => self.input(of),
                Shape::Object => self.object(of),
            },
        }
    }

    fn enumeration(&mut self, of: &EnumDescriptor) -> String {
        if of.full_name() == "google.protobuf.NullValue" {
            return "JSON".to_owned();
        }
        let name = type_name(of.full_name());
        if self.is_new(&name) {
            let file = of.parent_file();
            let mut enumeration = described(
                Enum::new(&name),
                self.comment(&file, of.path()),
                Enum::description,
            );
            let mut numbers = BTreeSet::new();
            for value in of.values() {
                // Of aliases the first name: answers know no other.
                if numbers.insert(value.number()) {
                    let item = EnumItem::new(value.name());
                    enumeration = enumeration.item(described(
                        item,
                        self.comment(&file, value.path()),
                        EnumItem::description,
                    ));
                }
            }
            self.register(enumeration);
        }
        name
    }

    fn object(&mut self, of: &MessageDescriptor) -> String {
        let name = type_name(of.full_name());
        if !self.is_new(&name) {
            return name;
        }
        let mut object = described(
            Object::new(&name),
            self.comment(&of.parent_file(), of.path()),
            Object::description,
        );
        let fields = of.fields().filter(|it| !it.json_name().starts_with("__"));
        let mut is_empty = true;
        for field in fields {
            is_empty = false;
            let of = self.output_type(&name, &field);
            let comment = self.field_comment(&field);
            let json_name = field.json_name().to_owned();
            let is_nullable = matches!(of, TypeRef::Named(_));
            let resolver = Field::new(json_name, of, move |ctx| {
                let message = ctx.parent_value.try_downcast_ref::<DynamicMessage>();
                match message.and_then(|it| output::field(it, &field)) {
                    Ok(value) => FieldFuture::Value(value),
                    Err(error) if is_nullable => FieldFuture::Value(null(&ctx, error)),
                    Err(error) => {
                        FieldFuture::new(async move { Err::<Option<FieldValue<'_>>, Error>(error) })
                    }
                }
            });
            object = object.field(described(resolver, comment, Field::description));
        }
        if is_empty {
            // A type without fields is none.
            object = object.field(Field::new("_", TypeRef::named(TypeRef::BOOLEAN), |_| {
                FieldFuture::from_value(None)
            }));
        }
        self.register(object);
        name
    }

    fn output_type(&mut self, parent: &str, field: &FieldDescriptor) -> TypeRef {
        if field.is_map() {
            return TypeRef::named_nn_list_nn(self.entry(parent, field, false));
        }
        let name = self.name(&field.kind(), false);
        if field.is_list() {
            TypeRef::named_nn_list_nn(name)
        } else if field.supports_presence() {
            TypeRef::named(name)
        } else {
            TypeRef::named_nn(name)
        }
    }

    /// The type of a map's entries.
    fn entry(&mut self, parent: &str, field: &FieldDescriptor, is_input: bool) -> String {
        let FieldKind::Message(entry) = field.kind() else {
            return "JSON".to_owned();
        };
        let suffix = if is_input { "_Input" } else { "" };
        let name = format!(
            "{}_{}_Entry{suffix}",
            parent.trim_end_matches("_Input"),
            field.name()
        );
        if self.is_new(&name) {
            let key = self.name(&entry.map_entry_key_field().kind(), is_input);
            let value = self.name(&entry.map_entry_value_field().kind(), is_input);
            if is_input {
                let entry = InputObject::new(&name)
                    .field(InputValue::new("key", TypeRef::named_nn(key)))
                    .field(InputValue::new("value", TypeRef::named_nn(value)));
                self.register(entry);
            } else {
                let key = Field::new("key", TypeRef::named_nn(key), |ctx| {
                    let entry = ctx.parent_value.downcast_ref::<Entry>();
                    FieldFuture::from_value(entry.map(|it| it.key.clone()))
                });
                let value =
                    Field::new("value", TypeRef::named_nn(value), |ctx| {
                        let entry = ctx.parent_value.try_downcast_ref::<Entry>();
                        match entry.and_then(|it| output::one(&it.value, &it.kind)) {
                            Ok(value) => FieldFuture::Value(Some(value)),
                            Err(error) => FieldFuture::new(async move {
                                Err::<Option<FieldValue<'_>>, Error>(error)
                            }),
                        }
                    });
                self.register(Object::new(&name).field(key).field(value));
            }
        }
        name
    }

    fn input(&mut self, of: &MessageDescriptor) -> String {
        let name = format!("{}_Input", type_name(of.full_name()));
        if !self.is_new(&name) {
            return name;
        }
        let comment = self.comment(&of.parent_file(), of.path());
        let mut object = described(InputObject::new(&name), comment, InputObject::description);
        let mut is_empty = true;
        for field in of.fields().filter(|it| !it.json_name().starts_with("__")) {
            if field.containing_oneof().is_none_or(|it| it.is_synthetic()) {
                object = object.field(self.input_value(&name, &field));
                is_empty = false;
            }
        }
        for oneof in of.oneofs().filter(|it| !it.is_synthetic()) {
            is_empty = false;
            let inner = format!("{}_{}_Input", type_name(of.full_name()), oneof.name());
            let mut choice = InputObject::new(&inner).oneof();
            for field in oneof.fields() {
                choice = choice.field(self.input_value(&name, &field));
            }
            self.register(choice);
            object = object.field(InputValue::new(camel(oneof.name()), TypeRef::named(inner)));
        }
        if is_empty {
            object = object.field(InputValue::new("_", TypeRef::named(TypeRef::BOOLEAN)));
        }
        self.register(object);
        name
    }

    fn input_value(&mut self, parent: &str, field: &FieldDescriptor) -> InputValue {
        let of = if field.is_map() {
            TypeRef::named_nn_list(self.entry(parent, field, true))
        } else {
            let name = self.name(&field.kind(), true);
            if field.is_list() {
                TypeRef::named_nn_list(name)
            } else {
                TypeRef::named(name)
            }
        };
        let value = InputValue::new(field.json_name(), of);
        described(value, self.field_comment(field), InputValue::description)
    }

    /// The argument of a method's field; none if its request has no fields.
    fn argument(&mut self, of: &MessageDescriptor) -> Option<InputValue> {
        if of.fields().len() == 0 {
            return None;
        }
        let name = match shape(of) {
            Shape::Object => self.input(of),
            Shape::Scalar(name) => name.to_owned(),
        };
        Some(InputValue::new("input", TypeRef::named(name)))
    }
}

fn described<T>(it: T, comment: Option<String>, describe: impl FnOnce(T, String) -> T) -> T {
    match comment {
        Some(comment) => describe(it, comment),
        None => it,
    }
}

/// Null with its reason. An error that a resolver returns would leave its field out of the answer.
fn null<'a>(ctx: &ResolverContext<'_>, error: Error) -> Option<FieldValue<'a>> {
    ctx.add_error(ctx.set_error_path(error.into_server_error(ctx.item.pos)));
    Some(FieldValue::NULL)
}

/// What a root field does.
#[derive(Clone)]
struct Target {
    calls: Calls,
    at: usize,
    input: MessageDescriptor,
    output: MessageDescriptor,
}

impl Target {
    fn decode(&self, bytes: &[u8]) -> Result<FieldValue<'static>, Error> {
        let message = DynamicMessage::decode(self.output.clone(), bytes);
        let message =
            message.map_err(|error| Error::new(format!("the answer can't be decoded: {error}")))?;
        if matches!(shape(&self.output), Shape::Object) {
            return Ok(FieldValue::owned_any(message));
        }
        let json = serde_json::to_value(&message).map_err(|error| Error::new(error.to_string()))?;
        let value =
            async_graphql::Value::from_json(json).map_err(|error| Error::new(error.to_string()))?;
        Ok(FieldValue::value(value))
    }

    fn request(&self, ctx: &ResolverContext<'_>) -> Result<(Vec<u8>, Common), Error> {
        let argument = ctx.args.get("input").map(|it| it.as_value().clone());
        let request = input::message(&self.input, argument.as_ref()).map_err(Error::new)?;
        let common = ctx.data_opt::<Common>().cloned().unwrap_or_default();
        Ok((request, common))
    }

    fn field(self, name: &str, of: TypeRef) -> Field {
        Field::new(name, of, move |ctx| {
            let target = self.clone();
            FieldFuture::new(async move {
                let called = async {
                    let (request, common) = target.request(&ctx)?;
                    let answer = target.calls.unary(target.at, request, common).await;
                    target.decode(&answer.map_err(|status| failed(&status))?)
                };
                Ok(match called.await {
                    Ok(value) => Some(value),
                    Err(error) => null(&ctx, error),
                })
            })
        })
    }

    fn subscription(self, name: &str, of: TypeRef) -> SubscriptionField {
        SubscriptionField::new(name, of, move |ctx| {
            let target = self.clone();
            SubscriptionFieldFuture::new(async move {
                let (request, common) = target.request(&ctx)?;
                let answers = target.calls.stream(target.at, request, common).await;
                let mut answers = answers.map_err(|status| failed(&status))?;
                Ok(futures_util::stream::poll_fn(move |cx| {
                    answers.poll_recv(cx).map(|next| {
                        next.map(|came| match came {
                            Ok(bytes) => target.decode(&bytes),
                            Err(status) => Err(failed(&status)),
                        })
                    })
                }))
            })
        })
    }
}

/// Whether calling a method changes nothing.
fn is_pure(method: &Method) -> bool {
    let options = method.descriptor.method_descriptor_proto().options.as_ref();
    options.is_some_and(|it| it.idempotency_level == Some(NO_SIDE_EFFECTS))
}

/// `serviceMethod`; with its package where two services would meet.
fn root_name(method: &Method, taken: &Roots) -> String {
    let service = method.descriptor.parent_service();
    let short = format!("{}{}", camel(service.name()), method.descriptor.name());
    if taken.contains_key(&short) {
        let full = service.full_name().replace('.', "_");
        return format!("{full}_{}", method.descriptor.name());
    }
    short
}

pub(super) fn build(schema: &Schema, calls: &Calls) -> Result<(Executable, Roots), SchemaError> {
    let mut roots = Roots::new();
    let mut types = Types {
        schema,
        builder: None,
        done: BTreeSet::new(),
    };
    let (mut query, mut mutation, mut subscription) = (
        Object::new("Query"),
        Object::new("Mutation"),
        Subscription::new("Subscription"),
    );
    let kinds = |kind: Kind, pure: bool| {
        schema
            .methods()
            .iter()
            .any(|it| !it.rules.is_empty() && it.kind == kind && is_pure(it) == pure)
    };
    let has_query = kinds(Kind::Unary, true);
    let has_mutation = kinds(Kind::Unary, false);
    let has_subscription = kinds(Kind::ServerStream, true) || kinds(Kind::ServerStream, false);
    types.builder = Some(Executable::build(
        "Query",
        has_mutation.then_some("Mutation"),
        has_subscription.then_some("Subscription"),
    ));
    for (name, text) in SCALARS {
        types.register(Scalar::new(name).description(text));
    }
    for (at, method) in schema.methods().iter().enumerate() {
        if method.rules.is_empty() || method.kind.client_streams() {
            continue;
        }
        let (input, output) = (method.descriptor.input(), method.descriptor.output());
        let name = root_name(method, &roots);
        let argument = types.argument(&input);
        let of = TypeRef::named_nn(types.name(&FieldKind::Message(output.clone()), false));
        let comment = types.comment(&method.descriptor.parent_file(), method.descriptor.path());
        roots.insert(name.clone(), output.clone());
        let target = Target {
            calls: calls.clone(),
            at,
            input,
            output,
        };
        if method.kind == Kind::ServerStream {
            let mut field = described(
                target.subscription(&name, of),
                comment,
                SubscriptionField::description,
            );
            if let Some(argument) = argument {
                field = field.argument(argument);
            }
            subscription = subscription.field(field);
            continue;
        }
        // Nullable: one call that fails leaves the others' answers.
        let of = TypeRef::named(of.type_name());
        let mut field = described(target.field(&name, of), comment, Field::description);
        if let Some(argument) = argument {
            field = field.argument(argument);
        }
        if is_pure(method) {
            query = query.field(field);
        } else {
            mutation = mutation.field(field);
        }
    }
    if !has_query {
        // A schema without queries is none.
        query = query.field(Field::new("_", TypeRef::named(TypeRef::BOOLEAN), |_| {
            FieldFuture::from_value(None)
        }));
    }
    types.register(query);
    if has_mutation {
        types.register(mutation);
    }
    if has_subscription {
        types.register(subscription);
    }
    let builder = types.builder.take().ok_or(SchemaError::Empty)?;
    let executable = builder.finish().map_err(|error| {
        SchemaError::Descriptors(format!("they make no GraphQL schema: {error}"))
    })?;
    Ok((executable, roots))
}
