//! Pointers of foreign code: checked for NULL and alignment, trusted for the rest.
//!
//! Invariant of all of these: what is not NULL points to what `ringway.h` says, for the duration of the call. The
//! C caller keeps it. Tests: `tests/c/bad_input.c`, under valgrind too (`.ci/full c_memory`).

use core::ffi::c_void;

use crate::guard::Fail;

/// Bytes of foreign code, for the duration of the call.
///
/// # Safety
/// `len` readable bytes at `data`, which nobody writes meanwhile. NULL is refused, unless `len` is 0.
#[inline]
pub(crate) unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Result<&'a [u8], Fail> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Fail::invalid("`data` is NULL and `len` is not 0"));
    }
    if isize::try_from(len).is_err() {
        return Err(Fail::invalid("`len` is longer than memory can be"));
    }
    // SAFETY: not NULL, no longer than isize::MAX; the C caller keeps the rest.
    Ok(unsafe { core::slice::from_raw_parts(data.cast(), len) })
}

/// UTF-8 text of foreign code.
///
/// # Safety
/// As [`bytes`].
pub(crate) unsafe fn text<'a>(data: *const core::ffi::c_char, len: usize) -> Result<&'a str, Fail> {
    if data.is_null() {
        return Err(Fail::invalid(
            "the text is NULL; an empty one needs a pointer too",
        ));
    }
    // SAFETY: the C caller keeps what `bytes` asks for.
    let bytes = unsafe { bytes(data.cast(), len) }?;
    core::str::from_utf8(bytes).map_err(|_not| Fail::invalid("the text is not UTF-8"))
}

/// Where a value is to be written. Checked before anything is done, so that nothing is consumed on an error.
#[derive(Debug)]
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Refuses NULL and what is not aligned.
    ///
    /// # Safety
    /// Writable room for a `T`, for the duration of the call.
    #[inline]
    pub(crate) unsafe fn new(to: *mut T, what: &'static str) -> Result<Self, Fail> {
        if to.is_null() || !to.is_aligned() {
            return Err(Fail::invalid(what));
        }
        Ok(Self(to))
    }

    /// Writes the value.
    #[inline]
    pub(crate) fn set(self, value: T) {
        // SAFETY: checked in `new`, whose caller promised room for the duration of the call.
        unsafe { self.0.write(value) }
    }
}

/// Where up to so many values are to be written. Checked as [`Out`] is.
#[derive(Debug)]
pub(crate) struct OutArray<T> {
    to: *mut T,
    cap: u32,
}

impl<T> OutArray<T> {
    /// Refuses NULL, what is not aligned, and room for less than `least`.
    ///
    /// # Safety
    /// Writable room for `cap` values, for the duration of the call.
    #[inline]
    pub(crate) unsafe fn new(
        to: *mut T,
        cap: u32,
        least: u32,
        what: &'static str,
    ) -> Result<Self, Fail> {
        if to.is_null() || !to.is_aligned() || cap < least {
            return Err(Fail::invalid(what));
        }
        Ok(Self { to, cap })
    }

    /// Writes the value at a place; panics if there is none.
    #[inline]
    pub(crate) fn set(&mut self, index: u32, value: T) {
        assert!(index < self.cap, "the caller has no room for so many");
        // SAFETY: below `cap`: the caller of `new` promised room for so many.
        let place = unsafe { self.to.add(index as usize) };
        // SAFETY: as above; `new` checked that it is aligned.
        unsafe { place.write(value) }
    }
}

/// Where a pointer and a length are to be written.
#[derive(Debug)]
pub(crate) struct OutBytes(Out<*const c_void>, Out<usize>);

impl OutBytes {
    /// Refuses NULL and what is not aligned.
    ///
    /// # Safety
    /// As [`Out::new`], for both.
    pub(crate) unsafe fn new(data: *mut *const c_void, len: *mut usize) -> Result<Self, Fail> {
        // SAFETY: the caller's promise.
        let data = unsafe { Out::new(data, "the place for the pointer is NULL") }?;
        // SAFETY: the caller's promise.
        let len = unsafe { Out::new(len, "the place for the length is NULL") }?;
        Ok(Self(data, len))
    }

    /// Writes where the bytes are, and how many.
    pub(crate) fn set(self, bytes: &[u8]) {
        self.0.set(bytes.as_ptr().cast());
        self.1.set(bytes.len());
    }
}

/// A struct that begins with its size: as much of it as the caller knows, defaults for the rest.
///
/// Fields that this library does not know have to be 0: what a newer program asks for is refused, not ignored.
///
/// # Safety
/// NULL, or `struct_size` readable bytes that begin with that number.
pub(crate) unsafe fn sized<T: Copy>(from: *const T, defaults: T) -> Result<T, Fail> {
    if from.is_null() {
        return Ok(defaults);
    }
    if !from.is_aligned() {
        return Err(Fail::invalid("the struct is not aligned"));
    }
    // SAFETY: not NULL and aligned; every sized struct begins with this number.
    let size = unsafe { from.cast::<u32>().read() } as usize;
    if !(8..=4096).contains(&size) {
        return Err(Fail::invalid(
            "`struct_size` is not the size of this struct; initialise it with its RW_..._INIT",
        ));
    }
    let mut value = defaults;
    let known = size.min(size_of::<T>());
    // SAFETY: within the `size` bytes that are readable by the C caller's promise.
    let tail = unsafe { from.cast::<u8>().add(known) };
    // SAFETY: as above.
    let tail = unsafe { bytes(tail.cast(), size - known) }?;
    if tail.iter().any(|byte| *byte != 0) {
        return Err(Fail::invalid(
            "the struct has fields that this library does not know; use a newer library, or set them to 0",
        ));
    }
    let to = (&raw mut value).cast::<u8>();
    // SAFETY: `known` bytes are readable by the C caller's promise and fit `value`; T is plain integers and pointers.
    unsafe { core::ptr::copy_nonoverlapping(from.cast::<u8>(), to, known) };
    Ok(value)
}

/// Copies text into the caller's buffer, as much as fits, and tells its whole length.
///
/// # Safety
/// `cap` writable bytes at `to` (NULL only with 0), room for a length at `len`.
pub(crate) unsafe fn copy_text(
    text: &str,
    to: *mut core::ffi::c_char,
    cap: usize,
    len: *mut usize,
) -> Result<(), Fail> {
    if to.is_null() && cap > 0 {
        return Err(Fail::invalid("the buffer is NULL and its size is not 0"));
    }
    // SAFETY: the C caller's promise.
    let len = unsafe { Out::new(len, "the place for the length is NULL") }?;
    let count = text.len().min(cap);
    if count > 0 {
        // SAFETY: `count` bytes are readable in `text` and, by the C caller's promise, writable at `to`.
        unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), to.cast(), count) };
    }
    len.set(text.len());
    Ok(())
}
