//! Limits and times of a stream connection.

use core::fmt;
use core::time::Duration;

use crate::wire::HELLO_BYTES_MAX;

/// Bytes of the longest message that any configuration allows: its padded body still fits 32 bits.
pub const MESSAGE_BYTES_LIMIT: u32 = 0xFFFF_FFF0;

/// Largest `large_bytes_min`: a frame below it fits a 64 KiB receive slot behind up to 4 KiB of earlier bytes.
const LARGE_BYTES_LIMIT: u32 = 60 << 10;

/// Limits and times of [`Stream`](super::Stream)s; one value serves all connections of a listener or engine.
///
/// ```
/// use ringway_proto::StreamConfig;
///
/// let config = StreamConfig { message_bytes_max: 1 << 20, ..StreamConfig::default() };
/// config.validate()?;
/// # Ok::<(), ringway_proto::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// Longest message body that is received, in bytes. Default 64 MiB, at most [`MESSAGE_BYTES_LIMIT`].
    pub message_bytes_max: u32,
    /// Message frames above this many bytes are reported as [`Input::Large`](super::Input::Large) before they
    /// are complete. Default 32 KiB, from 1 KiB to 60 KiB. The receive buffer must hold this many bytes.
    pub large_bytes_min: u32,
    /// Feature bits that the layer above can use. Default 0.
    pub features_offered: u64,
    /// Feature bits without which the connection is closed; a subset of those offered. Default 0.
    pub features_required: u64,
    /// Time until the peer's hello must have come. Default 10 s.
    pub handshake_timeout: Duration,
    /// A ping goes out when nothing was heard for this long; `None`: never. Default 60 s.
    ///
    /// Raised to what the peer allows. From 10 s on the time is rounded up to whole seconds of the clock, so
    /// that many idle connections wake their engine together.
    pub keepalive_interval: Option<Duration>,
    /// Time in which something must be heard after a ping. Default 20 s.
    pub keepalive_timeout: Duration,
    /// The peer may not ping more often than this. Default 5 s, from 1 ms to 1 h.
    pub keepalive_interval_min: Duration,
    /// The connection is closed when no message passed for this long; `None`: never. Default `None`.
    pub idle_timeout: Option<Duration>,
    /// Time from [`drain`](super::Stream::drain) until the connection must be closed. Default 30 s.
    pub drain_timeout: Duration,
    /// Pings that may come ahead of `keepalive_interval_min`. Default 8.
    pub ping_burst: u32,
    /// Frames without a message (pads, pongs, announcements, ignorable ones) that may come at once.
    /// Default 10,000.
    pub control_burst: u32,
    /// Frames without a message that may come per second in the long run, beyond one per message.
    /// Default 1,000.
    pub control_rate: u32,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            message_bytes_max: 64 << 20,
            large_bytes_min: 32 << 10,
            features_offered: 0,
            features_required: 0,
            handshake_timeout: Duration::from_secs(10),
            keepalive_interval: Some(Duration::from_secs(60)),
            keepalive_timeout: Duration::from_secs(20),
            keepalive_interval_min: Duration::from_secs(5),
            idle_timeout: None,
            drain_timeout: Duration::from_secs(30),
            ping_burst: 8,
            control_burst: 10_000,
            control_rate: 1_000,
        }
    }
}

impl StreamConfig {
    /// Checks every field; machines expect a checked configuration.
    ///
    /// # Errors
    /// [`ConfigError`] with the first field that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        range(
            "message_bytes_max",
            self.message_bytes_max,
            1,
            MESSAGE_BYTES_LIMIT,
        )?;
        let large_bytes_floor = u32::try_from(HELLO_BYTES_MAX).unwrap_or(u32::MAX);
        range(
            "large_bytes_min",
            self.large_bytes_min,
            large_bytes_floor,
            LARGE_BYTES_LIMIT,
        )?;
        if self.features_required & !self.features_offered != 0 {
            return Err(ConfigError::RequiredNotOffered {
                missing: self.features_required & !self.features_offered,
            });
        }
        let day = Duration::from_hours(24);
        times("handshake_timeout", self.handshake_timeout, day)?;
        times(
            "keepalive_interval",
            self.keepalive_interval.unwrap_or(day),
            day,
        )?;
        times("keepalive_timeout", self.keepalive_timeout, day)?;
        times(
            "keepalive_interval_min",
            self.keepalive_interval_min,
            Duration::from_hours(1),
        )?;
        times(
            "idle_timeout",
            self.idle_timeout.unwrap_or(day),
            Duration::from_hours(24 * 30),
        )?;
        times("drain_timeout", self.drain_timeout, day)?;
        range("ping_burst", self.ping_burst, 1, 1_000_000)?;
        range("control_burst", self.control_burst, 1, 1_000_000)?;
        range("control_rate", self.control_rate, 1, 1_000_000)
    }
}

