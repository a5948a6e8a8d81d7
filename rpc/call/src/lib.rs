//! The call machine: RPC over messages, sans-IO.
