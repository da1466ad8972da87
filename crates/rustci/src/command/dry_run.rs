//! `rustci run --dry-run`: what would run, what would not and why, and which secrets are needed.

use std::collections::{BTreeMap, BTreeSet};

use rustci_pipeline::condition::{Status, evaluate};
use rustci_pipeline::expr::Contexts;
use rustci_pipeline::{Job, Plan, Planned};
use rustci_server::secrets::{Secrets, SecretsError};
use serde_json::{Map, Value, json};

use super::source::Source;
use crate::engine::{local_store, secrets};
use crate::event::RunEvent;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::project::Project;
use crate::render::job::Look;
use crate::render::table;
use crate::{args::RunArgs, dirs};

/// What becomes of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// It runs, when what it needs succeeds.
    Runs,
    /// It does not, and why.
    Skipped(String),
    /// Other jobs decide, and which.
    Open(String),
}

impl Fate {
    fn word(&self) -> &'static str {
        match self {
            Self::Runs => "yes",
            Self::Skipped(_) => "no",
            Self::Open(_) => "depends",
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Runs => "",
            Self::Skipped(reason) | Self::Open(reason) => reason,
        }
    }
}

/// Where the secrets of a run would be looked for.
#[derive(Debug)]
pub(super) enum Known {
    /// Here, and these are there.
    Here(Box<Secrets>),
    /// On a server, which tells nobody.
    Elsewhere,
}

impl Known {
    /// The secrets of a run of `project` on this machine.
    ///
    /// # Errors
    /// A file or store that cannot be read.
    pub(super) fn here(project: &Project, args: &RunArgs) -> Result<Self, Failure> {
        let store = local_store(&dirs::local_secrets(project))?;
        let order = rustci_server::secrets::Order::FileFirst;
        let source = secrets(args.secrets_file.clone())?.with_store(store.into(), order);
        let failed = |error: SecretsError| Failure::engine("cannot read the secrets", error);
        let found = source.read(&project.name).map_err(failed)?;
        Ok(Self::Here(Box::new(found)))
    }

    fn has(&self, name: &str) -> Option<bool> {
        match self {
            Self::Here(secrets) => Some(secrets.get(name).is_some()),
            Self::Elsewhere => None,
        }
    }
}

/// Prints what each pipeline would do; nothing is executed.
///
/// # Errors
/// When nobody reads the output.
pub(super) fn dry_run(
    chosen: &[&Source],
    (project, args, event): (&Project, &RunArgs, &RunEvent),
    known: &Known,
    out: &mut Output,
) -> Result<Exit, Failure> {
    for source in chosen {
        let Some(planned) = &source.planned else {
            continue;
        };
        let wanted = wanted(&planned.plan, &args.job);
        let contexts = contexts(project, source, planned, event);
        let fates = fates(&planned.plan, &wanted, &contexts);
        match out.format() {
            Format::Json => out.json(&as_json(source, planned, event, (&fates, known)))?,
            Format::Text => out.text(&as_text(planned, event, (&fates, known), out.look()))?,
        }
    }
    Ok(Exit::Success)
}

/// Keys of the jobs that `--job` names and of those they need; all without it.
fn wanted(plan: &Plan, named: &[String]) -> BTreeSet<String> {
    let is_named = |job: &&Job| {
        named.is_empty() || named.iter().any(|name| *name == job.id || *name == job.key)
    };
    let mut open: Vec<&Job> = plan.jobs.iter().filter(is_named).collect();
    let mut keys = BTreeSet::new();
    while let Some(job) = open.pop() {
        if keys.insert(job.key.clone()) {
            open.extend(
                plan.jobs
                    .iter()
                    .filter(|other| job.needs.contains(&other.id)),
            );
        }
    }
    keys
}

