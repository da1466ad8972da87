//! The program, killed and started again, and what it prints.

#![cfg(test)]

mod disk;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use resp::Reply;
use valkyrie_store::{StoreAdapter, ValkyrieConfig, ValkyrieStore};

/// A server that is killed at the end.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_yggdrasil"));
        Self::start_by(command.stderr(Stdio::inherit()), arguments)
    }

    /// Starts one by a command that has it done, such as under another program.
    fn start_by(command: &mut Command, arguments: &[&str]) -> Self {
        let mut child = command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--threads",
                "2",
                "--buckets",
                "1000",
            ])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .split_whitespace()
            .nth(2)
            .expect("an address")
            .to_owned();
        Self { child, address }
    }

    fn client(&self) -> Client {
        let socket = TcpStream::connect(&self.address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        socket.set_nodelay(true).unwrap();
        Client {
            socket,
            input: Vec::new(),
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Client {
    fn send(&mut self, args: &[&str]) -> std::io::Result<()> {
        let mut out = Vec::new();
        resp::command(&mut out, args);
        self.socket.write_all(&out)
    }

    /// The next answer; `None` where the connection ended.
    fn answer(&mut self) -> Option<Reply> {
        loop {
            if let Some((reply, used)) = Reply::parse(&self.input, 1 << 26).unwrap() {
                self.input.drain(..used);
                return Some(reply);
            }
            let mut piece = [0; 1 << 16];
            match self.socket.read(&mut piece).unwrap_or(0) {
                0 => return None,
                count => self.input.extend_from_slice(&piece[..count]),
            }
        }
    }

    fn ask(&mut self, args: &[&str]) -> Reply {
        self.send(args).unwrap();
        self.answer().expect("an answer")
    }
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

/// One writer's counter: what was acknowledged, and when.
struct Acknowledged {
    key: String,
    values: Vec<Answered>,
}

/// A change that was answered.
struct Answered {
    value: u64,
    /// It was asked for at this time, and answered between then and the other one.
    asked: Instant,
    heard: Instant,
}

/// Counts up its own keys as fast as it gets answers, many at a time, until the server is gone.
fn write(mut client: Client, writer: usize, from: u64, ends: &AtomicBool) -> Acknowledged {
    const AHEAD: u64 = 20;
    let key = format!("writer:{writer}");
    let (mut next, mut values) = (from, Vec::new());
    'writing: while !ends.load(Ordering::Relaxed) {
        let asked = Instant::now();
        for step in 0..AHEAD {
            let value = (next + step + 1).to_string();
            // Values that end are kept as well, and keys that are removed stay away.
            let sent = client
                .send(&["SET", &key, &value])
                .and_then(|()| {
                    client.send(&["SET", &format!("{key}:{value}"), &value, "EX", "1000"])
                })
                .and_then(|()| client.send(&["DEL", &format!("{key}:{}", next + step)]));
            if sent.is_err() {
                break 'writing;
            }
        }
        for _ in 0..AHEAD {
            next += 1;
            for _ in 0..3 {
                match client.answer() {
                    Some(Reply::Error(error)) => panic!("{error}"),
                    Some(_) => {}
                    None => break 'writing,
                }
            }
            values.push(Answered {
                value: next,
                asked,
                heard: Instant::now(),
            });
        }
    }
    Acknowledged { key, values }
}

/// The same with one client of Valkyrie.
fn write_over_valkyrie(url: String, writer: usize, from: u64, ends: &AtomicBool) -> Acknowledged {
    let key = format!("writer:{writer}");
    let (mut next, mut values) = (from, Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = ValkyrieStore::new(&ValkyrieConfig {
            url,
            ..ValkyrieConfig::default()
        });
        let store = store.unwrap();
        while !ends.load(Ordering::Relaxed) {
            next += 1;
            let asked = Instant::now();
            let value = next.to_string();
            let of_value = format!("{key}:{value}");
            let life = Some(Duration::from_secs(1000));
            let removed = format!("{key}:{}", next - 1);
            let (counter, beside, removed) = tokio::join!(
                store.set(&key, &value, None),
                store.set(&of_value, &value, life),
                store.delete(&removed),
            );
            if counter.is_err() || beside.is_err() || removed.is_err() {
                break;
            }
            values.push(Answered {
                value: next,
                asked,
                heard: Instant::now(),
            });
        }
    });
    Acknowledged { key, values }
}

/// Kills a server while four clients of Redis and one of Valkyrie write, starts it again and looks for
/// what they were told is stored, so many times. All that is missing was answered within the window:
/// nothing was answered, to anyone, when something that is missing had been answered for longer.
fn kill_loop(directory: &Path, sync: &str, kills: usize, window: Duration) {
    let data = directory.join("data");
    let url = format!("valkyrie+unix://{}/valkyrie.sock", directory.display());
    let arguments = [
        "--valkyrie",
        &url,
        "--data-dir",
        data.to_str().unwrap(),
        "--sync",
        sync,
        "--snapshot-after",
        "1M",
    ];
    let mut from = [0; 5];
    for kill in 0..kills {
        let server = Server::start(&arguments);
        let ends = AtomicBool::new(false);
        let pid = server.child.id().to_string();
        let all: Vec<_> = std::thread::scope(|scope| {
            let writer = |(writer, from): (usize, &u64)| {
                let (client, ends, from, url) = (server.client(), &ends, *from, url.clone());
                scope.spawn(move || match writer {
                    4 => write_over_valkyrie(url, writer, from, ends),
                    _ => write(client, writer, from, ends),
                })
            };
            let writers: Vec<_> = from.iter().enumerate().map(writer).collect();
            // Somewhere between nothing and a few snapshots.
            std::thread::sleep(Duration::from_millis(20 + 97 * (kill as u64 % 7)));
            let killed = Command::new("kill").args(["-9", &pid]).status().unwrap();
            assert!(killed.success());
            ends.store(true, Ordering::Relaxed);
            writers.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let answers = all.iter().flat_map(|one| &one.values);
        let last_asked = answers.map(|answered| answered.asked).max();
        drop(server);
        let server = Server::start(&arguments);
        let mut client = server.client();
        for (acknowledged, from) in all.iter().zip(&mut from) {
            let key = &acknowledged.key;
            let stored: u64 = match client.ask(&["GET", key]) {
                Reply::Bulk(value) => String::from_utf8(value).unwrap().parse().unwrap(),
                Reply::Null => 0,
                other => panic!("{other:?}"),
            };
            for answered in acknowledged.values.iter().filter(|it| it.value > stored) {
                let (value, heard) = (answered.value, answered.heard);
                let age = last_asked.map(|last| last.saturating_duration_since(heard));
                assert!(
                    !window.is_zero() && age <= Some(window),
                    "{sync}: {key} is {stored}, and {value} was acknowledged {age:?} before an answer"
                );
            }
            if stored > 0 {
                let last = stored.to_string();
                let of_last = client.ask(&["GET", &format!("{key}:{last}")]);
                // It comes right behind, so it may have been lost where that is allowed.
                assert!(of_last == bulk(&last) || of_last == Reply::Null);
                // What was removed before something that is there stays away. The kill before may have come
                // between a value and the removal behind it.
                if stored >= *from + 2 {
                    let removed = client.ask(&["GET", &format!("{key}:{}", stored - 2)]);
                    assert_eq!(removed, Reply::Null);
                }
            }
            *from = stored;
        }
        // Everything can be written again.
        assert_eq!(
            client.ask(&["SET", "after", "kill"]),
            Reply::Simple("OK".to_owned())
        );
        server.kill();
    }
}

/// How often servers are killed; `YGGDRASIL_KILLS` sets more for a long run.
fn kills() -> usize {
    let wanted = std::env::var("YGGDRASIL_KILLS").ok();
    wanted.map_or(6, |wanted| {
        wanted.parse().expect("YGGDRASIL_KILLS is a number")
    })
}

#[test]
fn nothing_acknowledged_is_lost_where_answers_wait_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    kill_loop(dir.path(), "always", kills(), Duration::ZERO);
}

#[test]
fn at_most_the_window_is_lost_where_they_do_not() {
    let dir = tempfile::tempdir().unwrap();
    kill_loop(
        dir.path(),
        "group",
        kills(),
        yggdrasil_service::GROUP_WINDOW,
    );
}

#[test]
fn everything_comes_back_after_an_orderly_end_and_numbers_grow() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--data-dir", dir.path().to_str().unwrap()];
    let mut last_fence = 0;
    for round in 0..3 {
        let server = Server::start(&arguments);
        let mut client = server.client();
        if round > 0 {
            assert_eq!(client.ask(&["GET", "text"]), bulk("value"));
            assert_eq!(client.ask(&["GET", "number"]), bulk(&round.to_string()));
            let Reply::Integer(left) = client.ask(&["PTTL", "ends"]) else {
                panic!("no time");
            };
            assert!((900_000..=1_000_000).contains(&left));
            // Still held, by the same.
            let held = client.ask(&["YGG.ACQUIRE", "places", "b", "1", "1000"]);
            assert!(matches!(held, Reply::Array(parts) if parts[0] == Reply::Integer(0)));
            let free = client.ask(&["YGG.RELEASE", "lease", &last_fence.to_string()]);
            assert_eq!(free, Reply::Integer(1));
            assert_eq!(client.ask(&["GET", "gone"]), Reply::Null);
        }
        client.ask(&["SET", "text", "value"]);
        client.ask(&["INCR", "number"]);
        client.ask(&["SET", "ends", "x", "EX", "1000"]);
        client.ask(&["SET", "gone", "x"]);
        client.ask(&["DEL", "gone"]);
        client.ask(&["YGG.ACQUIRE", "places", "a", "1", "1000000"]);
        let Reply::Array(lease) = client.ask(&["YGG.LEASE", "lease", "me", "1000000"]) else {
            panic!("no lease");
        };
        let Reply::Integer(fence) = lease[1] else {
            panic!("no number");
        };
        assert!(fence > last_fence);
        last_fence = fence;
        if round == 1 {
            let saving = client.ask(&["BGSAVE"]);
            assert_eq!(
                saving,
                Reply::Simple("Background saving started".to_owned())
            );
        }
        let pid = server.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let mut server = server;
        assert!(server.child.wait().unwrap().success());
    }
}

#[test]
fn directory_belongs_to_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let _server = Server::start(&["--data-dir", path]);
    let second = Command::new(env!("CARGO_BIN_EXE_yggdrasil"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", path])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(5));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        said.contains("belongs to another server that runs"),
        "{said}"
    );
}

#[test]
fn policies_of_a_file_limit_keys_and_mistakes_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policies");
    std::fs::write(&path, "# of users\nuser:* 1/h:3\n").unwrap();
    let server = Server::start(&["--policies", path.to_str().unwrap(), "--pin"]);
    let mut client = server.client();
    let Reply::Array(answer) = client.ask(&["YGG.TAKE", "user:7", "3"]) else {
        panic!("no answer");
    };
    assert_eq!(
        answer.get(..2),
        Some(&[Reply::Integer(0), Reply::Integer(0)][..])
    );
    drop(server);
    std::fs::write(&path, "user:* 1/h\nnonsense\n").unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_yggdrasil"))
        .args(["serve", "--listen", "127.0.0.1:0", "--policies"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("policies: line 2: 'nonsense' is no policy"),
        "{said}"
    );
}

#[test]
fn inspect_shows_a_server_and_says_what_is_wrong() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.ask(&["SET", "k", "v"]);
    client.ask(&["GET", "k"]);
    client.ask(&["NOSUCH"]);
    let inspect = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_yggdrasil"))
            .args(arguments)
            .output()
            .unwrap()
    };
    let out = inspect(&["inspect", &server.address]);
    let text = String::from_utf8_lossy(&out.stdout);
    for part in [
        "clients   2 of 10000",
        "1 answered with an error",
        "keys      1 in",
        "100.0 %",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let out = inspect(&["inspect", "--json", &server.address]);
    let view: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&view["keys"], &view["hit_ratio"]),
        (&1.into(), &1.0.into())
    );
    let out = inspect(&["snapshot", &server.address]);
    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("keys are in memory only"), "{said}");
    let address = server.address.clone();
    server.kill();
    let out = inspect(&["inspect", &address]);
    assert_eq!(out.status.code(), Some(5));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        said.contains("hint: start a server with `yggdrasil serve`"),
        "{said}"
    );
}

