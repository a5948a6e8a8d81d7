//! Direct system calls on stream sockets, counted where they are made.
//!
//! Above: the `recv.rs` and `send.rs` of both kernel drivers. For one hot socket this is the shortest way
//! there is (a ring adds 0.7 us to a receive), so these functions add nothing but a counter and an enum.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv as nix_recv, send as nix_send};
use ringway_buf::{Chain, Segment};

use super::sys;
use crate::DriverStats;

/// Most pieces of a chain that leave in one call; the kernel takes 1024, but copies each header first.
pub const PIECES_MAX: usize = 64;
/// Chains up to this length use a small header array: clearing 1 KiB for two pieces would be waste.
const PIECES_FEW: usize = 8;

/// What became of a direct call.
#[derive(Debug)]
pub enum Moved {
    /// So many bytes went.
    Done(usize),
    /// Nothing there, or no room: wait for readiness.
    WouldBlock,
    /// The peer ended its direction of the stream.
    End,
    /// The connection or the descriptor is broken.
    Fault(io::Error),
}

/// Receives into `room`, which is not empty.
#[inline]
pub fn recv(fd: BorrowedFd<'_>, room: &mut [u8], stats: &mut DriverStats) -> Moved {
    debug_assert!(
        !room.is_empty(),
        "a receive without room looks like the end"
    );
    loop {
        stats.syscalls += 1;
        match nix_recv(fd.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Moved::End,
            Ok(len) => {
                stats.recv_direct += 1;
                return Moved::Done(len);
            }
            Err(Errno::EAGAIN) => {
                stats.empty_polls += 1;
                return Moved::WouldBlock;
            }
            // A signal came; each one costs at most one round.
            Err(Errno::EINTR) => {}
            Err(error) => return Moved::Fault(error.into()),
        }
    }
}

/// Receives into two places, one behind the other: a large message's and what comes after it.
pub fn recv_two(
    fd: BorrowedFd<'_>,
    mut rooms: [IoSliceMut<'_>; 2],
    stats: &mut DriverStats,
) -> Moved {
    let mut header = super::cmsg::empty_header();
    header.msg_iov = rooms.as_mut_ptr().cast();
    header.msg_iovlen = rooms.len();
    loop {
        stats.syscalls += 1;
        // SAFETY: the header's only pointer leads to `rooms` (`IoSliceMut` has the layout of `iovec`), which
        // borrows its memory exclusively until this function returns.
        let result = unsafe { sys::recv_message(fd, &raw mut header, libc::MSG_DONTWAIT) };
        match usize::try_from(result) {
            Ok(0) => return Moved::End,
            Ok(len) => {
                stats.recv_direct += 1;
                return Moved::Done(len);
            }
            Err(_) => {}
        }
        match Errno::last() {
            Errno::EAGAIN => {
                stats.empty_polls += 1;
                return Moved::WouldBlock;
            }
            Errno::EINTR => {}
            error => return Moved::Fault(error.into()),
        }
    }
}

/// Sends the front of `bytes`.
#[inline]
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8], stats: &mut DriverStats) -> Moved {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        stats.syscalls += 1;
        match nix_send(fd.as_raw_fd(), bytes, flags) {
            Ok(len) => {
                stats.send_direct += 1;
                return Moved::Done(len);
            }
            Err(Errno::EAGAIN) => {
                stats.empty_polls += 1;
                return Moved::WouldBlock;
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Moved::Fault(error.into()),
        }
    }
}

/// Sends the front of `chain`: at most [`PIECES_MAX`] pieces in one call. The caller advances the chain.
#[inline]
pub fn send_chain(fd: BorrowedFd<'_>, chain: &Chain, stats: &mut DriverStats) -> Moved {
    let mut segments = chain.segments();
    match (segments.next(), chain.len()) {
        (None, _) => Moved::Done(0),
        (Some(only), 1) => send(fd, only.bytes(), stats),
        (Some(_), 2..=PIECES_FEW) => send_pieces::<PIECES_FEW>(fd, chain, stats),
        (Some(_), _) => send_pieces::<PIECES_MAX>(fd, chain, stats),
    }
}

fn send_pieces<const MAX: usize>(
    fd: BorrowedFd<'_>,
    chain: &Chain,
    stats: &mut DriverStats,
) -> Moved {
    let mut pieces = [IoSlice::new(&[]); MAX];
    let mut count = 0;
    for (piece, segment) in pieces.iter_mut().zip(chain.segments().map(Segment::bytes)) {
        *piece = IoSlice::new(segment);
        count += 1;
    }
    let mut header = super::cmsg::empty_header();
    header.msg_iov = pieces.as_mut_ptr().cast();
    header.msg_iovlen = count;
    loop {
        stats.syscalls += 1;
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the header's only pointer leads to `pieces` (`IoSlice` has the layout of `iovec`), which
        // borrow the chain's memory until this function returns.
        let result = unsafe { sys::send_message(fd, &raw const header, flags) };
        if let Ok(len) = usize::try_from(result) {
            stats.send_direct += 1;
            return Moved::Done(len);
        }
        match Errno::last() {
            Errno::EAGAIN => {
                stats.empty_polls += 1;
                return Moved::WouldBlock;
            }
            Errno::EINTR => {}
            error => return Moved::Fault(error.into()),
        }
    }
}
