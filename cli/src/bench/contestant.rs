//! What both contestants can do, each in both processes. Called once per block; the loops inside are compiled
//! for each contestant by itself.

use std::time::Instant;

use hdrhistogram::Histogram;
use ringway::Address;

use super::usage::Counts;
use crate::failure::Failure;

/// The client's side, in the parent.
pub(crate) trait Client {
    /// Runs `target` messages of the plan's workload and returns when all are answered or acknowledged.
    fn run(&mut self, target: u64) -> Result<(), Failure>;

    /// Runs `target` messages that are not measured, ahead of a block.
    fn warm_up(&mut self, target: u64) -> Result<(), Failure> {
        self.run(target)
    }

    /// Round trips of the last [`run`](Self::run).
    fn latencies(&self) -> &Histogram<u64>;

    /// After a block, unmeasured: lets acknowledgements come and go before this side rests, so that no rest is taken
    /// for a long round trip. The other side does the same meanwhile.
    fn settle(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Counters so far.
    fn counts(&self) -> Counts;
}

/// The server's side, in the child.
pub(crate) trait Server {
    /// Where clients connect to.
    fn address(&self) -> Result<Address, Failure>;

    /// Takes `count` connections.
    fn accept(&mut self, count: u32) -> Result<(), Failure>;

    /// Serves `target` messages and returns when the last answer is on its way.
    fn run(&mut self, target: u64) -> Result<(), Failure>;

    /// Serves idle connections until then.
    fn idle(&mut self, until: Instant) -> Result<(), Failure>;

    /// The same as of a client.
    fn settle(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Counters so far.
    fn counts(&self) -> Counts;
}
