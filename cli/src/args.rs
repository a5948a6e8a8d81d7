//! What may be written behind `ringway`.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ringway::Address;

use crate::bench::plan::{Driver, Policy, Transport, Workload};
use crate::calls::args::{Call, Describe, Health, Load, Top};
use crate::impair::args::Impair;

/// Messages between processes with the least latency and CPU.
#[derive(Debug, Parser)]
#[command(
    name = "ringway",
    version,
    about,
    after_help = "Addresses are tcp://host:port, rudp://host:port, quic://host:port, unix:///path, unix://@name and udp://host:port; port 0 \
                  lets the kernel choose.\n\nExit codes: 0 fine, 1 a peer or a measurement failed, 2 wrong usage, 64 + N a call \
                  ended with status N (`ringway call --help` lists them)."
)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what this kernel offers, which driver is chosen, and why not the other
    Probe(Probe),
    /// Echo every message back, or serve an example's calls, on any number of addresses, until Ctrl-C
    Serve(Serve),
    /// Measure the round trip to a `ringway serve`, like ping
    Ping(Ping),
    /// Call a method, with JSON in and out
    Call(Call),
    /// Show a server's services, methods and messages
    Describe(Describe),
    /// Ask whether a server, or one of its services, takes calls
    Health(Health),
    /// Offer a server to clients of gRPC, REST and GraphQL, on one port
    Gateway(Gateway),
    /// Make many calls, at a rate or so many at once, and measure them
    Load(Load),
    /// Watch what a server is doing, method by method
    Top(Top),
    /// Stand between a client and a server of datagrams and make their network bad
    Impair(Box<Impair>),
    /// Write a self-signed certificate and its key, for development only
    Cert(Cert),
    /// Measure ringway beside hand-written sockets of the same shape
    #[command(after_help = BENCH_HELP)]
    Bench(Bench),
    /// Show everything within 30 seconds and write a report with charts
    Demo(Demo),
    /// The other process of a measurement; started by `bench` and `demo`
    #[command(hide = true)]
    BenchPeer(BenchPeer),
}

/// Arguments of `ringway probe`.
#[derive(Args, Debug)]
pub(crate) struct Probe {
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `ringway serve`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  ringway serve tcp://127.0.0.1:7000 unix:///tmp/echo.sock udp://127.0.0.1:7000
  ringway serve rudp://127.0.0.1:7000
  ringway serve --example kv tcp://127.0.0.1:7000
  ringway serve --example kv tcp://127.0.0.1:7000 --gateway 127.0.0.1:8080")]
pub(crate) struct Serve {
    /// Where to listen
    #[arg(required = true, value_name = "ADDRESS", value_parser = Address::resolve)]
    pub(crate) addresses: Vec<Address>,
    /// Which driver; without it io_uring where it works, else epoll
    #[arg(long, value_enum)]
    pub(crate) driver: Option<Driver>,
    /// What an engine does when there is nothing to do
    #[arg(long, value_enum, default_value_t = Policy::Adaptive, value_name = "POLICY")]
    pub(crate) idle: Policy,
    /// Threads with an engine each; connections are spread over them
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) engines: u16,
    /// Serve calls instead, with reflection, health and statistics switched on
    #[arg(long, value_enum, value_name = "SERVICE")]
    pub(crate) example: Option<Example>,
    /// Offer the example to clients of gRPC, REST and GraphQL too, on this address
    #[arg(long, value_name = "HOST:PORT", requires = "example", value_parser = host_and_port)]
    pub(crate) gateway: Option<SocketAddr>,
    /// Certificates of quic://
    #[command(flatten)]
    pub(crate) tls: Tls,
    /// Process id of a parent to end with
    #[arg(long, hide = true)]
    pub(crate) parent: Option<i32>,
}

/// Services that can be served without writing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Example {
    /// A key-value store in memory whose changes can be watched: `kv.KeyValue`
    Kv,
    /// Calls that cost nothing by themselves: `bench.Echo`
    Echo,
}

/// Arguments of `ringway gateway`.
#[derive(Args, Debug)]
#[command(
    after_help = "The server's definitions come from its reflection, unless a file is named.

