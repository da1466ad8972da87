//! Edges between jobs.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::draft::{Draft, JobDraft};
use super::include::Missing;
use crate::diagnostic::Code;
use crate::nearest::nearest;
use crate::report::Report;
use crate::yaml::Node;

/// Reports needs that do not exist, that stand twice, and circles.
pub(super) fn check(report: &mut Report<'_>, draft: &Draft) {
    let index: HashMap<&str, usize> = draft
        .jobs
        .iter()
        .enumerate()
        .map(|(index, job)| (job.id.as_str(), index))
        .collect();
    for job in &draft.jobs {
        check_names(report, draft, job, &index);
    }
    Search {
        report,
        draft,
        index: &index,
        states: vec![State::New; draft.jobs.len()],
    }
    .run();
}

/// Reports needs of a job that do not exist or stand twice.
fn check_names(
    report: &mut Report<'_>,
    draft: &Draft,
    job: &JobDraft,
    index: &HashMap<&str, usize>,
) {
    let mut seen = HashSet::new();
    for need in &job.needs {
        // Looking for the name that was meant is the dearest thing here.
        if report.is_full() {
            return;
        }
        let name = need.text().unwrap_or_default();
        if !index.contains_key(name) && draft.missing == Missing::Some {
            continue;
        }
        if !index.contains_key(name) {
            let others = draft.jobs.iter().filter(|other| other.id != job.id);
            report
                .error(
                    Code::UNKNOWN_NEED,
                    need.at.clone(),
                    format!("there is no job `{name}`"),
                )
                .nearest(nearest(name, others.map(|other| other.id.as_str())));
        } else if !seen.insert(name) {
            let message = format!("`{name}` stands twice in `needs`");
            report.error(Code::DUPLICATE_ID, need.at.clone(), message);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    OnPath,
    Done,
}

/// A depth-first search with its own stack, so that a long chain of jobs is no problem.
struct Search<'a, 'r, 's> {
    report: &'r mut Report<'s>,
    draft: &'a Draft,
    index: &'a HashMap<&'a str, usize>,
    states: Vec<State>,
}

/// A job on the path and how many of its needs were looked at.
struct Visit {
    job: usize,
    next: usize,
}

impl Search<'_, '_, '_> {
    /// Looks for circles from every job not seen yet.
    fn run(&mut self) {
        for start in 0..self.draft.jobs.len() {
            if self.state(start) == State::New {
                self.from(start);
            }
        }
    }

    fn state(&self, job: usize) -> State {
        self.states.get(job).copied().unwrap_or(State::Done)
    }

    fn set(&mut self, job: usize, state: State) {
        if let Some(slot) = self.states.get_mut(job) {
            *slot = state;
        }
    }

    /// Follows the needs from one job.
    fn from(&mut self, start: usize) {
        let mut path = vec![Visit {
            job: start,
            next: 0,
        }];
        self.set(start, State::OnPath);
        while let Some(visit) = path.last_mut() {
            let needs = self
                .draft
                .jobs
                .get(visit.job)
                .map(|job| job.needs.as_slice());
            let Some(need) = needs.and_then(|needs| needs.get(visit.next)) else {
                let job = visit.job;
                self.set(job, State::Done);
                path.pop();
                continue;
            };
            visit.next += 1;
            let Some(&to) = need.text().and_then(|name| self.index.get(name)) else {
                continue;
            };
            match self.state(to) {
                State::New => {
                    self.set(to, State::OnPath);
                    path.push(Visit { job: to, next: 0 });
                }
                State::OnPath => self.circle(&path, to, need),
                State::Done => {}
            }
        }
    }

    /// Reports the part of the path that comes back to `to`.
    fn circle(&mut self, path: &[Visit], to: usize, need: &Rc<Node>) {
        let id = |job: usize| self.draft.jobs.get(job).map_or("", |job| job.id.as_str());
        let names: Vec<&str> = path
            .iter()
            .map(|visit| visit.job)
            .skip_while(|job| *job != to)
            .chain([to])
            .map(id)
            .collect();
        let message = match names.as_slice() {
            [one, _] => format!("job `{one}` needs itself"),
            _ => format!("jobs wait for each other: {}", names.join(" needs ")),
        };
        self.report
            .error(Code::CYCLE, need.at.clone(), message)
            .help("remove one of these needs, or no job of the circle can ever begin");
    }
}
