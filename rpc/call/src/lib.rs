//! The call machine: RPC over messages, sans-IO.
//!
//! Above stands whoever serves and calls (`ringway-rpc`), below an [`Outlet`] for frames on the way down and
//! [`Frame`]s on the way up, one machine per connection: [`Caller`] at the end that connected, [`Callee`] at the
//! end that accepted. Time is an argument; memory comes from [`ringway_buf::Pools`], so that everything a peer
//! can make this side hold is counted by one budget.
//!
//! * [`wire`]: the layouts, field by field as in `docs/wire/rpc.md`;
//! * [`Caller`], [`Callee`]: slots, streams, deadlines, cancellation;
//! * [`Status`], [`Metadata`], [`Compressor`]: what travels besides messages.
//!
//! A unary call costs one frame each way, an array look-up at each end, and no allocation.
#![no_std]
#![forbid(unsafe_code)]
// Foreign bytes pass through every file of this crate.
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bulk;
mod callee;
mod caller;
mod compress;
mod config;
mod flood;
mod id;
mod lane;
mod metadata;
mod method;
mod outlet;
mod owed;
mod payload;
mod recv;
mod send;
mod status;
mod violation;
pub mod wire;

pub use callee::{Callee, CalleeEvent, CalleeState, CancelReason, Opened};
pub use caller::{Caller, CallerEvent, CallerState, Open};
pub use compress::{Compressor, Compressors, Corrupt};
pub use config::{CallConfig, ConfigError};
pub use id::CallId;
pub use metadata::{Entry, Key, Metadata, MetadataBuf, MetadataError};
pub use method::{Binding, Bound, Kind, MethodTable, method_id};
pub use outlet::{Blocked, Body, Outlet, Refused, Way};
pub use payload::{Frame, Keep, Payload};
pub use status::{Code, Result, Status, StatusView};
pub use violation::Violation;
pub use wire::{Head, feature, flag, kind};
