//! The job process: one process per job, which runs the steps and holds everything they start.
//!
//! The runner starts it as `rustci __job DIR` and talks to it over stdin and stdout. It makes the
//! workspace, runs the steps in order, writes the log to `DIR/log` and, at the very end,
//! `DIR/result`. When its stdin closes the runner is gone: it kills what it started and leaves.

pub(crate) mod contexts;
mod control;
mod data;
pub(crate) mod directory;
mod environment;
mod exports;
mod hash_files;
pub(crate) mod log;
mod mask_file;
pub(crate) mod message;
pub(crate) mod outgoing;
mod outputs;
mod process_list;
mod reports;
mod running;
mod shell;
mod source;
mod step_command;
mod step_files;
mod steps;
mod summary;
mod supervisor;
mod together;
mod tried;
mod wakes;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustci_pipeline::v1;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Signal, getpid, set_child_subreaper, set_parent_process_death_signal, setsid,
};
use serde_json::Value as Json;
use valkyrie_frame::LogChannel;

use self::contexts::JobContexts;
use self::control::{Control, RunnerGone};
use self::data::{Delivery, Restore};
use self::directory::JobDirectory;
use self::log::{JobLog, unix_ms};
use self::message::{Begin, Ending, EndingKind, OrderKind, ReportKind};
use self::outgoing::Outgoing;
use self::process_list::ProcessList;
use self::source::SourceError;
use self::steps::{Steps, millis};
use self::supervisor::{JOB_STEP, StopCause, Supervisor};
use crate::limits::{BACKGROUND_GRACE, SECRET_ENCODED_BYTES_MAX};
use crate::log::Patterns;

pub(crate) use self::contexts::arch;

