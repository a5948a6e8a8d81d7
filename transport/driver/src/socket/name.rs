//! Socket names as the kernel writes them (`sockaddr`), read and built without `unsafe` and without strings.
//!
//! Beside [`Address`], which users write. A name is storage of fixed size that the kernel may read or fill;
//! it lives in a message header for as long as an operation is in flight.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::Address;

/// Room for the longest name that we use: `sockaddr_un` (110 bytes), rounded up to its alignment.
pub const NAME_BYTES: usize = 112;

const V4_BYTES: usize = size_of::<libc::sockaddr_in>();
const V6_BYTES: usize = size_of::<libc::sockaddr_in6>();
const PATH_OFFSET: usize = offset_of!(libc::sockaddr_un, sun_path);

const _: () = assert!(size_of::<libc::sockaddr_un>() <= NAME_BYTES);
const _: () = assert!(offset_of!(libc::sockaddr_in, sin_port) == 2);
const _: () = assert!(offset_of!(libc::sockaddr_in, sin_addr) == 4);
const _: () = assert!(offset_of!(libc::sockaddr_in6, sin6_port) == 2);
const _: () = assert!(offset_of!(libc::sockaddr_in6, sin6_flowinfo) == 4);
const _: () = assert!(offset_of!(libc::sockaddr_in6, sin6_addr) == 8);
const _: () = assert!(offset_of!(libc::sockaddr_in6, sin6_scope_id) == 24);

/// A `sockaddr` of any family that we use, and its length.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Name {
    bytes: [u8; NAME_BYTES],
    len: u32,
}

impl Name {
    /// A name of length zero, ready to be filled by the kernel.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            bytes: [0; NAME_BYTES],
            len: 0,
        }
    }

    /// The name of an internet address.
    #[must_use]
    #[inline]
    pub fn from_ip(address: SocketAddr) -> Self {
        let mut name = Self::empty();
        name.set_ip(address);
        name
    }

    /// The name of an [`Address`]; `None` for a path that does not fit (an `Address` may be built by hand), and
    /// for what is no socket's address.
    #[must_use]
    pub fn from_address(address: &Address) -> Option<Self> {
        match address {
            Address::Tcp(ip) | Address::Udp(ip) => Some(Self::from_ip(*ip)),
            // A protocol of the engine's; its socket has a udp address.
            Address::Rudp(_) | Address::Quic(_) => None,
            // The kernel wants the terminating NUL counted for paths; abstract names have none.
            Address::Unix(path) => Self::from_unix(&[], path.as_os_str().as_bytes(), &[0]),
            Address::Abstract(name) => Self::from_unix(&[0], name.as_bytes(), &[]),
        }
    }

    /// Overwrites this name with an internet address.
    #[inline]
    pub fn set_ip(&mut self, address: SocketAddr) {
        let port = address.port().to_be_bytes();
        match address {
            SocketAddr::V4(v4) => {
                self.bytes[..2].copy_from_slice(&family(libc::AF_INET));
                self.bytes[2..4].copy_from_slice(&port);
                self.bytes[4..8].copy_from_slice(&v4.ip().octets());
                self.bytes[8..16].fill(0);
                self.len = 16;
            }
            SocketAddr::V6(v6) => {
                self.bytes[..2].copy_from_slice(&family(libc::AF_INET6));
                self.bytes[2..4].copy_from_slice(&port);
                self.bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                self.bytes[8..24].copy_from_slice(&v6.ip().octets());
                self.bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                self.len = 28;
            }
        }
    }

    fn from_unix(prefix: &[u8], path: &[u8], suffix: &[u8]) -> Option<Self> {
        let mut name = Self::empty();
        name.bytes[..2].copy_from_slice(&family(libc::AF_UNIX));
        let mut at = PATH_OFFSET;
        for part in [prefix, path, suffix] {
            name.bytes
                .get_mut(at..at + part.len())?
                .copy_from_slice(part);
            at += part.len();
        }
        if at > size_of::<libc::sockaddr_un>() || path.is_empty() {
            return None;
        }
        name.len = u32::try_from(at).ok()?;
        Some(name)
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// True when nothing was written yet, or the kernel knows no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes over the length that the kernel reported; what passes the room was cut off.
    #[expect(clippy::cast_possible_truncation, reason = "a constant of 112")]
    pub fn set_len(&mut self, len: u32) {
        self.len = len.min(NAME_BYTES as u32);
    }

    /// Where the kernel reads the name.
    #[must_use]
    pub fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    /// Where the kernel writes a name of at most [`NAME_BYTES`].
    pub fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        self.bytes.as_mut_ptr().cast()
    }

    /// All the room, written or not; always initialised.
    pub(super) fn room(&self) -> &[u8; NAME_BYTES] {
        &self.bytes
    }

    /// The written bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..(self.len as usize).min(NAME_BYTES)]
    }

    /// The internet address in this name; IPv4 in IPv6 clothes is undressed.
    #[must_use]
    #[inline]
    pub fn ip(&self) -> Option<SocketAddr> {
        ip_of(self.bytes())
    }

    /// The address in this name as users write it; `None` for an unnamed unix socket.
    #[must_use]
    pub fn address(&self, datagram: bool) -> Option<Address> {
        if let Some(ip) = self.ip() {
            return Some(if datagram {
                Address::Udp(ip)
            } else {
                Address::Tcp(ip)
            });
        }
        let bytes = self.bytes();
        if family_of(bytes)? != libc::AF_UNIX {
            return None;
        }
        match bytes.get(PATH_OFFSET..)? {
            [] => None,
            [0, name @ ..] => Some(Address::Abstract(
                String::from_utf8_lossy(name).into_owned(),
            )),
            path => {
                let len = path
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(path.len());
                let path = Path::new(std::ffi::OsStr::from_bytes(path.get(..len)?));
                Some(Address::Unix(PathBuf::from(path)))
            }
        }
    }
}

