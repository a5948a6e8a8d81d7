//! Services from plain Rust traits.
