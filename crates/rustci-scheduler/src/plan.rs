//! A plan as the scheduler keeps it: shared by its runs, with its edges as numbers.

use std::{collections::BTreeMap, sync::Arc};

use rustci_pipeline::{ExpandError, Expanded, Job, Plan, PlanDigest, PlanError, RunsOn, template};

use crate::record::ExpandedMatrix;

/// A plan, its canonical text, and what follows from it. Make one per plan and share it: runs of
/// the same plan then cost neither its encoding nor its memory again.
#[derive(Debug)]
pub struct StoredPlan {
    plan: Plan,
    json: String,
    digest: PlanDigest,
    edges: Vec<Edges>,
    /// The instances of each matrix, by the place of the first.
    groups: BTreeMap<usize, Vec<usize>>,
}

/// A job's neighbours, as places in the plan.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    /// Jobs that have to end first, each once.
    pub(crate) needs: Vec<usize>,
    /// Jobs that wait for this one.
    pub(crate) dependents: Vec<usize>,
    /// Its matrix, by the place of its first instance: later instances do not change that.
    pub(crate) group: Option<usize>,
    /// What a runner must have; `None` when that holds expressions.
    pub(crate) requirement: Option<Arc<Requirement>>,
    /// Whether queueing it needs no expression.
    pub(crate) plain: bool,
}

impl StoredPlan {
    /// Prepares a plan.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let json = plan.to_canonical_json();
        let digest = plan.digest();
        Self::with_text(plan, json, digest)
    }

    /// Reads the text that [`json`](Self::json) gave.
    ///
    /// # Errors
    /// [`PlanError`] when it is not a plan, or one of a newer version.
    pub fn from_json(json: &str) -> Result<Self, PlanError> {
        let plan = Plan::from_json(json)?;
        let digest = plan.digest();
        Ok(Self::with_text(plan, json.to_owned(), digest))
    }

    fn with_text(plan: Plan, json: String, digest: PlanDigest) -> Self {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut edges: Vec<Edges> = Vec::with_capacity(plan.jobs.len());
        let ids = places_by_id(&plan);
        let mut group_of = BTreeMap::new();
        for (place, job) in plan.jobs.iter().enumerate() {
            let mut own = Edges {
                needs: needs(job, &ids),
                ..Edges::default()
            };
            if let Some(group) = &job.group {
                let first = *group_of.entry(group.id.as_str()).or_insert(place);
                own.group = Some(first);
                groups.entry(first).or_default().push(place);
            }
            own.requirement = requirement(&job.runs_on);
            own.plain = own.requirement.is_some()
                && job.condition.is_none()
                && !has_gate(job)
                && matches!(job.continue_on_error.as_str(), "" | "true" | "false");
            edges.push(own);
        }
        connect(&mut edges);
        Self {
            plan,
            json,
            digest,
            edges,
            groups,
        }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its canonical JSON.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// SHA-256 of [`json`](Self::json).
    #[must_use]
    pub fn digest(&self) -> PlanDigest {
        self.digest
    }

    /// Places of the jobs that the job at `place` needs.
    #[must_use]
    pub fn needs(&self, place: usize) -> &[usize] {
        self.edges(place).map_or(&[], |edges| &edges.needs)
    }

    pub(crate) fn edges(&self, place: usize) -> Option<&Edges> {
        self.edges.get(place)
    }

    pub(crate) fn job(&self, place: usize) -> Option<&Job> {
        self.plan.jobs.get(place)
    }

    /// Places of all instances of one matrix, named by the first.
    pub(crate) fn group(&self, first: usize) -> &[usize] {
        self.groups.get(&first).map_or(&[], Vec::as_slice)
    }

    /// The plan with the instances that `matrix_json` makes of the job at `place`; `None` when it
    /// makes none.
    ///
    /// # Errors
    /// [`ExpandError`] when the value is no matrix for this job.
    pub(crate) fn expand(
        &self,
        place: usize,
        matrix_json: &str,
    ) -> Result<Option<Self>, ExpandError> {
        let value = serde_json::from_str(matrix_json).unwrap_or_default();
        Ok(match rustci_pipeline::expand(&self.plan, place, &value)? {
            Expanded::Empty => None,
            Expanded::Plan(plan) => Some(Self::new(plan)),
        })
    }

    /// The plan with all of `matrices` expanded, one after the other.
    ///
    /// # Errors
    /// [`ExpandError`] when one of them does not fit the plan.
    pub fn with_matrices(
        self: &Arc<Self>,
        matrices: &[ExpandedMatrix],
    ) -> Result<Arc<Self>, ExpandError> {
        let mut plan = Arc::clone(self);
        for matrix in matrices {
            let place = usize::try_from(matrix.place).unwrap_or(usize::MAX);
            if let Some(expanded) = plan.expand(place, &matrix.matrix_json)? {
                plan = Arc::new(expanded);
            }
        }
        Ok(plan)
    }
}

/// Whether something stands between the end of its needs and the queue.
fn has_gate(job: &Job) -> bool {
    let approval = job
        .environment
        .as_ref()
        .is_some_and(|environment| environment.approval.is_some());
    job.dynamic.is_some() || job.concurrency.is_some() || approval
}

/// What a runner must have, in a form in which equal ones are equal.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Requirement {
    /// Every one is needed.
    pub(crate) all: Vec<String>,
    /// One is enough.
    pub(crate) any: Vec<String>,
}

impl Requirement {
    /// Labels in one order, in lower case, with the executor they imply.
    pub(crate) fn new(runs_on: &RunsOn) -> Self {
        let (mut all, any) = (normal(&runs_on.all), normal(&runs_on.any));
        if !all
            .iter()
            .chain(&any)
            .any(|label| label.starts_with("executor="))
        {
            all.push("executor=native".to_owned());
            all.sort();
        }
        Self { all, any }
    }

    /// The same in the words of a plan.
    pub(crate) fn runs_on(&self) -> RunsOn {
        RunsOn {
            all: self.all.clone(),
            any: self.any.clone(),
        }
    }
}

fn normal(labels: &[String]) -> Vec<String> {
    let mut labels: Vec<_> = labels
        .iter()
        .map(|label| label.to_ascii_lowercase())
        .collect();
    labels.sort();
    labels.dedup();
    labels
}

/// What a runner must have for labels without expressions.
fn requirement(runs_on: &RunsOn) -> Option<Arc<Requirement>> {
    let plain = !runs_on
        .all
        .iter()
        .chain(&runs_on.any)
        .any(|label| template::is_template(label));
    plain.then(|| Arc::new(Requirement::new(runs_on)))
}

fn places_by_id(plan: &Plan) -> BTreeMap<&str, Vec<usize>> {
    let mut ids: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, job) in plan.jobs.iter().enumerate() {
        ids.entry(&job.id).or_default().push(place);
    }
    ids
}

fn needs(job: &Job, ids: &BTreeMap<&str, Vec<usize>>) -> Vec<usize> {
    let found = job.needs.iter().filter_map(|id| ids.get(id.as_str()));
    let mut needs: Vec<_> = found.flatten().copied().collect();
    needs.sort_unstable();
    needs.dedup();
    needs
}

/// Fills in the dependents from the needs.
fn connect(edges: &mut [Edges]) {
    for place in 0..edges.len() {
        let needs = edges
            .get(place)
            .map(|own| own.needs.clone())
            .unwrap_or_default();
        for need in needs {
            if let Some(needed) = edges.get_mut(need) {
                needed.dependents.push(place);
            }
        }
    }
}
