//! Steps that run at the same time; most often that is one.
//!
//! Everything is evaluated before the first of them starts, and what they set reaches the job when the
//! last of them has ended: no step sees what one beside it did, and nothing depends on which was
//! faster. Only what people follow while it happens (log, events, what is masked) comes at once.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use rustci_pipeline::v1;
use rustci_pipeline::v1::step_event::Kind;
use valkyrie_frame::LogChannel;

use super::step_files::StepFiles;
use super::steps::{Exports, Numbered, Steps, millis};
use super::supervisor::{Ended, RunError};
use super::tried::{Tried, is_retried};
use crate::limits::TRIES_MAX;

/// A step among those that run together.
struct Member<'j> {
    index: u16,
    step: &'j v1::Step,
    beside: Beside,
    begun: Instant,
    tries: u32,
    /// Those of the newest try.
    files: StepFiles,
    /// What its tries set for later steps.
    exports: Vec<Exports>,
    state: State,
}

/// What runs at the same time as a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    Others,
}

/// How far a member is.
enum State {
    /// Its first try is evaluated.
    Ready(Result<Command, Tried>),
    Running,
    Ended(Box<End>),
}

/// How a member ended.
struct End {
    outcome: v1::Outcome,
    outputs: Vec<(String, String)>,
    finished: v1::StepFinished,
    /// Why the job fails by it, if it does.
    blame: Option<String>,
}

