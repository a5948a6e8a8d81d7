//! The certificate that this end presents, and its key.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Source, TlsError};

/// A certificate chain and its private key, as PEM.
#[derive(Clone)]
pub struct Identity {
    chain: Source,
    key: Source,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match &self.chain {
            Source::Memory(_) => "memory",
            Source::File(_) => "file",
        };
        f.debug_struct("Identity")
            .field("from", &from)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// From PEM text: the chain with this end's own certificate first, and its PKCS#8, SEC1 or PKCS#1 key.
    ///
    /// # Errors
    /// When one of them holds none. Whether they fit each other is checked by
    /// [`build`](super::TlsBuilder::build).
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        parse_chain(chain)?;
        parse_key(key)?;
        Ok(Self {
            chain: Source::Memory(chain.to_vec()),
            key: Source::Memory(key.to_vec()),
        })
    }

    /// From PEM files, which [`reload`](super::TlsConfig::reload) reads again. Blocks on the file system.
    ///
    /// # Errors
    /// When one can't be read or holds no certificate or key.
    pub fn from_files(
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let made = Self {
            chain: Source::File(chain.into()),
            key: Source::File(key.into()),
        };
        parse_chain(&made.chain.read()?)?;
        parse_key(&made.key.read()?)?;
        Ok(made)
    }

    fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain = parse_chain(&self.chain.read()?)?;
        let key = parse_key(&self.key.read()?)?;
        CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Key)
    }
}

/// All certificates in a PEM text.
pub(crate) fn parse_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut chain = Vec::new();
    for found in CertificateDer::pem_slice_iter(pem) {
        let Ok(certificate) = found else {
            return Err(TlsError::Pem);
        };
        chain.push(certificate);
    }
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    Ok(chain)
}

fn parse_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(_) => Err(TlsError::NoKey),
    }
}

/// Hands the present certificate to each handshake.
#[derive(Debug)]
pub(crate) struct Resolver {
    current: RwLock<(Identity, Arc<CertifiedKey>)>,
}

impl Resolver {
    pub(crate) fn new(identity: Identity, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let certified = identity.certified(provider)?;
        Ok(Self {
            current: RwLock::new((identity, Arc::new(certified))),
        })
    }

    pub(crate) fn replace(
        &self,
        identity: Identity,
        provider: &CryptoProvider,
    ) -> Result<(), TlsError> {
        let certified = Arc::new(identity.certified(provider)?);
        // A panic elsewhere leaves no half-written pair behind, so the lock's poison means nothing.
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = (identity, certified);
        Ok(())
    }

    pub(crate) fn reload(&self, provider: &CryptoProvider) -> Result<(), TlsError> {
        let identity = self.read().0;
        if identity.chain.is_file() || identity.key.is_file() {
            self.replace(identity, provider)?;
        }
        Ok(())
    }

    fn read(&self) -> (Identity, Arc<CertifiedKey>) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (current.0.clone(), Arc::clone(&current.1))
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current.1)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(
        &self,
        _root_hints: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
