//! N engines on N pinned threads behind one acceptor.
//!
//! The first engine listens and hands accepted sockets to all in turns. Over `rudp` the engines, up to 255, share the
//! port: a session can't be handed over, so the kernel steers each packet to the engine whose number its connection id
//! carries. With `reuse_port` each engine listens for itself and the kernel spreads by its own hash; closing such a
//! listener resets what waits in its queue, so it is an option, not the default.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use ringway_driver::{Address, ListenOptions};

use crate::{Config, Engine, Handle, Handler, OpenError, StartError, packet};

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
    /// Sockets that are steered to keep their numbers until the last engine is gone.
    kept: Vec<OwnedFd>,
}

type Report = Result<(Handle, Opened), ShardsError>;

/// What an engine listens on.
#[derive(Debug, Default)]
struct Opened {
    /// For each address that was asked for: the real one, if this engine listens there.
    addresses: Vec<Option<Address>>,
    kept: Vec<OwnedFd>,
}

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
            kept: Vec::new(),
        };
        let mut listen = config.listen.clone();
        // The others first, so that the acceptor knows them all when it begins to listen.
        for index in (0..config.count).rev() {
            let (engine, handler) = (engine.clone(), handler.clone());
            let (report_in, report) = channel();
            let job = Job {
                index,
                count: config.count,
                core: (!config.cores.is_empty()).then(|| config.cores[index % config.cores.len()]),
                listens: index == 0 || config.options.reuse_port,
                // Engines that share a port must agree on it: the first started chose it.
                listen: listen.clone(),
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
            let (handle, opened) = report.recv().map_err(|_gone| ShardsError::Died)??;
            shards.handles.push(handle);
            shards.kept.extend(opened.kept);
            for (asked, real) in listen.iter_mut().zip(&opened.addresses) {
                if let Some(real) = real {
                    *asked = real.to_string();
                }
            }
            shards.addresses = opened.addresses.into_iter().flatten().collect();
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
    count: usize,
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
            Ok((mut engine, opened)) => {
                let mut handler = handler();
                if report.send(Ok((engine.handle(), opened))).is_ok() {
                    engine.run(&mut handler);
                }
            }
            // Fails only when the starter is gone; nobody is left to tell.
            Err(error) => drop(report.send(Err(error))),
        }
    }

    fn open(&self, config: impl FnOnce() -> Config) -> Result<(Engine, Opened), ShardsError> {
        if let Some(core) = self.core {
            pin(core)?;
        }
        let mut engine = config().build().map_err(ShardsError::Start)?;
        let mut opened = Opened::default();
        for address in &self.listen {
            // Engines start, and so bind, from the last to the first.
            let bound = self.count - 1 - self.index;
            let steer = packet::steering(address, bound, self.count).filter(|_| self.count > 1);
            if !self.listens && steer.is_none() {
                opened.addresses.push(None);
                continue;
            }
            let is_steered = steer.is_some();
            let options = ListenOptions {
                reuse_port: self.options.reuse_port || is_steered,
                steer,
                ..self.options.clone()
            };
            let listener = engine
                .listen_with(address, &options)
                .map_err(ShardsError::Listen)?;
            if is_steered {
                opened.kept.extend(engine.duplicate(listener));
            } else {
                engine.spread(listener, &self.others, true);
            }
            opened.addresses.push(engine.local_address(listener));
        }
        Ok((engine, opened))
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
