//! Services from traits: each shape of a method, over sockets and without a connection.

use std::cell::Cell;

use ringway_engine::Shards;
use ringway_generated::buffa::test::forms::{GetRequest, Number};
use ringway_macros::{message, service};
use ringway_rpc::{
    CallContext, CallOptions, Code, Inline, InlineChannel, LocalRequest, PodRef, Receiver, Replied,
    Reply, Sender, Server, Service, Status,
};

#[message(crate = ::ringway_rpc)]
#[derive(Debug, PartialEq)]
struct Price {
    ticks: u64,
}

#[message(crate = ::ringway_rpc)]
#[derive(Debug, PartialEq)]
struct Order {
    price: Price,
    size: u32,
    tags: [u8; 4],
}

#[message(crate = ::ringway_rpc)]
#[derive(Debug, PartialEq)]
struct Fill(u64);

fn order(ticks: u64, size: u32) -> Order {
    Order {
        price: Price { ticks },
        size,
        tags: *b"abcd",
    }
}

/// Orders in, fills out.
#[service(package = "test", crate = ::ringway_rpc)]
trait Market {
    /// What it returns is the answer.
    fn short(&self, order: &Order) -> Result<Fill, Status>;
    #[idempotent]
    fn known(&self, call: &Inline<'_>, order: &Order) -> Result<Fill, Status>;
    fn plain(&self, order: &Order, reply: Reply<'_, Fill>) -> Result<Replied, Status>;
    fn whole(
        &self,
        call: &Inline<'_>,
        order: PodRef<'_, Order>,
        reply: Reply<'_, Fill>,
    ) -> Result<Replied, Status>;
    fn bytes(&self, bytes: &[u8]) -> Result<Vec<u8>, Status>;
    async fn waits(&self, order: Order) -> Result<Fill, Status>;
    async fn bytes_later(&self, cx: CallContext, bytes: Vec<u8>) -> Result<Vec<u8>, Status>;
    async fn pour(&self, limit: Fill, out: Sender<Fill>) -> Result<(), Status>;
    async fn sum(&self, cx: CallContext, orders: Receiver<Order>) -> Result<Fill, Status>;
    async fn chat(&self, orders: Receiver<Order>, out: Sender<Fill>) -> Result<(), Status>;
    async fn reset(&self, nothing: ()) -> Result<(), Status>;
}

fn worth(order: &Order) -> Result<Fill, Status> {
    if order.size == 0 {
        return Err(Status::of(Code::InvalidArgument, "an order has a size"));
    }
    Ok(Fill(order.price.ticks * u64::from(order.size)))
}

#[derive(Default)]
struct Exchange;

impl Market for Exchange {
    fn short(&self, order: &Order) -> Result<Fill, Status> {
        worth(order)
    }

    fn known(&self, call: &Inline<'_>, order: &Order) -> Result<Fill, Status> {
        assert_eq!(call.method().name, "test.Market/Known");
        if !call.is_idempotent() {
            return Err(Status::of(Code::Aborted, "calling twice does no harm"));
        }
        worth(order)
    }

    fn plain(&self, order: &Order, reply: Reply<'_, Fill>) -> Result<Replied, Status> {
        reply.send(&worth(order)?)
    }

    fn whole(
        &self,
        call: &Inline<'_>,
        order: PodRef<'_, Order>,
        reply: Reply<'_, Fill>,
    ) -> Result<Replied, Status> {
        assert_eq!(call.method().name, "test.Market/Whole");
        let (deferred, replied) = reply.defer()?;
        deferred.finish(worth(&order).as_ref().map_err(Clone::clone));
        Ok(replied)
    }

    fn bytes(&self, bytes: &[u8]) -> Result<Vec<u8>, Status> {
        Ok(bytes.iter().rev().copied().collect())
    }

    async fn waits(&self, order: Order) -> Result<Fill, Status> {
        worth(&order)
    }

    async fn bytes_later(&self, cx: CallContext, bytes: Vec<u8>) -> Result<Vec<u8>, Status> {
        assert_eq!(cx.method().name, "test.Market/BytesLater");
        Ok(bytes)
    }

    async fn pour(&self, limit: Fill, mut out: Sender<Fill>) -> Result<(), Status> {
        for number in 0..limit.0 {
            out.send(Fill(number)).await?;
        }
        Ok(())
    }

    async fn sum(&self, _cx: CallContext, mut orders: Receiver<Order>) -> Result<Fill, Status> {
        let mut sum = 0;
        while let Some(order) = orders.recv().await? {
            sum += worth(&order)?.0;
        }
        Ok(Fill(sum))
    }

    async fn chat(&self, mut orders: Receiver<Order>, mut out: Sender<Fill>) -> Result<(), Status> {
        while let Some(order) = orders.recv().await? {
            out.send(worth(&order)?).await?;
        }
        Ok(())
    }

    async fn reset(&self, (): ()) -> Result<(), Status> {
        Ok(())
    }
}

/// Plain functions alone: the service has its state for itself.
#[service(crate = ::ringway_rpc)]
trait Counter {
    fn add(&mut self, number: &Fill) -> Result<Fill, Status>;
}

#[derive(Default)]
struct Sum(u64);

impl Counter for Sum {
    fn add(&mut self, number: &Fill) -> Result<Fill, Status> {
        self.0 += number.0;
        Ok(Fill(self.0))
    }
}

fn serve<S: Service + 'static>(
    make: impl Fn() -> S + Send + Sync + 'static,
) -> Result<(Shards, String), Box<dyn std::error::Error>> {
    let server = Server::builder().service(make);
    let server = server.shards(1, &["tcp://127.0.0.1:0"])?;
    let address = server.addresses().first().map(ToString::to_string);
    Ok((server, address.unwrap_or_default()))
}

#[test]
fn each_shape_is_called_over_a_channel() {
    let (_server, address) = serve(|| MarketServer::new(Exchange)).unwrap();
    let client = MarketClient::connect(&address).unwrap();
    let wanted = Fill(21);
    for call in [
        client.short(&order(7, 3)),
        client.known(&order(7, 3)),
        client.plain(&order(7, 3)),
        client.whole(&order(7, 3)),
        client.waits(&order(7, 3)),
    ] {
        assert_eq!(*call.wait().unwrap().view().unwrap(), wanted);
    }
    for call in [
        client.short(&order(7, 0)),
        client.known(&order(7, 0)),
        client.plain(&order(7, 0)),
        client.whole(&order(7, 0)),
        client.waits(&order(7, 0)),
    ] {
        assert_eq!(call.wait().unwrap_err().code, Code::InvalidArgument);
    }
    assert_eq!(client.bytes(b"abc").wait().unwrap().view().unwrap(), b"cba");
    assert_eq!(
        client.bytes_later(b"abc").wait().unwrap().get().unwrap(),
        b"abc"
    );
    let reset = client.reset_with(&(), &CallOptions::default());
    assert!(reset.wait().unwrap().bytes().is_empty());

    let mut poured = client.pour(&Fill(3));
    for number in 0..3 {
        assert_eq!(poured.next_wait().unwrap(), Some(Fill(number)));
    }
    assert_eq!(poured.next_wait().unwrap(), None);

    let (mut out, sum) = client.sum();
    for size in 1..=4 {
        out.send_wait(&order(10, size)).unwrap();
    }
    out.finish();
    assert_eq!(sum.answer_wait().unwrap().get().unwrap(), Fill(100));

    let (mut out, mut fills) = client.chat();
    out.send_wait(&order(2, 5)).unwrap();
    assert_eq!(fills.next_wait().unwrap(), Some(Fill(10)));
    out.finish();
    assert_eq!(fills.next_wait().unwrap(), None);
}

#[test]
fn each_shape_is_called_by_the_owner_of_an_engine() {
    let (_server, address) = serve(|| MarketServer::new(Exchange)).unwrap();
    let mut client = MarketInlineClient::new(InlineChannel::connect(&address).unwrap()).unwrap();
    assert_eq!(
        *client.short(&order(7, 3)).unwrap().view().unwrap(),
        Fill(21)
    );
    assert_eq!(
        *client.known(&order(7, 3)).unwrap().view().unwrap(),
        Fill(21)
    );
    assert_eq!(
        *client.waits(&order(7, 3)).unwrap().view().unwrap(),
        Fill(21)
    );
    assert_eq!(client.bytes(b"abc").unwrap().view().unwrap(), b"cba");
    let mut poured = client.pour(&Fill(1)).unwrap();
    assert_eq!(*poured.next().unwrap().unwrap().view().unwrap(), Fill(0));
    assert!(poured.next().unwrap().is_none());
    drop(poured);
    let mut sum = client.sum().unwrap();
    sum.send(&order(10, 4)).unwrap();
    assert_eq!(sum.answer().unwrap().get().unwrap(), Fill(40));
}

#[test]
fn a_service_of_plain_functions_keeps_its_state() {
    let builder = Server::builder().service_here(CounterServer::new(Sum::default()));
    let mut local = builder.local().unwrap();
    let mut add = |number: u64| {
        let bytes = number.to_le_bytes();
        let answer = local
            .unary(&LocalRequest::unary("Counter/Add", &bytes))
            .unwrap();
        u64::from_le_bytes(answer[..].try_into().unwrap())
    };
    assert_eq!([add(1), add(2), add(3)], [1, 3, 6]);
}

/// The other end of `Market`, built from another version of its messages.
mod older {
    use super::{Status, message, service};

