//! Message headers with control messages in storage of fixed size: no allocation, no moving parts.
//!
//! Used by direct calls (`direct.rs`, `burst.rs`) and by ring operations, which need the same headers to stay
//! in place until their completion: box a [`SendMessage`] or [`RecvMessage`] and keep it with the operation.
//!
//! Control messages are read and written through checked slices; no `unsafe` is needed here. What makes a
//! header dangerous is only its use: the pointers in it are valid as long as message and payload stay.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::name::{NAME_BYTES, Name, ip_of};

/// Size of a control message's header, padded as `CMSG_ALIGN` does.
const HEADER_BYTES: usize = align(size_of::<libc::cmsghdr>());
/// A control message that holds an integer.
const INT_BYTES: usize = HEADER_BYTES + align(size_of::<i32>());
/// The longer one of `IP_PKTINFO` and `IPV6_PKTINFO`.
const INFO_BYTES: usize = HEADER_BYTES + align(size_of::<libc::in6_pktinfo>());
/// Room for what a receive may bring: `UDP_GRO`, `IP_TOS` and `IPV6_TCLASS`, the local address, and some to spare.
pub const RECV_CONTROL_BYTES: usize = 192;
/// Room for what a send may carry: `UDP_SEGMENT`, `IP_TOS` or `IPV6_TCLASS`, and the local address or the other of both.
pub const SEND_CONTROL_BYTES: usize = 2 * INT_BYTES + INFO_BYTES;

/// Where the local address stands in `IP_PKTINFO`; in `IPV6_PKTINFO` it is the beginning.
const V4_OFFSET: usize = 4;
const LEVEL_OFFSET: usize = offset_of!(libc::cmsghdr, cmsg_level);
const TYPE_OFFSET: usize = offset_of!(libc::cmsghdr, cmsg_type);

const _: () = assert!(offset_of!(libc::cmsghdr, cmsg_len) == 0);
const _: () = assert!(3 * INT_BYTES + 2 * INFO_BYTES <= RECV_CONTROL_BYTES);
const _: () = assert!(offset_of!(libc::in_pktinfo, ipi_spec_dst) == V4_OFFSET);
const _: () = assert!(offset_of!(libc::in6_pktinfo, ipi6_addr) == 0);

#[expect(clippy::cast_possible_truncation, reason = "a constant of 112")]
const NAME_LEN: libc::socklen_t = NAME_BYTES as libc::socklen_t;

/// The ECN bits of a TOS or traffic class byte.
const ECN_MASK: u8 = 0b11;

const fn align(len: usize) -> usize {
    len.next_multiple_of(size_of::<usize>())
}

/// What control messages said about received datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Size of each coalesced datagram; `None` when there is only one.
    pub segment_bytes: Option<u32>,
    /// ECN bits of the IP header, 0 to 3.
    pub ecn: u8,
    /// The address of ours that they were sent to, if the socket was asked for it.
    pub local: Option<IpAddr>,
}

/// Reads the control messages in `bytes`, as far as the kernel filled it. Malformed rest is ignored.
#[must_use]
#[inline]
pub fn notes_of(bytes: &[u8]) -> Notes {
    let mut notes = Notes::default();
    let mut rest = bytes;
    while let Some((level, kind, data, behind)) = split(rest) {
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => notes.segment_bytes = int_of(data),
            (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                // One byte for IPv4, a native integer for IPv6.
                let class = int_of(data).or_else(|| data.first().copied().map(u32::from));
                let [low, ..] = class.unwrap_or(0).to_le_bytes();
                notes.ecn = low & ECN_MASK;
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let address = data.get(V4_OFFSET..).and_then(<[u8]>::first_chunk::<4>);
                notes.local = address.map(|octets| Ipv4Addr::from(*octets).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let address = data.first_chunk::<16>();
                notes.local = address.map(|octets| Ipv6Addr::from(*octets).into());
            }
            _ => {}
        }
        rest = behind;
    }
    notes
}

/// Level, type and data of the first control message, and what is behind it.
#[inline]
fn split(bytes: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let len = usize::from_ne_bytes(*bytes.first_chunk()?);
    let level = i32::from_ne_bytes(*bytes.get(LEVEL_OFFSET..)?.first_chunk()?);
    let kind = i32::from_ne_bytes(*bytes.get(TYPE_OFFSET..)?.first_chunk()?);
    let data = bytes.get(HEADER_BYTES..len)?;
    let behind = bytes
        .get(len.checked_next_multiple_of(size_of::<usize>())?..)
        .unwrap_or(&[]);
    Some((level, kind, data, behind))
}

