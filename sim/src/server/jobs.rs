//! What runners say, and what they are told.

use prost::Message;
use rustci_pipeline::v1::RegisterRequest;
use rustci_scheduler::{
    AttemptResult, AttemptToken, Command, Effect, Refused, RunnerId, RunnerUp, cause_from_wire,
    record::StopReason,
};
use valkyrie_frame::{Correlation, ErrorCode, MessageType, StreamId, v2};
use valkyrie_session::{End, Event, SendError};

use super::{
    logs::LogStore,
    process::{LogSync, Process},
};
use crate::{net::ConnId, wire, workload::matrix_of, world::World};

/// A message of a runner that ends an attempt, to be acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub(super) conn: ConnId,
    pub(super) stream: StreamId,
    pub(super) kind: MessageType,
    pub(super) correlation: Correlation,
}

impl Process {
    /// Something a session of a runner says.
    pub(super) fn event(
        &mut self,
        conn: ConnId,
        event: Event<'_>,
        logs: &mut LogStore,
        world: &mut World,
    ) {
        match event {
            Event::Call { call, body, .. } => self.register(conn, call, &body, world),
            Event::Opened { stream, open, .. } => self.opened(conn, stream, &open, logs, world),
            Event::Job {
                stream,
                kind,
                body,
                correlation,
                ..
            } => {
                let report = Report {
                    conn,
                    stream,
                    kind,
                    correlation,
                };
                self.job_message(report, &body, logs, world);
            }
            Event::Log {
                stream,
                offset,
                records,
            } => {
                let server = self.links.get(&conn);
                if let Some(token) = server.and_then(|server| server.logs.get(&stream)).copied() {
                    logs.append(token, offset, records, world);
                    self.sync_logs_soon(world);
                }
            }
            Event::Finished { stream, .. } => {
                if let Some(server) = self.links.get_mut(&conn)
                    && server.logs.remove(&stream).is_some()
                {
                    server.link.session.finish(stream);
                }
            }
            Event::Reset { stream, .. } => {
                if let Some(server) = self.links.get_mut(&conn) {
                    server.logs.remove(&stream);
                    server.jobs.retain(|_, other| *other != stream);
                }
            }
            _ => {}
        }
    }

    fn register(&mut self, conn: ConnId, call: Correlation, body: &[u8], world: &mut World) {
        let Ok(request) = RegisterRequest::decode(body) else {
            world.oracle.fail("I12", "a registration cannot be read");
            return;
        };
        let up = RunnerUp {
            name: request.name,
            labels: request.labels,
            capacity: request.capacity,
            executors: request.executors,
            held: request.held.iter().map(wire::token_of_held).collect(),
            lost: request.lost.iter().map(wire::token_of_held).collect(),
        };
        self.registered(conn, call, up, world);
    }

    /// Takes a stream of an attempt when its lease is in force.
    fn opened(
        &mut self,
        conn: ConnId,
        stream: StreamId,
        open: &v2::StreamOpen,
        logs: &mut LogStore,
        world: &mut World,
    ) {
        let token = wire::token_of_open(open);
        let Some((token, runner)) = token.zip(self.runner_of(conn)) else {
            self.refuse(conn, stream, ErrorCode::REJECTED);
            return;
        };
        if self
            .handle(Command::Renew { runner, token }, world)
            .is_err()
        {
            self.refuse(conn, stream, ErrorCode::STALE_FENCE);
            return;
        }
        let Some(server) = self.links.get_mut(&conn) else {
            return;
        };
        if open.method == wire::APPEND {
            server.logs.insert(stream, token);
            // The runner begins where the log is durable, so nothing may lie behind that.
            logs.sync();
            server.link.session.accept(stream, logs.durable(token));
        } else {
            server.jobs.insert(token, stream);
            server.link.session.accept(stream, 0);
        }
    }

    fn refuse(&mut self, conn: ConnId, stream: StreamId, code: ErrorCode) {
        if let Some(server) = self.links.get_mut(&conn) {
            server
                .link
                .session
                .error(stream, Correlation::NONE, code, "not the current lease");
            server.link.session.reset(stream, code);
        }
    }

    fn job_message(&mut self, report: Report, body: &[u8], logs: &LogStore, world: &mut World) {
        let Some(runner) = self.runner_of(report.conn) else {
            self.refuse(report.conn, report.stream, ErrorCode::REJECTED);
            return;
        };
        let Some((token, command, log_bytes)) = command(runner, report.kind, body) else {
            world
                .oracle
                .fail("I12", format!("{} cannot be read", report.kind));
            return;
        };
        if ends(report.kind) {
            // Only a lease in force, or its repeated report, is worth waiting for.
            self.unacked.insert(token, report);
            if log_bytes > logs.durable(token) {
                let _ = self.handle(Command::Renew { runner, token }, world);
                self.unlogged.insert(token, (command, log_bytes));
                return;
            }
        }
        self.decide(token, command, report, world);
    }

    fn decide(&mut self, token: AttemptToken, command: Command, report: Report, world: &mut World) {
        if let Err(Refused::Stale(_)) = self.handle(command, world) {
            self.unacked.remove(&token);
            self.refuse(report.conn, report.stream, ErrorCode::STALE_FENCE);
        }
    }

