//! The link to the server: connect, register, stay connected; and what the server says on it.

use std::rc::Rc;
use std::time::Duration;

use prost::Message;
use rustci_pipeline::{Executor, v1};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};
use valkyrie::{
    CloseReason, Correlation, End, ErrorCode, Event, Handler, Link, LinkConfig, MessageType, Meter,
    Role, SessionConfig, StreamClass, StreamId, v2,
};

use super::dummy::DummyJob;
use super::native;
use super::report;
use super::shared::{Shared, decode};
use super::token::Token;
use super::transfer::Incoming;
use crate::limits::RECONNECT_WAIT;

/// How long the server may take to register this runner.
const REGISTER_WAIT: Duration = Duration::from_secs(10);

/// Wishes of the server that may wait for one worker.
const CANCELS_WAITING: usize = 4;

/// Keeps a link to the server, for ever.
pub(crate) async fn stay_connected(shared: Rc<Shared>) {
    let (first, longest) = RECONNECT_WAIT;
    let (mut wait, mut told) = (first, false);
    loop {
        let handler = LinkHandler {
            shared: Rc::clone(&shared),
            registering: None,
        };
        let config = link_config(&shared);
        match valkyrie::connect(&shared.config.endpoint, config, handler).await {
            Ok(link) => {
                let registered = tokio::select! {
                    _ = shared.registered_link() => true,
                    _ = link.closed() => false,
                };
                if registered {
                    (wait, told) = (first, false);
                }
                let reason = tokio::select! {
                    reason = link.closed() => reason,
                    never = report::keep_reporting(&shared, &link) => match never {},
                };
                info!(endpoint = %shared.config.endpoint, %reason, "link ended");
            }
            Err(error) if told => debug!(%error, "server still cannot be reached"),
            Err(error) => {
                told = true;
                warn!(endpoint = %shared.config.endpoint, %error, "server cannot be reached; trying on");
            }
        }
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(longest);
    }
}

fn link_config(shared: &Shared) -> LinkConfig {
    let node = shared.config.name.clone();
    let meter = shared
        .config
        .metrics
        .as_ref()
        .map(|metrics| Meter::new(&metrics.valkyrie));
    let session = SessionConfig {
        node,
        role: Role::RUNNER,
        ..SessionConfig::default()
    };
    LinkConfig {
        session,
        meter,
        ..LinkConfig::default()
    }
}

/// Between half and all of `wait`, so that runners do not come back as one.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness there is merely no jitter.
    let _ = getrandom::fill(&mut random);
    wait / 2 + wait.mul_f64(f64::from(u16::from_be_bytes(random)) / 131_072.0)
}

/// Hears one connection.
struct LinkHandler {
    shared: Rc<Shared>,
    registering: Option<Correlation>,
}

impl Handler for LinkHandler {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        let shared = &self.shared;
        match event {
            Event::Ready(_) => self.register(link),
            Event::Reply { call, body, .. } if self.registering == Some(call) => {
                self.registered(link, &body);
            }
            Event::CallFailed {
                call, code, text, ..
            } if self.registering == Some(call) => {
                warn!(%code, %text, "the server does not register this runner");
                link.close(ErrorCode::NONE, Duration::ZERO);
            }
            Event::Job {
                stream, kind, body, ..
            } => self.job(link, stream, kind, &body),
            Event::JobAcked { stream, .. } => shared.acknowledged(stream),
            Event::Accepted { stream, consumed } => shared.accepted(stream, consumed),
            Event::LogDurable { stream, .. } | Event::Writable { stream } => {
                shared.writable(stream)
            }
            Event::FileStart {
                stream,
                size,
                digest,
                ..
            } => {
                shared.with_download(stream, |download| {
                    download.start(link, stream, digest, size)
                });
            }
            Event::FileChunk { stream, bytes, .. } => {
                shared.with_download(stream, |download| download.chunk(link, stream, bytes));
            }
            Event::Data { stream, bytes, .. } => {
                shared.blobs_came(stream, Incoming::Data(bytes.into_bytes()));
            }
            Event::Finished { stream, .. } => shared.blobs_came(stream, Incoming::Finished),
            Event::FileComplete { stream, .. } => shared.complete_download(link, stream),
            Event::Reset { stream, code } => shared.refused(link, stream, code),
            Event::PeerError {
                stream, code, text, ..
            } => {
                debug!(?stream, %code, %text, "the server reports an error");
                shared.said(stream, &text);
                if matches!(code, ErrorCode::STALE_FENCE | ErrorCode::LEASE_LOST) {
                    shared.refused(link, stream, code);
                }
            }
            _ => {}
        }
    }

    fn closed(&mut self, link: &Link, _reason: &CloseReason) {
        self.shared.disconnected(link);
    }
}

