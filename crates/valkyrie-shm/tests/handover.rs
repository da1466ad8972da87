//! Handing memory over a socket: what is taken, and what is refused and why.

#![cfg(not(miri))]
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::fs::File;
use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use valkyrie_shm::{
    HandshakeError, Incoming, Read, Refusal, RegionError, RingBytes, Written, offer, refusal,
};

const RING: RingBytes = RingBytes::DEFAULT;
const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW);

fn hello(version: u8, ring: u32) -> Vec<u8> {
    [
        &b"VSHM"[..],
        &[version, 0, 0, 0],
        &ring.to_be_bytes(),
        &[0; 4],
    ]
    .concat()
}

fn memory(flags: MemfdFlags, bytes: u64, seals: SealFlags) -> OwnedFd {
    let file = memfd_create("test", flags | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, bytes).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

fn region() -> OwnedFd {
    memory(MemfdFlags::CLOEXEC, RING.region_bytes() as u64, SEALS)
}

fn send(socket: &UnixStream, bytes: &[u8], files: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(files)));
    }
    let slices = [IoSlice::new(bytes)];
    sendmsg(socket, &slices, &mut control, SendFlags::empty()).unwrap();
}

/// What an acceptor makes of `bytes` and `files`, and what it tells the peer.
fn judge(bytes: &[u8], files: &[BorrowedFd<'_>]) -> (HandshakeError, Option<Refusal>) {
    let (mut near, far) = UnixStream::pair().unwrap();
    send(&near, bytes, files);
    let error = Incoming::default().receive(&far).unwrap_err();
    drop(far);
    let mut heard = [0; 8];
    let count = near.read(&mut heard).unwrap_or(0);
    (error, refusal(heard.get(..count).unwrap()))
}

#[test]
fn a_pipe_carries_bytes_before_and_after_the_memory_is_taken() {
    let (near, far) = UnixStream::pair().unwrap();
    let mut client = offer(&near, RING).unwrap();
    assert!(matches!(
        client.writer.write(b"early"),
        Ok(Written::Bytes { .. })
    ));
    let mut server = Incoming::default().receive(&far).unwrap();
    let mut got = [0; 8];
    assert!(matches!(
        server.reader.read(&mut got),
        Ok(Read::Bytes { count: 5, .. })
    ));
    assert_eq!(&got[..5], b"early");
    assert!(matches!(
        server.writer.write(b"late"),
        Ok(Written::Bytes { .. })
    ));
    assert!(matches!(
        client.reader.read(&mut got),
        Ok(Read::Bytes { count: 4, .. })
    ));
    assert_eq!(&got[..4], b"late");
}

#[test]
fn a_message_in_pieces_is_waited_for_and_an_early_end_is_named() {
    let (near, far) = UnixStream::pair().unwrap();
    let hello = hello(1, RING.get());
    let (first, second) = hello.split_at(5);
    let mut incoming = Incoming::default();
    let would_block = |error: HandshakeError| match error {
        HandshakeError::Io(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        _ => false,
    };
    assert!(would_block(incoming.receive(&far).unwrap_err()));
    send(&near, first, &[region().as_fd()]);
    assert!(would_block(incoming.receive(&far).unwrap_err()));
    send(&near, second, &[]);
    incoming.receive(&far).unwrap();

    let (near, far) = UnixStream::pair().unwrap();
    send(&near, first, &[]);
    drop(near);
    let error = Incoming::default().receive(&far).unwrap_err();
    assert!(matches!(error, HandshakeError::Closed), "{error}");
}

#[test]
fn what_is_no_handover_is_refused_with_its_reason() {
    let file = region();
    let good = hello(1, RING.get());
    let one = [file.as_fd()];
    let two = [file.as_fd(), file.as_fd()];
    let (error, told) = judge(b"RC\x02\x00aaaaaaaaaaaa", &one);
    assert!(matches!(error, HandshakeError::Magic { found } if &found == b"RC\x02\x00"));
    assert_eq!(told, Some(Refusal::MESSAGE));
    let (error, told) = judge(&hello(2, RING.get()), &one);
    assert!(matches!(error, HandshakeError::Version { found: 2 }));
    assert_eq!(told, Some(Refusal::MESSAGE));
    for bytes in [0, 1, 4096, RING.get() + 1, u32::MAX] {
        let (error, told) = judge(&hello(1, bytes), &one);
        assert!(matches!(error, HandshakeError::RingBytes { found } if found == bytes));
        assert_eq!(told, Some(Refusal::SIZE));
    }
    for (files, count) in [(&[][..], 0), (&two[..], 2)] {
        let (error, told) = judge(&good, files);
        assert!(matches!(error, HandshakeError::Descriptors { found } if found == count));
        assert_eq!(told, Some(Refusal::MESSAGE));
    }
    // A second descriptor with a later piece.
    let (near, far) = UnixStream::pair().unwrap();
    let (first, second) = good.split_at(8);
    send(&near, first, &one);
    send(&near, second, &one);
    let error = Incoming::default().receive(&far).unwrap_err();
    assert!(matches!(error, HandshakeError::Descriptors { found: 2 }));
}

#[test]
fn memory_that_could_be_taken_away_is_refused_before_it_is_mapped() {
    let bytes = RING.region_bytes() as u64;
    let flags = MemfdFlags::CLOEXEC;
    let seals = |seals| memory(flags, bytes, seals);
    let unsealed = [
        SealFlags::SEAL,
        SealFlags::SHRINK,
        SealFlags::SHRINK | SealFlags::GROW,
        SealFlags::SEAL | SealFlags::GROW,
        SEALS | SealFlags::WRITE,
        SEALS | SealFlags::FUTURE_WRITE,
    ]
    .map(seals);
    let good = hello(1, RING.get());
    for file in &unsealed {
        let (error, told) = judge(&good, &[file.as_fd()]);
        let HandshakeError::Region(RegionError::Seals { .. }) = error else {
            panic!("{error}");
        };
        assert_eq!(told, Some(Refusal::MEMORY));
    }
    let ordinary: OwnedFd = File::open("/proc/self/exe").unwrap().into();
    let (error, _) = judge(&good, &[ordinary.as_fd()]);
    assert!(
        matches!(error, HandshakeError::Region(RegionError::NotMemory)),
        "{error}"
    );
    for wrong in [0, 4096, bytes - 1, bytes + 1, 2 * bytes] {
        let file = memory(flags, wrong, SEALS);
        let (error, told) = judge(&good, &[file.as_fd()]);
        let HandshakeError::Region(RegionError::Size { found, needed }) = error else {
            panic!("{error}");
        };
        assert_eq!((found, needed), (wrong, bytes));
        assert_eq!(told, Some(Refusal::MEMORY));
    }
}

#[test]
fn memory_of_huge_pages_is_refused() {
    let huge = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB;
    let file = memory(huge, 2 * 1024 * 1024, SEALS);
    let (error, _) = judge(&hello(1, RING.get()), &[file.as_fd()]);
    assert!(
        matches!(error, HandshakeError::Region(RegionError::HugePages)),
        "{error}"
    );
}
