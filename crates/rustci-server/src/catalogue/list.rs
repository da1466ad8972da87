//! Pages of runs, by what they have in common.

use rusqlite::ToSql;
use rusqlite::params_from_iter;

use crate::api::view::{Conclusion, RunList, Status};
use crate::catalogue::query::{RUN_COLUMNS, collect, summary};
use crate::catalogue::{Catalogue, CatalogueError};

pub(super) const INDEXES: &str = "
CREATE INDEX runs_by_pipeline ON runs (pipeline, id);
CREATE INDEX runs_by_conclusion ON runs (conclusion, id);
CREATE INDEX runs_by_time ON runs (created_ms);
";

/// Which runs a list shows: those that have everything that is set.
#[derive(Debug, Clone)]
pub struct RunFilter {
    /// Only runs with a lower id.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: u32,
    /// Only runs of this project.
    pub project: Option<String>,
    /// Only runs of pipelines with this name.
    pub pipeline: Option<String>,
    /// Only runs in this state.
    pub status: Option<Status>,
    /// Only runs that ended so.
    pub conclusion: Option<Conclusion>,
    /// Only runs started by this event.
    pub event: Option<String>,
    /// Only runs of this branch.
    pub branch: Option<String>,
    /// Only runs of this commit, by its full id.
    pub commit: Option<String>,
    /// Only runs accepted at this time or later, in Unix milliseconds.
    pub since_ms: Option<u64>,
}

impl RunFilter {
    /// The newest runs, whatever they are.
    #[must_use]
    pub fn newest(limit: u32) -> Self {
        Self {
            before: None,
            limit,
            project: None,
            pipeline: None,
            status: None,
            conclusion: None,
            event: None,
            branch: None,
            commit: None,
            since_ms: None,
        }
    }

    /// Columns that have one value, those first that few runs share.
    fn columns(&self) -> Vec<(&'static str, &str)> {
        let is_open = self.status.is_some_and(|status| status != Status::Finished);
        let is_rare = self
            .conclusion
            .is_some_and(|end| end != Conclusion::Success);
        let status = self.status.map(Status::as_str);
        let conclusion = self.conclusion.map(Conclusion::as_str);
        let columns = [
            ("git_commit", self.commit.as_deref()),
            ("status", status.filter(|_| is_open)),
            ("git_branch", self.branch.as_deref()),
            ("conclusion", conclusion.filter(|_| is_rare)),
            ("pipeline", self.pipeline.as_deref()),
            ("project", self.project.as_deref()),
            ("event", self.event.as_deref()),
            ("conclusion", conclusion.filter(|_| !is_rare)),
            ("status", status.filter(|_| !is_open)),
        ];
        let set = columns.into_iter();
        set.filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

impl Catalogue {
    /// A page of runs, newest first.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn runs(&self, filter: &RunFilter) -> Result<RunList, CatalogueError> {
        let columns = filter.columns();
        let mut sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE id < ?");
        let before = filter.before.unwrap_or(u64::MAX);
        let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(signed(before))];
        for (place, (column, value)) in columns.iter().enumerate() {
            // The plus hides a column from the planner, which has no numbers to choose by and
            // would as soon take the index of a column that all runs share.
            let hidden = if place == 0 { "" } else { "+" };
            sql.push_str(&format!(" AND {hidden}{column} = ?"));
            values.push(Box::new((*value).to_owned()));
        }
        if let Some(since) = filter.since_ms {
            // Ids and times grow together, so the first run by time bounds the ids.
            sql.push_str(
                " AND +created_ms >= ? AND id >= (SELECT id FROM runs WHERE created_ms >= ?
                 ORDER BY created_ms LIMIT 1)",
            );
            values.push(Box::new(signed(since)));
            values.push(Box::new(signed(since)));
        }
        sql.push_str(" ORDER BY id DESC LIMIT ?");
        values.push(Box::new(filter.limit.saturating_add(1)));
        let mut statement = self.connection().prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(values), summary)?;
        let runs = collect(rows)?.into_iter().map(|(run, _)| run).collect();
        Ok(page(runs, filter.limit))
    }
}

/// Takes off the run that was read to know whether there are more.
fn page(mut runs: Vec<crate::api::view::RunSummary>, limit: u32) -> RunList {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = runs.len() > limit;
    runs.truncate(limit);
    let next = runs.last().filter(|_| more).map(|run| run.id.to_string());
    RunList { runs, next }
}

/// SQLite has no unsigned numbers; nothing here reaches its largest one.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
