//! A QUIC echo server on a plain socket: everything that drives an endpoint, in one file, without an engine.
//!
//! `cargo run -p ringway-quic --example echo -- CERT.pem KEY.pem [retry] [h3]`, made by `ringway cert`. Prints its address
//! and echoes every message the way it came; the tests in `tests/interop` talk to it with other implementations of QUIC.
//! `retry` demands a proof of address of everybody, `h3` agrees to that protocol's name, though it speaks only ringway's.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the one place outside of the engine where the machine meets a socket"
)]

use std::env::args;
use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use ringway_buf::{Instant, Pools, PoolsConfig};
use ringway_proto::Header;
use ringway_proto::packet::{
    Body, Delivery, Outgoing, PacketEndpoint, PacketEvent, PacketMeta, SessionId, TransmitSink,
};
use ringway_quic::{AddressProof, Identity, QuicConfig, QuicEndpoint, TlsConfig};

/// Longest sleep.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Messages with this tag are echoed as unordered ones, with the next as unreliable ones.
const UNORDERED: u16 = 2;
const UNRELIABLE: u16 = 3;

/// Sends each datagram by itself, from memory that is used again.
struct Socket<'a> {
    socket: &'a UdpSocket,
    memory: Vec<u8>,
    peer: Option<SocketAddr>,
}

impl TransmitSink for Socket<'_> {
    fn lend(&mut self, peer: SocketAddr, segment_bytes: usize, count: usize) -> Option<&mut [u8]> {
        self.peer = Some(peer);
        self.memory.resize(segment_bytes * count, 0);
        Some(&mut self.memory)
    }

    fn commit(&mut self, bytes: usize, segment_bytes: usize) {
        let Some(peer) = self.peer.take() else { return };
        for datagram in self.memory[..bytes].chunks(segment_bytes) {
            // What can't be sent is lost, and QUIC lives with losses.
            drop(self.socket.send_to(datagram, peer));
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = args().collect();
    let (Some(chain), Some(key)) = (arguments.get(1), arguments.get(2)) else {
        return Err("give a certificate and a key: ringway cert makes them".into());
    };
    let identity = Identity::from_files(chain, key)?;
    let is_asked = |wish: &str| arguments.iter().skip(3).any(|word| word == wish);
    let mut tls = TlsConfig::builder().identity(identity);
    if is_asked("h3") {
        tls = tls.alpn(["h3"]);
    }
    let mut config = QuicConfig::new(tls.build()?);
    if is_asked("retry") {
        config.address_proof = AddressProof::Always;
    }
    let pools = Rc::new(Pools::new(PoolsConfig::default()));
    let mut endpoint = QuicEndpoint::new(config, Rc::clone(&pools))?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    println!("{}", socket.local_addr()?);
    let mut sink = Socket {
        socket: &socket,
        memory: Vec::new(),
        peer: None,
    };
    let mut received = vec![0; 65_535];
    loop {
        let now = Instant::monotonic();
        while endpoint.wants_transmit() && endpoint.poll_transmit(&mut sink, now) {}
        let deadline = endpoint.poll_timeout().map(|at| at.saturating_since(now));
        let sleep = deadline.unwrap_or(SLEEP_MAX).min(SLEEP_MAX);
        socket.set_read_timeout(Some(sleep.max(Duration::from_micros(1))))?;
        match socket.recv_from(&mut received) {
            Ok((len, peer)) => {
                let meta = PacketMeta {
                    peer,
                    segment_bytes: len,
                    ecn: 0,
                    local: None,
                };
                endpoint.handle_datagrams(&meta, &received[..len], Instant::monotonic());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        endpoint.handle_timeout(Instant::monotonic());
        while let Some(event) = endpoint.poll_event() {
            match event {
                PacketEvent::Message {
                    session,
                    header,
                    body: Body::Owned(body),
                } => echo(&mut endpoint, session, header, body.share(0..body.len())),
                PacketEvent::Drained { session } => {
                    let code = ringway_proto::CloseCode::Drained;
                    endpoint.close(session, code, Instant::monotonic());
                }
                PacketEvent::Draining { session } => {
                    endpoint.finish(session, Instant::monotonic());
                }
                PacketEvent::Closed { end, .. } => println!("closed: {end}"),
                _ => {}
            }
        }
    }
}

fn echo(
    endpoint: &mut QuicEndpoint,
    session: SessionId,
    header: Header,
    body: Option<ringway_buf::Slice>,
) {
    let delivery = match header.tag {
        UNORDERED => Delivery::Unordered,
        UNRELIABLE => Delivery::Unreliable {
            deadline: Instant::MAX,
        },
        _ => Delivery::Ordered,
    };
    if let Some(body) = body {
        let message = Outgoing {
            header,
            body,
            delivery,
        };
        // A peer that does not take its echoes gets no more of them: its own session is bounded elsewhere.
        drop(endpoint.send(session, message, Instant::monotonic()));
    }
}
