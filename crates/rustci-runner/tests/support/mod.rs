//! A server that does what a test tells it: it hands out jobs, keeps logs, and forgets connections.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use prost::Message;
use rustci_pipeline::v1;
use tokio::sync::mpsc;
use tokio::time::timeout;
use valkyrie::frame::{FileStart, LogChannel, LogRecords};
use valkyrie::{
    CloseReason, End, Event, Handler, Link, LinkConfig, MessageType, StreamClass, StreamId, v2,
};

/// Nothing in these tests takes that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the runner said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Registered(v1::RegisterRequest),
    Accepted,
    Rejected(v2::JobReject),
    Started,
    Renewed,
    Step(v1::StepEvent),
    Completed(v1::JobResult, u64),
    Failed(v2::JobFailed),
    Resumed,
    Draining,
    Gone,
}

/// How the server behaves. Changes hold from the next message on.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    /// Whether results are acknowledged.
    pub(crate) acknowledges: bool,
    /// Whether held attempts may be kept.
    pub(crate) keeps: bool,
    pub(crate) lease: Duration,
    /// Bytes of a source archive after which the connection is dropped, once.
    pub(crate) drops_source_at: Option<u64>,
}

pub(crate) struct Server {
    pub(crate) endpoint: valkyrie::Endpoint,
    pub(crate) shared: Rc<Shared>,
    said: mpsc::UnboundedReceiver<Said>,
    task: tokio::task::JoinHandle<()>,
}

pub(crate) struct Shared {
    pub(crate) behaviour: RefCell<Behaviour>,
    pub(crate) sources: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
    logs: RefCell<BTreeMap<u64, Vec<u8>>>,
    link: RefCell<Option<Link>>,
    jobs: RefCell<BTreeMap<u64, StreamId>>,
    said: mpsc::UnboundedSender<Said>,
}

impl Server {
    pub(crate) async fn start(path: &Path) -> Self {
        let endpoint: valkyrie::Endpoint = format!("valkyrie+unix://{}", path.display())
            .parse()
            .unwrap();
        let (sender, said) = mpsc::unbounded_channel();
        let behaviour = Behaviour {
            acknowledges: true,
            keeps: true,
            lease: Duration::from_secs(15),
            drops_source_at: None,
        };
        let shared = Rc::new(Shared {
            behaviour: RefCell::new(behaviour),
            sources: RefCell::default(),
            logs: RefCell::default(),
            link: RefCell::default(),
            jobs: RefCell::default(),
            said: sender,
        });
        let listener = valkyrie::listen(&endpoint).await.unwrap();
        let handlers = Rc::clone(&shared);
        let serving = valkyrie::serve(listener, LinkConfig::default(), move |_| Connection {
            shared: Rc::clone(&handlers),
            logs: BTreeMap::new(),
            sources: BTreeMap::new(),
        });
        let task = tokio::task::spawn_local(async move {
            serving.await.unwrap();
        });
        Self {
            endpoint,
            shared,
            said,
            task,
        }
    }

    /// The next thing that is not a renewal.
    pub(crate) async fn next(&mut self) -> Said {
        loop {
            let said = timeout(PATIENCE, self.said.recv())
                .await
                .expect("the runner says nothing");
            match said.unwrap() {
                Said::Renewed => {}
                said => return said,
            }
        }
    }

    /// Skips until `wanted` gives something.
    pub(crate) async fn until<T>(&mut self, mut wanted: impl FnMut(&Said) -> Option<T>) -> T {
        loop {
            let said = self.next().await;
            if let Some(found) = wanted(&said) {
                return found;
            }
        }
    }

    pub(crate) async fn until_said(&mut self, wanted: &Said) {
        self.until(|said| (said == wanted).then_some(())).await;
    }

