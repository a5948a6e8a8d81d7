//! Direct system calls on datagram sockets: one message or a batch, counted where they are made.
//!
//! Above: the datagram parts of both kernel drivers. A single `recvmsg` first, `recvmmsg` only after a hit
//! (a batch call that finds one datagram costs 15 % more); sends leave as one GSO call where the kernel can
//! split it, else as `sendmmsg`.
//!
//! Both sides own their headers and (for receiving) their buffers; nothing is allocated per call.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use ringway_buf::{Pools, RecvBuffer};

use super::cmsg::{Marks, RecvMessage, SendMessage, empty_header};
use super::sys;
use super::udp::{self, PAYLOAD_BYTES_MAX, RECV_BYTES, SEGMENTS_MAX, is_fatal};
use crate::{Burst, DatagramMeta, DriverStats, Sink, SocketId};

#[cfg(test)]
mod tests;

/// Slots of a batch receive, 64 KiB each: room for a coalesced batch in every one of them.
pub const BATCH_MAX: usize = 8;
/// Hits in a row after which a batch is asked for. In a dialogue nothing lies behind the one that was waited for; to find
/// that out with the headers of a whole batch costs 1,300 instructions.
pub const STREAK: u8 = 2;

/// What a receive brought.
#[derive(Debug)]
pub enum Received {
    /// So many slots were filled; [`RecvBatch::filled`] hands them out.
    Slots(usize),
    /// Nothing there.
    WouldBlock,
    /// An earlier datagram of ours was refused, for this reason; counted, and not fatal. Call again.
    Refused(Refusal),
    /// No memory for a slot.
    Starved,
    /// The socket is useless.
    Fault(io::Error),
}

/// Why the network did not carry an earlier datagram of a connected socket.
#[derive(Debug)]
pub struct Refusal(io::Error);

impl Refusal {
    /// Tells the sink, if it is something that a layer above can use. `connected` is the socket's peer.
    #[cold]
    pub fn tell<S: Sink>(
        self,
        id: SocketId,
        fd: BorrowedFd<'_>,
        connected: Option<SocketAddr>,
        sink: &mut S,
    ) {
        if self.0.raw_os_error() == Some(libc::EMSGSIZE) {
            // How long it was is not said; the path is known to carry less now.
            let bytes_max = udp::payload_bytes_max_below(fd, connected, None, usize::MAX);
            sink.datagram_too_long(id, connected, bytes_max + 1, bytes_max);
        } else if udp::is_unreachable(&self.0) {
            sink.unreachable(id, self.0);
        }
    }
}

/// Buffers and headers to receive datagrams with; one per driver, shared by its sockets.
#[derive(Debug)]
pub struct RecvBatch {
    slots: Box<[RecvSlot]>,
    headers: Box<[libc::mmsghdr]>,
}

#[derive(Debug)]
struct RecvSlot {
    message: RecvMessage,
    buffer: Option<RecvBuffer>,
}

impl RecvBatch {
    /// Makes the headers; buffers are leased when first needed.
    #[must_use]
    pub fn new() -> Self {
        let slot = |_| RecvSlot {
            message: RecvMessage::new(),
            buffer: None,
        };
        Self {
            slots: (0..BATCH_MAX).map(slot).collect(),
            headers: (0..BATCH_MAX).map(|_| empty_batch_header()).collect(),
        }
    }

    /// Receives into up to `count` slots (at most [`BATCH_MAX`]): one by `recvmsg`, more by `recvmmsg`.
    ///
    /// `peer` is the address of a connected socket, which then isn't asked for.
    #[inline]
    pub fn recv(
        &mut self,
        fd: BorrowedFd<'_>,
        count: usize,
        connected: bool,
        pools: &Pools,
        stats: &mut DriverStats,
    ) -> Received {
        let ready = self.ready(count.min(BATCH_MAX), pools);
        loop {
            stats.syscalls += 1;
            let result = match ready {
                0 => {
                    stats.syscalls -= 1;
                    return Received::Starved;
                }
                1 => self.recv_one(fd, connected),
                _ => self.recv_many(fd, ready, connected),
            };
            if let Some(filled) = result {
                stats.recv_direct += 1;
                return Received::Slots(filled);
            }
            match Errno::last() {
                Errno::EAGAIN => {
                    stats.empty_polls += 1;
                    return Received::WouldBlock;
                }
                Errno::EINTR => {}
                error => {
                    let error = error.into();
                    if is_fatal(&error) {
                        return Received::Fault(error);
                    }
                    stats.datagrams_dropped += 1;
                    return Received::Refused(Refusal(error));
                }
            }
        }
    }

