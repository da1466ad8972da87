//! How long jobs took.

use crate::catalogue::{Catalogue, CatalogueError};
use crate::engine::JobTook;

impl Catalogue {
    /// The times of the newest jobs that succeeded, at most `limit`, the oldest first.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn times(&self, limit: usize) -> Result<Vec<JobTook>, CatalogueError> {
        let mut statement = self.connection().prepare(
            "SELECT runs.project, runs.pipeline, jobs.key, jobs.finished_ms - jobs.started_ms
             FROM jobs JOIN runs ON runs.id = jobs.run
             WHERE jobs.conclusion = 'success' AND jobs.started_ms IS NOT NULL
                 AND jobs.finished_ms >= jobs.started_ms AND jobs.carried_from IS NULL
             ORDER BY jobs.id DESC LIMIT ?1",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map([limit], |row| {
            Ok(JobTook {
                project: row.get(0)?,
                pipeline: row.get(1)?,
                key: row.get(2)?,
                millis: row.get(3)?,
            })
        })?;
        let mut times = rows.collect::<Result<Vec<_>, _>>()?;
        times.reverse();
        Ok(times)
    }
}
