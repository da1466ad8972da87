//! A server and a scripted runner: what is said on the wire, in order.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may panic as tests do"
)]

mod storage;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use futures_util::StreamExt;
use prost::Message;
use rustci_pipeline::v1;
use rustci_server::api::view::{Conclusion, RunView, Status};
use rustci_server::blobs::BlobDigest;
use rustci_server::{SchedulerConfig, Server, ServerConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tower::ServiceExt;
use valkyrie::frame::log::{LogChannel, LogRecord};
use valkyrie::{
    CallError, CloseReason, End, Endpoint, ErrorCode, Event, Handler, Link, LinkConfig,
    MessageType, StreamClass, StreamId, v2,
};

const PATIENCE: Duration = Duration::from_secs(10);
const ONE_JOB: &str = "\
version: 1
name: ci
on: { manual: {} }
jobs:
  a: { steps: [{ name: say, run: echo a }], outputs: { v: x } }
";

/// What a runner heard, kept.
#[derive(Debug, Clone, PartialEq)]
enum Heard {
    Request {
        stream: StreamId,
        request: v2::JobRequest,
    },
    Cancel {
        stream: StreamId,
        reason: String,
    },
    Acked {
        stream: StreamId,
        kind: MessageType,
    },
    Accepted {
        stream: StreamId,
        consumed: u64,
    },
    Durable {
        stream: StreamId,
        offset: u64,
    },
    Error {
        stream: StreamId,
        code: ErrorCode,
    },
    Reset {
        stream: StreamId,
        code: ErrorCode,
    },
    FileStart {
        stream: StreamId,
        size: u64,
    },
    FileChunk {
        stream: StreamId,
        offset: u64,
        bytes: Vec<u8>,
    },
    FileComplete {
        stream: StreamId,
    },
    Closed,
}

#[derive(Clone, Default)]
struct Ear(Rc<(RefCell<VecDeque<Heard>>, Notify)>);

impl Ear {
    fn push(&self, heard: Heard) {
        self.0.0.borrow_mut().push_back(heard);
        self.0.1.notify_one();
    }
}

impl Handler for Ear {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        let heard = match event {
            Event::Job {
                stream,
                kind: MessageType::JOB_REQUEST,
                body,
                ..
            } => Heard::Request {
                stream,
                request: v2::JobRequest::decode(&body[..]).unwrap(),
            },
            Event::Job {
                stream,
                kind: MessageType::JOB_CANCEL,
                body,
                ..
            } => Heard::Cancel {
                stream,
                reason: v2::JobCancel::decode(&body[..]).unwrap().reason,
            },
            Event::JobAcked { stream, kind } => Heard::Acked { stream, kind },
            Event::Accepted { stream, consumed } => Heard::Accepted { stream, consumed },
            Event::LogDurable { stream, offset, .. } => Heard::Durable { stream, offset },
            Event::PeerError { stream, code, .. } => Heard::Error { stream, code },
            Event::Reset { stream, code } => Heard::Reset { stream, code },
            Event::FileStart { stream, size, .. } => Heard::FileStart { stream, size },
            Event::FileChunk {
                stream,
                offset,
                bytes,
            } => {
                let end = offset + bytes.len() as u64;
                link.session().file_verified(stream, end);
                Heard::FileChunk {
                    stream,
                    offset,
                    bytes: bytes.to_vec(),
                }
            }
            Event::FileComplete { stream, .. } => Heard::FileComplete { stream },
            _ => return,
        };
        self.push(heard);
    }

    fn closed(&mut self, _: &Link, _: &CloseReason) {
        self.push(Heard::Closed);
    }
}

struct Runner {
    link: Link,
    ear: Ear,
    reply: v1::RegisterReply,
}

impl Runner {
    async fn connect(server: &Server, held: &[v2::Attempt]) -> Self {
        Self::connect_to(&server.endpoints()[0], held).await
    }

