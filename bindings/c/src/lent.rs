//! Memory of foreign code that is sent where it lies, until nobody needs it any more.
//!
//! Invariant: `Slice::lent` is told of memory that the C caller left alone until RW_EV_SENT, or until the engine was
//! destroyed; an engine's slices are gone by then. Tests: `tests/c/messages.c`, under valgrind too (`.ci/full c_memory`).

use core::ffi::c_void;
use core::ptr::NonNull;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ringway::Slice;
use ringway_buf::{Id, Owner, Table};

use crate::core::Core;
use crate::entry::does_with_bytes;
use crate::event::{Event, kind};
use crate::guard::{Fail, Rw};

/// Pieces of memory that one engine may be sending.
const LENT_MAX: usize = 65_536;
/// Shorter messages are copied: that costs less than a chain.
const COPY_BELOW_BYTES: usize = 4096;

/// What came back, from whatever thread.
#[derive(Debug, Default)]
struct Returned {
    any: AtomicBool,
    tokens: Mutex<Vec<u64>>,
}

impl Owner for Returned {
    fn free(&self, token: u64) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.push(token);
        // Release pairs with the Acquire in `gather`: who reads it finds the token.
        self.any.store(true, Ordering::Release);
    }
}

/// Memory of one engine's caller that is out.
#[derive(Debug)]
pub(crate) struct Lent {
    /// The event that each will make.
    out: Table<Event>,
    returned: Arc<Returned>,
}

impl Lent {
    pub(crate) fn new() -> Self {
        Self {
            out: Table::new(LENT_MAX),
            returned: Arc::default(),
        }
    }

    /// Makes events of what came back.
    #[inline]
    pub(crate) fn gather(&mut self, events: &mut VecDeque<Event>) {
        // Acquire pairs with the Release in `free`.
        if !self.out.is_empty() && self.returned.any.swap(false, Ordering::Acquire) {
            let tokens = &self.returned.tokens;
            let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
            let back = tokens.drain(..);
            // What could not be sent was taken out before.
            events.extend(back.filter_map(|token| self.out.remove(Id::from_bits(token))));
        }
    }
}

fn send(core: &mut Core, connection: u64, body: &[u8], user: u64) -> Result<Rw, Fail> {
    let mut event = Event::new(kind::SENT, connection);
    event.user = user;
    let to = core.plain(connection)?;
    if body.len() < COPY_BELOW_BYTES {
        core.engine().context().send(to, body)?;
        core.desk.borrow_mut().events.push_back(event);
        return Ok(Rw::OK);
    }
    let len = u32::try_from(body.len());
    let len = len.map_err(|_long| Fail::new(Rw::E_TOO_LONG, "a message has less than 4 GiB"))?;
    let full = |_event| Fail::new(Rw::E_LIMIT, "65,536 messages are being sent by reference");
    let token = core.lent.out.insert(event).map_err(full)?;
    let owner = Arc::clone(&core.lent.returned) as Arc<dyn Owner>;
    let data = NonNull::from(body).cast();
    // SAFETY: `len` bytes; the C caller leaves them alone until RW_EV_SENT, which `Returned` makes.
    let slice = unsafe { Slice::lent(data, len, owner, token.to_bits()) };
    if let Err(full) = core.engine().context().send_slice(to, slice) {
        core.lent.out.remove(token);
        return Err(full.error.into());
    }
    Ok(Rw::OK)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_send_ref(
    engine: u64,
    connection: u64,
    data: *const c_void,
    len: usize,
    user: u64,
) -> i32 {
    let act = |core: &mut Core, body: &[u8]| send(core, connection, body, user);
    // SAFETY: the caller's promise, see the header.
    unsafe { does_with_bytes(engine, data, len, act) }
}
