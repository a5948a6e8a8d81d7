//! Traces by quinn-proto's qlog writer.

use std::{fmt, io};

use quinn_proto::{QlogConfig, QlogStream, TransportConfig};

/// Where traces of connections go. One stream takes all connections of an endpoint; each event names its own.
///
/// Times are milliseconds of the engine's clock. Writing happens on the engine's thread and may block it, and each
/// packet costs some microseconds: a tool for finding out, not for production.
#[derive(Clone, Default)]
pub struct Qlog(Option<QlogStream>);

impl fmt::Debug for Qlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Qlog").field(&self.0.is_some()).finish()
    }
}

impl Qlog {
    /// Traces into `writer`, e.g. a buffered file. A writer that fails at once gives no trace.
    #[must_use]
    pub fn to(writer: impl io::Write + Send + Sync + 'static) -> Self {
        let mut config = QlogConfig::default();
        config
            .writer(Box::new(writer))
            .title(Some("ringway".to_owned()));
        Self(config.into_stream())
    }

    pub(crate) fn install(&self, transport: &mut TransportConfig) {
        transport.qlog_stream(self.0.clone());
    }
}
