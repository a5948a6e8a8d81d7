//! Calls over QUIC where both ends show a certificate: `cargo run --features quic --example quic`.
#![expect(clippy::print_stdout, reason = "an example shows its outcome")]

use ringway::rpc::{CallContext, ClientEngine, InlineChannel, Server, Status, rpc_config};
use ringway::{Identity, Roots, TlsConfig};

#[ringway::service(package = "hello")]
trait Greeter {
    async fn greet(&self, cx: CallContext, name: Vec<u8>) -> Result<Vec<u8>, Status>;
}

struct English;

impl Greeter for English {
    async fn greet(&self, _cx: CallContext, name: Vec<u8>) -> Result<Vec<u8>, Status> {
        Ok([b"Hello, ", &name[..], b"!"].concat())
    }
}

/// PEM of a certificate for `name` and of its key; `ringway cert` writes the same to files, and in production an
/// authority of one's own signs them.
fn certificate(name: &str) -> Result<(String, String), rcgen::Error> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()])?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (server, server_key) = certificate("greeter.test")?;
    let (client, client_key) = certificate("caller.test")?;

    // From files: `Identity::from_files` and `Roots::from_file`, which `TlsConfig::reload` reads again.
    let tls = TlsConfig::builder()
        .identity(Identity::from_pem(
            server.as_bytes(),
            server_key.as_bytes(),
        )?)
        .client_roots(Roots::from_pem(client.as_bytes())?)
        .build()?;
    let shards = Server::builder()
        .service(|| GreeterServer::new(English))
        .engine(move || rpc_config().tls(tls.clone()))
        .shards(1, &["quic://127.0.0.1:0"])?;
    let address = shards.addresses().first().ok_or("it listens")?.to_string();

    let tls = TlsConfig::builder()
        .identity(Identity::from_pem(
            client.as_bytes(),
            client_key.as_bytes(),
        )?)
        .roots(Roots::from_pem(server.as_bytes())?)
        .server_name("greeter.test")
        .build()?;

    // An engine of its own on this thread: the lowest latency.
    let inline = InlineChannel::connect_with(rpc_config().tls(tls.clone()), &address)?;
    let mut greeter = GreeterInlineClient::new(inline)?;
    println!(
        "{}",
        String::from_utf8_lossy(greeter.greet(b"inline")?.bytes())
    );

    // An engine on a thread of its own, for any number of channels and threads.
    let engine = ClientEngine::start(move || rpc_config().tls(tls))?;
    let greeter = GreeterClient::new(engine.channel(&address)?);
    let answer = greeter.greet(b"channel").wait()?;
    println!("{}", String::from_utf8_lossy(answer.bytes()));
    Ok(())
}
