//! Operations in flight: the slab that owns all that the kernel may touch, and the entries that start them.
//!
//! Between the per-noun files (recv, send, accept…) and `ring.rs`. Every operation has an entry here from its
//! start to its last completion, and only its id travels through the kernel:
//! `user_data = kind:4 | generation:28 | index:32`. A completion whose id is stale is counted and ignored;
//! nothing is ever found through a pointer.
//!
//! Invariants:
//! 1. an entry owns the memory its operation reads or writes (chain, headers, large buffer); it is removed at
//!    the terminal completion and nowhere else;
//! 2. the descriptor of an operation belongs to a socket that stays open while it has operations;
//! 3. at most one receiving and one sending operation per socket (kept by `socket.rs`).
//!
//! This and `bufring.rs` are the only places that push entries; tested by `tests/uring_faults.rs`.

use core::mem::MaybeUninit;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use io_uring::types::{Fd, TimeoutFlags, Timespec};
use io_uring::{opcode, squeue};
use ringway_buf::{Chain, Id, Instant, RecvBuffer, Segment, Table};

use super::bufring::GROUP;
use super::ring::{Completion, Entry, Ring};
use crate::socket::direct::PIECES_MAX;
use crate::{DriverStats, Park, SocketId};

/// A send operation takes segments until it has this many bytes, so that `sent` is reported steadily.
const SEND_BYTES_AIM: usize = 1024 * 1024;
/// Emptied sends that wait for the next one; more are freed. As many as completions are handled at once four
/// times over, so that a turn in which thousands of sockets send allocates nothing.
const SPARE_MAX: usize = 4096;
/// Of these, so many keep their vector of 1 KiB.
const SPARE_VECTORS_MAX: usize = 256;
/// `IORING_RECVSEND_POLL_FIRST`: don't try, wait for readiness.
const POLL_FIRST: u16 = 1;
/// Whose the wake-up and the alarm are.
pub(super) const NOBODY: SocketId = SocketId(Id::from_parts(u32::MAX, 0));
/// Generations as far as they travel.
const GENERATION_MASK: u32 = (1 << 28) - 1;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Accept = 1,
    Recv = 2,
    Directed = 3,
    PollIn = 4,
    PollOut = 5,
    Send = 6,
    Wake = 7,
    Cancel = 8,
    Alarm = 9,
}

impl Kind {
    fn from_bits(bits: u64) -> Option<Self> {
        Some(match bits {
            1 => Self::Accept,
            2 => Self::Recv,
            3 => Self::Directed,
            4 => Self::PollIn,
            5 => Self::PollOut,
            6 => Self::Send,
            7 => Self::Wake,
            8 => Self::Cancel,
            9 => Self::Alarm,
            _ => return None,
        })
    }
}

/// An operation in flight and what it owns.
#[derive(Debug)]
pub(super) struct Op {
    /// Whose it is; meaningless for the wake-up and the alarm.
    pub(super) socket: SocketId,
    pub(super) work: Work,
}

/// What an operation owns.
#[derive(Debug)]
pub(super) enum Work {
    /// Multishot accept.
    Accept,
    /// Receive into provided slots, again and again or once.
    Recv { multi: bool },
    /// Receive into the final place of a large message, which lacks `remaining` bytes.
    Directed { place: RecvBuffer, remaining: usize },
    /// Waits until a datagram socket is readable; again and again.
    PollIn,
    /// Waits until a connection is made, or a datagram socket writable.
    PollOut,
    /// One send of a stream.
    Send(Box<Outgoing>),
    /// Waits for the eventfd; again and again.
    Wake,
    /// Waits for an instant.
    #[expect(dead_code, reason = "kept for the kernel, which reads it")]
    Alarm(Box<Timespec>),
}

impl Work {
    fn kind(&self) -> Kind {
        match self {
            Self::Accept => Kind::Accept,
            Self::Recv { .. } => Kind::Recv,
            Self::Directed { .. } => Kind::Directed,
            Self::PollIn => Kind::PollIn,
            Self::PollOut => Kind::PollOut,
            Self::Send(_) => Kind::Send,
            Self::Wake => Kind::Wake,
            Self::Alarm(_) => Kind::Alarm,
        }
    }
}

/// Bytes of one send operation, with the header and the pieces that the kernel reads.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) chain: Chain,
    /// For chains of several pieces; made when first needed.
    vector: Option<Box<Vector>>,
}

