//! `rustci run`.

use std::collections::BTreeMap;
use std::path::Path;

use rustci_pipeline::template::is_template;
use rustci_pipeline::{Job, PlanRequest, skip_marker};
use serde_json::{Map, Value, json};
use telemetry::logging::{FILTER_VARIABLE, LogFormat, init};
use tokio::task::JoinSet;
use tracing::level_filters::LevelFilter;

use super::approval::approve_all;
use super::dry_run::{Known, dry_run};
use super::runs::distinct;
use super::source::{Source, load_all, refuse_errors, shown};
use super::watch::{OnInterrupt, Show, watch};
use crate::api::client::Api;
use crate::api::follow::{Logs, follow};
use crate::api::view::{NewRun, NewSource, PipelineText, RunCreated};
use crate::args::RunArgs;
use crate::dirs;
use crate::engine::{Engine, EngineOptions, LOOPBACK};
use crate::event::RunEvent;
use crate::exit::Exit;
use crate::failure::{Failure, name_hint};
use crate::output::{Format, Output, complain};
use crate::project::Project;
use crate::render::summary::{Next, shell_word};
use crate::server;
use crate::snapshot::Snapshot;

/// Runs a project's pipelines, one after another, and gives the exit code of the first that did not
/// succeed.
///
/// # Errors
/// What kept a run from being made or followed.
pub(crate) async fn run(args: &RunArgs, out: &mut Output) -> Result<Exit, Failure> {
    let project = Project::find_with(&args.path, args.file.as_deref())?;
    let event = RunEvent::of(&args.event, &project.root)?;
    let message = event.message();
    if let Some(marker) = skip_marker(&event.name, message.as_deref().unwrap_or_default()) {
        return skipped(marker, out);
    }
    let request = PlanRequest {
        event: event.name.clone(),
        git_ref: event.git_ref(),
        changed_paths: event.changed_paths.clone(),
        inputs: inputs(args, &event),
        message,
    };
    let sources = load_all(&project, &request)?;
    let findings: String = sources
        .iter()
        .map(|source| source.render(out.look()))
        .collect();
    complain(&findings);
    refuse_errors(&sources)?;
    let chosen = choose(&sources, args)?;
    check_approvals(&chosen, &args.approve)?;
    let target = server::target(&args.server)?;
    if args.dry_run {
        let known = match &target {
            Some(_) => Known::Elsewhere,
            None => Known::here(&project, args)?,
        };
        return dry_run(&chosen, (&project, args, &event), &known, out);
    }
    match target {
        Some(_) if !args.labels.is_empty() => Err(Failure::Usage {
            message: "--label gives labels to the runner here, and the run goes to a server"
                .to_owned(),
            hint: "labels of a server's runners are given with `rustci runner --label`".to_owned(),
        }),
        Some(target) => {
            let api = server::connect(&target, args.data_dir.as_deref())?;
            let next = Next {
                place: target.arguments,
                again: again(args),
                ..Next::default()
            };
            submit_all(&api, &project, &chosen, (args, &event, &next), out).await
        }
        None => run_here(&project, &chosen, (args, &event), out).await,
    }
}

/// Says that nothing is run, which is what the commit asks for.
fn skipped(marker: &str, out: &mut Output) -> Result<Exit, Failure> {
    let reason = format!("the commit's message has `{marker}`, so nothing is run for it");
    match out.format() {
        Format::Json => out.json(&json!({ "skipped": true, "reason": reason }))?,
        Format::Text => out.text(&format!("skipped: {reason}\n"))?,
    }
    Ok(Exit::Success)
}

/// Runs with a server and a runner of our own.
async fn run_here(
    project: &Project,
    chosen: &[&Source],
    (args, event): (&RunArgs, &RunEvent),
    out: &mut Output,
) -> Result<Exit, Failure> {
    if std::env::var_os(FILTER_VARIABLE).is_some() {
        init(LogFormat::Text, LevelFilter::WARN)
            .map_err(|error| Failure::engine("cannot log", error))?;
    }
    let data = dirs::local_data_free(project, args.data_dir.as_deref())?;
    let options = EngineOptions {
        data: data.clone(),
        secrets_file: args.secrets_file.clone(),
        secrets_dir: dirs::local_secrets(project),
        http: chosen
            .iter()
            .any(|source| needs_api(source))
            .then_some(LOOPBACK),
        labels: args.labels.clone(),
        keep_workspaces: args.keep.then(|| data.join("workspaces")),
    };
    let engine = Engine::start(options).await?;
    let next = Next {
        place: place_of(project, &data, args),
        again: again(args),
        files: Some(dirs::tilde(&data.join("logs"))),
        workspaces: args.keep.then(|| dirs::tilde(&data.join("workspaces"))),
        ..Next::default()
    };
    let result = submit_all(engine.api(), project, chosen, (args, event, &next), out).await;
    match result {
        Ok(exit) => engine.stop().map(|()| exit),
        // Nobody waits for the jobs any more, so they must not be waited for here either.
        Err(failure) => {
            engine.abandon();
            Err(failure)
        }
    }
}

