//! The baseline's system calls, written by hand and counted: what an engineer would call without a library.
//!
//! All `unsafe` of the baseline stands here. Each function takes borrowed descriptors and slices, so that
//! everything the kernel touches outlives the call; nothing is in flight when a function returns.
#![expect(unsafe_code, reason = "the baseline is plain system calls on purpose")]

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

use libc::{c_int, c_void};

thread_local! {
    static CALLS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// System calls of this thread's baseline so far, and how many of them found nothing.
pub(crate) fn calls() -> (u64, u64) {
    CALLS.get()
}

/// Counts one call and turns its result into a length.
fn counted(result: isize) -> io::Result<usize> {
    let (total, empty) = CALLS.get();
    let Ok(len) = usize::try_from(result) else {
        let error = io::Error::last_os_error();
        let nothing = u64::from(error.kind() == io::ErrorKind::WouldBlock);
        CALLS.set((total + 1, empty + nothing));
        return Err(error);
    };
    CALLS.set((total + 1, empty));
    Ok(len)
}

/// `recv(2)`: what is there, into `room`.
#[inline]
pub(crate) fn recv(fd: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of an exclusive slice that outlives the call.
    counted(unsafe { libc::recv(fd.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) })
}

/// `send(2)` without SIGPIPE.
#[inline]
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and length are those of a slice that outlives the call.
    counted(unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// Waits until a non-blocking socket takes bytes again.
pub(crate) fn await_writable(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    let mut wish = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one `pollfd`, exclusively borrowed, and the count says one.
    let ready = unsafe { libc::poll(&raw mut wish, 1, milliseconds(limit)) };
    counted(isize::try_from(ready).unwrap_or(-1)).map(|ready| ready > 0)
}

fn milliseconds(limit: Duration) -> c_int {
    c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX)
}

/// `setsockopt(2)` with an integer.
pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: c_int,
) -> io::Result<()> {
    let len = u32::try_from(size_of::<c_int>()).unwrap_or(0);
    let value = (&raw const value).cast::<c_void>();
    // SAFETY: the pointer leads to an integer that lives until the end of this function; `len` is its size.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value, len) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Room for the control messages of a receive: segment size and type of service, with room to spare.
const RECV_CONTROL_BYTES: usize = 128;
/// Room for the one control message of a send.
const SEND_CONTROL_BYTES: usize = 64;

/// Control messages have to start where a `cmsghdr` may.
#[repr(C, align(8))]
#[derive(Debug)]
struct Control<const N: usize>([u8; N]);

/// What came with received datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Bytes received.
    pub(crate) len: usize,
    /// Size of each datagram in them but the last; equal to `len` for a single one.
    pub(crate) segment: usize,
    /// ECN bits of the IP header, read as a receiver that cares for congestion does.
    pub(crate) ecn: u8,
}

/// Addresses and control messages of one datagram socket, reused by every call.
pub(crate) struct Envelope {
    name: libc::sockaddr_storage,
    name_len: libc::socklen_t,
    recv_control: Control<RECV_CONTROL_BYTES>,
    send_control: Control<SEND_CONTROL_BYTES>,
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope")
            .field("name_len", &self.name_len)
            .finish_non_exhaustive()
    }
}

impl Envelope {
    pub(crate) fn new() -> Self {
        let name = std::mem::MaybeUninit::<libc::sockaddr_storage>::zeroed();
        Self {
            // SAFETY: a `sockaddr_storage` is integers and bytes; all zero is a valid one (AF_UNSPEC).
            name: unsafe { name.assume_init() },
            name_len: 0,
            recv_control: Control([0; RECV_CONTROL_BYTES]),
            send_control: Control([0; SEND_CONTROL_BYTES]),
        }
    }

