//! Cache entries: what there is, and removing it.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::{Conflict, NotFound};
use crate::api::extract::{Path, Query};
use crate::api::health::accepting;
use crate::api::page::{Cursor, Limit, Page, Word};
use crate::api::problem::{ApiError, Listed};
use crate::api::runs;
use crate::api::view::{CacheList, CacheView};
use crate::catalogue::CacheEntry;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(remove))
}

/// The query of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CachesQuery {
    /// Only entries of this project.
    #[param(value_type = Option<String>)]
    project: Option<Word>,
    /// Entries in one page.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 20)]
    #[serde(default)]
    limit: Limit,
    /// Where the page begins: the `next` of the page before.
    #[param(value_type = Option<u64>)]
    cursor: Option<Cursor>,
}

/// Lists cache entries, newest first.
#[utoipa::path(
    get, path = "/caches", operation_id = "list_caches", tag = "caches", params(CachesQuery),
    responses((status = 200, description = "A page of entries.", body = CacheList))
)]
async fn list(
    State(app): State<App>,
    Query(query): Query<CachesQuery>,
) -> Result<Page<CacheList>, ApiError> {
    let before = query.cursor.map(|cursor| cursor.0);
    let (limit, entries) = (query.limit.get(), query.limit.entries());
    let project = query.project.map(|project| project.0);
    let ask = move |catalogue: &crate::catalogue::Catalogue| {
        catalogue.caches(project.as_deref(), before, limit.saturating_add(1))
    };
    let mut caches = app.queries.ask(ask).await?;
    let more = caches.len() > entries;
    caches.truncate(entries);
    let next = caches.last().filter(|_| more);
    let next = next.map(|last| last.id.to_string());
    let caches = caches.into_iter().map(CacheView::from).collect();
    let body = CacheList {
        caches,
        next: next.clone(),
    };
    Ok(Page { body, next })
}

/// Removes a cache entry.
#[utoipa::path(
    delete, path = "/caches/{id}", operation_id = "remove_cache", tag = "caches",
    params(("id" = u64, Path, description = "Number of the entry.")),
    responses((status = 204, description = "It is gone."), NotFound, Conflict)
)]
async fn remove(State(app): State<App>, Path(id): Path<u64>) -> Result<StatusCode, ApiError> {
    accepting(&app)?;
    runs::engine(&app)?;
    let removed = app.queries.ask(move |catalogue| catalogue.remove_cache(id));
    match removed.await? {
        true => {
            app.metrics.content.removed("deleted", 1);
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(ApiError::NotFound {
            listed: Listed::Caches,
            what: format!("cache entry {id}"),
        }),
    }
}

impl From<CacheEntry> for CacheView {
    fn from(entry: CacheEntry) -> Self {
        Self {
            id: entry.id,
            project: entry.project,
            scope: entry.scope,
            key: entry.key,
            digest: entry.tree.digest.to_string(),
            files: entry.tree.files,
            bytes: entry.tree.bytes,
            run: entry.run,
            job: entry.job_key,
            created_ms: entry.created_ms,
            used_ms: entry.used_ms,
        }
    }
}
