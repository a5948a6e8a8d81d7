//! One service for gRPC, REST and ringway's own clients: `cargo run --example gateway --features gateway`.
#![expect(clippy::print_stdout, reason = "an example shows its outcome")]

use ringway::gateway::{Gateway, GatewayConfig};
use ringway::rpc::Server;
use ringway_services::Store;
use ringway_services::kv::{KeyValueClient, KeyValueServer, PutRequest};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::default();
    let server = move || {
        let store = store.clone();
        Server::builder().service(move || KeyValueServer::new(store.clone()))
    };
    let native = server().shards(1, &["tcp://127.0.0.1:0"])?;
    let gateway = Gateway::in_process(server).serve("127.0.0.1:0", GatewayConfig::default())?;

    let client = KeyValueClient::connect(&native.addresses()[0].to_string())?;
    let (key, value) = ("a".to_owned(), b"1".to_vec());
    client.put(&PutRequest { key, value }).wait()?;
    println!("curl http://{}/v1/keys/a", gateway.address());
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
