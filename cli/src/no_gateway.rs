//! In the place of the gateway in a command that was built without it.

use std::net::SocketAddr;

use crate::args;
use crate::calls::Services;
use crate::failure::Failure;

/// Says how to get it.
pub(crate) fn run(_arguments: &args::Gateway) -> Result<(), Failure> {
    Err(missing())
}

fn missing() -> Failure {
    Failure::Usage("this command was built without the cargo feature `gateway`".to_owned())
}

/// What never runs.
#[derive(Debug)]
pub(crate) enum Running {}

impl Running {
    /// There is nothing to stop.
    pub(crate) fn stop(self) {
        match self {}
    }
}

/// Says how to get it.
pub(crate) fn beside(_example: &Services, _address: SocketAddr) -> Result<Running, Failure> {
    Err(missing())
}
