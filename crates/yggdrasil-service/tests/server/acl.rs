//! Users and what they may do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use resp::Reply;
use yggdrasil_service::{Secret, Server, ServerConfig, StartError};

use crate::peer::Peer;
use crate::redis::Redis;
use crate::start;

const SCRIPT: &str = "acl
        acl nosuch
        acl whoami
        acl whoami x
        acl users
        acl users x
        acl list
        acl getuser default
        acl getuser nosuch
        acl getuser
        acl setuser
        acl setuser a
        acl getuser a
        acl list
        acl setuser a on >pw resetkeys ~a* %R~r* %W~w* &c* +@all -@dangerous
        acl setuser b on nopass ~* &* -@all +get
        acl list
        acl users
        acl getuser b
        acl setuser b +nosuch
        acl setuser b \" \"
        acl setuser b #12
        acl setuser b <y
        acl setuser default ~x
        acl setuser default &x
        acl setuser b +@x
        acl setuser b %X~x
        acl setuser b +client|foo
        acl setuser b +client|id|x
        acl setuser b off >x +nosuch
        acl list
        acl deluser default
        acl deluser nosuch
        acl setuser c +@all -client|id
        acl setuser c +client
        acl setuser c -@all +@read -get +get +config|get -config
        acl setuser c %RW~foo %R~* %W~bar
        acl setuser c ~*
        acl setuser c >a >b <a <b
        acl setuser c +@all ~* &*
        acl list
        acl dryrun b get x
        acl dryrun b set x y
        acl dryrun a get a1
        acl dryrun a get z
        acl dryrun a get r1
        acl dryrun a set r1 x
        acl dryrun a set w1 x
        acl dryrun a set w1 x get
        acl dryrun a mset a1 x z x
        acl dryrun a incr w1
        acl dryrun a append w1 x
        acl dryrun a copy r1 w1
        acl dryrun a copy w1 r1
        acl dryrun a rename a1 w1
        acl dryrun a rename w1 a1
        acl dryrun a exists w1
        acl dryrun a type r1
        acl dryrun a exists z
        acl dryrun a memory usage z
        acl dryrun a memory usage r1
        acl dryrun a object encoding z
        acl dryrun a client list
        acl dryrun a client id
        acl dryrun a subscribe c1
        acl dryrun a subscribe c1 x
        acl dryrun a psubscribe c*
        acl dryrun a psubscribe c1*
        acl dryrun a publish x y
        acl dryrun a spublish c1 y
        acl dryrun nosuch get x
        acl dryrun a nosuch
        acl dryrun a get
        acl genpass 0
        acl genpass x
        acl genpass 5000
        acl cat nosuch
        acl save
        acl load
        acl log x
        acl log reset
        acl log
        auth a x
        auth nosuch x
        hello 2 auth a x
        auth x
        auth a pw
        acl whoami
        set a1 x
        get z
        mset a1 x z x
        set r1 x
        keys *
        acl users
        config get save
        client list
        subscribe x
        psubscribe c1*
        publish x 1
        ssubscribe x
        publish c1 1
        nosuch
        get
        multi
        get a1
        keys *
        exec
        psubscribe c*
        get a1
        client list
        reset
        acl whoami
        acl deluser a b c nosuch
        acl users
        acl log 0";

#[test]
fn answers_are_those_of_redis() {
    let redis = Redis::start();
    let (_server, address) = start(ServerConfig::default());
    redis.agrees(address, SCRIPT);
}

/// What `ACL CAT` lists, without what only one of the two has.
#[test]
fn categories_are_those_of_redis() {
    let redis = Redis::start();
    let (_server, address) = start(ServerConfig::default());
    let (mut ours, mut theirs) = (Peer::connect(address), Peer::connect(redis.address));
    let categories = list(&mut theirs, "ACL CAT");
    let mut known = list(&mut ours, "ACL CAT");
    assert!(known.remove("limits"));
    assert_eq!(known, categories);
    let all = |peer: &mut Peer| -> BTreeSet<String> {
        let lists = categories
            .iter()
            .map(|it| list(peer, &format!("ACL CAT {it}")));
        lists.flatten().collect()
    };
    let (our_all, their_all) = (all(&mut ours), all(&mut theirs));
    let both: BTreeSet<&String> = our_all.intersection(&their_all).collect();
    assert!(both.len() > 100, "{both:?}");
    for category in &categories {
        let of = |peer: &mut Peer| -> BTreeSet<String> {
            let mut names = list(peer, &format!("ACL CAT {category}"));
            names.retain(|name| both.contains(name));
            names
        };
        assert_eq!(of(&mut ours), of(&mut theirs), "{category}");
    }
    assert!(list(&mut ours, "ACL CAT limits").contains("cl.throttle"));
}

