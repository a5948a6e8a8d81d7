//! The server process of one contestant: says its address on standard output and serves until it is killed.

use crate::contestant::{CONTESTANTS, Library};
use crate::{Outcome, peers, sys};

/// Serves.
pub(crate) fn run(name: &str, core: usize, parent: i32, payload: u16) -> Outcome<()> {
    sys::end_with(parent)?;
    sys::pin(core)?;
    let found = CONTESTANTS.iter().find(|known| known.name == name);
    let contestant = found.ok_or_else(|| format!("no contestant is named {name}"))?;
    match contestant.library {
        Library::Ringway | Library::RingwayChannel => peers::ringway::serve(contestant.setting),
        Library::RingwayQuic => peers::ringway::serve_quic(contestant.setting, payload),
        Library::Quinn => peers::quinn::serve(contestant.setting, payload),
        Library::Tonic => peers::tonic::serve(contestant.setting),
        Library::Tarpc => peers::tarpc::serve(contestant.setting),
        Library::Capnp => peers::capnp::serve(contestant.setting),
    }
}

/// Says where to connect.
pub(crate) fn say(address: impl std::fmt::Display) {
    println!("{address}");
}
