//! ringway beside tonic, tarpc, capnp-rpc and quinn: the same workloads, in one run.
//!
//! Client and server are two processes, pinned to a core each, as in `ringway bench`. Every round measures every
//! contestant once; a result is the median over the rounds, a ratio the median of the rounds' ratios. Servers whose
//! turn it is not are stopped, so that one that spins takes nothing from the others.
#![forbid(unsafe_code)]

mod contestant;
mod peers;
mod plot;
mod report;
mod rounds;
mod server;
mod sys;

use std::error::Error;
use std::path::PathBuf;

// Generated code names itself by this path.
use peers::echo_capnp;

/// What can go wrong goes to standard error and ends the run.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: ringway-peers [--rounds N] [--block-ms N] [--only PART-OF-A-NAME] [--workload NAME] [--payload BYTES] \
     [--out FOLDER]";

/// What QUIC's datagrams carry at most unless told otherwise: the default of both libraries.
const PAYLOAD_BYTES: u16 = 1_452;

/// What a run measures.
#[derive(Clone, Debug)]
struct Plan {
    rounds: usize,
    block_ms: u64,
    /// Only contestants with this in their name.
    only: Option<String>,
    /// Only this workload.
    workload: Option<String>,
    /// Longest payload of a datagram of QUIC, in bytes.
    payload: u16,
    /// Where the table and the plots go.
    out: PathBuf,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, name, core, parent, payload] = &arguments[..]
        && command == "serve"
    {
        return server::run(name, core.parse()?, parent.parse()?, payload.parse()?);
    }
    let plan = plan(&arguments)?;
    let results = rounds::run(&plan)?;
    report::write(&plan, &results)
}

fn plan(arguments: &[String]) -> Outcome<Plan> {
    let mut plan = Plan {
        rounds: 31,
        block_ms: 40,
        only: None,
        workload: None,
        payload: PAYLOAD_BYTES,
        out: [env!("CARGO_MANIFEST_DIR"), "..", "..", "docs", "benchmarks"]
            .iter()
            .collect(),
    };
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--rounds" => plan.rounds = value.parse::<usize>()?.max(1),
            [name, value] if name == "--block-ms" => plan.block_ms = value.parse::<u64>()?.max(1),
            [name, value] if name == "--only" => plan.only = Some(value.clone()),
            [name, value] if name == "--workload" => plan.workload = Some(value.clone()),
            [name, value] if name == "--payload" => plan.payload = value.parse()?,
            [name, value] if name == "--out" => plan.out = value.into(),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(plan)
}
