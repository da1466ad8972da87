//! The process of a step: its script, environment and directory.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use rustci_pipeline::v1;
use telemetry::{Work, span_id};
use valkyrie_frame::{LogChannel, TraceContext};

use super::environment::{self, Environment};
use super::shell::Shell;
use super::step_files::StepFiles;
use super::steps::Steps;

impl Steps<'_> {
    /// Everything that can be wrong with a step before it runs is found here.
    pub(super) fn command(
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
}
