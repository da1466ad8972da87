//! From the scheduler's words to those of the API.

use std::sync::Arc;

use prost::Message;
use rustci_pipeline::v1;
use rustci_scheduler::record::{
    AttemptEnded, Cause, Conclusion as Recorded, ExpandedMatrix, Priority as RecordedPriority,
    RunMeta,
};
use rustci_scheduler::{Attempt, Job, JobId, Phase, Run, RunnerId, Scheduler, Verdict};
use valkyrie_frame::WallTime;

use crate::api::view::{
    AnswerView, ApprovalView, AttemptView, Conclusion, EventView, GitView, JobView, Priority,
    RunSummary, RunView, Status, StepView,
};
use crate::catalogue::{Change, Finished, JobState, NewJob, Origin, PlannedStep, cache_scope};

/// A run as the catalogue lists it.
pub(crate) fn summary(run: &Run) -> RunSummary {
    RunSummary {
        git: git(run),
        ..progress(run)
    }
}

/// How far a run is, without what the catalogue has known since its beginning and would cost a look
/// into its contexts.
pub(crate) fn progress(run: &Run) -> RunSummary {
    let status = match (run.conclusion, run.started) {
        (Some(_), _) => Status::Finished,
        (None, Some(_)) => Status::Running,
        (None, None) => Status::Queued,
    };
    RunSummary {
        id: run.id.0,
        project: run.meta.project.clone(),
        pipeline: run.plan.plan().name.clone(),
        file: run.meta.file.clone(),
        status,
        conclusion: run.conclusion.and_then(conclusion),
        digest: run.submitted_plan.digest().to_string(),
        event: EventView {
            name: run.meta.event.clone(),
        },
        git: GitView::default(),
        priority: priority(run.meta.priority()),
        rerun_of: (run.meta.rerun_of != 0).then_some(run.meta.rerun_of),
        created_ms: run.submitted.as_millis(),
        started_ms: run.started.map(WallTime::as_millis),
        finished_ms: run.finished.map(WallTime::as_millis),
    }
}

fn git(run: &Run) -> GitView {
    let contexts: GitContexts = serde_json::from_str(&run.meta.contexts_json).unwrap_or_default();
    contexts.git
}

/// The part of a run's contexts that lists show; the rest is not built.
#[derive(Default, serde::Deserialize)]
struct GitContexts {
    #[serde(default)]
    git: GitView,
}

/// What a run counts for, in the words of the API.
pub(crate) fn priority(recorded: RecordedPriority) -> Priority {
    match recorded {
        RecordedPriority::Low => Priority::Low,
        RecordedPriority::Unspecified | RecordedPriority::Normal => Priority::Normal,
        RecordedPriority::High => Priority::High,
        RecordedPriority::Critical => Priority::Critical,
    }
}

/// What a run counts for, in the words of the journal.
pub(crate) fn recorded_priority(priority: Priority) -> RecordedPriority {
    match priority {
        Priority::Low => RecordedPriority::Low,
        Priority::Normal => RecordedPriority::Normal,
        Priority::High => RecordedPriority::High,
        Priority::Critical => RecordedPriority::Critical,
    }
}

/// What never changes about the jobs of a run.
pub(crate) fn new_run(run: &Run) -> Change {
    let jobs = run
        .plan
        .plan()
        .jobs
        .iter()
        .enumerate()
        .map(|(place, job)| NewJob {
            id: run.job_id(place).0,
            key: job.key.clone(),
            job_id: job.id.clone(),
            name: job.name.clone(),
            needs: job.needs.clone(),
            steps: job.steps.iter().map(PlannedStep::new).collect(),
            carried_from: carried_from(run, place),
        });
    Change::NewRun {
        run: summary(run),
        jobs: jobs.collect(),
        origin: origin(run),
    }
}

fn origin(run: &Run) -> Origin {
    let key = &run.meta.idempotency_key;
    Origin {
        plan: Arc::clone(&run.submitted_plan),
        meta: run.meta.encode_to_vec(),
        expanded: expanded(run),
        idempotency_key: Some(key.clone()).filter(|key| !key.is_empty()),
        request_digest: run.meta.request_digest.clone(),
    }
}

/// The matrices that were expanded while a run went on, as its rerun would bring them.
fn expanded(run: &Run) -> Vec<u8> {
    let place_of = |job: u64| (0..run.jobs.len()).find(|place| run.job_id(*place).0 == job);
    let matrices = run.expansions.iter().filter_map(|expansion| {
        Some(ExpandedMatrix {
            place: u32::try_from(place_of(expansion.job)?).ok()?,
            matrix_json: expansion.matrix_json.clone(),
        })
    });
    RunMeta {
        expanded: matrices.collect(),
        ..RunMeta::default()
    }
    .encode_to_vec()
}

