//! Which engines there are. An engine is a number to foreign code, never a pointer: a stale one is refused.
//!
//! Invariant: the [`Core`] of a slot is used by the thread that made it only, and by one function at a time. `enter`
//! keeps it: it compares thread, generation and process, and no exported function calls foreign code.
//! Tests: `tests/c/bad_input.c`.

use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

use ringway::Handle;

use crate::core::Core;
use crate::guard::{Fail, Rw};
use crate::host::{Host, hop};

/// Engines of one process.
const ENGINES_MAX: usize = 256;

struct Slot {
    /// The engine's number while it lives, else 0.
    id: AtomicU64,
    generation: AtomicU32,
    taken: AtomicBool,
    thread: AtomicU64,
    forks: AtomicU32,
    poisoned: AtomicBool,
    core: AtomicPtr<Core>,
    woken: AtomicBool,
    /// For other threads.
    handle: Mutex<Option<Handle>>,
    /// Its thread, if the library made it.
    host: Mutex<Option<Arc<Host>>>,
}

static SLOTS: [Slot; ENGINES_MAX] = [const {
    Slot {
        id: AtomicU64::new(0),
        generation: AtomicU32::new(0),
        taken: AtomicBool::new(false),
        thread: AtomicU64::new(0),
        forks: AtomicU32::new(0),
        poisoned: AtomicBool::new(false),
        core: AtomicPtr::new(null_mut()),
        woken: AtomicBool::new(false),
        handle: Mutex::new(None),
        host: Mutex::new(None),
    }
}; ENGINES_MAX];

/// How often this process was forked off since the library was loaded: the child counts one more than its parent.
static FORKS: AtomicU32 = AtomicU32::new(0);
static THREADS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// A number that no other thread of this process has or had.
#[inline]
fn thread() -> u64 {
    THREAD.with(|number| {
        if number.get() == 0 {
            number.set(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// How often this process was forked off since the library was loaded.
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

fn watch_forks() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: `forked` does nothing but an atomic addition; the library is linked so that it stays loaded.
        let refused = unsafe { libc::pthread_atfork(None, None, Some(forked)) };
        // Only for lack of memory; a child would then not be refused, which is as good as other libraries are.
        debug_assert_eq!(refused, 0);
    });
}

/// A new engine's place. `make` gets its number.
pub(crate) fn add(
    make: impl FnOnce(u64, &'static AtomicBool) -> Result<Core, Fail>,
) -> Result<u64, Fail> {
    watch_forks();
    // Acquire pairs with the Release in `remove`: the slot's last owner is done with it.
    let free = SLOTS.iter().enumerate().find(|(_, slot)| {
        let taken = slot
            .taken
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok()
    });
    let Some((index, slot)) = free else {
        let text = format!("this process has {ENGINES_MAX} engines already; destroy one");
        return Err(Fail::new(Rw::E_LIMIT, text));
    };
    let generation = slot
        .generation
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_add(1);
    let id = (u64::from(generation) << 32) | (index as u64 + 1);
    slot.woken.store(false, Ordering::Relaxed);
    let mut free = Freed(Some(slot));
    let core = make(id, &slot.woken)?;
    free.0 = None;
    *slot.handle.lock().unwrap_or_else(PoisonError::into_inner) = Some(core.handle());
    slot.thread.store(thread(), Ordering::Relaxed);
    slot.forks
        .store(FORKS.load(Ordering::Relaxed), Ordering::Relaxed);
    slot.poisoned.store(false, Ordering::Relaxed);
    slot.core
        .store(Box::into_raw(Box::new(core)), Ordering::Relaxed);
    // Release pairs with the Acquire in `find`: who sees the number sees the rest.
    slot.id.store(id, Ordering::Release);
    Ok(id)
}

#[inline]
fn find(engine: u64) -> Result<&'static Slot, Fail> {
    let index = (engine & 0xFFFF_FFFF).wrapping_sub(1);
    let slot = usize::try_from(index)
        .ok()
        .and_then(|index| SLOTS.get(index));
    match slot {
        // Acquire pairs with the Release in `add`.
        Some(slot) if engine != 0 && slot.id.load(Ordering::Acquire) == engine => Ok(slot),
        _ => Err(gone()),
    }
}

#[cold]
pub(crate) fn gone() -> Fail {
    Fail::new(Rw::E_STALE, "there is no such engine, or it was destroyed")
}

/// The slot, if it is this process's.
#[inline]
fn of_this_process(engine: u64) -> Result<&'static Slot, Fail> {
    let slot = find(engine)?;
    if slot.forks.load(Ordering::Relaxed) != FORKS.load(Ordering::Relaxed) {
        let text = "the engine belongs to the parent process; make one after the fork";
        return Err(Fail::new(Rw::E_FORK, text));
    }
    Ok(slot)
}

/// The slot, if the calling thread may use it.
#[inline]
fn own(engine: u64) -> Result<&'static Slot, Fail> {
    let slot = of_this_process(engine)?;
    if slot.thread.load(Ordering::Relaxed) != thread() {
        return Err(not_yours());
    }
    Ok(slot)
}

#[cold]
fn not_yours() -> Fail {
    let text =
        "the engine belongs to the thread that made it; only rw_wake may be called from others";
    Fail::new(Rw::E_THREAD, text)
}