fn list(peer: &mut Peer, line: &str) -> BTreeSet<String> {
    peer.send(format!("{line}\r\n"));
    let Some(Reply::Array(names)) = peer.answer() else {
        panic!("{line}");
    };
    let text = |reply| match reply {
        Reply::Bulk(text) => String::from_utf8(text).unwrap(),
        other => panic!("{other:?}"),
    };
    names.into_iter().map(text).collect()
}

#[test]
fn what_is_refused_is_remembered() {
    let (_server, address) = start(ServerConfig::default());
    let mut admin = Peer::connect(address);
    assert_eq!(
        admin.ask("ACL SETUSER u on >pw ~a* +get +multi +exec"),
        "+OK"
    );
    let mut peer = Peer::connect(address);
    peer.check(&[
        (
            "AUTH u wrong",
            "-WRONGPASS invalid username-password pair or user is disabled.",
        ),
        ("AUTH u pw", "+OK"),
    ]);
    for _ in 0..3 {
        assert!(peer.ask("GET b").starts_with("-NOPERM"));
    }
    assert!(peer.ask("SET a x").starts_with("-NOPERM"));
    assert_eq!(peer.ask("MULTI"), "+OK");
    assert!(peer.ask("SET a x").starts_with("-NOPERM"));
    assert!(peer.ask("EXEC").starts_with("-EXECABORT"));
    admin.send("ACL LOG 10\r\n");
    let Some(Reply::Array(entries)) = admin.answer() else {
        panic!("no log");
    };
    let shown: Vec<String> = entries.iter().map(|entry| format!("{entry:?}")).collect();
    assert_eq!(shown.len(), 4);
    let has = |entry: &str, words: &[&str]| {
        for word in words {
            let bytes = format!("{:?}", Reply::Bulk(word.as_bytes().to_vec()));
            assert!(entry.contains(&bytes), "{word} in {entry}");
        }
    };
    has(&shown[0], &["command", "multi", "set", "u"]);
    has(&shown[1], &["command", "toplevel", "set", "u"]);
    has(&shown[2], &["key", "toplevel", "b", "u"]);
    assert!(shown[2].contains("Integer(3)"));
    has(&shown[3], &["auth", "toplevel", "auth", "u"]);
    assert!(admin.ask("CLIENT LIST").contains(" user=u "));
    let slow = admin.ask("SLOWLOG GET");
    assert!(!slow.contains("pw"), "{slow}");
}

/// New rules hold for clients that are connected, also for commands of a transaction and for what they
/// hear.
#[test]
fn rules_hold_at_once() {
    let (_server, address) = start(ServerConfig {
        threads: 2,
        ..ServerConfig::default()
    });
    let mut admin = Peer::connect(address);
    assert_eq!(admin.ask("ACL SETUSER u on nopass ~* &* +@all"), "+OK");
    let mut peers: Vec<Peer> = (0..4).map(|_| Peer::connect(address)).collect();
    for peer in &mut peers {
        peer.check(&[("AUTH u x", "+OK"), ("SET k v", "+OK")]);
    }
    peers[0].check(&[
        ("MULTI", "+OK"),
        ("SET k w", "+QUEUED"),
        ("GET k", "+QUEUED"),
    ]);
    assert_eq!(peers[1].ask("SUBSCRIBE c"), "*3 $9 subscribe $1 c :1");
    assert_eq!(admin.ask("ACL SETUSER u -set resetchannels &d"), "+OK");
    let changed = "-NOPERM ACLs rules changed between the moment the transaction was accumulated and \
                   the EXEC call. This command is no longer allowed for the following reason: no \
                   permission to execute the command or subcommand";
    assert_eq!(peers[0].ask("EXEC"), format!("*2 {changed} $1 v"));
    assert_eq!(admin.ask("PUBLISH c x"), ":1");
    assert_eq!(peers[1].answer(), None);
    peers[2].check(&[
        (
            "SET k w",
            "-NOPERM this user has no permissions to run the 'set' command",
        ),
        ("GET k", "$1 v"),
    ]);
    // A user that is gone takes its connections along.
    assert_eq!(admin.ask("ACL DELUSER u"), ":1");
    assert_eq!(peers[2].answer(), None);
    assert_eq!(peers[3].answer(), None);
    // In one pipeline too.
    let mut peer = Peer::connect(address);
    peer.send(
        "ACL SETUSER default -set\r\nSET k x\r\nGET k\r\nACL SETUSER default +set\r\nSET k y\r\n",
    );
    assert_eq!(peer.next(), "+OK");
    assert!(peer.next().starts_with("-NOPERM"));
    assert_eq!(peer.next(), "$1 v");
    assert_eq!(peer.next(), "+OK");
    assert_eq!(peer.next(), "+OK");
    // The default user with a password: those who are there stay, others have to say it.
    assert_eq!(admin.ask("ACL SETUSER default >secret"), "+OK");
    assert_eq!(peer.ask("GET k"), "$1 y");
    let mut other = Peer::connect(address);
    other.check(&[
        ("GET k", "-NOAUTH Authentication required."),
        ("AUTH secret", "+OK"),
        ("GET k", "$1 y"),
    ]);
}

