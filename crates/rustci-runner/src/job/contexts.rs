//! What the expressions of a job's steps can see.

use std::path::PathBuf;

use rustci_pipeline::condition::{self, Status};
use rustci_pipeline::expr::{Contexts, ExprError};
use rustci_pipeline::{template, v1};
use serde_json::{Map, Value as Json, json};

use super::environment::Environment;
use super::hash_files::hash_files;

/// The contexts of a job while its steps run.
pub(crate) struct JobContexts {
    contexts: Contexts,
    steps: Map<String, Json>,
    env: Map<String, Json>,
}

impl JobContexts {
    /// Starts from what the server knows, plus this runner. Secrets are no values of expressions:
    /// they only reach the environment.
    pub(crate) fn new(given: &Json, runner: &str) -> Self {
        let empty = Map::new();
        let mut contexts = Contexts::from_json(given.as_object().unwrap_or(&empty));
        contexts.set(
            "runner",
            &json!({ "name": runner, "os": "linux", "arch": arch() }),
        );
        contexts.set("steps", &Json::Object(Map::new()));
        let mut contexts = Self {
            contexts,
            steps: Map::new(),
            env: Map::new(),
        };
        contexts.set_status(Status::SUCCESS);
        contexts
    }

    /// The same with the number of the run: `run.id`.
    pub(crate) fn with_run(mut self, given: &Json, run: u64) -> Self {
        let mut context = given.get("run").cloned().unwrap_or_else(|| json!({}));
        if let Some(map) = context.as_object_mut() {
            map.insert("id".to_owned(), json!(run));
        }
        self.contexts.set("run", &context);
        self
    }

    /// The same with a workspace: `runner.workspace`, and an answer to `hashFiles`.
    pub(crate) fn with_files(mut self, workspace: PathBuf, runner: &str) -> Self {
        let path = workspace.to_string_lossy();
        let context = json!({ "name": runner, "os": "linux", "arch": arch(), "workspace": path });
        self.contexts.set("runner", &context);
        let contexts = std::mem::take(&mut self.contexts);
        self.contexts = contexts.with_hash_files(move |patterns| hash_files(&workspace, patterns));
        self
    }

    /// Sets what the status functions and `job.status` answer.
    pub(crate) fn set_status(&mut self, status: Status) {
        let word = match status {
            _ if status.cancelled() => "cancelled",
            _ if status.failure() => "failure",
            _ => "success",
        };
        self.contexts.set("job", &json!({ "status": word }));
        self.contexts.set_status(status);
    }

    /// Evaluates the environment of the whole job.
    pub(crate) fn set_job_env(
        &mut self,
        bindings: &[v1::Binding],
    ) -> Result<Environment, EnvError> {
        let env = self.evaluate_env(bindings)?;
        self.env.extend(entries(&env));
        self.show_env(self.env.clone());
        Ok(env)
    }

    /// Takes over variables that a step set for those after it.
    pub(crate) fn add_env(&mut self, variables: &[(String, String)]) {
        let variables = variables.iter();
        self.env
            .extend(variables.map(|(name, value)| (name.clone(), json!(value))));
    }

    /// Evaluates the environment of a step: its values see the job's, the rest of the step sees both.
    pub(crate) fn set_step_env(
        &mut self,
        bindings: &[v1::Binding],
    ) -> Result<Environment, EnvError> {
        self.show_env(self.env.clone());
        let env = self.evaluate_env(bindings)?;
        let mut shown = self.env.clone();
        shown.extend(entries(&env));
        self.show_env(shown);
        Ok(env)
    }

    /// Evaluates a template.
    pub(crate) fn render(&self, text: &str) -> Result<String, ExprError> {
        template::render(text, &self.contexts)
    }

    /// Whether a step with this condition is to run.
    pub(crate) fn condition(&self, text: &str) -> Result<bool, ExprError> {
        condition::evaluate(Some(text).filter(|text| !text.is_empty()), &self.contexts)
    }

    /// Evaluates `true`, `false` or an expression.
    pub(crate) fn flag(&self, text: &str) -> Result<bool, ExprError> {
        condition::flag(text, &self.contexts)
    }

