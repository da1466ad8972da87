//! The steps of a job, one after the other: conditions, tries, outputs, results.

use std::io;
use std::time::{Duration, Instant};

use rustci_pipeline::condition::Status;
use rustci_pipeline::v1;
use rustci_pipeline::v1::step_event::Kind;
use valkyrie_frame::LogChannel;

use super::contexts::JobContexts;
use super::directory::JobDirectory;
use super::environment::Environment;
use super::exports;
use super::log::unix_ms;
use super::message::ReportKind;
use super::outgoing::Outgoing;
use super::outputs::{self, PairsFile};
use super::step_files::StepFiles;
use super::summary;
use super::supervisor::{JOB_STEP, RunError, StopCause, Supervisor};
use super::tried::{TIME_UP, Tried, is_retried};
use crate::limits::TRIES_MAX;

/// A job whose steps are being run.
pub(crate) struct Steps<'j> {
    pub(crate) dir: &'j JobDirectory,
    pub(crate) spec: &'j v1::JobSpec,
    pub(crate) supervisor: &'j mut Supervisor,
    pub(crate) contexts: JobContexts,
    /// Environment of every step: the machine's part, the facts, the job's own, the secrets.
    pub(crate) env: Environment,
    pub(crate) mark: &'j str,
    pub(crate) results: Vec<v1::StepFinished>,
    /// What steps wrote for people, in the order of the steps.
    pub(crate) summaries: Vec<v1::StoredSummary>,
    pub(crate) outgoing: &'j mut Outgoing,
    /// The first step that failed and may not: it decides how the job ends.
    pub(crate) failed: Option<(v1::Outcome, String)>,
}

