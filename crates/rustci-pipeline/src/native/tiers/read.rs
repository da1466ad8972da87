//! The file's top level.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::names::{Declared, Names};
use super::task::{self, Stage, Task};
use super::{jobs, keys, minimal, quotes, settings, triggers};
use crate::diagnostic::Code;
use crate::expr;
use crate::limits::TIMEOUT_MS_DEFAULT;
use crate::native::check::bare;
use crate::native::draft::Matrix;
use crate::native::read::stem;
use crate::pipeline::{Older, Triggers};
use crate::plan::{Cache, Retry};
use crate::report::Report;
use crate::shape::Binding;
use crate::shape::fields::Fields;
use crate::shape::values;
use crate::yaml::{Node, NodeKind};

/// A file of the older format whose shape is right.
pub(super) struct File {
    pub(super) root: Rc<Node>,
    pub(super) name: String,
    pub(super) env: Vec<Binding>,
    /// Environment whose values need the runner.
    pub(super) late: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) triggers: Triggers,
    pub(super) stages: Vec<Stage>,
    pub(super) matrix: Matrix,
    pub(super) cache: Option<Cache>,
    pub(super) timeout_ms: u64,
    pub(super) retry: Retry,
    pub(super) older: Older,
}

/// How much a file asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Minimal,
    Simple,
    Standard,
    Advanced,
}

/// Reads the whole file. None when there is nothing to go on with.
pub(super) fn file(report: &mut Report<'_>, root: &Rc<Node>) -> Option<File> {
    let fields = Fields::read(report, root, &keys::PIPELINE)?;
    let tier = tier(report, &fields);
    let name = fields
        .get("name")
        .and_then(|node| values::literal(report, node, "name"));
    let name = name.map_or_else(|| stem(report.source().file), str::to_owned);
    let mut names = Names::new();
    let matrix = fields.get("matrix");
    let matrix = matrix.map_or(Matrix::None, |node| {
        settings::matrix(report, node, &mut names)
    });
    let mut declared = Declared::default();
    for key in ["variables", "environment"] {
        if let Some(node) = fields.get(key) {
            declared.add(names.declare(report, node, key));
        }
    }
    let cache = fields
        .get("cache")
        .and_then(|node| settings::cache(report, node, &names));
    let mut text = |name: &str| {
        let node = settings::text(report, &fields, name);
        node.and_then(|node| node.text().map(str::to_owned))
    };
    let [repository, branch, description] = ["repo", "branch", "description"].map(&mut text);
    let stages = stages(report, root, &fields, tier, &name, &names);
    for task in stages.iter().flat_map(|stage| &stage.tasks) {
        quotes::check(report, &task.run, &names);
    }
    Some(File {
        root: Rc::clone(root),
        name,
        env: declared.plain,
        late: declared.late,
        secrets: declared.secrets,
        triggers: triggers::triggers(report, fields.get("triggers")),
        stages,
        matrix,
        cache,
        timeout_ms: settings::seconds(report, &fields, "timeout").unwrap_or(TIMEOUT_MS_DEFAULT),
        retry: settings::retries(report, &fields),
        older: Older {
            tier: tier.name(),
            description,
            repository,
            branch,
        },
    })
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Simple => "simple",
            Self::Standard => "standard",
            Self::Advanced => "advanced",
        }
    }
}

/// The tier that the file names, else the highest one that it has keys of.
fn tier(report: &mut Report<'_>, fields: &Fields<'_>) -> Tier {
    const TIERS: [&str; 4] = ["minimal", "simple", "standard", "advanced"];
    let named = fields.get("type").or_else(|| fields.get("pipeline_type"));
    let word = named.and_then(|node| values::word(report, node, "type", &TIERS));
    let has = |names: &[&str]| names.iter().any(|name| fields.has(name));
    match word {
        Some("minimal") => Tier::Minimal,
        Some("simple") => Tier::Simple,
        Some("standard") => Tier::Standard,
        Some(_) => Tier::Advanced,
        None if has(&["matrix", "include", "cache", "variables"]) => Tier::Advanced,
        None if has(&["stages", "jobs"]) => Tier::Standard,
        None if has(&["steps"]) => Tier::Simple,
        None => Tier::Minimal,
    }
}

