//! Bytes in pieces, many at once, too many, and the ends of connections.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use resp::Reply;
use yggdrasil::Limit;
use yggdrasil_service::{Server, ServerConfig, SourceLimit, StartError};

use crate::peer::Peer;
use crate::start;

#[test]
fn commands_arrive_in_any_pieces() {
    let (_server, address) = start(ServerConfig::default());
    let long = "v".repeat(300_000);
    let mut bytes = Vec::new();
    for round in 0..20 {
        let key = format!("k{round}");
        resp::command(&mut bytes, ["SET", &key, &long[..round * 15_000]]);
        resp::command(&mut bytes, ["STRLEN", &key]);
        bytes.extend_from_slice(b"ping\r\n");
    }
    for piece in [1000, 65_536, 65_537, 1_000_000] {
        let mut peer = Peer::connect(address);
        let mut sender = peer.socket.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                bytes
                    .chunks(piece)
                    .for_each(|piece| sender.write_all(piece).unwrap())
            });
            for round in 0..20 {
                assert_eq!(peer.answer(), Some(Reply::Simple("OK".to_owned())));
                assert_eq!(peer.answer(), Some(Reply::Integer(round * 15_000)));
                assert_eq!(peer.answer(), Some(Reply::Simple("PONG".to_owned())));
            }
        });
    }
}

#[test]
fn single_bytes_are_put_together() {
    let (_server, address) = start(ServerConfig::default());
    let mut peer = Peer::connect(address);
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nab\r\nget k\r\n" {
        peer.send([*byte]);
    }
    assert_eq!(peer.answer(), Some(Reply::Simple("OK".to_owned())));
    assert_eq!(peer.answer(), Some(Reply::Bulk(b"ab".to_vec())));
}

/// A connection that breaks in the middle of its commands leaves nothing to the next one.
#[test]
fn broken_connections_leave_no_half_commands_behind() {
    let (_server, address) = start(ServerConfig {
        threads: 1,
        ..ServerConfig::default()
    });
    let mut neighbour = Peer::connect(address);
    let mut set = Vec::new();
    resp::command(&mut set, ["SET", "k", &"v".repeat(1 << 20)]);
    neighbour.send(&set);
    assert_eq!(neighbour.answer(), Some(Reply::Simple("OK".to_owned())));
    for _ in 0..50 {
        let mut peer = Peer::connect(address);
        peer.send("GET k\r\n".repeat(7) + "*2\r\n$3\r\nGET\r\n");
        // Closed with answers unread, which resets the connection.
        drop(peer);
        assert_eq!(neighbour.ask("PING"), "+PONG");
    }
}

#[test]
fn wrong_bytes_end_their_connection_only() {
    let (_server, address) = start(ServerConfig::default());
    let mut neighbour = Peer::connect(address);
    for (bytes, error) in [
        ("*1\r\n:1\r\n", "ERR Protocol error: expected '$', got ':'"),
        ("*x\r\n", "ERR Protocol error: invalid multibulk length"),
        ("*1\r\n$-5\r\n", "ERR Protocol error: invalid bulk length"),
        (
            "*1\r\n$2000000\r\n",
            "ERR Protocol error: invalid bulk length",
        ),
        ("\"\r\n", "ERR Protocol error: unbalanced quotes in request"),
    ] {
        let mut peer = Peer::connect(address);
        // What stood before the mistake is still done.
        peer.send(format!("PING\r\n{bytes}PING\r\n"));
        assert_eq!(peer.answer(), Some(Reply::Simple("PONG".to_owned())));
        assert_eq!(peer.answer(), Some(Reply::Error(error.to_owned())));
        assert_eq!(peer.answer(), None);
        assert_eq!(neighbour.ask("PING"), "+PONG");
    }
}

#[test]
fn half_closed_connections_get_their_answers() {
    let (_server, address) = start(ServerConfig::default());
    let mut peer = Peer::connect(address);
    peer.send("SET k v\r\nGET k\r\n");
    peer.socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(peer.answer(), Some(Reply::Simple("OK".to_owned())));
    assert_eq!(peer.answer(), Some(Reply::Bulk(b"v".to_vec())));
    assert_eq!(peer.answer(), None);
}

#[test]
fn clients_are_counted_and_can_be_ended() {
    let (_server, address) = start(ServerConfig {
        clients_max: 3,
        ..ServerConfig::default()
    });
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::connect(address)).collect();
    for peer in &mut peers {
        assert_eq!(peer.ask("PING"), "+PONG");
    }
    let mut fourth = Peer::connect(address);
    let refused = Reply::Error("ERR max number of clients reached".to_owned());
    assert_eq!(fourth.answer(), Some(refused));
    let id = peers[1].ask("CLIENT ID").replace(':', "");
    assert_eq!(peers[0].ask(&format!("CLIENT KILL ID {id}")), ":1");
    assert_eq!(peers[1].answer(), None);
    assert_eq!(peers[0].ask("CLIENT KILL 1.2.3.4:5"), "-ERR No such client");
    let mut another = connect_when_possible(address);
    assert_eq!(another.ask("PING"), "+PONG");
}

/// The server sees the end of a connection a moment after its client does.
fn connect_when_possible(address: SocketAddr) -> Peer {
    loop {
        let mut peer = Peer::connect(address);
        if peer.ask("PING") == "+PONG" {
            return peer;
        }
    }
}

