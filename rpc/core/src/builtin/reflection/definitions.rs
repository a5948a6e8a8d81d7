//! What a server's reflection knows, and its answers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ringway_call::{Code, Status};

use super::{field, messages, texts};
use crate::builtin::proto::{Fields, Value, Writer, is_whole};

/// Longest chain of nested messages that is indexed.
const DEPTH_MAX: u32 = 32;

/// Definitions of services, as answers to the questions of `grpc.reflection.v1`: the messages of `v1alpha` are the
/// same.
///
/// ```
/// use ringway_rpc::Definitions;
///
/// // Files are serialized `FileDescriptorProto`s; a service without one is only listed.
/// let definitions = Definitions::new(["demo.Echo".to_owned()], []);
/// let list_services = [7 << 3 | 2, 0];
/// let answer = definitions.answer(&list_services)?;
/// assert!(answer.ends_with(b"demo.Echo"));
/// # Ok::<(), ringway_rpc::Status>(())
/// ```
#[derive(Debug, Default)]
pub struct Definitions {
    services: Vec<String>,
    files: Vec<File>,
    /// Places in `files`.
    by_name: BTreeMap<String, usize>,
    by_symbol: BTreeMap<String, usize>,
    /// By the name of the message that is extended and the field's number.
    by_extension: BTreeMap<(String, u64), usize>,
}

#[derive(Debug)]
struct File {
    bytes: Cow<'static, [u8]>,
    imports: Vec<String>,
}

impl Definitions {
    /// From the names of services and from serialized `FileDescriptorProto`s. Of several files of one name the first
    /// one counts; what of a file is malformed is not found.
    #[must_use]
    pub fn new(
        services: impl IntoIterator<Item = String>,
        files: impl IntoIterator<Item = Cow<'static, [u8]>>,
    ) -> Self {
        let mut all = Self {
            services: services.into_iter().collect(),
            ..Self::default()
        };
        all.services.sort_unstable();
        for file in files {
            all.add(file);
        }
        all
    }

    fn add(&mut self, bytes: Cow<'static, [u8]>) {
        let Some(name) = texts(&bytes, field::FILE_NAME).next() else {
            return;
        };
        if self.by_name.contains_key(name) {
            return;
        }
        let file = self.files.len();
        self.by_name.insert(name.to_owned(), file);
        let package = texts(&bytes, field::FILE_PACKAGE).next().unwrap_or("");
        // FileDescriptorProto: messages 4, enums 5, services 6, extensions 7.
        for message in messages(&bytes, 4) {
            self.message(file, package, message, DEPTH_MAX);
        }
        self.names(file, package, &bytes, 5);
        self.extensions(file, package, &bytes, 7);
        for service in messages(&bytes, 6) {
            if let Some(own) = self.name(file, package, service) {
                self.names(file, &own, service, 2);
            }
        }
        let imports = texts(&bytes, field::FILE_DEPENDENCY);
        let imports = imports.map(ToOwned::to_owned).collect();
        self.files.push(File { bytes, imports });
    }

    fn message(&mut self, file: usize, scope: &str, message: &[u8], depth: u32) {
        let Some(own) = self.name(file, scope, message) else {
            return;
        };
        // DescriptorProto: fields 2, nested messages 3, enums 4, extensions 6.
        for field in [2, 4] {
            self.names(file, &own, message, field);
        }
        self.extensions(file, &own, message, 6);
        if depth > 0 {
            for nested in messages(message, 3) {
                self.message(file, &own, nested, depth - 1);
            }
        }
    }

    fn extensions(&mut self, file: usize, scope: &str, message: &[u8], field: u64) {
        self.names(file, scope, message, field);
        for extension in messages(message, field) {
            // FieldDescriptorProto: extendee 2, number 3.
            let extended = texts(extension, 2).next();
            let number = Fields(extension).find_map(|(field, value)| match value {
                Value::Number(number) if field == 3 => Some(number),
                _ => None,
            });
            if let Some((extended, number)) = extended.zip(number) {
                let extended = extended.strip_prefix('.').unwrap_or(extended).to_owned();
                self.by_extension.insert((extended, number), file);
            }
        }
    }

    fn names(&mut self, file: usize, scope: &str, message: &[u8], field: u64) {
        for inner in messages(message, field) {
            self.name(file, scope, inner);
        }
    }

