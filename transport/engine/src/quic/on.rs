//! With the feature: endpoints of `ringway-quic`.

use std::rc::Rc;

use ringway_buf::Pools;
use ringway_proto::packet::PacketEndpoint;
use ringway_quic::{QuicConfig, QuicConfigError, QuicEndpoint, TlsConfig};

use crate::{Config, OpenError};

/// What endpoints are made with; nothing until the user gave certificates or trust.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    config: Option<QuicConfig>,
    /// All randomness but the keys of TLS comes from the engine's seed, because the user gave one.
    seeded: bool,
}

impl Config {
    /// Certificates and trust for `quic://`; everything else of QUIC keeps its value, or its default. One
    /// [`TlsConfig`] serves any number of engines and can be reloaded while they run.
    ///
    /// Default: none, and `quic://` is refused.
    #[must_use]
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.quic.config = Some(match self.quic.config.take() {
            Some(config) => QuicConfig { tls, ..config },
            None => QuicConfig::new(tls),
        });
        self
    }

    /// Settings of QUIC (`quic://`), certificates and trust among them. What streams have as well (message size,
    /// keepalive, features), `connections_max` and `handshakes_max` are taken from this configuration.
    ///
    /// Default: none, and `quic://` is refused.
    #[must_use]
    pub fn quic(mut self, config: QuicConfig) -> Self {
        self.quic.config = Some(config);
        self
    }
}

/// The user's settings with those of the engine.
pub(crate) fn settled(given: &Config) -> Settings {
    let limits = &given.limits;
    // What is too long for either transport has been refused before.
    let longest = given
        .datagram_bytes_max
        .map(|bytes| u16::try_from(bytes).unwrap_or(u16::MAX));
    let config = given.quic.config.clone().map(|config| QuicConfig {
        stream: given.stream.clone(),
        sessions_max: config.sessions_max.min(limits.connections_max),
        handshakes_max: config.handshakes_max.min(limits.handshakes_max),
        payload_bytes_max: longest.unwrap_or(config.payload_bytes_max),
        ..config
    });
    Settings {
        config,
        seeded: given.seed.is_some(),
    }
}

/// The first field that is out of its range.
pub(crate) fn check(settings: &Settings) -> Result<(), &'static str> {
    let Some(config) = &settings.config else {
        return Ok(());
    };
    config.validate().map_err(|error| match error {
        QuicConfigError::Range { field, .. } => field,
        QuicConfigError::InitialRtt { .. } => "initial_rtt",
        QuicConfigError::Stream(_) => "stream",
        _ => "tls",
    })
}

pub(crate) fn may_listen(settings: &Settings) -> Result<(), OpenError> {
    match &settings.config {
        Some(config) if config.tls.accepts() => Ok(()),
        _ => Err(OpenError::NotConfigured {
            fix: "to listen on quic:// give a certificate: `Config::tls` with `TlsConfig::builder().identity(..)`",
        }),
    }
}

pub(crate) fn may_connect(settings: &Settings) -> Result<(), OpenError> {
    match &settings.config {
        Some(config) if config.tls.connects() => Ok(()),
        _ => Err(OpenError::NotConfigured {
            fix: "to connect to quic:// say whom to trust: `Config::tls` with `TlsConfig::builder().roots(..)` (of a channel: `ClientEngine::start`)",
        }),
    }
}

pub(crate) fn endpoint(
    settings: &Settings,
    pools: Rc<Pools>,
    seed: u64,
    shard: u8,
) -> Option<Box<dyn PacketEndpoint>> {
    let mut config = settings.config.clone()?;
    config.shard = config.shard.max(shard);
    let made = if settings.seeded {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        QuicEndpoint::with_seed(config, pools, bytes)
    } else {
        QuicEndpoint::new(config, pools)
    };
    // Checked before the engine started; only a system without randomness is left.
    Some(Box::new(made.ok()?))
}
