//! Calling: channels, methods, calls, streams. The contract of each function stands in `ringway.h`.

use core::ffi::{c_char, c_void};
use core::time::Duration;
use std::sync::Arc;

use ringway::Instant;
use ringway::rpc::{CallOptions, Code, Kind as Shape, Metadata, Method, Status, Target};
use ringway_buf::Id;

use crate::core::Core;
use crate::entry::{does, does_with_bytes, gives_for_text};
use crate::event::{Event, kind};
use crate::front::EVENTS_MAX;
use crate::guard::{Fail, Rw, guard};
use crate::host::Waiter;
use crate::ids::Kind;
use crate::messages::share;
use crate::pointers::{Out, bytes, sized};
use crate::registry::{enter, gone, host_of};

/// `rw_call_options` of the header. New fields go to the end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Options {
    pub(crate) struct_size: u32,
    pub(crate) flags: u32,
    pub(crate) timeout_ns: i64,
    pub(crate) metadata: *const c_void,
    pub(crate) metadata_len: usize,
    /// A lease with the request, instead of bytes; 0: none.
    pub(crate) lease: u64,
    pub(crate) priority: u32,
    pub(crate) reserved: u32,
}

const DEFAULTS: Options = Options {
    struct_size: 0,
    flags: 0,
    timeout_ns: 0,
    metadata: core::ptr::null(),
    metadata_len: 0,
    lease: 0,
    priority: 4,
    reserved: 0,
};

/// RW_CALL_*.
const IDEMPOTENT: u32 = 1;
const COMPRESS: u32 = 2;
const STREAM: u32 = 4;
const FLAGS: u32 = IDEMPOTENT | COMPRESS | STREAM;

impl Options {
    /// Checked, and as the calls take them.
    ///
    /// # Safety
    /// The caller's promise about `metadata`.
    unsafe fn checked<'a>(&self) -> Result<CallOptions<'a>, Fail> {
        if self.flags & !FLAGS != 0 {
            return Err(Fail::invalid("`flags` has bits that are none of RW_CALL_*"));
        }
        // SAFETY: the caller's promise.
        let metadata = unsafe { bytes(self.metadata, self.metadata_len) }?;
        if Metadata::parse(metadata).is_err() {
            return Err(Fail::invalid(
                "`metadata` is malformed; write it with rw_metadata_add",
            ));
        }
        let priority = u8::try_from(self.priority).ok().filter(|it| *it < 8);
        let timeout = u64::try_from(self.timeout_ns);
        let timeout = timeout.map_err(|_negative| Fail::invalid("`timeout_ns` is negative"))?;
        Ok(CallOptions {
            timeout: (timeout > 0).then(|| Duration::from_nanos(timeout)),
            metadata,
            priority: priority.ok_or_else(|| Fail::invalid("`priority` is above 7"))?,
            idempotent: self.flags & IDEMPOTENT != 0,
            compress: self.flags & COMPRESS != 0,
            ..CallOptions::default()
        })
    }
}

/// A message of foreign code, written straight into the connection's batch.
struct Raw<'a>(&'a [u8]);

impl ringway::rpc::Body for Raw<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn write(self, out: &mut [u8]) {
        out.copy_from_slice(self.0);
    }
}

fn channel_id(core: &Core, channel: u64) -> Id {
    Id::from_bits(core.salt.mix(Kind::Channel, channel))
}

