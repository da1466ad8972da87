//! Attempts as a runner keeps them in its spool.

use std::{collections::BTreeMap, time::Duration};

use rustci_scheduler::{AttemptToken, record::Conclusion};
use valkyrie_frame::{LogChannel, LogRecord, MessageType, StreamId, v2};
use valkyrie_session::{End, SendError, Session};

use crate::{options::Fault, wire, world::World};

/// What a runner has on its disk.
pub(crate) type Spool = BTreeMap<AttemptToken, Held>;

/// An attempt in a runner's hands.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) stage: Stage,
    /// Steps of work left.
    steps: u64,
    /// What it will come to.
    outcome: Outcome,
    /// Its log, as written to the spool.
    pub(crate) log: Vec<u8>,
    stopping: Stopping,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Preparing,
    Running,
    /// It is over, and the control plane has not acknowledged that.
    Done(Outcome),
    /// An earlier process had it.
    Lost,
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed(Conclusion),
    Failed(&'static str),
    Rejected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    Yes,
    /// It was told to stop and does not.
    Ignored,
}

impl Held {
    /// A new attempt, with what will become of it.
    pub(crate) fn new(world: &mut World) -> Self {
        let options = &world.options;
        let (reject, fail) = (options.has(Fault::Reject), options.has(Fault::FailAttempts));
        let rng = &mut world.rng;
        let outcome = if reject && rng.chance(8) {
            Outcome::Rejected
        } else if fail && rng.chance(15) {
            Outcome::Failed(rng.pick(&["workspace", "source", "else"]).unwrap_or("else"))
        } else if rng.chance(15) {
            Outcome::Completed(Conclusion::Failure)
        } else {
            Outcome::Completed(Conclusion::Success)
        };
        let stage = Stage::Preparing;
        let (steps, log) = (rng.between(1, 6), Vec::new());
        Self {
            stage,
            steps,
            outcome,
            log,
            stopping: Stopping::No,
        }
    }

    /// Does the next piece of work; returns how long it takes, unless it was the last.
    pub(crate) fn work(&mut self, token: AttemptToken, world: &mut World) -> Option<Duration> {
        match self.stage {
            Stage::Done(_) | Stage::Lost => return None,
            Stage::Preparing if self.outcome == Outcome::Rejected => {
                self.stage = Stage::Done(self.outcome);
                return None;
            }
            Stage::Preparing => self.stage = Stage::Running,
            Stage::Running => self.steps = self.steps.saturating_sub(1),
        }
        if self.stopping == Stopping::Yes {
            self.stage = Stage::Done(Outcome::Completed(Conclusion::Canceled));
            return None;
        }
        self.write_log(token, world);
        if self.steps == 0 {
            self.stage = Stage::Done(self.outcome);
            return None;
        }
        Some(world.millis(5, 4_000))
    }

    /// Writes some lines, now and then more than a window holds.
    fn write_log(&mut self, token: AttemptToken, world: &mut World) {
        let before = self.log.len();
        let lines = if world.rng.chance(2) {
            3_000
        } else {
            world.rng.below(20)
        };
        for line in 0..lines {
            let bytes = vec![b'x'; world.rng.place(400)];
            let record = LogRecord {
                unix_ns: line,
                step: 0,
                channel: LogChannel::STDOUT,
                bytes: &bytes,
            };
            // A record of 400 bytes is never too long.
            let _ = record.append(&mut self.log);
        }
        world
            .oracle
            .spooled(token, self.log.get(before..).unwrap_or_default());
    }

    pub(crate) fn stop(&mut self, world: &mut World) {
        if self.stopping == Stopping::No {
            let stubborn = world.options.has(Fault::Stubborn) && world.rng.chance(50);
            self.stopping = if stubborn {
                Stopping::Ignored
            } else {
                Stopping::Yes
            };
            if stubborn {
                self.steps += 40;
            }
        }
    }

    /// The process that ran it is gone.
    pub(crate) fn lose(&mut self) {
        if !matches!(self.stage, Stage::Done(_)) {
            self.stage = Stage::Lost;
        }
    }

    /// Tells the control plane how far it is.
    ///
    /// # Errors
    /// Those of the session; a stream that has ended meanwhile belongs to a lease that is over.
    pub(crate) fn tell(
        &self,
        token: AttemptToken,
        session: &mut Session,
        stream: StreamId,
    ) -> Result<(), SendError> {
        let attempt = Some(wire::attempt(token));
        let log_bytes = self.log.len() as u64;
        match self.stage {
            Stage::Preparing | Stage::Lost => session.job(
                stream,
                MessageType::JOB_ACCEPT,
                &v2::JobAccept { attempt },
                End::No,
            ),
            Stage::Running => {
                let start = v2::JobStart {
                    attempt,
                    unix_ms: 0,
                };
                session.job(stream, MessageType::JOB_START, &start, End::No)
            }
            Stage::Done(Outcome::Rejected) => {
                let reject = v2::JobReject {
                    attempt,
                    code: 501,
                    reason: "full".to_owned(),
                };
                session.job(stream, MessageType::JOB_REJECT, &reject, End::Yes)
            }
            Stage::Done(Outcome::Failed(cause)) => {
                let (cause, message) = (cause.to_owned(), String::new());
                let failed = v2::JobFailed {
                    attempt,
                    cause,
                    message,
                    log_bytes,
                };
                session.job(stream, MessageType::JOB_FAILED, &failed, End::Yes)
            }
            Stage::Done(Outcome::Completed(outcome)) => {
                let (content_type, result) = (String::new(), wire::result(outcome));
                let complete = v2::JobComplete {
                    attempt,
                    content_type,
                    result,
                    log_bytes,
                };
                session.job(stream, MessageType::JOB_COMPLETE, &complete, End::Yes)
            }
        }
    }
}
