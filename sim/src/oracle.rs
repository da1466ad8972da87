//! The judge: knows what was promised to whom, and what really happened.

use std::collections::{BTreeMap, BTreeSet};

use journal::{Index, Recovered};
use prost::Message;
use rustci_scheduler::{
    AttemptToken, JobId, Phase, ReplayError, RunId, Scheduler, SchedulerConfig, SlotUse,
    record::{ApprovalGiven, Conclusion, Next, Record, record::Kind},
};
use valkyrie_frame::ErrorCode;
use valkyrie_session::SessionError;

use crate::quotas::Quotas;

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which, by its number in the list of invariants.
    pub(crate) invariant: &'static str,
    pub(crate) detail: String,
}

/// How often jobs and runs passed what stands between them and the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gates {
    /// Slots of concurrency groups that were given.
    pub slots: usize,
    /// Answers of people.
    pub answers: usize,
    /// Dynamic matrices that were expanded.
    pub matrices: usize,
    /// Runs that took jobs over from an earlier one.
    pub carried: usize,
}

/// Everything that may be held against the system.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) violation: Option<Violation>,
    /// Every record ever appended that may still exist.
    history: Vec<Vec<u8>>,
    /// The last record that anybody outside could know of.
    promised: Index,
    /// Runs whose submission was acknowledged.
    pub(crate) accepted_runs: BTreeSet<RunId>,
    /// Ends of attempts that were acknowledged to their runner.
    settled: BTreeSet<AttemptToken>,
    /// Of those, the ones whose logs nobody has looked at.
    settled_now: Vec<AttemptToken>,
    /// What runners wrote into their spools.
    spools: BTreeMap<AttemptToken, Vec<u8>>,
    /// How each job ended in durable records, first and only time.
    ended: BTreeMap<JobId, Conclusion>,
    durable: Index,
    fence: u64,
    /// The run of each job, by the run's first job.
    runs: BTreeMap<u64, u64>,
    canceled: BTreeSet<u64>,
    /// Jobs that asked, and whether somebody agreed.
    asked: BTreeMap<u64, Option<bool>>,
    /// Jobs that reruns took over.
    carried: BTreeSet<u64>,
    pub(crate) gates: Gates,
    quotas: Quotas,
    pub(crate) completions: usize,
    pub(crate) recoveries: usize,
}

impl Oracle {
    pub(crate) fn fail(&mut self, invariant: &'static str, detail: impl Into<String>) {
        self.violation.get_or_insert(Violation {
            invariant,
            detail: detail.into(),
        });
    }

    /// A session ended. No byte is ever changed on the way, so only silence is an excuse.
    pub(crate) fn session_error(&mut self, error: &SessionError) {
        if error.code() != ErrorCode::TIMEOUT {
            self.fail("wire", error.to_string());
        }
    }

    /// A record was appended; nobody outside knows of it yet.
    pub(crate) fn appended(&mut self, record: Vec<u8>) {
        self.history.push(record);
    }

    /// Records up to here are durable, and their effects go out.
    pub(crate) fn synced(&mut self, index: Index) {
        self.promised = self.promised.max(index);
        while self.durable < index {
            let place = usize::try_from(self.durable.get()).unwrap_or(usize::MAX);
            let Some(record) = self.history.get(place) else {
                break;
            };
            match Record::decode(record.as_slice()) {
                Ok(record) => self.durable_record(&record),
                Err(error) => self.fail("I8", format!("record {place} cannot be read: {error}")),
            }
            self.durable = self.durable.next();
        }
    }

