//! Opening the database: version floor, pragmas, tables.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use crate::blobs::Blobs;
use crate::catalogue::{Catalogue, migrate};
use crate::limits::CATALOGUE_CACHE_KIB;

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
    /// The tables have a format that this program does not know.
    #[error(
        "the catalogue has format {found}, this program knows {first} to {last}; use the version of rustci that wrote it, or a newer one"
    )]
    Format {
        /// The format found.
        found: i64,
        /// The oldest format that is known.
        first: i64,
        /// The newest one.
        last: i64,
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

impl Catalogue {
    /// Opens the catalogue at `path`, making it, or bringing its tables to the newest format.
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
        migrate::to_newest(&connection)?;
        Ok(Self {
            connection,
            blobs: None,
        })
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
        migrate_if_old(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        configure(&connection)?;
        Ok(Self {
            connection,
            blobs: None,
        })
    }

    /// Another connection to the same database, for reading only.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub(super) fn reader(&self) -> Result<Self, CatalogueError> {
        let path = self.connection.path().unwrap_or_default();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        configure(&connection)?;
        Ok(Self {
            connection,
            blobs: self.blobs.clone(),
        })
    }

    /// Lets results be read whose contents are in `blobs`.
    #[must_use]
    pub fn with_blobs(self, blobs: Arc<Blobs>) -> Self {
        Self {
            blobs: Some(blobs),
            ..self
        }
    }

    pub(super) fn blobs(&self) -> Option<Arc<Blobs>> {
        self.blobs.clone()
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// A reader cannot change tables that an older version left; so somebody who can does it first.
fn migrate_if_old(path: &Path) -> Result<(), CatalogueError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    configure(&connection)?;
    if migrate::is_old(&connection)? {
        drop(connection);
        Catalogue::open(path)?;
    }
    Ok(())
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
