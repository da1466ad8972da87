//! Why jobs wait, and when they will be done.
//!
//! Nothing here walks the queue: the scheduler counts what is in front of a job, and what cannot be
//! said with reason is not said.

use rustci_scheduler::{Ahead, Job, JobId, Phase, Run, RunId, Waiting};
use valkyrie_frame::WallTime;

use crate::api::view::{Details, Explanation, JobExplanation, Nearest, Status, explain_recorded};
use crate::engine::core::Core;
use crate::engine::history::Typical;
use crate::engine::states;
use crate::limits::{EXPLAINED_JOBS_MAX, FORECAST_JOBS_MAX};

/// When a job is expected to start and to end, in Unix milliseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Forecast {
    start: Option<u64>,
    finish: Option<u64>,
}

/// The forecasts of a run's jobs while they are made.
struct Forecasts<'a> {
    core: &'a Core,
    run: &'a Run,
    now: u64,
    /// By place; the outer option is whether it has been looked at.
    known: Vec<Option<Forecast>>,
}

impl Core {
    /// Why the jobs of a run, or the one with this number or key, wait or ended; none when the scheduler does not have
    /// the run any more.
    pub(super) fn explain(&self, run: RunId, only: Option<&str>) -> Option<Explanation> {
        let run = self.scheduler.run(run)?;
        let now = self.clock.now().wall.as_millis();
        let mut forecasts = Forecasts {
            core: self,
            run,
            now,
            known: vec![None; run.jobs.len()],
        };
        let mut places: Vec<usize> = (0..run.jobs.len())
            .filter(|place| only.is_none_or(|only| is_called(run, *place, only)))
            .collect();
        let over = |place: &usize| {
            let phase = run.jobs.get(*place).map(|job| job.phase);
            [Phase::Active, Phase::Ended].contains(&phase.unwrap_or_default())
        };
        places.sort_by_key(over);
        let left_out = places.len().saturating_sub(EXPLAINED_JOBS_MAX);
        places.truncate(EXPLAINED_JOBS_MAX);
        let jobs = places
            .into_iter()
            .filter_map(|place| self.explain_job(&mut forecasts, place));
        let jobs: Vec<_> = jobs.collect();
        let summary = states::summary(run);
        Some(Explanation {
            run: summary.id,
            project: summary.project,
            pipeline: summary.pipeline,
            status: summary.status,
            conclusion: summary.conclusion,
            priority: summary.priority,
            created_ms: summary.created_ms,
            estimated_finish_ms: forecasts.last(),
            jobs,
            left_out: left_out as u64,
        })
    }

    fn explain_job(&self, forecasts: &mut Forecasts<'_>, place: usize) -> Option<JobExplanation> {
        let run = forecasts.run;
        let (job, planned) = (run.jobs.get(place)?, run.plan.plan().jobs.get(place)?);
        let id = run.job_id(place);
        let waiting = self.scheduler.waiting(id);
        let state = states::job_state(&self.scheduler, run, place, job);
        let ahead = matches!(waiting, Some(Waiting::Capacity { .. }))
            .then(|| self.scheduler.ahead(id))
            .flatten();
        let last = state.attempts.last();
        let details = Details {
            runner: last.map(|attempt| attempt.runner.clone()),
            attempts: last.map(|attempt| u64::from(attempt.number)),
            last_cause: last.and_then(|attempt| attempt.cause.clone()),
            ..waiting.as_ref().map(details).unwrap_or_default()
        };
        let (code, reason) = match (&waiting, state.conclusion) {
            (Some(waiting), _) => (waiting.code(), waiting.to_string()),
            (None, Some(ended)) => {
                let (code, fallback) = explain_recorded(ended);
                (code, state.reason.unwrap_or_else(|| fallback.to_owned()))
            }
            (None, None) => ("running", running(job, details.runner.as_deref())),
        };
        let forecast = forecasts.of(place);
        let typical = self.typical(run, place);
        Some(JobExplanation {
            job: id.0,
            key: planned.key.clone(),
            status: state.status,
            conclusion: state.conclusion,
            code: code.to_owned(),
            reason,
            details: with_ahead(details, ahead),
            queued_ms: state.queued_ms,
            estimated_start_ms: forecast.start,
            estimated_finish_ms: forecast.finish.filter(|_| state.status != Status::Finished),
            typical_ms: typical.map(|typical| typical.mean_ms),
            samples: typical.map_or(0, |typical| typical.samples),
        })
    }

    /// How long a job took before.
    fn typical(&self, run: &Run, place: usize) -> Option<Typical> {
        let plan = run.plan.plan();
        let key = &plan.jobs.get(place)?.key;
        self.history.of(&run.meta.project, &plan.name, key)
    }

    /// Learns from a job that has succeeded how long such a job takes.
    pub(super) fn remember(&mut self, id: JobId) {
        let Some((run, place, job)) = self.scheduler.job(id) else {
            return;
        };
        let started = job.attempts.last().and_then(|attempt| attempt.started);
        let (Some(started), Some(finished)) = (started, job.finished) else {
            return;
        };
        let plan = run.plan.plan();
        if let Some(planned) = plan.jobs.get(place) {
            let took = finished.as_millis().saturating_sub(started.as_millis());
            self.history
                .add(&run.meta.project, &plan.name, &planned.key, took);
        }
    }
}

