//! What a generated service and a generated client cost once they are warm: allocations and payload copies, counted
//! at both ends.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

#[path = "../../../tests/allocations/mod.rs"]
mod allocations;

use allocations::allocations;
use ringway_buf::copies;
use ringway_generated::plain::test::forms::{
    GetRequestView, GetResponse, GetResponseView, Number, NumberView, Plain, PlainInlineClient,
    PlainServer,
};
use ringway_macros::{message, service};
use ringway_rpc::{Inline, InlineChannel, Replied, Reply, Server, Service, Status};

#[global_allocator]
static COUNTING: allocations::Counting = allocations::Counting;

/// What a thread has done so far.
#[message(crate = ::ringway_rpc)]
#[derive(Debug, PartialEq)]
struct Cost {
    allocations: u64,
    copies: u64,
}

fn cost() -> Cost {
    Cost {
        allocations: allocations(),
        copies: copies().count,
    }
}

/// The server tells what its thread has done.
#[service(crate = ::ringway_rpc)]
trait Steady {
    fn cost(&self, before: &Cost) -> Result<Cost, Status>;
}

struct Own;

impl Steady for Own {
    fn cost(&self, _before: &Cost) -> Result<Cost, Status> {
        Ok(cost())
    }
}

impl Plain for Own {
    fn get(
        &mut self,
        _call: &Inline<'_>,
        request: GetRequestView<'_>,
        reply: Reply<'_, GetResponse>,
    ) -> Result<Replied, Status> {
        let value = request.key.as_bytes();
        reply.send_view(&GetResponseView {
            value,
            ..GetResponseView::default()
        })
    }

    fn add(
        &mut self,
        _call: &Inline<'_>,
        _request: NumberView<'_>,
        reply: Reply<'_, Number>,
    ) -> Result<Replied, Status> {
        let Cost {
            allocations,
            copies,
        } = cost();
        reply.send(&Number {
            value: allocations + copies,
        })
    }
}

/// Calls of a round. One allocation or copy for each call would be as many.
const CALLS: usize = 1000;

/// Rounds until everything is warm. Tables and pools take their size from how threads happen to be scheduled, so a
/// round at any time may find one of them too small.
const ROUNDS_MAX: usize = 20;

/// Makes rounds of calls until one of them changes nothing of what both threads have done.
fn costs_nothing<T: PartialEq + core::fmt::Debug>(mut round: impl FnMut() -> T) {
    let mut seen = vec![round()];
    while seen.len() < ROUNDS_MAX {
        let next = round();
        if seen.last() == Some(&next) {
            return;
        }
        seen.push(next);
    }
    unreachable!("each round of {CALLS} calls costs something: {seen:?}");
}

fn served<S: Service + 'static>(
    make: impl Fn() -> S + Send + Sync + 'static,
    run: impl FnOnce(InlineChannel),
) {
    let server = Server::builder().service(make);
    let server = server.shards(1, &["tcp://127.0.0.1:0"]).unwrap();
    let address = server.addresses().first().unwrap().to_string();
    run(InlineChannel::connect(&address).unwrap());
}

#[test]
fn a_call_of_plain_structs_costs_nothing_at_either_end() {
    served(
        || SteadyServer::new(Own),
        |channel| {
            let mut client = SteadyInlineClient::new(channel).unwrap();
            costs_nothing(|| {
                let mut last = cost();
                for _ in 0..CALLS {
                    last = *client.cost(&last).unwrap().view().unwrap();
                }
                (cost(), last)
            });
        },
    );
}

#[test]
fn a_call_of_protobuf_views_costs_nothing_at_either_end() {
    served(
        || PlainServer::new(Own),
        |channel| {
            let mut client = PlainInlineClient::new(channel).unwrap();
            let number = Number { value: 7 };
            let key = ringway_generated::plain::test::forms::GetRequest {
                key: "a key longer than any small string would hold in place".to_owned(),
            };
            costs_nothing(|| {
                let mut last = 0;
                for _ in 0..CALLS {
                    let answer = client.get(&key).unwrap();
                    assert_eq!(answer.view().unwrap().value, key.key.as_bytes());
                    last = client.add(&number).unwrap().view().unwrap().value;
                }
                (cost(), last)
            });
        },
    );
}
