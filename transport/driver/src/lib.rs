//! Drivers of ringway: code that talks to one kernel interface, behind one completion-style contract.
//!
//! On the way of a message this is the last crate before the kernel: the engine above hands down [`Chain`]s
//! and bursts, and gets bytes back through a [`Sink`]. A driver knows sockets, not messages.
//!
//! * [`Driver`] is the contract; [`Sink`] is how events come up; both are generic, so that the engine's turn
//!   is compiled once for each driver.
//! * [`uring`] (io_uring, hybrid) and [`epoll`] (mio) implement it on the kernel, `ringway-sim` on virtual
//!   time. What the first two share (addresses, options, connecting, control messages) lives in [`socket`].
//!
//! Nothing here blocks except [`Driver::poll`] when it was told to park.

mod contract;
#[cfg(any(feature = "epoll", feature = "uring"))]
mod counted;
mod event;
mod inlet;
#[cfg(any(feature = "uring", feature = "epoll"))]
mod pace;
mod start;
mod stats;

#[cfg(feature = "epoll")]
pub mod epoll;
pub mod socket;
#[cfg(feature = "uring")]
pub mod uring;

pub use contract::SharedPools;
pub use contract::{
    BufferBytes, Burst, Capabilities, Close, Driver, DriverKind, Fact, Incoming, ListenOptions,
    OpenError, Park, SocketId, SocketOptions, Steer, SteerRule,
};
pub use event::{AcceptFault, CloseCause, DatagramMeta, Sink, Want};
pub use inlet::{Fed, Inlet, Scratch, Target};
pub use ringway_buf::Chain;
pub use socket::address::{Address, AddressError};
pub use start::StartError;
pub use stats::DriverStats;
