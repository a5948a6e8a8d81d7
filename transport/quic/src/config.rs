//! Limits and times of a QUIC endpoint.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use ringway_proto::{ConfigError, StreamConfig};

use crate::congestion::Factory;
use crate::qlog::Qlog;
use crate::session::Patience;
use crate::tls::TlsConfig;

/// Smallest payload of a datagram that QUIC allows a path to carry, in bytes (RFC 9000, 14).
const PAYLOAD_BYTES_MIN: u16 = 1_200;
/// Largest one: the length field of UDP, less the headers.
const PAYLOAD_BYTES_LIMIT: u16 = 65_527;
/// Handshake bytes that are kept out of order per session; certificates of a few KiB fit.
const CRYPTO_BUFFER_BYTES: usize = 16 * 1024;
/// How long a peer is asked to wait at most with an acknowledgement, where QUIC says 25 ms: the floor of quinn-proto's timers.
/// An answer within that time takes it along.
const ACK_DELAY_MAX: Duration = Duration::from_millis(1);
/// Unreliable messages that wait inside quinn-proto, where their deadline can't reach them: a burst.
pub(crate) const DATAGRAM_SEND_BYTES: usize = 16 * 1024;

/// When a peer must prove its address before it costs more than one datagram (a Retry packet, one round trip).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressProof {
    /// Only within the handshake itself.
    Never,
    /// While more than this many handshakes are under way.
    Above(usize),
    /// Always.
    Always,
}

/// Limits and times of a [`QuicEndpoint`](crate::QuicEndpoint).
#[derive(Clone, Debug)]
pub struct QuicConfig {
    /// Certificates and trust.
    pub tls: TlsConfig,
    /// What all transports share: message length, features, and the times of handshake, keepalive, idleness
    /// and drain. `large_bytes_min` and the bursts of pings do not matter here.
    pub stream: StreamConfig,
    /// Most sessions at once. Default 4,096.
    pub sessions_max: usize,
    /// Most accepted handshakes at once; what comes beyond is not answered. Default 1,024.
    pub handshakes_max: usize,
    /// When peers prove their address first. Default: above 64 handshakes under way.
    pub address_proof: AddressProof,
    /// What the peer may have under way to this end per session, in bytes; taken from the budget for the life of the
    /// session. Default 1 MiB, from 64 KiB to 1 GiB. It bounds the rate at `window_bytes` per round trip.
    pub window_bytes: u32,
    /// What this end may have under way per session, in bytes. Default 8 MiB, from 64 KiB to 1 GiB.
    pub send_window_bytes: u32,
    /// Unordered messages that a peer may have under way at once. Default 64, from 1 to 1,024.
    pub parallel_max: u16,
    /// Received unreliable messages that wait to be looked at, in bytes per session; older ones give way. Default
    /// 64 KiB, from 2 KiB to 16 MiB.
    pub unreliable_bytes_max: u32,
    /// Longest payload of a datagram, in bytes: where path MTU discovery ends. Default 1,452 (an Ethernet
    /// frame under IPv6), from 1,200 to 65,527. Both ends must allow a size for it to be used.
    pub payload_bytes_max: u16,
    /// Round trip that is assumed before one was measured. Default 333 ms (RFC 9002), from 1 ms to 10 s.
    pub initial_rtt: Duration,
    /// Follows a peer whose address changes (NAT rebinding, another network). Default true.
    pub migration: bool,
    /// First byte of the connection ids of this endpoint; tells the endpoints of several threads apart. Engines that share
    /// a port set it by themselves. Default 0.
    pub shard: u8,
    /// Where traces of connections go, if anywhere. Default: nowhere.
    pub qlog: Qlog,
}

