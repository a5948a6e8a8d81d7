//! Layouts of reliable UDP, field by field as in `docs/wire/rudp.md`.
//!
//! The lowest part of the machine: cursors that read and write little-endian numbers, and one type per packet
//! and frame. Reading fails on length and on numbers that no version has; what is legal when is not decided
//! here.

use ringway_buf::crc32c;

use super::number::{short, wide};
use crate::wire::index_of;

/// The version that this machine speaks.
pub const VERSION: u16 = 1;
/// `magic` of INIT: "rUDP".
pub(crate) const MAGIC: u32 = 0x5044_5572;
/// Bytes of the header of every packet.
pub const PACKET_HEADER_BYTES: usize = 20;
/// Least bytes of a datagram that carries an INIT.
pub const INIT_BYTES_MIN: usize = 1200;
/// Bytes of a message frame in front of its body, if it is whole.
pub const MESSAGE_HEAD_BYTES: usize = 20;
/// Bytes of a message frame in front of its body, if it is a piece.
pub const PIECE_HEAD_BYTES: usize = 28;
/// Frames start at multiples of this many bytes.
const ALIGN: usize = 4;
/// Most pairs of an acknowledgement.
pub(crate) const ACK_PAIRS_MAX: usize = 31;
/// Bytes of a cookie.
pub(crate) const COOKIE_BYTES: usize = 16;

/// Marks a packet of the handshake.
const LONG: u8 = 0x80;
/// Set in every packet.
const FIXED: u8 = 0x40;
/// The version in the first byte of packets behind the handshake.
const SHORT_VERSION: u8 = 1 << 4;
/// Bits of the first byte that choose a key in a profile that has keys.
const PHASE: u8 = 0x08;
const KIND: u8 = 0x07;

/// The packet has an acknowledgement in front of its frames.
const HAS_ACK: u8 = 0x01;
/// The acknowledgement ends with a count of marked packets.
const HAS_CE: u8 = 0x02;

/// A packet of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Long {
    Init = 1,
    Cookie = 2,
    Accept = 3,
    Refuse = 4,
    Reset = 5,
}

/// What the first byte says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    Frames,
    Long(Long),
}

/// The header of every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PacketHeader {
    pub(crate) first: First,
    pub(crate) flags: u8,
    pub(crate) cid: u64,
    pub(crate) number: u32,
}

/// Reads little-endian numbers off the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    taken: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            taken: 0,
        }
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        self.taken = self.taken.saturating_add(N);
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        self.taken = self.taken.saturating_add(len);
        Some(head)
    }

    /// Bytes read so far.
    pub(crate) const fn taken(&self) -> usize {
        self.taken
    }

    /// Skips to the next multiple of four; what lacks at the end of the packet is no fault.
    fn align(&mut self) {
        let gap = self
            .taken
            .next_multiple_of(ALIGN)
            .saturating_sub(self.taken);
        let _skipped = self.take(gap.min(self.rest.len()));
    }
}

/// Writes little-endian numbers; refuses what does not fit.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    pub(crate) fn room(&self) -> usize {
        self.out.len().saturating_sub(self.at)
    }

    pub(crate) const fn len(&self) -> usize {
        self.at
    }

    #[must_use = "false means that nothing was written"]
    pub(crate) fn put(&mut self, bytes: &[u8]) -> bool {
        let end = self.at.saturating_add(bytes.len());
        let Some(target) = self.out.get_mut(self.at..end) else {
            return false;
        };
        target.copy_from_slice(bytes);
        self.at = end;
        true
    }

    /// Zeros up to the next multiple of four, as far as there is room.
    fn align(&mut self) {
        let gap = self.at.next_multiple_of(ALIGN).saturating_sub(self.at);
        self.zeros(gap.min(self.room()));
    }

    /// Zeros: padding frames, each one byte.
    pub(crate) fn zeros(&mut self, len: usize) {
        let end = self.at.saturating_add(len);
        if let Some(target) = self.out.get_mut(self.at..end) {
            target.fill(0);
            self.at = end;
        }
    }
}