#[test]
fn keys_that_are_watched_have_to_be_readable() {
    let (_server, address) = start(ServerConfig::default());
    let mut admin = Peer::connect(address);
    assert_eq!(admin.ask("ACL SETUSER u on nopass ~a:* +@all"), "+OK");
    let mut peer = Peer::connect(address);
    assert!(peer.ask("HELLO 3 AUTH u x").starts_with("%7"));
    let denied = "-NOPERM this user has no permissions to access one of the keys used as arguments";
    peer.check(&[
        ("YGG.WATCH a:b", ":1"),
        ("YGG.WATCH b", denied),
        ("YGG.WATCH \"\"", denied),
        ("CLIENT TRACKING ON BCAST", denied),
        ("CLIENT TRACKING ON BCAST PREFIX b", denied),
        ("CLIENT TRACKING ON BCAST PREFIX a:", "+OK"),
    ]);
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn start_with(path: &Path) -> Result<(Server, SocketAddr), StartError> {
    let server = Server::start(ServerConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        buckets: 1000,
        users: Some(path.to_owned()),
        ..ServerConfig::default()
    })?;
    let address = server.addresses()[0];
    Ok((server, address))
}

#[test]
fn users_come_from_a_file_and_go_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.acl");
    let text = "# who may come\n\nuser default off\nuser reader on >pw ~* +@read +acl\n";
    write(&path, text, 0o600);
    let (server, address) = start_with(&path).unwrap();
    let mut peer = Peer::connect(address);
    peer.check(&[
        ("GET k", "-NOAUTH Authentication required."),
        ("AUTH reader pw", "+OK"),
        ("GET k", "$-1"),
        (
            "SET k v",
            "-NOPERM this user has no permissions to run the 'set' command",
        ),
        ("ACL SETUSER writer on >other ~w:* +@write", "+OK"),
        ("ACL SAVE", "+OK"),
    ]);
    let saved = std::fs::read_to_string(&path).unwrap();
    assert!(!saved.contains("pw") && !saved.contains("other"), "{saved}");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    drop(server);
    let (_server, address) = start_with(&path).unwrap();
    let (mut peer, mut writer) = (Peer::connect(address), Peer::connect(address));
    peer.check(&[
        ("AUTH reader pw", "+OK"),
        ("ACL USERS", "*3 $7 default $6 reader $6 writer"),
    ]);
    writer.check(&[("AUTH writer other", "+OK"), ("SET w:1 x", "+OK")]);
    // What is wrong changes nothing.
    write(&path, "user reader on +nosuch\n", 0o600);
    let answer = peer.ask("ACL LOAD");
    assert!(
        answer.ends_with("users.acl:1: '+nosuch': Unknown command or category name in ACL"),
        "{answer}"
    );
    assert_eq!(peer.ask("ACL USERS"), "*3 $7 default $6 reader $6 writer");
    write(&path, "user reader on nopass ~* +@all\n", 0o644);
    peer.check(&[
        ("ACL LOAD", "+OK"),
        ("ACL USERS", "*2 $7 default $6 reader"),
        ("SET k v", "+OK"),
    ]);
    assert_eq!(writer.answer(), None);
}

#[test]
fn wrong_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.acl");
    let digest = "0".repeat(64);
    for (text, mode, words) in [
        (
            "user a on >secret\n",
            0o644,
            ":1: there is a password, and others can read the file (mode 644)",
        ),
        ("x\n", 0o600, ":1: a line is 'user', a name and rules"),
        ("\nuser a\nuser a\n", 0o600, ":3: the user is there twice"),
        (
            "user a >secret<\nuser b x>secret\n",
            0o600,
            ":2: 'x>secret': Syntax error",
        ),
    ] {
        write(&path, text, mode);
        let error = start_with(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    write(&path, &format!("user a on #{digest}\n"), 0o644);
    assert!(start_with(&path).is_ok());
    assert!(start_with(&dir.path().join("none")).is_err());
    // Two passwords for one user are one too many.
    write(&path, "user default on nopass\n", 0o600);
    let config = ServerConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        users: Some(path.clone()),
        password: Some(Secret::new(b"x")),
        ..ServerConfig::default()
    };
    assert!(matches!(Server::start(config), Err(StartError::Users(_))));
    // A file in which everyone may come in is as open as none.
    let open = Server::start(ServerConfig {
        listen: vec!["0.0.0.0:0".parse().unwrap()],
        users: Some(path.clone()),
        ..ServerConfig::default()
    });
    assert!(matches!(open, Err(StartError::Unprotected { .. })));
    write(&path, "user default off\n", 0o600);
    let closed = Server::start(ServerConfig {
        listen: vec!["0.0.0.0:0".parse().unwrap()],
        users: Some(path),
        ..ServerConfig::default()
    });
    assert!(closed.is_ok());
}
