//! Why a job waits that has nothing to wait for but an approval or a slot.

use std::fmt;

use super::Waiting;
use crate::{Job, Phase, Run, RunId, Scheduler, SlotUse, state::Taker};

/// Who holds a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The run.
    pub run: RunId,
    /// Key of its job; none for the run as a whole.
    pub job: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.job {
            Some(job) => write!(f, "`{job}` of run {}", self.run),
            None => write!(f, "run {}", self.run),
        }
    }
}

pub(super) fn slot(
    f: &mut fmt::Formatter<'_>,
    group: &str,
    holder: Option<&Holder>,
    ahead: usize,
) -> fmt::Result {
    write!(f, "waits for the slot of `{group}`")?;
    if let Some(holder) = holder {
        write!(f, ", which {holder} holds")?;
    }
    match ahead {
        0 => Ok(()),
        1 => f.write_str("; one other is ahead"),
        ahead => write!(f, "; {ahead} others are ahead"),
    }
}

pub(super) fn approval(
    f: &mut fmt::Formatter<'_>,
    environment: &str,
    from: &[String],
) -> fmt::Result {
    write!(f, "waits for somebody to approve it for `{environment}`")?;
    if from.is_empty() {
        return Ok(());
    }
    write!(f, ": {}", from.join(", "))
}

impl Scheduler {
    /// What a blocked job waits for beside the jobs it needs.
    pub(super) fn at_gate(&self, run: &Run, place: usize, job: &Job) -> Option<Waiting> {
        if job.phase != Phase::Blocked {
            return None;
        }
        let whole = Taker {
            run: run.id,
            job: None,
        };
        if !run.is_released() {
            let (group, holder, ahead) = self.slot_wait(&run.slot, whole)?;
            return Some(Waiting::RunSlot {
                group,
                holder,
                ahead,
            });
        }
        if let Some(approval) = job.approval.as_ref().filter(|_| job.is_asking()) {
            let environment = run.plan.job(place)?.environment.as_ref()?;
            let from = environment.approval.as_ref().map(|it| it.from.clone());
            return Some(Waiting::Approval {
                environment: approval.environment.clone(),
                from: from.unwrap_or_default(),
                until: approval.until,
            });
        }
        let taker = Taker {
            job: Some(run.job_id(place)),
            ..whole
        };
        let (group, holder, ahead) = self.slot_wait(&job.slot, taker)?;
        Some(Waiting::Slot {
            group,
            holder,
            ahead,
        })
    }

    fn slot_wait(&self, slot: &SlotUse, taker: Taker) -> Option<(String, Option<Holder>, usize)> {
        let SlotUse::Waiting { group } = slot else {
            return None;
        };
        let key = self.state.slot_key(taker)?;
        let slot = self.state.slots.get(&key)?;
        let holder = slot.holder.map(|holder| Holder {
            run: holder.run,
            job: holder.job.and_then(|job| {
                let (run, place, _) = self.job(job)?;
                Some(run.plan.job(place)?.key.clone())
            }),
        });
        let ahead = slot.waiting.range(..taker).count();
        Some((group.clone(), holder, ahead))
    }
}
