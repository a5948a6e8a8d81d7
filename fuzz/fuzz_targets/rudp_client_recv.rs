//! See the function of that name in `src/rudp.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::rudp::client_recv(bytes));
