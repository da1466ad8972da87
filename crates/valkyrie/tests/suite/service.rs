//! The two handlers of the suite.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tokio::sync::mpsc;
use valkyrie::frame::{FileStart, LogRecords};
use valkyrie::{
    Correlation, End, ErrorCode, Event, Handler, HealthStatus, Link, MessageType, StreamClass,
    StreamId,
};

/// Digest of the file that `Service` knows.
pub(crate) const DIGEST: [u8; 32] = [7; 32];

/// The file that `Service` sends.
pub(crate) fn file() -> Vec<u8> {
    (0..1_000_000u32).map(|i| (i % 249) as u8).collect()
}

/// Answers calls, echoes streams, keeps logs, sends a file, gives out jobs.
#[derive(Default)]
pub(crate) struct Service {
    echo: HashMap<StreamId, Vec<u8>>,
    sending: HashMap<StreamId, usize>,
    started: HashSet<StreamId>,
    logs: HashMap<StreamId, u64>,
}

impl Handler for Service {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        match event {
            Event::Call {
                call, method, body, ..
            } => answer(link, call, &method, &body),
            Event::Opened { stream, open, .. } => self.opened(link, stream, &open.method),
            Event::Data { stream, bytes, .. } => {
                self.echo
                    .entry(stream)
                    .or_default()
                    .extend_from_slice(&bytes);
                link.session().consume(stream, bytes.len());
                self.echo(link, stream);
            }
            Event::Writable { stream } => {
                self.echo(link, stream);
                self.send_file(link, stream);
            }
            Event::Log {
                stream,
                offset,
                records,
            } => {
                assert!(LogRecords::check(records).is_ok());
                let durable = offset + records.len() as u64;
                self.logs.insert(stream, durable);
                link.session().log_durable(stream, durable);
            }
            Event::Finished { stream, .. } if self.logs.contains_key(&stream) => {
                link.session().finish(stream);
            }
            Event::Finished { stream, .. } => {
                self.echo(link, stream);
                link.session().finish(stream);
            }
            Event::FileVerified { stream, offset } => {
                if self.started.insert(stream) {
                    self.sending.insert(stream, offset as usize);
                }
                self.send_file(link, stream);
            }
            Event::Job {
                stream,
                kind,
                correlation,
                end: End::Yes,
                ..
            } => {
                link.session()
                    .ack(stream, kind, correlation, End::Yes)
                    .unwrap();
            }
            _ => {}
        }
    }
}

impl Service {
    fn opened(&mut self, link: &Link, stream: StreamId, method: &str) {
        match method {
            "test.Log/Append" => link.session().accept(stream, 500),
            "test.File/Get" => {
                let start = FileStart {
                    id: [1; 16],
                    size: 1_000_000,
                    digest: DIGEST,
                    name: "f",
                };
                let mut session = link.session();
                session.accept(stream, 0);
                session.file_start(stream, &start).unwrap();
            }
            _ => link.session().accept(stream, 0),
        }
    }

    fn echo(&mut self, link: &Link, stream: StreamId) {
        if let Some(waiting) = self.echo.get_mut(&stream) {
            let sent = link.session().data(stream, waiting, End::No).unwrap();
            waiting.drain(..sent);
        }
    }

    fn send_file(&mut self, link: &Link, stream: StreamId) {
        let Some(at) = self.sending.get_mut(&stream) else {
            return;
        };
        let file = file();
        let mut session = link.session();
        *at += session
            .file_chunk(stream, *at as u64, file.get(*at..).unwrap())
            .unwrap();
        if *at == file.len() {
            session.file_complete(stream, DIGEST, End::Yes).unwrap();
            self.sending.remove(&stream);
        }
    }
}

fn answer(link: &Link, call: Correlation, method: &str, body: &[u8]) {
    match method {
        "test.Echo/Say" => link.session().reply(call, body).unwrap(),
        "test.Job/Give" => {
            let mut session = link.session();
            session
                .job_request(&valkyrie::v2::JobRequest::default())
                .unwrap();
            session.reply(call, b"").unwrap();
        }
        "test.Slow/Never" => {}
        _ => link
            .session()
            .reply_error(call, ErrorCode::UNREACHABLE, "no such method")
            .unwrap(),
    }
}

/// Something that came in, without its borrow.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    Ready,
    Data(Vec<u8>),
    Accepted(StreamId, u64),
    Writable,
    Durable(u64),
    Job(StreamId, MessageType),
    JobAcked(MessageType),
    FileStart(StreamId, u64),
    FileChunk(u64, usize),
    FileComplete,
    Finished(StreamId),
    Closing,
    Closed(&'static str),
    Health(Option<HealthStatus>),
    Status(u32),
    Moved,
    Declined(ErrorCode),
}

/// Hands everything on to the test; takes file chunks and data at once.
#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::UnboundedSender<Seen>,
    /// Where a file transfer begins.
    pub(crate) resume_at: Rc<RefCell<u64>>,
}

impl Recorder {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Seen>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (
            Self {
                sender,
                resume_at: Rc::default(),
            },
            receiver,
        )
    }

    fn chunk(link: &Link, stream: StreamId, offset: u64, bytes: &[u8]) -> Seen {
        let expected = file();
        let at = offset as usize;
        assert_eq!(Some(bytes), expected.get(at..at + bytes.len()));
        link.session()
            .file_verified(stream, offset + bytes.len() as u64);
        Seen::FileChunk(offset, bytes.len())
    }
}

impl Handler for Recorder {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        let seen = match event {
            Event::Ready(_) => Seen::Ready,
            Event::Data { stream, bytes, .. } => {
                link.session().consume(stream, bytes.len());
                Seen::Data(bytes.to_vec())
            }
            Event::Accepted { stream, consumed } => Seen::Accepted(stream, consumed),
            Event::Writable { .. } => Seen::Writable,
            Event::LogDurable { offset, .. } => Seen::Durable(offset),
            Event::Job { stream, kind, .. } => Seen::Job(stream, kind),
            Event::JobAcked { kind, .. } => Seen::JobAcked(kind),
            Event::FileStart { stream, size, .. } => {
                link.session()
                    .file_verified(stream, *self.resume_at.borrow());
                Seen::FileStart(stream, size)
            }
            Event::FileChunk {
                stream,
                offset,
                bytes,
            } => Self::chunk(link, stream, offset, bytes),
            Event::FileComplete { stream, digest } => {
                assert_eq!(digest, DIGEST);
                let kind = MessageType::FILE_TRANSFER_COMPLETE;
                link.session()
                    .ack(stream, kind, Correlation::NONE, End::Yes)
                    .unwrap();
                Seen::FileComplete
            }
            Event::Finished { stream, .. } => Seen::Finished(stream),
            Event::Closing { .. } => Seen::Closing,
            Event::Health(check) => Seen::Health(HealthStatus::from_wire(check.status)),
            Event::PeerStatus(status) => Seen::Status(status.state),
            Event::Moved => Seen::Moved,
            Event::UpgradeDeclined { code, .. } => Seen::Declined(code),
            _ => return,
        };
        drop(self.sender.send(seen));
    }

    fn closed(&mut self, _link: &Link, reason: &valkyrie::CloseReason) {
        drop(self.sender.send(Seen::Closed(reason.label())));
    }
}

/// The class that tests of one stream use.
pub(crate) const CLASS: StreamClass = StreamClass::Data;
