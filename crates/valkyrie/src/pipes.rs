//! The transport of a link, and during a move the one that it moves to.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use valkyrie_transport::{Connection, PeerAddress, TransportKind};

/// Reads and writes like one connection; each direction changes the transport when it is told to.
#[derive(Debug)]
pub(crate) struct Pipes {
    present: Connection,
    /// Boxed: hardly any link moves.
    next: Option<Box<Next>>,
}

#[derive(Debug)]
struct Next {
    connection: Connection,
    read: Side,
    write: Side,
}

/// Where a direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Present,
    Next,
}

/// A direction was to change to a transport that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoTransport;

impl Pipes {
    pub(crate) const fn new(connection: Connection) -> Self {
        Self {
            present: connection,
            next: None,
        }
    }

    pub(crate) const fn kind(&self) -> TransportKind {
        self.present.kind()
    }

    pub(crate) const fn peer(&self) -> &PeerAddress {
        self.present.peer()
    }

    /// See [`Connection::readable_bytes`].
    pub(crate) fn readable_bytes(&mut self) -> usize {
        self.reader().readable_bytes()
    }

    /// See [`Connection::set_read_low_water`].
    pub(crate) fn set_read_low_water(&mut self, bytes: usize) {
        self.reader().set_read_low_water(bytes);
    }

    /// See [`Connection::lower_read_low_water`].
    pub(crate) fn lower_read_low_water(&mut self, bytes: usize) {
        self.reader().lower_read_low_water(bytes);
    }

    /// See [`Connection::try_read`]. `None` where a look costs a system call.
    pub(crate) fn look(&mut self, buf: &mut [u8]) -> Option<io::Result<usize>> {
        let reader = self.reader().get_mut();
        (reader.kind() == TransportKind::Shm).then(|| reader.try_read(buf))
    }

    /// The transport to move to is there. One that came before and was not used is closed.
    pub(crate) fn arrive(&mut self, connection: Connection) {
        self.next = Some(Box::new(Next {
            connection,
            read: Side::Present,
            write: Side::Present,
        }));
    }

    /// Reads from the new transport from now on.
    pub(crate) fn turn_read(&mut self) -> Result<(), NoTransport> {
        self.next.as_mut().ok_or(NoTransport)?.read = Side::Next;
        self.settle();
        Ok(())
    }

    /// Writes to the new transport from now on.
    pub(crate) fn turn_write(&mut self) -> Result<(), NoTransport> {
        self.next.as_mut().ok_or(NoTransport)?.write = Side::Next;
        self.settle();
        Ok(())
    }

    /// Closes the old transport when both directions have left it.
    fn settle(&mut self) {
        let gone = |next: &mut Box<Next>| (next.read, next.write) == (Side::Next, Side::Next);
        if let Some(next) = self.next.take_if(gone) {
            self.present = next.connection;
        }
    }

    /// Ends the use of this link's transports; whoever takes it goes on with the present one.
    pub(crate) fn into_present(self) -> Connection {
        self.present
    }

    fn reader(&mut self) -> Pin<&mut Connection> {
        Pin::new(match &mut self.next {
            Some(next) if next.read == Side::Next => &mut next.connection,
            _ => &mut self.present,
        })
    }

    fn writer(&mut self) -> Pin<&mut Connection> {
        Pin::new(match &mut self.next {
            Some(next) if next.write == Side::Next => &mut next.connection,
            _ => &mut self.present,
        })
    }
}

impl AsyncRead for Pipes {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().reader().poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipes {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().writer().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().writer().poll_write_vectored(cx, parts)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().writer().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().writer().poll_shutdown(cx)
    }
}
