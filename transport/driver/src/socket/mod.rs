//! What both kernel drivers share: addresses, options, connecting, control messages, direct calls.
//!
//! * [`open`](mod@open): sockets come and go; set-up path.
//! * [`direct`]: streams, one call per function; the way of a hot message.
//! * [`datagram`]: the same for datagrams, single and in batches; [`udp`] knows their options and limits.
//! * [`beacon`]: one descriptor for the loops of others.
//! * [`cmsg`] and [`name`]: message headers of fixed size for direct calls and ring operations.
//!
//! Below is `sys.rs`, the only file here that makes a system call nix has no thin wrapper for.

pub mod address;
pub mod beacon;
pub mod cmsg;
pub mod datagram;
pub mod direct;
pub mod name;
pub mod open;
mod steer;
mod sys;
pub mod udp;
