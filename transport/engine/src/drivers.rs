//! The choice of a driver, made once at start; one match per turn enters the loop compiled for it.

use ringway_driver::SharedPools;

use crate::config::{ConfigError, DriverChoice, Limits};
use crate::error::StartError;

/// Overrides [`DriverChoice::Auto`]: `uring` or `epoll`.
const DRIVER_VARIABLE: &str = "RINGWAY_DRIVER";

/// Part of the memory budget that io_uring's receive slots may take: one in this many bytes.
#[cfg(feature = "uring")]
const SLOTS_SHARE: usize = 8;
/// Bytes of a receive slot.
#[cfg(feature = "uring")]
const SLOT_BYTES: usize = 16 * 1024;

/// One of the compiled drivers.
#[derive(Debug)]
pub(crate) enum AnyDriver {
    #[cfg(feature = "uring")]
    Uring(Box<ringway_driver::uring::Uring>),
    #[cfg(feature = "epoll")]
    Epoll(Box<ringway_driver::epoll::Epoll>),
    #[cfg(feature = "sim")]
    Sim(Box<ringway_sim::SimDriver>),
    #[cfg(all(feature = "sim", feature = "uring"))]
    ImpairedUring(Box<ringway_sim::Impair<ringway_driver::uring::Uring>>),
    #[cfg(all(feature = "sim", feature = "epoll"))]
    ImpairedEpoll(Box<ringway_sim::Impair<ringway_driver::epoll::Epoll>>),
}

/// A driver, and why it is not the preferred one.
pub(crate) type Chosen = (AnyDriver, Option<StartError>);

/// Enters the code compiled for the driver at hand.
macro_rules! with_driver {
    ($driver:expr, $name:ident => $body:expr) => {
        match $driver {
            #[cfg(feature = "uring")]
            $crate::drivers::AnyDriver::Uring($name) => $body,
            #[cfg(feature = "epoll")]
            $crate::drivers::AnyDriver::Epoll($name) => $body,
            #[cfg(feature = "sim")]
            $crate::drivers::AnyDriver::Sim($name) => $body,
            #[cfg(all(feature = "sim", feature = "uring"))]
            $crate::drivers::AnyDriver::ImpairedUring($name) => $body,
            #[cfg(all(feature = "sim", feature = "epoll"))]
            $crate::drivers::AnyDriver::ImpairedEpoll($name) => $body,
        }
    };
}
pub(crate) use with_driver;

impl AnyDriver {
    /// Climbs the ladder: the wish, then the environment, then io_uring, then epoll.
    pub(crate) fn open(
        choice: DriverChoice,
        limits: &Limits,
        pools: SharedPools,
    ) -> Result<Chosen, StartError> {
        match choice {
            DriverChoice::Uring => Ok((uring(limits, pools)?, None)),
            DriverChoice::Epoll => Ok((epoll(limits, pools)?, None)),
            DriverChoice::Auto => match std::env::var(DRIVER_VARIABLE).ok().as_deref() {
                Some("uring") => Ok((uring(limits, pools)?, None)),
                Some("epoll") => Ok((epoll(limits, pools)?, None)),
                Some("") | None => match uring(limits, SharedPools::clone(&pools)) {
                    Ok(driver) => Ok((driver, None)),
                    Err(refused) => Ok((epoll(limits, pools)?, Some(refused))),
                },
                Some(other) => Err(StartError::Config(ConfigError::DriverVariable {
                    value: other.to_owned(),
                })),
            },
        }
    }
}

#[cfg(feature = "sim")]
impl AnyDriver {
    /// Puts a bad network before a driver of the kernel; a simulated one has its own.
    #[cfg_attr(
        not(any(feature = "uring", feature = "epoll")),
        expect(unused_variables, reason = "there is only the simulated one")
    )]
    pub(crate) fn impaired(self, path: ringway_sim::PathConfig, seed: u64) -> Self {
        match self {
            #[cfg(feature = "uring")]
            Self::Uring(driver) => {
                let driver = ringway_sim::Impair::new(*driver, path, seed);
                Self::ImpairedUring(Box::new(driver))
            }
            #[cfg(feature = "epoll")]
            Self::Epoll(driver) => {
                let driver = ringway_sim::Impair::new(*driver, path, seed);
                Self::ImpairedEpoll(Box::new(driver))
            }
            other => other,
        }
    }

    /// How often each fault of an impaired driver fired.
    pub(crate) fn fault_counts(&self) -> Option<ringway_sim::FaultCounts> {
        match self {
            #[cfg(feature = "uring")]
            Self::ImpairedUring(driver) => Some(driver.fault_counts()),
            #[cfg(feature = "epoll")]
            Self::ImpairedEpoll(driver) => Some(driver.fault_counts()),
            _ => None,
        }
    }
}

/// Sockets of a driver: connections and listeners together.
#[cfg(any(feature = "uring", feature = "epoll"))]
fn sockets_max(limits: &Limits) -> usize {
    limits.connections_max.saturating_add(limits.listeners_max)
}

#[cfg(feature = "uring")]
fn uring(limits: &Limits, pools: SharedPools) -> Result<AnyDriver, StartError> {
    use ringway_driver::uring::{Uring, UringConfig};
    let defaults = UringConfig::default();
    // Receive slots may take an eighth of the budget: the rest is for messages and send queues.
    let slots = (limits.budget_bytes / SLOTS_SHARE / SLOT_BYTES).clamp(1, usize::from(u16::MAX));
    let slots = u16::try_from(1_usize << slots.ilog2()).unwrap_or(defaults.slots_max);
    let config = UringConfig {
        sockets_max: sockets_max(limits),
        slots_max: slots.min(defaults.slots_max),
        ..defaults
    };
    Ok(AnyDriver::Uring(Box::new(Uring::new(config, pools)?)))
}

#[cfg(not(feature = "uring"))]
fn uring(_limits: &Limits, _pools: SharedPools) -> Result<AnyDriver, StartError> {
    Err(StartError::NotBuilt { driver: "uring" })
}

#[cfg(feature = "epoll")]
fn epoll(limits: &Limits, pools: SharedPools) -> Result<AnyDriver, StartError> {
    use ringway_driver::epoll::{Epoll, EpollConfig};
    let config = EpollConfig {
        sockets_max: sockets_max(limits),
    };
    Ok(AnyDriver::Epoll(Box::new(Epoll::new(config, pools)?)))
}

#[cfg(not(feature = "epoll"))]
fn epoll(_limits: &Limits, _pools: SharedPools) -> Result<AnyDriver, StartError> {
    Err(StartError::NotBuilt { driver: "epoll" })
}
