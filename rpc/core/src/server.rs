//! Putting a server together: services, limits, workers; then an engine of one's own, this thread, or several.

use core::fmt;
use std::sync::Arc;

use ringway_call::{Compressors, feature};
use ringway_engine::{
    Address, Config, Engine, Handle, OpenError, Shards, ShardsConfig, ShardsError, StartError,
};

use crate::builtin::admin::Admin;
use crate::builtin::health::{Health, HealthService};
use crate::builtin::reflection::ReflectionService;
use crate::client::Clients;
use crate::interceptor::Interceptor;
use crate::limits::ServerLimits;
use crate::local::LocalDispatch;
use crate::node::Node;
use crate::node::dispatch::{Dispatch, Parts};
use crate::service::{BuildError, Registry, Service, ServiceInfo};
use crate::stats::StatsReader;
use crate::worker::Workers;

type Factory = Arc<dyn Fn() -> Box<dyn Service> + Send + Sync>;
type InterceptorFactory = Arc<dyn Fn() -> Box<dyn Interceptor> + Send + Sync>;
type EngineFactory = Arc<dyn Fn() -> Config + Send + Sync>;
type CompressorsFactory = Arc<dyn Fn() -> Compressors + Send + Sync>;

/// Where servers begin: [`Server::builder`].
#[derive(Clone, Copy, Debug)]
pub struct Server;

impl Server {
    /// A server without services.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }
}

/// What every thread of a server is made from.
#[derive(Clone, Default)]
struct Plan {
    factories: Vec<Factory>,
    interceptors: Vec<InterceptorFactory>,
    engine: Option<EngineFactory>,
    compressors: Option<CompressorsFactory>,
    limits: ServerLimits,
    workers: usize,
    stats: Option<StatsReader>,
    health: Option<Health>,
    reflection: bool,
    admin: bool,
}

/// Settings of a server; setters take and return it.
///
/// ```
/// # use ringway_rpc::{IncomingCall, Kind, Method, Raw, Service, ServiceInfo};
/// # struct Echo;
/// # static INFO: ServiceInfo = ServiceInfo {
/// #     name: "demo.Echo",
/// #     methods: &[Method::new("demo.Echo/Say", Kind::Unary, 0, 0)],
/// #     descriptors: &[],
/// # };
/// # impl Service for Echo {
/// #     fn info(&self) -> &'static ServiceInfo {
/// #         &INFO
/// #     }
/// #     fn call(&mut self, call: IncomingCall<'_, '_>) {
/// #         call.inline::<Raw, [u8], [u8]>(|_call, request, reply| reply.send(request));
/// #     }
/// # }
/// use ringway_rpc::{LocalRequest, Server};
///
/// let mut server = Server::builder().service(|| Echo).local()?;
/// let answer = server.unary(&LocalRequest::unary("demo.Echo/Say", b"hello"))?;
/// assert_eq!(&*answer, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct ServerBuilder {
    plan: Plan,
    own: Vec<Box<dyn Service>>,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("services", &(self.plan.factories.len() + self.own.len()))
            .field("limits", &self.plan.limits)
            .finish_non_exhaustive()
    }
}

