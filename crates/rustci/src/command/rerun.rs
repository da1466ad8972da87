//! `rustci runs rerun`.

use std::path::Path;

use crate::api::client::Api;
use crate::api::follow::{Logs, follow};
use crate::api::view::{RerunRequest, RunCreated, RunView};
use crate::args::{PlaceArgs, RerunArgs};
use crate::dirs;
use crate::engine::{Engine, EngineOptions, LOOPBACK};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::project::Project;
use crate::server::Place;

use super::runs::{find, next, unknown};
use super::watch::{OnInterrupt, Show, watch};

/// Repeats a run: on its server, or here with a server and a runner of our own.
///
/// # Errors
/// An unknown run or job, a run that goes on, or one whose source is gone.
pub(crate) async fn rerun(
    place: &Place,
    at: &PlaceArgs,
    args: &RerunArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let run = find(place, Some(args.run)).await?;
    let Some(data) = &place.local else {
        let next = repeat(&place.api, args).await?;
        return if args.watch {
            follow_to_end(&place.api, place, next.id, (out, OnInterrupt::Leave)).await
        } else {
            say(place, &run, &next, out)
        };
    };
    let path = at.project.as_deref().unwrap_or(Path::new("."));
    let project = Project::find(path).or_else(|_| Project::at(path))?;
    let engine = Engine::start(EngineOptions {
        // The jobs are not known here, and one of them may ask the API.
        http: Some(LOOPBACK),
        data: data.clone(),
        secrets_file: args.secrets_file.clone(),
        secrets_dir: dirs::local_secrets(&project),
        labels: args.labels.clone(),
        keep_workspaces: None,
    })
    .await?;
    match repeat_here(&engine, place, args, out).await {
        Ok(exit) => engine.stop().map(|()| exit),
        // Nobody waits for the jobs any more, so they must not be waited for here either.
        Err(failure) => {
            engine.abandon();
            Err(failure)
        }
    }
}

async fn repeat_here(
    engine: &Engine,
    place: &Place,
    args: &RerunArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let next = repeat(engine.api(), args).await?;
    follow_to_end(engine.api(), place, next.id, (out, OnInterrupt::Cancel)).await
}

async fn repeat(api: &Api, args: &RerunArgs) -> Result<RunView, Failure> {
    let request = RerunRequest {
        failed: args.failed,
        jobs: args.job.clone(),
    };
    let path = format!("/api/v1/runs/{}/rerun", args.run);
    let created: RunCreated = api.post(&path, &request).await?;
    Ok(created.run)
}

async fn follow_to_end(
    api: &Api,
    place: &Place,
    run: u64,
    (out, on_interrupt): (&mut Output, OnInterrupt),
) -> Result<Exit, Failure> {
    let followed = follow(api, run, Logs::All).await?;
    let followed = followed.ok_or_else(|| unknown(place, run, run))?;
    watch(
        api,
        followed,
        out,
        Show::Run,
        &next(place, run),
        on_interrupt,
    )
    .await
}

fn say(place: &Place, run: &RunView, next: &RunView, out: &mut Output) -> Result<Exit, Failure> {
    match out.format() {
        Format::Json => out.json(&RunCreated { run: next.clone() })?,
        Format::Text => out.text(&format!(
            "run {} repeats run {}; `rustci runs watch {}{}` follows it\n",
            next.id, run.id, next.id, place.arguments
        ))?,
    }
    Ok(Exit::Success)
}
