//! Two engines on a simulated network: a client, a server, and what both have seen.

use std::collections::BTreeMap;
use std::time::Duration;

use ringway::sim::{NetConfig, PathConfig, SimNet};
use ringway::{
    Config, ConnectionId, Context, Engine, Handler, Identity, Instant, Message, Peer, QuicConfig,
    Roots, SendError, TlsConfig, TlsError,
};

use crate::bench::plan::Transport;
use crate::cert::Certificate;
use crate::failure::Failure;

/// Longest datagram: what Ethernet carries over IPv4.
pub(super) const DATAGRAM_BYTES_MAX: u32 = 1_472;
/// Virtual time after which something does not happen any more.
const LIMIT: Duration = Duration::from_secs(600);
/// Name in the certificate of a run.
const NAME: &str = "localhost";

/// What one end has seen.
#[derive(Debug, Default)]
pub(super) struct End {
    echoes: bool,
    opened: Vec<ConnectionId>,
    pub(super) messages: u64,
    pub(super) bytes: BTreeMap<ConnectionId, u64>,
    lost: bool,
}

impl Handler for End {
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        self.messages += 1;
        *self.bytes.entry(message.connection()).or_default() += message.body().len() as u64;
        if self.echoes {
            self.lost |= cx.reply(&message, message.body()).is_err();
        }
    }

    fn opened(&mut self, _cx: &mut Context<'_>, connection: ConnectionId, _peer: &Peer) {
        self.opened.push(connection);
    }

    fn closed(&mut self, _cx: &mut Context<'_>, _id: ConnectionId, _closed: &ringway::Closed) {
        self.lost = true;
    }
}

/// The client's and the server's engine, and the network.
pub(super) struct World {
    pub(super) net: SimNet,
    pub(super) client: Engine,
    pub(super) server: Engine,
    pub(super) near: End,
    pub(super) far: End,
    address: String,
}

impl World {
    /// Both ends, without a connection.
    pub(super) fn new(transport: Transport, path: PathConfig, seed: u64) -> Result<Self, Failure> {
        let mut config = NetConfig::perfect();
        config.datagram = path.link;
        config.faults.datagram = path.faults;
        let net = SimNet::new(config, seed);
        let certificate = Certificate::new(&[NAME.to_owned()], 1)?;
        let engine = |name: &str, seed: u64| {
            let config = Config::default()
                .seed(seed)
                .datagram_bytes_max(DATAGRAM_BYTES_MAX);
            let config = match transport {
                Transport::Quic => config.quic(
                    trusting(&certificate).map_err(|error| Failure::Usage(error.to_string()))?,
                ),
                _ => config,
            };
            Engine::simulated(config, &net, name).map_err(Failure::Start)
        };
        let client = engine("client", seed)?;
        let mut server = engine("server", seed ^ 1)?;
        let listened = server.listen(&format!("{transport}://127.0.0.1:0"));
        let listener = listened.map_err(|error| Failure::Connection(error.to_string()))?;
        let address = server.local_address(listener);
        let address = address.map(|address| address.to_string());
        Ok(Self {
            net,
            client,
            server,
            near: End::default(),
            far: End::default(),
            address: address.unwrap_or_default(),
        })
    }

    /// Another connection: its ids at the client and at the server.
    pub(super) fn connect(&mut self) -> Result<(ConnectionId, ConnectionId), Failure> {
        let before = self.far.opened.len();
        let near = self.client.connect(&self.address);
        let near = near.map_err(|error| Failure::Connection(error.to_string()))?;
        self.until(|world| world.far.opened.len() > before && world.near.opened.contains(&near))?;
        let far = self.far.opened.last().copied().unwrap_or(near);
        Ok((near, far))
    }

    /// Whether the server sends everything back.
    pub(super) fn echo(&mut self, on: bool) {
        self.far.echoes = on;
    }

    pub(super) fn now(&self) -> Instant {
        self.net.now()
    }

    /// One turn of both engines; when neither has anything to do, time goes on.
    fn step(&mut self) {
        let work = self.client.turn(&mut self.near) + self.server.turn(&mut self.far);
        if work == 0 {
            self.client.park(&mut self.near, None);
            self.server.park(&mut self.far, None);
            self.net.advance();
        }
    }

    /// Steps until `done`.
    pub(super) fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) -> Result<(), Failure> {
        let began = self.now();
        while !done(self) {
            self.go_on(began)?;
        }
        Ok(())
    }

    /// One step of something that began then, unless a connection has ended or it takes too long.
    pub(super) fn go_on(&mut self, began: Instant) -> Result<(), Failure> {
        let fault = |what: &str| {
            Err(Failure::Connection(format!(
                "a simulated connection {what}"
            )))
        };
        if self.near.lost || self.far.lost {
            return fault("ended");
        }
        if self.now().saturating_since(began) > LIMIT {
            return fault("stands still");
        }
        self.step();
        Ok(())
    }

    /// One call: a message and its echo. How long it took, in nanoseconds.
    pub(super) fn call(&mut self, connection: ConnectionId, size: u32) -> Result<u64, Failure> {
        let (began, before) = (self.now(), self.near.messages);
        send(&mut self.client, connection, &vec![7; size as usize])?;
        self.until(|world| world.near.messages > before)?;
        Ok(nanos(self.now().saturating_since(began)))
    }
}

/// Sends a message; whether there was room.
pub(super) fn send(
    engine: &mut Engine,
    connection: ConnectionId,
    body: &[u8],
) -> Result<bool, Failure> {
    match engine.context().send(connection, body) {
        Ok(()) => Ok(true),
        Err(SendError::Full) => Ok(false),
        Err(error) => Err(Failure::Connection(error.to_string())),
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Settings of both ends, which show the same certificate and trust no other.
fn trusting(made: &Certificate) -> Result<QuicConfig, TlsError> {
    let certificate = made.certificate.as_bytes();
    let tls = TlsConfig::builder()
        .identity(Identity::from_pem(certificate, made.key.as_bytes())?)
        .roots(Roots::from_pem(certificate)?)
        .server_name(NAME)
        .build()?;
    Ok(QuicConfig::new(tls))
}
