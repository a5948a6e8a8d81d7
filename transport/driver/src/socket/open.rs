//! Opening, connecting, accepting, adopting and closing sockets.
//!
//! Above: a driver's commands. Below: `sys.rs`. Set-up path only; nothing here runs per message.
//!
//! Every socket that leaves this file is non-blocking and close-on-exec, and every TCP one has
//! `TCP_NODELAY`: connected and adopted ones by a call, accepted ones because they inherit it from their
//! listener, as they do the buffer sizes.

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, getsockopt, setsockopt, shutdown as nix_shutdown, socket,
    sockopt,
};

use super::name::Name;
use super::{steer, sys, udp};
use crate::{Address, BufferBytes, ListenOptions, OpenError, SocketOptions};

/// What kind of data a socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes in order: tcp, unix.
    Stream,
    /// Datagrams: udp.
    Datagram,
}

/// A connected socket that somebody else made, ready for a driver.
#[derive(Debug)]
pub struct Adopted {
    /// The socket.
    pub fd: OwnedFd,
    /// What it carries.
    pub kind: Kind,
    /// Its own address, if it has one.
    pub local: Option<Address>,
    /// The peer's address, if it has one.
    pub peer: Option<Address>,
}

/// Opens a listening stream socket; returns it with its real address.
///
/// # Errors
/// [`OpenError::Unsupported`] for `udp` addresses and for a shared port on unix sockets, else what the
/// system said.
pub fn listen(address: &Address, options: &ListenOptions) -> Result<(OwnedFd, Address), OpenError> {
    if address.is_datagram() {
        return Err(OpenError::Unsupported {
            what: "listening on a udp address; bind it instead",
        });
    }
    let failed = |call| move |error| system(call, address, error);
    let name = name_of(address)?;
    let fd = open(address, SockType::Stream).map_err(failed("socket"))?;
    if let Some(ip) = address.socket_addr() {
        set(&fd, sockopt::ReuseAddr, &true).map_err(failed("setsockopt SO_REUSEADDR"))?;
        share_port(&fd, address, ip, options)?;
        set(&fd, sockopt::TcpNoDelay, &true).map_err(failed("setsockopt TCP_NODELAY"))?;
    } else if options.reuse_port {
        return Err(OpenError::Unsupported {
            what: "`reuse_port` on a unix socket",
        });
    }
    buffers(&fd, &options.socket, address)?;
    match address {
        Address::Unix(path) => bind_path(fd.as_fd(), &name, path, options.unlink_stale),
        _ => sys::bind(fd.as_fd(), &name),
    }
    .map_err(failed("bind"))?;
    sys::listen(fd.as_fd(), options.backlog).map_err(failed("listen"))?;
    let local = local_address(fd.as_fd(), false).unwrap_or_else(|| address.clone());
    Ok((fd, local))
}

/// Starts connecting a stream socket; `true` when it is still under way.
///
/// Unix sockets connect at once or not at all (`EAGAIN` means that the listener's queue is full).
///
/// # Errors
/// What failed before anything was under way.
pub fn connect_start(
    address: &Address,
    options: &SocketOptions,
) -> Result<(OwnedFd, bool), OpenError> {
    if address.is_datagram() {
        return Err(OpenError::Unsupported {
            what: "a stream to a udp address",
        });
    }
    let failed = |call| move |error| system(call, address, error);
    let name = name_of(address)?;
    let fd = open(address, SockType::Stream).map_err(failed("socket"))?;
    buffers(&fd, options, address)?;
    if address.socket_addr().is_some() {
        set(&fd, sockopt::TcpNoDelay, &true).map_err(failed("setsockopt TCP_NODELAY"))?;
    }
    match options.local {
        Some(_) if address.socket_addr().is_none() => {
            return Err(OpenError::Unsupported {
                what: "a local ip address for a unix socket",
            });
        }
        Some(local) => bind_local(fd.as_fd(), local)?,
        None => {}
    }
    match sys::connect(fd.as_fd(), &name) {
        Ok(()) => Ok((fd, false)),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok((fd, true)),
        Err(error) => Err(system("connect", address, error)),
    }
}

