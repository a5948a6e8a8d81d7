//! Wire formats and sans-IO protocol machines of ringway.
//!
//! A *machine* turns messages into bytes and back and does nothing else: it owns no socket, reads no clock,
//! starts no thread and draws no random number. Time (`now`), randomness (`seed`) and bytes are arguments, so
//! the same inputs give the same run, bit for bit. Below stands a driver, above stands whoever gives kinds
//! from [`kind::MESSAGE_MIN`] on a meaning; the engine is the only place where they meet.
//!
//! * [`wire`]: the layouts, field by field as in `docs/wire/stream.md`;
//! * [`stream`]: [`Stream`], the machine of one TCP or unix connection;
//! * [`datagram`]: raw datagrams, where a message is a datagram and there is no header;
//! * [`packet`]: the contract of transports with many sessions over one UDP socket;
//! * [`rudp`]: [`Rudp`](rudp::Rudp), reliable messages over UDP;
//! * [`filter`]: the stage between driver and framing in which TLS finds its place.
//!
//! What a machine has to send is written into memory of its caller. The stream's machine never allocates and is a
//! value of fixed size; reliable UDP keeps tables that grow to their bounds and then stay.
#![no_std]
#![forbid(unsafe_code)]
// Foreign bytes pass through every file of this crate, so the strict lints hold everywhere but in tests.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::std_instead_of_core,
        clippy::std_instead_of_alloc
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod datagram;
pub mod filter;
pub mod packet;
pub mod rudp;
pub mod stream;
pub mod wire;

pub use filter::{Filter, FilterError, FilterRoom, Identity, Opened};
pub use stream::{
    ConfigError, Ending, Input, Peer, Role, StateName, Stream, StreamConfig, StreamEvent,
    TRANSMIT_BYTES_MAX, Timeout, Violation,
};
pub use wire::{CloseCode, FRAME_ALIGN, HEADER_BYTES, Header, flag, kind, padded};
