#![doc = include_str!("../README.md")]
//!
//! # The crate
//!
//! This is the façade: it names the paved path and holds no logic. The parts behind it are
//! `ringway-engine` (turn loop, connections, handles), `ringway-driver` (io_uring, epoll), `ringway-proto`
//! (framing), `ringway-buf` (memory) and `ringway-sim` (virtual network).

#![forbid(unsafe_code)]

pub use ringway_engine::{
    Acceptor, Address, AddressError, Budget, BufferCap, Capabilities, Claim, CloseCode,
    CloseReason, Closed, Config, ConfigError, ConnectRefusal, ConnectionId, Context, Copies,
    Counter, Counters, Delivery, DriverChoice, DriverKind, DriverStats, Engine, Event, Fact,
    Filter, FilterError, FilterOpened, FilterRoom, Full, Handle, Handler, Header, Idle, Instant,
    Lease, Limits, Link, LinkError, LinksOnly, ListenOptions, ListenerId, Message, Mode, Observer,
    OpenError, Peer, Received, RecvBuffer, Role, SendError, Shards, ShardsConfig, ShardsError,
    SharedPools, Slice, SocketOptions, StartError, Stats, Stopped, StreamConfig, TimerId,
    Violation, Ways, Work, block_on, copies, kind,
};

#[cfg(feature = "quic")]
pub use ringway_engine::{
    AddressProof, DangerousTls, Identity, Qlog, QuicConfig, QuicConfigError, Roots, TlsBuilder,
    TlsConfig, TlsError,
};

/// Calls on top of messages: servers, channels, codecs.
#[cfg(feature = "rpc")]
pub use ringway_rpc as rpc;

/// gRPC and REST in front of calls, from their definitions.
#[cfg(feature = "gateway")]
pub use ringway_gateway as gateway;

/// Services from traits, messages from structs.
#[cfg(feature = "macros")]
pub use ringway_macros::{message, service};

/// Bad networks: virtual ones, and a proxy that makes real ones worse.
#[cfg(feature = "sim")]
pub use ringway_engine::{Relay, RelayConfig, RelayCounts, RelayError, Traffic, sim};
