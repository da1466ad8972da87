//! One behaviour suite over every transport.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::future::Future;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use valkyrie_transport::{
    ConnectError, Endpoint, ListenError, ListenOptions, Mem, PeerAddress, SocketOptions, Tcp,
    Transport, Unix, connect, listen,
};

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

/// One endpoint per transport, free to listen on.
fn endpoints(dir: &tempfile::TempDir, name: &str) -> Vec<Endpoint> {
    vec![
        format!("valkyrie+mem://{name}").parse().unwrap(),
        format!("valkyrie+unix://{}/{name}.sock", dir.path().display())
            .parse()
            .unwrap(),
        format!("valkyrie+shm://{}/{name}.shm", dir.path().display())
            .parse()
            .unwrap(),
        "valkyrie+tcp://127.0.0.1:0".parse().unwrap(),
    ]
}

#[test]
fn bytes_arrive_both_ways_in_order_and_the_end_is_seen() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        for endpoint in endpoints(&dir, "bytes") {
            let mut listener = listen(&endpoint).await.unwrap();
            let mut client = connect(listener.endpoint()).await.unwrap();
            let mut server = listener.accept().await.unwrap();
            assert_eq!(client.kind(), endpoint.kind());

            let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
            let copy = sent.clone();
            let writer = tokio::spawn(async move {
                client.write_all(&copy).await.unwrap();
                client.shutdown().await.unwrap();
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).await.unwrap();
                answer
            });
            let mut got = Vec::new();
            server.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, sent, "{endpoint}");
            server.write_all(b"done").await.unwrap();
            drop(server);
            assert_eq!(writer.await.unwrap(), b"done");
        }
    });
}

#[test]
fn a_dropped_listener_frees_its_endpoint() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        for endpoint in endpoints(&dir, "freed") {
            let first = listen(&endpoint).await.unwrap();
            let bound = first.endpoint().clone();
            assert!(
                matches!(listen(&bound).await, Err(ListenError::InUse { .. })),
                "{bound}"
            );
            drop(first);
            assert!(connect(&bound).await.is_err(), "{bound}");
            listen(&bound).await.unwrap();
        }
    });
}

#[test]
fn unix_sockets_tell_who_is_there_and_are_private() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("who.sock");
        let endpoint = Endpoint::Unix { path: path.clone() };
        let mut listener = listen(&endpoint).await.unwrap();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        let _client = connect(&endpoint).await.unwrap();
        let server = listener.accept().await.unwrap();
        let PeerAddress::Unix {
            credentials: Some(owner),
        } = server.peer()
        else {
            panic!("no credentials: {:?}", server.peer());
        };
        assert_eq!(owner.uid, meta.uid());
        assert_eq!(owner.pid, Some(std::process::id() as i32));
    });
}

#[test]
fn a_socket_file_of_a_dead_listener_is_replaced_and_other_files_are_not() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(
            path.exists(),
            "the standard listener leaves its file behind"
        );
        let endpoint = Endpoint::Unix { path: path.clone() };
        let listener = listen(&endpoint).await.unwrap();
        connect(&endpoint).await.unwrap();
        drop(listener);
        assert!(!path.exists());

        std::fs::write(&path, b"data").unwrap();
        assert!(matches!(
            listen(&endpoint).await,
            Err(ListenError::NotASocket { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    });
}

#[test]
fn plaintext_tcp_stays_on_loopback() {
    run(async {
        let everywhere: Endpoint = "valkyrie+tcp://0.0.0.0:0".parse().unwrap();
        assert!(matches!(
            listen(&everywhere).await,
            Err(ListenError::PlaintextRemote { .. })
        ));
        let remote: Endpoint = "valkyrie+tcp://192.0.2.1:7443".parse().unwrap();
        assert!(matches!(
            connect(&remote).await,
            Err(ConnectError::PlaintextRemote { .. })
        ));
    });
}

#[test]
fn a_transport_refuses_endpoints_of_others_and_says_what_it_can_do() {
    run(async {
        let mem: Endpoint = "valkyrie+mem://other".parse().unwrap();
        let unix: Endpoint = "valkyrie+unix:///tmp/other".parse().unwrap();
        assert!(matches!(
            Tcp.connect(&mem, &SocketOptions::default()).await,
            Err(ConnectError::WrongTransport { .. })
        ));
        assert!(matches!(
            Unix.listen(&mem, &ListenOptions::default()).await,
            Err(ListenError::WrongTransport { .. })
        ));
        assert!(matches!(
            Mem.connect(&unix, &SocketOptions::default()).await,
            Err(ConnectError::WrongTransport { .. })
        ));
        assert!(matches!(
            connect(&mem).await,
            Err(ConnectError::NoListener { .. })
        ));
        assert_eq!(Tcp.capabilities().kind.name(), "tcp");
        assert_eq!(Unix.capabilities().kind.name(), "unix");
        assert_eq!(Mem.capabilities().kind.name(), "mem");
    });
}