/// Whether some job is to have a token for the API.
fn needs_api(source: &Source) -> bool {
    let plan = source.planned.iter().map(|planned| &planned.plan);
    plan.flat_map(|plan| &plan.jobs)
        .any(|job| rustci_server::needs_api(&job.permissions))
}

async fn submit_all(
    api: &Api,
    project: &Project,
    chosen: &[&Source],
    (args, event, next): (&RunArgs, &RunEvent, &Next),
    out: &mut Output,
) -> Result<Exit, Failure> {
    let source = upload(api, &project.root).await?;
    let mut result = Exit::Success;
    for pipeline in chosen {
        let new = NewRun {
            pipeline: PipelineText {
                file: pipeline.file.to_string_lossy().into_owned(),
                text: pipeline.text.clone(),
                includes: pipeline.includes.clone(),
            },
            event: event.event.clone(),
            inputs: inputs(args, event),
            source: Some(source.clone()),
            project: project.name.clone(),
            env: args.env.iter().cloned().collect::<BTreeMap<_, _>>(),
            git: event.git.clone(),
            jobs: jobs_of(pipeline, &args.job),
            priority: args.priority.into(),
        };
        let created: RunCreated = api.post("/api/v1/runs", &new).await?;
        let run = created.run.id;
        let next = Next {
            files: next.files.as_ref().map(|files| format!("{files}/{run}")),
            step_places: pipeline.step_places(),
            ..next.clone()
        };
        let mut approving = JoinSet::new();
        if !args.approve.is_empty() {
            approving.spawn(approve_all(api.clone(), run, args.approve.clone()));
        }
        let followed = follow(api, run, Logs::All)
            .await?
            .ok_or_else(|| vanished(api, run))?;
        let exit = watch(api, followed, out, Show::Run, &next, OnInterrupt::Cancel).await?;
        if result == Exit::Success {
            result = exit;
        }
        if exit == Exit::Interrupted {
            break;
        }
    }
    Ok(result)
}

async fn upload(api: &Api, root: &Path) -> Result<NewSource, Failure> {
    let snapshot = Snapshot::take(root)?;
    let digest = snapshot.digest.to_hex().to_string();
    let size = snapshot.tar.len() as u64;
    api.upload(&digest, snapshot.tar).await?;
    Ok(NewSource::Snapshot { digest, size })
}

fn vanished(api: &Api, run: u64) -> Failure {
    Failure::BadAnswer {
        server: api.place().to_owned(),
        cause: format!("it does not know run {run}, which it has just made"),
    }
}

/// The pipelines to run: the only one, or those that the event triggers.
fn choose<'a>(sources: &'a [Source], args: &RunArgs) -> Result<Vec<&'a Source>, Failure> {
    let chosen: Vec<&Source> = match sources {
        [only] => vec![only],
        several => several
            .iter()
            .filter(|source| is_triggered(source))
            .collect(),
    };
    if chosen.is_empty() {
        let reasons = sources.iter().filter_map(|source| {
            let planned = source.planned.as_ref()?;
            Some(format!("         {}: {}", source.shown, planned.reason))
        });
        let reasons: Vec<String> = reasons.collect();
        return Err(Failure::Usage {
            message: format!("no pipeline runs on {}\n{}", args.event, reasons.join("\n")),
            hint: "pass --file to run one of them all the same, or another --event".to_owned(),
        });
    }
    if args.job.is_empty() {
        return Ok(chosen);
    }
    with_jobs(&chosen, &args.job)
}

fn is_triggered(source: &Source) -> bool {
    source
        .planned
        .as_ref()
        .is_some_and(|planned| planned.triggered)
}

