//! What may be written behind `ringway call`, `describe` and `health`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ringway::Address;
use ringway::rpc::Kind;

use super::duration;
use crate::bench::plan::Driver;

/// How a server is reached.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reach {
    /// While the server can't be reached: wait, instead of failing
    #[arg(short = 'w', long)]
    pub(crate) wait_for_ready: bool,
    /// Which driver; without it io_uring where it works, else epoll
    #[arg(long, value_enum)]
    pub(crate) driver: Option<Driver>,
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
    /// Metadata; may be given several times. The value of a name that ends in -bin is hexadecimal
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// End the call after this time: 2, 0.5s, 200ms
    #[arg(short = 't', long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
    /// Compress the messages that are sent, if the server can unpack lz4
    #[arg(long)]
    pub(crate) compress: bool,
    /// How urgent: 0 most, 7 least
    #[arg(long, default_value_t = 4, value_name = "0-7", value_parser = clap::value_parser!(u8).range(0..=7))]
    pub(crate) priority: u8,
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
    /// Show fields that have their default value, too
    #[arg(long)]
    pub(crate) defaults: bool,
    /// Say on standard error what is sent and received, with the answer's metadata
    #[arg(short, long)]
    pub(crate) verbose: bool,
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
