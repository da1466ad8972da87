//! The steps of a job: what they see, what they leave, and how the job stands by them.

use std::io;
use std::time::{Duration, Instant};

use rustci_pipeline::condition::Status;
use rustci_pipeline::limits::PARALLEL_STEPS_MAX;
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
use super::supervisor::{JOB_STEP, StopCause, Supervisor};
use super::tried::{TIME_UP, Tried};

/// A step with its index in the job.
pub(super) type Numbered<'j> = (u16, &'j v1::Step);

/// What a try of a step wrote for those after it.
pub(super) struct Values {
    pub(super) outputs: Vec<(String, String)>,
    pub(super) exports: Exports,
}

/// Environment of later steps.
pub(super) struct Exports {
    variables: Vec<(String, String)>,
    directories: Vec<String>,
}

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
    /// Runs all steps: one after the other, those of a group together.
    ///
    /// # Errors
    /// When the log or the directory cannot be written any more.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let spec = self.spec;
        let steps: Vec<Numbered<'_>> = (0..=JOB_STEP - 1).zip(&spec.steps).collect();
        let beside = |one: &Numbered<'_>, next: &Numbered<'_>| {
            one.1.parallel != 0 && one.1.parallel == next.1.parallel
        };
        let groups = steps.chunk_by(beside);
        for together in groups.flat_map(|group| group.chunks(PARALLEL_STEPS_MAX)) {
            self.together(together)?;
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

    /// `None` when the step is to run, else why not.
    pub(super) fn is_wanted(&mut self, step: &v1::Step) -> Result<Option<String>, String> {
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
    pub(super) fn conclusion(&self, step: &v1::Step, outcome: v1::Outcome) -> v1::Outcome {
        let may_fail = || self.contexts.flag(&step.continue_on_error).unwrap_or(false);
        match outcome {
            v1::Outcome::Success | v1::Outcome::Skipped | v1::Outcome::Canceled => outcome,
            _ if may_fail() => v1::Outcome::Success,
            _ => outcome,
        }
    }

    /// A log that ends without a reason makes people guess.
    pub(super) fn explain(&mut self, index: u16, tried: &Tried) {
        if !tried.message.is_empty() {
            self.supervisor
                .log
                .say(index, LogChannel::SYSTEM, &tried.message);
        }
    }

    /// Reads what the step set for those after it.
    pub(super) fn read_values(&self, files: &StepFiles) -> Result<Values, String> {
        let log = &self.supervisor.log;
        let shown = |text: &str| outputs::shorten(&log.mask(text));
        let outputs =
            outputs::read(&files.output, PairsFile::Output, &shown).map_err(|e| e.to_string())?;
        let variables = exports::variables(&files.env, &shown).map_err(|e| e.to_string())?;
        let directories = exports::directories(&files.path, &shown).map_err(|e| e.to_string())?;
        Ok(Values {
            outputs,
            exports: Exports {
                variables,
                directories,
            },
        })
    }

    /// Gives what a step set to those after it.
    pub(super) fn export(&mut self, exports: Exports) {
        self.contexts.add_env(&exports.variables);
        self.env.extend(exports.variables);
        if !exports.directories.is_empty() {
            let path = self.env.entry("PATH".to_owned()).or_default();
            *path = format!("{}:{path}", exports.directories.join(":"));
        }
    }

    /// Keeps the summary of the newest try. One that cannot be kept fails no step.
    pub(super) fn take_summary(&mut self, index: u16, files: &StepFiles) -> io::Result<()> {
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

    pub(super) fn report(&mut self, index: u16, kind: Kind) {
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
