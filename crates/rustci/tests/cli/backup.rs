//! `rustci backup` and `rustci restore`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Http;
use crate::remote::{Remote, remote};
use crate::world::World;

const PIPELINE: &str = r#"
name: load
jobs:
  count:
    outputs: { total: "${{ steps.tell.outputs.total }}" }
    steps:
      - { id: tell, run: 'for i in $(seq 1 50); do echo "line $i"; done; echo total=50 >> "$CI_OUTPUT"' }
  after:
    needs: [count]
    steps: [{ run: 'echo "${{ needs.count.outputs.total }}"' }]
"#;

/// Runs that were acknowledged, by somebody who never stops submitting.
struct Load {
    acknowledged: Arc<Mutex<Vec<u64>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(http: Http) -> Self {
        let (acknowledged, stop) = (
            Arc::<Mutex<Vec<u64>>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let (runs, until) = (Arc::clone(&acknowledged), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                if let Some(run) = submit(&http) {
                    runs.lock().unwrap().push(run);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self {
            acknowledged,
            stop,
            thread: Some(thread),
        }
    }

    fn so_far(&self) -> Vec<u64> {
        self.acknowledged.lock().unwrap().clone()
    }

    fn wait_for_more(&self, count: usize) {
        let wanted = self.so_far().len() + count;
        while self.so_far().len() < wanted {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn submit(http: &Http) -> Option<u64> {
    let body = json!({
        "pipeline": { "file": ".rustci.yaml", "text": PIPELINE },
        "event": { "name": "manual" }, "project": "load",
    });
    let (status, answer) = http.ask("POST", "/api/v1/runs", &body.to_string())?;
    let answer: Value = serde_json::from_slice(&answer)
        .ok()
        .filter(|_| status == 201)?;
    answer["run"]["id"].as_u64()
}

fn http_of(world: &World, url: &str, data: &Path) -> Http {
    let token = fs::read_to_string(world.path("").join(data).join("token")).unwrap();
    Http {
        url: url.to_owned(),
        token: token.trim().to_owned(),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn make_backup(remote: &Remote, name: &str, more: &[&str]) -> (PathBuf, Value) {
    let file = remote.world.path(name);
    let path = text(&file);
    let args = [&["backup", "--json", "--server", &remote.url, &path], more].concat();
    let said = remote.world.rustci(&args).ended_with(0).json();
    (file, said[0].clone())
}

/// Nothing that a command was making is left beside `path`.
#[track_caller]
fn assert_nothing_half_done(path: &Path) {
    for entry in fs::read_dir(path).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let unfinished = name.contains("restoring") || name.contains(".part");
        assert!(!unfinished, "{name} in {}", path.display());
    }
}

#[test]
fn a_backup_under_load_restores_to_the_same_state() {
    let mut remote = remote(PIPELINE);
    let data = remote.world.path("state/rustci/server");
    let load = Load::start(http_of(&remote.world, &remote.url, &data));
    load.wait_for_more(5);
    let mut backups = Vec::new();
    for round in 0..3 {
        let before = load.so_far();
        let (file, said) = make_backup(&remote, &format!("{round}.tar"), &[]);
        backups.push((before, file, said));
        load.wait_for_more(3);
        if round == 0 {
            remote.kill_and_restart();
            load.wait_for_more(3);
        }
    }
    drop(load);
    assert_nothing_half_done(&data);
    let world = &remote.world;
    for (round, (acknowledged, file, said)) in backups.iter().enumerate() {
        let dir = world.path(&format!("restored-{round}"));
        let (file, to) = (text(file), text(&dir));
        let restored = world.rustci(&["restore", &file, "--data-dir", &to, "--json"]);
        let restored = restored.ended_with(0).json();
        for digest in ["index", "state_digest", "catalogue_digest"] {
            assert_eq!(restored[0][digest], said[digest], "{digest}");
        }
        check_server(world, &dir, said);
        for run in acknowledged {
            check_run(world, &dir, *run);
        }
    }
}

/// A server on the restored directory is in the state that the backup was.
fn check_server(world: &World, dir: &Path, said: &Value) {
    let to = text(dir);
    // Nobody renews the leases of jobs that were running, and they shall not end during the test.
    let args = [
        "serve",
        "--json",
        "--http",
        "127.0.0.1:0",
        "--data-dir",
        &to,
        "--lease",
        "1h",
    ];
    let socket = format!("valkyrie+unix://{}", dir.join("s").display());
    let mut server = world.start(&[&args[..], &["--valkyrie", &socket]].concat());
    let ready: Value = serde_json::from_str(&server.wait_for("http")).unwrap();
    let http = http_of(world, ready["http"].as_str().unwrap(), dir);
    let state = http.json("GET", "/api/v1/state?catalogue=true", "");
    for digest in ["index", "state_digest", "catalogue_digest"] {
        assert_eq!(state[digest], said[digest], "{digest}");
    }
    server.signal("TERM");
    assert_eq!(server.finish().0, Some(0));
}

/// An acknowledged run is there, and what it printed as far as it was.
fn check_run(world: &World, dir: &Path, run: u64) {
    let (to, id) = (text(dir), run.to_string());
    let view = world.rustci(&["runs", "view", &id, "--data-dir", &to, "--json"]);
    let view = &view.ended_with(0).json()[0];
    if view["jobs"][0]["status"] != "finished" {
        return;
    }
    assert_eq!(view["jobs"][0]["conclusion"], "success", "{view:#}");
    let logs = world
        .rustci(&["runs", "logs", &id, "count", "--data-dir", &to])
        .ended_with(0);
    let lines: Vec<&str> = logs
        .out
        .lines()
        .filter(|line| line.starts_with("line "))
        .collect();
    let expected: Vec<String> = (1..=50).map(|line| format!("line {line}")).collect();
    assert_eq!(lines, expected, "log of run {run}");
}

#[test]
fn secrets_are_sealed_in_a_backup_and_their_key_only_on_demand() {
    let remote = remote(PIPELINE);
    let world = &remote.world;
    let value = "correct-horse-battery";
    let set = ["secrets", "set", "TOKEN", "--server", &remote.url];
    world.rustci_reading(&set, value).ended_with(0);
    let (without, said) = make_backup(&remote, "without.tar", &[]);
    assert_eq!(said["with_keys"], false);
    let (with, said) = make_backup(&remote, "with.tar", &["--with-keys"]);
    assert_eq!(said["with_keys"], true);
    let bytes = [fs::read(&without).unwrap(), fs::read(&with).unwrap()].concat();
    assert!(
        !bytes
            .windows(value.len())
            .any(|window| window == value.as_bytes())
    );
    let (to, from) = (text(&world.path("a")), text(&without));
    let said = world
        .rustci(&["restore", &from, "--data-dir", &to])
        .ended_with(0);
    said.says("put their key back");
    let list = ["secrets", "list", "--data-dir", &to];
    world
        .rustci(&list)
        .ended_with(5)
        .complains("has none; put the right key there");
    let (to, from) = (text(&world.path("b")), text(&with));
    world
        .rustci(&["restore", &from, "--data-dir", &to])
        .ended_with(0);
    world
        .rustci(&["secrets", "list", "--data-dir", &to])
        .ended_with(0)
        .says("TOKEN");
}

#[test]
fn the_directory_of_a_stopped_server_can_be_backed_up() {
    let remote = remote(PIPELINE);
    let world = &remote.world;
    world
        .rustci(&["run", "--server", &remote.url])
        .ended_with(0);
    let data = text(&world.path("state/rustci/server"));
    let (file, to) = (text(&world.path("b.tar")), text(&world.path("to")));
    let busy = world.rustci(&["backup", &file, "--data-dir", &data]);
    busy.ended_with(2).complains("in use by process");
    remote.server.signal("TERM");
    while fs::File::open(world.path("state/rustci/server/lock"))
        .unwrap()
        .try_lock()
        .is_err()
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    world
        .rustci(&["backup", &file, "--data-dir", &data])
        .ended_with(0);
    world
        .rustci(&["restore", &file, "--data-dir", &to])
        .ended_with(0);
    world
        .rustci(&["runs", "view", "1", "--data-dir", &to])
        .ended_with(0)
        .says("✓ run 1");
}

#[test]
fn a_bad_backup_is_refused_and_leaves_nothing() {
    let remote = remote(PIPELINE);
    let world = &remote.world;
    world
        .rustci(&["run", "--server", &remote.url])
        .ended_with(0);
    let (file, _) = make_backup(&remote, "good.tar", &[]);
    let good = fs::read(&file).unwrap();
    let bad = world.path("bad.tar");
    let check = |content: &[u8], message: &str| {
        fs::write(&bad, content).unwrap();
        let (from, to) = (text(&bad), text(&world.path("to")));
        let said = world
            .rustci(&["restore", &from, "--data-dir", &to])
            .ended_with(2);
        said.complains(message);
        let said = world.rustci(&["backup", "verify", &from]).ended_with(2);
        said.complains(message);
        assert!(!world.path("to").exists());
        assert_nothing_half_done(&world.path(""));
    };
    check(b"", "is not a backup made by RustCI");
    check(b"certainly no archive", "is not a backup made by RustCI");
    for part in 1..8 {
        check(&good[..good.len() * part / 8], "the backup is damaged: ");
    }
    for at in [700, good.len() / 3, good.len() / 2, good.len() - 1_600] {
        let mut bent = good.clone();
        bent[at] ^= 0x20;
        check(&bent, "");
    }
    let mut other = good.clone();
    let at = other
        .windows(10)
        .position(|window| window == b"\"format\":1")
        .unwrap();
    other[at + 9] = b'7';
    check(&other, "the backup has format 7");
    world
        .rustci(&["backup", "verify", &text(&file)])
        .ended_with(0)
        .says("whole");
    let (from, to) = (text(&file), text(&world.project()));
    world
        .rustci(&["restore", &from, "--data-dir", &to])
        .ended_with(2)
        .complains("is not empty");
    let again = world.rustci(&["backup", &from, "--server", &remote.url]);
    again.ended_with(2).complains("is there already");
}

#[test]
fn an_archive_with_traps_is_refused() {
    let world = World::new();
    let traps = world.path("traps");
    let script = r#"
        mkdir -p "$1" && cd "$1"
        manifest() { printf '{"format":1,"rustci":"x","index":1,"created_ms":1,"state_digest":"","catalogue_digest":"","with_keys":false,"note":"","files":[{"path":"%s","bytes":0,"blake3":""}]}' "$1" > manifest.json; }
        pack() { tar --format=ustar -P -cf "$@"; }
        manifest ../evil; : > ../evil; pack up.tar manifest.json ../evil
        manifest /tmp/evil; pack abs.tar manifest.json ../evil
        manifest state; ln -s /etc/passwd state; pack link.tar manifest.json state; rm state
        mkfifo state; pack fifo.tar manifest.json state; rm state
        manifest state; : > other; pack name.tar manifest.json other
    "#;
    let status = std::process::Command::new("bash")
        .args(["-euc", script, "traps", &text(&traps)])
        .status();
    assert!(status.unwrap().success());
    for name in ["up", "abs", "link", "fifo", "name"] {
        let (from, to) = (
            text(&traps.join(format!("{name}.tar"))),
            text(&world.path("to")),
        );
        let said = world
            .rustci(&["restore", &from, "--data-dir", &to])
            .ended_with(2);
        said.complains("it was not made by RustCI");
        assert!(!world.path("to").exists(), "{name}");
        assert_nothing_half_done(&world.path(""));
    }
}

/// Runs the program where no file may have more than `blocks` KiB: what a full disk does to it.
fn with_small_files(world: &World, blocks: u32, args: &[&str]) -> crate::world::Said {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let program = world.command(args);
    let mut command = std::process::Command::new("bash");
    command
        .args(["-c", &script, "limited"])
        .arg(program.get_program());
    command
        .args(program.get_args())
        .current_dir(world.project());
    let variables = program
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    command.envs(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    crate::world::Said::from(command.output().unwrap())
}

#[test]
fn a_disk_that_is_full_leaves_nothing_half_done() {
    let remote = remote(PIPELINE);
    let world = &remote.world;
    world
        .rustci(&["run", "--server", &remote.url])
        .ended_with(0);
    let (file, _) = make_backup(&remote, "good.tar", &[]);
    let (from, other, to) = (
        text(&file),
        text(&world.path("other.tar")),
        text(&world.path("to")),
    );
    let said = with_small_files(world, 16, &["backup", &other, "--server", &remote.url]);
    said.ended_with(5).complains("cannot write");
    assert!(!world.path("other.tar").exists());
    let said = with_small_files(world, 16, &["restore", &from, "--data-dir", &to]);
    said.ended_with(5).complains("cannot write");
    assert!(!world.path("to").exists());
    assert_nothing_half_done(&world.path(""));
    // Where the server has no room for its part, everything else goes on.
    let data = world.path("state/rustci/server");
    let pid = fs::read_to_string(data.join("lock")).unwrap();
    let taken = data.join(format!("backup.part-{}", pid.trim()));
    // The one that was cut off is cleared away as soon as the server notices.
    while taken.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::write(&taken, "in the way").unwrap();
    let said = world
        .rustci(&["backup", &other, "--server", &remote.url])
        .ended_with(5);
    said.complains("the backup could not be made");
    fs::remove_file(&taken).unwrap();
    world
        .rustci(&["backup", &other, "--server", &remote.url])
        .ended_with(0);
    world
        .rustci(&["run", "--server", &remote.url])
        .ended_with(0);
}
