//! What may be written behind `ringway call`, `describe`, `health`, `load` and `top`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringway::Address;
use ringway::rpc::Kind;

use super::duration;
use crate::args::Tls;
use crate::bench::plan::{Driver, Policy};

/// How a server is reached.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reach {
    /// While the server can't be reached: wait, instead of failing
    #[arg(short = 'w', long)]
    pub(crate) wait_for_ready: bool,
    /// Which driver; without it io_uring where it works, else epoll
    #[arg(long, value_enum)]
    pub(crate) driver: Option<Driver>,
    #[command(flatten)]
    pub(crate) tls: Tls,
}

/// Who streams in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Streams {
    /// One message each way
    Unary,
    /// The client streams, the server answers once
    ClientStream,
    /// One request, a stream of answers
    ServerStream,
    /// Both stream
    Bidi,
}

impl Streams {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Unary => Kind::Unary,
            Self::ClientStream => Kind::ClientStream,
            Self::ServerStream => Kind::ServerStream,
            Self::Bidi => Kind::Bidi,
        }
    }
}

/// What messages of a service without descriptors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    /// Bytes
    Raw,
    /// Protobuf that is already encoded
    Protobuf,
    /// Plain structs
    Pod,
}

impl Codec {
    /// Its number on the wire.
    pub(crate) fn id(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Protobuf => 1,
            Self::Pod => 2,
        }
    }
}

/// What is sent, and how it is written.
#[derive(Args, Clone, Debug)]
pub(crate) struct Message {
    /// Metadata; may be given several times. The value of a name that ends in -bin is hexadecimal
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Compress the messages that are sent, if the server can unpack lz4
    #[arg(long)]
    pub(crate) compress: bool,
    /// Messages are bytes: write DATA and show answers as they are
    #[arg(long, conflicts_with = "hex")]
    pub(crate) raw: bool,
    /// Messages are bytes: write DATA and show answers in hexadecimal
    #[arg(long)]
    pub(crate) hex: bool,
    /// With --raw or --hex: what the bytes are to the server
    #[arg(long, value_enum, default_value_t = Codec::Raw)]
    pub(crate) codec: Codec,
    /// With --raw or --hex: who streams
    #[arg(long, value_enum, default_value_t = Streams::Unary)]
    pub(crate) kind: Streams,
}

const CALL_HELP: &str = "\
DATA is JSON as protobuf maps it. Each DATA may hold several messages of a client's stream; `@FILE` reads them
from a file, a lone `-` reads them from standard input, one on each line, and sends each as it comes. Without DATA
one empty message is sent, or an empty stream. Answers are JSON, each on a line of its own as soon as it is there.

Services without descriptors are called with --raw or --hex: then every DATA is one message, and every line of `-`.

Exit codes: 0 the call went well, 1 it could not be made, 2 wrong usage (names and JSON that do not fit the server
included), 64 + N it ended with status N: 65 CANCELLED, 67 INVALID_ARGUMENT, 68 DEADLINE_EXCEEDED, 69 NOT_FOUND,
72 RESOURCE_EXHAUSTED, 73 FAILED_PRECONDITION, 76 UNIMPLEMENTED, 77 INTERNAL, 78 UNAVAILABLE; the others likewise.