/// The engine's thread, if the library made it and this is another one.
pub(crate) fn host_of(engine: u64) -> Result<Option<Arc<Host>>, Fail> {
    let slot = of_this_process(engine)?;
    if slot.thread.load(Ordering::Relaxed) == thread() {
        return Ok(None);
    }
    let host = slot.host.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(host.clone())
}

/// From now on other threads may use an engine of this one: its functions are done here.
pub(crate) fn open_to_others(engine: u64, host: &Arc<Host>) -> Result<(), Fail> {
    let slot = own(engine)?;
    let mut place = slot.host.lock().unwrap_or_else(PoisonError::into_inner);
    *place = Some(Arc::clone(host));
    Ok(())
}

/// Does something with an engine of this thread, unless a claim is open.
#[inline]
pub(crate) fn enter<T>(
    engine: u64,
    act: impl FnOnce(&mut Core) -> Result<T, Fail>,
) -> Result<T, Fail> {
    enter_claimed(engine, |core| {
        core.unclaimed()?;
        act(core)
    })
}

/// Does something with an engine of this thread, whether a claim is open or not.
#[inline]
pub(crate) fn enter_claimed<T>(
    engine: u64,
    act: impl FnOnce(&mut Core) -> Result<T, Fail>,
) -> Result<T, Fail> {
    let slot = of_this_process(engine)?;
    if slot.thread.load(Ordering::Relaxed) != thread() {
        let host = host_of(engine)?.ok_or_else(not_yours)?;
        return hop(&host, || enter_claimed(engine, act));
    }
    if slot.poisoned.load(Ordering::Relaxed) {
        let text = "an earlier call panicked in this engine; destroy it";
        return Err(Fail::new(Rw::E_PANIC, text));
    }
    let core = slot.core.load(Ordering::Relaxed);
    // Set until `act` is through: a panic leaves it standing.
    slot.poisoned.store(true, Ordering::Relaxed);
    // SAFETY: made by `add`, freed by `remove` on this very thread; nobody else has a reference, because `act` never
    // leads back into an exported function.
    let done = act(unsafe { &mut *core });
    slot.poisoned.store(false, Ordering::Relaxed);
    done
}

/// Takes an engine out and drops it.
pub(crate) fn remove(engine: u64) -> Result<(), Fail> {
    let slot = own(engine)?;
    slot.id.store(0, Ordering::Release);
    let handle = slot
        .handle
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    drop(handle);
    let host = slot
        .host
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    drop(host);
    let core = slot.core.swap(null_mut(), Ordering::Relaxed);
    let free = Freed(Some(slot));
    // SAFETY: it came from `Box::into_raw` in `add`; the number is gone, so nobody enters any more.
    drop(unsafe { Box::from_raw(core) });
    drop(free);
    Ok(())
}

/// Frees the slot even if making or dropping the engine panics.
struct Freed(Option<&'static Slot>);

impl Drop for Freed {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.taken.store(false, Ordering::Release);
        }
    }
}

/// Wakes an engine of any thread.
pub(crate) fn wake(engine: u64) -> Result<(), Fail> {
    let slot = of_this_process(engine)?;
    let handle = slot.handle.lock().unwrap_or_else(PoisonError::into_inner);
    match &*handle {
        // The slot may have a new owner by now.
        Some(handle) if slot.id.load(Ordering::Acquire) == engine => {
            // Pairs with the Acquire in `Front::notified`.
            slot.woken.store(true, Ordering::Release);
            handle.notify();
            Ok(())
        }
        _ => Err(gone()),
    }
}

/// Tests that need the whole table, or places in it.
#[cfg(test)]
pub(crate) static TABLE: Mutex<()> = Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EngineConfig;
    use crate::guard::{guard, with_last};

    fn made() -> i32 {
        guard(|| add(|id, woken| Core::start(&EngineConfig::default(), id, woken)).map(|_| Rw::OK))
    }

    // One test, because they share the table.
    #[test]
    fn panics_end_at_the_border_and_the_table_has_its_bound() {
        let _alone = TABLE.lock().unwrap();
        let start =
            |id, woken: &'static AtomicBool| Core::start(&EngineConfig::default(), id, woken);
        let engine = add(start).unwrap();
        let entered = || guard(|| enter(engine, |_core| Ok(Rw::OK)));
        assert_eq!(entered(), Rw::OK as i32);
        let panicked = guard(|| enter(engine, |_core| panic!("on purpose")));
        assert_eq!(panicked, Rw::E_PANIC as i32);
        assert_eq!(entered(), Rw::E_PANIC as i32, "it is not trusted any more");
        assert!(with_last(|text| text.contains("destroy it")).unwrap());
        remove(engine).unwrap();
        assert_eq!(entered(), Rw::E_STALE as i32);

        // Whoever panics before there is an engine keeps no place.
        for _ in 0..=ENGINES_MAX {
            let panicked = guard(|| add(|_id, _woken| panic!("on purpose")).map(|_| Rw::OK));
            assert_eq!(panicked, Rw::E_PANIC as i32);
        }
        assert_eq!(made(), Rw::OK as i32);

        let free = |slot: &&Slot| !slot.taken.swap(true, Ordering::Relaxed);
        let taken: Vec<_> = SLOTS.iter().filter(free).collect();
        assert_eq!(taken.len(), ENGINES_MAX - 1);
        assert_eq!(made(), Rw::E_LIMIT as i32);
        taken[0].taken.store(false, Ordering::Relaxed);
        assert_eq!(made(), Rw::OK as i32);
        for slot in &taken[1..] {
            slot.taken.store(false, Ordering::Relaxed);
        }
    }
}
