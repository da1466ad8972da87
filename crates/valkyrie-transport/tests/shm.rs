//! What only shared memory does: refusing memory, surviving its peers' death and their lies.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::future::Future;
use std::io::{ErrorKind, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::time::timeout;
use valkyrie_transport::{Connection, Endpoint, PeerAddress, RingBytes, connect, listen};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(test: impl AsyncFnOnce(Endpoint)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let test = test(Endpoint::Shm { path });
    runtime.block_on(soon(test));
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it hangs")
}

fn path(endpoint: &Endpoint) -> &std::path::Path {
    match endpoint {
        Endpoint::Shm { path } => path,
        other => panic!("{other}"),
    }
}

async fn pair(endpoint: &Endpoint) -> (Connection, Connection) {
    let mut listener = listen(endpoint).await.unwrap();
    let client = connect(endpoint).await.unwrap();
    (client, listener.accept().await.unwrap())
}

/// A peer that connects by hand: takes the memory of an honest one.
fn take_memory(socket: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut hello = [0; 16];
    let slices = &mut [IoSliceMut::new(&mut hello)];
    recvmsg(socket, slices, &mut control, RecvFlags::empty()).unwrap();
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    assert_eq!(&hello[..5], b"VSHM\x01");
    file.unwrap()
}

fn poke(memory: &OwnedFd, offset: u64, value: u64) {
    rustix::io::pwrite(memory.as_fd(), &value.to_ne_bytes(), offset).unwrap();
}

#[test]
fn the_socket_is_private_and_tells_who_is_there() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    run(async |endpoint| {
        let (client, server) = pair(&endpoint).await;
        for end in [&client, &server] {
            let PeerAddress::Shm {
                credentials: Some(owner),
            } = end.peer()
            else {
                panic!("no credentials: {:?}", end.peer());
            };
            assert_eq!(owner.pid, Some(std::process::id() as i32));
            assert_eq!(end.peer().uid(), Some(owner.uid));
        }
        let mut listener = listen(&endpoint).await.unwrap();
        let meta = std::fs::symlink_metadata(path(&endpoint)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert_eq!(client.peer().uid(), Some(meta.uid()));
        connect(&endpoint).await.unwrap();
        listener.accept().await.unwrap();
    });
}

#[test]
fn what_a_peer_wrote_before_it_died_is_read_and_then_the_end() {
    run(async |endpoint| {
        let (mut client, mut server) = pair(&endpoint).await;
        client.write_all(b"last words").await.unwrap();
        drop(client);
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"last words");
        let error = server.write_all(b"too late").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_writer_at_a_full_ring_notices_that_its_peer_is_gone() {
    run(async |endpoint| {
        let (mut client, server) = pair(&endpoint).await;
        let more = vec![1; 2 * RingBytes::DEFAULT.get() as usize];
        let writing = tokio::spawn(async move { client.write_all(&more).await });
        tokio::task::yield_now().await;
        assert!(!writing.is_finished());
        drop(server);
        let error = writing.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn halves_in_different_tasks_wait_each_for_its_own() {
    run(async |endpoint| {
        let (client, server) = pair(&endpoint).await;
        let (mut near_read, mut near_write) = split(client);
        let (mut far_read, mut far_write) = split(server);
        let bytes = 3 * RingBytes::DEFAULT.get() as usize;
        // The writer fills its ring and sleeps, while the reader already does.
        let writing = tokio::spawn(async move {
            near_write.write_all(&vec![3; bytes]).await.unwrap();
            near_write.shutdown().await.unwrap();
        });
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            near_read.read_to_end(&mut got).await.unwrap();
            got
        });
        tokio::task::yield_now().await;
        far_write.write_all(b"to the reader").await.unwrap();
        far_write.shutdown().await.unwrap();
        assert_eq!(reading.await.unwrap(), b"to the reader");
        assert!(!writing.is_finished());
        let mut got = Vec::new();
        far_read.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), bytes);
        writing.await.unwrap();
    });
}

#[test]
fn polling_finds_what_is_there_and_never_waits() {
    run(async |endpoint| {
        let (mut client, mut server) = pair(&endpoint).await;
        let mut buffer = [0; 16];
        let nothing = server.try_read(&mut buffer).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        client.write_all(b"now").await.unwrap();
        assert_eq!(server.try_read(&mut buffer).unwrap(), 3);
        client.shutdown().await.unwrap();
        assert_eq!(server.try_read(&mut buffer).unwrap(), 0);
    });
}

#[test]
fn who_hands_over_nothing_is_refused_and_holds_nobody_up() {
    run(async |endpoint| {
        let mut listener = listen(&endpoint).await.unwrap();
        let mut rude = UnixStream::connect(path(&endpoint)).unwrap();
        rude.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").unwrap();
        let _silent = UnixStream::connect(path(&endpoint)).unwrap();
        let mut half = UnixStream::connect(path(&endpoint)).unwrap();
        half.write_all(b"VSHM").unwrap();
        drop(UnixStream::connect(path(&endpoint)).unwrap());
        // The rude one and the one that is gone are noticed while others are served.
        while listener.refused() < 2 {
            let mut client = connect(&endpoint).await.unwrap();
            let mut server = listener.accept().await.unwrap();
            client.write_all(b"served").await.unwrap();
            let mut got = [0; 6];
            server.read_exact(&mut got).await.unwrap();
        }
        assert_eq!(listener.refused(), 2);
    });
}

#[test]
fn a_refusal_is_an_error_with_its_reason() {
    run(async |endpoint| {
        let acceptor = UnixListener::bind(path(&endpoint)).unwrap();
        let mut client = connect(&endpoint).await.unwrap();
        let (mut socket, _) = acceptor.accept().unwrap();
        socket.write_all(&[0x83]).unwrap();
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("unsafe"), "{error}");
    });
}

#[test]
fn a_peer_that_lies_about_positions_ends_its_connection_and_no_other() {
    // Offsets of tail and head as the acceptor sees them: its own ring is the second one.
    for (offset, value) in [(512, u64::MAX / 2), (512, 1 << 40), (128, 7)] {
        run(async |endpoint| {
            let acceptor = UnixListener::bind(path(&endpoint)).unwrap();
            let mut client = connect(&endpoint).await.unwrap();
            let (mut socket, _) = acceptor.accept().unwrap();
            let memory = take_memory(&socket);
            poke(&memory, offset, value);
            socket.write_all(&[1]).unwrap();
            let full = vec![0; 2 * RingBytes::DEFAULT.get() as usize];
            let error = match offset {
                128 => client.write_all(&full).await.unwrap_err(),
                _ => client.read_u8().await.unwrap_err(),
            };
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains("R-2.8"), "{error}");
        });
    }
}

#[test]
fn memory_that_a_peer_cuts_up_under_us_is_read_as_it_is() {
    run(async |endpoint| {
        let acceptor = UnixListener::bind(path(&endpoint)).unwrap();
        let mut client = connect(&endpoint).await.unwrap();
        let (mut socket, _) = acceptor.accept().unwrap();
        let memory = take_memory(&socket);
        let ring = u64::from(RingBytes::DEFAULT.get());
        assert!(rustix::fs::ftruncate(&memory, 0).is_err(), "it is sealed");
        let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&memory, hole, 4096 + ring, ring).unwrap();
        poke(&memory, 512, 4096);
        socket.write_all(&[1]).unwrap();
        let mut got = [7; 4096];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(got, [0; 4096]);
    });
}
