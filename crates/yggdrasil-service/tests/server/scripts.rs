//! What each command answers.

use std::time::Duration;

use yggdrasil_service::{Placement, Secret, ServerConfig};

use crate::peer::Peer;
use crate::start;

fn check(script: &[(&str, &str)]) {
    let (_server, address) = start(ServerConfig::default());
    Peer::connect(address).check(script);
}

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range";

#[test]
fn strings() {
    check(&[
        ("GET a", "$-1"),
        ("SET a hello", "+OK"),
        ("GET a", "$5 hello"),
        ("get A", "$-1"),
        ("SET a x NX", "$-1"),
        ("SET b x XX", "$-1"),
        ("SET a y XX GET", "$5 hello"),
        ("SET a z IFEQ x", "$-1"),
        ("SET a z IFEQ y", "+OK"),
        ("SET n v NX GET", "$-1"),
        ("SETNX a q", ":0"),
        ("GETSET a q", "$1 z"),
        ("GETDEL a", "$1 q"),
        ("GETDEL a", "$-1"),
        ("APPEND a abc", ":3"),
        ("APPEND a def", ":6"),
        ("STRLEN a", ":6"),
        ("STRLEN none", ":0"),
        ("GETRANGE a 1 3", "$3 bcd"),
        ("GETRANGE a -3 -1", "$3 def"),
        ("GETRANGE a 0 -1", "$6 abcdef"),
        ("GETRANGE a 5 100", "$1 f"),
        ("GETRANGE a 6 100", "$0"),
        ("GETRANGE a -100 2", "$3 abc"),
        ("GETRANGE a 4 2", "$0"),
        ("SETRANGE a 3 XYZW", ":7"),
        ("GET a", "$7 abcXYZW"),
        ("SETRANGE p 3 x", ":4"),
        ("SETRANGE q 3 \"\"", ":0"),
        ("EXISTS q", ":0"),
        ("SETRANGE a -1 x", "-ERR offset is out of range"),
        (
            "SETRANGE a 9999999 x",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ),
        ("MSET k1 1 k2 2", "+OK"),
        (
            "MSET k1 1 k2",
            "-ERR wrong number of arguments for 'mset' command",
        ),
        ("MGET k1 none k2", "*3 $1 1 $-1 $1 2"),
        ("MSETNX k2 x k3 y", ":0"),
        ("MSETNX k3 3 k4 4", ":1"),
        ("DELIFEQ k4 3", ":0"),
        ("DELIFEQ k4 4", ":1"),
        ("SET a", "-ERR wrong number of arguments for 'set' command"),
        ("SET a b c", "-ERR syntax error"),
        ("SET a b NX XX", "-ERR syntax error"),
        ("SET a b EX 10 PX 10", "-ERR syntax error"),
        ("SET a b EX", "-ERR syntax error"),
        ("SET a b EX x", NOT_AN_INTEGER),
        ("SET a b EX 0", "-ERR invalid expire time in 'set' command"),
        (
            "SET a b EX 9223372036854775807",
            "-ERR invalid expire time in 'set' command",
        ),
    ]);
}