    /// Log files are durable: tells their runners, and takes completions that waited for it.
    pub(super) fn logs_synced(&mut self, logs: &mut LogStore, world: &mut World) {
        self.log_sync = LogSync::Idle;
        logs.sync();
        for server in self.links.values_mut() {
            for (stream, token) in &server.logs {
                server
                    .link
                    .session
                    .log_durable(*stream, logs.durable(*token));
            }
        }
        let ready =
            |token: &AttemptToken, waiting: &mut (Command, u64)| logs.durable(*token) >= waiting.1;
        let ready: Vec<_> = self.unlogged.extract_if(.., ready).collect();
        for (token, (command, _)) in ready {
            if let Some(report) = self.unacked.get(&token).copied() {
                self.decide(token, command, report, world);
            }
        }
    }

    /// Does what a durable decision asks for.
    pub(super) fn effect(&mut self, effect: Effect, world: &mut World) {
        match effect {
            Effect::Assign { runner, token, .. } => self.assign(runner, token, world),
            Effect::Cancel {
                runner,
                token,
                reason,
            } => self.cancel(runner, token, reason),
            Effect::Settled { token, .. } => {
                world.oracle.settle(token);
                self.settled(token);
            }
            Effect::Fenced { token, .. } => {
                self.unlogged.remove(&token);
                if let Some(report) = self.unacked.remove(&token) {
                    self.refuse(report.conn, report.stream, ErrorCode::STALE_FENCE);
                }
            }
            Effect::JobChanged { .. } | Effect::JobsAdded { .. } | Effect::RunChanged { .. } => {}
        }
    }

    fn assign(&mut self, runner: RunnerId, token: AttemptToken, world: &mut World) {
        let lease_ms = u32::try_from(world.options.lease.as_millis()).unwrap_or(u32::MAX);
        // A runner that is away does not get it; its return or the end of the lease clears it up.
        if let Some(server) = self.link_of(runner) {
            let request = v2::JobRequest {
                attempt: Some(wire::attempt(token)),
                lease_ms,
                ..v2::JobRequest::default()
            };
            match server.link.session.job_request(&request) {
                Ok(stream) => {
                    server.jobs.insert(token, stream);
                }
                Err(SendError::Draining | SendError::Closed) => {}
                Err(error) => world
                    .oracle
                    .fail("I12", format!("no stream for {token}: {error}")),
            }
        }
    }

    fn cancel(&mut self, runner: RunnerId, token: AttemptToken, reason: StopReason) {
        if let Some(server) = self.link_of(runner)
            && let Some(stream) = server.jobs.get(&token).copied()
        {
            let cancel = v2::JobCancel {
                attempt: Some(wire::attempt(token)),
                reason: reason.as_str_name().to_owned(),
                grace_ms: 1_000,
            };
            let kind = MessageType::JOB_CANCEL;
            // The stream may just have ended with the runner's report.
            let _ = server.link.session.job(stream, kind, &cancel, End::No);
        }
    }

    fn settled(&mut self, token: AttemptToken) {
        if let Some(report) = self.unacked.remove(&token)
            && let Some(server) = self.links.get_mut(&report.conn)
        {
            server.jobs.remove(&token);
            let Report {
                stream,
                kind,
                correlation,
                ..
            } = report;
            // The connection may be closing; the runner then asks again.
            let _ = server.link.session.ack(stream, kind, correlation, End::Yes);
        }
    }
}

fn ends(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::JOB_COMPLETE | MessageType::JOB_FAILED | MessageType::JOB_REJECT
    )
}

/// A job message as a command, with the length of log it counts on.
fn command(
    runner: RunnerId,
    kind: MessageType,
    body: &[u8],
) -> Option<(AttemptToken, Command, u64)> {
    match kind {
        MessageType::JOB_ACCEPT => {
            let token = wire::token(v2::JobAccept::decode(body).ok()?.attempt)?;
            Some((token, Command::Accepted { runner, token }, 0))
        }
        MessageType::JOB_REJECT => {
            let reject = v2::JobReject::decode(body).ok()?;
            let token = wire::token(reject.attempt)?;
            Some((
                token,
                Command::Rejected {
                    runner,
                    token,
                    reason: reject.reason,
                },
                0,
            ))
        }
        MessageType::JOB_START => {
            let token = wire::token(v2::JobStart::decode(body).ok()?.attempt)?;
            Some((token, Command::Started { runner, token }, 0))
        }
        MessageType::JOB_PROGRESS => {
            let token = wire::token(v2::JobProgress::decode(body).ok()?.attempt)?;
            Some((token, Command::Renew { runner, token }, 0))
        }
        MessageType::JOB_COMPLETE => {
            let complete = v2::JobComplete::decode(body).ok()?;
            let token = wire::token(complete.attempt)?;
            let (outcome, log_bytes) = (wire::outcome(&complete.result), complete.log_bytes);
            let result = AttemptResult {
                outcome,
                log_bytes,
                outputs: vec![matrix_of(token)],
                ..AttemptResult::default()
            };
            Some((
                token,
                Command::Finished {
                    runner,
                    token,
                    result,
                },
                log_bytes,
            ))
        }
        MessageType::JOB_FAILED => {
            let failed = v2::JobFailed::decode(body).ok()?;
            let token = wire::token(failed.attempt)?;
            let (cause, message) = (cause_from_wire(&failed.cause), failed.message);
            let log_bytes = failed.log_bytes;
            let command = Command::Failed {
                runner,
                token,
                cause,
                message,
                log_bytes,
            };
            Some((token, command, log_bytes))
        }
        _ => None,
    }
}