    fn durable_record(&mut self, record: &Record) {
        if let Err(detail) = self.quotas.record(record) {
            self.fail("quota", detail);
        }
        match &record.kind {
            Some(Kind::Leased(leased)) => {
                if leased.fence <= self.fence {
                    self.fail("I2", format!("fence {} does not grow", leased.fence));
                }
                self.fence = self.fence.max(leased.fence);
                let run = self
                    .runs
                    .range(..=leased.job)
                    .next_back()
                    .map(|(_, run)| *run);
                if run.is_some_and(|run| self.canceled.contains(&run)) {
                    self.fail("I6", format!("job {} starts in a canceled run", leased.job));
                }
                if self
                    .asked
                    .get(&leased.job)
                    .is_some_and(|agreed| *agreed != Some(true))
                {
                    self.fail("approval", format!("job {} starts unapproved", leased.job));
                }
                if self.carried.contains(&leased.job) {
                    self.fail("carried", format!("job {} runs again", leased.job));
                }
                if self.ended.contains_key(&JobId(leased.job)) {
                    self.fail("I1", format!("job {} leased after its end", leased.job));
                }
            }
            Some(Kind::AttemptEnded(ended)) if ended.next() == Next::End => {
                self.completions += 1;
                self.job_ended(JobId(ended.job), ended.conclusion());
            }
            Some(Kind::JobEnded(ended)) => self.job_ended(JobId(ended.job), ended.conclusion()),
            Some(Kind::RunSubmitted(submitted)) => {
                self.runs.insert(submitted.first_job, submitted.run);
                let carried = submitted.meta.iter().flat_map(|meta| &meta.carried);
                let ids = carried.map(|job| submitted.first_job + u64::from(job.place));
                self.carried.extend(ids);
                self.gates.carried += submitted.meta.iter().filter(|it| it.rerun_of > 0).count();
            }
            Some(Kind::MatrixExpanded(expanded)) => {
                let before = self.runs.range(..=expanded.job).next_back();
                if let Some(run) = before.map(|(_, run)| *run) {
                    self.runs.insert(expanded.first_job, run);
                    self.gates.matrices += 1;
                }
            }
            Some(Kind::ApprovalAsked(asked)) => {
                self.asked.insert(asked.job, None);
            }
            Some(Kind::ApprovalGiven(given)) => self.answered(given),
            Some(Kind::SlotGranted(_)) => self.gates.slots += 1,
            Some(Kind::RunCanceled(canceled)) => {
                self.canceled.insert(canceled.run);
            }
            _ => {}
        }
    }

    fn answered(&mut self, given: &ApprovalGiven) {
        self.gates.answers += 1;
        let before = self.asked.insert(given.job, Some(given.approved));
        if before != Some(None) {
            self.fail("approval", format!("job {} has two answers", given.job));
        }
    }

    fn job_ended(&mut self, job: JobId, conclusion: Conclusion) {
        if let Some(before) = self.ended.insert(job, conclusion) {
            self.fail(
                "I1",
                format!("job {job} ended as {before:?} and again as {conclusion:?}"),
            );
        }
    }

    /// The end of an attempt was acknowledged to its runner.
    pub(crate) fn settle(&mut self, token: AttemptToken) {
        self.settled.insert(token);
        self.settled_now.push(token);
    }

    /// A runner wrote something into the log of an attempt.
    pub(crate) fn spooled(&mut self, token: AttemptToken, records: &[u8]) {
        self.spools
            .entry(token)
            .or_default()
            .extend_from_slice(records);
    }

