//! Clients that keep what they read.

use std::collections::HashMap;
use std::thread;

use resp::Reply;
use yggdrasil_service::{Server, ServerConfig};

use crate::peer::Peer;
use crate::redis::Redis;
use crate::start;

fn pair(config: ServerConfig) -> (Server, Peer, Peer) {
    let (server, address) = start(ServerConfig {
        threads: 2,
        ..config
    });
    let (mut reader, writer) = (Peer::connect(address), Peer::connect(address));
    assert!(reader.ask("HELLO 3").starts_with("%7"));
    (server, reader, writer)
}

#[test]
fn answers_are_those_of_redis() {
    let redis = Redis::start();
    let (_server, address) = start(ServerConfig::default());
    let (mut ours, mut theirs) = (Peer::connect(address), Peer::connect(redis.address));
    for peer in [&mut ours, &mut theirs] {
        assert!(peer.ask("HELLO 3").starts_with("%7"));
    }
    for line in [
        "client tracking",
        "client trackinginfo",
        "client getredir",
        "client caching yes",
        "client tracking on noloop",
        "client trackinginfo",
        "client getredir",
        "client caching yes",
        "client tracking on optin",
        "client caching x",
        "client caching no",
        "client caching yes",
        "client trackinginfo",
        "client trackinginfo",
        "client tracking on optout",
        "client tracking off",
        "client tracking off",
        "client tracking on optout",
        "client caching yes",
        "client caching no",
        "client tracking off",
        "client tracking on optin optout",
        "client tracking on prefix x",
        "client tracking on bcast optin",
        "client tracking on bcast prefix a prefix ab",
        "client tracking on bcast prefix a",
        "client trackinginfo",
        "client tracking on",
        "client tracking on bcast prefix b",
        "client tracking on bcast prefix aa",
        "client trackinginfo",
        "client tracking off",
        "client tracking on bcast",
        "client trackinginfo",
        "client tracking x",
        "client tracking on foo",
        "client tracking on prefix",
    ] {
        assert_eq!(ours.ask(line), theirs.ask(line), "{line}");
    }
    let other = &mut Peer::connect(address);
    other.check(&[
        (
            "CLIENT TRACKING ON",
            "-ERR what a cache must not believe is told in RESP3 only; say HELLO 3 first",
        ),
        (
            "CLIENT TRACKING ON REDIRECT 1",
            "-ERR REDIRECT is not supported; say HELLO 3 and be told on the same connection",
        ),
    ]);
}

#[test]
fn what_was_read_and_changes_is_told_once() {
    let (_server, mut reader, mut writer) = pair(ServerConfig::default());
    writer.check(&[("MSET a 1 b 2 c 3", "+OK")]);
    reader.check(&[
        ("CLIENT TRACKING ON", "+OK"),
        ("GET a", "$1 1"),
        ("MGET b none", "*2 $1 2 _"),
    ]);
    writer.check(&[
        ("SET c 4", "+OK"),
        ("SET a 5", "+OK"),
        ("SET a 6", "+OK"),
        ("SET none 1", "+OK"),
        ("PEXPIRE b 0", ":1"),
    ]);
    for key in ["$1 a", "$4 none", "$1 b"] {
        assert_eq!(reader.next(), format!(">2 $10 invalidate *1 {key}"));
    }
    // Its own changes too.
    assert_eq!(reader.ask("GET a"), "$1 6");
    assert_eq!(reader.ask("INCR a"), ":7");
    assert_eq!(reader.next(), ">2 $10 invalidate *1 $1 a");
    assert_eq!(reader.ask("GET a"), "$1 7");
    // A transaction reads as well.
    reader.check(&[("MULTI", "+OK"), ("GET c", "+QUEUED"), ("EXEC", "*1 $1 4")]);
    writer.check(&[("MULTI", "+OK"), ("SET c 5", "+QUEUED"), ("EXEC", "*1 +OK")]);
    assert_eq!(reader.next(), ">2 $10 invalidate *1 $1 c");
    writer.check(&[("FLUSHALL", "+OK"), ("SET a 1", "+OK")]);
    assert_eq!(reader.next(), ">2 $10 invalidate _");
    assert_eq!(reader.ask("GET a"), "$1 1");
    assert_eq!(reader.ask("CLIENT TRACKING OFF"), "+OK");
    assert_eq!(writer.ask("SET a 2"), "+OK");
    assert_eq!(reader.ask("PING"), "+PONG");
}

