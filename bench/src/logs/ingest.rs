//! Lines per second that a server takes from eight runners at once, until all are durable.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use prost::Message;
use tokio::sync::Notify;
use valkyrie::{
    Endpoint, Event, Handler, Link, LinkConfig, MessageType, SendError, StreamClass, StreamId, v2,
};
use valkyrie_frame::{LogChannel, LogRecord};

use crate::disk::scratch;
use crate::http::Api;
use crate::report::{Report, percentile};
use crate::script::{begin, complete, register};

const SENDERS: usize = 8;
const LINES: usize = 250_000;
/// Text of one line, in bytes.
const LINE_BYTES: usize = 64;
/// Bytes of records handed over at once, as the product's runner does.
const BATCH_BYTES: usize = 64 * 1024;
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let logs: Vec<_> = (0..SENDERS)
        .map(|sender| Rc::new(Lines::new(sender)))
        .collect();
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let directory = scratch()?;
        raw.push(bare(directory.path(), &logs)?);
        ours.push(once(directory.path(), &logs)?);
    }
    report.ours(
        "ingest_lines_per_s",
        percentile(&mut ours, 0.5),
        "1/s",
        ">= 1,000,000",
    );
    report.peer(
        "write",
        "written_lines_per_s",
        percentile(&mut raw, 0.5),
        "1/s",
    );
    Ok(())
}

/// The log of one sender, and where its batches end.
struct Lines {
    records: Vec<u8>,
    ends: Vec<usize>,
}

impl Lines {
    fn new(sender: usize) -> Self {
        let mut lines = Self {
            records: Vec::new(),
            ends: Vec::new(),
        };
        let (mut text, mut begin) = (String::new(), 0);
        for line in 0..LINES {
            text.clear();
            // Writing to a string cannot fail.
            let _ = write!(text, "sender {sender} line {line} ");
            while text.len() < LINE_BYTES {
                text.push('.');
            }
            let record = LogRecord {
                unix_ns: 1,
                step: 0,
                channel: LogChannel::STDOUT,
                bytes: text.as_bytes(),
            };
            let length = record.encoded_len();
            if lines.records.len() + length > begin + BATCH_BYTES {
                begin = lines.records.len();
                lines.ends.push(begin);
            }
            record
                .append(&mut lines.records)
                .expect("the line is short");
        }
        lines.ends.push(lines.records.len());
        lines
    }
}

/// Lines per second over all senders.
fn once(directory: &Path, logs: &[Rc<Lines>]) -> Result<f64> {
    let (server, at) = super::server(directory)?;
    let api = Api::of(&server)?;
    let mut text = "version: 1\nname: ingest\non: { manual: {} }\njobs:\n".to_owned();
    for sender in 0..SENDERS {
        writeln!(
            text,
            "  s{sender}: {{ runs-on: [executor=dummy, s{sender}], steps: [{{ run: x }}] }}"
        )?;
    }
    let elapsed = valkyrie::block_on(send(&at, &api, &text, logs))??;
    for (sender, log) in logs.iter().enumerate() {
        let path = format!("/api/v1/runs/1/jobs/s{sender}/log");
        let mut stored = Vec::new();
        api.get(&path, "application/octet-stream")?
            .read_to_end(&mut stored)?;
        ensure!(
            stored == log.records,
            "the log of sender {sender} is not what it sent"
        );
    }
    server.shutdown();
    Ok((SENDERS * LINES) as f64 / elapsed.as_secs_f64())
}

/// Time from the first line that may be sent to the last one acknowledged as durable.
async fn send(at: &Endpoint, api: &Api, text: &str, logs: &[Rc<Lines>]) -> Result<Duration> {
    let race = Rc::new(Race::default());
    let mut links = Vec::new();
    for (sender, log) in logs.iter().enumerate() {
        let handler = Sender {
            log: Rc::clone(log),
            race: Rc::clone(&race),
            job: None,
            stream: None,
            sent: 0,
            next: 0,
        };
        let link = valkyrie::connect(at, LinkConfig::default(), handler).await?;
        register(&link, &format!("s{sender}"), 1, "dummy").await?;
        links.push(link);
    }
    api.submit(text)?;
    let done = async {
        while race.completed.get() < SENDERS && race.fault.borrow().is_none() {
            race.changed.notified().await;
        }
    };
    tokio::time::timeout(PATIENCE, done)
        .await
        .context("the logs do not become durable")?;
    if let Some(fault) = race.fault.borrow_mut().take() {
        return Err(fault);
    }
    let (first, last) = (race.first.get(), race.last.get());
    let (first, last) = first.zip(last).context("nothing was sent")?;
    Ok(last.duration_since(first))
}

