//! Sending and receiving messages: claims, copies, leases. The contract of each function stands in `ringway.h`.

use core::ffi::c_void;

use ringway::{Claim, Context};

use crate::core::Core;
use crate::front::Held;
use crate::guard::{Fail, Rw, guard};
use crate::pointers::{Out, bytes};
use crate::registry::enter;

/// `rw_buf` of the header.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Buf {
    data: *mut c_void,
    len: usize,
    lease: u64,
}

/// A claim whose borrow is watched by the [`Core`] instead of the compiler.
fn claim(core: &mut Core, connection: u64, len: usize) -> Result<&mut Claim<'static>, Fail> {
    let connection = core.connection(connection);
    if !core.front.is_plain(connection) {
        core.engine()?;
        return Err(Fail::stale("connection"));
    }
    core.claim(|cx: &mut Context<'_>| {
        let claim = cx.claim(connection, len)?;
        // SAFETY: only the lifetime changes. The core keeps the claim beside the engine that it borrows, refuses
        // everything that would touch that engine meanwhile, and drops the claim first.
        Ok(unsafe { core::mem::transmute::<Claim<'_>, Claim<'static>>(claim) })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_claim(engine: u64, connection: u64, len: usize, buf: *mut Buf) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(buf, "`buf` is NULL") }?;
        enter(engine, |core| {
            let room = claim(core, connection, len)?;
            out.set(Buf {
                data: room.as_mut_ptr().cast(),
                len,
                lease: 0,
            });
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_commit(engine: u64, len: usize) -> i32 {
    guard(|| {
        enter(engine, |core| {
            core.take_claim()?.commit_len(len);
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_commit_as(
    engine: u64,
    len: usize,
    kind: u8,
    flags: u8,
    tag: u16,
    word: u64,
) -> i32 {
    guard(|| {
        enter(engine, |core| {
            let claim = core.take_claim()?;
            claim
                .kind(kind)
                .flags(flags)
                .tag(tag)
                .word(word)
                .commit_len(len);
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_abort(engine: u64) -> i32 {
    guard(|| {
        enter(engine, |core| {
            drop(core.take_claim()?);
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_send(engine: u64, connection: u64, data: *const c_void, len: usize) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let body = unsafe { bytes(data, len) }?;
        enter(engine, |core| {
            let connection = core.connection(connection);
            if !core.front.is_plain(connection) {
                return Err(Fail::stale("connection"));
            }
            core.engine()?.context().send(connection, body)?;
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_lease_new(engine: u64, len: usize, buf: *mut Buf) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(buf, "`buf` is NULL") }?;
        enter(engine, |core| {
            let full = || {
                Fail::new(
                    Rw::E_FULL,
                    "no memory for so long a message; release leases, or raise `budget_bytes`",
                )
            };
            let mut lease = core.engine()?.context().lease(len).ok_or_else(full)?;
            let data = lease.append(len).ok_or_else(full)?.as_mut_ptr().cast();
            let lease = core.desk.borrow_mut().hold(Held::Room(lease))?;
            out.set(Buf { data, len, lease });
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_lease_truncate(engine: u64, lease: u64, len: usize) -> i32 {
    guard(|| {
        enter(engine, |core| {
            let mut desk = core.desk.borrow_mut();
            let id = desk.lease_id(lease);
            match desk.leases.get_mut(id) {
                Some(Held::Room(room)) => {
                    room.truncate(len);
                    Ok(Rw::OK)
                }
                Some(_) => Err(Fail::new(
                    Rw::E_STATE,
                    "this lease can't be written any more",
                )),
                None => Err(Fail::stale("lease")),
            }
        })
    })
}

/// The bytes of a lease as a slice that can be shared. A written lease is frozen by it; its id stays.
pub(crate) fn share(core: &Core, lease: u64) -> Result<ringway::Slice, Fail> {
    let mut desk = core.desk.borrow_mut();
    let id = desk.lease_id(lease);
    let place = desk
        .leases
        .get_mut(id)
        .ok_or_else(|| Fail::stale("lease"))?;
    if let Held::Room(_) = place
        && let Held::Room(room) = core::mem::replace(place, Held::Nothing)
    {
        *place = Held::Shared(room.freeze());
    }
    match place {
        Held::Shared(slice) | Held::Stream(slice, ..) => Ok(slice.clone()),
        Held::Ended(answer) => {
            let none = || Fail::new(Rw::E_STATE, "this lease has no bytes");
            answer.message.clone().ok_or_else(none)
        }
        Held::Room(_) | Held::Nothing => Err(Fail::stale("lease")),
    }
}

#[unsafe(no_mangle)]
extern "C" fn rw_send_lease(engine: u64, connection: u64, lease: u64) -> i32 {
    guard(|| {
        enter(engine, |core| {
            let connection = core.connection(connection);
            if !core.front.is_plain(connection) {
                return Err(Fail::stale("connection"));
            }
            core.engine()?;
            let slice = share(core, lease)?;
            let sent = core.engine()?.context().send_slice(connection, slice);
            sent.map_err(|full| Fail::from(full.error))?;
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_lease_data(engine: u64, lease: u64, buf: *mut Buf) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(buf, "`buf` is NULL") }?;
        enter(engine, |core| {
            let mut desk = core.desk.borrow_mut();
            let id = desk.lease_id(lease);
            let held = desk
                .leases
                .get_mut(id)
                .ok_or_else(|| Fail::stale("lease"))?;
            let (data, len) = match held {
                Held::Room(room) => (room.bytes_mut().as_mut_ptr(), room.len()),
                // Not to be written, as the header says.
                held => (held.bytes().as_ptr().cast_mut(), held.bytes().len()),
            };
            out.set(Buf {
                data: data.cast(),
                len,
                lease,
            });
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_release(engine: u64, lease: u64) -> i32 {
    guard(|| {
        enter(engine, |core| {
            let mut desk = core.desk.borrow_mut();
            let id = desk.lease_id(lease);
            if matches!(desk.leases.get(id), Some(Held::Stream(..))) {
                // It gives credit back, which the engine has to be free for.
                drop(desk);
                core.engine()?;
                desk = core.desk.borrow_mut();
            }
            let held = desk.leases.remove(id).ok_or_else(|| Fail::stale("lease"))?;
            drop(desk);
            if let Held::Stream(slice, key, cost) = held {
                drop(slice);
                let (engine, front) = core.parts()?;
                front.node.clients().grant(&mut engine.context(), key, cost);
            }
            Ok(Rw::OK)
        })
    })
}
