//! A server that runs.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::Check;
use crate::api::client::Api;
use crate::api::view::{HealthView, QueueView, RunList, RunnerList, RunnerState, RunnerView};
use crate::failure::Failure;

/// Clocks that are further apart confuse whoever reads times of both.
const SKEW_WARN: Duration = Duration::from_secs(5);
/// A job that waits longer may wait for ever.
const WAITING_WARN: Duration = Duration::from_secs(3_600);

/// All checks of the server behind `api`.
pub(crate) async fn checks(api: &Api) -> Vec<Check> {
    let version = match api.get::<Value>("/version").await {
        Ok(version) => version,
        Err(failure) => {
            let hint = failure.hint().unwrap_or_default();
            return vec![Check::fail("reachable", failure.to_string(), hint)];
        }
    };
    let mut checks = vec![
        Check::ok("reachable", format!("{} answers", api.place())),
        same_version(&version),
        clock(api).await,
    ];
    checks.extend(ready(api).await);
    if let Err(failure) = api.get::<RunList>("/api/v1/runs?limit=1").await {
        let hint = failure.hint().unwrap_or_default();
        checks.push(Check::fail("token", failure.to_string(), hint));
        return checks;
    }
    checks.push(Check::ok("token", "accepted"));
    checks.extend(runners(api).await);
    checks.extend(elsewhere(api).await);
    checks.extend(queue(api).await);
    checks
}

fn same_version(version: &Value) -> Check {
    let theirs = version
        .get("version")
        .and_then(Value::as_str)
        .unwrap_or("unknown");
    let ours = env!("CARGO_PKG_VERSION");
    if theirs == ours {
        return Check::ok("version", format!("both are {ours}"));
    }
    let message = format!("the server is {theirs}, this program {ours}");
    Check::warn("version", message, "update the older of the two")
}

async fn clock(api: &Api) -> Check {
    let before = SystemTime::now();
    let date = match api.date("/livez").await {
        Ok(Some(date)) => date,
        Ok(None) => return Check::ok("clock", "the server does not say its time"),
        Err(failure) => return failed("clock", &failure),
    };
    // The header counts whole seconds.
    let apart = date
        .duration_since(before)
        .unwrap_or_else(|error| error.duration());
    if apart > SKEW_WARN {
        let message = format!("its clock and this one are {} s apart", apart.as_secs());
        return Check::warn("clock", message, "synchronise both with a time server");
    }
    Check::ok("clock", "the same time as here")
}

async fn ready(api: &Api) -> Vec<Check> {
    let view = match api.get::<HealthView>("/readyz").await {
        Ok(view) => view,
        Err(failure) => return vec![failed("ready", &failure)],
    };
    let mut checks = vec![Check::ok("ready", "it takes work")];
    let stores = view.checks.iter().filter_map(|(part, state)| {
        let store = part.strip_prefix("store ")?;
        Some(match state.as_str() {
            "ok" => Check::ok("store", format!("{store} is asked")),
            state => {
                let message =
                    format!("{store} is left alone, limits are counted elsewhere: {state}");
                Check::warn("store", message, "see that it runs, and what --store names")
            }
        })
    });
    checks.extend(stores);
    checks
}

/// Runners of other servers with the same store, where there are any. When the store does not
/// answer, `ready` has said so.
async fn elsewhere(api: &Api) -> Option<Check> {
    let path = "/api/v1/runners?limit=1&elsewhere=true";
    let list = api.get::<RunnerList>(path).await.ok()?;
    let runners = list.elsewhere.filter(|runners| !runners.is_empty())?;
    let servers: BTreeSet<&str> = runners.iter().map(|one| one.server.as_str()).collect();
    let servers: Vec<&str> = servers.into_iter().collect();
    let message = format!("{} connected to {}", runners.len(), servers.join(", "));
    Some(Check::ok("runners_elsewhere", message))
}

async fn runners(api: &Api) -> Vec<Check> {
    let list: RunnerList = match api.get("/api/v1/runners?limit=200").await {
        Ok(list) => list,
        Err(failure) => return vec![failed("runners", &failure)],
    };
    let here: Vec<&RunnerView> = list
        .runners
        .iter()
        .filter(|runner| runner.state != RunnerState::Away)
        .collect();
    if here.is_empty() {
        let hint = "`rustci runner --connect ENDPOINT` starts one";
        return vec![Check::warn("runners", "no runner is connected", hint)];
    }
    let mut checks = vec![Check::ok("runners", format!("{} connected", here.len()))];
    let draining: Vec<&str> = here
        .iter()
        .filter(|runner| runner.drained || runner.state == RunnerState::Draining)
        .map(|runner| runner.name.as_str())
        .collect();
    if !draining.is_empty() {
        let message = format!("{} get no new jobs: draining", draining.join(", "));
        checks.push(Check::warn(
            "draining",
            message,
            format!(
                "`rustci runners undrain RUNNER{}` gives one jobs again",
                api.arguments()
            ),
        ));
    }
    let ours = env!("CARGO_PKG_VERSION");
    let others = here.iter().filter(|runner| runner.version != ours);
    let others: Vec<String> = others
        .map(|runner| format!("{} ({})", runner.name, runner.version))
        .collect();
    if !others.is_empty() {
        let message = format!("other versions than {ours}: {}", others.join(", "));
        checks.push(Check::warn(
            "runner_versions",
            message,
            "update them when they are idle",
        ));
    }
    checks
}

async fn queue(api: &Api) -> Vec<Check> {
    let queue: QueueView = match api.get("/api/v1/queue").await {
        Ok(queue) => queue,
        Err(failure) => return vec![failed("queue", &failure)],
    };
    let mut checks = Vec::new();
    if queue.paused {
        let hint = format!("`rustci queue resume{}` goes on", api.arguments());
        checks.push(Check::warn(
            "queue",
            "it is paused: no job is handed out",
            hint,
        ));
    } else {
        let message = format!("{} jobs wait, {} run", queue.queued, queue.running);
        checks.push(Check::ok("queue", message));
    }
    for class in queue.classes.iter().filter(|class| class.runners == 0) {
        let labels = [class.all.join(" + "), class.any.join(" or ")];
        let labels: Vec<&str> = labels
            .iter()
            .map(String::as_str)
            .filter(|text| !text.is_empty())
            .collect();
        let message = format!(
            "{} jobs wait for labels that no runner has: {}",
            class.queued,
            labels.join(" and ")
        );
        checks.push(Check::warn(
            "labels",
            message,
            "start a runner with these labels, or correct `runs-on`",
        ));
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let oldest = queue.oldest_ms.map(Duration::from_millis);
    let waits = oldest
        .map(|since| now.saturating_sub(since))
        .filter(|waits| *waits > WAITING_WARN);
    if let Some(waits) = waits {
        let message = format!("a job has waited for {} min", waits.as_secs() / 60);
        checks.push(Check::warn(
            "stuck",
            message,
            format!(
                "`rustci queue list{0}` shows which, `rustci explain{0}` why",
                api.arguments()
            ),
        ));
    }
    checks
}

fn failed(id: &'static str, failure: &Failure) -> Check {
    Check::fail(id, failure.to_string(), failure.hint().unwrap_or_default())
}
