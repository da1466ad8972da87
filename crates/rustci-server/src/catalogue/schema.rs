//! Opening the database: version floor, pragmas, tables.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::catalogue::Catalogue;
use crate::limits::CATALOGUE_CACHE_KIB;

/// Format of the tables. A catalogue of another format is made anew from the journal.
const SCHEMA: i64 = 2;
/// SQLite before 3.51.3 can lose committed writes when a checkpoint races a writer.
const SQLITE_FLOOR: i32 = 3_051_003;

/// Why the catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// The program was built with a SQLite that loses data.
    #[error(
        "SQLite {found} is older than 3.51.3, which fixed lost writes; build with the bundled one"
    )]
    Version {
        /// The version linked in.
        found: String,
    },
    /// There is no catalogue to read.
    #[error("{} holds no catalogue; nothing has run there yet", dir.display())]
    Missing {
        /// The data directory.
        dir: PathBuf,
    },
    /// The database is damaged, or the disk refused.
    #[error(
        "the catalogue failed: {0}; if this stays, delete catalogue.sqlite and restart to rebuild it"
    )]
    Sqlite(#[from] rusqlite::Error),
    /// A stored value is not what this version writes.
    #[error(
        "the catalogue holds a value that cannot be read: {0}; delete catalogue.sqlite and restart to rebuild it"
    )]
    Value(#[from] serde_json::Error),
    /// The system gave no thread.
    #[error("the catalogue thread could not be started: {0}")]
    Thread(std::io::Error),
    /// The catalogue's thread has ended, as at shutdown.
    #[error("the catalogue has stopped")]
    Stopped,
}

impl CatalogueError {
    /// Whether the file itself is broken, so that only a new one helps.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Sqlite(error) => {
                matches!(
                    error.sqlite_error_code(),
                    Some(DatabaseCorrupt | NotADatabase)
                )
            }
            Self::Value(_) => true,
            _ => false,
        }
    }
}

const TABLES: &str = "
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

impl Catalogue {
    /// Opens the catalogue at `path`, making it, or making it anew when its format is another.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn open(path: &Path) -> Result<Self, CatalogueError> {
        check_version()?;
        let connection = Connection::open(path)?;
        configure(&connection)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A projection may lose its last transactions to a power cut, the journal has them.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found != 0 && found != SCHEMA {
            tracing::warn!(
                found,
                known = SCHEMA,
                "the catalogue has another format; rebuilding it"
            );
            connection.execute_batch(
                "DROP TABLE progress; DROP TABLE runs; DROP TABLE jobs; DROP TABLE steps;",
            )?;
        }
        if found != SCHEMA {
            connection.execute_batch(&format!(
                "BEGIN; {TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;"
            ))?;
        }
        Ok(Self { connection })
    }

    /// Opens the catalogue in the data directory `dir` for reading only, beside a process that
    /// may be writing it.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn open_read_only(dir: &Path) -> Result<Self, CatalogueError> {
        check_version()?;
        let path = dir.join("catalogue.sqlite");
        if !path.exists() {
            return Err(CatalogueError::Missing {
                dir: dir.to_owned(),
            });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        configure(&connection)?;
        Ok(Self { connection })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

fn check_version() -> Result<(), CatalogueError> {
    if rusqlite::version_number() < SQLITE_FLOOR {
        return Err(CatalogueError::Version {
            found: rusqlite::version().to_owned(),
        });
    }
    Ok(())
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    // Negative means KiB instead of pages.
    connection.pragma_update(None, "cache_size", -i64::from(CATALOGUE_CACHE_KIB))?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}
