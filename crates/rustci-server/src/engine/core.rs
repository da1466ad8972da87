//! The engine's heart: scheduler and journal, and the effects that wait between them.
//!
//! A command changes the scheduler at once; its records go to the journal, and what follows from it
//! waits in a queue, each effect under the index of the last record before it. Only when the
//! journal says that an index is durable are its effects let go.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

use journal::{Index, Journal};
use prost::Message;
use rustci_scheduler::record::{Conclusion as Recorded, Next, Record, record::Kind};
use rustci_scheduler::{
    AttemptToken, Command, Effect, JobId, Output, Refused, Reply, RunId, RunnerId, Scheduler,
};
use tokio::sync::Notify;
use valkyrie::{Correlation, ErrorCode, Link, StreamId, Time};
use valkyrie_frame::WallTime;

use crate::api::ApiError;
use crate::api::view::Conclusion;
use crate::catalogue::Change;
use crate::engine::EngineConfig;
use crate::engine::attempts::Active;
use crate::engine::clock::Clock;
use crate::engine::handle::{Answer, Begun, Captured, Look};
use crate::engine::history::History;
use crate::engine::keys::RequestKeys;
use crate::engine::projection::Projection;
use crate::engine::snapshot::Snapshots;
use crate::engine::spec::SpecCache;
use crate::engine::states::{self, conclusion};
use crate::health::Health;

/// What waits for its records to become durable.
pub(super) enum Pending {
    /// An effect of the scheduler, with the time of its decision.
    Effect(Effect, Time),
    /// News for the catalogue.
    Changes(Vec<Change>),
    /// The answer to a submission.
    Begun(Begun, Answer<Begun>),
    /// The answer to a request that has no other news than that it was done.
    Done(Answer<()>),
    /// The state at this index, for somebody to look at with the catalogue.
    Captured(Captured, Look),
    /// The answer to a runner's registration.
    Registered {
        link: Link,
        call: Correlation,
        runner: RunnerId,
        keep: Vec<AttemptToken>,
    },
}

/// Everything the shard owns. Handlers and the pump take turns with it.
pub(super) struct Core {
    pub(super) config: EngineConfig,
    pub(super) clock: Clock,
    pub(super) scheduler: Scheduler,
    pub(super) journal: Box<dyn Journal>,
    pub(super) links: HashMap<RunnerId, Link>,
    /// Versions that runners announced.
    pub(super) versions: HashMap<RunnerId, String>,
    /// Where each runner works, as it says itself.
    pub(super) places: HashMap<RunnerId, Vec<u8>>,
    /// When runners were connected last that are away.
    pub(super) seen: HashMap<RunnerId, WallTime>,
    /// How long jobs took.
    pub(super) history: History,
    /// Attempts that runners have now, as far as this process knows.
    pub(super) attempts: HashMap<JobId, Active>,
    /// Job streams by link and stream.
    pub(super) job_streams: HashMap<(u64, StreamId), AttemptToken>,
    pub(super) specs: SpecCache,
    pub(super) keys: RequestKeys,
    pub(super) projection: Projection,
    pub(super) snapshots: Snapshots,
    /// Ended runs that the scheduler still holds, with the index of their end.
    pub(super) ended: VecDeque<(Index, RunId)>,
    /// Why nothing new is taken.
    pub(super) failed: Option<String>,
    pending: VecDeque<(Index, Pending)>,
    out: Output,
    scratch: Vec<u8>,
    /// When the oldest records not yet known to be durable were handed over.
    committed: Option<(Index, Time)>,
    wake: Arc<Notify>,
}

