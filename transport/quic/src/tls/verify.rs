//! The check of the peer's certificate, with roots that can be exchanged while handshakes run.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::{Roots, TlsError};

/// What a check says: it only differs between servers and clients in its last answer.
type Verdict = Result<HandshakeSignatureValid, Error>;

/// Whom a client trusts.
#[derive(Debug)]
pub(crate) struct ServerTrust {
    /// `None`: everybody, on the user's wish.
    roots: Option<Roots>,
    current: RwLock<Arc<dyn ServerCertVerifier>>,
}

impl ServerTrust {
    pub(crate) fn new(roots: Roots, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let verifier = Self::verifier(&roots, provider)?;
        Ok(Self {
            roots: Some(roots),
            current: RwLock::new(verifier),
        })
    }

    /// Trusts everybody.
    pub(crate) fn blind(provider: &Arc<CryptoProvider>) -> Self {
        Self {
            roots: None,
            current: RwLock::new(Arc::new(Blind(Arc::clone(provider)))),
        }
    }

    pub(crate) fn reload(&self, provider: &Arc<CryptoProvider>) -> Result<(), TlsError> {
        if let Some(roots) = self.roots.as_ref().filter(|roots| roots.is_file()) {
            let verifier = Self::verifier(roots, provider)?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = verifier;
        }
        Ok(())
    }

    fn verifier(
        roots: &Roots,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        let store = roots.store()?;
        let builder = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(provider));
        let verifier = builder.build().map_err(TlsError::Trust)?;
        Ok(verifier)
    }

    fn current(&self) -> Arc<dyn ServerCertVerifier> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ServerCertVerifier for ServerTrust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.current().verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Verdict {
        self.current().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Verdict {
        self.current().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current().supported_verify_schemes()
    }
}

/// Whom a server trusts.
#[derive(Debug)]
pub(crate) struct ClientTrust {
    roots: Roots,
    current: RwLock<Arc<dyn ClientCertVerifier>>,
}

impl ClientTrust {
    pub(crate) fn new(roots: Roots, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let verifier = Self::verifier(&roots, provider)?;
        Ok(Self {
            roots,
            current: RwLock::new(verifier),
        })
    }

    pub(crate) fn reload(&self, provider: &Arc<CryptoProvider>) -> Result<(), TlsError> {
        if self.roots.is_file() {
            let verifier = Self::verifier(&self.roots, provider)?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = verifier;
        }
        Ok(())
    }

    fn verifier(
        roots: &Roots,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let store = roots.store()?;
        let builder = WebPkiClientVerifier::builder_with_provider(store, Arc::clone(provider));
        builder.build().map_err(TlsError::Trust)
    }

    fn current(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientCertVerifier for ClientTrust {
    /// None: the list would have to outlive a change of the roots, and clients do without it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.current()
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Verdict {
        self.current().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Verdict {
        self.current().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current().supported_verify_schemes()
    }
}

/// Takes every certificate. The signature is still checked: the peer owns the key that it shows.
#[derive(Debug)]
struct Blind(Arc<CryptoProvider>);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Verdict {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Verdict {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