impl PacketHeader {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let first = match reader.u8()? {
            byte if byte & FIXED == 0 => return None,
            byte if byte & LONG == 0 => {
                if byte & !PHASE != FIXED | SHORT_VERSION {
                    return None;
                }
                First::Frames
            }
            byte => First::Long(match byte & KIND {
                1 => Long::Init,
                2 => Long::Cookie,
                3 => Long::Accept,
                4 => Long::Refuse,
                5 => Long::Reset,
                _ => return None,
            }),
        };
        let flags = reader.u8()?;
        let _profile = reader.u16()?;
        let _sum = reader.u32()?;
        Some(Self {
            first,
            flags,
            cid: reader.u64()?,
            number: reader.u32()?,
        })
    }

    /// Writes the header with a sum of zero; [`seal`] fills that in.
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> bool {
        let first = match self.first {
            First::Frames => FIXED | SHORT_VERSION,
            First::Long(Long::Init) => LONG | FIXED | 1,
            First::Long(Long::Cookie) => LONG | FIXED | 2,
            First::Long(Long::Accept) => LONG | FIXED | 3,
            First::Long(Long::Refuse) => LONG | FIXED | 4,
            First::Long(Long::Reset) => LONG | FIXED | 5,
        };
        let mut bytes = [0; PACKET_HEADER_BYTES];
        let mut inner = Writer::new(&mut bytes);
        let whole = inner.put(&[first, self.flags, 0, 0, 0, 0, 0, 0])
            && inner.put(&self.cid.to_le_bytes())
            && inner.put(&self.number.to_le_bytes());
        whole && writer.put(&bytes)
    }

    pub(crate) const fn frames(cid: u64, number: u32, flags: u8) -> Self {
        Self {
            first: First::Frames,
            flags,
            cid,
            number,
        }
    }

    pub(crate) const fn has_ack(&self) -> bool {
        self.flags & HAS_ACK != 0
    }
}

/// The sum over a whole packet, its own field counted as zero.
fn sum_of(packet: &[u8]) -> Option<u32> {
    let (head, rest) = packet.split_first_chunk::<8>()?;
    let [a, b, c, d, ..] = *head;
    Some(crc32c(crc32c(0, &[a, b, c, d, 0, 0, 0, 0]), rest))
}

/// Writes the sum of a packet into its header.
pub(crate) fn seal(packet: &mut [u8]) {
    if let Some(sum) = sum_of(packet)
        && let Some(field) = packet.get_mut(4..8)
    {
        field.copy_from_slice(&sum.to_le_bytes());
    }
}

/// Whether a packet is what its sender wrote.
pub(crate) fn is_intact(packet: &[u8]) -> bool {
    let said = packet.get(4..8).and_then(|field| field.first_chunk::<4>());
    said.is_some_and(|said| sum_of(packet) == Some(u32::from_le_bytes(*said)))
}

/// An acknowledgement: ranges of packet numbers, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ack {
    /// Low half of the largest number.
    pub(crate) largest: u32,
    /// Time since it arrived, in microseconds.
    pub(crate) delay_us: u16,
    /// Numbers right below the largest that arrived as well.
    pub(crate) first: u8,
    /// Missing numbers, then numbers that arrived, going down.
    pub(crate) pairs: [(u16, u16); ACK_PAIRS_MAX],
    pub(crate) pair_count: u8,
    /// Packets marked "congestion experienced" so far, low half.
    pub(crate) ce: Option<u32>,
}

impl Ack {
    /// Most bytes that one takes.
    pub(crate) const BYTES_MAX: usize = 8 + 4 * ACK_PAIRS_MAX + 4;

    pub(crate) fn pairs(&self) -> &[(u16, u16)] {
        self.pairs
            .get(..usize::from(self.pair_count))
            .unwrap_or_default()
    }

