//! Limits and times of reliable UDP.

use core::fmt;
use core::time::Duration;

use crate::stream::{ConfigError, StreamConfig};

/// Which rule decides how much may be on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406): shares a path with others. The default.
    Cubic,
    /// As many bytes as this, whatever happens: for links that nobody else uses.
    Fixed {
        /// Bytes on the way.
        window_bytes: u32,
    },
}

/// Settings of one endpoint; `Default` is safe on any trusted network.
#[derive(Clone, Debug)]
pub struct RudpConfig {
    /// Message size, features and time limits: the same meaning as on a stream.
    pub stream: StreamConfig,
    /// Sessions, half-open ones included. Default 16,384, at most 16,777,216.
    pub sessions_max: u32,
    /// Half-open sessions from which on a newcomer has to bring a cookie. Default 256; 0 asks everybody.
    pub cookies_from: u32,
    /// Bytes of bodies that a peer may have sent and this side's owner has not taken; one message may
    /// reach beyond it. Default 1 MiB.
    pub credit_bytes: u32,
    /// Messages that a peer may have sent and this side's owner has not taken. Default 1,024, at most 2,048.
    pub credit_messages: u32,
    /// Largest datagram that is sent or taken, in bytes of UDP payload. Default 65,507; 1,472 keeps to
    /// Ethernet. At least 1,200.
    pub datagram_bytes_max: u32,
    /// Longest time an acknowledgement waits for something to travel with. Default 25 us, right for an
    /// engine that polls; one that sleeps does better with about 1 ms. At most 100 ms.
    pub ack_delay_max: Duration,
    /// How exactly timers fire; no loss is declared on less. Default 5 us.
    pub granularity: Duration,
    /// Round trip that is assumed before the first measurement. Default 2 ms.
    pub initial_rtt: Duration,
    /// How much may be on the way.
    pub congestion: Congestion,
    /// Bytes on the way at first, with [`Congestion::Cubic`]. Default 64 KiB.
    pub initial_window_bytes: u32,
    /// Speaks with addresses outside of private networks, unencrypted. Default false.
    pub public_addresses: bool,
    /// First byte of every connection id, by which several sockets of one port can be told apart. Default 0.
    pub shard: u8,
    /// A number that differs after each start of this process. Default 0: made of the seed.
    pub epoch: u64,
}

impl Default for RudpConfig {
    fn default() -> Self {
        Self {
            stream: StreamConfig::default(),
            sessions_max: 16 * 1024,
            cookies_from: 256,
            credit_bytes: 1 << 20,
            credit_messages: 1024,
            datagram_bytes_max: 65_507,
            ack_delay_max: Duration::from_micros(25),
            granularity: Duration::from_micros(5),
            initial_rtt: Duration::from_millis(2),
            congestion: Congestion::Cubic,
            initial_window_bytes: 64 << 10,
            public_addresses: false,
            shard: 0,
            epoch: 0,
        }
    }
}

impl RudpConfig {
    /// Checks every field; endpoints expect a checked configuration.
    ///
    /// # Errors
    /// [`RudpConfigError`] with the first field that is out of its range.
    pub fn validate(&self) -> Result<(), RudpConfigError> {
        self.stream.validate().map_err(RudpConfigError::Stream)?;
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let window = match self.congestion {
            Congestion::Cubic => self.initial_window_bytes,
            Congestion::Fixed { window_bytes } => window_bytes,
        };
        let table = [
            ("sessions_max", self.sessions_max, 1, 1 << 24),
            ("credit_bytes", self.credit_bytes, 1 << 10, 1 << 30),
            ("credit_messages", self.credit_messages, 16, 2048),
            ("datagram_bytes_max", self.datagram_bytes_max, 1200, 65_507),
            ("ack_delay_max", micros(self.ack_delay_max), 1, 100_000),
            ("granularity", micros(self.granularity), 1, 100_000),
            ("initial_rtt", micros(self.initial_rtt), 1, 10_000_000),
            ("window", window, 4 << 10, 1 << 30),
        ];
        let outside = table
            .into_iter()
            .find(|(_, given, min, max)| !(min..=max).contains(&given));
        match outside {
            None => Ok(()),
            Some((field, given, min, max)) => Err(RudpConfigError::Range {
                field,
                given,
                min,
                max,
            }),
        }
    }
}

/// A setting that can't be used. Names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RudpConfigError {
    /// One of the settings that streams have as well.
    Stream(ConfigError),
    /// A number is out of its range; times are counted in microseconds.
    Range {
        /// Which field.
        field: &'static str,
        /// Its value.
        given: u32,
        /// Least value.
        min: u32,
        /// Largest value.
        max: u32,
    },
}

impl fmt::Display for RudpConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(error) => error.fmt(f),
            Self::Range {
                field,
                given,
                min,
                max,
            } => write!(
                f,
                "{field} is {given}; it has to lie between {min} and {max}"
            ),
        }
    }
}

impl core::error::Error for RudpConfigError {}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn each_field_out_of_range_is_named() {
        let ok = RudpConfig::default;
        ok().validate().unwrap();
        let table = [
            (
                "sessions_max",
                RudpConfig {
                    sessions_max: 0,
                    ..ok()
                },
            ),
            (
                "credit_bytes",
                RudpConfig {
                    credit_bytes: 1,
                    ..ok()
                },
            ),
            (
                "credit_messages",
                RudpConfig {
                    credit_messages: 2049,
                    ..ok()
                },
            ),
            (
                "datagram_bytes_max",
                RudpConfig {
                    datagram_bytes_max: 1199,
                    ..ok()
                },
            ),
            (
                "ack_delay_max",
                RudpConfig {
                    ack_delay_max: Duration::MAX,
                    ..ok()
                },
            ),
            (
                "granularity",
                RudpConfig {
                    granularity: Duration::ZERO,
                    ..ok()
                },
            ),
            (
                "initial_rtt",
                RudpConfig {
                    initial_rtt: Duration::ZERO,
                    ..ok()
                },
            ),
            (
                "window",
                RudpConfig {
                    congestion: Congestion::Fixed { window_bytes: 1 },
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
