//! What a driver says when it may not start, under real seccomp filters, and what it finds when it may.
//!
//! A filter binds the thread that installs it and those it makes, so each case runs on a thread of its own.

#![cfg(feature = "uring")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::rc::Rc;
use std::thread;

use ringway_buf::{Pools, PoolsConfig};
use ringway_driver::uring::{Uring, UringConfig};
use ringway_driver::{Driver, DriverKind, StartError};

fn start(config: UringConfig) -> Result<Uring, StartError> {
    Uring::new(config, Rc::new(Pools::new(PoolsConfig::default())))
}

/// Makes system call `number` fail with `errno` on this thread.
fn forbid(number: libc::c_long, errno: i32) {
    let statement = |code: u32, k: u32, jt, jf| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt,
        jf,
        k,
    };
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            u32::try_from(number).unwrap(),
            0,
            1,
        ),
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap(),
            0,
            0,
        ),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: plain integers; the call gives up nothing but the gain of privileges.
    let given_up = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(given_up, 0);
    // SAFETY: the filter's program is a local that outlives the call, which copies it.
    let installed = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const filter,
        )
    };
    assert_eq!(installed, 0, "{}", std::io::Error::last_os_error());
}

/// What starting says where `number` fails with `errno`.
fn refusal(number: libc::c_long, errno: i32) -> String {
    thread::spawn(move || {
        forbid(number, errno);
        match start(UringConfig::default()) {
            Ok(driver) => panic!("it started: {:?}", driver.capabilities()),
            Err(error) => error.to_string(),
        }
    })
    .join()
    .unwrap()
}

#[test]
fn each_refusal_names_its_cause_and_its_fix() {
    let calls = [
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ];
    for call in calls {
        let forbidden = refusal(call, libc::EPERM);
        assert!(
            forbidden.contains("kernel.io_uring_disabled"),
            "{forbidden}"
        );
        assert!(forbidden.contains("seccomp"), "{forbidden}");
        let missing = refusal(call, libc::ENOSYS);
        assert!(missing.contains("Linux 6.1"), "{missing}");
    }
    let memory = refusal(libc::SYS_io_uring_setup, libc::ENOMEM);
    assert!(memory.contains("ulimit -l"), "{memory}");
    let old = refusal(libc::SYS_io_uring_setup, libc::EINVAL);
    assert!(old.contains("Linux 6.1"), "{old}");
    let descriptors = refusal(libc::SYS_io_uring_setup, libc::EMFILE);
    assert!(descriptors.contains("ulimit -n"), "{descriptors}");
}

#[test]
fn a_started_driver_prints_what_it_found() {
    let driver = start(UringConfig::default()).unwrap();
    let found = driver.capabilities();
    assert_eq!(found.kind, DriverKind::Uring);
    assert!(found.directed_recv);
    for name in [
        "deferred task run",
        "multishot recv",
        "provided buffers",
        "cancel",
    ] {
        assert!(
            found
                .facts
                .iter()
                .any(|fact| fact.name == name && fact.used),
            "{name}"
        );
    }
    assert!(found.facts.iter().all(|fact| !fact.why.is_empty()));
}

#[test]
fn smallest_and_largest_sizes_start_and_others_are_named() {
    let base = UringConfig::default();
    for (submissions, completions, slots_max, sockets_max) in [
        (1, 2, 1, 1),
        (4096, 65_536, 32_768, 1 << 24),
        (3, 5, 4, 100),
    ] {
        start(UringConfig {
            submissions,
            completions,
            slots_max,
            sockets_max,
        })
        .unwrap();
    }
    let wrong = [
        (
            UringConfig {
                submissions: 0,
                ..base
            },
            "submissions",
        ),
        (
            UringConfig {
                submissions: 4097,
                completions: 65_536,
                ..base
            },
            "submissions",
        ),
        (
            UringConfig {
                completions: 255,
                ..base
            },
            "completions",
        ),
        (
            UringConfig {
                submissions: 1,
                completions: 1,
                ..base
            },
            "completions",
        ),
        (
            UringConfig {
                slots_max: 0,
                ..base
            },
            "slots_max",
        ),
        (
            UringConfig {
                slots_max: 3,
                ..base
            },
            "slots_max",
        ),
        (
            UringConfig {
                sockets_max: 0,
                ..base
            },
            "sockets_max",
        ),
    ];
    for (config, field) in wrong {
        let error = start(config).map(drop).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}