    /// `recvmsg(2)` with control messages. `named` keeps the sender, for [`send`](Self::send) to answer.
    #[inline]
    pub(crate) fn recv(
        &mut self,
        fd: BorrowedFd<'_>,
        room: &mut [u8],
        named: bool,
    ) -> io::Result<Arrival> {
        let mut piece = libc::iovec {
            iov_base: room.as_mut_ptr().cast(),
            iov_len: room.len(),
        };
        let mut header = blank_header(&mut piece);
        if named {
            header.msg_name = (&raw mut self.name).cast();
            header.msg_namelen = name_bytes();
        }
        header.msg_control = self.recv_control.0.as_mut_ptr().cast();
        header.msg_controllen = RECV_CONTROL_BYTES;
        // SAFETY: every pointer in the header leads to memory that is exclusively borrowed until the end of
        // this function (name and control of `self`, `room`, `piece`), with its true length beside it.
        let len = counted(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, 0) })?;
        if named {
            self.name_len = header.msg_namelen.min(name_bytes());
        }
        let (mut segment, mut ecn) = (len, 0);
        // SAFETY: the kernel filled `msg_control` up to `msg_controllen`, and both are still borrowed.
        let mut control = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        while !control.is_null() {
            // SAFETY: the macros give null or a pointer to a whole, aligned header inside the control buffer.
            let note = unsafe { &*control };
            let (level, kind) = (note.cmsg_level, note.cmsg_type);
            // SAFETY: as above; the data follows the header.
            let data = unsafe { libc::CMSG_DATA(control) };
            if level == libc::SOL_UDP && kind == libc::UDP_GRO {
                // SAFETY: the kernel's data of `UDP_GRO` is one `int`, at any alignment.
                let size = unsafe { data.cast::<c_int>().read_unaligned() };
                segment = usize::try_from(size).unwrap_or(0).clamp(1, len.max(1));
            } else if level == libc::IPPROTO_IP && kind == libc::IP_TOS {
                // SAFETY: the kernel's data of `IP_TOS` is one byte.
                ecn = unsafe { data.read() } & 0b11;
            }
            // SAFETY: `control` is a header of this buffer, as above.
            control = unsafe { libc::CMSG_NXTHDR(&raw const header, control) };
        }
        Ok(Arrival { len, segment, ecn })
    }

    /// `sendmsg(2)`: `bytes` to the last sender or to the connected peer, split by the kernel into datagrams
    /// of `segment` bytes if given.
    #[inline]
    pub(crate) fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        bytes: &[u8],
        segment: Option<u16>,
        to_sender: bool,
    ) -> io::Result<usize> {
        // The kernel only reads what is to be sent; `iovec` has no way of saying so.
        let base = bytes.as_ptr().cast_mut().cast();
        let mut piece = libc::iovec {
            iov_base: base,
            iov_len: bytes.len(),
        };
        let mut header = blank_header(&mut piece);
        if to_sender {
            header.msg_name = (&raw mut self.name).cast();
            header.msg_namelen = self.name_len;
        }
        if let Some(segment) = segment {
            header.msg_control = self.send_control.0.as_mut_ptr().cast();
            header.msg_controllen = segment_note(&header, segment);
        }
        // SAFETY: every pointer in the header leads to memory that is borrowed until the end of this function
        // (name and control of `self`, `bytes`, `piece`), with its true length beside it.
        counted(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) })
    }
}

/// Writes the control message `UDP_SEGMENT` to the header's control buffer and returns its length.
fn segment_note(header: &libc::msghdr, segment: u16) -> usize {
    let size = u16::BITS / 8;
    // SAFETY: arithmetic on a constant.
    let len = unsafe { libc::CMSG_LEN(size) };
    // SAFETY: arithmetic on a constant.
    let space = unsafe { libc::CMSG_SPACE(size) };
    let mut sized = *header;
    sized.msg_controllen = SEND_CONTROL_BYTES;
    // SAFETY: the caller's buffer has `SEND_CONTROL_BYTES`, aligned for a `cmsghdr`.
    let control = unsafe { libc::CMSG_FIRSTHDR(&raw const sized) };
    // SAFETY: not null, since the buffer has room for a header and two bytes; exclusively the caller's.
    let note = unsafe { &mut *control };
    note.cmsg_level = libc::SOL_UDP;
    note.cmsg_type = libc::UDP_SEGMENT;
    note.cmsg_len = len as usize;
    // SAFETY: `control` is a header inside the buffer.
    let data = unsafe { libc::CMSG_DATA(control) };
    // SAFETY: the data of this message are two bytes behind the header, inside the buffer.
    unsafe { data.cast::<u16>().write_unaligned(segment) };
    space as usize
}

fn name_bytes() -> libc::socklen_t {
    u32::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(0)
}

