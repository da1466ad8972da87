//! The formats of the tables, each made from the one before it.
//!
//! The journal forgets runs that are over, so for them the catalogue is the only place: no change
//! of a table may lose what is in it.

use rusqlite::Connection;

use crate::catalogue::{CatalogueError, content, list, origin, reports, retain};

/// What each format adds to the one before it, the oldest first. A step that was released is never
/// edited; a new one goes to the end.
const STEPS: &[&str] = &[
    RUNS,
    origin::TABLES,
    list::INDEXES,
    reports::TABLES,
    content::TABLES,
    retain::INDEX,
];

/// `user_version` after the first step.
const FIRST: i64 = 2;

/// Makes the tables of an empty database, or brings those of an older version up to date.
pub(super) fn to_newest(connection: &Connection) -> Result<(), CatalogueError> {
    let done = done(connection)?;
    for (number, step) in (FIRST..).zip(STEPS).skip(done) {
        if done > 0 {
            tracing::info!(format = number, "changing the tables of the catalogue");
        }
        connection.execute_batch(&format!(
            "BEGIN; {step} PRAGMA user_version = {number}; COMMIT;"
        ))?;
    }
    Ok(())
}

/// Whether steps are left to do.
pub(super) fn is_old(connection: &Connection) -> Result<bool, CatalogueError> {
    Ok(done(connection)? < STEPS.len())
}

/// How many steps have been done.
fn done(connection: &Connection) -> Result<usize, CatalogueError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found == 0 {
        return Ok(0);
    }
    let done = usize::try_from(found - FIRST + 1).ok();
    let known = done.filter(|done| (1..=STEPS.len()).contains(done));
    known.ok_or_else(|| CatalogueError::Format {
        found,
        first: FIRST,
        last: FIRST + i64::try_from(STEPS.len()).unwrap_or(i64::MAX) - 1,
    })
}

const RUNS: &str = "
CREATE TABLE IF NOT EXISTS progress (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    applied INTEGER NOT NULL,
    seq INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO progress VALUES (1, 0, 0);
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    file TEXT NOT NULL,
    status TEXT NOT NULL,
    conclusion TEXT,
    digest TEXT NOT NULL,
    event TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    started_ms INTEGER,
    finished_ms INTEGER,
    seq INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS runs_by_status ON runs (status, id);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    key TEXT NOT NULL,
    job_id TEXT NOT NULL,
    name TEXT NOT NULL,
    needs TEXT NOT NULL,
    step_names TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'blocked',
    conclusion TEXT,
    reason TEXT,
    attempts TEXT NOT NULL DEFAULT '[]',
    outputs TEXT NOT NULL DEFAULT '{}',
    queued_ms INTEGER,
    started_ms INTEGER,
    finished_ms INTEGER,
    allowed INTEGER NOT NULL DEFAULT 0,
    seq INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_by_run ON jobs (run, id);
CREATE TABLE IF NOT EXISTS steps (
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    number INTEGER NOT NULL,
    view TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (job, attempt, number)
) STRICT, WITHOUT ROWID;
";

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i64 {
        connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn an_older_catalogue_keeps_its_runs() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(&format!("{RUNS} PRAGMA user_version = 2;"))
            .unwrap();
        let run = "INSERT INTO runs VALUES (7, 'p', 'ci', 'ci.yaml', 'finished', 'success', 'd',
            'push', 1, 2, 3, 4)";
        connection.execute_batch(run).unwrap();
        assert!(is_old(&connection).unwrap());
        to_newest(&connection).unwrap();
        assert!(!is_old(&connection).unwrap());
        let kept = connection.query_row("SELECT id, priority, rerun_of FROM runs", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        });
        let expected: (i64, String, Option<i64>) = (7, "normal".to_owned(), None);
        assert_eq!(kept.unwrap(), expected);
        to_newest(&connection).unwrap();
    }

    #[test]
    fn tables_of_a_newer_version_are_left_alone() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("PRAGMA user_version = 1000;")
            .unwrap();
        let error = to_newest(&connection).unwrap_err();
        assert!(matches!(error, CatalogueError::Format { found: 1000, .. }));
        assert_eq!(version(&connection), 1000);
    }
}