#[test]
fn ends_of_keys_are_told() {
    let (_server, mut reader, mut writer) = pair(ServerConfig::default());
    assert_eq!(reader.ask("CLIENT TRACKING ON NOLOOP"), "+OK");
    assert_eq!(writer.ask("SET k v PX 20"), "+OK");
    let value = reader.ask("GET k");
    // It may have ended before it was read, and then there is nothing to tell.
    if value == "$1 v" {
        assert_eq!(reader.next(), ">2 $10 invalidate *1 $1 k");
    }
    assert_eq!(reader.ask("GET k"), "_");
    assert_eq!(writer.ask("SET k w"), "+OK");
    assert_eq!(reader.next(), ">2 $10 invalidate *1 $1 k");
}

#[test]
fn choices_and_own_changes() {
    let (_server, mut reader, mut writer) = pair(ServerConfig::default());
    reader.check(&[
        ("CLIENT TRACKING ON OPTIN NOLOOP", "+OK"),
        ("GET a", "_"),
        ("CLIENT CACHING YES", "+OK"),
        ("GET b", "_"),
        ("GET c", "_"),
        ("CLIENT CACHING YES", "+OK"),
        ("MULTI", "+OK"),
        ("GET d", "+QUEUED"),
        ("GET e", "+QUEUED"),
        ("EXEC", "*2 _ _"),
    ]);
    writer.check(&[("MSET a 1 c 1", "+OK"), ("MSET b 1 d 1 e 1", "+OK")]);
    for key in ["b", "d", "e"] {
        assert_eq!(reader.next(), format!(">2 $10 invalidate *1 $1 {key}"));
    }
    reader.check(&[
        ("CLIENT CACHING YES", "+OK"),
        ("GET own", "_"),
        ("SET own 1", "+OK"),
        ("PING", "+PONG"),
        ("CLIENT TRACKING OFF", "+OK"),
        ("CLIENT TRACKING ON OPTOUT", "+OK"),
        ("CLIENT CACHING NO", "+OK"),
        ("GET a", "$1 1"),
        ("GET b", "$1 1"),
    ]);
    writer.check(&[("MSET a 2 b 2", "+OK")]);
    assert_eq!(reader.next(), ">2 $10 invalidate *1 $1 b");
    reader.check(&[
        ("CLIENT TRACKING OFF", "+OK"),
        ("CLIENT TRACKING ON BCAST PREFIX a PREFIX b NOLOOP", "+OK"),
        ("SET a 1", "+OK"),
    ]);
    writer.check(&[("MSET a 3 x 1 bb 1", "+OK")]);
    assert_eq!(reader.next(), ">2 $10 invalidate *1 $1 a");
    assert_eq!(reader.next(), ">2 $10 invalidate *1 $2 bb");
    assert_eq!(writer.ask("FLUSHALL"), "+OK");
    assert_eq!(reader.next(), ">2 $10 invalidate _");
    assert_eq!(reader.ask("PING"), "+PONG");
}

