//! Answers for people: why a job waits, what runners do.

mod gate;
mod queue;

use std::{collections::BTreeSet, fmt};

pub use gate::Holder;

use rustci_pipeline::labels;
use valkyrie_frame::WallTime;

pub use queue::{Ahead, ClassView, Counts, ProjectView, QueueView, Reasons};

use crate::{
    JobId, Run, RunnerId, Scheduler,
    plan::Requirement,
    pool::PoolRunner,
    state::{Job, Phase},
};

/// A runner, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunnerView {
    /// Its id.
    pub id: RunnerId,
    /// Its unique name.
    pub name: String,
    /// Its labels, one `executor=NAME` for each executor included. Empty while it is away.
    pub labels: Vec<String>,
    /// Jobs it runs at once. 0 until it has connected to this process.
    pub capacity: u32,
    /// The jobs it has.
    pub jobs: Vec<JobId>,
    /// It can be sent jobs.
    pub connected: bool,
    /// An operator wants it to get no new jobs.
    pub draining: bool,
    /// It said that it ends when its jobs have.
    pub leaving: bool,
}

/// Why a job is not running. Shows as a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waiting {
    /// Jobs it needs have not ended.
    Needs {
        /// Their keys.
        jobs: Vec<String>,
    },
    /// Its run waits for the slot of its concurrency group.
    RunSlot {
        /// The group.
        group: String,
        /// Who holds the slot.
        holder: Option<Holder>,
        /// How many others get it before.
        ahead: usize,
    },
    /// It waits for somebody to approve it.
    Approval {
        /// Where it acts.
        environment: String,
        /// Who is asked; empty means anybody.
        from: Vec<String>,
        /// When it ends as blocked.
        until: WallTime,
    },
    /// It waits for the slot of its concurrency group.
    Slot {
        /// The group.
        group: String,
        /// Who holds the slot.
        holder: Option<Holder>,
        /// How many others get it before.
        ahead: usize,
    },
    /// The queue is paused.
    Paused,
    /// Enough instances of its matrix are in front.
    MaxParallel {
        /// The limit.
        max: u32,
    },
    /// No runner is connected at all.
    NoRunners,
    /// No connected runner suits.
    NoSuitableRunner {
        /// What the runner that comes closest lacks.
        missing: Vec<String>,
        /// A label that exists and was perhaps meant, with the one that was written.
        nearest: Option<(String, String)>,
    },
    /// Its project runs as many jobs as it may.
    Quota {
        /// The bound.
        max: u32,
    },
    /// Every runner that suits is draining or rests.
    Unavailable {
        /// How many suit.
        runners: usize,
        /// Those of them that rest for a moment because they refused a job.
        resting: usize,
    },
    /// Every runner that suits has enough to do.
    Capacity {
        /// How many suit.
        runners: usize,
        /// Jobs that go before it, if the queue stays as it is.
        ahead: usize,
    },
}

impl Waiting {
    /// Every word that [`code`](Self::code) gives.
    pub const CODES: &[&'static str] = &[
        "needs",
        "run_slot",
        "approval",
        "slot",
        "paused",
        "max_parallel",
        "no_runners",
        "no_suitable_runner",
        "quota",
        "draining",
        "resting",
        "capacity",
    ];

    /// The reason as a word that never changes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Needs { .. } => "needs",
            Self::RunSlot { .. } => "run_slot",
            Self::Approval { .. } => "approval",
            Self::Slot { .. } => "slot",
            Self::Paused => "paused",
            Self::MaxParallel { .. } => "max_parallel",
            Self::NoRunners => "no_runners",
            Self::NoSuitableRunner { .. } => "no_suitable_runner",
            Self::Quota { .. } => "quota",
            Self::Unavailable { resting: 0, .. } => "draining",
            Self::Unavailable { .. } => "resting",
            Self::Capacity { .. } => "capacity",
        }
    }
}

/// Instances of one matrix that are still named one by one.
const INSTANCES_NAMED: usize = 3;

