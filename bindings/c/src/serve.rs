//! Serving: services of foreign code. The contract of each function stands in `ringway.h`.
//!
//! A call becomes an event with its request in a lease, and so does each message of its client's stream; the answer is
//! owed until foreign code gives it, the client cancels, or the deadline passes. Answers are written straight into the
//! connection's batch.

use core::ffi::{c_char, c_void};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::{Mutex, PoisonError};

use ringway::Slice;
use ringway::rpc::{
    Body, IncomingCall, Kind as Shape, Metadata, Method, Node, Server, ServerBuilder, Service,
    ServiceInfo, Status, Watch,
};

use crate::calls::{shape, status};
use crate::core::Core;
use crate::entry::{does, does_with_bytes, gives};
use crate::event::{Event, kind};
use crate::front::{Desk, Held, Owed};
use crate::guard::{Fail, Rw, guard};
use crate::ids::Kind;
use crate::messages::share;
use crate::pointers::{Out, text};
use crate::registry::enter;

/// `rw_method` of the header.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct MethodSpec {
    pub(crate) name: *const c_char,
    pub(crate) name_len: usize,
    pub(crate) kind: u32,
    pub(crate) schema: u32,
    pub(crate) codec: u8,
    pub(crate) idempotent: u8,
    pub(crate) reserved: [u8; 6],
}

/// Methods of one service.
const METHODS_MAX: usize = 1024;
/// Different services of one process.
const SERVICES_MAX: usize = 4096;

/// Every service that was ever added, by name and methods: they live as long as the process, so each is kept once.
/// Sorted by name.
static KNOWN: Mutex<Vec<&'static ServiceInfo>> = Mutex::new(Vec::new());

fn interned(name: &str, methods: &[(String, Method)]) -> Result<&'static ServiceInfo, Fail> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |info: &&&'static ServiceInfo| {
        info.methods.len() == methods.len()
            && info
                .methods
                .iter()
                .zip(methods)
                .all(|(one, (name, other))| {
                    one.name == name
                        && one.binding() == other.binding()
                        && one.idempotent == other.idempotent
                })
    };
    let at = known.partition_point(|info| info.name < name);
    let mut named = known.iter().skip(at).take_while(|info| info.name == name);
    if let Some(info) = named.find(same) {
        return Ok(info);
    }
    if known.len() >= SERVICES_MAX {
        return Err(Fail::new(
            Rw::E_LIMIT,
            "this process has 4,096 services already",
        ));
    }
    let methods: Vec<Method> = methods
        .iter()
        .map(|(name, method)| Method {
            name: Box::leak(name.clone().into_boxed_str()),
            ..*method
        })
        .collect();
    let info: &'static ServiceInfo = Box::leak(Box::new(ServiceInfo {
        name: Box::leak(Box::from(name)),
        methods: Box::leak(methods.into_boxed_slice()),
        descriptors: &[],
    }));
    known.insert(at, info);
    Ok(info)
}

/// A service of foreign code.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    info: &'static ServiceInfo,
    /// Number of its first method.
    first: u32,
    desk: Rc<RefCell<Desk>>,
}

