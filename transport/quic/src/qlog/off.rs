//! Without the feature `qlog` there is nowhere to trace to.

use quinn_proto::TransportConfig;

/// Where traces of connections go: nowhere, because the feature `qlog` is off.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Qlog;

impl Qlog {
    pub(crate) fn install(self, _transport: &mut TransportConfig) {}
}
