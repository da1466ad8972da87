//! Artifacts and caches: what jobs left behind, who may find it, and what goes first.

use rusqlite::{OptionalExtension, Row, Transaction, params};
use rustci_pipeline::v1;
use rustci_scheduler::record::RunMeta;

use crate::blobs::{BlobDigest, Blobs};
use crate::catalogue::{Catalogue, CatalogueError, Finished};

pub(super) const TABLES: &str = "
CREATE TABLE artifacts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    job INTEGER NOT NULL,
    job_key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    UNIQUE (run, name)
) STRICT;
CREATE INDEX artifacts_by_expiry ON artifacts (expires_ms);
CREATE TABLE caches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    run INTEGER NOT NULL,
    job_key TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    used_ms INTEGER NOT NULL,
    UNIQUE (project, scope, key)
) STRICT;
CREATE TABLE result_blobs (
    digest BLOB NOT NULL,
    run INTEGER NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (digest, run, job)
) STRICT, WITHOUT ROWID;
";

/// Scope of what trusted runs write, and everybody reads.
pub(crate) const TRUSTED: &str = "trusted";

/// An artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its number.
    pub id: u64,
    /// The run it is of.
    pub run: u64,
    /// The job that made it.
    pub job: u64,
    /// Its key.
    pub job_key: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// Unique in the run.
    pub name: String,
    /// What is in it.
    pub tree: StoredTree,
    /// Bytes that were new when it came.
    pub stored_bytes: u64,
    /// When it came.
    pub created_ms: u64,
    /// When it goes.
    pub expires_ms: u64,
}

/// A tree in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredTree {
    /// Digest of its manifest.
    pub digest: BlobDigest,
    /// Files and links.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// An entry of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// Its number.
    pub id: u64,
    /// The project it is of.
    pub project: String,
    /// Who may read it.
    pub scope: String,
    /// Unique in project and scope.
    pub key: String,
    /// What is in it.
    pub tree: StoredTree,
    /// The run that saved it.
    pub run: u64,
    /// Key of the job that saved it.
    pub job_key: String,
    /// When it was saved.
    pub created_ms: u64,
    /// When it was last restored, or saved.
    pub used_ms: u64,
}

/// A cache that somebody looks for.
#[derive(Debug, Clone, Default)]
pub struct CacheQuery {
    /// The project.
    pub project: String,
    /// The scope of the run: its own first, then that of trusted runs.
    pub scope: String,
    /// The key.
    pub key: String,
    /// Beginnings of other keys, in order.
    pub restore_keys: Vec<String>,
    /// Now.
    pub now_ms: u64,
}

const ARTIFACT: &str = "id, run, job, job_key, attempt, name, digest, files, bytes, stored_bytes,
    created_ms, expires_ms";
const CACHE: &str =
    "id, project, scope, key, digest, files, bytes, run, job_key, created_ms, used_ms";

/// The projection of results into these tables.
pub(super) fn write(
    transaction: &Transaction<'_>,
    finished: &Finished,
    _: Option<&Blobs>,
) -> Result<(), CatalogueError> {
    for artifact in &finished.result.artifacts {
        write_artifact(transaction, finished, artifact)?;
    }
    for cache in &finished.result.caches {
        if let Some(tree) = &cache.saved {
            write_cache(transaction, finished, &cache.key, tree)?;
        }
    }
    let result = &finished.result;
    let reports = result.reports.iter().map(|report| &report.digest);
    let summaries = result.summaries.iter().map(|summary| &summary.digest);
    let sql = "INSERT OR IGNORE INTO result_blobs VALUES (?1, ?2, ?3)";
    let mut statement = transaction.prepare_cached(sql)?;
    for digest in reports.chain(summaries) {
        statement.execute(params![digest, finished.run, finished.job])?;
    }
    Ok(())
}

fn write_artifact(
    transaction: &Transaction<'_>,
    finished: &Finished,
    artifact: &v1::StoredArtifact,
) -> Result<(), CatalogueError> {
    let Some(tree) = &artifact.tree else {
        return Ok(());
    };
    let expires_ms = finished.ended_ms.saturating_add(artifact.expire_ms);
    let sql = "INSERT INTO artifacts (run, job, job_key, attempt, project, name, digest, files,
            bytes, stored_bytes, created_ms, expires_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
        ON CONFLICT (run, name) DO UPDATE SET job = ?2, job_key = ?3, attempt = ?4, digest = ?7,
            files = ?8, bytes = ?9, stored_bytes = ?10, created_ms = ?11, expires_ms = ?12";
    transaction.prepare_cached(sql)?.execute(params![
        finished.run,
        finished.job,
        finished.job_key,
        finished.attempt,
        finished.project,
        artifact.name,
        tree.digest,
        stored(tree.files),
        stored(tree.bytes),
        stored(tree.stored_bytes),
        finished.ended_ms,
        stored(expires_ms),
    ])?;
    Ok(())
}