fn contexts(
    project: &Project,
    source: &Source,
    planned: &Planned,
    event: &RunEvent,
) -> Map<String, Value> {
    let run = json!({
        "project": project.name,
        "pipeline": planned.plan.name,
        "file": source.file.to_string_lossy(),
    });
    let all = [
        ("git", Value::Object(event.git.clone())),
        ("event", Value::Object(event.event.clone())),
        ("inputs", Value::Object(planned.inputs.clone())),
        ("run", run),
    ];
    all.map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// What becomes of each wanted job, by key. Jobs of a plan have no cycles, so every round settles
/// at least one.
fn fates<'p>(
    plan: &'p Plan,
    wanted: &BTreeSet<String>,
    contexts: &Map<String, Value>,
) -> Vec<(&'p Job, Fate)> {
    let jobs: Vec<&Job> = plan
        .jobs
        .iter()
        .filter(|job| wanted.contains(&job.key))
        .collect();
    let mut settled: BTreeMap<&str, Fate> = BTreeMap::new();
    while settled.len() < jobs.len() {
        let before = settled.len();
        for job in &jobs {
            let needs = jobs.iter().filter(|other| job.needs.contains(&other.id));
            let needs: Option<Vec<(&str, &Fate)>> = needs
                .map(|need| Some((need.key.as_str(), settled.get(need.key.as_str())?)))
                .collect();
            let Some(needs) = needs.filter(|_| !settled.contains_key(job.key.as_str())) else {
                continue;
            };
            let fate = fate(job, &needs, contexts);
            settled.insert(&job.key, fate);
        }
        if settled.len() == before {
            break;
        }
    }
    jobs.into_iter()
        .map(|job| (job, settled.remove(job.key.as_str()).unwrap_or(Fate::Runs)))
        .collect()
}

fn fate(job: &Job, needs: &[(&str, &Fate)], contexts: &Map<String, Value>) -> Fate {
    let condition = job.condition.as_deref();
    let of = |kind: fn(&Fate) -> bool| needs.iter().find(|(_, fate)| kind(fate));
    let asks_needs = condition.is_some_and(|text| text.contains("needs"));
    let open = of(|fate| matches!(fate, Fate::Open(_)));
    if asks_needs || open.is_some() {
        let names = match open {
            Some((name, _)) if !asks_needs => (*name).to_owned(),
            _ => job.needs.join(", "),
        };
        return Fate::Open(format!("decided when {names} has ended"));
    }
    let skipped = of(|fate| matches!(fate, Fate::Skipped(_)));
    let status = if skipped.is_some() {
        Status::SKIPPED
    } else {
        Status::SUCCESS
    };
    let mut contexts = contexts.clone();
    contexts.insert("matrix".to_owned(), Value::Object(job.matrix.clone()));
    let contexts = Contexts::from_json(&contexts).with_status(status);
    match (evaluate(condition, &contexts), condition, skipped) {
        (Ok(true), ..) => Fate::Runs,
        (Ok(false), _, Some((need, _))) => {
            Fate::Skipped(format!("it needs `{need}`, which is skipped"))
        }
        (Ok(false), Some(text), None) => Fate::Skipped(format!("its condition `{text}` is false")),
        (Ok(false), None, None) => Fate::Skipped("its condition is false".to_owned()),
        (Err(error), ..) => Fate::Open(format!("its condition cannot be evaluated yet: {error}")),
    }
}

/// The secrets that jobs which may run ask for.
fn needed(fates: &[(&Job, Fate)]) -> BTreeSet<String> {
    let may_run = fates
        .iter()
        .filter(|(_, fate)| !matches!(fate, Fate::Skipped(_)));
    may_run
        .flat_map(|(job, _)| job.secrets.values().cloned())
        .collect()
}