fn range(field: &'static str, given: u32, min: u32, max: u32) -> Result<(), ConfigError> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    Err(ConfigError::Range {
        field,
        given,
        min,
        max,
    })
}

fn times(field: &'static str, given: Duration, max: Duration) -> Result<(), ConfigError> {
    let min = Duration::from_millis(1);
    if (min..=max).contains(&given) {
        return Ok(());
    }
    Err(ConfigError::Time {
        field,
        given,
        min,
        max,
    })
}

/// Which field of a [`StreamConfig`] is wrong, and what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number is out of its range.
    Range {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        given: u32,
        /// Least value.
        min: u32,
        /// Greatest value.
        max: u32,
    },
    /// A time is out of its range.
    Time {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        given: Duration,
        /// Least value.
        min: Duration,
        /// Greatest value.
        max: Duration,
    },
    /// `features_required` has bits that `features_offered` lacks.
    RequiredNotOffered {
        /// Those bits.
        missing: u64,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range {
                field,
                given,
                min,
                max,
            } => {
                write!(f, "{field} is {given}; choose from {min} to {max}")
            }
            Self::Time {
                field,
                given,
                min,
                max,
            } => {
                write!(f, "{field} is {given:?}; choose from {min:?} to {max:?}")
            }
            Self::RequiredNotOffered { missing } => write!(
                f,
                "features_required has bits {missing:#x} that features_offered lacks; offer them too"
            ),
        }
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn default_is_valid() {
        assert_eq!(StreamConfig::default().validate(), Ok(()));
    }

    #[test]
    fn each_wrong_field_is_named() {
        let zero = Duration::ZERO;
        let ok = StreamConfig::default;
        let table = [
            (
                "message_bytes_max",
                StreamConfig {
                    message_bytes_max: 0,
                    ..ok()
                },
            ),
            (
                "message_bytes_max",
                StreamConfig {
                    message_bytes_max: u32::MAX,
                    ..ok()
                },
            ),
            (
                "large_bytes_min",
                StreamConfig {
                    large_bytes_min: 1023,
                    ..ok()
                },
            ),
            (
                "large_bytes_min",
                StreamConfig {
                    large_bytes_min: 61_441,
                    ..ok()
                },
            ),
            (
                "features_required",
                StreamConfig {
                    features_required: 1,
                    ..ok()
                },
            ),
            (
                "handshake_timeout",
                StreamConfig {
                    handshake_timeout: zero,
                    ..ok()
                },
            ),
            (
                "keepalive_interval",
                StreamConfig {
                    keepalive_interval: Some(zero),
                    ..ok()
                },
            ),
            (
                "keepalive_timeout",
                StreamConfig {
                    keepalive_timeout: zero,
                    ..ok()
                },
            ),
            (
                "keepalive_interval_min",
                StreamConfig {
                    keepalive_interval_min: zero,
                    ..ok()
                },
            ),
            (
                "idle_timeout",
                StreamConfig {
                    idle_timeout: Some(zero),
                    ..ok()
                },
            ),
            (
                "drain_timeout",
                StreamConfig {
                    drain_timeout: Duration::MAX,
                    ..ok()
                },
            ),
            (
                "ping_burst",
                StreamConfig {
                    ping_burst: 0,
                    ..ok()
                },
            ),
            (
                "control_burst",
                StreamConfig {
                    control_burst: 0,
                    ..ok()
                },
            ),
            (
                "control_rate",
                StreamConfig {
                    control_rate: 0,
                    ..ok()
                },
            ),
        ];
        for (field, config) in table {
            let text = config.validate().unwrap_err().to_string();
            assert!(text.starts_with(field), "{field}: {text}");
        }
    }
}
