//! QUIC in the engine: its settings, and the machines made with them. Without the feature `quic` there are none.

#[cfg(not(feature = "quic"))]
mod off;
#[cfg(feature = "quic")]
mod on;

#[cfg(not(feature = "quic"))]
pub(crate) use self::off::{Settings, check, endpoint, may_connect, may_listen, settled};
#[cfg(feature = "quic")]
pub(crate) use self::on::{Settings, check, endpoint, may_connect, may_listen, settled};
