//! Stages of tasks to jobs of a draft.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use super::names::INJECTED;
use super::read::File;
use super::task::{Order, Stage, Task};
use crate::diagnostic::Code;
use crate::limits::{NAME_CHARS_MAX, PARALLEL_STEPS_MAX};
use crate::native::draft::{Draft, JobDraft, Matrix, StepDraft};
use crate::native::include::Missing;
use crate::pipeline::{Older, Pipeline};
use crate::plan::{Artifact, Cache, Download, IfMissing, Job, When};
use crate::report::Report;
use crate::shape::Binding;
use crate::yaml::Node;

/// What the draft has no place for.
pub(in crate::native) struct Rest {
    /// Environment whose values need the runner.
    late: BTreeMap<String, String>,
    jobs: Extras,
    older: Older,
}

/// By job id.
type Extras = HashMap<String, Extra>;

/// What a job has beside its draft.
#[derive(Default)]
struct Extra {
    caches: Vec<Cache>,
    downloads: Vec<Download>,
    artifacts: Vec<Artifact>,
}

impl Rest {
    /// Adds it to the plan.
    pub(in crate::native) fn complete(&self, pipeline: &mut Pipeline) {
        for job in &mut pipeline.plan.jobs {
            complete(job, &self.late, &self.jobs);
        }
        pipeline.older = Some(self.older.clone());
    }
}

/// Makes the draft.
pub(super) fn draft(report: &mut Report<'_>, file: File) -> (Draft, Rest) {
    let mut jobs = Jobs::new(&file);
    for stage in &file.stages {
        check_size(report, stage);
    }
    jobs.has_stages = file.stages.len() > 1;
    let matrix = file.matrix;
    let count = file.stages.len();
    for (number, stage) in (1..).zip(file.stages) {
        let next = if number < count {
            Next::Jobs
        } else {
            Next::Nothing
        };
        jobs.stage(stage, next);
    }
    jobs.close(Next::Nothing);
    let Jobs {
        mut drafts, extras, ..
    } = jobs;
    put_matrix(report, &mut drafts, matrix, &file.root);
    let draft = Draft {
        name: file.name,
        env: file.env,
        triggers: file.triggers,
        inputs: BTreeMap::new(),
        concurrency: None,
        jobs: drafts,
        missing: Missing::None,
    };
    let rest = Rest {
        late: file.late,
        jobs: extras,
        older: file.older,
    };
    (draft, rest)
}

/// Reports a stage with more steps than may run at the same time.
fn check_size(report: &mut Report<'_>, stage: &Stage) {
    let over = stage.tasks.get(PARALLEL_STEPS_MAX);
    if let Some(over) = over.filter(|_| stage.order == Order::AtOnce) {
        let (max, count) = (PARALLEL_STEPS_MAX, stage.tasks.len());
        let message = format!("at most {max} steps run at the same time, this stage has {count}");
        report
            .error(Code::TOO_MANY, over.key.at.clone(), message)
            .help("move the rest to another stage, or remove `parallel`");
    }
}

/// The matrix of the whole file, which only one job can have.
fn put_matrix(report: &mut Report<'_>, drafts: &mut [JobDraft], matrix: Matrix, root: &Rc<Node>) {
    match (matrix, drafts) {
        (Matrix::None, _) | (_, []) => {}
        (matrix, [only]) if matches!(only.matrix, Matrix::None) => {
            only.env.splice(0..0, axes(&matrix, &only.key));
            only.matrix = matrix;
        }
        (_, [first, ..]) => {
            let at = root.get("matrix").map(|node| node.at.clone());
            report
                .error(
                    Code::MATRIX,
                    at.unwrap_or_else(|| first.key.at.clone()),
                    "the file has a matrix, and a job in it has one too",
                )
                .help("move the file's axes to the jobs that need them");
        }
    }
}

/// The axes as environment.
fn axes(matrix: &Matrix, at: &Rc<Node>) -> Vec<Binding> {
    let Matrix::Known(matrix) = matrix else {
        return Vec::new();
    };
    let axis = |name: &String| Binding {
        name: name.clone(),
        value: Node::text_at(format!("${{{{ matrix.{name} }}}}"), at.at.clone()),
    };
    matrix.names.iter().map(axis).collect()
}