impl Service for Foreign {
    fn info(&self) -> &'static ServiceInfo {
        self.info
    }

    fn call(&mut self, mut call: IncomingCall<'_, '_>) {
        let info = call.info();
        let shape = info.method().kind;
        let left = info.remaining();
        let metadata = Box::from(info.metadata().bytes());
        let timeout_ns = left.map_or(-1, |it| i64::try_from(it.as_nanos()).unwrap_or(i64::MAX));
        let (priority, attempt) = (info.priority(), info.attempt());
        let idempotent = info.is_idempotent();
        let method = self.first + u32::try_from(call.method()).unwrap_or(u32::MAX);
        let (request, is_last) = (call.take_request(), call.is_last());
        let watcher = (shape != Shape::Unary).then(|| {
            let (desk, request) = (Rc::downgrade(&self.desk), Cell::new(0));
            Rc::new(Watcher { desk, request })
        });
        let watch = watcher.clone().map(|it| it as Rc<dyn Watch>);
        let Some(call) = call.owe(watch) else { return };
        let owed = Owed {
            call,
            shape,
            reply_metadata: Box::default(),
            metadata,
            timeout_ns,
            priority,
            attempt,
            idempotent,
            user: 0,
        };
        let mut desk = self.desk.borrow_mut();
        let Ok(id) = desk.owed.insert(owed) else {
            // Dropping what is owed ends the call with INTERNAL; `calls_max` is far below the table's bound.
            return;
        };
        let id = desk.salt.mix(Kind::Request, id.to_bits());
        let mut event = Event::new(kind::REQUEST, id);
        event.method = method;
        if shape.client_streams() {
            event.flags = kind::CLIENT_STREAMS;
        }
        match request {
            Some(request) if !shape.client_streams() => desk.deliver(event, Held::Shared(request)),
            _ if !shape.client_streams() => desk.events.push_back(event),
            first => {
                desk.events.push_back(event);
                drop(desk);
                if let Some(watcher) = watcher {
                    watcher.request.set(id);
                    if let Some(first) = first {
                        // What comes with the request costs no credit.
                        watcher.message(first, 0);
                    }
                    if is_last {
                        watcher.ended();
                    }
                }
                return;
            }
        }
        if let Some(watcher) = watcher {
            watcher.request.set(id);
        }
    }
}

/// Makes events of what happens to a call's streams.
#[derive(Debug)]
struct Watcher {
    /// Not held: the desk holds the call, which holds this.
    desk: Weak<RefCell<Desk>>,
    request: Cell<u64>,
}

impl Watcher {
    fn tell(&self, kind: u32, held: Option<Held>) {
        let Some(desk) = self.desk.upgrade() else {
            return;
        };
        let (mut desk, request) = (desk.borrow_mut(), self.request.get());
        let mut event = Event::new(kind, request);
        event.user = desk.owed(request).map_or(0, |owed| owed.user);
        match held {
            Some(held) => desk.deliver(event, held),
            None => desk.events.push_back(event),
        }
    }
}

impl Watch for Watcher {
    fn message(&self, message: Slice, cost: u32) {
        let held = Held::Asked(message, self.request.get(), cost);
        self.tell(kind::REQUEST_MESSAGE, Some(held));
    }

    fn ended(&self) {
        self.tell(kind::REQUEST_END, None);
    }

    fn writable(&self) {
        self.tell(kind::REQUEST_WRITABLE, None);
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_service_add(
    engine: u64,
    name: *const c_char,
    len: usize,
    methods: *const MethodSpec,
    count: u32,
    first: *mut u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(first, "`first` is NULL") }?;
        // SAFETY: the caller's promise, see the header.
        let name = unsafe { text(name, len) }?;
        let count = count as usize;
        if methods.is_null() || !methods.is_aligned() || count == 0 || count > METHODS_MAX {
            return Err(Fail::invalid(
                "`methods` is NULL, or there are none or more than 1,024",
            ));
        }
        // SAFETY: not NULL, aligned; `count` structs by the caller's promise.
        let methods = unsafe { core::slice::from_raw_parts(methods, count) };
        let mut list = Vec::with_capacity(count);
        for method in methods {
            // SAFETY: the caller's promise, see the header.
            let own = unsafe { text(method.name, method.name_len) }?;
            let full = format!("{name}/{own}");
            let found = Method::found(&full, shape(method.kind)?, method.codec, method.schema);
            let found = Method {
                idempotent: method.idempotent != 0,
                ..found
            };
            list.push((full, found));
        }
        out.set(enter(engine, |core| {
            if core.settled {
                let text = "add services before the first rw_serve or rw_channel_open";
                return Err(Fail::new(Rw::E_STATE, text));
            }
            let first = core.methods;
            let info = interned(name, &list)?;
            core.services.push(Foreign {
                info,
                first,
                desk: Rc::clone(&core.desk),
            });
            // A service that does not fit to the others is told now, not by the functions that serve.
            if let Err(fail) = served(&core.services) {
                core.services.pop();
                return Err(fail);
            }
            core.methods += u32::try_from(count).unwrap_or(u32::MAX);
            Ok(first)
        })?);
        Ok(Rw::OK)
    })
}

