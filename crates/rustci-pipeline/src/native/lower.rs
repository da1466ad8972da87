//! A draft without mistakes to a plan.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use serde_json::{Map, Value as Json};

use super::check::bare;
use super::data::{ArtifactDraft, CacheDraft, DownloadDraft, ReportDraft};
use super::draft::{
    Binding, Checkout, Draft, DynamicDraft, FailFast, JobDraft, Label, Matrix, StepDraft,
};
use super::gates::ConcurrencyDraft;
use crate::diagnostic::Code;
use crate::limits::{JOBS_MAX, PLAN_TEXT_BYTES_MAX};
use crate::matrix;
use crate::pipeline::Pipeline;
use crate::plan::{
    self, Artifact, Cache, Concurrency, Download, DynamicMatrix, Environment, Job, MatrixGroup,
    PLAN_VERSION, Plan, RunsOn, Step,
};
use crate::report::Report;
use crate::yaml::Node;

/// Makes the plan. None when it would be too large.
pub(super) fn pipeline(report: &mut Report<'_>, draft: Draft) -> Option<Pipeline> {
    check_size(report, &draft)?;
    let jobs: Vec<Job> = draft.jobs.iter().flat_map(instances).collect();
    let step_places = draft
        .jobs
        .iter()
        .map(|job| step_places(report, job))
        .collect();
    check_keys(report, &draft, &jobs);
    let plan = Plan {
        version: PLAN_VERSION,
        name: draft.name,
        file: report.source().file.to_owned(),
        env: environment(&draft.env),
        concurrency: draft.concurrency.as_ref().map(concurrency),
        jobs,
    };
    Some(Pipeline {
        plan,
        triggers: draft.triggers,
        inputs: draft.inputs,
        planning: Vec::new(),
        older: None,
        step_places,
    })
}

/// The files and lines where the steps of a job begin.
fn step_places(report: &Report<'_>, job: &JobDraft) -> (String, Vec<(String, u32)>) {
    let begin = |step: &StepDraft| {
        let run = step.run.at.start;
        let name = step.name.as_ref().map_or(run, |name| name.at.start);
        let source = report.source_of(run);
        let line = source.span(name.min(run)..run).line;
        (source.file.to_owned(), line)
    };
    (job.id.clone(), job.steps.iter().map(begin).collect())
}

/// How many instances a job has.
fn count(job: &JobDraft) -> usize {
    job.known_matrix()
        .map_or(1, |matrix| matrix.instances.len())
}

/// Counts jobs and text before anything is copied.
fn check_size(report: &mut Report<'_>, draft: &Draft) -> Option<()> {
    let mut jobs = 0;
    let mut bytes: usize = 0;
    for job in &draft.jobs {
        jobs += count(job);
        bytes = bytes.saturating_add(count(job).saturating_mul(text_bytes(job)));
        let message = if jobs > JOBS_MAX {
            format!("more than {JOBS_MAX} jobs with this one, matrix instances counted")
        } else if bytes > PLAN_TEXT_BYTES_MAX {
            format!("more than {PLAN_TEXT_BYTES_MAX} bytes of text with this job, in all instances")
        } else {
            continue;
        };
        report.error(Code::TOO_MANY, job.key.at.clone(), message);
        return None;
    }
    Some(())
}

/// About how many bytes one instance has in the plan.
fn text_bytes(job: &JobDraft) -> usize {
    let text = |node: &Rc<Node>| node.text().map_or(0, str::len);
    let bindings =
        |bindings: &[Binding]| bindings.iter().map(|item| text(&item.value)).sum::<usize>();
    let steps = job
        .steps
        .iter()
        .map(|step| text(&step.run) + bindings(&step.env) + 256);
    let needs = job.needs.iter().map(text);
    let paths = job.data.paths().map(|path| text(path) + 32);
    let gates = job.concurrency.iter().map(|slot| text(&slot.group));
    let gates = gates.chain(job.environment.iter().map(|it| text(&it.name)));
    let own = paths.sum::<usize>() + gates.sum::<usize>();
    let caches =
        job.data.caches.iter().map(|cache| {
            text(&cache.key) + cache.restore_keys.iter().map(text).sum::<usize>() + 128
        });
    let names = job.data.artifacts.iter().map(|it| text(&it.name) + 128);
    let own = own + caches.sum::<usize>() + names.sum::<usize>();
    own + steps.sum::<usize>()
        + needs.sum::<usize>()
        + bindings(&job.env)
        + bindings(&job.outputs)
        + 256
}

