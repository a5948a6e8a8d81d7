//! A stream's way up: from the kernel into the inlet, and through it to the sink.
//!
//! Below: `socket/direct.rs`. Above: [`Inlet`](crate::Inlet), which keeps unfinished messages contiguous.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;

use super::Common;
use super::socket::{Phase, Role, Socket, Stream};
use crate::socket::direct::{self, Moved};
use crate::{CloseCause, Fed, Sink, SocketId, Target};

/// Bytes that one socket may bring in one turn before the next one has its share: 256 KiB, four full
/// receives. A single receive may pass it while a large message goes straight into its place.
const TURN_BYTES_MAX: usize = 256 * 1024;
/// Room on the stack for what a closing socket discards.
const DISCARD_BYTES: usize = 16 * 1024;

/// How a socket's share of the turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// Nothing more to do until an edge, or a command, says so.
    Idle,
    /// More is likely to wait.
    More,
    /// No memory; try again in the next poll.
    Starved,
}

/// Receives what a listed stream holds, up to its share. Sets `hit` when data came. A socket that is over
/// has `doom` set afterwards.
#[inline]
pub(super) fn recv_stream<S: Sink>(
    id: SocketId,
    socket: &mut Socket,
    common: &mut Common,
    hit: &mut bool,
    sink: &mut S,
) -> Served {
    let Role::Stream(stream) = &mut socket.role else {
        return Served::Idle;
    };
    if stream.closing() {
        return discard(socket, common);
    }
    if stream.resume {
        stream.resume = false;
        let fed = stream.inlet.resume(id, &common.pools, sink);
        if let Some(served) = halted(fed, stream, &mut socket.on, &mut socket.doom, common) {
            return served;
        }
    }
    let mut budget = TURN_BYTES_MAX;
    loop {
        let Common {
            pools,
            scratch,
            stats,
            quiet,
            ..
        } = common;
        let mut portion = None;
        let (moved, asked) = match stream.inlet.target(scratch, pools) {
            Some(Target::One(room)) => {
                let whole = room.len();
                portion = stream.pace.portion(*quiet).filter(|it| it.get() < whole);
                let len = portion.map_or(whole, NonZeroUsize::get);
                (
                    direct::recv(socket.fd.as_fd(), &mut room[..len], stats),
                    len,
                )
            }
            Some(Target::Two(rooms)) => {
                let len = rooms.iter().map(|room| room.len()).sum();
                (direct::recv_two(socket.fd.as_fd(), rooms, stats), len)
            }
            None => {
                stats.starved += 1;
                return Served::Starved;
            }
        };
        let len = match moved {
            Moved::Done(len) => len,
            Moved::WouldBlock => {
                socket.readable = false;
                socket.doom = stream.fault.take().map(CloseCause::Broken);
                return Served::Idle;
            }
            Moved::End => {
                socket.readable = false;
                stream.ended = true;
                match stream.fault.take() {
                    Some(fault) => socket.doom = Some(CloseCause::Broken(fault)),
                    None => sink.ended(id),
                }
                return Served::Idle;
            }
            Moved::Fault(error) => {
                let cause = stream.fault.take().unwrap_or(error);
                socket.doom = Some(CloseCause::Broken(cause));
                return Served::Idle;
            }
        };
        *hit = true;
        stream.pace.took(len, *quiet);
        let full = len == asked;
        let brimful = full && portion.is_none();
        let fed = stream.inlet.took(id, len, brimful, scratch, pools, sink);
        if !full && stream.tcp && !stream.ends {
            // The receive emptied the socket; what comes later makes a new edge.
            socket.readable = false;
        }
        if let Some(served) = halted(fed, stream, &mut socket.on, &mut socket.doom, common) {
            return served;
        }
        budget = budget.saturating_sub(len);
        if !socket.readable {
            return Served::Idle;
        }
        // A portion's answers leave before more is taken.
        if !brimful || budget == 0 {
            return Served::More;
        }
    }
}

/// What follows when the inlet could not go on; `None` when it can.
#[inline]
fn halted(
    fed: Fed,
    stream: &mut Stream,
    on: &mut bool,
    doom: &mut Option<CloseCause>,
    common: &mut Common,
) -> Option<Served> {
    match fed {
        Fed::More => None,
        Fed::Paused => {
            *on = false;
            *doom = stream.fault.take().map(CloseCause::Broken);
            Some(Served::Idle)
        }
        Fed::Starved => {
            stream.resume = true;
            common.stats.starved += 1;
            Some(Served::Starved)
        }
    }
}

/// Receives for nobody: a closing socket waits for the peer's FIN, and must not make the peer wait for room.
fn discard(socket: &mut Socket, common: &mut Common) -> Served {
    let Role::Stream(stream) = &mut socket.role else {
        return Served::Idle;
    };
    let mut room = [0; DISCARD_BYTES];
    for _ in 0..TURN_BYTES_MAX / DISCARD_BYTES {
        match direct::recv(socket.fd.as_fd(), &mut room, &mut common.stats) {
            Moved::Done(_) => {}
            Moved::WouldBlock => {
                socket.readable = false;
                return Served::Idle;
            }
            Moved::End => {
                socket.readable = false;
                stream.ended = true;
                if stream.phase == Phase::Lingering {
                    socket.doom = Some(CloseCause::Requested);
                }
                return Served::Idle;
            }
            // Once all is sent it does not matter how the peer goes.
            Moved::Fault(_) if stream.phase == Phase::Lingering => {
                socket.doom = Some(CloseCause::Requested);
                return Served::Idle;
            }
            Moved::Fault(error) => {
                socket.doom = Some(CloseCause::Broken(error));
                return Served::Idle;
            }
        }
    }
    Served::More
}
