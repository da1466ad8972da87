//! Handing the memory over a Unix socket, and the doorbell on it afterwards.

use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};

use crate::error::{HandshakeError, Refusal};
use crate::layout::RingBytes;
use crate::pipe::{Pipe, Side};
use crate::region::Region;

/// Bytes of the first message, which carries the memory.
pub const HELLO_BYTES: usize = 16;
const MAGIC: [u8; 4] = *b"VSHM";
const VERSION: u8 = 1;
/// The byte that is a doorbell.
const BELL: u8 = 1;
/// The bit of a byte that is a refusal.
const REFUSED: u8 = 0x80;

/// Every send returns at once, however slow the peer is, and raises no signal if it is gone.
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// Wakes the peer on the other end of `socket`.
///
/// Never blocks and never fails: if the socket is full, it is already ringing, and if the peer is
/// gone, reading from the socket says so.
pub fn ring(socket: impl AsFd) {
    let _ = send(socket, &[BELL], SEND);
}

/// What bytes read from the socket say besides ringing: that the peer did not take the memory.
#[must_use]
pub fn refusal(bells: &[u8]) -> Option<Refusal> {
    let byte = bells.iter().find(|byte| **byte & REFUSED != 0)?;
    Some(Refusal(byte & !REFUSED))
}

/// Makes memory for two rings of `ring` bytes and hands it over, as the first thing on `socket`.
///
/// The pipe works at once: the acceptor finds what was written when it takes the memory, and if it
/// does not take it, [`refusal`] finds out from what the socket says.
///
/// # Errors
/// [`HandshakeError::Region`] when the system has no memory or descriptor left,
/// [`HandshakeError::Io`] when the socket does not work.
pub fn offer(socket: impl AsFd, ring: RingBytes) -> Result<Pipe, HandshakeError> {
    let region = Region::new(ring)?;
    let mut hello = [0; HELLO_BYTES];
    let fields = [&MAGIC[..], &[VERSION, 0, 0, 0], &ring.get().to_be_bytes()];
    for (to, from) in hello.iter_mut().zip(fields.into_iter().flatten()) {
        *to = *from;
    }
    let files = [region.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(&files));
    assert!(fits, "the buffer was made for one descriptor");
    let sent = sendmsg(socket, &[IoSlice::new(&hello)], &mut control, SEND);
    match sent.map_err(io::Error::from)? {
        HELLO_BYTES => Ok(Pipe::new(&region, Side::Initiator)),
        // A fresh socket has room for sixteen bytes.
        _ => Err(io::Error::from(io::ErrorKind::WriteZero).into()),
    }
}

/// The acceptor's side of the handover: collects the first message.
#[derive(Debug, Default)]
pub struct Incoming {
    hello: [u8; HELLO_BYTES],
    filled: usize,
    files: Vec<OwnedFd>,
}

impl Incoming {
    /// Reads on, and when the message is whole, checks the memory and gives the pipe.
    ///
    /// # Errors
    /// [`HandshakeError::Io`] with `WouldBlock` while more has to come, then call again when the
    /// socket is readable; else see [`HandshakeError`]: the peer has been told where there is
    /// something to tell, and the socket is to be closed.
    pub fn receive(&mut self, socket: impl AsFd) -> Result<Pipe, HandshakeError> {
        let result = self.fill(&socket).and_then(|()| self.open());
        if let Some(Refusal(code)) = result.as_ref().err().and_then(HandshakeError::refusal) {
            // Whether the peer hears it changes nothing.
            let _ = send(&socket, &[REFUSED | code], SEND);
        }
        result
    }

    fn fill(&mut self, socket: &impl AsFd) -> Result<(), HandshakeError> {
        while let Some(rest @ [_, ..]) = self.hello.get_mut(self.filled..) {
            // Room for one descriptor: the kernel closes what does not fit and says so.
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let got = recvmsg(socket, &mut [IoSliceMut::new(rest)], &mut control, flags);
            let got = match got {
                Err(Errno::INTR) => continue,
                other => other.map_err(io::Error::from)?,
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(files) = message {
                    self.files.extend(files);
                }
            }
            if got.flags.contains(ReturnFlags::CTRUNC) || self.files.len() > 1 {
                return Err(HandshakeError::Descriptors { found: 2 });
            }
            if got.bytes == 0 {
                return Err(HandshakeError::Closed);
            }
            self.filled += got.bytes;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<Pipe, HandshakeError> {
        let [a, b, c, d, version, _, _, _, e, f, g, h, _, _, _, _] = self.hello;
        let magic = [a, b, c, d];
        if magic != MAGIC {
            return Err(HandshakeError::Magic { found: magic });
        }
        if version != VERSION {
            return Err(HandshakeError::Version { found: version });
        }
        let bytes = u32::from_be_bytes([e, f, g, h]);
        let ring = RingBytes::new(bytes).ok_or(HandshakeError::RingBytes { found: bytes })?;
        let file = self
            .files
            .pop()
            .ok_or(HandshakeError::Descriptors { found: 0 })?;
        let region = Region::open(file, ring)?;
        Ok(Pipe::new(&region, Side::Acceptor))
    }
}
