//! Links as futures under a runtime that knows nothing of ringway: `cargo run --example tokio`.
#![expect(clippy::print_stdout, reason = "an example shows its outcome")]

use ringway::{Config, LinkError, LinksOnly, ListenOptions, Shards, ShardsConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
    let mut acceptor = handle
        .listen("tcp://127.0.0.1:0", ListenOptions::default())
        .await?;
    let address = acceptor
        .local_address()
        .ok_or("a listener has an address")?
        .to_string();

    // A task for each connection.
    let server = tokio::spawn(async move {
        while let Ok(mut link) = acceptor.accept().await {
            tokio::spawn(async move {
                while let Ok(received) = link.recv().await {
                    if link.send(received.body.to_vec()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });

    let clients: Vec<_> = (0..10)
        .map(|number: u32| {
            let (handle, address) = (handle.clone(), address.clone());
            tokio::spawn(async move {
                let mut link = handle.connect(&address).await?;
                if link.send(number.to_string().into_bytes()).await.is_err() {
                    return Err(LinkError::Stopped);
                }
                let answer = link.recv().await?;
                Ok(String::from_utf8_lossy(&answer.body).into_owned())
            })
        })
        .collect();
    for client in clients {
        println!("echo {}", client.await??);
    }
    // The acceptor learns that its engine drains; its task ends.
    tokio::task::spawn_blocking(move || shards.drain()).await?;
    server.await?;
    Ok(())
}
