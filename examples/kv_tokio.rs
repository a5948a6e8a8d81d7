//! Calls as futures under a runtime that knows nothing of ringway: `cargo run --example kv_tokio`.
#![expect(clippy::print_stdout, reason = "an example shows its outcome")]

use ringway::rpc::{Server, Status};
use ringway_services::Store;
use ringway_services::kv::{GetRequest, KeyValueClient, KeyValueServer, PutRequest, WatchRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The server's engine has its own thread; handlers are futures there, and need not be `Send`.
    let store = Store::default();
    let server = Server::builder()
        .service(move || KeyValueServer::new(store.clone()))
        .shards(1, &["tcp://127.0.0.1:0"])?;
    let address = server.addresses().first().ok_or("it listens")?.to_string();
    let client = KeyValueClient::connect(&address)?;

    // A stream in a task of its own; a clone of the client is the same connection.
    let mut events = client.watch(&WatchRequest {
        prefix: String::new(),
        from_revision: 1,
    });
    let watching = tokio::spawn(async move {
        let mut keys = Vec::new();
        while keys.len() < 10 {
            match events.next().await? {
                Some(event) => keys.push(event.key),
                None => break,
            }
        }
        Ok::<_, Status>(keys)
    });

    // Ten calls at once.
    let writers: Vec<_> = (0..10)
        .map(|number: u32| {
            let client = client.clone();
            tokio::spawn(async move {
                let key = format!("key {number}");
                let put = PutRequest {
                    key: key.clone(),
                    value: number.to_string().into_bytes(),
                };
                client.put(&put).await?;
                let response = client.get(&GetRequest { key }).await?;
                Ok::<_, Status>(response.get()?.value)
            })
        })
        .collect();
    for writer in writers {
        println!("read {}", String::from_utf8_lossy(&writer.await??));
    }
    println!("watched {:?}", watching.await??);

    // Draining waits for the engine's thread.
    drop(client);
    tokio::task::spawn_blocking(move || server.drain()).await?;
    Ok(())
}