    /// Notes a thing that has its name in field 1; its full name.
    fn name(&mut self, file: usize, scope: &str, thing: &[u8]) -> Option<String> {
        let name = texts(thing, 1).next()?;
        let full = if scope.is_empty() {
            name.to_owned()
        } else {
            format!("{scope}.{name}")
        };
        self.by_symbol.insert(full.clone(), file);
        Some(full)
    }

    /// The answer to one question: a serialized `ServerReflectionResponse` to a `ServerReflectionRequest`.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`]: this is no such request. What is merely unknown is an answer, too.
    pub fn answer(&self, question: &[u8]) -> Result<Vec<u8>, Status> {
        if !is_whole(question) {
            return Err(Status::of(
                Code::InvalidArgument,
                "this is no question about definitions",
            ));
        }
        let host = texts(question, field::HOST).next().unwrap_or("");
        let out = Writer::default()
            .text(field::HOST, host)
            .bytes(field::ORIGINAL_REQUEST, question);
        let (field, inner) = self.found(question).unwrap_or_else(|status| {
            let error = Writer::default()
                .number(1, u64::from(status.code.to_wire()))
                .text(2, &status.message);
            (field::ERROR_RESPONSE, error)
        });
        Ok(out.message(field, inner).0)
    }

    /// Which field of the answer is told, and what stands in it.
    fn found(&self, question: &[u8]) -> Result<(u64, Writer), Status> {
        // Of a `oneof` the last one counts.
        let asked = Fields(question).filter(|(field, _)| *field != field::HOST);
        let nothing = || Status::of(Code::InvalidArgument, "nothing is asked");
        let (field, value) = asked.last().ok_or_else(nothing)?;
        let text = value.text().unwrap_or("");
        let files = |found: Option<&usize>, what: &str, name: &str| {
            let found = found.ok_or_else(|| not_found(what, name))?;
            Ok((field::FILE_DESCRIPTOR_RESPONSE, self.with_imports(*found)))
        };
        match field {
            field::FILE_BY_FILENAME => files(self.by_name.get(text), "file", text),
            field::FILE_CONTAINING_SYMBOL => files(self.by_symbol.get(text), "symbol", text),
            field::FILE_CONTAINING_EXTENSION => {
                let Value::Bytes(request) = value else {
                    return Err(nothing());
                };
                // ExtensionRequest: containing_type 1, extension_number 2.
                let extended = texts(request, 1).next().unwrap_or("");
                let number = Fields(request).find_map(|(field, value)| match value {
                    Value::Number(number) if field == 2 => Some(number),
                    _ => None,
                });
                let number = number.unwrap_or(0);
                let found = self.by_extension.get(&(extended.to_owned(), number));
                files(found, "extension", &format!("{number} of {extended}"))
            }
            field::ALL_EXTENSION_NUMBERS_OF_TYPE => {
                if !self.by_symbol.contains_key(text) {
                    return Err(not_found("message", text));
                }
                let own = self
                    .by_extension
                    .range((text.to_owned(), 0)..=(text.to_owned(), u64::MAX));
                let numbers = own.map(|((_, number), _)| *number);
                let out = Writer::default().text(1, text).numbers(2, numbers);
                Ok((field::ALL_EXTENSION_NUMBERS_RESPONSE, out))
            }
            field::LIST_SERVICES => {
                let list = self.services.iter().fold(Writer::default(), |out, name| {
                    out.message(1, Writer::default().text(1, name))
                });
                Ok((field::LIST_SERVICES_RESPONSE, list))
            }
            _ => Err(Status::of(
                Code::Unimplemented,
                "only services, files, symbols and extensions can be asked for",
            )),
        }
    }

    /// A file and everything it imports, each once, so that a client need not ask again.
    fn with_imports(&self, file: usize) -> Writer {
        let mut wanted = vec![file];
        let mut at = 0;
        let mut out = Writer::default();
        while let Some(file) = wanted.get(at).and_then(|file| self.files.get(*file)) {
            at += 1;
            out = out.bytes(1, &file.bytes);
            for import in &file.imports {
                if let Some(import) = self.by_name.get(import)
                    && !wanted.contains(import)
                {
                    wanted.push(*import);
                }
            }
        }
        out
    }
}

fn not_found(what: &str, name: &str) -> Status {
    Status::new(Code::NotFound, &format!("there is no {what} `{name}`"))
}
