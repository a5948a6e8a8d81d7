//! Without the feature: nothing to set, and an error that names the feature.

use std::rc::Rc;

use ringway_buf::Pools;
use ringway_proto::packet::PacketEndpoint;

use crate::{Config, OpenError};

const MISSING: OpenError = OpenError::NotConfigured {
    fix: "this build has no QUIC; enable the cargo feature `quic`",
};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings;

pub(crate) fn settled(given: &Config) -> Settings {
    given.quic
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the same face as with the feature"
)]
pub(crate) fn check(_: &Settings) -> Result<(), &'static str> {
    Ok(())
}

pub(crate) fn may_listen(_: &Settings) -> Result<(), OpenError> {
    Err(MISSING)
}

pub(crate) fn may_connect(_: &Settings) -> Result<(), OpenError> {
    Err(MISSING)
}

pub(crate) fn endpoint(
    _: &Settings,
    _: Rc<Pools>,
    _: u64,
    _: u8,
) -> Option<Box<dyn PacketEndpoint>> {
    None
}
