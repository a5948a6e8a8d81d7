//! gRPC, REST and GraphQL in front of services of ringway, from one definition.
//!
//! Above stand foreign clients: anything that speaks HTTP. Below stands a [`Channel`](ringway_rpc::Channel) to a
//! server elsewhere, or services in this very thread ([`Gateway::in_process`]), which are dispatched without a hop to
//! an engine. Everything is told by descriptors at run time ([`Schema`]); nothing is generated for it.
//!
//! * gRPC and gRPC-Web: `/package.Service/Method`; messages pass through undecoded.
//! * REST: the rules of `google.api.http`, and `POST /package.Service/Method` for methods without one; JSON is
//!   protobuf's own mapping.
//!
//! * OpenAPI 3.1 of what REST offers, with a page that shows it and tries it out, where that is
//!   [asked for](GatewayConfig::docs): `/openapi.json`, `/openapi.yaml`, `/docs`.
//! * GraphQL, with the cargo feature `graphql` and where it is [asked for](GatewayConfig::graphql), at `/graphql`.
//!
//! One port speaks all of them, on one thread of its own. Deadlines, cancellation, metadata, limits and statuses cross
//! both ways: a client that goes away cancels its call.
//!
//! ```
//! use ringway_gateway::{Gateway, GatewayConfig};
//! use ringway_rpc::Server;
//! use ringway_services::{Store, kv::KeyValueServer};
//!
//! let gateway = Gateway::in_process(|| {
//!     Server::builder().service(|| KeyValueServer::new(Store::default()))
//! });
//! let running = gateway.serve("127.0.0.1:0", GatewayConfig::default())?;
//! println!("curl http://{}/v1/keys/a", running.address());
//! # Ok::<(), ringway_gateway::GatewayError>(())
//! ```

#![forbid(unsafe_code)]

mod backend;
mod body;
mod config;
mod error;
mod gateway;
#[cfg(feature = "graphql")]
mod graphql;
#[cfg(not(feature = "graphql"))]
#[path = "no_graphql.rs"]
mod graphql;
mod grpc;
mod host;
mod metadata;
mod openapi;
#[cfg(not(feature = "ui"))]
#[path = "no_pages.rs"]
mod pages;
#[cfg(feature = "ui")]
mod pages;
mod rest;
mod router;
mod schema;
mod status;
mod timeout;

pub use config::{GatewayConfig, JsonOptions};
pub use error::{GatewayError, SchemaError};
pub use gateway::{Gateway, Running};
pub use schema::Schema;
