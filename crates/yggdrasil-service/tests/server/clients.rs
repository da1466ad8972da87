//! Clients of Redis, as they are.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use fred::prelude::*;
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