#[test]
fn passwords_come_from_files_of_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let path = file.to_str().unwrap();
    let serve = || {
        Command::new(env!("CARGO_BIN_EXE_yggdrasil"))
            .args(["serve", "--listen", "127.0.0.1:0", "--password-file", path])
            .output()
            .unwrap()
    };
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let out = serve();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("others can read it (mode 644)"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::start(&["--password-file", path]);
    let mut client = server.client();
    assert!(
        matches!(client.ask(&["GET", "k"]), Reply::Error(error) if error.starts_with("NOAUTH"))
    );
    assert_eq!(
        client.ask(&["AUTH", "secret"]),
        Reply::Simple("OK".to_owned())
    );
}

#[test]
fn floods_are_limited_as_far_as_the_arguments_make_sense() {
    let fails = |arguments: &[&str], says: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_yggdrasil"));
        let output = command.arg("serve").args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(says), "{text}");
    };
    fails(&["--xdp-rate", "1/s"], "--xdp <IFACE>");
    fails(&["--xdp", "lo", "--xdp-rate", "fast"], "'fast' is no rate");
    let many: Vec<_> = (1..18).map(|port| port.to_string()).collect();
    fails(
        &["--xdp", "lo", "--xdp-ports", &many.join(",")],
        "1 to 16 ports, not 17",
    );
}

