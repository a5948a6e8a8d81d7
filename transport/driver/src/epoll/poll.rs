//! One turn of the driver: report what is due, serve who is listed, ask epoll, perhaps sleep.
//!
//! Invariant that makes edges safe: a socket that is read and may hold data in the kernel is listed, or
//! starved, or hot, or an edge of it waits in epoll. Sleeping is right when nothing is listed.

use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::time::Duration;

use ringway_buf::Instant;

use super::Epoll;
use super::accept::accept;
use super::datagram::{recv_datagrams, send_datagrams};
use super::recv::{Served, recv_stream};
use super::send::send_stream;
use super::socket::{Phase, Role};
use super::sys::{EVENTS_MAX, Readiness, Report};
use crate::counted::Counted;
use crate::socket::open;
use crate::{CloseCause, Park, Sink, SocketId};

/// Longest sleep while a socket waits for memory: what another thread gives back rings no bell.
const STARVED_SLEEP_MAX: Duration = Duration::from_millis(5);

impl Epoll {
    /// See [`Driver::poll`](crate::Driver::poll). Serves at most `EVENTS_MAX` listed sockets twice, each
    /// within its share.
    #[inline]
    pub(super) fn turn<S: Sink>(&mut self, park: Park, sink: &mut S) -> u32 {
        let mut sink = Counted::new(sink);
        self.settle(&mut sink);
        if !self.lists.starved.is_empty() {
            self.list_starved();
        }
        let mut asks = true;
        if park == Park::No && self.hot.leads() {
            // In this order: whom the second lists again is asked in the next turn, when its answers have left.
            self.serve_ready(&mut sink);
            let hit = self.serve_hot(&mut sink);
            asks = !self.hot.skip(hit);
        }
        if asks {
            self.serve_ready(&mut sink);
            let idle = self.lists.ready.is_empty();
            // What serving has decided, a `closed` above all, is reported before anyone sleeps.
            let due = !self.lists.doomed.is_empty() || !self.lists.flush.is_empty();
            let sleeps = idle && sink.events == 0 && !due;
            self.look(if sleeps { park } else { Park::No }, &mut sink);
            // Otherwise the new ones queue behind those that wait already, for the next turn.
            if idle {
                self.serve_ready(&mut sink);
            }
        }
        if !self.lists.flush.is_empty() {
            self.flush_listed(&mut sink);
        }
        self.settle(&mut sink);
        let quiet = &mut self.common.quiet;
        let vain = park == Park::No && sink.events == 0;
        *quiet = if vain { quiet.saturating_add(1) } else { 0 };
        sink.events
    }

    /// Sends on every socket that is listed for it, once.
    #[inline]
    pub(super) fn flush_listed<S: Sink>(&mut self, sink: &mut S) {
        for _ in 0..self.lists.flush.len() {
            let Some(id) = self.lists.flush.pop_front() else {
                return;
            };
            let Some(socket) = self.sockets.get_mut(id.0) else {
                continue;
            };
            socket.flushing = false;
            if socket.doom.is_some() {
                continue;
            }
            let more = match socket.role {
                Role::Stream(_) => send_stream(id, socket, &mut self.common, sink),
                Role::Datagram(_) => send_datagrams(id, socket, &mut self.common, sink),
                Role::Listener => false,
            };
            if more {
                socket.flushing = true;
                self.lists.flush.push_back(id);
            }
            if socket.blocked || socket.watches_room || socket.readable || socket.doom.is_some() {
                self.sent_on(id);
            }
        }
    }

    /// What follows from a send: a watch for room, a doom, or data to look for.
    fn sent_on(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let wants_room = socket.blocked;
        // Tcp tells of room only after it refused some, so its watch may stay. Unix and udp sockets tell
        // whenever the peer took something: there the watch ends with the need.
        let tcp = matches!(&socket.role, Role::Stream(stream) if stream.tcp);
        let watch = wants_room || (socket.watches_room && (tcp || socket.flushing));
        if watch != socket.watches_room {
            self.common.stats.syscalls += 1;
            match self.poller.rewatch(socket.fd.as_fd(), id, watch) {
                Ok(()) => socket.watches_room = watch,
                Err(error) if socket.doom.is_none() => {
                    socket.doom = Some(CloseCause::Broken(error));
                }
                Err(_) => {}
            }
        }
        if socket.doom.is_some() {
            self.lists.doomed.push(id);
        } else if socket.readable {
            self.list_if_ready(id);
        }
    }

    /// Reports what commands and turns have decided: who is connected, who is closed.
    #[inline]
    pub(super) fn settle<S: Sink>(&mut self, sink: &mut S) {
        if !self.lists.opened.is_empty() || !self.lists.doomed.is_empty() {
            self.report(sink);
        }
    }

    #[cold]
    fn report<S: Sink>(&mut self, sink: &mut S) {
        let mut opened = mem::take(&mut self.lists.opened);
        for id in opened.drain(..) {
            if self
                .sockets
                .get(id.0)
                .is_some_and(|socket| socket.doom.is_none())
            {
                sink.connected(id);
            }
        }
        self.lists.opened = opened;
        let mut doomed = mem::take(&mut self.lists.doomed);
        for id in doomed.drain(..) {
            let Some(socket) = self.sockets.remove(id.0) else {
                continue;
            };
            self.poller.unwatch(socket.fd.as_fd());
            self.hot.remove(id);
            let cause = socket.doom.unwrap_or(CloseCause::Requested);
            drop(socket.fd);
            sink.closed(id, cause);
        }
        self.lists.doomed = doomed;
    }

