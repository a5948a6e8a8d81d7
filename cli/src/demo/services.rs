//! The key-value example, served by a process of its own and called over every transport that carries
//! calls and needs no certificate.

use std::time::Duration;

use hdrhistogram::Histogram;
use ringway::rpc::{Code, Kind, Method, Status};
use ringway_services::kv::{
    DeleteRequest, GetRequest, KeyValueClient, Operation, PutRequest, WatchRequest, outcome,
};

use super::exchange::Server;
use crate::bench::plan::{Driver, Policy, Transport};
use crate::calls::load::{Pace, Plan, measure as load, per_s};
use crate::failure::Failure;
use crate::output;

const GET: &str = "kv.KeyValue/Get";
/// What is read while it is measured.
const KEY: &str = "demo/measured";
const VALUE: [u8; 64] = [7; 64];
/// Values that are loaded by a stream.
const LOADED: u64 = 1000;
/// How long each measurement takes, and how long it warms up.
const DURATION: Duration = Duration::from_millis(600);
const WARMUP: Duration = Duration::from_millis(100);
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Calls in flight where the rate is measured.
const IN_FLIGHT: u32 = 64;

/// What was measured over one transport.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) transport: Transport,
    /// One call after the other.
    pub(crate) round_trips: Histogram<u64>,
    /// With 64 in flight.
    pub(crate) per_s: f64,
}

/// Starts the server, talks to it, measures, and stops it again.
pub(crate) fn run(driver: Driver, policy: Policy) -> Result<Vec<Called>, Failure> {
    let unix = format!("unix://@ringway-demo-kv-{}", std::process::id());
    let addresses = ["tcp://127.0.0.1:0", &unix, "rudp://127.0.0.1:0"];
    let idle = policy.to_string();
    let options = ["--example", "kv", "--idle", &idle];
    let (mut server, addresses) = Server::start(driver, &addresses, &options)?;
    output::line(format!("key-value store: process {}", server.id()))?;
    let mut called = Vec::new();
    let transports = [Transport::Tcp, Transport::Unix, Transport::Rudp];
    for (transport, address) in transports.into_iter().zip(&addresses) {
        let address = address.to_string();
        let said = talk(&address)?;
        output::line(format!("  {address}: {said}"))?;
        called.push(measure(transport, &address, driver, policy)?);
    }
    server.stop()?;
    output::line("key-value store: drained and ended\n")?;
    Ok(called)
}

fn failed(method: &'static str) -> impl Fn(Status) -> Failure {
    move |status| Failure::call(method, status)
}

/// A few words with every kind of method.
fn talk(address: &str) -> Result<String, Failure> {
    let wrong = |what: &str| Failure::Peer(format!("key-value store: {what}"));
    let client = KeyValueClient::connect(address).map_err(failed("connect"))?;
    let watching = KeyValueClient::connect(address).map_err(failed("connect"))?;
    let put = |key: &str, value: &[u8]| PutRequest {
        key: key.to_owned(),
        value: value.to_vec(),
    };
    // Unary, and a stream of the server's beside it.
    let first = client.put(&put("demo/a", b"1")).wait();
    let first = first
        .and_then(|it| it.get())
        .map_err(failed("kv.KeyValue/Put"))?;
    let mut events = watching.watch(&WatchRequest {
        prefix: "demo/".to_owned(),
        from_revision: first.revision,
    });
    client
        .put(&put("demo/a", b"2"))
        .wait()
        .map_err(failed("kv.KeyValue/Put"))?;
    let delete = DeleteRequest {
        key: "demo/a".to_owned(),
    };
    client
        .delete(&delete)
        .wait()
        .map_err(failed("kv.KeyValue/Delete"))?;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = events.next_wait().map_err(failed("kv.KeyValue/Watch"))?;
        let event = event.ok_or_else(|| wrong("the watch ended"))?;
        seen.push(
            event
                .value
                .map(|it| String::from_utf8_lossy(&it).into_owned()),
        );
    }
    drop(events);
    let get = GetRequest {
        key: "demo/a".to_owned(),
    };
    match client.get(&get).wait() {
        Err(status) if status.code == Code::NotFound => {}
        _ => return Err(wrong("a deleted key has a value")),
    }
    // A stream of the client's.
    let (mut out, answer) = client.load();
    for _ in 0..LOADED {
        out.send_wait(&put(KEY, &VALUE))
            .map_err(failed("kv.KeyValue/Load"))?;
    }
    out.finish();
    let loaded = answer.answer_wait().and_then(|it| it.get());
    let loaded = loaded.map_err(failed("kv.KeyValue/Load"))?;
    // Both stream.
    let (mut out, mut outcomes) = client.session();
    let get = GetRequest {
        key: KEY.to_owned(),
    };
    let operation = Operation {
        kind: Some(get.into()),
    };
    out.send_wait(&operation)
        .map_err(failed("kv.KeyValue/Session"))?;
    let outcome = outcomes
        .next_wait()
        .map_err(failed("kv.KeyValue/Session"))?;
    let is_there = matches!(
        outcome.and_then(|it| it.kind),
        Some(outcome::Kind::Get(it)) if it.value == VALUE
    );
    let expected = [Some("1".to_owned()), Some("2".to_owned()), None];
    if seen != expected || loaded.count != LOADED || !is_there {
        return Err(wrong("it answers what was not put there"));
    }
    Ok(format!(
        "put, changed, deleted; watched all three; loaded {LOADED} values; read one in a session"
    ))
}

fn measure(
    transport: Transport,
    address: &str,
    driver: Driver,
    policy: Policy,
) -> Result<Called, Failure> {
    let request = prost::Message::encode_to_vec(&Key {
        key: KEY.to_owned(),
    });
    let plan = |pace| Plan {
        address: address.to_owned(),
        quic: None,
        name: GET.to_owned(),
        method: Method::found(GET, Kind::Unary, 1, 0),
        request: request.clone(),
        metadata: Vec::new(),
        pace,
        connections: 1,
        warmup: WARMUP,
        duration: DURATION,
        timeout: PATIENCE,
        compress: false,
    };
    let one = load(&plan(Pace::Outstanding(1)), driver, policy)?;
    let many = load(&plan(Pace::Outstanding(IN_FLIGHT)), driver, policy)?;
    for record in [&one.record, &many.record] {
        if let Some(status) = record.worst() {
            return Err(Failure::call(GET, status));
        }
    }
    Ok(Called {
        transport,
        per_s: per_s(&many.record),
        round_trips: one.record.sent,
    })
}

/// `kv.GetRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Key {
    #[prost(string, tag = "1")]
    key: String,
}
