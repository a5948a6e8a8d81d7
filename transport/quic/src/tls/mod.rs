//! TLS 1.3: whom this end is, whom it trusts, and which protocol it speaks.
//!
//! One [`TlsConfig`] serves all connections of a process, over QUIC and (by the same rustls) over byte streams.
//! It is shared and can be changed while connections live: handshakes that begin afterwards see the new
//! certificate and the new roots, running connections keep what they have. Nothing is trusted that was not
//! named, session resumption is off (a reloaded root store counts for every new connection), and the only
//! provider of cryptography is ring.

mod clock;
mod error;
mod identity;
mod roots;
mod verify;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;

use self::clock::Clock;
use self::identity::Resolver;
use self::verify::{ClientTrust, ServerTrust};

pub(crate) use self::clock::TokenClock;
pub use self::error::TlsError;
pub use self::identity::Identity;
pub use self::roots::Roots;

/// The protocol name that ringway's ends agree on unless told otherwise.
pub const ALPN: &[u8] = b"ringway/1";

/// Longest protocol name that TLS carries, in bytes.
const ALPN_BYTES_MAX: usize = 255;

/// Who this end is and whom it trusts. Cheap to clone; clones share what they hold.
///
/// ```
/// use ringway_quic::{Identity, Roots, TlsConfig};
/// # let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
/// # let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
///
/// let server = TlsConfig::builder()
///     .identity(Identity::from_pem(certificate.as_bytes(), key.as_bytes())?)
///     .build()?;
/// let client = TlsConfig::builder()
///     .roots(Roots::from_pem(certificate.as_bytes())?)
///     .server_name("localhost")
///     .build()?;
/// assert!(server.accepts() && client.connects());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TlsConfig {
    shared: Arc<Shared>,
}

struct Shared {
    provider: Arc<CryptoProvider>,
    resolver: Option<Arc<Resolver>>,
    servers: Option<Arc<ServerTrust>>,
    clients: Option<Arc<ClientTrust>>,
    server: Option<Arc<rustls::ServerConfig>>,
    client: Option<Arc<rustls::ClientConfig>>,
    server_name: Option<ServerName<'static>>,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("accepts", &self.accepts())
            .field("connects", &self.connects())
            .field("client_certificates", &self.shared.clients.is_some())
            .field("server_name", &self.shared.server_name)
            .finish_non_exhaustive()
    }
}

impl TlsConfig {
    /// Starts from nothing: no certificate, no trust, protocol [`ALPN`].
    #[must_use]
    pub fn builder() -> TlsBuilder {
        TlsBuilder {
            identity: None,
            roots: None,
            client_roots: None,
            server_name: None,
            alpn: vec![ALPN.to_vec()],
            key_log: false,
            skip_verification: false,
            clock: Clock::system(),
        }
    }

    /// Whether it can accept connections: it has a certificate.
    #[must_use]
    pub fn accepts(&self) -> bool {
        self.shared.server.is_some()
    }

    /// Whether it can connect: it knows whom to trust.
    #[must_use]
    pub fn connects(&self) -> bool {
        self.shared.client.is_some()
    }

    /// Reads the files again from which the certificate and the roots came. What came from memory stays.
    ///
    /// Blocks on the file system: call it from a thread that may wait. Safe from any thread.
    ///
    /// # Errors
    /// The first file that is missing or wrong; then nothing of that kind was changed.
    pub fn reload(&self) -> Result<(), TlsError> {
        let Shared {
            provider,
            resolver,
            servers,
            clients,
            ..
        } = &*self.shared;
        if let Some(resolver) = resolver {
            resolver.reload(provider)?;
        }
        if let Some(servers) = servers {
            servers.reload()?;
        }
        if let Some(clients) = clients {
            clients.reload()?;
        }
        Ok(())
    }

    /// Presents another certificate from now on.
    ///
    /// # Errors
    /// [`TlsError::NoIdentity`] when there was none before, else what is wrong with the new one.
    pub fn replace_identity(&self, identity: Identity) -> Result<(), TlsError> {
        let resolver = self.shared.resolver.as_ref().ok_or(TlsError::NoIdentity)?;
        resolver.replace(identity, &self.shared.provider)
    }

