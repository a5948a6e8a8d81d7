//! The gateway as a program holds it: what it serves, and the thread that does.

use core::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use ringway_rpc::{Channel, Definitions, ServerBuilder};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::backend::{Backend, Local};
use crate::body::Budget;
use crate::config::GatewayConfig;
use crate::error::GatewayError;
use crate::graphql::{self, Graph};
use crate::host;
use crate::openapi::Document;
use crate::rest::Routes;
use crate::schema::Schema;

type Factory = Box<dyn FnOnce() -> ServerBuilder + Send>;

enum Origin {
    Remote(Channel, Schema),
    Local(Factory),
}

/// Services that are about to be served to foreign clients.
pub struct Gateway(Origin);

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Origin::Remote(..) => "Gateway(remote)",
            Origin::Local(_) => "Gateway(in process)",
        })
    }
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) backend: Backend,
    pub(crate) schema: Schema,
    /// The schema as gRPC's reflection tells it.
    pub(crate) definitions: Definitions,
    pub(crate) routes: Routes,
    pub(crate) document: Option<Document>,
    pub(crate) graph: Option<Graph>,
    /// Room for requests that are still coming.
    pub(crate) bodies: Budget,
    pub(crate) config: GatewayConfig,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// In front of a server that a channel calls. The server may be away and come back meanwhile: calls answer
    /// UNAVAILABLE until then.
    #[must_use]
    pub fn new(channel: Channel, schema: Schema) -> Self {
        Self(Origin::Remote(channel, schema))
    }

    /// In front of services that live in the gateway's own thread: `make` is called there. Calls of plain functions
    /// are answered without a hop. Their definitions are those that were compiled in.
    #[must_use]
    pub fn in_process(make: impl FnOnce() -> ServerBuilder + Send + 'static) -> Self {
        Self(Origin::Local(Box::new(make)))
    }

    /// Listens on `address` (`127.0.0.1:8080`; port 0 lets the kernel choose) and serves on a thread of its own until
    /// the result is dropped or stopped. Returns when it listens.
    ///
    /// # Errors
    /// [`GatewayError`]; its text names the fix.
    pub fn serve(self, address: &str, config: GatewayConfig) -> Result<Running, GatewayError> {
        config.check()?;
        let address: SocketAddr = address
            .parse()
            .map_err(|_error| GatewayError::Address(address.to_owned()))?;
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let (report, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("ringway-gateway".to_owned())
            .spawn(move || {
                let failed = match self.run(address, config, &stopped, &report) {
                    Ok(()) => return,
                    Err(error) => error,
                };
                // Nobody is told twice: a gateway that was reported as running fails no more.
                drop(report.send(Err(failed)));
            })
            .map_err(GatewayError::Thread)?;
        match started.recv() {
            Ok(Ok(address)) => Ok(Running {
                address,
                stop,
                thread: Some(thread),
            }),
            Ok(Err(error)) => Err(error),
            Err(_gone) => Err(GatewayError::Thread(std::io::Error::other(
                "the thread died",
            ))),
        }
    }

    fn run(
        self,
        address: SocketAddr,
        config: GatewayConfig,
        stop: &Notify,
        report: &std::sync::mpsc::Sender<Result<SocketAddr, GatewayError>>,
    ) -> Result<(), GatewayError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(GatewayError::Thread)?;
        let tasks = LocalSet::new();
        tasks.block_on(&runtime, async move {
            let (backend, schema) = match self.0 {
                Origin::Remote(channel, schema) => (Backend::Remote(channel), schema),
                Origin::Local(make) => {
                    let local = Local::new(make()).map_err(GatewayError::Build)?;
                    let schema = local.with(|it| Schema::of_services(it.services()))?;
                    tokio::task::spawn_local(Rc::clone(&local).run());
                    (Backend::Local(local), schema)
                }
            };
            let routes = Routes::new(&schema)?;
            let document = config.docs.then(|| Document::new(&schema, &config.json));
            let graph = if config.graphql {
                Some(Graph::new(&schema, config.connections_max)?)
            } else {
                None
            };
            let (graph, work) = graph.unzip();
            let listener = TcpListener::bind(address).await;
            let listener = listener.map_err(|error| GatewayError::Listen { address, error })?;
            let bound = listener.local_addr();
            let bound = bound.map_err(|error| GatewayError::Listen { address, error })?;
            let shared = Rc::new(Shared {
                backend,
                definitions: schema.definitions(),
                schema,
                routes,
                document,
                graph,
                bodies: Budget::new(config.bodies_bytes_max.max(config.message_bytes_max)),
                config,
            });
            if let Some(work) = work {
                tokio::task::spawn_local(graphql::work(Rc::clone(&shared), work));
            }
            drop(report.send(Ok(bound)));
            host::serve(&shared, listener, stop).await;
            Ok(())
        })
    }
}

/// A gateway that serves. Dropping it stops it, after what is under way had
/// [`drain_timeout`](GatewayConfig::drain_timeout) to end.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// The address that is listened on, with the port that the kernel chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: takes no more connections, lets calls end within their time, and waits for it. Blocks.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
