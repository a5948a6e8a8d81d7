//! Little memory may be locked: the driver starts smaller, and says what to raise when nothing helps.
//!
//! The limit belongs to the whole process, so this is one test in a binary of its own. The kernel exempts
//! privileged threads; the test gives its privileges up first.

#![cfg(feature = "uring")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::rc::Rc;
use std::thread;

use nix::sys::resource::{Resource, setrlimit};
use ringway_buf::{Pools, PoolsConfig};
use ringway_driver::Driver;
use ringway_driver::uring::{Uring, UringConfig};

/// Some unprivileged user; the kernel counts locked memory per user.
const NOBODY: libc::c_long = 65_534;

fn start_unprivileged() -> Result<String, String> {
    thread::spawn(|| {
        // The raw call changes this thread alone; libc's would change all of them. It fails where the test
        // has no privileges to begin with, and then there is nothing to give up.
        // SAFETY: plain integers.
        unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        let pools = Rc::new(Pools::new(PoolsConfig::default()));
        let config = UringConfig {
            slots_max: 64,
            ..UringConfig::default()
        };
        let driver = Uring::new(config, pools).map_err(|error| error.to_string())?;
        Ok(driver.capabilities().facts[0].why.clone())
    })
    .join()
    .unwrap()
}

#[test]
fn a_tight_memory_lock_shrinks_the_queues_and_none_names_the_fix() {
    setrlimit(Resource::RLIMIT_MEMLOCK, 64 * 1024, 64 * 1024).unwrap();
    let found = start_unprivileged().unwrap();
    assert!(!found.contains("4096"), "{found}");
    setrlimit(Resource::RLIMIT_MEMLOCK, 0, 0).unwrap();
    let error = start_unprivileged().unwrap_err();
    assert!(error.contains("ulimit -l"), "{error}");
}
