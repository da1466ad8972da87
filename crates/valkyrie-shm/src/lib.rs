//! Two byte-stream rings in sealed shared memory, between processes that do not trust each other.
//!
//! One side makes a [`Region`], a memfd that can neither shrink nor grow, and hands it over a Unix
//! socket ([`offer`], [`Incoming`]). Each side then has a [`Pipe`]: a [`Writer`] into one ring and
//! a [`Reader`] of the other. Reading and writing are plain memory; a system call happens only
//! when the other side has said that it sleeps, and then it is one byte on the socket, the
//! *doorbell* ([`ring`]). The end of the socket is the end of the peer.
//!
//! The peer is hostile until proven otherwise, which it never is:
//!
//! - What it writes into the shared words is checked before each use; a position that cannot be is
//!   a [`Violation`] and the end of the connection. This side's own positions are kept outside of
//!   the shared memory.
//! - Bytes are copied out once and looked at only then, so nothing changes between check and use.
//! - The seals, the size and the file system of the memory are checked before it is mapped:
//!   nothing that the peer does to it later can raise a signal here.
//! - The doorbell is sent without ever blocking, whatever the peer did to the socket.
//!
//! The crate knows no runtime: everything here returns at once, and who has to wait does so on the
//! socket. `valkyrie-transport` does it with tokio.
//!
//! ```
//! use std::os::unix::net::UnixStream;
//! use valkyrie_shm::{Bell, Incoming, Read, RingBytes, Written, offer, ring};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (near, far) = UnixStream::pair()?;
//! let mut client = offer(&near, RingBytes::DEFAULT)?;
//! let mut server = Incoming::default().receive(&far)?;
//!
//! let Written::Bytes { count, bell } = client.writer.write(b"hello")? else { unreachable!() };
//! if bell == Bell::Ring {
//!     ring(&near);
//! }
//! let mut got = [0; 16];
//! assert!(matches!(server.reader.read(&mut got)?, Read::Bytes { count: 5, .. }));
//! assert_eq!(&got[..count], b"hello");
//! # Ok(()) }
//! ```

mod consumer;
mod error;
mod handshake;
mod layout;
mod mapping;
#[cfg(test)]
mod model;
mod pipe;
mod producer;
mod region;
mod words;

pub use error::{HandshakeError, Refusal, RegionError, Violation};
pub use handshake::{HELLO_BYTES, Incoming, offer, refusal, ring};
pub use layout::{RING_BYTES_MAX, RING_BYTES_MIN, RingBytes};
pub use pipe::{Pipe, Read, Reader, Side, Writer, Written};
pub use region::Region;
pub use words::{Bell, Rest};
