//! Leases that left their engine: they belong to the process, and outlive it. The contract stands in `ringway.h`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ringway::Slice;
use ringway_buf::{Id, Table};

use crate::core::Core;
use crate::entry::gives;
use crate::front::Held;
use crate::guard::{Fail, Rw, guard};
use crate::ids::{Kind, Salt};
use crate::messages::{Buf, release, share};
use crate::pointers::Out;
use crate::registry::forks;

/// Detached leases of one process.
const DETACHED_MAX: usize = 65_536;

/// All of them, each with the count of forks when it was made: a child has none of its parent's.
static ALL: Mutex<Option<Table<(Slice, u32)>>> = Mutex::new(None);

fn salt() -> Salt {
    Salt::of(0)
}

fn table() -> MutexGuard<'static, Option<Table<(Slice, u32)>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn slot(detached: u64) -> Id {
    Id::from_bits(salt().mix(Kind::Detached, detached))
}

fn view(slice: &Slice, lease: u64) -> Buf {
    Buf {
        // Not to be written, as the header says.
        data: slice.bytes().as_ptr().cast_mut().cast(),
        len: slice.len(),
        lease,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_detach(engine: u64, lease: u64, buf: *mut Buf) -> i32 {
    let act = |core: &mut Core| {
        let slice = share(core, lease)?;
        let mut all = table();
        let all = all.get_or_insert_with(|| Table::new(DETACHED_MAX));
        let full = |_slice| {
            let text = "this process has 65,536 detached leases; release some";
            Fail::new(Rw::E_LIMIT, text)
        };
        let id = all.insert((slice.clone(), forks())).map_err(full)?;
        release(core, lease)?;
        Ok(view(&slice, salt().mix(Kind::Detached, id.to_bits())))
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { gives(engine, buf, "`buf` is NULL", act) }
}

/// Looks a detached lease of this process up.
fn found(detached: u64) -> Result<Slice, Fail> {
    let all = table();
    let entry = all.as_ref().and_then(|all| all.get(slot(detached)));
    match entry {
        Some((slice, made)) if *made == forks() => Ok(slice.clone()),
        Some(_) => {
            let text = "the lease belongs to the parent process";
            Err(Fail::new(Rw::E_FORK, text))
        }
        None => Err(Fail::stale("detached lease")),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_detached_data(detached: u64, buf: *mut Buf) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(buf, "`buf` is NULL") }?;
        out.set(view(&found(detached)?, detached));
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_detached_release(detached: u64) -> i32 {
    guard(|| {
        drop(found(detached)?);
        let freed = table().as_mut().and_then(|all| all.remove(slot(detached)));
        // Two threads released it at once.
        let freed = freed.ok_or_else(|| Fail::stale("detached lease"))?;
        drop(freed);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_attach(engine: u64, detached: u64, buf: *mut Buf) -> i32 {
    let act = |core: &mut Core| {
        let slice = found(detached)?;
        let lease = core.desk.borrow_mut().hold(Held::Shared(slice.clone()))?;
        Ok(view(&slice, lease))
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { gives(engine, buf, "`buf` is NULL", act) }
}
