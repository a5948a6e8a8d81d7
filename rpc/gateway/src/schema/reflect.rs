//! Definitions from a server's own words: a client of `grpc.reflection.v1.ServerReflection`.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use ringway_rpc::{CallOptions, Channel, Code, Incoming, Kind, Method, Outgoing, Raw, Status};

use super::load::Files;
use super::{PROTOBUF, Schema, google};
use crate::error::SchemaError;

const NAME: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// Files that a server may describe.
const FILES_MAX: usize = 10_000;

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, optional, tag = "3")]
    file_by_filename: Option<String>,
    #[prost(string, optional, tag = "4")]
    file_containing_symbol: Option<String>,
    #[prost(string, optional, tag = "7")]
    list_services: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, optional, tag = "4")]
    files: Option<Files>,
    #[prost(message, optional, tag = "6")]
    services: Option<Services>,
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

/// What is read of a `FileDescriptorProto`.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    dependency: Vec<String>,
}

struct Conversation {
    out: Outgoing<Raw, [u8]>,
    answers: Incoming<Raw, Vec<u8>>,
    files: BTreeMap<String, (Vec<u8>, Vec<String>)>,
}

impl Conversation {
    fn ask(&mut self, request: &Request) -> Result<Response, Status> {
        // If the call is over, its end tells why.
        let _over: Result<(), Status> = self.out.send_wait(&request.encode_to_vec());
        let answer = self.answers.next_wait()?;
        let answer = answer.ok_or(Status::of(Code::Unavailable, "the server ended the stream"))?;
        Response::decode(&*answer).map_err(|error| undecodable(&error))
    }

    /// Keeps the files of an answer; false if there are none.
    fn learn(&mut self, request: &Request) -> Result<bool, Status> {
        let Some(files) = self.ask(request)?.files else {
            return Ok(false);
        };
        for bytes in files.file {
            let head = Head::decode(&*bytes).map_err(|error| undecodable(&error))?;
            self.files
                .entry(head.name)
                .or_insert((bytes, head.dependency));
        }
        if self.files.len() > FILES_MAX {
            let text = format!("the server describes more than {FILES_MAX} files");
            return Err(Status::new(Code::ResourceExhausted, &text));
        }
        Ok(true)
    }

    /// Asks for imports that nobody has told; google's own are known to everybody.
    fn complete(&mut self) -> Result<(), Status> {
        loop {
            let imports = self.files.values().flat_map(|(_, imports)| imports);
            let missing = imports
                .filter(|name| !self.files.contains_key(*name))
                .min()
                .cloned();
            let Some(missing) = missing else {
                return Ok(());
            };
            let request = Request {
                file_by_filename: Some(missing.clone()),
                ..Request::default()
            };
            if self.learn(&request)? && self.files.contains_key(&missing) {
                continue;
            }
            let known = google().get_file_by_name(&missing);
            let known = known
                .or_else(|| prost_reflect::DescriptorPool::global().get_file_by_name(&missing));
            let Some(file) = known else {
                let text = format!("the server describes no file `{missing}`");
                return Err(Status::new(Code::NotFound, &text));
            };
            let imports = file.dependencies().map(|it| it.name().to_owned()).collect();
            self.files.insert(missing, (file.encode_to_vec(), imports));
        }
    }
}

fn undecodable(error: &prost::DecodeError) -> Status {
    Status::new(
        Code::Internal,
        &format!("the answer can't be decoded: {error}"),
    )
}

impl Schema {
    /// Asks a server that has reflection; blocks until it has answered, or for `timeout`.
    ///
    /// # Errors
    /// [`SchemaError::Reflection`]: the server can't be reached or has no reflection; others: what it says is
    /// unusable.
    pub fn from_server(channel: &Channel, timeout: Duration) -> Result<Self, SchemaError> {
        let methods: Arc<[Method]> = [Method::found(NAME, Kind::Bidi, PROTOBUF, 0)].into();
        let options = CallOptions {
            wait_for_ready: true,
            ..CallOptions::timeout(timeout)
        };
        let (out, answers) = channel.open(methods, 0, None, false, &options);
        let mut server = Conversation {
            out,
            answers,
            files: BTreeMap::new(),
        };
        server.learn_all().map_err(SchemaError::Reflection)?;
        let set = Files {
            file: server.files.into_values().map(|(bytes, _)| bytes).collect(),
        };
        Self::of_sets(&[&set.encode_to_vec()])
    }
}

impl Conversation {
    fn learn_all(&mut self) -> Result<(), Status> {
        let request = Request {
            list_services: Some(String::new()),
            ..Request::default()
        };
        for service in self.ask(&request)?.services.unwrap_or_default().service {
            // Services without descriptors, as those of plain structs, are not ours to serve.
            self.learn(&Request {
                file_containing_symbol: Some(service.name),
                ..Request::default()
            })?;
        }
        self.complete()
    }
}
