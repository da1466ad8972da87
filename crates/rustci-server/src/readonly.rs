//! Looking into a data directory without owning it.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use telemetry::Metrics;

use crate::api::{self, App};
use crate::blobs::Blobs;
use crate::catalogue::{Catalogue, CatalogueError, CatalogueThread};
use crate::content::{Content, ContentConfig};
use crate::health::{Health, HealthCell};
use crate::logs::LogFollower;
use crate::paths::Layout;
use crate::pipelines::Schedules;

/// A data directory open for reading; another process may be running on it.
///
/// It answers the same GET routes as a [`Server`](crate::Server), and follows runs and logs by
/// looking at the files every 50 ms.
#[derive(Debug)]
pub struct ReadOnly {
    app: App,
    _catalogue: CatalogueThread,
}

impl ReadOnly {
    /// Opens the data directory `dir`.
    ///
    /// # Errors
    /// [`CatalogueError`]: `Missing` when nothing has ever run there.
    pub fn open(dir: &Path) -> Result<Self, CatalogueError> {
        let blobs = Arc::new(Blobs::read_only(&Layout(dir).blobs()));
        let content = Arc::new(Blobs::read_only(&Layout(dir).content()));
        let catalogue = Catalogue::open_read_only(dir)?.with_blobs(Arc::clone(&content));
        let catalogue = CatalogueThread::start_read_only(catalogue)?;
        let health = HealthCell::default();
        health.set(Health::ReadOnly);
        let app = App {
            // Whoever can read the files needs no token to be told what is in them.
            token: None,
            job_tokens: None,
            engine: None,
            queries: catalogue.queries(),
            logs: LogFollower::Files(Layout(dir).logs()),
            blobs,
            content: Content::new(content, ContentConfig::default()),
            secrets: None,
            backups: None,
            schedules: Schedules::default(),
            health,
            metrics: Metrics::new(),
            api_limit: None,
            shared: None,
        };
        Ok(Self {
            app,
            _catalogue: catalogue,
        })
    }

    /// The API: what only reads works, everything else answers `read_only`.
    pub fn router(&self) -> Router {
        api::router(self.app.clone())
    }
}