/// What `sendmsg` is given.
#[derive(Debug)]
struct Vector {
    header: libc::msghdr,
    pieces: [libc::iovec; PIECES_MAX],
}

impl Vector {
    fn new() -> Self {
        let header = MaybeUninit::<libc::msghdr>::zeroed();
        let piece = libc::iovec {
            iov_base: core::ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            // SAFETY: `msghdr` is plain integers and raw pointers; all zero is a valid value of it.
            header: unsafe { header.assume_init() },
            pieces: [piece; PIECES_MAX],
        }
    }
}

impl Outgoing {
    /// Takes segments from the front of `queue`: at most [`PIECES_MAX`], and no more once there are enough bytes.
    fn load(&mut self, queue: &mut Chain) {
        while self.chain.len() < PIECES_MAX && self.chain.bytes() < SEND_BYTES_AIM {
            let Some(segment) = queue.pop() else { break };
            self.chain.push(segment);
        }
    }

    /// The bytes, if they are one piece.
    fn only(&self) -> Option<(*const u8, u32)> {
        let mut segments = self.chain.segments();
        let (only, None) = (segments.next()?, segments.next()) else {
            return None;
        };
        let bytes = only.bytes();
        Some((bytes.as_ptr(), u32::try_from(bytes.len()).ok()?))
    }

    /// Points header and pieces at the chain, which stays where it is until the operation is over.
    fn aim(&mut self) -> *const libc::msghdr {
        let vector = self.vector.get_or_insert_with(|| Box::new(Vector::new()));
        let mut count = 0;
        for (piece, bytes) in vector
            .pieces
            .iter_mut()
            .zip(self.chain.segments().map(Segment::bytes))
        {
            piece.iov_base = bytes.as_ptr().cast_mut().cast();
            piece.iov_len = bytes.len();
            count += 1;
        }
        vector.header.msg_iov = vector.pieces.as_mut_ptr();
        vector.header.msg_iovlen = count;
        &raw const vector.header
    }
}

/// Id of a completed operation, checked against the slab.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    /// A living operation.
    Op(Id),
    /// A cancel request ended; its target lives on.
    Cancelled(Id),
    /// A cancel request ended; its target is gone.
    Nothing,
    /// Nobody's.
    Stale,
}

/// The ring and all that is in flight on it.
#[derive(Debug)]
pub(super) struct Flight<R> {
    pub(super) ring: R,
    table: Table<Op>,
    /// Entries that found the submission queue full. Bounded by the operations of `table`, twice (cancels).
    deferred: VecDeque<Entry>,
    /// Emptied sends, for the next ones.
    #[expect(
        clippy::vec_box,
        reason = "operations own the boxes; moving the contents would defeat that"
    )]
    spare: Vec<Box<Outgoing>>,
}

