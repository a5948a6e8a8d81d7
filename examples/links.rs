//! Connections owned by ordinary threads that block: `cargo run --example links`.
#![expect(clippy::print_stdout, reason = "an example shows its outcome")]

use ringway::{Config, LinkError, LinksOnly, ListenOptions, Shards, ShardsConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One engine on a thread of its own carries both ends; its links belong to whoever holds them.
    let shards = Shards::start(
        &ShardsConfig::default(),
        |_| Config::default(),
        |_| LinksOnly,
    )?;
    let handle = shards
        .handles()
        .first()
        .ok_or("one engine was started")?
        .clone();
    let mut acceptor = handle.listen_wait("tcp://127.0.0.1:0", ListenOptions::default())?;
    let address = acceptor
        .local_address()
        .ok_or("a listener has an address")?
        .to_string();

    let server = std::thread::spawn(move || -> Result<u32, LinkError> {
        let mut link = acceptor.accept_wait()?;
        let mut served = 0;
        // Until the client drops its link.
        while let Ok(received) = link.recv_wait() {
            let answer = received.body.to_ascii_uppercase();
            if link.send_wait(answer).is_err() {
                break;
            }
            served += 1;
        }
        Ok(served)
    });

    let mut link = handle.connect_wait(&address)?;
    for question in ["ping", "is anybody there?", "good bye"] {
        link.send_wait(question.into())?;
        let answer = link.recv_wait()?;
        println!("{question} -> {}", String::from_utf8_lossy(&answer.body));
    }
    drop(link);
    let served = server
        .join()
        .map_err(|_panic| "the server's thread panicked")??;
    println!("served {served} messages");
    Ok(())
}
