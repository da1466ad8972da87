//! The dummy executor: no process and no disk, results as ordered by the job's environment. For tests
//! of everything around execution, and for benches.
//!
//! | variable | effect |
//! |---|---|
//! | `DUMMY_EXIT_CODE` | the job's exit code; 0 when missing |
//! | `DUMMY_SLEEP_MS` | how long the job takes; 0 completes it before the handler returns |
//! | `DUMMY_KILL` | any value: the job ends as if a signal had killed it |
//! | `DUMMY_OUTPUT_BYTES` | bytes of log, in numbered lines |
//! | `DUMMY_OUTPUT` | handed back as output `output` |
//! | `DUMMY_TESTS` | numbers of a test report without its tests: `ALL,FAILED,SKIPPED` |
//!
//! Every result has the output `spec_blake3`: what the runner received, for comparison.

use std::time::Duration;

use rustci_pipeline::v1;

use crate::job::contexts::JobContexts;
use crate::job::message::{Cancel, Ending, EndingKind};

/// What a dummy job is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DummyJob {
    exit_code: i32,
    killed: bool,
    outputs: Vec<v1::Binding>,
    steps: usize,
    report: Option<v1::StoredReport>,
    /// How long it takes.
    pub(crate) sleep: Duration,
    /// Bytes of log it prints.
    pub(crate) output_bytes: u64,
}

impl DummyJob {
    /// Reads the orders out of a job's environment; `encoded` is the specification as it came.
    ///
    /// # Errors
    /// A sentence when a value makes no sense.
    pub(crate) fn new(spec: &v1::JobSpec, encoded: &[u8]) -> Result<Self, String> {
        let digest = blake3::hash(encoded).to_hex().to_string();
        let mut job = Self {
            outputs: vec![v1::Binding {
                name: "spec_blake3".to_owned(),
                value: digest,
            }],
            steps: spec.steps.len(),
            ..Self::default()
        };
        if spec.env.iter().any(|binding| binding.value.contains("${{")) {
            let given = serde_json::from_str(&spec.contexts_json).unwrap_or_default();
            let mut contexts = JobContexts::new(&given, "dummy");
            let env = contexts
                .set_job_env(&spec.env)
                .map_err(|error| error.to_string())?;
            env.iter()
                .try_for_each(|(name, value)| job.set(name, value))?;
        } else {
            spec.env
                .iter()
                .try_for_each(|binding| job.set(&binding.name, &binding.value))?;
        }
        Ok(job)
    }

    /// Whether it ends the moment it begins.
    pub(crate) fn is_immediate(&self) -> bool {
        self.sleep.is_zero() && self.output_bytes == 0
    }

    /// How it ends when nobody cancels it.
    pub(crate) fn ending(self) -> Ending {
        let (outcome, message) = match (self.killed, self.exit_code) {
            (true, _) => (v1::Outcome::Killed, "killed by DUMMY_KILL".to_owned()),
            (false, 0) => (v1::Outcome::Success, String::new()),
            (false, code) => (v1::Outcome::Failure, format!("exit code {code}")),
        };
        let steps = steps(self.steps, outcome, self.exit_code, &message);
        completed(v1::JobResult {
            outcome: outcome.into(),
            outputs: self.outputs,
            steps,
            message,
            duration_ms: millis(self.sleep),
            reports: self.report.into_iter().collect(),
            ..Default::default()
        })
    }

    /// How a job ends that was canceled before it could end by itself.
    pub(crate) fn stopped(cancel: &Cancel) -> Ending {
        let (outcome, message) = match cancel.timed_out {
            true => (v1::Outcome::TimedOut, "the job's time was up"),
            false => (v1::Outcome::Canceled, "canceled"),
        };
        let message = message.to_owned();
        completed(v1::JobResult {
            outcome: outcome.into(),
            message,
            ..Default::default()
        })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let refused = |_| format!("{name} is {value:?}; give it a whole number");
        match name {
            "DUMMY_EXIT_CODE" => self.exit_code = value.parse().map_err(refused)?,
            "DUMMY_SLEEP_MS" => self.sleep = Duration::from_millis(value.parse().map_err(refused)?),
            "DUMMY_OUTPUT_BYTES" => self.output_bytes = value.parse().map_err(refused)?,
            "DUMMY_KILL" => self.killed = !value.is_empty(),
            "DUMMY_TESTS" => self.report = Some(report(value)?),
            "DUMMY_OUTPUT" => {
                let (name, value) = ("output".to_owned(), value.to_owned());
                self.outputs.push(v1::Binding { name, value });
            }
            _ => {}
        }
        Ok(())
    }
}

