//! Errors of the engine: one small enum per operation, split by who is at fault.

use std::fmt;
use std::io;

use ringway_driver::AddressError;
use ringway_proto::packet::{ConnectRefusal, SessionEnd};
use ringway_proto::{CloseCode, Violation};

use crate::config::ConfigError;

/// Why an engine could not be started. The text names the fix.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A setting can't be used.
    Config(ConfigError),
    /// The driver could not be started.
    Driver(ringway_driver::StartError),
    /// This build has no such driver.
    NotBuilt {
        /// The cargo feature that adds it.
        driver: &'static str,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Driver(error) => error.fmt(f),
            Self::NotBuilt { driver } => {
                write!(
                    f,
                    "this build lacks the driver; enable the cargo feature `{driver}`"
                )
            }
        }
    }
}

impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<ringway_driver::StartError> for StartError {
    fn from(error: ringway_driver::StartError) -> Self {
        Self::Driver(error)
    }
}

/// Why an address could not be listened on or connected to.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The address could not be read.
    Address(AddressError),
    /// The socket could not be opened.
    Socket(ringway_driver::OpenError),
    /// The engine's table of connections is full.
    TooMany {
        /// The configured maximum, `connections_max`.
        max: usize,
    },
    /// The packet transport would not begin a session.
    Session(ConnectRefusal),
    /// The engine lacks what this transport needs.
    NotConfigured {
        /// What to do about it.
        fix: &'static str,
    },
    /// The engine is draining and opens nothing new.
    Draining,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::Socket(error) => error.fmt(f),
            Self::TooMany { max } => write!(
                f,
                "this engine already holds {max} connections; raise `connections_max`"
            ),
            Self::Session(refusal) => refusal.fmt(f),
            Self::NotConfigured { fix } => f.write_str(fix),
            Self::Draining => f.write_str("the engine is draining; open connections elsewhere"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address(error) => Some(error),
            Self::Socket(error) => Some(error),
            Self::TooMany { .. }
            | Self::Session(_)
            | Self::NotConfigured { .. }
            | Self::Draining => None,
        }
    }
}

impl From<AddressError> for OpenError {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

impl From<ringway_driver::OpenError> for OpenError {
    fn from(error: ringway_driver::OpenError) -> Self {
        Self::Socket(error)
    }
}

/// Why a message was not accepted for sending. Nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The connection's queue or the engine's memory is full. `writable` follows when there is room again.
    Full,
    /// The message is longer than this connection carries.
    TooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The most that the peer, or the path of a datagram, takes.
        bytes_max: usize,
    },
    /// The handshake is not done; `opened` follows, or `closed`.
    NotOpen,
    /// The connection is closing, or its id is stale.
    Closed,
    /// A datagram socket that is not connected needs to be told the peer.
    NoPeer,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the send queue is full; wait for `writable` and try again"),
            Self::TooLong { bytes, bytes_max } => write!(
                f,
                "the message has {bytes} bytes and this connection carries {bytes_max}; split it, \
                 or raise `message_bytes_max` on the receiving side"
            ),
            Self::NotOpen => f.write_str("the handshake is not done; send after `opened`"),
            Self::Closed => f.write_str("the connection is closed; connect again"),
            Self::NoPeer => {
                f.write_str("this datagram socket is not connected; claim with a peer address")
            }
        }
    }
}

impl std::error::Error for SendError {}

/// A message that was not accepted, handed back with the reason.
pub struct Full<T> {
    /// The message, untouched.
    pub message: T,
    /// Why.
    pub error: SendError,
}

/// Without the message: it may be long, or work that can't be shown.
impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Full")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> std::error::Error for Full<T> {}

/// Why a connection is gone.
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it with this code.
    Local(CloseCode),
    /// The peer said goodbye with this code.
    Peer(CloseCode),
    /// Both sides drained and parted.
    Drained,
    /// The peer broke the protocol.
    Violation(Violation),
    /// The peer's stream ended without a goodbye. `unread_bytes` of an unfinished message were there.
    Ended {
        /// Bytes of the unfinished message.
        unread_bytes: usize,
    },
    /// Connecting failed: refused, unreachable, no such path.
    ConnectFailed(io::Error),
    /// Connecting took longer than `connect_timeout`.
    ConnectTimeout,
    /// The peer said nothing, or too little, for `handshake_timeout`.
    HandshakeTimeout,
    /// The peer did not answer a ping for `keepalive_timeout`.
    KeepaliveTimeout,
    /// No message came or went for `idle_timeout`.
    IdleTimeout,
    /// The drain did not end within `drain_timeout`.
    DrainTimeout,
    /// The connection broke: reset, timed out in the kernel.
    Broken(io::Error),
    /// The socket could not be opened or adopted.
    NotOpened(ringway_driver::OpenError),
    /// The handler panicked while it served this connection.
    HandlerPanicked,
    /// The stream filter (TLS) refused the peer's bytes.
    Filter(ringway_proto::FilterError),
    /// How a session of a packet transport ended, where a stream has no word for it.
    Session(SessionEnd),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(code) => write!(f, "closed by this side: {code}"),
            Self::Peer(code) => write!(f, "closed by the peer: {code}"),
            Self::Drained => f.write_str("both sides drained"),
            Self::Violation(violation) => write!(f, "the peer broke the protocol: {violation}"),
            Self::Ended { unread_bytes: 0 } => f.write_str("the peer ended the stream"),
            Self::Ended { unread_bytes } => {
                write!(f, "the peer ended the stream {unread_bytes} bytes into a message")
            }
            Self::ConnectFailed(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    write!(f, "connect: {error}; is the server running on that address?")
                }
                _ => write!(f, "connect: {error}"),
            },
            Self::ConnectTimeout => f.write_str(
                "connect: no answer within `connect_timeout`; check address, route and firewall",
            ),
            Self::HandshakeTimeout => f.write_str(
                "the peer did not finish its hello within `handshake_timeout`; is it a ringway peer?",
            ),
            Self::KeepaliveTimeout => f.write_str("the peer did not answer a keepalive ping"),
            Self::IdleTimeout => f.write_str("no message for `idle_timeout`"),
            Self::DrainTimeout => f.write_str("the drain did not end within `drain_timeout`"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::NotOpened(error) => error.fmt(f),
            Self::HandlerPanicked => f.write_str("the handler panicked on this connection"),
            Self::Session(end) => end.fmt(f),
            Self::Filter(error) => write!(f, "the stream filter refused the peer: {error}"),
        }
    }
}

/// The last word about a connection.
#[derive(Debug)]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// Bytes of frames that were accepted for sending and never reached the kernel. Zero means that all of
    /// them left this process (not that the peer read them).
    pub unsent_bytes: u64,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        if self.unsent_bytes > 0 {
            write!(f, " ({} bytes unsent)", self.unsent_bytes)?;
        }
        Ok(())
    }
}
