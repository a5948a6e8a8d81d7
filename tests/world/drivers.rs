//! Where the engines of a scenario live and what carries their messages; shared with the tests of `ringway-rpc`.

use ringway_engine::sim::{NetConfig, SimNet};
use ringway_engine::{Config, DriverChoice, Engine};

#[path = "trust.rs"]
mod trust;

pub use trust::trusting_each_other;

/// Where engines live.
pub enum World {
    /// Real sockets of this machine.
    Kernel(DriverChoice),
    /// Virtual time and a seeded network.
    Sim(SimNet),
}

thread_local! {
    /// What `tcp` means in this test.
    static SCHEME: std::cell::Cell<&'static str> = const { std::cell::Cell::new("tcp") };
}

/// Plays a scenario that was written for `tcp` over another transport.
pub fn over(scheme: &'static str, scenario: impl FnOnce()) {
    SCHEME.set(scheme);
    scenario();
    SCHEME.set("tcp");
}

/// Whether `tcp` means this transport now.
pub fn is_over(scheme: &str) -> bool {
    SCHEME.get() == scheme
}

impl World {
    pub fn uring() -> Self {
        Self::Kernel(DriverChoice::Uring)
    }

    pub fn epoll() -> Self {
        Self::Kernel(DriverChoice::Epoll)
    }

    pub fn sim() -> Self {
        Self::Sim(SimNet::new(NetConfig::perfect(), 1))
    }

    pub fn is_sim(&self) -> bool {
        matches!(self, Self::Sim(_))
    }

    pub fn engine(&self, config: Config, name: &str) -> Engine {
        let config = if is_over("quic") {
            config.quic(trusting_each_other())
        } else {
            config
        };
        match self {
            Self::Kernel(choice) => config.driver(*choice).build().unwrap(),
            Self::Sim(net) => Engine::simulated(config, net, name).unwrap(),
        }
    }

    /// An address of this scheme that nobody uses yet.
    pub fn address(&self, scheme: &str) -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let scheme = match scheme {
            "tcp" => SCHEME.get(),
            other => other,
        };
        match scheme {
            "unix" => format!("unix://@ringway-test-{}-{number}", std::process::id()),
            scheme => format!("{scheme}://127.0.0.1:0"),
        }
    }
}

/// Makes each scenario a test on every driver, over the transport of that scheme.
#[macro_export]
macro_rules! played_over {
    ($scheme:literal: $($scenario:ident),*) => {
        $crate::played_over!(uring, $scheme: $($scenario),*);
        $crate::played_over!(epoll, $scheme: $($scenario),*);
        $crate::played_over!(sim, $scheme: $($scenario),*);
    };
    ($driver:ident, $scheme:literal: $($scenario:ident),*) => {
        mod $driver { $( #[test] fn $scenario() {
            $crate::world::over($scheme, || super::$scenario($crate::world::World::$driver()));
        } )* }
    };
}

/// Makes each scenario a test on every driver.
#[macro_export]
macro_rules! on_every_driver {
    ($($scenario:ident),* $(,)?) => { $crate::played_over!("tcp": $($scenario),*); };
}

/// Makes each scenario that says `tcp` a test over QUIC as well, on every driver.
#[macro_export]
macro_rules! over_quic {
    ($($scenario:ident),* $(,)?) => {
        mod quic { use super::{$($scenario),*}; $crate::played_over!("quic": $($scenario),*); }
    };
}

/// Makes each scenario that says `tcp` a test over reliable UDP as well, on every driver.
#[macro_export]
macro_rules! over_reliable_udp {
    ($($scenario:ident),* $(,)?) => {
        mod rudp { use super::{$($scenario),*}; $crate::played_over!("rudp": $($scenario),*); }
    };
}

/// Makes each scenario that says `tcp` a test over every transport, on every driver.
#[macro_export]
macro_rules! over_every_transport {
    ($($scenario:ident),* $(,)?) => {
        $crate::on_every_driver!($($scenario),*);
        $crate::over_quic!($($scenario),*);
        $crate::over_reliable_udp!($($scenario),*);
    };
}
