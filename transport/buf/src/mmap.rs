//! Anonymous memory from the kernel, and its protection in guard mode. The only system calls of this crate
//! but for the clock. Tested by `pool/tests.rs` (faults in guard mode, discarded pages).

use core::num::NonZeroUsize;
use core::ptr::NonNull;
use std::ffi::c_void;
use std::io;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use nix::unistd::{SysconfVar, sysconf};

/// Bytes of a page: 4 KiB on x86-64; 4, 16 or 64 KiB on arm64, as its kernel was built.
///
/// Asked and not assumed: `madvise` rounds a length up to whole pages, which would wipe the neighbour's slot.
pub(crate) fn page_bytes() -> usize {
    let answer = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    answer
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or(64 * 1024)
}

/// A private anonymous mapping, zero-filled, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: NonZeroUsize,
}

// SAFETY: a mapping is plain memory that belongs to this value; nothing in it is tied to a thread.
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` gives out the base address only; access to the bytes is arbitrated by `Slot`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps at least `bytes`, rounded up to whole pages.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let rounded = bytes
            .max(1)
            .checked_next_multiple_of(page_bytes())
            .and_then(NonZeroUsize::new);
        let Some(bytes) = rounded else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { mmap_anonymous(None, bytes, protection, flags) }?;
        Ok(Self {
            base: base.cast(),
            bytes,
        })
    }

    /// Address of byte `offset`.
    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.bytes.get(), "offset inside the mapping");
        // SAFETY: just checked that the address lies inside this mapping.
        unsafe { self.base.add(offset) }
    }

    /// Forbids or allows every access to whole pages `[offset, offset + bytes)`.
    ///
    /// In guard mode a free slot is forbidden, so that a kernel operation still in flight completes with
    /// `EFAULT` instead of writing into memory that somebody else owns by now.
    pub(crate) fn protect(&self, offset: usize, bytes: usize, allow: bool) -> io::Result<()> {
        let protection = if allow {
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE
        } else {
            ProtFlags::PROT_NONE
        };
        let start = self.range(offset, bytes);
        // SAFETY: `range` checked that all of it lies inside this mapping; `pool::Shared` calls this only for
        // a slot that has no owner, so no reference into it exists.
        unsafe { mprotect(start, bytes, protection) }?;
        Ok(())
    }

    /// Gives the physical pages of `[offset, offset + bytes)` back; they read as zero afterwards.
    pub(crate) fn discard(&self, offset: usize, bytes: usize) -> io::Result<()> {
        let start = self.range(offset, bytes);
        // SAFETY: as in `protect`: the range is ours and the slot in it has no owner.
        unsafe { madvise(start, bytes, MmapAdvise::MADV_DONTNEED) }?;
        Ok(())
    }

    fn range(&self, offset: usize, bytes: usize) -> NonNull<c_void> {
        assert!(
            bytes <= self.bytes.get() - offset,
            "range inside the mapping"
        );
        self.at(offset).cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of a mapping that this value owns; `pool::Shared`, its only
        // owner, is dropped after the last slot.
        let unmapped = unsafe { munmap(self.base.cast::<c_void>(), self.bytes.get()) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping");
    }
}