impl Core {
    pub(super) fn new(
        mut config: EngineConfig,
        scheduler: Scheduler,
        mut journal: Box<dyn Journal>,
        wake: Arc<Notify>,
    ) -> Self {
        let waker = Arc::clone(&wake);
        let requests = mem::take(&mut config.requests);
        journal.on_synced(Box::new(move |_| waker.notify_one()));
        Self {
            history: History::seeded(&config.history),
            keys: RequestKeys::new(requests, &scheduler),
            projection: Projection::new(config.updates.clone()),
            snapshots: Snapshots::new(config.snapshot_records, journal.appended()),
            config,
            clock: Clock::start(),
            scheduler,
            journal,
            links: HashMap::new(),
            versions: HashMap::new(),
            places: HashMap::new(),
            seen: HashMap::new(),
            attempts: HashMap::new(),
            job_streams: HashMap::new(),
            specs: SpecCache::default(),
            ended: VecDeque::new(),
            failed: None,
            pending: VecDeque::new(),
            out: Output::default(),
            scratch: Vec::new(),
            committed: None,
            wake,
        }
    }

    /// Gives a command to the scheduler and its records to the journal.
    pub(super) fn command(&mut self, command: Command) -> Result<Reply, Refused> {
        let now = self.clock.now();
        let mut out = mem::take(&mut self.out);
        let reply = self.scheduler.handle(now, command, &mut out);
        self.take(now.time, &mut out);
        self.out = out;
        reply
    }

    /// Lets the scheduler take up work after the last replay.
    pub(super) fn resume(&mut self) {
        let now = self.clock.now();
        let mut out = mem::take(&mut self.out);
        self.scheduler.resume(now, &mut out);
        self.take(now.time, &mut out);
        self.out = out;
    }

    fn take(&mut self, now: Time, out: &mut Output) {
        let results = self.results(&out.records);
        for record in out.records.drain(..) {
            self.append(&record);
        }
        let index = self.journal.appended();
        if !results.is_empty() {
            self.pending.push_back((index, Pending::Changes(results)));
        }
        for effect in out.effects.drain(..) {
            match effect {
                Effect::JobChanged { job, .. } => self.projection.job_changed(job),
                Effect::JobsAdded { run } => self.projection.run_submitted(run),
                Effect::RunChanged { run } => self.projection.run_changed(run),
                other => self.pending.push_back((index, Pending::Effect(other, now))),
            }
        }
        self.wake.notify_one();
    }

    /// What attempts left behind that these records end.
    fn results(&self, records: &[Record]) -> Vec<Change> {
        let mut results = Vec::new();
        for (place, record) in records.iter().enumerate() {
            let Some(Kind::AttemptEnded(ended)) = &record.kind else {
                continue;
            };
            // The scheduler may have given the job out again within the same command.
            let later = records.iter().skip(place).filter(|later| {
                matches!(&later.kind, Some(Kind::Leased(leased)) if leased.job == ended.job)
            });
            let job = self.scheduler.job(JobId(ended.job)).map(|(_, _, job)| job);
            let attempts = job.map_or(0, |job| job.attempts.len());
            let number = u32::try_from(attempts - later.count()).unwrap_or(u32::MAX);
            results.extend(states::finished(
                &self.scheduler,
                record.at_ms,
                number,
                ended,
            ));
        }
        results
    }

