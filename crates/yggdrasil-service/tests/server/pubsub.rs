//! Messages of channels and changes of keys.

use std::net::SocketAddr;
use std::thread;

use resp::Reply;
use yggdrasil_service::ServerConfig;

use crate::peer::Peer;
use crate::redis::Redis;
use crate::start;

/// A server with as many threads as clients come, so that each client has its own.
fn threaded(threads: usize) -> (yggdrasil_service::Server, SocketAddr) {
    start(ServerConfig {
        threads,
        ..ServerConfig::default()
    })
}

#[test]
fn answers_are_those_of_redis() {
    let redis = Redis::start();
    let (_server, address) = threaded(2);
    redis.agrees(
        address,
        "2 subscribe a b
        get x
        set x
        multi
        ping
        ping hi
        ping hi there
        ssubscribe q
        psubscribe p*
        subscribe a
        publish a 1
        2 unsubscribe a b
        punsubscribe
        punsubscribe
        sunsubscribe q
        sunsubscribe
        unsubscribe
        2 unsubscribe x y
        get none
        subscribe c
        reset
        ping
        subscribe
        publish a
        pubsub
        pubsub nosuch
        pubsub channels a b
        pubsub shardchannels a b
        pubsub channels
        pubsub numsub
        pubsub numsub a b
        pubsub numpat
        pubsub numpat x
        pubsub shardnumsub a
        publish none 1
        spublish none 1
        subscribe z
        quit",
    );
    // From here on messages answer nothing.
    let script = "subscribe x
        ping
        get x
        psubscribe x*
        subscribe x
        2 unsubscribe x y
        unsubscribe
        punsubscribe
        sunsubscribe
        pubsub numsub x";
    let (mut ours, mut theirs) = (Peer::connect(address), Peer::connect(redis.address));
    for peer in [&mut ours, &mut theirs] {
        assert!(peer.ask("hello 3").starts_with("%7"));
    }
    for line in script.lines().map(str::trim) {
        let (count, line) = line.strip_prefix("2 ").map_or((1, line), |line| (2, line));
        assert_eq!(
            ours.ask_all(line, count),
            theirs.ask_all(line, count),
            "{line}"
        );
    }
}

#[test]
fn messages_reach_all_who_listen() {
    let (_server, address) = threaded(4);
    let mut peers: Vec<Peer> = (0..6).map(|_| Peer::connect(address)).collect();
    for peer in &mut peers[..2] {
        assert_eq!(peer.ask("SUBSCRIBE news"), "*3 $9 subscribe $4 news :1");
    }
    assert!(peers[2].ask("HELLO 3").starts_with("%7"));
    assert_eq!(peers[2].ask("PSUBSCRIBE n*"), ">3 $10 psubscribe $2 n* :1");
    assert_eq!(peers[2].ask("SUBSCRIBE news"), ">3 $9 subscribe $4 news :2");
    assert_eq!(
        peers[3].ask("SSUBSCRIBE news"),
        "*3 $10 ssubscribe $4 news :1"
    );
    assert_eq!(peers[4].ask("PUBLISH news hello"), ":4");
    assert_eq!(peers[4].ask("SPUBLISH news shard"), ":1");
    for peer in &mut peers[..2] {
        assert_eq!(peer.next(), "*3 $7 message $4 news $5 hello");
    }
    assert_eq!(peers[2].next(), ">3 $7 message $4 news $5 hello");
    assert_eq!(peers[2].next(), ">4 $8 pmessage $2 n* $4 news $5 hello");
    assert_eq!(peers[3].next(), "*3 $8 smessage $4 news $5 shard");
    peers[4].check(&[
        ("PUBSUB CHANNELS", "*1 $4 news"),
        ("PUBSUB CHANNELS x*", "*0"),
        ("PUBSUB NUMSUB news none", "*4 $4 news :3 $4 none :0"),
        ("PUBSUB NUMPAT", ":1"),
        ("PUBSUB SHARDCHANNELS", "*1 $4 news"),
        ("PUBSUB SHARDNUMSUB news", "*2 $4 news :1"),
    ]);
    // A transaction publishes too, and whoever publishes may listen.
    assert_eq!(peers[2].ask("MULTI"), "+OK");
    assert_eq!(peers[2].ask("PUBLISH news own"), "+QUEUED");
    assert_eq!(
        peers[2].ask("SUBSCRIBE more"),
        "-ERR SUBSCRIBE is not allowed in a transaction"
    );
    assert_eq!(peers[2].ask("DISCARD"), "+OK");
    assert_eq!(peers[2].ask("PUBLISH news own"), ":4");
    assert_eq!(peers[2].next(), ">3 $7 message $4 news $3 own");
    assert_eq!(peers[2].next(), ">4 $8 pmessage $2 n* $4 news $3 own");
    // Connections that end leave nothing behind.
    let closed = peers.drain(..4).map(drop).count();
    assert_eq!(closed, 4);
    let asker = &mut peers[0];
    while asker.ask("PUBSUB NUMSUB news") != "*2 $4 news :0"
        || asker.ask("PUBSUB NUMPAT") != ":0"
        || asker.ask("PUBSUB SHARDNUMSUB news") != "*2 $4 news :0"
    {
        thread::yield_now();
    }
    assert_eq!(asker.ask("PUBLISH news none"), ":0");
}

