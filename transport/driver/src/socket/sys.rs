//! System calls on sockets that nix lacks or wraps with an allocation; one thin function each.
//!
//! The lowest file of `socket/`. Each function takes borrowed descriptors and references, so that what the
//! kernel touches lives at least as long as the call; the tests of `transport/driver/tests` run all of them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::name::{NAME_BYTES, Name};

#[expect(clippy::cast_possible_truncation, reason = "a constant of 112")]
const NAME_LEN: libc::socklen_t = NAME_BYTES as libc::socklen_t;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Binds a socket: [bind(2)](https://man7.org/linux/man-pages/man2/bind.2.html).
pub(super) fn bind(fd: BorrowedFd<'_>, name: &Name) -> io::Result<()> {
    // SAFETY: `name` holds `len` initialised bytes (kept by `Name`), which the call only reads.
    checked(unsafe { libc::bind(fd.as_raw_fd(), name.as_ptr(), name.len()) }).map(drop)
}

/// Connects a socket: [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html).
pub(super) fn connect(fd: BorrowedFd<'_>, name: &Name) -> io::Result<()> {
    // SAFETY: as in `bind`.
    checked(unsafe { libc::connect(fd.as_raw_fd(), name.as_ptr(), name.len()) }).map(drop)
}

/// Listens: [listen(2)](https://man7.org/linux/man-pages/man2/listen.2.html). The kernel caps the backlog.
pub(super) fn listen(fd: BorrowedFd<'_>, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: no memory is involved.
    checked(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

/// Accepts a connection, non-blocking and close-on-exec:
/// [accept4(2)](https://man7.org/linux/man-pages/man2/accept.2.html).
pub(super) fn accept(fd: BorrowedFd<'_>, name: &mut Name) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let mut len = NAME_LEN;
    // SAFETY: the name has room for `len` bytes, exclusively borrowed.
    let result = unsafe { libc::accept4(fd.as_raw_fd(), name.as_mut_ptr(), &raw mut len, flags) };
    let accepted = checked(result)?;
    name.set_len(len);
    // SAFETY: the kernel just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(accepted) })
}

/// The local name: [getsockname(2)](https://man7.org/linux/man-pages/man2/getsockname.2.html).
pub(super) fn local_name(fd: BorrowedFd<'_>) -> io::Result<Name> {
    let mut name = Name::empty();
    let mut len = NAME_LEN;
    // SAFETY: the name has room for `len` bytes, exclusively borrowed.
    checked(unsafe { libc::getsockname(fd.as_raw_fd(), name.as_mut_ptr(), &raw mut len) })?;
    name.set_len(len);
    Ok(name)
}

/// The peer's name: [getpeername(2)](https://man7.org/linux/man-pages/man2/getpeername.2.html).
pub(super) fn peer_name(fd: BorrowedFd<'_>) -> io::Result<Name> {
    let mut name = Name::empty();
    let mut len = NAME_LEN;
    // SAFETY: the name has room for `len` bytes, exclusively borrowed.
    checked(unsafe { libc::getpeername(fd.as_raw_fd(), name.as_mut_ptr(), &raw mut len) })?;
    name.set_len(len);
    Ok(name)
}

/// Sets an integer option: [setsockopt(2)](https://man7.org/linux/man-pages/man2/setsockopt.2.html).
pub(super) fn set_option(
    fd: BorrowedFd<'_>,
    level: i32,
    option: i32,
    value: i32,
) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "four")]
    let len = size_of::<i32>() as libc::socklen_t;
    let value = (&raw const value).cast();
    // SAFETY: `value` points to a local integer of `len` bytes, which the call only reads.
    checked(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value, len) }).map(drop)
}

/// Chooses among the sockets of a port by a program:
/// [SO_ATTACH_REUSEPORT_CBPF](https://man7.org/linux/man-pages/man7/socket.7.html).
pub(super) fn steer(fd: BorrowedFd<'_>, program: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(u16::MAX),
        filter: program.as_mut_ptr(),
    };
    #[expect(clippy::cast_possible_truncation, reason = "sixteen")]
    let len = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF);
    let value = (&raw const program).cast();
    // SAFETY: `program` and the instructions that it leads to are borrowed during the call, which copies them.
    checked(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value, len) }).map(drop)
}

/// Reads an integer option: [getsockopt(2)](https://man7.org/linux/man-pages/man2/getsockopt.2.html).
pub(super) fn option(fd: BorrowedFd<'_>, level: i32, option: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    #[expect(clippy::cast_possible_truncation, reason = "four")]
    let mut len = size_of::<i32>() as libc::socklen_t;
    let target = (&raw mut value).cast();
    // SAFETY: `target` points to a local integer of `len` bytes.
    checked(unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, target, &raw mut len) })?;
    Ok(value)
}

/// Sends one message: [sendmsg(2)](https://man7.org/linux/man-pages/man2/sendmsg.2.html).
///
/// # Safety
/// All that `header` points to is readable during the call.
#[inline]
pub(super) unsafe fn send_message(
    fd: BorrowedFd<'_>,
    header: *const libc::msghdr,
    flags: i32,
) -> isize {
    // SAFETY: the caller keeps what the header points to.
    unsafe { libc::sendmsg(fd.as_raw_fd(), header, flags) }
}

/// Receives one message: [recvmsg(2)](https://man7.org/linux/man-pages/man2/recvmsg.2.html).
///
/// # Safety
/// All that `header` points to is writable, and nobody else looks at it, during the call.
#[inline]
pub(super) unsafe fn recv_message(
    fd: BorrowedFd<'_>,
    header: *mut libc::msghdr,
    flags: i32,
) -> isize {
    // SAFETY: the caller keeps what the header points to.
    unsafe { libc::recvmsg(fd.as_raw_fd(), header, flags) }
}

/// Sends several messages: [sendmmsg(2)](https://man7.org/linux/man-pages/man2/sendmmsg.2.html).
///
/// # Safety
/// All that the headers point to is readable during the call.
pub(super) unsafe fn send_messages(
    fd: BorrowedFd<'_>,
    headers: &mut [libc::mmsghdr],
    flags: i32,
) -> i32 {
    let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
    // SAFETY: `count` headers exist; the caller keeps what they point to.
    unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, flags) }
}

/// Receives several messages: [recvmmsg(2)](https://man7.org/linux/man-pages/man2/recvmmsg.2.html).
///
/// # Safety
/// All that the headers point to is writable, and nobody else looks at it, during the call.
pub(super) unsafe fn recv_messages(
    fd: BorrowedFd<'_>,
    headers: &mut [libc::mmsghdr],
    flags: i32,
) -> i32 {
    let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
    let no_limit = core::ptr::null_mut();
    // SAFETY: `count` headers exist; the caller keeps what they point to; a null time limit is allowed.
    unsafe { libc::recvmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, flags, no_limit) }
}