/// How a connect ended that was under way; asks for the socket's pending error.
///
/// # Errors
/// Why it failed.
pub fn connect_result(fd: BorrowedFd<'_>) -> io::Result<()> {
    match getsockopt(&fd, sockopt::SocketError)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Opens an unconnected datagram socket; returns it with its real address.
///
/// # Errors
/// [`OpenError::Unsupported`] for stream addresses, else what the system said.
pub fn bind_udp(
    address: &Address,
    options: &ListenOptions,
) -> Result<(OwnedFd, Address), OpenError> {
    let Address::Udp(ip) = address else {
        return Err(OpenError::Unsupported {
            what: "binding a stream address; listen on it",
        });
    };
    let fd = open_udp(address, *ip, &options.socket)?;
    if ip.ip().is_unspecified() {
        udp::tell_local(fd.as_fd(), ip.is_ipv6())
            .map_err(|error| system("setsockopt on a udp socket", address, error))?;
    }
    share_port(&fd, address, *ip, options)?;
    let failed = |error| system("bind", address, error);
    sys::bind(fd.as_fd(), &Name::from_ip(*ip)).map_err(failed)?;
    if let Some(steer) = options.steer.as_ref().filter(|_| options.reuse_port) {
        let failed = |error| system("setsockopt SO_ATTACH_REUSEPORT_CBPF", address, error);
        steer::attach(fd.as_fd(), steer).map_err(failed)?;
    }
    let local = local_address(fd.as_fd(), true).unwrap_or_else(|| address.clone());
    Ok((fd, local))
}

/// Opens a datagram socket connected to `address`.
///
/// # Errors
/// [`OpenError::Unsupported`] for stream addresses, else what the system said.
pub fn connect_udp(address: &Address, options: &SocketOptions) -> Result<OwnedFd, OpenError> {
    let Address::Udp(ip) = address else {
        return Err(OpenError::Unsupported {
            what: "datagrams to a stream address",
        });
    };
    let fd = open_udp(address, *ip, options)?;
    if let Some(local) = options.local {
        bind_local(fd.as_fd(), local)?;
    }
    let failed = |error| system("connect", address, error);
    sys::connect(fd.as_fd(), &Name::from_ip(*ip)).map_err(failed)?;
    Ok(fd)
}

/// Takes over a socket that somebody else connected.
///
/// # Errors
/// [`OpenError::Unsupported`] when it is no connected tcp, unix stream or udp socket; it is closed then.
pub fn adopt(fd: OwnedFd, options: &SocketOptions) -> Result<Adopted, OpenError> {
    let failed = |call| {
        move |error| OpenError::System {
            call,
            address: None,
            error,
        }
    };
    let option = |option| sys::option(fd.as_fd(), libc::SOL_SOCKET, option);
    let kind = option(libc::SO_TYPE).map_err(failed("getsockopt SO_TYPE"))?;
    let family = option(libc::SO_DOMAIN).map_err(failed("getsockopt SO_DOMAIN"))?;
    let listens = option(libc::SO_ACCEPTCONN).map_err(failed("getsockopt SO_ACCEPTCONN"))?;
    if listens != 0 {
        return Err(OpenError::Unsupported {
            what: "adopting a listening socket",
        });
    }
    let kind = match (family, kind) {
        (libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX, libc::SOCK_STREAM) => Kind::Stream,
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM) => Kind::Datagram,
        _ => {
            return Err(OpenError::Unsupported {
                what: "a socket that is no tcp, unix or udp",
            });
        }
    };
    let peer = match sys::peer_name(fd.as_fd()) {
        Ok(name) => name.address(kind == Kind::Datagram),
        Err(error) if kind == Kind::Datagram && error.raw_os_error() == Some(libc::ENOTCONN) => {
            None
        }
        Err(error) => return Err(failed("getpeername")(error)),
    };
    make_nonblocking(&fd).map_err(failed("fcntl"))?;
    buffers_of(&fd, options).map_err(|(call, error)| failed(call)(error))?;
    if kind == Kind::Datagram {
        let v6 = family == libc::AF_INET6;
        udp::prepare(fd.as_fd(), v6, options.ecn).map_err(failed("setsockopt on a udp socket"))?;
    } else if family != libc::AF_UNIX {
        set(&fd, sockopt::TcpNoDelay, &true).map_err(failed("setsockopt TCP_NODELAY"))?;
    }
    let local = local_address(fd.as_fd(), kind == Kind::Datagram);
    Ok(Adopted {
        fd,
        kind,
        local,
        peer,
    })
}

/// Accepts one connection. It inherits `TCP_NODELAY` and buffer sizes from its listener.
///
/// # Errors
/// What the system said; `EAGAIN` when nobody waits.
pub fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<Address>)> {
    let mut name = Name::empty();
    let accepted = sys::accept(fd, &mut name)?;
    Ok((accepted, name.address(false)))
}

