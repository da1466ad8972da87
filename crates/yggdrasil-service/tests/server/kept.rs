//! Buckets that outlive the server.

use std::path::Path;

use yggdrasil_service::{PersistConfig, Server, ServerConfig};

use crate::peer::Peer;
use crate::start;

const DAY: u64 = 86_400_000_000_000;

fn without_buckets(directory: &Path) -> ServerConfig {
    ServerConfig {
        persist: Some(PersistConfig::new(directory.to_owned())),
        ..ServerConfig::default()
    }
}

fn with_buckets(directory: &Path) -> ServerConfig {
    let mut config = without_buckets(directory);
    if let Some(persist) = &mut config.persist {
        persist.keep_buckets = true;
    }
    config
}

fn take(server: &Server, cost: u32) -> String {
    let mut peer = Peer::connect(server.addresses()[0]);
    peer.check(&[
        ("SET kept yes", "+OK"),
        ("YGG.POLICY SET p* p 86400000000000 5", "+OK"),
    ]);
    let policy = peer.ask(&format!("YGG.TAKE p1 {cost}"));
    let own = peer.ask(&format!("YGG.CONSUME p1 {DAY} 5 {cost}"));
    assert_eq!(policy.get(..9), own.get(..9));
    own.get(..9).unwrap_or_default().to_owned()
}

#[test]
fn buckets_are_kept_over_a_stop_where_that_is_wanted() {
    for left in [":2", ":5"] {
        let config = if left == ":2" {
            with_buckets
        } else {
            without_buckets
        };
        let directory = tempfile::tempdir().unwrap();
        let (server, _) = start(config(directory.path()));
        assert_eq!(take(&server, 3), "*4 :0 :2 ");
        server.stop();
        let (server, _) = start(config(directory.path()));
        assert_eq!(take(&server, 0), format!("*4 :0 {left} "));
        server.stop();
    }
}

#[test]
fn snapshot_with_buckets_is_read_by_those_who_do_not_want_them() {
    let directory = tempfile::tempdir().unwrap();
    let (server, _) = start(with_buckets(directory.path()));
    assert_eq!(take(&server, 3), "*4 :0 :2 ");
    server.stop();
    let (server, address) = start(without_buckets(directory.path()));
    assert_eq!(Peer::connect(address).ask("GET kept"), "$3 yes");
    assert_eq!(take(&server, 0), "*4 :0 :5 ");
    server.stop();
}

#[test]
fn bucket_of_the_last_snapshot_is_what_a_kill_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let (server, address) = start(with_buckets(directory.path()));
    assert_eq!(take(&server, 1), "*4 :0 :4 ");
    let mut peer = Peer::connect(address);
    assert_eq!(peer.ask("BGSAVE"), "+Background saving started");
    while !peer.ask("INFO persistence").contains("rdb_saves:1") {
        std::thread::yield_now();
    }
    // The files as they are when the snapshot is stored, as after a kill.
    let copy = tempfile::tempdir().unwrap();
    loop {
        copy_journal(directory.path(), copy.path());
        if let Ok(server) = Server::start(ServerConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            ..with_buckets(copy.path())
        }) {
            let seen = take(&server, 0);
            server.stop();
            if seen == "*4 :0 :4 " {
                break;
            }
            assert_eq!(seen, "*4 :0 :5 ");
        }
        std::fs::remove_dir_all(copy.path()).unwrap();
    }
    server.stop();
}

fn copy_journal(from: &Path, to: &Path) {
    let (from, to) = (from.join("journal"), to.join("journal"));
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // A file that is being written may have another name by now.
        let _ = std::fs::copy(entry.path(), to.join(entry.file_name()));
    }
}
