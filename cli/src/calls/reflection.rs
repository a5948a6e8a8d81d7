//! What a server says about its services: the client of `grpc.reflection.v1.ServerReflection`.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use ringway::rpc::{Code, Kind, Method, Status};

use super::names;
use super::remote::{PROTOBUF, Remote, Stream, undecodable};
use crate::failure::Failure;

const NAME: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// What it is called when something goes wrong: nobody has asked for it by name.
const SHORT: &str = "reflection";
/// Files that a server may describe.
const FILES_MAX: usize = 10_000;

/// `grpc.reflection.v1.ServerReflectionRequest`, what of it is asked.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, optional, tag = "3")]
    file_by_filename: Option<String>,
    #[prost(string, optional, tag = "4")]
    file_containing_symbol: Option<String>,
    #[prost(string, optional, tag = "7")]
    list_services: Option<String>,
}

/// `grpc.reflection.v1.ServerReflectionResponse`, what of it is read.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, optional, tag = "4")]
    files: Option<Files>,
    #[prost(message, optional, tag = "6")]
    services: Option<Services>,
    #[prost(message, optional, tag = "7")]
    error: Option<Refusal>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    service: Vec<Service>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Refusal {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// An open conversation with the service, and the files it has told so far.
#[derive(Debug)]
pub(crate) struct Reflection {
    stream: Stream,
    place: String,
    /// Serialized `FileDescriptorProto` and imports by name.
    files: BTreeMap<String, File>,
}

#[derive(Debug)]
struct File {
    bytes: Vec<u8>,
    imports: Vec<String>,
}

impl Reflection {
    /// Opens the conversation; it ends after `timeout`.
    pub(crate) fn open(remote: &Remote, timeout: Option<Duration>) -> Self {
        let method = Method::found(NAME, Kind::Bidi, PROTOBUF, 0);
        Self {
            stream: remote.open(method, None, &remote.options(timeout)),
            place: remote.address().to_string(),
            files: BTreeMap::new(),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Response, Failure> {
        let (out, answers) = &mut self.stream;
        // If the call is over, its end tells why.
        let _over: Result<(), Status> = out.send_wait(&request.encode_to_vec());
        match answers.next_wait() {
            Ok(Some(answer)) => {
                Response::decode(&*answer).map_err(|error| undecodable(SHORT, &error))
            }
            Ok(None) => Err(undecodable(SHORT, &"the server ended the stream")),
            Err(status) if status.code == Code::Unimplemented => {
                Err(Failure::NoReflection(self.place.clone()))
            }
            Err(status) => Err(Failure::call(SHORT, status)),
        }
    }

    /// Names of all services, in order.
    pub(crate) fn services(&mut self) -> Result<Vec<String>, Failure> {
        let request = Request {
            list_services: Some(String::new()),
            ..Request::default()
        };
        let services = self.ask(&request)?.services.unwrap_or_default().service;
        let mut names: Vec<String> = services.into_iter().map(|it| it.name).collect();
        names.sort();
        Ok(names)
    }

    /// Learns the file that defines a symbol, with its imports; false if the server knows none.
    pub(crate) fn learn(&mut self, symbol: &str) -> Result<bool, Failure> {
        let request = Request {
            file_containing_symbol: Some(symbol.to_owned()),
            ..Request::default()
        };
        self.learn_by(&request)
    }

    fn learn_by(&mut self, request: &Request) -> Result<bool, Failure> {
        let response = self.ask(request)?;
        if let Some(refusal) = response.error {
            let code = u16::try_from(refusal.code).map_or(Code::Unknown, Code::from_wire);
            if code == Code::NotFound {
                return Ok(false);
            }
            return Err(Failure::call(SHORT, Status::new(code, &refusal.message)));
        }
        for bytes in response.files.unwrap_or_default().file {
            let file =
                FileDescriptorProto::decode(&*bytes).map_err(|error| undecodable(SHORT, &error))?;
            let imports = file.dependency;
            self.files
                .entry(file.name.unwrap_or_default())
                .or_insert(File { bytes, imports });
        }
        if self.files.len() > FILES_MAX {
            let text = format!("it describes more than {FILES_MAX} files");
            return Err(Failure::Connection(format!("{}: {text}", self.place)));
        }
        Ok(true)
    }

    /// Asks for what known files import and nobody has told yet; google's own files are known to everybody.
    fn complete(&mut self) -> Result<(), Failure> {
        loop {
            let imports = self.files.values().flat_map(|file| &file.imports);
            let missing = imports
                .filter(|import| !self.files.contains_key(*import))
                .min()
                .cloned();
            let Some(missing) = missing else {
                return Ok(());
            };
            let request = Request {
                file_by_filename: Some(missing.clone()),
                ..Request::default()
            };
            if self.learn_by(&request)? && self.files.contains_key(&missing) {
                continue;
            }
            let Some(file) = DescriptorPool::global().get_file_by_name(&missing) else {
                let text = format!("{}: it describes no file `{missing}`", self.place);
                return Err(Failure::Connection(text));
            };
            let bytes = file.encode_to_vec();
            let imports = file.file_descriptor_proto().dependency.clone();
            self.files.insert(missing, File { bytes, imports });
        }
    }

    /// Everything that was learned.
    pub(crate) fn pool(&mut self) -> Result<DescriptorPool, Failure> {
        self.complete()?;
        let set = self.files.values().map(|file| file.bytes.clone());
        // A FileDescriptorSet, put together so that extensions in options stay.
        let set = Files {
            file: set.collect(),
        }
        .encode_to_vec();
        let mut pool = DescriptorPool::new();
        match pool.decode_file_descriptor_set(&*set) {
            Ok(()) => Ok(pool),
            Err(error) => {
                let text = format!("{}: its descriptors are unusable: {error}", self.place);
                Err(Failure::Connection(text))
            }
        }
    }

    /// The method of a name, and the pool it is of. A wrong name is answered by near ones.
    pub(crate) fn method(&mut self, name: &MethodName) -> Result<MethodDescriptor, Failure> {
        let MethodName { service, method } = name;
        let is_known = self.learn(service)?;
        let pool = self.pool()?;
        let found = pool.get_service_by_name(service);
        let Some(found) = found.filter(|_| is_known) else {
            return Err(self.no_service(name)?);
        };
        if let Some(found) = found.methods().find(|it| it.name() == method) {
            return Ok(found);
        }
        let all: Vec<String> = found.methods().map(|it| it.name().to_owned()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let hint = names::sentence(method, &all);
        let text = format!("the service `{service}` has no method `{method}`{hint}");
        Err(Failure::Usage(text))
    }

    /// Why there is no such service.
    fn no_service(&mut self, wanted: &MethodName) -> Result<Failure, Failure> {
        let services = self.services()?;
        let service = &wanted.service;
        if services.contains(service) {
            let text = format!(
                "the server has no descriptors of `{service}`; call it with --raw or --hex"
            );
            return Ok(Failure::Usage(text));
        }
        let mut methods: Vec<String> = Vec::new();
        for name in &services {
            self.learn(name)?;
        }
        for service in self.pool()?.services() {
            let own = service.full_name();
            methods.extend(service.methods().map(|it| format!("{own}/{}", it.name())));
        }
        let all: Vec<&str> = methods.iter().map(String::as_str).collect();
        let name = wanted.to_string();
        let hint = names::sentence(&name, &all);
        Ok(Failure::Usage(format!("the server has no `{name}`{hint}")))
    }
}

/// `package.Service/Method`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MethodName {
    pub(crate) service: String,
    pub(crate) method: String,
}

impl std::fmt::Display for MethodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.service.is_empty() {
            return f.write_str(&self.method);
        }
        write!(f, "{}/{}", self.service, self.method)
    }
}

impl MethodName {
    /// Reads `package.Service/Method`; the last dot may stand for the slash.
    pub(crate) fn of(text: &str) -> Self {
        let text = text.strip_prefix('/').unwrap_or(text);
        let parts = text.rsplit_once('/').or_else(|| text.rsplit_once('.'));
        let (service, method) = parts.unwrap_or(("", text));
        Self {
            service: service.to_owned(),
            method: method.to_owned(),
        }
    }
}

/// Who streams, by the descriptor.
pub(crate) fn kind(method: &MethodDescriptor) -> Kind {
    match (method.is_client_streaming(), method.is_server_streaming()) {
        (false, false) => Kind::Unary,
        (true, false) => Kind::ClientStream,
        (false, true) => Kind::ServerStream,
        (true, true) => Kind::Bidi,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_names_have_a_slash_or_a_dot() {
        for text in ["a.B/C", "/a.B/C", "a.B.C"] {
            assert_eq!(MethodName::of(text).to_string(), "a.B/C", "{text}");
        }
        assert_eq!(MethodName::of("C").to_string(), "C");
    }
}
