//! The steps of a job, one after the other: conditions, tries, outputs, results.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustci_pipeline::condition::Status;
use rustci_pipeline::v1;
use rustci_pipeline::v1::step_event::Kind;
use telemetry::{Work, span_id};
use valkyrie_frame::{LogChannel, TraceContext};

use super::contexts::JobContexts;
use super::directory::JobDirectory;
use super::environment::{self, Environment};
use super::exports;
use super::log::unix_ms;
use super::message::ReportKind;
use super::outgoing::Outgoing;
use super::outputs::{self, PairsFile};
use super::shell::Shell;
use super::step_files::StepFiles;
use super::summary;
use super::supervisor::{Cut, Ended, ExitStatus, JOB_STEP, RunError, StopCause, Supervisor};
use crate::limits::TRIES_MAX;

/// What people read when the job's own limit ended something.
const TIME_UP: &str = "the job's time was up";

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

/// What one try of a step came to.
struct Tried {
    outcome: v1::Outcome,
    exit_code: Option<i32>,
    message: String,
    outputs: Vec<(String, String)>,
}

impl Tried {
    fn failure(message: impl ToString) -> Self {
        let message = message.to_string();
        Self {
            outcome: v1::Outcome::Failure,
            exit_code: None,
            message,
            outputs: Vec::new(),
        }
    }
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
        let mut tried = self.judge(step, ended);
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

    /// Everything that can be wrong with a step before it runs is found here.
    fn command(
        &mut self,
        index: u16,
        step: &v1::Step,
        number: u32,
        files: &StepFiles,
    ) -> Result<Command, String> {
        let mut env = self.env.clone();
        let declared = self.contexts.set_step_env(&step.env);
        env.extend(declared.map_err(|error| error.to_string())?);
        let script = self
            .contexts
            .render(&step.run)
            .map_err(|error| format!("run: {error}"))?;
        let directory = self.working_directory(step)?;
        let path = env.get("PATH").cloned().unwrap_or_default();
        let shell = Shell::choose(&step.shell, &path).map_err(|error| error.to_string())?;
        self.supervisor
            .log
            .say(index, LogChannel::COMMAND, script.trim_end());
        let file = self
            .dir
            .scripts()
            .join(format!("{index}.{number}.{}", shell.extension));
        fs::write(&file, script + "\n")
            .and_then(|()| files.create())
            .map_err(|error| format!("the script of the step cannot be written: {error}"))?;
        self.add_step_facts(&mut env, index, step, number, files);
        let (program, args) = shell.command(&file);
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(directory)
            .env_clear()
            .envs(env);
        Ok(command)
    }

    fn add_step_facts(
        &self,
        env: &mut Environment,
        index: u16,
        step: &v1::Step,
        number: u32,
        files: &StepFiles,
    ) {
        let facts = [
            ("CI_STEP", self.name(step)),
            ("CI_STEP_ID", step.id.clone()),
            ("CI_STEP_NUMBER", (u32::from(index) + 1).to_string()),
            ("CI_STEP_TRY", number.to_string()),
        ];
        let facts = facts.into_iter().chain(files.facts());
        env.extend(facts.map(|(name, value)| (name.to_owned(), value)));
        if let Some(trace) = self.step_trace(index) {
            env.insert("TRACEPARENT".to_owned(), trace.to_string());
        }
        environment::seal(env, self.mark);
    }

    /// The trace as the step's programs see it: below the span of the step itself.
    fn step_trace(&self, index: u16) -> Option<TraceContext> {
        let job: TraceContext = self.spec.traceparent.parse().ok()?;
        let work = Work::Step {
            attempt: job.parent_id,
            step: index.into(),
        };
        Some(TraceContext {
            parent_id: span_id(&job.trace_id, work),
            ..job
        })
    }

    fn working_directory(&self, step: &v1::Step) -> Result<PathBuf, String> {
        let named = self.contexts.render(&step.working_directory);
        let named = named.map_err(|error| format!("working-directory: {error}"))?;
        let stays_inside = Path::new(&named)
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !stays_inside {
            return Err(format!(
                "working-directory {named:?} leaves the workspace; name one inside"
            ));
        }
        let directory = self.dir.workspace().join(&named);
        if !directory.is_dir() {
            return Err(format!(
                "working-directory {named:?} does not exist in the workspace"
            ));
        }
        Ok(directory)
    }

    fn judge(&self, step: &v1::Step, ended: Ended) -> Tried {
        let exit_code = match ended.status {
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Signal(_) => None,
        };
        let (outcome, message) = match (ended.status, ended.cut) {
            (ExitStatus::Code(0), None | Some(Cut::JobStopped)) => {
                (v1::Outcome::Success, String::new())
            }
            (_, Some(Cut::OwnLimit)) => (
                v1::Outcome::TimedOut,
                format!("timed out after {}", span(step.timeout_ms)),
            ),
            (_, Some(Cut::JobStopped)) => match self.supervisor.stopped() {
                Some(StopCause::TimedOut) => (v1::Outcome::TimedOut, TIME_UP.to_owned()),
                _ => (v1::Outcome::Canceled, "canceled".to_owned()),
            },
            (ExitStatus::Code(code), None) => (v1::Outcome::Failure, exit_message(code)),
            (ExitStatus::Signal(signal), None) => (
                v1::Outcome::Killed,
                format!("killed by {}", signal_name(signal)),
            ),
        };
        Tried {
            outcome,
            exit_code,
            message,
            outputs: Vec::new(),
        }
    }

    /// A name that cannot be evaluated is shown as it was written.
    fn name(&self, step: &v1::Step) -> String {
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

fn is_retried(retry: &v1::Retry, tried: &Tried) -> bool {
    match tried.outcome {
        v1::Outcome::Failure | v1::Outcome::Killed | v1::Outcome::TimedOut => {
            retry.exit_codes.is_empty()
                || tried
                    .exit_code
                    .is_some_and(|code| retry.exit_codes.contains(&code))
        }
        _ => false,
    }
}

/// Shells report a program that died by a signal as 128 and the signal.
fn exit_message(code: i32) -> String {
    match code {
        127 => "exit code 127 (a command was not found)".to_owned(),
        129..=159 => format!(
            "exit code {code} (a command was killed by {})",
            signal_name(code - 128)
        ),
        _ => format!("exit code {code}"),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

fn span(ms: u64) -> String {
    match ms {
        _ if !ms.is_multiple_of(1000) => format!("{ms}ms"),
        _ if !ms.is_multiple_of(60_000) => format!("{}s", ms / 1000),
        _ => format!("{}m", ms / 60_000),
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_exit_codes_are_tried_again() {
        let check = |codes: &[i32], outcome, exit_code| {
            let retry = v1::Retry {
                max: 1,
                exit_codes: codes.to_vec(),
            };
            is_retried(
                &retry,
                &Tried {
                    outcome,
                    exit_code,
                    ..Tried::failure("")
                },
            )
        };
        assert!(check(&[101], v1::Outcome::Failure, Some(101)));
        assert!(!check(&[101], v1::Outcome::Failure, Some(1)));
        assert!(check(&[], v1::Outcome::Killed, None));
        assert!(!check(&[], v1::Outcome::Canceled, None));
    }

    #[test]
    fn exit_codes_are_put_into_words() {
        assert_eq!(exit_message(2), "exit code 2");
        assert_eq!(
            exit_message(137),
            "exit code 137 (a command was killed by SIGKILL)"
        );
        assert_eq!(span(600_000), "10m");
        assert_eq!(span(1_500), "1500ms");
    }
}
