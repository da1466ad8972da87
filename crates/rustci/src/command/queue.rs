//! `rustci queue`.

use serde_json::json;

use super::watch::now_ms;
use crate::api::client::{Api, encoded};
use crate::api::view::{NewQuota, QueueState, QueueView, QuotaList, QuotaView};
use crate::args::{QueueArgs, QueueCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::queue as render;
use crate::server::needed;

/// The path of the default's quota.
const DEFAULT: &str = "_default";

/// Does what the subcommand says.
///
/// # Errors
/// No server, or one that refuses.
pub(crate) async fn queue(args: &QueueArgs, out: &mut Output) -> Result<Exit, Failure> {
    let api = needed(&args.server, "the queue")?;
    match &args.command {
        QueueCommand::List {
            limit,
            project,
            cursor,
        } => {
            let given = [("project", project), ("cursor", cursor)];
            let given = given
                .iter()
                .filter_map(|(name, value)| Some((name, value.as_deref()?)));
            let more: String = given
                .map(|(name, value)| format!("&{name}={}", encoded(value)))
                .collect();
            let path = format!("/api/v1/queue?limit={limit}{more}");
            list(&api.get(&path).await?, out)?;
        }
        QueueCommand::Pause => set(&api, "pause", out).await?,
        QueueCommand::Resume => set(&api, "resume", out).await?,
        QueueCommand::Quota {
            project: None,
            default: false,
            running: None,
            queued: None,
            weight: None,
            remove: false,
        } => quotas(&api, out).await?,
        QueueCommand::Quota {
            project,
            default,
            running,
            queued,
            weight,
            remove,
        } => {
            let path = quota_path(project.as_deref().or(default.then_some(DEFAULT)))?;
            if *remove {
                api.delete(&path).await?;
            }
            let figures = [*running, *queued, *weight];
            quota(&api, &path, figures, out).await?;
        }
    }
    Ok(Exit::Success)
}

fn list(queue: &QueueView, out: &mut Output) -> Result<(), Failure> {
    match out.format() {
        Format::Json => out.json(queue),
        Format::Text => out.text(&render::queue(queue, out.look(), now_ms())),
    }
}

async fn set(api: &Api, what: &str, out: &mut Output) -> Result<(), Failure> {
    let path = format!("/api/v1/queue/{what}");
    let state: QueueState = api.post(&path, &json!({})).await?;
    match (out.format(), state.paused) {
        (Format::Json, _) => out.json(&state),
        (Format::Text, true) => out.text("the queue is paused; running jobs go on\n"),
        (Format::Text, false) => out.text("the queue goes on\n"),
    }
}

fn quota_path(project: Option<&str>) -> Result<String, Failure> {
    let project = project.ok_or_else(|| Failure::Usage {
        message: "whose quota is meant is not said".to_owned(),
        hint: "name a project, or pass --default for all others".to_owned(),
    })?;
    Ok(format!("/api/v1/projects/{}/quota", encoded(project)))
}

/// Changes the figures that are given and shows what holds.
async fn quota(
    api: &Api,
    path: &str,
    [running, queued, weight]: [Option<u32>; 3],
    out: &mut Output,
) -> Result<(), Failure> {
    let mut quota: QuotaView = api.get(path).await?;
    if running.or(queued).or(weight).is_some() {
        let own = quota.own;
        let figure = |new: Option<u32>, old| new.map_or(old, |new| (new > 0).then_some(new));
        let new = NewQuota {
            running: figure(running, own.running),
            queued: figure(queued, own.queued),
            weight: figure(weight, own.weight),
        };
        quota = api.put(path, &new, None).await?;
    }
    match out.format() {
        Format::Json => out.json(&quota),
        Format::Text => out.text(&render::quotas(&[quota], out.look())),
    }
}

async fn quotas(api: &Api, out: &mut Output) -> Result<(), Failure> {
    let mut all = Vec::new();
    let mut next = Some(String::new());
    while let Some(cursor) = next {
        let after = match cursor.as_str() {
            "" => String::new(),
            cursor => format!("&cursor={cursor}"),
        };
        let page: QuotaList = api.get(&format!("/api/v1/quotas?limit=200{after}")).await?;
        all.extend(page.quotas);
        next = page.next;
    }
    match (out.format(), all.as_slice()) {
        (Format::Json, _) => out.json(&QuotaList {
            quotas: all,
            next: None,
        }),
        (Format::Text, []) => out.text("no quotas are set; every project has weight 1\n"),
        (Format::Text, all) => out.text(&render::quotas(all, out.look())),
    }
}