/// Adds what every job of an older pipeline finds in its environment, and its extras.
fn complete(job: &mut Job, late: &BTreeMap<String, String>, extras: &Extras) {
    let injected = INJECTED.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in late.clone().into_iter().chain(injected) {
        job.env.entry(name).or_insert(value);
    }
    let Some(extra) = extras.get(&job.id) else {
        return;
    };
    job.caches.clone_from(&extra.caches);
    job.downloads.clone_from(&extra.downloads);
    job.artifacts.clone_from(&extra.artifacts);
    let values = job
        .matrix
        .keys()
        .map(|name| format!("-${{{{ matrix.{name} }}}}"));
    let values: String = values.collect();
    for artifact in &mut job.artifacts {
        artifact.name.push_str(&values);
    }
}

/// What comes after a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Jobs,
    Nothing,
}

/// The jobs made so far, and the one that still gets steps.
struct Jobs {
    drafts: Vec<JobDraft>,
    extras: Extras,
    ids: HashSet<String>,
    /// The stages that the open job has steps of.
    names: Vec<Rc<Node>>,
    open: Option<(JobDraft, Extra)>,
    /// The jobs that the next one waits for.
    needs: Vec<String>,
    /// The artifact that has the workspace.
    workspace: Option<String>,
    /// The settings of every job.
    settings: Settings,
    has_stages: bool,
}

/// What the file says about all jobs.
struct Settings {
    root: Rc<Node>,
    secrets: BTreeMap<String, String>,
    timeout_ms: u64,
    retry: crate::plan::Retry,
    cache: Option<Cache>,
}

impl Jobs {
    fn new(file: &File) -> Self {
        Self {
            drafts: Vec::new(),
            extras: Extras::new(),
            ids: HashSet::new(),
            names: Vec::new(),
            open: None,
            needs: Vec::new(),
            workspace: None,
            settings: Settings {
                root: Rc::clone(&file.root),
                secrets: file.secrets.clone(),
                timeout_ms: file.timeout_ms,
                retry: file.retry.clone(),
                cache: file.cache.clone(),
            },
            has_stages: false,
        }
    }

    /// Adds the tasks of a stage: as steps of the open job, or, when some have a matrix, as jobs
    /// that run at the same time.
    fn stage(&mut self, stage: Stage, next: Next) {
        let (name, order) = (stage.name, stage.order);
        let (own, steps): (Vec<Task>, Vec<Task>) = stage
            .tasks
            .into_iter()
            .partition(|task| !matches!(task.matrix, Matrix::None));
        if own.is_empty() {
            return self.steps(steps, name.as_ref(), order);
        }
        self.close(Next::Jobs);
        let jobs: Vec<String> = own.into_iter().map(|task| self.job(task)).collect();
        if steps.is_empty() {
            self.needs = jobs;
            return;
        }
        self.steps(steps, name.as_ref(), order);
        self.close(next);
        self.needs.extend(jobs);
    }

    /// Adds the steps of a stage to the open job.
    fn steps(&mut self, steps: Vec<Task>, stage: Option<&Rc<Node>>, order: Order) {
        if !steps.is_empty() {
            self.names.extend(stage.cloned());
        }
        let parallel = (order == Order::AtOnce && steps.len() > 1).then(|| self.next_group());
        for task in steps {
            self.step(task, stage, parallel);
        }
    }

    /// A number that no group of the open job has.
    fn next_group(&self) -> u32 {
        let steps = self.open.iter().flat_map(|(job, _)| &job.steps);
        steps.filter_map(|step| step.parallel).max().unwrap_or(0) + 1
    }

    /// Adds a step to the open job.
    fn step(&mut self, mut task: Task, stage: Option<&Rc<Node>>, parallel: Option<u32>) {
        let (job, extra) = match self.open.take() {
            Some(open) => open,
            None => self.begin(&Rc::clone(&task.key)),
        };
        let (mut job, mut extra) = (job, extra);
        job.secrets.append(&mut task.secrets);
        extra.caches.extend(task.cache.take());
        let stage = stage.filter(|_| self.has_stages);
        if let (Some(stage), Some(name)) = (stage, &task.name) {
            let text = [stage, name].map(|node| node.text().unwrap_or_default());
            task.name = Some(Node::text_at(text.join(" / "), name.at.clone()));
        }
        job.steps.push(StepDraft {
            parallel,
            ..step(task)
        });
        self.open = Some((job, extra));
    }

