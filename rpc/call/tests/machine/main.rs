//! The call machines without an engine: frames pass through queues in memory, time is a number.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and count in small numbers"
)]

mod compress;
mod document;
mod floods;
mod line;
mod pair;
mod pieces;
mod rules;
mod states;
mod ways;
