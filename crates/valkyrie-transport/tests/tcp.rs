//! What only TCP does: options of sockets, and proxies in front.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use valkyrie_transport::{
    Endpoint, Keepalive, ListenError, ListenOptions, Listener, ProxyTrust, SocketOptions, connect,
    connect_with, listen_with,
};

fn any() -> Endpoint {
    "valkyrie+tcp://127.0.0.1:0".parse().unwrap()
}

fn dial(listener: &Listener) -> TcpStream {
    let Endpoint::Tcp { host, port } = listener.endpoint() else {
        panic!("{}", listener.endpoint());
    };
    TcpStream::connect((host.as_str(), *port)).unwrap()
}

async fn behind_proxies(trust: ProxyTrust) -> Listener {
    let options = ListenOptions {
        proxy: Some(trust),
        ..ListenOptions::default()
    };
    listen_with(&any(), &options).await.unwrap()
}

/// A header of `command` and `family` with `rest` behind it.
fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [
        b"\r\n\r\n\0\r\nQUIT\n",
        &[command, family][..],
        &length,
        rest,
    ]
    .concat()
}

/// From 192.0.2.7:12345.
const CLIENT: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x1d, 0x13];

#[tokio::test]
async fn bytes_pass_whatever_the_options_are() {
    let socket = SocketOptions {
        nodelay: false,
        send_buffer_bytes: Some(16 * 1024),
        receive_buffer_bytes: Some(16 * 1024),
        unsent_low_water_bytes: Some(16 * 1024),
        keepalive: Some(Keepalive {
            idle: Duration::from_secs(5),
            interval: Duration::from_secs(1),
            probes: 3,
        }),
        ..SocketOptions::default()
    };
    let options = ListenOptions {
        socket,
        backlog: 8,
        reuse_port: true,
        proxy: None,
    };
    let mut listener = listen_with(&any(), &options).await.unwrap();
    let second = listen_with(listener.endpoint(), &options).await.unwrap();
    drop(second);
    let mut client = connect_with(listener.endpoint(), &socket).await.unwrap();
    let mut server = listener.accept().await.unwrap();
    let sent = vec![9; 500_000];
    let mut got = vec![0; sent.len()];
    let (wrote, read) = tokio::join!(client.write_all(&sent), server.read_exact(&mut got));
    wrote.unwrap();
    read.unwrap();
    assert!(got == sent);
}

#[tokio::test]
async fn options_that_only_tcp_has_are_refused_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let proxied = ListenOptions {
        proxy: Some(ProxyTrust::loopback()),
        ..ListenOptions::default()
    };
    let shared = ListenOptions {
        reuse_port: true,
        ..ListenOptions::default()
    };
    for endpoint in [
        "valkyrie+mem://proxied".to_owned(),
        format!("valkyrie+unix://{}/u", dir.path().display()),
        format!("valkyrie+shm://{}/s", dir.path().display()),
    ] {
        let endpoint: Endpoint = endpoint.parse().unwrap();
        for options in [&proxied, &shared] {
            let error = listen_with(&endpoint, options).await.unwrap_err();
            assert!(matches!(error, ListenError::Unsupported { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn a_proxy_says_who_is_behind_it_and_what_follows_is_the_clients() {
    let mut listener = behind_proxies(ProxyTrust::loopback()).await;
    let mut proxy = dial(&listener);
    let mut bytes = header(0x21, 0x11, &CLIENT);
    bytes.extend_from_slice(b"hello");
    // In pieces, as TCP may deliver it.
    let (first, second) = bytes.split_at(20);
    proxy.write_all(first).unwrap();
    let accepting = tokio::spawn(async move {
        let server = listener.accept().await.unwrap();
        (listener, server)
    });
    tokio::task::yield_now().await;
    proxy.write_all(second).unwrap();
    let (mut listener, mut server) = accepting.await.unwrap();
    let shown = server.peer().to_string();
    assert!(
        shown.starts_with("tcp:192.0.2.7:12345 by 127.0.0.1:"),
        "{shown}"
    );
    assert_eq!(server.kind().name(), "tcp");
    assert_eq!(server.peer().uid(), None);
    let mut got = [0; 5];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");

    let mut check = dial(&listener);
    check.write_all(&header(0x20, 0x00, &[])).unwrap();
    let server = listener.accept().await.unwrap();
    assert!(server.peer().to_string().starts_with("tcp:127.0.0.1:"));
    assert_eq!(listener.refused(), 0);
}

#[tokio::test]
async fn a_broken_header_refuses_one_connection_and_holds_nobody_up() {
    let mut listener = behind_proxies(ProxyTrust::loopback()).await;
    let _silent = dial(&listener);
    let mut broken = [
        b"RC\x02\x00 a client that came directly".to_vec(),
        header(0x11, 0x11, &CLIENT),
        header(0x21, 0x12, &CLIENT),
        header(0x21, 0x21, &CLIENT),
        header(0x21, 0x11, &[0; 5000]),
        header(0x21, 0x11, &[&CLIENT[..], &[3, 0, 4, 0, 0, 0, 0]].concat()),
    ]
    .map(|bytes| {
        let mut proxy = dial(&listener);
        proxy.write_all(&bytes).unwrap();
        proxy
    });
    // They are noticed while others are served.
    while listener.refused() < broken.len() as u64 {
        let mut good = dial(&listener);
        good.write_all(&header(0x21, 0x11, &CLIENT)).unwrap();
        listener.accept().await.unwrap();
    }
    for proxy in &mut broken {
        // Closed with bytes unread or not, nothing comes.
        assert!(!matches!(proxy.read(&mut [0; 1]), Ok(1)));
    }
}

#[tokio::test]
async fn who_is_not_a_trusted_proxy_is_refused() {
    let elsewhere = ProxyTrust::networks(vec!["192.0.2.0/24".parse().unwrap()]);
    let mut listener = behind_proxies(elsewhere).await;
    let mut stranger = dial(&listener);
    stranger.write_all(&header(0x21, 0x11, &CLIENT)).unwrap();
    let short = Duration::from_millis(200);
    assert!(timeout(short, listener.accept()).await.is_err());
    assert_eq!(listener.refused(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_come_is_not_waited_for_long() {
    let mut listener = behind_proxies(ProxyTrust::loopback()).await;
    let mut slow = dial(&listener);
    slow.write_all(b"\r\n\r\n").unwrap();
    assert!(
        timeout(Duration::from_secs(60), listener.accept())
            .await
            .is_err()
    );
    assert_eq!(listener.refused(), 1);
    assert_eq!(slow.read(&mut [0; 1]).unwrap_or(0), 0);
}

#[tokio::test]
async fn without_proxies_a_header_is_just_bytes() {
    let mut listener = listen_with(&any(), &ListenOptions::default())
        .await
        .unwrap();
    let _client = connect(listener.endpoint()).await.unwrap();
    assert!(listener.accept().await.is_ok());
}