/// Every subscriber gets every message, those of one publisher in its order, and all subscribers of a
/// channel in the same order.
#[test]
fn no_message_is_lost_or_out_of_order() {
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 5000;
    let (_server, address) = threaded(4);
    let mut listeners: Vec<Peer> = (0..4).map(|_| Peer::connect(address)).collect();
    for listener in &mut listeners {
        assert!(listener.ask("SUBSCRIBE all").starts_with("*3"));
    }
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            scope.spawn(move || {
                let mut peer = Peer::connect(address);
                for first in (0..MESSAGES).step_by(100) {
                    let line = |number| format!("PUBLISH all {publisher}:{number}\r\n");
                    peer.send((first..first + 100).map(line).collect::<String>());
                    for _ in 0..100 {
                        assert_eq!(peer.next(), ":4");
                    }
                }
            });
        }
        let heard: Vec<_> = listeners
            .iter_mut()
            .map(|listener| scope.spawn(|| hear(listener, PUBLISHERS * MESSAGES)))
            .collect();
        let heard: Vec<Vec<String>> = heard.into_iter().map(|it| it.join().unwrap()).collect();
        for messages in &heard {
            assert_eq!(messages, &heard[0]);
            let mut next = [0; PUBLISHERS];
            for message in messages {
                let (publisher, number) = message.split_once(':').unwrap();
                let next = &mut next[publisher.parse::<usize>().unwrap()];
                assert_eq!(number.parse::<usize>().unwrap(), *next);
                *next += 1;
            }
            assert_eq!(next, [MESSAGES; PUBLISHERS]);
        }
    });
}

