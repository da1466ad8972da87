//! What finished attempts leave behind, for tables of their own.

use rusqlite::Transaction;
use rustci_pipeline::v1;

use crate::blobs::Blobs;
use crate::catalogue::{CatalogueError, content, reports};

/// An attempt that ran to its end, with its result as the runner sent it.
///
/// It is told once; after a restart perhaps again, so a `Projection` replaces what it has.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The run.
    pub run: u64,
    /// The job.
    pub job: u64,
    /// Its key in the run.
    pub job_key: String,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// The project of the run.
    pub project: String,
    /// The pipeline file of the run.
    pub file: String,
    /// Who may find the caches it saved.
    pub scope: String,
    /// When it ended.
    pub ended_ms: u64,
    /// What the runner said.
    pub result: v1::JobResult,
}

impl Finished {
    /// Whether anything was left behind beside logs and outputs.
    pub(crate) fn is_bare(result: &v1::JobResult) -> bool {
        result.artifacts.is_empty()
            && result.caches.is_empty()
            && result.reports.is_empty()
            && result.summaries.is_empty()
    }
}

/// Fills the tables of one feature. Contents that results only name are in the blobs, which a test
/// or benchmark may be without.
type Projection = fn(&Transaction<'_>, &Finished, Option<&Blobs>) -> Result<(), CatalogueError>;

/// One per feature.
const PROJECTIONS: &[Projection] = &[reports::project, content::write];

pub(super) fn write(
    transaction: &Transaction<'_>,
    finished: &Finished,
    blobs: Option<&Blobs>,
) -> Result<(), CatalogueError> {
    PROJECTIONS
        .iter()
        .try_for_each(|projection| projection(transaction, finished, blobs))
}