#[test]
fn threads_serve_the_same_keys() {
    let (_server, address) = start(ServerConfig {
        threads: 4,
        ..ServerConfig::default()
    });
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                let mut peer = Peer::connect(address);
                for _ in 0..100 {
                    peer.send(
                        "INCR n\r\nMSET a 1 b 2\r\nMULTI\r\nINCR x\r\nINCR y\r\nEXEC\r\n"
                            .repeat(10),
                    );
                    for _ in 0..60 {
                        peer.answer().unwrap();
                    }
                }
            });
        }
    });
    let mut peer = Peer::connect(address);
    peer.check(&[("MGET n x y", "*3 $4 8000 $4 8000 $4 8000")]);
}

#[test]
fn unix_sockets_are_served_and_cleaned_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ygg.sock");
    for _ in 0..2 {
        let (server, _) = start(ServerConfig {
            unix: Some(path.clone()),
            ..ServerConfig::default()
        });
        let mut socket = UnixStream::connect(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket.write_all(b"PING\r\n").unwrap();
        let mut answer = [0; 7];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+PONG\r\n");
        server.stop();
        assert!(!path.exists());
    }
    // One that a killed server left behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (_server, _) = start(ServerConfig {
        unix: Some(path.clone()),
        ..ServerConfig::default()
    });
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn server_does_not_start_in_the_open_or_nowhere() {
    let open = Server::start(ServerConfig {
        listen: vec!["0.0.0.0:0".parse().unwrap()],
        ..ServerConfig::default()
    });
    assert!(matches!(open, Err(StartError::Unprotected { .. })));
    let nowhere = Server::start(ServerConfig {
        listen: Vec::new(),
        ..ServerConfig::default()
    });
    assert!(matches!(nowhere, Err(StartError::Nowhere)));
    let (_server, address) = start(ServerConfig::default());
    let taken = Server::start(ServerConfig {
        listen: vec![address],
        ..ServerConfig::default()
    });
    assert!(matches!(taken, Err(StartError::Listen { .. })));
}

/// The server limits by address itself, at connections and at reads.
#[test]
fn address_that_comes_too_often_is_not_served() {
    // The tokens that are there at the start, and no more for an hour.
    let limit = Limit::per(1, Duration::from_secs(3600), 5).unwrap();
    let path = std::env::temp_dir().join(format!("ygg-sources-{}", std::process::id()));
    let (_server, address) = start(ServerConfig {
        sources: SourceLimit::Here {
            limit: Some(limit),
            bans: Vec::new(),
        },
        unix: Some(path.clone()),
        ..ServerConfig::default()
    });
    let refused = "-ERR this address comes too often or is banned";
    let mut first = Peer::connect(address);
    for _ in 0..3 {
        assert_eq!(first.ask("PING"), "+PONG");
    }
    let mut second = Peer::connect(address);
    assert_eq!(second.ask("PING"), refused);
    assert_eq!(second.answer(), None);
    let mut third = Peer::connect(address);
    let told = Some(Reply::Error(refused[1..].to_owned()));
    assert_eq!(third.answer(), told);
    assert_eq!(third.answer(), None);
    assert_eq!(first.ask("PING"), refused);
    assert_eq!(first.answer(), None);
    // Clients of this machine's Unix socket come from no address, and look after it.
    let mut local = UnixStream::connect(&path).unwrap();
    let mut ask = |line: &str| {
        local.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut piece = [0; 8192];
        let count = local.read(&mut piece).unwrap();
        String::from_utf8_lossy(&piece[..count]).replace("\r\n", " ")
    };
    let info = ask("INFO limits");
    for line in [
        "xdp:off",
        "sources_limited_by:server",
        "sources_limited:3",
        "sources_banned:0",
    ] {
        assert!(info.contains(line), "{info}");
    }
    assert_eq!(ask("YGG.BANS"), "*0 ");
    assert_eq!(ask("YGG.BAN ::ffff:127.0.0.1"), "+OK ");
    assert_eq!(ask("YGG.BAN 2001:db8::7"), "+OK ");
    assert_eq!(ask("YGG.BANS"), "*2 $9 127.0.0.1 $11 2001:db8::7 ");
    let mut banned = Peer::connect(address);
    assert_eq!(banned.answer(), told);
    assert!(ask("INFO limits").contains("sources_banned:1"));
    assert_eq!(ask("YGG.UNBAN 2001:db8::7"), ":1 ");
    assert_eq!(ask("YGG.UNBAN 2001:db8::7"), ":0 ");
    assert_eq!(
        ask("YGG.BAN nobody"),
        "-ERR the address is none, such as 192.0.2.7 "
    );
}

#[test]
fn nobody_is_banned_where_nothing_limits() {
    let (_server, address) = start(ServerConfig::default());
    let mut peer = Peer::connect(address);
    peer.check(&[
        ("YGG.BANS", "*0"),
        (
            "YGG.BAN 192.0.2.7",
            "-ERR nothing limits sources here; start the server with --xdp",
        ),
    ]);
    let info = peer.ask("INFO limits");
    assert!(
        info.contains("xdp:off") && info.contains("sources_limited_by:none"),
        "{info}"
    );
}
