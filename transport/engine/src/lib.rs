//! The engine of ringway: one per thread, the only place where protocol machines meet a driver.
//!
//! On the way of a message this crate stands between the user's [`Handler`] (above) and the framing machine
//! of `ringway-proto` and a driver of `ringway-driver` (below).
//!
//! * [`Config`] builds an [`Engine`]; [`Engine::turn`] is one pass of its loop and never sleeps,
//!   [`Engine::wait`] and [`Engine::run`] follow the idle policy.
//! * The [`Handler`] gets borrowed [`Message`]s and writes commands into a [`Context`]: claim and commit,
//!   reply in place, close, timers.
//! * Other threads hold a [`Handle`]; through it they own whole connections as a [`Link`], with blocking and
//!   `async` faces that need no runtime.
//! * [`Shards`] runs N pinned engines behind one acceptor.
//!
//! `send.rs` is the way down, `recv.rs` the way up; `turn.rs` is the loop and fits one screen.

#![forbid(unsafe_code)]

#[cfg(not(any(feature = "uring", feature = "epoll", feature = "sim")))]
compile_error!("an engine needs a driver: enable the feature `uring`, `epoll` or `sim`");

mod claim;
mod config;
mod connection;
mod context;
mod counters;
mod datagram;
mod doorbell;
mod drivers;
mod engine;
mod error;
mod event;
mod filtered;
mod handle;
mod handler;
mod hub;
mod idle;
mod link;
mod listener;
mod message;
mod packet;
mod packet_batch;
mod packet_events;
mod panics;
mod quic;
mod recv;
#[cfg(feature = "sim")]
mod relay;
mod remote;
mod send;
mod shards;
mod sockets;
mod stage;
mod sync;
mod timers;
mod turn;

pub use claim::Claim;
pub use config::{Config, ConfigError, DriverChoice, Limits};
pub use connection::{ConnectionId, Peer};
pub use context::Context;
pub use counters::{Counter, Counters, Stats};
pub use engine::Engine;
pub use error::{CloseReason, Closed, Full, OpenError, SendError, StartError};
pub use event::{BufferCap, Event, Observer};
pub use handle::{Handle, Stopped, Work};
pub use handler::{Handler, LinksOnly};
pub use idle::Idle;
pub use link::{Acceptor, Link, LinkError, Received};
pub use listener::ListenerId;
pub use message::Message;
pub use remote::block_on;
pub use shards::{Shards, ShardsConfig, ShardsError};
pub use stage::FilterFactory;
pub use timers::TimerId;

#[cfg(feature = "sim")]
pub use relay::{Relay, RelayConfig, RelayCounts, RelayError, Traffic};
pub use ringway_buf::{Budget, Copies, Instant, Lease, Mode, RecvBuffer, Slice, copies};
pub use ringway_driver::{
    Address, AddressError, Capabilities, DriverKind, DriverStats, Fact, ListenOptions, SharedPools,
    SocketOptions,
};
pub use ringway_proto::packet::{ConnectRefusal, Delivery, Fault, SessionEnd, Ways};
pub use ringway_proto::rudp::{Congestion, RudpConfig};
pub use ringway_proto::{
    CloseCode, Filter, FilterError, FilterRoom, Header, Opened as FilterOpened, Role, StreamConfig,
    Violation, kind,
};
#[cfg(feature = "quic")]
pub use ringway_quic::{
    AddressProof, DangerousTls, Identity, Qlog, QuicConfig, QuicConfigError, Roots, TlsBuilder,
    TlsConfig, TlsError,
};
#[cfg(feature = "sim")]
pub use ringway_sim as sim;