/// The address a socket is bound to; `None` for an unnamed unix socket.
#[must_use]
pub fn local_address(fd: BorrowedFd<'_>, datagram: bool) -> Option<Address> {
    sys::local_name(fd).ok()?.address(datagram)
}

/// The address a socket is connected to; `None` for an unnamed or unconnected one.
#[must_use]
pub fn peer_address(fd: BorrowedFd<'_>, datagram: bool) -> Option<Address> {
    sys::peer_name(fd).ok()?.address(datagram)
}

/// Ends one or both directions of a connected socket.
///
/// # Errors
/// What the system said; `ENOTCONN` when the connection is gone already.
pub fn shutdown(fd: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => nix::sys::socket::Shutdown::Read,
        Shutdown::Write => nix::sys::socket::Shutdown::Write,
        Shutdown::Both => nix::sys::socket::Shutdown::Both,
    };
    Ok(nix_shutdown(fd.as_raw_fd(), how)?)
}

/// Makes the coming close of a tcp socket a reset: unsent and unread bytes are dropped.
///
/// # Errors
/// What the system said. On unix sockets it changes nothing.
pub fn reset_on_close(fd: BorrowedFd<'_>) -> io::Result<()> {
    let zero = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    Ok(setsockopt(&fd, sockopt::Linger, &zero)?)
}

fn system(call: &'static str, address: &Address, error: io::Error) -> OpenError {
    OpenError::System {
        call,
        address: Some(address.clone()),
        error,
    }
}

fn name_of(address: &Address) -> Result<Name, OpenError> {
    let unfit = OpenError::Unsupported {
        what: "a unix path that is empty or beyond 107 bytes",
    };
    Name::from_address(address).ok_or(unfit)
}

fn open(address: &Address, kind: SockType) -> io::Result<OwnedFd> {
    let family = match address.socket_addr() {
        Some(SocketAddr::V4(_)) => AddressFamily::Inet,
        Some(SocketAddr::V6(_)) => AddressFamily::Inet6,
        None => AddressFamily::Unix,
    };
    Ok(socket(
        family,
        kind,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

fn open_udp(
    address: &Address,
    ip: SocketAddr,
    options: &SocketOptions,
) -> Result<OwnedFd, OpenError> {
    let fd = open(address, SockType::Datagram).map_err(|error| system("socket", address, error))?;
    udp::prepare(fd.as_fd(), ip.is_ipv6(), options.ecn)
        .map_err(|error| system("setsockopt on a udp socket", address, error))?;
    buffers(&fd, options, address)?;
    Ok(fd)
}

/// `SO_REUSEPORT` and, for IPv6, whether IPv4 is served too.
fn share_port(
    fd: &OwnedFd,
    address: &Address,
    ip: SocketAddr,
    options: &ListenOptions,
) -> Result<(), OpenError> {
    if options.reuse_port {
        set(fd, sockopt::ReusePort, &true)
            .map_err(|error| system("setsockopt SO_REUSEPORT", address, error))?;
    }
    if ip.is_ipv6() {
        set(fd, sockopt::Ipv6V6Only, &!options.dual_stack)
            .map_err(|error| system("setsockopt IPV6_V6ONLY", address, error))?;
    }
    Ok(())
}

/// Binds the near end of a connection; the port is chosen at connect, when it need not be unique.
fn bind_local(fd: BorrowedFd<'_>, local: SocketAddr) -> Result<(), OpenError> {
    let failed = |call| {
        move |error| OpenError::System {
            call,
            address: Some(Address::Tcp(local)),
            error,
        }
    };
    if local.port() == 0 {
        set(&fd, sockopt::IpBindAddressNoPort, &true)
            .map_err(failed("setsockopt IP_BIND_ADDRESS_NO_PORT"))?;
    }
    sys::bind(fd, &Name::from_ip(local)).map_err(failed("bind"))
}

fn bind_path(fd: BorrowedFd<'_>, name: &Name, path: &Path, unlink: bool) -> io::Result<()> {
    match sys::bind(fd, name) {
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
            if !(unlink && is_stale(name, path)) {
                return Err(error);
            }
            fs::remove_file(path)?;
            sys::bind(fd, name)
        }
        bound => bound,
    }
}

/// True when `path` is a socket that nobody listens on. The file type is asked first, because connecting to
/// an ordinary file is refused too, and such a file is not ours to remove.
fn is_stale(name: &Name, path: &Path) -> bool {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return false;
    }
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let Ok(probe) = socket(AddressFamily::Unix, SockType::Stream, flags, None) else {
        return false;
    };
    let refused = sys::connect(probe.as_fd(), name).err();
    refused.is_some_and(|error| error.raw_os_error() == Some(libc::ECONNREFUSED))
}

fn make_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD)?);
    fcntl(fd, FcntlArg::F_SETFD(flags | FdFlag::FD_CLOEXEC))?;
    Ok(())
}

