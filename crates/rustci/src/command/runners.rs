//! `rustci runners`.

use serde_json::json;

use super::watch::now_ms;
use crate::api::client::Api;
use crate::api::view::{RunnerList, RunnerView};
use crate::args::{RunnersArgs, RunnersCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::queue as render;
use crate::server::needed;

/// Does what the subcommand says.
///
/// # Errors
/// No server, an unknown runner, or one that is in use.
pub(crate) async fn runners(args: &RunnersArgs, out: &mut Output) -> Result<Exit, Failure> {
    let api = needed(&args.server, "runners")?;
    match &args.command {
        RunnersCommand::List => list(&api, out).await?,
        RunnersCommand::Drain { runner } => set(&api, runner, "drain", out).await?,
        RunnersCommand::Undrain { runner } => set(&api, runner, "undrain", out).await?,
        RunnersCommand::Rm { runner } => remove(&api, runner, out).await?,
    }
    Ok(Exit::Success)
}

async fn all(api: &Api) -> Result<Vec<RunnerView>, Failure> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/api/v1/runners?limit=200{after}");
        let page: RunnerList = api.get(&path).await?;
        all.extend(page.runners);
        match page.next {
            Some(next) => after = format!("&cursor={next}"),
            None => return Ok(all),
        }
    }
}

async fn list(api: &Api, out: &mut Output) -> Result<(), Failure> {
    let runners = all(api).await?;
    match (out.format(), runners.as_slice()) {
        (Format::Json, _) => out.json(&RunnerList {
            runners,
            next: None,
            elsewhere: None,
        }),
        (Format::Text, []) => out.text("no runner has ever connected\n"),
        (Format::Text, runners) => out.text(&render::runners(runners, out.look(), now_ms())),
    }
}

/// The runner with this name or number.
async fn named(api: &Api, runner: &str) -> Result<RunnerView, Failure> {
    let all = all(api).await?;
    let by_name = all.iter().find(|known| known.name == runner);
    let found = by_name.or_else(|| all.iter().find(|known| known.id.to_string() == runner));
    found.cloned().ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|known| known.name.clone()).collect();
        Failure::Usage {
            message: format!("no runner `{runner}` is known on {}", api.place()),
            hint: match names.as_slice() {
                [] => "no runner has ever connected there".to_owned(),
                names => format!("there are {}", names.join(", ")),
            },
        }
    })
}

async fn set(api: &Api, runner: &str, what: &str, out: &mut Output) -> Result<(), Failure> {
    let runner = named(api, runner).await?;
    let path = format!("/api/v1/runners/{}/{what}", runner.id);
    let now: RunnerView = api.post(&path, &json!({})).await?;
    if out.format() == Format::Json {
        return out.json(&now);
    }
    let said = match (now.drained, now.running) {
        (false, _) => format!("{} gets jobs\n", now.name),
        (true, 0) => format!("{} is drained: it has no jobs and gets none\n", now.name),
        (true, 1) => format!("{} is draining: it ends 1 job and gets no more\n", now.name),
        (true, jobs) => format!(
            "{} is draining: it ends {jobs} jobs and gets no more\n",
            now.name
        ),
    };
    out.text(&said)
}

async fn remove(api: &Api, runner: &str, out: &mut Output) -> Result<(), Failure> {
    let runner = named(api, runner).await?;
    api.delete(&format!("/api/v1/runners/{}", runner.id))
        .await?;
    match out.format() {
        Format::Json => {
            out.json(&json!({"runner": runner.id, "name": runner.name, "removed": true}))
        }
        Format::Text => out.text(&format!("{} is forgotten\n", runner.name)),
    }
}