#[test]
fn counters() {
    check(&[
        ("INCR n", ":1"),
        ("INCRBY n 41", ":42"),
        ("GET n", "$2 42"),
        ("STRLEN n", ":2"),
        ("APPEND n 0", ":3"),
        ("DECR n", ":419"),
        ("DECRBY n 20", ":399"),
        ("INCRBY n x", NOT_AN_INTEGER),
        ("SET n 9223372036854775807", "+OK"),
        ("INCR n", "-ERR increment or decrement would overflow"),
        (
            "DECRBY n -9223372036854775808",
            "-ERR decrement would overflow",
        ),
        ("SET s abc", "+OK"),
        ("INCR s", NOT_AN_INTEGER),
        ("SET f 10.50", "+OK"),
        ("INCRBYFLOAT f 0.1", "$4 10.6"),
        ("INCRBYFLOAT f -5", "$3 5.6"),
        ("SET f 5.0e3", "+OK"),
        ("INCRBYFLOAT f 2.0e2", "$4 5200"),
        ("INCRBYFLOAT f x", "-ERR value is not a valid float"),
        ("INCRBYFLOAT s 1", "-ERR value is not a valid float"),
        (
            "INCRBYFLOAT f inf",
            "-ERR increment would produce NaN or Infinity",
        ),
        ("INCREX c BYINT 7 UBOUND 10 EX 100", "*2 :7 :7"),
        ("TTL c", ":100"),
        ("INCREX c BYINT 7 UBOUND 10", "*2 :7 :0"),
        ("INCREX c BYINT 7 UBOUND 10 SATURATE", "*2 :10 :3"),
        ("INCREX c BYINT -1 EX 500 ENX", "*2 :9 :-1"),
        ("TTL c", ":100"),
        (
            "INCREX c LBOUND 5 UBOUND 1",
            "-ERR LBOUND can't be greater than UBOUND",
        ),
        ("INCREX c ENX", "-ERR syntax error"),
    ]);
}

#[test]
fn ends() {
    check(&[
        ("TTL a", ":-2"),
        ("SET a 1", "+OK"),
        ("TTL a", ":-1"),
        ("EXPIRE a 100", ":1"),
        ("TTL a", ":100"),
        ("EXPIRE a 50 GT", ":0"),
        ("EXPIRE a 50 LT", ":1"),
        ("EXPIRE a 70 NX", ":0"),
        ("EXPIRE a 70 XX", ":1"),
        ("TTL a", ":70"),
        ("EXPIRE a 1 BAD", "-ERR Unsupported option BAD"),
        (
            "EXPIRE a 1 NX XX",
            "-ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        (
            "EXPIRE a 1 GT LT",
            "-ERR GT and LT options at the same time are not compatible",
        ),
        ("PERSIST a", ":1"),
        ("PERSIST a", ":0"),
        ("EXPIRE a 100 GT", ":0"),
        ("EXPIRE a 100 LT", ":1"),
        ("SET a 2 KEEPTTL", "+OK"),
        ("TTL a", ":100"),
        ("SET a 2", "+OK"),
        ("TTL a", ":-1"),
        ("PEXPIREAT a 33177117420000", ":1"),
        ("EXPIRETIME a", ":33177117420"),
        ("PEXPIRETIME a", ":33177117420000"),
        ("GETEX a PERSIST", "$1 2"),
        ("TTL a", ":-1"),
        ("GETEX a EX 10", "$1 2"),
        ("TTL a", ":10"),
        ("EXPIRE a -1", ":1"),
        ("EXISTS a", ":0"),
        (
            "EXPIRE a 9223372036854775807",
            "-ERR invalid expire time in 'expire' command",
        ),
        ("SETEX a 0 x", "-ERR invalid expire time in 'setex' command"),
        ("SETEX a 5 x", "+OK"),
        ("PSETEX a 5000 x", "+OK"),
        ("TTL a", ":5"),
    ]);
}

#[test]
fn keys_are_gone_when_their_end_has_come() {
    let (_server, address) = start(ServerConfig::default());
    let mut peer = Peer::connect(address);
    peer.check(&[
        ("SET a 1 PX 30", "+OK"),
        ("SET b 1 PX 30", "+OK"),
        ("SET c 1", "+OK"),
    ]);
    // Nobody asks for `b` again: it goes by itself.
    while peer.ask("DBSIZE") != ":1" {
        std::thread::sleep(Duration::from_millis(5));
    }
    peer.check(&[("GET a", "$-1"), ("GET c", "$1 1"), ("TTL a", ":-2")]);
}

