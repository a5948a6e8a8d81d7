//! The services that the examples, the demo and the benchmarks serve.
//!
//! * [`kv`]: a key-value store with watch streams, defined in `proto/kv.proto`; [`Store`] implements it.
//! * [`mod@bench`]: calls that cost nothing by themselves, defined in `proto/echo.proto`; [`Echo`] implements them.
//!
//! ```
//! use ringway::rpc::Server;
//! use ringway_services::kv::{KeyValueClient, KeyValueServer, PutRequest};
//! use ringway_services::Store;
//!
//! let store = Store::default();
//! let server = Server::builder()
//!     .service(move || KeyValueServer::new(store.clone()))
//!     .shards(1, &["tcp://127.0.0.1:0"])?;
//! let client = KeyValueClient::connect(&server.addresses()[0].to_string())?;
//! let put = PutRequest { key: "a".into(), value: b"1".into() };
//! assert_eq!(client.put(&put).wait()?.view()?.revision, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod echo;
mod service;
mod store;

ringway::rpc::include_proto!();

pub use echo::Echo;
pub use store::Store;
