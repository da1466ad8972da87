//! What a journal gives back after it was closed, damaged or refused.

use std::io;
use std::sync::{Arc, Mutex, mpsc};

use journal::{
    Batch, Disk, FileJournal, Index, Journal, JournalConfig, JournalError, Log, LogConfig,
    SyncMode, Taken, WhenFull,
    fault::{FaultDisk, Faults},
};

const SMALL: LogConfig = LogConfig {
    segment_bytes: 4096,
};

/// Writes and syncs records `from..to`, each in a batch of its own.
fn fill(log: &mut Log<FaultDisk>, from: u64, to: u64) {
    let mut encoder = log.encoder();
    for number in from..to {
        let mut batch = Batch::default();
        encoder.push(&mut batch, &content(number)).unwrap();
        log.write(&mut batch).unwrap();
        log.sync().unwrap();
    }
}

fn content(number: u64) -> Vec<u8> {
    let length = usize::try_from(number * 37 % 300).unwrap();
    format!("record {number} ")
        .into_bytes()
        .into_iter()
        .cycle()
        .take(length)
        .collect()
}

fn check(recovered: &journal::Recovered, from: u64, to: u64) {
    let found: Vec<_> = recovered
        .records()
        .map(|(at, bytes)| (at, bytes.to_vec()))
        .collect();
    let expected: Vec<_> = (from..to)
        .map(|number| (Index::new(number), content(number)))
        .collect();
    assert_eq!(found, expected);
}

fn reopen(disk: &FaultDisk) -> Result<(Log<FaultDisk>, journal::Recovered), JournalError> {
    Log::open(disk.kill(), SMALL)
}

#[test]
fn records_come_back_in_order_over_many_segments() {
    let disk = FaultDisk::new();
    let (mut log, _) = Log::open(disk.clone(), SMALL).unwrap();
    fill(&mut log, 1, 200);
    let (mut log, recovered) = reopen(&disk).unwrap();
    check(&recovered, 1, 200);
    fill(&mut log, 200, 300);
    let (_, recovered) = reopen(&disk).unwrap();
    check(&recovered, 1, 300);
    assert_eq!(recovered.last(), Index::new(299));
}

#[test]
fn snapshot_replaces_the_records_before_it() {
    let disk = FaultDisk::new();
    let (mut log, _) = Log::open(disk.clone(), SMALL).unwrap();
    fill(&mut log, 1, 200);
    Log::store_snapshot(&*log.disk(), Index::new(150), b"state").unwrap();
    let before = log.disk().list().unwrap().len();
    log.forget(Index::new(150)).unwrap();
    assert!(log.disk().list().unwrap().len() < before);
    fill(&mut log, 200, 220);
    let (_, recovered) = reopen(&disk).unwrap();
    assert_eq!(recovered.snapshot(), Some((Index::new(150), &b"state"[..])));
    check(&recovered, 151, 220);
}

#[test]
fn damage_of_synced_records_is_named_with_file_and_offset() {
    let disk = FaultDisk::new();
    let (mut log, _) = Log::open(
        disk.clone(),
        LogConfig {
            segment_bytes: 1 << 20,
        },
    )
    .unwrap();
    fill(&mut log, 1, 50);
    disk.flip("segment-00000000000000000001", 28 + 16 + 16 + 3);
    let error = reopen(&disk).unwrap_err();
    let JournalError::Corrupt { file, offset, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        (file.as_str(), *offset),
        ("segment-00000000000000000001", 28 + 16)
    );
    assert!(error.to_string().contains("damaged at byte 44"), "{error}");
}

