//! What the runner tells the server about itself: how busy it is, and what it counts.

use std::convert::Infallible;

use telemetry::Metrics;
use tracing::debug;
use valkyrie::{Link, SendError};

use super::shared::Shared;

/// Families that say something about a runner; the others of the registry are the server's.
const FAMILIES: [&str; 2] = ["process_", "valkyrie_"];

/// Reports now and at every interval of the configuration, until the future is dropped.
pub(crate) async fn keep_reporting(shared: &Shared, link: &Link) -> Infallible {
    // Without randomness several runners would look like one that starts again and again, so
    // nothing is counted then; how busy it is can still be told.
    let mut instance = [0; 16];
    let counted = getrandom::fill(&mut instance).is_ok();
    let metrics = shared.config.metrics.as_ref().filter(|_| counted);
    let mut due = tokio::time::interval(shared.config.report_every);
    loop {
        due.tick().await;
        if let Err(error) = report(shared, link, metrics, &instance) {
            debug!(%error, "nothing reported to the server");
        }
    }
}

fn report(
    shared: &Shared,
    link: &Link,
    metrics: Option<&Metrics>,
    instance: &[u8; 16],
) -> Result<(), SendError> {
    link.session().update_status(&shared.status())?;
    let Some(metrics) = metrics else {
        return Ok(());
    };
    let of_runner = |name: &str| FAMILIES.iter().any(|prefix| name.starts_with(prefix));
    let reports = metrics.reports(instance, of_runner);
    reports
        .iter()
        .try_for_each(|report| link.session().report_metrics(report))
}