    async fn connect_to(endpoint: &Endpoint, held: &[v2::Attempt]) -> Self {
        Self::connect_from(endpoint, held, b"").await.unwrap()
    }

    /// As one whose state directory is `place`; the server may refuse it.
    async fn connect_from(
        endpoint: &Endpoint,
        held: &[v2::Attempt],
        place: &[u8],
    ) -> Result<Self, CallError> {
        let ear = Ear::default();
        let link = valkyrie::connect(endpoint, LinkConfig::default(), ear.clone())
            .await
            .unwrap();
        let held = held.iter().map(|attempt| v1::HeldAttempt {
            job: attempt.job,
            number: attempt.number,
            fence: attempt.fence,
        });
        let register = v1::RegisterRequest {
            name: "r1".into(),
            labels: vec!["os=linux".into()],
            capacity: 16,
            executors: vec!["native".into()],
            version: "1.0".into(),
            held: held.collect(),
            lost: Vec::new(),
            place: place.to_vec(),
        };
        let body = register.encode_to_vec();
        let method = "rustci.v1.Runner/Register";
        let reply = link
            .call(StreamClass::System, method, &body, PATIENCE)
            .await?;
        let reply = v1::RegisterReply::decode(reply).unwrap();
        Ok(Self { link, ear, reply })
    }

    async fn next(&self) -> Heard {
        let heard = async {
            loop {
                if let Some(heard) = self.ear.0.0.borrow_mut().pop_front() {
                    return heard;
                }
                self.ear.0.1.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, heard)
            .await
            .expect("the server says something")
    }

    /// The next thing heard for which `wanted` has a value; what comes before is dropped.
    async fn wait<T>(&self, wanted: impl Fn(Heard) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next().await) {
                return found;
            }
        }
    }

    async fn job(&self) -> (StreamId, v2::JobRequest) {
        self.wait(|heard| match heard {
            Heard::Request { stream, request } => Some((stream, request)),
            _ => None,
        })
        .await
    }

    /// The next job, begun.
    async fn begun(&self) -> (StreamId, v2::Attempt) {
        let (stream, request) = self.job().await;
        let attempt = request.attempt.unwrap();
        self.begin(stream, attempt);
        (stream, attempt)
    }

    async fn accepted(&self) {
        self.wait(|heard| matches!(heard, Heard::Accepted { .. }).then_some(()))
            .await;
    }

    async fn acked(&self) {
        self.wait(|heard| matches!(heard, Heard::Acked { .. }).then_some(()))
            .await;
    }

    fn log(&self, attempt: v2::Attempt) -> StreamId {
        self.open(StreamClass::Logs, "rustci.v1.Log/Append", attempt)
    }

    fn say(&self, stream: StreamId, kind: MessageType, body: &impl Message, end: End) {
        self.link.session().job(stream, kind, body, end).unwrap();
    }

    fn begin(&self, stream: StreamId, attempt: v2::Attempt) {
        let accept = v2::JobAccept {
            attempt: Some(attempt),
        };
        self.say(stream, MessageType::JOB_ACCEPT, &accept, End::No);
        let start = v2::JobStart {
            attempt: Some(attempt),
            unix_ms: 5,
        };
        self.say(stream, MessageType::JOB_START, &start, End::No);
    }

    fn complete(&self, stream: StreamId, attempt: v2::Attempt, log_bytes: u64) {
        let step = v1::StepFinished {
            outcome: v1::Outcome::Success.into(),
            conclusion: v1::Outcome::Success.into(),
            exit_code: Some(0),
            tries: 1,
            ..v1::StepFinished::default()
        };
        let result = v1::JobResult {
            outcome: v1::Outcome::Success.into(),
            outputs: vec![v1::Binding {
                name: "v".into(),
                value: "1".into(),
            }],
            steps: vec![step],
            ..v1::JobResult::default()
        };
        let complete = v2::JobComplete {
            attempt: Some(attempt),
            content_type: "application/vnd.rustci.result.v1".into(),
            result: result.encode_to_vec(),
            log_bytes,
        };
        self.say(stream, MessageType::JOB_COMPLETE, &complete, End::Yes);
    }

    fn open(&self, class: StreamClass, method: &str, attempt: v2::Attempt) -> StreamId {
        let number = |number: u64| number.to_be_bytes().to_vec();
        let open = v2::StreamOpen {
            method: method.into(),
            metadata: [
                ("job".to_owned(), number(attempt.job)),
                ("attempt".to_owned(), number(attempt.number.into())),
                ("fence".to_owned(), number(attempt.fence)),
            ]
            .into(),
            window: 0,
        };
        self.link.session().open(class, &open).unwrap()
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    name: String,
    lease: Duration,
    server: Option<Server>,
}