    /// The rustls settings for accepting.
    pub(crate) fn server(&self) -> Option<&Arc<rustls::ServerConfig>> {
        self.shared.server.as_ref()
    }

    /// The rustls settings for connecting.
    pub(crate) fn client(&self) -> Option<&Arc<rustls::ClientConfig>> {
        self.shared.client.as_ref()
    }

    /// The name that servers must prove; `None` means their IP address.
    pub(crate) fn server_name(&self) -> Option<&ServerName<'static>> {
        self.shared.server_name.as_ref()
    }
}

/// Collects what a [`TlsConfig`] is made of.
#[derive(Debug)]
pub struct TlsBuilder {
    identity: Option<Identity>,
    roots: Option<Roots>,
    client_roots: Option<Roots>,
    server_name: Option<String>,
    alpn: Vec<Vec<u8>>,
    key_log: bool,
    skip_verification: bool,
    clock: Clock,
}

impl TlsBuilder {
    /// The certificate that this end presents. Servers need one; clients only where it is asked for.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Whose signature on a server's certificate is good enough. Needed to connect.
    #[must_use]
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = Some(roots);
        self
    }

    /// Demands a certificate of every client, signed by one of these (mutual TLS).
    #[must_use]
    pub fn client_roots(mut self, roots: Roots) -> Self {
        self.client_roots = Some(roots);
        self
    }

    /// The name or IP address that a server's certificate must hold. Default: the IP address connected to.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Protocol names (ALPN) in order of preference; both ends must share one. Default: [`ALPN`].
    #[must_use]
    pub fn alpn<I: IntoIterator<Item: AsRef<[u8]>>>(mut self, names: I) -> Self {
        self.alpn = names
            .into_iter()
            .map(|name| name.as_ref().to_vec())
            .collect();
        self
    }

    /// Appends the session keys to the file that the environment names in `SSLKEYLOGFILE`, so that Wireshark
    /// can read what was captured. Who has that file reads everything. Default: off.
    #[must_use]
    pub fn key_log(mut self, on: bool) -> Self {
        self.key_log = on;
        self
    }

    /// Where the date comes from against which certificates are checked: time since 1970 in UTC. Default: the
    /// system's clock. A simulated run gives its own.
    #[must_use]
    pub fn clock(mut self, since_1970: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(since_1970);
        self
    }

    /// Settings that give up safety.
    #[must_use]
    pub fn dangerous(self) -> DangerousTls {
        DangerousTls(self)
    }

    /// Checks everything and makes the configuration.
    ///
    /// # Errors
    /// [`TlsError`] names the part that is wrong.
    pub fn build(self) -> Result<TlsConfig, TlsError> {
        let provider = Arc::new(provider());
        let alpn = checked_alpn(self.alpn)?;
        let server_name = self.server_name.map(parse_name).transpose()?;
        let resolver = self
            .identity
            .map(|identity| Resolver::new(identity, &provider).map(Arc::new))
            .transpose()?;
        if self.client_roots.is_some() && resolver.is_none() {
            return Err(TlsError::NoIdentity);
        }
        let clients = self
            .client_roots
            .map(|roots| ClientTrust::new(roots, &provider).map(Arc::new))
            .transpose()?;
        let servers = match (self.roots, self.skip_verification) {
            (_, true) => Some(ServerTrust::blind(&provider)),
            (Some(roots), false) => Some(ServerTrust::new(roots, &provider)?),
            (None, false) => None,
        }
        .map(Arc::new);
        if resolver.is_none() && servers.is_none() {
            return Err(TlsError::Empty);
        }
        let log = self.key_log;
        let server = resolver.as_ref().map(|resolver| {
            server_settings(
                &provider,
                &self.clock,
                resolver,
                clients.as_ref(),
                &alpn,
                log,
            )
        });
        let client = servers.as_ref().map(|servers| {
            client_settings(
                &provider,
                &self.clock,
                servers,
                resolver.as_ref(),
                &alpn,
                log,
            )
        });
        Ok(TlsConfig {
            shared: Arc::new(Shared {
                server: server.transpose()?,
                client: client.transpose()?,
                provider,
                resolver,
                servers,
                clients,
                server_name,
            }),
        })
    }
}