impl<'j> Steps<'j> {
    /// Runs steps that start together, to the end of the last one.
    ///
    /// # Errors
    /// When the log or the directory cannot be written any more.
    pub(super) fn together(&mut self, steps: &[Numbered<'j>]) -> io::Result<()> {
        let beside = match steps {
            [_] => Beside::Nothing,
            _ => Beside::Others,
        };
        let members = steps.iter();
        let members = members.map(|(index, step)| self.member(*index, step, beside));
        let mut members: Vec<Member<'j>> = members.collect();
        let mut failed = Vec::new();
        for member in &mut members {
            if let Some(tried) = self.start_first(member)? {
                failed.push((member, tried));
            }
        }
        for (member, tried) in failed {
            self.after_try(member, tried)?;
        }
        while let Some((index, ended)) = self.supervisor.next_ended()? {
            if let Some(member) = members.iter_mut().find(|member| member.index == index) {
                let tried = self.tried(member, ended)?;
                self.after_try(member, tried)?;
            }
        }
        self.take_over(members);
        Ok(())
    }

    /// Evaluates a step, which ends here if it is not to run.
    fn member(&mut self, index: u16, step: &'j v1::Step, beside: Beside) -> Member<'j> {
        let mut member = Member {
            index,
            step,
            beside,
            begun: Instant::now(),
            tries: 0,
            files: StepFiles::new(self.dir, index, 1),
            exports: Vec::new(),
            state: State::Running,
        };
        match self.is_wanted(step) {
            Err(message) => self.end(&mut member, Tried::failure(message)),
            Ok(None) => member.state = State::Ready(self.prepare(&mut member)),
            Ok(Some(reason)) => {
                let skipped = Tried {
                    outcome: v1::Outcome::Skipped,
                    ..Tried::failure(reason)
                };
                self.end(&mut member, skipped);
            }
        }
        member
    }

    /// Starts the first try; what it came to when it could not be.
    fn start_first(&mut self, member: &mut Member<'j>) -> io::Result<Option<Tried>> {
        match std::mem::replace(&mut member.state, State::Running) {
            State::Ready(prepared) => self.start(member, prepared),
            state => {
                member.state = state;
                Ok(None)
            }
        }
    }

    /// Evaluates the next try and says that it begins.
    fn prepare(&mut self, member: &mut Member<'j>) -> Result<Command, Tried> {
        let (index, step) = (member.index, member.step);
        member.tries += 1;
        member.files = StepFiles::new(self.dir, index, member.tries);
        self.look_from(step);
        let name = self.supervisor.log.mask(&self.name(step));
        let started = v1::StepStarted {
            name,
            r#try: member.tries,
        };
        self.report(index, Kind::Started(started));
        let command = self.command(index, step, member.tries, &member.files);
        command.map_err(Tried::failure)
    }

    /// Makes the contexts those of this step. What is wrong with its environment is told when a
    /// process would get it.
    fn look_from(&mut self, step: &v1::Step) {
        let _ = self.contexts.set_step_env(&step.env);
    }

    /// Starts a try; what it came to when it could not be.
    fn start(
        &mut self,
        member: &Member<'j>,
        prepared: Result<Command, Tried>,
    ) -> io::Result<Option<Tried>> {
        let mut command = match prepared {
            Ok(command) => command,
            Err(tried) => return Ok(Some(tried)),
        };
        let limit = Some(member.step.timeout_ms).filter(|ms| *ms > 0);
        let limit = limit.map(|ms| Instant::now() + Duration::from_millis(ms));
        match self.supervisor.start(&mut command, member.index, limit) {
            Ok(()) => Ok(None),
            Err(RunError::Spawn(error)) => {
                let program = command.get_program().to_string_lossy().into_owned();
                let message = format!("{program} cannot be started: {error}");
                Ok(Some(Tried::failure(message)))
            }
            Err(RunError::Fatal(error)) => Err(error),
        }
    }

    /// What a try came to whose process has ended.
    fn tried(&mut self, member: &mut Member<'j>, ended: Ended) -> io::Result<Tried> {
        let mut tried = Tried::new(member.step, ended, self.supervisor.stopped());
        self.supervisor.log.learn();
        self.take_summary(member.index, &member.files)?;
        match self.read_values(&member.files) {
            Ok(values) => {
                tried.outputs = values.outputs;
                member.exports.push(values.exports);
            }
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

    /// Starts the next try when there is to be one, else ends the step.
    fn after_try(&mut self, member: &mut Member<'j>, mut tried: Tried) -> io::Result<()> {
        let retry = member.step.retry.clone().unwrap_or_default();
        let max = retry.max.saturating_add(1).min(TRIES_MAX);
        while member.tries < max
            && self.supervisor.stopped().is_none()
            && is_retried(&retry, &tried)
        {
            let next = member.tries + 1;
            let text = format!("{}; trying again ({next} of {max})", tried.message);
            let log = &mut self.supervisor.log;
            log.say(member.index, LogChannel::SYSTEM, &text);
            if member.beside == Beside::Nothing {
                // Nobody else could see it early: the next try has what this one set.
                member.exports.drain(..).for_each(|it| self.export(it));
            }
            let prepared = self.prepare(member);
            match self.start(member, prepared)? {
                None => return Ok(()),
                Some(failed) => tried = failed,
            }
        }
        self.explain(member.index, &tried);
        self.end(member, tried);
        Ok(())
    }

    /// Notes how a step ended, and says so.
    fn end(&mut self, member: &mut Member<'j>, tried: Tried) {
        let (index, step) = (member.index, member.step);
        self.look_from(step);
        let conclusion = self.conclusion(step, tried.outcome);
        let fails = !matches!(conclusion, v1::Outcome::Success | v1::Outcome::Skipped);
        let blame = fails.then(|| {
            let number = u32::from(index) + 1;
            let message = format!("step {number} `{}`: {}", self.name(step), tried.message);
            self.supervisor.log.mask(&message)
        });
        let finished = v1::StepFinished {
            outcome: tried.outcome.into(),
            conclusion: conclusion.into(),
            exit_code: tried.exit_code,
            duration_ms: millis(member.begun.elapsed()),
            message: self.supervisor.log.mask(&tried.message),
            tries: member.tries,
        };
        self.report(index, Kind::Finished(finished.clone()));
        member.state = State::Ended(Box::new(End {
            outcome: tried.outcome,
            outputs: tried.outputs,
            finished,
            blame,
        }));
    }

    /// Takes over what the steps came to, in the order of the file.
    fn take_over(&mut self, members: Vec<Member<'j>>) {
        for member in members {
            member.exports.into_iter().for_each(|it| self.export(it));
            let State::Ended(end) = member.state else {
                continue;
            };
            let (outcome, conclusion) = (end.outcome, end.finished.conclusion());
            let id = &member.step.id;
            self.contexts
                .add_step(id, &end.outputs, outcome, conclusion);
            if let Some(blame) = end.blame {
                self.failed.get_or_insert((outcome, blame));
            }
            self.results.push(end.finished);
        }
        self.summaries.sort_by_key(|summary| summary.step);
    }
}
