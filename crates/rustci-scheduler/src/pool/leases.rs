//! When what has to happen to the jobs that runners have. Soft state, armed anew at a restart.

use std::collections::{BTreeMap, BTreeSet};

use valkyrie_frame::Time;

use crate::{JobId, RunnerId};

/// The leases in force, by their next deadline.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    leases: BTreeMap<JobId, Lease>,
    rests: BTreeSet<(Time, RunnerId)>,
    /// Jobs that wait for somebody's answer, by the end of their patience.
    asking: BTreeSet<(Time, JobId)>,
    asked: BTreeMap<JobId, Time>,
    queue: BTreeSet<(Time, JobId)>,
}

#[derive(Debug)]
struct Lease {
    /// The runner is lost then.
    until: Time,
    /// The job's timeout, once it has started.
    timeout: Option<Time>,
    /// The end of the patience with an attempt that was told to stop.
    stop: Option<Time>,
    /// Where the lease is in the queue; never after its next deadline.
    armed: Time,
}

impl Lease {
    fn next(&self) -> Time {
        let others = [self.timeout, self.stop];
        others.into_iter().flatten().fold(self.until, Time::min)
    }
}

/// Something whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The lease was not renewed.
    Lost(JobId),
    /// The job's timeout is over.
    Timeout(JobId),
    /// An attempt that was told to stop has not ended.
    Stop(JobId),
    /// A runner that refused a job may get one again.
    Rested(RunnerId),
    /// Nobody has answered.
    Unanswered(JobId),
}

impl Leases {
    /// A lease begins.
    pub(crate) fn begin(&mut self, job: JobId, until: Time) {
        self.end(job);
        self.leases.insert(
            job,
            Lease {
                until,
                timeout: None,
                stop: None,
                armed: until,
            },
        );
        self.queue.insert((until, job));
    }

    /// The runner is alive. Only notes it: the queue is corrected when the old time comes.
    pub(crate) fn renew(&mut self, job: JobId, until: Time) {
        if let Some(lease) = self.leases.get_mut(&job) {
            lease.until = lease.until.max(until);
        }
    }

    /// The job's timeout ends then.
    pub(crate) fn set_timeout(&mut self, job: JobId, at: Time) {
        if let Some(lease) = self.leases.get_mut(&job) {
            lease.timeout = Some(at);
            self.arm(job);
        }
    }

    /// The patience with a stopping attempt ends then.
    pub(crate) fn set_stop(&mut self, job: JobId, at: Time) {
        if let Some(lease) = self.leases.get_mut(&job) {
            lease.stop = Some(at);
            lease.timeout = None;
            self.arm(job);
        }
    }

    /// A lease is over.
    pub(crate) fn end(&mut self, job: JobId) {
        if let Some(lease) = self.leases.remove(&job) {
            self.queue.remove(&(lease.armed, job));
        }
    }

    /// A runner gets no job until then.
    pub(crate) fn rest(&mut self, runner: RunnerId, until: Time) {
        self.rests.insert((until, runner));
    }

    /// A job waits until then for an answer.
    pub(crate) fn ask(&mut self, job: JobId, until: Time) {
        self.answered(job);
        self.asked.insert(job, until);
        self.asking.insert((until, job));
    }

    /// A job does not wait for an answer any more.
    pub(crate) fn answered(&mut self, job: JobId) {
        if let Some(until) = self.asked.remove(&job) {
            self.asking.remove(&(until, job));
        }
    }

    /// Jobs that were asked for; some of them may have ended without an answer.
    pub(crate) fn asked(&self) -> impl Iterator<Item = JobId> {
        self.asked.keys().copied()
    }

    /// When something is due; it may turn out that it is not.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let job = self.queue.first().map(|(at, _)| *at);
        let rest = self.rests.first().map(|(at, _)| *at);
        let asking = self.asking.first().map(|(at, _)| *at);
        job.into_iter().chain(rest).chain(asking).min()
    }

    /// Takes the next thing that is due.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Due> {
        if self.rests.first().is_some_and(|(at, _)| *at <= now) {
            return self
                .rests
                .pop_first()
                .map(|(_, runner)| Due::Rested(runner));
        }
        if let Some((_, job)) = self.asking.first().copied().filter(|(at, _)| *at <= now) {
            self.answered(job);
            return Some(Due::Unanswered(job));
        }
        while let Some((_, job)) = self.queue.first().copied().filter(|(at, _)| *at <= now) {
            if let Some(due) = self.due(job, now) {
                return Some(due);
            }
            self.arm(job);
        }
        None
    }

    fn due(&mut self, job: JobId, now: Time) -> Option<Due> {
        let lease = self.leases.get_mut(&job)?;
        if lease.until <= now {
            return Some(Due::Lost(job));
        }
        if lease.stop.is_some_and(|at| at <= now) {
            return Some(Due::Stop(job));
        }
        // Taken once: what follows is to tell the runner, which sets a deadline of its own.
        lease
            .timeout
            .take_if(|at| *at <= now)
            .map(|_| Due::Timeout(job))
    }

    /// Puts a lease where its next deadline belongs.
    fn arm(&mut self, job: JobId) {
        if let Some(lease) = self.leases.get_mut(&job) {
            self.queue.remove(&(lease.armed, job));
            lease.armed = lease.next();
            self.queue.insert((lease.armed, job));
        }
    }
}
