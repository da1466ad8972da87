//! Applying changes.

use rusqlite::{Transaction, params};
use serde::Serialize;

use crate::api::view::{RunSummary, StepView};
use crate::blobs::Blobs;
use crate::catalogue::{Catalogue, CatalogueError, Change, JobState, NewJob, origin, results};

impl Catalogue {
    /// The journal index up to which the catalogue is complete.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn applied(&self) -> Result<u64, CatalogueError> {
        let applied = self
            .connection()
            .query_row("SELECT applied FROM progress", [], |row| row.get(0))?;
        Ok(applied)
    }

    /// Applies `changes` in one transaction that stands for the journal up to `applied`.
    ///
    /// # Errors
    /// [`CatalogueError`]; nothing is applied then.
    pub fn apply(&mut self, changes: &[Change], applied: u64) -> Result<(), CatalogueError> {
        let blobs = self.blobs();
        let transaction = self.connection_mut().transaction()?;
        let seq = transaction.query_row("SELECT seq FROM progress", [], |row| row.get(0))?;
        let mut writer = Writer {
            transaction: &transaction,
            blobs: blobs.as_deref(),
            seq,
        };
        for change in changes {
            writer.change(change)?;
        }
        let seq = writer.seq;
        transaction
            .prepare_cached("UPDATE progress SET applied = max(applied, ?1), seq = ?2")?
            .execute(params![applied, seq])?;
        transaction.commit()?;
        Ok(())
    }

    /// Makes everything applied so far survive a power cut.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn checkpoint(&self) -> Result<(), CatalogueError> {
        // With synchronous=NORMAL a checkpoint syncs the log first and the database after.
        self.connection()
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

struct Writer<'t> {
    transaction: &'t Transaction<'t>,
    blobs: Option<&'t Blobs>,
    /// Number of the last change. Readers who follow a run resume behind such a number.
    seq: u64,
}

impl Writer<'_> {
    fn change(&mut self, change: &Change) -> Result<(), CatalogueError> {
        self.seq += 1;
        match change {
            Change::NewRun { run, jobs, origin } => {
                self.run(run)?;
                origin::write(self.transaction, run.id, origin)?;
                jobs.iter().try_for_each(|job| self.new_job(run.id, job))
            }
            Change::Run(run) => self.run(run),
            Change::Job(job) => self.job(job),
            Change::Step {
                job, attempt, step, ..
            } => self.step(*job, *attempt, step),
            Change::Finished(finished) => results::write(self.transaction, finished, self.blobs),
        }
    }

    fn run(&self, run: &RunSummary) -> Result<(), CatalogueError> {
        let sql =
            "INSERT INTO runs (id, project, pipeline, file, status, conclusion, digest, event,
                created_ms, started_ms, finished_ms, seq, priority, rerun_of, git_ref, git_branch,
                git_commit)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
            ON CONFLICT (id) DO UPDATE SET status = ?5, conclusion = ?6, started_ms = ?10,
                finished_ms = ?11, seq = ?12";
        self.transaction.prepare_cached(sql)?.execute(params![
            run.id,
            run.project,
            run.pipeline,
            run.file,
            run.status.as_str(),
            run.conclusion.map(crate::api::view::Conclusion::as_str),
            run.digest,
            run.event.name,
            run.created_ms,
            run.started_ms,
            run.finished_ms,
            self.seq,
            run.priority.as_str(),
            run.rerun_of,
            run.git.reference,
            run.git.branch,
            run.git.commit,
        ])?;
        Ok(())
    }

    fn new_job(&self, run: u64, job: &NewJob) -> Result<(), CatalogueError> {
        let sql = "INSERT INTO jobs (id, run, key, job_id, name, needs, step_names, seq,
                carried_from)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
            ON CONFLICT (id) DO UPDATE SET key = ?3, name = ?5, needs = ?6, step_names = ?7,
                seq = ?8";
        self.transaction.prepare_cached(sql)?.execute(params![
            job.id,
            run,
            job.key,
            job.job_id,
            job.name,
            json(&job.needs)?,
            json(&job.steps)?,
            self.seq,
            job.carried_from,
        ])?;
        Ok(())
    }

    fn job(&self, job: &JobState) -> Result<(), CatalogueError> {
        let sql = "UPDATE jobs SET status = ?2, conclusion = ?3, reason = ?4, attempts = ?5,
            outputs = ?6, queued_ms = ?7, started_ms = ?8, finished_ms = ?9, allowed = ?10,
            seq = ?11, approval = ?12 WHERE id = ?1";
        self.transaction.prepare_cached(sql)?.execute(params![
            job.id,
            job.status.as_str(),
            job.conclusion.map(crate::api::view::Conclusion::as_str),
            job.reason,
            json(&job.attempts)?,
            json(&job.outputs)?,
            job.queued_ms,
            job.started_ms,
            job.finished_ms,
            job.allowed,
            self.seq,
            job.approval.as_ref().map(json).transpose()?,
        ])?;
        Ok(())
    }

    fn step(&self, job: u64, attempt: u32, step: &StepView) -> Result<(), CatalogueError> {
        let sql = "INSERT INTO steps VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT DO UPDATE SET view = ?4, seq = ?5";
        self.transaction.prepare_cached(sql)?.execute(params![
            job,
            attempt,
            step.index,
            json(step)?,
            self.seq
        ])?;
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string(value)
}