    #[message(crate = ::ringway_rpc)]
    pub(super) struct Price {
        pub(super) cents: u64,
    }

    #[message(crate = ::ringway_rpc)]
    pub(super) struct Order {
        pub(super) price: Price,
        pub(super) size: u32,
        pub(super) tags: [u8; 4],
    }

    #[message(crate = ::ringway_rpc)]
    pub(super) struct Fill(u64);

    #[service(package = "test", crate = ::ringway_rpc)]
    pub(super) trait Market {
        fn short(&self, order: &Order) -> Result<Fill, Status>;
        fn bytes(&self, bytes: &[u8]) -> Result<Vec<u8>, Status>;
    }
}

#[test]
fn a_struct_that_differs_inside_is_refused_before_it_is_misread() {
    let (_server, address) = serve(|| MarketServer::new(Exchange)).unwrap();
    let channel = InlineChannel::connect(&address).unwrap();
    let refused = older::MarketInlineClient::new(channel).unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
    assert!(refused.message.contains("layout"), "{refused}");

    let client = older::MarketClient::connect(&address).unwrap();
    let order = older::Order {
        price: older::Price { cents: 1 },
        size: 1,
        tags: [0; 4],
    };
    let refused = client.short(&order).wait().unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition);
    assert!(refused.not_started);
    // The method whose messages agree works.
    assert_eq!(client.bytes(b"12").wait().unwrap().view().unwrap(), b"21");
    let seen = Cell::new(0);
    for method in MARKET.methods {
        let other = older::MARKET.methods.iter().find(|it| it.id == method.id);
        let same = other.is_some_and(|other| other.schema == method.schema);
        seen.set(seen.get() + usize::from(same));
    }
    assert_eq!(seen.get(), 1, "bytes have no layout");
}

/// Messages of a `.proto` in a trait.
#[service(codec = Protobuf, crate = ::ringway_rpc)]
trait Borrowed {
    async fn get(&self, request: GetRequest) -> Result<Number, Status>;
}

impl Borrowed for Exchange {
    async fn get(&self, request: GetRequest) -> Result<Number, Status> {
        let value = request.key.len() as u64;
        Ok(Number { value })
    }
}

#[test]
fn a_trait_takes_messages_of_a_definition() {
    let (_server, address) = serve(|| BorrowedServer::new(Exchange)).unwrap();
    let client = BorrowedClient::connect(&address).unwrap();
    let request = GetRequest {
        key: "four".to_owned(),
    };
    let response = client.get(&request).wait().unwrap();
    assert_eq!(response.view().unwrap().value, 4);
}
