//! Reading: single runs, pages of runs, and what changed since.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;

use crate::api::view::{
    AttemptView, Conclusion, EventView, GitView, JobView, RunEvent, RunSummary, RunView, Status,
    StepView,
};
use crate::catalogue::{Catalogue, CatalogueError, PlannedStep};

pub(super) const RUN_COLUMNS: &str =
    "id, project, pipeline, file, status, conclusion, digest, event,
    created_ms, started_ms, finished_ms, seq, priority, rerun_of, git_ref, git_branch, git_commit";
const JOB_COLUMNS: &str = "id, key, job_id, name, needs, step_names, status, conclusion, reason,
    attempts, outputs, queued_ms, started_ms, finished_ms, allowed, seq, approval,
    carried_from";

/// What changed in a run since somebody last looked.
#[derive(Debug)]
pub struct ChangedSince {
    /// States in the order in which they came to be, each with its number; a state that was
    /// replaced meanwhile is not among them.
    pub events: Vec<(u64, RunEvent)>,
    /// The run as it is.
    pub run: RunSummary,
}

impl Catalogue {
    /// A run with its jobs and steps.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn run(&self, id: u64) -> Result<Option<RunView>, CatalogueError> {
        let Some((summary, _)) = self.summary(id)? else {
            return Ok(None);
        };
        let mut jobs: Vec<JobView> = self.jobs(id, 0)?.into_iter().map(|(job, _)| job).collect();
        // Instances that a run found out have later numbers than what the file has behind them.
        let mut places = HashMap::new();
        for job in &jobs {
            let next = places.len();
            places.entry(job.job_id.clone()).or_insert(next);
        }
        jobs.sort_by_key(|job| places.get(&job.job_id).copied());
        Ok(Some(summary.with_jobs(jobs)))
    }

    /// What changed in a run after change number `since`; `None` when there is no such run.
    ///
    /// A number this catalogue has not reached yet comes from one that was lost and rebuilt, and
    /// counts as 0.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn changes(&self, id: u64, since: u64) -> Result<Option<ChangedSince>, CatalogueError> {
        let reached: u64 = self
            .connection()
            .query_row("SELECT seq FROM progress", [], |row| row.get(0))?;
        let since = if since > reached { 0 } else { since };
        let Some((run, seq)) = self.summary(id)? else {
            return Ok(None);
        };
        let mut events = Vec::new();
        if seq > since {
            events.push((seq, RunEvent::Run { run: run.clone() }));
        }
        for (job, seq) in self.jobs(id, since)? {
            events.push((seq, RunEvent::Job { job }));
        }
        events.extend(self.step_events(id, since)?);
        events.sort_by_key(|(seq, _)| *seq);
        Ok(Some(ChangedSince { events, run }))
    }

    fn summary(&self, id: u64) -> Result<Option<(RunSummary, u64)>, CatalogueError> {
        let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE id = ?1");
        let id = i64::try_from(id).unwrap_or(i64::MAX);
        let mut statement = self.connection().prepare_cached(&sql)?;
        Ok(statement.query_row([id], summary).optional()?)
    }

    /// The jobs of a run that changed after `since`, with their newest change.
    fn jobs(&self, run: u64, since: u64) -> Result<Vec<(JobView, u64)>, CatalogueError> {
        let sql = format!("SELECT {JOB_COLUMNS} FROM jobs WHERE run = ?1 AND seq > ?2 ORDER BY id");
        let mut statement = self.connection().prepare_cached(&sql)?;
        let mut jobs = collect(statement.query_map(params![run, since], job)?)?;
        for (job, _) in &mut jobs {
            let attempt = job.attempts.last().map_or(0, |attempt| attempt.number);
            self.lay_over(job, attempt)?;
            close_steps(job);
        }
        Ok(jobs)
    }

    /// Replaces the steps of the plan by what they came to in an attempt.
    fn lay_over(&self, job: &mut JobView, attempt: u32) -> Result<(), CatalogueError> {
        let sql = "SELECT view FROM steps WHERE job = ?1 AND attempt = ?2 ORDER BY number";
        let mut statement = self.connection().prepare_cached(sql)?;
        let steps = collect(
            statement.query_map(params![job.id, attempt], |row| column::<StepView>(row, 0))?,
        )?;
        for step in steps {
            let place = usize::try_from(step.index).unwrap_or(usize::MAX);
            match job.steps.get_mut(place) {
                Some(known) => *known = step,
                None => job.steps.push(step),
            }
        }
        Ok(())
    }

    fn step_events(&self, run: u64, since: u64) -> Result<Vec<(u64, RunEvent)>, CatalogueError> {
        // Through the jobs of the run: steps are found by their job.
        let sql = "SELECT steps.job, steps.attempt, steps.view, steps.seq
            FROM jobs JOIN steps ON steps.job = jobs.id WHERE jobs.run = ?1 AND steps.seq > ?2";
        let mut statement = self.connection().prepare_cached(sql)?;
        let rows = statement.query_map(params![run, since], |row| {
            let step = column(row, 2)?;
            Ok((
                row.get(3)?,
                RunEvent::Step {
                    job: row.get(0)?,
                    attempt: row.get(1)?,
                    step,
                },
            ))
        })?;
        collect(rows)
    }
}

