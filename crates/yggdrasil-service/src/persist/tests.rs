//! What is answered while a disk is slow, full or broken, and what is left after a crash.

use std::io;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Instant;

use journal::fault::{FaultDisk, Faults};
use yggdrasil::{Condition, KeyspaceConfig, Lifetime};

use super::*;

struct Server {
    keys: Keyspace,
    persistence: Arc<Persistence>,
}

impl Server {
    fn start(disk: &FaultDisk, sync: Sync) -> Self {
        let config = PersistConfig {
            sync,
            ..PersistConfig::new(PathBuf::from("simulated"))
        };
        let keys = Keyspace::new(&KeyspaceConfig::default());
        let (persistence, _) = Persistence::open_on(disk.clone(), None, &config, &keys).unwrap();
        let observer: Arc<dyn Observer> = Arc::clone(&persistence) as _;
        let keys = keys.with_observer(&observer);
        Self { keys, persistence }
    }

    fn set(&self, name: &str, value: &[u8]) {
        let key = self.keys.key(name.as_bytes());
        let mut shard = self.keys.shard(key);
        let always = Condition::Always;
        shard
            .set(key, value, Lifetime::Unlimited, always, 1)
            .unwrap();
    }

    fn has(&self, name: &str) -> bool {
        let key = self.keys.key(name.as_bytes());
        self.keys.shard(key).get(key, 1).is_some()
    }

    /// Waits until an answer may leave.
    fn settle(&self) -> Result<(), Unsettled> {
        self.persistence.settle(&mut 0)
    }

    fn change(&self, name: &str) -> Result<(), Unsettled> {
        self.set(name, b"value");
        self.settle()
    }

    /// What is there after a crash that left this disk.
    fn found_on(disk: &FaultDisk, names: &[&str]) -> Vec<bool> {
        disk.set_faults(Faults::default());
        let server = Self::start(disk, Sync::Always);
        names.iter().map(|name| server.has(name)).collect()
    }
}

fn faults(syncs_left: Option<u32>, written_left: Option<(u64, io::ErrorKind)>) -> Faults {
    Faults {
        syncs_left,
        written_left,
        ..Faults::default()
    }
}

/// What the disk has of a change: it was written, and perhaps not synced.
fn is_written(disk: &FaultDisk, name: &str) -> bool {
    let segment = disk.read("segment-00000000000000000001").unwrap();
    segment
        .windows(name.len())
        .any(|part| part == name.as_bytes())
}

/// A server whose disk is in a sync that does not end, for longer than the window, and with a change
/// that came during it.
fn with_slow_disk(sync: Sync) -> (FaultDisk, Server) {
    let disk = FaultDisk::new();
    let server = Server::start(&disk, sync);
    server.change("synced").unwrap();
    while !server.persistence.progress.is_synced(1) {
        thread::yield_now();
    }
    disk.hold_syncs();
    let began = Instant::now();
    server.change("first").unwrap();
    disk.wait_for_sync();
    server.set("second", b"value");
    server.persistence.writer().journal.commit();
    assert!(!server.persistence.progress.is_synced(2));
    while !is_written(&disk, "second") {
        thread::yield_now();
    }
    while began.elapsed() < GROUP_WINDOW {
        thread::yield_now();
    }
    (disk, server)
}

#[test]
fn no_answer_leaves_while_the_oldest_change_is_older_than_the_window() {
    let (disk, server) = with_slow_disk(Sync::Group);
    let is_released = AtomicBool::new(false);
    thread::scope(|scope| {
        // A change, and a read beside it.
        let waits = [true, false].map(|changes| {
            let (server, is_released) = (&server, &is_released);
            scope.spawn(move || {
                if changes {
                    server.set("late", b"value");
                }
                server.settle().unwrap();
                assert!(is_released.load(Ordering::Acquire));
            })
        });
        while !is_written(&disk, "late") {
            thread::yield_now();
        }
        assert!(waits.iter().all(|one| !one.is_finished()));
        is_released.store(true, Ordering::Release);
        disk.release_syncs();
    });
    assert_eq!(Server::found_on(&disk.kill(), &["late"]), [true]);
}

#[test]
fn crash_takes_what_the_window_allows_and_a_kill_nothing_that_was_written() {
    let names = ["synced", "first", "second"];
    let (disk, server) = with_slow_disk(Sync::Group);
    let next = disk.kill();
    disk.release_syncs();
    drop(server);
    assert_eq!(Server::found_on(&next, &names), [true; 3]);
    let (disk, server) = with_slow_disk(Sync::Group);
    let next = disk.lose_power(&mut |_| 0);
    disk.release_syncs();
    drop(server);
    assert_eq!(Server::found_on(&next, &names), [true, false, false]);
}

#[cfg(feature = "valkyrie")]
#[test]
fn calls_wait_for_the_oldest_change_without_a_thread() {
    let (disk, server) = with_slow_disk(Sync::Group);
    server.set("late", b"value");
    let persistence = &server.persistence;
    let target = persistence.appended();
    let woken = Arc::new(Woken::default());
    let waker = Arc::clone(&woken).into();
    let cx = Context::from_waker(&waker);
    assert!(persistence.poll_settled(target, &cx).is_pending());
    assert!(!woken.0.load(Ordering::Acquire));
    disk.release_syncs();
    while !woken.0.load(Ordering::Acquire) {
        thread::yield_now();
    }
    while persistence.poll_settled(target, &cx).is_pending() {
        thread::yield_now();
    }
}

