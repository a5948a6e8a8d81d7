//! The commands that call services: `call`, `describe`, `health`, `load`, `top`.
//!
//! They stand on the library's channels like any program. What they know about a server's messages they learn from
//! its reflection service; messages go between JSON and protobuf by their descriptors.

pub(crate) mod args;
mod call;
mod describe;
mod details;
mod duration;
mod examples;
mod form;
mod health;
mod input;
pub(crate) mod load;
mod lz4;
mod names;
mod proto_text;
mod reflection;
mod remote;
mod samples;
mod top;

pub(crate) use call::run as call;
pub(crate) use describe::run as describe;
pub(crate) use details::details;
pub(crate) use examples::Services;
pub(crate) use health::run as health;
pub(crate) use load::run as load;
#[cfg(feature = "gateway")]
pub(crate) use remote::channel;
pub(crate) use top::run as top;