fn write_cache(
    transaction: &Transaction<'_>,
    finished: &Finished,
    key: &str,
    tree: &v1::Tree,
) -> Result<(), CatalogueError> {
    let sql = "INSERT INTO caches (project, scope, key, digest, files, bytes, run, job_key,
            created_ms, used_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)
        ON CONFLICT (project, scope, key) DO UPDATE SET digest = ?4, files = ?5, bytes = ?6,
            run = ?7, job_key = ?8, created_ms = ?9, used_ms = max(used_ms, ?9)";
    transaction.prepare_cached(sql)?.execute(params![
        finished.project,
        finished.scope,
        key,
        tree.digest,
        stored(tree.files),
        stored(tree.bytes),
        finished.run,
        finished.job_key,
        finished.ended_ms,
    ])?;
    Ok(())
}

/// A number from a runner in the range of the database.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Catalogue {
    /// The artifacts of a run, by number, those behind `after`.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn artifacts(
        &self,
        run: u64,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Artifact>, CatalogueError> {
        let sql = format!(
            "SELECT {ARTIFACT} FROM artifacts WHERE run = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
        );
        let mut statement = self.connection().prepare_cached(&sql)?;
        let rows = statement.query_map(params![stored(run), stored(after), limit], artifact)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// An artifact by its number.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn artifact(&self, id: u64) -> Result<Option<Artifact>, CatalogueError> {
        let sql = format!("SELECT {ARTIFACT} FROM artifacts WHERE id = ?1");
        let mut statement = self.connection().prepare_cached(&sql)?;
        Ok(statement.query_row([stored(id)], artifact).optional()?)
    }

    /// An artifact by its name in a run; of one job when a key is given.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn artifact_named(
        &self,
        run: u64,
        job_key: Option<&str>,
        name: &str,
    ) -> Result<Option<Artifact>, CatalogueError> {
        let sql = format!(
            "SELECT {ARTIFACT} FROM artifacts
             WHERE run = ?1 AND name = ?2 AND (?3 IS NULL OR job_key = ?3)"
        );
        let mut statement = self.connection().prepare_cached(&sql)?;
        let found = statement.query_row(params![stored(run), name, job_key], artifact);
        Ok(found.optional()?)
    }

    /// Removes an artifact; `false` when there is none. Its files go with a later sweep.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn remove_artifact(&self, id: u64) -> Result<bool, CatalogueError> {
        let sql = "DELETE FROM artifacts WHERE id = ?1";
        Ok(self.connection().execute(sql, [stored(id)])? > 0)
    }

    /// The cache entries of a project, or of all, newest first, those before `before`.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn caches(
        &self,
        project: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<CacheEntry>, CatalogueError> {
        let sql = format!(
            "SELECT {CACHE} FROM caches WHERE (?1 IS NULL OR project = ?1) AND id < ?2
             ORDER BY id DESC LIMIT ?3"
        );
        let before = before.map_or(i64::MAX, stored);
        let mut statement = self.connection().prepare_cached(&sql)?;
        let rows = statement.query_map(params![project, before, limit], cache)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Removes a cache entry; `false` when there is none.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn remove_cache(&self, id: u64) -> Result<bool, CatalogueError> {
        let sql = "DELETE FROM caches WHERE id = ?1";
        Ok(self.connection().execute(sql, [stored(id)])? > 0)
    }

    /// Finds a cache entry and notes that it is used: the one with the key, else the newest one
    /// whose key begins with the first of the restore keys that fits any. In each step what the
    /// run's own scope has comes before what trusted runs wrote; other scopes are never seen.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn find_cache(&self, query: &CacheQuery) -> Result<Option<CacheEntry>, CatalogueError> {
        let mut found = self.cache_like(query, &query.key, Match::Whole)?;
        for prefix in &query.restore_keys {
            if found.is_none() {
                found = self.cache_like(query, prefix, Match::Beginning)?;
            }
        }
        if let Some(entry) = &found {
            let sql = "UPDATE caches SET used_ms = max(used_ms, ?2) WHERE id = ?1";
            let mut statement = self.connection().prepare_cached(sql)?;
            statement.execute(params![stored(entry.id), stored(query.now_ms)])?;
        }
        Ok(found)
    }

    fn cache_like(
        &self,
        query: &CacheQuery,
        key: &str,
        how: Match,
    ) -> Result<Option<CacheEntry>, CatalogueError> {
        let fits = match how {
            Match::Whole => "key = ?4",
            // Not LIKE: keys hold `%` and `_` as they are.
            Match::Beginning => "substr(key, 1, length(?4)) = ?4",
        };
        let sql = format!(
            "SELECT {CACHE} FROM caches WHERE project = ?1 AND scope IN (?2, ?3) AND {fits}
             ORDER BY scope = ?2 DESC, created_ms DESC, id DESC LIMIT 1"
        );
        let mut statement = self.connection().prepare_cached(&sql)?;
        let params = params![query.project, query.scope, TRUSTED, key];
        Ok(statement.query_row(params, cache).optional()?)
    }

    /// Every artifact with its project's name left out, for a sweep.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn all_artifacts(&self) -> Result<Vec<Artifact>, CatalogueError> {
        let sql = format!("SELECT {ARTIFACT} FROM artifacts ORDER BY id");
        let mut statement = self.connection().prepare_cached(&sql)?;
        let rows = statement.query_map([], artifact)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Blobs that summaries and reports name.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn result_blobs(&self) -> Result<Vec<BlobDigest>, CatalogueError> {
        let sql = "SELECT DISTINCT digest FROM result_blobs";
        let mut statement = self.connection().prepare_cached(sql)?;
        let rows = statement.query_map([], |row| digest(row, 0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether a result names this blob: a summary, a report, the list of an artifact's files.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn is_in_results(&self, blob: BlobDigest) -> Result<bool, CatalogueError> {
        let sql = "SELECT 1 FROM result_blobs WHERE digest = ?1
            UNION ALL SELECT 1 FROM artifacts WHERE digest = ?1 LIMIT 1";
        let mut statement = self.connection().prepare_cached(sql)?;
        Ok(statement.exists([blob.as_bytes().as_slice()])?)
    }
}

#[derive(Clone, Copy)]
enum Match {
    Whole,
    Beginning,
}

fn artifact(row: &Row<'_>) -> rusqlite::Result<Artifact> {
    Ok(Artifact {
        id: row.get(0)?,
        run: row.get(1)?,
        job: row.get(2)?,
        job_key: row.get(3)?,
        attempt: row.get(4)?,
        name: row.get(5)?,
        tree: tree(row, 6)?,
        stored_bytes: row.get(9)?,
        created_ms: row.get(10)?,
        expires_ms: row.get(11)?,
    })
}

fn cache(row: &Row<'_>) -> rusqlite::Result<CacheEntry> {
    Ok(CacheEntry {
        id: row.get(0)?,
        project: row.get(1)?,
        scope: row.get(2)?,
        key: row.get(3)?,
        tree: tree(row, 4)?,
        run: row.get(7)?,
        job_key: row.get(8)?,
        created_ms: row.get(9)?,
        used_ms: row.get(10)?,
    })
}

fn tree(row: &Row<'_>, at: usize) -> rusqlite::Result<StoredTree> {
    Ok(StoredTree {
        digest: digest(row, at)?,
        files: row.get(at + 1)?,
        bytes: row.get(at + 2)?,
    })
}

fn digest(row: &Row<'_>, at: usize) -> rusqlite::Result<BlobDigest> {
    let bytes: [u8; 32] = row.get(at)?;
    Ok(BlobDigest::from(bytes))
}

/// Whose caches a run writes.
pub(crate) fn cache_scope(meta: &RunMeta) -> String {
    // What a pull request writes is nobody else's: its code may be anybody's.
    if meta.event.starts_with("pull_request") {
        let contexts: Contexts = serde_json::from_str(&meta.contexts_json).unwrap_or_default();
        format!("pr:{}", contexts.git.reference)
    } else {
        TRUSTED.to_owned()
    }
}

#[derive(Default, serde::Deserialize)]
struct Contexts {
    #[serde(default)]
    git: Git,
}

#[derive(Default, serde::Deserialize)]
struct Git {
    #[serde(default, rename = "ref")]
    reference: String,
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::catalogue::migrate;

    fn catalogue() -> Catalogue {
        let connection = Connection::open_in_memory().unwrap();
        migrate::to_newest(&connection).unwrap();
        Catalogue {
            connection,
            blobs: None,
        }
    }

    fn save(catalogue: &mut Catalogue, scope: &str, key: &str, at_ms: u64) {
        let tree = v1::Tree {
            digest: BlobDigest::of(key.as_bytes()).as_bytes().to_vec(),
            files: 1,
            bytes: 10,
            stored_bytes: 10,
        };
        let cache = v1::StoredCache {
            key: key.to_owned(),
            saved: Some(tree),
            ..Default::default()
        };
        let finished = Finished {
            run: 1,
            job: 1,
            job_key: "build".to_owned(),
            attempt: 1,
            project: "p".to_owned(),
            file: "ci.yaml".to_owned(),
            scope: scope.to_owned(),
            ended_ms: at_ms,
            result: v1::JobResult {
                caches: vec![cache],
                ..Default::default()
            },
        };
        let transaction = catalogue.connection_mut().transaction().unwrap();
        write(&transaction, &finished, None).unwrap();
        transaction.commit().unwrap();
    }

    fn find(catalogue: &Catalogue, scope: &str, key: &str, restore: &[&str]) -> Option<String> {
        let query = CacheQuery {
            project: "p".to_owned(),
            scope: scope.to_owned(),
            key: key.to_owned(),
            restore_keys: restore.iter().map(|&key| key.to_owned()).collect(),
            now_ms: 99,
        };
        let found = catalogue.find_cache(&query).unwrap();
        found.map(|entry| format!("{}/{}", entry.scope, entry.key))
    }

    #[test]
    fn the_key_comes_first_then_the_newest_of_the_first_restore_key_that_fits() {
        let mut catalogue = catalogue();
        for (key, at_ms) in [("cargo-a", 1), ("cargo-b", 3), ("cargo-c", 2), ("npm_%", 9)] {
            save(&mut catalogue, TRUSTED, key, at_ms);
        }
        let check = |key: &str, restore: &[&str], expected: Option<&str>| {
            let expected = expected.map(|key| format!("trusted/{key}"));
            assert_eq!(
                find(&catalogue, TRUSTED, key, restore),
                expected,
                "{key} {restore:?}"
            );
        };
        check("cargo-a", &["npm"], Some("cargo-a"));
        check("cargo-z", &["cargo-"], Some("cargo-b"));
        check("cargo-z", &["go-", "cargo-c", "cargo-"], Some("cargo-c"));
        check("x", &["%", "npm%"], None);
        check("x", &[], None);
    }

    #[test]
    fn what_a_pull_request_wrote_is_never_found_by_others() {
        let mut catalogue = catalogue();
        let meta = |event: &str, git_ref: &str| RunMeta {
            event: event.to_owned(),
            contexts_json: serde_json::json!({"git": {"ref": git_ref}}).to_string(),
            ..RunMeta::default()
        };
        let own = cache_scope(&meta("pull_request", "pr/1"));
        let other = cache_scope(&meta("pull_request_target", "pr/2"));
        assert_eq!(cache_scope(&meta("push", "refs/heads/main")), TRUSTED);
        save(&mut catalogue, &own, "key", 5);
        assert_eq!(find(&catalogue, TRUSTED, "key", &["k", ""]), None);
        assert_eq!(find(&catalogue, &other, "key", &["k", ""]), None);
        assert_eq!(
            find(&catalogue, &own, "key", &[]),
            Some("pr:pr/1/key".to_owned())
        );
        save(&mut catalogue, TRUSTED, "key", 6);
        save(&mut catalogue, TRUSTED, "key-newer", 7);
        assert_eq!(
            find(&catalogue, &own, "key", &[]),
            Some("pr:pr/1/key".to_owned())
        );
        assert_eq!(
            find(&catalogue, &other, "key", &[]),
            Some("trusted/key".to_owned())
        );
        assert_eq!(
            find(&catalogue, TRUSTED, "x", &["key"]),
            Some("trusted/key-newer".to_owned())
        );
    }

    #[test]
    fn a_key_that_is_saved_again_is_replaced() {
        let mut catalogue = catalogue();
        save(&mut catalogue, TRUSTED, "key", 5);
        save(&mut catalogue, TRUSTED, "key", 6);
        let entries = catalogue.caches(Some("p"), None, 10).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].created_ms, 6);
        assert!(catalogue.remove_cache(entries[0].id).unwrap());
        assert!(!catalogue.remove_cache(entries[0].id).unwrap());
    }
}