/// Reports instances that nobody could tell apart.
fn check_keys(report: &mut Report<'_>, draft: &Draft, jobs: &[Job]) {
    let mut seen = HashSet::new();
    for job in jobs {
        if seen.insert(job.key.as_str()) {
            continue;
        }
        let at = draft
            .jobs
            .iter()
            .find(|draft| draft.id == job.id)
            .map(|draft| draft.key.at.clone());
        report
            .error(
                Code::DUPLICATE_JOB,
                at.unwrap_or(0..0),
                format!("two instances come out as `{}`", job.key),
            )
            .help("give the instances different values; 1 and \"1\" look the same");
    }
}

/// The jobs of the plan that one job of the file comes down to.
fn instances(draft: &JobDraft) -> Vec<Job> {
    if let Matrix::Dynamic(matrix) = &draft.matrix {
        return vec![dynamic_job(draft, matrix)];
    }
    let Some(known) = draft.known_matrix() else {
        return vec![job(draft, draft.id.clone(), Map::new())];
    };
    let group = MatrixGroup {
        id: draft.id.clone(),
        fail_fast: known.fail_fast == FailFast::Yes,
        max_parallel: known.max_parallel,
    };
    let instance = |values: &Map<String, Json>| {
        let key = matrix::key(&draft.id, &known.names, values);
        Job {
            group: Some(group.clone()),
            ..job(draft, key, values.clone())
        }
    };
    known.instances.iter().map(instance).collect()
}

/// A job that becomes instances while the run goes on; their values are filled in then.
fn dynamic_job(draft: &JobDraft, matrix: &DynamicDraft) -> Job {
    Job {
        dynamic: Some(DynamicMatrix {
            matrix: matrix.expression.clone(),
            fail_fast: matrix.fail_fast == FailFast::Yes,
            max_parallel: matrix.max_parallel,
        }),
        ..template(draft, draft.id.clone(), Map::new())
    }
}

/// One instance.
fn job(draft: &JobDraft, key: String, values: Map<String, Json>) -> Job {
    let mut job = template(draft, key, values);
    matrix::fill(&mut job);
    job
}

/// A job as it stands in the file.
fn template(draft: &JobDraft, key: String, matrix: Map<String, Json>) -> Job {
    let name = draft.name.as_ref().map(|node| text(Some(node)));
    Job {
        id: draft.id.clone(),
        name: name.unwrap_or_else(|| key.clone()),
        key,
        matrix,
        group: None,
        needs: draft.needs.iter().map(|node| text(Some(node))).collect(),
        condition: condition(draft.condition.as_ref()),
        runs_on: RunsOn {
            all: labels(&draft.runs_on.all),
            any: labels(&draft.runs_on.any),
        },
        env: environment(&draft.env),
        secrets: draft.secrets.clone(),
        outputs: environment(&draft.outputs),
        timeout_ms: draft.timeout_ms,
        retry: draft.retry.clone(),
        continue_on_error: flag(draft.continue_on_error.as_ref()),
        dynamic: None,
        concurrency: draft.concurrency.as_ref().map(concurrency),
        environment: draft.environment.as_ref().map(|it| Environment {
            name: text(Some(&it.name)),
            approval: it.approval.clone(),
        }),
        permissions: draft.permissions.clone(),
        checkout: draft.checkout == Checkout::Yes,
        caches: draft.data.caches.iter().map(cache).collect(),
        downloads: draft.data.downloads.iter().map(download).collect(),
        artifacts: draft.data.artifacts.iter().map(artifact).collect(),
        reports: draft.data.reports.iter().map(report_files).collect(),
        steps: draft.steps.iter().map(step).collect(),
    }
}

