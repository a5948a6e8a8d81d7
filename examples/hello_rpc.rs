//! A call: `cargo run --example hello_rpc`.
#![expect(clippy::print_stdout, reason = "an example shows its outcome")]

use ringway::rpc::{Server, Status};

#[ringway::service(package = "hello")]
trait Greeter {
    fn greet(&self, name: &[u8]) -> Result<Vec<u8>, Status>;
}

struct English;

impl Greeter for English {
    fn greet(&self, name: &[u8]) -> Result<Vec<u8>, Status> {
        Ok([b"Hello, ", name, b"!"].concat())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder().service(|| GreeterServer::new(English));
    let server = server.shards(1, &["tcp://127.0.0.1:0"])?;
    let address = server.addresses().first().ok_or("it listens")?.to_string();
    let answer = GreeterClient::connect(&address)?.greet(b"world").wait()?;
    println!("{}", String::from_utf8_lossy(answer.bytes()));
    Ok(())
}
