//! One process of the control plane.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

use journal::{Batch, Encoder, Index, JournalError, Log, LogConfig, fault::FaultDisk};
use prost::Message;
use rustci_pipeline::v1::RegisterReply;
use rustci_scheduler::{
    AttemptToken, Command, Effect, Output, Refused, Reply, RunnerId, Scheduler, SchedulerConfig,
};
use valkyrie_frame::{Correlation, StreamId, Time};

use super::{jobs::Report, logs::LogStore};
use crate::{
    link::Link,
    net::{ConnId, End},
    options::{Fault, Options},
    wire,
    world::{Event, World},
};

/// Records after which a snapshot is stored.
const SNAPSHOT_RECORDS: u64 = 60;

/// Everything a kill takes away.
#[derive(Debug)]
pub(crate) struct Process {
    life: u64,
    pub(crate) scheduler: Scheduler,
    log: Log<FaultDisk>,
    encoder: Encoder,
    batch: Batch,
    /// The last record of the sync that is under way.
    in_flight: Option<Index>,
    /// What goes out once a record is durable.
    waiting: VecDeque<(Index, Release)>,
    snapshot_at: Index,
    pub(super) links: BTreeMap<ConnId, ServerLink>,
    /// The connection of each runner.
    pub(super) runners: BTreeMap<RunnerId, ConnId>,
    /// Reports that wait for their record to be acknowledged.
    pub(super) unacked: BTreeMap<AttemptToken, Report>,
    /// Completions that wait for the log to be durable.
    pub(super) unlogged: BTreeMap<AttemptToken, (Command, u64)>,
    pub(super) log_sync: LogSync,
    timer: Option<Time>,
}

/// A connection with what the control plane knows of it.
#[derive(Debug)]
pub(super) struct ServerLink {
    pub(super) link: Link,
    pub(super) runner: Option<RunnerId>,
    pub(super) jobs: BTreeMap<AttemptToken, StreamId>,
    pub(super) logs: BTreeMap<StreamId, AttemptToken>,
}

/// Whether the log files are about to be synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogSync {
    Idle,
    Due,
}

/// Something that must not go out before its records are durable.
#[derive(Debug)]
pub(super) enum Release {
    /// What the scheduler wants others to be told.
    Effects(Vec<Effect>),
    /// The answer to a registration.
    Registered {
        conn: ConnId,
        call: Correlation,
        reply: RegisterReply,
    },
    /// The answer to a submission.
    Submitted(rustci_scheduler::RunId),
}

/// The scheduler as the options want it.
pub(crate) fn scheduler_config(options: &Options) -> SchedulerConfig {
    SchedulerConfig {
        lease: options.lease,
        ..SchedulerConfig::default()
    }
}

impl Process {
    /// Reads the disk, judges what is there, and takes up work.
    pub(super) fn start(
        life: u64,
        disk: &FaultDisk,
        world: &mut World,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        // Small segments, so that a run sees many of them.
        let (log, recovered) = Log::open(
            disk.clone(),
            LogConfig {
                segment_bytes: 8 << 10,
            },
        )?;
        world.oracle.recovered(&recovered);
        let config = scheduler_config(&world.options);
        let mut scheduler = match recovered.snapshot() {
            Some((_, state)) => Scheduler::restore(config, state)?,
            None => Scheduler::new(config),
        };
        for (_, record) in recovered.records() {
            scheduler.replay_bytes(record)?;
        }
        world.oracle.compare(&scheduler);
        let encoder = log.encoder();
        let mut process = Self {
            life,
            scheduler,
            log,
            encoder,
            batch: Batch::default(),
            in_flight: None,
            waiting: VecDeque::new(),
            snapshot_at: recovered.snapshot().map_or(Index::ZERO, |(index, _)| index),
            links: BTreeMap::new(),
            runners: BTreeMap::new(),
            unacked: BTreeMap::new(),
            unlogged: BTreeMap::new(),
            log_sync: LogSync::Idle,
            timer: None,
        };
        let mut out = Output::default();
        process.scheduler.resume(world.clocks(), &mut out);
        process.take_over(out, world);
        Ok(process)
    }