    pub(crate) async fn registered(&mut self) -> v1::RegisterRequest {
        self.until(|said| match said {
            Said::Registered(request) => Some(request.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn completed(&mut self) -> (v1::JobResult, u64) {
        self.until(|said| match said {
            Said::Completed(result, log_bytes) => Some((result.clone(), *log_bytes)),
            Said::Failed(_) | Said::Rejected(_) => panic!("{said:?}"),
            _ => None,
        })
        .await
    }

    pub(crate) async fn failed(&mut self) -> v2::JobFailed {
        self.until(|said| match said {
            Said::Failed(failed) => Some(failed.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for the rest of a log: job messages overtake it on the wire.
    pub(crate) async fn complete_log(&self, job: u64, log_bytes: u64) {
        let found = async {
            while (self.log(job).len() as u64) < log_bytes {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, found).await.expect("the log never ended");
        assert_eq!(self.log(job).len() as u64, log_bytes);
    }

    /// Whether the runner renews its leases.
    pub(crate) async fn renewed(&mut self) {
        while timeout(PATIENCE, self.said.recv()).await.unwrap().unwrap() != Said::Renewed {}
    }

    pub(crate) fn request(&self, job: u64, spec: &v1::JobSpec) {
        let request = v2::JobRequest {
            attempt: Some(attempt(job)),
            content_type: "application/vnd.rustci.job.v1".to_owned(),
            spec: spec.encode_to_vec(),
            ..Default::default()
        };
        let link = self
            .shared
            .link
            .borrow()
            .clone()
            .expect("a runner is connected");
        let stream = link.session().job_request(&request).unwrap();
        self.shared.jobs.borrow_mut().insert(job, stream);
    }

    pub(crate) fn cancel(&self, job: u64, reason: &str, grace: Duration) {
        let cancel = v2::JobCancel {
            attempt: Some(attempt(job)),
            reason: reason.to_owned(),
            grace_ms: grace.as_millis().try_into().unwrap(),
        };
        let link = self.shared.link.borrow().clone().unwrap();
        let stream = self.shared.jobs.borrow()[&job];
        link.session()
            .job(stream, MessageType::JOB_CANCEL, &cancel, End::No)
            .unwrap();
    }

    pub(crate) fn reset_job(&self, job: u64, code: valkyrie::ErrorCode) {
        let link = self.shared.link.borrow().clone().unwrap();
        link.session().reset(self.shared.jobs.borrow()[&job], code);
    }

    /// Drops the connection without a word, as a crash would.
    pub(crate) fn drop_link(&self) {
        if let Some(link) = self.shared.link.borrow_mut().take() {
            link.close(valkyrie::ErrorCode::INTERNAL, Duration::ZERO);
        }
    }

    pub(crate) fn log(&self, job: u64) -> Vec<u8> {
        self.shared
            .logs
            .borrow()
            .get(&job)
            .cloned()
            .unwrap_or_default()
    }

    /// Lines that the job printed.
    pub(crate) fn output(&self, job: u64) -> Vec<String> {
        let (mut lines, mut line) = (Vec::new(), String::new());
        for record in LogRecords::new(&self.log(job)).map(|record| record.unwrap()) {
            if record.channel.source() == LogChannel::STDOUT {
                line.push_str(&String::from_utf8_lossy(record.bytes));
                if !record.channel.is_partial() {
                    lines.push(std::mem::take(&mut line));
                }
            }
        }
        lines
    }

    pub(crate) async fn await_output(&self, job: u64, line: &str) {
        let found = async {
            while !self.output(job).iter().any(|found| found == line) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, found).await.expect("the line never came");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        self.drop_link();
    }
}

pub(crate) fn attempt(job: u64) -> v2::Attempt {
    v2::Attempt {
        job,
        number: 1,
        fence: job + 100,
    }
}

pub(crate) fn native(script: &str) -> v1::JobSpec {
    let step = v1::Step {
        name: "step".to_owned(),
        run: script.to_owned(),
        ..Default::default()
    };
    v1::JobSpec {
        executor: "native".to_owned(),
        steps: vec![step],
        ..Default::default()
    }
}

pub(crate) fn dummy(env: &[(&str, &str)]) -> v1::JobSpec {
    let binding = |(name, value): &(&str, &str)| v1::Binding {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    let env = env.iter().map(binding).collect();
    v1::JobSpec {
        executor: "dummy".to_owned(),
        env,
        ..Default::default()
    }
}

/// The program that is a runner and a job process.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/runner");
    assert!(
        program.exists(),
        "build it: cargo build -p rustci-runner --example runner"
    );
    program
}

struct Connection {
    shared: Rc<Shared>,
    logs: BTreeMap<StreamId, u64>,
    sources: BTreeMap<StreamId, Vec<u8>>,
}

impl Handler for Connection {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        match event {
            Event::Call {
                call, method, body, ..
            } => self.call(link, call, &method, &body),
            Event::Opened { stream, open, .. } => self.opened(link, stream, &open),
            Event::Job {
                stream,
                kind,
                body,
                correlation,
                ..
            } => {
                let asks = self.job(kind, &body);
                if asks && self.shared.behaviour.borrow().acknowledges {
                    link.session()
                        .ack(stream, kind, correlation, End::Yes)
                        .unwrap();
                }
            }
            Event::Log {
                stream,
                offset,
                records,
            } => {
                let job = self.logs[&stream];
                let mut logs = self.shared.logs.borrow_mut();
                let log = logs.entry(job).or_default();
                assert_eq!(offset, log.len() as u64, "nothing lost, nothing doubled");
                log.extend_from_slice(records);
                link.session().log_durable(stream, log.len() as u64);
            }
            Event::Finished { stream, .. } if self.logs.contains_key(&stream) => {
                link.session().finish(stream);
            }
            Event::FileVerified { stream, offset } => self.send_source(link, stream, offset),
            Event::Writable { .. } => {}
            _ => {}
        }
    }

    fn closed(&mut self, link: &Link, _reason: &CloseReason) {
        let mut current = self.shared.link.borrow_mut();
        if current
            .as_ref()
            .is_some_and(|current| current.id() == link.id())
        {
            *current = None;
        }
        let _ = self.shared.said.send(Said::Gone);
    }
}

impl Connection {
    fn call(&mut self, link: &Link, call: valkyrie::Correlation, method: &str, body: &[u8]) {
        let reply = match method {
            "rustci.v1.Runner/Register" => {
                let request = v1::RegisterRequest::decode(body).unwrap();
                let behaviour = self.shared.behaviour.borrow();
                let keep = if behaviour.keeps {
                    request.held.clone()
                } else {
                    Vec::new()
                };
                let lease_ms = behaviour.lease.as_millis().try_into().unwrap();
                *self.shared.link.borrow_mut() = Some(link.clone());
                self.say(Said::Registered(request));
                v1::RegisterReply {
                    runner: 1,
                    lease_ms,
                    keep,
                }
                .encode_to_vec()
            }
            "rustci.v1.Runner/Drain" => {
                self.say(Said::Draining);
                Vec::new()
            }
            other => panic!("unknown method {other}"),
        };
        link.session().reply(call, &reply).unwrap();
    }

    fn opened(&mut self, link: &Link, stream: StreamId, open: &v2::StreamOpen) {
        let number = |name: &str| {
            let bytes = open.metadata[name].as_slice();
            u64::from_be_bytes(bytes.try_into().unwrap())
        };
        match open.method.as_str() {
            "rustci.v1.Log/Append" => {
                assert_eq!(stream.class(), StreamClass::Logs);
                let job = number("job");
                let durable = self.shared.logs.borrow().get(&job).map_or(0, Vec::len);
                self.logs.insert(stream, job);
                link.session().accept(stream, durable as u64);
            }
            "rustci.v1.Job/Resume" => {
                self.shared.jobs.borrow_mut().insert(number("job"), stream);
                link.session().accept(stream, 0);
                self.say(Said::Resumed);
            }
            "rustci.v1.Source/Get" => self.offer_source(link, stream, &open.metadata["digest"]),
            other => panic!("unknown method {other}"),
        }
    }

    fn offer_source(&mut self, link: &Link, stream: StreamId, digest: &[u8]) {
        let Some(source) = self.shared.sources.borrow().get(digest).cloned() else {
            link.session().reset(stream, valkyrie::ErrorCode::REJECTED);
            return;
        };
        let (id, size) = ([7; 16], source.len() as u64);
        let start = FileStart {
            id,
            size,
            digest: digest.try_into().unwrap(),
            name: "source",
        };
        let mut session = link.session();
        session.accept(stream, 0);
        session.file_start(stream, &start).unwrap();
        self.sources.insert(stream, source);
    }

    fn send_source(&mut self, link: &Link, stream: StreamId, offset: u64) {
        let drops_at = self.shared.behaviour.borrow().drops_source_at;
        if drops_at.is_some_and(|at| offset >= at) {
            self.shared.behaviour.borrow_mut().drops_source_at = None;
            return link.close(valkyrie::ErrorCode::INTERNAL, Duration::ZERO);
        }
        let source = &self.sources[&stream];
        let mut session = link.session();
        let rest = &source[usize::try_from(offset).unwrap()..];
        if rest.is_empty() {
            let digest = *blake3::hash(source).as_bytes();
            let _ = session.file_complete(stream, digest, End::Yes);
        } else {
            // One piece for every word of the receiver.
            let piece = &rest[..rest.len().min(10_000)];
            session.file_chunk(stream, offset, piece).unwrap();
        }
    }

    /// Notes a job message; whether it wants to be acknowledged.
    fn job(&self, kind: MessageType, body: &[u8]) -> bool {
        let (said, asks) = match kind {
            MessageType::JOB_ACCEPT => (Said::Accepted, false),
            MessageType::JOB_START => (Said::Started, false),
            MessageType::JOB_REJECT => (Said::Rejected(Message::decode(body).unwrap()), true),
            MessageType::JOB_FAILED => (Said::Failed(Message::decode(body).unwrap()), true),
            MessageType::JOB_COMPLETE => {
                let complete = v2::JobComplete::decode(body).unwrap();
                let result = v1::JobResult::decode(complete.result.as_slice()).unwrap();
                (Said::Completed(result, complete.log_bytes), true)
            }
            MessageType::JOB_PROGRESS => {
                let progress = v2::JobProgress::decode(body).unwrap();
                match progress.detail.as_slice() {
                    [] => (Said::Renewed, false),
                    detail => (Said::Step(Message::decode(detail).unwrap()), false),
                }
            }
            other => panic!("{other}"),
        };
        self.say(said);
        asks
    }

    fn say(&self, said: Said) {
        let _ = self.shared.said.send(said);
    }
}
