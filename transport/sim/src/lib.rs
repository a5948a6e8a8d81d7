//! A driver made of virtual time and a seeded network.
//!
//! It stands where io_uring and epoll stand: below the engine, the last crate before the kernel, only that
//! the kernel, the wire and the clock are simulated too. The engine above is the real one, bit for bit.
//!
//! * [`SimNet`] is the network of a run: it owns the clock, the links and every random number.
//! * [`SimDriver`] is one host; [`SimNet::node`] makes it. It keeps the contract of
//!   [`Driver`](ringway_driver::Driver).
//! * [`DatagramPath`] is what a network does to datagrams, by itself: the same model for the simulator, for
//!   `ringway impair` and for machines that are driven by hand ([`DatagramNet`]).
//! * [`Impair`] puts that model in front of any driver, so that real sockets behave as if the network were bad.
//! * [`NetConfig`] describes links and [`Faults`]; [`NetConfig::swarm`] draws a random mix of both.
//!
//! Invariants: the same seed and the same calls give the same run ([`SimNet::trace_hash`]); nothing here
//! reads a clock, starts a thread, opens a socket or looks at the environment; everything is bounded.
//!
//! ```
//! use std::rc::Rc;
//! use ringway_buf::{Pools, PoolsConfig};
//! use ringway_driver::{Driver, Park};
//! use ringway_sim::{NetConfig, SimNet};
//! # use std::net::SocketAddr;
//! # use ringway_buf::RecvBuffer;
//! # use ringway_driver::{
//! #     AcceptFault, Address, CloseCause, DatagramMeta, Incoming, Sink, SocketId, Want,
//! # };
//! # struct Quiet;
//! # impl Sink for Quiet {
//! #     fn connected(&mut self, _: SocketId) {}
//! #     fn accepted(&mut self, _: SocketId, _: Incoming, _: Option<Address>) {}
//! #     fn accept_failed(&mut self, _: SocketId, _: AcceptFault) {}
//! #     fn received(&mut self, _: SocketId, _: &mut RecvBuffer) -> Want { Want::More(0) }
//! #     fn large(&mut self, _: SocketId, _: RecvBuffer) -> Want { Want::More(0) }
//! #     fn datagrams(&mut self, _: SocketId, _: &mut RecvBuffer, _: DatagramMeta) {}
//! #     fn sent(&mut self, _: SocketId, _: usize) {}
//! #     fn datagram_too_long(&mut self, _: SocketId, _: Option<SocketAddr>, _: usize, _: usize) {}
//! #     fn ended(&mut self, _: SocketId) {}
//! #     fn closed(&mut self, _: SocketId, _: CloseCause) {}
//! # }
//! # let mut sink = Quiet;
//! let net = SimNet::new(NetConfig::swarm(7), 7);
//! let mut host = net.node("a", Rc::new(Pools::new(PoolsConfig::default())));
//! let deadline = net.now() + std::time::Duration::from_millis(5);
//! assert_eq!(host.poll(Park::Until(Some(deadline)), &mut sink), 0);
//! assert!(net.advance());
//! assert_eq!(host.now(), deadline);
//! ```

#![forbid(unsafe_code)]

mod clock;
mod config;
mod counts;
mod datagram;
mod driver;
mod errno;
mod faults;
mod flights;
mod handshake;
mod impair;
mod listener;
mod names;
mod net;
mod node;
mod open;
mod path;
mod pipe;
mod recv;
mod ring;
mod rng;
mod send;
mod socket;
mod stream;
mod trace;
mod wires;

pub use config::{DatagramLink, Habits, NetConfig, StreamLink};
pub use counts::{Fault, FaultCounts};
pub use driver::SimDriver;
pub use faults::{Chance, DatagramFaults, DriverFaults, Faults, Span, StreamFaults};
pub use flights::Flights;
pub use impair::Impair;
pub use net::{Pending, SimNet};
pub use path::{Arrival, DatagramPath, Passage, PathConfig};
pub use wires::{DatagramNet, Wire};
