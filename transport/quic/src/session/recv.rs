//! The way up: from streams and datagrams of QUIC to messages.
//!
//! Messages are taken out one by one, when the engine asks: what it does not want yet stays in quinn-proto, within
//! the window that was granted to the peer. The ordered stream is read last, because a peer announces its last
//! message there only after all others have arrived. A lane is read when the ordered messages that come before it were
//! delivered.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use quinn_proto::{Connection, ReadError, StreamId, VarInt};
use ringway_buf::{Pools, RecvBuffer};
use ringway_proto::packet::{Body, Fault, PacketEvent, SessionId};
use ringway_proto::{CloseCode, HEADER_BYTES, Header, Input, flag, kind};

use super::body::{Filling, Starved};
use super::{LANE, LANE_DROPPED, Session, Stage, Surroundings};

/// Number of the frame that carries stream data, for faults.
const STREAM: u64 = 8;
/// Number of the frame by which a peer takes a stream back.
const RESET_STREAM: u64 = 4;
/// Number of the frame that carries a datagram.
const DATAGRAM: u64 = 0x30;

/// What reading gave.
#[derive(Debug)]
pub(crate) enum Read {
    /// A message.
    Message(PacketEvent),
    /// Something else was queued for the engine.
    Queued,
    /// Nothing is there now.
    Dry,
    /// Memory lacks; ask again a little later.
    Starved,
}

/// What has arrived and is not delivered yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    main: Main,
    /// Ordered messages that were delivered, since the start.
    ordered: u64,
    own: Vec<Own>,
    /// Unreliable messages may be there.
    pub(super) datagrams: bool,
    /// Messages that the engine gave back, oldest first; bounded by what it polled before it paused the session.
    returned: VecDeque<(Header, RecvBuffer)>,
}

impl Inbox {
    /// Whether anything may be there that was not looked at.
    pub(super) fn has_news(&self) -> bool {
        self.main.readable
            || self.datagrams
            || !self.returned.is_empty()
            || self.own.iter().any(|own| own.is_due(self.ordered))
    }

    /// The engine could not use a message yet.
    pub(super) fn put_back(&mut self, header: Header, body: RecvBuffer) {
        self.returned.push_back((header, body));
    }

    /// The peer has opened a stream for one message, or for a lane.
    pub(super) fn open(&mut self, stream: StreamId) {
        self.own.push(Own::new(stream));
    }

    /// All streams beside the ordered one.
    pub(super) fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.own.iter().map(|own| own.stream)
    }

    /// The ordered stream has news.
    pub(super) fn main_readable(&mut self) {
        self.main.readable = true;
    }

    /// A stream has news.
    pub(super) fn readable(&mut self, stream: StreamId) {
        match self.own.iter_mut().find(|own| own.stream == stream) {
            Some(own) => own.readable = true,
            None => self.main.readable = true,
        }
    }
}

/// The ordered stream: frames one behind the other.
#[derive(Debug, Default)]
struct Main {
    readable: bool,
    /// The frame at the front and what follows it in the same packet.
    front: Bytes,
    /// How much of the front the machine wants to see at once.
    need: usize,
    /// The message whose body is being received.
    filling: Option<(Header, Filling)>,
    /// Padding that is still to come.
    skip: usize,
}

/// What a stream beside the ordered one carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cargo {
    /// Its first header has not come.
    Unknown,
    /// One message, which has not come whole.
    One,
    /// One message, which was delivered: nothing follows but the end.
    Done,
    /// The messages of a lane, which come behind so many ordered ones.
    Lane { after: u64 },
}

/// A stream beside the ordered one.
#[derive(Debug)]
struct Own {
    stream: StreamId,
    readable: bool,
    cargo: Cargo,
    front: Bytes,
    filling: Option<(Header, Filling)>,
}

impl Own {
    const fn new(stream: StreamId) -> Self {
        Self {
            stream,
            readable: true,
            cargo: Cargo::Unknown,
            front: Bytes::new(),
            filling: None,
        }
    }

    /// Whether something may be there that may be delivered when so many ordered messages were.
    fn is_due(&self, ordered: u64) -> bool {
        self.readable && !matches!(self.cargo, Cargo::Lane { after } if after > ordered)
    }
}

