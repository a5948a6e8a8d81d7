//! Sending and receiving messages: claims, copies, leases. The contract of each function stands in `ringway.h`.

use core::ffi::c_void;

use ringway::{Claim, Context, Slice};

use crate::core::Core;
use crate::engine::owned_by_caller;
use crate::entry::{does, does_with_bytes, gives};
use crate::front::Held;
use crate::guard::{Fail, Rw, guard};
use crate::pointers::Out;
use crate::registry::enter_claimed;

/// `rw_buf` of the header.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Buf {
    pub(crate) data: *mut c_void,
    pub(crate) len: usize,
    pub(crate) lease: u64,
}

/// A claim whose borrow is watched by the [`Core`] instead of the compiler.
fn claim(core: &mut Core, connection: u64, len: usize) -> Result<&mut Claim<'static>, Fail> {
    let connection = core.plain(connection)?;
    core.claim(|cx: &mut Context<'_>| {
        let claim = cx.claim(connection, len)?;
        // SAFETY: only the lifetime changes. The core keeps the claim beside the engine that it borrows, refuses
        // everything that would touch that engine meanwhile, and drops the claim first.
        Ok(unsafe { core::mem::transmute::<Claim<'_>, Claim<'static>>(claim) })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_claim(engine: u64, connection: u64, len: usize, buf: *mut Buf) -> i32 {
    let act = |core: &mut Core| {
        owned_by_caller(core)?;
        let data = claim(core, connection, len)?.as_mut_ptr().cast();
        let lease = 0;
        Ok(Buf { data, len, lease })
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { gives(engine, buf, "`buf` is NULL", act) }
}

/// Something with the open claim.
fn with_claim(engine: u64, act: impl FnOnce(Claim<'static>)) -> i32 {
    guard(|| {
        enter_claimed(engine, |core| {
            act(core.take_claim()?);
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_commit(engine: u64, len: usize) -> i32 {
    with_claim(engine, |claim| claim.commit_len(len))
}

/// The lowest kind of the layer above; those below are the transport's own.
const KIND_MIN: u8 = 0x40;

#[unsafe(no_mangle)]
extern "C" fn rw_commit_as(
    engine: u64,
    len: usize,
    kind: u8,
    flags: u8,
    tag: u16,
    word: u64,
) -> i32 {
    if kind < KIND_MIN {
        return guard(|| Err(Fail::invalid("a `kind` below 0x40 is the transport's own")));
    }
    with_claim(engine, |claim| {
        let claim = claim.kind(kind).flags(flags).tag(tag).word(word);
        claim.commit_len(len);
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_abort(engine: u64) -> i32 {
    with_claim(engine, drop)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_send(engine: u64, connection: u64, data: *const c_void, len: usize) -> i32 {
    let act = |core: &mut Core, body: &[u8]| {
        let connection = core.plain(connection)?;
        core.engine().context().send(connection, body)?;
        Ok(Rw::OK)
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { does_with_bytes(engine, data, len, act) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_lease_new(engine: u64, len: usize, buf: *mut Buf) -> i32 {
    let act = |core: &mut Core| {
        let full = || {
            let text = "no memory for so long a message; release leases, or raise `budget_bytes`";
            Fail::new(Rw::E_FULL, text)
        };
        let mut lease = core.engine().context().lease(len).ok_or_else(full)?;
        let data = lease.append(len).ok_or_else(full)?.as_mut_ptr().cast();
        let lease = core.desk.borrow_mut().hold(Held::Room(lease))?;
        Ok(Buf { data, len, lease })
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { gives(engine, buf, "`buf` is NULL", act) }
}

#[unsafe(no_mangle)]
extern "C" fn rw_lease_truncate(engine: u64, lease: u64, len: usize) -> i32 {
    does(engine, |core| {
        let mut desk = core.desk.borrow_mut();
        let Held::Room(room) = desk.lease(lease)? else {
            let text = "this lease can't be written any more";
            return Err(Fail::new(Rw::E_STATE, text));
        };
        room.truncate(len);
        Ok(Rw::OK)
    })
}

/// The bytes of a lease as a slice that can be shared. A written lease is frozen by it; its id stays.
pub(crate) fn share(core: &Core, lease: u64) -> Result<Slice, Fail> {
    let mut desk = core.desk.borrow_mut();
    let place = desk.lease(lease)?;
    if let Held::Room(_) = place
        && let Held::Room(room) = core::mem::replace(place, Held::Nothing)
    {
        *place = Held::Shared(room.freeze());
    }
    match place {
        Held::Shared(slice) | Held::Stream(slice, ..) | Held::Asked(slice, ..) => Ok(slice.clone()),
        Held::Ended(answer) => {
            let none = || Fail::new(Rw::E_STATE, "this lease has no bytes");
            answer.message.clone().ok_or_else(none)
        }
        Held::Room(_) | Held::Nothing => Err(Fail::stale("lease")),
    }
}

#[unsafe(no_mangle)]
extern "C" fn rw_send_lease(engine: u64, connection: u64, lease: u64) -> i32 {
    does(engine, |core| {
        let connection = core.plain(connection)?;
        let slice = share(core, lease)?;
        let sent = core.engine().context().send_slice(connection, slice);
        sent.map_err(|full| Fail::from(full.error))?;
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_lease_data(engine: u64, lease: u64, buf: *mut Buf) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(buf, "`buf` is NULL") }?;
        enter_claimed(engine, |core| {
            let mut desk = core.desk.borrow_mut();
            let (data, len) = match desk.lease(lease)? {
                Held::Room(room) => (room.bytes_mut().as_mut_ptr(), room.len()),
                // Not to be written, as the header says.
                held => (held.bytes().as_ptr().cast_mut(), held.bytes().len()),
            };
            let data = data.cast();
            out.set(Buf { data, len, lease });
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_release(engine: u64, lease: u64) -> i32 {
    guard(|| {
        enter_claimed(engine, |core| {
            release(core, lease)?;
            Ok(Rw::OK)
        })
    })
}

/// Takes a lease out; what it cost of a stream's credit goes back.
pub(crate) fn release(core: &mut Core, lease: u64) -> Result<(), Fail> {
    if let Held::Stream(..) | Held::Asked(..) = core.desk.borrow_mut().lease(lease)? {
        // It gives credit back, which the engine has to be free for.
        core.unclaimed()?;
    }
    let held = core.desk.borrow_mut().let_go(lease);
    match held {
        Some(Held::Stream(slice, key, cost)) => {
            drop(slice);
            let (mut cx, clients) = core.clients();
            clients.grant(&mut cx, key, cost);
        }
        Some(Held::Asked(slice, request, cost)) => {
            drop(slice);
            crate::serve::grant(core, request, cost);
        }
        _ => {}
    }
    Ok(())
}