    /// The buffer of a filled slot and what is known about its datagrams. `connected` is the peer of a
    /// connected socket. `None` for a datagram without an internet sender, which does not occur on udp.
    #[inline]
    pub fn filled(
        &mut self,
        slot: usize,
        connected: Option<SocketAddr>,
        stats: &mut DriverStats,
    ) -> Option<(&mut RecvBuffer, DatagramMeta)> {
        let slot = self.slots.get_mut(slot)?;
        let buffer = slot.buffer.as_mut()?;
        let peer = connected.or_else(|| slot.message.peer())?;
        let notes = slot.message.notes();
        #[expect(clippy::cast_possible_truncation, reason = "a slot holds 64 KiB")]
        let len = buffer.len() as u32;
        let segment_bytes = notes
            .segment_bytes
            .filter(|bytes| *bytes > 0)
            .unwrap_or(len)
            .min(len);
        stats.datagrams_in += u64::from(
            len.checked_div(segment_bytes)
                .map_or(1, |_| len.div_ceil(segment_bytes)),
        );
        let truncated = slot.message.truncated();
        Some((
            buffer,
            DatagramMeta {
                peer,
                segment_bytes,
                ecn: notes.ecn,
                local: notes.local,
                truncated,
            },
        ))
    }

    /// Gives all buffers back: up to 512 KiB, once datagrams came in batches.
    pub fn release(&mut self, pools: &Pools) {
        for slot in &mut self.slots {
            if let Some(Ok(lease)) = slot.buffer.take().map(RecvBuffer::try_into_lease) {
                pools.give(lease);
            }
        }
    }

    /// Makes the first `count` slots empty and unshared; how many there are before memory runs out.
    fn ready(&mut self, count: usize, pools: &Pools) -> usize {
        for (index, slot) in self.slots.iter_mut().take(count).enumerate() {
            // What users hold stays theirs; going on behind it would leave too little room for a batch.
            if !slot.buffer.as_mut().is_some_and(|buffer| buffer.rewind(0)) {
                let Some(lease) = pools.lease(RECV_BYTES) else {
                    return index;
                };
                slot.buffer = Some(lease.into_recv());
            }
        }
        count
    }

    fn recv_one(&mut self, fd: BorrowedFd<'_>, connected: bool) -> Option<usize> {
        let slot = self.slots.first_mut()?;
        let buffer = slot.buffer.as_mut()?;
        let header = slot.message.prepare(buffer.spare_mut(), !connected);
        // SAFETY: the header leads to its own message and to the buffer's spare room, both borrowed here.
        let result = unsafe { sys::recv_message(fd, header, libc::MSG_DONTWAIT) };
        let len = usize::try_from(result).ok()?;
        buffer.filled(len);
        Some(1)
    }

