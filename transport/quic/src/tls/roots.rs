//! Whose signatures are trusted.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;

use super::identity::parse_chain;
use super::{Source, TlsError};

/// Where distributions keep the certificates of public authorities: Debian, Fedora, Alpine, openSUSE.
const SYSTEM_FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Certificates of authorities, as PEM.
#[derive(Clone, Debug)]
pub struct Roots(Source);

impl Roots {
    /// From PEM text with at least one certificate.
    ///
    /// # Errors
    /// When it holds none.
    pub fn from_pem(certificates: &[u8]) -> Result<Self, TlsError> {
        parse_chain(certificates)?;
        Ok(Self(Source::Memory(certificates.to_vec())))
    }

    /// From a PEM file, which [`reload`](super::TlsConfig::reload) reads again. Blocks on the file system.
    ///
    /// # Errors
    /// When it can't be read or holds no certificate.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let made = Self(Source::File(path.into()));
        parse_chain(&made.0.read()?)?;
        Ok(made)
    }

    /// The authorities that this system trusts, from its certificate bundle. Blocks on the file system.
    ///
    /// # Errors
    /// [`TlsError::NoSystemRoots`] when no bundle is found.
    pub fn system() -> Result<Self, TlsError> {
        SYSTEM_FILES
            .iter()
            .find_map(|path| Self::from_file(*path).ok())
            .ok_or(TlsError::NoSystemRoots)
    }

    pub(crate) fn is_file(&self) -> bool {
        self.0.is_file()
    }

    pub(crate) fn store(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut store = RootCertStore::empty();
        for certificate in parse_chain(&self.0.read()?)? {
            store.add(certificate).map_err(TlsError::Root)?;
        }
        Ok(Arc::new(store))
    }
}
