//! The catalogue as a whole: copied, and recognised by a digest.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::api::view::AttemptView;
use crate::catalogue::{Catalogue, CatalogueError};
use crate::logs::LogKey;

impl Catalogue {
    /// Opens a copy for reading; nobody else may be writing it, and nothing is left beside it.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub(crate) fn open_copy(path: &Path) -> Result<Self, CatalogueError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        Ok(Self {
            connection,
            blobs: None,
        })
    }

    /// Lets SQLite read every page.
    ///
    /// # Errors
    /// A sentence that says what is damaged.
    pub(crate) fn check(&self) -> Result<(), String> {
        let sql = "PRAGMA integrity_check(1)";
        let said: Result<String, _> = self.connection().query_row(sql, [], |row| row.get(0));
        match said {
            Ok(said) if said == "ok" => Ok(()),
            Ok(said) => Err(said),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes everything into a new database at `path`, which has no log beside it. Not synced.
    ///
    /// # Errors
    /// [`CatalogueError`], as on a full disk; the file at `path` is of no use then.
    pub fn copy_to(&self, path: &Path) -> Result<(), CatalogueError> {
        let path = path.to_string_lossy();
        self.connection().execute("VACUUM INTO ?1", [&*path])?;
        Ok(())
    }

    /// BLAKE3 over the rows of all tables. Equal for equal contents, wherever they lie in the file
    /// and however often they were written.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn digest(&self) -> Result<[u8; 32], CatalogueError> {
        let mut hasher = blake3::Hasher::new();
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table'
            AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
        let mut tables = self.connection().prepare(sql)?;
        let names = tables.query_map([], |row| row.get::<_, String>(0))?;
        for name in names {
            self.digest_table(&name?, &mut hasher)?;
        }
        Ok(*hasher.finalize().as_bytes())
    }

    fn digest_table(&self, name: &str, hasher: &mut blake3::Hasher) -> Result<(), CatalogueError> {
        add(hasher, b't', name.as_bytes());
        // Names come from the schema that this program made; quoting them is for form's sake.
        let sql = format!("SELECT * FROM \"{}\"", name.replace('"', "\"\""));
        let mut statement = self.connection().prepare(&sql)?;
        // `seq` counts the changes that were shown to those who follow; it is not what was shown.
        let names = statement.column_names().enumerate();
        let columns = names.filter(|(_, name)| *name != "seq").map(|(at, _)| at);
        let columns: Vec<usize> = columns.collect();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in &columns {
                match row.get_ref(*column)? {
                    ValueRef::Null => add(hasher, b'n', b""),
                    ValueRef::Integer(number) => add(hasher, b'i', &number.to_be_bytes()),
                    ValueRef::Real(number) => add(hasher, b'r', &number.to_be_bytes()),
                    ValueRef::Text(text) => add(hasher, b's', text),
                    ValueRef::Blob(bytes) => add(hasher, b'b', bytes),
                }
            }
        }
        Ok(())
    }

    /// Every attempt that there is: run, job, number.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub(crate) fn attempts(&self) -> Result<Vec<LogKey>, CatalogueError> {
        let sql = "SELECT run, id, attempts FROM jobs WHERE attempts <> '[]' ORDER BY id";
        let mut statement = self.connection().prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (run, job) = (row.get(0)?, row.get(1)?);
            let attempts: Vec<AttemptView> =
                serde_json::from_str(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?;
            found.extend(attempts.iter().map(|attempt| LogKey {
                run,
                job,
                attempt: attempt.number,
            }));
        }
        Ok(found)
    }
}

/// Adds one value: its kind and length stand before it, so that no two rows look the same.
fn add(hasher: &mut blake3::Hasher, kind: u8, bytes: &[u8]) {
    hasher.update(&[kind]);
    hasher.update(&(bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}
