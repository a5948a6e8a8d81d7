//! Handlers that block, on the server's worker pool, and clients on threads that block for their answers:
//! `cargo run --example blocking`.
#![expect(clippy::print_stdout, reason = "an example shows its outcome")]

use std::thread;
use std::time::Duration;

use ringway::rpc::{CallContext, Replied, Reply, Server, Status};

#[ringway::message]
struct Work {
    milliseconds: u64,
}

#[ringway::message]
struct Done {
    number: u64,
}

#[ringway::service(package = "demo")]
trait Worker {
    /// A plain function hands the whole call over.
    fn slow(&self, work: &Work, reply: Reply<'_, Done>) -> Result<Replied, Status>;
    /// A future hands a part of its work over and goes on with the outcome.
    async fn split(&self, cx: CallContext, work: Work) -> Result<Done, Status>;
    /// Answers at once, however busy the pool is.
    fn quick(&self, nothing: &()) -> Result<Done, Status>;
}

struct Blocks;

impl Worker for Blocks {
    fn slow(&self, work: &Work, reply: Reply<'_, Done>) -> Result<Replied, Status> {
        let time = Duration::from_millis(work.milliseconds);
        reply.blocking(move |_job| {
            thread::sleep(time);
            Ok(Done { number: 1 })
        })
    }

    async fn split(&self, cx: CallContext, work: Work) -> Result<Done, Status> {
        let time = Duration::from_millis(work.milliseconds);
        let half = cx.blocking(move |_job| {
            thread::sleep(time);
            Ok(21)
        });
        Ok(Done {
            number: half.await? * 2,
        })
    }

    fn quick(&self, (): &()) -> Result<Done, Status> {
        Ok(Done { number: 0 })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .service(|| WorkerServer::new(Blocks))
        .workers(2)
        .shards(1, &["tcp://127.0.0.1:0"])?;
    let address = server.addresses().first().ok_or("it listens")?.to_string();
    let client = WorkerClient::connect(&address)?;

    let slow: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || -> Result<u64, Status> {
                let work = Work { milliseconds: 50 };
                Ok(client.slow(&work).wait()?.view()?.number)
            })
        })
        .collect();
    // The engine's thread is free meanwhile.
    for _ in 0..100 {
        client.quick(&()).wait()?;
    }
    println!("100 quick calls beside {} slow ones", slow.len());
    for thread in slow {
        let number = thread.join().map_err(|_panic| "a caller panicked")??;
        println!("slow: {number}");
    }
    let answer = client.split(&Work { milliseconds: 5 }).wait()?;
    println!("split: {}", answer.view()?.number);
    Ok(())
}