impl<R: Ring> Flight<R> {
    /// Nothing in flight yet, for a driver of at most `sockets` sockets.
    pub(super) fn new(ring: R, sockets: usize) -> Self {
        let max = sockets.saturating_mul(2).saturating_add(2);
        Self {
            ring,
            table: Table::new(max),
            deferred: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// True when no operation is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// True when something waits to be submitted.
    #[inline]
    pub(super) fn pending(&mut self) -> bool {
        self.ring.queued() > 0 || !self.deferred.is_empty()
    }

    /// Starts accepting on a listener until cancelled.
    pub(super) fn accept(&mut self, fd: RawFd, socket: SocketId) -> Id {
        let entry =
            opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
        self.start(socket, Work::Accept, entry.build())
    }

    /// Starts receiving into provided slots until cancelled.
    pub(super) fn recv_multi(&mut self, fd: RawFd, socket: SocketId) -> Id {
        let entry = opcode::RecvMulti::new(Fd(fd), GROUP).build();
        self.start(socket, Work::Recv { multi: true }, entry)
    }

    /// Starts receiving at most `bytes` into one provided slot.
    pub(super) fn recv_once(&mut self, fd: RawFd, socket: SocketId, bytes: usize) -> Id {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(Fd(fd), core::ptr::null_mut(), bytes).buf_group(GROUP);
        let entry = entry.build().flags(squeue::Flags::BUFFER_SELECT);
        self.start(socket, Work::Recv { multi: false }, entry)
    }

    /// Starts receiving the missing bytes of a large message into its place.
    pub(super) fn directed(
        &mut self,
        fd: RawFd,
        socket: SocketId,
        mut place: RecvBuffer,
        remaining: usize,
    ) -> Id {
        // The memory of a buffer does not move with its handle.
        let room = &mut place.spare_mut()[..remaining];
        let len = u32::try_from(room.len()).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(Fd(fd), room.as_mut_ptr(), len)
            .flags(libc::MSG_WAITALL)
            .build();
        self.start(socket, Work::Directed { place, remaining }, entry)
    }

    /// Waits for readiness: of a datagram socket again and again, else once.
    pub(super) fn poll(&mut self, fd: RawFd, socket: SocketId, work: Work) -> Id {
        let (events, multi) = match work {
            Work::PollOut => (libc::POLLOUT, false),
            _ => (libc::POLLIN, true),
        };
        let events = u32::from(events.cast_unsigned());
        self.start(
            socket,
            work,
            opcode::PollAdd::new(Fd(fd), events).multi(multi).build(),
        )
    }

    /// Completes at `at`.
    pub(super) fn alarm(&mut self, at: Instant) {
        let (seconds, nanos) = (at.as_nanos() / 1_000_000_000, at.as_nanos() % 1_000_000_000);
        #[expect(clippy::cast_possible_truncation, reason = "below a billion")]
        let time = Timespec::new().sec(seconds).nsec(nanos as u32);
        let time = Box::new(time);
        let entry = opcode::Timeout::new(&raw const *time)
            .flags(TimeoutFlags::ABS)
            .build();
        self.start(NOBODY, Work::Alarm(time), entry);
    }

    /// Starts sending the front of `queue`. `blocked` says that the socket just had no room.
    pub(super) fn send(
        &mut self,
        fd: RawFd,
        socket: SocketId,
        queue: &mut Chain,
        blocked: bool,
    ) -> Id {
        let mut outgoing = self.spare.pop().unwrap_or_default();
        outgoing.load(queue);
        self.resend(fd, socket, outgoing, blocked)
    }

    /// Starts sending what is left of `outgoing`.
    pub(super) fn resend(
        &mut self,
        fd: RawFd,
        socket: SocketId,
        mut outgoing: Box<Outgoing>,
        blocked: bool,
    ) -> Id {
        // The kernel goes on by itself until all is gone: one operation in flight keeps the order.
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let wait = if blocked { POLL_FIRST } else { 0 };
        let entry = match outgoing.only() {
            // No header and no vector for the kernel to fetch and check: 150 ns less.
            Some((bytes, len)) => opcode::Send::new(Fd(fd), bytes, len)
                .flags(flags)
                .ioprio(wait)
                .build(),
            None => opcode::SendMsg::new(Fd(fd), outgoing.aim())
                .flags(flags.cast_unsigned())
                .ioprio(wait)
                .build(),
        };
        self.start(socket, Work::Send(outgoing), entry)
    }

    /// Keeps an emptied send for the next one.
    pub(super) fn spare(&mut self, mut outgoing: Box<Outgoing>) {
        if self.spare.len() < SPARE_MAX {
            outgoing.chain.clear();
            if self.spare.len() >= SPARE_VECTORS_MAX {
                outgoing.vector = None;
            }
            self.spare.push(outgoing);
        }
    }

    /// Asks the kernel to end an operation. It lives on until its own last completion.
    pub(super) fn cancel(&mut self, id: Id) {
        let Some(op) = self.table.get(id) else { return };
        let entry = opcode::AsyncCancel::new(user_data(op.work.kind(), id)).build();
        self.push(entry.user_data(user_data(Kind::Cancel, id)));
    }

    /// Asks the kernel to end every operation in flight.
    ///
    /// One by one: a single request for all of them walks the kernel's whole table for each one it finds, which
    /// took 60 ms of every round with 3,000 in flight.
    pub(super) fn cancel_each(&mut self) {
        for id in self.table.ids() {
            self.cancel(id);
        }
    }

    /// Submits what is queued, runs deferred work, and sleeps if told to.
    ///
    /// # Errors
    /// See [`Ring::enter`].
    pub(super) fn enter(&mut self, park: Park, stats: &mut DriverStats) -> io::Result<()> {
        while !self.deferred.is_empty() {
            self.undefer();
            if self.deferred.is_empty() {
                break;
            }
            let before = self.deferred.len();
            self.ring.enter(Park::No, stats)?;
            self.undefer();
            if self.deferred.len() == before {
                // Not one was taken: completions must be reaped first.
                return Ok(());
            }
        }
        self.ring.enter(park, stats)
    }

    /// Whose completion this is.
    #[inline]
    pub(super) fn find(&self, completion: Completion) -> Found {
        let bits = completion.user_data;
        #[expect(clippy::cast_possible_truncation, reason = "takes the word apart")]
        let (index, generation) = (bits as u32, (bits >> 32) as u32 & GENERATION_MASK);
        let Some(kind) = Kind::from_bits(bits >> 60) else {
            return Found::Stale;
        };
        let living = self
            .table
            .next_from(index)
            .filter(|id| id.index() == index && id.generation() & GENERATION_MASK == generation);
        match (kind, living) {
            (Kind::Cancel, Some(id)) => Found::Cancelled(id),
            (Kind::Cancel, None) => Found::Nothing,
            (kind, Some(id)) if self.table.get(id).is_some_and(|op| op.work.kind() == kind) => {
                Found::Op(id)
            }
            _ => Found::Stale,
        }
    }

    /// A living operation.
    pub(super) fn get(&self, id: Id) -> Option<&Op> {
        self.table.get(id)
    }

    /// Takes an operation out after its last completion; what it owned is ours again.
    pub(super) fn land(&mut self, id: Id) -> Option<Op> {
        self.table.remove(id)
    }

    /// Forgets entries that the kernel never saw, with what they own; for shutting down.
    pub(super) fn drop_deferred(&mut self) {
        for entry in core::mem::take(&mut self.deferred) {
            let completion = Completion {
                user_data: entry.get_user_data(),
                result: 0,
                flags: 0,
            };
            if let Found::Op(id) = self.find(completion) {
                drop(self.land(id));
            }
        }
    }

    /// Handles a completion when nobody wants to hear of it any more.
    pub(super) fn discard(&mut self, completion: Completion) {
        let id = match self.find(completion) {
            Found::Op(id) => id,
            Found::Cancelled(id) if completion.result < 0 => return self.cancel(id),
            _ => return,
        };
        if self
            .get(id)
            .is_some_and(|op| matches!(op.work, Work::Accept))
        {
            // Nobody will adopt it.
            drop(descriptor(completion.result));
        }
        if !completion.more() {
            drop(self.land(id));
        }
    }

    /// Takes the receive slots back from the kernel.
    pub(super) fn unregister_slots(&mut self) -> bool {
        self.ring.unregister_buffers(GROUP).is_ok()
    }

    /// Frees nothing of what is in flight, ever: the kernel may still use it.
    pub(super) fn leak_all(&mut self) {
        let table = core::mem::replace(&mut self.table, Table::new(0));
        Box::leak(Box::new(table));
    }

    fn start(&mut self, socket: SocketId, work: Work, entry: Entry) -> Id {
        let kind = work.kind();
        let Ok(id) = self.table.insert(Op { socket, work }) else {
            unreachable!(
                "two operations per socket, the wake-up and the alarm: the slab holds them all"
            )
        };
        self.push(entry.user_data(user_data(kind, id)));
        id
    }

    fn push(&mut self, entry: Entry) {
        // SAFETY: the entry points into memory that its `Op` owns (or nowhere), which invariant 1 keeps;
        // invariant 2 keeps the descriptor.
        if !self.deferred.is_empty() || !unsafe { self.ring.push(&entry) } {
            self.deferred.push_back(entry);
        }
    }

    fn undefer(&mut self) {
        while let Some(entry) = self.deferred.front() {
            // SAFETY: as in `push`: the operation is still in the slab.
            if !unsafe { self.ring.push(entry) } {
                return;
            }
            self.deferred.pop_front();
        }
    }
}

/// The descriptor that a living accept operation brought, if it brought one.
pub(super) fn descriptor(result: i32) -> Option<OwnedFd> {
    // SAFETY: the kernel just made this descriptor for an operation whose id was checked (`Flight::find`), and
    // each completion is handled once; nobody else knows it.
    (result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(result) })
}

fn user_data(kind: Kind, id: Id) -> u64 {
    let generation = u64::from(id.generation() & GENERATION_MASK);
    (kind as u64) << 60 | generation << 32 | u64::from(id.index())
}