    pub(crate) fn flags(&self) -> u8 {
        if self.ce.is_some() {
            HAS_ACK | HAS_CE
        } else {
            HAS_ACK
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>, header: &PacketHeader) -> Option<Self> {
        let mut ack = Self {
            largest: reader.u32()?,
            delay_us: reader.u16()?,
            first: reader.u8()?,
            pair_count: reader.u8()?,
            ..Self::default()
        };
        let pairs = ack.pairs.get_mut(..usize::from(ack.pair_count))?;
        for pair in pairs {
            *pair = (reader.u16()?, reader.u16()?);
        }
        if header.flags & HAS_CE != 0 {
            ack.ce = Some(reader.u32()?);
        }
        Some(ack)
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> bool {
        let mut whole = writer.put(&self.largest.to_le_bytes())
            && writer.put(&self.delay_us.to_le_bytes())
            && writer.put(&[self.first, self.pair_count]);
        for (gap, len) in self.pairs() {
            whole = whole && writer.put(&gap.to_le_bytes()) && writer.put(&len.to_le_bytes());
        }
        if let Some(ce) = self.ce {
            whole = whole && writer.put(&ce.to_le_bytes());
        }
        whole
    }
}

/// What both ends say of themselves in the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub(crate) cid: u64,
    pub(crate) nonce: u64,
    pub(crate) epoch: u64,
    pub(crate) features_offered: u64,
    pub(crate) features_required: u64,
    pub(crate) message_bytes_max: u32,
    pub(crate) credit_bytes: u32,
    pub(crate) credit_messages: u32,
    pub(crate) datagram_bytes_max: u32,
    pub(crate) ack_delay_max_us: u32,
    pub(crate) idle_timeout_ms: u32,
    pub(crate) keepalive_interval_min_ms: u32,
    pub(crate) room_bytes: u32,
}

impl Parameters {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let parameters = Self {
            cid: reader.u64()?,
            nonce: reader.u64()?,
            epoch: reader.u64()?,
            features_offered: reader.u64()?,
            features_required: reader.u64()?,
            message_bytes_max: reader.u32()?,
            credit_bytes: reader.u32()?,
            credit_messages: reader.u32()?,
            datagram_bytes_max: reader.u32()?,
            ack_delay_max_us: reader.u32()?,
            idle_timeout_ms: reader.u32()?,
            keepalive_interval_min_ms: reader.u32()?,
            room_bytes: reader.u32()?,
        };
        Some(parameters)
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> bool {
        let wide = [
            self.cid,
            self.nonce,
            self.epoch,
            self.features_offered,
            self.features_required,
        ];
        let short = [
            self.message_bytes_max,
            self.credit_bytes,
            self.credit_messages,
            self.datagram_bytes_max,
            self.ack_delay_max_us,
            self.idle_timeout_ms,
            self.keepalive_interval_min_ms,
            self.room_bytes,
        ];
        wide.iter().all(|field| writer.put(&field.to_le_bytes()))
            && short.iter().all(|field| writer.put(&field.to_le_bytes()))
    }
}

/// The body of an INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Init {
    pub(crate) version_min: u16,
    pub(crate) version_max: u16,
    pub(crate) parameters: Parameters,
    pub(crate) cookie: Option<[u8; COOKIE_BYTES]>,
}

impl Init {
    /// `None` if it is not an INIT at all; parameters and cookie only of a version that this machine speaks.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.u32()? != MAGIC {
            return None;
        }
        let (version_min, version_max) = (reader.u16()?, reader.u16()?);
        let parameters = Parameters::read(reader)?;
        let cookie_bytes = usize::from(reader.u16()?);
        let _reserved = reader.u16()?;
        let cookie = match cookie_bytes {
            0 => None,
            COOKIE_BYTES => Some(reader.array()?),
            _ => return None,
        };
        Some(Self {
            version_min,
            version_max,
            parameters,
            cookie,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> bool {
        let cookie = self.cookie.as_ref().map_or(&[][..], |cookie| cookie);
        let cookie_bytes = u16::try_from(cookie.len()).unwrap_or(0);
        writer.put(&MAGIC.to_le_bytes())
            && writer.put(&self.version_min.to_le_bytes())
            && writer.put(&self.version_max.to_le_bytes())
            && self.parameters.write(writer)
            && writer.put(&cookie_bytes.to_le_bytes())
            && writer.put(&[0, 0])
            && writer.put(cookie)
    }
}

/// The body of a COOKIE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cookie {
    pub(crate) nonce: u64,
    pub(crate) cookie: [u8; COOKIE_BYTES],
}

impl Cookie {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            nonce: reader.u64()?,
            cookie: reader.array()?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> bool {
        writer.put(&self.nonce.to_le_bytes()) && writer.put(&self.cookie)
    }
}

/// The body of an ACCEPT; the nonce in its parameters is the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) parameters: Parameters,
    pub(crate) confirm: u64,
}

impl Accept {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            parameters: Parameters::read(reader)?,
            confirm: reader.u64()?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> bool {
        self.parameters.write(writer) && writer.put(&self.confirm.to_le_bytes())
    }
}

/// The body of a REFUSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refuse {
    pub(crate) nonce: u64,
    pub(crate) code: u16,
    pub(crate) version_min: u16,
    pub(crate) version_max: u16,
}

impl Refuse {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            nonce: reader.u64()?,
            code: reader.u16()?,
            version_min: reader.u16()?,
            version_max: reader.u16()?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> bool {
        writer.put(&self.nonce.to_le_bytes())
            && writer.put(&self.code.to_le_bytes())
            && writer.put(&self.version_min.to_le_bytes())
            && writer.put(&self.version_max.to_le_bytes())
    }
}

