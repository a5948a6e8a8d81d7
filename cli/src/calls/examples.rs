//! The services that `serve` and `demo` serve.

use ringway::rpc::{Health, Server, ServerBuilder, ServingStatus};
use ringway_services::Store;
use ringway_services::bench::EchoServer;
use ringway_services::kv::KeyValueServer;

use super::lz4;
use crate::args::Example;

/// Threads for `bench.Echo/Sleep`.
const WORKERS: usize = 4;

/// One example and its state, which all servers of it share.
#[derive(Clone)]
pub(crate) struct Services {
    example: Example,
    health: Health,
    store: Store,
}

impl Services {
    pub(crate) fn new(example: Example) -> Self {
        let health = Health::default();
        let name = match example {
            Example::Kv => "kv.KeyValue",
            Example::Echo => "bench.Echo",
        };
        health.set(name, ServingStatus::Serving);
        Self {
            example,
            health,
            store: Store::default(),
        }
    }

    /// A server of it with everything that a server can have.
    pub(crate) fn server(&self) -> ServerBuilder {
        let server = Server::builder()
            .compressors(lz4::compressors)
            .admin()
            .reflection()
            .health(self.health.clone());
        match self.example {
            Example::Kv => {
                let store = self.store.clone();
                server.service(move || KeyValueServer::new(store.clone()))
            }
            Example::Echo => server
                .service(|| EchoServer::new(ringway_services::Echo))
                .workers(WORKERS),
        }
    }
}
