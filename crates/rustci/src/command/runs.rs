//! `rustci runs`.

use std::collections::BTreeSet;

use serde_json::json;

use super::reports::load_results;
use super::summary::summary;
use super::tails::load_tails;
use super::watch::{OnInterrupt, Show, json_line, log_json, now_ms, watch};
use super::{approval, rerun};
use crate::api::client::encoded;
use crate::api::follow::{Lines, Logs, follow, log_path};
use crate::api::view::{JobView, LogLine as LineView, RunList, RunView, Status};
use crate::args::filter::RunStatus;
use crate::args::{FilterArgs, RunsArgs, RunsCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::board::{Board, LogLine, Mood};
use crate::render::job::mood;
use crate::render::plain::{Plain, Prefix};
use crate::render::summary::{Next, describe};
use crate::render::table;
use crate::server::{Place, places};

/// Text gathered before it is written.
const TEXT_BYTES: usize = 64 << 10;

/// Does what the subcommand says.
///
/// # Errors
/// An unknown run or job, or a place that cannot be asked.
pub(crate) async fn runs(args: &RunsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let places = match (places(&args.place).await, &args.command) {
        // A list of nothing is a list, here as on a server.
        (Err(Failure::NoRuns { place, .. }), RunsCommand::List { .. }) => {
            return no_runs(&place, out).map(|()| Exit::Success);
        }
        (places, _) => places?,
    };
    let Some(place) = places.first() else {
        return Err(Failure::NoRuns {
            place: "here".to_owned(),
            server: String::new(),
        });
    };
    match &args.command {
        RunsCommand::List { limit, filter } => {
            for (at, place) in places.iter().enumerate() {
                list(place, *limit, filter, at, out).await?;
            }
            Ok(Exit::Success)
        }
        RunsCommand::View { run } => view(place, *run, out).await,
        RunsCommand::Summary { run } => summary(place, *run, out).await,
        RunsCommand::Watch { run } => {
            let run = find(place, *run).await?;
            watch_run(place, &run, out).await
        }
        RunsCommand::Logs {
            run,
            job,
            follow,
            failed,
            attempt,
        } => {
            let run = find(place, *run).await?;
            let which = if *failed { Which::Failed } else { Which::All };
            let jobs = select(&run, job.as_deref(), which)?;
            if *follow {
                follow_logs(place, &run, &jobs, out).await
            } else {
                logs(place, &run, &jobs, *attempt, out).await
            }
        }
        RunsCommand::Cancel {
            run: Some(run),
            filter,
        } if filter.pairs().is_empty() => cancel(place, *run, out).await,
        RunsCommand::Cancel { run: None, filter } if !filter.pairs().is_empty() => {
            cancel_all(place, filter, out).await
        }
        RunsCommand::Cancel { .. } => Err(Failure::Usage {
            message: "runs cancel wants the number of a run, or which runs, and not both"
                .to_owned(),
            hint: "--status, --event, --branch and --pipeline say which".to_owned(),
        }),
        RunsCommand::Approve(answer) => approval::answer(place, "approve", answer, out).await,
        RunsCommand::Decline(answer) => approval::answer(place, "decline", answer, out).await,
        RunsCommand::Rerun(rerun) => rerun::rerun(place, &args.place, rerun, out).await,
    }
}

async fn list(
    place: &Place,
    limit: u32,
    filter: &FilterArgs,
    at: usize,
    out: &mut Output,
) -> Result<(), Failure> {
    let list: RunList = place
        .api
        .get(&format!(
            "/api/v1/runs?limit={limit}{}",
            query(place, filter)
        ))
        .await?;
    if out.format() == Format::Json {
        return out.json(&json!({"place": place.name, "runs": list.runs, "next": list.next}));
    }
    if at > 0 && !list.runs.is_empty() {
        out.text(&format!(
            "\nfrom runs that went on at the same time; reach them with{}\n",
            place.arguments
        ))?;
    }
    match list.runs.as_slice() {
        [] if at == 0 && !filter.pairs().is_empty() => {
            out.text(&format!("no such runs {}\n", place.name))
        }
        [] if at == 0 => no_runs(&place.name, out),
        [] => Ok(()),
        runs => out.text(&table::runs(runs, out.look(), now_ms())),
    }
}

fn no_runs(place: &str, out: &mut Output) -> Result<(), Failure> {
    match out.format() {
        Format::Json => out.json(&json!({"place": place, "runs": [], "next": null})),
        Format::Text => out.text(&format!("no runs yet {place}\n")),
    }
}

/// What a list is asked for, to be put behind `limit`.
fn query(place: &Place, filter: &FilterArgs) -> String {
    let project = place.project.as_deref().map(|name| ("project", name));
    let pairs = filter.pairs().into_iter().chain(project);
    let pairs = pairs.map(|(name, value)| format!("&{name}={}", encoded(value)));
    pairs.collect()
}

/// The run with this number, or the newest.
pub(super) async fn find(place: &Place, run: Option<u64>) -> Result<RunView, Failure> {
    let newest = place
        .api
        .get::<RunList>("/api/v1/runs?limit=1")
        .await?
        .runs
        .first()
        .map(|run| run.id);
    let Some(newest) = newest else {
        return Err(Failure::NoRuns {
            place: place.name.clone(),
            server: place.api.arguments().to_owned(),
        });
    };
    let number = run.unwrap_or(newest);
    let found = place.api.find(&format!("/api/v1/runs/{number}")).await?;
    found.ok_or_else(|| unknown(place, number, newest))
}

pub(super) fn unknown(place: &Place, run: u64, newest: u64) -> Failure {
    Failure::UnknownRun {
        run,
        place: place.name.clone(),
        hint: format!(
            "the newest is {newest}; `rustci runs list{}` shows more",
            place.arguments
        ),
    }
}

async fn view(place: &Place, run: Option<u64>, out: &mut Output) -> Result<Exit, Failure> {
    let run = find(place, run).await?;
    if out.format() == Format::Json {
        return out.json(&run).map(|()| Exit::Success);
    }
    let mut board = Board::new(run);
    load_tails(&place.api, &mut board).await?;
    load_results(&place.api, &mut board).await?;
    let text = describe(&board, out.look(), &next(place, board.run.id), now_ms());
    out.text(&text).map(|()| Exit::Success)
}

async fn watch_run(place: &Place, run: &RunView, out: &mut Output) -> Result<Exit, Failure> {
    let followed = follow(&place.api, run.id, Logs::All).await?;
    let followed = followed.ok_or_else(|| unknown(place, run.id, run.id))?;
    let next = next(place, run.id);
    watch(
        &place.api,
        followed,
        out,
        Show::Run,
        &next,
        OnInterrupt::Leave,
    )
    .await
}

pub(super) fn next(place: &Place, run: u64) -> Next {
    let files = place
        .logs
        .as_ref()
        .map(|logs| crate::dirs::tilde(&logs.join(run.to_string())));
    Next {
        place: place.arguments.clone(),
        files,
        ..Next::default()
    }
}

/// Which of the jobs that a name fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    All,
    Failed,
}

