//! `ringway cert`: a certificate and its key for development.
//!
//! Self-signed: who wants to trust it has to be given the certificate itself, as `--ca`. The key is new each time and
//! readable by its owner only.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, KeyPair};
use serde::{Deserialize, Serialize};

use crate::args;
use crate::failure::Failure;
use crate::output;

/// File names inside of the folder.
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";
/// How long before now the certificate is valid: clocks of other machines may be late.
const BACKDATED: Duration = Duration::from_hours(24);

/// Makes both and writes them.
pub(crate) fn run(wanted: &args::Cert) -> Result<(), Failure> {
    let made = Certificate::new(&wanted.names, wanted.days)?;
    std::fs::create_dir_all(&wanted.out).map_err(|error| {
        let out = wanted.out.display();
        Failure::Usage(format!("--out: the folder {out} can't be made: {error}"))
    })?;
    let key_path = write(&wanted.out, KEY, &made.key, 0o600, wanted.force)?;
    let certificate_path = write(
        &wanted.out,
        CERTIFICATE,
        &made.certificate,
        0o644,
        wanted.force,
    )?;
    output::line(format!(
        "wrote {} and {}, for {}, valid for {} days",
        certificate_path.display(),
        key_path.display(),
        wanted.names.join(", "),
        wanted.days
    ))?;
    output::note(
        "ringway: this certificate is for development: nobody vouches for it. In production use one of your own \
         authority, and keep every key out of version control.",
    );
    Ok(())
}

/// A self-signed certificate and its key, both as PEM.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Certificate {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

impl Certificate {
    /// A new one for `names`, with a key of its own.
    pub(crate) fn new(names: &[String], days: u16) -> Result<Self, Failure> {
        let unusable = |error: rcgen::Error| Failure::Usage(format!("certificate: {error}"));
        let mut parameters = CertificateParams::new(names.to_vec()).map_err(unusable)?;
        let now = SystemTime::now();
        parameters.not_before = (now - BACKDATED).into();
        parameters.not_after = (now + Duration::from_hours(24 * u64::from(days))).into();
        parameters
            .distinguished_name
            .push(DnType::CommonName, "ringway development certificate");
        let key = KeyPair::generate().map_err(unusable)?;
        let certificate = parameters.self_signed(&key).map_err(unusable)?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn write(
    folder: &Path,
    name: &str,
    text: &str,
    mode: u32,
    force: bool,
) -> Result<PathBuf, Failure> {
    let path = folder.join(name);
    if force {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Failure::system("replace a file")(error));
            }
            _ => {}
        }
    }
    // Never written over, and never followed to where somebody else wants it: the mode holds from the start.
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&path);
    match opened {
        Ok(mut file) => {
            let written = file.write_all(text.as_bytes());
            written.map_err(Failure::system("write the file"))?;
            Ok(path)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::Usage(format!(
            "{} exists; choose another folder with --out, or replace it with --force",
            path.display()
        ))),
        Err(error) => Err(Failure::system("create the file")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_and_its_key_are_pem() {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = Certificate::new(&names, 30).expect("made");
        assert!(made.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(made.key.starts_with("-----BEGIN PRIVATE KEY-----"));
        let again = Certificate::new(&names, 30).expect("made");
        assert_ne!(made.key, again.key, "a new key each time");
    }

    #[test]
    fn a_name_that_no_certificate_can_hold_is_a_usage_error() {
        let made = Certificate::new(&["näme".to_owned()], 1);
        assert!(matches!(made, Err(Failure::Usage(_))));
    }
}