/// That `--approve` names what asks for an approval: jobs, or their environments. An environment
/// whose name comes from an expression may turn out to be any.
fn check_approvals(chosen: &[&Source], wanted: &[String]) -> Result<(), Failure> {
    let plans = chosen.iter().filter_map(|source| source.planned.as_ref());
    let jobs: Vec<&Job> = plans.flat_map(|planned| &planned.plan.jobs).collect();
    let asks = |job: &&&Job| {
        let environment = job.environment.as_ref();
        environment.is_some_and(|it| it.approval.is_some())
    };
    let asking: Vec<&Job> = jobs.iter().copied().filter(|job| asks(&job)).collect();
    let environments = asking.iter().filter_map(|job| job.environment.as_ref());
    let environments: Vec<&str> = environments.map(|it| it.name.as_str()).collect();
    let open = environments.iter().any(|name| is_template(name))
        || asking.iter().any(|job| job.dynamic.is_some());
    let names = asking
        .iter()
        .flat_map(|job| [job.id.as_str(), job.key.as_str()]);
    let known = distinct(names.chain(environments).map(str::to_owned));
    let is_wrong = |name: &&String| *name != "all" && !known.contains(name) && !open;
    let Some(name) = wanted.iter().find(is_wrong) else {
        return Ok(());
    };
    let is_job = jobs.iter().any(|job| job.id == *name || job.key == *name);
    Err(Failure::Usage {
        message: match is_job {
            true => format!("job `{name}` asks for no approval"),
            false => format!("--approve names `{name}`, and no such job asks for an approval"),
        },
        hint: match known.as_slice() {
            [] => "no job has an `environment` with `approval`".to_owned(),
            known => name_hint(name, known, "those that ask are"),
        },
    })
}

/// Ids and keys of the jobs in a pipeline.
fn names(source: &Source) -> Vec<String> {
    let plan = source.planned.iter().map(|planned| &planned.plan);
    plan.flat_map(|plan| plan.jobs.iter())
        .flat_map(|job| [job.id.clone(), job.key.clone()])
        .collect()
}

/// Those of `wanted` that the pipeline has.
fn jobs_of(source: &Source, wanted: &[String]) -> Vec<String> {
    let names = names(source);
    let has = |job: &&String| names.contains(job);
    wanted.iter().filter(has).cloned().collect()
}

/// Those of `chosen` that have one of the jobs; each job has to be in one of them.
fn with_jobs<'a>(chosen: &[&'a Source], wanted: &[String]) -> Result<Vec<&'a Source>, Failure> {
    let known = distinct(chosen.iter().flat_map(|source| names(source)));
    if let Some(job) = wanted.iter().find(|job| !known.contains(job)) {
        let subject = match chosen {
            [only] => only.shown.clone(),
            _ => "the project".to_owned(),
        };
        return Err(Failure::UnknownJob {
            subject,
            job: job.clone(),
            known,
        });
    }
    let having = chosen.iter().copied();
    Ok(having
        .filter(|source| !jobs_of(source, wanted).is_empty())
        .collect())
}

/// The inputs of the event, and over them those of the command line.
fn inputs(args: &RunArgs, event: &RunEvent) -> Map<String, Value> {
    let mut inputs = event.inputs.clone();
    let given = args.inputs.iter();
    inputs.extend(given.map(|(name, value)| (name.clone(), json!(value))));
    inputs
}

/// What `rustci runs` needs to find this run from the same place.
fn place_of(project: &Project, data: &Path, args: &RunArgs) -> String {
    if args.data_dir.is_some() || data != dirs::local_data(project, 1) {
        return format!(" --data-dir {}", shell_word(&data.to_string_lossy()));
    }
    match Project::find(Path::new(".")) {
        Ok(here) if here.root == project.root => String::new(),
        _ => format!(" --project {}", shell_word(&shown(&project.root))),
    }
}

/// The arguments of this command that another try needs, without `--job`.
fn again(args: &RunArgs) -> Option<String> {
    let mut words = Vec::new();
    let path = args.path.to_string_lossy();
    if path != "." {
        words.push(path.into_owned());
    }
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    if let Some(file) = &args.file {
        option("--file", &file.to_string_lossy());
    }
    if args.event != "manual" {
        option("--event", &args.event);
    }
    for (name, value) in &args.inputs {
        option("--input", &format!("{name}={value}"));
    }
    for (name, value) in &args.env {
        option("--env", &format!("{name}={value}"));
    }
    for label in &args.labels {
        option("--label", label);
    }
    if let Some(dir) = &args.data_dir {
        option("--data-dir", &dir.to_string_lossy());
    }
    if let Some(file) = &args.secrets_file {
        option("--secrets-file", &file.to_string_lossy());
    }
    for job in &args.approve {
        option("--approve", job);
    }
    // A token is nobody's to repeat on a screen.
    if let Some(url) = &args.server.server {
        option("--server", url);
    }
    if let Some(name) = &args.server.context {
        option("--context", name);
    }
    Some(
        words
            .iter()
            .map(|word| format!(" {}", shell_word(word)))
            .collect(),
    )
}
