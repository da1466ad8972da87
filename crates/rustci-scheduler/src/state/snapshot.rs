//! The durable state as bytes.

use std::sync::Arc;

use prost::Message;
use valkyrie_frame::WallTime;

use super::{
    Approval, Attempt, AttemptEnd, Job, KnownRunner, LastIds, Phase, ReplayError, Run, SlotUse,
    State, Stopping, Verdict,
    apply::jobs_of,
    gate::{answer, plan_of},
};
use crate::{
    Fence, JobId, RunId, RunnerId, StoredPlan,
    plan::Requirement,
    record::{
        self, ApprovalGiven, ApprovalState, AttemptState, Conclusion, JobState, PlanState,
        QuotaSet, RunState, RunnerState, SlotState, Snapshot, StopReason,
    },
};

impl State {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let plans = self.plans.values().filter(|(_, runs)| *runs > 0);
        let plans = plans.map(|(plan, _)| PlanState {
            digest: plan.digest().0.to_vec(),
            json: plan.json().to_owned(),
        });
        let runners = self.runners.values().map(|runner| RunnerState {
            id: runner.id.0,
            name: runner.name.clone(),
            draining: runner.draining,
        });
        let snapshot = Snapshot {
            last_run: self.last.run,
            last_job: self.last.job,
            last_runner: self.last.runner,
            last_fence: self.last.fence,
            paused: self.paused,
            plans: plans.collect(),
            runs: self.runs.values().map(run_state).collect(),
            runners: runners.collect(),
            quotas: self.quota_records(),
            documents: self.documents.records(),
        };
        snapshot.encode_to_vec()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, ReplayError> {
        let snapshot = Snapshot::decode(bytes)?;
        let last = LastIds {
            run: snapshot.last_run,
            job: snapshot.last_job,
            runner: snapshot.last_runner,
            fence: snapshot.last_fence,
        };
        let mut state = Self {
            last,
            paused: snapshot.paused,
            ..Self::default()
        };
        for plan in snapshot.plans {
            let plan = StoredPlan::from_json(&plan.json)?;
            state.plans.insert(plan.digest().0, (Arc::new(plan), 0));
        }
        for runner in snapshot.runners {
            let id = RunnerId(runner.id);
            state.names.insert(runner.name.clone(), id);
            let runner = KnownRunner {
                id,
                name: runner.name,
                draining: runner.draining,
            };
            state.runners.insert(id, runner);
        }
        for quota in &snapshot.quotas {
            state.set_quota(quota);
        }
        for document in &snapshot.documents {
            state.documents.apply(document);
        }
        for run in snapshot.runs {
            let run = state.run_from(run)?;
            let id = run.id;
            for (place, first) in &run.blocks {
                state.first_jobs.insert(*first, (id, *place));
            }
            state.runs.insert(id, run);
            state.take_up_slots(id);
        }
        Ok(state)
    }

    fn quota_records(&self) -> Vec<QuotaSet> {
        let quotas = self.quotas.iter().map(|(project, quota)| QuotaSet {
            project: project.clone(),
            running: quota.running,
            queued: quota.queued,
            weight: quota.weight,
        });
        quotas.collect()
    }

    fn run_from(&mut self, run: RunState) -> Result<Run, ReplayError> {
        let missing = ReplayError::Misfit {
            what: "no plan for run",
            id: run.id,
        };
        let submitted_plan = self.plan(&run.plan_digest).ok_or(missing)?;
        if let Some((_, runs)) = self.plans.get_mut(&submitted_plan.digest().0) {
            *runs += 1;
        }
        let plan = plan_of(&submitted_plan, run.meta.as_ref(), run.id)?;
        let conclusion = conclusion(run.conclusion());
        let jobs: Vec<_> = run.jobs.into_iter().map(job_from).collect();
        let expansions = run.expansions;
        let first_job = JobId(run.first_job);
        let mut run = Run {
            id: RunId(run.id),
            first_job,
            meta: run.meta.unwrap_or_default(),
            submitted: WallTime::from_millis(run.submitted_ms),
            started: time(run.started_ms),
            finished: time(run.finished_ms),
            cancel_reason: run.cancel_reason,
            conclusion,
            open: 0,
            jobs: jobs_of(&plan),
            plan,
            submitted_plan,
            expansions: Vec::new(),
            slot: slot_from(run.slot),
            blocks: vec![(0, first_job)],
        };
        for expansion in &expansions {
            let ids = (0..run.jobs.len()).map(|place| run.job_id(place).0);
            let place = ids.into_iter().position(|id| id == expansion.job);
            run.expand(place.unwrap_or(usize::MAX), expansion)?;
        }
        run.open = jobs.iter().filter(|job| job.is_open()).count();
        run.jobs = jobs;
        run.count_needs();
        Ok(run)
    }
}