impl Fixture {
    fn start(name: &str) -> Self {
        Self::with_lease(name, Duration::from_secs(15))
    }

    fn with_lease(name: &str, lease: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut fixture = Self {
            dir,
            name: name.into(),
            lease,
            server: None,
        };
        fixture.restart();
        fixture
    }

    fn restart(&mut self) {
        drop(self.server.take());
        let mut config = ServerConfig::new(self.dir.path().to_owned());
        let socket = self.dir.path().join(format!("{}.sock", self.name));
        let endpoint: Endpoint = format!("valkyrie+unix://{}", socket.display())
            .parse()
            .unwrap();
        config.valkyrie = vec![endpoint];
        config.scheduler = SchedulerConfig {
            lease: self.lease,
            ..SchedulerConfig::default()
        };
        self.server = Some(Server::start(config).unwrap());
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    async fn http(&self, method: &str, path: &str, body: Body) -> (u16, Vec<u8>) {
        let request = Request::builder().method(method).uri(path);
        let token = format!("Bearer {}", self.server().token().expose());
        let request = request.header("authorization", token).body(body).unwrap();
        let response = self.server().router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            to_bytes(response.into_body(), 1 << 24)
                .await
                .unwrap()
                .to_vec(),
        )
    }

    async fn submit(&self, text: &str) {
        let run = json!({ "pipeline": { "file": "ci.yaml", "text": text }, "project": "p" });
        let (status, body) = self
            .http("POST", "/api/v1/runs", Body::from(run.to_string()))
            .await;
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    }

    async fn run(&self) -> RunView {
        // What a runner was told is in the catalogue a moment later; this asks its writer.
        self.http("GET", "/readyz", Body::empty()).await;
        let (_, body) = self.http("GET", "/api/v1/runs/1", Body::empty()).await;
        serde_json::from_slice(&body).unwrap()
    }

    /// The log store will find a file where the run's directory would be.
    fn block_logs(&self, run: u64) {
        let place = self.dir.path().join(format!("logs/{run}"));
        std::fs::write(place, b"in the way").unwrap();
    }

    async fn log(&self, query: &str) -> String {
        let path = format!("/api/v1/runs/1/jobs/a/log{query}");
        let (status, body) = self.http("GET", &path, Body::empty()).await;
        assert_eq!(status, 200);
        String::from_utf8(body).unwrap()
    }
}

/// Runs a script on a shard of its own.
fn script(main: impl Future<Output = ()>) {
    valkyrie::block_on(main).unwrap();
}

fn line(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    LogRecord {
        unix_ns: 9,
        step: 0,
        channel: LogChannel::STDOUT,
        bytes,
    }
    .append(&mut out)
    .unwrap();
    out
}