fn carried_from(run: &Run, place: usize) -> Option<u64> {
    let job = run.jobs.get(place)?;
    job.carried_from.map(|run| run.0)
}

/// What a job was asked to be approved for, and by whom it was.
fn approval(run: &Run, place: usize, job: &Job) -> Option<ApprovalView> {
    let asked = job.approval.as_ref()?;
    let environment = run.plan.plan().jobs.get(place)?.environment.as_ref();
    let wanted = environment.and_then(|environment| environment.approval.as_ref());
    Some(ApprovalView {
        environment: asked.environment.clone(),
        from: wanted.map(|wanted| wanted.from.clone()).unwrap_or_default(),
        asked_ms: asked.asked.as_millis(),
        until_ms: asked.until.as_millis(),
        answer: asked.answer.as_ref().map(|answer| AnswerView {
            approved: answer.verdict == Verdict::Approved,
            by: answer.by.clone(),
            comment: answer.comment.clone(),
            at_ms: answer.at.as_millis(),
        }),
    })
}

/// What a finished attempt left behind, when it left anything.
pub(crate) fn finished(
    scheduler: &Scheduler,
    at_ms: u64,
    attempt: u32,
    ended: &AttemptEnded,
) -> Option<Change> {
    let result = result(&ended.detail).filter(|result| !Finished::is_bare(result))?;
    let (run, place, _) = scheduler.job(JobId(ended.job))?;
    let planned = run.plan.plan().jobs.get(place)?;
    Some(Change::Finished(Box::new(Finished {
        run: run.id.0,
        job: ended.job,
        job_key: planned.key.clone(),
        attempt,
        project: run.meta.project.clone(),
        file: run.meta.file.clone(),
        scope: cache_scope(&run.meta),
        ended_ms: at_ms,
        result,
    })))
}

/// The state of the job at a place of its run.
pub(crate) fn job_state(scheduler: &Scheduler, run: &Run, place: usize, job: &Job) -> JobState {
    let status = match job.phase {
        Phase::Blocked => Status::Blocked,
        Phase::Queued => Status::Queued,
        Phase::Active => Status::Running,
        Phase::Ended => Status::Finished,
    };
    let attempts = (1..).zip(&job.attempts);
    let attempts = attempts.map(|(number, attempt)| attempt_view(scheduler, number, attempt));
    JobState {
        run: run.id.0,
        id: run.job_id(place).0,
        status,
        conclusion: job.conclusion.and_then(conclusion),
        allowed: job.tolerated && failed(job),
        reason: Some(job.reason.clone()).filter(|reason| !reason.is_empty()),
        approval: approval(run, place, job),
        attempts: attempts.collect(),
        outputs: job
            .outputs
            .iter()
            .map(|output| (output.name.clone(), output.value.clone()))
            .collect(),
        queued_ms: job.queued.map(WallTime::as_millis),
        started_ms: job
            .attempts
            .last()
            .and_then(|attempt| attempt.started)
            .map(WallTime::as_millis),
        finished_ms: job.finished.map(WallTime::as_millis),
    }
}

/// Whether it ended badly. That is not what its outcome says, which forgives what is allowed.
fn failed(job: &Job) -> bool {
    use Recorded::{Canceled, Skipped, Success};
    job.conclusion
        .is_some_and(|ended| !matches!(ended, Success | Skipped | Canceled))
}

fn attempt_view(scheduler: &Scheduler, number: u32, attempt: &Attempt) -> AttemptView {
    let end = attempt.end.as_ref();
    AttemptView {
        number,
        runner: runner_name(scheduler, attempt.runner),
        status: match (end, attempt.started) {
            (Some(_), _) => Status::Finished,
            (None, Some(_)) => Status::Running,
            (None, None) => Status::Queued,
        },
        cause: end.map(|end| cause(end.cause, end.conclusion).to_owned()),
        started_ms: attempt.started.map(WallTime::as_millis),
        finished_ms: end.map(|end| end.at.as_millis()),
        log_bytes: end.map_or(0, |end| end.log_bytes),
    }
}

fn runner_name(scheduler: &Scheduler, id: RunnerId) -> String {
    let known = scheduler.known_runner(id);
    known.map_or_else(|| format!("runner {id}"), |runner| runner.name.clone())
}

/// Why an attempt ended, as a word: how its steps ended, or what kept them from it.
fn cause(cause: Cause, ended: Recorded) -> &'static str {
    match cause {
        Cause::RunnerLost => "runner_lost",
        Cause::RunnerRestarted => "runner_restarted",
        Cause::Rejected => "rejected",
        Cause::Workspace => "workspace",
        Cause::Source => "source",
        Cause::ImagePull => "image_pull",
        Cause::RunnerError => "runner_error",
        Cause::Timeout => "timed_out",
        Cause::Canceled => "canceled",
        Cause::Completed | Cause::Unspecified => {
            conclusion(ended).map_or("error", Conclusion::as_str)
        }
    }
}