/// What is not remembered any more is not to be believed.
#[test]
fn full_table_tells_what_it_forgets() {
    let (_server, mut reader, mut writer) = pair(ServerConfig {
        tracking_bytes_max: 16 * 1000,
        ..ServerConfig::default()
    });
    assert_eq!(reader.ask("CLIENT TRACKING ON"), "+OK");
    let (mut known, mut told) = (0, 0);
    for number in 0..500 {
        reader.send(format!("GET k{number}\r\n"));
        loop {
            match reader.answer().unwrap() {
                Reply::Push(_) => told += 1,
                Reply::Null => break,
                other => panic!("{other:?}"),
            }
        }
        known += 1;
    }
    let stats = writer.ask("INFO stats");
    let kept = stats.split("tracking_total_keys:").nth(1).unwrap();
    let kept: i64 = kept.split(' ').next().unwrap().parse().unwrap();
    assert!((16..200).contains(&kept), "{kept}");
    // All that it was not told of is still remembered.
    for number in 0..500 {
        assert_eq!(writer.ask(&format!("SET k{number} v")), "+OK");
    }
    reader.send("PING\r\n");
    loop {
        match reader.answer().unwrap() {
            Reply::Push(_) => told += 1,
            Reply::Simple(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, known);
}

/// A cache that drops what it is told to drop never keeps a value that is not there any more.
#[test]
fn caches_become_right() {
    const KEYS: usize = 20;
    let (_server, address) = start(ServerConfig {
        threads: 4,
        ..ServerConfig::default()
    });
    thread::scope(|scope| {
        for seed in 0..3_usize {
            scope.spawn(move || {
                let mut peer = Peer::connect(address);
                for step in 0..3000_usize {
                    let key = step.wrapping_mul(7 + seed * 4) % KEYS;
                    peer.send(format!("INCR k{key}\r\n"));
                    peer.answer().unwrap();
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(move || {
                let mut peer = Peer::connect(address);
                assert!(peer.ask("HELLO 3").starts_with("%7"));
                assert_eq!(peer.ask("CLIENT TRACKING ON"), "+OK");
                let mut cache = HashMap::new();
                let mut last = [0_i64; KEYS];
                for step in 0..6000 {
                    let key = step % KEYS;
                    let value = read(&mut peer, &mut cache, key);
                    assert!(value >= last[key]);
                    last[key] = value;
                }
            });
        }
    });
    let mut peer = Peer::connect(address);
    assert!(peer.ask("HELLO 3").starts_with("%7"));
    assert_eq!(peer.ask("CLIENT TRACKING ON"), "+OK");
    let mut writer = Peer::connect(address);
    let mut cache = HashMap::new();
    for _ in 0..10 {
        for key in 0..KEYS {
            let before = read(&mut peer, &mut cache, key);
            assert_eq!(
                writer.ask(&format!("INCR k{key}")),
                format!(":{}", before + 1)
            );
            // Once an answer came after the change, the cache knows of it.
            peer.send("PING\r\n");
            while !matches!(take(&mut peer, &mut cache), Reply::Simple(_)) {}
            assert_eq!(read(&mut peer, &mut cache, key), before + 1);
        }
    }
}

/// The next answer or message; keys that are not to be believed leave the cache.
fn take(peer: &mut Peer, cache: &mut HashMap<usize, i64>) -> Reply {
    let reply = peer.answer().unwrap();
    if let Reply::Push(parts) = &reply {
        let Reply::Array(keys) = &parts[1] else {
            panic!("{parts:?}");
        };
        for key in keys {
            let Reply::Bulk(key) = key else {
                panic!("{key:?}");
            };
            let number = std::str::from_utf8(&key[1..]).unwrap().parse().unwrap();
            cache.remove(&number);
        }
    }
    reply
}

fn read(peer: &mut Peer, cache: &mut HashMap<usize, i64>, key: usize) -> i64 {
    if let Some(value) = cache.get(&key) {
        return *value;
    }
    peer.send(format!("GET k{key}\r\n"));
    loop {
        match take(peer, cache) {
            Reply::Push(_) => {}
            Reply::Null => {
                cache.insert(key, 0);
                return 0;
            }
            Reply::Bulk(value) => {
                let value = String::from_utf8(value).unwrap().parse().unwrap();
                cache.insert(key, value);
                return value;
            }
            other => panic!("{other:?}"),
        }
    }
}