/// The jobs whose logs are meant.
pub(super) fn select(
    run: &RunView,
    wanted: Option<&str>,
    which: Which,
) -> Result<Vec<JobView>, Failure> {
    let named = |job: &&JobView| match wanted {
        Some(wanted) => job.key == wanted || job.job_id == wanted || job.id.to_string() == wanted,
        None => true,
    };
    let jobs: Vec<&JobView> = run.jobs.iter().filter(named).collect();
    if let Some(wanted) = wanted.filter(|_| jobs.is_empty()) {
        let names = run
            .jobs
            .iter()
            .flat_map(|job| [job.job_id.clone(), job.key.clone()]);
        let known = distinct(names);
        let subject = format!("run {}", run.id);
        return Err(Failure::UnknownJob {
            subject,
            job: wanted.to_owned(),
            known,
        });
    }
    let kept = jobs
        .into_iter()
        .filter(|job| which == Which::All || mood(job, run) == Mood::Bad);
    Ok(kept.cloned().collect())
}

/// Without those that came before.
pub(super) fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(name.clone())).collect()
}

fn prefix(jobs: &[JobView]) -> Prefix {
    if jobs.len() == 1 {
        Prefix::Nothing
    } else {
        Prefix::Job
    }
}

async fn follow_logs(
    place: &Place,
    run: &RunView,
    jobs: &[JobView],
    out: &mut Output,
) -> Result<Exit, Failure> {
    let ids: BTreeSet<u64> = jobs.iter().map(|job| job.id).collect();
    let followed = follow(&place.api, run.id, Logs::Of(ids)).await?;
    let followed = followed.ok_or_else(|| unknown(place, run.id, run.id))?;
    let show = Show::Lines(prefix(jobs));
    let exit = watch(
        &place.api,
        followed,
        out,
        show,
        &next(place, run.id),
        OnInterrupt::Leave,
    )
    .await?;
    Ok(if exit == Exit::Interrupted {
        exit
    } else {
        Exit::Success
    })
}

