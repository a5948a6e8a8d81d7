//! System calls of the ring that the io-uring crate does not offer the way we need them.
//!
//! The lowest file of `uring/`; `ring.rs` is its only caller and counts every call that it makes per turn.
//! The crate's own submitter forgets a registered ring descriptor and can't combine `NO_IOWAIT` with an
//! absolute deadline, so entering is done by hand; set-up stays with the crate.
//! Tested by everything in `transport/driver/tests/uring_*.rs`.

use core::ptr::NonNull;
use std::io;

/// `IORING_REGISTER_RING_FDS`: the ring's descriptor gets an index that saves `enter` its lookup.
const REGISTER_RING_FDS: libc::c_uint = 20;

/// `struct __kernel_timespec`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Timespec {
    pub(super) seconds: i64,
    pub(super) nanos: i64,
}

/// `struct io_uring_getevents_arg`: what `enter` takes with `IORING_ENTER_EXT_ARG`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct WaitArgument {
    signal_mask: u64,
    signal_mask_bytes: u32,
    min_wait_micros: u32,
    time_limit: u64,
}

/// `struct io_uring_rsrc_update` as `IORING_REGISTER_RING_FDS` reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct RingFd {
    offset: u32,
    reserved: u32,
    fd: u64,
}

const _: () = assert!(size_of::<WaitArgument>() == 24);
const _: () = assert!(size_of::<RingFd>() == 16);

fn checked(result: libc::c_long) -> io::Result<u32> {
    u32::try_from(result).map_err(|_negative| io::Error::last_os_error())
}

/// Submits `submit` entries and waits for `wait` completions, at most until `limit`:
/// [io_uring_enter(2)](https://man7.org/linux/man-pages/man2/io_uring_enter.2.html).
///
/// `flags` holds `EXT_ARG` exactly when there is a limit. Memory that submitted entries point to is answered
/// for where they were pushed (`Ring::push`).
pub(super) fn enter(
    fd: i32,
    submit: u32,
    wait: u32,
    flags: u32,
    limit: Option<&Timespec>,
) -> io::Result<u32> {
    let argument = limit.map(|limit| WaitArgument {
        signal_mask: 0,
        signal_mask_bytes: 0,
        min_wait_micros: 0,
        time_limit: core::ptr::from_ref(limit).addr() as u64,
    });
    let (pointer, bytes) = match &argument {
        Some(argument) => (core::ptr::from_ref(argument), size_of::<WaitArgument>()),
        None => (core::ptr::null(), 0),
    };
    let number = libc::SYS_io_uring_enter;
    // SAFETY: argument and time limit are locals that outlive the call; whoever pushed an entry keeps what
    // it points to until its last completion.
    checked(unsafe { libc::syscall(number, fd, submit, wait, flags, pointer, bytes) })
}

/// Registers the ring's own descriptor for the calling thread; returns the index to enter by.
pub(super) fn register_ring_fd(fd: i32) -> io::Result<i32> {
    let fd_bits = u64::try_from(fd).map_err(|_negative| io::ErrorKind::InvalidInput)?;
    let mut entry = RingFd {
        offset: u32::MAX,
        reserved: 0,
        fd: fd_bits,
    };
    let pointer = &raw mut entry;
    let number = libc::SYS_io_uring_register;
    // SAFETY: the kernel reads and writes one entry, a local that outlives the call.
    checked(unsafe { libc::syscall(number, fd, REGISTER_RING_FDS, pointer, 1) })?;
    i32::try_from(entry.offset).map_err(|_out_of_range| io::ErrorKind::InvalidData.into())
}

/// Page-aligned zeroed memory that a forked child does not inherit; unmapped on drop.
#[derive(Debug)]
pub(super) struct Pages {
    base: NonNull<u8>,
    bytes: usize,
}

impl Pages {
    /// Maps `bytes` (rounded up to pages by the kernel).
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { libc::mmap(core::ptr::null_mut(), bytes, access, kind, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(base) = NonNull::new(base.cast::<u8>()) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let pages = Self { base, bytes };
        // A child that wrote here would confuse the kernel's view of the parent's ring.
        // SAFETY: advice about the mapping that was just made.
        let advised = unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_DONTFORK) };
        if advised != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pages)
    }

    /// Address of the first byte.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Size in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping this value owns; `bufring.rs` drops it only when
        // the kernel has let go of it, and leaks it otherwise.
        let unmapped = unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert_eq!(unmapped, 0, "munmap of our own mapping");
    }
}