/// A runner that is lost cannot say how the step ended that it had begun.
fn close_steps(job: &mut JobView) {
    let Some(ended) = job.attempts.last().and_then(|attempt| attempt.finished_ms) else {
        return;
    };
    let reason = job
        .reason
        .as_deref()
        .filter(|_| job.status == Status::Finished);
    let message = reason.unwrap_or("its attempt ended without it").to_owned();
    let open = |step: &&mut StepView| step.status == Status::Running;
    for step in job.steps.iter_mut().filter(open) {
        step.status = Status::Finished;
        step.conclusion = Some(Conclusion::Error);
        step.duration_ms = step.started_ms.map(|begun| ended.saturating_sub(begun));
        step.message.clone_from(&message);
    }
}

pub(super) fn collect<T>(
    rows: impl Iterator<Item = rusqlite::Result<T>>,
) -> Result<Vec<T>, CatalogueError> {
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn summary(row: &Row<'_>) -> rusqlite::Result<(RunSummary, u64)> {
    let run = RunSummary {
        id: row.get(0)?,
        project: row.get(1)?,
        pipeline: row.get(2)?,
        file: row.get(3)?,
        status: word(row, 4)?,
        conclusion: optional_word(row, 5)?,
        digest: row.get(6)?,
        event: EventView { name: row.get(7)? },
        git: GitView {
            reference: row.get(14)?,
            branch: row.get(15)?,
            commit: row.get(16)?,
        },
        priority: word(row, 12)?,
        rerun_of: row.get(13)?,
        created_ms: row.get(8)?,
        started_ms: row.get(9)?,
        finished_ms: row.get(10)?,
    };
    Ok((run, row.get(11)?))
}

fn job(row: &Row<'_>) -> rusqlite::Result<(JobView, u64)> {
    let planned: Vec<PlannedStep> = column(row, 5)?;
    let attempts: Vec<AttemptView> = column(row, 9)?;
    let job = JobView {
        id: row.get(0)?,
        key: row.get(1)?,
        job_id: row.get(2)?,
        name: row.get(3)?,
        needs: column(row, 4)?,
        status: word(row, 6)?,
        conclusion: optional_word(row, 7)?,
        allowed: row.get(14)?,
        reason: row.get(8)?,
        approval: optional_column(row, 16)?,
        carried_from: row.get(17)?,
        attempts,
        steps: (0..)
            .zip(planned)
            .map(|(index, step)| step.queued(index))
            .collect(),
        outputs: column(row, 10)?,
        queued_ms: row.get(11)?,
        started_ms: row.get(12)?,
        finished_ms: row.get(13)?,
    };
    Ok((job, row.get(15)?))
}

/// A column of JSON text.
fn column<T: DeserializeOwned>(row: &Row<'_>, at: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(at)?.as_str()?;
    serde_json::from_str(text).map_err(|error| unreadable(at, error))
}

fn optional_column<T: DeserializeOwned>(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<T>> {
    match row.get_ref(at)?.as_str_or_null()? {
        Some(_) => column(row, at).map(Some),
        None => Ok(None),
    }
}

/// A column that holds one of the words of an enumeration.
fn word<T: DeserializeOwned>(row: &Row<'_>, at: usize) -> rusqlite::Result<T> {
    let text: String = row.get(at)?;
    serde_json::from_value(text.into()).map_err(|error| unreadable(at, error))
}

fn optional_word<T: DeserializeOwned>(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(at)?;
    text.map(|text| serde_json::from_value(text.into()).map_err(|error| unreadable(at, error)))
        .transpose()
}

fn unreadable(at: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
}

/// Reads the number of the last change, for followers who have no thread to wake them.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT seq FROM progress", [], |row| row.get(0))
}
