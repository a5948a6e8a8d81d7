//! An echo server and its client in one process, on one thread: `cargo run --example hello`.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "an example shows its outcome"
)]

use ringway::{Config, Context, Handler, Message};

struct Server;

impl Handler for Server {
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        cx.reply(&message, message.body())
            .expect("one message never fills a queue");
    }
}

#[derive(Default)]
struct Client(Option<String>);

impl Handler for Client {
    fn opened(&mut self, cx: &mut Context<'_>, id: ringway::ConnectionId, _peer: &ringway::Peer) {
        cx.send(id, b"hello")
            .expect("an open connection takes a message");
    }

    fn message(&mut self, _cx: &mut Context<'_>, message: Message<'_>) {
        self.0 = Some(String::from_utf8_lossy(message.body()).into_owned());
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut server, mut client) = (Config::default().build()?, Config::default().build()?);
    let listener = server.listen("tcp://127.0.0.1:0")?;
    let address = server
        .local_address(listener)
        .ok_or("a listener has an address")?;
    client.connect(&address.to_string())?;
    let mut asking = Client::default();
    while asking.0.is_none() {
        client.turn(&mut asking);
        server.turn(&mut Server);
    }
    println!("the server says: {}", asking.0.unwrap_or_default());
    Ok(())
}