fn report(value: &str) -> Result<v1::StoredReport, String> {
    let numbers = value.split(',').map(|number| number.trim().parse().ok());
    let [Some(tests), Some(failures), Some(skipped)] = numbers.collect::<Vec<_>>()[..] else {
        return Err(format!(
            "DUMMY_TESTS is {value:?}; give it three numbers: 10,1,2"
        ));
    };
    Ok(v1::StoredReport {
        kind: "junit".to_owned(),
        tests,
        failures,
        skipped,
        ..Default::default()
    })
}

/// The first step takes the blame, those after it are skipped.
fn steps(count: usize, outcome: v1::Outcome, code: i32, message: &str) -> Vec<v1::StepFinished> {
    let finished = |outcome: v1::Outcome, exit_code, message: &str| v1::StepFinished {
        outcome: outcome.into(),
        conclusion: outcome.into(),
        exit_code,
        duration_ms: 0,
        message: message.to_owned(),
        tries: u32::from(outcome != v1::Outcome::Skipped),
    };
    let first = finished(
        outcome,
        (outcome != v1::Outcome::Killed).then_some(code),
        message,
    );
    let rest = match outcome {
        v1::Outcome::Success => first.clone(),
        _ => finished(v1::Outcome::Skipped, None, ""),
    };
    std::iter::once(first)
        .chain(std::iter::repeat(rest))
        .take(count)
        .collect()
}

fn completed(result: v1::JobResult) -> Ending {
    Ending {
        kind: Some(EndingKind::Completed(Box::new(result))),
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(env: &[(&str, &str)]) -> Result<DummyJob, String> {
        let env = env.iter().map(|(name, value)| v1::Binding {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        });
        let contexts_json = r#"{"matrix":{"code":3}}"#.to_owned();
        let steps = vec![v1::Step::default(); 2];
        let spec = v1::JobSpec {
            env: env.collect(),
            contexts_json,
            steps,
            ..Default::default()
        };
        DummyJob::new(&spec, b"spec")
    }

    fn result(env: &[(&str, &str)]) -> v1::JobResult {
        match job(env).unwrap().ending().kind {
            Some(EndingKind::Completed(result)) => *result,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_dummy_job_does_as_it_is_told() {
        let success = result(&[("DUMMY_OUTPUT", "echo"), ("OTHER", "x")]);
        assert_eq!(success.outcome(), v1::Outcome::Success);
        let outputs: Vec<_> = success.outputs.iter().map(|o| o.value.clone()).collect();
        assert_eq!(
            outputs,
            [
                blake3::hash(b"spec").to_hex().to_string(),
                "echo".to_owned()
            ]
        );
        assert_eq!(success.steps.len(), 2);
        let failure = result(&[("DUMMY_EXIT_CODE", "${{ matrix.code }}")]);
        assert_eq!(
            (failure.outcome(), failure.steps[0].exit_code),
            (v1::Outcome::Failure, Some(3))
        );
        assert_eq!(failure.steps[1].outcome(), v1::Outcome::Skipped);
        assert_eq!(
            result(&[("DUMMY_KILL", "1")]).outcome(),
            v1::Outcome::Killed
        );
        let tested = result(&[("DUMMY_TESTS", "10, 1,2")]);
        assert_eq!(
            (tested.reports[0].tests, tested.reports[0].skipped),
            (10, 2)
        );
        assert!(
            job(&[("DUMMY_TESTS", "10")])
                .unwrap_err()
                .contains("three numbers")
        );
        assert!(job(&[]).unwrap().is_immediate());
        assert!(!job(&[("DUMMY_SLEEP_MS", "5")]).unwrap().is_immediate());
        assert!(
            job(&[("DUMMY_SLEEP_MS", "soon")])
                .unwrap_err()
                .contains("whole number")
        );
    }
}
