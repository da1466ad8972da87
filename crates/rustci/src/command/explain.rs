//! `rustci explain`.

use super::runs::{Which, find, select};
use super::watch::now_ms;
use crate::api::client::Api;
use crate::api::view::{Explanation, JobExplanation, RunView};
use crate::args::ExplainArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::explain;
use crate::server::places;

/// Says why jobs wait or ended, and when they will be done.
///
/// # Errors
/// An unknown run or job, or a place that cannot be asked.
pub(crate) async fn explain(args: &ExplainArgs, out: &mut Output) -> Result<Exit, Failure> {
    let places = places(&args.place).await?;
    let Some(place) = places.first() else {
        return Err(Failure::NoRuns {
            place: "here".to_owned(),
            server: String::new(),
        });
    };
    let (run, job) = split(args.what.as_deref())?;
    let run = find(place, run).await?;
    let api = place.live().await?;
    let explained = match job {
        None => whole(&api, &run).await?,
        Some(job) => some(&api, &run, job).await?,
    };
    if out.format() == Format::Json {
        return out.json(&explained).map(|()| Exit::Success);
    }
    let text = explain::explain(&explained, out.look(), now_ms());
    out.text(&text).map(|()| Exit::Success)
}

/// `RUN`, `RUN/JOB` or nothing.
fn split(what: Option<&str>) -> Result<(Option<u64>, Option<&str>), Failure> {
    let Some(what) = what else {
        return Ok((None, None));
    };
    let (run, job) = match what.split_once('/') {
        Some((run, job)) => (run, Some(job)),
        None => (what, None),
    };
    let number = run.parse().map_err(|_| Failure::Usage {
        message: format!("`{run}` is not the number of a run"),
        hint: "write `rustci explain 7`, or `rustci explain 7/test` for one job".to_owned(),
    })?;
    Ok((Some(number), job))
}

async fn whole(api: &Api, run: &RunView) -> Result<Explanation, Failure> {
    let path = format!("/api/v1/runs/{}/explain", run.id);
    api.get(&path).await
}

/// The jobs that a name means: one, or all instances of a matrix.
async fn some(api: &Api, run: &RunView, name: &str) -> Result<Explanation, Failure> {
    let wanted = select(run, Some(name), Which::All)?;
    let mut jobs: Vec<JobExplanation> = Vec::new();
    for job in &wanted {
        let path = format!("/api/v1/runs/{}/jobs/{}/explain", run.id, job.id);
        jobs.push(api.get(&path).await?);
    }
    let ends = jobs.iter().map(|job| job.estimated_finish_ms).max();
    Ok(Explanation {
        estimated_finish_ms: ends.flatten().filter(|_| wanted.len() == 1),
        jobs,
        left_out: 0,
        ..Explanation::from(run)
    })
}
