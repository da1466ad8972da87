//! Building the specification of a job at dispatch.
//!
//! What is the same for every run of a plan is encoded once. Protocol Buffers allow it: encoded
//! messages that follow each other are read as one, so the parts of this run are put behind.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;
use rustci_pipeline::expr::{Contexts, ExprError};
use rustci_pipeline::{
    Artifact, Cache, CachePolicy, Download, IfMissing, Job, Plan, Report, ReportKind, RetryOn,
    Step, When, template, v1,
};
use rustci_scheduler::{Run, contexts_json};

use crate::content::ContentConfig;
use crate::job_token::Issued;
use crate::limits::PLANS_ENCODED_MAX;
use crate::secrets::{SecretsError, SecretsSource};
use crate::traces::RunTrace;

/// Content type of a job's specification.
pub(crate) const JOB_CONTENT_TYPE: &str = "application/vnd.rustci.job.v1";

/// Why a job cannot be sent to a runner.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    /// The operator took a secret away after the run was accepted.
    #[error("the secret {0:?} is not set on the server any more")]
    SecretMissing(String),
    /// The name of the job's environment cannot be evaluated.
    #[error("`environment`: {0}")]
    Environment(#[from] ExprError),
    /// The operator's secrets cannot be read.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

/// The parts of specifications that only depend on the plan.
#[derive(Debug, Default)]
pub(crate) struct SpecCache {
    plans: HashMap<[u8; 32], Vec<Option<Encoded>>>,
}

/// The part of a job's specification that every run of its plan shares.
type Encoded = Arc<[u8]>;

impl SpecCache {
    /// The specification of the job at `place` of `run`, encoded.
    pub(crate) fn encode(
        &mut self,
        run: &Run,
        place: usize,
        secrets: &SecretsSource,
        limits: &ContentConfig,
    ) -> Result<Vec<u8>, SpecError> {
        let fixed = self.fixed(run, place);
        let mut spec = fixed.to_vec();
        let Some(job) = run.plan.plan().jobs.get(place) else {
            return Ok(spec);
        };
        let source = (!run.meta.source.is_empty())
            .then(|| v1::Source::decode(run.meta.source.as_slice()).ok())
            .flatten();
        let rest = v1::JobSpec {
            run: run.id.0,
            contexts_json: contexts(run, place, job),
            env: run
                .meta
                .env
                .iter()
                .map(|env| binding(&env.name, &env.value))
                .collect(),
            secrets: resolve(job, &run.meta.project, secrets)?,
            source,
            traceparent: traceparent(run, place).unwrap_or_default(),
            project: run.meta.project.clone(),
            environment: environment(run, place, job)?,
            artifact_bytes_max: limits.artifact_bytes_max,
            cache_bytes_max: limits.cache_bytes_max,
            ..v1::JobSpec::default()
        };
        rest.encode(&mut spec)
            .expect("a vector grows as far as memory goes");
        Ok(spec)
    }

    fn fixed(&mut self, run: &Run, place: usize) -> Encoded {
        let digest = run.plan.digest().0;
        if self.plans.len() >= PLANS_ENCODED_MAX && !self.plans.contains_key(&digest) {
            self.plans.clear();
        }
        let jobs = self.plans.entry(digest).or_default();
        if jobs.len() <= place {
            jobs.resize(place + 1, None);
        }
        let plan = run.plan.plan();
        let encode = || {
            plan.jobs
                .get(place)
                .map(|job| fixed_part(plan, job))
                .unwrap_or_default()
        };
        match jobs.get_mut(place) {
            Some(known) => Arc::clone(known.get_or_insert_with(|| encode().into())),
            None => encode().into(),
        }
    }
}

fn fixed_part(plan: &Plan, job: &Job) -> Vec<u8> {
    let env = plan.env.iter().chain(&job.env);
    v1::JobSpec {
        job_key: job.key.clone(),
        job_id: job.id.clone(),
        pipeline: plan.name.clone(),
        env: env.map(|(name, value)| binding(name, value)).collect(),
        steps: job.steps.iter().map(step).collect(),
        outputs: job
            .outputs
            .iter()
            .map(|(name, value)| binding(name, value))
            .collect(),
        executor: job.executor().as_str().to_owned(),
        no_checkout: !job.checkout,
        caches: job.caches.iter().map(cache).collect(),
        downloads: job.downloads.iter().map(download).collect(),
        artifacts: job.artifacts.iter().map(artifact).collect(),
        reports: job.reports.iter().map(report).collect(),
        ..v1::JobSpec::default()
    }
    .encode_to_vec()
}

/// Where the job acts, by name; empty when the file does not say.
fn environment(run: &Run, place: usize, job: &Job) -> Result<String, SpecError> {
    let Some(environment) = &job.environment else {
        return Ok(String::new());
    };
    let contexts = Contexts::from_json(&contexts_json(run, place));
    Ok(template::render(&environment.name, &contexts)?)
}

fn report(report: &Report) -> v1::ReportSpec {
    let kind = match report.kind {
        ReportKind::Junit => "junit",
        // The runner says that it does not know it.
        _ => "unknown",
    };
    v1::ReportSpec {
        kind: kind.to_owned(),
        paths: report.paths.clone(),
    }
}

fn step(step: &Step) -> v1::Step {
    let exit_codes = step.retry.on.iter().filter_map(|on| match on {
        RetryOn::ExitCode(code) => Some(*code),
        _ => None,
    });
    v1::Step {
        id: step.id.clone(),
        name: step.name.clone(),
        run: step.run.clone(),
        shell: step.shell.clone(),
        working_directory: step.working_directory.clone(),
        env: step
            .env
            .iter()
            .map(|(name, value)| binding(name, value))
            .collect(),
        condition: step.condition.clone().unwrap_or_default(),
        timeout_ms: step.timeout_ms.unwrap_or(0),
        continue_on_error: step.continue_on_error.clone(),
        retry: Some(v1::Retry {
            max: step.retry.max,
            exit_codes: exit_codes.collect(),
        }),
        parallel: step.parallel.unwrap_or(0),
    }
}

/// The context of the attempt that is about to be sent.
fn traceparent(run: &Run, place: usize) -> Option<String> {
    let trace = RunTrace::from_bytes(&run.meta.trace)?;
    let job = run.job_id(place);
    let token = run.jobs.get(place)?.token(job)?;
    Some(trace.attempt(job.0, token.attempt).to_string())
}

fn cache(cache: &Cache) -> v1::CacheSpec {
    v1::CacheSpec {
        key: cache.key.clone(),
        restore_keys: cache.restore_keys.clone(),
        paths: cache.paths.clone(),
        pull: cache.policy != CachePolicy::Push,
        push: cache.policy != CachePolicy::Pull,
        when: when(cache.when).into(),
    }
}

fn download(download: &Download) -> v1::DownloadSpec {
    v1::DownloadSpec {
        name: download.name.clone(),
        path: download.path.clone(),
    }
}

fn artifact(artifact: &Artifact) -> v1::ArtifactSpec {
    v1::ArtifactSpec {
        name: artifact.name.clone(),
        paths: artifact.paths.clone(),
        when: when(artifact.when).into(),
        expire_ms: artifact.expire_ms.unwrap_or(0),
        if_missing: match artifact.if_missing {
            IfMissing::Error => 1,
            IfMissing::Ignore => 2,
            _ => 0,
        },
    }
}

fn when(when: When) -> v1::When {
    match when {
        When::Failure => v1::When::Failure,
        When::Always => v1::When::Always,
        _ => v1::When::Success,
    }
}

/// Adds the token of a job and where to use it. The token is a secret: it is masked in the log.
pub(crate) fn append_token(spec: &mut Vec<u8>, issued: Issued<'_>) {
    let more = v1::JobSpec {
        env: vec![binding("CI_API_URL", issued.url)],
        secrets: vec![v1::Secret {
            name: "CI_TOKEN".to_owned(),
            value: issued.token,
        }],
        ..v1::JobSpec::default()
    };
    more.encode(spec)
        .expect("a vector grows as far as memory goes");
}

fn binding(name: &str, value: &str) -> v1::Binding {
    v1::Binding {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

/// The expression contexts of a job. Without needs and matrix they are those of the run, and are
/// not parsed only to be written again.
fn contexts(run: &Run, place: usize, job: &Job) -> String {
    let plain = job.needs.is_empty() && job.matrix.is_empty() && run.meta.contexts_json.len() > 2;
    if plain && let Some(open) = run.meta.contexts_json.strip_suffix('}') {
        return format!("{open},\"matrix\":{{}},\"needs\":{{}}}}");
    }
    serde_json::Value::Object(contexts_json(run, place)).to_string()
}

fn resolve(job: &Job, project: &str, source: &SecretsSource) -> Result<Vec<v1::Secret>, SpecError> {
    if job.secrets.is_empty() {
        return Ok(Vec::new());
    }
    let known = source.read(project)?;
    let secrets = job.secrets.iter().map(|(name, secret)| {
        let value = known
            .get(secret)
            .ok_or_else(|| SpecError::SecretMissing(secret.clone()))?;
        Ok(v1::Secret {
            name: name.clone(),
            value: value.to_owned(),
        })
    });
    secrets.collect()
}