    /// The control plane wrote something into the log of an attempt.
    pub(crate) fn logged(&mut self, token: AttemptToken, offset: u64, records: &[u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let spool = self.spools.get(&token).and_then(|spool| spool.get(start..));
        if !spool.is_some_and(|spool| spool.starts_with(records)) {
            self.fail(
                "I4",
                format!("log of {token} at {offset} is not what its runner wrote"),
            );
        }
    }

    /// Checks the logs of attempts that were settled: `durable` gives their lengths.
    pub(crate) fn check_logs(&mut self, durable: impl Fn(AttemptToken) -> u64) {
        for token in std::mem::take(&mut self.settled_now) {
            let (written, kept) = (self.spools.get(&token).map_or(0, Vec::len), durable(token));
            if written as u64 != kept {
                self.fail(
                    "I4",
                    format!("{token} is settled with {kept} of {written} log bytes"),
                );
            }
        }
    }

    /// Compares what a restart found with what was promised.
    pub(crate) fn recovered(&mut self, recovered: &Recovered) {
        self.recoveries += 1;
        let last = recovered.last();
        if last < self.promised {
            self.fail(
                "I3",
                format!("{} records promised, {last} found", self.promised),
            );
        }
        for (index, record) in recovered.records() {
            let place = usize::try_from(index.get())
                .unwrap_or(usize::MAX)
                .wrapping_sub(1);
            if self.history.get(place).is_none_or(|known| known != record) {
                self.fail(
                    "I8",
                    format!("record {index} is another than the one appended"),
                );
            }
        }
        self.history
            .truncate(usize::try_from(last.get()).unwrap_or(usize::MAX));
        // The new process builds on all of it, so from now on it is a promise.
        self.synced(last);
    }

    /// Compares a scheduler with a replay of all records, and its state with all promises.
    pub(crate) fn compare(&mut self, scheduler: &Scheduler) {
        let mut replay = Scheduler::new(SchedulerConfig::default());
        for record in &self.history {
            if let Err(error) = replay.replay_bytes(record) {
                self.violation.get_or_insert(Violation {
                    invariant: "I8",
                    detail: format!("the journal cannot be replayed: {error}"),
                });
                return;
            }
        }
        if replay.digest() != scheduler.digest() {
            self.fail("I8", "the replayed state differs from the live one");
        }
        self.compare_from_snapshot(scheduler);
        self.check_promises(scheduler);
    }

    /// Compares a scheduler with one that came back from a snapshot in between.
    fn compare_from_snapshot(&mut self, scheduler: &Scheduler) {
        let config = SchedulerConfig::default();
        // Another cut each time, but the same one for the same history.
        let cut = self.history.len() * (self.recoveries % 7 + 1) / 8;
        let mut replay = Scheduler::new(config);
        let (before, after) = self.history.split_at(cut);
        let restored = replay_all(&mut replay, before)
            .and_then(|()| Scheduler::restore(config, &replay.snapshot()))
            .and_then(|mut restored| replay_all(&mut restored, after).map(|()| restored));
        let same = restored.map(|restored| restored.digest() == scheduler.digest());
        match same {
            Ok(true) => {}
            Ok(false) => self.fail("I8", format!("another state from a snapshot after {cut}")),
            Err(error) => self.fail("I8", format!("snapshot after {cut}: {error}")),
        }
    }

    fn check_promises(&mut self, scheduler: &Scheduler) {
        for run in self.accepted_runs.clone() {
            if scheduler.run(run).is_none() {
                self.fail("I3", format!("run {run} was accepted and is gone"));
            }
        }
        for token in self.settled.clone() {
            let attempt = usize::try_from(token.attempt)
                .unwrap_or(usize::MAX)
                .wrapping_sub(1);
            let ended = scheduler.job(token.job).is_some_and(|(_, _, job)| {
                job.attempts
                    .get(attempt)
                    .is_some_and(|attempt| attempt.end.is_some())
            });
            if !ended {
                self.fail("I1", format!("the end of {token} was settled and is gone"));
            }
        }
    }

    /// What has to hold in every state.
    pub(crate) fn inspect(&mut self, scheduler: &Scheduler) {
        for runner in scheduler.runners() {
            let capacity = usize::try_from(runner.capacity).unwrap_or(usize::MAX);
            if runner.connected && runner.jobs.len() > capacity {
                let jobs = runner.jobs.len();
                self.fail(
                    "I7",
                    format!("{} has {jobs} jobs of {capacity}", runner.name),
                );
            }
        }
        self.inspect_slots(scheduler);
        for run in scheduler.runs() {
            for (place, job) in run.jobs.iter().enumerate() {
                let mut needs = run
                    .plan
                    .needs(place)
                    .iter()
                    .filter_map(|need| run.jobs.get(*need));
                if job.phase == Phase::Active && needs.any(|need| need.phase != Phase::Ended) {
                    self.fail(
                        "I6",
                        format!("job {} runs before its needs", run.job_id(place)),
                    );
                }
            }
        }
    }

    /// A slot has one holder, and who needs one does not run without.
    fn inspect_slots(&mut self, scheduler: &Scheduler) {
        let mut holders = BTreeSet::new();
        for run in scheduler.runs().filter(|run| run.conclusion.is_none()) {
            let project = &run.meta.project;
            if let SlotUse::Held { group } = &run.slot
                && !holders.insert((project, group, None))
            {
                self.fail("slots", format!("two holders of {group}, run {}", run.id));
            }
            for (job, planned) in run.jobs.iter().zip(&run.plan.plan().jobs) {
                if let SlotUse::Held { group } = &job.slot {
                    let own = matches!(&run.slot, SlotUse::Held { group: held } if held == group);
                    if !holders.insert((project, group, own.then_some(run.id))) {
                        self.fail("slots", format!("two holders of {group}, run {}", run.id));
                    }
                }
                let runs = matches!(job.phase, Phase::Queued | Phase::Active);
                let lacks = planned.concurrency.is_some() && job.slot == SlotUse::None;
                if runs && (lacks || !run.is_released()) {
                    self.fail("slots", format!("{} of run {} runs", planned.key, run.id));
                }
            }
        }
    }
}

fn replay_all(scheduler: &mut Scheduler, records: &[Vec<u8>]) -> Result<(), ReplayError> {
    records
        .iter()
        .try_for_each(|record| scheduler.replay_bytes(record))
}