fn concurrency(draft: &ConcurrencyDraft) -> Concurrency {
    Concurrency {
        group: text(Some(&draft.group)),
        cancel_in_progress: flag(draft.cancel_in_progress.as_ref()),
        queue: draft.queue,
    }
}

fn cache(draft: &CacheDraft) -> Cache {
    Cache {
        key: text(Some(&draft.key)),
        restore_keys: texts(&draft.restore_keys),
        paths: texts(&draft.paths),
        policy: draft.policy,
        when: draft.when,
    }
}

fn download(draft: &DownloadDraft) -> Download {
    Download {
        name: text(Some(&draft.name)),
        path: text(draft.path.as_ref()),
    }
}

fn artifact(draft: &ArtifactDraft) -> Artifact {
    Artifact {
        name: text(Some(&draft.name)),
        paths: texts(&draft.paths),
        when: draft.when,
        expire_ms: draft.expire_ms,
        if_missing: draft.if_missing,
    }
}

fn report_files(draft: &ReportDraft) -> plan::Report {
    plan::Report {
        kind: draft.kind,
        paths: texts(&draft.paths),
    }
}

/// One step, the same in every instance.
fn step(draft: &StepDraft) -> Step {
    let run = text(Some(&draft.run));
    let name = draft.name.as_ref().map(|node| text(Some(node)));
    Step {
        id: draft.id().to_owned(),
        name: name.unwrap_or_else(|| first_line(&run)),
        run,
        shell: draft.shell.clone(),
        working_directory: text(draft.working_directory.as_ref()),
        env: environment(&draft.env),
        condition: condition(draft.condition.as_ref()),
        timeout_ms: draft.timeout_ms,
        continue_on_error: flag(draft.continue_on_error.as_ref()),
        retry: draft.retry.clone(),
        parallel: draft.parallel,
    }
}

/// The text of a value; empty without one.
fn text(node: Option<&Rc<Node>>) -> String {
    node.and_then(|node| node.text())
        .unwrap_or_default()
        .to_owned()
}

/// The texts of a list.
fn texts(nodes: &[Rc<Node>]) -> Vec<String> {
    nodes.iter().map(|node| text(Some(node))).collect()
}

/// Labels with their `os=` or `arch=`.
fn labels(labels: &[Label]) -> Vec<String> {
    labels
        .iter()
        .map(|label| format!("{}{}", label.prefix, text(Some(&label.node))))
        .collect()
}

/// Names to templates, as the plan has them.
fn environment(bindings: &[Binding]) -> BTreeMap<String, String> {
    bindings
        .iter()
        .map(|item| (item.name.clone(), text(Some(&item.value))))
        .collect()
}

/// A condition without `${{ }}`.
fn condition(node: Option<&Rc<Node>>) -> Option<String> {
    let (expression, _) = bare(node?.text()?)?;
    Some(expression.trim().to_owned())
}

/// `true`, `false` or an expression; false without one.
fn flag(node: Option<&Rc<Node>>) -> String {
    condition(node).map_or_else(
        || "false".to_owned(),
        |text| match text.to_lowercase().as_str() {
            "true" => "true".to_owned(),
            "false" => "false".to_owned(),
            _ => text,
        },
    )
}

/// The first line of a script that says something, as a step without a name is shown.
fn first_line(run: &str) -> String {
    const SHOWN: usize = 80;
    let says = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let line = run.lines().map(str::trim).find(says).unwrap_or_default();
    if line.chars().count() <= SHOWN {
        return line.to_owned();
    }
    let mut short: String = line.chars().take(SHOWN - 1).collect();
    // A cut expression would not be one.
    if let Some(open) = short.rfind("${{")
        && !short.get(open..).is_some_and(|rest| rest.contains("}}"))
    {
        short.truncate(open);
    }
    format!("{short}…")
}