/// Everything that runs.
fn stages(
    report: &mut Report<'_>,
    root: &Rc<Node>,
    fields: &Fields<'_>,
    tier: Tier,
    name: &str,
    names: &Names,
) -> Vec<Stage> {
    let one = |tasks: Vec<Task>| {
        vec![Stage {
            name: None,
            order: task::Order::InTurn,
            tasks,
        }]
    };
    let forms: Vec<_> = ["steps", "stages", "jobs"]
        .into_iter()
        .filter_map(|form| Some((form, fields.get(form)?)))
        .collect();
    match forms.as_slice() {
        [("steps", node)] => one(task::steps(report, node, names)),
        [("stages", node)] => staged(report, node, names),
        [("jobs", node)] => jobs::stages(report, None, node, names),
        [("stages", stages), ("jobs", node)] => jobs::stages(report, Some(stages), node, names),
        [(one, _), (other, node), ..] => {
            let message = format!("the pipeline has both `{one}` and `{other}`");
            report
                .error(Code::VALUE, node.at.clone(), message)
                .help("keep one of them; `jobs` only go with `stages` that are a list of names");
            Vec::new()
        }
        _ if tier == Tier::Minimal => one(minimal::tasks(report, root, fields, name)),
        _ => {
            let needed = match tier {
                Tier::Simple => "`steps`",
                _ => "`stages`, `jobs` or `steps`",
            };
            let message = format!("the pipeline has no {needed}");
            report
                .error(Code::MISSING_KEY, root.at.clone(), message)
                .help("a pipeline needs something to run");
            Vec::new()
        }
    }
}

/// `stages` as objects.
fn staged(report: &mut Report<'_>, node: &Rc<Node>, names: &Names) -> Vec<Stage> {
    let NodeKind::Sequence(items) = &node.kind else {
        let message = format!("`stages` has to be a list, not {}", node.kind_name());
        report
            .error(Code::TYPE, node.at.clone(), message)
            .help("begin each stage with `- name: `");
        return Vec::new();
    };
    if items.is_empty() {
        report.error(Code::EMPTY, node.at.clone(), "`stages` is an empty list");
    }
    if let Some(first) = items.first().filter(|item| item.scalar().is_some()) {
        report
            .error(
                Code::MISSING_KEY,
                first.at.clone(),
                "`stages` has names, and there are no `jobs` for them",
            )
            .help("add `jobs`, each with `stage` and `script`, or give each stage its `steps`");
        return Vec::new();
    }
    let stages = items.iter().filter_map(|item| stage(report, item, names));
    stages.collect()
}

/// One stage. What it sets holds for each of its steps that says nothing else.
fn stage(report: &mut Report<'_>, node: &Rc<Node>, names: &Names) -> Option<Stage> {
    let fields = Fields::read(report, node, &keys::STAGE)?;
    for key in ["name", "steps"] {
        if !fields.has(key) {
            let message = format!("this stage has no `{key}`");
            report.error(Code::MISSING_KEY, node.at.clone(), message);
        }
    }
    let mut names = names.clone();
    let environment = fields.get("environment");
    let declared = environment.map(|node| (node, names.declare(report, node, "environment")));
    let condition = settings::text(report, &fields, "condition");
    let timeout_ms = settings::seconds(report, &fields, "timeout");
    let retry = settings::retries(report, &fields);
    let mut tasks = task::steps(report, fields.get("steps")?, &names);
    for task in &mut tasks {
        task.timeout_ms = task.timeout_ms.or(timeout_ms);
        task.condition = both(condition.as_ref(), task.condition.take());
        if task.retry.max == 0 {
            task.retry = retry.clone();
        }
        if let Some((node, declared)) = &declared {
            declared.under(task, node);
        }
    }
    Some(Stage {
        name: settings::text(report, &fields, "name"),
        order: task::order(report, &fields),
        tasks,
    })
}

/// The condition that both have to agree to; one that cannot be read is left to be found alone.
fn both(stage: Option<&Rc<Node>>, task: Option<Rc<Node>>) -> Option<Rc<Node>> {
    let (Some(one), Some(other)) = (stage, &task) else {
        return task.or_else(|| stage.cloned());
    };
    let readable = |node: &Rc<Node>| {
        let (text, _) = bare(node.text()?)?;
        expr::parse(text).ok()?;
        Some(text.trim().to_owned())
    };
    let (Some(left), Some(right)) = (readable(one), readable(other)) else {
        return if readable(other).is_some() {
            Some(Rc::clone(one))
        } else {
            task
        };
    };
    let at = one.at.start.min(other.at.start)..one.at.end.max(other.at.end);
    Some(Node::text_at(format!("({left}) && ({right})"), at))
}