/// What the senders have together.
#[derive(Default)]
struct Race {
    first: Cell<Option<Instant>>,
    last: Cell<Option<Instant>>,
    completed: Cell<usize>,
    fault: RefCell<Option<anyhow::Error>>,
    changed: Notify,
}

/// A runner with one job, whose log it sends as fast as credit comes.
struct Sender {
    log: Rc<Lines>,
    race: Rc<Race>,
    job: Option<(StreamId, v2::Attempt)>,
    stream: Option<StreamId>,
    sent: usize,
    /// Place of the next batch.
    next: usize,
}

impl Handler for Sender {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        if let Err(error) = self.handle(link, event) {
            self.race.fault.borrow_mut().get_or_insert(error);
            self.race.changed.notify_one();
        }
    }
}

impl Sender {
    fn handle(&mut self, link: &Link, event: Event<'_>) -> Result<()> {
        match event {
            Event::Job {
                stream,
                kind: MessageType::JOB_REQUEST,
                body,
                ..
            } => {
                let attempt = v2::JobRequest::decode(&body[..])?.attempt;
                begin(link, stream, attempt)?;
                let attempt = attempt.context("a job without a lease")?;
                self.job = Some((stream, attempt));
                self.stream = Some(open(link, attempt)?);
                Ok(())
            }
            Event::Accepted { stream, .. } if self.stream == Some(stream) => {
                if self.race.first.get().is_none() {
                    self.race.first.set(Some(Instant::now()));
                }
                self.send(link)
            }
            Event::Writable { .. } => self.send(link),
            Event::LogDurable { offset, .. } => {
                if usize::try_from(offset)? == self.log.records.len() {
                    self.race.last.set(Some(Instant::now()));
                    return self.complete(link);
                }
                self.send(link)
            }
            Event::JobAcked { .. } => {
                self.race.completed.set(self.race.completed.get() + 1);
                self.race.changed.notify_one();
                Ok(())
            }
            Event::PeerError { text, .. } => Err(anyhow!("{text}")),
            Event::Reset { code, .. } => Err(anyhow!("a stream was reset: {}", code.name())),
            _ => Ok(()),
        }
    }

    fn send(&mut self, link: &Link) -> Result<()> {
        let Some(stream) = self.stream else {
            return Ok(());
        };
        let mut session = link.session();
        while let Some(end) = self.log.ends.get(self.next) {
            let records = self.log.records.get(self.sent..*end).unwrap_or_default();
            match session.log(stream, self.sent as u64, records) {
                Ok(()) => (self.sent, self.next) = (*end, self.next + 1),
                Err(SendError::NoCredit { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn complete(&self, link: &Link) -> Result<()> {
        let (stream, attempt) = self.job.context("the log is of no job")?;
        complete(
            link,
            stream,
            Some(attempt),
            "",
            self.log.records.len() as u64,
        )
    }
}

fn open(link: &Link, attempt: v2::Attempt) -> Result<StreamId> {
    let number = |number: u64| number.to_be_bytes().to_vec();
    let open = v2::StreamOpen {
        method: "rustci.v1.Log/Append".to_owned(),
        metadata: [
            ("job".to_owned(), number(attempt.job)),
            ("attempt".to_owned(), number(attempt.number.into())),
            ("fence".to_owned(), number(attempt.fence)),
        ]
        .into(),
        window: 0,
    };
    Ok(link.session().open(StreamClass::Logs, &open)?)
}

/// Lines per second that the disk alone takes: the same bytes in as many files, a sync for every
/// window of each.
fn bare(directory: &Path, logs: &[Rc<Lines>]) -> Result<f64> {
    const WINDOW: usize = 1 << 20;
    let start = Instant::now();
    let mut files = Vec::new();
    for (number, log) in logs.iter().enumerate() {
        let file = std::fs::File::create_new(directory.join(format!("bare-{number}")))?;
        files.push((file, log.records.chunks(WINDOW)));
    }
    let mut open = files.len();
    while open > 0 {
        open = 0;
        for (file, chunks) in &mut files {
            if let Some(chunk) = chunks.next() {
                std::io::Write::write_all(file, chunk)?;
                file.sync_data()?;
                open += 1;
            }
        }
    }
    Ok((SENDERS * LINES) as f64 / start.elapsed().as_secs_f64())
}
