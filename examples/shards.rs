//! Three engines behind one address, each on its own thread: `cargo run --example shards`.
#![expect(clippy::print_stdout, reason = "an example shows its outcome")]

use std::collections::BTreeMap;

use ringway::{Config, Context, Counter, Handler, LinksOnly, Message, Shards, ShardsConfig};

/// Says which engine it runs on.
struct Worker(usize);

impl Handler for Worker {
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let answer = format!("engine {}", self.0);
        if cx.reply(&message, answer.as_bytes()).is_err() {
            // Its queue is full: this peer asks and never reads.
            cx.close(message.connection(), ringway::CloseCode::ResourceExhausted);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let settings = ShardsConfig {
        count: 3,
        listen: vec!["tcp://127.0.0.1:0".into()],
        ..ShardsConfig::default()
    };
    let shards = Shards::start(&settings, |_| Config::default(), Worker)?;
    let address = shards
        .addresses()
        .first()
        .ok_or("one address is listened on")?
        .to_string();

    let client = Shards::start(
        &ShardsConfig::default(),
        |_| Config::default(),
        |_| LinksOnly,
    )?;
    let handle = client.handles().first().ok_or("one engine was started")?;
    let mut answers = BTreeMap::<String, u32>::new();
    for _ in 0..12 {
        let mut link = handle.connect_wait(&address)?;
        link.send_wait(b"who serves me?".to_vec())?;
        let answer = String::from_utf8_lossy(&link.recv_wait()?.body).into_owned();
        *answers.entry(answer).or_default() += 1;
    }
    for (answer, count) in answers {
        println!("{answer}: {count} connections");
    }
    for (index, handle) in shards.handles().iter().enumerate() {
        println!(
            "engine {index} accepted {}",
            handle.counters().value(Counter::Accepted)
        );
    }
    shards.drain();
    Ok(())
}