fn target(core: &Core, channel: u64) -> Result<Target, Fail> {
    let target = core.channels.get(channel_id(core, channel));
    target.copied().ok_or_else(|| Fail::stale("channel"))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_channel_open(
    engine: u64,
    address: *const c_char,
    len: usize,
    channel: *mut u64,
) -> i32 {
    let (from, what) = ((address, len), "`channel` is NULL");
    let act = |core: &mut Core, address: &str| {
        crate::serve::settle(core)?;
        // Resolved here, which may block; kept as what it resolved to.
        let resolved = ringway::Address::resolve(address)
            .map_err(|error| Fail::new(Rw::E_ADDRESS, error.to_string()))?;
        let full = || Fail::new(Rw::E_LIMIT, "this engine has 1,024 channels already");
        if core.channels.is_full() {
            return Err(full());
        }
        let (mut cx, clients) = core.clients();
        let target = clients.connect(&mut cx, &resolved.to_string())?;
        let id = core.channels.insert(target).map_err(|_full| full())?;
        Ok(core.salt.mix(Kind::Channel, id.to_bits()))
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { gives_for_text(engine, from, channel, what, act) }
}

#[unsafe(no_mangle)]
extern "C" fn rw_channel_close(engine: u64, channel: u64) -> i32 {
    does(engine, |core| {
        let target = target(core, channel)?;
        let (mut cx, clients) = core.clients();
        clients.disconnect(&mut cx, target);
        let id = channel_id(core, channel);
        core.channels.remove(id);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_channel_ready(engine: u64, channel: u64, timeout_ns: i64) -> i32 {
    guard(|| {
        if host_of(engine)?.is_some() {
            let timeout = u64::try_from(timeout_ns).ok().map(Duration::from_nanos);
            let until = timeout.map(|timeout| std::time::Instant::now() + timeout);
            let ready = ready_elsewhere(engine, channel, until)?;
            return Ok(if ready { Rw::OK } else { Rw::AGAIN });
        }
        enter(engine, |core| {
            let target = target(core, channel)?;
            let until = core.until(timeout_ns);
            let ready = wait_until_ready(core, target, until)?;
            Ok(if ready { Rw::OK } else { Rw::AGAIN })
        })
    })
}

/// Waits until calls can go to a server, while the engine's own thread turns it; false when the time is up before.
fn ready_elsewhere(
    engine: u64,
    channel: u64,
    until: Option<std::time::Instant>,
) -> Result<bool, Fail> {
    loop {
        let waiter = Arc::new(Waiter::default());
        let ready = enter(engine, |core| {
            let target = target(core, channel)?;
            let clients = core.front.node.clients();
            if clients.is_ready(target) {
                return Ok(true);
            }
            if let Some(trouble) = clients.trouble(target) {
                return Err(trouble.into());
            }
            let who = Arc::downgrade(&waiter);
            core.waiting.servers.push((target, who));
            Ok(false)
        })?;
        if ready {
            return Ok(true);
        }
        match waiter.wait(until) {
            Some(Some(_)) => {}
            Some(None) => return Err(gone()),
            None => return Ok(false),
        }
    }
}

/// Makes a call and waits for its end, while the engine's own thread turns it.
fn call_elsewhere(engine: u64, mut wanted: Wanted<'_>) -> Result<Event, Fail> {
    let now = std::time::Instant::now;
    let until = wanted.options.timeout.map(|timeout| now() + timeout);
    if !ready_elsewhere(engine, wanted.channel, until)? {
        return Err(no_connection());
    }
    wanted.options.timeout = until.map(|until| until.saturating_duration_since(now()));
    let waiter = Arc::new(Waiter::default());
    enter(engine, |core| {
        let call = start(core, &wanted)?;
        let who = Arc::clone(&waiter);
        core.waiting.calls.insert(call, who);
        Ok(())
    })?;
    match waiter.wait(None) {
        Some(Some(Some(event))) => Ok(event),
        _ => Err(gone()),
    }
}

#[cold]
fn no_connection() -> Fail {
    let text = "there was no connection before the call's timeout";
    Fail::new(Rw::E_UNAVAILABLE, text)
}

/// Turns until calls can go to a server; false when the time is up before.
fn wait_until_ready(core: &mut Core, target: Target, until: Option<Instant>) -> Result<bool, Fail> {
    if core.desk.borrow().events.len() >= EVENTS_MAX {
        let text = "65,536 events wait already; take them by rw_poll";
        return Err(Fail::new(Rw::E_FULL, text));
    }
    loop {
        let clients = core.front.node.clients();
        if clients.is_ready(target) {
            return Ok(true);
        }
        if let Some(trouble) = clients.trouble(target) {
            return Err(trouble.into());
        }
        if !core.turn_until(until) {
            return Ok(false);
        }
    }
}

/// A method's shape by its number.
pub(crate) fn shape(number: u32) -> Result<Shape, Fail> {
    match number {
        0 => Ok(Shape::Unary),
        1 => Ok(Shape::ClientStream),
        2 => Ok(Shape::ServerStream),
        3 => Ok(Shape::Bidi),
        _ => Err(Fail::invalid("the method's kind is none of RW_KIND_*")),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_method_bind(
    engine: u64,
    channel: u64,
    name: *const c_char,
    len: usize,
    kind: u32,
    codec: u8,
    schema: u32,
    method: *mut u32,
) -> i32 {
    let act = |core: &mut Core, name: &str| {
        let method = Method::found(name, shape(kind)?, codec, schema);
        let target = target(core, channel)?;
        let (mut cx, clients) = core.clients();
        Ok(clients.bind(&mut cx, target, &[method])?)
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { gives_for_text(engine, (name, len), method, "`method` is NULL", act) }
}

/// What a call is made with.
struct Wanted<'a> {
    channel: u64,
    method: u32,
    options: CallOptions<'a>,
    flags: u32,
    /// The request, or its lease.
    body: Request<'a>,
    user: u64,
}

enum Request<'a> {
    Bytes(&'a [u8]),
    Lease(u64),
}

#[inline]
fn start(core: &mut Core, wanted: &Wanted<'_>) -> Result<u64, Fail> {
    let target = target(core, wanted.channel)?;
    let full = || Fail::new(Rw::E_LIMIT, "too many calls are under way");
    if core.made.is_full() {
        return Err(full());
    }
    let end = wanted.flags & STREAM == 0;
    // The engine's own reading is as old as its last turn.
    let now = match wanted.options.timeout {
        Some(_) => core.engine().now(),
        None => Instant::ZERO,
    };
    let (options, method) = (&wanted.options, wanted.method);
    let key = match wanted.body {
        Request::Bytes(bytes) => {
            let body = (end || !bytes.is_empty()).then_some(Raw(bytes));
            let (mut cx, clients) = core.clients();
            clients.start(&mut cx, target, method, options, (body, end), now)?
        }
        Request::Lease(lease) => {
            let body = Some(share(core, lease)?);
            let (mut cx, clients) = core.clients();
            clients.start(&mut cx, target, method, options, (body, end), now)?
        }
    };
    core.made.insert(key, wanted.user).ok_or_else(full)
}

/// Reads what every function that calls is given.
///
/// # Safety
/// The caller's promises about `options` and `data`.
unsafe fn wanted<'a>(
    channel: u64,
    method: u32,
    options: *const Options,
    data: *const c_void,
    len: usize,
    user: u64,
) -> Result<Wanted<'a>, Fail> {
    // SAFETY: the caller's promise.
    let options = unsafe { sized(options, DEFAULTS) }?;
    let flags = options.flags;
    let body = if options.lease != 0 {
        if len != 0 {
            return Err(Fail::invalid("give a lease or bytes, not both"));
        }
        Request::Lease(options.lease)
    } else {
        // SAFETY: the caller's promise.
        Request::Bytes(unsafe { bytes(data, len) }?)
    };
    // SAFETY: the caller's promise.
    let options = unsafe { options.checked() }?;
    Ok(Wanted {
        channel,
        method,
        options,
        flags,
        body,
        user,
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_call(
    engine: u64,
    channel: u64,
    method: u32,
    options: *const Options,
    data: *const c_void,
    len: usize,
    user: u64,
    call: *mut u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(call, "`call` is NULL") }?;
        // SAFETY: the caller's promise, see the header.
        let wanted = unsafe { wanted(channel, method, options, data, len, user) }?;
        out.set(enter(engine, |core| start(core, &wanted))?);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_call_one_way(
    engine: u64,
    channel: u64,
    method: u32,
    options: *const Options,
    data: *const c_void,
    len: usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let wanted = unsafe { wanted(channel, method, options, data, len, 0) }?;
        let Request::Bytes(body) = wanted.body else {
            return Err(Fail::invalid("a one-way call takes bytes, no lease"));
        };
        if wanted.flags & STREAM != 0 {
            return Err(Fail::invalid("RW_CALL_STREAM needs rw_call"));
        }
        enter(engine, |core| {
            let target = target(core, channel)?;
            let (mut cx, clients) = core.clients();
            clients.one_way(&mut cx, target, method, &wanted.options, Raw(body))?;
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_call_sync(
    engine: u64,
    channel: u64,
    method: u32,
    options: *const Options,
    data: *const c_void,
    len: usize,
    response: *mut Event,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(response, "`response` is NULL") }?;
        // SAFETY: the caller's promise, see the header.
        let wanted = unsafe { wanted(channel, method, options, data, len, 0) }?;
        if wanted.flags & STREAM != 0 {
            return Err(Fail::invalid("RW_CALL_STREAM needs rw_call"));
        }
        let ended = match host_of(engine)? {
            Some(_) => call_elsewhere(engine, wanted)?,
            None => enter(engine, |core| call_sync(core, wanted))?,
        };
        out.set(ended);
        Ok(Rw::OK)
    })
}

/// Makes a call and turns the engine until its end. Other events stay for `rw_poll`.
fn call_sync(core: &mut Core, mut wanted: Wanted<'_>) -> Result<Event, Fail> {
    let target = target(core, wanted.channel)?;
    let timeout = wanted.options.timeout;
    let until = timeout.map(|timeout| core.engine().now() + timeout);
    if !wait_until_ready(core, target, until)? {
        return Err(no_connection());
    }
    // What is left of it.
    wanted.options.timeout = until.map(|until| until.saturating_since(core.engine().now()));
    let call = start(core, &wanted)?;
    loop {
        core.turn(None);
        let mut desk = core.desk.borrow_mut();
        let ended = |event: &Event| event.kind == kind::RESPONSE && event.id == call;
        // The usual case: the only one there.
        if desk.events.back().is_some_and(ended)
            && let Some(event) = desk.events.pop_back()
        {
            return Ok(event);
        }
        if let Some(at) = desk.events.iter().position(ended)
            && let Some(event) = desk.events.remove(at)
        {
            return Ok(event);
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn rw_call_cancel(engine: u64, call: u64) -> i32 {
    does(engine, |core| {
        let key = core.call(call)?;
        let (mut cx, clients) = core.clients();
        clients.cancel(&mut cx, key);
        core.made.remove(key);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_stream_send(
    engine: u64,
    call: u64,
    data: *const c_void,
    len: usize,
    end: i32,
) -> i32 {
    let act = |core: &mut Core, body: &[u8]| {
        let key = core.call(call)?;
        let (mut cx, clients) = core.clients();
        let sent = clients.send(&mut cx, key, Raw(body), end != 0)?;
        Ok(if sent { Rw::OK } else { Rw::AGAIN })
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { does_with_bytes(engine, data, len, act) }
}

#[unsafe(no_mangle)]
extern "C" fn rw_stream_end(engine: u64, call: u64) -> i32 {
    does(engine, |core| {
        let key = core.call(call)?;
        let (mut cx, clients) = core.clients();
        if clients.end(&mut cx, key) {
            return Ok(Rw::OK);
        }
        let text = "the call or its stream is over, or it has none: see RW_CALL_STREAM";
        Err(Fail::new(Rw::E_STALE, text))
    })
}

/// The status of an answer that foreign code gives.
pub(crate) fn status(code: u32, text: &str) -> Result<Status, Fail> {
    let code = u16::try_from(code)
        .ok()
        .filter(|code| (1..=16).contains(code));
    let code = code.ok_or_else(|| Fail::invalid("`code` is none of RW_CODE_* but OK"))?;
    Ok(Status::new(Code::from_wire(code), text))
}