    #[cold]
    fn list_starved(&mut self) {
        let mut starved = mem::take(&mut self.lists.starved);
        for id in starved.drain(..) {
            self.list_if_ready(id);
        }
        self.lists.starved = starved;
    }

    /// Tries the hot sockets, whether epoll knows of data or not. Returns whether any came.
    #[inline]
    fn serve_hot<S: Sink>(&mut self, sink: &mut S) -> bool {
        let mut any = false;
        for position in 0..self.hot.len() {
            let Some(id) = self.hot.socket(position) else {
                break;
            };
            match self.sockets.get(id.0) {
                Some(socket) if !socket.listed && socket.doom.is_none() && socket.takes() => {}
                _ => continue,
            }
            if self.serve(id, sink) {
                any = true;
            } else {
                self.hot.miss(id);
            }
        }
        if any {
            self.hot.cool();
        }
        any
    }

    /// Serves each socket that is listed now, once.
    #[inline]
    fn serve_ready<S: Sink>(&mut self, sink: &mut S) {
        for _ in 0..self.lists.ready.len().min(EVENTS_MAX) {
            let Some(id) = self.lists.ready.pop_front() else {
                return;
            };
            let Some(socket) = self.sockets.get_mut(id.0) else {
                continue;
            };
            socket.listed = false;
            if socket.doom.is_none() && socket.takes() {
                self.serve(id, sink);
            }
        }
    }

    /// Serves one socket and lists it again if more waits. Returns whether data came.
    #[inline]
    fn serve<S: Sink>(&mut self, id: SocketId, sink: &mut S) -> bool {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return false;
        };
        let mut hit = false;
        let served = match &socket.role {
            Role::Stream(_) => recv_stream(id, socket, &mut self.common, &mut hit, sink),
            Role::Datagram(_) => recv_datagrams(id, socket, &mut self.common, &mut hit, sink),
            Role::Listener => accept(id, socket, &mut self.common, sink),
        };
        if socket.doom.is_some() {
            self.lists.doomed.push(id);
            return hit;
        }
        match served {
            Served::Idle => {}
            Served::More => {
                socket.readable = true;
                socket.listed = true;
                self.lists.ready.push_back(id);
            }
            Served::Starved => {
                socket.readable = true;
                self.lists.starved.push(id);
            }
        }
        if !socket.takes() {
            self.hot.remove(id);
        } else if hit {
            self.hot.hit(id);
        }
        hit
    }

    /// Asks epoll, sleeping if told to, and lists who has something.
    fn look<S: Sink>(&mut self, park: Park, sink: &mut S) {
        let limit = match park {
            Park::No => Some(Duration::ZERO),
            Park::Until(_) if mem::take(&mut self.woken) => Some(Duration::ZERO),
            Park::Until(deadline) => {
                let limit = deadline.map(|at| at.saturating_since(Instant::monotonic()));
                let starved = !self.lists.starved.is_empty();
                let cap = starved.then_some(STARVED_SLEEP_MAX);
                limit.into_iter().chain(cap).min()
            }
        };
        let sleeps = limit != Some(Duration::ZERO);
        self.common.stats.syscalls += self.poller.wait(limit);
        let (mut any, mut others) = (false, false);
        if sleeps {
            self.common.stats.parks += 1;
            sink.woke(Instant::monotonic());
        }
        let fetched = self.poller.take_events();
        for report in fetched.reports() {
            any = true;
            match report {
                Report::Woken => self.woken = !sleeps,
                Report::Socket(ready) => {
                    others |= !self.hot.contains(ready.socket);
                    self.on_ready(ready);
                }
            }
        }
        self.poller.put_back(fetched);
        if !any {
            self.common.stats.empty_polls += 1;
        }
        self.hot.asked(others);
    }

    fn on_ready(&mut self, ready: Readiness) {
        let id = ready.socket;
        let Some(socket) = self.sockets.get_mut(id.0) else {
            self.common.stats.stale += 1;
            return;
        };
        if socket.doom.is_some() {
            return;
        }
        socket.readable |= ready.readable;
        if let Role::Stream(stream) = &mut socket.role {
            stream.ends |= ready.ends;
            if stream.phase == Phase::Connecting {
                if ready.writable || ready.ends {
                    self.on_connect_ready(id, ready.ends);
                }
                return;
            }
        }
        if ready.writable && socket.blocked {
            socket.blocked = false;
            if !socket.flushing {
                socket.flushing = true;
                self.lists.flush.push_back(id);
            }
        }
        self.list_if_ready(id);
    }

    /// A socket that was connecting is ready for something: it is connected, or failed.
    fn on_connect_ready(&mut self, id: SocketId, ends: bool) {
        let Some(socket) = self.sockets.get_mut(id.0) else {
            return;
        };
        let Role::Stream(stream) = &mut socket.role else {
            return;
        };
        if let Err(error) = open::connect_result(socket.fd.as_fd()) {
            self.doom(id, CloseCause::ConnectFailed(error));
            return;
        }
        if open::peer_address(socket.fd.as_fd(), false).is_none() {
            // Neither failed nor connected: another edge will come, unless it hung up.
            if ends {
                let error = io::Error::from_raw_os_error(libc::ENOTCONN);
                self.doom(id, CloseCause::ConnectFailed(error));
            }
            return;
        }
        stream.phase = Phase::Open;
        self.lists.opened.push(id);
        if !stream.queue.is_empty() && !socket.flushing {
            socket.flushing = true;
            self.lists.flush.push_back(id);
        }
    }
}
