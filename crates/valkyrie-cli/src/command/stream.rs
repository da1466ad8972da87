//! `valkyrie call --stream`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use serde_json::{Map, json};
use tokio::sync::Notify;
use tokio::time::timeout;
use valkyrie::{CloseReason, End, ErrorCode, Event, Handler, Link, StreamId, v2};

use crate::args::CallArgs;
use crate::exit::Exit;
use crate::explain::Preview;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::peer;

/// What came on the stream and was not shown yet. Its credit is given back when it is shown, so
/// there is never more of it than the window of the stream.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    ended: Option<Ended>,
    /// What the server says of its reason.
    text: String,
}

/// How the other side ended the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// It said all that it wanted to say, or why not.
    Finished(ErrorCode),
    /// At once, in both directions.
    Reset(ErrorCode),
}

/// The handler's half of the inbox.
#[derive(Debug, Clone, Default)]
struct Mailbox {
    inbox: Rc<RefCell<Inbox>>,
    received: Rc<Notify>,
    writable: Rc<Notify>,
}

impl Handler for Mailbox {
    fn event(&mut self, _link: &Link, event: Event<'_>) {
        let mut inbox = self.inbox.borrow_mut();
        match event {
            Event::Data { bytes, .. } => inbox.bytes.extend_from_slice(&bytes),
            Event::Finished { status, .. } => inbox.ended = Some(Ended::Finished(status)),
            Event::Reset { code, .. } => inbox.ended = Some(Ended::Reset(code)),
            Event::PeerError { text, .. } => inbox.text = text.into_owned(),
            Event::Writable { .. } => {}
            _ => return,
        }
        self.writable.notify_one();
        self.received.notify_one();
    }

    fn closed(&mut self, _link: &Link, _reason: &CloseReason) {
        self.writable.notify_one();
        self.received.notify_one();
    }
}

/// Opens a stream for the method, sends the body on it, and shows what comes back.
///
/// # Errors
/// Nobody there, or the server ends the stream with an error.
pub(crate) async fn stream(
    args: &CallArgs,
    body: Vec<u8>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let mailbox = Mailbox::default();
    let peer = peer::connect(&args.endpoint, args.timeout, mailbox.clone()).await?;
    let link = peer.link;
    let open = v2::StreamOpen {
        method: args.method.clone(),
        metadata: metadata(&args.metadata),
        window: 0,
    };
    let lost = |cause: String| Failure::Lost {
        endpoint: args.endpoint.to_string(),
        cause,
    };
    let opened = link.session().open(args.class.into(), &open);
    let stream = opened.map_err(|error| lost(error.to_string()))?;
    let both = async {
        let sending = send(&link, stream, body.into(), &mailbox);
        let showing = show(&link, stream, &mailbox, out);
        // What the server says counts, also when it takes no more of the body.
        let (_, shown) = tokio::join!(sending, showing);
        shown
    };
    match timeout(args.deadline, both).await {
        Ok(Ok(Some(ended))) => {
            peer::close(&link).await;
            let text = mailbox.inbox.take().text;
            ended_as(ended, text)
        }
        Ok(Ok(None)) => Err(lost(link.closed().await.to_string())),
        Ok(Err(failure)) => Err(failure),
        Err(_) => {
            link.session().reset(stream, ErrorCode::TIMEOUT);
            peer::close(&link).await;
            Err(Failure::TimedOut {
                what: args.method.clone(),
                limit: args.deadline,
            })
        }
    }
}

fn metadata(pairs: &[(String, String)]) -> BTreeMap<String, Vec<u8>> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
        .collect()
}

/// Sends the body as far as the server takes it.
async fn send(link: &Link, stream: StreamId, mut left: Bytes, mailbox: &Mailbox) {
    loop {
        // A stream that is over takes nothing; why it is over is told by its end.
        let sent = link.session().data_shared(stream, &mut left, End::Yes);
        if sent.is_err() || left.is_empty() {
            return;
        }
        mailbox.writable.notified().await;
    }
}

/// Shows what comes until the stream ends; `None` when the connection is over first.
async fn show(
    link: &Link,
    stream: StreamId,
    mailbox: &Mailbox,
    out: &mut Output,
) -> Result<Option<Ended>, Failure> {
    loop {
        let (bytes, ended) = {
            let mut inbox = mailbox.inbox.borrow_mut();
            (std::mem::take(&mut inbox.bytes), inbox.ended)
        };
        if !bytes.is_empty() {
            match out.format() {
                Format::Text => out.bytes(&bytes)?,
                Format::Json => {
                    let mut line = Map::new();
                    let bytes_max = bytes.len();
                    Preview { bytes_max }.put(&bytes, &mut line);
                    out.json(&line)?;
                }
            }
            link.session().consume(stream, bytes.len());
        }
        if let Some(Ended::Finished(code) | Ended::Reset(code)) = ended {
            if out.format() == Format::Json {
                out.json(&json!({ "code": code.0 }))?;
            }
            return Ok(ended);
        }
        if link.is_closed() {
            return Ok(None);
        }
        mailbox.received.notified().await;
    }
}

fn ended_as(ended: Ended, text: String) -> Result<Exit, Failure> {
    let (code, text) = match ended {
        Ended::Finished(ErrorCode::NONE) => return Ok(Exit::Success),
        Ended::Finished(code) => (code, "the stream ended with this status".to_owned()),
        Ended::Reset(code) if text.is_empty() => (code, "the stream was reset".to_owned()),
        Ended::Reset(code) => (code, text),
    };
    Err(Failure::Refused {
        code,
        text,
        hint: None,
    })
}
