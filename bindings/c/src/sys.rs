//! The one system call of the binding's own.

use std::io;

/// Pins the calling thread to one core:
/// [sched_setaffinity(2)](https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html).
pub(crate) fn pin(core: u32) -> io::Result<()> {
    let core = core as usize;
    if core >= size_of::<libc::cpu_set_t>() * 8 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: a set of bits; all zeros is the empty one.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: the core was checked to be one of the set's.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is as long as it says; 0 is the calling thread.
    let done = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if done == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
