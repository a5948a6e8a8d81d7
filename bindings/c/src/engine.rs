//! Engines, listeners, connections, polling. The contract of each function stands in `ringway.h`.

use core::ffi::c_char;
use core::time::Duration;
use std::os::fd::AsRawFd;

use ringway::{CloseCode, Context};
use ringway_buf::Id;

use crate::config::EngineConfig;
use crate::core::Core;
use crate::entry::{does, gives, gives_for_text, tells};
use crate::event::Event;
use crate::front::Listening;
use crate::guard::{Fail, Rw, guard};
use crate::ids::Kind;
use crate::pointers::{Out, OutArray, sized};
use crate::registry::{add, enter, remove, wake};

/// Most events that one poll hands out; a larger `cap` is taken for this.
const EVENTS_MAX: u32 = 1 << 20;
/// Why there is no place for events.
pub(crate) const NO_EVENTS: &str = "`events` is NULL or not aligned, or `cap` is 0";

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_engine_create(config: *const EngineConfig, engine: *mut u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(engine, "`engine` is NULL") }?;
        // SAFETY: the caller's promise, see the header.
        let config = unsafe { sized(config, EngineConfig::default()) }?;
        out.set(add(|id, woken| Core::start(&config, id, woken))?);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_engine_destroy(engine: u64) -> i32 {
    guard(|| remove(engine).map(|()| Rw::OK))
}

/// Opens a listener and remembers it; `plain`: for messages.
pub(crate) fn listen(core: &mut Core, address: &str, plain: bool) -> Result<u64, Fail> {
    let (engine, front) = core.parts();
    let full = || Fail::new(Rw::E_LIMIT, "4,096 listeners were opened within a minute");
    if !front.has_room_for_listener(engine.now()) {
        return Err(full());
    }
    let listener = engine.listen(address)?;
    if !plain && listener.datagram_socket().is_some() {
        engine.unlisten(listener);
        let text = "calls need connections, which udp:// has not; take rudp://";
        return Err(Fail::new(Rw::E_REFUSED, text));
    }
    let id = front.add_listener(listener, plain).ok_or_else(full)?;
    if let (true, Some(socket)) = (plain, listener.datagram_socket()) {
        front.mark_plain(socket);
    }
    Ok(core.salt.mix(Kind::Listener, id.to_bits()))
}