fn int_of(data: &[u8]) -> Option<u32> {
    data.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Control messages of a receive.
#[repr(C, align(8))]
#[derive(Clone, Debug)]
pub struct RecvControl {
    bytes: [u8; RECV_CONTROL_BYTES],
}

/// Control messages of a send.
#[repr(C, align(8))]
#[derive(Clone, Debug)]
pub struct SendControl {
    bytes: [u8; SEND_CONTROL_BYTES],
    len: usize,
}

impl SendControl {
    /// No control messages.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [0; SEND_CONTROL_BYTES],
            len: 0,
        }
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The kernel shall split the payload into datagrams of `segment_bytes`.
    pub fn segment(&mut self, segment_bytes: u16) {
        self.push(
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            &segment_bytes.to_ne_bytes(),
        );
    }

    /// ECN bits of this send, instead of the socket's own.
    pub fn ecn(&mut self, ecn: u8, v6: bool) {
        let class = i32::from(ecn & ECN_MASK).to_ne_bytes();
        let (level, kind) = if v6 {
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
        } else {
            (libc::IPPROTO_IP, libc::IP_TOS)
        };
        self.push(level, kind, &class);
    }

    /// The address that this send leaves from, instead of the one that the route would choose.
    pub fn source(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                let mut info = [0; size_of::<libc::in_pktinfo>()];
                info[V4_OFFSET..V4_OFFSET + 4].copy_from_slice(&address.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            IpAddr::V6(address) => {
                let mut info = [0; size_of::<libc::in6_pktinfo>()];
                info[..16].copy_from_slice(&address.octets());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
    }

    /// The control messages as the kernel reads them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len.min(SEND_CONTROL_BYTES)]
    }

    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let at = self.len;
        let len = HEADER_BYTES + data.len();
        let end = at + align(len);
        assert!(
            end <= SEND_CONTROL_BYTES,
            "a send has one control message of each kind"
        );
        let room = &mut self.bytes[at..end];
        room.fill(0);
        room[..size_of::<usize>()].copy_from_slice(&len.to_ne_bytes());
        room[LEVEL_OFFSET..LEVEL_OFFSET + 4].copy_from_slice(&level.to_ne_bytes());
        room[TYPE_OFFSET..TYPE_OFFSET + 4].copy_from_slice(&kind.to_ne_bytes());
        room[HEADER_BYTES..len].copy_from_slice(data);
        self.len = end;
    }
}

impl Default for SendControl {
    fn default() -> Self {
        Self::new()
    }
}

/// What a burst's IP headers shall hold, if not what the socket was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    /// ECN bits, 0 to 3.
    pub ecn: Option<u8>,
    /// They stand in a header of IPv6; `None`: whatever it is, which only a connected socket may say.
    pub v6: Option<bool>,
    /// The local address.
    pub source: Option<IpAddr>,
}

/// Header, destination, one piece of payload and control messages of a `sendmsg`.
#[derive(Debug)]
pub struct SendMessage {
    header: libc::msghdr,
    name: Name,
    piece: libc::iovec,
    control: SendControl,
}

impl SendMessage {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Self {
            header: empty_header(),
            name: Name::empty(),
            piece: empty_piece(),
            control: SendControl::new(),
        }
    }

    /// Fills the message in: `bytes` to `peer` (or the connected one), split into `segment_bytes` if given, with the
    /// marks of its burst.
    ///
    /// The header's pointers lead into `self` and `bytes`: both must stay where they are while it is used.
    #[inline]
    pub fn prepare(
        &mut self,
        peer: Option<SocketAddr>,
        bytes: &[u8],
        segment_bytes: Option<u16>,
        marks: Marks,
    ) -> *const libc::msghdr {
        self.control.clear();
        if let Some(segment_bytes) = segment_bytes {
            self.control.segment(segment_bytes);
        }
        if let Some(ecn) = marks.ecn {
            // A kernel skips what is meant for the other family.
            for v6 in [false, true] {
                if marks.v6.is_none_or(|known| known == v6) {
                    self.control.ecn(ecn, v6);
                }
            }
        }
        if let Some(source) = marks.source {
            self.control.source(source);
        }
        self.piece.iov_base = bytes.as_ptr().cast_mut().cast();
        self.piece.iov_len = bytes.len();
        self.header.msg_name = core::ptr::null_mut();
        self.header.msg_namelen = 0;
        if let Some(peer) = peer {
            self.name.set_ip(peer);
            self.header.msg_namelen = self.name.len();
            self.header.msg_name = self.name.as_mut_ptr().cast();
        }
        self.header.msg_iov = &raw mut self.piece;
        self.header.msg_iovlen = 1;
        self.header.msg_control = core::ptr::null_mut();
        self.header.msg_controllen = self.control.bytes().len();
        if self.header.msg_controllen > 0 {
            self.header.msg_control = self.control.bytes.as_mut_ptr().cast();
        }
        &raw const self.header
    }

    /// A copy of the header as last prepared, for a batch of them.
    pub(super) fn header(&self) -> libc::msghdr {
        self.header
    }
}

impl Default for SendMessage {
    fn default() -> Self {
        Self::new()
    }
}

