//! Reliable messages over UDP, for trusted networks: the machine behind `rudp://`.
//!
//! It keeps the [contract of packet transports](crate::packet) and speaks `docs/wire/rudp.md`. In the shape of
//! QUIC's recovery (RFC 9002), native to messages: packet numbers grow and are never used twice, loss is a matter
//! of packets and retransmission one of message ranges, acknowledgements travel with whatever is sent anyway,
//! and timers count microseconds. It neither encrypts nor authenticates; public addresses are refused unless the
//! user insists.
//!
//! The parts, from the wire upwards:
//!
//! * `wire`: layouts; `ranges`, `number`, `mac`: what they are made with;
//! * `sent`, `received`: packets of either direction, until they are settled;
//! * `rtt`, `congestion`, `pacer`, `mtu`: how fast, how much, when, how long;
//! * `room`: what the system holds for whoever does not read;
//! * `send`, `recv`: messages of either direction, until they are whole;
//! * `session`, `transmit`, `loss`, `lifecycle`: one peer; `endpoint`, `accept`: all of them, behind one socket.
//!
//! Invariants, asserted by `tests/rudp/`: a reliable message is handed up exactly once and intact; nothing is sent
//! beyond credit and window, nor more than was received to an address that is not proven; retransmissions stay
//! within a quarter of what is sent; memory is bounded; who has nothing to say is silent.

mod accept;
mod config;
mod congestion;
mod endpoint;
mod lifecycle;
mod loss;
mod mac;
mod mtu;
mod number;
mod pacer;
mod ranges;
mod received;
mod recv;
mod room;
mod rtt;
mod send;
mod sent;
mod session;
mod transmit;
mod wire;

pub use self::config::{Congestion, RudpConfig, RudpConfigError};
pub use self::endpoint::{Rudp, is_private};
pub use self::session::RudpStats;
pub use self::wire::{
    INIT_BYTES_MIN, MESSAGE_HEAD_BYTES, PACKET_HEADER_BYTES, PIECE_HEAD_BYTES, VERSION,
};
