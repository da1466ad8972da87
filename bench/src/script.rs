//! A runner that does no work: it answers each job as fast as a message travels.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use prost::Message;
use rustci_pipeline::v1;
use tokio::sync::Notify;
use valkyrie::{
    CloseReason, End, Endpoint, Event, Handler, Link, LinkConfig, MessageType, StreamClass,
    StreamId, v2,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// What all scripted runners of a bench saw together.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) changed: Notify,
    /// When the newest JOB_REQUEST was handed to its handler.
    pub(crate) requested: Cell<Option<Instant>>,
    pub(crate) requests: Cell<u64>,
    pub(crate) acknowledged: Cell<u64>,
    /// Orders found in the specifications, by how often.
    pub(crate) orders: RefCell<HashMap<String, u64>>,
    pub(crate) fault: RefCell<Option<String>>,
}

impl Seen {
    /// Waits until `done` says so.
    pub(crate) async fn wait(&self, done: impl Fn(&Self) -> bool) -> Result<()> {
        let waiting = async {
            while !done(self) && self.fault.borrow().is_none() {
                self.changed.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .context("the engine stays silent")?;
        let fault = self.fault.borrow_mut().take();
        ensure!(fault.is_none(), "{}", fault.unwrap_or_default());
        Ok(())
    }

    fn note(&self, done: Result<()>) {
        if let Err(error) = done {
            *self.fault.borrow_mut() = Some(format!("{error:#}"));
        }
        self.changed.notify_one();
    }
}

/// Whether a runner finishes its jobs or sits on them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Finish,
    Keep,
}

/// Connects a runner and registers it.
pub(crate) async fn runner(
    at: &Endpoint,
    name: &str,
    capacity: u32,
    work: Work,
    seen: &Rc<Seen>,
) -> Result<Link> {
    let script = Script {
        seen: Rc::clone(seen),
        work,
    };
    let link = valkyrie::connect(at, LinkConfig::default(), script).await?;
    register(&link, name, capacity, "dummy").await?;
    Ok(link)
}

/// Registers the runner at the other end of `link`.
pub(crate) async fn register(link: &Link, name: &str, capacity: u32, executor: &str) -> Result<()> {
    let request = v1::RegisterRequest {
        name: name.to_owned(),
        // Its name is a label too, so that a job can ask for this very runner.
        labels: vec![format!("executor={executor}"), name.to_owned()],
        capacity,
        executors: vec![executor.to_owned()],
        version: "bench".to_owned(),
        held: Vec::new(),
        lost: Vec::new(),
        place: Vec::new(),
    };
    let body = request.encode_to_vec();
    link.call(
        StreamClass::System,
        "rustci.v1.Runner/Register",
        &body,
        PATIENCE,
    )
    .await?;
    Ok(())
}

struct Script {
    seen: Rc<Seen>,
    work: Work,
}

impl Handler for Script {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        match event {
            Event::Job {
                stream,
                kind: MessageType::JOB_REQUEST,
                body,
                ..
            } => {
                self.seen.requested.set(Some(Instant::now()));
                let done = self.request(link, stream, &body);
                self.seen.note(done);
            }
            Event::JobAcked { .. } => {
                self.seen.acknowledged.set(self.seen.acknowledged.get() + 1);
                self.seen.note(Ok(()));
            }
            Event::PeerError { text, .. } => self.seen.note(Err(anyhow::anyhow!("{text}"))),
            _ => {}
        }
    }

    fn closed(&mut self, _: &Link, reason: &CloseReason) {
        if self.work == Work::Finish {
            self.seen
                .note(Err(anyhow::anyhow!("the link ended: {reason}")));
        }
    }
}

impl Script {
    fn request(&self, link: &Link, stream: StreamId, body: &[u8]) -> Result<()> {
        let request = v2::JobRequest::decode(body)?;
        let spec = v1::JobSpec::decode(&request.spec[..])?;
        let order = spec
            .env
            .into_iter()
            .find(|binding| binding.name == "DUMMY_OUTPUT");
        let order = order.context("a job came without its order")?.value;
        if self.work == Work::Finish {
            finish(link, stream, request.attempt, &order)?;
        }
        *self.seen.orders.borrow_mut().entry(order).or_default() += 1;
        self.seen.requests.set(self.seen.requests.get() + 1);
        Ok(())
    }
}

/// Takes, starts and completes a job in one go.
fn finish(link: &Link, stream: StreamId, attempt: Option<v2::Attempt>, output: &str) -> Result<()> {
    begin(link, stream, attempt)?;
    complete(link, stream, attempt, output, 0)
}

/// Takes and starts a job.
pub(crate) fn begin(link: &Link, stream: StreamId, attempt: Option<v2::Attempt>) -> Result<()> {
    let mut session = link.session();
    session.job(
        stream,
        MessageType::JOB_ACCEPT,
        &v2::JobAccept { attempt },
        End::No,
    )?;
    let start = v2::JobStart {
        attempt,
        unix_ms: 1,
    };
    Ok(session.job(stream, MessageType::JOB_START, &start, End::No)?)
}

/// Reports a job as done.
pub(crate) fn complete(
    link: &Link,
    stream: StreamId,
    attempt: Option<v2::Attempt>,
    output: &str,
    log_bytes: u64,
) -> Result<()> {
    let result = v1::JobResult {
        outcome: v1::Outcome::Success.into(),
        outputs: vec![v1::Binding {
            name: "output".to_owned(),
            value: output.to_owned(),
        }],
        ..v1::JobResult::default()
    };
    let complete = v2::JobComplete {
        attempt,
        content_type: "application/vnd.rustci.result.v1".to_owned(),
        result: result.encode_to_vec(),
        log_bytes,
    };
    Ok(link
        .session()
        .job(stream, MessageType::JOB_COMPLETE, &complete, End::Yes)?)
}
