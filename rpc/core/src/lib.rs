//! Servers, clients and channels: RPC over the engine's messages.
//!
//! Above stand a program's services and calls, below the call machines of `ringway-call` and the engine. One
//! [`Node`] is the handler of one engine: it serves the connections that were accepted and calls over those that it
//! opened, on one thread, so that a nested call needs no hop.
//!
//! * [`Server::builder`] puts services, limits and workers together; [`Service`] is what generated code implements.
//! * A handler is a plain function on borrowed bytes ([`Inline`], [`Reply`]), a future on the engine's thread
//!   ([`CallContext`], [`Sender`], [`Receiver`]), or a job of the worker pool ([`Job`]).
//! * [`InlineChannel`] calls with the lowest latency and turns its engine meanwhile; [`Channel`] is for other threads,
//!   blocking or awaited under any runtime. Handlers call other servers over their own engine:
//!   [`CallContext::channel`], [`Deferred::call`].
//! * [`Codec`] is how messages become bytes: [`Raw`], [`Pod`], `Protobuf`, `Prost`.
//! * [`LocalDispatch`] calls services without a connection or an engine.
//! * [`Reflection`] asks a server what it serves; [`Definitions`] answer that question.
//!
//! A unary call to a plain function allocates nothing and copies no payload.

#![forbid(unsafe_code)]

mod answer;
mod builtin;
mod client;
mod codec;
mod coder;
mod context;
mod executor;
mod incoming;
mod interceptor;
mod limits;
mod live;
mod local;
#[cfg(feature = "lz4")]
mod lz4;
mod node;
mod outlet;
mod owed;
mod reply;
mod server;
mod service;
mod stage;
mod stats;
mod stream;
mod sync;
mod unsent;
mod worker;

pub use builtin::health::{Health, ServingStatus};
pub use builtin::reflection::{Definitions, Reflection};
pub use client::{
    Answer, Call, CallEvent, CallKey, CallOptions, Channel, ClientEngine, Clients, Incoming,
    InlineChannel, InlineStream, NotTaken, OneWay, Outgoing, Response, Target,
};
#[cfg(feature = "prost")]
pub use codec::Prost;
#[cfg(feature = "protobuf")]
pub use codec::Protobuf;
pub use codec::{Codec, DecodeError, Layout, Pod, PodRef, Raw, layout_hash};
pub use context::{CallContext, CallInfo, Origin};
pub use incoming::IncomingCall;
pub use interceptor::Interceptor;
pub use limits::ServerLimits;
pub use local::{LocalDispatch, LocalEvent, LocalRequest};
#[cfg(feature = "lz4")]
pub use lz4::Lz4;
pub use node::Node;
pub use owed::{OwedCall, Watch};
pub use reply::{Deferred, Inline, RemoteReply, Replied, Reply};
pub use server::{Bound, ServeError, Server, ServerBuilder, rpc_config};
pub use service::{BuildError, Method, Methods, Service, ServiceInfo};
pub use stats::{MethodStats, StatsReader, Times};
pub use stream::{Receiver, Sender};
pub use worker::{Blocking, Job};

pub use ringway_call::{
    Body, CallConfig, CallId, Code, Compressor, Compressors, Corrupt, Key, Kind, Metadata,
    MetadataBuf, Status, feature, method_id,
};

/// What generated code names, so that its user depends on nothing but ringway. No promise is made about it.
#[doc(hidden)]
pub mod generated;
