//! How an engine is set up. Every limit has a name, a default and a range; all are checked in `build`.

use core::time::Duration;
use std::fmt;

use ringway_buf::{Mode, PoolsConfig};
use ringway_driver::SocketOptions;
use ringway_proto::rudp::{RudpConfig, RudpConfigError};
use ringway_proto::{Filter, Role, StreamConfig};

use crate::quic;
use crate::stage::FilterFactory;
use crate::{Engine, Idle, Observer, StartError};

/// Which driver an engine uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DriverChoice {
    /// io_uring where its self-test passes, else epoll. The environment variable `RINGWAY_DRIVER` (`uring` or
    /// `epoll`) takes precedence. The default.
    #[default]
    Auto,
    /// io_uring or an error that names the reason and the fix; never a silent fallback.
    Uring,
    /// epoll.
    Epoll,
}

/// Everything that is bounded, and where.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections, datagram sockets included. Default 16,384.
    pub connections_max: usize,
    /// Listeners. Default 64.
    pub listeners_max: usize,
    /// Incoming connections that have not finished their handshake. Default 4,096.
    pub handshakes_max: usize,
    /// Memory in bytes that peers can make this engine hold: receive buffers, large messages, send queues,
    /// retained slices. Default 1 GiB; address space is reserved lazily.
    pub budget_bytes: usize,
    /// Bytes accepted for sending on one connection that may wait. One message of any permitted size is
    /// always accepted by an empty queue. Default 4 MiB.
    pub queue_bytes_max: usize,
    /// Timers of handlers. Default 65,536.
    pub timers_max: usize,
    /// Commands of other threads that may wait. Default 4,096.
    pub commands_max: usize,
    /// Messages that wait in a link's inbox before the peer is slowed down. Default 1,024.
    pub link_messages_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16 * 1024,
            listeners_max: 64,
            handshakes_max: 4096,
            budget_bytes: 1 << 30,
            queue_bytes_max: 4 << 20,
            timers_max: 64 * 1024,
            commands_max: 4096,
            link_messages_max: 1024,
        }
    }
}

/// A setting that can't be used. Names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A limit is zero.
    Zero {
        /// Which field.
        field: &'static str,
    },
    /// `message_bytes_max` does not fit the memory budget.
    MessageBeyondBudget {
        /// Longest message in bytes.
        message_bytes_max: usize,
        /// Budget in bytes.
        budget_bytes: usize,
    },
    /// The framing's settings contradict each other.
    Stream(ringway_proto::ConfigError),
    /// The settings of reliable UDP contradict each other.
    Rudp(RudpConfigError),
    /// A setting of QUIC is out of its range.
    Quic {
        /// Which field of `QuicConfig`.
        field: &'static str,
    },
    /// `RINGWAY_DRIVER` holds something else than `uring` or `epoll`.
    DriverVariable {
        /// What it holds.
        value: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero { field } => write!(f, "`{field}` is 0; give it at least 1"),
            Self::MessageBeyondBudget {
                message_bytes_max,
                budget_bytes,
            } => write!(
                f,
                "messages of {message_bytes_max} bytes do not fit a budget of {budget_bytes}; \
                 `budget_bytes` has to be at least four times `message_bytes_max`"
            ),
            Self::Stream(error) => error.fmt(f),
            Self::Rudp(error) => error.fmt(f),
            Self::Quic { field } => write!(
                f,
                "`{field}` of the QUIC settings is out of its range; `QuicConfig` says what it may be"
            ),
            Self::DriverVariable { value } => write!(
                f,
                "RINGWAY_DRIVER is `{value}`; set it to `uring` or `epoll`, or unset it"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Settings of an [`Engine`]. `Default` is safe and sensible; setters take and return the value.
///
/// ```
/// use ringway_engine::{Config, Idle};
/// let engine = Config::default().idle(Idle::Park).build()?;
/// println!("driver: {}", engine.capabilities().kind);
/// # Ok::<(), ringway_engine::StartError>(())
/// ```
#[derive(Default)]
pub struct Config {
    pub(crate) driver: DriverChoice,
    pub(crate) idle: Idle,
    pub(crate) spin: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) stream: StreamConfig,
    pub(crate) rudp: Option<RudpConfig>,
    pub(crate) quic: quic::Settings,
    pub(crate) datagram_bytes_max: Option<u32>,
    pub(crate) times: Times,
    pub(crate) socket: SocketOptions,
    pub(crate) mode: Mode,
    pub(crate) seed: Option<u64>,
    pub(crate) observer: Option<Box<dyn Observer>>,
    pub(crate) filter: Option<FilterFactory>,
    #[cfg(feature = "sim")]
    pub(crate) impairment: Option<(ringway_sim::PathConfig, u64)>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("driver", &self.driver)
            .field("idle", &self.idle)
            .field("limits", &self.limits)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

/// Time limits that are the engine's own; those of the framing stand in its `StreamConfig`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) connect: Duration,
    pub(crate) linger: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            linger: Duration::from_secs(5),
        }
    }
}

/// Spin time of [`Idle::Adaptive`]: about what one sleep and wake-up costs on virtual machines (25-50 us).
pub(crate) const SPIN_DEFAULT: Duration = Duration::from_micros(50);

impl Config {
    /// Which driver. Default [`DriverChoice::Auto`].
    #[must_use]
    pub fn driver(mut self, driver: DriverChoice) -> Self {
        self.driver = driver;
        self
    }