fn as_json(
    source: &Source,
    planned: &Planned,
    event: &RunEvent,
    (fates, known): (&[(&Job, Fate)], &Known),
) -> Value {
    let jobs = fates.iter().map(|(job, fate)| {
        let steps: Vec<&str> = job.steps.iter().map(|step| step.name.as_str()).collect();
        json!({
            "key": job.key, "job_id": job.id, "name": job.name, "needs": job.needs,
            "runs": fate.word(), "reason": fate.reason(), "steps": steps,
            "secrets": job.secrets.values().collect::<Vec<_>>(),
        })
    });
    let secrets = needed(fates).into_iter().map(|name| {
        let set = known.has(&name);
        json!({"name": name, "set": set})
    });
    json!({
        "file": source.file, "pipeline": planned.plan.name,
        "digest": planned.plan.digest().to_string(), "event": event.name,
        "triggered": planned.triggered, "inputs": planned.inputs,
        "jobs": jobs.collect::<Vec<_>>(), "secrets": secrets.collect::<Vec<_>>(),
    })
}

fn as_text(
    planned: &Planned,
    event: &RunEvent,
    (fates, known): (&[(&Job, Fate)], &Known),
    look: Look,
) -> String {
    let plan = &planned.plan;
    let mut text = format!(
        "{} on {}: nothing is executed\n",
        look.colour.bold(&plan.name),
        event.name
    );
    for (name, value) in &planned.inputs {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&look.colour.dim(&format!("  input {name} = {value}\n")));
    }
    let rows: Vec<Vec<String>> = fates
        .iter()
        .map(|(job, fate)| {
            let (sign, words) = match fate {
                Fate::Runs if job.needs.is_empty() => ("✓", "runs".to_owned()),
                Fate::Runs => ("✓", format!("runs after {}", job.needs.join(", "))),
                Fate::Skipped(reason) => ("–", format!("skipped: {reason}")),
                Fate::Open(reason) => ("?", reason.clone()),
            };
            vec![sign.to_owned(), job.key.clone(), words]
        })
        .collect();
    text.push_str(&table::table(&["", "JOB", "WHAT HAPPENS"], &rows, look).join("\n"));
    text.push('\n');
    for name in needed(fates) {
        let state = match known.has(&name) {
            Some(true) => look.colour.green("set"),
            Some(false) => look.colour.red("not set; `rustci secrets set` keeps it"),
            None => "looked for on the server".to_owned(),
        };
        text.push_str(&format!("  secret {name}: {state}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str) -> Planned {
        let pipeline = rustci_pipeline::parse("ci.yaml", text).pipeline.unwrap();
        rustci_pipeline::plan(&pipeline, &rustci_pipeline::PlanRequest::default()).unwrap()
    }

    #[test]
    fn conditions_decide_as_far_as_they_can_before_the_run() {
        let planned = planned(
            "jobs:\n  a: { outputs: { x: '1' }, steps: [{ run: x }] }\n  \
             b: { if: event.name == 'push', steps: [{ run: x }] }\n  \
             c: { needs: [b], steps: [{ run: x }] }\n  \
             d: { needs: [b], if: always(), steps: [{ run: x }] }\n  \
             e: { needs: [a], if: needs.a.outputs.x == '1', steps: [{ run: x }] }\n  \
             f: { needs: [e], steps: [{ run: x }] }\n  \
             g: { needs: [a], if: failure(), steps: [{ run: x }] }\n",
        );
        let contexts = json!({"event": {"name": "manual"}});
        let all = wanted(&planned.plan, &[]);
        let fates = fates(&planned.plan, &all, contexts.as_object().unwrap());
        let words: Vec<String> = fates
            .iter()
            .map(|(job, fate)| format!("{} {} {}", job.key, fate.word(), fate.reason()))
            .collect();
        assert_eq!(
            words,
            [
                "a yes ",
                "b no its condition `event.name == 'push'` is false",
                "c no it needs `b`, which is skipped",
                "d yes ",
                "e depends decided when a has ended",
                "f depends decided when e has ended",
                "g no its condition `failure()` is false",
            ]
        );
        let some = wanted(&planned.plan, &["f".to_owned()]);
        assert_eq!(some.into_iter().collect::<Vec<_>>(), ["a", "e", "f"]);
    }
}
