//! The services that `serve` and `demo` serve.

use ringway::rpc::{Health, Server, ServerBuilder, ServingStatus};
use ringway_services::Store;
use ringway_services::bench::EchoServer;
use ringway_services::kv::KeyValueServer;

use super::lz4;
use crate::args::Example;

/// Threads for `bench.Echo/Sleep`.
const WORKERS: usize = 4;

/// A server of one example with everything that a server can have.
pub(crate) fn server(example: Example) -> ServerBuilder {
    let health = Health::default();
    let server = Server::builder()
        .compressors(lz4::compressors)
        .admin()
        .reflection();
    let server = match example {
        Example::Kv => {
            health.set("kv.KeyValue", ServingStatus::Serving);
            let store = Store::default();
            server.service(move || KeyValueServer::new(store.clone()))
        }
        Example::Echo => {
            health.set("bench.Echo", ServingStatus::Serving);
            server
                .service(|| EchoServer::new(ringway_services::Echo))
                .workers(WORKERS)
        }
    };
    server.health(health)
}
