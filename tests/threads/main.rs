//! Engines on threads of their own, and the handles, links and acceptors that other threads hold of them.
//!
//! Nothing here waits for a time: a thread waits for an answer, a channel, or another thread's end. What
//! would be a lost wake-up shows as a test that never ends.

mod handles;
mod links;
#[path = "../world/relay.rs"]
mod relay;
mod shards;
mod support;
#[path = "../world/trust.rs"]
mod trust;

/// Makes each scenario a test on both drivers of the kernel.
#[macro_export]
macro_rules! on_kernel_drivers {
    ($($scenario:ident),* $(,)?) => {
        mod uring { $( #[test] fn $scenario() { super::$scenario(ringway::DriverChoice::Uring); } )* }
        mod epoll { $( #[test] fn $scenario() { super::$scenario(ringway::DriverChoice::Epoll); } )* }
    };
}