    fn recv_many(&mut self, fd: BorrowedFd<'_>, count: usize, connected: bool) -> Option<usize> {
        for (header, slot) in self.headers.iter_mut().zip(&mut self.slots).take(count) {
            let buffer = slot.buffer.as_mut()?;
            slot.message.prepare(buffer.spare_mut(), !connected);
            header.msg_hdr = *slot.message.header_mut();
            header.msg_len = 0;
        }
        let headers = self.headers.get_mut(..count)?;
        // SAFETY: each header leads to its own slot's message and spare room, both owned by `self`.
        let result = unsafe { sys::recv_messages(fd, headers, libc::MSG_DONTWAIT) };
        let filled = usize::try_from(result).ok()?;
        for (header, slot) in self.headers.iter().zip(&mut self.slots).take(filled) {
            *slot.message.header_mut() = header.msg_hdr;
            slot.buffer.as_mut()?.filled(header.msg_len as usize);
        }
        Some(filled)
    }
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// What became of a burst's front.
#[derive(Debug)]
pub enum Left {
    /// So many datagrams left the queue: sent, or dropped by the kernel (and counted as such).
    Datagrams(u32),
    /// The socket's buffer is full: wait for readiness.
    WouldBlock,
    /// The first datagram is longer than the path carries.
    TooLong,
    /// The socket is useless.
    Fault(io::Error),
}

/// Headers to send datagrams with; one per driver. Knows whether GSO works.
#[derive(Debug)]
pub struct SendBatch {
    message: SendMessage,
    headers: Box<[libc::mmsghdr]>,
    pieces: Box<[libc::iovec]>,
    gso: bool,
    refusal: Option<Refusal>,
}

impl SendBatch {
    /// Makes the headers; `gso` is what [`probe_gso`](super::udp::probe_gso) said.
    #[must_use]
    pub fn new(gso: bool) -> Self {
        let piece = |_| libc::iovec {
            iov_base: core::ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            message: SendMessage::new(),
            headers: (0..SEGMENTS_MAX).map(|_| empty_batch_header()).collect(),
            pieces: (0..SEGMENTS_MAX).map(piece).collect(),
            gso,
            refusal: None,
        }
    }

    /// What the last sends learned of earlier datagrams, once.
    #[inline]
    pub fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    /// Whether bursts leave by GSO; becomes `false` when a route's device refuses it.
    #[must_use]
    pub fn gso(&self) -> bool {
        self.gso
    }

    /// Sends datagrams of `burst` from number `from` on: as many as one call carries.
    #[inline]
    pub fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        burst: &Burst,
        from: u32,
        stats: &mut DriverStats,
    ) -> Left {
        let count = gso_count(burst, from);
        if !self.gso || count < 2 {
            return self.send_plain(fd, burst, from, stats);
        }
        let (Some(bytes), Ok(segment)) = (
            datagrams(burst, from, count),
            u16::try_from(burst.segment_bytes),
        ) else {
            return self.send_plain(fd, burst, from, stats);
        };
        let marks = marks(burst);
        let header = self
            .message
            .prepare(burst.peer, bytes, Some(segment), marks);
        let sent = retrying(stats, &mut self.refusal, || {
            // SAFETY: the header leads to `self.message` and to the burst's lease, both borrowed here.
            unsafe { sys::send_message(fd, header, FLAGS) }
        });
        match sent {
            Ok(_) => left(count, stats),
            Err(Errno::EIO | Errno::EINVAL | Errno::EOPNOTSUPP) => {
                let plain = self.send_plain(fd, burst, from, stats);
                // Only if a plain send works the device is to blame, and not the burst.
                if matches!(plain, Left::Datagrams(_)) {
                    self.gso = false;
                }
                plain
            }
            Err(error) => failed(error, count, stats),
        }
    }

    /// Sends without GSO: `sendmmsg`, up to [`SEGMENTS_MAX`] datagrams a call.
    fn send_plain(
        &mut self,
        fd: BorrowedFd<'_>,
        burst: &Burst,
        from: u32,
        stats: &mut DriverStats,
    ) -> Left {
        let count = burst.count.saturating_sub(from).clamp(1, SEGMENTS_MAX);
        if count == 1 {
            let bytes = datagrams(burst, from, 1).unwrap_or(&[]);
            let header = self.message.prepare(burst.peer, bytes, None, marks(burst));
            let sent = retrying(stats, &mut self.refusal, || {
                // SAFETY: as in `send`.
                unsafe { sys::send_message(fd, header, FLAGS) }
            });
            return match sent {
                Ok(_) => left(1, stats),
                Err(error) => failed(error, 1, stats),
            };
        }
        self.message.prepare(burst.peer, &[], None, marks(burst));
        let template = self.message.header();
        let mut filled = 0;
        for (offset, (header, piece)) in
            (0..count).zip(self.headers.iter_mut().zip(&mut self.pieces))
        {
            let bytes = datagrams(burst, from + offset, 1).unwrap_or(&[]);
            piece.iov_base = bytes.as_ptr().cast_mut().cast();
            piece.iov_len = bytes.len();
            header.msg_hdr = template;
            header.msg_hdr.msg_iov = piece;
            header.msg_len = 0;
            filled += 1;
        }
        let headers = &mut self.headers[..filled];
        let sent = retrying(stats, &mut self.refusal, || {
            // SAFETY: the headers lead to `self.message`, `self.pieces` and the burst's lease, all borrowed.
            unsafe { sys::send_messages(fd, headers, FLAGS) as isize }
        });
        match sent.map(u32::try_from) {
            Ok(sent) => left(sent.unwrap_or(0), stats),
            Err(error) => failed(error, 1, stats),
        }
    }
}

