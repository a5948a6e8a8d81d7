//! The baseline's sockets: the same options that ringway sets, and blocking or not.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};

use ringway::Address;

use super::super::STALL;
use super::super::baseline::Baseline;
use super::super::plan::Plan;
use super::sys;
use crate::failure::Failure;

/// Longest segment that `TCP_MAXSEG` takes.
const SEGMENT_MAX: i32 = 32_767;

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener, String),
    /// Bound, not connected.
    Udp(UdpSocket),
}

impl Listening {
    /// Listens on loopback at a port, or in the abstract namespace at a name, of nobody else's.
    pub(crate) fn open(plan: &Plan, baseline: Baseline, name: &str) -> Result<Self, Failure> {
        let opened = match baseline {
            Baseline::Tcp => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .and_then(|listener| limit_segments(listener, plan))
                .map(Self::Tcp),
            Baseline::Unix => UnixAddr::from_abstract_name(name)
                .and_then(|address| UnixListener::bind_addr(&address))
                .map(|listener| Self::Unix(listener, name.to_owned())),
            Baseline::Udp | Baseline::UdpOneByOne | Baseline::UdpBare => {
                UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(Self::Udp)
            }
        };
        opened.map_err(Failure::system("raw listener"))
    }

    /// Where to connect.
    pub(crate) fn address(&self) -> Result<Address, Failure> {
        let local = match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, name) => Ok(Address::Abstract(name.clone())),
            Self::Udp(socket) => socket.local_addr().map(Address::Udp),
        };
        local.map_err(Failure::system("raw listener"))
    }

    /// Waits for the next connection.
    pub(crate) fn accept(&self, blocking: bool) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => tcp(listener.accept()?.0, blocking),
            Self::Unix(listener, _) => unix(listener.accept()?.0, blocking),
            Self::Udp(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Connects to where a server listens.
pub(crate) fn connect(address: &Address, blocking: bool) -> Result<OwnedFd, Failure> {
    let connected = match address {
        Address::Tcp(address) => {
            TcpStream::connect(address).and_then(|stream| tcp(stream, blocking))
        }
        Address::Abstract(name) => UnixAddr::from_abstract_name(name)
            .and_then(|address| UnixStream::connect_addr(&address))
            .and_then(|stream| unix(stream, blocking)),
        _ => Err(io::ErrorKind::Unsupported.into()),
    };
    connected.map_err(Failure::system("raw client, connect"))
}

/// A connected datagram socket. `bare` leaves out all that the bare figure does without.
pub(crate) fn connect_udp(
    address: SocketAddr,
    plan: &Plan,
    blocking: bool,
    bare: bool,
) -> io::Result<OwnedFd> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(address)?;
    udp(socket, plan, blocking, bare)
}

/// Where a run caps its packets, the segments of TCP are capped alike, in both directions of all connections.
fn limit_segments(listener: TcpListener, plan: &Plan) -> io::Result<TcpListener> {
    /// Headers of IPv4 and TCP; the kernel takes its time stamps off by itself.
    const IP_TCP_BYTES: u32 = 40;
    if let Some(mtu) = plan.mtu {
        let bytes = i32::try_from(mtu - IP_TCP_BYTES).unwrap_or(i32::MAX);
        // Longer ones are those of loopback, which nobody caps.
        if bytes <= SEGMENT_MAX {
            sys::set_option(listener.as_fd(), libc::IPPROTO_TCP, libc::TCP_MAXSEG, bytes)?;
        }
    }
    Ok(listener)
}

fn tcp(stream: TcpStream, blocking: bool) -> io::Result<OwnedFd> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(!blocking)?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    Ok(stream.into())
}

fn unix(stream: UnixStream, blocking: bool) -> io::Result<OwnedFd> {
    stream.set_nonblocking(!blocking)?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    Ok(stream.into())
}

/// Options of a datagram socket, those of ringway: no fragments, ECN both ways, coalesced receives.
pub(crate) fn udp(
    socket: UdpSocket,
    plan: &Plan,
    blocking: bool,
    bare: bool,
) -> io::Result<OwnedFd> {
    /// ECN-capable transport, ECT(0).
    const ECT_0: i32 = 2;
    socket.set_nonblocking(!blocking)?;
    socket.set_read_timeout(Some(STALL))?;
    socket.set_write_timeout(Some(STALL))?;
    let fd = socket.as_fd();
    if let Some(bytes) = plan.recv_buffer_bytes() {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)?;
    }
    if !bare {
        let discover = libc::IP_PMTUDISC_DO;
        sys::set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, discover)?;
        sys::set_option(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        sys::set_option(fd, libc::IPPROTO_IP, libc::IP_TOS, ECT_0)?;
        sys::set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    }
    Ok(socket.into())
}
