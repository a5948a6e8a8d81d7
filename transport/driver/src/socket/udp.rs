//! What a datagram socket is asked to do and what its path carries.
//!
//! Datagrams beyond the path's MTU fail with `EMSGSIZE` and are never fragmented silently: a fragment lost is
//! the whole datagram lost, and the layers above size their packets by the figure that comes with the error.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};

use super::name::Name;
use super::sys;

/// Most datagrams that one `UDP_SEGMENT` send or one batch call carries: the kernel's `UDP_MAX_SEGMENTS`
/// of its first GSO version; newer ones take 128.
pub const SEGMENTS_MAX: u32 = 64;
/// Longest payload of one IPv4 datagram, and of one GSO send: 65,535 less IP and UDP headers.
pub const PAYLOAD_BYTES_MAX: usize = 65_507;
/// Room that a receive needs so that no coalesced (`UDP_GRO`) batch is cut off.
pub const RECV_BYTES: usize = 64 * 1024;

/// IPv4 and UDP headers.
const HEADERS_V4_BYTES: usize = 20 + 8;
/// IPv6 and UDP headers.
const HEADERS_V6_BYTES: usize = 40 + 8;
/// ECN-capable transport, ECT(0).
const ECT_0: i32 = 2;

/// Asks a socket that is bound to all addresses which of them a datagram was sent to: an answer has to leave from there.
///
/// # Errors
/// What a kernel of the last ten years does not refuse.
pub fn tell_local(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        return sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1);
    }
    sys::set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
}

/// Sets the options of a fresh datagram socket: no fragments, ECN set and reported if wanted, `UDP_GRO`.
///
/// # Errors
/// What a kernel of the last ten years does not refuse.
pub fn prepare(fd: BorrowedFd<'_>, v6: bool, ecn: bool) -> io::Result<()> {
    // An IPv6 socket may carry IPv4 too; the IPv4 options are then refused only if it can't.
    let v4 = |option, value| match sys::set_option(fd, libc::IPPROTO_IP, option, value) {
        Err(error) if !v6 => Err(error),
        _ => Ok(()),
    };
    v4(libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)?;
    if v6 {
        let option = libc::IPV6_MTU_DISCOVER;
        sys::set_option(fd, libc::IPPROTO_IPV6, option, libc::IPV6_PMTUDISC_DO)?;
    }
    if ecn {
        v4(libc::IP_RECVTOS, 1)?;
        v4(libc::IP_TOS, ECT_0)?;
        if v6 {
            sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
            sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, ECT_0)?;
        }
    }
    // Without it (before Linux 5.0) datagrams simply arrive one by one.
    let _unsupported = setsockopt(&fd, sockopt::UdpGroSegment, &true);
    Ok(())
}

/// Whether this kernel splits one send into datagrams of one size (`UDP_SEGMENT`, Linux 4.18).
#[must_use]
pub fn probe_gso() -> bool {
    probe(|fd| setsockopt(&fd, sockopt::UdpGsoSegment, &1200).is_ok())
}

/// Whether this kernel hands over several datagrams of one sender at once (`UDP_GRO`, Linux 5.0).
#[must_use]
pub fn probe_gro() -> bool {
    probe(|fd| setsockopt(&fd, sockopt::UdpGroSegment, &true).is_ok())
}

fn probe(ask: impl FnOnce(BorrowedFd<'_>) -> bool) -> bool {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None);
    fd.is_ok_and(|fd| ask(fd.as_fd()))
}

/// The MTU that the kernel knows for the path of a connected socket, in bytes with IP header.
#[must_use]
pub fn path_mtu(fd: BorrowedFd<'_>, peer: SocketAddr) -> Option<usize> {
    let v4 = || sys::option(fd, libc::IPPROTO_IP, libc::IP_MTU);
    let v6 = || sys::option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU);
    let mtu = if peer.is_ipv4() {
        v4().or_else(|_| v6())
    } else {
        v6()
    };
    usize::try_from(mtu.ok()?).ok()
}

/// The longest datagram payload that the path of a connected socket is known to carry, in bytes.
#[must_use]
pub fn payload_bytes_max(fd: BorrowedFd<'_>, peer: SocketAddr) -> Option<usize> {
    let mtu = path_mtu(fd, peer)?;
    let headers = if peer.is_ipv4() {
        HEADERS_V4_BYTES
    } else {
        HEADERS_V6_BYTES
    };
    Some(mtu.saturating_sub(headers).min(PAYLOAD_BYTES_MAX))
}

/// The longest payload towards `peer`, for an unconnected socket: asks by a connected one. Four system calls;
/// for the rare datagram that was too long.
#[must_use]
pub fn payload_bytes_max_to(peer: SocketAddr) -> Option<usize> {
    let family = if peer.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Datagram, flags, None).ok()?;
    sys::connect(fd.as_fd(), &Name::from_ip(peer)).ok()?;
    payload_bytes_max(fd.as_fd(), peer)
}

/// What is known of the path to a peer (of a connected socket, or `peer`), once the system has refused `bytes`.
///
/// The refusal counts more than what the system says about the path; without a better figure it is what every
/// IPv6 path carries (RFC 8200: an MTU of 1,280).
#[must_use]
pub fn payload_bytes_max_below(
    fd: BorrowedFd<'_>,
    connected: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    bytes: usize,
) -> usize {
    let known = match connected {
        Some(peer) => payload_bytes_max(fd, peer),
        None => peer.and_then(payload_bytes_max_to),
    };
    known
        .filter(|max| *max < bytes)
        .unwrap_or(1280 - HEADERS_V6_BYTES)
}

/// Whether an error of a datagram call is the network's word that nobody, or no way, was found.
#[must_use]
pub fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENOPROTOOPT
        )
    )
}

/// Whether an error of a datagram call means that the socket itself is useless.
///
/// All others concern one datagram: ICMP errors of an earlier one (a connected socket reports
/// `ECONNREFUSED` on its next call), a destination without route, a firewall. Those are counted, not fatal.
#[must_use]
pub fn is_fatal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT) | None
    )
}