impl Run {
    pub(super) fn count_needs(&mut self) {
        let ended: Vec<_> = self
            .jobs
            .iter()
            .map(|job| job.phase == Phase::Ended)
            .collect();
        let plan = Arc::clone(&self.plan);
        for (place, job) in self.jobs.iter_mut().enumerate() {
            let left = plan
                .needs(place)
                .iter()
                .filter(|need| ended.get(**need) == Some(&false));
            job.needs_left = left.count();
        }
    }
}

fn run_state(run: &Run) -> RunState {
    RunState {
        id: run.id.0,
        first_job: run.first_job.0,
        plan_digest: run.submitted_plan.digest().0.to_vec(),
        meta: Some(run.meta.clone()),
        submitted_ms: run.submitted.as_millis(),
        started_ms: millis(run.started),
        finished_ms: millis(run.finished),
        cancel_reason: run.cancel_reason.clone(),
        conclusion: run.conclusion.unwrap_or_default().into(),
        jobs: run.jobs.iter().map(job_state).collect(),
        expansions: run.expansions.clone(),
        slot: slot_state(&run.slot),
    }
}

fn slot_state(slot: &SlotUse) -> Option<SlotState> {
    let (group, held) = match slot {
        SlotUse::None => return None,
        SlotUse::Waiting { group } => (group.clone(), false),
        SlotUse::Held { group } => (group.clone(), true),
    };
    Some(SlotState { group, held })
}

fn slot_from(slot: Option<SlotState>) -> SlotUse {
    match slot {
        None => SlotUse::None,
        Some(SlotState { group, held: false }) => SlotUse::Waiting { group },
        Some(SlotState { group, held: true }) => SlotUse::Held { group },
    }
}

fn approval_state(approval: &Approval) -> ApprovalState {
    let answer = approval.answer.as_ref();
    ApprovalState {
        environment: approval.environment.clone(),
        asked_ms: approval.asked.as_millis(),
        until_ms: approval.until.as_millis(),
        answer: answer.map(|answer| ApprovalGiven {
            job: 0,
            approved: answer.verdict == Verdict::Approved,
            by: answer.by.clone(),
            comment: answer.comment.clone(),
        }),
        answered_ms: millis(answer.map(|answer| answer.at)),
    }
}

fn approval_from(approval: ApprovalState) -> Approval {
    let answered = WallTime::from_millis(approval.answered_ms);
    Approval {
        environment: approval.environment,
        asked: WallTime::from_millis(approval.asked_ms),
        until: WallTime::from_millis(approval.until_ms),
        answer: approval.answer.map(|given| answer(answered, &given)),
    }
}

fn job_state(job: &Job) -> JobState {
    let labels = job.labels.as_deref();
    JobState {
        phase: phase_number(job.phase).into(),
        conclusion: job.conclusion.unwrap_or_default().into(),
        reason: job.reason.clone(),
        tolerated: job.tolerated,
        requeues: job.requeues,
        retries: job.retries,
        stopping: job
            .stopping
            .map_or(StopReason::Unspecified, |stop| stop.reason)
            .into(),
        stopping_ms: millis(job.stopping.map(|stop| stop.at)),
        queued_ms: millis(job.queued),
        finished_ms: millis(job.finished),
        all_labels: labels.map(|labels| labels.all.clone()).unwrap_or_default(),
        any_labels: labels.map(|labels| labels.any.clone()).unwrap_or_default(),
        outputs: job.outputs.clone(),
        attempts: job.attempts.iter().map(attempt_state).collect(),
        failed_before: job.failed_before,
        approval: job.approval.as_ref().map(approval_state),
        slot: slot_state(&job.slot),
        carried_from: job.carried_from.map_or(0, |run| run.0),
    }
}