impl Steps<'_> {
    /// Runs all steps.
    ///
    /// # Errors
    /// When the log or the directory cannot be written any more.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let spec = self.spec;
        for (index, step) in (0..=JOB_STEP - 1).zip(&spec.steps) {
            let finished = self.step(index, step)?;
            self.results.push(finished.clone());
            self.report(index, Kind::Finished(finished));
        }
        Ok(())
    }

    /// Evaluates the job's outputs. Values that hold a secret are masked: they leave the runner.
    pub(crate) fn outputs(&mut self) -> Result<Vec<v1::Binding>, String> {
        let mut outputs = Vec::new();
        for binding in &self.spec.outputs {
            let name = binding.name.clone();
            let value = self.contexts.render(&binding.value);
            let value = value.map_err(|error| format!("output `{name}`: {error}"))?;
            let masked = self.supervisor.log.mask(&value);
            if masked != value {
                let text = format!("output `{name}` holds a secret and is handed on masked");
                self.supervisor.log.say(JOB_STEP, LogChannel::SYSTEM, &text);
            }
            outputs.push(v1::Binding {
                name,
                value: masked,
            });
        }
        Ok(outputs)
    }

    /// How the job as a whole stands.
    pub(crate) fn outcome(&self) -> (v1::Outcome, String) {
        match self.supervisor.stopped() {
            Some(StopCause::TimedOut) => (v1::Outcome::TimedOut, TIME_UP.to_owned()),
            Some(_) => (v1::Outcome::Canceled, "canceled".to_owned()),
            None => self
                .failed
                .clone()
                .unwrap_or((v1::Outcome::Success, String::new())),
        }
    }

    fn step(&mut self, index: u16, step: &v1::Step) -> io::Result<v1::StepFinished> {
        let begun = Instant::now();
        let mut tries = 0;
        let tried = match self.is_wanted(step) {
            Err(message) => Tried::failure(message),
            Ok(None) => self.tries(index, step, &mut tries)?,
            Ok(Some(reason)) => Tried {
                outcome: v1::Outcome::Skipped,
                ..Tried::failure(reason)
            },
        };
        let conclusion = self.conclude(index, step, &tried);
        self.contexts
            .add_step(&step.id, &tried.outputs, tried.outcome, conclusion);
        Ok(v1::StepFinished {
            outcome: tried.outcome.into(),
            conclusion: conclusion.into(),
            exit_code: tried.exit_code,
            duration_ms: millis(begun.elapsed()),
            message: self.supervisor.log.mask(&tried.message),
            tries,
        })
    }

    /// `None` when the step is to run, else why not.
    fn is_wanted(&mut self, step: &v1::Step) -> Result<Option<String>, String> {
        if self.supervisor.is_out_of_grace(Instant::now()) {
            return Ok(Some("the job had to end".to_owned()));
        }
        self.contexts.set_status(self.status());
        self.contexts
            .set_step_env(&step.env)
            .map_err(|error| error.to_string())?;
        let wanted = self.contexts.condition(&step.condition);
        match wanted.map_err(|error| format!("if: {error}"))? {
            true => Ok(None),
            false if step.condition.is_empty() => Ok(Some("an earlier step failed".to_owned())),
            false => Ok(Some(format!("if: {} is false", step.condition))),
        }
    }

    fn status(&self) -> Status {
        match (self.supervisor.stopped(), &self.failed) {
            (Some(_), _) => Status::CANCELLED,
            (None, Some(_)) => Status::FAILURE,
            (None, None) => Status::SUCCESS,
        }
    }

    /// What the step means for the job, and for what follows.
    fn conclude(&mut self, index: u16, step: &v1::Step, tried: &Tried) -> v1::Outcome {
        let outcome = tried.outcome;
        if matches!(outcome, v1::Outcome::Success | v1::Outcome::Skipped) {
            return outcome;
        }
        let forgiven = outcome != v1::Outcome::Canceled
            && self.contexts.flag(&step.continue_on_error).unwrap_or(false);
        if forgiven {
            return v1::Outcome::Success;
        }
        let message = format!(
            "step {} `{}`: {}",
            index + 1,
            self.name(step),
            tried.message
        );
        let message = self.supervisor.log.mask(&message);
        self.failed.get_or_insert((outcome, message));
        outcome
    }

    fn tries(&mut self, index: u16, step: &v1::Step, tries: &mut u32) -> io::Result<Tried> {
        let retry = step.retry.clone().unwrap_or_default();
        let max = retry.max.saturating_add(1).min(TRIES_MAX);
        loop {
            *tries += 1;
            let name = self.supervisor.log.mask(&self.name(step));
            self.report(
                index,
                Kind::Started(v1::StepStarted {
                    name,
                    r#try: *tries,
                }),
            );
            let tried = self.try_once(index, step, *tries)?;
            let again = *tries < max && self.supervisor.stopped().is_none();
            if !again || !is_retried(&retry, &tried) {
                self.explain(index, &tried);
                return Ok(tried);
            }
            let text = format!("{}; trying again ({} of {max})", tried.message, *tries + 1);
            self.supervisor.log.say(index, LogChannel::SYSTEM, &text);
        }
    }

    /// A log that ends without a reason makes people guess.
    fn explain(&mut self, index: u16, tried: &Tried) {
        if !tried.message.is_empty() {
            self.supervisor
                .log
                .say(index, LogChannel::SYSTEM, &tried.message);
        }
    }

    fn try_once(&mut self, index: u16, step: &v1::Step, number: u32) -> io::Result<Tried> {
        let files = StepFiles::new(self.dir, index, number);
        let mut command = match self.command(index, step, number, &files) {
            Ok(command) => command,
            Err(message) => return Ok(Tried::failure(message)),
        };
        let limit = Some(step.timeout_ms).filter(|ms| *ms > 0);
        let limit = limit.map(|ms| Instant::now() + Duration::from_millis(ms));
        let ended = match self.supervisor.run(&mut command, index, limit) {
            Ok(ended) => ended,
            Err(RunError::Spawn(error)) => {
                let program = command.get_program().to_string_lossy().into_owned();
                return Ok(Tried::failure(format!(
                    "{program} cannot be started: {error}"
                )));
            }
            Err(RunError::Fatal(error)) => return Err(error),
        };
        let mut tried = Tried::new(step, ended, self.supervisor.stopped());
        self.supervisor.log.learn();
        self.take_summary(index, &files)?;
        match self.take_values(&files) {
            Ok(outputs) => tried.outputs = outputs,
            Err(message) if tried.outcome == v1::Outcome::Success => {
                tried = Tried {
                    exit_code: tried.exit_code,
                    ..Tried::failure(message)
                };
            }
            // The step failed anyway, and its own reason says more.
            Err(_) => {}
        }
        Ok(tried)
    }

    /// Takes over what the step set for those after it, and returns its outputs.
    fn take_values(&mut self, files: &StepFiles) -> Result<Vec<(String, String)>, String> {
        let log = &self.supervisor.log;
        let shown = |text: &str| outputs::shorten(&log.mask(text));
        let outputs =
            outputs::read(&files.output, PairsFile::Output, &shown).map_err(|e| e.to_string())?;
        let variables = exports::variables(&files.env, &shown).map_err(|e| e.to_string())?;
        let directories = exports::directories(&files.path, &shown).map_err(|e| e.to_string())?;
        self.contexts.add_env(&variables);
        self.env.extend(variables);
        if !directories.is_empty() {
            let path = self.env.entry("PATH".to_owned()).or_default();
            *path = format!("{}:{path}", directories.join(":"));
        }
        Ok(outputs)
    }

    /// Keeps the summary of the newest try. One that cannot be kept fails no step.
    fn take_summary(&mut self, index: u16, files: &StepFiles) -> io::Result<()> {
        self.summaries
            .retain(|known| known.step != u32::from(index));
        match summary::read(&files.summary, &self.supervisor.log) {
            Ok(None) => {}
            Ok(Some(text)) => self.summaries.push(v1::StoredSummary {
                step: index.into(),
                digest: self.outgoing.add_blob(text.as_bytes())?.to_vec(),
                bytes: text.len() as u64,
            }),
            Err(error) => {
                let log = &mut self.supervisor.log;
                log.say(index, LogChannel::SYSTEM, &error.to_string());
            }
        }
        Ok(())
    }

    /// A name that cannot be evaluated is shown as it was written.
    pub(super) fn name(&self, step: &v1::Step) -> String {
        self.contexts
            .render(&step.name)
            .unwrap_or_else(|_| step.name.clone())
    }

    fn report(&mut self, index: u16, kind: Kind) {
        let event = v1::StepEvent {
            step: index.into(),
            unix_ms: unix_ms(),
            kind: Some(kind),
        };
        self.supervisor.report(ReportKind::Step(event));
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
