//! The Rust that a service becomes: method table, server trait, adapter and clients.
//!
//! Above stand `ringway-build`, which reads `.proto` files, and `ringway-macros`, which reads a Rust trait. Both
//! describe what they found as a [`Service`], so that a service looks the same wherever it comes from. The output
//! names nothing but full paths below [`Service::runtime`] and `::core` / `::std`: whatever the user's messages are
//! called, they shadow nothing. Who serves uses one half of it, who calls the other: the unused one is no warning.

#![forbid(unsafe_code)]

mod client;
mod names;
mod server;
mod service;
mod table;

pub use names::{ident, snake_case, upper_camel_case};
pub use service::{Codec, Form, Kind, Message, Method, Service};