/// Numbers of frames.
mod frame {
    pub(super) const PAD: u8 = 0;
    pub(super) const PING: u8 = 1;
    pub(super) const CREDIT: u8 = 2;
    pub(super) const CONFIRM: u8 = 3;
    pub(super) const CHALLENGE: u8 = 4;
    pub(super) const RESPONSE: u8 = 5;
    pub(super) const GOAWAY: u8 = 6;
    pub(super) const FINAL: u8 = 7;
    pub(super) const CLOSE: u8 = 8;
    pub(super) const ROOM: u8 = 9;
    pub(super) const MESSAGE: u8 = 0x40;
    pub(super) const PIECE: u8 = 0x41;
}

/// Which queue a message belongs to; a channel of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lane {
    Ordered = 0,
    Unordered = 1,
    Unreliable = 2,
}

impl Lane {
    pub(crate) const ALL: [Self; 3] = [Self::Ordered, Self::Unordered, Self::Unreliable];

    const fn from_wire(channel: u8) -> Option<Self> {
        match channel {
            0 => Some(Self::Ordered),
            1 => Some(Self::Unordered),
            2 => Some(Self::Unreliable),
            _ => None,
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::Ordered => 0,
            Self::Unordered => 1,
            Self::Unreliable => 2,
        }
    }
}

/// The head of a message frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageHead {
    pub(crate) lane: Lane,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// Low half of the message's number in its lane.
    pub(crate) id: u32,
    pub(crate) word: u64,
    pub(crate) tag: u16,
    /// Bytes of the body in this frame.
    pub(crate) len: u16,
    /// Length of the whole body, and where this piece lies in it.
    pub(crate) piece: Option<(u32, u32)>,
}

impl MessageHead {
    pub(crate) fn total(&self) -> u32 {
        match self.piece {
            None => u32::from(self.len),
            Some((total, _)) => total,
        }
    }

    pub(crate) fn offset(&self) -> u32 {
        self.piece.map_or(0, |(_, offset)| offset)
    }

    /// Writes the head and the body.
    pub(crate) fn write(&self, body: &[u8], writer: &mut Writer<'_>) -> bool {
        let mut bytes = [0; PIECE_HEAD_BYTES];
        let mut head = Writer::new(&mut bytes);
        let number = match self.piece {
            None => frame::MESSAGE,
            Some(_) => frame::PIECE,
        };
        let mut whole = head.put(&[number, self.lane.to_wire(), self.kind, self.flags])
            && head.put(&self.id.to_le_bytes())
            && head.put(&self.word.to_le_bytes())
            && head.put(&self.tag.to_le_bytes())
            && head.put(&self.len.to_le_bytes());
        if let Some((total, offset)) = self.piece {
            whole = whole && head.put(&total.to_le_bytes()) && head.put(&offset.to_le_bytes());
        }
        let len = head.len();
        let Some(head) = bytes.get(..len) else {
            return false;
        };
        let fits = writer.room() >= len.saturating_add(body.len());
        let done = whole && fits && writer.put(head) && writer.put(body);
        writer.align();
        done
    }
}

/// A frame, borrowed from its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Ping,
    Credit {
        bytes: u64,
        messages: u64,
    },
    Confirm(u64),
    Challenge(u64),
    Response(u64),
    Goaway {
        ordered: u64,
        unordered: u64,
    },
    Final {
        ordered: u64,
        unordered: u64,
    },
    Close(u16),
    Room {
        serial: u64,
        bytes: u64,
    },
    /// A message or a piece; its body starts at this byte of the packet.
    Message(MessageHead, usize),
}

/// A frame that can't be read, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) u8);

impl Frame {
    /// Most bytes of a frame that is no message.
    pub(crate) const CONTROL_BYTES_MAX: usize = 20;

