//! Nothing acknowledged is ever lost, whatever the disk does.

use std::io;

use journal::{
    Batch, Index, Journal, JournalError, Log, LogConfig, MemoryJournal, Recovered,
    fault::{FaultDisk, Faults},
};
use proptest::{collection::vec, prelude::*};

/// One step in the life of a journal.
#[derive(Debug, Clone)]
enum Step {
    /// Writes a batch of records of these lengths.
    Write(Vec<u16>),
    Sync,
    /// Stores a snapshot after the last synced record.
    Snapshot,
    Kill,
    /// Loses power; the number decides what survives.
    LosePower(u64),
    /// From now on few syncs succeed.
    FailSyncs(u32),
    /// From now on little fits.
    Fill(u16),
    /// From now on few bytes are written before a write ends in its middle.
    FailWrites(u16, io::ErrorKind),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec(0..900_u16, 1..6).prop_map(Step::Write),
        6 => Just(Step::Sync),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::LosePower),
        1 => (0..5_u32).prop_map(Step::FailSyncs),
        1 => (0..9_000_u16).prop_map(Step::Fill),
        1 => (0..3_000_u16).prop_map(|left| Step::FailWrites(left, io::ErrorKind::Other)),
        1 => (0..3_000_u16).prop_map(|left| Step::FailWrites(left, io::ErrorKind::StorageFull)),
    ]
}

struct Life {
    disk: FaultDisk,
    log: Option<Log<FaultDisk>>,
    /// Every record ever written, as far as it may still exist.
    written: Vec<Vec<u8>>,
    acknowledged: Index,
    stored: Index,
    seed: u64,
}

const CONFIG: LogConfig = LogConfig {
    segment_bytes: 4096,
};

impl Life {
    fn new() -> Self {
        let disk = FaultDisk::new();
        let (log, _) = Log::open(disk.clone(), CONFIG).unwrap();
        Self {
            disk,
            log: Some(log),
            written: Vec::new(),
            acknowledged: Index::ZERO,
            stored: Index::ZERO,
            seed: 1,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(lengths) => self.attempt(|life, log| life.write(log, lengths)),
            Step::Sync => self.attempt(|life, log| {
                life.acknowledged = log.sync()?;
                Ok(())
            }),
            Step::Snapshot => self.attempt(|life, log| {
                let index = log.sync()?;
                life.acknowledged = index;
                Log::store_snapshot(&*log.disk(), index, &index.get().to_be_bytes())?;
                life.stored = index;
                log.forget(index)
            }),
            Step::Kill => {
                let disk = self.disk.kill();
                self.reopen(disk);
            }
            Step::LosePower(seed) => {
                self.seed = *seed;
                let mut state = *seed | 1;
                let disk = self
                    .disk
                    .lose_power(&mut |below| random(&mut state) % below);
                self.reopen(disk);
            }
            Step::FailSyncs(left) => {
                let syncs_left = Some(*left);
                self.disk.set_faults(Faults {
                    syncs_left,
                    ..Faults::default()
                });
            }
            Step::Fill(left) => {
                let bytes_left = Some(u64::from(*left));
                self.disk.set_faults(Faults {
                    bytes_left,
                    ..Faults::default()
                });
            }
            Step::FailWrites(left, error) => {
                let written_left = Some((u64::from(*left), *error));
                self.disk.set_faults(Faults {
                    written_left,
                    ..Faults::default()
                });
            }
        }
    }

    /// Does something with the log, which is over after an error.
    fn attempt(
        &mut self,
        action: impl FnOnce(&mut Self, &mut Log<FaultDisk>) -> Result<(), JournalError>,
    ) {
        if let Some(mut log) = self.log.take()
            && action(self, &mut log).is_ok()
        {
            self.log = Some(log);
        }
    }

    fn write(&mut self, log: &mut Log<FaultDisk>, lengths: &[u16]) -> Result<(), JournalError> {
        let mut encoder = log.encoder();
        let mut batch = Batch::default();
        for length in lengths {
            let number = self.written.len() as u64 + 1;
            let record: Vec<u8> = number
                .to_be_bytes()
                .into_iter()
                .cycle()
                .take((*length).into())
                .collect();
            assert_eq!(encoder.push(&mut batch, &record)?, Index::new(number));
            self.written.push(record);
        }
        match log.write(&mut batch) {
            Err(error) if error.is_passing() => {
                // There is room again.
                self.disk.set_faults(Faults::default());
                log.write(&mut batch)
            }
            done => done,
        }
    }

    fn reopen(&mut self, disk: FaultDisk) {
        disk.set_faults(Faults::default());
        let (log, recovered) = Log::open(disk.clone(), CONFIG).unwrap();
        self.check(&recovered);
        self.disk = disk;
        self.log = Some(log);
        self.written
            .truncate(usize::try_from(recovered.last().get()).unwrap());
        self.acknowledged = recovered.last();
    }

    fn check(&self, recovered: &Recovered) {
        let last = recovered.last();
        assert!(
            last >= self.acknowledged,
            "record {} was acknowledged",
            self.acknowledged
        );
        let snapshot = recovered.snapshot();
        let from = snapshot.map_or(Index::ZERO, |(index, _)| index);
        assert!(
            from >= self.stored,
            "the snapshot after {} was stored",
            self.stored
        );
        if let Some((index, state)) = snapshot {
            assert_eq!(state, index.get().to_be_bytes());
        }
        let mut next = from;
        for (index, record) in recovered.records() {
            next = next.next();
            assert_eq!(index, next);
            assert_eq!(
                record,
                self.written[usize::try_from(index.get()).unwrap() - 1]
            );
        }
        assert_eq!(next.max(from), last);
    }
}

fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_is_invented(steps in vec(steps(), 1..60)) {
        let mut life = Life::new();
        for step in &steps {
            life.step(step);
        }
        life.step(&Step::LosePower(7));
        life.step(&Step::Kill);
    }

    #[test]
    fn one_wrong_byte_is_either_found_or_behind_what_was_acknowledged(
        lengths in vec(0..300_u16, 1..40),
        offset in 0..9_000_usize,
    ) {
        let mut life = Life::new();
        for length in lengths {
            life.step(&Step::Write(vec![length]));
            life.step(&Step::Sync);
        }
        // A synced batch that follows proves what lies before it, the last one has no proof.
        let proven = Index::new(life.acknowledged.get() - 1);
        life.disk.flip("segment-00000000000000000001", offset);
        match Log::open(life.disk.kill(), CONFIG) {
            Ok((_, recovered)) => prop_assert!(recovered.last() >= proven),
            Err(JournalError::Corrupt { .. }) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn memory_keeps_the_same_contract(records in vec(vec(any::<u8>(), 0..50), 0..20)) {
        let mut journal = MemoryJournal::new();
        for (number, record) in records.iter().enumerate() {
            prop_assert_eq!(journal.append(record).unwrap(), Index::new(number as u64 + 1));
        }
        prop_assert_eq!(journal.synced(), Index::ZERO);
        prop_assert_eq!(journal.records().count(), 0);
        journal.commit();
        prop_assert_eq!(journal.synced(), journal.appended());
        let half = Index::new(records.len() as u64 / 2);
        journal.snapshot(half, b"half".to_vec()).unwrap();
        let kept: Vec<_> = journal.records().map(|(_, record)| record.to_vec()).collect();
        prop_assert_eq!(kept, &records[records.len() / 2..]);
    }
}
