//! One socket of the baseline, with what is needed to read and write messages on it.
//!
//! The loops above are written once and compiled for each kind of link, as they would be if written for it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::super::baseline::Baseline;
use super::frame::{Inbox, Outbox};
use super::sys::{self, Envelope};

/// Datagrams that one segmented send carries.
const SEGMENTS_MAX: usize = 64;
/// Bytes that one segmented send carries.
const SEGMENTED_BYTES_MAX: usize = 65_507;

/// A socket that carries messages.
pub(crate) trait Link {
    /// The socket.
    fn fd(&self) -> BorrowedFd<'_>;

    /// One receive. False: nothing is there (or, on a blocking socket, nothing came for the stall limit).
    fn pull(&mut self, inbox: &mut Inbox) -> io::Result<bool>;

    /// The next message of what was received.
    fn next<'a>(&self, inbox: &'a mut Inbox) -> io::Result<Option<&'a [u8]>>;

    /// Writes what is gathered, as far as the socket takes it. True: all of it left.
    fn push(&mut self, out: &mut Outbox) -> io::Result<bool>;

    /// Keeps an unfinished message aside, so that the inbox can serve another link.
    fn put_aside(&mut self, inbox: &mut Inbox);

    /// Brings it back.
    fn bring_back(&mut self, inbox: &mut Inbox);
}

/// A connected stream socket.
#[derive(Debug)]
pub(crate) struct Stream {
    fd: OwnedFd,
    unfinished: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            unfinished: Vec::new(),
        }
    }
}

impl Link for Stream {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    #[inline]
    fn pull(&mut self, inbox: &mut Inbox) -> io::Result<bool> {
        match sys::recv(self.fd.as_fd(), inbox.room()) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                inbox.filled(len);
                Ok(true)
            }
            Err(error) => nothing(error),
        }
    }

    #[inline]
    fn next<'a>(&self, inbox: &'a mut Inbox) -> io::Result<Option<&'a [u8]>> {
        inbox.next_frame()
    }

    #[inline]
    fn push(&mut self, out: &mut Outbox) -> io::Result<bool> {
        while !out.rest().is_empty() {
            match sys::send(self.fd.as_fd(), out.rest()) {
                Ok(len) => out.left(len),
                Err(error) => return nothing(error),
            }
        }
        Ok(true)
    }

    fn put_aside(&mut self, inbox: &mut Inbox) {
        self.unfinished.clear();
        self.unfinished.extend_from_slice(inbox.unfinished());
    }

    fn bring_back(&mut self, inbox: &mut Inbox) {
        inbox.resume(&self.unfinished);
    }
}

/// How a datagram socket is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As ringway does: control messages, segmentation both ways. `to_sender` answers whoever sent last.
    LikeForLike { to_sender: bool },
    /// The same, one datagram per call.
    OneByOne { to_sender: bool },
    /// Connected, one datagram per call, no control messages: the least there is.
    Bare,
}

impl Manner {
    /// The manner of a baseline over datagrams; `to_sender` for servers.
    pub(crate) fn of(baseline: Baseline, to_sender: bool) -> Self {
        match baseline {
            Baseline::UdpBare => Self::Bare,
            Baseline::UdpOneByOne => Self::OneByOne { to_sender },
            _ => Self::LikeForLike { to_sender },
        }
    }
}

/// A datagram socket.
#[derive(Debug)]
pub(crate) struct Datagram {
    fd: OwnedFd,
    manner: Manner,
    envelope: Box<Envelope>,
    /// Datagrams that said "congestion experienced", which the control messages are read for.
    congested: u64,
}

impl Datagram {
    pub(crate) fn new(fd: OwnedFd, manner: Manner) -> Self {
        Self {
            fd,
            manner,
            envelope: Box::new(Envelope::new()),
            congested: 0,
        }
    }
}

impl Link for Datagram {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    #[inline]
    fn pull(&mut self, inbox: &mut Inbox) -> io::Result<bool> {
        let room = inbox.datagram_room();
        let received = match self.manner {
            Manner::Bare => sys::recv(self.fd.as_fd(), room).map(|len| (len, len)),
            Manner::LikeForLike { to_sender } | Manner::OneByOne { to_sender } => self
                .envelope
                .recv(self.fd.as_fd(), room, to_sender)
                .map(|arrival| {
                    self.congested += u64::from(arrival.ecn == 3);
                    (arrival.len, arrival.segment)
                }),
        };
        match received {
            Ok((len, segment)) => {
                inbox.datagrams_filled(len, segment);
                Ok(true)
            }
            Err(error) => nothing(error),
        }
    }

    #[inline]
    fn next<'a>(&self, inbox: &'a mut Inbox) -> io::Result<Option<&'a [u8]>> {
        Ok(inbox.next_segment())
    }

    #[inline]
    fn push(&mut self, out: &mut Outbox) -> io::Result<bool> {
        let segment = out.segment().max(1);
        let most = match self.manner {
            Manner::Bare | Manner::OneByOne { .. } => 1,
            Manner::LikeForLike { .. } => SEGMENTS_MAX.min(SEGMENTED_BYTES_MAX / segment).max(1),
        };
        while !out.rest().is_empty() {
            let rest = out.rest();
            let burst = &rest[..rest.len().min(most * segment)];
            let sent = match self.manner {
                Manner::Bare => sys::send(self.fd.as_fd(), burst),
                Manner::LikeForLike { to_sender } | Manner::OneByOne { to_sender } => {
                    let many = burst.len() > segment;
                    let note = many.then(|| u16::try_from(segment).unwrap_or(u16::MAX));
                    self.envelope.send(self.fd.as_fd(), burst, note, to_sender)
                }
            };
            match sent {
                Ok(len) => out.left(len),
                Err(error) => return nothing(error),
            }
        }
        Ok(true)
    }

    fn put_aside(&mut self, _inbox: &mut Inbox) {}

    fn bring_back(&mut self, _inbox: &mut Inbox) {}
}

/// A call that found nothing to do is no error.
fn nothing(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(false),
        _ => Err(error),
    }
}
