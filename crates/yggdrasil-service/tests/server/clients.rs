//! Clients of Redis, as they are.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use fred::prelude::*;
use futures_util::StreamExt;
use redis::AsyncCommands;
use yggdrasil_service::{Secret, ServerConfig};

use crate::start;

/// What a program of another package prints; `install` is the line that brings it.
fn run(program: &str, args: &[&str], input: &str, install: &str) -> String {
    let child = Command::new(program)
        .args(args)
        // Where Debian puts packages of Node, for whichever Node is first in the path.
        .env("NODE_PATH", "/usr/share/nodejs:/usr/lib/nodejs")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{program}: {error}; {install}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{program}: {out}{err}\n{install}");
    out.into_owned()
}

const TOOLS: &str = "install it with: apt-get install redis-tools";

fn cli(address: SocketAddr, args: &[&str], input: &str) -> String {
    let port = address.port().to_string();
    run(
        "redis-cli",
        &[&["-p", &port][..], args].concat(),
        input,
        TOOLS,
    )
}

#[test]
fn redis_cli_works() {
    let (_server, address) = start(ServerConfig::default());
    assert_eq!(cli(address, &["SET", "a", "1"], ""), "OK\n");
    assert_eq!(
        cli(address, &[], "incr a\nget a\nnosuch\n").lines().count(),
        4
    );
    let mass = "SET m:1 1\r\nSET m:2 2\r\nINCR a\r\n";
    let piped = cli(address, &["--pipe"], mass);
    assert!(piped.contains("errors: 0, replies: 3"), "{piped}");
    assert_eq!(
        cli(address, &["--scan", "--pattern", "m:*"], "")
            .lines()
            .count(),
        2
    );
    let csv = cli(
        address,
        &["--csv", "CL.THROTTLE", "u", "14", "30", "60"],
        "",
    );
    assert_eq!(csv, "0,15,14,-1,2\n");
    let map = cli(address, &["-3", "--json", "HELLO", "3"], "");
    assert!(map.contains("\"proto\":3"), "{map}");
    let big = cli(address, &["--memkeys"], "");
    assert!(big.contains("Sampled 3 keys"), "{big}");
}

#[test]
fn redis_cli_says_the_password() {
    let (_server, address) = start(ServerConfig {
        password: Some(Secret::new(b"secret")),
        ..ServerConfig::default()
    });
    assert!(cli(address, &["PING"], "").starts_with("NOAUTH"));
    let answer = cli(address, &["--no-auth-warning", "-a", "secret", "PING"], "");
    assert_eq!(answer, "PONG\n");
}

#[test]
fn redis_benchmark_works() {
    let (_server, address) = start(ServerConfig::default());
    let port = address.port().to_string();
    for version in [&[][..], &["-3"]] {
        let tests = [
            "-t",
            "ping,set,get,incr,mset",
            "-n",
            "2000",
            "-P",
            "16",
            "-r",
            "100",
            "--csv",
        ];
        let args = [&["-p", &port][..], version, &tests].concat();
        let out = run("redis-benchmark", &args, "", TOOLS);
        for test in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"] {
            assert!(out.contains(test), "{out}");
        }
    }
    let throttle = ["-n", "2000", "-P", "16", "-r", "100", "-q"];
    let command = ["CL.THROTTLE", "b:__rand_int__", "99", "1000", "1"];
    run(
        "redis-benchmark",
        &[&["-p", &port][..], &throttle, &command].concat(),
        "",
        TOOLS,
    );
    assert_eq!(cli(address, &["GET", "nosuch"], ""), "\n");
    assert!(cli(address, &["INFO", "stats"], "").contains("total_error_replies:0"));
}

