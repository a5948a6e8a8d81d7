//! Why a command did not succeed, and the exit code that says so.

use std::process::ExitCode;
use std::{fmt, io};

use ringway::rpc::{ServeError, Status};
use ringway::{Address, OpenError, ShardsError, StartError};

use crate::bench::plan::Driver;

/// What went wrong. The text names the fix where there is one.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments make no sense together.
    Usage(String),
    /// The reader of our output is gone; not worth a word.
    ReaderGone,
    /// No engine could be started.
    Start(StartError),
    /// No server could be started.
    Shards(ShardsError),
    /// No server of calls could be started.
    Serve(ServeError),
    /// A call ended otherwise than well.
    Call {
        /// Which method.
        method: String,
        /// How it ended.
        status: Box<Status>,
    },
    /// The server does not tell what its messages look like.
    NoReflection(String),
    /// The server, or a service of it, takes no calls.
    NotServing(String),
    /// This run is about one driver, and that one can't be had.
    DriverRefused {
        /// Which.
        driver: Driver,
        /// Why not.
        error: StartError,
    },
    /// An address can't be listened on or connected to.
    Open {
        /// Which address.
        address: Address,
        /// Why not.
        error: OpenError,
    },
    /// The system refused something.
    System {
        /// What we were about to do.
        what: &'static str,
        /// What it said.
        error: io::Error,
    },
    /// The other process of a measurement failed; it has said why.
    Peer(String),
    /// Nothing arrived for the stall limit.
    Stalled {
        /// Who waited, and for what.
        what: &'static str,
    },
    /// A connection ended, or carried something that was not asked for.
    Connection(String),
    /// Nobody answered a ping.
    NoAnswer,
}

impl Failure {
    /// Names what the system refused.
    pub(crate) fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::System { what, error }
    }

    /// The same for calls that report a bare error number.
    pub(crate) fn errno(what: &'static str) -> impl Fn(nix::errno::Errno) -> Self {
        move |error| Self::System {
            what,
            error: error.into(),
        }
    }

    /// A call ended otherwise than well.
    pub(crate) fn call(method: &str, status: Status) -> Self {
        Self::Call {
            method: method.to_owned(),
            status: Box::new(status),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Call { status, .. } => {
                let number = u8::try_from(status.code.to_wire()).unwrap_or(0);
                ExitCode::from(64 + number)
            }
            _ => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::Peer(what) | Self::Connection(what) => f.write_str(what),
            Self::ReaderGone => f.write_str("the reader of the output is gone"),
            Self::Start(error) => write!(f, "the engine can't start: {error}"),
            Self::Shards(error) => error.fmt(f),
            Self::Serve(error) => error.fmt(f),
            Self::Call { method, status } => ended(f, method, status),
            Self::NoReflection(server) => write!(
                f,
                "{server} does not describe its services: it has no reflection \
                 (`ServerBuilder::reflection` adds it); `ringway call --raw` and `--hex` do without"
            ),
            Self::NotServing(whom) => write!(f, "{whom} takes no calls"),
            Self::DriverRefused {
                driver: Driver::Uring,
                error,
            } => write!(
                f,
                "driver uring can't start: {error}; `ringway probe` shows the details, \
                 `--driver epoll` measures without it"
            ),
            Self::DriverRefused { driver, error } => {
                write!(f, "driver {driver} can't start: {error}")
            }
            Self::Open { address, error } => {
                let (error, address) = (error.to_string(), address.to_string());
                if error.contains(&address) {
                    f.write_str(&error)
                } else {
                    write!(f, "{address}: {error}")
                }
            }
            Self::System { what, error } => write!(f, "{what}: {error}"),
            Self::Stalled { what } => write!(
                f,
                "{what} got nothing for {} s; datagrams may have been lost (lower --outstanding or \
                 --connections), or a process was stopped",
                crate::bench::STALL.as_secs()
            ),
            Self::NoAnswer => f.write_str("no answer; is `ringway serve` running on that address?"),
        }
    }
}

fn ended(f: &mut fmt::Formatter<'_>, method: &str, status: &Status) -> fmt::Result {
    write!(f, "{method}: {}", status.code)?;
    if !status.message.is_empty() {
        write!(f, ": {}", status.message)?;
    }
    if status.app_code != 0 {
        write!(f, "\n  application code {}", status.app_code)?;
    }
    if let Some(details) = &status.details {
        write!(f, "\n  details {}", crate::calls::details(details))?;
    }
    if status.not_started {
        f.write_str("\n  the call was surely not executed: trying again is safe")?;
    }
    Ok(())
}
