//! What `rw_poll` fills in: the layout of `rw_event`, and the kinds.

use core::ffi::c_void;
use core::ptr::null;

/// `rw_event` of the header.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Event {
    pub(crate) kind: u32,
    pub(crate) status: i32,
    pub(crate) id: u64,
    pub(crate) user: u64,
    pub(crate) data: *const c_void,
    pub(crate) len: u64,
    pub(crate) lease: u64,
    pub(crate) method: u32,
    pub(crate) tag: u16,
    pub(crate) flags: u8,
    pub(crate) message_kind: u8,
    pub(crate) word: u64,
}

// SAFETY: its pointer is for the foreign code that gets it; nobody follows it here.
unsafe impl Send for Event {}

impl Event {
    pub(crate) const fn new(kind: u32, id: u64) -> Self {
        Self {
            kind,
            status: 0,
            id,
            user: 0,
            data: null(),
            len: 0,
            lease: 0,
            method: 0,
            tag: 0,
            flags: 0,
            message_kind: 0,
            word: 0,
        }
    }
}

/// RW_EV_*.
pub(crate) mod kind {
    pub(crate) const OPENED: u32 = 1;
    pub(crate) const MESSAGE: u32 = 2;
    pub(crate) const WRITABLE: u32 = 3;
    pub(crate) const DRAINING: u32 = 4;
    pub(crate) const CLOSED: u32 = 5;
    pub(crate) const TIMER: u32 = 6;
    pub(crate) const WOKEN: u32 = 7;
    pub(crate) const REQUEST: u32 = 8;
    pub(crate) const CANCELLED: u32 = 9;
    pub(crate) const STREAM_MESSAGE: u32 = 10;
    pub(crate) const STREAM_WRITABLE: u32 = 11;
    pub(crate) const RESPONSE: u32 = 12;
    /// Flag of a request whose client streams.
    pub(crate) const CLIENT_STREAMS: u8 = 1;
    pub(crate) const REQUEST_MESSAGE: u32 = 13;
    pub(crate) const REQUEST_END: u32 = 14;
    pub(crate) const REQUEST_WRITABLE: u32 = 15;
    pub(crate) const SENT: u32 = 16;
}
