//! What people do: submit, repeat, answer, set quotas.

use std::{collections::BTreeSet, time::Duration};

use rustci_scheduler::{
    Command, JobId, Phase, Quota, Run, RunId, Scheduler, StoredPlan, Verdict,
    record::{CarriedJob, ExpandedMatrix, RunMeta},
};

use crate::{
    simulation::Simulation,
    workload::{PROJECTS, plan_of},
    world::Event,
};

impl Simulation {
    /// Somebody submits a run, or one that was once more, and comes again later when the control
    /// plane is away.
    pub(crate) fn submit(&mut self) {
        if self.server.process.is_none() {
            self.world.after(Duration::from_secs(1), Event::Submit);
            return;
        }
        let (plan, priority) = (plan_of(&mut self.world.rng), self.world.rng.between(0, 4));
        let project = self.world.rng.pick(&PROJECTS).unwrap_or_default();
        let (again, pick) = (self.world.rng.chance(20), self.world.rng.below(1_000));
        self.server.with(&mut self.world, |process, world| {
            let new = Command::Submit {
                plan,
                meta: RunMeta {
                    project: project.to_owned(),
                    priority: i32::try_from(priority).unwrap_or(0),
                    ..RunMeta::default()
                },
            };
            let repeated = again.then(|| repeat(&process.scheduler, pick)).flatten();
            // A quota may refuse it.
            let _ = process.handle(repeated.unwrap_or(new), world);
        });
    }

    /// Somebody answers a job that asks, and looks again a little later.
    pub(crate) fn answer(&mut self) {
        let delay = self.world.millis(500, 15_000);
        self.world.after(delay, Event::Answer);
        let pick = self.world.rng.below(100);
        let verdict = if self.world.rng.chance(75) {
            Verdict::Approved
        } else {
            Verdict::Declined
        };
        self.server.with(&mut self.world, |process, world| {
            let asking = asking(&process.scheduler);
            let Some((run, job)) = choose(&asking, pick) else {
                return;
            };
            let answer = Command::Answer {
                run,
                job,
                verdict,
                by: "ann".to_owned(),
                comment: String::new(),
            };
            let _ = process.handle(answer.clone(), world);
            if process.handle(answer, world).is_ok() {
                world
                    .oracle
                    .fail("I1", format!("job {job} was answered twice"));
            }
        });
    }

    /// Somebody sets quotas, or takes them back.
    pub(crate) fn set_quotas(&mut self, on: Quotas) {
        let mut command = |project: &str| Command::SetQuota {
            project: project.to_owned(),
            quota: match on {
                Quotas::None => Quota::default(),
                Quotas::Some => Quota {
                    running: u32::try_from(self.world.rng.between(1, 3)).unwrap_or(1),
                    queued: u32::try_from(self.world.rng.below(40)).unwrap_or(0),
                    weight: 1,
                },
            },
        };
        let commands = PROJECTS.map(&mut command);
        self.server.with(&mut self.world, |process, world| {
            for command in commands {
                let _ = process.handle(command, world);
            }
        });
    }
}

/// Whether projects are bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotas {
    None,
    Some,
}

fn choose<T: Copy>(all: &[T], pick: u64) -> Option<T> {
    let place = usize::try_from(pick).ok()?.checked_rem(all.len())?;
    all.get(place).copied()
}

fn asking(scheduler: &Scheduler) -> Vec<(RunId, JobId)> {
    let jobs = scheduler.runs().flat_map(|run| {
        let asking = (0..).zip(&run.jobs).filter(|(_, job)| job.is_asking());
        asking.map(|(place, _)| (run.id, run.job_id(place)))
    });
    jobs.collect()
}

/// The repetition of a run that has ended: one of its jobs, and all that need it.
fn repeat(scheduler: &Scheduler, pick: u64) -> Option<Command> {
    let ended = scheduler.runs().filter(|run| run.conclusion.is_some());
    let ended: Vec<&Run> = ended.collect();
    let run = choose(&ended, pick)?;
    let places: Vec<usize> = (0..run.jobs.len()).collect();
    let again = with_dependents(choose(&places, pick / 7)?, &run.plan);
    let mut matrices = run.meta.expanded.clone();
    matrices.extend(run.expansions.iter().filter_map(|expansion| {
        let place = places
            .iter()
            .find(|place| run.job_id(**place).0 == expansion.job)?;
        Some(ExpandedMatrix {
            place: u32::try_from(*place).ok()?,
            matrix_json: expansion.matrix_json.clone(),
        })
    }));
    let stays = |matrix: &ExpandedMatrix| {
        let place = usize::try_from(matrix.place).unwrap_or(usize::MAX);
        !run.plan
            .needs(place)
            .iter()
            .any(|need| again.contains(need))
    };
    let expanded: Vec<_> = matrices.into_iter().filter(stays).collect();
    let next = run.submitted_plan.with_matrices(&expanded).ok()?;
    let kept = places.iter().filter(|place| !again.contains(place));
    let carried = kept.filter_map(|place| carried(run, *place, &next));
    Some(Command::Submit {
        plan: run.submitted_plan.clone(),
        meta: RunMeta {
            rerun_of: run.id.0,
            carried: carried.collect(),
            expanded,
            ..run.meta.clone()
        },
    })
}

fn with_dependents(first: usize, plan: &StoredPlan) -> BTreeSet<usize> {
    let mut again = BTreeSet::from([first]);
    loop {
        let before = again.len();
        let all = 0..plan.plan().jobs.len();
        let needs_one = |place: &usize| plan.needs(*place).iter().any(|need| again.contains(need));
        let more: Vec<_> = all.filter(needs_one).collect();
        again.extend(more);
        if again.len() == before {
            return again;
        }
    }
}

fn carried(run: &Run, place: usize, next: &StoredPlan) -> Option<CarriedJob> {
    let job = run
        .jobs
        .get(place)
        .filter(|job| job.phase == Phase::Ended)?;
    let key = &run.plan.plan().jobs.get(place)?.key;
    let place = next
        .plan()
        .jobs
        .iter()
        .position(|planned| planned.key == *key)?;
    Some(CarriedJob {
        place: u32::try_from(place).ok()?,
        conclusion: job.conclusion?.into(),
        outputs: job.outputs.clone(),
        from_run: job.carried_from.unwrap_or(run.id).0,
        tolerated: job.tolerated,
    })
}