    /// A job that comes after all jobs so far, with their workspace.
    fn begin(&self, at: &Rc<Node>) -> (JobDraft, Extra) {
        let key = Node::text_at("", at.at.clone());
        let needs = self.needs.iter();
        let job = JobDraft {
            needs: needs
                .map(|id| Node::text_at(id.clone(), at.at.clone()))
                .collect(),
            key,
            secrets: self.settings.secrets.clone(),
            timeout_ms: self.settings.timeout_ms,
            retry: self.settings.retry.clone(),
            ..JobDraft::default()
        };
        let workspace = self.workspace.iter().map(|name| Download {
            name: name.clone(),
            path: String::new(),
        });
        let extra = Extra {
            caches: self.settings.cache.clone().into_iter().collect(),
            downloads: workspace.collect(),
            artifacts: Vec::new(),
        };
        (job, extra)
    }

    /// Ends the open job. When others come after it, they get its workspace.
    fn close(&mut self, next: Next) {
        let names = std::mem::take(&mut self.names);
        let Some((mut job, mut extra)) = self.open.take() else {
            return;
        };
        let shown: Vec<&str> = names.iter().filter_map(|name| name.text()).collect();
        job.id = match shown.as_slice() {
            [only] => self.id(only),
            _ => self.id("pipeline"),
        };
        if shown.len() > 1 {
            let text: String = shown.join(", ").chars().take(NAME_CHARS_MAX).collect();
            job.name = Some(Node::text_at(text, job.key.at.clone()));
        }
        if next == Next::Jobs {
            let name = format!("workspace-{}", job.id);
            extra.artifacts.push(Artifact {
                name: name.clone(),
                paths: vec!["**".to_owned()],
                when: When::Success,
                expire_ms: None,
                if_missing: IfMissing::Ignore,
            });
            self.workspace = Some(name);
        }
        self.needs = vec![job.id.clone()];
        self.push(job, extra);
    }

    /// Adds a task with a matrix, and says its id.
    fn job(&mut self, mut task: Task) -> String {
        let at = Rc::clone(&task.key);
        let (mut job, mut extra) = self.begin(&at);
        let name = task.name.take();
        job.id = self.id(name
            .as_ref()
            .and_then(|name| name.text())
            .unwrap_or_default());
        job.env = axes(&task.matrix, &at);
        job.matrix = std::mem::take(&mut task.matrix);
        job.secrets.append(&mut task.secrets);
        job.condition = task.condition.take();
        job.continue_on_error = task.continue_on_error.take();
        extra.caches.extend(task.cache.take());
        job.steps.push(step(task));
        let id = job.id.clone();
        self.push(job, extra);
        id
    }

    fn push(&mut self, mut job: JobDraft, mut extra: Extra) {
        let says = |name: &str| {
            let own = |step: &StepDraft| step.run.text().is_some_and(|run| run.contains(name));
            job.steps.iter().any(own)
        };
        if says("ARTIFACTS_DIR") {
            extra.artifacts.push(Artifact {
                name: format!("artifacts-{}", job.id),
                paths: vec!["artifacts/**".to_owned()],
                when: When::Always,
                expire_ms: None,
                if_missing: IfMissing::Ignore,
            });
        }
        if says("ARTIFACTS_DIR") || says("BUILD_DIR") {
            let at = self.settings.root.at.clone();
            let step = StepDraft {
                name: Some(Node::text_at("directories", at.clone())),
                run: Node::text_at("mkdir -p \"$BUILD_DIR\" \"$ARTIFACTS_DIR\"", at),
                ..StepDraft::default()
            };
            job.steps.insert(0, step);
        }
        self.extras.insert(job.id.clone(), extra);
        self.drafts.push(job);
    }

    /// An id that no job has, like `name`.
    fn id(&mut self, name: &str) -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let mut id: String = name
            .chars()
            .map(|c| if fits(c) { c } else { '-' })
            .take(NAME_CHARS_MAX - 20)
            .collect();
        if !id.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            id.insert_str(0, "job-");
        }
        let mut unique = id.clone();
        let mut number = 1;
        while !self.ids.insert(unique.clone()) {
            number += 1;
            unique = format!("{id}-{number}");
        }
        unique
    }
}

fn step(task: Task) -> StepDraft {
    StepDraft {
        name: task.name,
        run: task.run,
        shell: task.shell,
        working_directory: task.working_directory,
        env: task.env,
        condition: task.condition,
        timeout_ms: task.timeout_ms,
        continue_on_error: task.continue_on_error,
        retry: task.retry,
        ..StepDraft::default()
    }
}