#[test]
fn redis_cli_listens() {
    let (_server, address) = start(ServerConfig::default());
    let port = address.port().to_string();
    for version in [&[][..], &["-3"]] {
        let mut child = Command::new("redis-cli")
            .args(["-p", &port])
            .args(version)
            .args(["SUBSCRIBE", "news"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect(TOOLS);
        while cli(address, &["PUBLISH", "news", "hello"], "") != "1\n" {}
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.find(|line| line.as_ref().unwrap().contains("hello"));
        assert!(said.is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        while cli(address, &["PUBSUB", "NUMSUB", "news"], "") != "news\n0\n" {}
    }
}

const PYTHON: &str = "
import redis, sys
r = redis.Redis(port=int(sys.argv[1]), decode_responses=True)
assert r.set('py', 'x', ex=100, nx=True)
assert r.get('py') == 'x' and 0 < r.ttl('py') <= 100
assert r.incrby('n', 5) == 5
with r.pipeline() as p:
    p.watch('n')
    p.multi()
    p.incr('n')
    p.mget('n', 'none')
    assert p.execute() == [6, ['6', None]]
assert sorted(r.scan_iter('*')) == ['n', 'py']
assert r.execute_command('CL.THROTTLE', 'u', 14, 30, 60) == [0, 15, 14, -1, 2]
assert r.info()['db0']['keys'] == 2
try:
    r.incr('py')
except redis.ResponseError as e:
    assert str(e) == 'value is not an integer or out of range', e
else:
    raise AssertionError
print('done')
";

#[test]
fn python_works() {
    let (_server, address) = start(ServerConfig::default());
    let port = address.port().to_string();
    // Debian's package belongs to Debian's interpreter.
    let install = "install it with: apt-get install python3-redis";
    let out = run("/usr/bin/python3", &["-c", PYTHON, &port], "", install);
    assert_eq!(out, "done\n");
}

const PYTHON_FEEDS: &str = "
import redis, sys
port = int(sys.argv[1])
r = redis.Redis(port=port, decode_responses=True)
p = r.pubsub()
p.subscribe('c')
p.psubscribe('d*')
assert [p.get_message(timeout=10)['type'] for _ in range(2)] == ['subscribe', 'psubscribe']
assert r.publish('c', 'one') == 1 and r.publish('dd', 'two') == 1
heard = [p.get_message(timeout=10) for _ in range(2)]
assert [(m['type'], m['channel'], m['data']) for m in heard] == [('message', 'c', 'one'), ('pmessage', 'dd', 'two')], heard
p.ping()
assert p.get_message(timeout=10)['type'] == 'pong'
p.close()
assert r.acl_whoami() == 'default'
assert r.acl_setuser('py', enabled=True, passwords=['+pw'], categories=['+@read'], keys=['py:*'], reset=True)
user = r.acl_getuser('py')
assert user['enabled'] and user['categories'] == ['-@all', '+@read'], user
q = redis.Redis(port=port, username='py', password='pw', decode_responses=True)
assert q.get('py:1') is None
for refused in (lambda: q.get('other'), lambda: q.set('py:1', 'x')):
    try:
        refused()
    except redis.exceptions.NoPermissionError:
        continue
    raise AssertionError
assert {e['reason'] for e in r.acl_log()} == {'key', 'command'}
assert r.acl_deluser('py') == 1
assert 'py' not in r.acl_users()
assert len(r.acl_genpass()) == 64 and 'read' in r.acl_cat()
print('done')
";

#[test]
fn python_listens_and_makes_users() {
    let (_server, address) = start(ServerConfig::default());
    let port = address.port().to_string();
    let install = "install it with: apt-get install python3-redis";
    let args = ["-c", PYTHON_FEEDS, &port];
    assert_eq!(run("/usr/bin/python3", &args, "", install), "done\n");
}

const NODE: &str = "
const { createClient } = require('redis');
const assert = require('assert');
(async () => {
  const client = createClient({ socket: { port: Number(process.argv[2]) } });
  await client.connect();
  assert.equal(await client.set('js', 'x', { EX: 100 }), 'OK');
  assert.equal(await client.get('js'), 'x');
  assert.equal(await client.incr('n'), 1);
  assert.deepEqual(await client.multi().incr('n').get('n').exec(), [2, '2']);
  assert.deepEqual(await client.mGet(['n', 'none']), ['2', null]);
  const bucket = await client.sendCommand(['CL.THROTTLE', 'u', '14', '30', '60']);
  assert.deepEqual(bucket, [0, 15, 14, -1, 2]);
  await client.quit();
  console.log('done');
})();
";

#[test]
fn node_works() {
    let (_server, address) = start(ServerConfig::default());
    let port = address.port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("client.js");
    std::fs::write(&script, NODE).unwrap();
    let install = "install it with: apt-get install node-redis";
    let out = run("node", &[script.to_str().unwrap(), &port], "", install);
    assert_eq!(out, "done\n");
}

#[tokio::test]
async fn redis_rs_works() {
    let (_server, address) = start(ServerConfig::default());
    for version in ["", "?protocol=resp3"] {
        let url = format!("redis://127.0.0.1:{}/{version}", address.port());
        let client = redis::Client::open(url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let () = connection.set_ex("rs", "x", 100).await.unwrap();
        let value: Option<String> = connection.get("rs").await.unwrap();
        assert_eq!(value.as_deref(), Some("x"));
        let _: i64 = connection.del("n").await.unwrap();
        let mut pipe = redis::pipe();
        pipe.atomic().incr("n", 2).get("n").mget(&["n", "none"]);
        let (sum, text, many): (i64, String, Vec<Option<i64>>) =
            pipe.query_async(&mut connection).await.unwrap();
        assert_eq!((sum, text.as_str(), many), (2, "2", vec![Some(2), None]));
        let wrong: Result<i64, _> = connection.incr("rs", 1).await;
        assert!(wrong.unwrap_err().to_string().contains("not an integer"));
        let mut manager = redis::aio::ConnectionManager::new(client).await.unwrap();
        let there: bool = manager.exists("rs").await.unwrap();
        assert!(there);
    }
}

#[tokio::test]
async fn redis_rs_hears() {
    let (_server, address) = start(ServerConfig::default());
    let url = format!("redis://127.0.0.1:{}", address.port());
    let client = redis::Client::open(url.as_str()).unwrap();
    let mut writer = client.get_multiplexed_async_connection().await.unwrap();
    let mut old = client.get_async_pubsub().await.unwrap();
    old.subscribe("c").await.unwrap();
    let heard: i64 = writer.publish("c", "hello").await.unwrap();
    assert_eq!(heard, 1);
    let message = old.on_message().next().await.unwrap();
    assert_eq!(message.get_payload::<String>().unwrap(), "hello");
    // Version 3: messages, changes and doubts between the answers of one connection.
    let client = redis::Client::open(format!("{url}/?protocol=resp3")).unwrap();
    let (sender, mut pushes) = tokio::sync::mpsc::unbounded_channel();
    let config = redis::AsyncConnectionConfig::new().set_push_sender(sender);
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connection.await.unwrap();
    connection.subscribe("c").await.unwrap();
    for command in ["CLIENT TRACKING ON", "YGG.WATCH k"] {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        let _: redis::Value = command.query_async(&mut connection).await.unwrap();
    }
    let none: Option<String> = connection.get("k").await.unwrap();
    assert_eq!(none, None);
    let () = writer.set("k", "v").await.unwrap();
    let _: i64 = writer.publish("c", "hello").await.unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 4 {
        kinds.push(pushes.recv().await.unwrap().kind.to_string());
    }
    assert_eq!(kinds, ["subscribe", "change", "invalidate", "message"]);
}

#[tokio::test]
async fn fred_hears() {
    let (_server, address) = start(ServerConfig::default());
    let mut config = Config::from_url(&format!("redis://127.0.0.1:{}", address.port())).unwrap();
    config.version = fred::types::RespVersion::RESP3;
    let builder = Builder::from_config(config);
    let (listener, writer) = (builder.build().unwrap(), builder.build().unwrap());
    listener.init().await.unwrap();
    writer.init().await.unwrap();
    let mut messages = listener.message_rx();
    listener.subscribe("c").await.unwrap();
    // It comes back before the server has answered.
    while writer.publish::<i64, _, _>("c", "hello").await.unwrap() == 0 {}
    let message = messages.recv().await.unwrap();
    assert_eq!(message.value.convert::<String>().unwrap(), "hello");
    let mut doubts = listener.invalidation_rx();
    let on = listener.start_tracking(None, false, false, false, false);
    on.await.unwrap();
    let none: Option<String> = listener.get("k").await.unwrap();
    assert_eq!(none, None);
    let () = writer.set("k", "v", None, None, false).await.unwrap();
    let doubt = doubts.recv().await.unwrap();
    assert_eq!(doubt.keys.len(), 1);
    listener.quit().await.unwrap();
    writer.quit().await.unwrap();
}

#[tokio::test]
async fn fred_works() {
    let (_server, address) = start(ServerConfig::default());
    let config = Config::from_url(&format!("redis://127.0.0.1:{}", address.port())).unwrap();
    let client = Builder::from_config(config).build().unwrap();
    client.init().await.unwrap();
    let expiry = Some(Expiration::EX(100));
    let () = client.set("fred", "x", expiry, None, false).await.unwrap();
    let value: Option<String> = client.get("fred").await.unwrap();
    assert_eq!(value.as_deref(), Some("x"));
    let sum: i64 = client.incr_by("n", 3).await.unwrap();
    assert_eq!(sum, 3);
    client.quit().await.unwrap();
}
