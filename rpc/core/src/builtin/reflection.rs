//! `grpc.reflection.v1.ServerReflection`: which services there are and what their messages look like, from the
//! descriptors that services carry.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringway_call::{Code, Kind, Status};

use super::proto::{Fields, Value, Writer};
use crate::{IncomingCall, Method, Raw, Receiver, Sender, Service, ServiceInfo};

static INFO: ServiceInfo = ServiceInfo {
    name: "grpc.reflection.v1.ServerReflection",
    methods: &[Method::new(
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Kind::Bidi,
        1,
        0,
    )
    .idempotent()],
    descriptors: include_bytes!("../../proto/reflection.bin"),
};

/// Longest chain of nested messages that is indexed; descriptors come from the program itself.
const DEPTH_MAX: u32 = 32;

/// What is known about all services.
#[derive(Debug, Default)]
struct Index {
    services: Vec<&'static str>,
    /// Serialized `FileDescriptorProto` by name.
    files: BTreeMap<&'static str, File>,
    /// Which file defines a symbol.
    symbols: BTreeMap<String, &'static str>,
}

#[derive(Debug)]
struct File {
    bytes: &'static [u8],
    imports: Vec<&'static str>,
}

/// The service.
#[derive(Debug)]
pub(crate) struct Reflection(Rc<Index>);

impl Reflection {
    pub(crate) fn info() -> &'static ServiceInfo {
        &INFO
    }

    /// Over the descriptors of these services.
    pub(crate) fn new(services: &[&'static ServiceInfo]) -> Self {
        let mut index = Index {
            services: services.iter().map(|info| info.name).collect(),
            ..Index::default()
        };
        index.services.sort_unstable();
        for info in services {
            for (field, value) in Fields(info.descriptors) {
                if let (1, Value::Bytes(file)) = (field, value) {
                    index.add(file);
                }
            }
        }
        Self(Rc::new(index))
    }
}

/// All texts of one field.
fn texts(message: &'static [u8], wanted: u64) -> impl Iterator<Item = &'static str> {
    Fields(message)
        .filter(move |(field, _)| *field == wanted)
        .filter_map(|(_, value)| value.text())
}

/// All messages of one field.
fn messages(message: &'static [u8], wanted: u64) -> impl Iterator<Item = &'static [u8]> {
    Fields(message).filter_map(move |(field, value)| match value {
        Value::Bytes(bytes) if field == wanted => Some(bytes),
        _ => None,
    })
}

impl Index {
    fn add(&mut self, bytes: &'static [u8]) {
        let Some(name) = texts(bytes, 1).next() else {
            return;
        };
        let imports = texts(bytes, 3).collect();
        self.files.insert(name, File { bytes, imports });
        let package = texts(bytes, 2).next().unwrap_or("").to_owned();
        // FileDescriptorProto: messages 4, enums 5, services 6, extensions 7.
        for message in messages(bytes, 4) {
            self.message(name, &package, message, DEPTH_MAX);
        }
        for field in [5, 7] {
            self.names(name, &package, bytes, field);
        }
        for service in messages(bytes, 6) {
            if let Some(own) = self.name(name, &package, service) {
                self.names(name, &own, service, 2);
            }
        }
    }

    fn message(&mut self, file: &'static str, scope: &str, message: &'static [u8], depth: u32) {
        let Some(own) = self.name(file, scope, message) else {
            return;
        };
        // DescriptorProto: fields 2, nested messages 3, enums 4, extensions 6.
        for field in [2, 4, 6] {
            self.names(file, &own, message, field);
        }
        if depth > 0 {
            for nested in messages(message, 3) {
                self.message(file, &own, nested, depth - 1);
            }
        }
    }

    fn names(&mut self, file: &'static str, scope: &str, message: &'static [u8], field: u64) {
        for inner in messages(message, field) {
            self.name(file, scope, inner);
        }
    }

    /// Notes a thing that has its name in field 1; its full name.
    fn name(&mut self, file: &'static str, scope: &str, thing: &'static [u8]) -> Option<String> {
        let name = texts(thing, 1).next()?;
        let full = if scope.is_empty() {
            name.to_owned()
        } else {
            format!("{scope}.{name}")
        };
        self.symbols.insert(full.clone(), file);
        Some(full)
    }

    /// A file and everything it imports, each once, as a `FileDescriptorResponse`.
    fn file(&self, name: &str) -> Result<Writer, Status> {
        let mut wanted = vec![name];
        let mut at = 0;
        let mut out = Writer::default();
        while let Some(name) = wanted.get(at).copied() {
            at += 1;
            let Some(file) = self.files.get(name) else {
                if at == 1 {
                    return Err(not_found("file", name));
                }
                continue;
            };
            out = out.bytes(1, file.bytes);
            for import in &file.imports {
                if !wanted.contains(import) {
                    wanted.push(import);
                }
            }
        }
        Ok(out)
    }

    fn answer(&self, request: &[u8]) -> Vec<u8> {
        let host = Fields(request).find(|(field, _)| *field == 1);
        let host = host.and_then(|(_, value)| value.text()).unwrap_or("");
        let out = Writer::default().text(1, host).bytes(2, request);
        let asked = Fields(request).find(|(field, _)| *field != 1);
        let answer = match asked {
            // file_by_filename, file_containing_symbol: file_descriptor_response
            Some((3, name)) => self.file(name.text().unwrap_or("")).map(|it| (4, it)),
            Some((4, symbol)) => {
                let symbol = symbol.text().unwrap_or("");
                match self.symbols.get(symbol) {
                    Some(file) => self.file(file).map(|it| (4, it)),
                    None => Err(not_found("symbol", symbol)),
                }
            }
            // list_services: list_services_response
            Some((7, _)) => {
                let list = self.services.iter().fold(Writer::default(), |out, name| {
                    out.message(1, Writer::default().text(1, name))
                });
                Ok((6, list))
            }
            _ => Err(Status::of(
                Code::Unimplemented,
                "only services, files and symbols can be asked for",
            )),
        };
        let (field, inner) = answer.unwrap_or_else(|status| {
            let error = Writer::default()
                .number(1, u64::from(status.code.to_wire()))
                .text(2, &status.message);
            (7, error)
        });
        out.message(field, inner).0
    }
}

fn not_found(what: &str, name: &str) -> Status {
    Status::new(Code::NotFound, &format!("there is no {what} `{name}`"))
}

impl Service for Reflection {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        let index = Rc::clone(&self.0);
        match call.method() {
            0 => call.bidi::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, input, out| serve(index, input, out)),
            _ => call.unimplemented(),
        }
    }
}

async fn serve(
    index: Rc<Index>,
    mut input: Receiver<Vec<u8>>,
    mut out: Sender<Vec<u8>>,
) -> Result<(), Status> {
    while let Some(request) = input.recv().await? {
        out.send(index.answer(&request)).await?;
    }
    Ok(())
}
