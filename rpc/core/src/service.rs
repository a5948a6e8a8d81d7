//! What a service is: a list of methods and one function that takes calls of them.
//!
//! Above the node, which owns one service of each kind per engine thread; below generated code, or a hand-written
//! implementation. A service sees each call once, as an [`IncomingCall`], and decides in which form it is
//! handled: at once in place, as a future, or on the worker pool.

use core::fmt;
use core::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use ringway_call::{Binding, Kind, MethodTable, method_id};

use crate::IncomingCall;

/// One method of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// `package.Service/Method`.
    pub name: &'static str,
    /// FNV-1a of the name, 64 bits; [`Method::new`] computes it.
    pub id: u64,
    /// Unary or which sides stream.
    pub kind: Kind,
    /// Fingerprint of the layout of its messages; 0 if the codec needs none.
    pub schema: u32,
    /// Number of its codec: 0 raw, 1 protobuf, 2 pod.
    pub codec: u8,
    /// Calling it twice does what calling it once does.
    pub idempotent: bool,
}

impl Method {
    /// A method that is not known to be idempotent.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, codec: u8, schema: u32) -> Self {
        Self {
            name,
            id: method_id(name),
            kind,
            schema,
            codec,
            idempotent: false,
        }
    }

    /// A method whose name is known only at run time, for clients: the wire carries the name's hash, so `name` stays
    /// empty, and no server takes it.
    #[must_use]
    pub const fn found(name: &str, kind: Kind, codec: u8, schema: u32) -> Self {
        Self {
            id: method_id(name),
            ..Self::new("", kind, codec, schema)
        }
    }

    /// The same method, known to be idempotent.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// What the wire says about it.
    #[must_use]
    pub const fn binding(&self) -> Binding {
        Binding {
            method: self.id,
            schema: self.schema,
            kind: self.kind,
            codec: self.codec,
        }
    }
}

/// A list of methods that calls name by index: of a generated or hand-written service, or found at run time.
///
/// ```
/// use std::sync::Arc;
/// use ringway_rpc::{Kind, Method, Methods};
///
/// static KNOWN: &[Method] = &[Method::new("demo.Echo/Say", Kind::Unary, 0, 0)];
/// let known = Methods::from(KNOWN);
///
/// let name = format!("demo.Echo/{}", "Say");
/// let found = Methods::from(Arc::from([Method::found(&name, Kind::Unary, 0, 0)]));
/// assert_eq!(known[0].binding(), found[0].binding());
/// ```
#[derive(Clone, Debug)]
pub struct Methods(List);

#[derive(Clone, Debug)]
enum List {
    Static(&'static [Method]),
    Shared(Arc<[Method]>),
}

impl Methods {
    /// The list, if it lives as long as the program.
    pub(crate) fn as_static(&self) -> Option<&'static [Method]> {
        match &self.0 {
            List::Static(methods) => Some(methods),
            List::Shared(_) => None,
        }
    }
}

impl Deref for Methods {
    type Target = [Method];

    fn deref(&self) -> &[Method] {
        match &self.0 {
            List::Static(methods) => methods,
            List::Shared(methods) => methods,
        }
    }
}

impl From<&'static [Method]> for Methods {
    fn from(methods: &'static [Method]) -> Self {
        Self(List::Static(methods))
    }
}

impl From<Arc<[Method]>> for Methods {
    fn from(methods: Arc<[Method]>) -> Self {
        Self(List::Shared(methods))
    }
}

/// What is known about a service without calling it.
#[derive(Clone, Copy, Debug)]
pub struct ServiceInfo {
    /// `package.Service`.
    pub name: &'static str,
    /// Its methods; [`IncomingCall::method`] counts them from 0.
    pub methods: &'static [Method],
    /// A serialized `FileDescriptorSet` for reflection and gateways; may be empty.
    pub descriptors: &'static [u8],
}

/// A service of one engine thread: generated from a `.proto` or a trait, or written by hand.
///
/// ```
/// use ringway_rpc::{IncomingCall, Kind, Method, Raw, Service, ServiceInfo};
///
/// struct Echo;
/// static INFO: ServiceInfo = ServiceInfo {
///     name: "demo.Echo",
///     methods: &[Method::new("demo.Echo/Say", Kind::Unary, 0, 0)],
///     descriptors: &[],
/// };
/// impl Service for Echo {
///     fn info(&self) -> &'static ServiceInfo {
///         &INFO
///     }
///     fn call(&mut self, call: IncomingCall<'_, '_>) {
///         match call.method() {
///             0 => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| reply.send(request)),
///             _ => call.unimplemented(),
///         }
///     }
/// }
/// ```
pub trait Service {
    /// Its name and methods; the same at every call.
    fn info(&self) -> &'static ServiceInfo;

