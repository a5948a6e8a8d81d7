//! Names, texts, figures, metadata. The contract of each function stands in `ringway.h`.

use core::ffi::{c_char, c_void};

use ringway::rpc::{Code, Metadata, MetadataBuf, method_id};

use crate::core::Core;
use crate::entry::tells;
use crate::front::Held;
use crate::guard::{Fail, Rw, guard, name_of, with_last};
use crate::pointers::{Out, OutBytes, bytes, copy_text, text};
use crate::registry::enter;

/// Number of the ABI: the high half changes when old programs would break, the low one when something is added.
const ABI: u32 = 2;

#[unsafe(no_mangle)]
extern "C" fn rw_abi_version() -> u32 {
    ABI
}

#[unsafe(no_mangle)]
extern "C" fn rw_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

#[unsafe(no_mangle)]
extern "C" fn rw_status_name(status: i32) -> *const c_char {
    name_of(status).unwrap_or(b"RW_UNKNOWN\0").as_ptr().cast()
}

macro_rules! code_names {
    ($code:expr, $($number:literal => $name:literal,)*) => {
        match $code { $($number => concat!($name, "\0"),)* _ => "UNKNOWN\0" }
    };
}

#[unsafe(no_mangle)]
extern "C" fn rw_code_name(code: u32) -> *const c_char {
    let name = code_names!(code,
        0 => "OK", 1 => "CANCELLED", 2 => "UNKNOWN", 3 => "INVALID_ARGUMENT", 4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND", 6 => "ALREADY_EXISTS", 7 => "PERMISSION_DENIED", 8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION", 10 => "ABORTED", 11 => "OUT_OF_RANGE", 12 => "UNIMPLEMENTED",
        13 => "INTERNAL", 14 => "UNAVAILABLE", 15 => "DATA_LOSS", 16 => "UNAUTHENTICATED",
    );
    name.as_ptr().cast()
}