#[test]
fn a_job_goes_out_runs_and_is_acknowledged_when_it_is_durable() {
    script(async {
        let fixture = Fixture::start("whole");
        let runner = Runner::connect(fixture.server(), &[]).await;
        assert!(runner.reply.keep.is_empty());
        fixture.submit(ONE_JOB).await;
        let (stream, request) = runner.job().await;
        let spec = v1::JobSpec::decode(&request.spec[..]).unwrap();
        assert_eq!(
            (spec.run, spec.job_key.as_str(), spec.steps[0].run.as_str()),
            (1, "a", "echo a")
        );
        assert_eq!(spec.executor, "native");
        let contexts: serde_json::Value = serde_json::from_str(&spec.contexts_json).unwrap();
        assert_eq!(contexts["event"]["name"], "manual");
        assert_eq!(contexts["needs"], json!({}));
        let attempt = request.attempt.unwrap();
        runner.begin(stream, attempt);
        runner.complete(stream, attempt, 0);
        let acked = Heard::Acked {
            stream,
            kind: MessageType::JOB_COMPLETE,
        };
        assert_eq!(runner.next().await, acked);
        let run = fixture.run().await;
        assert_eq!(
            (run.status, run.conclusion),
            (Status::Finished, Some(Conclusion::Success))
        );
        assert_eq!(run.jobs[0].outputs["v"], "1");
        assert_eq!(run.jobs[0].steps[0].conclusion, Some(Conclusion::Success));
        assert_eq!(run.jobs[0].attempts[0].runner, "r1");
    });
}

