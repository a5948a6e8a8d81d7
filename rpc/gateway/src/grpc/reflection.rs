//! Reflection, v1 and v1alpha: the gateway knows all definitions, so it answers by itself.

use std::rc::Rc;

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::FileDescriptor;
use ringway_rpc::{Code, Status};

use super::Inflow;
use crate::backend::Source;
use crate::body::Answers;
use crate::gateway::Shared;
use crate::schema::Schema;

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(oneof = "Asked", tags = "3, 4, 5, 6, 7")]
    asked: Option<Asked>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Asked {
    #[prost(string, tag = "3")]
    FileByName(String),
    #[prost(string, tag = "4")]
    FileOfSymbol(String),
    #[prost(message, tag = "5")]
    FileOfExtension(Extension),
    #[prost(string, tag = "6")]
    ExtensionsOf(String),
    #[prost(string, tag = "7")]
    ListServices(String),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Extension {
    #[prost(string, tag = "1")]
    message: String,
    #[prost(int32, tag = "2")]
    number: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(message, optional, tag = "2")]
    request: Option<Request>,
    #[prost(oneof = "Told", tags = "4, 5, 6, 7")]
    told: Option<Told>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Told {
    #[prost(message, tag = "4")]
    Files(Files),
    #[prost(message, tag = "5")]
    Numbers(Numbers),
    #[prost(message, tag = "6")]
    Services(Services),
    #[prost(message, tag = "7")]
    Refusal(Refusal),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Numbers {
    #[prost(string, tag = "1")]
    message: String,
    #[prost(int32, repeated, tag = "2")]
    number: Vec<i32>,
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

/// Answers question by question, for as long as the client asks.
pub(super) fn answers(shared: &Rc<Shared>, mut inflow: Inflow) -> Answers {
    let (out, source) = tokio::sync::mpsc::channel(1);
    let schema = shared.schema.clone();
    Answers::with(Source::Own(source), async move {
        while let Some(question) = inflow.next().await? {
            let request = Request::decode(&*question);
            let request = request.map_err(|_error| {
                Status::of(
                    Code::InvalidArgument,
                    "this is no question about definitions",
                )
            })?;
            let answer = Answer {
                host: request.host.clone(),
                told: Some(told(&schema, request.asked.as_ref())),
                request: Some(request),
            };
            if out.send(Bytes::from(answer.encode_to_vec())).await.is_err() {
                break;
            }
        }
        Ok(())
    })
}

fn told(schema: &Schema, asked: Option<&Asked>) -> Told {
    let pool = schema.pool();
    let not_found = |what: &str| {
        Told::Refusal(Refusal {
            code: i32::from(Code::NotFound.to_wire()),
            message: format!("{what} is not known"),
        })
    };
    let file = |found: Option<FileDescriptor>, what: &str| match found {
        Some(file) => Told::Files(Files {
            file: with_imports(&file),
        }),
        None => not_found(what),
    };
    match asked {
        Some(Asked::FileByName(name)) => file(pool.get_file_by_name(name), name),
        Some(Asked::FileOfSymbol(symbol)) => file(defining(schema, symbol), symbol),
        Some(Asked::FileOfExtension(asked)) => {
            let message = pool.get_message_by_name(&asked.message);
            let number = u32::try_from(asked.number).unwrap_or_default();
            let extension = message.and_then(|it| it.get_extension(number));
            file(extension.map(|it| it.parent_file()), &asked.message)
        }
        Some(Asked::ExtensionsOf(name)) => match pool.get_message_by_name(name) {
            Some(message) => Told::Numbers(Numbers {
                number: message
                    .extensions()
                    .filter_map(|it| it.number().try_into().ok())
                    .collect(),
                message: name.clone(),
            }),
            None => not_found(name),
        },
        Some(Asked::ListServices(_)) => {
            let names = pool.services().map(|it| Service {
                name: it.full_name().to_owned(),
            });
            Told::Services(Services {
                service: names.collect(),
            })
        }
        None => Told::Refusal(Refusal {
            code: i32::from(Code::InvalidArgument.to_wire()),
            message: "nothing is asked".to_owned(),
        }),
    }
}

/// The file that defines a service, method, message, enum or extension.
fn defining(schema: &Schema, symbol: &str) -> Option<FileDescriptor> {
    let pool = schema.pool();
    let service = |name: &str| pool.get_service_by_name(name).map(|it| it.parent_file());
    let message = |name: &str| pool.get_message_by_name(name).map(|it| it.parent_file());
    service(symbol)
        .or_else(|| message(symbol))
        .or_else(|| pool.get_enum_by_name(symbol).map(|it| it.parent_file()))
        .or_else(|| {
            pool.get_extension_by_name(symbol)
                .map(|it| it.parent_file())
        })
        .or_else(|| {
            // Methods and fields, by what they are of.
            let (parent, _) = symbol.rsplit_once('.')?;
            service(parent).or_else(|| message(parent))
        })
}

/// A file and all that it imports, each once, so that a client need not ask again.
fn with_imports(file: &FileDescriptor) -> Vec<Vec<u8>> {
    let mut waiting = vec![file.clone()];
    let mut names: Vec<String> = Vec::new();
    let mut files = Vec::new();
    while let Some(file) = waiting.pop() {
        if names.iter().any(|it| it == file.name()) {
            continue;
        }
        names.push(file.name().to_owned());
        files.push(file.encode_to_vec());
        waiting.extend(file.dependencies());
    }
    files
}
