//! `rustci pipelines`.

use std::collections::BTreeMap;
use std::path::Path;

use rustci_pipeline::PlanRequest;
use serde_json::{Value, json};

use super::source::{Source, refuse_errors};
use super::watch::now_ms;
use crate::api::client::{Api, encoded};
use crate::api::view::{
    NewPipeline, NewTrigger, PipelineList, PipelineSource, PipelineText, PipelineView, RunCreated,
};
use crate::args::{PipelinesArgs, PipelinesCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::project::Project;
use crate::render::{style, table};
use crate::server::needed;

/// Does what the subcommand says.
///
/// # Errors
/// A file with mistakes, an unknown name, no server or one that refuses.
pub(crate) async fn pipelines(args: &PipelinesArgs, out: &mut Output) -> Result<Exit, Failure> {
    let api = needed(&args.server, "registered pipelines")?;
    match &args.command {
        PipelinesCommand::Add {
            file,
            name,
            project,
            git,
            reference,
            env,
            paused,
        } => {
            let source = git.as_ref().map(|url| PipelineSource {
                url: url.clone(),
                reference: reference.clone(),
            });
            let new = NewPipeline {
                name: name.clone(),
                project: project.clone(),
                pipeline: read(file, out)?,
                source,
                env: env.iter().cloned().collect(),
                paused: *paused,
            };
            add(&api, &new, out).await?;
        }
        PipelinesCommand::List => list(&api, out).await?,
        PipelinesCommand::Show { name } => show(&api, name, out).await?,
        PipelinesCommand::Trigger {
            name,
            reference,
            inputs,
            env,
        } => {
            let inputs = inputs.iter().cloned();
            let new = NewTrigger {
                reference: reference.clone(),
                inputs: inputs
                    .map(|(name, value)| (name, Value::from(value)))
                    .collect(),
                env: env.iter().cloned().collect(),
                ..NewTrigger::default()
            };
            trigger(&api, name, &new, out).await?;
        }
        PipelinesCommand::Rm { name } => {
            if !api.delete(&path_of(name)).await? {
                return Err(unknown(&api, name));
            }
            match out.format() {
                Format::Json => out.json(&json!({ "pipeline": name, "removed": true }))?,
                Format::Text => out.text(&format!("{name} is removed\n"))?,
            }
        }
    }
    Ok(Exit::Success)
}

/// The file with those that it includes; its mistakes are told here.
fn read(file: &Path, out: &mut Output) -> Result<PipelineText, Failure> {
    let project = Project::find(file)?;
    let found = project.files.first().cloned().unwrap_or_default();
    let source = Source::load(&project, &found, &PlanRequest::default())?;
    if source.errors() > 0 {
        let look = out.look();
        out.text(&source.render(look))?;
    }
    let text = PipelineText {
        file: source.file.to_string_lossy().into_owned(),
        text: source.text.clone(),
        includes: source.includes.clone(),
    };
    refuse_errors(&[source]).map(|()| text)
}

async fn add(api: &Api, new: &NewPipeline, out: &mut Output) -> Result<(), Failure> {
    let view: PipelineView = match &new.name {
        Some(name) => api.put(&path_of(name), new, None).await?,
        None => api.post("/api/v1/pipelines", new).await?,
    };
    match out.format() {
        Format::Json => out.json(&view),
        Format::Text => {
            let now = now_ms();
            let next = next(&view, now).map_or_else(String::new, |next| format!(", next {next}"));
            out.text(&format!("{} is registered{next}\n", view.name))
        }
    }
}

async fn list(api: &Api, out: &mut Output) -> Result<(), Failure> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/pipelines?limit=200{cursor}");
        let page: PipelineList = api.get(&path).await?;
        found.extend(page.pipelines);
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    if out.format() == Format::Json {
        return out.json(&json!({ "pipelines": found }));
    }
    if found.is_empty() {
        return out.text(&format!(
            "no pipelines; `rustci pipelines add FILE{}` registers one\n",
            api.arguments()
        ));
    }
    let now = now_ms();
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|view| {
            let next = match view.paused {
                true => Some("paused".to_owned()),
                false => next(view, now),
            };
            let source = view.source.as_ref();
            vec![
                view.name.clone(),
                view.project.clone(),
                source.map_or_else(
                    || "-".to_owned(),
                    |it| format!("{} {}", it.url, it.reference),
                ),
                next.unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    let lines = table::table(&["NAME", "PROJECT", "SOURCE", "NEXT"], &rows, out.look());
    out.text(&(lines.join("\n") + "\n"))
}

/// When a pipeline runs next by itself.
fn next(view: &PipelineView, now: u64) -> Option<String> {
    let times = view.schedules.iter();
    let (at, name) = times
        .filter_map(|schedule| Some((schedule.next_ms?, schedule.name.as_str())))
        .min()?;
    Some(format!(
        "in {} ({name})",
        style::duration(at.saturating_sub(now))
    ))
}

async fn show(api: &Api, name: &str, out: &mut Output) -> Result<(), Failure> {
    let view: Option<PipelineView> = api.find(&path_of(name)).await?;
    let view = view.ok_or_else(|| unknown(api, name))?;
    if out.format() == Format::Json {
        return out.json(&view);
    }
    let now = now_ms();
    let source = view.source.as_ref();
    let mut lines = vec![
        ("pipeline", format!("{} ({})", view.name, view.title)),
        ("project", view.project.clone()),
        ("file", view.file.clone()),
    ];
    lines.extend(source.map(|it| ("source", format!("{} {}", it.url, it.reference))));
    for schedule in &view.schedules {
        let next = schedule.next_ms.map_or_else(
            || "paused".to_owned(),
            |at| format!("in {}", style::duration(at.saturating_sub(now))),
        );
        let text = format!(
            "{}: {} {}, {next}",
            schedule.name, schedule.schedule, schedule.timezone
        );
        lines.push(("schedule", text));
    }
    let env: &BTreeMap<String, String> = &view.env;
    lines.extend(
        env.iter()
            .map(|(name, value)| ("env", format!("{name}={value}"))),
    );
    let head: String = lines
        .iter()
        .map(|(name, value)| format!("{name:<10}{value}\n"))
        .collect();
    out.text(&format!("{head}\n{}", view.text.unwrap_or_default()))
}

async fn trigger(api: &Api, name: &str, new: &NewTrigger, out: &mut Output) -> Result<(), Failure> {
    if api.find::<Value>(&path_of(name)).await?.is_none() {
        return Err(unknown(api, name));
    }
    let path = format!("{}/trigger", path_of(name));
    let created: RunCreated = api.post(&path, new).await?;
    match out.format() {
        Format::Json => out.json(&created),
        Format::Text => out.text(&format!(
            "run {} of {} is accepted; `rustci runs watch {}{}` follows it\n",
            created.run.id,
            name,
            created.run.id,
            api.arguments()
        )),
    }
}

fn path_of(name: &str) -> String {
    format!("/api/v1/pipelines/{}", encoded(name))
}

fn unknown(api: &Api, name: &str) -> Failure {
    Failure::Usage {
        message: format!("there is no pipeline {name} on the server"),
        hint: format!(
            "`rustci pipelines list{}` shows what there is",
            api.arguments()
        ),
    }
}
