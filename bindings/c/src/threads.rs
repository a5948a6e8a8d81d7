//! Groups of engines on threads of the library's own. The contract of each function stands in `ringway.h`.

use core::ffi::c_char;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use ringway_buf::{Id, Table};

use crate::config::EngineConfig;
use crate::core::Core;
use crate::engine::{NO_EVENTS, listen, listener};
use crate::guard::{Fail, Rw, guard};
use crate::host::{Group, Host, ThreadEvent, Waiter};
use crate::ids::{Kind, Salt};
use crate::pointers::{Out, OutArray, sized, text};
use crate::registry::{add, enter, forks, gone, open_to_others};
use crate::sys::pin;

/// `rw_threads_config` of the header. New fields go to the end; 0 means the default.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct ThreadsConfig {
    pub(crate) struct_size: u32,
    pub(crate) count: u32,
    pub(crate) cores: *const u32,
    pub(crate) cores_count: u32,
    pub(crate) events_max: u32,
    pub(crate) engine: *const EngineConfig,
}

const DEFAULTS: ThreadsConfig = ThreadsConfig {
    struct_size: 0,
    count: 1,
    cores: core::ptr::null(),
    cores_count: 0,
    events_max: 0,
    engine: core::ptr::null(),
};

/// Engines of a group, as many as a process may have.
const COUNT_MAX: u32 = 256;
/// Events that may wait, unless the caller says otherwise.
const EVENTS_MAX: u32 = 65_536;

/// A group that runs.
#[derive(Debug)]
struct Running {
    group: Arc<Group>,
    engines: Vec<u64>,
    threads: Vec<JoinHandle<()>>,
    forks: u32,
}

static ALL: Mutex<Option<Table<Running>>> = Mutex::new(None);

fn table() -> MutexGuard<'static, Option<Table<Running>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn slot(threads: u64) -> Id {
    Id::from_bits(Salt::of(0).mix(Kind::Threads, threads))
}

/// What a group of this process is made of.
fn found(threads: u64) -> Result<(Arc<Group>, Vec<u64>), Fail> {
    let all = table();
    match all.as_ref().and_then(|all| all.get(slot(threads))) {
        Some(running) if running.forks == forks() => {
            Ok((Arc::clone(&running.group), running.engines.clone()))
        }
        Some(_) => {
            let text = "the threads are the parent process's; start some after the fork";
            Err(Fail::new(Rw::E_FORK, text))
        }
        None => Err(Fail::stale("group of threads")),
    }
}

/// Ends all threads of a group, and with them its engines.
fn end(group: &Group, threads: Vec<JoinHandle<()>>) {
    group.stop();
    for thread in threads {
        // One that panicked said so on standard error.
        drop(thread.join());
    }
}

/// Makes an engine for this thread that others may use.
fn begin(
    group: &Group,
    config: &EngineConfig,
    core: Option<u32>,
) -> Result<(u64, Arc<Host>), Fail> {
    if let Some(core) = core {
        let refused = |error| Fail::new(Rw::E_SYSTEM, format!("pinning to core {core}: {error}"));
        pin(core).map_err(refused)?;
    }
    let engine = add(|id, woken| {
        let core = Core::start(config, id, woken)?;
        core.desk.borrow_mut().graves = Some(VecDeque::new());
        Ok(core)
    })?;
    let handle = enter(engine, |core| Ok(core.engine().handle()))?;
    let host = group.host(handle);
    open_to_others(engine, &host)?;
    Ok((engine, host))
}

/// One engine's thread, from its start to its end.
fn run(
    group: &Group,
    config: &EngineConfig,
    core: Option<u32>,
    report: &Waiter<Result<u64, Fail>>,
) {
    let begun = catch_unwind(AssertUnwindSafe(|| begin(group, config, core)));
    let panicked = |_| Fail::new(Rw::E_PANIC, "an engine panicked when it was made");
    match begun.map_err(panicked).flatten() {
        Ok((engine, host)) => {
            report.tell(Ok(engine));
            group.work(engine, &host);
        }
        Err(fail) => report.tell(Err(fail)),
    }
}

