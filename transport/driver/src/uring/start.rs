//! Starting the driver: the ladder from "asked for everything" to "proved to work", and what went wrong.
//!
//! 1. set up with full flags, then without the index array's removal (before Linux 6.6), then smaller (memory
//!    lock limits);
//! 2. require what the driver can't do without;
//! 3. the functional self-test: a probe alone would miss a seccomp filter on one of the calls.
//!
//! There is no rung below: the choice of another driver is the engine's, which says so once.

use std::collections::VecDeque;
use std::io;
use std::thread;
use std::time::Duration;

use ringway_buf::{Pools, Table};

use super::bufring::Slots;
use super::hot::Hot;
use super::ops::Flight;
use super::ring::{KernelRing, Ring, RingShape};
use super::wake::Wakeup;
use super::{Uring, UringConfig, selftest};
use crate::socket::datagram::{RecvBatch, SendBatch};
use crate::socket::udp;
use crate::{Capabilities, DriverKind, DriverStats, Fact, Scratch, SharedPools, StartError};

/// Smallest queues that the ladder tries by itself when memory can't be locked.
const SUBMISSIONS_MIN: u32 = 8;

/// Further tries of the smallest queues, and the time between them.
const PATIENCE: u32 = 20;
const PATIENCE_STEP: Duration = Duration::from_millis(5);

const FIX_PERMISSION: &str = "io_uring is switched off: set `sysctl kernel.io_uring_disabled=0` (2 forbids it \
to all, 1 to processes outside of `kernel.io_uring_group`), or allow io_uring_setup, io_uring_enter and \
io_uring_register in the seccomp profile of the container";
const FIX_MISSING: &str = "this kernel has no io_uring, or a seccomp profile hides it: Linux 6.1 is needed, or \
allow io_uring_setup, io_uring_enter and io_uring_register in the profile of the container";
const FIX_MEMORY: &str = "memory for the ring can't be locked: raise `ulimit -l` (1 MiB is plenty), or ask for \
smaller queues";
const FIX_OLD: &str = "Linux 6.1 or later is needed for it";
const FIX_TOO_OLD: &str =
    "this kernel's io_uring lacks what the driver needs: Linux 6.1 or later is needed";
const FIX_DESCRIPTORS: &str = "this process is out of descriptors: raise `ulimit -n`";
const FIX_OTHER: &str = "use the epoll driver, or report this";

/// A ring that was proved to work, the slots on it, and what was found.
pub(super) type Opened = (KernelRing, Slots, Vec<Fact>);

