//! Engines, listeners, connections, polling. The contract of each function stands in `ringway.h`.

use core::ffi::c_char;
use core::time::Duration;

use ringway::{CloseCode, Engine, ListenerId};

use crate::config::EngineConfig;
use crate::core::Core;
use crate::event::Event;
use crate::guard::{Fail, Rw, guard};
use crate::ids::Kind;
use crate::pointers::{Out, copy_text, sized, text};
use crate::registry::{add, enter, remove, wake};

/// Most events that one poll hands out; a larger `cap` is taken for this.
const EVENTS_MAX: u32 = 1 << 20;

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
fn listen(core: &mut Core, address: &str, plain: bool) -> Result<u64, Fail> {
    let (engine, front) = core.parts()?;
    let listener = engine.listen(address)?;
    if let (true, Some(socket)) = (plain, listener.datagram_socket()) {
        front.mark_plain(socket);
    }
    let at = front.all_listeners.len();
    front.all_listeners.push(listener);
    if plain {
        front.listeners.push(listener);
    }
    Ok(core.salt.mix(Kind::Listener, at as u64))
}

fn listener(core: &Core, id: u64) -> Result<ListenerId, Fail> {
    let at = usize::try_from(core.salt.mix(Kind::Listener, id)).ok();
    let listener = at.and_then(|at| core.front.all_listeners.get(at));
    listener.copied().ok_or_else(|| Fail::stale("listener"))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_listen(
    engine: u64,
    address: *const c_char,
    len: usize,
    listener: *mut u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(listener, "`listener` is NULL") }?;
        // SAFETY: the caller's promise, see the header.
        let address = unsafe { text(address, len) }?;
        out.set(enter(engine, |core| listen(core, address, true))?);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_serve(
    engine: u64,
    address: *const c_char,
    len: usize,
    listener: *mut u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(listener, "`listener` is NULL") }?;
        // SAFETY: the caller's promise, see the header.
        let address = unsafe { text(address, len) }?;
        out.set(enter(engine, |core| {
            crate::serve::settle(core)?;
            listen(core, address, false)
        })?);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_unlisten(engine: u64, id: u64) -> i32 {
    guard(|| {
        enter(engine, |core| {
            let listener = listener(core, id)?;
            core.engine()?.unlisten(listener);
            Ok(Rw::OK)
        })
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
    guard(|| {
        enter(engine, |core| {
            let listener = listener(core, id)?;
            let address = core.engine()?.local_address(listener);
            let address = address.ok_or_else(|| Fail::stale("listener"))?.to_string();
            // SAFETY: the caller's promise, see the header.
            unsafe { copy_text(&address, to, cap, len) }?;
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_connect(
    engine: u64,
    address: *const c_char,
    len: usize,
    connection: *mut u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(connection, "`connection` is NULL") }?;
        // SAFETY: the caller's promise, see the header.
        let address = unsafe { text(address, len) }?;
        out.set(enter(engine, |core| {
            let (engine, front) = core.parts()?;
            let connection = engine.connect(address)?;
            front.mark_plain(connection);
            Ok(core.salt.mix(Kind::Connection, connection.to_bits()))
        })?);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_peer_address(
    engine: u64,
    connection: u64,
    to: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> i32 {
    guard(|| {
        enter(engine, |core| {
            let connection = core.connection(connection);
            let address = core.engine()?.peer_address(connection);
            let address = address
                .ok_or_else(|| Fail::stale("connection"))?
                .to_string();
            // SAFETY: the caller's promise, see the header.
            unsafe { copy_text(&address, to, cap, len) }?;
            Ok(Rw::OK)
        })
    })
}

/// Something with a connection for messages that lives.
fn on_connection(
    engine: u64,
    id: u64,
    act: impl FnOnce(&mut Engine, ringway::ConnectionId) -> Result<(), Fail>,
) -> i32 {
    guard(|| {
        enter(engine, |core| {
            let connection = core.connection(id);
            if !core.front.is_plain(connection) {
                return Err(Fail::stale("connection"));
            }
            act(core.engine()?, connection)?;
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_close(engine: u64, connection: u64, code: u16) -> i32 {
    on_connection(engine, connection, |engine, connection| {
        let code = CloseCode::from_wire(code);
        engine.context().close(connection, code);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_drain(engine: u64, connection: u64) -> i32 {
    on_connection(engine, connection, |engine, connection| {
        engine.context().drain(connection);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_pause(engine: u64, connection: u64, pause: i32) -> i32 {
    on_connection(engine, connection, |engine, connection| {
        engine.context().pause(connection, pause != 0);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_hold(engine: u64, connection: u64, hold: i32) -> i32 {
    on_connection(engine, connection, |engine, connection| {
        engine.context().hold(connection, hold != 0);
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_queued_bytes(engine: u64, connection: u64, bytes: *mut u64) -> i32 {
    on_connection(engine, connection, |engine, connection| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(bytes, "`bytes` is NULL") }?;
        let queued = engine.context().queued_bytes(connection);
        out.set(queued.ok_or_else(|| Fail::stale("connection"))? as u64);
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_message_bytes_max(engine: u64, connection: u64, bytes: *mut u64) -> i32 {
    on_connection(engine, connection, |engine, connection| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(bytes, "`bytes` is NULL") }?;
        let max = engine.context().message_bytes_max(connection);
        let closed = || Fail::new(Rw::E_NOT_OPEN, "it is known after RW_EV_OPENED");
        out.set(max.ok_or_else(closed)? as u64);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_engine_drain(engine: u64) -> i32 {
    guard(|| {
        enter(engine, |core| {
            core.engine()?.drain();
            Ok(Rw::OK)
        })
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
        if events.is_null() || !events.is_aligned() || cap == 0 {
            return Err(Fail::invalid(
                "`events` is NULL or not aligned, or `cap` is 0",
            ));
        }
        let cap = cap.min(EVENTS_MAX);
        let filled = enter(engine, |core| {
            poll(core, timeout_ns)?;
            let mut desk = core.desk.borrow_mut();
            let mut filled = 0;
            while filled < cap
                && let Some(event) = desk.events.pop_front()
            {
                // SAFETY: `filled` is below `cap`, and the caller has room for so many.
                let place = unsafe { events.add(filled as usize) };
                // SAFETY: as above; checked to be aligned.
                unsafe { place.write(event) };
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
fn poll(core: &mut Core, timeout_ns: i64) -> Result<(), Fail> {
    if core.engine().is_ok() && !core.desk.borrow().events.is_empty() {
        return Ok(());
    }
    let Ok(timeout_ns) = u64::try_from(timeout_ns) else {
        // Without a limit.
        while core.desk.borrow().events.is_empty() {
            core.turn(None)?;
        }
        return Ok(());
    };
    if timeout_ns == 0 {
        return core.turn(Some(Duration::ZERO));
    }
    let until = core.engine()?.now() + Duration::from_nanos(timeout_ns);
    loop {
        let left = until.saturating_since(core.engine()?.now());
        core.turn(Some(left))?;
        if left.is_zero() || !core.desk.borrow().events.is_empty() {
            return Ok(());
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn rw_wake(engine: u64) -> i32 {
    guard(|| wake(engine).map(|()| Rw::OK))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_now_ns(engine: u64, now: *mut u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(now, "`now` is NULL") }?;
        out.set(enter(engine, |core| Ok(core.engine()?.now().as_nanos()))?);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_timer_set(engine: u64, delay_ns: u64, user: u64, timer: *mut u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(timer, "`timer` is NULL") }?;
        out.set(enter(engine, |core| {
            let full = || Fail::new(Rw::E_LIMIT, "too many timers are set");
            let set = core
                .engine()?
                .context()
                .set_timer(Duration::from_nanos(delay_ns));
            let set = set.ok_or_else(full)?;
            let id = core.desk.borrow_mut().timers.insert((set, user));
            let id = id.map_err(|_entry| full())?;
            Ok(core.salt.mix(Kind::Timer, id.to_bits()))
        })?);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_timer_cancel(engine: u64, timer: u64) -> i32 {
    guard(|| {
        enter(engine, |core| {
            let id = ringway_buf::Id::from_bits(core.salt.mix(Kind::Timer, timer));
            core.engine()?;
            let set = core.desk.borrow_mut().timers.remove(id);
            let (set, _user) = set.ok_or_else(|| Fail::stale("timer"))?;
            core.engine()?.context().cancel_timer(set);
            Ok(Rw::OK)
        })
    })
}