/// Settings that give up safety; see [`TlsBuilder::dangerous`].
#[derive(Debug)]
pub struct DangerousTls(TlsBuilder);

impl DangerousTls {
    /// Accepts every server's certificate, expired, self-made or another's: whoever sits on the path can read
    /// and change everything. For development only.
    #[must_use]
    pub fn skip_verification(mut self) -> TlsBuilder {
        self.0.skip_verification = true;
        self.0
    }
}

/// ring, with the cipher in front that costs least where the processor has AES, as it does nearly everywhere.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

fn checked_alpn(names: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, TlsError> {
    let good = |name: &Vec<u8>| (1..=ALPN_BYTES_MAX).contains(&name.len());
    if names.is_empty() || !names.iter().all(good) {
        return Err(TlsError::Alpn);
    }
    Ok(names)
}

fn parse_name(name: String) -> Result<ServerName<'static>, TlsError> {
    match ServerName::try_from(name.clone()) {
        Ok(parsed) => Ok(parsed),
        Err(_) => Err(TlsError::ServerName { name }),
    }
}

fn server_settings(
    provider: &Arc<CryptoProvider>,
    clock: &Clock,
    resolver: &Arc<Resolver>,
    clients: Option<&Arc<ClientTrust>>,
    alpn: &[Vec<u8>],
    key_log: bool,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let builder =
        rustls::ServerConfig::builder_with_details(Arc::clone(provider), clock.provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Rustls)?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients) as _),
        None => builder.with_no_client_auth(),
    };
    let mut settings = builder.with_cert_resolver(Arc::clone(resolver) as _);
    settings.alpn_protocols = alpn.to_vec();
    settings.send_tls13_tickets = 0;
    settings.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    if key_log {
        settings.key_log = Arc::new(rustls::KeyLogFile::new());
    }
    Ok(Arc::new(settings))
}

fn client_settings(
    provider: &Arc<CryptoProvider>,
    clock: &Clock,
    servers: &Arc<ServerTrust>,
    resolver: Option<&Arc<Resolver>>,
    alpn: &[Vec<u8>],
    key_log: bool,
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let builder =
        rustls::ClientConfig::builder_with_details(Arc::clone(provider), clock.provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Rustls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(servers) as _);
    let mut settings = match resolver {
        Some(resolver) => builder.with_client_cert_resolver(Arc::clone(resolver) as _),
        None => builder.with_no_client_auth(),
    };
    settings.alpn_protocols = alpn.to_vec();
    settings.resumption = rustls::client::Resumption::disabled();
    if key_log {
        settings.key_log = Arc::new(rustls::KeyLogFile::new());
    }
    Ok(Arc::new(settings))
}

/// Bytes of PEM, and where they can be read again.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Memory(Vec<u8>),
    File(PathBuf),
}

impl Source {
    #[expect(
        clippy::disallowed_methods,
        reason = "certificates come from files; read when the configuration is made or reloaded, never while connections run"
    )]
    fn read(&self) -> Result<std::borrow::Cow<'_, [u8]>, TlsError> {
        match self {
            Self::Memory(bytes) => Ok(bytes.as_slice().into()),
            Self::File(path) => match std::fs::read(path) {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => Err(TlsError::File {
                    path: path.clone(),
                    error,
                }),
            },
        }
    }

    fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_cipher_comes_first_and_none_is_lost() {
        let usual = rustls::crypto::ring::default_provider().cipher_suites;
        let ours = provider().cipher_suites;
        let first = ours.first().map(|suite| suite.suite());
        assert_eq!(first, Some(CipherSuite::TLS13_AES_128_GCM_SHA256));
        assert!(usual.iter().all(|suite| ours.contains(suite)));
    }
}
