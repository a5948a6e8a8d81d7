//! One message to many, without a copy for each: `cargo run --example fanout`.
//!
//! The body is written once into memory of the engine; what is sent are shared slices of it.
#![expect(clippy::print_stdout, reason = "an example shows its outcome")]

use ringway::{Config, ConnectionId, Context, Handler, Message, Peer, copies};

const SUBSCRIBERS: usize = 100;

/// Knows who is there.
#[derive(Default)]
struct Publisher {
    subscribers: Vec<ConnectionId>,
}

impl Handler for Publisher {
    fn opened(&mut self, _cx: &mut Context<'_>, connection: ConnectionId, _peer: &Peer) {
        self.subscribers.push(connection);
    }

    fn message(&mut self, _cx: &mut Context<'_>, _message: Message<'_>) {}
}

/// Counts what arrives.
#[derive(Default)]
struct Subscribers {
    messages: usize,
    bytes: usize,
}

impl Handler for Subscribers {
    fn message(&mut self, _cx: &mut Context<'_>, message: Message<'_>) {
        self.messages += 1;
        self.bytes += message.body().len();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut here, mut there) = (Config::default().build()?, Config::default().build()?);
    let listener = here.listen("tcp://127.0.0.1:0")?;
    let address = here
        .local_address(listener)
        .ok_or("a listener has an address")?
        .to_string();
    let (mut publisher, mut subscribers) = (Publisher::default(), Subscribers::default());
    for _ in 0..SUBSCRIBERS {
        there.connect(&address)?;
    }
    while publisher.subscribers.len() < SUBSCRIBERS {
        there.turn(&mut subscribers);
        here.turn(&mut publisher);
    }

    let news = "what happened today ".repeat(500);
    let mut cx = here.context();
    let mut lease = cx.lease(news.len()).ok_or("the budget is used up")?;
    lease
        .append(news.len())
        .ok_or("a lease has the room asked for")?
        .copy_from_slice(news.as_bytes());
    let slice = lease.freeze();
    let before = copies();
    for subscriber in &publisher.subscribers {
        cx.send_slice(*subscriber, slice.clone())?;
    }
    println!(
        "{} bytes queued {SUBSCRIBERS} times, {} copies",
        news.len(),
        copies().count - before.count
    );
    while subscribers.messages < SUBSCRIBERS {
        here.turn(&mut publisher);
        there.turn(&mut subscribers);
    }
    println!(
        "{} messages arrived, {} bytes",
        subscribers.messages, subscribers.bytes
    );
    Ok(())
}
