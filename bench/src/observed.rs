//! A journal that passes everything on and remembers what ended, to be checked afterwards.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use journal::{Index, Journal, JournalError, SyncedFn, Taken};
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use rustci_scheduler::record::{Record, record::Kind};

use crate::plans::expected;

/// Number of `attempt_ended` in the records' `oneof`.
const ATTEMPT_ENDED: u32 = 6;
/// Number of the field in front of it.
const AT_MS: u32 = 1;

/// Room for the records of ended attempts. Touched before anything is timed: page faults of the
/// check are no cost of the product.
const KEPT_BYTES: usize = 64 << 20;
const KEPT_RECORDS: usize = 1 << 17;

/// Records one behind the other.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Kept {
    fn touched() -> Self {
        let (mut bytes, mut ends) = (vec![1; KEPT_BYTES], vec![1; KEPT_RECORDS]);
        bytes.clear();
        ends.clear();
        Self { bytes, ends }
    }

    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let spans = starts.zip(self.ends.iter().copied());
        spans.map(|(start, end)| self.bytes.get(start..end).unwrap_or_default())
    }
}

/// What was seen, for the thread that measures.
#[derive(Default)]
pub(crate) struct Observation {
    appended: AtomicU64,
    synced: AtomicU64,
    bytes: AtomicU64,
    /// Attempts that ended, and the index of the last such record.
    ended: AtomicU64,
    last_end: AtomicU64,
    records: Mutex<Kept>,
}

impl Observation {
    /// Whether everything appended is durable.
    pub(crate) fn is_quiet(&self) -> bool {
        self.synced.load(Ordering::Acquire) >= self.appended.load(Ordering::Acquire)
    }

    /// Bytes appended so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether `count` attempts have ended durably.
    pub(crate) fn has_ended(&self, count: u64) -> bool {
        self.ended.load(Ordering::Acquire) >= count
            && self.synced.load(Ordering::Acquire) >= self.last_end.load(Ordering::Acquire)
    }

    /// Makes room for the records of a long measurement.
    pub(crate) fn prepare(&self) {
        *self.records.lock().unwrap_or_else(PoisonError::into_inner) = Kept::touched();
    }

    /// Checks that every job of `plans` plans with `jobs` jobs each, submitted in that order, ended
    /// once, well, and with its own output.
    pub(crate) fn check(&self, plans: usize, jobs: usize) -> Result<()> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outputs = HashMap::new();
        for bytes in records.iter() {
            let record = Record::decode(bytes)?;
            let Some(Kind::AttemptEnded(ended)) = record.kind else {
                anyhow::bail!("a record was taken for the end of an attempt");
            };
            let output = ended.outputs.iter().find(|output| output.name == "output");
            let output = output.context("a job came back without its output")?;
            let first = outputs.insert(ended.job, output.value.clone());
            ensure!(first.is_none(), "job {} ended twice", ended.job);
        }
        ensure!(
            outputs.len() == plans * jobs,
            "{} jobs ended",
            outputs.len()
        );
        let mut ids: Vec<_> = outputs.keys().copied().collect();
        ids.sort_unstable();
        for (at, id) in ids.iter().enumerate() {
            let wanted = expected(at / jobs, at % jobs);
            ensure!(
                outputs.get(id) == Some(&wanted),
                "job {id} has another job's output"
            );
        }
        Ok(())
    }
}

/// Wraps a journal.
pub(crate) struct Observed<J> {
    inner: J,
    seen: Arc<Observation>,
}

impl<J: Journal> Observed<J> {
    pub(crate) fn new(inner: J) -> (Self, Arc<Observation>) {
        let seen = Arc::new(Observation::default());
        let appended = inner.appended().get();
        seen.appended.store(appended, Ordering::Release);
        seen.synced.store(appended, Ordering::Release);
        let observed = Self {
            inner,
            seen: Arc::clone(&seen),
        };
        (observed, seen)
    }
}

impl<J: Journal> Journal for Observed<J> {
    fn append(&mut self, record: &[u8]) -> Result<Index, JournalError> {
        let index = self.inner.append(record)?;
        self.seen.appended.store(index.get(), Ordering::Release);
        self.seen
            .bytes
            .fetch_add(record.len() as u64, Ordering::Relaxed);
        if kind(record) == Some(ATTEMPT_ENDED) {
            let mut records = self
                .seen
                .records
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            records.push(record);
            self.seen.last_end.store(index.get(), Ordering::Release);
            self.seen.ended.fetch_add(1, Ordering::AcqRel);
        }
        Ok(index)
    }

    fn commit(&mut self) {
        self.inner.commit();
    }

    fn synced(&self) -> Index {
        self.inner.synced()
    }

    fn appended(&self) -> Index {
        self.inner.appended()
    }

    fn backlog_bytes(&self) -> usize {
        self.inner.backlog_bytes()
    }

    fn on_synced(&mut self, mut callback: SyncedFn) {
        let seen = Arc::clone(&self.seen);
        self.inner.on_synced(Box::new(move |progress| {
            if let Ok(index) = &progress {
                seen.synced.store(index.get(), Ordering::Release);
            }
            callback(progress);
        }));
    }

    fn snapshot(&mut self, index: Index, state: Vec<u8>) -> Result<Taken, JournalError> {
        self.inner.snapshot(index, state)
    }

    fn failed(&self) -> Option<JournalError> {
        self.inner.failed()
    }
}

/// The field number of a record's kind, without decoding the rest of it: decoding all of them
/// would be a cost that the product does not have.
fn kind(mut record: &[u8]) -> Option<u32> {
    let (number, wire) = decode_key(&mut record).ok()?;
    if number != AT_MS {
        return Some(number);
    }
    skip_field(wire, number, &mut record, DecodeContext::default()).ok()?;
    decode_key(&mut record).ok().map(|(number, _)| number)
}
