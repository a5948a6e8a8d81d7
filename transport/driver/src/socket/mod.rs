//! What both kernel drivers share: addresses, socket options, connecting, control messages, direct calls.

pub mod address;