    /// Takes one call. A call that is dropped without having been given a form ends with INTERNAL, as does one
    /// whose handler panics.
    fn call(&mut self, call: IncomingCall<'_, '_>);
}

impl<S: Service + ?Sized> Service for Box<S> {
    fn info(&self) -> &'static ServiceInfo {
        (**self).info()
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        (**self).call(call);
    }
}

/// Why services can't be put together. Found when a server is built, never later.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// Two services have one name.
    DuplicateService {
        /// Which name.
        name: &'static str,
    },
    /// A method's name does not begin with its service's name and a slash, or repeats.
    MethodName {
        /// The service.
        service: &'static str,
        /// The method's name.
        method: &'static str,
    },
    /// Two methods have names with one hash; rename one of them.
    Collision {
        /// One.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A method's `id` is not the hash of its name; make it with [`Method::new`].
    WrongId {
        /// The method's name.
        method: &'static str,
    },
    /// A limit is out of its range.
    Limit {
        /// Which field.
        field: &'static str,
        /// Its least value.
        min: u64,
        /// Its greatest value.
        max: u64,
    },
    /// Worker threads could not be started.
    Workers(std::io::ErrorKind),
    /// A service that lives on one thread was given to a server that runs on several; give a factory.
    NotAFactory {
        /// Which service.
        name: &'static str,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateService { name } => {
                write!(
                    f,
                    "the service `{name}` is registered twice; register it once"
                )
            }
            Self::MethodName { service, method } => write!(
                f,
                "the method `{method}` of `{service}` needs a name of its own that begins with `{service}/`"
            ),
            Self::Collision { one, other } => write!(
                f,
                "`{one}` and `{other}` have the same hash; rename one of the methods"
            ),
            Self::WrongId { method } => write!(
                f,
                "the id of `{method}` is not the hash of its name; make it with `Method::new`"
            ),
            Self::Limit { field, min, max } => {
                write!(
                    f,
                    "`{field}` is out of its range; choose from {min} to {max}"
                )
            }
            Self::Workers(kind) => write!(
                f,
                "starting worker threads: {kind}; ask for fewer, or raise the limit of processes"
            ),
            Self::NotAFactory { name } => write!(
                f,
                "`{name}` lives on one thread; give several threads a factory with `service`"
            ),
        }
    }
}

impl std::error::Error for BuildError {}

/// Where a method of the table leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) service: usize,
    /// Index within the service.
    pub(crate) index: usize,
    pub(crate) method: &'static Method,
}

/// The services of one thread and the table of all their methods.
pub(crate) struct Registry {
    pub(crate) services: Vec<Box<dyn Service>>,
    pub(crate) routes: Vec<Route>,
    pub(crate) table: Rc<MethodTable>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("services", &self.services.len())
            .field("methods", &self.routes.len())
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// Checks names, ids and collisions.
    pub(crate) fn new(services: Vec<Box<dyn Service>>) -> Result<Self, BuildError> {
        let mut routes: Vec<Route> = Vec::new();
        for (service, entry) in services.iter().enumerate() {
            let info = entry.info();
            let earlier = services.iter().take(service);
            if earlier
                .into_iter()
                .any(|other| other.info().name == info.name)
            {
                return Err(BuildError::DuplicateService { name: info.name });
            }
            for (index, method) in info.methods.iter().enumerate() {
                check(info, method, &routes)?;
                routes.push(Route {
                    service,
                    index,
                    method,
                });
            }
        }
        let bindings: Vec<Binding> = routes.iter().map(|route| route.method.binding()).collect();
        Ok(Self {
            services,
            routes,
            table: Rc::new(MethodTable::new(&bindings)),
        })
    }
}

fn check(info: &ServiceInfo, method: &Method, known: &[Route]) -> Result<(), BuildError> {
    let own = method
        .name
        .strip_prefix(info.name)
        .and_then(|rest| rest.strip_prefix('/'));
    let repeated = known.iter().any(|it| it.method.name == method.name);
    if own.is_none_or(str::is_empty) || repeated {
        return Err(BuildError::MethodName {
            service: info.name,
            method: method.name,
        });
    }
    if method.id != method_id(method.name) {
        return Err(BuildError::WrongId {
            method: method.name,
        });
    }
    match known.iter().find(|it| it.method.id == method.id) {
        Some(other) => Err(BuildError::Collision {
            one: other.method.name,
            other: method.name,
        }),
        None => Ok(()),
    }
}