/// Runs the attempt whose directory is `dir`, as ordered on stdin. The program calls this in a
/// process of its own: it changes who receives this process's orphans and signals.
///
/// Exits with 0 when `DIR/result` was written.
pub fn main(dir: &Path) -> ExitCode {
    match run(&JobDirectory::new(dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing else is left to tell it to; the runner passes its stderr on.
            let _ = writeln!(io::stderr(), "job in {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

/// Why a job process ends without a result.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error("the runner is gone")]
    RunnerGone,
    #[error("the directory of the attempt cannot be used: {0}")]
    Directory(#[from] io::Error),
    #[error("processes of the job cannot be ended: {pids:?}")]
    Stuck { pids: Vec<i32> },
}

impl From<RunnerGone> for JobError {
    fn from(RunnerGone: RunnerGone) -> Self {
        Self::RunnerGone
    }
}

fn run(dir: &JobDirectory) -> Result<(), JobError> {
    hold_descendants()?;
    let mut control = Control::new()?;
    let begin = await_begin(&mut control)?;
    let spec = begin.spec.clone().unwrap_or_default();
    let begun = Instant::now();
    let mut supervisor = supervisor(dir, &begin, &spec, control, begun)?;
    let mut outgoing = Outgoing::new(dir);
    let ran = attempt(dir, &begin, &spec, &mut supervisor, &mut outgoing);
    let stuck = supervisor.end_all(BACKGROUND_GRACE)?;
    let ending = match ran {
        Ok(ran) => completed(
            ran.deliver(dir, &spec, &mut supervisor, &mut outgoing)?,
            begun,
        ),
        Err(failure) => failure,
    };
    if supervisor.stopped() == Some(StopCause::RunnerGone) {
        return Err(JobError::RunnerGone);
    }
    supervisor.sync_log()?;
    dir.write_ending(&ending)?;
    match stuck.is_empty() {
        true => Ok(()),
        false => Err(JobError::Stuck {
            pids: stuck.iter().map(|process| process.pid).collect(),
        }),
    }
}

/// Its own session, so that no terminal signal hits it; orphans of its children come to it; it learns
/// of the runner's death even where a copy of the pipe is still open somewhere.
fn hold_descendants() -> io::Result<()> {
    // Fails only for the leader of a process group, which then has its own already.
    let _ = setsid();
    set_child_subreaper(Some(getpid()))?;
    set_parent_process_death_signal(Some(Signal::TERM))?;
    Ok(())
}

fn await_begin(control: &mut Control) -> Result<Begin, JobError> {
    loop {
        match control.order()? {
            Some(OrderKind::Begin(begin)) => return Ok(*begin),
            Some(OrderKind::Cancel(_) | OrderKind::Uploaded(_) | OrderKind::Got(_)) => {
                return Err(JobError::RunnerGone);
            }
            None => {
                let stdin = io::stdin();
                let result = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None);
                result.map(drop).or_else(retry_interrupted)?;
            }
        }
    }
}

fn retry_interrupted(error: rustix::io::Errno) -> io::Result<()> {
    if error == rustix::io::Errno::INTR {
        Ok(())
    } else {
        Err(error.into())
    }
}

fn supervisor(
    dir: &JobDirectory,
    begin: &Begin,
    spec: &v1::JobSpec,
    control: Control,
    begun: Instant,
) -> io::Result<Supervisor> {
    let secrets = spec
        .secrets
        .iter()
        .map(|s| (s.name.as_str(), s.value.as_bytes()));
    let patterns = Rc::new(Patterns::new(secrets));
    let mut log = JobLog::create(&dir.log(), begin.log_bytes_max, Rc::clone(&patterns))?;
    for name in patterns.too_short() {
        let text = format!("secret {name} is shorter than 4 bytes and is not masked");
        log.say(JOB_STEP, LogChannel::SYSTEM, &text);
    }
    for name in patterns.too_long() {
        let text = format!(
            "secret {name} is longer than {SECRET_ENCODED_BYTES_MAX} bytes: its lines are masked as they are, not their encodings"
        );
        log.say(JOB_STEP, LogChannel::SYSTEM, &text);
    }
    let list = ProcessList::new(dir.processes());
    let limit = Some(begin.timeout_ms).filter(|ms| *ms > 0);
    let deadline = limit.map(|ms| begun + Duration::from_millis(ms));
    Supervisor::new(
        control,
        log,
        list,
        deadline,
        Duration::from_millis(begin.grace_ms),
    )
}

/// Everything between the order and the end of the last step.
fn attempt(
    dir: &JobDirectory,
    begin: &Begin,
    spec: &v1::JobSpec,
    supervisor: &mut Supervisor,
    outgoing: &mut Outgoing,
) -> Result<Ran, Ending> {
    dir.create_workspace().map_err(|error| {
        Ending::failed("workspace", format!("workspace cannot be made: {error}"))
    })?;
    supervisor.log.watch(dir.mask());
    let given: Json = serde_json::from_str(&spec.contexts_json).unwrap_or_default();
    let base = environment::base(begin, spec, &given, dir);
    match source::provide(dir, begin, spec, &base, supervisor) {
        Ok(()) | Err(SourceError::Stopped) => {}
        Err(error) => {
            return Err(Ending::failed(
                "source",
                supervisor.log.mask(&error.to_string()),
            ));
        }
    }
    supervisor.report(ReportKind::Started(unix_ms()));
    let mut steps = Steps {
        dir,
        spec,
        contexts: JobContexts::new(&given, &begin.runner)
            .with_run(&given, spec.run)
            .with_files(dir.workspace(), &begin.runner),
        env: base,
        mark: &begin.mark,
        results: Vec::new(),
        summaries: Vec::new(),
        outgoing,
        failed: None,
        supervisor,
    };
    let mut caches = Vec::new();
    let ran = run_steps(&mut steps, &mut caches);
    let contexts = steps.contexts;
    let result = ran.map_err(|error| {
        Ending::failed("executor", format!("the log cannot be written: {error}"))
    })?;
    Ok(Ran {
        result,
        contexts,
        caches,
    })
}

/// A job whose steps are over.
struct Ran {
    result: v1::JobResult,
    contexts: JobContexts,
    /// How its caches were restored.
    caches: Vec<v1::StoredCache>,
}

impl Ran {
    /// Hands on what the job leaves behind, now that nothing changes it any more.
    fn deliver(
        mut self,
        dir: &JobDirectory,
        spec: &v1::JobSpec,
        supervisor: &mut Supervisor,
        outgoing: &mut Outgoing,
    ) -> io::Result<v1::JobResult> {
        let delivery = Delivery {
            dir,
            spec,
            contexts: &self.contexts,
            outgoing,
            supervisor,
            caches: self.caches,
        };
        data::deliver(delivery, &mut self.result)?;
        Ok(self.result)
    }
}

fn run_steps(job: &mut Steps<'_>, caches: &mut Vec<v1::StoredCache>) -> io::Result<v1::JobResult> {
    match job.contexts.set_job_env(&job.spec.env) {
        Ok(declared) => job.env.extend(declared),
        Err(error) => return Ok(refused(job, &error.to_string())),
    }
    let secrets = job
        .spec
        .secrets
        .iter()
        .map(|s| (s.name.clone(), s.value.clone()));
    job.env.extend(secrets);
    let restore = Restore {
        dir: job.dir,
        spec: job.spec,
        contexts: &job.contexts,
    };
    match data::restore(&restore, job.supervisor) {
        Ok(restored) => *caches = restored,
        Err(message) => return Ok(refused(job, &message)),
    }
    job.run()?;
    let outputs = job.outputs().unwrap_or_else(|message| {
        job.failed.get_or_insert((v1::Outcome::Failure, message));
        Vec::new()
    });
    let workspace = job.dir.workspace();
    let reports = reports::collect(&job.spec.reports, &workspace, job.supervisor, job.outgoing)?;
    let (outcome, message) = job.outcome();
    let message = job.supervisor.log.mask(&message);
    let steps = std::mem::take(&mut job.results);
    Ok(v1::JobResult {
        outcome: outcome.into(),
        outputs,
        steps,
        message,
        reports,
        summaries: std::mem::take(&mut job.summaries),
        ..Default::default()
    })
}

/// A job whose own environment makes no sense: no step can run.
fn refused(job: &mut Steps<'_>, message: &str) -> v1::JobResult {
    let message = job.supervisor.log.mask(message);
    job.supervisor
        .log
        .say(JOB_STEP, LogChannel::SYSTEM, &message);
    v1::JobResult {
        outcome: v1::Outcome::Failure.into(),
        message,
        ..Default::default()
    }
}

fn completed(mut result: v1::JobResult, begun: Instant) -> Ending {
    result.duration_ms = millis(begun.elapsed());
    Ending {
        kind: Some(EndingKind::Completed(Box::new(result))),
    }
}

#[cfg(test)]
mod tests;
