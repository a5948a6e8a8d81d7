//! What every driver promises, kept by the simulated one; each fault; and a swarm of random networks.
//!
//! `RINGWAY_SEED=… cargo test -p ringway-sim swarm` replays one seed, `RINGWAY_SEEDS=…` runs that many.

#[cfg(test)]
mod closing;
#[cfg(test)]
mod datagrams;
#[cfg(test)]
mod determinism;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod host;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod swarm;
#[cfg(test)]
mod time;