impl LinkHandler {
    fn register(&mut self, link: &Link) {
        let body = self.shared.registration().encode_to_vec();
        let method = "rustci.v1.Runner/Register";
        let call = link
            .session()
            .call(StreamClass::System, method, &body, Some(REGISTER_WAIT));
        match call {
            Ok(call) => self.registering = Some(call),
            Err(error) => {
                warn!(%error, "cannot register");
                link.close(ErrorCode::NONE, Duration::ZERO);
            }
        }
    }

    fn registered(&self, link: &Link, body: &[u8]) {
        match v1::RegisterReply::decode(body) {
            Ok(reply) => self.shared.registered(link, &reply),
            Err(error) => {
                warn!(%error, "the answer to the registration cannot be read");
                link.close(ErrorCode::MALFORMED, Duration::ZERO);
            }
        }
    }

    fn job(&self, link: &Link, stream: StreamId, kind: MessageType, body: &[u8]) {
        match kind {
            MessageType::JOB_REQUEST => {
                if let Some(request) = decode::<v2::JobRequest>(link, stream, body) {
                    self.request(link, stream, &request);
                }
            }
            MessageType::JOB_CANCEL => {
                if let Some(cancel) = decode::<v2::JobCancel>(link, stream, body) {
                    self.shared.cancel(stream, &cancel);
                }
            }
            _ => link.session().reset(stream, ErrorCode::UNEXPECTED),
        }
    }

    fn request(&self, link: &Link, stream: StreamId, request: &v2::JobRequest) {
        let attempt = request.attempt.unwrap_or_default();
        if let Err((code, reason)) = self.begin(link, stream, attempt, request) {
            info!(attempt = %Token::from(attempt), reason, "rejected");
            let code = code.0.into();
            let reject = v2::JobReject {
                attempt: Some(attempt),
                code,
                reason,
            };
            let sent = link
                .session()
                .job(stream, MessageType::JOB_REJECT, &reject, End::Yes);
            if let Err(error) = sent {
                debug!(%error, "the rejection could not be sent");
            }
        }
    }

    fn begin(
        &self,
        link: &Link,
        stream: StreamId,
        attempt: v2::Attempt,
        request: &v2::JobRequest,
    ) -> Result<(), (ErrorCode, String)> {
        if let Some(reason) = self.shared.refusal() {
            return Err((ErrorCode::OVERLOADED, reason));
        }
        let spec = v1::JobSpec::decode(request.spec.as_slice())
            .map_err(|error| (ErrorCode::REJECTED, format!("specification: {error}")))?;
        let token = Token::from(attempt);
        match executor(&spec.executor, &self.shared.config.executors) {
            Some(Executor::Native) => {
                let (worker, cancels) = mpsc::channel(CANCELS_WAITING);
                self.shared.take(link, stream, token, worker);
                native::start(
                    &self.shared,
                    token,
                    attempt,
                    spec,
                    request.timeout_ms,
                    cancels,
                );
                Ok(())
            }
            Some(Executor::Dummy) => self.begin_dummy(link, stream, token, request, &spec),
            _ => {
                let text = format!("executor {:?} is not offered by this runner", spec.executor);
                Err((ErrorCode::REJECTED, text))
            }
        }
    }

    fn begin_dummy(
        &self,
        link: &Link,
        stream: StreamId,
        token: Token,
        request: &v2::JobRequest,
        spec: &v1::JobSpec,
    ) -> Result<(), (ErrorCode, String)> {
        let job = DummyJob::new(spec, &request.spec);
        let job = job.map_err(|text| (ErrorCode::REJECTED, text))?;
        if job.is_immediate() {
            self.shared.take_done(link, stream, token, job.ending());
        } else {
            let (worker, cancels) = mpsc::channel(CANCELS_WAITING);
            self.shared.take(link, stream, token, worker);
            native::start_dummy(&self.shared, token, job, cancels);
        }
        Ok(())
    }
}

/// The executor asked for, if it is offered. Nothing asked for means native.
fn executor(name: &str, offered: &[Executor]) -> Option<Executor> {
    let name = if name.is_empty() {
        Executor::Native.as_str()
    } else {
        name
    };
    offered
        .iter()
        .find(|executor| executor.as_str() == name)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_jittered_within_bounds() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(4));
            assert!(
                (Duration::from_secs(2)..=Duration::from_secs(4)).contains(&wait),
                "{wait:?}"
            );
        }
    }

    #[test]
    fn only_offered_executors_are_taken() {
        assert_eq!(executor("", &[Executor::Native]), Some(Executor::Native));
        assert_eq!(executor("dummy", &[Executor::Native]), None);
        assert_eq!(
            executor("docker", &[Executor::Native, Executor::Dummy]),
            None
        );
    }
}