fn hear(listener: &mut Peer, count: usize) -> Vec<String> {
    let text = |reply| match reply {
        Some(Reply::Array(parts)) => match &parts[2] {
            Reply::Bulk(text) => String::from_utf8(text.clone()).unwrap(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    (0..count).map(|_| text(listener.answer())).collect()
}

/// Who takes nothing is closed and counted; neighbours on the same thread miss nothing.
#[test]
fn slow_subscribers_are_closed() {
    let (_server, address) = start(ServerConfig {
        threads: 1,
        pushed_bytes_max: 1 << 20,
        ..ServerConfig::default()
    });
    let mut slow = Peer::connect(address);
    assert!(slow.ask("SUBSCRIBE c").starts_with("*3"));
    let mut good = Peer::connect(address);
    assert!(good.ask("SUBSCRIBE c").starts_with("*3"));
    let mut publisher = Peer::connect(address);
    let mut publish = Vec::new();
    resp::command(&mut publish, ["PUBLISH", "c", &"m".repeat(100_000)]);
    let mut sent = 0;
    loop {
        publisher.send(&publish);
        sent += 1;
        let Some(Reply::Integer(heard)) = publisher.answer() else {
            panic!("an answer is missing");
        };
        assert!(matches!(good.answer(), Some(Reply::Array(_))));
        if heard == 1 {
            break;
        }
        assert!(sent < 1000, "a client that reads nothing is still there");
    }
    let stats = publisher.ask("INFO stats");
    assert!(
        stats.contains("client_output_buffer_limit_disconnections:1"),
        "{stats}"
    );
    while slow.answer().is_some() {}
}

/// A message that many want costs each of them its own bytes only when it is sent.
#[test]
fn many_channels_and_clients() {
    let (_server, address) = threaded(2);
    let mut peers: Vec<Peer> = (0..50).map(|_| Peer::connect(address)).collect();
    let names: Vec<String> = (0..1000).map(|number| format!("c{number}")).collect();
    for peer in &mut peers {
        peer.send(format!("SUBSCRIBE {}\r\n", names.join(" ")));
        for _ in &names {
            peer.answer().unwrap();
        }
    }
    let mut publisher = Peer::connect(address);
    for name in &names {
        assert_eq!(publisher.ask(&format!("PUBLISH {name} x")), ":50");
    }
    for peer in &mut peers {
        for name in &names {
            let length = name.len();
            assert_eq!(peer.next(), format!("*3 $7 message ${length} {name} $1 x"));
        }
        peer.send("UNSUBSCRIBE\r\n");
        for _ in &names {
            peer.answer().unwrap();
        }
        assert_eq!(peer.ask("GET x"), "$-1");
    }
    assert_eq!(publisher.ask("PUBLISH c1 x"), ":0");
}

#[test]
fn what_a_client_hears_of_is_bounded() {
    let (_server, address) = threaded(1);
    let mut peer = Peer::connect(address);
    let mut too_long = Vec::new();
    resp::command(&mut too_long, ["SUBSCRIBE", &"c".repeat((64 << 10) + 1)]);
    peer.send(&too_long);
    assert_eq!(peer.next(), "-ERR the name is longer than 65536 bytes");
    let mut number = 0;
    loop {
        let mut subscribe = Vec::new();
        let name = format!("{number:060000}");
        resp::command(&mut subscribe, ["PSUBSCRIBE", &name]);
        peer.send(&subscribe);
        match peer.answer() {
            Some(Reply::Error(text)) => {
                assert!(
                    text.starts_with("ERR the client wants to hear of too much"),
                    "{text}"
                );
                break;
            }
            _ => number += 1,
        }
    }
    assert_eq!(number, (16 << 20) / 60_128);
}

#[test]
fn changes_of_keys_are_told() {
    let (_server, address) = threaded(2);
    let (mut watcher, mut writer) = (Peer::connect(address), Peer::connect(address));
    let refused = "-ERR changes are told in RESP3 only; say HELLO 3 first";
    assert_eq!(watcher.ask("YGG.WATCH job:"), refused);
    assert!(watcher.ask("HELLO 3").starts_with("%7"));
    assert_eq!(watcher.ask("YGG.WATCH job: j"), ":2");
    assert_eq!(watcher.ask("YGG.UNWATCH j none"), ":1");
    writer.check(&[
        ("SET job:1 a", "+OK"),
        ("SET other x", "+OK"),
        ("APPEND job:1 b", ":2"),
        ("DEL job:1 other", ":2"),
        ("SET job:2 x PX 1", "+OK"),
        ("MSET job:3 a x b", "+OK"),
    ]);
    let mut seen = Vec::new();
    let mut versions = std::collections::HashMap::new();
    while seen.len() < 6 {
        let Some(Reply::Push(parts)) = watcher.answer() else {
            panic!("no message");
        };
        let [
            Reply::Bulk(word),
            Reply::Bulk(key),
            Reply::Bulk(change),
            Reply::Integer(version),
        ] = &parts[..]
        else {
            panic!("{parts:?}");
        };
        assert_eq!(word, b"change");
        let before = versions.insert(key.clone(), *version);
        assert!(before.is_none_or(|before| before < *version));
        seen.push(format!(
            "{} {}",
            String::from_utf8_lossy(key),
            String::from_utf8_lossy(change)
        ));
    }
    seen.sort();
    let expected = [
        "job:1 removed",
        "job:1 set",
        "job:1 set",
        "job:2 expired",
        "job:2 set",
        "job:3 set",
    ];
    assert_eq!(seen, expected);
    assert_eq!(writer.ask("FLUSHALL"), "+OK");
    assert!(
        watcher
            .next()
            .starts_with(">4 $6 change $5 job:3 $7 removed :")
    );
    assert_eq!(watcher.ask("YGG.UNWATCH"), ":0");
    assert_eq!(writer.ask("SET job:4 x"), "+OK");
    assert_eq!(watcher.ask("PING"), "+PONG");
    // Version 2 has no way to tell it.
    assert_eq!(watcher.ask("YGG.WATCH job:"), ":1");
    assert!(watcher.ask("HELLO 2").starts_with("*14"));
    assert_eq!(writer.ask("SET job:5 x"), "+OK");
    assert_eq!(watcher.ask("PING"), "+PONG");
}

/// The version that is told is the one that the key has.
#[test]
fn what_is_told_is_what_is_there() {
    let (_server, address) = threaded(2);
    let (mut watcher, mut writer) = (Peer::connect(address), Peer::connect(address));
    assert!(watcher.ask("HELLO 3").starts_with("%7"));
    assert_eq!(watcher.ask("YGG.WATCH \"\""), ":1");
    let lease = writer.ask("YGG.LEASE k me 10000");
    let fence = lease.rsplit(':').next().unwrap();
    assert_eq!(watcher.next(), format!(">4 $6 change $1 k $3 set :{fence}"));
    for _ in 0..1000 {
        writer.send("INCR n\r\n");
        writer.answer().unwrap();
        let message = watcher.next();
        let told = message.rsplit(':').next().unwrap();
        let there = writer.ask("YGG.GETV n");
        assert!(there.ends_with(&format!(":{told}")), "{there} {message}");
    }
}
