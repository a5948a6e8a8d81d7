//! `grpc.reflection.v1.ServerReflection`, both sides of it: which services there are and what their messages look
//! like.
//!
//! [`Definitions`] answers the questions, for the service of this module and for gateways; [`Reflection`] asks them.

mod client;
mod definitions;

use std::borrow::Cow;
use std::rc::Rc;

use ringway_call::{Kind, Status};

use super::proto::{Fields, Value};
use crate::{IncomingCall, Method, Raw, Receiver, Sender, Service, ServiceInfo};

pub use client::Reflection;
pub use definitions::Definitions;

static INFO: ServiceInfo = ServiceInfo {
    name: "grpc.reflection.v1.ServerReflection",
    methods: &[Method::new(
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Kind::Bidi,
        1,
        0,
    )
    .idempotent()],
    descriptors: include_bytes!("../../../proto/reflection.bin"),
};

/// Field numbers of the protocol's messages, by the name of the message and of the field.
mod field {
    /// `ServerReflectionRequest`, and the names in its answers.
    pub(super) const HOST: u64 = 1;
    pub(super) const FILE_BY_FILENAME: u64 = 3;
    pub(super) const FILE_CONTAINING_SYMBOL: u64 = 4;
    pub(super) const FILE_CONTAINING_EXTENSION: u64 = 5;
    pub(super) const ALL_EXTENSION_NUMBERS_OF_TYPE: u64 = 6;
    pub(super) const LIST_SERVICES: u64 = 7;
    /// `ServerReflectionResponse`.
    pub(super) const ORIGINAL_REQUEST: u64 = 2;
    pub(super) const FILE_DESCRIPTOR_RESPONSE: u64 = 4;
    pub(super) const ALL_EXTENSION_NUMBERS_RESPONSE: u64 = 5;
    pub(super) const LIST_SERVICES_RESPONSE: u64 = 6;
    pub(super) const ERROR_RESPONSE: u64 = 7;
    /// Of a `FileDescriptorProto`.
    pub(super) const FILE_NAME: u64 = 1;
    pub(super) const FILE_PACKAGE: u64 = 2;
    pub(super) const FILE_DEPENDENCY: u64 = 3;
}

/// All texts of one field.
fn texts(message: &[u8], wanted: u64) -> impl Iterator<Item = &str> {
    Fields(message)
        .filter(move |(field, _)| *field == wanted)
        .filter_map(|(_, value)| value.text())
}

/// All messages of one field.
fn messages(message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter_map(move |(field, value)| match value {
        Value::Bytes(bytes) if field == wanted => Some(bytes),
        _ => None,
    })
}

/// The service.
#[derive(Debug)]
pub(crate) struct ReflectionService(Rc<Definitions>);

impl ReflectionService {
    pub(crate) fn info() -> &'static ServiceInfo {
        &INFO
    }

    /// Over the descriptors of these services.
    pub(crate) fn new(services: &[&'static ServiceInfo]) -> Self {
        let names = services.iter().map(|info| info.name.to_owned());
        let files = services
            .iter()
            .flat_map(|info| messages(info.descriptors, 1));
        Self(Rc::new(Definitions::new(names, files.map(Cow::Borrowed))))
    }
}

impl Service for ReflectionService {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        let definitions = Rc::clone(&self.0);
        match call.method() {
            0 => call
                .bidi::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, input, out| serve(definitions, input, out)),
            _ => call.unimplemented(),
        }
    }
}

async fn serve(
    definitions: Rc<Definitions>,
    mut input: Receiver<Vec<u8>>,
    mut out: Sender<Vec<u8>>,
) -> Result<(), Status> {
    while let Some(question) = input.recv().await? {
        out.send(definitions.answer(&question)?).await?;
    }
    Ok(())
}
