//! Addresses as users write them: `tcp://host:port`, `rudp://host:port`, `udp://host:port`, `unix:///path`,
//! `unix://@name`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen or connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// TCP over IPv4 or IPv6. `tcp://[::]:0` listens on both families at a port of the kernel's choice.
    Tcp(SocketAddr),
    /// Plain datagrams: unreliable, a message is a datagram.
    Udp(SocketAddr),
    /// Reliable messages over UDP, for trusted networks.
    Rudp(SocketAddr),
    /// QUIC: encrypted and authenticated, for networks that are not trusted. A protocol of the engine's, over a UDP
    /// socket.
    Quic(SocketAddr),
    /// A stream socket at a path of the file system; its permissions are the access control.
    Unix(PathBuf),
    /// A stream socket in Linux' abstract namespace, written `unix://@name`; vanishes with its owner.
    Abstract(String),
}

/// Why an address could not be read. The text names the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// No `scheme://` that this build knows.
    Scheme {
        /// What was given.
        given: String,
    },
    /// The part behind the scheme is not a host and port.
    HostPort {
        /// What was given.
        given: String,
    },
    /// The name service knows no such host.
    Unresolved {
        /// The host and port.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// A unix path is empty, holds a NUL, or is longer than the 107 bytes that the kernel takes.
    Path {
        /// What was given.
        given: String,
    },
}

/// Longest path of a unix socket in bytes: `sun_path` less its terminating NUL.
const UNIX_PATH_BYTES_MAX: usize = 107;

impl Address {
    /// Reads an address, asking the name service if the host is a name. May block; call it at set-up.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn resolve(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = Self::split(text)?;
        let lookup = || -> Result<SocketAddr, AddressError> {
            if let Ok(address) = rest.parse() {
                return Ok(address);
            }
            let port = rest.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(AddressError::HostPort {
                    given: text.to_owned(),
                });
            }
            let unresolved = |why: String| AddressError::Unresolved {
                host: rest.to_owned(),
                why,
            };
            let mut found = rest
                .to_socket_addrs()
                .map_err(|error| unresolved(error.to_string()))?;
            found
                .next()
                .ok_or_else(|| unresolved("no address".to_owned()))
        };
        match scheme {
            "tcp" => Ok(Self::Tcp(lookup()?)),
            "udp" => Ok(Self::Udp(lookup()?)),
            "rudp" => Ok(Self::Rudp(lookup()?)),
            "quic" => Ok(Self::Quic(lookup()?)),
            _ => Self::unix(text, rest),
        }
    }

    /// True for datagram transports.
    #[must_use]
    pub fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(_))
    }

    /// The IP address and port, if there is one.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) | Self::Rudp(address) | Self::Quic(address) => {
                Some(*address)
            }
            Self::Unix(_) | Self::Abstract(_) => None,
        }
    }

    fn split(text: &str) -> Result<(&str, &str), AddressError> {
        match text.split_once("://") {
            Some((scheme @ ("tcp" | "udp" | "rudp" | "quic" | "unix"), rest)) => Ok((scheme, rest)),
            _ => Err(AddressError::Scheme {
                given: text.to_owned(),
            }),
        }
    }

    fn unix(text: &str, rest: &str) -> Result<Self, AddressError> {
        let name = rest.strip_prefix('@');
        let bytes = name.unwrap_or(rest);
        if bytes.is_empty() || bytes.len() > UNIX_PATH_BYTES_MAX || bytes.contains('\0') {
            return Err(AddressError::Path {
                given: text.to_owned(),
            });
        }
        Ok(match name {
            Some(name) => Self::Abstract(name.to_owned()),
            None => Self::Unix(PathBuf::from(rest)),
        })
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads an address without asking the name service: hosts must be numeric.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = Self::split(text)?;
        let numeric = || {
            rest.parse().map_err(|_error| AddressError::HostPort {
                given: text.to_owned(),
            })
        };
        match scheme {
            "tcp" => Ok(Self::Tcp(numeric()?)),
            "udp" => Ok(Self::Udp(numeric()?)),
            "rudp" => Ok(Self::Rudp(numeric()?)),
            "quic" => Ok(Self::Quic(numeric()?)),
            _ => Self::unix(text, rest),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Rudp(address) => write!(f, "rudp://{address}"),
            Self::Quic(address) => write!(f, "quic://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Abstract(name) => write!(f, "unix://@{name}"),
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme { given } => write!(
                f,
                "`{given}` has no known scheme; write tcp://host:port, quic://host:port, rudp://host:port, \
                 udp://host:port, unix:///path or unix://@name"
            ),
            Self::HostPort { given } => {
                write!(
                    f,
                    "`{given}` is no host and port; write for example tcp://127.0.0.1:7000"
                )
            }
            Self::Unresolved { host, why } => {
                write!(
                    f,
                    "the host in `{host}` can't be resolved ({why}); check its spelling"
                )
            }
            Self::Path { given } => write!(
                f,
                "`{given}` is no unix address; write unix:///path (at most 107 bytes) or \
                 unix://@name"
            ),
        }
    }
}

impl std::error::Error for AddressError {}
