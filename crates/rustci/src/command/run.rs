//! `rustci run`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use rustci_pipeline::PlanRequest;
use serde_json::{Map, Value, json};
use telemetry::logging::{FILTER_VARIABLE, LogFormat, init};
use tracing::level_filters::LevelFilter;

use super::runs::distinct;
use super::source::{Source, load_all, refuse_errors, shown};
use super::watch::{OnInterrupt, Show, watch};
use crate::api::client::Api;
use crate::api::follow::{Logs, follow};
use crate::api::view::{NewRun, NewSource, PipelineText, RunCreated};
use crate::args::{EventName, RunArgs};
use crate::dirs;
use crate::engine::{Engine, EngineOptions};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, complain};
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
    let git = git_context(&project.root);
    let request = PlanRequest {
        event: args.event.as_str().to_owned(),
        git_ref: git.get("ref").and_then(Value::as_str).map(str::to_owned),
        changed_paths: None,
        inputs: inputs(args),
    };
    let sources = load_all(&project, &request)?;
    let findings: String = sources
        .iter()
        .map(|source| source.render(out.look()))
        .collect();
    complain(&findings);
    refuse_errors(&sources)?;
    let chosen = choose(&sources, args)?;
    match server::target(&args.server)? {
        Some(target) => {
            let api = server::connect(&target, args.data_dir.as_deref())?;
            let next = Next {
                place: target.arguments,
                again: again(args),
                ..Next::default()
            };
            submit_all(&api, &project, &chosen, (args, &git, &next), out).await
        }
        None => run_here(&project, &chosen, (args, &git), out).await,
    }
}

/// Runs with a server and a runner of our own.
async fn run_here(
    project: &Project,
    chosen: &[&Source],
    (args, git): (&RunArgs, &Map<String, Value>),
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
    let result = submit_all(engine.api(), project, chosen, (args, git, &next), out).await;
    match result {
        Ok(exit) => engine.stop().map(|()| exit),
        // Nobody waits for the jobs any more, so they must not be waited for here either.
        Err(failure) => {
            engine.abandon();
            Err(failure)
        }
    }
}

async fn submit_all(
    api: &Api,
    project: &Project,
    chosen: &[&Source],
    (args, git, next): (&RunArgs, &Map<String, Value>, &Next),
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
            event: event(args.event, git),
            inputs: inputs(args),
            source: Some(source.clone()),
            project: project.name.clone(),
            env: args.env.iter().cloned().collect::<BTreeMap<_, _>>(),
            git: git.clone(),
            jobs: args.job.iter().cloned().collect(),
            priority: args.priority.into(),
        };
        let created: RunCreated = api.post("/api/v1/runs", &new).await?;
        let run = created.run.id;
        let next = Next {
            files: next.files.as_ref().map(|files| format!("{files}/{run}")),
            step_places: pipeline.step_places(),
            ..next.clone()
        };
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
            message: format!(
                "no pipeline runs on {}\n{}",
                args.event.as_str(),
                reasons.join("\n")
            ),
            hint: "pass --file to run one of them all the same, or another --event".to_owned(),
        });
    }
    match &args.job {
        None => Ok(chosen),
        Some(job) => with_job(&chosen, job),
    }
}

fn is_triggered(source: &Source) -> bool {
    source
        .planned
        .as_ref()
        .is_some_and(|planned| planned.triggered)
}

/// Those of `chosen` that have the job.
fn with_job<'a>(chosen: &[&'a Source], wanted: &str) -> Result<Vec<&'a Source>, Failure> {
    let jobs = |source: &Source| -> Vec<String> {
        let plan = source.planned.iter().map(|planned| &planned.plan);
        plan.flat_map(|plan| plan.jobs.iter())
            .flat_map(|job| [job.id.clone(), job.key.clone()])
            .collect()
    };
    let having: Vec<&Source> = chosen
        .iter()
        .copied()
        .filter(|source| jobs(source).iter().any(|job| job == wanted))
        .collect();
    if !having.is_empty() {
        return Ok(having);
    }
    let known = distinct(chosen.iter().flat_map(|source| jobs(source)));
    let subject = match chosen {
        [only] => only.shown.clone(),
        _ => "the project".to_owned(),
    };
    Err(Failure::UnknownJob {
        subject,
        job: wanted.to_owned(),
        known,
    })
}

fn inputs(args: &RunArgs) -> Map<String, Value> {
    args.inputs
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect()
}

fn event(name: EventName, git: &Map<String, Value>) -> Map<String, Value> {
    let mut event = Map::new();
    event.insert("name".to_owned(), json!(name.as_str()));
    if name == EventName::Push {
        event.extend(git.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    event
}

/// What git says about `root`: `commit`, `ref`, `branch`; empty outside a repository.
fn git_context(root: &Path) -> Map<String, Value> {
    let mut context = Map::new();
    if !root
        .ancestors()
        .any(|directory| directory.join(".git").exists())
    {
        return context;
    }
    let output = Command::new("git")
        .args(["rev-parse", "HEAD", "--symbolic-full-name", "HEAD"])
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let mut lines = text.lines();
    if let Some(commit) = lines.next().filter(|commit| commit.len() >= 40) {
        context.insert("commit".to_owned(), json!(commit));
    }
    if let Some(name) = lines.next().filter(|name| name.starts_with("refs/")) {
        context.insert("ref".to_owned(), json!(name));
        let branch = name.strip_prefix("refs/heads/");
        context.extend(branch.map(|branch| ("branch".to_owned(), json!(branch))));
    }
    context
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
    if args.event != EventName::Manual {
        option("--event", args.event.as_str());
    }
    for (name, value) in &args.inputs {
        option("--input", &format!("{name}={value}"));
    }
    for (name, value) in &args.env {
        option("--env", &format!("{name}={value}"));
    }
    if let Some(dir) = &args.data_dir {
        option("--data-dir", &dir.to_string_lossy());
    }
    if let Some(file) = &args.secrets_file {
        option("--secrets-file", &file.to_string_lossy());
    }
    Some(
        words
            .iter()
            .map(|word| format!(" {}", shell_word(word)))
            .collect(),
    )
}