#[test]
fn a_second_runner_of_one_name_is_refused_while_the_first_is_there() {
    script(async {
        let fixture = Fixture::start("names");
        let at = &fixture.server().endpoints()[0];
        let first = Runner::connect_from(at, &[], b"here").await.unwrap();
        let second = Runner::connect_from(at, &[], b"there").await;
        let refused = second.err().map(|error| error.to_string());
        let refused = refused.expect("it is another runner");
        assert!(refused.contains("`r1` is connected already"), "{refused}");
        // The first one comes back before the server knows that its connection is gone.
        let again = Runner::connect_from(at, &[], b"here").await.unwrap();
        first
            .wait(|heard| matches!(heard, Heard::Closed).then_some(()))
            .await;
        again.link.close(ErrorCode::NONE, Duration::ZERO);
        again
            .wait(|heard| matches!(heard, Heard::Closed).then_some(()))
            .await;
        // The server may hear of that a little later than this end.
        let other = loop {
            if let Ok(other) = Runner::connect_from(at, &[], b"there").await {
                break other;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(other.reply.runner, again.reply.runner);
    });
}

#[test]
fn a_completion_waits_until_the_log_is_durable() {
    script(async {
        let fixture = Fixture::start("log");
        let runner = Runner::connect(fixture.server(), &[]).await;
        fixture.submit(ONE_JOB).await;
        let (stream, attempt) = runner.begun().await;
        let records = [line("one"), line("two")].concat();
        let bytes = records.len() as u64;
        // The completion comes first: it may not count before the log is there.
        runner.complete(stream, attempt, bytes);
        let log = runner.log(attempt);
        assert_eq!(
            runner.next().await,
            Heard::Accepted {
                stream: log,
                consumed: 0
            }
        );
        assert_eq!(fixture.run().await.status, Status::Running);
        runner.link.session().log(log, 0, &records).unwrap();
        let mut rest = vec![
            Heard::Acked {
                stream,
                kind: MessageType::JOB_COMPLETE,
            },
            Heard::Durable {
                stream: log,
                offset: bytes,
            },
        ];
        while !rest.is_empty() {
            let heard = runner.next().await;
            rest.retain(|wanted| *wanted != heard);
        }
        assert_eq!(fixture.run().await.jobs[0].attempts[0].log_bytes, bytes);
        let lines = fixture.log("").await;
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.contains("\"text\":\"two\""));
        assert!(!fixture.log("?tail=1").await.contains("\"text\":\"one\""));
    });
}

/// What arrives of a live stream, piece by piece.
struct Stream(axum::body::BodyDataStream, String);

impl Stream {
    /// Reads until `wanted` has arrived.
    async fn until(&mut self, wanted: &str) {
        while !self.1.contains(wanted) {
            let piece = tokio::time::timeout(PATIENCE, self.0.next()).await;
            let piece = piece
                .expect("the stream goes on")
                .expect("it has not ended")
                .unwrap();
            self.1.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }
}

impl Fixture {
    async fn follow(&self, query: &str, last_event_id: Option<u64>) -> Stream {
        let path = format!("/api/v1/runs/1/jobs/a/log?follow=true{query}");
        self.stream(&path, last_event_id).await
    }

    async fn stream(&self, path: &str, last_event_id: Option<u64>) -> Stream {
        self.stream_as(path, "text/event-stream", last_event_id)
            .await
    }

    async fn stream_as(&self, path: &str, accept: &str, last_event_id: Option<u64>) -> Stream {
        let token = format!("Bearer {}", self.server().token().expose());
        let request = Request::get(path).header("authorization", token);
        let request = request.header("accept", accept);
        let request = match last_event_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let response = self
            .server()
            .router()
            .oneshot(request.body(Body::empty()).unwrap());
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        Stream(response.into_body().into_data_stream(), String::new())
    }
}

#[test]
fn a_live_log_is_pushed_and_resumes_at_its_offset() {
    script(async {
        let fixture = Fixture::start("live");
        let runner = Runner::connect(fixture.server(), &[]).await;
        fixture.submit(ONE_JOB).await;
        let (stream, attempt) = runner.begun().await;
        let log = runner.log(attempt);
        runner.accepted().await;
        let mut live = fixture.follow("", None).await;
        let (one, two) = (line("one"), line("two"));
        let half = one.len() as u64;
        runner.link.session().log(log, 0, &one).unwrap();
        live.until(&format!("id: {half}\n")).await;
        assert!(live.1.contains("\"text\":\"one\""), "{}", live.1);
        let mut resumed = fixture.follow("", Some(half)).await;
        runner.link.session().log(log, half, &two).unwrap();
        runner.complete(stream, attempt, half + two.len() as u64);
        resumed.until("event: end").await;
        live.until("event: end").await;
        assert!(
            !resumed.1.contains("one") && resumed.1.contains("two"),
            "{}",
            resumed.1
        );
        assert_eq!(live.1.matches("event: line").count(), 2);
        let path = "/api/v1/runs/1/jobs/a/log?offset=3";
        assert_eq!(fixture.http("GET", path, Body::empty()).await.0, 422);
    });
}

#[test]
fn a_rejected_job_goes_out_again() {
    script(async {
        let fixture = Fixture::start("reject");
        let runner = Runner::connect(fixture.server(), &[]).await;
        fixture.submit(ONE_JOB).await;
        let (stream, request) = runner.job().await;
        let attempt = request.attempt;
        let reject = v2::JobReject {
            attempt,
            code: 501,
            reason: "no room".into(),
        };
        runner.say(stream, MessageType::JOB_REJECT, &reject, End::Yes);
        assert_eq!(
            runner.next().await,
            Heard::Acked {
                stream,
                kind: MessageType::JOB_REJECT
            }
        );
        let (_, again) = runner.job().await;
        assert_eq!(again.attempt.unwrap().number, 2);
    });
}

#[test]
fn a_stale_fence_is_refused_on_every_message() {
    script(async {
        let fixture = Fixture::start("stale");
        let runner = Runner::connect(fixture.server(), &[]).await;
        for kind in [
            MessageType::JOB_ACCEPT,
            MessageType::JOB_START,
            MessageType::JOB_PROGRESS,
            MessageType::JOB_REJECT,
            MessageType::JOB_FAILED,
            MessageType::JOB_COMPLETE,
        ] {
            fixture.submit(ONE_JOB).await;
            let (stream, request) = runner.job().await;
            let attempt = request.attempt.unwrap();
            let stale = Some(v2::Attempt {
                fence: attempt.fence + 1_000,
                ..attempt
            });
            // Field 1 of each of these messages is the attempt.
            let body = v2::JobAccept { attempt: stale };
            runner.say(stream, kind, &body, End::No);
            assert_eq!(
                runner.next().await,
                Heard::Error {
                    stream,
                    code: ErrorCode::STALE_FENCE
                },
                "{kind:?}"
            );
            assert_eq!(
                runner.next().await,
                Heard::Reset {
                    stream,
                    code: ErrorCode::STALE_FENCE
                },
                "{kind:?}"
            );
        }
        let stale = v2::Attempt {
            job: 1,
            number: 1,
            fence: 77,
        };
        for (class, method) in [
            (StreamClass::Logs, "rustci.v1.Log/Append"),
            (StreamClass::Jobs, "rustci.v1.Job/Resume"),
        ] {
            let stream = runner.open(class, method, stale);
            assert_eq!(
                runner.next().await,
                Heard::Error {
                    stream,
                    code: ErrorCode::STALE_FENCE
                }
            );
            assert_eq!(
                runner.next().await,
                Heard::Reset {
                    stream,
                    code: ErrorCode::STALE_FENCE
                }
            );
        }
        let (_, metrics) = fixture.http("GET", "/metrics", Body::empty()).await;
        assert!(String::from_utf8(metrics).unwrap().contains("stale_fence"));
    });
}

#[test]
fn a_held_attempt_goes_on_after_a_restart_of_the_server() {
    script(async {
        let mut fixture = Fixture::start("restart");
        let runner = Runner::connect(fixture.server(), &[]).await;
        fixture.submit(ONE_JOB).await;
        let (_, attempt) = runner.begun().await;
        let log = runner.log(attempt);
        runner.accepted().await;
        let (one, two) = (line("one"), line("two"));
        let half = one.len() as u64;
        runner.link.session().log(log, 0, &one).unwrap();
        runner
            .wait(|heard| {
                (heard
                    == Heard::Durable {
                        stream: log,
                        offset: half,
                    })
                .then_some(())
            })
            .await;
        // The server has to hear the goodbye while its own shutdown blocks this thread.
        fixture.restart();
        runner
            .wait(|heard| (heard == Heard::Closed).then_some(()))
            .await;
        let runner = Runner::connect(fixture.server(), &[attempt]).await;
        assert_eq!(runner.reply.keep.len(), 1);
        let stream = runner.open(StreamClass::Jobs, "rustci.v1.Job/Resume", attempt);
        let log = runner.log(attempt);
        let mut heard = [runner.next().await, runner.next().await];
        heard
            .sort_by_key(|heard| matches!(heard, Heard::Accepted { stream, .. } if *stream == log));
        assert_eq!(
            heard[1],
            Heard::Accepted {
                stream: log,
                consumed: half
            }
        );
        runner.link.session().log(log, half, &two).unwrap();
        runner.complete(stream, attempt, half + two.len() as u64);
        runner.acked().await;
        let run = fixture.run().await;
        assert_eq!(run.jobs[0].attempts.len(), 1);
        assert_eq!(run.conclusion, Some(Conclusion::Success));
        assert_eq!(fixture.log("").await.lines().count(), 2);
    });
}

#[test]
fn a_silent_runner_loses_its_job_and_hears_so() {
    script(async {
        let fixture = Fixture::with_lease("lost", Duration::from_millis(300));
        let runner = Runner::connect(fixture.server(), &[]).await;
        fixture.submit(ONE_JOB).await;
        let (stream, request) = runner.job().await;
        runner.begin(stream, request.attempt.unwrap());
        let refused = Heard::Reset {
            stream,
            code: ErrorCode::STALE_FENCE,
        };
        let mut heard = vec![
            runner.next().await,
            runner.next().await,
            runner.next().await,
        ];
        assert!(heard.contains(&refused), "{heard:?}");
        heard.retain(|heard| matches!(heard, Heard::Request { .. }));
        let Heard::Request { request: again, .. } = &heard[0] else {
            panic!("a second attempt")
        };
        let again = again.attempt.unwrap();
        assert_eq!(again.number, 2);
        assert!(again.fence > request.attempt.unwrap().fence);
        let run = fixture.run().await;
        assert_eq!(
            run.jobs[0].attempts[0].cause.as_deref(),
            Some("runner_lost")
        );
    });
}

#[test]
fn a_cancel_reaches_the_runner() {
    script(async {
        let fixture = Fixture::start("cancel");
        let runner = Runner::connect(fixture.server(), &[]).await;
        fixture.submit(ONE_JOB).await;
        let (stream, request) = runner.job().await;
        runner.begin(stream, request.attempt.unwrap());
        let (status, _) = fixture
            .http("POST", "/api/v1/runs/1/cancel", Body::empty())
            .await;
        assert_eq!(status, 202);
        assert_eq!(
            runner.next().await,
            Heard::Cancel {
                stream,
                reason: "canceled".into()
            }
        );
    });
}

#[test]
fn a_snapshot_is_sent_from_where_the_runner_wants_it() {
    script(async {
        let fixture = Fixture::start("source");
        let archive: Vec<u8> = (0..700_000_u32).map(|at| (at % 251) as u8).collect();
        let digest = BlobDigest::of(&archive);
        let path = format!("/api/v1/blobs/{digest}");
        assert_eq!(
            fixture
                .http("PUT", &path, Body::from(archive.clone()))
                .await
                .0,
            201
        );
        let runner = Runner::connect(fixture.server(), &[]).await;
        let open = v2::StreamOpen {
            method: "rustci.v1.Source/Get".into(),
            metadata: [("digest".to_owned(), digest.as_bytes().to_vec())].into(),
            window: 0,
        };
        let stream = runner
            .link
            .session()
            .open(StreamClass::Data, &open)
            .unwrap();
        runner
            .wait(|heard| {
                (heard
                    == Heard::FileStart {
                        stream,
                        size: 700_000,
                    })
                .then_some(())
            })
            .await;
        let from = 100_000;
        runner.link.session().file_verified(stream, from);
        let mut got = Vec::new();
        loop {
            match runner.next().await {
                Heard::FileChunk { offset, bytes, .. } => {
                    assert_eq!(offset, from + got.len() as u64);
                    got.extend(bytes);
                }
                Heard::FileComplete { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(got == archive[100_000..]);
    });
}

#[test]
fn garbage_closes_its_own_connection_and_is_counted() {
    script(async {
        let fixture = Fixture::start("garbage");
        let runner = Runner::connect(fixture.server(), &[]).await;
        for (garbage, code) in [
            (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "magic"),
            (b"RC\x09aaaaaaaaaaaaaaaaaaaaaaaaa", "version_mismatch"),
            (
                b"RC\x02\x00\0\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0",
                "too_large",
            ),
        ] {
            let mut socket =
                tokio::net::UnixStream::connect(fixture.dir.path().join("garbage.sock"))
                    .await
                    .unwrap();
            socket.write_all(garbage).await.unwrap();
            let mut answer = Vec::new();
            let read = socket.read_to_end(&mut answer);
            tokio::time::timeout(PATIENCE, read)
                .await
                .expect("the server closes")
                .unwrap();
            assert_eq!(answer[..2], *b"RC", "an ERROR frame says why");
            let (_, metrics) = fixture.http("GET", "/metrics", Body::empty()).await;
            let metrics = String::from_utf8(metrics).unwrap();
            let counted = format!("rustci_connection_rejects_total{{code=\"{code}\"}} 1");
            assert!(metrics.contains(&counted), "{counted}");
        }
        fixture.submit(ONE_JOB).await;
        runner.job().await;
    });
}
