//! N engines on N pinned threads behind one acceptor.
//!
//! The first engine listens and hands accepted sockets to all in turns. With `reuse_port` each engine listens
//! for itself and the kernel spreads by its own hash; closing such a listener resets what waits in its queue,
//! so it is an option, not the default.

use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use ringway_driver::{Address, ListenOptions};

use crate::{Config, Engine, Handle, Handler, OpenError, StartError};

/// How shards are set up.
#[derive(Clone, Debug)]
pub struct ShardsConfig {
    /// Engines, each on a thread of its own. Default 1.
    pub count: usize,
    /// Cores to pin the threads to, in turns; empty leaves them to the scheduler. Default empty.
    pub cores: Vec<usize>,
    /// Addresses to listen on.
    pub listen: Vec<String>,
    /// Options of the listeners; `reuse_port` gives each engine its own.
    pub options: ListenOptions,
}

impl Default for ShardsConfig {
    fn default() -> Self {
        Self {
            count: 1,
            cores: Vec::new(),
            listen: Vec::new(),
            options: ListenOptions::default(),
        }
    }
}

/// Why shards could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum ShardsError {
    /// `count` is zero.
    None,
    /// A thread could not be started.
    Thread(std::io::Error),
    /// An engine could not be started.
    Start(StartError),
    /// An address could not be listened on.
    Listen(OpenError),
    /// A thread could not be pinned to its core.
    Pin {
        /// Which core.
        core: usize,
        /// What the system said.
        error: std::io::Error,
    },
    /// A thread ended before it reported; its handler factory panicked.
    Died,
}

impl std::fmt::Display for ShardsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("`count` is 0; start at least 1 engine"),
            Self::Thread(error) => write!(f, "starting a thread: {error}"),
            Self::Start(error) => error.fmt(f),
            Self::Listen(error) => error.fmt(f),
            Self::Pin { core, error } => {
                write!(
                    f,
                    "pinning to core {core}: {error}; name cores that this process may use"
                )
            }
            Self::Died => f.write_str("an engine's thread died at start; its factory panicked"),
        }
    }
}

impl std::error::Error for ShardsError {}

/// Running engines. Dropping them stops all and joins their threads.
#[derive(Debug)]
pub struct Shards {
    threads: Vec<JoinHandle<()>>,
    handles: Vec<Handle>,
    addresses: Vec<Address>,
}

type Report = Result<(Handle, Vec<Address>), ShardsError>;

impl Shards {
    /// Starts `config.count` engines. `engine(index)` and `handler(index)` are called on each new thread.
    ///
    /// # Errors
    /// [`ShardsError`]; what was started is stopped again.
    pub fn start<H: Handler>(
        config: &ShardsConfig,
        engine: impl Fn(usize) -> Config + Clone + Send + 'static,
        handler: impl Fn(usize) -> H + Clone + Send + 'static,
    ) -> Result<Self, ShardsError> {
        if config.count == 0 {
            return Err(ShardsError::None);
        }
        let mut shards = Self {
            threads: Vec::new(),
            handles: Vec::new(),
            addresses: Vec::new(),
        };
        // The others first, so that the acceptor knows them all when it begins to listen.
        for index in (0..config.count).rev() {
            let (engine, handler) = (engine.clone(), handler.clone());
            let (report_in, report) = channel();
            let job = Job {
                index,
                core: (!config.cores.is_empty()).then(|| config.cores[index % config.cores.len()]),
                listens: index == 0 || config.options.reuse_port,
                // Engines that listen on their own port share must agree on it: the last started chose it.
                listen: if shards.addresses.is_empty() {
                    config.listen.clone()
                } else {
                    shards.addresses.iter().map(ToString::to_string).collect()
                },
                options: config.options.clone(),
                others: if config.options.reuse_port {
                    Vec::new()
                } else {
                    shards.handles.clone()
                },
            };
            let thread = thread::Builder::new()
                .name(format!("ringway-{index}"))
                .spawn(move || job.run(|| engine(index), || handler(index), &report_in))
                .map_err(ShardsError::Thread)?;
            shards.threads.push(thread);
            let (handle, addresses) = report.recv().map_err(|_gone| ShardsError::Died)??;
            shards.handles.push(handle);
            if !addresses.is_empty() {
                shards.addresses = addresses;
            }
        }
        shards.handles.reverse();
        shards.threads.reverse();
        Ok(shards)
    }

    /// Handles of all engines, by index.
    #[must_use]
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// The addresses that are listened on, with the ports that the kernel chose.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Drains all engines and waits until they are done.
    pub fn drain(mut self) {
        for handle in &self.handles {
            // An engine that is gone already is as drained as it gets.
            handle.drain().ok();
        }
        self.join();
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A thread that panicked has reported on stderr by the panic hook.
            drop(thread.join());
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        for handle in &self.handles {
            handle.stop().ok();
        }
        self.join();
    }
}

/// What one thread has to do.
struct Job {
    index: usize,
    core: Option<usize>,
    listens: bool,
    listen: Vec<String>,
    options: ListenOptions,
    others: Vec<Handle>,
}

impl Job {
    fn run<H: Handler>(
        self,
        config: impl FnOnce() -> Config,
        handler: impl FnOnce() -> H,
        report: &Sender<Report>,
    ) {
        match self.open(config) {
            Ok((mut engine, addresses)) => {
                let mut handler = handler();
                if report.send(Ok((engine.handle(), addresses))).is_ok() {
                    engine.run(&mut handler);
                }
            }
            // Fails only when the starter is gone; nobody is left to tell.
            Err(error) => drop(report.send(Err(error))),
        }
    }

    fn open(&self, config: impl FnOnce() -> Config) -> Result<(Engine, Vec<Address>), ShardsError> {
        if let Some(core) = self.core {
            pin(core)?;
        }
        let mut engine = config().build().map_err(ShardsError::Start)?;
        let mut addresses = Vec::new();
        for address in self.listen.iter().filter(|_| self.listens) {
            let listener = engine
                .listen_with(address, &self.options)
                .map_err(ShardsError::Listen)?;
            engine.spread(listener, &self.others, true);
            addresses.extend(engine.local_address(listener));
        }
        debug_assert!(self.index > 0 || addresses.len() == self.listen.len());
        Ok((engine, addresses))
    }
}

fn pin(core: usize) -> Result<(), ShardsError> {
    use nix::sched::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(nix::unistd::Pid::from_raw(0), &set))
        .map_err(|error| ShardsError::Pin {
            core,
            error: error.into(),
        })
}
