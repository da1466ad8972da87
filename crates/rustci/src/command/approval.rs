//! Approvals: `rustci runs approve`, `rustci runs decline`, and `rustci run --approve`.

use std::collections::BTreeSet;

use serde_json::json;

use super::runs::{find, unknown};
use crate::api::client::Api;
use crate::api::view::{AnswerRequest, JobView, RunEvent, RunView, Status};
use crate::args::AnswerArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output, complain};
use crate::render::summary::shell_word;
use crate::server::Place;

/// Gives an answer; `word` is `approve` or `decline`.
///
/// # Errors
/// An unknown run or job, one that does not ask, or a place that cannot be told.
pub(crate) async fn answer(
    place: &Place,
    word: &str,
    args: &AnswerArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let run = find(place, Some(args.run)).await?;
    let job = choose(place, &run, args.job.as_deref())?;
    let answer = AnswerRequest {
        by: user(),
        comment: args.comment.clone().unwrap_or_default(),
    };
    let path = format!("/api/v1/runs/{}/jobs/{}/{word}", run.id, job.id);
    if !place.writer().await?.tell(&path, &answer).await? {
        return Err(unknown(place, run.id, run.id));
    }
    let done = if word == "approve" {
        "approved"
    } else {
        "declined"
    };
    match out.format() {
        Format::Json => out.json(&json!({"run": run.id, "job": job.key, "answer": done}))?,
        Format::Text => out.text(&format!("{done} `{}` of run {}\n", job.key, run.id))?,
    }
    Ok(Exit::Success)
}

/// The job that is meant: the one named, or the only one that asks.
fn choose<'r>(
    place: &Place,
    run: &'r RunView,
    wanted: Option<&str>,
) -> Result<&'r JobView, Failure> {
    let Some(wanted) = wanted else {
        return the_only(place, run);
    };
    let named = |job: &&JobView| job.key == wanted || job.job_id == wanted;
    let named: Vec<&JobView> = run.jobs.iter().filter(named).collect();
    let asks = named.iter().find(|job| is_asking(job));
    asks.or(named.first())
        .copied()
        .ok_or_else(|| Failure::UnknownJob {
            subject: format!("run {}", run.id),
            job: wanted.to_owned(),
            known: run.jobs.iter().map(|job| job.key.clone()).collect(),
        })
}

fn the_only<'r>(place: &Place, run: &'r RunView) -> Result<&'r JobView, Failure> {
    let asking: Vec<&JobView> = run.jobs.iter().filter(|job| is_asking(job)).collect();
    match asking.as_slice() {
        [only] => Ok(only),
        [] => Err(Failure::Usage {
            message: format!("no job of run {} waits for an approval", run.id),
            hint: format!(
                "`rustci runs view {}{}` shows what it waits for",
                run.id, place.arguments
            ),
        }),
        several => {
            let keys: Vec<_> = several.iter().map(|job| job.key.as_str()).collect();
            Err(Failure::Usage {
                message: format!("{} jobs of run {} wait for an approval", keys.len(), run.id),
                hint: format!("name one of them: {}", keys.join(", ")),
            })
        }
    }
}

/// Whether a job waits for an answer.
pub(crate) fn is_asking(job: &JobView) -> bool {
    let open = job.approval.as_ref().is_some_and(|it| it.answer.is_none());
    open && job.status == Status::Blocked
}

/// How to answer the first job of a run that asks.
pub(crate) fn how(run: &RunView, place: &str) -> Option<String> {
    let job = run.jobs.iter().find(|job| is_asking(job))?;
    let environment = &job.approval.as_ref()?.environment;
    Some(format!(
        "{} waits for an approval for {environment}: rustci runs approve {} {}{place}",
        job.key,
        run.id,
        shell_word(&job.key)
    ))
}

/// Approves the jobs of a run that `wanted` means, by their keys, ids or environments, as they ask.
pub(crate) async fn approve_all(api: Api, run: u64, wanted: Vec<String>) {
    if let Err(failure) = follow_and_approve(&api, run, &wanted).await {
        complain(&format!("warning: --approve has ended: {failure}\n"));
    }
}

async fn follow_and_approve(api: &Api, run: u64, wanted: &[String]) -> Result<(), Failure> {
    let path = format!("/api/v1/runs/{run}");
    let Some(mut events) = api.events(&format!("{path}/events"), None).await? else {
        return Ok(());
    };
    let mut told = BTreeSet::new();
    while let Some(event) = events.next().await? {
        let Ok(RunEvent::Job { job }) = serde_json::from_str(&event.data) else {
            continue;
        };
        if is_asking(&job) && is_meant(&job, wanted) && told.insert(job.id) {
            let answer = AnswerRequest {
                by: user(),
                comment: "approved by --approve".to_owned(),
            };
            api.tell(&format!("{path}/jobs/{}/approve", job.id), &answer)
                .await?;
        }
    }
    Ok(())
}

fn is_meant(job: &JobView, wanted: &[String]) -> bool {
    let environment = job.approval.as_ref().map(|it| it.environment.as_str());
    wanted.iter().any(|wanted| {
        wanted == "all"
            || *wanted == job.key
            || *wanted == job.job_id
            || Some(wanted.as_str()) == environment
    })
}

/// Who answers, as the system calls them.
fn user() -> String {
    let named = ["USER", "LOGNAME"].map(std::env::var).into_iter().flatten();
    let mut named = named.filter(|name| !name.trim().is_empty());
    named.next().unwrap_or_else(|| {
        let id = rustix::process::getuid().as_raw();
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        name_of(id, &users).unwrap_or_else(|| format!("user {id}"))
    })
}

/// The name that the system's list of users has for a number.
fn name_of(id: u32, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_name_in_the_environment_is_looked_up() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:7:\nada:x:1000:1000::/home/ada:\n";
        assert_eq!(name_of(1000, users).as_deref(), Some("ada"));
        assert_eq!(name_of(0, users).as_deref(), Some("root"));
        assert_eq!(name_of(7, users), None);
        assert!(!user().is_empty());
    }
}