/// A node that serves these.
fn served(services: &[Foreign]) -> Result<Node, Fail> {
    let add = |server: ServerBuilder, it: &Foreign| server.service_here(it.clone());
    let server = services.iter().fold(Server::builder(), add);
    let node = server.build();
    node.map_err(|error| Fail::new(Rw::E_REFUSED, error.to_string()))
}

/// From here on services and channels share one node.
pub(crate) fn settle(core: &mut Core) -> Result<(), Fail> {
    if core.settled {
        return Ok(());
    }
    if !core.services.is_empty() {
        core.front.node = served(&core.services)?;
        core.services.clear();
    }
    core.settled = true;
    Ok(())
}

/// `rw_request` of the header.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct RequestInfo {
    pub(crate) metadata: *const c_void,
    pub(crate) metadata_len: usize,
    pub(crate) timeout_ns: i64,
    pub(crate) priority: u8,
    pub(crate) attempt: u8,
    pub(crate) idempotent: u8,
    pub(crate) reserved: [u8; 5],
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_request_info(engine: u64, request: u64, info: *mut RequestInfo) -> i32 {
    let act = |core: &mut Core| {
        let mut desk = core.desk.borrow_mut();
        let owed = desk.owed(request)?;
        Ok(RequestInfo {
            metadata: owed.metadata.as_ptr().cast(),
            metadata_len: owed.metadata.len(),
            timeout_ns: owed.timeout_ns,
            priority: owed.priority,
            attempt: owed.attempt,
            idempotent: u8::from(owed.idempotent),
            reserved: [0; 5],
        })
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { gives(engine, info, "`info` is NULL", act) }
}

#[unsafe(no_mangle)]
extern "C" fn rw_request_user(engine: u64, request: u64, user: u64) -> i32 {
    does(engine, |core| {
        core.desk.borrow_mut().owed(request)?.user = user;
        Ok(Rw::OK)
    })
}

/// Refuses when nobody waits for the answer. What is over stays owed until its event is made.
fn awaited(desk: &mut Desk, request: u64) -> Result<&mut Owed, Fail> {
    let owed = desk.owed(request)?;
    if !owed.call.is_cancelled() {
        return Ok(owed);
    }
    let text = "the client cancelled the call, its deadline passed, or its connection is gone";
    Err(Fail::new(Rw::E_STALE, text))
}

/// Refuses a call whose answer has the other form.
fn of_form(owed: &Owed, streams: bool) -> Result<(), Fail> {
    if owed.shape.server_streams() == streams {
        return Ok(());
    }
    let text = if streams {
        "this method answers with one message: rw_reply or rw_reply_lease"
    } else {
        "this method answers with a stream: rw_reply_send, and rw_reply_end"
    };
    Err(Fail::new(Rw::E_STATE, text))
}

/// Takes what is owed, to be ended.
fn take(core: &Core, request: u64) -> Result<Owed, Fail> {
    let mut desk = core.desk.borrow_mut();
    awaited(&mut desk, request)?;
    desk.settle(request).ok_or_else(|| Fail::stale("request"))
}

/// Answers with one message, straight into the connection's batch.
#[inline]
fn answer<B: Body>(core: &mut Core, request: u64, body: B) -> Result<Rw, Fail> {
    let owed = {
        let mut desk = core.desk.borrow_mut();
        of_form(awaited(&mut desk, request)?, false)?;
        desk.settle(request).ok_or_else(|| Fail::stale("request"))?
    };
    let (engine, front) = core.parts();
    let mut cx = engine.context();
    front
        .node
        .answer(&mut cx, owed.call, body, &owed.reply_metadata);
    Ok(Rw::OK)
}

/// Ends a call without a message.
fn finish(core: &mut Core, owed: Owed, status: Status) -> Rw {
    let (engine, front) = core.parts();
    let mut cx = engine.context();
    front
        .node
        .end(&mut cx, owed.call, status, &owed.reply_metadata);
    Rw::OK
}

/// Sends one message of an answering stream.
fn send<B: Body>(core: &mut Core, request: u64, body: B) -> Result<Rw, Fail> {
    let desk = Rc::clone(&core.desk);
    let mut desk = desk.borrow_mut();
    let owed = awaited(&mut desk, request)?;
    of_form(owed, true)?;
    let (engine, front) = core.parts();
    let sent = front.node.send(&mut engine.context(), &owed.call, body)?;
    Ok(if sent { Rw::OK } else { Rw::AGAIN })
}

/// A message of the client's stream was released.
pub(crate) fn grant(core: &mut Core, request: u64, cost: u32) {
    let desk = Rc::clone(&core.desk);
    if let Ok(owed) = desk.borrow_mut().owed(request) {
        let (engine, front) = core.parts();
        front.node.grant(&mut engine.context(), &owed.call, cost);
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_reply(engine: u64, request: u64, data: *const c_void, len: usize) -> i32 {
    let act = |core: &mut Core, body: &[u8]| answer(core, request, body);
    // SAFETY: the caller's promise, see the header.
    unsafe { does_with_bytes(engine, data, len, act) }
}

#[unsafe(no_mangle)]
extern "C" fn rw_reply_lease(engine: u64, request: u64, lease: u64) -> i32 {
    does(engine, |core| {
        of_form(awaited(&mut core.desk.borrow_mut(), request)?, false)?;
        let slice = share(core, lease)?;
        answer(core, request, slice)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_reply_metadata(
    engine: u64,
    request: u64,
    block: *const c_void,
    len: usize,
) -> i32 {
    let act = |core: &mut Core, block: &[u8]| {
        if Metadata::parse(block).is_err() {
            let text = "the metadata is malformed; write it with rw_metadata_add";
            return Err(Fail::invalid(text));
        }
        let mut desk = core.desk.borrow_mut();
        awaited(&mut desk, request)?.reply_metadata = block.into();
        Ok(Rw::OK)
    };
    // SAFETY: the caller's promise, see the header.
    unsafe { does_with_bytes(engine, block, len, act) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_reply_send(
    engine: u64,
    request: u64,
    data: *const c_void,
    len: usize,
) -> i32 {
    let act = |core: &mut Core, body: &[u8]| send(core, request, body);
    // SAFETY: the caller's promise, see the header.
    unsafe { does_with_bytes(engine, data, len, act) }
}

#[unsafe(no_mangle)]
extern "C" fn rw_reply_send_lease(engine: u64, request: u64, lease: u64) -> i32 {
    does(engine, |core| {
        of_form(awaited(&mut core.desk.borrow_mut(), request)?, true)?;
        let slice = share(core, lease)?;
        send(core, request, slice)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_reply_end(engine: u64, request: u64) -> i32 {
    does(engine, |core| {
        of_form(awaited(&mut core.desk.borrow_mut(), request)?, true)?;
        let owed = take(core, request)?;
        Ok(finish(core, owed, Status::OK))
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_reply_error(
    engine: u64,
    request: u64,
    code: u32,
    message: *const c_char,
    len: usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let message = unsafe { text(message, len) }?;
        let status = status(code, message)?;
        enter(engine, |core| {
            let owed = take(core, request)?;
            Ok(finish(core, owed, status))
        })
    })
}
