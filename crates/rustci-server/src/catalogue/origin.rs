//! What runs were made from: the plan, and what they were started with. For repeating a run that
//! the scheduler has forgotten.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use rustci_scheduler::StoredPlan;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::engine::{KnownRequest, RequestKey};
use crate::limits::REQUEST_KEYS_MAX;

pub(super) const TABLES: &str = "
ALTER TABLE runs ADD COLUMN priority TEXT NOT NULL DEFAULT 'normal';
ALTER TABLE runs ADD COLUMN rerun_of INTEGER;
ALTER TABLE runs ADD COLUMN git_ref TEXT;
ALTER TABLE runs ADD COLUMN git_branch TEXT;
ALTER TABLE runs ADD COLUMN git_commit TEXT;
ALTER TABLE jobs ADD COLUMN approval TEXT;
ALTER TABLE jobs ADD COLUMN carried_from INTEGER;
CREATE INDEX runs_by_project ON runs (project, id);
CREATE INDEX runs_by_file ON runs (file, id);
CREATE INDEX runs_by_event ON runs (event, id);
CREATE INDEX runs_by_branch ON runs (git_branch, id) WHERE git_branch IS NOT NULL;
CREATE INDEX runs_by_commit ON runs (git_commit, id) WHERE git_commit IS NOT NULL;
CREATE INDEX runs_by_end ON runs (finished_ms) WHERE finished_ms IS NOT NULL;
CREATE TABLE plans (
    digest TEXT PRIMARY KEY,
    json TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE origins (
    run INTEGER PRIMARY KEY,
    plan TEXT NOT NULL,
    meta BLOB NOT NULL,
    expanded BLOB NOT NULL,
    idempotency_key TEXT,
    request_digest BLOB
) STRICT;
CREATE INDEX origins_by_plan ON origins (plan);
CREATE INDEX origins_by_key ON origins (run) WHERE idempotency_key IS NOT NULL;
";

/// What a run was made from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The plan as it was submitted.
    pub plan: Arc<StoredPlan>,
    /// The journal's `RunMeta`, encoded.
    pub meta: Vec<u8>,
    /// The matrices that were expanded while it ran: a `RunMeta` with nothing else in it.
    pub expanded: Vec<u8>,
    /// Key under which its client may repeat the request.
    pub idempotency_key: Option<String>,
    /// SHA-256 of that request.
    pub request_digest: Vec<u8>,
}

/// What is stored of an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOrigin {
    /// The plan's canonical JSON.
    pub plan_json: String,
    /// As in [`Origin`].
    pub meta: Vec<u8>,
    /// As in [`Origin`].
    pub expanded: Vec<u8>,
}

pub(super) fn write(
    connection: &Connection,
    run: u64,
    origin: &Origin,
) -> Result<(), CatalogueError> {
    let digest = origin.plan.digest().to_string();
    let known = connection
        .prepare_cached("SELECT 1 FROM plans WHERE digest = ?1")?
        .exists([&digest])?;
    if !known {
        connection
            .prepare_cached("INSERT INTO plans VALUES (?1, ?2)")?
            .execute(params![digest, origin.plan.json()])?;
    }
    let sql = "INSERT INTO origins VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (run) DO UPDATE SET expanded = ?4";
    connection.prepare_cached(sql)?.execute(params![
        run,
        digest,
        origin.meta,
        origin.expanded,
        origin.idempotency_key,
        origin.request_digest,
    ])?;
    Ok(())
}

impl Catalogue {
    /// Requests with keys that began runs since then.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn requests_since(&self, since_ms: u64) -> Result<Vec<KnownRequest>, CatalogueError> {
        let sql = "SELECT origins.run, idempotency_key, request_digest, created_ms
            FROM origins JOIN runs ON runs.id = origins.run
            WHERE idempotency_key IS NOT NULL AND created_ms >= ?1
            ORDER BY origins.run DESC LIMIT ?2";
        let mut statement = self.connection().prepare(sql)?;
        let since = i64::try_from(since_ms).unwrap_or(i64::MAX);
        let limit = i64::try_from(REQUEST_KEYS_MAX).unwrap_or(i64::MAX);
        let known = statement.query_map([since, limit], |row| {
            let key = RequestKey {
                key: row.get(1)?,
                digest: row.get(2)?,
            };
            Ok(KnownRequest {
                key,
                run: row.get(0)?,
                at_ms: row.get(3)?,
            })
        })?;
        Ok(known.collect::<rusqlite::Result<_>>()?)
    }

    /// What a run was made from; `None` for runs that an older version recorded.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn origin(&self, run: u64) -> Result<Option<StoredOrigin>, CatalogueError> {
        let sql = "SELECT plans.json, origins.meta, origins.expanded
            FROM origins JOIN plans ON plans.digest = origins.plan WHERE origins.run = ?1";
        let mut statement = self.connection().prepare_cached(sql)?;
        let run = i64::try_from(run).unwrap_or(i64::MAX);
        let found = statement.query_row([run], |row| {
            Ok(StoredOrigin {
                plan_json: row.get(0)?,
                meta: row.get(1)?,
                expanded: row.get(2)?,
            })
        });
        Ok(found.optional()?)
    }
}