    /// Gives the scheduler a command, and what comes out to the journal.
    pub(crate) fn handle(&mut self, command: Command, world: &mut World) -> Result<Reply, Refused> {
        let mut out = Output::default();
        let reply = self.scheduler.handle(world.clocks(), command, &mut out);
        if let Ok(Reply::Run(run)) = reply {
            self.append(&mut out, world);
            self.wait(Release::Submitted(run));
        }
        self.take_over(out, world);
        reply
    }

    fn append(&mut self, out: &mut Output, world: &mut World) {
        for record in out.records.drain(..) {
            let bytes = record.encode_to_vec();
            match self.encoder.push(&mut self.batch, &bytes) {
                Ok(_) => world.oracle.appended(bytes),
                Err(error) => world.oracle.fail("I3", error.to_string()),
            }
        }
    }

    fn take_over(&mut self, mut out: Output, world: &mut World) {
        self.append(&mut out, world);
        if !out.effects.is_empty() {
            self.wait(Release::Effects(mem::take(&mut out.effects)));
        }
    }

    /// Keeps something back until everything appended so far is durable.
    pub(super) fn wait(&mut self, release: Release) {
        self.waiting.push_back((self.encoder.last(), release));
    }

    /// Writes the batch when no sync is under way, and lets out what is durable.
    pub(super) fn pump(&mut self, world: &mut World) -> Result<(), JournalError> {
        if self.in_flight.is_none() && !self.batch.is_empty() {
            self.log.write(&mut self.batch)?;
            self.batch.clear();
            self.in_flight = Some(self.log.last());
            let slow = world.options.has(Fault::SlowSync) && world.rng.chance(10);
            let latency = if slow {
                world.millis(50, 3_000)
            } else {
                world.millis(0, 3)
            };
            world.after(latency, Event::Synced { life: self.life });
        }
        if self.in_flight.is_none() {
            self.release(self.log.last(), world);
            self.snapshot(world)?;
        }
        Ok(())
    }

    /// The sync that was under way has ended.
    pub(super) fn sync(&mut self, world: &mut World) -> Result<Index, JournalError> {
        self.in_flight = None;
        let index = self.log.sync()?;
        world.oracle.synced(index);
        Ok(index)
    }

    /// Lets everything out that follows from durable records.
    pub(super) fn release(&mut self, durable: Index, world: &mut World) {
        while let Some((index, _)) = self.waiting.front() {
            if *index > durable {
                break;
            }
            match self.waiting.pop_front() {
                Some((_, Release::Effects(effects))) => {
                    for effect in effects {
                        self.effect(effect, world);
                    }
                }
                Some((_, Release::Registered { conn, call, reply })) => {
                    if let Some(server) = self.links.get_mut(&conn) {
                        // The call may have ended with its connection.
                        let _ = server.link.session.reply(call, &reply.encode_to_vec());
                    }
                }
                Some((_, Release::Submitted(run))) => {
                    world.oracle.accepted_runs.insert(run);
                }
                None => {}
            }
        }
        self.flush(world);
    }

    /// Stores the state while all of it is durable.
    fn snapshot(&mut self, world: &mut World) -> Result<(), JournalError> {
        let last = self.log.last();
        if !self.batch.is_empty() || last.get() < self.snapshot_at.get() + SNAPSHOT_RECORDS {
            return Ok(());
        }
        self.log.sync()?;
        Log::store_snapshot(&*self.log.disk(), last, &self.scheduler.snapshot())?;
        self.snapshot_at = last;
        // A crash may come between storing and forgetting.
        if world.rng.chance(80) {
            self.log.forget(last)
        } else {
            Ok(())
        }
    }

    /// Sets the timer of the scheduler.
    pub(super) fn arm(&mut self, world: &mut World) {
        if let Some(at) = self.scheduler.next_deadline()
            && self.timer.is_none_or(|set| at < set || set < world.now)
        {
            self.timer = Some(at.max(world.now));
            world.queue.at(at.max(world.now), Event::SchedulerTimer);
        }
    }

    /// Tells the scheduler that time has passed.
    pub(crate) fn tick(&mut self, world: &mut World) {
        if self.timer.is_some_and(|at| at <= world.now) {
            self.timer = None;
        }
        if self
            .scheduler
            .next_deadline()
            .is_some_and(|at| at <= world.now)
        {
            let _ = self.handle(Command::Tick, world);
        }
    }

    /// Sends what all sessions want to send.
    pub(super) fn flush(&mut self, world: &mut World) {
        for server in self.links.values_mut() {
            server.link.flush(world);
        }
    }