fn start(config: &ThreadsConfig, engine: EngineConfig, cores: &[u32]) -> Result<Running, Fail> {
    let events_max = if config.events_max == 0 {
        EVENTS_MAX
    } else {
        config.events_max
    };
    let mut running = Running {
        group: Arc::new(Group::new(events_max as usize)),
        engines: Vec::new(),
        threads: Vec::new(),
        forks: forks(),
    };
    for index in 0..config.count.max(1) as usize {
        let group = Arc::clone(&running.group);
        let report = Arc::new(Waiter::default());
        let reported = Arc::clone(&report);
        let core = (!cores.is_empty()).then(|| cores[index % cores.len()]);
        let spawned = std::thread::Builder::new()
            .name(format!("ringway-{index}"))
            .spawn(move || run(&group, &engine, core, &report));
        let begun = match spawned {
            Ok(thread) => {
                running.threads.push(thread);
                reported.wait(None).unwrap_or_else(|| Err(gone()))
            }
            Err(error) => {
                let text = format!("{error}; raise the limit of processes, or ask for fewer");
                Err(Fail::new(Rw::E_SYSTEM, text))
            }
        };
        match begun {
            Ok(engine) => running.engines.push(engine),
            Err(fail) => {
                end(&running.group, running.threads);
                return Err(fail);
            }
        }
    }
    Ok(running)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_threads_start(
    config: *const ThreadsConfig,
    engines: *mut u64,
    cap: u32,
    threads: *mut u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(threads, "`threads` is NULL") }?;
        // SAFETY: the caller's promise, see the header.
        let config = unsafe { sized(config, DEFAULTS) }?;
        if config.count > COUNT_MAX {
            return Err(Fail::invalid("`count` is above 256"));
        }
        let text = "`engines` is NULL, or has less room than there are engines";
        // SAFETY: the caller's promise, see the header.
        let mut places = unsafe { OutArray::new(engines, cap, config.count.max(1), text) }?;
        // SAFETY: the caller's promise, see the header.
        let engine = unsafe { sized(config.engine, EngineConfig::default()) }?;
        let cores = match config.cores_count as usize {
            0 => &[],
            _ if config.cores.is_null() || !config.cores.is_aligned() => {
                return Err(Fail::invalid("`cores` is NULL and `cores_count` is not 0"));
            }
            // SAFETY: not NULL, aligned; so many by the caller's promise.
            count => unsafe { core::slice::from_raw_parts(config.cores, count) },
        };
        let running = start(&config, engine, cores)?;
        let made = running.engines.clone();
        let mut all = table();
        let all = all.get_or_insert_with(|| Table::new(COUNT_MAX as usize));
        let id = match all.insert(running) {
            Ok(id) => id,
            Err(running) => {
                end(&running.group, running.threads);
                let text = "this process has 256 groups of threads already";
                return Err(Fail::new(Rw::E_LIMIT, text));
            }
        };
        for (index, engine) in (0..).zip(made) {
            places.set(index, engine);
        }
        out.set(Salt::of(0).mix(Kind::Threads, id.to_bits()));
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rw_threads_stop(threads: u64) -> i32 {
    guard(|| {
        found(threads)?;
        let running = table().as_mut().and_then(|all| all.remove(slot(threads)));
        // Two threads stopped it at once.
        let running = running.ok_or_else(|| Fail::stale("group of threads"))?;
        end(&running.group, running.threads);
        Ok(Rw::OK)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_threads_next(
    threads: u64,
    events: *mut ThreadEvent,
    cap: u32,
    count: *mut u32,
    timeout_ns: i64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(count, "`count` is NULL") }?;
        // SAFETY: the caller's promise, see the header.
        let mut events = unsafe { OutArray::new(events, cap, 1, NO_EVENTS) }?;
        let (group, _) = found(threads)?;
        let filled = group.next(timeout_ns, cap, |index, event| events.set(index, event));
        out.set(filled);
        Ok(if filled == 0 { Rw::AGAIN } else { Rw::OK })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rw_threads_serve(
    threads: u64,
    address: *const c_char,
    len: usize,
    to: *mut u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, see the header.
        let out = unsafe { Out::new(to, "`listener` is NULL") }?;
        // SAFETY: the caller's promise, see the header.
        let address = unsafe { text(address, len) }?;
        let (_, engines) = found(threads)?;
        let Some((first, others)) = engines.split_first() else {
            return Err(Fail::stale("group of threads"));
        };
        if !(address.starts_with("tcp://") || address.starts_with("unix://")) {
            let text = "only tcp:// and unix:// are shared; rw_serve on one of the engines";
            return Err(Fail::new(Rw::E_REFUSED, text));
        }
        let mut handles = Vec::new();
        for engine in others {
            handles.push(enter(*engine, |core| {
                crate::serve::settle(core)?;
                Ok(core.engine().handle())
            })?);
        }
        out.set(enter(*first, |core| {
            crate::serve::settle(core)?;
            let id = listen(core, address, false)?;
            let listening = listener(core, id)?.listener;
            core.engine().spread(listening, &handles, true);
            Ok(id)
        })?);
        Ok(Rw::OK)
    })
}