impl Forecasts<'_> {
    /// When the last job ends; none when that is not known of every job, or there are too many.
    fn last(&mut self) -> Option<u64> {
        if self.run.jobs.len() > FORECAST_JOBS_MAX {
            return None;
        }
        let open = self.run.jobs.iter().enumerate();
        let open = open.filter(|(_, job)| job.phase != Phase::Ended);
        let places: Vec<usize> = open.map(|(place, _)| place).collect();
        let ends = places.into_iter().map(|place| self.of(place).finish);
        ends.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// The forecast of the job at `place`.
    fn of(&mut self, place: usize) -> Forecast {
        if let Some(Some(known)) = self.known.get(place) {
            return *known;
        }
        // Whoever comes by again before this is known goes round in a circle, which no plan does.
        self.know(place, Forecast::default());
        let forecast = self.make(place);
        self.know(place, forecast);
        forecast
    }

    fn know(&mut self, place: usize, forecast: Forecast) {
        if let Some(known) = self.known.get_mut(place) {
            *known = Some(forecast);
        }
    }

    fn make(&mut self, place: usize) -> Forecast {
        let Some(job) = self.run.jobs.get(place) else {
            return Forecast::default();
        };
        let typical = self.core.typical(self.run, place);
        let start = match job.phase {
            Phase::Ended => {
                let finish = job.finished.map(WallTime::as_millis);
                return Forecast {
                    start: None,
                    finish,
                };
            }
            Phase::Active => return self.active(job, typical),
            Phase::Queued => self.queued(place, typical),
            Phase::Blocked => self.blocked(place),
        };
        let took = typical.map(|typical| typical.mean_ms);
        Forecast {
            start,
            finish: start
                .zip(took)
                .map(|(start, took)| start.saturating_add(took)),
        }
    }

    /// A job that takes much longer than it should may take any time.
    fn active(&self, job: &Job, typical: Option<Typical>) -> Forecast {
        let since = job.current().map(|attempt| attempt.started);
        let since = since.flatten().map_or(self.now, WallTime::as_millis);
        let finish = typical.and_then(|typical| {
            let finish = since.saturating_add(typical.mean_ms);
            let border = finish.saturating_add(typical.spread_ms.saturating_mul(2));
            (self.now <= border).then_some(finish.max(self.now))
        });
        Forecast {
            start: None,
            finish,
        }
    }

    /// When its turn comes: the runners that suit it end a job every so often.
    fn queued(&self, place: usize, typical: Option<Typical>) -> Option<u64> {
        let id = self.run.job_id(place);
        let Some(Waiting::Capacity { .. }) = self.core.scheduler.waiting(id) else {
            return None;
        };
        let ahead = self.core.scheduler.ahead(id)?;
        let slots = u64::try_from(ahead.slots).ok().filter(|slots| *slots > 0)?;
        let mean_ms = ahead.mean_ms.or(typical.map(|typical| typical.mean_ms))?;
        let before = u64::try_from(ahead.own.saturating_add(ahead.others)).unwrap_or(u64::MAX);
        let wait = before.saturating_add(1).saturating_mul(mean_ms) / slots;
        Some(self.now.saturating_add(wait))
    }

    /// When the last of its needs ends, if it waits for nothing else.
    fn blocked(&mut self, place: usize) -> Option<u64> {
        let id = self.run.job_id(place);
        let needs_only = matches!(
            self.core.scheduler.waiting(id),
            Some(Waiting::Needs { ref jobs }) if !jobs.is_empty()
        );
        if !needs_only || self.run.jobs.len() > FORECAST_JOBS_MAX {
            return None;
        }
        let plan = std::sync::Arc::clone(&self.run.plan);
        let needs = plan.needs(place).iter().map(|need| self.of(*need).finish);
        let last = needs.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        Some(last.max(self.now))
    }
}

/// Whether a number or key means the job at `place`.
fn is_called(run: &Run, place: usize, job: &str) -> bool {
    let planned = run.plan.plan().jobs.get(place);
    planned.is_some_and(|planned| planned.key == job) || job.parse() == Ok(run.job_id(place).0)
}

/// What a job that runs is doing.
fn running(job: &Job, runner: Option<&str>) -> String {
    let runner = runner.unwrap_or("a runner");
    if job.stopping.is_some() {
        return format!("it was told to stop and has not ended on {runner}");
    }
    match job.current().and_then(|attempt| attempt.started) {
        Some(_) => format!("it runs on {runner}"),
        None => format!("{runner} prepares its workspace"),
    }
}

fn details(waiting: &Waiting) -> Details {
    let empty = Details::default();
    match waiting {
        Waiting::Needs { jobs } => Details {
            needs: jobs.clone(),
            ..empty
        },
        Waiting::RunSlot {
            group,
            holder,
            ahead,
        }
        | Waiting::Slot {
            group,
            holder,
            ahead,
        } => Details {
            group: Some(group.clone()),
            holder: holder.as_ref().map(ToString::to_string),
            ahead: Some(*ahead as u64),
            ..empty
        },
        Waiting::Approval {
            environment,
            from,
            until,
        } => Details {
            environment: Some(environment.clone()),
            from: from.clone(),
            until_ms: Some(until.as_millis()),
            ..empty
        },
        Waiting::MaxParallel { max } | Waiting::Quota { max } => Details {
            max: Some(*max),
            ..empty
        },
        Waiting::NoSuitableRunner { missing, nearest } => Details {
            missing: missing.clone(),
            nearest: nearest
                .clone()
                .map(|(label, wanted)| Nearest { wanted, label }),
            ..empty
        },
        Waiting::Unavailable { runners, resting } => Details {
            runners: Some(*runners as u64),
            resting: Some(*resting as u64),
            ..empty
        },
        Waiting::Capacity { runners, .. } => Details {
            runners: Some(*runners as u64),
            ..empty
        },
        _ => empty,
    }
}

fn with_ahead(details: Details, ahead: Option<Ahead>) -> Details {
    Details {
        slots: ahead.map(|ahead| ahead.slots as u64),
        ahead_own: ahead.map(|ahead| ahead.own as u64),
        ahead_others: ahead.map(|ahead| ahead.others as u64),
        ..details
    }
}