/// Names of jobs, those of a large matrix as a number.
fn together(jobs: &[String]) -> String {
    let id = |key: &String| key.split(" (").next().unwrap_or(key).to_owned();
    let groups = jobs.chunk_by(|one, next| id(one) == id(next));
    let words = groups.map(|group| match group {
        [first, ..] if group.len() > INSTANCES_NAMED => {
            format!("{} jobs of {}", group.len(), id(first))
        }
        few => few.join(", "),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Runners that are searched for the one that lacks least.
const RUNNERS_LOOKED_AT: usize = 1_024;

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Needs { jobs } => write!(f, "waits for {}", together(jobs)),
            Self::RunSlot {
                group,
                holder,
                ahead,
            } => {
                f.write_str("its run ")?;
                gate::slot(f, group, holder.as_ref(), *ahead)
            }
            Self::Slot {
                group,
                holder,
                ahead,
            } => gate::slot(f, group, holder.as_ref(), *ahead),
            Self::Approval {
                environment, from, ..
            } => gate::approval(f, environment, from),
            Self::Paused => f.write_str("the queue is paused"),
            Self::MaxParallel { max } => {
                write!(f, "at most {max} jobs of its matrix run at once")
            }
            Self::NoRunners => f.write_str("no runner is connected"),
            Self::NoSuitableRunner { missing, nearest } => {
                write!(f, "no runner has the label {}", missing.join(", "))?;
                match nearest {
                    Some((label, wanted)) => {
                        write!(f, "; there is `{label}`, was that meant by `{wanted}`?")
                    }
                    None => Ok(()),
                }
            }
            Self::Quota { max: 1 } => f.write_str("its project may run 1 job at once"),
            Self::Quota { max } => write!(f, "its project may run {max} jobs at once"),
            Self::Unavailable { runners, .. } => {
                write!(
                    f,
                    "{}",
                    suitable(*runners, "takes no jobs now", "take no jobs now")
                )
            }
            Self::Capacity { runners, ahead } => {
                write!(f, "{}", suitable(*runners, "is busy", "are busy"))?;
                match ahead {
                    0 => Ok(()),
                    1 => f.write_str("; 1 job goes before it"),
                    ahead => write!(f, "; {ahead} jobs go before it"),
                }
            }
        }
    }
}

fn suitable(runners: usize, one: &str, many: &str) -> String {
    match runners {
        1 => format!("the only suitable runner {one}"),
        _ => format!("all {runners} suitable runners {many}"),
    }
}

impl Scheduler {
    /// Why a job is not running; `None` when it runs or is over.
    #[must_use]
    pub fn waiting(&self, id: JobId) -> Option<Waiting> {
        let (run, place, job) = self.job(id)?;
        match job.phase {
            Phase::Blocked => self.at_gate(run, place, job).or_else(|| {
                let open = |need: &&usize| run.jobs.get(**need).is_some_and(Job::is_open);
                let open = run.plan.needs(place).iter().filter(open);
                let key = |need: &usize| run.plan.job(*need).map(|job| job.key.clone());
                Some(Waiting::Needs {
                    jobs: open.filter_map(key).collect(),
                })
            }),
            Phase::Queued => {
                if self.is_paused() {
                    return Some(Waiting::Paused);
                }
                if let Some((group, max)) = run.parallel_limit(place)
                    && self.limits.is_waiting(run.id, group, id)
                {
                    return Some(Waiting::MaxParallel { max });
                }
                Some(self.waiting_for_runner(run, place, &*run.requirement(place)?))
            }
            Phase::Active | Phase::Ended => None,
        }
    }

    fn waiting_for_runner(&self, run: &Run, place: usize, requirement: &Requirement) -> Waiting {
        let runners = self.pool.suitable(requirement).count();
        if runners == 0 {
            return self.no_suitable_runner(requirement);
        }
        if let Some(max) = self.pool.full(&run.meta.project) {
            return Waiting::Quota { max };
        }
        let open = |runner: &PoolRunner| !runner.is_closed();
        if self.pool.suitable(requirement).any(open) {
            let ahead = self
                .pool
                .ahead(run.job_id(place), requirement, run.share(place));
            let ahead = ahead.map_or(0, |ahead| ahead.own.saturating_add(ahead.others));
            return Waiting::Capacity { runners, ahead };
        }
        let suitable = self.pool.suitable(requirement);
        let resting = suitable.filter(|runner| runner.resting).count();
        Waiting::Unavailable { runners, resting }
    }

    fn no_suitable_runner(&self, requirement: &Requirement) -> Waiting {
        let runs_on = requirement.runs_on();
        let connected = || {
            let runners = self.pool.runners().map(|(_, runner)| runner);
            let connected = runners.filter(|runner| runner.is_connected());
            connected.take(RUNNERS_LOOKED_AT)
        };
        let closest = connected()
            .map(|runner| labels::missing(&runs_on, &runner.labels))
            .min_by_key(Vec::len);
        let Some(missing) = closest else {
            return Waiting::NoRunners;
        };
        let known: BTreeSet<&str> = connected()
            .flat_map(|runner| runner.labels.iter().map(String::as_str))
            .collect();
        let nearest = missing.iter().find_map(|wanted| {
            let label = labels::nearest_label(wanted, known.iter().copied())?;
            Some((label.to_owned(), (*wanted).to_owned()))
        });
        let missing = missing.into_iter().map(str::to_owned).collect();
        Waiting::NoSuitableRunner { missing, nearest }
    }

    /// All runners that have ever registered, by id.
    pub fn runners(&self) -> impl Iterator<Item = RunnerView> {
        self.state.runners().map(|known| {
            let pooled = self.pool.runner(known.id);
            RunnerView {
                id: known.id,
                name: known.name.clone(),
                labels: pooled
                    .map(|runner| runner.labels.clone())
                    .unwrap_or_default(),
                capacity: pooled.map_or(0, |runner| runner.capacity),
                jobs: pooled.map_or(Vec::new(), |runner| runner.active.keys().copied().collect()),
                connected: pooled.is_some_and(PoolRunner::is_connected),
                draining: known.draining,
                leaving: pooled.is_some_and(|runner| runner.leaving),
            }
        })
    }
}
