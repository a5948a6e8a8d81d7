//! Lanes on their way down: a stream each, as long as there is one to be had.
//!
//! A lane that finds no stream goes on the ordered one, message by message, and moves to a stream of its own as soon
//! as there is one: the first frame of that stream says how many ordered messages come before it, so that no order is
//! lost by moving. Three bounds keep lanes from standing in the way of the rest:
//!
//! * at most [`LANES_MAX`] have streams, and they never take the last one that the peer allows;
//! * together they have at most three quarters of the peer's window under way, so that a lane which waits for a lost
//!   packet, and fills that window with what came behind it, leaves room for everybody else;
//! * a lane writes nothing before what it has to come behind was written, so that it can't use up the window which
//!   that needs.
//!
//! docs/wire/quic.md#lanes

use std::sync::Arc;

use quinn_proto::{Connection, Dir, StreamId, VarInt};
use ringway_buf::Slice;
use ringway_proto::Header;

use super::line::Line;
use super::send::OWN_STREAM_BYTES_MIN;
use super::{LANE, LANE_DROPPED};
use crate::tracked::{Kin, Ledger};

/// Lanes of one session that have a stream at once.
const LANES_MAX: usize = 32;

/// A lane with a stream of its own.
#[derive(Debug)]
struct Lane {
    name: u32,
    stream: StreamId,
    line: Line,
    /// Nothing is written before so many bytes of the ordered stream were.
    behind_bytes: u64,
    /// The piece at the front counts as under way.
    counted: bool,
    last: bool,
}

/// All lanes of a session that have streams.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    all: Vec<Lane>,
    /// A stream that is kept for unordered messages, which have no other way: lanes live long.
    spare: Option<StreamId>,
    /// Bytes of lanes that were given to quinn-proto, since the start.
    given_bytes: u64,
    /// Which lane is asked first: the window that they share goes round.
    turn: usize,
}

impl Lanes {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Streams that carry nothing.
    pub(super) fn idle_streams(&self) -> usize {
        self.spare.is_some().into()
    }

    /// A stream for an unordered message.
    pub(super) fn open(&mut self, conn: &mut Connection) -> Option<StreamId> {
        conn.streams().open(Dir::Uni).or_else(|| self.spare.take())
    }

    /// Puts a message at the end of a lane. Hands the body back if the lane has no stream and gets none.
    pub(super) fn message(
        &mut self,
        (name, last): (u32, bool),
        (header, body): (&Header, Slice),
        conn: &mut Connection,
        (after, behind_bytes): (u64, u64),
        ledger: &Arc<Ledger>,
    ) -> Result<(), Slice> {
        // Behind its last message the name is another lane's.
        let mut all = self.all.iter();
        let found = all.position(|lane| lane.name == name && !lane.last);
        // A short end of what went in order till now, or a lane of one short message: not worth a stream.
        if found.is_none() && last && body.len() < OWN_STREAM_BYTES_MIN as usize {
            return Err(body);
        }
        let at = found.or_else(|| self.begin(name, conn, after, behind_bytes));
        let Some(lane) = at.and_then(|at| self.all.get_mut(at)) else {
            return Err(body);
        };
        lane.line.message(header, body, 0, ledger);
        lane.last |= last;
        Ok(())
    }

    fn begin(
        &mut self,
        name: u32,
        conn: &mut Connection,
        after: u64,
        behind_bytes: u64,
    ) -> Option<usize> {
        if self.all.len() >= LANES_MAX {
            return None;
        }
        let stream = conn.streams().open(Dir::Uni)?;
        if self.spare.is_none() {
            self.spare = conn.streams().open(Dir::Uni);
            if self.spare.is_none() {
                self.spare = Some(stream);
                return None;
            }
        }
        let mut line = Line::of(Kin::Lane);
        line.control(&Header {
            kind: LANE,
            word: after,
            ..Header::default()
        });
        self.all.push(Lane {
            name,
            stream,
            line,
            behind_bytes,
            counted: false,
            last: false,
        });
        self.all.len().checked_sub(1)
    }

    /// Nothing is sent any more: the lanes end with what they hold.
    pub(super) fn end(&mut self) {
        for lane in &mut self.all {
            lane.last = true;
        }
    }

    /// Gives a lane up: what the peer has not got, it does not get.
    pub(super) fn drop_lane(&mut self, name: u32, conn: &mut Connection, ledger: &Arc<Ledger>) {
        let given = &mut self.given_bytes;
        // Of one that has got its last message and one that has not, the name may be both's.
        self.all.retain_mut(|lane| {
            if lane.name != name {
                return true;
            }
            // What the batch holds is counted like all the rest when it goes.
            lane.line.seal(ledger);
            *given = given.saturating_add(lane.uncounted_bytes());
            // An error means that the peer has refused the stream, which ends the session anyway.
            let _known = conn
                .send_stream(lane.stream)
                .reset(VarInt::from_u32(LANE_DROPPED));
            false
        });
    }

    /// Moves to quinn-proto what it takes. `ordered_bytes` of the ordered stream were written.
    pub(super) fn pump(
        &mut self,
        conn: &mut Connection,
        ordered_bytes: u64,
        under_way_max: u64,
        ledger: &Arc<Ledger>,
    ) {
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn.checked_rem(self.all.len()).unwrap_or(0);
        self.all.rotate_left(turn);
        let given = &mut self.given_bytes;
        self.all.retain_mut(|lane| {
            if lane.behind_bytes > ordered_bytes {
                return true;
            }
            lane.line.seal(ledger);
            let mut stream = conn.send_stream(lane.stream);
            while let Some(piece) = lane.line.pieces.front_mut() {
                if !lane.counted {
                    let under_way = given.saturating_sub(ledger.lanes_freed());
                    let bytes = piece.len() as u64;
                    if under_way > 0 && under_way.saturating_add(bytes) > under_way_max {
                        return true;
                    }
                    *given = given.saturating_add(bytes);
                    lane.counted = true;
                }
                match stream.write_chunks(std::slice::from_mut(piece)) {
                    Ok(written) if written.bytes > 0 => {}
                    // The next pump tries again.
                    _ => return true,
                }
                if piece.is_empty() {
                    lane.line.pieces.pop_front();
                    lane.counted = false;
                }
            }
            !lane.last || stream.finish().is_err()
        });
    }
}

impl Lane {
    /// Bytes that will count as done with and do not count as under way.
    fn uncounted_bytes(&self) -> u64 {
        let skipped = usize::from(self.counted);
        let pieces = self.line.pieces.iter().skip(skipped);
        pieces.fold(0, |sum, piece| sum.saturating_add(piece.len() as u64))
    }
}
