//! What is served: the definitions of services, known at run time.
//!
//! A [`Schema`] comes from descriptors ([`Schema::from_descriptors`]), from a `.proto` file
//! ([`Schema::from_proto`]), from a server's reflection ([`Schema::from_server`]), or from the services of this
//! process. Adapters read methods, routes and messages from it; none of them has generated code.

mod comments;
mod load;
mod reflect;
mod rule;

use core::fmt;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use prost_reflect::{DescriptorPool, MethodDescriptor};
use ringway_rpc::{Definitions, Kind, Method as RpcMethod, Methods};

use crate::error::SchemaError;

pub(crate) use comments::Comments;
pub(crate) use load::google;
pub(crate) use rule::{Body, Rule, Verb, is_scalar_json};

/// Number of the protobuf codec on ringway's wire.
const PROTOBUF: u8 = 1;

/// The services of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    pool: DescriptorPool,
    methods: Vec<Method>,
    by_name: HashMap<String, usize>,
    comments: Comments,
}

/// One method.
#[derive(Clone, Debug)]
pub(crate) struct Method {
    /// `package.Service/Method`.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) descriptor: MethodDescriptor,
    /// The methods of its service, as channels name them.
    pub(crate) siblings: Methods,
    /// Its index among them.
    pub(crate) index: u32,
    /// Its HTTP bindings, first the primary one; none for what servers add themselves: that is for gRPC's
    /// own tools.
    pub(crate) rules: Vec<Rule>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.methods.iter().map(|method| &method.name))
            .finish()
    }
}

impl Schema {
    pub(crate) fn of_pool(pool: DescriptorPool) -> Result<Self, SchemaError> {
        let mut methods = Vec::new();
        for service in pool.services() {
            let service_name = service.full_name();
            let is_public = !is_internal(service_name);
            let siblings: Arc<[RpcMethod]> = service
                .methods()
                .map(|method| {
                    let name = format!("{service_name}/{}", method.name());
                    let found = RpcMethod::found(&name, kind(&method), PROTOBUF, 0);
                    if is_idempotent(&method) {
                        found.idempotent()
                    } else {
                        found
                    }
                })
                .collect();
            for (index, descriptor) in (0_u32..).zip(service.methods()) {
                let name = format!("{service_name}/{}", descriptor.name());
                let rules = if is_public {
                    rule::of(&name, &descriptor)?
                } else {
                    Vec::new()
                };
                let rules = if is_public && rules.is_empty() {
                    vec![Rule::unannotated(&name)?]
                } else {
                    rules
                };
                methods.push(Method {
                    kind: kind(&descriptor),
                    siblings: Methods::from(Arc::clone(&siblings)),
                    index,
                    rules,
                    descriptor,
                    name,
                });
            }
        }
        if methods.is_empty() {
            return Err(SchemaError::Empty);
        }
        let names = methods.iter().enumerate();
        let by_name = names
            .map(|(at, method)| (method.name.clone(), at))
            .collect();
        Ok(Self(Arc::new(Inner {
            comments: Comments::of(&pool),
            pool,
            methods,
            by_name,
        })))
    }

    pub(crate) fn pool(&self) -> &DescriptorPool {
        &self.0.pool
    }

    /// What gRPC's reflection tells of it.
    pub(crate) fn definitions(&self) -> Definitions {
        let services = self.0.pool.services().map(|it| it.full_name().to_owned());
        // By bytes: so options that are extensions keep their values.
        let files = self.0.pool.files().map(|it| Cow::Owned(it.encode_to_vec()));
        Definitions::new(services, files)
    }

    pub(crate) fn comments(&self) -> &Comments {
        &self.0.comments
    }

    pub(crate) fn methods(&self) -> &[Method] {
        &self.0.methods
    }

    /// The method of `package.Service/Method`.
    pub(crate) fn method(&self, name: &str) -> Option<(usize, &Method)> {
        let at = *self.0.by_name.get(name)?;
        self.0.methods.get(at).map(|method| (at, method))
    }
}

/// Services that servers add themselves.
fn is_internal(service: &str) -> bool {
    service.starts_with("grpc.") || service.starts_with("ringway.admin.")
}

fn kind(method: &MethodDescriptor) -> Kind {
    match (method.is_client_streaming(), method.is_server_streaming()) {
        (false, false) => Kind::Unary,
        (true, false) => Kind::ClientStream,
        (false, true) => Kind::ServerStream,
        (true, true) => Kind::Bidi,
    }
}

fn is_idempotent(method: &MethodDescriptor) -> bool {
    let options = method.method_descriptor_proto().options.as_ref();
    options.is_some_and(|it| it.idempotency_level.is_some_and(|level| level != 0))
}