    /// Bytes of a connection; the first ones make its session.
    pub(super) fn bytes(
        &mut self,
        conn: ConnId,
        bytes: &[u8],
        logs: &mut LogStore,
        world: &mut World,
    ) {
        let server = self.links.entry(conn).or_insert_with(|| ServerLink {
            link: Link::new(conn, End::Server, world),
            runner: None,
            jobs: BTreeMap::new(),
            logs: BTreeMap::new(),
        });
        let mut buffer = mem::take(&mut server.link.input);
        buffer.extend_from_slice(bytes);
        let mut input = buffer.as_slice();
        let rest = loop {
            let Some(server) = self.links.get_mut(&conn) else {
                break &[][..];
            };
            match server.link.session.read(world.now, &mut input) {
                Ok(Some(event)) => self.event(conn, event, logs, world),
                Ok(None) => break input,
                Err(error) => {
                    world.oracle.session_error(&error);
                    self.drop_link(conn, world);
                    break &[][..];
                }
            }
        };
        let rest = rest.to_vec();
        if let Some(server) = self.links.get_mut(&conn) {
            server.link.input = rest;
        }
    }

    /// The time of a session has come.
    pub(super) fn session_timer(&mut self, conn: ConnId, logs: &mut LogStore, world: &mut World) {
        let Some(server) = self.links.get_mut(&conn) else {
            return;
        };
        server.link.timer(world);
        if server.link.session.failure().is_some() || server.link.session.is_finished() {
            self.drop_link(conn, world);
            return;
        }
        while let Some(server) = self.links.get_mut(&conn)
            && let Some(event) = server.link.session.poll_event()
        {
            self.event(conn, event, logs, world);
        }
    }

    /// Closes a connection from this side.
    pub(super) fn drop_link(&mut self, conn: ConnId, world: &mut World) {
        if let Some(server) = self.links.get_mut(&conn) {
            server.link.flush(world);
            world.close(conn, End::Server);
        }
        self.lost(conn, world);
    }

    /// A connection is gone.
    pub(super) fn lost(&mut self, conn: ConnId, world: &mut World) {
        let Some(server) = self.links.remove(&conn) else {
            return;
        };
        // A runner that has come back over another connection is not down.
        if let Some(runner) = server.runner
            && self.runners.get(&runner) == Some(&conn)
        {
            self.runners.remove(&runner);
            let _ = self.handle(Command::RunnerDown { runner }, world);
        }
    }

    /// Has the log files synced, once for all that was written meanwhile.
    pub(super) fn sync_logs_soon(&mut self, world: &mut World) {
        if self.log_sync == LogSync::Idle {
            self.log_sync = LogSync::Due;
            let latency = world.millis(0, 5);
            world.after(latency, Event::LogsSynced { life: self.life });
        }
    }

    /// The runner that has registered over a connection.
    pub(super) fn runner_of(&self, conn: ConnId) -> Option<RunnerId> {
        self.links.get(&conn)?.runner
    }

    /// The session over which a runner is reached.
    pub(super) fn link_of(&mut self, runner: RunnerId) -> Option<&mut ServerLink> {
        self.links.get_mut(self.runners.get(&runner)?)
    }
}

impl Process {
    /// Registers a runner; its answer waits for the records.
    pub(super) fn registered(
        &mut self,
        conn: ConnId,
        call: Correlation,
        up: rustci_scheduler::RunnerUp,
        world: &mut World,
    ) {
        let mut out = Output::default();
        let reply = self
            .scheduler
            .handle(world.clocks(), Command::RunnerUp(up), &mut out);
        let Ok(Reply::Runner { runner, keep }) = reply else {
            world.oracle.fail("I12", "a registration was refused");
            return;
        };
        // A second live connection under the same name replaces the first.
        if let Some(old) = self.runners.insert(runner, conn)
            && old != conn
        {
            self.drop_link(old, world);
        }
        if let Some(server) = self.links.get_mut(&conn) {
            server.runner = Some(runner);
        }
        let lease_ms = u32::try_from(world.options.lease.as_millis()).unwrap_or(u32::MAX);
        let keep = keep.into_iter().map(wire::held).collect();
        let reply = RegisterReply {
            runner: runner.0,
            lease_ms,
            keep,
        };
        self.append(&mut out, world);
        self.wait(Release::Registered { conn, call, reply });
        self.take_over(out, world);
    }
}
