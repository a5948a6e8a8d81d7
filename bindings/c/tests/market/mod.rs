//! A service of plain structs; the header of `market.c` and `market.cpp` is made of this file.

use ringway::rpc::Status;

/// One of an order's sides, with what C has to place right: numbers of all sizes.
#[ringway::message]
#[derive(Debug, PartialEq)]
pub(crate) struct Side {
    pub(crate) ratio: f64,
    pub(crate) change: f32,
    pub(crate) lots: i16,
    pub(crate) is_buy: u8,
    pub(crate) flags: u8,
}

#[ringway::message]
#[derive(Debug, PartialEq)]
pub(crate) struct Order {
    pub(crate) price: u64,
    pub(crate) sides: [Side; 2],
    pub(crate) levels: [[u16; 2]; 4],
    pub(crate) owner: [u8; 12],
    pub(crate) r#type: i32,
}

#[ringway::message]
#[derive(Debug, PartialEq)]
pub(crate) struct Fill {
    pub(crate) sum: u64,
    pub(crate) order: Order,
}

#[ringway::service(package = "market.v1")]
pub(crate) trait OrderBook {
    /// Says an order back, with its sum.
    #[idempotent]
    fn submit_order(&self, order: &Order) -> Result<Fill, Status>;
    fn reset(&self, nothing: &()) -> Result<(), Status>;
}

#[derive(Clone, Debug)]
pub(crate) struct Book;

impl OrderBook for Book {
    fn submit_order(&self, order: &Order) -> Result<Fill, Status> {
        let levels = order.levels.iter().flatten().map(|it| u64::from(*it));
        Ok(Fill {
            sum: order.price + levels.sum::<u64>(),
            order: *order,
        })
    }

    fn reset(&self, _nothing: &()) -> Result<(), Status> {
        Ok(())
    }
}
