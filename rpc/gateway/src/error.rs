//! Why a gateway can't start.

use core::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;

use ringway_rpc::{BuildError, Code, Status};

/// Why definitions can't be served. The text names the place and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaError {
    /// A `.proto` file can't be read.
    Proto(String),
    /// Descriptors don't fit together.
    Descriptors(String),
    /// A rule of `google.api.http` can't be kept.
    Rule {
        /// `package.Service/Method`.
        method: String,
        /// What is wrong with it.
        text: String,
    },
    /// The server can't be asked for its definitions.
    Reflection(Status),
    /// There is nothing to serve.
    Empty,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proto(text) => write!(f, "{text}"),
            Self::Descriptors(text) => write!(
                f,
                "the descriptors are unusable: {text}; they have to be a `FileDescriptorSet` with all imports \
                 (`protoc --include_imports`)"
            ),
            Self::Rule { method, text } => write!(f, "the HTTP rule of `{method}`: {text}"),
            Self::Reflection(status) if status.code == Code::Unimplemented => f.write_str(
                "the server has no reflection (`ServerBuilder::reflection` adds it); \
                 give a `.proto` file or a descriptor set instead",
            ),
            Self::Reflection(status) => {
                write!(f, "asking the server for its definitions: {status}")
            }
            Self::Empty => f.write_str(
                "the definitions hold no service; name a `.proto` file that has one, or switch reflection on",
            ),
        }
    }
}

impl std::error::Error for SchemaError {}

/// Why a gateway can't start. The text names the fix.
#[derive(Debug)]
#[non_exhaustive]
pub enum GatewayError {
    /// What it serves.
    Schema(SchemaError),
    /// The services of this process don't fit together.
    Build(BuildError),
    /// The address can't be read; it is `host:port` with a numeric host.
    Address(String),
    /// The address can't be listened on.
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The thread can't be started.
    Thread(std::io::Error),
    /// A setting is out of its range.
    Setting {
        /// Which field of the configuration.
        field: &'static str,
        /// What it has to be.
        wanted: &'static str,
    },
}

impl fmt::Display for GatewayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema(error) => error.fmt(f),
            Self::Build(error) => error.fmt(f),
            Self::Address(text) => write!(
                f,
                "`{text}` is no address to listen on; write it as 127.0.0.1:8080 or [::1]:8080"
            ),
            Self::Listen { address, error } => {
                let fix = match error.kind() {
                    ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
                    ErrorKind::PermissionDenied => "ports below 1024 need privileges",
                    _ => "choose another port, or 0 for any",
                };
                write!(f, "listening on {address}: {error}; {fix}")
            }
            Self::Thread(error) => write!(f, "starting the gateway's thread: {error}"),
            Self::Setting { field, wanted } => write!(f, "`{field}` has to be {wanted}"),
        }
    }
}

impl std::error::Error for GatewayError {}

impl From<SchemaError> for GatewayError {
    fn from(error: SchemaError) -> Self {
        Self::Schema(error)
    }
}
