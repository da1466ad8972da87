//! The catalogue: runs, jobs and steps as people ask for them, in SQLite.
//!
//! It is a projection. The engine sends what changed once that is durable in the journal, and each
//! transaction stores the journal index it stands for, so that a restart sees whether the catalogue
//! is behind and sends it everything again. One thread owns the connection that writes; others only
//! read. Whoever changed something waits until it is here before saying so, and finds it then.

mod content;
mod copy;
mod history;
mod list;
mod migrate;
mod origin;
mod planned;
mod query;
mod readers;
#[cfg(test)]
mod report_tests;
mod reports;
mod results;
mod retain;
mod schema;
mod subscribe;
#[cfg(test)]
mod tests;
mod thread;
mod times;
mod write;

use std::sync::Arc;

use rusqlite::Connection;

use crate::api::view::{ApprovalView, AttemptView, Conclusion, RunSummary, Status, StepView};
use crate::blobs::Blobs;

pub(crate) use content::cache_scope;
pub use content::{Artifact, CacheEntry, CacheQuery, StoredTree};
pub use history::HistoryFilter;
pub use list::RunFilter;
pub use origin::{Origin, StoredOrigin};
pub use planned::PlannedStep;
pub use query::ChangedSince;
pub(crate) use readers::Query;
pub use reports::{TestFilter, Texts};
pub use results::Finished;
pub use schema::CatalogueError;
pub use subscribe::Subscriptions;
pub use thread::{CatalogueThread, Handed, Queries, Updates};

/// Something that changed and is durable in the journal.
#[derive(Debug, Clone)]
pub enum Change {
    /// A run began, or has to be known again after the catalogue fell behind.
    NewRun {
        /// The run.
        run: RunSummary,
        /// Its jobs, in the order of the plan.
        jobs: Vec<NewJob>,
        /// What it was made from.
        origin: Origin,
    },
    /// A run's new state.
    Run(RunSummary),
    /// A job's new state.
    Job(JobState),
    /// A step's new state.
    Step {
        /// The run.
        run: u64,
        /// The job.
        job: u64,
        /// Number of the attempt.
        attempt: u32,
        /// The state.
        step: StepView,
    },
    /// An attempt ran to its end and left something behind.
    Finished(Box<Finished>),
}

/// What never changes about a job.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Unique on the server.
    pub id: u64,
    /// Unique in the run.
    pub key: String,
    /// The id in the file.
    pub job_id: String,
    /// For people.
    pub name: String,
    /// Ids of the jobs it needs.
    pub needs: Vec<String>,
    /// Its steps in the file.
    pub steps: Vec<PlannedStep>,
    /// The run in which it really ran, where a rerun took it over.
    pub carried_from: Option<u64>,
}

/// What changes about a job.
#[derive(Debug, Clone)]
pub struct JobState {
    /// Its run.
    pub run: u64,
    /// The job.
    pub id: u64,
    /// Where it is.
    pub status: Status,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// It failed and was allowed to.
    pub allowed: bool,
    /// Why it waits or ended so.
    pub reason: Option<String>,
    /// The agreement that it waits for, or waited for.
    pub approval: Option<ApprovalView>,
    /// Its attempts.
    pub attempts: Vec<AttemptView>,
    /// Its outputs.
    pub outputs: std::collections::BTreeMap<String, String>,
    /// When it became ready.
    pub queued_ms: Option<u64>,
    /// When its newest attempt started.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub finished_ms: Option<u64>,
}

/// An open catalogue.
#[derive(Debug)]
pub struct Catalogue {
    connection: Connection,
    /// Where the contents are that results name.
    blobs: Option<Arc<Blobs>>,
}
