//! Whether a job gets another attempt.

use rustci_pipeline::{Retry, RetryOn};

use super::attempt::End;
use crate::{
    Run,
    record::{Cause, Conclusion, Next},
    state::Job,
};

/// What happens to a job after an attempt.
pub(super) fn next(run: &Run, place: usize, job: &Job, end: &End, requeues_max: u32) -> Next {
    let wanted = !matches!(end.conclusion, Conclusion::Success | Conclusion::Canceled);
    if !wanted || run.cancel_reason.is_some() {
        return Next::End;
    }
    // A timeout that the runner did not live to report is still the job's own.
    let systems_fault = is_systems_fault(end.cause) && end.conclusion == Conclusion::Error;
    if systems_fault && job.requeues < requeues_max {
        return Next::Requeue;
    }
    let retry = run.plan.job(place).map(|job| &job.retry);
    if retry.is_some_and(|retry| job.retries < retry.max && applies(retry, end)) {
        return Next::Retry;
    }
    Next::End
}

/// Whether a cause lies with a runner, so that the job may do better on another lease.
fn is_systems_fault(cause: Cause) -> bool {
    match cause {
        Cause::RunnerLost | Cause::RunnerRestarted | Cause::Rejected | Cause::Workspace => true,
        Cause::Unspecified
        | Cause::Completed
        | Cause::Source
        | Cause::ImagePull
        | Cause::RunnerError
        | Cause::Timeout
        | Cause::Canceled => false,
    }
}

fn applies(retry: &Retry, end: &End) -> bool {
    retry.on.is_empty() || retry.on.iter().any(|on| names(*on, end))
}

fn names(on: RetryOn, end: &End) -> bool {
    match on {
        RetryOn::Failure => end.conclusion == Conclusion::Failure,
        RetryOn::Error => end.conclusion == Conclusion::Error,
        RetryOn::RunnerLost => matches!(end.cause, Cause::RunnerLost | Cause::RunnerRestarted),
        RetryOn::Timeout => end.conclusion == Conclusion::TimedOut,
        RetryOn::Killed => end.conclusion == Conclusion::Killed,
        RetryOn::ImagePull => end.cause == Cause::ImagePull,
        RetryOn::ExitCode(code) => end.exit_code == Some(code),
        _ => false,
    }
}
