//! The program on disks that are full, broken or slow. A full one is a file system of its own, which only
//! root can mount; the others are system calls that `strace` makes fail or last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use valkyrie_store::Applied;

use super::*;

const MIB: usize = 1 << 20;

/// A file system in memory.
struct Mount(PathBuf);

impl Mount {
    fn new(directory: &Path, mib: usize) -> Self {
        let path = directory.join("disk");
        std::fs::create_dir(&path).unwrap();
        mount(&format!("size={mib}m"), &path);
        Self(path)
    }

    /// Gives it another size.
    fn resize(&self, mib: usize) {
        mount(&format!("remount,size={mib}m"), &self.0);
    }
}

fn mount(options: &str, path: &Path) {
    let output = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(path)
        .output()
        .expect("`mount` makes disks for this test; install it with: apt-get install mount");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "`mount -o {options}`: {error}these tests are for root, who may mount file systems"
    );
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A server under `strace`.
struct Traced {
    server: Server,
    pid: String,
}

impl Traced {
    /// Kills it as `kill -9` does, and waits until it is gone.
    fn kill(self) {
        drop(self);
    }
}

impl std::ops::Deref for Traced {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // Of `strace` alone the server would know nothing.
        let _ = Command::new("kill").args(["-9", &self.pid]).status();
        let _ = self.server.child.wait();
    }
}

/// A server to whose system calls `strace` does this, counted for each thread. What it says is in `log`.
fn injected(directory: &Path, inject: &str, sync: &str) -> Traced {
    let there = Command::new("strace").arg("-V").output();
    there.expect(
        "it makes system calls fail for this test; install it with: apt-get install strace",
    );
    let log = std::fs::File::create(directory.join("log")).unwrap();
    let call = inject.split(':').next().unwrap();
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "signal=none"])
        .args(["-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={inject}")])
        .arg(env!("CARGO_BIN_EXE_yggdrasil"))
        .stderr(log);
    let data = directory.join("data");
    let arguments = ["--data-dir", data.to_str().unwrap(), "--sync", sync];
    let server = Server::start_by(&mut command, &arguments);
    let pid = info(&mut server.client(), "process_id");
    Traced { server, pid }
}

fn log(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("log")).unwrap()
}

/// A line of `INFO`.
fn info(client: &mut Client, name: &str) -> String {
    let Reply::Bulk(text) = client.ask(&["INFO"]) else {
        panic!("INFO is text");
    };
    let text = String::from_utf8(text).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let line = lines.into_iter().find(|(found, _)| *found == name);
    line.map(|(_, value)| value.to_owned()).expect(name)
}

fn ok() -> Reply {
    Reply::Simple("OK".to_owned())
}

/// Whether a change is refused because of the disk.
fn is_refused(reply: &Reply) -> bool {
    let begins = "MISCONF Errors writing to the AOF file: ";
    matches!(reply, Reply::Error(text) if text.starts_with(begins))
}

/// Writes values until one is refused, or its connection ends because nobody knows whether it is kept.
/// What was answered is added.
fn fill(server: &Server, answered: &mut BTreeMap<String, String>) {
    let mut client = server.client();
    let filler = "x".repeat(MIB - 1000);
    for number in answered.len().. {
        let (key, value) = (format!("key:{number}"), format!("{number}{filler}"));
        client.send(&["SET", &key, &value]).unwrap();
        match client.answer() {
            Some(reply) if reply == ok() => answered.insert(key, value),
            Some(reply) => {
                assert!(is_refused(&reply), "{reply:?}");
                return;
            }
            None => return,
        };
    }
}

fn check(server: &Server, answered: &BTreeMap<String, String>) {
    let mut client = server.client();
    for (key, value) in answered {
        assert!(client.ask(&["GET", key]) == bulk(value), "{key} is lost");
    }
}