    /// Notes how a step ended, for the steps after it. Steps without an id are not to be seen.
    pub(crate) fn add_step(
        &mut self,
        id: &str,
        outputs: &[(String, String)],
        outcome: v1::Outcome,
        conclusion: v1::Outcome,
    ) {
        if id.is_empty() {
            return;
        }
        let outputs: Map<String, Json> = outputs
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let step = json!({
            "outputs": outputs,
            "outcome": word(outcome),
            "conclusion": word(conclusion),
        });
        self.steps.insert(id.to_owned(), step);
        self.contexts
            .set("steps", &Json::Object(self.steps.clone()));
    }

    fn evaluate_env(&self, bindings: &[v1::Binding]) -> Result<Environment, EnvError> {
        let mut env = Environment::new();
        for binding in bindings {
            let name = binding.name.clone();
            let value = self
                .render(&binding.value)
                .map_err(|source| EnvError::Expression {
                    name: name.clone(),
                    source,
                })?;
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(EnvError::Refused { name });
            }
            env.insert(name, value);
        }
        Ok(env)
    }

    fn show_env(&mut self, env: Map<String, Json>) {
        self.contexts.set("env", &Json::Object(env));
    }
}

fn entries(env: &Environment) -> impl Iterator<Item = (String, Json)> {
    env.iter().map(|(name, value)| (name.clone(), json!(value)))
}

/// The pipeline's environment cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvError {
    #[error("env {name}: {source}")]
    Expression { name: String, source: ExprError },
    #[error("env {name:?} cannot be set: a name holds neither `=` nor NUL, a value no NUL")]
    Refused { name: String },
}

/// The processor as labels and the `runner` context name it.
pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An outcome as expressions spell it.
fn word(outcome: v1::Outcome) -> &'static str {
    match outcome {
        v1::Outcome::Success => "success",
        v1::Outcome::Skipped => "skipped",
        v1::Outcome::Canceled => "cancelled",
        _ => "failure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(name: &str, value: &str) -> v1::Binding {
        v1::Binding {
            name: name.to_owned(),
            value: value.to_owned(),
        }
    }

    fn contexts() -> JobContexts {
        JobContexts::new(&json!({"matrix": {"db": "sqlite"}}), "r1")
    }

    #[test]
    fn a_step_sees_the_jobs_env_and_its_own_only_while_it_lasts() {
        let mut contexts = contexts();
        let env = contexts
            .set_job_env(&[binding("A", "${{ matrix.db }}")])
            .unwrap();
        assert_eq!(env["A"], "sqlite");
        let step = [
            binding("B", "${{ env.A }}!"),
            binding("C", "[${{ env.B }}]"),
        ];
        let step = contexts.set_step_env(&step).unwrap();
        assert_eq!((step["B"].as_str(), step["C"].as_str()), ("sqlite!", "[]"));
        assert_eq!(contexts.render("${{ env.B }}").unwrap(), "sqlite!");
        contexts.set_step_env(&[]).unwrap();
        assert_eq!(contexts.render("[${{ env.B }}]").unwrap(), "[]");
    }

    #[test]
    fn later_steps_see_how_earlier_ones_ended() {
        let mut contexts = contexts();
        let outputs = [("size".to_owned(), "7".to_owned())];
        contexts.add_step(
            "build",
            &outputs,
            v1::Outcome::Failure,
            v1::Outcome::Success,
        );
        let text = "${{ steps.build.outputs.size }} ${{ steps.build.outcome }} ${{ steps.build.conclusion }}";
        assert_eq!(contexts.render(text).unwrap(), "7 failure success");
        assert!(
            contexts
                .condition("steps.build.outcome == 'failure'")
                .unwrap()
        );
        contexts.set_status(Status::FAILURE);
        assert!(!contexts.condition("").unwrap());
        assert!(contexts.condition("failure()").unwrap());
        assert_eq!(contexts.render("${{ job.status }}").unwrap(), "failure");
    }

    #[test]
    fn a_name_that_no_environment_can_hold_is_refused() {
        let error = contexts()
            .set_job_env(&[binding("A=B", "")])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("env \"A=B\" cannot be set"), "{error}");
    }
}