fn job_from(job: JobState) -> Job {
    let stopping = Stopping {
        reason: job.stopping(),
        at: WallTime::from_millis(job.stopping_ms),
    };
    let phase = phase_from(job.phase());
    let conclusion = conclusion(job.conclusion());
    let evaluated = !(job.all_labels.is_empty() && job.any_labels.is_empty());
    let requirement = Requirement {
        all: job.all_labels,
        any: job.any_labels,
    };
    Job {
        phase,
        conclusion,
        reason: job.reason,
        tolerated: job.tolerated,
        requeues: job.requeues,
        retries: job.retries,
        stopping: (stopping.reason != StopReason::Unspecified).then_some(stopping),
        queued: time(job.queued_ms),
        finished: time(job.finished_ms),
        outputs: job.outputs,
        attempts: job.attempts.into_iter().map(attempt_from).collect(),
        labels: evaluated.then(|| Arc::new(requirement)),
        needs_left: 0,
        failed_before: job.failed_before,
        approval: job.approval.map(approval_from),
        slot: slot_from(job.slot),
        carried_from: (job.carried_from != 0).then_some(RunId(job.carried_from)),
    }
}

fn attempt_state(attempt: &Attempt) -> AttemptState {
    let end = attempt.end.as_ref();
    AttemptState {
        fence: attempt.fence.0,
        runner: attempt.runner.0,
        leased_ms: attempt.leased.as_millis(),
        started_ms: millis(attempt.started),
        ended_ms: millis(end.map(|end| end.at)),
        cause: end
            .map_or(record::Cause::Unspecified, |end| end.cause)
            .into(),
        conclusion: end
            .map_or(Conclusion::Unspecified, |end| end.conclusion)
            .into(),
        message: end.map(|end| end.message.clone()).unwrap_or_default(),
        log_bytes: end.map_or(0, |end| end.log_bytes),
        reported: end.is_some_and(|end| end.reported),
    }
}

fn attempt_from(attempt: AttemptState) -> Attempt {
    let cause = attempt.cause();
    let conclusion = attempt.conclusion();
    let end = AttemptEnd {
        at: WallTime::from_millis(attempt.ended_ms),
        cause,
        conclusion,
        message: attempt.message,
        log_bytes: attempt.log_bytes,
        reported: attempt.reported,
    };
    Attempt {
        fence: Fence(attempt.fence),
        runner: RunnerId(attempt.runner),
        leased: WallTime::from_millis(attempt.leased_ms),
        started: time(attempt.started_ms),
        end: (cause != record::Cause::Unspecified).then_some(end),
    }
}

fn phase_number(phase: Phase) -> record::Phase {
    match phase {
        Phase::Blocked => record::Phase::Blocked,
        Phase::Queued => record::Phase::Queued,
        Phase::Active => record::Phase::Active,
        Phase::Ended => record::Phase::Ended,
    }
}

fn phase_from(phase: record::Phase) -> Phase {
    match phase {
        record::Phase::Unspecified | record::Phase::Blocked => Phase::Blocked,
        record::Phase::Queued => Phase::Queued,
        record::Phase::Active => Phase::Active,
        record::Phase::Ended => Phase::Ended,
    }
}

fn conclusion(conclusion: Conclusion) -> Option<Conclusion> {
    (conclusion != Conclusion::Unspecified).then_some(conclusion)
}

fn time(millis: u64) -> Option<WallTime> {
    (millis != 0).then_some(WallTime::from_millis(millis))
}

fn millis(time: Option<WallTime>) -> u64 {
    time.map_or(0, WallTime::as_millis)
}
