//! What can be wrong with a certificate, a key or a setting.

use std::path::PathBuf;
use std::{fmt, io};

/// Why no [`TlsConfig`](super::TlsConfig) was made, or why it was not changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// Neither a certificate nor roots were given.
    Empty,
    /// A certificate of this end is needed and there is none.
    NoIdentity,
    /// A file can't be read.
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The text holds no certificate.
    NoCertificate,
    /// The text holds no private key.
    NoKey,
    /// The text is not PEM.
    Pem,
    /// Key and certificate don't belong together, or the key is of a kind that is not supported.
    Key(rustls::Error),
    /// A root certificate can't be used.
    Root(rustls::Error),
    /// The roots can't be used together.
    Trust(rustls::client::VerifierBuilderError),
    /// None of the usual places holds the system's roots.
    NoSystemRoots,
    /// A server's name is neither a host name nor an IP address.
    ServerName {
        /// The name.
        name: String,
    },
    /// No protocol name was given, or one that is empty or longer than 255 bytes.
    Alpn,
    /// rustls refused the combination.
    Rustls(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str(
                "neither a certificate nor roots: give `identity` to accept, `roots` to connect",
            ),
            Self::NoIdentity => f.write_str("no certificate of this end; set `identity`"),
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::NoCertificate => {
                f.write_str("no certificate found; expected PEM with -----BEGIN CERTIFICATE-----")
            }
            Self::NoKey => {
                f.write_str("no private key found; expected PEM with -----BEGIN PRIVATE KEY-----")
            }
            Self::Pem => f.write_str("the text is not well-formed PEM"),
            Self::Key(error) => write!(f, "certificate and key: {error}"),
            Self::Root(error) => write!(f, "root certificate: {error}"),
            Self::Trust(error) => write!(f, "root certificates: {error}"),
            Self::NoSystemRoots => f.write_str(
                "no root certificates in the usual places; install `ca-certificates` or name a file",
            ),
            Self::ServerName { name } => {
                write!(f, "`{name}` is neither a host name nor an IP address")
            }
            Self::Alpn => f.write_str("protocol names must have 1 to 255 bytes; give at least one"),
            Self::Rustls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { error, .. } => Some(error),
            Self::Key(error) | Self::Root(error) | Self::Rustls(error) => Some(error),
            Self::Trust(error) => Some(error),
            _ => None,
        }
    }
}