const _: () = assert!(
    Code::Unauthenticated.to_wire() == 16,
    "the names above are in gRPC's order"
);

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_last_error(to: *mut c_char, cap: usize, len: *mut usize) -> i32 {
    guard(|| {
        let copied = with_last(|last| {
            // SAFETY: the caller's promise, see the header.
            unsafe { copy_text(last, to, cap, len) }
        });
        // A failure here becomes the last error, so the text is not borrowed any more.
        copied.unwrap_or(Ok(()))?;
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_driver_name(
    engine: u64,
    to: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> i32 {
    let act = |core: &mut Core| Ok(core.engine().capabilities().kind.to_string());
    // SAFETY: the caller's promise, see the header.
    unsafe { tells(engine, to, cap, len, act) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_driver_why(
    engine: u64,
    to: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> i32 {
    let act = |core: &mut Core| {
        let why = core.engine().fallback().map(ToString::to_string);
        Ok(why.unwrap_or_default())
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { tells(engine, to, cap, len, act) }
}

/// `rw_stats` of the header; new fields go to the end.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Stats {
    pub(crate) struct_size: u32,
    pub(crate) reserved: u32,
    pub(crate) turns: u64,
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) connections: u64,
    pub(crate) budget_used: u64,
    pub(crate) copies: u64,
    pub(crate) leases: u64,
    pub(crate) calls: u64,
    pub(crate) requests: u64,
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_stats_read(engine: u64, stats: *mut Stats) -> i32 {
    guard(|| {
        if stats.is_null() || !stats.is_aligned() {
            return Err(Fail::invalid("`stats` is NULL"));
        }
        // SAFETY: not NULL and aligned; it begins with its size.
        let size = unsafe { stats.cast::<u32>().read() };
        let known = (size as usize).min(size_of::<Stats>());
        if !(8..=4096).contains(&size) {
            return Err(Fail::invalid("`struct_size` is not the size of rw_stats"));
        }
        let figures = enter(engine, |core| {
            let stats = core.engine().stats();
            let desk = core.desk.borrow();
            Ok(Stats {
                struct_size: size,
                reserved: 0,
                turns: stats.turns,
                messages_in: stats.messages_in,
                messages_out: stats.messages_out,
                connections: stats.connections as u64,
                budget_used: stats.budget_used as u64,
                copies: stats.copies.count,
                leases: desk.leases.len() as u64,
                calls: core.made.len() as u64,
                requests: desk.owed.len() as u64,
            })
        })?;
        let from = (&raw const figures).cast::<u8>();
        // SAFETY: `known` bytes fit both: the caller's struct is `size` bytes long.
        unsafe { core::ptr::copy_nonoverlapping(from, stats.cast::<u8>(), known) };
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_answer_text(
    engine: u64,
    lease: u64,
    to: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> i32 {
    let act = |core: &mut Core| match core.desk.borrow_mut().lease(lease)? {
        Held::Ended(answer) => Ok(answer.status.message.to_string()),
        _ => Ok(String::new()),
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { tells(engine, to, cap, len, act) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_answer_metadata(
    engine: u64,
    lease: u64,
    data: *mut *const c_void,
    len: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { OutBytes::new(data, len) }?;
        enter(engine, |core| {
            match core.desk.borrow_mut().lease(lease)? {
                Held::Ended(answer) => out.set(&answer.metadata),
                _ => out.set(&[]),
            }
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_metadata_add(
    block: *mut c_void,
    cap: usize,
    used: *mut usize,
    name: *const c_char,
    name_len: usize,
    value: *const c_void,
    value_len: usize,
) -> i32 {
    guard(|| {
        if block.is_null() || used.is_null() || !used.is_aligned() {
            return Err(Fail::invalid("`block` or `used` is NULL"));
        }
        // SAFETY: the caller's promise, see the header.
        let name = unsafe { text(name, name_len) }?;
        // SAFETY: the caller's promise, see the header.
        let value = unsafe { bytes(value, value_len) }?;
        // SAFETY: not NULL and aligned; readable by the caller's promise.
        let len = unsafe { used.read() };
        if len > cap {
            return Err(Fail::invalid("`*used` is more than `cap`"));
        }
        // SAFETY: `len` bytes of the block are written, says the caller.
        let written = unsafe { bytes(block, len) }?;
        let written = Metadata::parse(written).map_err(|error| Fail::invalid(error.to_string()))?;
        let mut all = MetadataBuf::from(written);
        let added = all.add(name, value);
        added.map_err(|error| Fail::invalid(error.to_string()))?;
        let all = all.bytes();
        if all.len() > cap {
            let text = "the block has no room for this entry";
            return Err(Fail::new(Rw::E_FULL, text));
        }
        // SAFETY: no more than the `cap` bytes of the caller's block; what is copied is this function's own memory.
        unsafe { core::ptr::copy_nonoverlapping(all.as_ptr(), block.cast::<u8>(), all.len()) };
        // SAFETY: not NULL and aligned; writable by the caller's promise.
        unsafe { used.write(all.len()) };
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_metadata_find(
    block: *const c_void,
    len: usize,
    name: *const c_char,
    name_len: usize,
    value: *mut *const c_void,
    value_len: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { OutBytes::new(value, value_len) }?;
        // SAFETY: the caller's promise, see the header.
        let name = unsafe { text(name, name_len) }?;
        // SAFETY: the caller's promise, see the header.
        let block = unsafe { bytes(block, len) }?;
        let block = Metadata::parse(block).map_err(|error| Fail::invalid(error.to_string()))?;
        let Some(found) = block.named(name) else {
            return Ok(Rw::AGAIN);
        };
        out.set(found);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_method_id(name: *const c_char, len: usize, id: *mut u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(id, "`id` is NULL") }?;
        // SAFETY: the caller's promise, see the header.
        out.set(method_id(unsafe { text(name, len) }?));
        Ok(Rw::OK)
    })
}
