//! The system calls of this driver: epoll through mio, its waker, and a sleep finer than a millisecond.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use ringway_buf::Id;

use crate::{SocketId, StartError};

/// Events fetched by one `epoll_wait`; the rest waits in the kernel for the next.
pub(super) const EVENTS_MAX: usize = 256;
/// The waker's token. No socket has it: it would need index and generation 2^32 - 1.
const BELL: Token = Token(usize::MAX);
/// `epoll_wait` sleeps whole milliseconds. Deadlines nearer than this sleep in `ppoll` on the epoll
/// descriptor, which costs one more call but wakes within the timer's slack (50 us).
const FINE_SLEEP: Duration = Duration::from_millis(20);

const _: () = assert!(
    size_of::<usize>() == 8,
    "an epoll token carries index and generation"
);

/// An epoll instance, the events it reported last, and its waker.
#[derive(Debug)]
pub(super) struct Poller {
    poll: Poll,
    events: Events,
    bell: Arc<Bell>,
}

/// What happened to a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readiness {
    pub(super) socket: SocketId,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// FIN, hang-up or error: the next receives bring what is left, then the end.
    pub(super) ends: bool,
}

/// One report of [`Poller::wait`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    /// A socket is ready for something.
    Socket(Readiness),
    /// The waker was used.
    Woken,
}

#[derive(Debug)]
struct Bell(mio::Waker);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Fails only when the eventfd is gone, and then so is the sleeper.
        let _gone = self.0.wake();
    }
}

impl Poller {
    /// Opens an epoll instance and a waker:
    /// [epoll_create1(2)](https://man7.org/linux/man-pages/man2/epoll_create.2.html),
    /// [eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html).
    pub(super) fn new() -> Result<Self, StartError> {
        let fix = "raise `ulimit -n` or fs.epoll.max_user_watches";
        let failed = |call| move |error| StartError::System { call, error, fix };
        let poll = Poll::new().map_err(failed("epoll_create1"))?;
        let bell = mio::Waker::new(poll.registry(), BELL).map_err(failed("eventfd"))?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            bell: Arc::new(Bell(bell)),
        })
    }

    /// The epoll instance itself, which can be watched by another one.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the instance is closed with `self`, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.poll.as_raw_fd()) }
    }

    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.bell))
    }

    /// Watches a socket, edge-triggered, for data and, if asked, for room:
    /// [epoll_ctl(2)](https://man7.org/linux/man-pages/man2/epoll_ctl.2.html).
    pub(super) fn watch(
        &self,
        fd: BorrowedFd<'_>,
        socket: SocketId,
        writes: bool,
    ) -> io::Result<()> {
        let (token, interest) = (token(socket), interest(writes));
        self.poll
            .registry()
            .register(&mut SourceFd(&fd.as_raw_fd()), token, interest)
    }

    /// Changes what a socket is watched for. What holds already is reported once more.
    pub(super) fn rewatch(
        &self,
        fd: BorrowedFd<'_>,
        socket: SocketId,
        writes: bool,
    ) -> io::Result<()> {
        let (token, interest) = (token(socket), interest(writes));
        self.poll
            .registry()
            .reregister(&mut SourceFd(&fd.as_raw_fd()), token, interest)
    }

    /// Ends the watch. Closing alone would not, when another descriptor of the same socket lives on.
    pub(super) fn unwatch(&self, fd: BorrowedFd<'_>) {
        // Fails only when the socket was not watched, which is what is wanted.
        let _unwatched = self
            .poll
            .registry()
            .deregister(&mut SourceFd(&fd.as_raw_fd()));
    }

    /// Fetches events: [epoll_wait(2)](https://man7.org/linux/man-pages/man2/epoll_wait.2.html). Sleeps up
    /// to `limit`, or without one until something happens. Returns how many calls it made.
    pub(super) fn wait(&mut self, limit: Option<Duration>) -> u64 {
        let mut calls = 1;
        let mut limit = limit;
        if let Some(short) = limit.filter(|short| !short.is_zero() && *short < FINE_SLEEP) {
            fine_sleep(&self.poll, short);
            limit = Some(Duration::ZERO);
            calls = 2;
        }
        // Interrupted by a signal: nothing was reported.
        if self.poll.poll(&mut self.events, limit).is_err() {
            self.events.clear();
        }
        calls
    }

    /// Takes the events out, so that the whole driver can be told of each; return them by
    /// [`put_back`](Self::put_back).
    pub(super) fn take_events(&mut self) -> Fetched {
        Fetched(mem::replace(&mut self.events, Events::with_capacity(0)))
    }

    pub(super) fn put_back(&mut self, fetched: Fetched) {
        self.events = fetched.0;
    }
}

/// The events of one [`Poller::wait`].
#[derive(Debug)]
pub(super) struct Fetched(Events);

impl Fetched {
    pub(super) fn reports(&self) -> impl Iterator<Item = Report> {
        self.0.iter().map(report)
    }
}

fn report(event: &Event) -> Report {
    if event.token() == BELL {
        return Report::Woken;
    }
    let ends = event.is_read_closed() || event.is_error();
    Report::Socket(Readiness {
        socket: SocketId(Id::from_bits(event.token().0 as u64)),
        readable: event.is_readable() || ends,
        writable: event.is_writable() || event.is_error(),
        ends,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "both have 64 bits, asserted above"
)]
fn token(socket: SocketId) -> Token {
    Token(socket.0.to_bits() as usize)
}

fn interest(writes: bool) -> Interest {
    if writes {
        Interest::READABLE | Interest::WRITABLE
    } else {
        Interest::READABLE
    }
}

/// Sleeps until `poll` has events or `limit` is over:
/// [ppoll(2)](https://man7.org/linux/man-pages/man2/poll.2.html).
fn fine_sleep(poll: &Poll, limit: Duration) {
    let mut set = libc::pollfd {
        fd: poll.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let limit = libc::timespec {
        tv_sec: 0,
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    // SAFETY: one initialised `pollfd` and a time limit, both local; a null mask changes no signals.
    // Whatever it returns, `epoll_wait` is asked next.
    unsafe { libc::ppoll(&raw mut set, 1, &raw const limit, core::ptr::null()) };
}
