//! Serving: services of foreign code. The contract of each function stands in `ringway.h`.
//!
//! A call becomes an event with its request in a lease; the answer is owed until foreign code gives it, the client
//! cancels, or the deadline passes.

use core::ffi::{c_char, c_void};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use ringway::rpc::{IncomingCall, Method, Node, Raw, Server, ServerBuilder, Service, ServiceInfo};

use crate::calls::{shape, status};
use crate::core::Core;
use crate::entry::{does, gives};
use crate::event::{Event, kind};
use crate::front::{Desk, Held, Owed};
use crate::guard::{Fail, Rw, guard};
use crate::ids::Kind;
use crate::messages::share;
use crate::pointers::{Out, bytes, text};
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
static KNOWN: Mutex<Vec<&'static ServiceInfo>> = Mutex::new(Vec::new());

fn interned(name: &str, methods: &[(String, Method)]) -> Result<&'static ServiceInfo, Fail> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |info: &&&'static ServiceInfo| {
        info.name == name
            && info.methods.len() == methods.len()
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
    if let Some(info) = known.iter().find(same) {
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
    known.push(info);
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
        let method = self.first + u32::try_from(call.method()).unwrap_or(u32::MAX);
        let request = call.take_request();
        let desk = &self.desk;
        call.inline::<Raw, [u8], [u8]>(|info, _nothing, reply| {
            let metadata = Box::from(info.metadata().bytes());
            let left = info.remaining();
            let (deferred, replied) = reply.defer()?;
            let owed = Owed {
                deferred,
                metadata,
                timeout_ns: left.map_or(-1, |it| i64::try_from(it.as_nanos()).unwrap_or(i64::MAX)),
                priority: info.priority(),
                attempt: info.attempt(),
                idempotent: info.is_idempotent(),
                user: 0,
            };
            let mut desk = desk.borrow_mut();
            let Ok(id) = desk.owed.insert(owed) else {
                // Dropping what is owed ends the call with INTERNAL; `calls_max` is far below the table's bound.
                return Ok(replied);
            };
            let id = desk.salt.mix(Kind::Request, id.to_bits());
            let mut event = Event::new(kind::REQUEST, id);
            event.method = method;
            match request {
                Some(request) => desk.deliver(event, Held::Shared(request)),
                None => desk.events.push_back(event),
            }
            Ok(replied)
        });
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
            if shape(method.kind)? != ringway::rpc::Kind::Unary {
                let text = "services in C take unary methods; streams are served in Rust";
                return Err(Fail::new(Rw::E_REFUSED, text));
            }
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
fn awaited(desk: &mut Desk, request: u64) -> Result<(), Fail> {
    if !desk.owed(request)?.deferred.is_cancelled() {
        return Ok(());
    }
    let text = "the client cancelled the call, its deadline passed, or its connection is gone";
    Err(Fail::new(Rw::E_STALE, text))
}

/// Takes what is owed, to be answered.
fn take(core: &Core, request: u64) -> Result<Owed, Fail> {
    let mut desk = core.desk.borrow_mut();
    awaited(&mut desk, request)?;
    desk.settle(request).ok_or_else(|| Fail::stale("request"))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_reply(engine: u64, request: u64, data: *const c_void, len: usize) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let body = unsafe { bytes(data, len) }?;
        enter(engine, |core| {
            take(core, request)?.deferred.send(body);
            Ok(Rw::OK)
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_reply_lease(engine: u64, request: u64, lease: u64) -> i32 {
    does(engine, |core| {
        awaited(&mut core.desk.borrow_mut(), request)?;
        let slice = share(core, lease)?;
        take(core, request)?.deferred.slice(slice);
        Ok(Rw::OK)
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
            take(core, request)?.deferred.fail(status);
            Ok(Rw::OK)
        })
    })
}