#[test]
fn keys() {
    check(&[
        ("MSET a 1 b 2 c 3", "+OK"),
        ("DEL a none", ":1"),
        ("UNLINK b", ":1"),
        ("EXISTS c c none", ":2"),
        ("TOUCH c none", ":1"),
        ("TYPE c", "+string"),
        ("TYPE none", "+none"),
        ("RENAME c d", "+OK"),
        ("RENAME c d", "-ERR no such key"),
        ("GET d", "$1 3"),
        ("SET e 5", "+OK"),
        ("RENAMENX d e", ":0"),
        ("RENAMENX d f", ":1"),
        ("COPY f g", ":1"),
        ("COPY f g", ":0"),
        ("COPY f g REPLACE", ":1"),
        (
            "COPY f f",
            "-ERR source and destination objects are the same",
        ),
        ("DBSIZE", ":3"),
        ("KEYS [ex]", "*1 $1 e"),
        ("KEYS [fx]", "*1 $1 f"),
        ("KEYS x*", "*0"),
        ("SCAN 0 MATCH e COUNT 100", "*2 $1 0 *1 $1 e"),
        ("SCAN 0 TYPE lease", "*2 $1 0 *0"),
        ("SCAN x", "-ERR invalid cursor"),
        ("SCAN 0 COUNT 0", "-ERR syntax error"),
        ("OBJECT ENCODING e", "$3 int"),
        ("OBJECT ENCODING none", "$-1"),
        (
            "OBJECT WHAT e",
            "-ERR unknown subcommand 'WHAT'. Try OBJECT HELP.",
        ),
        ("FLUSHALL", "+OK"),
        ("RANDOMKEY", "$-1"),
        ("DBSIZE", ":0"),
        ("SET only 1", "+OK"),
        ("RANDOMKEY", "$4 only"),
        ("FLUSHDB ASYNC", "+OK"),
    ]);
}

#[test]
fn buckets_leases_and_places() {
    check(
        &[
            ("CL.THROTTLE u 14 30 60", "*5 :0 :15 :14 :-1 :2"),
            ("CL.THROTTLE u 14 30 60 15", "*5 :1 :15 :14 :2 :2"),
            ("CL.THROTTLE u 14 30 60 16", "*5 :1 :15 :14 :-1 :2"),
            ("CL.THROTTLE u 14 30 60 0", "*5 :0 :15 :14 :-1 :2"),
            (
                "CL.THROTTLE u 14 0 60",
                "-ERR max_burst, count, period or quantity is out of range",
            ),
            (
                "CL.THROTTLE u 14 30",
                "-ERR wrong number of arguments for 'cl.throttle' command",
            ),
            (
                "YGG.CONSUME v 3600000000000 2 2",
                "*4 :0 :0 :0 :7200000000000",
            ),
            ("YGG.REFILL v", ":1"),
            ("YGG.REFILL v", ":0"),
            (
                "YGG.CONSUME v 0 2 2",
                "-ERR the time between two tokens is 0; name at least 1 ns",
            ),
            ("YGG.ACQUIRE p a 1 60000", "*2 :1 :1"),
            ("YGG.ACQUIRE p a 1 60000", "*2 :1 :1"),
            ("YGG.GIVEBACK p b", ":0"),
            ("YGG.GIVEBACK p a", ":1"),
            ("YGG.ACQUIRE p b 1 60000", "*2 :1 :1"),
            ("TYPE p", "+permits"),
            ("GET p", WRONG_TYPE),
            ("INCR p", WRONG_TYPE),
            ("YGG.LEASE p a 1000", WRONG_TYPE),
            ("YGG.SETV k one 1", "*2 :0 :0"),
            ("YGG.GETV k", "*-1"),
        ]
        .map(|(line, expected)| (line, expected)),
    );
}

