//! Descriptors as a person would write them: proto text with the comments of its author.

use prost_reflect::prost_types::source_code_info::Location;
use prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, ServiceDescriptor,
};

/// A text that grows by indented lines.
#[derive(Debug, Default)]
pub(crate) struct Text {
    text: String,
    depth: usize,
}

impl Text {
    pub(crate) fn into_string(self) -> String {
        self.text
    }

    fn line(&mut self, line: &str) {
        for part in ["  ".repeat(self.depth).as_str(), line, "\n"] {
            self.text.push_str(part);
        }
    }

    fn block(&mut self, head: &str, inside: impl FnOnce(&mut Self)) {
        let before = self.text.len();
        self.line(&format!("{head} {{"));
        let opened = self.text.len();
        self.depth += 1;
        inside(self);
        self.depth -= 1;
        if self.text.len() == opened {
            self.text.truncate(before);
            self.line(&format!("{head} {{}}"));
        } else {
            self.line("}");
        }
    }

    fn comment(&mut self, file: &FileDescriptor, path: &[i32]) {
        for line in comment(file, path).lines() {
            self.line(format!("// {line}").trim_end());
        }
    }

    /// A service with its methods.
    pub(crate) fn service(&mut self, service: &ServiceDescriptor) {
        self.comment(&service.parent_file(), service.path());
        self.block(&format!("service {}", service.full_name()), |text| {
            for method in service.methods() {
                text.method(&method);
            }
        });
    }

    /// A method in one line.
    pub(crate) fn method(&mut self, method: &MethodDescriptor) {
        self.comment(&method.parent_file(), method.path());
        let stream = |streams: bool| if streams { "stream " } else { "" };
        let line = format!(
            "rpc {}({}{}) returns ({}{})",
            method.name(),
            stream(method.is_client_streaming()),
            short(
                method.input().full_name(),
                method.parent_file().package_name()
            ),
            stream(method.is_server_streaming()),
            short(
                method.output().full_name(),
                method.parent_file().package_name()
            ),
        );
        match idempotency(method) {
            Some(level) => self.line(&format!("{line} {{ option idempotency_level = {level}; }}")),
            None => self.line(&format!("{line};")),
        }
    }

    /// A message with its fields and everything inside of it.
    pub(crate) fn message(&mut self, message: &MessageDescriptor) {
        self.comment(&message.parent_file(), message.path());
        let name = if self.depth == 0 {
            message.full_name()
        } else {
            message.name()
        };
        self.block(&format!("message {name}"), |text| {
            for inner in message.child_messages().filter(|it| !it.is_map_entry()) {
                text.message(&inner);
            }
            for inner in message.child_enums() {
                text.enumeration(&inner);
            }
            text.fields(message);
        });
    }

    fn fields(&mut self, message: &MessageDescriptor) {
        let mut fields: Vec<FieldDescriptor> = message.fields().collect();
        // In the order of the file, as far as it is known.
        fields.sort_by_key(|field| field.path().last().copied());
        let mut shown: Vec<String> = Vec::new();
        for field in &fields {
            match field.containing_oneof().filter(|it| !it.is_synthetic()) {
                None => self.field(field),
                Some(oneof) if !shown.iter().any(|it| it == oneof.name()) => {
                    shown.push(oneof.name().to_owned());
                    self.comment(&message.parent_file(), oneof.path());
                    self.block(&format!("oneof {}", oneof.name()), |text| {
                        for field in oneof.fields() {
                            text.field(&field);
                        }
                    });
                }
                Some(_) => {}
            }
        }
    }

    fn field(&mut self, field: &FieldDescriptor) {
        self.comment(&field.parent_message().parent_file(), field.path());
        let label = match field.cardinality() {
            _ if field.is_map() => "",
            Cardinality::Repeated => "repeated ",
            Cardinality::Required => "required ",
            Cardinality::Optional if is_optional(field) => "optional ",
            Cardinality::Optional => "",
        };
        let parent = field.parent_message();
        let kind = kind_name(field);
        let kind = short(&kind, parent.package_name());
        self.line(&format!(
            "{label}{kind} {} = {};",
            field.name(),
            field.number()
        ));
    }

    /// An enum with its values.
    pub(crate) fn enumeration(&mut self, found: &EnumDescriptor) {
        self.comment(&found.parent_file(), found.path());
        let name = if self.depth == 0 {
            found.full_name()
        } else {
            found.name()
        };
        self.block(&format!("enum {name}"), |text| {
            for value in found.values() {
                text.comment(&found.parent_file(), value.path());
                text.line(&format!("{} = {};", value.name(), value.number()));
            }
        });
    }
}

/// Whether the author wrote `optional`.
fn is_optional(field: &FieldDescriptor) -> bool {
    field
        .containing_oneof()
        .is_some_and(|oneof| oneof.is_synthetic())
}

/// A field's type as it is written in a message.
pub(crate) fn kind_name(field: &FieldDescriptor) -> String {
    let Kind::Message(entry) = field.kind() else {
        return plain_name(&field.kind());
    };
    if field.is_map() {
        let key = plain_name(&entry.map_entry_key_field().kind());
        let value = plain_name(&entry.map_entry_value_field().kind());
        return format!("map<{key}, {value}>");
    }
    entry.full_name().to_owned()
}

fn plain_name(kind: &Kind) -> String {
    let name = match kind {
        Kind::Double => "double",
        Kind::Float => "float",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::Sint32 => "sint32",
        Kind::Sint64 => "sint64",
        Kind::Fixed32 => "fixed32",
        Kind::Fixed64 => "fixed64",
        Kind::Sfixed32 => "sfixed32",
        Kind::Sfixed64 => "sfixed64",
        Kind::Bool => "bool",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Message(message) => message.full_name(),
        Kind::Enum(found) => found.full_name(),
    };
    name.to_owned()
}

/// A type's name within its own package, as its author wrote it.
fn short<'a>(name: &'a str, package: &str) -> &'a str {
    let rest = name
        .strip_prefix(package)
        .and_then(|it| it.strip_prefix('.'));
    rest.filter(|_| !package.is_empty()).unwrap_or(name)
}

/// What the author says about calling a method twice.
pub(crate) fn idempotency(method: &MethodDescriptor) -> Option<&'static str> {
    let options = method.method_descriptor_proto().options.as_ref()?;
    match options.idempotency_level.unwrap_or(0) {
        1 => Some("NO_SIDE_EFFECTS"),
        2 => Some("IDEMPOTENT"),
        _ => None,
    }
}

/// What the author wrote above an element, or behind it; empty if nothing is known.
pub(crate) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let mut locations = info.into_iter().flat_map(|it| &it.location);
    let Some(location) = locations.find(|it: &&Location| it.path == path) else {
        return String::new();
    };
    let said = [&location.leading_comments, &location.trailing_comments];
    let text = said.into_iter().flatten().map(|text| {
        let lines = text
            .lines()
            .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
        lines.collect::<Vec<_>>().join("\n")
    });
    text.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}
