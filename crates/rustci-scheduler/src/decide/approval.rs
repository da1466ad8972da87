//! Approvals: asking, answers, and no answer.

use std::time::Duration;

use super::Turn;
use crate::{
    Approval, JobId, Refused, Reply, RunId, Verdict,
    limits::ANSWER_BYTES_MAX,
    record::{ApprovalAsked, ApprovalGiven, Conclusion, record::Kind},
};

impl Turn<'_> {
    /// Asks whether a job may act on an environment.
    pub(super) fn ask(&mut self, id: JobId, environment: String, patience: Duration) {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.now.wall.as_millis().saturating_add(patience_ms);
        self.record(Kind::ApprovalAsked(ApprovalAsked {
            job: id.0,
            environment,
            until_ms,
        }));
        self.arm_answer(id);
        self.job_changed(id);
    }

    pub(super) fn answer(
        &mut self,
        run: RunId,
        id: JobId,
        verdict: Verdict,
        (by, comment): (String, String),
    ) -> Result<Reply, Refused> {
        self.scheduler
            .state
            .run(run)
            .ok_or(Refused::UnknownRun(run))?;
        let job = self.scheduler.state.job(id);
        let job = job.filter(|(found, _, _)| found.id == run);
        let (_, _, job) = job.ok_or(Refused::UnknownJob { run, job: id })?;
        if !job.is_asking() {
            return Err(Refused::NotAsking(id));
        }
        self.scheduler.leases.answered(id);
        self.record(Kind::ApprovalGiven(ApprovalGiven {
            job: id.0,
            approved: verdict == Verdict::Approved,
            by: cut(by),
            comment: cut(comment),
        }));
        self.job_changed(id);
        Ok(Reply::Done)
    }

    /// Nobody answered in time.
    pub(super) fn unanswered(&mut self, id: JobId) {
        let job = self.scheduler.state.job(id).map(|(_, _, job)| job);
        let Some(approval) = job
            .filter(|job| job.is_asking())
            .and_then(|job| job.approval.as_ref())
        else {
            return;
        };
        let reason = format!("nobody approved it for `{}` in time", approval.environment);
        self.end_job(id, Conclusion::Blocked, reason);
    }

    /// Sets the end of the patience of a job that asks.
    pub(super) fn arm_answer(&mut self, id: JobId) {
        let job = self.scheduler.state.job(id).map(|(_, _, job)| job);
        let Some(approval) = job
            .filter(|job| job.is_asking())
            .and_then(|job| job.approval.as_ref())
        else {
            return;
        };
        let patience = approval.until.saturating_since(approval.asked);
        let until = self.left(approval.asked, patience);
        self.scheduler.leases.ask(id, until);
    }
}

/// What a job says that was declined.
pub(super) fn declined(approval: &Approval) -> String {
    let Some(answer) = &approval.answer else {
        return String::new();
    };
    let by = match answer.by.as_str() {
        "" => String::new(),
        by => format!(" by {by}"),
    };
    let comment = match answer.comment.as_str() {
        "" => String::new(),
        comment => format!(": {comment}"),
    };
    format!("declined for `{}`{by}{comment}", approval.environment)
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(ANSWER_BYTES_MAX));
    text
}