/// Header, sender, one piece of room and control messages of a `recvmsg`.
#[derive(Debug)]
pub struct RecvMessage {
    header: libc::msghdr,
    name: Name,
    piece: libc::iovec,
    control: RecvControl,
}

impl RecvMessage {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Self {
            header: empty_header(),
            name: Name::empty(),
            piece: empty_piece(),
            control: RecvControl {
                bytes: [0; RECV_CONTROL_BYTES],
            },
        }
    }

    /// Fills the message in to receive into `room`; `named` asks for the sender's address, which a connected
    /// socket knows anyway.
    ///
    /// The header's pointers lead into `self` and `room`: both must stay where they are, and nobody may look
    /// at them, while it is used.
    #[inline]
    pub fn prepare(&mut self, room: &mut [u8], named: bool) -> *mut libc::msghdr {
        self.piece.iov_base = room.as_mut_ptr().cast();
        self.piece.iov_len = room.len();
        self.header.msg_name = core::ptr::null_mut();
        self.header.msg_namelen = 0;
        if named {
            self.header.msg_name = self.name.as_mut_ptr().cast();
            self.header.msg_namelen = NAME_LEN;
        }
        self.header.msg_iov = &raw mut self.piece;
        self.header.msg_iovlen = 1;
        self.header.msg_control = self.control.bytes.as_mut_ptr().cast();
        self.header.msg_controllen = RECV_CONTROL_BYTES;
        self.header.msg_flags = 0;
        &raw mut self.header
    }

    /// The header as last prepared, for a batch of them, and to give back what the kernel wrote into a copy.
    pub(super) fn header_mut(&mut self) -> &mut libc::msghdr {
        &mut self.header
    }

    /// Who sent it; `None` when the kernel gave no internet address.
    #[must_use]
    #[inline]
    pub fn peer(&self) -> Option<SocketAddr> {
        let len = (self.header.msg_namelen as usize).min(NAME_BYTES);
        ip_of(self.name.room().get(..len)?)
    }

    /// What the control messages said.
    #[must_use]
    #[inline]
    pub fn notes(&self) -> Notes {
        let len = self.header.msg_controllen.min(RECV_CONTROL_BYTES);
        notes_of(&self.control.bytes[..len])
    }

    /// Whether the datagram lost its end for lack of room.
    #[must_use]
    #[inline]
    pub fn truncated(&self) -> bool {
        self.header.msg_flags & libc::MSG_TRUNC != 0
    }
}

impl Default for RecvMessage {
    fn default() -> Self {
        Self::new()
    }
}

fn empty_piece() -> libc::iovec {
    libc::iovec {
        iov_base: core::ptr::null_mut(),
        iov_len: 0,
    }
}

pub(super) fn empty_header() -> libc::msghdr {
    let header = core::mem::MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: `msghdr` is plain integers and raw pointers; all zero is a valid value of it.
    unsafe { header.assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_read_back() {
        let mut control = SendControl::new();
        control.ecn(3, false);
        control.push(libc::SOL_UDP, libc::UDP_GRO, &1200_i32.to_ne_bytes());
        assert_eq!(
            notes_of(control.bytes()),
            Notes {
                segment_bytes: Some(1200),
                ecn: 3,
                local: None
            }
        );
        control.clear();
        control.ecn(1, true);
        assert_eq!(
            notes_of(control.bytes()),
            Notes {
                segment_bytes: None,
                ecn: 1,
                local: None
            }
        );
        for address in ["192.0.2.7", "2001:db8::7"] {
            let address: IpAddr = address.parse().unwrap();
            control.clear();
            control.segment(1200);
            control.ecn(2, address.is_ipv6());
            control.source(address);
            let notes = notes_of(control.bytes());
            assert_eq!((notes.local, notes.ecn), (Some(address), 2));
        }
    }

    #[test]
    fn the_layout_is_the_one_of_libc() {
        let mut control = SendControl::new();
        control.segment(1400);
        // SAFETY: `CMSG_SPACE` is arithmetic on its argument.
        let space = unsafe { libc::CMSG_SPACE(2) };
        // SAFETY: as above.
        let len = unsafe { libc::CMSG_LEN(2) };
        assert_eq!(control.bytes().len(), space as usize);
        assert_eq!(
            usize::from_ne_bytes(*control.bytes().first_chunk().unwrap()),
            len as usize
        );
    }

    #[test]
    fn malformed_control_bytes_are_ignored() {
        let mut control = SendControl::new();
        control.segment(9);
        let good = control.bytes().to_vec();
        for cut in 0..good.len() {
            let _notes = notes_of(&good[..cut]);
        }
        for len in [0, 1, 15, 17, usize::MAX, usize::MAX - 7] {
            let mut bad = good.clone();
            bad[..8].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(notes_of(&bad), Notes::default());
        }
    }
}
