//! Answers for people: why a job waits, what runners do.

use std::fmt;

use rustci_pipeline::labels;

use crate::{
    JobId, RunnerId, Scheduler,
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
    /// It gets no new jobs.
    pub draining: bool,
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
    /// Every runner that suits is draining or rests.
    Unavailable {
        /// How many suit.
        runners: usize,
    },
    /// Every runner that suits has enough to do.
    Capacity {
        /// How many suit.
        runners: usize,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Needs { jobs } => write!(f, "waits for {}", jobs.join(", ")),
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
            Self::Unavailable { runners } => {
                write!(
                    f,
                    "{}",
                    suitable(*runners, "takes no jobs now", "take no jobs now")
                )
            }
            Self::Capacity { runners } => {
                write!(f, "{}", suitable(*runners, "is busy", "are busy"))
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
            Phase::Blocked => {
                let open = |need: &&usize| run.jobs.get(**need).is_some_and(Job::is_open);
                let open = run.plan.needs(place).iter().filter(open);
                let key = |need: &usize| run.plan.job(*need).map(|job| job.key.clone());
                Some(Waiting::Needs {
                    jobs: open.filter_map(key).collect(),
                })
            }
            Phase::Queued => {
                if self.is_paused() {
                    return Some(Waiting::Paused);
                }
                if let Some((group, max)) = run.parallel_limit(place)
                    && self.limits.is_waiting(run.id, group, id)
                {
                    return Some(Waiting::MaxParallel { max });
                }
                Some(self.waiting_for_runner(&*run.requirement(place)?))
            }
            Phase::Active | Phase::Ended => None,
        }
    }

    fn waiting_for_runner(&self, requirement: &Requirement) -> Waiting {
        let runners = self.pool.suitable(requirement);
        if runners == 0 {
            return self.no_suitable_runner(requirement);
        }
        let runs_on = requirement.runs_on();
        let suits = |runner: &PoolRunner| {
            runner.is_connected() && labels::matches(&runs_on, &runner.labels)
        };
        let mut suitable = self.pool.runners().filter(|(_, runner)| suits(runner));
        if suitable.all(|(_, runner)| runner.is_closed()) {
            Waiting::Unavailable { runners }
        } else {
            Waiting::Capacity { runners }
        }
    }

    fn no_suitable_runner(&self, requirement: &Requirement) -> Waiting {
        let runs_on = requirement.runs_on();
        let connected = || {
            let runners = self.pool.runners().map(|(_, runner)| runner);
            runners.filter(|runner| runner.is_connected())
        };
        let closest = connected()
            .map(|runner| labels::missing(&runs_on, &runner.labels))
            .min_by_key(Vec::len);
        let Some(missing) = closest else {
            return Waiting::NoRunners;
        };
        let known = || connected().flat_map(|runner| runner.labels.iter().map(String::as_str));
        let nearest = missing.iter().find_map(|wanted| {
            let label = labels::nearest_label(wanted, known())?;
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
                jobs: pooled.map_or(Vec::new(), |runner| runner.active.iter().copied().collect()),
                connected: pooled.is_some_and(PoolRunner::is_connected),
                draining: known.draining,
            }
        })
    }
}