impl ServerBuilder {
    /// Adds a service; `make` is called once on each engine thread.
    #[must_use]
    pub fn service<S: Service + 'static>(
        mut self,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        let factory = move || Box::new(make()) as Box<dyn Service>;
        self.plan.factories.push(Arc::new(factory));
        self
    }

    /// Adds a service that lives on this thread: for [`build`](Self::build), [`bind`](Self::bind) and
    /// [`local`](Self::local), not for several threads.
    #[must_use]
    pub fn service_here(mut self, service: impl Service + 'static) -> Self {
        self.own.push(Box::new(service));
        self
    }

    /// All limits at once.
    #[must_use]
    pub fn limits(mut self, limits: ServerLimits) -> Self {
        self.plan.limits = limits;
        self
    }

    /// Threads for handlers that block, shared by all engine threads. Default 0.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.plan.workers = count;
        self
    }

    /// Adds what sees every call before its service; in order. `make` is called once on each engine thread.
    #[must_use]
    pub fn interceptor<I: Interceptor + 'static>(
        mut self,
        make: impl Fn() -> I + Send + Sync + 'static,
    ) -> Self {
        let factory = move || Box::new(make()) as Box<dyn Interceptor>;
        self.plan.interceptors.push(Arc::new(factory));
        self
    }

    /// Settings of the engines that [`bind`](Self::bind) and [`shards`](Self::shards) start.
    #[must_use]
    pub fn engine(mut self, make: impl Fn() -> Config + Send + Sync + 'static) -> Self {
        self.plan.engine = Some(Arc::new(make));
        self
    }

    /// Algorithms that messages may be packed with. Default none.
    #[must_use]
    pub fn compressors(mut self, make: impl Fn() -> Compressors + Send + Sync + 'static) -> Self {
        self.plan.compressors = Some(Arc::new(make));
        self
    }

    /// Counts calls and measures their times, readable through `reader` on any thread. Costs two readings of the
    /// clock per call. Default off.
    #[must_use]
    pub fn stats(mut self, reader: StatsReader) -> Self {
        self.plan.stats = Some(reader);
        self
    }

    /// Adds the service `grpc.health.v1.Health`, which says what `health` was told.
    #[must_use]
    pub fn health(mut self, health: Health) -> Self {
        self.plan.health = Some(health);
        self
    }

    /// Adds the service `grpc.reflection.v1.ServerReflection` over the descriptors of all services.
    #[must_use]
    pub fn reflection(mut self) -> Self {
        self.plan.reflection = true;
        self
    }

    /// Adds the service `ringway.admin.v1.Admin`, which shows the statistics; switches these on.
    #[must_use]
    pub fn admin(mut self) -> Self {
        self.plan.admin = true;
        self.plan.stats.get_or_insert_default();
        self
    }

    /// A handler for an engine of the caller's own. That engine has to offer the feature
    /// ([`rpc_config`](crate::rpc_config) does).
    ///
    /// # Errors
    /// [`BuildError`] names what does not fit together.
    pub fn build(self) -> Result<Node, BuildError> {
        let workers = self.plan.start_workers()?;
        let dispatch = self.plan.dispatch(self.own, workers)?;
        Ok(Node::new(Some(dispatch), Clients::default()))
    }

    /// A server without engine and connections, for gateways and tests.
    ///
    /// # Errors
    /// [`BuildError`] names what does not fit together.
    pub fn local(self) -> Result<LocalDispatch, BuildError> {
        self.local_with(1 << 30, || {})
    }

    /// Like [`local`](Self::local), with its own memory budget; `wake` is called, from any thread, when
    /// [`LocalDispatch::turn`] has something to do.
    ///
    /// # Errors
    /// [`BuildError`] names what does not fit together.
    pub fn local_with(
        self,
        budget_bytes: usize,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<LocalDispatch, BuildError> {
        let workers = self.plan.start_workers()?;
        let dispatch = self.plan.dispatch(self.own, workers)?;
        Ok(LocalDispatch::new(dispatch, budget_bytes, wake))
    }

    /// Starts an engine on this thread and listens; [`Bound::run`] serves.
    ///
    /// # Errors
    /// [`ServeError`]; its text names the fix.
    pub fn bind(self, addresses: &[&str]) -> Result<Bound, ServeError> {
        let config = self.plan.engine_config();
        let node = self.build().map_err(ServeError::Build)?;
        let mut engine = config.build().map_err(ServeError::Start)?;
        let mut bound = Vec::new();
        for address in addresses {
            let listener = engine.listen(address).map_err(ServeError::Open)?;
            bound.extend(engine.local_address(listener));
        }
        Ok(Bound {
            engine,
            node,
            addresses: bound,
        })
    }

    /// Serves on this thread until the engine is stopped or drained through a handle that nobody has: for programs
    /// that serve until they are killed. [`bind`](Self::bind) gives a handle first.
    ///
    /// # Errors
    /// [`ServeError`]; its text names the fix.
    pub fn serve(self, addresses: &[&str]) -> Result<(), ServeError> {
        self.bind(addresses)?.run();
        Ok(())
    }

    /// Starts `count` engines on threads of their own behind one acceptor. Dropping the result stops them;
    /// [`Shards::drain`] finishes accepted calls first.
    ///
    /// # Errors
    /// [`ServeError`]; its text names the fix.
    pub fn shards(self, count: usize, addresses: &[&str]) -> Result<Shards, ServeError> {
        let config = ShardsConfig {
            count,
            listen: addresses.iter().map(ToString::to_string).collect(),
            ..ShardsConfig::default()
        };
        self.shards_with(&config)
    }

    /// Like [`shards`](Self::shards), with cores to pin to and options of the listeners.
    ///
    /// # Errors
    /// [`ServeError`]; its text names the fix.
    pub fn shards_with(self, config: &ShardsConfig) -> Result<Shards, ServeError> {
        if let Some(service) = self.own.first() {
            let name = service.info().name;
            return Err(ServeError::Build(BuildError::NotAFactory { name }));
        }
        let plan = self.plan;
        // Checked here, once, so that no thread finds a mistake.
        plan.registry(Vec::new()).map_err(ServeError::Build)?;
        plan.limits.check().map_err(ServeError::Build)?;
        let workers = plan.start_workers().map_err(ServeError::Build)?;
        let engine = plan.clone();
        let start = move |_index: usize| match plan.dispatch(Vec::new(), workers.clone()) {
            Ok(dispatch) => Node::new(Some(dispatch), Clients::default()),
            Err(error) => unreachable!("checked before the threads were started: {error}"),
        };
        Shards::start(config, move |_index| engine.engine_config(), start)
            .map_err(ServeError::Shards)
    }
}

