//! The program by which the kernel chooses among the sockets of a port: classic BPF, for which no privilege is needed.
//!
//! It runs for each datagram with the payload before it, and returns the number of a socket. Below: `sys.rs`.

use std::io;
use std::os::fd::BorrowedFd;

use super::sys;
use crate::Steer;

/// Instructions of a rule.
const RULE_STEPS: u8 = 6;

/// Gives the program to the kernel; all sockets of the port share the last one.
pub(super) fn attach(fd: BorrowedFd<'_>, steer: &Steer) -> io::Result<()> {
    sys::steer(fd, &mut program(steer))
}

fn program(steer: &Steer) -> Vec<libc::sock_filter> {
    let step = |code: u32, k: u32| libc::sock_filter {
        #[expect(clippy::cast_possible_truncation, reason = "codes have 16 bits")]
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let load = |at: u8| step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, at.into());
    let mut program = Vec::new();
    for rule in steer.rules {
        program.push(load(0));
        program.push(step(
            libc::BPF_ALU | libc::BPF_AND | libc::BPF_K,
            rule.mask.into(),
        ));
        program.push(libc::sock_filter {
            jf: RULE_STEPS - 3,
            ..step(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                rule.value.into(),
            )
        });
        program.push(load(rule.at));
        program.push(step(
            libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K,
            steer.count.max(1).into(),
        ));
        program.push(step(libc::BPF_RET | libc::BPF_A, 0));
    }
    program.push(step(libc::BPF_RET | libc::BPF_K, 0));
    program
}