#[cfg(feature = "valkyrie")]
#[derive(Default)]
struct Woken(AtomicBool);

#[cfg(feature = "valkyrie")]
impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn nothing_is_answered_after_a_failed_sync_or_a_write_that_ended_in_its_middle() {
    let failures = [
        (faults(Some(0), None), "cannot sync journal file"),
        (
            faults(None, Some((9, io::ErrorKind::Other))),
            "cannot write journal file",
        ),
    ];
    for (faults, says) in failures {
        let disk = FaultDisk::new();
        let server = Server::start(&disk, Sync::Always);
        server.change("kept").unwrap();
        assert_eq!(server.persistence.failure(), None);
        disk.set_faults(faults);
        let mut told = 0;
        server.set("refused", b"value");
        assert_eq!(server.persistence.settle(&mut told), Err(Unsettled));
        let failure = server.persistence.failure().unwrap();
        assert!(failure.starts_with(says), "{failure}");
        assert!(
            failure.contains("until the server is started again"),
            "{failure}"
        );
        // Reads go on, and a disk that seems to work again changes nothing.
        disk.set_faults(Faults::default());
        assert_eq!(server.persistence.settle(&mut told), Ok(()));
        assert_eq!(server.change("after"), Err(Unsettled));
        assert!(server.persistence.failure().is_some());
        let next = disk.lose_power(&mut |_| 0);
        drop(server);
        let found = Server::found_on(&next, &["kept", "refused", "after"]);
        assert_eq!(found, [true, false, false]);
    }
}

#[test]
fn restart_after_a_failed_sync_keeps_what_it_answers_from_then_on() {
    let disk = FaultDisk::new();
    let server = Server::start(&disk, Sync::Always);
    server.change("kept").unwrap();
    disk.set_faults(faults(Some(0), None));
    assert_eq!(server.change("unsure"), Err(Unsettled));
    disk.set_faults(Faults::default());
    let disk = disk.kill();
    drop(server);
    // The operating system gives back what the disk never got.
    let server = Server::start(&disk, Sync::Always);
    assert!(server.has("unsure"));
    server.change("after").unwrap();
    let next = disk.lose_power(&mut |_| 0);
    drop(server);
    let found = Server::found_on(&next, &["kept", "unsure", "after"]);
    assert_eq!(found, [true; 3]);
}

#[test]
fn full_disk_refuses_changes_until_there_is_room() {
    let full = [
        Faults {
            bytes_left: Some(0),
            ..Faults::default()
        },
        faults(None, Some((9, io::ErrorKind::StorageFull))),
    ];
    for faults in full {
        let disk = FaultDisk::new();
        let server = Server::start(&disk, Sync::Always);
        server.change("kept").unwrap();
        disk.set_faults(faults);
        // More than a segment has room for.
        let much = vec![b'x'; 17 << 20];
        server.set("much", &much);
        assert_eq!(server.settle(), Err(Unsettled));
        let failure = server.persistence.failure().unwrap();
        assert!(
            failure.contains("taken again when there is room"),
            "{failure}"
        );
        assert_eq!(server.change("stray"), Err(Unsettled));
        assert!(!server.persistence.is_due());
        disk.set_faults(Faults::default());
        while server.persistence.failure().is_some() {
            thread::yield_now();
        }
        server.change("after").unwrap();
        let next = disk.lose_power(&mut |_| 0);
        drop(server);
        let names = ["kept", "much", "stray", "after"];
        assert_eq!(Server::found_on(&next, &names), [true; 4]);
    }
}

#[test]
fn snapshot_that_cannot_be_stored_is_told_and_changes_go_on() {
    let disk = FaultDisk::new();
    let server = Server::start(&disk, Sync::Always);
    server.change("kept").unwrap();
    let buckets = Buckets::with_room_for(10);
    let store = |now: Moment| {
        assert!(server.persistence.begin_snapshot(now));
        assert!(!server.persistence.begin_snapshot(now));
        server.persistence.snapshot(&server.keys, &buckets, now);
        while server.persistence.snapshots().begun.is_some() {
            thread::yield_now();
        }
        server.persistence.snapshots()
    };
    disk.set_faults(Faults {
        bytes_left: Some(0),
        ..Faults::default()
    });
    let snapshots = store(Moment { ns: 1 });
    assert!(snapshots.failed.is_some());
    assert_eq!((snapshots.count, snapshots.last), (0, None));
    server.change("beside").unwrap();
    assert_eq!(server.persistence.failure(), None);
    disk.set_faults(Faults::default());
    let snapshots = store(Moment { ns: 2 });
    assert_eq!(snapshots.failed, None);
    assert_eq!(
        (snapshots.count, snapshots.last),
        (1, Some(Moment { ns: 2 }))
    );
    let next = disk.kill();
    drop(server);
    assert_eq!(Server::found_on(&next, &["kept", "beside"]), [true; 2]);
}
