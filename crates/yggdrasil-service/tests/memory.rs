//! What clients cost, in a process where nothing else happens.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests stop the test"
)]

#[expect(dead_code, reason = "other tests use the rest")]
#[path = "server/peer.rs"]
mod peer;

use std::io::Write;
use std::thread;

use peer::Peer;
use resp::Reply;
use yggdrasil_service::{Server, ServerConfig};

/// A client that asks for a gigabyte and takes nothing must not cost a gigabyte, nor its neighbours
/// their answers.
#[test]
fn who_does_not_read_is_not_answered() {
    let server = Server::start(ServerConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        buckets: 10_000,
        threads: 1,
        ..ServerConfig::default()
    })
    .unwrap();
    let address = server.addresses()[0];
    let mut peer = Peer::connect(address);
    let long = "v".repeat(1 << 20);
    let mut set = Vec::new();
    resp::command(&mut set, ["SET", "k", &long]);
    peer.send(&set);
    assert_eq!(peer.answer(), Some(Reply::Simple("OK".to_owned())));
    let before = resident_kib();
    let gets = "GET k\r\n".repeat(1000);
    let mut sender = peer.socket.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || sender.write_all(gets.as_bytes()).unwrap());
        let mut neighbour = Peer::connect(address);
        for _ in 0..100 {
            assert_eq!(neighbour.ask("PING"), "+PONG");
        }
        let grown = resident_kib() - before;
        assert!(grown < 100 << 10, "{grown} KiB");
        for _ in 0..1000 {
            let Some(Reply::Bulk(value)) = peer.answer() else {
                panic!("an answer is missing");
            };
            assert_eq!(value.len(), long.len());
        }
    });
    assert_eq!(peer.ask("PING"), "+PONG");
}

fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