const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// What the headers of a burst shall hold.
#[inline]
fn marks(burst: &Burst) -> Marks {
    let is_v6 = |peer: SocketAddr| match peer {
        SocketAddr::V4(_) => false,
        // An IPv6 socket speaks to it with IPv4.
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().is_none(),
    };
    Marks {
        ecn: burst.ecn,
        v6: burst.peer.map(is_v6),
        source: burst.source,
    }
}

/// How many datagrams from number `from` on fit one GSO call.
#[inline]
fn gso_count(burst: &Burst, from: u32) -> u32 {
    let fits = PAYLOAD_BYTES_MAX / (burst.segment_bytes as usize).max(1);
    let fits = u32::try_from(fits)
        .unwrap_or(SEGMENTS_MAX)
        .min(SEGMENTS_MAX);
    burst.count.saturating_sub(from).min(fits)
}

/// The bytes of `count` datagrams from number `from` on.
#[inline]
fn datagrams(burst: &Burst, from: u32, count: u32) -> Option<&[u8]> {
    let (segment, bytes) = (burst.segment_bytes as usize, burst.lease.bytes());
    let start = segment * from as usize;
    let end = (start + segment * count as usize).min(bytes.len());
    bytes.get(start..end)
}

/// Calls until no signal interrupts, and once more after the report that an earlier datagram was refused or too
/// long: a connected socket makes that report instead of sending.
#[inline]
fn retrying(
    stats: &mut DriverStats,
    refusal: &mut Option<Refusal>,
    mut call: impl FnMut() -> isize,
) -> Result<usize, Errno> {
    let mut reported = false;
    loop {
        stats.syscalls += 1;
        if let Ok(result) = usize::try_from(call()) {
            return Ok(result);
        }
        match Errno::last() {
            Errno::EINTR => {}
            error @ (Errno::ECONNREFUSED | Errno::ENOPROTOOPT | Errno::EMSGSIZE) if !reported => {
                reported = true;
                stats.datagrams_dropped += u64::from(error != Errno::EMSGSIZE);
                *refusal = Some(Refusal(error.into()));
            }
            error => {
                if error == Errno::EMSGSIZE {
                    // It was about this datagram, of which more is known.
                    *refusal = None;
                } else if udp::is_unreachable(&error.into()) {
                    *refusal = Some(Refusal(error.into()));
                }
                return Err(error);
            }
        }
    }
}

fn left(count: u32, stats: &mut DriverStats) -> Left {
    stats.send_direct += 1;
    stats.datagrams_out += u64::from(count);
    Left::Datagrams(count)
}

fn failed(error: Errno, count: u32, stats: &mut DriverStats) -> Left {
    match error {
        Errno::EAGAIN => {
            stats.empty_polls += 1;
            Left::WouldBlock
        }
        Errno::EMSGSIZE => Left::TooLong,
        error => {
            let error = error.into();
            if is_fatal(&error) {
                return Left::Fault(error);
            }
            stats.datagrams_dropped += u64::from(count);
            Left::Datagrams(count)
        }
    }
}

fn empty_batch_header() -> libc::mmsghdr {
    libc::mmsghdr {
        msg_hdr: empty_header(),
        msg_len: 0,
    }
}