Examples (the server: ringway serve --example kv tcp://127.0.0.1:7000):
  ringway call tcp://127.0.0.1:7000 kv.KeyValue/Put '{\"key\": \"a\", \"value\": \"MQ==\"}'
  ringway call tcp://127.0.0.1:7000 kv.KeyValue/Watch '{\"prefix\": \"\"}'
  seq 3 | sed 's/.*/{\"key\": \"&\"}/' | ringway call tcp://127.0.0.1:7000 kv.KeyValue/Load -
  ringway call unix://@book book.Orders/Cancel --hex --codec pod 0100000000000000";

/// Arguments of `ringway call`.
#[derive(Args, Debug)]
#[command(after_help = CALL_HELP)]
pub(crate) struct Call {
    /// Where the server listens
    #[arg(value_name = "ADDRESS", value_parser = Address::resolve)]
    pub(crate) address: Address,
    /// What to call: package.Service/Method
    #[arg(value_name = "METHOD")]
    pub(crate) method: String,
    /// The request, or the messages of the client's stream
    #[arg(value_name = "DATA")]
    pub(crate) data: Vec<String>,
    /// End the call after this time: 2, 0.5s, 200ms
    #[arg(short = 't', long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
    /// How urgent: 0 most, 7 least
    #[arg(long, default_value_t = 4, value_name = "0-7", value_parser = clap::value_parser!(u8).range(0..=7))]
    pub(crate) priority: u8,
    /// Show fields that have their default value, too
    #[arg(long)]
    pub(crate) defaults: bool,
    /// Say on standard error what is sent and received, with the answer's metadata
    #[arg(short, long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) message: Message,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Arguments of `ringway describe`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  ringway describe tcp://127.0.0.1:7000
  ringway describe tcp://127.0.0.1:7000 kv.KeyValue/Put
  ringway describe tcp://127.0.0.1:7000 kv.PutRequest --json")]
pub(crate) struct Describe {
    /// Where the server listens
    #[arg(value_name = "ADDRESS", value_parser = Address::resolve)]
    pub(crate) address: Address,
    /// A service, a method, a message or an enum; without it all services
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// How long the server may take
    #[arg(short = 't', long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Arguments of `ringway health`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 it is serving, 1 it is not, 64 + N the call ended with status N \
                        (69: the server knows no such service)."
)]
pub(crate) struct Health {
    /// Where the server listens
    #[arg(value_name = "ADDRESS", value_parser = Address::resolve)]
    pub(crate) address: Address,
    /// Which service; without it the server as a whole
    #[arg(value_name = "SERVICE", default_value = "")]
    pub(crate) service: String,
    /// Go on, and show every change
    #[arg(long)]
    pub(crate) watch: bool,
    /// How long the server may take to answer
    #[arg(short = 't', long, value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

const LOAD_HELP: &str = "\
With --rate every call is due at its own time, whether the server keeps up or not, and its latency counts from
that time (no coordinated omission); what it took from when it was really sent stands beside it. With --outstanding
the next call is made when one has ended. All calls count, failed ones too.

A method of a stream is called with one message; it has ended when its answering stream has.

Exit codes: 0 at least one call went well, 1 it could not be measured, 2 wrong usage, 64 + N no call went well
and most ended with status N.

Examples (the server: ringway serve --example kv tcp://127.0.0.1:7000):
  ringway load tcp://127.0.0.1:7000 kv.KeyValue/Put -d '{\"key\": \"a\"}' --rate 20k --html load.html
  ringway load tcp://127.0.0.1:7000 kv.KeyValue/Put -d '{\"key\": \"a\"}' --outstanding 64 --connections 8";

/// Arguments of `ringway load`.
#[derive(Args, Debug)]
#[command(after_help = LOAD_HELP)]
pub(crate) struct Load {
    /// Where the server listens
    #[arg(value_name = "ADDRESS", value_parser = Address::resolve)]
    pub(crate) address: Address,
    /// What to call: package.Service/Method
    #[arg(value_name = "METHOD")]
    pub(crate) method: String,
    /// The request; @FILE reads it from a file. Without it the empty message
    #[arg(short, long, value_name = "JSON")]
    pub(crate) data: Option<String>,
    /// Open loop: so many calls per second; 20k and 1.5M are numbers
    #[arg(short, long, value_name = "R", value_parser = rate, conflicts_with = "outstanding", required_unless_present = "outstanding")]
    pub(crate) rate: Option<f64>,
    /// Closed loop: so many calls at once
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) outstanding: Option<u32>,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub(crate) duration: Duration,
    /// How long to call before that without measuring
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    pub(crate) warmup: Duration,
    /// Connections that the calls are spread over
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) connections: u16,
    /// When a call ends with DEADLINE_EXCEEDED
    #[arg(short = 't', long, value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    pub(crate) timeout: Duration,
    /// Write a page with charts
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// One JSON line instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// What the engine does while it waits
    #[arg(long, value_enum, default_value_t = Policy::Adaptive, value_name = "POLICY")]
    pub(crate) idle: Policy,
    #[command(flatten)]
    pub(crate) message: Message,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Arguments of `ringway top`.
#[derive(Args, Debug)]
#[command(
    after_help = "Times are those of the calls in the last interval: in the queue from the complete request to \
                        its handler, arriving from the first frame of a request to the last, in the handler until \
                        its answer. Needs the server's admin service (`ServerBuilder::admin`)."
)]
pub(crate) struct Top {
    /// Where the server listens
    #[arg(value_name = "ADDRESS", value_parser = Address::resolve)]
    pub(crate) address: Address,
    /// Time from one view to the next
    #[arg(short = 'i', long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    pub(crate) interval: Duration,
    /// One view, then end
    #[arg(long)]
    pub(crate) once: bool,
    /// A JSON line for each view
    #[arg(long)]
    pub(crate) json: bool,
    /// Show methods that were never called, and the built-in services, too
    #[arg(long)]
    pub(crate) all: bool,
    /// How long the server may take
    #[arg(short = 't', long, value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// `20000`, `20k`, `1.5M`.
fn rate(text: &str) -> Result<f64, String> {
    let units = [("k", 1e3), ("M", 1e6)];
    let with_unit = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = with_unit.unwrap_or((text, 1.0));
    match number.parse::<f64>().map(|it| it * factor) {
        Ok(rate) if (0.01..=1e8).contains(&rate) => Ok(rate),
        Ok(_) => Err("write 0.01 to 100M calls per second".to_owned()),
        Err(_) => Err("write a number such as 500, 20k or 1.5M".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_numbers_with_or_without_a_unit() {
        for (text, value) in [("500", 500.0), ("20k", 20_000.0), ("1.5M", 1.5e6)] {
            assert_eq!(rate(text), Ok(value));
        }
        for bad in ["", "0", "-1", "x", "NaN", "k", "1G", "1e12"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