/// What a stream has to give.
enum Piece {
    Bytes(Bytes),
    Blocked,
    End,
    Reset(VarInt),
}

fn next_piece(conn: &mut Connection, stream: StreamId) -> Piece {
    let mut stream = conn.recv_stream(stream);
    // Closed: it was read to its end before.
    let Ok(mut chunks) = stream.read(true) else {
        return Piece::Blocked;
    };
    match chunks.next(usize::MAX) {
        Ok(Some(chunk)) => Piece::Bytes(chunk.bytes),
        Ok(None) => Piece::End,
        Err(ReadError::Blocked) => Piece::Blocked,
        Err(ReadError::Reset(code)) => Piece::Reset(code),
    }
}

/// Puts `more` behind `front`. Copies only where a frame straddles two packets.
fn join(front: &mut Bytes, more: Bytes) {
    if front.is_empty() {
        *front = more;
        return;
    }
    let mut both = BytesMut::with_capacity(front.len().saturating_add(more.len()));
    both.extend_from_slice(front);
    both.extend_from_slice(&more);
    *front = both.freeze();
}

fn message(session: SessionId, header: Header, body: Body) -> Read {
    Read::Message(PacketEvent::Message {
        session,
        header,
        body,
    })
}

impl Session {
    /// The next message, or what else is at the front.
    pub(crate) fn read(&mut self, around: &mut Surroundings<'_>) -> Read {
        if !self.wants_reading() {
            return Read::Dry;
        }
        if let Some((header, body)) = self.inbox.returned.pop_front() {
            return message(self.id, header, Body::Owned(body));
        }
        // Nothing overtakes the hello.
        if self.is_handshaking() {
            return self.read_main(around, false);
        }
        match self.read_datagram(around) {
            Read::Dry => {}
            other => return other,
        }
        match self.read_own(around) {
            Read::Dry => self.read_main(around, false),
            // What lacks memory keeps nobody waiting who lacks none. Only the end waits for it.
            Read::Starved => match self.read_main(around, true) {
                Read::Dry => Read::Starved,
                other => other,
            },
            other => other,
        }
    }

    /// Reads the ordered stream; not beyond the announcement of the end if others wait for memory.
    fn read_main(&mut self, around: &mut Surroundings<'_>, others_starve: bool) -> Read {
        let Some(stream) = self.main else {
            return Read::Dry;
        };
        loop {
            while self.inbox.main.front.len() < self.inbox.main.need.max(1) {
                if !self.inbox.main.readable {
                    return Read::Dry;
                }
                match next_piece(&mut self.conn, stream) {
                    Piece::Bytes(bytes) => join(&mut self.inbox.main.front, bytes),
                    Piece::Blocked => self.inbox.main.readable = false,
                    Piece::End | Piece::Reset(_) => return self.main_ended(around),
                }
            }
            let main = &mut self.inbox.main;
            let skipped = main.skip.min(main.front.len());
            drop(main.front.split_to(skipped));
            main.skip = main.skip.saturating_sub(skipped);
            if let Some((header, filling)) = &mut main.filling {
                let header = *header;
                match fill(filling, &mut main.front, around.pools) {
                    Err(Starved) => return Read::Starved,
                    Ok(None) => continue,
                    Ok(Some(body)) => {
                        main.filling = None;
                        self.inbox.ordered = self.inbox.ordered.saturating_add(1);
                        let framed = HEADER_BYTES.saturating_add(header.length as usize);
                        main.skip = header.frame_bytes().saturating_sub(framed);
                        return message(self.id, header, body);
                    }
                }
            }
            if main.front.is_empty() {
                continue;
            }
            if others_starve && is_final(&main.front) {
                return Read::Starved;
            }
            main.need = 0;
            match self
                .machine
                .handle_bytes(around.machine, &main.front, around.now)
            {
                Ok(Input::Need(need)) => main.need = need,
                Ok(Input::Consumed(count)) => {
                    drop(main.front.split_to(count.min(main.front.len())));
                    let before = around.events.len();
                    self.machine_events(around);
                    if around.events.len() > before || self.is_over() {
                        return Read::Queued;
                    }
                }
                Ok(Input::Message(header) | Input::Large(header)) => {
                    drop(main.front.split_to(HEADER_BYTES.min(main.front.len())));
                    let filling = Filling::new(header.length as usize);
                    main.filling = Some((header, filling));
                    // An empty body is whole without another byte.
                    if header.length == 0 {
                        match finish(&mut self.inbox.main.filling, around.pools) {
                            Ok(body) => {
                                self.inbox.ordered = self.inbox.ordered.saturating_add(1);
                                return message(self.id, header, body);
                            }
                            Err(Starved) => return Read::Starved,
                        }
                    }
                }
                Err(violation) => {
                    let code = violation.code().unwrap_or(CloseCode::Malformed);
                    self.violate(Fault::Stream(violation), code, around);
                    return Read::Queued;
                }
            }
        }
    }

