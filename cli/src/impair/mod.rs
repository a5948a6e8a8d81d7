//! `ringway impair`: a proxy for datagrams whose network is as bad as one says, to try real programs.

pub(crate) mod args;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use ringway::sim::FaultCounts;
use ringway::{Address, DriverChoice, Instant, Relay, RelayConfig, RelayCounts, RelayError};
use serde_json::{Map, Value, json};

use crate::bench::plan::Driver;
use crate::failure::Failure;
use crate::{machine, output, signals};

/// Longest sleep: a signal wakes it anyway.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Passes datagrams on until SIGINT, SIGTERM or the end of `--duration`; then tells what happened.
pub(crate) fn run(wanted: &args::Impair) -> Result<(), Failure> {
    let listen = datagrams("--listen", &wanted.listen)?;
    let target = datagrams("--to", &wanted.to)?;
    if target.port() == 0 {
        return Err(Failure::Usage(
            "--to: port 0 is nobody's; name the server's port".to_owned(),
        ));
    }
    let is_many = match target.ip() {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    if is_many {
        return Err(Failure::Usage(format!(
            "--to: {target} is many machines; name one server"
        )));
    }
    if is_loop(listen, target) {
        return Err(Failure::Usage(
            "--listen and --to are the same; the proxy would send to itself: choose another port"
                .to_owned(),
        ));
    }
    let path = wanted.path();
    if path.link.ecn_threshold_bytes >= path.link.queue_bytes {
        return Err(Failure::Usage(format!(
            "--mark: the queue drops from {} bytes on, so it never holds {}; write less, or more for --queue",
            path.link.queue_bytes, path.link.ecn_threshold_bytes
        )));
    }
    let seed = wanted.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| u64::from(since.subsec_nanos()))
    });
    machine::raise_descriptors();
    let config = RelayConfig {
        path,
        seed,
        driver: wanted.driver.map_or(DriverChoice::Auto, Driver::required),
        clients_max: usize::from(wanted.clients),
        idle: wanted.idle,
    };
    let stopped = Arc::new(AtomicBool::new(false));
    // The thread that waits for signals can't be started after the driver's, and the driver's waker is not there before.
    let wake = Arc::new(std::sync::OnceLock::<std::task::Waker>::new());
    let (stop, waker) = (Arc::clone(&stopped), Arc::clone(&wake));
    signals::on_stop(move || {
        // Release pairs with the Acquire of the loop below; the waker ends its sleep.
        stop.store(true, Ordering::Release);
        if let Some(waker) = waker.get() {
            waker.wake_by_ref();
        }
    })?;
    let mut relay =
        Relay::open(&config, listen, target).map_err(|error| failure(error, listen, target))?;
    let _first: Result<(), _> = wake.set(relay.waker());
    let address = relay.local_address().unwrap_or(listen);
    output::line(format!(
        "listening on {}",
        same_scheme(&wanted.listen, address)
    ))?;
    output::note(format!(
        "impairing datagrams to {target}, driver {}, seed {seed}; Ctrl-C ends and counts",
        relay.capabilities().kind
    ));
    let end = wanted.duration.map(|time| Instant::monotonic() + time);
    while !stopped.load(Ordering::Acquire) {
        let left = match end {
            Some(end) => end.saturating_since(Instant::monotonic()),
            None => SLEEP_MAX,
        };
        if left.is_zero() {
            break;
        }
        relay.turn(left.min(SLEEP_MAX));
    }
    tell(&relay.counts(), &relay.fault_counts(), seed, wanted.json)
}

/// The socket address of a transport over datagrams.
fn datagrams(option: &str, address: &Address) -> Result<SocketAddr, Failure> {
    match address {
        Address::Udp(at) | Address::Rudp(at) | Address::Quic(at) => Ok(*at),
        other => Err(Failure::Usage(format!(
            "{option}: {other} is a stream, which the kernel repairs; write udp://host:port, rudp:// or quic://. For a slow \
             stream, a program of yours can set `Config::impair`, and the system has `tc qdisc … netem`"
        ))),
    }
}

/// Whether what is sent to `target` comes in at `listen`.
fn is_loop(listen: SocketAddr, target: SocketAddr) -> bool {
    let (from, to) = (listen.ip(), target.ip());
    // Only what this machine has can be bound. Who sends to no address in particular reaches loopback.
    let is_here = || UdpSocket::bind((to, 0)).is_ok();
    let meet = from == to
        || (from.is_unspecified() && is_here())
        || (to.is_unspecified() && from.is_loopback());
    listen.port() == target.port() && meet
}

/// The address of that scheme.
fn same_scheme(like: &Address, at: SocketAddr) -> Address {
    match like {
        Address::Rudp(_) => Address::Rudp(at),
        Address::Quic(_) => Address::Quic(at),
        _ => Address::Udp(at),
    }
}

fn failure(error: RelayError, listen: SocketAddr, target: SocketAddr) -> Failure {
    match error {
        RelayError::Start(error) => Failure::Start(error),
        RelayError::Target(error) => Failure::Open {
            address: Address::Udp(target),
            error,
        },
        RelayError::Open(error) => Failure::Open {
            address: Address::Udp(listen),
            error,
        },
        other => Failure::Usage(other.to_string()),
    }
}

fn tell(
    counts: &RelayCounts,
    faults: &FaultCounts,
    seed: u64,
    as_json: bool,
) -> Result<(), Failure> {
    if as_json {
        let faults: Map<String, Value> = faults
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(fault, count)| (fault.to_string(), json!(count)))
            .collect();
        let way = |way: ringway::Traffic| json!({"datagrams": way.datagrams, "bytes": way.bytes});
        return output::line(
            json!({
                "seed": seed,
                "clients": counts.clients,
                "from_clients": way(counts.from_clients),
                "from_target": way(counts.from_target),
                "refused": counts.refused,
                "dropped": counts.dropped,
                "faults": faults,
            })
            .to_string(),
        );
    }
    let refused = match counts.refused {
        0 => String::new(),
        refused => format!(", {refused} datagrams of more clients than --clients refused"),
    };
    let dropped = match counts.dropped {
        0 => String::new(),
        dropped => format!(", {dropped} dropped for want of memory or sockets"),
    };
    output::line(format!(
        "{} datagrams ({}B) from {} clients, {} ({}B) from the server{refused}{dropped}",
        counts.from_clients.datagrams,
        quantity(counts.from_clients.bytes),
        counts.clients,
        counts.from_target.datagrams,
        quantity(counts.from_target.bytes),
    ))?;
    if faults.total() == 0 {
        output::line("no faults")
    } else {
        output::line(faults.to_string())
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn quantity(bytes: u64) -> String {
    output::quantity(bytes as f64)
}