/// The other way is in tests/xdp.rs.
#[cfg(not(feature = "xdp"))]
#[test]
fn program_without_xdp_limits_by_itself() {
    let server = Server::start(&["--xdp", "lo", "--xdp-rate", "1/h:3"]);
    let mut client = server.client();
    let Reply::Bulk(info) = client.ask(&["INFO", "limits"]) else {
        panic!("INFO is text");
    };
    let info = String::from_utf8(info).unwrap();
    assert!(
        info.contains("xdp:off") && info.contains("sources_limited_by:server"),
        "{info}"
    );
    assert_eq!(client.ask(&["PING"]), Reply::Simple("PONG".to_owned()));
    let told = client.ask(&["PING"]);
    assert!(
        matches!(&told, Reply::Error(text) if text.contains("too often")),
        "{told:?}"
    );
}

/// A new certificate and its key.
fn certificate(directory: &Path) {
    let output = Command::new("openssl")
        .current_dir(directory)
        .args(["req", "-x509", "-days", "2", "-nodes", "-newkey", "ec"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=server"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-out", "server.pem", "-keyout", "server.key"])
        .output()
        .expect("install it with: apt-get install openssl");
    assert!(output.status.success());
}

/// Who a server takes a client for that trusts this certificate; nothing where it is another one.
fn whoami(address: &str, ca: &str) -> String {
    let (_, port) = address.rsplit_once(':').unwrap();
    let output = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", port, "--tls", "--cacert", ca])
        .args(["--no-auth-warning", "--user", "me", "-a", "secret"])
        .args(["ACL", "WHOAMI"])
        .output()
        .expect("install it with: apt-get install redis-tools");
    String::from_utf8(output.stdout).unwrap()
}

