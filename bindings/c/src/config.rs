//! `rw_engine_config` of the header.

use core::time::Duration;

use ringway::{Config, DriverChoice, Idle, Limits};

use crate::guard::Fail;

/// New fields go to the end; 0 means the default.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct EngineConfig {
    pub(crate) struct_size: u32,
    pub(crate) driver: u32,
    pub(crate) idle: u32,
    pub(crate) message_bytes_max: u32,
    pub(crate) spin_ns: u64,
    pub(crate) connect_timeout_ns: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) queue_bytes_max: u64,
    pub(crate) connections_max: u32,
    pub(crate) leases_max: u32,
}

/// Received leases that may be out before messages are held back.
const LEASES_MAX: u32 = 65_536;

/// Connections of one engine. Its drivers can count some more, for its listeners.
const CONNECTIONS_MAX: u32 = 16_000_000;

impl EngineConfig {
    pub(crate) fn leases_max(&self) -> usize {
        let max = if self.leases_max == 0 {
            LEASES_MAX
        } else {
            self.leases_max
        };
        max as usize
    }

    pub(crate) fn engine(&self) -> Result<Config, Fail> {
        let driver = match self.driver {
            0 => DriverChoice::Auto,
            1 => DriverChoice::Uring,
            2 => DriverChoice::Epoll,
            _ => return Err(Fail::invalid("`driver` is none of RW_DRIVER_*")),
        };
        let idle = match self.idle {
            0 => Idle::Adaptive,
            1 => Idle::Spin,
            2 => Idle::Park,
            _ => return Err(Fail::invalid("`idle` is none of RW_IDLE_*")),
        };
        let mut limits = Limits::default();
        if self.connections_max > CONNECTIONS_MAX {
            return Err(Fail::invalid("`connections_max` is above 16,000,000"));
        }
        if self.connections_max != 0 {
            limits.connections_max = self.connections_max as usize;
        }
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        if self.budget_bytes != 0 {
            limits.budget_bytes = size(self.budget_bytes);
        }
        if self.queue_bytes_max != 0 {
            limits.queue_bytes_max = size(self.queue_bytes_max);
        }
        let mut config = ringway::rpc::rpc_config()
            .driver(driver)
            .idle(idle)
            .limits(limits);
        if self.spin_ns != 0 {
            config = config.spin(Duration::from_nanos(self.spin_ns));
        }
        if self.connect_timeout_ns != 0 {
            config = config.connect_timeout(Duration::from_nanos(self.connect_timeout_ns));
        }
        if self.message_bytes_max != 0 {
            config = config.message_bytes_max(self.message_bytes_max);
        }
        Ok(config)
    }
}