    /// The peer has ended the ordered stream. Nobody does that before the last announcement.
    fn main_ended(&mut self, around: &Surroundings<'_>) -> Read {
        self.inbox.main.readable = false;
        let leftover = self.inbox.main.front.len();
        let clean = self.machine.handle_end(leftover, around.now) == ringway_proto::Ending::Clean;
        if !clean || self.inbox.main.filling.is_some() {
            let fault = Fault::Malformed { frame: STREAM };
            self.violate(fault, CloseCode::Malformed, around);
            return Read::Queued;
        }
        Read::Dry
    }

    fn read_own(&mut self, around: &Surroundings<'_>) -> Read {
        // An end that is over keeps what came before, in whatever order.
        let after_final = self.stage == Stage::Open && self.machine.peer_is_final();
        let ordered = self.inbox.ordered;
        let mut starved = false;
        let mut index = 0;
        while let Some(own) = self.inbox.own.get_mut(index) {
            if !own.is_due(ordered) {
                index = index.saturating_add(1);
                continue;
            }
            let outcome = own.read(&mut self.conn, around, ordered, after_final);
            match outcome {
                Ok(OwnRead::Dry) => index = index.saturating_add(1),
                Ok(OwnRead::Starved) => {
                    starved = true;
                    index = index.saturating_add(1);
                }
                Ok(OwnRead::Over) => drop(self.inbox.own.swap_remove(index)),
                Ok(OwnRead::Whole(header, body)) => {
                    // Counts as a message passed, for `idle_timeout`.
                    self.machine.sent(around.now);
                    return message(self.id, header, body);
                }
                Err(fault) => {
                    self.violate(fault, close_code(&fault), around);
                    return Read::Queued;
                }
            }
        }
        if starved { Read::Starved } else { Read::Dry }
    }

    fn read_datagram(&mut self, around: &Surroundings<'_>) -> Read {
        if !self.inbox.datagrams {
            return Read::Dry;
        }
        let Some(mut bytes) = self.conn.datagrams().recv() else {
            self.inbox.datagrams = false;
            return Read::Dry;
        };
        match checked(&bytes, around.machine.message_bytes_max) {
            Ok(header) if header.frame_len() == bytes.len() => {
                drop(bytes.split_to(HEADER_BYTES));
                let mut filling = Filling::new(header.length as usize);
                self.machine.sent(around.now);
                match fill(&mut filling, &mut bytes, around.pools) {
                    Ok(Some(body)) => message(self.id, header, body),
                    // It may get lost on the way, so it may get lost here.
                    Ok(None) | Err(Starved) => Read::Queued,
                }
            }
            Ok(_) => {
                let fault = Fault::Malformed { frame: DATAGRAM };
                self.violate(fault, CloseCode::Malformed, around);
                Read::Queued
            }
            Err(fault) => {
                self.violate(fault, close_code(&fault), around);
                Read::Queued
            }
        }
    }
}

enum OwnRead {
    /// Nothing more is there now, or it is not due.
    Dry,
    Starved,
    Whole(Header, Body),
    /// The stream has ended, and everything was delivered.
    Over,
}