async fn logs(
    place: &Place,
    run: &RunView,
    jobs: &[JobView],
    attempt: Option<u32>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let mut plain = Plain::new(out.look(), prefix(jobs));
    for job in jobs.iter().filter(|job| !job.attempts.is_empty()) {
        let number = attempt.or(job.attempts.last().map(|last| last.number));
        let earlier = attempt.and_then(|number| at_attempt(job, number));
        let board = board_with(run, earlier.as_ref());
        let path = log_path(run.id, job.id, number, "");
        let Some(mut events) = place.api.events(&path, None).await? else {
            return Err(Failure::Usage {
                message: format!("job `{}` has no attempt {}", job.key, number.unwrap_or(1)),
                hint: format!("it has {}", job.attempts.len()),
            });
        };
        let mut joined = Lines::new(job.id);
        let mut text = String::new();
        while let Some(event) = events.next().await?.filter(|event| event.name != "end") {
            if let Some(line) = joined.take(&parse(place, &event.data)?) {
                text.push_str(&shown(&board, &mut plain, &line, out.format())?);
            }
            if text.len() > TEXT_BYTES {
                out.text(&std::mem::take(&mut text))?;
            }
        }
        for line in joined.rest() {
            text.push_str(&shown(&board, &mut plain, &line, out.format())?);
        }
        if out.format() == Format::Text {
            text.push_str(&match &earlier {
                Some(earlier) => plain.attempt_ended(&board, earlier),
                None => plain.all_ended(&board, job),
            });
        }
        out.text(&text)?;
    }
    Ok(Exit::Success)
}

/// A job as it was during an attempt that another one came after; none for the newest. How its
/// steps came out is only known of the newest, so they have no result.
fn at_attempt(job: &JobView, number: u32) -> Option<JobView> {
    let newest = job.attempts.last()?.number;
    if number >= newest {
        return None;
    }
    let mut job = job.clone();
    job.attempts.retain(|attempt| attempt.number <= number);
    (job.status, job.conclusion) = (Status::Running, None);
    for step in &mut job.steps {
        (step.status, step.conclusion) = (Status::Queued, None);
    }
    Some(job)
}

/// The run, with one of its jobs as it was earlier.
fn board_with(run: &RunView, earlier: Option<&JobView>) -> Board {
    let mut run = run.clone();
    if let Some(earlier) = earlier {
        let jobs = run.jobs.iter_mut();
        jobs.filter(|job| job.id == earlier.id)
            .for_each(|job| job.clone_from(earlier));
    }
    Board::new(run)
}

fn shown(
    board: &Board,
    plain: &mut Plain,
    line: &LogLine,
    format: Format,
) -> Result<String, Failure> {
    match format {
        Format::Json => json_line(&log_json(board, line)),
        Format::Text => Ok(plain.log(board, line)),
    }
}

fn parse(place: &Place, data: &str) -> Result<LineView, Failure> {
    serde_json::from_str(data).map_err(|error| place.api.not_understood(error))
}

/// Cancels every run that is not over and has what `filter` names.
async fn cancel_all(place: &Place, filter: &FilterArgs, out: &mut Output) -> Result<Exit, Failure> {
    let api = place.writer().await?;
    let states = match filter.status {
        Some(status) => vec![status],
        None => vec![RunStatus::Queued, RunStatus::Running],
    };
    let mut canceled = 0;
    for status in states {
        let filter = FilterArgs {
            status: Some(status),
            ..filter.clone()
        };
        let wanted = query(place, &filter);
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v1/runs?limit=200{wanted}{cursor}");
            let page: RunList = place.api.get(&path).await?;
            for run in &page.runs {
                let path = format!("/api/v1/runs/{}/cancel", run.id);
                match api.act(&path).await {
                    Ok(true) => {
                        canceled += 1;
                        told(place, run.id, out)?;
                    }
                    // It ended meanwhile, so nothing is left to cancel.
                    Ok(false) | Err(Failure::Refused { .. }) => {}
                    Err(failure) => return Err(failure),
                }
            }
            match page.next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
    }
    if canceled == 0 && out.format() == Format::Text {
        out.text("no run is left to cancel\n")?;
    }
    Ok(Exit::Success)
}

fn told(place: &Place, run: u64, out: &mut Output) -> Result<(), Failure> {
    match out.format() {
        Format::Json => out.json(&json!({"run": run, "cancel": "accepted"})),
        Format::Text => out.text(&format!(
            "canceling run {run}; `rustci runs watch {run}{}` shows its end\n",
            place.arguments
        )),
    }
}

async fn cancel(place: &Place, run: u64, out: &mut Output) -> Result<Exit, Failure> {
    find(place, Some(run)).await?;
    let api = place.writer().await?;
    if !api.act(&format!("/api/v1/runs/{run}/cancel")).await? {
        return Err(unknown(place, run, run));
    }
    told(place, run, out)?;
    Ok(Exit::Success)
}
