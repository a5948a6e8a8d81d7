//! QUIC behind ringway's packet contract.
//!
//! quinn-proto is a state machine without I/O; this crate drives it by hand, without a runtime, and keeps the contract
//! of [`PacketEndpoint`](ringway_proto::packet::PacketEndpoint), so that an engine carries QUIC like any other packet
//! transport. For networks that are not trusted: everything is encrypted and the server (and, if wanted, the client) is
//! authenticated.
//!
//! * [`QuicEndpoint`] is the machine behind one UDP socket;
//! * [`QuicConfig`] holds its limits and times;
//! * [`TlsConfig`] holds certificates and trust.
//!
//! Above stands the engine, below a driver's datagrams. `docs/wire/quic.md` says what travels how.
//!
//! Invariants: time is an argument and every random choice but the keys of TLS comes from one seed; what a peer can
//! make this end hold is the window that was taken from the budget for it, plus pool memory for the messages that are
//! being received; foreign bytes meet quinn-proto and the stream machine, both of which answer with an error and never
//! with a panic.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod config;
mod congestion;
mod endpoint;
mod keys;
mod qlog;
mod session;
mod time;
mod tls;
mod tracked;

pub use config::{AddressProof, QuicConfig, QuicConfigError};
pub use endpoint::{PathStats, QuicEndpoint};
pub use qlog::Qlog;
pub use tls::{ALPN, DangerousTls, Identity, Roots, TlsBuilder, TlsConfig, TlsError};