/// A recorded conclusion; none while there is none.
pub(crate) fn conclusion(recorded: Recorded) -> Option<Conclusion> {
    Some(match recorded {
        Recorded::Unspecified => return None,
        Recorded::Success => Conclusion::Success,
        Recorded::Failure => Conclusion::Failure,
        Recorded::Error => Conclusion::Error,
        Recorded::Killed => Conclusion::Killed,
        Recorded::Canceled => Conclusion::Canceled,
        Recorded::Skipped => Conclusion::Skipped,
        Recorded::Blocked => Conclusion::Blocked,
        Recorded::Declined => Conclusion::Declined,
        Recorded::TimedOut => Conclusion::TimedOut,
    })
}

/// What [`conclusion`] gave, back in the words of the journal.
pub(crate) fn recorded_conclusion(conclusion: Conclusion) -> Recorded {
    match conclusion {
        Conclusion::Success => Recorded::Success,
        Conclusion::Failure => Recorded::Failure,
        Conclusion::Error => Recorded::Error,
        Conclusion::Killed => Recorded::Killed,
        Conclusion::Canceled => Recorded::Canceled,
        Conclusion::Skipped => Recorded::Skipped,
        Conclusion::Blocked => Recorded::Blocked,
        Conclusion::Declined => Recorded::Declined,
        Conclusion::TimedOut => Recorded::TimedOut,
    }
}

/// How a runner says that something ended, in the words of the journal.
pub(crate) fn recorded(outcome: v1::Outcome) -> Recorded {
    match outcome {
        v1::Outcome::Success => Recorded::Success,
        v1::Outcome::Failure => Recorded::Failure,
        v1::Outcome::Error | v1::Outcome::Unspecified => Recorded::Error,
        v1::Outcome::Canceled => Recorded::Canceled,
        v1::Outcome::Skipped => Recorded::Skipped,
        v1::Outcome::TimedOut => Recorded::TimedOut,
        v1::Outcome::Killed => Recorded::Killed,
    }
}

/// A run with its jobs as it is in the scheduler, steps as they are in the plan.
pub(crate) fn run_view(scheduler: &Scheduler, run: &Run) -> RunView {
    let jobs = run.jobs.iter().enumerate().filter_map(|(place, job)| {
        let planned = run.plan.plan().jobs.get(place)?;
        let state = job_state(scheduler, run, place, job);
        let steps = planned.steps.iter().map(PlannedStep::new);
        Some(JobView {
            id: state.id,
            key: planned.key.clone(),
            job_id: planned.id.clone(),
            name: planned.name.clone(),
            needs: planned.needs.clone(),
            status: state.status,
            conclusion: state.conclusion,
            allowed: state.allowed,
            reason: state.reason,
            approval: state.approval,
            carried_from: carried_from(run, place),
            attempts: state.attempts,
            steps: (0..)
                .zip(steps)
                .map(|(index, step)| step.queued(index))
                .collect(),
            outputs: state.outputs,
            queued_ms: state.queued_ms,
            started_ms: state.started_ms,
            finished_ms: state.finished_ms,
        })
    });
    summary(run).with_jobs(jobs.collect())
}

/// A step as it is in the plan; for what a runner does not repeat.
pub(crate) fn planned_step(scheduler: &Scheduler, job: JobId, step: u32) -> StepView {
    let planned = scheduler.job(job).and_then(|(run, place, _)| {
        let steps = &run.plan.plan().jobs.get(place)?.steps;
        Some(PlannedStep::new(steps.get(usize::try_from(step).ok()?)?))
    });
    let unknown = || PlannedStep::Alone(format!("step {}", step.saturating_add(1)));
    planned.unwrap_or_else(unknown).queued(step)
}

/// A step that has begun.
pub(crate) fn step_started(planned: StepView, unix_ms: u64, started: &v1::StepStarted) -> StepView {
    StepView {
        name: started.name.clone(),
        status: Status::Running,
        started_ms: Some(unix_ms),
        tries: started.r#try,
        ..planned
    }
}

/// A step that is over, or was skipped.
pub(crate) fn step_finished(
    planned: StepView,
    started_ms: Option<u64>,
    finished: &v1::StepFinished,
) -> StepView {
    StepView {
        status: Status::Finished,
        conclusion: conclusion(recorded(finished.conclusion())),
        exit_code: finished.exit_code,
        started_ms,
        duration_ms: Some(finished.duration_ms),
        message: finished.message.clone(),
        tries: finished.tries,
        ..planned
    }
}

/// The result a runner sent, if it can be read.
pub(crate) fn result(detail: &[u8]) -> Option<v1::JobResult> {
    v1::JobResult::decode(detail).ok()
}
