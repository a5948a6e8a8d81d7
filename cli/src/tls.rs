//! Certificates and trust of `quic://`, from the command line.

use std::fs::File;
use std::io::LineWriter;
use std::path::Path;

use ringway::{Address, Config, Identity, Qlog, QuicConfig, Roots, TlsConfig, TlsError};

use crate::args;
use crate::failure::Failure;

/// Where the environment names the file for session keys, by the custom of browsers and of Wireshark.
const KEY_LOG: &str = "SSLKEYLOGFILE";

/// The settings that were given for a server; `None` without any.
///
/// # Errors
/// A file can't be used, or an address is `quic://` and there is no certificate.
pub(crate) fn serving(
    given: &args::Tls,
    addresses: &[Address],
) -> Result<Option<QuicConfig>, Failure> {
    if given.cert.is_none() && addresses.iter().any(is_quic) {
        return Err(Failure::Usage(
            "a server on quic:// shows a certificate: give --cert and --key (`ringway cert` makes both, for \
             development)"
                .to_owned(),
        ));
    }
    settings(given, true)
}

/// The settings that were given for a client; `None` without any.
///
/// # Errors
/// A file can't be used, or the address is `quic://` and nothing says whom to trust.
pub(crate) fn connecting(
    given: &args::Tls,
    address: &Address,
) -> Result<Option<QuicConfig>, Failure> {
    if given.ca.is_none() && !given.insecure && is_quic(address) {
        return Err(Failure::Usage(
            "a client on quic:// has to know whom to trust: give --ca (of `ringway cert`: its cert.pem), or \
             --insecure for trials"
                .to_owned(),
        ));
    }
    settings(given, false)
}

fn is_quic(address: &Address) -> bool {
    matches!(address, Address::Quic(_))
}

/// Adds settings of QUIC, if there are any.
pub(crate) fn with(config: Config, quic: Option<QuicConfig>) -> Config {
    match quic {
        Some(quic) => config.quic(quic),
        None => config,
    }
}

/// A fault of files, with their names.
fn about(files: &[&Path], error: &TlsError) -> Failure {
    let text = error.to_string();
    let names: Vec<String> = files.iter().map(|it| it.display().to_string()).collect();
    Failure::Usage(if names.iter().any(|name| text.contains(name)) {
        text
    } else {
        format!("{}: {text}", names.join(", "))
    })
}

fn settings(given: &args::Tls, serves: bool) -> Result<Option<QuicConfig>, Failure> {
    let wrong = |error: TlsError| Failure::Usage(error.to_string());
    let mut builder = TlsConfig::builder();
    if let (Some(cert), Some(key)) = (&given.cert, &given.key) {
        let identity = Identity::from_files(cert, key);
        builder = builder.identity(identity.map_err(|error| about(&[cert, key], &error))?);
    }
    if let Some(ca) = &given.ca {
        let roots = Roots::from_file(ca).map_err(|error| about(&[ca], &error))?;
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
    if given.key_log {
        if std::env::var_os(KEY_LOG).is_none_or(|path| path.is_empty()) {
            return Err(Failure::Usage(format!(
                "--key-log: name the file for the keys in the environment, {KEY_LOG}=PATH"
            )));
        }
        builder = builder.key_log(true);
    }
    let mut config = QuicConfig::new(builder.build().map_err(wrong)?);
    if let Some(path) = &given.qlog {
        let unusable = |error| Failure::Usage(format!("--qlog {}: {error}", path.display()));
        // Line by line, so that the trace of a command that is killed is readable.
        config.qlog = Qlog::to(LineWriter::new(File::create(path).map_err(unusable)?));
    }
    Ok(Some(config))
}
