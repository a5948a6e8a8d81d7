//! quinn: a bidirectional stream per call, raw bytes, as its examples do requests and responses.
//!
//! The first byte of a request says whether the answer is the body. On one thread in both settings: the default sleeps,
//! the best one never does and has windows in which no request waits for credit.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, Incoming, MtuDiscoveryConfig, RecvStream,
    SendStream, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::Runtime;

use super::asynchronous::{Asynchronous, Call, runtime, sleeping_thread};
use super::certificate::{Certificate, parted};
use crate::Outcome;
use crate::contestant::{Client, Setting};
use crate::server::say;

/// Longest request: 1 MiB and its first byte.
const REQUEST_BYTES_MAX: usize = (1 << 20) + 1;
/// Window of a connection, in bytes, in the best setting.
const WINDOW_BYTES: u32 = 16 << 20;

fn thread(setting: Setting) -> Outcome<Runtime> {
    match setting {
        Setting::Default => sleeping_thread(),
        Setting::Best => runtime(setting),
    }
}

fn transport(setting: Setting, payload: u16) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(payload);
    config.mtu_discovery_config(Some(discovery));
    if setting == Setting::Best {
        let window = VarInt::from_u32(WINDOW_BYTES);
        config.receive_window(window).stream_receive_window(window);
        config.send_window(WINDOW_BYTES.into());
    }
    Arc::new(config)
}

fn endpoint(server: Option<ServerConfig>, payload: u16) -> Outcome<Endpoint> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(payload)?;
    let socket = std::net::UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok(Endpoint::new(
        config,
        server,
        socket,
        Arc::new(TokioRuntime),
    )?)
}

pub(crate) fn serve(setting: Setting, payload: u16) -> Outcome<()> {
    let made = Certificate::new()?;
    let chain = vec![CertificateDer::from_pem_slice(made.certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes())?;
    let mut config = ServerConfig::with_single_cert(chain, key)?;
    config.transport_config(transport(setting, payload));
    thread(setting)?.block_on(async {
        let endpoint = endpoint(Some(config), payload)?;
        say(made.beside(endpoint.local_addr()?));
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(connection(incoming));
        }
        Ok(())
    })
}

async fn connection(incoming: Incoming) -> Outcome<()> {
    let connection = incoming.await?;
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(answer(send, recv));
    }
    Ok(())
}

async fn answer(mut send: SendStream, mut recv: RecvStream) -> Outcome<()> {
    let request = recv.read_to_end(REQUEST_BYTES_MAX).await?;
    if let [1, body @ ..] = &request[..] {
        send.write_all(body).await?;
    }
    Ok(send.finish()?)
}

struct Quinn {
    connection: Connection,
    /// It drives the connection as long as it lives.
    _endpoint: Endpoint,
}

impl Call for Quinn {
    async fn call(&self, body: Bytes, whole: bool) -> Outcome<usize> {
        let (mut send, mut recv) = self.connection.open_bi().await?;
        let mut request = [Bytes::from_static(if whole { &[1] } else { &[0] }), body];
        send.write_all_chunks(&mut request).await?;
        send.finish()?;
        Ok(recv.read_to_end(REQUEST_BYTES_MAX).await?.len())
    }
}

pub(crate) fn connect(address: &str, setting: Setting, payload: u16) -> Outcome<Box<dyn Client>> {
    let (address, certificate) = parted(address)?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes())?)?;
    let mut config = ClientConfig::with_root_certificates(Arc::new(roots))?;
    config.transport_config(transport(setting, payload));
    let runtime = thread(setting)?;
    let client = runtime.block_on(async {
        let mut endpoint = endpoint(None, payload)?;
        endpoint.set_default_client_config(config);
        let connection = endpoint.connect(address.parse()?, "127.0.0.1")?.await?;
        Outcome::Ok(Quinn {
            connection,
            _endpoint: endpoint,
        })
    })?;
    Ok(Box::new(Asynchronous {
        runtime,
        local: tokio::task::LocalSet::new(),
        client,
    }))
}