#[test]
fn damage_in_an_earlier_segment_or_snapshot_is_never_skipped() {
    let disk = FaultDisk::new();
    let (mut log, _) = Log::open(disk.clone(), SMALL).unwrap();
    fill(&mut log, 1, 200);
    Log::store_snapshot(&*log.disk(), Index::new(10), b"state").unwrap();
    disk.flip("snapshot-00000000000000000010", 33);
    assert!(matches!(reopen(&disk), Err(JournalError::Corrupt { .. })));
    disk.flip("snapshot-00000000000000000010", 33);
    assert!(reopen(&disk).is_ok());
    disk.flip("segment-00000000000000000001", 5);
    assert!(matches!(
        reopen(&disk),
        Err(JournalError::Corrupt { offset: 0, .. })
    ));
}

#[test]
fn another_format_version_is_refused_with_both_numbers() {
    let disk = FaultDisk::new();
    let file = Disk::create(&disk, "segment-00000000000000000001", 64).unwrap();
    let mut header = b"RCJOURNL\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\x01".to_vec();
    header.extend_from_slice(&crc32c::crc32c(&header).to_be_bytes());
    journal::DiskFile::write_at(&file, 0, &header).unwrap();
    let error = Log::open(disk, SMALL).unwrap_err();
    assert!(
        matches!(
            error,
            JournalError::Version {
                version: 7,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn failed_sync_ends_the_journal_and_acknowledges_nothing_more() {
    let disk = FaultDisk::new();
    let (mut journal, _) = FileJournal::open_on(disk.clone(), JournalConfig::default()).unwrap();
    let (report, progress) = mpsc::channel();
    journal.on_synced(Box::new(move |synced| report.send(synced).unwrap()));
    journal.append(b"one").unwrap();
    journal.commit();
    assert_eq!(progress.recv().unwrap().unwrap(), Index::new(1));
    disk.set_faults(Faults {
        syncs_left: Some(0),
        ..Faults::default()
    });
    journal.append(b"two").unwrap();
    journal.commit();
    assert!(progress.recv().unwrap().is_err());
    disk.set_faults(Faults::default());
    assert!(journal.failed().is_some());
    assert!(journal.append(b"three").is_err());
    assert_eq!(journal.synced(), Index::new(1));
}

/// What a journal tells of its progress.
fn progress(journal: &mut FileJournal) -> mpsc::Receiver<Result<Index, JournalError>> {
    let (report, progress) = mpsc::channel();
    // Nobody may be listening any more at the end.
    journal.on_synced(Box::new(move |synced| drop(report.send(synced))));
    progress
}

fn append(journal: &mut FileJournal, from: u64, to: u64) {
    for number in from..to {
        assert_eq!(
            journal.append(&content(number)).unwrap(),
            Index::new(number)
        );
        journal.commit();
    }
}

/// Whether a file of the disk has this record.
fn has(disk: &FaultDisk, name: &str, record: &[u8]) -> bool {
    let file = disk.read(name).unwrap();
    file.windows(record.len()).any(|part| part == record)
}

#[test]
fn what_is_committed_during_a_sync_is_written_beside_it() {
    let first = "segment-00000000000000000001";
    for ends_by in ["kill", "power"] {
        let disk = FaultDisk::new();
        let config = JournalConfig::default();
        let (mut journal, _) = FileJournal::open_on(disk.clone(), config).unwrap();
        let progress = progress(&mut journal);
        append(&mut journal, 1, 2);
        assert_eq!(progress.recv().unwrap().unwrap(), Index::new(1));
        disk.hold_syncs();
        append(&mut journal, 2, 3);
        disk.wait_for_sync();
        append(&mut journal, 3, 40);
        while !has(&disk, first, &content(39)) {
            std::thread::yield_now();
        }
        // None of it is on the disk, and nobody was told that it is.
        assert_eq!(journal.synced(), Index::new(1));
        assert!(progress.try_recv().is_err());
        let (next, last) = match ends_by {
            "kill" => (disk.kill(), 40),
            _ => (disk.lose_power(&mut |_| 0), 2),
        };
        disk.release_syncs();
        drop(journal);
        let (_, recovered) = Log::open(next, LogConfig::default()).unwrap();
        check(&recovered, 1, last);
    }
}

#[test]
fn what_is_written_beside_a_sync_is_in_the_next_one() {
    let disk = FaultDisk::new();
    let (mut journal, _) = FileJournal::open_on(disk.clone(), JournalConfig::default()).unwrap();
    let progress = progress(&mut journal);
    disk.hold_syncs();
    append(&mut journal, 1, 2);
    disk.wait_for_sync();
    append(&mut journal, 2, 30);
    while !has(&disk, "segment-00000000000000000001", &content(29)) {
        std::thread::yield_now();
    }
    disk.release_syncs();
    assert_eq!(progress.recv().unwrap().unwrap(), Index::new(1));
    assert_eq!(progress.recv().unwrap().unwrap(), Index::new(29));
    let disk = disk.lose_power(&mut |_| 0);
    let (_, recovered) = Log::open(disk, LogConfig::default()).unwrap();
    check(&recovered, 1, 30);
}

#[test]
fn records_that_a_failed_sync_left_behind_are_written_once_more() {
    let disk = FaultDisk::new();
    let (mut log, _) = Log::open(disk.clone(), SMALL).unwrap();
    fill(&mut log, 1, 10);
    let mut encoder = log.encoder();
    let mut batch = Batch::default();
    encoder.push(&mut batch, &content(10)).unwrap();
    log.write(&mut batch).unwrap();
    disk.set_faults(Faults {
        syncs_left: Some(0),
        ..Faults::default()
    });
    log.sync().unwrap_err();
    disk.set_faults(Faults::default());
    // The operating system still has it, and takes it for written.
    let disk = disk.kill();
    let (mut log, recovered) = Log::open(disk.clone(), SMALL).unwrap();
    check(&recovered, 1, 11);
    fill(&mut log, 11, 20);
    let disk = disk.lose_power(&mut |_| 0);
    let (_, recovered) = Log::open(disk, SMALL).unwrap();
    check(&recovered, 1, 20);
}

#[test]
fn what_a_write_without_room_left_behind_is_cut_off_before_another_segment() {
    let disk = FaultDisk::new();
    let (mut log, _) = Log::open(disk.clone(), SMALL).unwrap();
    fill(&mut log, 1, 10);
    disk.set_faults(full()[1]);
    let mut encoder = log.encoder();
    let mut batch = Batch::default();
    for number in 10..20 {
        encoder.push(&mut batch, &content(number)).unwrap();
    }
    assert!(log.write_beside(&mut batch).unwrap_err().is_passing());
    disk.set_faults(Faults::default());
    // It has become longer than the segment has room for.
    for number in 20..40 {
        encoder.push(&mut batch, &content(number)).unwrap();
    }
    log.write(&mut batch).unwrap();
    log.sync().unwrap();
    assert_eq!(disk.list().unwrap().len(), 2);
    let (_, recovered) = reopen(&disk).unwrap();
    check(&recovered, 1, 40);
}

/// A disk that is full where another segment would begin, and one on which a write ends in its middle.
fn full() -> [Faults; 2] {
    [
        Faults {
            bytes_left: Some(0),
            ..Faults::default()
        },
        Faults {
            written_left: Some((1000, io::ErrorKind::StorageFull)),
            ..Faults::default()
        },
    ]
}

#[test]
fn full_disk_is_waited_for_and_nothing_is_lost_or_out_of_order() {
    for faults in full() {
        let disk = FaultDisk::new();
        let config = JournalConfig {
            log: SMALL,
            when_full: WhenFull::Wait,
            ..JournalConfig::default()
        };
        let (mut journal, _) = FileJournal::open_on(disk.clone(), config).unwrap();
        let progress = progress(&mut journal);
        append(&mut journal, 1, 5);
        while progress.recv().unwrap().unwrap() < Index::new(4) {}
        disk.set_faults(faults);
        append(&mut journal, 5, 200);
        let error = loop {
            if let Err(error) = progress.recv().unwrap() {
                break error;
            }
        };
        assert!(error.is_passing(), "{error}");
        assert!(journal.failed().is_none());
        let reached = journal.synced();
        assert!(reached < Index::new(199));
        append(&mut journal, 200, 210);
        assert!(progress.try_recv().is_err());
        disk.set_faults(Faults::default());
        while progress.recv().unwrap().unwrap() < Index::new(209) {}
        drop(journal);
        let disk = disk.lose_power(&mut |_| 0);
        let (_, recovered) = Log::open(disk, SMALL).unwrap();
        check(&recovered, 1, 210);
    }
}

#[test]
fn full_disk_ends_a_journal_that_does_not_wait() {
    for faults in full() {
        let disk = FaultDisk::new();
        let config = JournalConfig {
            log: SMALL,
            ..JournalConfig::default()
        };
        let (mut journal, _) = FileJournal::open_on(disk.clone(), config).unwrap();
        let progress = progress(&mut journal);
        disk.set_faults(faults);
        append_until_refused(&mut journal, 1);
        let error = loop {
            if let Err(error) = progress.recv().unwrap() {
                break error;
            }
        };
        assert!(error.is_full(), "{error}");
        assert!(journal.failed().is_some());
    }
}

/// Appends records from this one on until the journal has ended.
fn append_until_refused(journal: &mut FileJournal, from: u64) {
    let mut number = from;
    while journal.append(&content(number)).is_ok() {
        journal.commit();
        number += 1;
    }
}

#[test]
fn write_that_ends_in_its_middle_ends_the_journal_and_leaves_what_was_synced() {
    let disk = FaultDisk::new();
    let config = JournalConfig {
        log: SMALL,
        // An error is no lack of room.
        when_full: WhenFull::Wait,
        ..JournalConfig::default()
    };
    let (mut journal, _) = FileJournal::open_on(disk.clone(), config).unwrap();
    let progress = progress(&mut journal);
    append(&mut journal, 1, 5);
    while progress.recv().unwrap().unwrap() < Index::new(4) {}
    disk.set_faults(Faults {
        written_left: Some((100, io::ErrorKind::Other)),
        ..Faults::default()
    });
    append_until_refused(&mut journal, 5);
    let error = loop {
        if let Err(error) = progress.recv().unwrap() {
            break error;
        }
    };
    assert!(
        error
            .to_string()
            .starts_with("cannot write journal file segment-"),
        "{error}"
    );
    let synced = journal.synced();
    disk.set_faults(Faults::default());
    drop(journal);
    let disk = disk.kill();
    let (_, recovered) = Log::open(disk, SMALL).unwrap();
    assert!(recovered.last() >= synced);
    check(&recovered, 1, recovered.last().get() + 1);
}

#[test]
fn snapshot_without_room_leaves_nothing_behind_and_records_go_on() {
    let disk = FaultDisk::new();
    let (mut journal, _) = FileJournal::open_on(disk.clone(), JournalConfig::default()).unwrap();
    let progress = progress(&mut journal);
    let (report, stored) = mpsc::channel();
    journal.on_stored(Box::new(move |index| report.send(index).unwrap()));
    append(&mut journal, 1, 5);
    while progress.recv().unwrap().unwrap() < Index::new(4) {}
    for faults in full() {
        disk.set_faults(faults);
        let state = vec![1; 10_000];
        assert_eq!(journal.snapshot(Index::new(4), state).unwrap(), Taken::Yes);
        assert!(stored.recv().unwrap().unwrap_err().is_full());
        assert_eq!(disk.list().unwrap(), ["segment-00000000000000000001"]);
    }
    disk.set_faults(Faults::default());
    append(&mut journal, 5, 9);
    while progress.recv().unwrap().unwrap() < Index::new(8) {}
    let again = journal.snapshot(Index::new(8), b"state".to_vec());
    assert_eq!(again.unwrap(), Taken::Yes);
    assert_eq!(stored.recv().unwrap().unwrap(), Index::new(8));
    assert!(journal.failed().is_none());
}

#[test]
fn snapshot_without_room_ends_a_journal_to_which_nobody_listens() {
    let disk = FaultDisk::new();
    let (mut journal, _) = FileJournal::open_on(disk.clone(), JournalConfig::default()).unwrap();
    let progress = progress(&mut journal);
    append(&mut journal, 1, 2);
    assert_eq!(progress.recv().unwrap().unwrap(), Index::new(1));
    disk.set_faults(full()[0]);
    journal.snapshot(Index::new(1), b"state".to_vec()).unwrap();
    assert!(progress.recv().unwrap().unwrap_err().is_full());
    assert!(journal.failed().is_some());
}

#[test]
fn full_disk_is_told_apart() {
    let disk = FaultDisk::new();
    disk.set_faults(Faults {
        bytes_left: Some(5000),
        ..Faults::default()
    });
    let (mut log, _) = Log::open(disk.clone(), SMALL).unwrap();
    let mut encoder = log.encoder();
    let error = loop {
        let mut batch = Batch::default();
        encoder.push(&mut batch, &[7; 100]).unwrap();
        if let Err(error) = log.write(&mut batch) {
            break error;
        }
    };
    assert!(error.is_full(), "{error}");
}

#[test]
fn every_sync_mode_reports_all_batches_in_order() {
    for mode in [SyncMode::Always, SyncMode::Group, SyncMode::Os] {
        let config = JournalConfig {
            mode,
            log: SMALL,
            ..JournalConfig::default()
        };
        let disk = FaultDisk::new();
        let (mut journal, _) = FileJournal::open_on(disk.clone(), config).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        journal.on_synced(Box::new(move |synced| {
            log.lock().unwrap().push(synced.unwrap())
        }));
        for number in 1..500 {
            journal.append(&content(number)).unwrap();
            journal.commit();
        }
        drop(journal);
        let seen = seen.lock().unwrap();
        assert!(seen.is_sorted(), "{mode:?}");
        assert_eq!(seen.last(), Some(&Index::new(499)), "{mode:?}");
        let (_, recovered) = reopen(&disk).unwrap();
        check(&recovered, 1, 500);
    }
}

#[test]
fn real_files_survive_reopening_and_snapshots_free_segments() {
    let directory = tempfile::tempdir().unwrap();
    let config = JournalConfig {
        log: SMALL,
        ..JournalConfig::default()
    };
    let (mut journal, recovered) = FileJournal::open(directory.path(), config).unwrap();
    assert_eq!(recovered.last(), Index::ZERO);
    for number in 1..400 {
        journal.append(&content(number)).unwrap();
        journal.commit();
    }
    assert_eq!(
        journal.snapshot(Index::new(399), b"all".to_vec()).unwrap(),
        Taken::Yes
    );
    drop(journal);
    let (mut journal, recovered) = FileJournal::open(directory.path(), config).unwrap();
    assert_eq!(recovered.snapshot(), Some((Index::new(399), &b"all"[..])));
    assert_eq!(recovered.records().count(), 0);
    assert_eq!(journal.append(b"next").unwrap(), Index::new(400));
}

#[test]
fn a_seeded_journal_goes_on_behind_its_state() {
    let dir = tempfile::tempdir().unwrap();
    journal::seed(dir.path(), Index::new(41), b"state").unwrap();
    for (first, count) in [(42, 0), (43, 1)] {
        let (mut journal, recovered) =
            FileJournal::open(dir.path(), JournalConfig::default()).unwrap();
        assert_eq!(recovered.snapshot(), Some((Index::new(41), &b"state"[..])));
        assert_eq!(recovered.records().count(), count);
        assert_eq!(journal.append(b"next").unwrap(), Index::new(first));
    }
}