/// Climbs the ladder.
pub(super) fn open(config: &UringConfig, pools: &Pools) -> Result<Opened, StartError> {
    check(config)?;
    let mut shape = RingShape {
        submissions: config.submissions,
        completions: config.completions,
        no_sqarray: true,
    };
    let mut patience = PATIENCE;
    loop {
        let error = match attempt(shape, config, pools) {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        match errno_of(&error) {
            Some(libc::EINVAL) if shape.no_sqarray => shape.no_sqarray = false,
            Some(libc::ENOMEM) if shape.submissions > SUBMISSIONS_MIN => {
                shape.submissions = (shape.submissions / 4).max(SUBMISSIONS_MIN);
                shape.completions = (shape.completions / 4).max(shape.submissions * 2);
            }
            // The kernel gives the memory of a closed ring back later, in a worker of its own.
            Some(libc::ENOMEM) if patience > 0 => {
                patience -= 1;
                thread::sleep(PATIENCE_STEP);
            }
            _ => return Err(error),
        }
    }
}

/// One rung.
fn attempt(shape: RingShape, config: &UringConfig, pools: &Pools) -> Result<Opened, StartError> {
    let mut ring =
        KernelRing::open(shape).map_err(|error| refused("opening an io_uring", error))?;
    require(&ring)?;
    let mut facts = facts_of(&mut ring, shape);
    selftest::run(&mut ring, &mut facts)?;
    let slots = slots_on(&mut ring, config, pools)?;
    Ok((ring, slots, facts))
}

fn slots_on<R: Ring>(
    ring: &mut R,
    config: &UringConfig,
    pools: &Pools,
) -> Result<Slots, StartError> {
    Slots::new(ring, config.slots_max, pools)
        .map_err(|error| refused("registering receive slots with the io_uring", error))
}

fn check(config: &UringConfig) -> Result<(), StartError> {
    let wrong = |field, range| Err(StartError::Config { field, range });
    if !(1..=4096).contains(&config.submissions) {
        return wrong("submissions", "1 to 4096");
    }
    if !(2..=65_536).contains(&config.completions) || config.completions < config.submissions {
        return wrong("completions", "2 to 65536 and no fewer than `submissions`");
    }
    if !config.slots_max.is_power_of_two() || config.slots_max > 32_768 {
        return wrong("slots_max", "a power of two from 1 to 32768");
    }
    if !(1..=1 << 24).contains(&config.sockets_max) {
        return wrong("sockets_max", "1 to 16777216");
    }
    Ok(())
}

fn require(ring: &KernelRing) -> Result<(), StartError> {
    let parameters = ring.parameters();
    // `DEFER_TASKRUN` (6.1) was granted with the ring, and with it all that is older; these two are asked
    // for because backported kernels exist.
    let needs = [
        (
            "completions that never drop",
            parameters.is_feature_nodrop(),
        ),
        (
            "a time limit for io_uring_enter",
            parameters.is_feature_ext_arg(),
        ),
    ];
    match needs.iter().find(|(_, present)| !present) {
        Some((what, _)) => Err(StartError::Unsupported { what, fix: FIX_OLD }),
        None => Ok(()),
    }
}

fn facts_of(ring: &mut KernelRing, shape: RingShape) -> Vec<Fact> {
    let (submissions, completions) = ring.sizes();
    let [absolute, registered, no_iowait] = ring.refinements();
    let fact = |name, used: bool, yes: &str, no: &str| Fact {
        name,
        used,
        why: if used { yes } else { no }.to_owned(),
    };
    vec![
        Fact {
            name: "deferred task run",
            used: true,
            why: format!("queues of {submissions} and {completions} entries"),
        },
        fact(
            "no index array",
            shape.no_sqarray,
            "granted",
            "needs Linux 6.6",
        ),
        fact(
            "registered ring descriptor",
            registered,
            "granted",
            "refused; costs 30 ns a call",
        ),
        fact(
            "absolute deadlines",
            absolute,
            "granted",
            "needs Linux 6.12",
        ),
        fact(
            "no iowait accounting",
            no_iowait,
            "granted",
            "needs Linux 6.15",
        ),
    ]
}

fn errno_of(error: &StartError) -> Option<i32> {
    match error {
        StartError::System { error, .. } => error.raw_os_error(),
        _ => None,
    }
}

/// The error of a refused call, with its fix.
pub(super) fn refused(call: &'static str, error: io::Error) -> StartError {
    let fix = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => FIX_PERMISSION,
        Some(libc::ENOSYS) => FIX_MISSING,
        Some(libc::ENOMEM) => FIX_MEMORY,
        Some(libc::EMFILE | libc::ENFILE) => FIX_DESCRIPTORS,
        Some(libc::EINVAL) => FIX_TOO_OLD,
        _ => FIX_OTHER,
    };
    StartError::System { call, error, fix }
}

impl<R: Ring> Uring<R> {
    /// Starts a driver on a ring of the caller's, without the ladder; for tests that alter completions.
    ///
    /// # Errors
    /// What the system refuses, or a field of `config` out of range.
    pub fn with_ring(ring: R, config: UringConfig, pools: SharedPools) -> Result<Self, StartError> {
        check(&config)?;
        let mut ring = ring;
        let slots = slots_on(&mut ring, &config, &pools)?;
        Self::assemble((ring, slots, Vec::new()), config, pools)
    }

    pub(super) fn assemble(
        (ring, slots, mut facts): (R, Slots, Vec<Fact>),
        config: UringConfig,
        pools: SharedPools,
    ) -> Result<Self, StartError> {
        let (udp_gso, udp_gro) = (udp::probe_gso(), udp::probe_gro());
        for (name, used) in [("udp gso", udp_gso), ("udp gro", udp_gro)] {
            let why = if used {
                "granted"
            } else {
                "refused by this kernel"
            }
            .to_owned();
            facts.push(Fact { name, used, why });
        }
        let capabilities = Capabilities {
            kind: DriverKind::Uring,
            facts,
            directed_recv: true,
            udp_gso,
            udp_gro,
        };
        let wakeup = Wakeup::new().map_err(|error| refused("eventfd", error))?;
        let mut this = Self {
            sockets: Table::new(config.sockets_max),
            flight: Flight::new(ring, config.sockets_max),
            slots: Some(slots),
            hot: Hot::new(),
            noted: VecDeque::new(),
            outbox: VecDeque::new(),
            starved: VecDeque::new(),
            lean: VecDeque::new(),
            short: false,
            skipped: 0,
            quiet: 0,
            scratch: Scratch::new(),
            batch: RecvBatch::new(),
            sender: SendBatch::new(udp_gso),
            wakeup,
            beacon: None,
            alarm: None,
            pools,
            capabilities,
            stats: DriverStats::default(),
            down: false,
        };
        this.listen_for_wakes();
        Ok(this)
    }
}