    /// What to do when idle. Default [`Idle::Adaptive`].
    #[must_use]
    pub fn idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// How long [`Idle::Adaptive`] spins after the last event. Default 50 us, about one wake-up; longer costs
    /// CPU, shorter costs a wake-up per message at lower rates.
    #[must_use]
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = Some(spin);
        self
    }

    /// All limits at once.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Settings of the framing: message size, keepalive, handshake and drain times, features.
    #[must_use]
    pub fn stream(mut self, stream: StreamConfig) -> Self {
        self.stream = stream;
        self
    }

    /// Settings of reliable UDP (`rudp://`). What streams have as well (message size, keepalive, features) is
    /// taken from [`stream`](Self::stream). By default acknowledgements wait 25 us, or 1 ms under
    /// [`Idle::Park`], and all else is `RudpConfig::default()`.
    #[must_use]
    pub fn reliable_udp(mut self, config: RudpConfig) -> Self {
        self.rudp = Some(config);
        self
    }

    /// Longest datagram of `rudp://` and `quic://` in bytes of UDP payload, for both at once: 1,472 keeps to Ethernet
    /// over IPv4. Path MTU discovery ends there. Default: what `RudpConfig` and `QuicConfig` say, each for itself.
    /// From 1,200 to 65,507.
    #[must_use]
    pub fn datagram_bytes_max(mut self, bytes: u32) -> Self {
        self.datagram_bytes_max = Some(bytes);
        self
    }

    /// Longest message in bytes that this side takes. Default 64 MiB, range 0 to 128 MiB.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: u32) -> Self {
        self.stream.message_bytes_max = bytes;
        self
    }

    /// Adds feature bits that the layer above speaks to those that are offered. Default none.
    #[must_use]
    pub fn features(mut self, bits: u64) -> Self {
        self.stream.features_offered |= bits;
        self
    }

    /// How long connecting may take. Default 10 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.times.connect = timeout;
        self
    }

    /// How long a closing connection may take to send what is queued and see the peer's end. Default 5 s.
    #[must_use]
    pub fn linger_timeout(mut self, timeout: Duration) -> Self {
        self.times.linger = timeout;
        self
    }

    /// Options of the sockets that this engine connects or adopts.
    #[must_use]
    pub fn socket(mut self, options: SocketOptions) -> Self {
        self.socket = options;
        self
    }

    /// How free memory is treated; for tests.
    #[must_use]
    pub fn pool_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Seed of everything random in this engine. Default: from the system.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Receives the event stream.
    #[must_use]
    pub fn observer(mut self, observer: Box<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Puts a stream filter on every stream connection. Default: none.
    #[must_use]
    pub fn filter(mut self, make: impl Fn(Role) -> Box<dyn Filter> + 'static) -> Self {
        self.filter = Some(std::rc::Rc::new(make));
        self
    }

    /// Makes the network as bad as `path` says, for everything that this engine sends over real sockets; the
    /// same seed draws the same faults. For tests: loss, reordering and their like are for datagrams only, so for `udp://`,
    /// `rudp://` and `quic://`; streams get delay, rate and partitions. Default: none.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn impair(mut self, path: ringway_sim::PathConfig, seed: u64) -> Self {
        self.impairment = Some((path, seed));
        self
    }

    /// Checks everything and starts the engine on the calling thread.
    ///
    /// # Errors
    /// A [`ConfigError`], or why no driver could be started.
    pub fn build(self) -> Result<Engine, StartError> {
        Engine::start(self)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        let fields = [
            ("connections_max", limits.connections_max),
            ("listeners_max", limits.listeners_max),
            ("handshakes_max", limits.handshakes_max),
            ("queue_bytes_max", limits.queue_bytes_max),
            ("timers_max", limits.timers_max),
            ("commands_max", limits.commands_max),
            ("link_messages_max", limits.link_messages_max),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero { field });
        }
        self.stream.validate().map_err(ConfigError::Stream)?;
        self.rudp().validate().map_err(ConfigError::Rudp)?;
        quic::check(&self.quic_settings()).map_err(|field| ConfigError::Quic { field })?;
        let message_bytes_max = self.stream.message_bytes_max as usize;
        if message_bytes_max.saturating_mul(4) > limits.budget_bytes.saturating_mul(1) {
            let budget_bytes = limits.budget_bytes;
            return Err(ConfigError::MessageBeyondBudget {
                message_bytes_max,
                budget_bytes,
            });
        }
        Ok(())
    }

    /// What the endpoints of reliable UDP are made with.
    pub(crate) fn rudp(&self) -> RudpConfig {
        let usual = || RudpConfig {
            ack_delay_max: match self.idle {
                Idle::Park => Duration::from_millis(1),
                Idle::Spin | Idle::Adaptive => Duration::from_micros(25),
            },
            ..RudpConfig::default()
        };
        let mut config = self.rudp.clone().unwrap_or_else(usual);
        config.stream = self.stream.clone();
        if let Some(bytes) = self.datagram_bytes_max {
            config.datagram_bytes_max = bytes;
        }
        config
    }

    /// What the endpoints of QUIC are made with.
    pub(crate) fn quic_settings(&self) -> quic::Settings {
        quic::settled(self)
    }

    pub(crate) fn pools(&self) -> PoolsConfig {
        PoolsConfig {
            budget_bytes: self.limits.budget_bytes,
            mode: self.mode,
        }
    }
}
