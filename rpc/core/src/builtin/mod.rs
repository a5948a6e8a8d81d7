//! Services that every server can have: health, reflection, statistics.
//!
//! They stand where a user's services stand. Their messages are protobuf, read and written by [`proto`] so that the
//! crate needs no generated code; the `.proto` files and their compiled descriptors stand in `rpc/core/proto`.

pub(crate) mod admin;
pub(crate) mod health;
mod proto;
pub(crate) mod reflection;
