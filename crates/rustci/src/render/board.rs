//! What is known about a run that is being watched.

use std::collections::{BTreeMap, VecDeque};

use crate::api::view::{Conclusion, JobView, RunEvent, RunView, Status, StepView, TestList};

/// Lines kept of each step: enough to see why it failed.
pub(crate) const TAIL_LINES: usize = 20;
/// Characters kept of a line in a tail; a wider terminal than this does not exist.
const TAIL_LINE_CHARS: usize = 1_000;

/// One line of a job's log, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    /// The job's id.
    pub(crate) job: u64,
    /// None for lines about the job itself.
    pub(crate) step: Option<u16>,
    /// Who wrote it.
    pub(crate) channel: Channel,
    /// When its last part was read from the process, in Unix nanoseconds.
    pub(crate) unix_ns: u64,
    /// Without its line end, and as the job printed it: [`clean`](super::text::clean) it.
    pub(crate) text: String,
}

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Channel {
    /// The step's standard output.
    Stdout,
    /// The step's standard error.
    Stderr,
    /// RustCI.
    System,
    /// The command line about to run.
    Command,
}

/// A run and the ends of its logs.
#[derive(Debug)]
pub(crate) struct Board {
    /// The newest state of the run.
    pub(crate) run: RunView,
    /// The first of its tests, those that failed in front; none until the run was asked for them.
    pub(crate) tests: Option<TestList>,
    /// How many summaries its steps wrote, as far as known.
    pub(crate) summaries: usize,
    tails: BTreeMap<(u64, Option<u16>), VecDeque<String>>,
}

impl Board {
    /// Starts with no log lines.
    pub(crate) fn new(run: RunView) -> Self {
        Self {
            run,
            tests: None,
            summaries: 0,
            tails: BTreeMap::new(),
        }
    }

    /// Remembers a line for the tails.
    pub(crate) fn log(&mut self, line: &LogLine) {
        if line.channel == Channel::Command {
            return;
        }
        let tail = self.tails.entry((line.job, line.step)).or_default();
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line.text.chars().take(TAIL_LINE_CHARS).collect());
    }

    /// Forgets a job's lines.
    pub(crate) fn forget(&mut self, job: u64) {
        self.tails.retain(|(owner, _), _| *owner != job);
    }

    /// The last lines of a step, or of the job itself.
    pub(crate) fn tail(
        &self,
        job: u64,
        step: Option<u16>,
    ) -> impl DoubleEndedIterator<Item = &str> {
        self.tails
            .get(&(job, step))
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// Takes a change of the run over. A job that is new comes from a matrix that was not known
    /// before.
    pub(crate) fn apply(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Run { run } => {
                let jobs = std::mem::take(&mut self.run.jobs);
                self.run = run.clone().with_jobs(jobs);
            }
            RunEvent::Job { job } => {
                let known = self.run.jobs.iter_mut().find(|known| known.id == job.id);
                let Some(known) = known else {
                    let beside = |known: &JobView| known.job_id == job.job_id;
                    let place = self.run.jobs.iter().rposition(beside);
                    let place = place.map_or(self.run.jobs.len(), |last| last + 1);
                    return self.run.jobs.insert(place, job.clone());
                };
                let again = job.attempts.len() > known.attempts.len().max(1);
                known.clone_from(job);
                if again {
                    self.forget(job.id);
                }
            }
            RunEvent::Step { job, step, .. } => {
                let known = self.run.jobs.iter_mut().find(|known| known.id == *job);
                let steps = known.into_iter().flat_map(|job| job.steps.iter_mut());
                if let Some(known) = steps.into_iter().find(|known| known.index == step.index) {
                    known.clone_from(step);
                }
            }
            RunEvent::End { conclusion } => {
                self.run.status = Status::Finished;
                self.run.conclusion = Some(*conclusion);
            }
        }
    }

    /// The job with this id.
    pub(crate) fn job(&self, id: u64) -> Option<&JobView> {
        self.run.jobs.iter().find(|job| job.id == id)
    }
}

/// How something stands, for symbols, colours and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mood {
    /// Runs now.
    Running,
    /// Failed, in whatever way.
    Bad,
    /// Failed, and was allowed to.
    Tolerated,
    /// Waits.
    Waiting,
    /// Succeeded.
    Good,
    /// Did not run, on purpose.
    Skipped,
}

impl Mood {
    /// From a status and, once finished, a conclusion.
    pub(crate) fn of(status: Status, conclusion: Option<Conclusion>) -> Self {
        match (status, conclusion) {
            (Status::Running, _) => Self::Running,
            (Status::Blocked | Status::Queued, _) => Self::Waiting,
            (Status::Finished, Some(Conclusion::Success)) => Self::Good,
            (Status::Finished, Some(Conclusion::Skipped)) => Self::Skipped,
            (Status::Finished, _) => Self::Bad,
        }
    }

    /// A symbol of one column; `tick` turns the one of what runs, in a picture that moves.
    pub(crate) fn symbol(self, tick: Option<usize>) -> char {
        const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
        match self {
            Self::Running => {
                let turned = tick.and_then(|tick| SPINNER.get(tick % SPINNER.len()));
                turned.copied().unwrap_or('●')
            }
            Self::Bad => '✗',
            Self::Tolerated => '!',
            Self::Waiting => '○',
            Self::Good => '✓',
            Self::Skipped => '–',
        }
    }
}

/// The word for a conclusion, as people say it.
pub(crate) fn word(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Success => "succeeded",
        Conclusion::Failure => "failed",
        Conclusion::Error => "could not run",
        Conclusion::Killed => "was killed",
        Conclusion::Canceled => "was canceled",
        Conclusion::Skipped => "was skipped",
        Conclusion::Blocked => "is blocked",
        Conclusion::Declined => "was declined",
        Conclusion::TimedOut => "timed out",
    }
}

/// The first step that did not succeed although it had to.
pub(crate) fn failed_step(job: &JobView) -> Option<&StepView> {
    let bad = |step: &&StepView| Mood::of(step.status, step.conclusion) == Mood::Bad;
    job.steps.iter().find(bad)
}

/// Milliseconds from start to end, or to `now_ms` while there is no end; none before the start.
pub(crate) fn elapsed(
    started_ms: Option<u64>,
    finished_ms: Option<u64>,
    now_ms: u64,
) -> Option<u64> {
    Some(finished_ms.unwrap_or(now_ms).saturating_sub(started_ms?))
}