/// Reads an internet address from a kernel-written `sockaddr`; ring completions carry them in their buffers.
///
/// IPv4 in IPv6 clothes (`::ffff:a.b.c.d`) comes out as IPv4, so that a peer has one address whatever socket
/// it was met on; Linux accepts that form as a destination on either kind.
#[must_use]
#[inline]
pub fn ip_of(bytes: &[u8]) -> Option<SocketAddr> {
    match family_of(bytes)? {
        libc::AF_INET => {
            let bytes: &[u8; V4_BYTES] = bytes.first_chunk()?;
            let [_, _, p0, p1, a, b, c, d, ..] = *bytes;
            let port = u16::from_be_bytes([p0, p1]);
            Some(SocketAddr::V4(SocketAddrV4::new(
                Ipv4Addr::new(a, b, c, d),
                port,
            )))
        }
        libc::AF_INET6 => {
            let bytes: &[u8; V6_BYTES] = bytes.first_chunk()?;
            let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
            let flow = u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
            let octets: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            match IpAddr::V6(Ipv6Addr::from(octets)).to_canonical() {
                IpAddr::V4(v4) => Some(SocketAddr::V4(SocketAddrV4::new(v4, port))),
                IpAddr::V6(v6) => Some(SocketAddr::V6(SocketAddrV6::new(v6, port, flow, scope))),
            }
        }
        _ => None,
    }
}

#[inline]
fn family_of(bytes: &[u8]) -> Option<i32> {
    Some(i32::from(u16::from_ne_bytes(*bytes.first_chunk()?)))
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "families are small"
)]
const fn family(family: i32) -> [u8; 2] {
    (family as u16).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_were_built() {
        for text in [
            "tcp://1.2.3.4:5",
            "tcp://[2001:db8::7]:65535",
            "unix:///tmp/a b",
            "unix://@name",
            "udp://[::1]:9",
        ] {
            let address: Address = text.parse().unwrap();
            let name = Name::from_address(&address).unwrap();
            assert_eq!(name.address(address.is_datagram()), Some(address));
        }
    }

    #[test]
    fn a_mapped_address_is_undressed() {
        let name = Name::from_ip("[::ffff:10.0.0.1]:80".parse().unwrap());
        assert_eq!(name.ip(), Some("10.0.0.1:80".parse().unwrap()));
    }

    #[test]
    fn a_path_takes_107_bytes_and_no_more() {
        let path = |len: usize| Address::Unix(PathBuf::from("x".repeat(len)));
        assert_eq!(
            Name::from_address(&path(107)).map(|name| name.len()),
            Some(110)
        );
        assert!(Name::from_address(&path(108)).is_none());
        assert!(Name::from_address(&path(0)).is_none());
    }

    #[test]
    fn short_and_foreign_names_are_no_address() {
        assert_eq!(ip_of(&[]), None);
        assert_eq!(ip_of(&family(libc::AF_INET)), None);
        assert_eq!(ip_of(&[0xff; 28]), None);
        let mut unnamed = Name::empty();
        unnamed.bytes[..2].copy_from_slice(&family(libc::AF_UNIX));
        unnamed.set_len(2);
        assert_eq!(unnamed.address(false), None);
    }
}