impl Own {
    fn read(
        &mut self,
        conn: &mut Connection,
        around: &Surroundings<'_>,
        ordered: u64,
        after_final: bool,
    ) -> Result<OwnRead, Fault> {
        loop {
            if let Some((header, filling)) = &mut self.filling {
                let header = *header;
                match fill(filling, &mut self.front, around.pools) {
                    Err(Starved) => return Ok(OwnRead::Starved),
                    Ok(None) => {}
                    Ok(Some(body)) => {
                        self.filling = None;
                        if self.cargo == Cargo::One {
                            self.cargo = Cargo::Done;
                        }
                        return Ok(OwnRead::Whole(header, body));
                    }
                }
            } else if self.cargo == Cargo::Done && !self.front.is_empty() {
                return Err(Fault::Contradiction);
            } else if self.front.len() >= HEADER_BYTES {
                self.begin(around.machine.message_bytes_max, after_final)?;
                if !self.is_due(ordered) {
                    return Ok(OwnRead::Dry);
                }
                continue;
            }
            match next_piece(conn, self.stream) {
                Piece::Bytes(bytes) => join(&mut self.front, bytes),
                Piece::Blocked => {
                    self.readable = false;
                    return Ok(OwnRead::Dry);
                }
                // Before the first header came nobody knows what it was to be.
                Piece::Reset(code)
                    if code == VarInt::from_u32(LANE_DROPPED)
                        && matches!(self.cargo, Cargo::Unknown | Cargo::Lane { .. }) =>
                {
                    return Ok(OwnRead::Over);
                }
                Piece::Reset(_) => {
                    return Err(Fault::Malformed {
                        frame: RESET_STREAM,
                    });
                }
                Piece::End => {
                    let whole = self.filling.is_none() && self.front.is_empty();
                    let kept = matches!(self.cargo, Cargo::Done | Cargo::Lane { .. });
                    return if whole && kept {
                        Ok(OwnRead::Over)
                    } else {
                        Err(Fault::Contradiction)
                    };
                }
            }
        }
    }

    /// Takes the header at the front.
    fn begin(&mut self, message_bytes_max: u32, after_final: bool) -> Result<(), Fault> {
        if after_final {
            return Err(Fault::AfterFinal);
        }
        let lane = Header::read(&self.front).filter(|header| header.kind == LANE);
        if let (Cargo::Unknown, Some(lane)) = (self.cargo, lane) {
            if lane.length > 0 {
                return Err(Fault::Malformed { frame: STREAM });
            }
            self.cargo = Cargo::Lane { after: lane.word };
        } else {
            let header = checked(&self.front, message_bytes_max)?;
            if self.cargo == Cargo::Unknown {
                self.cargo = Cargo::One;
            }
            self.filling = Some((header, Filling::new(header.length as usize)));
        }
        drop(self.front.split_to(HEADER_BYTES));
        Ok(())
    }
}

/// Moves bytes into a body; gives it when it is whole.
fn fill(filling: &mut Filling, front: &mut Bytes, pools: &Pools) -> Result<Option<Body>, Starved> {
    filling.fill(front, pools)?;
    if filling.missing() > 0 {
        return Ok(None);
    }
    filling.done(pools).map(|body| Some(Body::Owned(body)))
}

/// Takes a body that is whole.
fn finish(filling: &mut Option<(Header, Filling)>, pools: &Pools) -> Result<Body, Starved> {
    let Some((_, whole)) = filling else {
        return Err(Starved);
    };
    let body = whole.done(pools)?;
    *filling = None;
    Ok(Body::Owned(body))
}

/// Whether this begins with the announcement that nothing follows.
fn is_final(front: &[u8]) -> bool {
    let header = Header::read(front);
    header.is_some_and(|it| it.kind == kind::GOAWAY && it.flags & flag::FINAL != 0)
}

/// The header of a message outside of the ordered stream.
fn checked(bytes: &[u8], max: u32) -> Result<Header, Fault> {
    let Some(header) = Header::read(bytes).filter(Header::is_message) else {
        return Err(Fault::Malformed { frame: STREAM });
    };
    if header.length > max {
        return Err(Fault::MessageTooLong {
            length: header.length.into(),
            max,
        });
    }
    Ok(header)
}

/// Bytes of a message without padding.
trait FrameLen {
    fn frame_len(&self) -> usize;
}

impl FrameLen for Header {
    fn frame_len(&self) -> usize {
        HEADER_BYTES.saturating_add(self.length as usize)
    }
}

const fn close_code(fault: &Fault) -> CloseCode {
    match fault {
        Fault::MessageTooLong { .. } => CloseCode::MessageTooLong,
        _ => CloseCode::Malformed,
    }
}
