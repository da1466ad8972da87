//! An open byte connection.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::TransportKind;
use crate::low_water::LowWater;
use crate::proxy::ClientAddress;
use crate::shm_stream::ShmStream;

/// An open byte connection of any transport.
///
/// Reads and writes through [`AsyncRead`] and [`AsyncWrite`]; dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    peer: PeerAddress,
    low_water: LowWater,
}

#[derive(Debug)]
pub(crate) enum Io {
    Mem(DuplexStream),
    Unix(UnixStream),
    /// Boxed, or every connection would be as large.
    Shm(Box<ShmStream>),
    Tcp(TcpStream),
}

/// Who is at the other end, as far as the transport can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerAddress {
    /// The other end is in this process.
    Mem {
        /// Name of the endpoint.
        name: String,
    },
    /// The other end of a Unix socket.
    Unix {
        /// Told by the kernel at `connect` time; `None` where the system cannot.
        credentials: Option<Credentials>,
    },
    /// The other end of shared memory that was handed over a Unix socket.
    Shm {
        /// As of that socket.
        credentials: Option<Credentials>,
    },
    /// The other end of a TCP connection.
    Tcp {
        /// Its address.
        address: SocketAddr,
    },
    /// The other end of a TCP connection is a proxy that the listener trusts.
    Proxied {
        /// Who is behind it, as it says.
        client: Box<ClientAddress>,
        /// Its own address.
        proxy: Box<SocketAddr>,
    },
}

/// Owner of the process at the other end of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Process, where the system tells it; it may be gone, and its number reused, by now.
    pub pid: Option<i32>,
}

impl Connection {
    pub(crate) const fn new(io: Io, peer: PeerAddress) -> Self {
        Self {
            io,
            peer,
            low_water: LowWater::DEFAULT,
        }
    }

    /// Bytes that can be read now, where the transport can tell; else more than any reader wants.
    #[must_use]
    pub fn readable_bytes(&self) -> usize {
        let known = match &self.io {
            Io::Tcp(stream) => rustix::io::ioctl_fionread(stream).ok(),
            Io::Unix(stream) => rustix::io::ioctl_fionread(stream).ok(),
            Io::Shm(stream) => Some(stream.readable_bytes() as u64),
            Io::Mem(_) => None,
        };
        known.map_or(usize::MAX, |bytes| {
            usize::try_from(bytes).unwrap_or(usize::MAX)
        })
    }

    /// Wakes a reader only when as many bytes have come, or the end: for bytes that are sure to
    /// come, so that many of them cost one wake-up. 1, the default, wakes it for any. Transports
    /// that have no such mark ignore it.
    pub fn set_read_low_water(&mut self, bytes: usize) {
        if let Io::Tcp(stream) = &self.io {
            self.low_water.set(stream, bytes);
        }
    }

    /// The same where the mark is higher; bytes that have come by now wake the reader.
    pub fn lower_read_low_water(&mut self, bytes: usize) {
        if let Io::Tcp(stream) = &self.io {
            self.low_water.lower(stream, bytes);
        }
    }

    /// Which transport carries the connection.
    #[must_use]
    pub const fn kind(&self) -> TransportKind {
        self.peer.kind()
    }

    /// Reads what is there now, for callers that poll instead of sleeping.
    ///
    /// Shared memory costs no system call here, and its writer knows that nobody sleeps. The other
    /// transports find what the runtime has been told of, so their callers yield to it between
    /// two calls. A waker from an earlier [`poll_read`](AsyncRead::poll_read) may be forgotten:
    /// call that again before sleeping. It is also what notices that a peer of shared memory died.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when nothing is there. As for every read, 0 is
    /// the end.
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.io {
            Io::Mem(stream) => {
                let mut buf = ReadBuf::new(buf);
                let mut cx = Context::from_waker(Waker::noop());
                match Pin::new(stream).poll_read(&mut cx, &mut buf) {
                    Poll::Ready(result) => result.map(|()| buf.filled().len()),
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
            Io::Unix(stream) => stream.try_read(buf),
            Io::Shm(stream) => stream.try_read(buf),
            Io::Tcp(stream) => stream.try_read(buf),
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &PeerAddress {
        &self.peer
    }
}

impl PeerAddress {
    /// Which transport the address belongs to.
    #[must_use]
    pub const fn kind(&self) -> TransportKind {
        match self {
            Self::Mem { .. } => TransportKind::Mem,
            Self::Unix { .. } => TransportKind::Unix,
            Self::Shm { .. } => TransportKind::Shm,
            Self::Tcp { .. } | Self::Proxied { .. } => TransportKind::Tcp,
        }
    }

    /// The user at the other end, where the transport proves it.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::Unix { credentials } | Self::Shm { credentials } => {
                credentials.map(|credentials| credentials.uid)
            }
            Self::Mem { .. } | Self::Tcp { .. } | Self::Proxied { .. } => None,
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mem { name } => write!(f, "mem:{name}"),
            Self::Unix {
                credentials: Some(owner),
            } => write!(f, "unix:uid={}", owner.uid),
            Self::Unix { credentials: None } => f.write_str("unix"),
            Self::Shm {
                credentials: Some(owner),
            } => write!(f, "shm:uid={}", owner.uid),
            Self::Shm { credentials: None } => f.write_str("shm"),
            Self::Tcp { address } => write!(f, "tcp:{address}"),
            Self::Proxied { client, proxy } => write!(f, "{client} by {proxy}"),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Mem(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Shm(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Mem(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Shm(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Mem(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Io::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Io::Shm(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, parts),
            Io::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Mem(stream) => stream.is_write_vectored(),
            Io::Unix(stream) => stream.is_write_vectored(),
            Io::Shm(stream) => stream.is_write_vectored(),
            Io::Tcp(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Mem(stream) => Pin::new(stream).poll_flush(cx),
            Io::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Io::Shm(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Mem(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Shm(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