#[test]
fn leases_and_versions_name_their_numbers() {
    let (_server, address) = start(ServerConfig::default());
    let mut peer = Peer::connect(address);
    let number = |answer: String| answer.rsplit(':').next().unwrap().to_owned();
    let first = number(peer.ask("YGG.LEASE l me 60000"));
    assert_eq!(number(peer.ask("YGG.LEASE l me 60000")), first);
    assert!(peer.ask("YGG.LEASE l you 60000").starts_with("*2 :0 :"));
    assert_eq!(peer.ask("YGG.RENEW l 1 60000"), ":0");
    assert_eq!(peer.ask(&format!("YGG.RENEW l {first} 60000")), ":1");
    assert_eq!(peer.ask(&format!("YGG.RELEASE l {first}")), ":1");
    assert_eq!(peer.ask(&format!("YGG.RELEASE l {first}")), ":0");
    let second = number(peer.ask("YGG.LEASE l you 60000"));
    assert!(second.parse::<u64>().unwrap() > first.parse().unwrap());

    let first = number(peer.ask("YGG.SETV k one 0"));
    assert_eq!(peer.ask("YGG.GETV k"), format!("*2 $3 one :{first}"));
    assert_eq!(peer.ask("YGG.SETV k two 0"), format!("*2 :0 :{first}"));
    let second = number(peer.ask(&format!("YGG.SETV k two {first} PX 60000")));
    assert_eq!(
        peer.ask(&format!("YGG.DELV k {first}")),
        format!("*2 :0 :{second}")
    );
    assert_eq!(peer.ask(&format!("YGG.DELV k {second}")), "*2 :1 :0");
}

