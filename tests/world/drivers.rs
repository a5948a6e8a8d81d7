//! Where the engines of a scenario live and what carries their messages; shared with the tests of `ringway-rpc`.

use ringway_engine::sim::{Chance, DatagramFaults, NetConfig, PathConfig, SimNet, Span};
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
    /// What the network does to engines on real sockets, and the seed of the next one.
    static BAD: std::cell::Cell<Option<(PathConfig, u64)>> = const { std::cell::Cell::new(None) };
}

/// Plays a scenario that was written for `tcp` over another transport.
pub fn over(scheme: &'static str, scenario: impl FnOnce()) {
    SCHEME.set(scheme);
    scenario();
    SCHEME.set("tcp");
    BAD.set(None);
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

    /// io_uring, and a network with every fault.
    pub fn impaired_uring() -> Self {
        BAD.set(Some((bad(), 1)));
        Self::uring()
    }

    /// epoll, and a network with every fault.
    pub fn impaired_epoll() -> Self {
        BAD.set(Some((bad(), 1)));
        Self::epoll()
    }

    /// io_uring, and a network in which clients move.
    pub fn moving_uring() -> Self {
        BAD.set(Some((moving(), 1)));
        Self::uring()
    }

    /// epoll, and a network in which clients move.
    pub fn moving_epoll() -> Self {
        BAD.set(Some((moving(), 1)));
        Self::epoll()
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
            Self::Kernel(choice) => {
                let config = match BAD.get() {
                    Some((path, seed)) => {
                        BAD.set(Some((path, seed + 1)));
                        config.impair(path, seed)
                    }
                    None => config,
                };
                config.driver(*choice).build().unwrap()
            }
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

/// A short way with every fault, which reliable transports have to master while they are used.
fn bad() -> PathConfig {
    use std::time::Duration;
    let mut path = PathConfig::default();
    path.link.delay = Span::micros(50, 100);
    path.link.jitter = Duration::from_micros(50);
    path.faults = DatagramFaults {
        loss: Chance::percent(3),
        burst_enter: Chance::parts(3_000),
        burst_leave: Chance::percent(30),
        burst_loss: Chance::percent(80),
        duplicate: Chance::percent(3),
        reorder: Chance::percent(5),
        reorder_window: Duration::from_micros(300),
        corrupt: Chance::percent(1),
        partition_every: Duration::from_millis(50),
        partition_time: Duration::from_millis(3),
        ..DatagramFaults::default()
    };
    path
}

/// A way on which clients have a new address ten times a second. Nothing is lost: who only listens, moves, and whose
/// one word is lost is found again at its next keepalive.
fn moving() -> PathConfig {
    use std::time::Duration;
    let mut path = bad();
    path.faults = DatagramFaults {
        loss: Chance::NEVER,
        burst_enter: Chance::NEVER,
        corrupt: Chance::NEVER,
        partition_every: Duration::ZERO,
        rebind_every: Duration::from_millis(100),
        ..path.faults
    };
    path
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

/// Makes each scenario that says `tcp` a test over every transport, on real sockets and a bad network.
#[macro_export]
macro_rules! over_a_bad_network {
    ($($scenario:ident),* $(,)?) => {
        mod bad_tcp {
            use super::{$($scenario),*};
            $crate::played_over!(impaired_uring, "tcp": $($scenario),*);
            $crate::played_over!(impaired_epoll, "tcp": $($scenario),*);
        }
        mod bad_rudp {
            use super::{$($scenario),*};
            $crate::played_over!(impaired_uring, "rudp": $($scenario),*);
            $crate::played_over!(impaired_epoll, "rudp": $($scenario),*);
            $crate::played_over!(moving_uring, "rudp": $($scenario),*);
            $crate::played_over!(moving_epoll, "rudp": $($scenario),*);
        }
        mod bad_quic {
            use super::{$($scenario),*};
            $crate::played_over!(impaired_uring, "quic": $($scenario),*);
            $crate::played_over!(impaired_epoll, "quic": $($scenario),*);
        }
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
