//! Every kind of call, of the service in `examples/services/proto/kv.proto`: `cargo run --example kv`.
#![expect(clippy::print_stdout, reason = "an example shows its outcome")]

use ringway::rpc::{CallOptions, Code, Server};
use ringway_services::Store;
use ringway_services::kv::{
    DeleteRequest, GetRequest, KeyValueClient, KeyValueServer, Operation, PutRequest, WatchRequest,
};
use std::time::Duration;

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned(),
        value: value.as_bytes().to_vec(),
    }
}

fn get(key: &str) -> GetRequest {
    GetRequest {
        key: key.to_owned(),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two engine threads share one store; each has a service of its own in front of it.
    let store = Store::default();
    let server = Server::builder()
        .service(move || KeyValueServer::new(store.clone()))
        .shards(2, &["tcp://127.0.0.1:0"])?;
    let address = server.addresses().first().ok_or("it listens")?.to_string();
    let client = KeyValueClient::connect(&address)?;

    // The server streams: what changes from the first revision on.
    let mut events = client.watch(&WatchRequest {
        prefix: "fruit/".to_owned(),
        from_revision: 1,
    });

    // One message each way.
    client.put(&put("fruit/apple", "red")).wait()?;
    let response = client.get(&get("fruit/apple")).wait()?;
    // The value is read where it was received.
    let response = response.view()?;
    println!(
        "an apple is {} since revision {}",
        String::from_utf8_lossy(response.value),
        response.revision
    );

    // A call ends with a status, and in time.
    let options = CallOptions::timeout(Duration::from_secs(5));
    match client.get_with(&get("fruit/pear"), &options).wait() {
        Err(status) if status.code == Code::NotFound => println!("no pear: {}", status.message),
        other => println!("a pear: {other:?}"),
    }

    // The client streams.
    let (mut out, loaded) = client.load();
    for (name, colour) in [("banana", "yellow"), ("cherry", "black"), ("lime", "green")] {
        out.send_wait(&put(&format!("fruit/{name}"), colour))?;
    }
    out.finish();
    println!("loaded {} more", loaded.answer_wait()?.view()?.count);

    // Both stream.
    let (mut out, mut outcomes) = client.session();
    let delete = DeleteRequest {
        key: "fruit/lime".to_owned(),
    };
    for kind in [delete.into(), get("fruit/lime").into()] {
        out.send_wait(&Operation { kind: Some(kind) })?;
        println!("session: {:?}", outcomes.next_wait()?);
    }
    out.finish();

    for _ in 0..5 {
        if let Some(event) = events.next_wait()? {
            let value = event.value.as_deref().map(String::from_utf8_lossy);
            println!("{}: {} is {value:?}", event.revision, event.key);
        }
    }
    Ok(())
}