Examples:
  ringway gateway --backend tcp://127.0.0.1:7000 --listen 127.0.0.1:8080
  ringway gateway --backend tcp://127.0.0.1:7000 --listen 127.0.0.1:8080 --proto kv.proto"
)]
pub(crate) struct Gateway {
    /// The server that is called
    #[arg(long, value_name = "ADDRESS", value_parser = Address::resolve)]
    pub(crate) backend: Address,
    /// Certificates of a backend on quic://
    #[command(flatten)]
    pub(crate) tls: Tls,
    /// Which driver calls the backend; without it io_uring where it works, else epoll
    #[arg(long, value_enum)]
    pub(crate) driver: Option<Driver>,
    /// Where to listen for HTTP
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub(crate) listen: SocketAddr,
    /// Definitions: a .proto file
    #[arg(long, value_name = "PATH", conflicts_with_all = ["descriptors", "reflection"])]
    pub(crate) proto: Option<PathBuf>,
    /// Folder where its imports are looked for; may be given several times; without it its own folder
    #[arg(long = "include", value_name = "FOLDER", requires = "proto")]
    pub(crate) includes: Vec<PathBuf>,
    /// Definitions: a serialized FileDescriptorSet with all imports
    #[arg(long, value_name = "PATH", conflicts_with = "reflection")]
    pub(crate) descriptors: Option<PathBuf>,
    /// Definitions: ask the server; this is the default
    #[arg(long)]
    pub(crate) reflection: bool,
    /// How long to wait for the server's definitions, in seconds
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: f64,
    /// A web origin whose pages may call, as https://app.example; may be given several times; * for every one
    #[arg(long = "origin", value_name = "ORIGIN")]
    pub(crate) origins: Vec<String>,
    /// Longest message in bytes
    #[arg(long, default_value_t = 4 << 20, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1024..=1 << 30))]
    pub(crate) message_bytes_max: u32,
    /// Serve GraphQL too: /graphql, and with --docs GraphiQL at /graphiql
    #[arg(long)]
    pub(crate) graphql: bool,
    /// Serve the definitions as OpenAPI too, with a page that shows them: /openapi.json, /openapi.yaml, /docs
    #[arg(long)]
    pub(crate) docs: bool,
    /// Write fields that have their default value in JSON too
    #[arg(long)]
    pub(crate) json_defaults: bool,
    /// Ignore unknown JSON fields and query parameters instead of answering 400
    #[arg(long)]
    pub(crate) ignore_unknown: bool,
}

/// Certificates and trust of `quic://`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Tls {
    /// Certificate of this end, as PEM; for quic:// (`ringway cert` makes one)
    #[arg(long, value_name = "PATH", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Private key of the certificate, as PEM
    #[arg(long, value_name = "PATH", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Certificates that the other end's has to be signed by, as PEM; a server demands one of every client then
    #[arg(long, value_name = "PATH")]
    pub(crate) ca: Option<PathBuf>,
    /// Take any certificate of a server: whoever is on the path can read and change everything
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Append the keys of quic:// sessions to the file that SSLKEYLOGFILE names: who has it reads everything
    #[arg(long)]
    pub(crate) key_log: bool,
    /// Trace quic:// sessions into this file, in the format qlog
    #[arg(long, value_name = "PATH")]
    pub(crate) qlog: Option<PathBuf>,
}

/// Arguments of `ringway ping`.
#[derive(Args, Debug)]
#[command(after_help = "Example: ringway ping tcp://127.0.0.1:7000 -c 5 -i 0.2")]
pub(crate) struct Ping {
    /// The address of a `ringway serve`
    #[arg(value_name = "ADDRESS", value_parser = Address::resolve)]
    pub(crate) address: Address,
    /// How many messages; without it until Ctrl-C
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Seconds from one message to the next
    #[arg(short = 'i', long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) interval: f64,
    /// Bytes of each message
    #[arg(short = 's', long, default_value_t = 64, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(16..=16_777_216))]
    pub(crate) size: u32,
    /// Which driver; without it io_uring where it works, else epoll
    #[arg(long, value_enum)]
    pub(crate) driver: Option<Driver>,
    /// What the engine does while it waits
    #[arg(long, value_enum, default_value_t = Policy::Adaptive, value_name = "POLICY")]
    pub(crate) idle: Policy,
    /// Certificates of quic://
    #[command(flatten)]
    pub(crate) tls: Tls,
}

/// Arguments of `ringway cert`.
#[derive(Args, Debug)]
#[command(after_help = "Example: ringway cert --out dev --name localhost --name 127.0.0.1")]
pub(crate) struct Cert {
    /// Folder for cert.pem and key.pem
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// A host name or IP address that the certificate is for; may be given several times
    #[arg(long = "name", value_name = "NAME", value_parser = certified_name, default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])]
    pub(crate) names: Vec<String>,
    /// Days from now on which it is valid
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub(crate) days: u16,
    /// Replace files that exist
    #[arg(long)]
    pub(crate) force: bool,
}

