//! What runners say about steps, on its way to the catalogue.
//!
//! Steps are for people: the scheduler does not know them. While an attempt runs they are only in
//! the catalogue; its result, which is in the journal, has them all once more.

use prost::Message;
use rustci_pipeline::v1::{self, step_event};
use rustci_scheduler::AttemptToken;
use valkyrie::v2;

use crate::catalogue::Change;
use crate::engine::core::Core;
use crate::engine::states;

/// Content type of a step event.
const STEP_CONTENT_TYPE: &str = "application/vnd.rustci.step.v1";

impl Core {
    /// Takes the detail of a progress message, if it has one that this version knows.
    pub(super) fn progress(&mut self, token: AttemptToken, progress: &v2::JobProgress) {
        if progress.content_type != STEP_CONTENT_TYPE {
            return;
        }
        match v1::StepEvent::decode(progress.detail.as_slice()) {
            Ok(event) => self.step_event(token, &event),
            Err(error) => tracing::warn!(%token, %error, "a step event is not readable"),
        }
    }

    fn step_event(&mut self, token: AttemptToken, event: &v1::StepEvent) {
        let planned = states::planned_step(&self.scheduler, token.job, event.step);
        let Some(active) = self.attempts.get_mut(&token.job) else {
            return;
        };
        let place = usize::try_from(event.step).unwrap_or(usize::MAX);
        if place >= crate::limits::STEPS_MAX {
            return;
        }
        if active.steps.len() <= place {
            active.steps.resize(place + 1, (String::new(), None));
        }
        let Some((name, started_ms)) = active.steps.get_mut(place) else {
            return;
        };
        let step = match &event.kind {
            Some(step_event::Kind::Started(started)) => {
                (*name, *started_ms) = (started.name.clone(), Some(event.unix_ms));
                states::step_started(planned, event.unix_ms, started)
            }
            Some(step_event::Kind::Finished(finished)) => {
                let mut planned = planned;
                if !name.is_empty() {
                    planned.name.clone_from(name);
                }
                states::step_finished(planned, *started_ms, finished)
            }
            None => return,
        };
        let run = active.run.0;
        let change = Change::Step {
            run,
            job: token.job.0,
            attempt: token.attempt,
            step,
        };
        self.projection.extend([change]);
    }

    /// The states of all steps, from the result of an attempt.
    pub(super) fn finished_steps(
        &self,
        token: AttemptToken,
        result: &v1::JobResult,
    ) -> Vec<Change> {
        let Some((run, _, _)) = self.scheduler.job(token.job) else {
            return Vec::new();
        };
        let known = self
            .attempts
            .get(&token.job)
            .filter(|active| active.token == token);
        let steps = (0..).zip(&result.steps).map(|(index, finished)| {
            let place = usize::try_from(index).unwrap_or(usize::MAX);
            let said = known.and_then(|active| active.steps.get(place));
            let mut planned = states::planned_step(&self.scheduler, token.job, index);
            let mut started_ms = None;
            if let Some((name, at)) = said.filter(|(name, _)| !name.is_empty()) {
                planned.name.clone_from(name);
                started_ms = *at;
            }
            let step = states::step_finished(planned, started_ms, finished);
            Change::Step {
                run: run.id.0,
                job: token.job.0,
                attempt: token.attempt,
                step,
            }
        });
        steps.collect()
    }
}
