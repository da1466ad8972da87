//! Coming back: the state from the journal, and the catalogue brought up to it.

use journal::{Index, Recovered};
use prost::Message;
use rustci_scheduler::record::{Record, record::Kind};
use rustci_scheduler::{JobId, ReplayError, Scheduler, SchedulerConfig};

use crate::catalogue::Change;
use crate::engine::states;

/// A scheduler as the journal left it.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) scheduler: Scheduler,
    /// What the catalogue has to be told again; nothing when it was up to date.
    pub(super) changes: Vec<Change>,
}

/// Why the journal cannot be taken up.
#[derive(Debug, thiserror::Error)]
#[error("record {index} of the journal does not fit: {source}; was it written by a newer version?")]
pub struct RecoverError {
    /// Number of the record; 0 for the snapshot.
    index: u64,
    /// What does not fit.
    source: ReplayError,
}

/// The state that the journal holds, before anything goes on.
pub(crate) fn restore_state(
    config: SchedulerConfig,
    recovered: &Recovered,
) -> Result<Scheduler, RecoverError> {
    restore(config, recovered, None).map(|restored| restored.scheduler)
}

/// Rebuilds the scheduler. `applied` is the index up to which the catalogue is complete; with
/// `None` there is no catalogue.
pub(super) fn restore(
    config: SchedulerConfig,
    recovered: &Recovered,
    applied: Option<u64>,
) -> Result<Restored, RecoverError> {
    let at = |index: Index| {
        move |source| RecoverError {
            index: index.get(),
            source,
        }
    };
    let mut scheduler = match recovered.snapshot() {
        Some((_, state)) => Scheduler::restore(config, state).map_err(at(Index::ZERO))?,
        None => Scheduler::new(config),
    };
    let behind = applied.filter(|applied| *applied < recovered.last().get());
    let mut steps = Vec::new();
    for (index, bytes) in recovered.records() {
        let record = Record::decode(bytes).map_err(|error| at(index)(error.into()))?;
        if behind.is_some_and(|applied| index.get() > applied) {
            steps.extend(results_of(&scheduler, &record));
        }
        scheduler.replay(&record).map_err(at(index))?;
    }
    let mut changes = Vec::new();
    if let Some(applied) = behind {
        tracing::info!(
            applied,
            last = recovered.last().get(),
            "bringing the catalogue up to date"
        );
        changes = everything(&scheduler);
        changes.append(&mut steps);
    }
    Ok(Restored { scheduler, changes })
}

/// The states of all runs that the scheduler holds.
fn everything(scheduler: &Scheduler) -> Vec<Change> {
    let mut changes = Vec::new();
    for run in scheduler.runs() {
        changes.push(states::new_run(run));
        for (place, job) in run.jobs.iter().enumerate() {
            changes.push(Change::Job(states::job_state(scheduler, run, place, job)));
        }
    }
    changes
}

/// What is in the result that a record holds, and nowhere else.
fn results_of(scheduler: &Scheduler, record: &Record) -> Vec<Change> {
    let Some(Kind::AttemptEnded(ended)) = &record.kind else {
        return Vec::new();
    };
    let id = JobId(ended.job);
    let Some((run, _, job)) = scheduler.job(id) else {
        return Vec::new();
    };
    let Some(result) = states::result(&ended.detail) else {
        return Vec::new();
    };
    let attempt = u32::try_from(job.attempts.len()).unwrap_or(u32::MAX);
    let left = states::finished(scheduler, record.at_ms, attempt, ended);
    let steps = (0..).zip(&result.steps).map(|(index, finished)| {
        let planned = states::planned_step(scheduler, id, index);
        let step = states::step_finished(planned, None, finished);
        Change::Step {
            run: run.id.0,
            job: ended.job,
            attempt,
            step,
        }
    });
    steps.chain(left).collect()
}