const BENCH_HELP: &str = "\
Each run measures in one pair of processes, client and server on a core each, and interleaves in every
round: raw A, ringway, raw A'. The raw side is the same exchange by hand-written system calls: spinning
non-blocking sockets beside `spin`, blocking ones beside `adaptive` and `park`, epoll for many connections.
Over `rudp` and `quic` there are two raw sides, plain datagrams and TCP, and a ratio to each.
A ratio is the median over the rounds of ringway to raw A; the band is the 95 % interval of raw A' to
raw A, which is what the machine's noise alone would show. A goal is missed only outside that band.
`recovery` runs in the simulator, in virtual time, with neither noise nor a raw side. It takes --transport, --size,
--ops (calls; by default 2000), --rounds (of 250 ms for two flows; by default 10) and --json.

Examples:
  ringway bench rtt
  ringway bench rate --transport unix --driver epoll --outstanding 16
  ringway bench recovery --transport rudp
  ringway bench connections --connections 1000 --held 10000 --json";

/// Arguments of `ringway bench`.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) workload: Workload,
    /// What carries the messages
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    pub(crate) transport: Transport,
    /// ringway's driver; an error if it can't be had
    #[arg(long, value_enum, default_value_t = Driver::Uring)]
    pub(crate) driver: Driver,
    /// What both sides do when there is nothing to do
    #[arg(long, value_enum, default_value_t = Policy::Spin)]
    pub(crate) policy: Policy,
    /// Bytes of a message; by default 64, for `bandwidth` and `call-bandwidth` 1 MiB (udp: 1200)
    #[arg(long, value_name = "BYTES")]
    pub(crate) size: Option<u32>,
    /// Calls in flight for `rate` and `call-rate`, by default 64, and for `call-bandwidth`, by default 4
    #[arg(long, value_name = "N")]
    pub(crate) outstanding: Option<u32>,
    /// Calls per second of `call-tail`; by default 20000
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<u32>,
    /// Connections for `connections`, `call-connections` and `idle`; by default 1000
    #[arg(long, value_name = "N")]
    pub(crate) connections: Option<u32>,
    /// Idle connections held while `connections` or `call-connections` measures memory; by default as many as --connections
    #[arg(long, value_name = "N")]
    pub(crate) held: Option<u32>,
    /// Rounds; by default 31, the fewest that make a claim (`idle`: 3, `recovery`: 10)
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<u32>,
    /// Messages per measured block; by default as many as take the hand-written side 80 ms
    #[arg(long, value_name = "N")]
    pub(crate) ops: Option<u64>,
    /// Longest packet over `rudp` and `quic`, IP header included; by default Ethernet's 1500, `loopback` for its own
    #[arg(long, value_name = "BYTES|loopback", value_parser = mtu)]
    pub(crate) mtu: Option<u32>,
    /// One JSON line instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `ringway demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Where to write the report
    #[arg(long, default_value = "target/ringway-demo.html", value_name = "PATH")]
    pub(crate) report: PathBuf,
    /// Which driver; without it io_uring where it works, else epoll
    #[arg(long, value_enum)]
    pub(crate) driver: Option<Driver>,
    /// Rounds of each measurement
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=101))]
    pub(crate) rounds: u32,
}

/// Arguments of the hidden command.
#[derive(Args, Debug)]
pub(crate) struct BenchPeer {
    /// Process id of the parent: this process ends with it
    #[arg(long)]
    pub(crate) parent: i32,
    /// Core to run on
    #[arg(long)]
    pub(crate) core: usize,
}

fn mtu(text: &str) -> Result<u32, String> {
    if text == "loopback" {
        // Its MTU is 65,536; no packet of IPv4 is longer than this.
        return Ok(u16::MAX.into());
    }
    text.parse()
        .map_err(|error| format!("{error}; write a number of bytes, or loopback"))
}

/// What a certificate can be for.
fn certified_name(text: &str) -> Result<String, String> {
    let is_name = |part: &str| {
        let fits = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'*');
        !part.is_empty() && part.bytes().all(fits)
    };
    if text.parse::<IpAddr>().is_ok() || text.split('.').all(is_name) {
        Ok(text.to_owned())
    } else {
        Err("write a host's name, as localhost or *.example.com, or an IP address".to_owned())
    }
}

/// An address of HTTP, whose host may be a name.
fn host_and_port(text: &str) -> Result<SocketAddr, String> {
    let fix = "write it as 127.0.0.1:8080, [::1]:8080 or localhost:8080";
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| format!("{error}; {fix}"))?;
    found.next().ok_or_else(|| fix.to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|error| format!("{error}; write seconds, for example 0.2"))?;
    if (0.0..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("write 0 to 3600 seconds".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_ping_interval_is_a_sane_number_of_seconds() {
        assert_eq!(seconds("0.2"), Ok(0.2));
        for bad in ["", "x", "-1", "NaN", "1e9", "inf"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
