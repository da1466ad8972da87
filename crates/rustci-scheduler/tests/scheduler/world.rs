//! A scheduler with a clock and a journal, and words to talk to it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses another part of it"
)]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rustci_pipeline::{
    Approval, Concurrency, DynamicMatrix, Environment, Job, MatrixGroup, Plan, Retry, RetryOn,
    RunsOn,
};
use rustci_scheduler::{
    AttemptResult, AttemptToken, Command, Effect, JobId, Now, Output, Phase, Refused, Reply, RunId,
    RunnerId, RunnerUp, Scheduler, SchedulerConfig, StoredPlan, Verdict,
    record::{Cause, Conclusion, NamedText, Record, RunMeta},
};
use valkyrie_frame::{Time, WallTime};

pub(crate) struct World {
    pub(crate) scheduler: Scheduler,
    pub(crate) journal: Vec<Record>,
    pub(crate) effects: Vec<Effect>,
    at: Duration,
}

impl Default for World {
    fn default() -> Self {
        Self::new(SchedulerConfig::default())
    }
}

impl World {
    pub(crate) fn new(config: SchedulerConfig) -> Self {
        let scheduler = Scheduler::new(config);
        let at = Duration::from_secs(1);
        Self {
            scheduler,
            journal: Vec::new(),
            effects: Vec::new(),
            at,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            time: Time::ZERO + self.at,
            wall: WallTime::from_millis(1_700_000_000_000) + self.at,
        }
    }

    pub(crate) fn try_handle(&mut self, command: Command) -> Result<Reply, Refused> {
        let mut out = Output::default();
        let reply = self.scheduler.handle(self.now(), command, &mut out);
        if reply.is_err() {
            assert!(
                out.records.is_empty() && out.effects.is_empty(),
                "refused, yet {out:?}"
            );
        }
        self.journal.append(&mut out.records);
        self.effects.append(&mut out.effects);
        reply
    }

    pub(crate) fn handle(&mut self, command: Command) -> Reply {
        self.try_handle(command).unwrap()
    }