/// What goes on and what does not while the disk refuses.
fn check_refusing(server: &Server, says: &str) {
    let mut client = server.client();
    let refused = client.ask(&["SET", "more", "x"]);
    assert!(is_refused(&refused), "{refused:?}");
    assert!(
        matches!(&refused, Reply::Error(text) if text.contains(says)),
        "{refused:?}"
    );
    assert!(is_refused(&client.ask(&["DEL", "key:0"])));
    assert_eq!(client.ask(&["EXISTS", "key:0"]), Reply::Integer(1));
    // A transaction that would change something does nothing, and one that reads goes on.
    client.ask(&["MULTI"]);
    assert!(is_refused(&client.ask(&["SET", "more", "x"])));
    assert!(matches!(client.ask(&["EXEC"]), Reply::Error(text) if text.starts_with("EXECABORT")));
    client.ask(&["MULTI"]);
    client.ask(&["STRLEN", "key:0"]);
    assert!(matches!(client.ask(&["EXEC"]), Reply::Array(_)));
    // Buckets and messages are not kept on it.
    assert!(matches!(
        client.ask(&["CL.THROTTLE", "user", "14", "30", "60"]),
        Reply::Array(_)
    ));
    assert_eq!(client.ask(&["PUBLISH", "channel", "x"]), Reply::Integer(0));
    assert_eq!(info(&mut client, "aof_last_write_status"), "err");
    assert!(info(&mut client, "journal_failure").contains(says));
    assert!(matches!(client.ask(&["BGSAVE"]), reply if is_refused(&reply)));
    let inspected = Command::new(env!("CARGO_BIN_EXE_yggdrasil"))
        .args(["inspect", &server.address])
        .output()
        .unwrap();
    let inspected = String::from_utf8(inspected.stdout).unwrap();
    assert!(
        inspected.contains("changes are refused: ") && inspected.contains(says),
        "{inspected}"
    );
}

/// The same over Valkyrie.
fn check_refusing_calls(url: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = ValkyrieStore::new(&ValkyrieConfig {
            url: url.to_owned(),
            ..ValkyrieConfig::default()
        });
        let store = store.unwrap();
        let refused = store.set("more", "x", None).await.unwrap_err();
        // Nothing was done, and another time it may be.
        assert_eq!(refused.applied(), Some(Applied::No), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("No space left on device"), "{text}");
        assert!(store.get("key:0").await.unwrap().is_some());
    });
}

#[test]
fn full_disk_refuses_changes_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    // A segment of 16 MiB and no second one.
    let disk = Mount::new(dir.path(), 24);
    let data = disk.0.join("data");
    let url = format!("valkyrie+unix://{}/valkyrie.sock", dir.path().display());
    for sync in ["always", "group"] {
        let arguments = [
            "--data-dir",
            data.to_str().unwrap(),
            "--sync",
            sync,
            "--valkyrie",
            &url,
        ];
        let server = Server::start(&arguments);
        let mut queued = server.client();
        for command in [&["MULTI"][..], &["SET", "queued", "x"]] {
            assert!(matches!(queued.ask(command), Reply::Simple(_)));
        }
        let mut answered = BTreeMap::new();
        fill(&server, &mut answered);
        assert!(answered.len() > 8);
        while info(&mut server.client(), "aof_last_write_status") == "ok" {
            std::thread::yield_now();
        }
        check_refusing(&server, "No space left on device");
        let aborted = queued.ask(&["EXEC"]);
        let because = "EXECABORT Transaction discarded because of: MISCONF ";
        assert!(matches!(&aborted, Reply::Error(text) if text.starts_with(because)));
        check_refusing_calls(&url);
        check(&server, &answered);
        disk.resize(200);
        let mut client = server.client();
        while client.ask(&["SET", "again", sync]) != ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(info(&mut client, "aof_last_write_status"), "ok");
        assert_eq!(info(&mut client, "journal_failure"), "");
        check(&server, &answered);
        std::thread::sleep(yggdrasil_service::GROUP_WINDOW);
        server.kill();
        let server = Server::start(&arguments);
        check(&server, &answered);
        assert_eq!(server.client().ask(&["GET", "again"]), bulk(sync));
        server.kill();
        std::fs::remove_dir_all(&data).unwrap();
        disk.resize(24);
    }
}

#[test]
fn server_that_is_killed_on_a_full_disk_starts_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Mount::new(dir.path(), 24);
    let data = disk.0.join("data");
    let arguments = ["--data-dir", data.to_str().unwrap(), "--sync", "always"];
    let mut answered = BTreeMap::new();
    for _ in 0..3 {
        let server = Server::start(&arguments);
        check(&server, &answered);
        fill(&server, &mut answered);
        check_refusing(&server, "No space left on device");
        server.kill();
    }
    disk.resize(200);
    let server = Server::start(&arguments);
    check(&server, &answered);
    let before = answered.len();
    let mut client = server.client();
    for number in 0..20 {
        let (key, value) = (format!("later:{number}"), "x".repeat(MIB - 1000));
        assert_eq!(client.ask(&["SET", &key, &value]), ok());
        answered.insert(key, value);
    }
    assert_eq!(answered.len(), before + 20);
    server.kill();
    check(&Server::start(&arguments), &answered);
}