/// A server with users and TLS, whose certificate is renewed while it runs.
#[test]
fn users_and_certificates_come_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    certificate(dir.path());
    std::fs::write(
        path("users"),
        "user default off\nuser me on >secret ~* +@all\n",
    )
    .unwrap();
    // Others can read it.
    let users = path("users");
    std::fs::set_permissions(&users, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_yggdrasil"))
        .args(["serve", "--listen", "127.0.0.1:0", "--users", &users])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("others can read the file"));
    std::fs::set_permissions(&users, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_yggdrasil"))
        .args(["serve", "--listen", "127.0.0.1:0", "--buckets", "1000"])
        .args(["--users", &users, "--tls-listen", "127.0.0.1:0"])
        .args([
            "--tls-cert",
            &path("server.pem"),
            "--tls-key",
            &path("server.key"),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let with_tls = lines.find(|line| line.as_ref().unwrap().ends_with("with TLS"));
    let with_tls = with_tls.unwrap().unwrap();
    let address = with_tls.split(' ').nth(2).unwrap();
    let server = Server {
        address: address.to_owned(),
        child,
    };
    let ask = |ca: &str| whoami(&server.address, ca);
    let first = path("first.pem");
    std::fs::copy(path("server.pem"), &first).unwrap();
    assert_eq!(ask(&first), "me\n");
    certificate(dir.path());
    assert_eq!(ask(&path("server.pem")), "");
    let pid = server.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-HUP", &pid])
            .status()
            .unwrap()
            .success()
    );
    while ask(&path("server.pem")) != "me\n" {
        std::thread::yield_now();
    }
    assert_eq!(ask(&first), "");
}

#[test]
fn members_of_a_cluster_are_shown_and_changed() {
    let port = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let directory = tempfile::tempdir().unwrap();
    let members = directory.path().join("members");
    let (one, two) = (port(), port());
    let text = format!("epoch 1\nnode a 127.0.0.1:{one} 1\nnode b 127.0.0.1:{two} 1\n");
    std::fs::write(&members, &text).unwrap();
    let members = members.to_str().unwrap();
    let start = |name: &str, port: u16| {
        let listen = format!("127.0.0.1:{port}");
        let more = ["--cluster", members, "--node", name, "--listen", &listen];
        Server::start(&more)
    };
    let _servers = [start("a", one), start("b", two)];
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_yggdrasil"))
            .arg("cluster")
            .args(args)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), said.concat())
    };
    let address = format!("127.0.0.1:{one}");
    let shows = |what: &str| {
        let began = Instant::now();
        loop {
            let (code, said) = run(&["show", &address]);
            assert_eq!(code, Some(0), "{said}");
            if said.contains(what) {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    shows("epoch 1 seen by a, which serves; nothing is on its way");
    assert_eq!(run(&["get", &address]), (Some(0), text.clone()));
    let set = |text: &str| {
        std::fs::write(members, text).unwrap();
        run(&["set", members, &address])
    };
    let (code, said) = set(&text);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("that of the cluster 1; write epoch 2"),
        "{said}"
    );
    let (code, said) = set("epoch two\n");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("line 1: the epoch is no number"), "{said}");
    let next = text.replace("epoch 1", "epoch 2");
    let (code, said) = set(&next.replace(&format!("{two} 1"), &format!("{two} 0")));
    assert_eq!(code, Some(0), "{said}");
    shows(&format!("b 127.0.0.1:{two} weight 0: 0 slots, answers"));
}
