//! What the catalogue has to hear, and the answers that wait until it has.

use std::collections::VecDeque;

use rustci_scheduler::{JobId, RunId, Scheduler};

use crate::api::ApiError;
use crate::catalogue::{Change, Handed, Query, Updates};
use crate::engine::handle::{Answer, Begun};
use crate::engine::states;
use crate::limits::PROJECTION_BACKLOG;

/// Collects changes and hands them to the catalogue. Without a catalogue it only answers.
#[derive(Debug)]
pub(super) struct Projection {
    updates: Option<Updates>,
    jobs: Vec<JobId>,
    runs: Vec<RunId>,
    new_runs: Vec<RunId>,
    /// Durable, and not yet with the catalogue.
    backlog: Vec<Change>,
    /// The journal index that the catalogue was last told.
    told: u64,
    answers: Vec<Held>,
    /// Questions to the catalogue, each about an exact index.
    marks: VecDeque<Mark>,
}

/// A question that comes behind some changes of the backlog and before the others.
struct Mark {
    /// Changes before it.
    behind: usize,
    /// The journal index at which those changes stand.
    index: u64,
    query: Query,
}

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mark({} changes, index {})", self.behind, self.index)
    }
}

/// An answer whose asker may look into the catalogue as soon as it has it.
#[derive(Debug)]
enum Held {
    Run(Begun, Answer<Begun>),
    Done(Answer<()>),
}

impl Projection {
    pub(super) fn new(updates: Option<Updates>) -> Self {
        Self {
            updates,
            jobs: Vec::new(),
            runs: Vec::new(),
            new_runs: Vec::new(),
            backlog: Vec::new(),
            told: 0,
            answers: Vec::new(),
            marks: VecDeque::new(),
        }
    }

    pub(super) fn job_changed(&mut self, job: JobId) {
        if self.updates.is_some() {
            self.jobs.push(job);
        }
    }

    pub(super) fn run_changed(&mut self, run: RunId) {
        if self.updates.is_some() {
            self.runs.push(run);
        }
    }

    pub(super) fn run_submitted(&mut self, run: RunId) {
        if self.updates.is_some() {
            self.new_runs.push(run);
        }
    }

    /// The states of everything that changed since the last call, each once.
    pub(super) fn collect(&mut self, scheduler: &Scheduler) -> Option<Vec<Change>> {
        if self.jobs.is_empty() && self.runs.is_empty() && self.new_runs.is_empty() {
            return None;
        }
        let mut changes = Vec::new();
        self.new_runs.sort_unstable();
        self.new_runs.dedup();
        for run in self.new_runs.drain(..).filter_map(|run| scheduler.run(run)) {
            changes.push(states::new_run(run));
            // Nobody tells of jobs that ended before the run began.
            let carried = (0..run.jobs.len()).filter(|place| {
                let job = run.jobs.get(*place);
                job.is_some_and(|job| job.carried_from.is_some())
            });
            self.jobs.extend(carried.map(|place| run.job_id(place)));
        }
        self.jobs.sort_unstable();
        self.jobs.dedup();
        for job in self.jobs.drain(..) {
            if let Some((run, place, job)) = scheduler.job(job) {
                changes.push(Change::Job(states::job_state(scheduler, run, place, job)));
            }
        }
        // Runs last: who sees that a run ended has seen that its jobs did.
        self.runs.sort_unstable();
        self.runs.dedup();
        let runs = self.runs.drain(..).filter_map(|run| scheduler.run(run));
        changes.extend(runs.map(|run| Change::Run(states::progress(run))));
        Some(changes)
    }

    /// Adds changes that may be seen.
    pub(super) fn extend(&mut self, changes: impl IntoIterator<Item = Change>) {
        if self.updates.is_some() {
            self.backlog.extend(changes);
        }
    }

    pub(super) fn answer_run(&mut self, begun: Begun, answer: Answer<Begun>) {
        self.answers.push(Held::Run(begun, answer));
    }

    pub(super) fn answer(&mut self, answer: Answer<()>) {
        self.answers.push(Held::Done(answer));
    }

    /// Asks the catalogue `query` when it has exactly what is durable up to `index`: everything
    /// that [`extend`](Self::extend) got so far, and nothing of later. Without a catalogue the
    /// question is dropped.
    pub(super) fn ask_at(&mut self, index: u64, query: Query) {
        if self.updates.is_some() {
            let behind = self.backlog.len();
            self.marks.push_back(Mark {
                behind,
                index,
                query,
            });
        }
    }

    /// Hands over the changes before each question, and the question.
    fn flush_marks(&mut self, updates: &Updates) -> Handed {
        while let Some(mark) = self.marks.pop_front() {
            let later = self.backlog.split_off(mark.behind.min(self.backlog.len()));
            let handed = updates.send(&mut self.backlog, mark.index);
            self.backlog.extend(later);
            if handed == Handed::Later {
                self.marks.push_front(mark);
                return Handed::Later;
            }
            self.told = self.told.max(mark.index);
            for other in &mut self.marks {
                other.behind -= mark.behind;
            }
            if let Err(query) = updates.ask(mark.query) {
                let again = Mark {
                    behind: 0,
                    index: mark.index,
                    query,
                };
                self.marks.push_front(again);
                return Handed::Later;
            }
        }
        Handed::Over
    }

    /// Hands over what is durable up to `synced`, then answers those who asked for it.
    pub(super) fn flush(&mut self, synced: u64) {
        if let Some(updates) = self.updates.clone()
            && self.flush_marks(&updates) == Handed::Later
        {
            return;
        }
        if let Some(updates) = &self.updates
            && (synced > self.told || !self.backlog.is_empty())
        {
            if updates.send(&mut self.backlog, synced) == Handed::Later {
                return;
            }
            self.told = synced;
        }
        for held in self.answers.drain(..) {
            // Whoever asked may have gone away; then nobody misses the answer.
            match held {
                Held::Run(begun, answer) => drop(answer.send(Ok(begun))),
                Held::Done(answer) => drop(answer.send(Ok(()))),
            }
        }
    }

    /// Whether something waits for room in the catalogue's queue.
    pub(super) fn is_waiting(&self) -> bool {
        !self.backlog.is_empty() || !self.answers.is_empty() || !self.marks.is_empty()
    }

    /// Whether the catalogue is so far behind that nothing new should begin.
    pub(super) fn is_overloaded(&self) -> bool {
        self.backlog.len() > PROJECTION_BACKLOG
    }

    pub(super) fn fail(&mut self, reason: &str) {
        self.marks.clear();
        for held in self.answers.drain(..) {
            let error = ApiError::Storage(reason.to_owned());
            match held {
                Held::Run(_, answer) => drop(answer.send(Err(error))),
                Held::Done(answer) => drop(answer.send(Err(error))),
            }
        }
    }

    /// The journal index up to which the catalogue needs no journal any more.
    pub(super) fn durable(&self) -> u64 {
        self.updates.as_ref().map_or(u64::MAX, Updates::durable)
    }

    /// Asks the catalogue to make durable what it was told so far, and says up to where that is;
    /// `None` when its queue has no room now.
    pub(super) fn checkpoint(&self) -> Option<u64> {
        let updates = self.updates.as_ref()?;
        (updates.checkpoint() == Handed::Over).then_some(self.told)
    }
}