    /// Lets time pass, with a tick at every deadline on the way.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.at + duration;
        while let Some(next) = self.scheduler.next_deadline() {
            let next = next.saturating_since(Time::ZERO);
            if next > end {
                break;
            }
            self.at = self.at.max(next);
            self.handle(Command::Tick);
        }
        self.at = end;
    }

    /// Replaces the scheduler by one that has read the journal.
    pub(crate) fn restart(&mut self) {
        let digest = self.scheduler.digest();
        let mut scheduler = Scheduler::new(SchedulerConfig::default());
        for record in &self.journal {
            scheduler.replay(record).unwrap();
        }
        assert_eq!(
            scheduler.digest(),
            digest,
            "the replay differs from the original"
        );
        let snapshot = self.scheduler.snapshot();
        let restored = Scheduler::restore(SchedulerConfig::default(), &snapshot).unwrap();
        assert_eq!(
            restored.digest(),
            digest,
            "the snapshot differs from the original"
        );
        self.resume(scheduler);
    }

    pub(crate) fn resume(&mut self, mut scheduler: Scheduler) {
        let mut out = Output::default();
        scheduler.resume(self.now(), &mut out);
        self.scheduler = scheduler;
        self.journal.append(&mut out.records);
        self.effects = out.effects;
    }

    pub(crate) fn submit(&mut self, jobs: impl IntoIterator<Item = Job>) -> RunId {
        self.submit_with(jobs, RunMeta::default())
    }

    pub(crate) fn submit_with(
        &mut self,
        jobs: impl IntoIterator<Item = Job>,
        meta: RunMeta,
    ) -> RunId {
        let plan = plan(jobs);
        match self.handle(Command::Submit { plan, meta }) {
            Reply::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    /// Submits a run with a concurrency group of its own.
    pub(crate) fn submit_in(
        &mut self,
        concurrency: Concurrency,
        jobs: impl IntoIterator<Item = Job>,
    ) -> RunId {
        let plan = plan_with(concurrency, jobs);
        let meta = RunMeta::default();
        match self.handle(Command::Submit { plan, meta }) {
            Reply::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    /// Why the job ended as it did.
    pub(crate) fn reason(&self, run: RunId, key: &str) -> String {
        let (_, _, job) = self.scheduler.job(self.job_id(run, key)).unwrap();
        job.reason.clone()
    }

    pub(crate) fn answer(
        &mut self,
        run: RunId,
        key: &str,
        verdict: Verdict,
    ) -> Result<Reply, Refused> {
        let job = self.job_id(run, key);
        self.try_handle(Command::Answer {
            run,
            job,
            verdict,
            by: "ann".to_owned(),
            comment: "go".to_owned(),
        })
    }

    /// Connects a runner that holds nothing.
    pub(crate) fn up(&mut self, name: &str, capacity: u32) -> RunnerId {
        self.up_with(name, capacity, &["os=linux"], &[], &[]).0
    }

    pub(crate) fn up_with(
        &mut self,
        name: &str,
        capacity: u32,
        labels: &[&str],
        held: &[AttemptToken],
        lost: &[AttemptToken],
    ) -> (RunnerId, Vec<AttemptToken>) {
        let up = RunnerUp {
            name: name.to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            capacity,
            executors: vec!["native".to_owned()],
            held: held.to_vec(),
            lost: lost.to_vec(),
        };
        match self.handle(Command::RunnerUp(up)) {
            Reply::Runner { runner, keep } => (runner, keep),
            other => panic!("{other:?}"),
        }
    }

    /// Takes the assignments made since the last call.
    pub(crate) fn assigned(&mut self) -> Vec<(RunnerId, AttemptToken)> {
        let assigned = self.effects.iter().filter_map(|effect| match effect {
            Effect::Assign { runner, token, .. } => Some((*runner, *token)),
            _ => None,
        });
        let assigned = assigned.collect();
        self.effects.clear();
        assigned
    }

    /// Takes the one assignment made since the last call.
    pub(crate) fn assigned_one(&mut self) -> (RunnerId, AttemptToken) {
        let assigned = self.assigned();
        assert_eq!(assigned.len(), 1, "{assigned:?}");
        assigned[0]
    }

    pub(crate) fn start(&mut self, (runner, token): (RunnerId, AttemptToken)) {
        self.handle(Command::Accepted { runner, token });
        self.handle(Command::Started { runner, token });
    }

    pub(crate) fn finish(&mut self, lease: (RunnerId, AttemptToken), outcome: Conclusion) {
        self.finish_with(
            lease,
            AttemptResult {
                outcome,
                ..AttemptResult::default()
            },
        );
    }

    pub(crate) fn finish_with(
        &mut self,
        (runner, token): (RunnerId, AttemptToken),
        result: AttemptResult,
    ) {
        self.handle(Command::Finished {
            runner,
            token,
            result,
        });
    }

    pub(crate) fn fail(&mut self, (runner, token): (RunnerId, AttemptToken), cause: Cause) {
        let message = "failed".to_owned();
        self.handle(Command::Failed {
            runner,
            token,
            cause,
            message,
            log_bytes: 0,
        });
    }

    /// The key of a job.
    pub(crate) fn key(&self, job: JobId) -> String {
        let (run, place, _) = self.scheduler.job(job).unwrap();
        run.plan.plan().jobs[place].key.clone()
    }

    /// Keys and states of a run's jobs: `a=success b=queued`.
    pub(crate) fn jobs(&self, run: RunId) -> String {
        let run = self.scheduler.run(run).unwrap();
        let words = run
            .jobs
            .iter()
            .zip(&run.plan.plan().jobs)
            .map(|(job, planned)| {
                let word = match (job.phase, job.conclusion) {
                    (Phase::Ended, Some(conclusion)) => word(conclusion),
                    (phase, _) => format!("{phase:?}").to_lowercase(),
                };
                format!("{}={word}", planned.key)
            });
        words.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn job_id(&self, run: RunId, key: &str) -> JobId {
        let run = self.scheduler.run(run).unwrap();
        let place = run
            .plan
            .plan()
            .jobs
            .iter()
            .position(|job| job.key == key)
            .unwrap();
        run.job_id(place)
    }

    pub(crate) fn waiting(&self, run: RunId, key: &str) -> String {
        self.scheduler
            .waiting(self.job_id(run, key))
            .unwrap()
            .to_string()
    }

    pub(crate) fn conclusion(&self, run: RunId) -> String {
        let conclusion = self.scheduler.run(run).unwrap().conclusion;
        conclusion.map_or("open".to_owned(), word)
    }

    /// Runs every assigned job; jobs in `failing` fail.
    pub(crate) fn run_all(&mut self, failing: &[&str]) {
        loop {
            let assigned = self.assigned();
            if assigned.is_empty() {
                break;
            }
            for lease in assigned {
                // A runner that came back without it may have made it an older one.
                let job = self.scheduler.job(lease.1.job).unwrap().2;
                if job.phase != Phase::Active || job.token(lease.1.job) != Some(lease.1) {
                    continue;
                }
                let failed = failing.contains(&self.key(lease.1.job).as_str());
                self.start(lease);
                let outcome = if failed {
                    Conclusion::Failure
                } else {
                    Conclusion::Success
                };
                let matrix = r#"{"n":[1,2]}"#;
                let outputs = vec![output("by", &self.key(lease.1.job)), output("m", matrix)];
                self.finish_with(
                    lease,
                    AttemptResult {
                        outcome,
                        outputs,
                        ..Default::default()
                    },
                );
            }
        }
    }
}

pub(crate) fn word(conclusion: Conclusion) -> String {
    conclusion
        .as_str_name()
        .trim_start_matches("CONCLUSION_")
        .to_lowercase()
}

pub(crate) fn output(name: &str, value: &str) -> NamedText {
    NamedText {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

pub(crate) fn plan(jobs: impl IntoIterator<Item = Job>) -> Arc<StoredPlan> {
    Arc::new(StoredPlan::new(Plan {
        version: 1,
        name: "ci".to_owned(),
        file: "ci.yaml".to_owned(),
        env: BTreeMap::new(),
        jobs: jobs.into_iter().collect(),
        ..Plan::default()
    }))
}

pub(crate) fn job(key: &str) -> Job {
    Job {
        key: key.to_owned(),
        id: key.to_owned(),
        name: key.to_owned(),
        matrix: serde_json::Map::new(),
        group: None,
        needs: Vec::new(),
        condition: None,
        runs_on: RunsOn::default(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        outputs: BTreeMap::new(),
        timeout_ms: 60_000,
        retry: Retry::default(),
        continue_on_error: String::new(),
        ..Job::default()
    }
}

/// A concurrency group without anything else.
pub(crate) fn group(name: &str) -> Concurrency {
    Concurrency {
        group: name.to_owned(),
        cancel_in_progress: "false".to_owned(),
        queue: None,
    }
}

/// A concurrency group in which a newcomer cancels the others.
pub(crate) fn newest(name: &str) -> Concurrency {
    Concurrency {
        cancel_in_progress: "true".to_owned(),
        ..group(name)
    }
}

pub(crate) fn plan_with(
    concurrency: Concurrency,
    jobs: impl IntoIterator<Item = Job>,
) -> Arc<StoredPlan> {
    let plan = plan(jobs).plan().clone();
    Arc::new(StoredPlan::new(Plan {
        concurrency: Some(concurrency),
        ..plan
    }))
}

/// Changes of a job in a chain of calls.
pub(crate) trait JobExt: Sized {
    fn needs(self, ids: &[&str]) -> Self;
    fn when(self, condition: &str) -> Self;
    fn labels(self, labels: &[&str]) -> Self;
    fn tolerate(self, flag: &str) -> Self;
    fn retry(self, max: u32, on: &[RetryOn]) -> Self;
    fn in_matrix(self, id: &str, max_parallel: Option<u32>) -> Self;
    fn fail_fast(self) -> Self;
    fn slot(self, concurrency: Concurrency) -> Self;
    fn approval(self, environment: &str, timeout: Duration) -> Self;
    fn dynamic(self, matrix: &str) -> Self;
}

impl JobExt for Job {
    fn needs(mut self, ids: &[&str]) -> Self {
        self.needs = ids.iter().map(|id| (*id).to_owned()).collect();
        self
    }

    fn when(mut self, condition: &str) -> Self {
        self.condition = Some(condition.to_owned());
        self
    }

    fn labels(mut self, labels: &[&str]) -> Self {
        self.runs_on.all = labels.iter().map(|label| (*label).to_owned()).collect();
        self
    }

    fn tolerate(mut self, flag: &str) -> Self {
        self.continue_on_error = flag.to_owned();
        self
    }

    fn retry(mut self, max: u32, on: &[RetryOn]) -> Self {
        self.retry = Retry {
            max,
            on: on.to_vec(),
        };
        self
    }

    fn in_matrix(mut self, id: &str, max_parallel: Option<u32>) -> Self {
        self.id = id.to_owned();
        self.group = Some(MatrixGroup {
            id: id.to_owned(),
            fail_fast: false,
            max_parallel,
        });
        self
    }

    fn fail_fast(mut self) -> Self {
        self.group.as_mut().unwrap().fail_fast = true;
        self
    }

    fn slot(mut self, concurrency: Concurrency) -> Self {
        self.concurrency = Some(concurrency);
        self
    }

    fn approval(mut self, environment: &str, timeout: Duration) -> Self {
        let approval = Approval {
            from: Vec::new(),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap(),
        };
        self.environment = Some(Environment {
            name: environment.to_owned(),
            approval: Some(approval),
        });
        self
    }

    fn dynamic(mut self, matrix: &str) -> Self {
        self.dynamic = Some(DynamicMatrix {
            matrix: matrix.to_owned(),
            fail_fast: true,
            max_parallel: Some(2),
        });
        self
    }
}