impl QuicConfig {
    /// The defaults around these certificates.
    #[must_use]
    pub fn new(tls: TlsConfig) -> Self {
        Self {
            tls,
            stream: StreamConfig::default(),
            sessions_max: 4_096,
            handshakes_max: 1_024,
            address_proof: AddressProof::Above(64),
            window_bytes: 1 << 20,
            send_window_bytes: 8 << 20,
            parallel_max: 64,
            unreliable_bytes_max: 64 << 10,
            payload_bytes_max: 1_452,
            initial_rtt: Duration::from_millis(333),
            migration: true,
            shard: 0,
            qlog: Qlog::default(),
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`QuicConfigError`] with the first field that is out of its range.
    pub fn validate(&self) -> Result<(), QuicConfigError> {
        self.stream.validate().map_err(QuicConfigError::Stream)?;
        let mib = 1 << 20;
        range("sessions_max", self.sessions_max, 1, 1 << 24)?;
        range("handshakes_max", self.handshakes_max, 1, 1 << 20)?;
        range(
            "window_bytes",
            self.window_bytes as usize,
            64 << 10,
            1024 * mib,
        )?;
        let send_window = self.send_window_bytes as usize;
        range("send_window_bytes", send_window, 64 << 10, 1024 * mib)?;
        range("parallel_max", self.parallel_max.into(), 1, 1_024)?;
        let unreliable = self.unreliable_bytes_max as usize;
        range("unreliable_bytes_max", unreliable, 2 << 10, 16 * mib)?;
        range(
            "payload_bytes_max",
            self.payload_bytes_max.into(),
            PAYLOAD_BYTES_MIN.into(),
            PAYLOAD_BYTES_LIMIT.into(),
        )?;
        let rtt = self.initial_rtt;
        if !(Duration::from_millis(1)..=Duration::from_secs(10)).contains(&rtt) {
            return Err(QuicConfigError::InitialRtt { given: rtt });
        }
        Ok(())
    }

    /// Nothing heard for this long means that the peer is gone.
    fn silence_max(&self) -> Option<Duration> {
        let interval = self.stream.keepalive_interval?;
        Some(interval.saturating_add(self.stream.keepalive_timeout))
    }

    /// When a peer that acknowledges nothing is given up.
    pub(crate) fn patience(&self) -> Option<Patience> {
        Some(Patience {
            interval: self.stream.keepalive_interval?,
            timeout: self.stream.keepalive_timeout,
        })
    }

    /// quinn-proto's settings for connections that are opened (`accepting` false) or accepted.
    pub(crate) fn transport(&self, accepting: bool) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        let window = VarInt::from_u32(self.window_bytes);
        // One stream in both directions belongs to the client; it carries the ordered messages.
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.payload_bytes_max);
        let silence = self.silence_max().and_then(|time| {
            // Longer times than the wire can say are none.
            IdleTimeout::try_from(time).ok()
        });
        // Whoever sends waits as long for a lost tail as its peer may wait with an acknowledgement.
        let mut acknowledgements = AckFrequencyConfig::default();
        acknowledgements.max_ack_delay(Some(ACK_DELAY_MAX));
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(accepting.into()))
            .max_concurrent_uni_streams(VarInt::from_u32(self.parallel_max.into()))
            .stream_receive_window(window)
            .receive_window(window)
            .send_window(self.send_window_bytes.into())
            .max_idle_timeout(silence)
            .keep_alive_interval(self.stream.keepalive_interval)
            .initial_rtt(self.initial_rtt)
            .congestion_controller_factory(Arc::new(Factory::default()))
            .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
            .mtu_discovery_config(Some(discovery))
            .datagram_receive_buffer_size(Some(self.unreliable_bytes_max as usize))
            .datagram_send_buffer_size(DATAGRAM_SEND_BYTES)
            .ack_frequency_config(Some(acknowledgements))
            // A passive observer learns nothing about round trips.
            .allow_spin(false);
        self.qlog.install(&mut transport);
        Arc::new(transport)
    }

    /// What the lanes of a session may have under way together: what they leave of the window is for the others. The
    /// peer's window is not to be learned from quinn-proto, so this one stands for it.
    pub(crate) fn lanes_bytes_max(&self) -> u64 {
        let window = self.window_bytes.min(self.send_window_bytes);
        u64::from(window.saturating_sub(window >> 2))
    }

    /// The stream machine's settings: pings are QUIC's, and every message that came in pieces is reported early.
    pub(crate) fn machine(&self) -> StreamConfig {
        StreamConfig {
            keepalive_interval: None,
            large_bytes_min: 1 << 10,
            ..self.stream.clone()
        }
    }
}

fn range(field: &'static str, given: usize, min: usize, max: usize) -> Result<(), QuicConfigError> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    Err(QuicConfigError::Range {
        field,
        given,
        min,
        max,
    })
}

/// Which field of a [`QuicConfig`] is wrong, and what it may be.
#[derive(Debug)]
#[non_exhaustive]
pub enum QuicConfigError {
    /// A field of `stream`.
    Stream(ConfigError),
    /// A number is out of its range.
    Range {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        given: usize,
        /// Least value.
        min: usize,
        /// Greatest value.
        max: usize,
    },
    /// `initial_rtt` is out of its range.
    InitialRtt {
        /// Its value.
        given: Duration,
    },
    /// The system gave no random numbers.
    NoRandomness,
    /// The TLS settings can't carry QUIC.
    Tls,
}

impl fmt::Display for QuicConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(error) => error.fmt(f),
            Self::Range {
                field,
                given,
                min,
                max,
            } => write!(f, "{field} is {given}, it may be {min} to {max}"),
            Self::InitialRtt { given } => {
                write!(f, "initial_rtt is {given:?}, it may be 1 ms to 10 s")
            }
            Self::NoRandomness => f.write_str("the system gave no random numbers (getrandom)"),
            Self::Tls => {
                f.write_str("the TLS settings lack the cipher suite that QUIC starts with")
            }
        }
    }
}

impl std::error::Error for QuicConfigError {}