pub(crate) fn listener(core: &mut Core, id: u64) -> Result<&mut Listening, Fail> {
    let id = Id::from_bits(core.salt.mix(Kind::Listener, id));
    let listening = core.front.listener(id);
    listening.ok_or_else(|| Fail::stale("listener"))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_listen(
    engine: u64,
    address: *const c_char,
    len: usize,
    to: *mut u64,
) -> i32 {
    let (from, what) = ((address, len), "`listener` is NULL");
    // SAFETY: the caller's promise, see the header.
    unsafe { gives_for_text(engine, from, to, what, |core, it| listen(core, it, true)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_serve(
    engine: u64,
    address: *const c_char,
    len: usize,
    to: *mut u64,
) -> i32 {
    let (from, what) = ((address, len), "`listener` is NULL");
    let act = |core: &mut Core, address: &str| {
        crate::serve::settle(core)?;
        listen(core, address, false)
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { gives_for_text(engine, from, to, what, act) }
}

#[unsafe(no_mangle)]
extern "C" fn rw_unlisten(engine: u64, id: u64) -> i32 {
    does(engine, |core| {
        let now = core.engine().now();
        let listening = listener(core, id)?;
        listening.closed = Some(now);
        let closed = listening.listener;
        core.engine().unlisten(closed);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_listener_address(
    engine: u64,
    id: u64,
    to: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> i32 {
    let act = |core: &mut Core| {
        let listener = listener(core, id)?.listener;
        let address = core.engine().local_address(listener);
        Ok(address.ok_or_else(|| Fail::stale("listener"))?.to_string())
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { tells(engine, to, cap, len, act) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_connect(
    engine: u64,
    address: *const c_char,
    len: usize,
    to: *mut u64,
) -> i32 {
    let (from, what) = ((address, len), "`connection` is NULL");
    let act = |core: &mut Core, address: &str| {
        let (engine, front) = core.parts();
        let connection = engine.connect(address)?;
        front.mark_plain(connection);
        Ok(core.salt.mix(Kind::Connection, connection.to_bits()))
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { gives_for_text(engine, from, to, what, act) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_peer_address(
    engine: u64,
    connection: u64,
    to: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> i32 {
    let act = |core: &mut Core| {
        let connection = core.plain(connection)?;
        let address = core.engine().peer_address(connection);
        Ok(address
            .ok_or_else(|| Fail::stale("connection"))?
            .to_string())
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { tells(engine, to, cap, len, act) }
}

/// Something with a connection for messages that lives.
fn on_connection(
    engine: u64,
    id: u64,
    act: impl FnOnce(&mut Context<'_>, ringway::ConnectionId),
) -> i32 {
    does(engine, |core| {
        let connection = core.plain(id)?;
        act(&mut core.engine().context(), connection);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_close(engine: u64, connection: u64, code: u16) -> i32 {
    let code = CloseCode::from_wire(code);
    on_connection(engine, connection, |cx, it| cx.close(it, code))
}

#[unsafe(no_mangle)]
extern "C" fn rw_drain(engine: u64, connection: u64) -> i32 {
    on_connection(engine, connection, |cx, it| cx.drain(it))
}

#[unsafe(no_mangle)]
extern "C" fn rw_hold(engine: u64, connection: u64, hold: i32) -> i32 {
    on_connection(engine, connection, |cx, it| cx.hold(it, hold != 0))
}

#[unsafe(no_mangle)]
extern "C" fn rw_pause(engine: u64, connection: u64, pause: i32) -> i32 {
    does(engine, |core| {
        let connection = core.plain(connection)?;
        let (engine, front) = core.parts();
        front.pause(&mut engine.context(), connection, pause != 0);
        Ok(Rw::OK)
    })
}

/// A figure of a connection for messages that lives.
///
/// # Safety
/// As [`Out::new`] asks for.
unsafe fn figure(
    engine: u64,
    connection: u64,
    bytes: *mut u64,
    look: impl FnOnce(&Context<'_>, ringway::ConnectionId) -> Result<usize, Fail>,
) -> i32 {
    let act = |core: &mut Core| {
        let connection = core.plain(connection)?;
        Ok(look(&core.engine().context(), connection)? as u64)
    };
    // SAFETY: the caller's promise.
    unsafe { gives(engine, bytes, "`bytes` is NULL", act) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_queued_bytes(engine: u64, connection: u64, bytes: *mut u64) -> i32 {
    let look = |cx: &Context<'_>, connection| {
        let queued = cx.queued_bytes(connection);
        queued.ok_or_else(|| Fail::stale("connection"))
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { figure(engine, connection, bytes, look) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_message_bytes_max(engine: u64, connection: u64, bytes: *mut u64) -> i32 {
    let look = |cx: &Context<'_>, connection| {
        let max = cx.message_bytes_max(connection);
        max.ok_or_else(|| Fail::new(Rw::E_NOT_OPEN, "it is known after RW_EV_OPENED"))
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { figure(engine, connection, bytes, look) }
}

#[unsafe(no_mangle)]
extern "C" fn rw_engine_drain(engine: u64) -> i32 {
    does(engine, |core| {
        core.engine().drain();
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_poll(
    engine: u64,
    events: *mut Event,
    cap: u32,
    count: *mut u32,
    timeout_ns: i64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(count, "`count` is NULL") }?;
        // SAFETY: the caller's promise, see the header.
        let mut events = unsafe { OutArray::new(events, cap, 1, NO_EVENTS) }?;
        let cap = cap.min(EVENTS_MAX);
        let filled = enter(engine, |core| {
            owned_by_caller(core)?;
            poll(core, timeout_ns);
            let mut desk = core.desk.borrow_mut();
            let (mut filled, mut begun) = (0, false);
            while filled < cap
                && let Some(event) = desk.next_event(&mut begun)
            {
                events.set(filled, event);
                filled += 1;
            }
            Ok(filled)
        })?;
        out.set(filled);
        Ok(if filled == 0 { Rw::AGAIN } else { Rw::OK })
    })
}

/// Turns until there is an event or the time is up.
#[inline]
fn poll(core: &mut Core, timeout_ns: i64) {
    if !core.desk.borrow().events.is_empty() {
        return;
    }
    if timeout_ns == 0 {
        return core.turn(Some(Duration::ZERO));
    }
    let until = core.until(timeout_ns);
    while core.turn_until(until) && core.desk.borrow().events.is_empty() {}
}

/// Refuses an engine that the library's own thread turns.
pub(crate) fn owned_by_caller(core: &Core) -> Result<(), Fail> {
    if core.desk.borrow().graves.is_none() {
        return Ok(());
    }
    let text = "this engine has a thread of its own: no claims, no polls; see rw_threads_next";
    Err(Fail::new(Rw::E_STATE, text))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_event_fd(engine: u64, fd: *mut i32) -> i32 {
    let act = |core: &mut Core| {
        owned_by_caller(core)?;
        let fd = core.engine().event_fd();
        let fd = fd.map_err(|error| Fail::new(Rw::E_SYSTEM, error.to_string()))?;
        Ok(fd.as_raw_fd())
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { gives(engine, fd, "`fd` is NULL", act) }
}

#[unsafe(no_mangle)]
extern "C" fn rw_event_arm(engine: u64) -> i32 {
    does(engine, |core| {
        owned_by_caller(core)?;
        Ok(if core.arm()? { Rw::OK } else { Rw::AGAIN })
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_wake(engine: u64) -> i32 {
    guard(|| wake(engine).map(|()| Rw::OK))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_now_ns(engine: u64, now: *mut u64) -> i32 {
    let act = |core: &mut Core| Ok(core.engine().now().as_nanos());
    // SAFETY: the caller's promise, see the header.
    unsafe { gives(engine, now, "`now` is NULL", act) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_timer_set(engine: u64, delay_ns: u64, user: u64, timer: *mut u64) -> i32 {
    let act = |core: &mut Core| {
        let full = || Fail::new(Rw::E_LIMIT, "too many timers are set");
        let delay = Duration::from_nanos(delay_ns);
        let set = core.engine().context().set_timer(delay);
        let set = set.ok_or_else(full)?;
        let timers = &mut core.desk.borrow_mut().timers;
        timers.insert(set, user).ok_or_else(full)
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { gives(engine, timer, "`timer` is NULL", act) }
}

#[unsafe(no_mangle)]
extern "C" fn rw_timer_cancel(engine: u64, timer: u64) -> i32 {
    does(engine, |core| {
        let mut desk = core.desk.borrow_mut();
        let set = desk.timers.key(timer);
        let set = set.ok_or_else(|| Fail::stale("timer"))?;
        desk.timers.remove(set);
        drop(desk);
        core.engine().context().cancel_timer(set);
        Ok(Rw::OK)
    })
}