fn buffers(fd: &OwnedFd, options: &SocketOptions, address: &Address) -> Result<(), OpenError> {
    buffers_of(fd, options).map_err(|(call, error)| system(call, address, error))
}

fn buffers_of(fd: &OwnedFd, options: &SocketOptions) -> Result<(), (&'static str, io::Error)> {
    if let Some(bytes) = options.send_buffer_bytes {
        set(fd, sockopt::SndBuf, &(bytes as usize))
            .map_err(|error| ("setsockopt SO_SNDBUF", error))?;
    }
    if let Some(bytes) = options.recv_buffer_bytes {
        set(fd, sockopt::RcvBuf, &(bytes as usize))
            .map_err(|error| ("setsockopt SO_RCVBUF", error))?;
    }
    Ok(())
}

/// What the kernel granted to a socket's buffers. It keeps twice what was asked for (see `socket(7)`).
#[must_use]
pub fn buffer_bytes(fd: BorrowedFd<'_>) -> Option<BufferBytes> {
    let half = |bytes: usize| u32::try_from(bytes / 2).unwrap_or(u32::MAX);
    Some(BufferBytes {
        send: half(getsockopt(&fd, sockopt::SndBuf).ok()?),
        recv: half(getsockopt(&fd, sockopt::RcvBuf).ok()?),
    })
}

fn set<F: AsFd, O: nix::sys::socket::SetSockOpt>(
    fd: &F,
    option: O,
    value: &O::Val,
) -> io::Result<()>
where
    O::Val: Sized,
{
    Ok(setsockopt(fd, option, value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(fd: &OwnedFd, level: i32, name: i32) -> i32 {
        sys::option(fd.as_fd(), level, name).unwrap()
    }

    fn assert_ready(fd: &OwnedFd) {
        let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
        assert!(flags.contains(OFlag::O_NONBLOCK), "non-blocking");
        let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC), "close-on-exec");
    }

    #[test]
    fn every_way_to_a_tcp_socket_sets_its_options() {
        let (listener, address) = listen(
            &"tcp://127.0.0.1:0".parse().unwrap(),
            &ListenOptions::default(),
        )
        .unwrap();
        let options = SocketOptions {
            send_buffer_bytes: Some(100_000),
            recv_buffer_bytes: Some(50_000),
            ..SocketOptions::default()
        };
        let (connected, _) = connect_start(&address, &options).unwrap();
        let foreign = std::net::TcpStream::connect(address.socket_addr().unwrap()).unwrap();
        let adopted = adopt(foreign.into(), &options).unwrap();
        assert_eq!((adopted.kind, adopted.peer), (Kind::Stream, Some(address)));
        let (accepted, _) = accept(listener.as_fd()).unwrap();
        for fd in [&listener, &connected, &adopted.fd, &accepted] {
            assert_ready(fd);
            assert_eq!(option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
        }
        for fd in [&connected, &adopted.fd] {
            // The kernel doubles what it is asked for, to cover its own bookkeeping.
            assert_eq!(option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF), 200_000);
            assert_eq!(option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF), 100_000);
        }
    }

    #[test]
    fn no_udp_socket_lets_its_datagrams_be_fragmented() {
        for host in ["127.0.0.1", "[::1]"] {
            let address = format!("udp://{host}:0").parse().unwrap();
            let (bound, address) = bind_udp(&address, &ListenOptions::default()).unwrap();
            let connected = connect_udp(&address, &SocketOptions::default()).unwrap();
            let foreign = std::net::UdpSocket::bind((address.socket_addr().unwrap().ip(), 0));
            let adopted = adopt(foreign.unwrap().into(), &SocketOptions::default()).unwrap();
            assert_eq!((adopted.kind, adopted.peer), (Kind::Datagram, None));
            for fd in [&bound, &connected, &adopted.fd] {
                assert_ready(fd);
                let (v4, v6) = (libc::IPPROTO_IP, libc::IPPROTO_IPV6);
                assert_eq!(option(fd, v4, libc::IP_MTU_DISCOVER), libc::IP_PMTUDISC_DO);
                if address.socket_addr().unwrap().is_ipv6() {
                    assert_eq!(
                        option(fd, v6, libc::IPV6_MTU_DISCOVER),
                        libc::IPV6_PMTUDISC_DO
                    );
                }
            }
        }
    }
}