fn blank_header(piece: &mut libc::iovec) -> libc::msghdr {
    let header = std::mem::MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: a `msghdr` is integers and raw pointers; all zero is a valid, empty one.
    let mut header = unsafe { header.assume_init() };
    header.msg_iov = std::ptr::from_mut(piece);
    header.msg_iovlen = 1;
    header
}

/// Events that one `epoll_wait` may bring.
const EVENTS_MAX: usize = 256;

/// An epoll set, level-triggered.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Box<[libc::epoll_event]>,
}

impl std::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoll")
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is fresh, valid and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let blank = libc::epoll_event { events: 0, u64: 0 };
        Ok(Self {
            fd,
            events: vec![blank; EVENTS_MAX].into_boxed_slice(),
        })
    }

    /// Watches `fd` for bytes to read; its events carry `token`.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: token,
        };
        let (set, fd) = (self.fd.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: the event is exclusively borrowed for the call, which copies it.
        let result = unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// `epoll_wait(2)`: how many events there are; a limit of zero only looks.
    #[inline]
    pub(crate) fn wait(&mut self, limit: Duration) -> io::Result<usize> {
        let max = c_int::try_from(self.events.len()).unwrap_or(c_int::MAX);
        let (set, events) = (self.fd.as_raw_fd(), self.events.as_mut_ptr());
        // SAFETY: pointer and count are those of an exclusively borrowed slice.
        let found = unsafe { libc::epoll_wait(set, events, max, milliseconds(limit)) };
        let found = counted(isize::try_from(found).unwrap_or(-1))?;
        if found == 0 {
            let (total, empty) = CALLS.get();
            CALLS.set((total, empty + 1));
        }
        Ok(found)
    }

    /// The token of event number `index` of the last [`wait`](Self::wait).
    pub(crate) fn token(&self, index: usize) -> Option<u64> {
        self.events.get(index).map(|event| event.u64)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn calls_and_empty_calls_are_counted() {
        let (left, right) = UnixStream::pair().unwrap();
        right.set_nonblocking(true).unwrap();
        let before = calls();
        let mut room = [0; 8];
        assert!(recv(right.as_fd(), &mut room).is_err());
        assert_eq!(send(left.as_fd(), b"abc").unwrap(), 3);
        assert_eq!(recv(right.as_fd(), &mut room).unwrap(), 3);
        let after = calls();
        assert_eq!((after.0 - before.0, after.1 - before.1), (3, 1));
    }

    #[test]
    fn segments_are_split_by_the_kernel_and_coalesced_again() {
        let (server, client) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        client.connect(server.local_addr().unwrap()).unwrap();
        for socket in [&server, &client] {
            set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).unwrap();
            set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_RECVTOS, 1).unwrap();
            set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_TOS, 2).unwrap();
        }
        let (mut ours, mut theirs) = (Envelope::new(), Envelope::new());
        let bytes: Vec<u8> = (0..250).collect();
        assert_eq!(
            ours.send(client.as_fd(), &bytes, Some(100), false).unwrap(),
            250
        );
        let mut room = [0; 1024];
        let mut received = Vec::new();
        while received.len() < 250 {
            let arrival = theirs.recv(server.as_fd(), &mut room, true).unwrap();
            // Whether it coalesces again is the kernel's choice; what it says about it is not.
            assert_eq!((arrival.segment, arrival.ecn), (arrival.len.min(100), 2));
            received.extend_from_slice(&room[..arrival.len]);
        }
        assert_eq!(received, bytes);
        assert_eq!(theirs.send(server.as_fd(), b"back", None, true).unwrap(), 4);
        let back = ours.recv(client.as_fd(), &mut room, false).unwrap();
        assert_eq!((back.len, back.segment), (4, 4));
    }

    #[test]
    fn epoll_tells_who_is_ready() {
        let (left, right) = UnixStream::pair().unwrap();
        let mut epoll = Epoll::new().unwrap();
        epoll.add(right.as_fd(), 77).unwrap();
        assert_eq!(epoll.wait(Duration::ZERO).unwrap(), 0);
        send(left.as_fd(), b"x").unwrap();
        assert_eq!(epoll.wait(Duration::ZERO).unwrap(), 1);
        assert_eq!(epoll.token(0), Some(77));
    }
}