    /// The next frame; `None` at the end of the packet.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Unreadable> {
        let number = loop {
            match reader.u8() {
                None => return Ok(None),
                Some(frame::PAD) => {}
                Some(number) => break number,
            }
        };
        let read = match number {
            frame::MESSAGE | frame::PIECE => Self::message(reader, number == frame::PIECE),
            _ => Self::control(reader, number),
        };
        read.map(Some).ok_or(Unreadable(number))
    }

    fn control(reader: &mut Reader<'_>, number: u8) -> Option<Self> {
        let _reserved = reader.u8()?;
        let code = reader.u16()?;
        Some(match number {
            frame::PING => Self::Ping,
            frame::CREDIT => Self::Credit {
                bytes: reader.u64()?,
                messages: reader.u64()?,
            },
            frame::CONFIRM => Self::Confirm(reader.u64()?),
            frame::CHALLENGE => Self::Challenge(reader.u64()?),
            frame::RESPONSE => Self::Response(reader.u64()?),
            frame::GOAWAY => Self::Goaway {
                ordered: reader.u64()?,
                unordered: reader.u64()?,
            },
            frame::FINAL => Self::Final {
                ordered: reader.u64()?,
                unordered: reader.u64()?,
            },
            frame::CLOSE => Self::Close(code),
            frame::ROOM => Self::Room {
                serial: reader.u64()?,
                bytes: reader.u64()?,
            },
            _ => return None,
        })
    }

    fn message(reader: &mut Reader<'_>, is_piece: bool) -> Option<Self> {
        let mut head = MessageHead {
            lane: Lane::from_wire(reader.u8()?)?,
            kind: reader.u8()?,
            flags: reader.u8()?,
            id: reader.u32()?,
            word: reader.u64()?,
            tag: reader.u16()?,
            len: reader.u16()?,
            piece: None,
        };
        if is_piece {
            let (total, offset) = (reader.u32()?, reader.u32()?);
            let end = offset.checked_add(u32::from(head.len))?;
            if end > total {
                return None;
            }
            head.piece = Some((total, offset));
        }
        let at = reader.taken();
        let _body = reader.take(usize::from(head.len))?;
        reader.align();
        Some(Self::Message(head, at))
    }

    /// Writes a frame that is no message.
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> bool {
        let mut bytes = [0; Self::CONTROL_BYTES_MAX];
        let mut inner = Writer::new(&mut bytes);
        let (number, code, words) = match *self {
            Self::Ping => (frame::PING, 0, [None, None]),
            Self::Credit { bytes, messages } => (frame::CREDIT, 0, [Some(bytes), Some(messages)]),
            Self::Confirm(nonce) => (frame::CONFIRM, 0, [Some(nonce), None]),
            Self::Challenge(token) => (frame::CHALLENGE, 0, [Some(token), None]),
            Self::Response(token) => (frame::RESPONSE, 0, [Some(token), None]),
            Self::Goaway { ordered, unordered } => {
                (frame::GOAWAY, 0, [Some(ordered), Some(unordered)])
            }
            Self::Final { ordered, unordered } => {
                (frame::FINAL, 0, [Some(ordered), Some(unordered)])
            }
            Self::Close(code) => (frame::CLOSE, code, [None, None]),
            Self::Room { serial, bytes } => (frame::ROOM, 0, [Some(serial), Some(bytes)]),
            Self::Message(..) => return false,
        };
        let mut whole = inner.put(&[number, 0]) && inner.put(&u16::to_le_bytes(code));
        for word in words.into_iter().flatten() {
            whole = whole && inner.put(&word.to_le_bytes());
        }
        let len = inner.len();
        whole && bytes.get(..len).is_some_and(|frame| writer.put(frame))
    }
}

/// The header of a message as the layer above knows it.
pub(crate) fn header_of(head: &MessageHead) -> crate::wire::Header {
    crate::wire::Header {
        length: head.total(),
        kind: head.kind.max(crate::wire::kind::MESSAGE_MIN),
        flags: head.flags,
        tag: head.tag,
        word: head.word,
    }
}

/// Where the piece of a frame lies in its message, as numbers that are never an empty range: an empty message
/// counts as one unit.
pub(crate) fn span(offset: u32, len: usize, total: u32) -> core::ops::Range<u64> {
    if total == 0 {
        return 0..1;
    }
    let start = u64::from(offset);
    start..start.saturating_add(wide(len))
}

/// Units of a whole message, see [`span`].
pub(crate) fn units(total: u32) -> u64 {
    u64::from(total.max(1))
}

/// The body of a frame's message in `packet`.
pub(crate) fn body_of<'a>(packet: &'a [u8], at: usize, head: &MessageHead) -> Option<&'a [u8]> {
    packet.get(at..at.checked_add(usize::from(head.len))?)
}

/// A wire length as the length of a slice, for those who index by it.
pub(crate) fn length(total: u32) -> usize {
    index_of(total)
}

const _: () = assert!(PACKET_HEADER_BYTES.is_multiple_of(ALIGN));
const _: () = assert!(MESSAGE_HEAD_BYTES.is_multiple_of(ALIGN));
const _: () = assert!(PIECE_HEAD_BYTES.is_multiple_of(ALIGN));

/// How much of a body fits a frame of a packet with `room` bytes left, if it is sent as a piece.
pub(crate) fn piece_room(room: usize) -> u32 {
    short(room.saturating_sub(PIECE_HEAD_BYTES)).min(u32::from(u16::MAX))
}

#[cfg(test)]
mod tests;
