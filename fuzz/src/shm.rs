//! Shared memory of which the other side is hostile: it writes any bytes at any time.

use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::pwrite;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use valkyrie_shm::{HandshakeError, Incoming, Pipe, Read, Region, RingBytes, Side, Written};

/// The ring of all inputs.
const RING: RingBytes = RingBytes::new(valkyrie_shm::RING_BYTES_MIN).expect("the smallest ring");
/// Distance of the words of both directions, which lie in front of the rings; see the
/// specification.
const WORD_STRIDE: u64 = 128;
const WORDS: u8 = 8;
/// What one turn writes or reads at most: more than a ring.
const BYTES_MAX: usize = 2 * valkyrie_shm::RING_BYTES_MIN as usize;

/// Takes numbers off an input; 0 behind its end.
struct Script<'d>(&'d [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        let bytes = [(); 8].map(|()| self.byte());
        u64::from_le_bytes(bytes)
    }

    /// A length, often a small one.
    fn length(&mut self) -> usize {
        let scale = self.byte() % 18;
        let count = usize::from(self.byte()) << scale >> 8;
        count.min(BYTES_MAX)
    }
}

/// Uses one end while the memory is written to behind its back.
pub(crate) fn ring(data: &[u8]) {
    let region = Region::new(RING).expect("memory");
    let mut script = Script(data);
    let side = match script.byte() % 2 {
        0 => Side::Acceptor,
        _ => Side::Initiator,
    };
    let mut pipe = Pipe::new(&region, side);
    while !script.0.is_empty() {
        if !turn(&mut script, &region, &mut pipe) {
            return;
        }
    }
}

/// One act of either side; whether the connection goes on.
fn turn(script: &mut Script<'_>, region: &Region, pipe: &mut Pipe) -> bool {
    match script.byte() % 8 {
        0 => {
            let at = u64::from(script.byte() % WORDS) * WORD_STRIDE;
            put(region, at, &script.number().to_le_bytes());
            true
        }
        // Near what an honest peer would write, where the checks have their limits.
        1 => {
            let at = u64::from(script.byte() % WORDS) * WORD_STRIDE;
            let near = u64::from(script.byte()) << (script.byte() % 20);
            put(region, at, &near.to_le_bytes());
            true
        }
        2 => {
            let at = script.number() % RING.region_bytes() as u64;
            put(region, at, &[script.byte()]);
            true
        }
        3 => read(pipe, script.length()),
        4 => write(pipe, script.length()),
        5 => pipe.reader.rest().is_ok(),
        6 => {
            pipe.reader.rise();
            let readable = pipe.reader.readable();
            assert!(
                readable <= RING.get() as usize,
                "{readable} bytes of a ring"
            );
            pipe.writer.is_finished() || pipe.writer.rest().is_ok()
        }
        _ => {
            let _ = pipe.writer.finish();
            true
        }
    }
}

/// Writes into the memory without a mapping, as another process can.
fn put(region: &Region, at: u64, bytes: &[u8]) {
    let room = (RING.region_bytes() as u64 - at).min(bytes.len() as u64);
    let bytes = bytes.get(..room as usize).unwrap_or_default();
    let written = pwrite(region.as_fd(), bytes, at);
    assert_eq!(written, Ok(bytes.len()), "at {at}");
}

fn read(pipe: &mut Pipe, length: usize) -> bool {
    let mut space = vec![0; length];
    match pipe.reader.read(&mut space) {
        Ok(Read::Bytes { count, .. }) => {
            assert!((1..=length.min(RING.get() as usize)).contains(&count));
            true
        }
        Ok(Read::Empty | Read::End) => true,
        Err(_) => false,
    }
}

fn write(pipe: &mut Pipe, length: usize) -> bool {
    if pipe.writer.is_finished() {
        return true;
    }
    match pipe.writer.write(&vec![7; length]) {
        Ok(Written::Bytes { count, .. }) => {
            assert!((1..=length.min(RING.get() as usize)).contains(&count));
            true
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Takes over memory from a peer that sends any bytes with any descriptors.
pub(crate) fn handover(data: &[u8]) {
    let mut script = Script(data);
    let (near, far) = UnixStream::pair().expect("sockets");
    let mut incoming = Incoming::default();
    for _ in 0..1 + script.byte() % 4 {
        let files = files(&mut script);
        let count = usize::from(script.byte() % 24);
        let bytes: Vec<u8> = (0..count).map(|_| script.byte()).collect();
        send(&near, &bytes, &files);
        match incoming.receive(&far) {
            Ok(mut pipe) => {
                let mut space = [0; 64];
                let read = pipe.reader.read(&mut space);
                assert!(matches!(read, Ok(Read::Empty)), "fresh memory: {read:?}");
                return;
            }
            Err(HandshakeError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
    }
    drop(near);
    let closed = incoming.receive(&far);
    assert!(closed.is_err(), "half a message became a pipe");
}

/// Up to two descriptors: memory of any size with any seals, or something else.
fn files(script: &mut Script<'_>) -> Vec<OwnedFd> {
    let count = script.byte() % 3;
    (0..count).map(|_| file(script)).collect()
}

fn file(script: &mut Script<'_>) -> OwnedFd {
    let kind = script.byte();
    if kind.is_multiple_of(8) {
        return UnixStream::pair().expect("sockets").0.into();
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create("fuzz", flags).expect("memory");
    let bytes = match kind % 4 {
        1 => u64::from(script.byte()) << (script.byte() % 24),
        _ => RING.region_bytes() as u64,
    };
    ftruncate(&memory, bytes).expect("a size");
    let seals = match kind % 3 {
        1 => SealFlags::from_bits_retain(u32::from(script.byte() & 0x1f)),
        _ => SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW,
    };
    fcntl_add_seals(&memory, seals).expect("seals");
    memory
}

fn send(socket: &UnixStream, bytes: &[u8], files: &[OwnedFd]) {
    if files.is_empty() {
        let mut socket = socket;
        // The other side may have ended.
        let _ = socket.write(bytes);
        return;
    }
    let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
    let _ = sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::DONTWAIT,
    );
}
