//! Plain structs, plain functions, and a client that turns its own engine: nothing is encoded, nothing allocated.
//! `cargo run --release --example order_book`
#![expect(clippy::print_stdout, reason = "an example shows its outcome")]

use std::time::Instant;

use ringway::rpc::{Code, InlineChannel, Server, Status};

/// What is in memory is what is on the wire; ends whose structs differ are refused when they connect.
#[ringway::message]
struct Order {
    /// Cents.
    price: u64,
    size: u32,
    /// 0 buys, 1 sells.
    side: u32,
}

#[ringway::message]
#[derive(Debug)]
struct Fill {
    size: u32,
    /// What was not matched and waits in the book.
    resting: u32,
}

#[ringway::message]
#[derive(Debug)]
struct Depth {
    bid: u64,
    ask: u64,
}

/// All handlers are plain functions, so the book needs no lock.
#[ringway::service(package = "market")]
trait OrderBook {
    fn submit(&mut self, order: &Order) -> Result<Fill, Status>;
    #[idempotent]
    fn depth(&mut self, nothing: &()) -> Result<Depth, Status>;
}

const LEVELS: usize = 1000;

/// The size that waits at each price.
struct Book {
    bids: Vec<u32>,
    asks: Vec<u32>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            bids: vec![0; LEVELS],
            asks: vec![0; LEVELS],
        }
    }
}

impl OrderBook for Book {
    fn submit(&mut self, order: &Order) -> Result<Fill, Status> {
        let level = usize::try_from(order.price).unwrap_or(usize::MAX);
        if level >= LEVELS || order.side > 1 {
            return Err(Status::of(Code::InvalidArgument, "no such price or side"));
        }
        let mut left = order.size;
        if order.side == 0 {
            let offers = self.asks.iter_mut().take(level + 1);
            offers.for_each(|offer| left -= take(offer, left));
            rest(&mut self.bids, level, left)?;
        } else {
            let offers = self.bids.iter_mut().skip(level).rev();
            offers.for_each(|offer| left -= take(offer, left));
            rest(&mut self.asks, level, left)?;
        }
        Ok(Fill {
            size: order.size - left,
            resting: left,
        })
    }

    fn depth(&mut self, (): &()) -> Result<Depth, Status> {
        let bid = self.bids.iter().rposition(|size| *size > 0);
        let ask = self.asks.iter().position(|size| *size > 0);
        Ok(Depth {
            bid: bid.unwrap_or(0) as u64,
            ask: ask.unwrap_or(LEVELS) as u64,
        })
    }
}

fn take(offer: &mut u32, wanted: u32) -> u32 {
    let taken = wanted.min(*offer);
    *offer -= taken;
    taken
}

fn rest(side: &mut [u32], level: usize, size: u32) -> Result<(), Status> {
    let full = || Status::of(Code::ResourceExhausted, "the level is full");
    let place = side.get_mut(level).ok_or_else(full)?;
    *place = place.checked_add(size).ok_or_else(full)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder().service(|| OrderBookServer::new(Book::default()));
    let server = server.shards(1, &["tcp://127.0.0.1:0"])?;
    let address = server.addresses().first().ok_or("it listens")?.to_string();

    let mut book = OrderBookInlineClient::new(InlineChannel::connect(&address)?)?;
    let began = Instant::now();
    let (mut filled, mut count) = (0_u64, 0_u32);
    for number in 0..20_000_u64 {
        // Prices that swing around the middle, sides that take turns.
        let order = Order {
            price: 500 + (number * 7919) % 21 - 10,
            size: 1 + u32::try_from(number % 5)?,
            side: u32::try_from(number % 2)?,
        };
        let fill = book.submit(&order)?;
        filled += u64::from(fill.view()?.size);
        count += 1;
    }
    let each = began.elapsed() / count;
    let depth = *book.depth(&())?.view()?;
    println!("{count} orders, {filled} filled, {each:?} per call; {depth:?}");

    let refused = book.submit(&Order {
        price: 1_000_000,
        size: 1,
        side: 0,
    });
    println!("{}", refused.err().ok_or("the book has no such price")?);
    Ok(())
}
