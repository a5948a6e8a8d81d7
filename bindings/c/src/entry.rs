//! How exported functions begin and end: places checked, text read, the engine entered, what came of it given.
//!
//! Everything that can be wrong with the arguments is found before the engine is touched, so that nothing is consumed
//! on an error.

use core::ffi::{c_char, c_void};

use crate::core::Core;
use crate::guard::{Fail, Rw, guard};
use crate::pointers::{Out, bytes, copy_text, text};
use crate::registry::enter;

/// A function that gives nothing but its status.
#[inline]
pub(crate) fn does(engine: u64, act: impl FnOnce(&mut Core) -> Result<Rw, Fail>) -> i32 {
    guard(|| enter(engine, act))
}

/// A function that gives one value.
///
/// # Safety
/// As [`Out::new`] asks for.
#[inline]
pub(crate) unsafe fn gives<T>(
    engine: u64,
    to: *mut T,
    what: &'static str,
    act: impl FnOnce(&mut Core) -> Result<T, Fail>,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(to, what) }?;
        out.set(enter(engine, act)?);
        Ok(Rw::OK)
    })
}

/// A function that reads a text (an address, a name) and gives one value.
///
/// # Safety
/// As [`text`] and [`Out::new`] ask for.
pub(crate) unsafe fn gives_for_text<T>(
    engine: u64,
    from: (*const c_char, usize),
    to: *mut T,
    what: &'static str,
    act: impl FnOnce(&mut Core, &str) -> Result<T, Fail>,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(to, what) }?;
        // SAFETY: the caller's promise.
        let text = unsafe { text(from.0, from.1) }?;
        out.set(enter(engine, |core| act(core, text))?);
        Ok(Rw::OK)
    })
}

/// A function that reads bytes and gives nothing but its status.
///
/// # Safety
/// As [`bytes`] asks for.
#[inline]
pub(crate) unsafe fn does_with_bytes(
    engine: u64,
    data: *const c_void,
    len: usize,
    act: impl FnOnce(&mut Core, &[u8]) -> Result<Rw, Fail>,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise.
        let data = unsafe { bytes(data, len) }?;
        enter(engine, |core| act(core, data))
    })
}

/// A function that copies a text into the caller's buffer.
///
/// # Safety
/// As [`copy_text`] asks for.
pub(crate) unsafe fn tells(
    engine: u64,
    to: *mut c_char,
    cap: usize,
    len: *mut usize,
    act: impl FnOnce(&mut Core) -> Result<String, Fail>,
) -> i32 {
    guard(|| {
        let text = enter(engine, act)?;
        // SAFETY: the caller's promise.
        unsafe { copy_text(&text, to, cap, len) }?;
        Ok(Rw::OK)
    })
}
