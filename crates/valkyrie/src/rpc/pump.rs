//! Sends a stream of messages as their credit allows.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use valkyrie_frame::StreamId;
use valkyrie_session::{End, ReplyOptions, SendError};

use super::request::Response;
use super::status::Status;
use super::streaming::Streaming;
use crate::link::Link;

/// Takes the next message when the last one is sent: the peer's credit holds its source back.
pub(crate) struct Pump {
    link: Link,
    stream: StreamId,
    /// Said beside the first message.
    head: Option<Response<()>>,
    messages: Streaming<Bytes>,
    /// What is being sent, and how many bytes of it are.
    sending: Option<(Bytes, usize)>,
}

/// Messages that go out in one turn, before the connection's other work has its own.
const MESSAGES_PER_TURN: u32 = 1024;

impl Pump {
    pub(crate) const fn new(
        link: Link,
        stream: StreamId,
        head: Option<Response<()>>,
        messages: Streaming<Bytes>,
    ) -> Self {
        Self {
            link,
            stream,
            head,
            messages,
            sending: None,
        }
    }

    /// Sends what credit allows of the present message; whether it is sent.
    fn send(&mut self) -> Result<Poll<()>, Status> {
        let Some((message, sent)) = &mut self.sending else {
            return Ok(Poll::Ready(()));
        };
        let options = match (&self.head, *sent) {
            (Some(head), 0) => head.options(),
            _ => ReplyOptions::default(),
        };
        let rest = message.get(*sent..).unwrap_or_default();
        let taken = self
            .link
            .session()
            .send(self.stream, rest, &options, End::No);
        match taken {
            Ok(count) => *sent += count,
            // The connection wakes this future when there is credit.
            Err(SendError::NoCredit { .. }) => return Ok(Poll::Pending),
            Err(error) => return Err(error.into()),
        }
        if *sent < message.len() {
            return Ok(Poll::Pending);
        }
        self.sending = None;
        self.head = None;
        Ok(Poll::Ready(()))
    }
}

impl Future for Pump {
    /// What was to be said beside the first message, if there was none.
    type Output = Result<Option<Response<()>>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        for _ in 0..MESSAGES_PER_TURN {
            match self.send() {
                Ok(Poll::Ready(())) => {}
                Ok(Poll::Pending) => return Poll::Pending,
                Err(status) => return Poll::Ready(Err(status)),
            }
            match Pin::new(&mut self.messages).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(self.head.take())),
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Err(status)),
                Poll::Ready(Some(Ok(message))) => self.sending = Some((message, 0)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
