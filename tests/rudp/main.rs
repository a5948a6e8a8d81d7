//! Reliable UDP, seen from outside: endpoints in a network of virtual time.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and count in small numbers"
)]
#![allow(unreachable_pub, reason = "modules of one test binary")]

mod forge;
mod hostile;
mod recovery;
#[path = "../seeds/mod.rs"]
mod seeds;
mod swarm;
mod world;