    fn append(&mut self, record: &Record) {
        self.scratch.clear();
        record
            .encode(&mut self.scratch)
            .expect("a vector grows as far as memory goes");
        match self.journal.append(&self.scratch) {
            Ok(index) => self.count(record, index),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Notes what a record ends.
    fn count(&mut self, record: &Record, index: Index) {
        let metrics = &self.config.metrics.rustci;
        let word = |ended| conclusion(ended).map_or("error", Conclusion::as_str);
        match &record.kind {
            Some(Kind::AttemptEnded(ended)) if ended.next() == Next::End => {
                metrics.job_finished(word(ended.conclusion()));
                if ended.conclusion() == Recorded::Success {
                    self.remember(JobId(ended.job));
                }
            }
            Some(Kind::JobEnded(ended)) => metrics.job_finished(word(ended.conclusion())),
            Some(Kind::RunEnded(ended)) => {
                metrics.run_finished(word(ended.conclusion()));
                self.ended.push_back((index, RunId(ended.run)));
            }
            _ => {}
        }
    }

    /// Lets `pending` go once everything appended so far is durable.
    pub(super) fn hold(&mut self, pending: Pending) {
        self.pending.push_back((self.journal.appended(), pending));
        self.wake.notify_one();
    }

    /// Like [`hold`](Self::hold), but in front of the effects of the last command.
    pub(super) fn hold_at(&mut self, place: usize, pending: Pending) {
        let place = place.min(self.pending.len());
        self.pending
            .insert(place, (self.journal.appended(), pending));
        self.wake.notify_one();
    }

    /// How much is waiting; the place of what the next command adds.
    pub(super) fn held(&self) -> usize {
        self.pending.len()
    }

    /// Hands everything appended to the journal's writer: one batch per turn of the shard.
    pub(super) fn commit(&mut self) {
        if self.failed.is_some() {
            return;
        }
        if let Some(changes) = self.projection.collect(&self.scheduler) {
            self.hold(Pending::Changes(changes));
        }
        let appended = self.journal.appended();
        if self.committed.is_none() && appended > self.journal.synced() {
            self.committed = Some((appended, self.clock.now().time));
        }
        self.journal.commit();
    }

    /// Lets go what has become durable.
    pub(super) fn release(&mut self) {
        if let Some(error) = self.journal.failed() {
            return self.fail(&error.to_string());
        }
        let synced = self.journal.synced();
        self.measure_sync(synced);
        while self
            .pending
            .front()
            .is_some_and(|(index, _)| *index <= synced)
        {
            if let Some((_, pending)) = self.pending.pop_front() {
                self.let_go(pending);
            }
        }
        self.projection.flush(synced.get());
        self.keep_house();
    }

    fn measure_sync(&mut self, synced: Index) {
        if let Some((_, since)) = self.committed.take_if(|(index, _)| *index <= synced) {
            let elapsed = self.clock.now().time.saturating_since(since);
            self.config.metrics.rustci.journal_synced(elapsed);
        }
    }

    fn let_go(&mut self, pending: Pending) {
        match pending {
            Pending::Effect(effect, decided) => self.act(effect, decided),
            Pending::Changes(changes) => self.projection.extend(changes),
            Pending::Begun(begun, answer) => self.projection.answer_run(begun, answer),
            Pending::Done(answer) => self.projection.answer(answer),
            Pending::Captured(captured, Look(look)) => {
                let index = captured.index;
                let query = Box::new(move |catalogue: &_| look(catalogue, captured));
                self.projection.ask_at(index, query);
            }
            Pending::Registered {
                link,
                call,
                runner,
                keep,
            } => {
                self.welcome(&link, call, runner, &keep);
            }
        }
    }

    /// Stops accepting: what is durable stays, what is not is not acknowledged to anybody.
    pub(super) fn fail(&mut self, reason: &str) {
        if self.failed.is_some() {
            return;
        }
        tracing::error!(
            reason,
            "storage failed: no new work is accepted; free or repair the disk and restart"
        );
        self.failed = Some(reason.to_owned());
        self.config.health.set(Health::Failed {
            reason: reason.to_owned(),
        });
        for (_, pending) in mem::take(&mut self.pending) {
            self.refuse(pending, reason);
        }
        self.projection.fail(reason);
        // Runners keep their results and come back to whoever serves this data next.
        for link in self.links.values() {
            link.close(ErrorCode::STORAGE, std::time::Duration::ZERO);
        }
    }

    fn refuse(&self, pending: Pending, reason: &str) {
        // Whoever asked may have gone away; then nobody misses the answer.
        match pending {
            Pending::Begun(_, answer) => {
                let _ = answer.send(Err(ApiError::Storage(reason.to_owned())));
            }
            Pending::Done(answer) => {
                let _ = answer.send(Err(ApiError::Storage(reason.to_owned())));
            }
            Pending::Registered { link, call, .. } => {
                let _ = link.session().reply_error(call, ErrorCode::STORAGE, reason);
            }
            // The question is dropped, and who asked hears that there will be no answer.
            Pending::Captured(..) | Pending::Effect(..) | Pending::Changes(_) => {}
        }
    }
}
