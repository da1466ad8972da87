//! `jobs`, in stages that are a list of names.

use std::collections::HashMap;
use std::rc::Rc;

use super::names::Names;
use super::task::{self, Order, Stage};
use crate::diagnostic::Code;
use crate::nearest::nearest;
use crate::report::Report;
use crate::shape::fields::entries;
use crate::shape::values;
use crate::yaml::Node;

/// The stage of jobs that name none.
const DEFAULT: &str = "test";

/// Reads `jobs` into their stages. Jobs of one stage run at the same time.
pub(super) fn stages(
    report: &mut Report<'_>,
    listed: Option<&Rc<Node>>,
    node: &Rc<Node>,
    names: &Names,
) -> Vec<Stage> {
    let mut stages = Stages::default();
    if let Some(listed) = listed {
        for item in values::texts(report, listed, "stages") {
            stages.list(report, &item);
        }
    }
    let entries = entries(report, node, "`jobs`").unwrap_or_default();
    if entries.is_empty() {
        report.error(Code::EMPTY, node.at.clone(), "`jobs` is empty");
    }
    for entry in entries {
        let Some((stage, task)) = task::job(report, &entry.key, &entry.value, names) else {
            continue;
        };
        let place = stages.place(report, stage.as_ref(), &entry.key);
        if let Some(stage) = place.and_then(|place| stages.stages.get_mut(place)) {
            stage.tasks.push(task);
        }
    }
    stages.stages
}

/// Stages in their order, by name.
#[derive(Default)]
struct Stages {
    stages: Vec<Stage>,
    places: HashMap<String, usize>,
    listed: bool,
}

impl Stages {
    /// Adds a stage that the file lists.
    fn list(&mut self, report: &mut Report<'_>, node: &Rc<Node>) {
        self.listed = true;
        let name = node.text().unwrap_or_default();
        if self.places.contains_key(name) {
            let message = format!("the stage `{name}` stands twice");
            report.error(Code::DUPLICATE_ID, node.at.clone(), message);
            return;
        }
        self.open(node);
    }

    fn open(&mut self, name: &Rc<Node>) -> usize {
        let place = self.stages.len();
        let text = name.text().unwrap_or_default().to_owned();
        self.places.insert(text, place);
        self.stages.push(Stage {
            name: Some(Rc::clone(name)),
            order: Order::InTurn,
            tasks: Vec::new(),
        });
        place
    }

    /// Where a job of this stage goes; a file that lists no stages has those that its jobs name.
    fn place(
        &mut self,
        report: &mut Report<'_>,
        stage: Option<&Rc<Node>>,
        job: &Rc<Node>,
    ) -> Option<usize> {
        let name = stage.and_then(|stage| stage.text());
        let Some(name) = name.or_else(|| self.default_name()) else {
            return self.stages.len().checked_sub(1);
        };
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        if self.listed {
            self.unknown(report, stage?);
            return None;
        }
        let implied = Node::text_at(name, job.at.clone());
        Some(self.open(stage.unwrap_or(&implied)))
    }

    /// Where a job goes that names no stage; none means the last one there is.
    fn default_name(&self) -> Option<&'static str> {
        (!self.listed || self.places.contains_key(DEFAULT)).then_some(DEFAULT)
    }

    fn unknown(&self, report: &mut Report<'_>, node: &Rc<Node>) {
        let name = node.text().unwrap_or_default();
        let known = self
            .stages
            .iter()
            .filter_map(|stage| stage.name.as_ref()?.text());
        let meant = nearest(name, known);
        let message = format!("there is no stage `{name}`");
        report
            .error(Code::UNKNOWN_NEED, node.at.clone(), message)
            .nearest(meant)
            .help("name it in `stages`, in the order in which they run");
    }
}
