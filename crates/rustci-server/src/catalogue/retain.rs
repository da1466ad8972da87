//! Runs that are old enough to go.

use prost::Message;
use rusqlite::params;
use rustci_pipeline::v1;
use rustci_scheduler::record::RunMeta;

use crate::blobs::BlobDigest;
use crate::catalogue::{Catalogue, CatalogueError};

pub(super) const INDEX: &str = "
CREATE INDEX jobs_by_origin ON jobs (carried_from) WHERE carried_from IS NOT NULL;
";

/// What goes with a run, beside the run itself; the last three need no other.
const OF_A_RUN: &[&str] = &[
    "DELETE FROM steps WHERE job IN (SELECT id FROM jobs WHERE run = ?1)",
    "DELETE FROM jobs WHERE run = ?1",
    "DELETE FROM summaries WHERE run = ?1",
    "DELETE FROM reports WHERE run = ?1",
    "DELETE FROM test_results WHERE run = ?1",
    "DELETE FROM artifacts WHERE run = ?1",
    "DELETE FROM result_blobs WHERE run = ?1",
    "DELETE FROM origins WHERE run = ?1",
    "DELETE FROM runs WHERE id = ?1",
];

impl Catalogue {
    /// Runs that ended before then and of which no kept run took over a job, the oldest first.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn runs_ended_before(&self, ms: u64, limit: u32) -> Result<Vec<u64>, CatalogueError> {
        let sql = "SELECT id FROM runs WHERE finished_ms < ?1
            AND NOT EXISTS (SELECT 1 FROM jobs WHERE carried_from = runs.id)
            ORDER BY finished_ms LIMIT ?2";
        let mut statement = self.connection().prepare_cached(sql)?;
        let before = i64::try_from(ms).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![before, limit], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Removes runs with everything about them. What only they named in the blobs goes with a later
    /// sweep.
    ///
    /// # Errors
    /// [`CatalogueError`]; nothing is removed then.
    pub fn remove_runs(&self, runs: &[u64]) -> Result<(), CatalogueError> {
        let transaction = self.connection().unchecked_transaction()?;
        for run in runs {
            let run = i64::try_from(*run).unwrap_or(i64::MAX);
            for sql in OF_A_RUN {
                transaction.prepare_cached(sql)?.execute([run])?;
            }
        }
        let unused = "DELETE FROM plans WHERE digest NOT IN (SELECT plan FROM origins)";
        transaction.execute(unused, [])?;
        transaction.commit()?;
        Ok(())
    }

    /// The archives that runs work on, or would be repeated with.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn sources(&self) -> Result<Vec<BlobDigest>, CatalogueError> {
        let mut statement = self
            .connection()
            .prepare_cached("SELECT meta FROM origins")?;
        let metas = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let mut sources = Vec::new();
        for meta in metas {
            sources.extend(source(&meta?));
        }
        sources.sort_unstable();
        sources.dedup();
        Ok(sources)
    }
}

fn source(meta: &[u8]) -> Option<BlobDigest> {
    let meta = RunMeta::decode(meta).ok()?;
    match v1::Source::decode(meta.source.as_slice()).ok()?.kind? {
        v1::source::Kind::Snapshot(snapshot) => snapshot.digest.as_slice().try_into().ok(),
        v1::source::Kind::Git(_) => None,
    }
}