#[test]
fn snapshot_without_room_is_told_and_changes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Mount::new(dir.path(), 24);
    let data = disk.0.join("data");
    let server = Server::start(&["--data-dir", data.to_str().unwrap(), "--sync", "always"]);
    let mut client = server.client();
    let value = "x".repeat(MIB - 1000);
    for number in 0..12 {
        assert_eq!(client.ask(&["SET", &format!("key:{number}"), &value]), ok());
    }
    client.ask(&["BGSAVE"]);
    while info(&mut client, "rdb_bgsave_in_progress") == "1" {
        std::thread::yield_now();
    }
    assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "err");
    assert_eq!(info(&mut client, "aof_last_write_status"), "ok");
    assert_eq!(client.ask(&["SET", "more", "x"]), ok());
    disk.resize(200);
    client.ask(&["BGSAVE"]);
    while info(&mut client, "rdb_bgsave_in_progress") == "1" {
        std::thread::yield_now();
    }
    assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok");
    assert_eq!(info(&mut client, "rdb_saves"), "1");
}

/// Changes until the disk fails, and what is answered from then on; then a start on a disk that works.
fn check_broken(inject: &str, says: &str) {
    for sync in ["always", "group"] {
        let dir = tempfile::tempdir().unwrap();
        let server = injected(dir.path(), inject, sync);
        let mut answered = 0;
        let mut client = server.client();
        let ends = loop {
            let key = format!("key:{answered}");
            client.send(&["SET", &key, "value"]).unwrap();
            match client.answer() {
                Some(reply) if reply == ok() => answered += 1,
                ends => break ends,
            }
        };
        assert!(ends.is_none_or(|reply| is_refused(&reply)));
        assert!(answered > 0);
        check_refusing(&server, says);
        // It stays so, whatever the disk does.
        check_refusing(&server, "until the server is started again");
        let log = log(dir.path());
        assert!(
            log.contains(says) && log.contains("changes are refused"),
            "{log}"
        );
        server.kill();
        let data = dir.path().join("data");
        let arguments = ["--data-dir", data.to_str().unwrap(), "--sync", sync];
        let server = Server::start(&arguments);
        let mut client = server.client();
        if sync == "always" {
            for number in 0..answered {
                let key = format!("key:{number}");
                assert_eq!(client.ask(&["GET", &key]), bulk("value"), "{key} is lost");
            }
        }
        assert_eq!(client.ask(&["SET", "again", "x"]), ok());
    }
}

#[test]
fn nothing_is_answered_after_a_sync_that_failed() {
    check_broken("fdatasync:error=EIO:when=3+", "cannot sync journal file");
}

#[test]
fn sync_that_fails_once_is_never_tried_again() {
    check_broken("fdatasync:error=EIO:when=4", "cannot sync journal file");
}

#[test]
fn nothing_is_answered_after_a_write_that_failed() {
    check_broken("pwrite64:error=EIO:when=3+", "cannot write journal file");
    check_broken("pwrite64:error=EROFS:when=3", "Read-only file system");
}

#[test]
fn changes_that_were_answered_during_a_slow_sync_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    // The journal's thread waits ten seconds for every sync but its first.
    let server = injected(dir.path(), "fdatasync:delay_enter=10s:when=2+", "group");
    let mut client = server.client();
    // A write that is in the sync, and then others until answers wait for it.
    client
        .socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut answered: u64 = 0;
    let began = Instant::now();
    loop {
        client
            .send(&["SET", "counter", &(answered + 1).to_string()])
            .unwrap();
        match client.answer() {
            Some(reply) => assert_eq!(reply, ok()),
            None => break,
        }
        answered += 1;
        // The first of them was answered after it began.
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "answers do not wait"
        );
    }
    assert!(answered > 1);
    server.kill();
    let data = dir.path().join("data");
    let server = Server::start(&["--data-dir", data.to_str().unwrap()]);
    let Reply::Bulk(found) = server.client().ask(&["GET", "counter"]) else {
        panic!("all of it is lost");
    };
    let found: u64 = String::from_utf8(found).unwrap().parse().unwrap();
    assert!(found >= answered, "{found} of {answered} are there");
}
