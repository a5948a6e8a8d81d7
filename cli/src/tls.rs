//! Certificates and trust of `quic://`, from the command line.

use ringway::{Config, Identity, QuicConfig, Roots, TlsConfig, TlsError};

use crate::args;
use crate::failure::Failure;

/// The settings that were given for a server; `None` without any.
pub(crate) fn serving(given: &args::Tls) -> Result<Option<QuicConfig>, Failure> {
    settings(given, true)
}

/// The settings that were given for a client; `None` without any.
pub(crate) fn connecting(given: &args::Tls) -> Result<Option<QuicConfig>, Failure> {
    settings(given, false)
}

/// Adds settings of QUIC, if there are any.
pub(crate) fn with(config: Config, quic: Option<QuicConfig>) -> Config {
    match quic {
        Some(quic) => config.quic(quic),
        None => config,
    }
}

fn settings(given: &args::Tls, serves: bool) -> Result<Option<QuicConfig>, Failure> {
    let wrong = |error: TlsError| Failure::Usage(error.to_string());
    let mut builder = TlsConfig::builder();
    if let (Some(cert), Some(key)) = (&given.cert, &given.key) {
        builder = builder.identity(Identity::from_files(cert, key).map_err(wrong)?);
    }
    if let Some(ca) = &given.ca {
        let roots = Roots::from_file(ca).map_err(wrong)?;
        builder = if serves {
            builder.client_roots(roots)
        } else {
            builder.roots(roots)
        };
    }
    if given.insecure {
        builder = builder.dangerous().skip_verification();
    }
    if given.cert.is_none() && given.ca.is_none() && !given.insecure {
        return Ok(None);
    }
    builder
        .build()
        .map(QuicConfig::new)
        .map(Some)
        .map_err(wrong)
}
