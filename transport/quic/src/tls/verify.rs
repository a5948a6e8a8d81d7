//! The check of the peer's certificate, with roots that can be exchanged while handshakes run.

use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::{Roots, TlsError};

type Verdict = Result<HandshakeSignatureValid, Error>;

/// Whom a client trusts.
pub(crate) type ServerTrust = Trust<dyn ServerCertVerifier>;
/// Whom a server trusts.
pub(crate) type ClientTrust = Trust<dyn ClientCertVerifier>;

/// What is made of roots: a check of servers, or of clients.
pub(crate) trait Verifier: Debug + Send + Sync {
    fn with(
        store: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, VerifierBuilderError>;
}

impl Verifier for dyn ServerCertVerifier {
    fn with(
        store: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, VerifierBuilderError> {
        Ok(WebPkiServerVerifier::builder_with_provider(store, provider).build()?)
    }
}

impl Verifier for dyn ClientCertVerifier {
    fn with(
        store: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, VerifierBuilderError> {
        WebPkiClientVerifier::builder_with_provider(store, provider).build()
    }
}

/// Whom an end trusts. Signatures are checked here, because roots play no part in that.
#[derive(Debug)]
pub(crate) struct Trust<V: ?Sized> {
    provider: Arc<CryptoProvider>,
    /// `None`: everybody who owns the key of what he shows, on the user's wish.
    known: Option<Known<V>>,
}

#[derive(Debug)]
struct Known<V: ?Sized> {
    roots: Roots,
    current: RwLock<Arc<V>>,
}

impl<V: Verifier + ?Sized> Trust<V> {
    pub(crate) fn new(roots: Roots, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let current = RwLock::new(verifier(&roots, provider)?);
        Ok(Self {
            provider: Arc::clone(provider),
            known: Some(Known { roots, current }),
        })
    }

    /// Trusts everybody.
    pub(crate) fn blind(provider: &Arc<CryptoProvider>) -> Self {
        Self {
            provider: Arc::clone(provider),
            known: None,
        }
    }

    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        if let Some(Known { roots, current }) = &self.known
            && roots.is_file()
        {
            let verifier = verifier(roots, &self.provider)?;
            *current.write().unwrap_or_else(PoisonError::into_inner) = verifier;
        }
        Ok(())
    }

    fn current(&self) -> Option<Arc<V>> {
        let current = &self.known.as_ref()?.current;
        let current = current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }

    fn signed(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Verdict {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn verifier<V: Verifier + ?Sized>(
    roots: &Roots,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<V>, TlsError> {
    V::with(roots.store()?, Arc::clone(provider)).map_err(TlsError::Trust)
}

fn no_tls12() -> Verdict {
    Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
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
        match self.current() {
            Some(current) => current.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Verdict {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Verdict {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
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
        match self.current() {
            Some(current) => current.verify_client_cert(end_entity, intermediates, now),
            None => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Verdict {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Verdict {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
