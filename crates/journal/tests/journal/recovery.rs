//! What a journal gives back after it was closed, damaged or refused.

use std::sync::{Arc, Mutex};

use journal::{
    Batch, FileJournal, Index, Journal, JournalConfig, JournalError, Log, LogConfig, SyncMode,
    Taken,
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
    let before = journal::Disk::list(&*log.disk()).unwrap().len();
    log.forget(Index::new(150)).unwrap();
    assert!(journal::Disk::list(&*log.disk()).unwrap().len() < before);
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
    let mut file = journal::Disk::create(&disk, "segment-00000000000000000001", 64).unwrap();
    let mut header = b"RCJOURNL\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\x01".to_vec();
    header.extend_from_slice(&crc32c::crc32c(&header).to_be_bytes());
    journal::DiskFile::write_at(&mut file, 0, &header).unwrap();
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
    let (report, progress) = std::sync::mpsc::channel();
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
