//! The layouts of the structs of `ringway.h`. `tests/c/layout.c` has the same figures for the header's side.

use core::mem::offset_of;

use crate::calls::Options;
use crate::config::EngineConfig;
use crate::event::Event;
use crate::host::ThreadEvent;
use crate::info::Stats;
use crate::messages::Buf;
use crate::serve::{MethodSpec, RequestInfo};
use crate::threads::ThreadsConfig;

/// Fields stand one behind the other, without padding whose bytes would be unspecified.
macro_rules! layout {
    ($name:ty, $size:literal: $($field:ident $at:literal $of:ty),* $(,)?) => {
        const _: () = {
            let mut end = 0;
            $(
                assert!(offset_of!($name, $field) == $at && end == $at);
                end += size_of::<$of>();
                // The type is the field's.
                let _same = |it: &$name| -> $of { it.$field };
            )*
            assert!(size_of::<$name>() == $size && end == $size);
            assert!(align_of::<$name>() == 8);
        };
    };
}

type Pointer = *const core::ffi::c_void;

layout!(EngineConfig, 56: struct_size 0 u32, driver 4 u32, idle 8 u32, message_bytes_max 12 u32, spin_ns 16 u64,
    connect_timeout_ns 24 u64, budget_bytes 32 u64, queue_bytes_max 40 u64, connections_max 48 u32, leases_max 52 u32);
layout!(Event, 64: kind 0 u32, status 4 i32, id 8 u64, user 16 u64, data 24 Pointer, len 32 u64, lease 40 u64,
    method 48 u32, tag 52 u16, flags 54 u8, message_kind 55 u8, word 56 u64);
layout!(Buf, 24: data 0 *mut core::ffi::c_void, len 8 usize, lease 16 u64);
layout!(Options, 48: struct_size 0 u32, flags 4 u32, timeout_ns 8 i64, metadata 16 Pointer, metadata_len 24 usize,
    lease 32 u64, priority 40 u32, reserved 44 u32);
layout!(MethodSpec, 32: name 0 *const core::ffi::c_char, name_len 8 usize, kind 16 u32, schema 20 u32, codec 24 u8,
    idempotent 25 u8, reserved 26 [u8; 6]);
layout!(RequestInfo, 32: metadata 0 Pointer, metadata_len 8 usize, timeout_ns 16 i64, priority 24 u8, attempt 25 u8,
    idempotent 26 u8, reserved 27 [u8; 5]);
layout!(ThreadsConfig, 32: struct_size 0 u32, count 4 u32, cores 8 *const u32, cores_count 16 u32, events_max 20 u32,
    engine 24 *const EngineConfig);
layout!(ThreadEvent, 72: engine 0 u64, event 8 Event);
layout!(Stats, 80: struct_size 0 u32, reserved 4 u32, turns 8 u64, messages_in 16 u64, messages_out 24 u64,
    connections 32 u64, budget_used 40 u64, copies 48 u64, leases 56 u64, calls 64 u64, requests 72 u64);
