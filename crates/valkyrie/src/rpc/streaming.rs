//! Streams of messages.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc;
use valkyrie_frame::Metadata;

use super::codec::{Codec, Decode, Encode, Encoder};
use super::inbox::Inbox;
use super::status::Status;

/// Messages of the other side, or of a stream made here; a [`Stream`] of `Result<T, Status>` that
/// may be read on any thread.
///
/// Dropping it tells the sender to stop. A slow reader holds the sender back by the credit of the
/// stream, and nothing else on the connection.
pub struct Streaming<T> {
    source: Source,
    decode: fn(Bytes) -> Result<T, Status>,
}

enum Source {
    /// The other side.
    Wire(Wire),
    /// This side.
    Local(Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>),
}

/// The reading end of an [`Inbox`].
struct Wire(Arc<Inbox>);

impl Drop for Wire {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Streaming<Bytes> {
    pub(crate) fn of_wire(inbox: Arc<Inbox>) -> Self {
        Self {
            source: Source::Wire(Wire(inbox)),
            decode: Ok,
        }
    }

    /// The messages of a stream of this side.
    pub fn of_stream(stream: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Self {
        Self {
            source: Source::Local(Box::pin(stream)),
            decode: Ok,
        }
    }

    /// One message.
    #[must_use]
    pub fn once(message: Bytes) -> Self {
        Self::of_stream(iter([message]))
    }

    /// The messages of a stream of this side, written by a codec.
    pub(crate) fn encoded<C: Encode<T>, T: 'static, S>(stream: S) -> Self
    where
        S: Stream<Item = Result<T, Status>> + Send + 'static,
    {
        Self::of_stream(Encoded::<C, S> {
            stream: Box::pin(stream),
            encoder: Encoder::default(),
        })
    }

    /// The same messages, read by a codec.
    pub(crate) fn decoded<C: Decode<T>, T>(self) -> Streaming<T> {
        Streaming {
            source: self.source,
            decode: C::decode_owned,
        }
    }
}

impl<T> Streaming<T> {
    /// The next message; `None` after the last one. Cancel safe.
    ///
    /// # Errors
    /// The stream failed; nothing follows.
    pub async fn message(&mut self) -> Result<Option<T>, Status> {
        poll_fn(|cx| self.poll_message(cx)).await.transpose()
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let polled = match &mut self.source {
            Source::Wire(wire) => wire.0.poll_next(cx),
            Source::Local(stream) => stream.as_mut().poll_next(cx),
        };
        Poll::Ready(match ready!(polled) {
            None => None,
            Some(message) => Some(message.and_then(self.decode)),
        })
    }

    /// What the other side said beside its first message, or at the end; `None` before that.
    #[must_use]
    pub fn metadata(&self) -> Option<Metadata> {
        match &self.source {
            Source::Wire(wire) => wire.0.metadata(),
            Source::Local(_) => None,
        }
    }
}

impl<T> Stream for Streaming<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_message(cx)
    }
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Wire(wire) => f.debug_tuple("Streaming").field(&wire.0).finish(),
            Source::Local(_) => f.write_str("Streaming(local)"),
        }
    }
}

/// Writes the messages of a stream.
struct Encoded<C, S> {
    stream: Pin<Box<S>>,
    encoder: Encoder<C>,
}

impl<C: Codec, S> Unpin for Encoded<C, S> {}

impl<C: Encode<T>, T, S: Stream<Item = Result<T, Status>>> Stream for Encoded<C, S> {
    type Item = Result<Bytes, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = ready!(this.stream.as_mut().poll_next(cx));
        Poll::Ready(next.map(|message| message.and_then(|message| this.encoder.encode(&message))))
    }
}

/// The messages of an iterator as a stream.
pub fn iter<T, I>(messages: I) -> Iter<I::IntoIter>
where
    I: IntoIterator<Item = T>,
{
    Iter {
        messages: messages.into_iter(),
    }
}

/// See [`iter`].
#[derive(Debug, Clone)]
pub struct Iter<I> {
    messages: I,
}

impl<I> Unpin for Iter<I> {}

impl<I: Iterator> Stream for Iter<I> {
    type Item = Result<I::Item, Status>;

    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.get_mut().messages.next().map(Ok))
    }
}

/// A stream of messages that are sent from somewhere else; at most `capacity` of them wait.
///
/// # Panics
/// If `capacity` is 0.
#[must_use]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Sender { sender }, Receiver { receiver })
}

/// The sending end of a [`channel`]. The stream ends when the last clone is dropped.
#[derive(Debug)]
pub struct Sender<T> {
    sender: mpsc::Sender<Result<T, Status>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
        }
    }
}

/// Why a message was not sent: nobody wants it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side wants no more messages")]
pub struct Closed;

impl<T> Sender<T> {
    /// Sends a message when there is room. Cancel safe: what was not sent stays unsent.
    ///
    /// # Errors
    /// The other side wants no more.
    pub async fn send(&self, message: T) -> Result<(), Closed> {
        let sent = self.sender.send(Ok(message)).await;
        sent.map_err(|_| Closed)
    }

    /// Ends the stream with a failure, which the other side gets behind what was sent.
    ///
    /// # Errors
    /// The other side wants no more.
    pub async fn fail(self, status: Status) -> Result<(), Closed> {
        let sent = self.sender.send(Err(status)).await;
        sent.map_err(|_| Closed)
    }

    /// Whether both send to the same stream.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }

    /// Waits until the other side wants no more.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// The receiving end of a [`channel`], to be given to a client or returned by a service.
#[derive(Debug)]
pub struct Receiver<T> {
    receiver: mpsc::Receiver<Result<T, Status>>,
}

impl<T> Stream for Receiver<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().receiver.poll_recv(cx)
    }
}