#[test]
fn changes_that_belong_together() {
    const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    const LONG_AGO: &str = "-ERR invalid expire time in 'ygg.transact' command";
    check(&[
        (
            r#"YGG.TRANSACT ABSENT a "" "" SET a 1 "" incrby n 5 "" DEL none "" "" INCRBY m -2 """#,
            "*3 :1 :5 :-2",
        ),
        ("MGET a n m", "*3 $1 1 $1 5 $2 -2"),
        (
            r#"YGG.TRANSACT INCRBY n 1 "" PRESENT a "" "" ABSENT a "" "" SET b 1 """#,
            "*2 :0 :2",
        ),
        (r#"YGG.TRANSACT EQUALS n 5 "" SET b 1 60000"#, "*1 :1"),
        (r#"YGG.TRANSACT EQUALS b 1 "" SET b 2 keepttl"#, "*1 :1"),
        ("EXPIRE b 30 GT", ":0"),
        (r#"YGG.TRANSACT VERSION b 1 "" DEL b "" """#, "*2 :0 :0"),
        ("YGG.ACQUIRE l me 2 60000", "*2 :1 :1"),
        (r#"YGG.TRANSACT SET a 2 "" INCRBY l 1 """#, WRONG),
        (r#"YGG.TRANSACT SET n 2 "" INCRBY a x """#, NOT_AN_INTEGER),
        (
            r#"YGG.TRANSACT SET a 2 "" DEL a "" """#,
            "-ERR a transaction changes a key twice",
        ),
        (r#"YGG.TRANSACT SET a 2 0"#, LONG_AGO),
        (r#"YGG.TRANSACT DEL a "" 1"#, "-ERR syntax error"),
        (r#"YGG.TRANSACT GET a "" """#, "-ERR syntax error"),
        (
            "YGG.TRANSACT SET a 2 1 DEL",
            "-ERR wrong number of arguments for 'ygg.transact' command",
        ),
        ("GET a", "$1 1"),
        ("MULTI", "+OK"),
        (r#"YGG.TRANSACT SET a 2 "" INCRBY n 1 """#, "+QUEUED"),
        ("EXEC", "*1 *2 :1 :6"),
        (
            r#"COMMAND GETKEYS YGG.TRANSACT SET a 1 "" DEL b "" """#,
            "*2 $1 a $1 b",
        ),
    ]);
}

#[test]
fn many_buckets_at_once() {
    const MS: &str = "1000000";
    let day = "86400000000000";
    check(&[
        (
            &format!("YGG.CONSUMEMANY each a {day} 5 2 b {day} 5 6 a {day} 5 0"),
            "*3 *4 :0 :3 :0 :172800000000000 *4 :2 :5 :0 :0 *4 :0 :3 :0 :172800000000000",
        ),
        // What `a` gives is given back where `b` refuses.
        (
            &format!("YGG.CONSUMEMANY ALL c {day} 5 2 b {day} 5 6 d {day} 5 1"),
            "*2 *4 :0 :3 :0 :172800000000000 *4 :2 :5 :0 :0",
        ),
        (
            &format!("YGG.CONSUME c {day} 5 5"),
            "*4 :0 :0 :0 :432000000000000",
        ),
        (
            &format!("YGG.CONSUMEMANY ALL e {MS} 1 0"),
            "*1 *4 :0 :1 :0 :0",
        ),
        (
            "COMMAND GETKEYS YGG.CONSUMEMANY ALL a 1 1 1 b 1 1 1",
            "*2 $1 a $1 b",
        ),
        ("YGG.CONSUMEMANY SOME a 1 1 1", "-ERR syntax error"),
        (
            "YGG.CONSUMEMANY ALL a 1 1 1 b",
            "-ERR wrong number of arguments for 'ygg.consumemany' command",
        ),
        ("YGG.CONSUMEMANY ALL a 1 1 x", NOT_AN_INTEGER),
        ("YGG.CONSUMEMANY ALL a 1 1 -1", NOT_AN_INTEGER),
        (
            "YGG.CONSUMEMANY EACH a 1 1 1 b 0 1 1",
            "-ERR the time between two tokens is 0; name at least 1 ns",
        ),
    ]);
}

#[test]
fn policies() {
    let day = "86400000000000";
    check(&[
        ("YGG.POLICY LIST", "*0"),
        (
            "YGG.TAKE user:7",
            "-ERR the key has no policy; make one with YGG.POLICY SET",
        ),
        (&format!("YGG.POLICY SET user:* users {day} 3"), "+OK"),
        (&format!("YGG.POLICY SET user:7 vip {day} 9"), "+OK"),
        ("YGG.TAKE user:1", "*4 :0 :2 :0 :86400000000000"),
        ("YGG.TAKE user:2 4", "*4 :2 :3 :0 :0"),
        ("YGG.TAKE user:7 9", "*4 :0 :0 :0 :777600000000000"),
        (
            "YGG.TAKE user",
            "-ERR the key has no policy; make one with YGG.POLICY SET",
        ),
        // Buckets of a key without a policy are others.
        (&format!("YGG.CONSUME user:1 {day} 3 0"), "*4 :0 :3 :0 :0"),
        (
            "YGG.POLICY LIST",
            "*2 *4 $6 user:7 $3 vip :86400000000000 :9 *4 $6 user:* $5 users :86400000000000 :3",
        ),
        ("YGG.POLICY DEL user:7", ":1"),
        ("YGG.POLICY DEL user:7", ":0"),
        ("YGG.TAKE user:7 0", "*4 :0 :3 :0 :0"),
        ("YGG.REFILL user:7", ":0"),
        ("YGG.REFILL user:1", ":1"),
        ("YGG.TAKE user:1 0", "*4 :0 :3 :0 :0"),
        ("YGG.TAKE user:1 x", NOT_AN_INTEGER),
        (
            "YGG.POLICY SET a n 0 1",
            "-ERR the time between two tokens is 0; name at least 1 ns",
        ),
        (
            "YGG.POLICY SET a \"\" 1 1",
            "-ERR the name is 0 bytes long; name 1 to 255",
        ),
        (
            "YGG.POLICY SET a",
            "-ERR wrong number of arguments for 'ygg.policy' command",
        ),
        (
            "YGG.POLICY X",
            "-ERR unknown subcommand 'X'. Try YGG.POLICY HELP.",
        ),
    ]);
}

#[test]
fn threads_are_pinned() {
    let (_server, address) = start(ServerConfig {
        placement: Placement::Pinned,
        threads: 3,
        ..ServerConfig::default()
    });
    let mut peer = Peer::connect(address);
    let info = peer.ask("INFO server");
    assert!(info.contains("threads_pinned:yes"), "{info}");
    assert!(info.contains("numa_nodes:"), "{info}");
}

#[test]
fn transactions() {
    let (_server, address) = start(ServerConfig::default());
    let (mut one, mut two) = (Peer::connect(address), Peer::connect(address));
    one.check(&[
        ("EXEC", "-ERR EXEC without MULTI"),
        ("DISCARD", "-ERR DISCARD without MULTI"),
        ("MULTI", "+OK"),
        ("MULTI", "-ERR MULTI calls can not be nested"),
        ("WATCH a", "-ERR WATCH inside MULTI is not allowed"),
        ("SET a 1", "+QUEUED"),
        ("INCR a", "+QUEUED"),
        ("SET b x", "+QUEUED"),
        ("INCR b", "+QUEUED"),
        ("DBSIZE", "+QUEUED"),
        (
            "EXEC",
            "*5 +OK :2 +OK -ERR value is not an integer or out of range :2",
        ),
        ("MULTI", "+OK"),
        (
            "NOSUCH",
            "-ERR unknown command 'NOSUCH', with args beginning with:",
        ),
        ("SET a 5", "+QUEUED"),
        (
            "EXEC",
            "-EXECABORT Transaction discarded because of previous errors.",
        ),
        ("GET a", "$1 2"),
        ("MULTI", "+OK"),
        ("SCAN 0", "-ERR SCAN is not allowed in a transaction"),
        ("DISCARD", "+OK"),
        ("WATCH a none", "+OK"),
    ]);
    two.check(&[("SET a 3", "+OK")]);
    one.check(&[
        ("MULTI", "+OK"),
        ("SET a 4", "+QUEUED"),
        ("EXEC", "*-1"),
        ("GET a", "$1 3"),
        ("WATCH a none", "+OK"),
        ("MULTI", "+OK"),
        ("SET a 4", "+QUEUED"),
        ("EXEC", "*1 +OK"),
        ("WATCH a", "+OK"),
        ("UNWATCH", "+OK"),
    ]);
    two.check(&[("SET a 5", "+OK")]);
    one.check(&[
        ("MULTI", "+OK"),
        ("MGET a b", "+QUEUED"),
        ("EXEC", "*1 *2 $1 5 $1 x"),
    ]);
}

#[test]
fn clients_say_who_they_are() {
    check(&[
        ("PING", "+PONG"),
        ("PING hi", "$2 hi"),
        ("ECHO hi", "$2 hi"),
        ("SELECT 0", "+OK"),
        ("SELECT 1", "-ERR DB index is out of range"),
        ("CLIENT GETNAME", "$-1"),
        ("CLIENT SETNAME worker-7", "+OK"),
        ("CLIENT GETNAME", "$8 worker-7"),
        (
            "CLIENT SETNAME \"a b\"",
            "-ERR Client names cannot contain spaces, newlines or special characters.",
        ),
        ("CLIENT SETINFO LIB-NAME test", "+OK"),
        ("CLIENT NO-EVICT on", "+OK"),
        (
            "CLIENT NOSUCH",
            "-ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.",
        ),
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
        ("HELLO 2 X", "-ERR Syntax error in HELLO option 'X'"),
        ("RESET", "+RESET"),
        ("CLIENT GETNAME", "$-1"),
        (
            "AUTH x",
            "-ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        ),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        (
            "foo bar baz",
            "-ERR unknown command 'foo', with args beginning with: 'bar' 'baz'",
        ),
        ("FUNCTION FLUSH", "+OK"),
        ("QUIT", "+OK"),
        ("PING", "(closed)"),
    ]);
}

#[test]
fn nobody_comes_in_without_the_password() {
    let (_server, address) = start(ServerConfig {
        password: Some(Secret::new(b"correct horse")),
        ..ServerConfig::default()
    });
    let mut peer = Peer::connect(address);
    peer.check(&[
        ("GET a", "-NOAUTH Authentication required."),
        (
            "AUTH wrong",
            "-WRONGPASS invalid username-password pair or user is disabled.",
        ),
        (
            "AUTH other \"correct horse\"",
            "-WRONGPASS invalid username-password pair or user is disabled.",
        ),
        ("AUTH \"correct horse\"", "+OK"),
        ("GET a", "$-1"),
        ("RESET", "+RESET"),
        ("GET a", "-NOAUTH Authentication required."),
    ]);
    assert!(
        peer.ask("HELLO 3")
            .starts_with("-NOAUTH HELLO must be called")
    );
    let answer = peer.ask("HELLO 3 AUTH default \"correct horse\" SETNAME me");
    assert!(answer.starts_with("%7 $6 server $5 redis"), "{answer}");
    assert_eq!(peer.ask("GET a"), "_");

    let mut guesser = Peer::connect(address);
    let answers = (0..20).map(|_| guesser.ask("AUTH guess"));
    assert_eq!(
        answers
            .take_while(|answer| answer.starts_with("-WRONGPASS"))
            .count(),
        10
    );
}

#[test]
fn who_is_unknown_may_send_little() {
    let (_server, address) = start(ServerConfig {
        password: Some(Secret::new(b"secret")),
        ..ServerConfig::default()
    });
    for (bytes, error) in [
        ("*11\r\n", "-ERR Protocol error: invalid multibulk length"),
        (
            "*2\r\n$20000\r\n",
            "-ERR Protocol error: invalid bulk length",
        ),
    ] {
        let mut peer = Peer::connect(address);
        peer.send(bytes);
        let answer = format!("{:?}", peer.answer().unwrap());
        assert!(answer.contains(error.trim_start_matches('-')), "{answer}");
        assert_eq!(peer.answer(), None);
    }
    // What follows the password in the same bytes may be long.
    let mut peer = Peer::connect(address);
    let long = "x".repeat(100_000);
    peer.send(format!(
        "AUTH secret\r\n*2\r\n$4\r\nECHO\r\n$100000\r\n{long}\r\n"
    ));
    assert_eq!(peer.answer(), Some(resp::Reply::Simple("OK".to_owned())));
    assert_eq!(peer.answer(), Some(resp::Reply::Bulk(long.into_bytes())));
}

#[test]
fn server_tells_about_itself() {
    let (_server, address) = start(ServerConfig::default());
    let mut peer = Peer::connect(address);
    peer.check(&[
        ("SET a 1", "+OK"),
        ("CONFIG GET save", "*2 $4 save $0"),
        ("CONFIG GET nosuch", "*0"),
        (
            "CONFIG SET maxmemory 1",
            "-ERR CONFIG SET failed - 'maxmemory' is set when the server starts",
        ),
        ("SLOWLOG LEN", ":0"),
        ("SLOWLOG RESET", "+OK"),
        ("COMMAND GETKEYS MSET a 1 b 2", "*2 $1 a $1 b"),
        (
            "COMMAND GETKEYS PING",
            "-ERR The command has no key arguments",
        ),
    ]);
    let count: usize = peer.ask("COMMAND COUNT")[1..].parse().unwrap();
    assert_eq!(count, yggdrasil_service::commands().count());
    let info = peer.ask("INFO");
    for line in [
        "redis_version:",
        "connected_clients:1",
        "db0:keys=1,expires=0",
    ] {
        assert!(info.contains(line), "{info}");
    }
    assert!(peer.ask("INFO keyspace").contains("# Keyspace"));
    assert!(peer.ask("CLIENT LIST").contains("cmd=info"));
    assert!(peer.ask("TIME").starts_with("*2 $10 "));
    let docs = peer.ask("COMMAND DOCS get");
    assert!(docs.contains("Gives a value."), "{docs}");
    assert!(peer.ask("COMMAND INFO get nosuch").ends_with("*-1"));
    assert!(peer.ask("MEMORY USAGE a").starts_with(":64"));
}

#[test]
fn slow_commands_are_remembered() {
    let (_server, address) = start(ServerConfig {
        slow: Duration::ZERO,
        ..ServerConfig::default()
    });
    let mut peer = Peer::connect(address);
    let many: String = (0..40).map(|key| format!(" k{key}")).collect();
    peer.ask(&format!("DEL{many}"));
    let log = peer.ask("SLOWLOG GET 1");
    assert!(log.contains("$3 DEL $2 k0"), "{log}");
    assert!(log.contains("... (9 more arguments)"), "{log}");
}
