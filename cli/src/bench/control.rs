//! The line protocol between both processes of a measurement: one JSON value per line, on the child's standard
//! input and output. Nothing is said inside a measured block: both sides know its size beforehand.

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::usage::Usage;
use crate::cert::Certificate;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// ringway.
    Ours,
    /// The plan's baseline: hand-written sockets of the same shape.
    Raw,
    /// Its second one.
    Second,
}

/// Messages of one block. The first part warms both sides up and is not measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) warm_up: u64,
    pub(crate) measured: u64,
}

/// From the parent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// The first order: what this run measures, and for QUIC the certificate.
    Plan(Plan, Option<Certificate>),
    /// Listen; answered by [`Report::Listening`].
    Listen(Side),
    /// The parent connects so many now; answered by [`Report::Resident`] when all are there.
    Accept(Side, u32),
    /// A block; answered by [`Report::Ready`], and [`Report::Done`] when it is over.
    Block(Side, Block),
    /// Serve idle connections for so many milliseconds; answered like a block.
    Idle(Side, u64),
}

/// From the child.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Report {
    /// The address to connect to.
    Listening(String),
    /// Bytes of resident memory: before the first of the accepted connections, and now.
    Resident { before: u64, now: u64 },
    /// The block may begin.
    Ready,
    /// The block is over; what it cost this side.
    Done(Usage),
    /// It failed; the text says why.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_their_line() {
        let orders = [
            Order::Listen(Side::Second),
            Order::Accept(Side::Ours, 1000),
            Order::Block(
                Side::Raw,
                Block {
                    warm_up: 10,
                    measured: 1 << 40,
                },
            ),
            Order::Idle(Side::Ours, 2000),
        ];
        for order in orders {
            let line = serde_json::to_string(&order).unwrap();
            assert!(!line.contains('\n'));
            let back: Order = serde_json::from_str(&line).unwrap();
            assert_eq!(format!("{order:?}"), format!("{back:?}"));
        }
    }
}