impl Plan {
    fn engine_config(&self) -> Config {
        let config = self.engine.as_ref().map(|make| make());
        config.unwrap_or_default().features(feature::RPC)
    }

    fn start_workers(&self) -> Result<Option<Arc<Workers>>, BuildError> {
        if self.workers == 0 {
            return Ok(None);
        }
        let limits = &self.limits;
        Workers::start(self.workers, limits.jobs_max, limits.queue_time_max)
            .map(|workers| Some(Arc::new(workers)))
            .map_err(|error| BuildError::Workers(error.kind()))
    }

    /// All services of one thread, the built-in ones behind the user's.
    fn registry(&self, own: Vec<Box<dyn Service>>) -> Result<Registry, BuildError> {
        let mut services = own;
        services.extend(self.factories.iter().map(|make| make()));
        if let Some(health) = &self.health {
            services.push(Box::new(HealthService::new(health.clone())));
        }
        if self.admin {
            let reader = self.stats.clone().unwrap_or_default();
            services.push(Box::new(Admin::new(reader)));
        }
        if self.reflection {
            let mut known: Vec<&'static ServiceInfo> =
                services.iter().map(|service| service.info()).collect();
            known.push(ReflectionService::info());
            services.push(Box::new(ReflectionService::new(&known)));
        }
        Registry::new(services)
    }

    fn dispatch(
        &self,
        own: Vec<Box<dyn Service>>,
        workers: Option<Arc<Workers>>,
    ) -> Result<Dispatch, BuildError> {
        self.limits.check()?;
        Ok(Dispatch::new(Parts {
            registry: self.registry(own)?,
            limits: self.limits.clone(),
            workers,
            interceptors: self.interceptors.iter().map(|make| make()).collect(),
            stats: self.stats.clone(),
            compressors: self
                .compressors
                .as_ref()
                .map(|make| make())
                .unwrap_or_default(),
        }))
    }
}

/// A server that listens, on this thread.
#[derive(Debug)]
pub struct Bound {
    engine: Engine,
    node: Node,
    addresses: Vec<Address>,
}

impl Bound {
    /// The addresses that are listened on, with the ports that the kernel chose.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// A handle to stop or drain the server from other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.engine.handle()
    }

    /// The engine and its handler, for a loop of one's own.
    pub fn parts(&mut self) -> (&mut Engine, &mut Node) {
        (&mut self.engine, &mut self.node)
    }

    /// Serves until [`Handle::stop`], or until [`Handle::drain`] has finished what was accepted.
    pub fn run(&mut self) {
        self.engine.run(&mut self.node);
    }
}

/// Why a server can't serve. The text names the fix.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The services or limits don't fit together.
    Build(BuildError),
    /// The engine can't be started.
    Start(StartError),
    /// An address can't be listened on.
    Open(OpenError),
    /// The threads can't be started.
    Shards(ShardsError),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Start(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Shards(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ServeError {}

/// Settings of an engine that speaks calls: the default ones and the feature. Other settings get it by
/// `Config::features(rpc::feature::RPC)`.
#[must_use]
pub fn rpc_config() -> Config {
    Config::default().features(feature::RPC)
}
