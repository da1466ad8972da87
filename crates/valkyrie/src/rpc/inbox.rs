//! Messages of one stream between the connection and whoever reads them, on any thread.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use valkyrie_frame::{ErrorCode, Metadata, StreamId};
use valkyrie_session::{Batch, More};

use super::bell::{Bell, Note};
use super::status::Status;
use crate::limits::JOINING_BYTES_MAX;

/// The messages that came in and were not read.
///
/// Whole messages wait here in the credit of their stream. Of a message that is longer than the
/// credit, the bytes are taken, and their credit given back, only while its reader waits for it:
/// so every byte is held either by the stream's window or by somebody who wants just this message.
pub(crate) struct Inbox {
    stream: StreamId,
    bell: Arc<Bell>,
    /// Bytes of messages that are longer than their credit, of all streams of the connection.
    joining: Arc<AtomicUsize>,
    message_max: usize,
    /// Credit is given back from this much on.
    credit_min: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bytes: BytesMut,
    whole: VecDeque<Whole>,
    /// The message behind those: its bytes, their credit, and the part of it given back already.
    partial: Whole,
    absorbed: usize,
    /// Credit that the connection may give back.
    taken: usize,
    noted: Noted,
    metadata: Option<Metadata>,
    end: Option<End>,
    reader: Reader,
    waker: Option<Waker>,
}

/// How many bytes a message has, and how much credit they took.
#[derive(Debug, Default, Clone, Copy)]
struct Whole {
    bytes: usize,
    credit: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Noted {
    #[default]
    No,
    Yes,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reader {
    #[default]
    There,
    Gone,
}

#[derive(Debug)]
enum End {
    Well,
    Failed(Status),
    /// The failure was told.
    Told,
}

impl Inbox {
    pub(crate) fn new(
        stream: StreamId,
        bell: Arc<Bell>,
        joining: Arc<AtomicUsize>,
        window: u32,
        message_max: usize,
    ) -> Self {
        Self {
            stream,
            bell,
            joining,
            message_max,
            credit_min: (window / 4).max(1) as usize,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock, so what it guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes that came in; returns the credit that can go back at once.
    pub(crate) fn push(&self, bytes: &[u8], more: More, metadata: Option<Metadata>) -> usize {
        // A message without a byte has taken the credit of one.
        let credit = bytes.len().max(1);
        let mut state = self.lock();
        if state.reader == Reader::Gone || state.end.is_some() {
            return credit;
        }
        if metadata.is_some() {
            state.metadata = metadata;
        }
        state.bytes.extend_from_slice(bytes);
        state.partial.bytes += bytes.len();
        state.partial.credit += credit;
        if state.partial.bytes > self.message_max {
            self.fail(state, self.too_large());
            return 0;
        }
        if more == More::No {
            let whole = std::mem::take(&mut state.partial);
            state.whole.push_back(whole);
        } else if state.waker.is_none() || self.absorb(&mut state).is_ok() {
            return std::mem::take(&mut state.taken);
        } else {
            self.fail(state, too_many());
            return 0;
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        0
    }

    /// Takes whole messages that came in together; returns the credit that can go back at once.
    pub(crate) fn push_batch(&self, batch: Batch<'_>) -> usize {
        let mut state = self.lock();
        if state.reader == Reader::Gone || state.end.is_some() {
            return batch.bytes();
        }
        state.bytes.reserve(batch.bytes());
        let mut behind = batch.bytes();
        for message in batch {
            behind -= message.len();
            let Whole { bytes, credit } = std::mem::take(&mut state.partial);
            state.bytes.extend_from_slice(message);
            let whole = Whole {
                bytes: bytes + message.len(),
                credit: credit + message.len(),
            };
            if whole.bytes > self.message_max {
                state.partial = whole;
                self.fail(state, self.too_large());
                return behind;
            }
            state.whole.push_back(whole);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        0
    }

    /// Takes what is there of a message that its reader waits for.
    ///
    /// # Errors
    /// The connection has too many of them.
    fn absorb(&self, state: &mut State) -> Result<(), ()> {
        let more = state.partial.credit - state.absorbed;
        if more == 0 || !state.whole.is_empty() {
            return Ok(());
        }
        let before = self.joining.fetch_add(more, Ordering::Relaxed);
        state.absorbed += more;
        state.taken += more;
        if before + more > JOINING_BYTES_MAX {
            return Err(());
        }
        Ok(())
    }

    /// Forgets how much of a message was taken early.
    fn settle(&self, state: &mut State) -> usize {
        let absorbed = std::mem::take(&mut state.absorbed);
        self.joining.fetch_sub(absorbed, Ordering::Relaxed);
        absorbed
    }

    fn too_large(&self) -> Status {
        let max = self.message_max;
        let text = format!("a message of more than {max} bytes, which is the limit here");
        Status::new(ErrorCode::TOO_LARGE, text)
    }

    /// Ends the stream for its reader: well, or with a failure. What came before is still read.
    pub(crate) fn end(&self, result: Result<Option<Metadata>, Status>) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        match result {
            Ok(_) if state.partial.credit > 0 => {
                let status = Status::malformed("the stream ended inside a message");
                self.fail(state, status);
            }
            Ok(metadata) => {
                if metadata.is_some() {
                    state.metadata = metadata;
                }
                self.finish(state, End::Well);
            }
            Err(status) => self.fail(state, status),
        }
    }

    fn fail(&self, mut state: MutexGuard<'_, State>, status: Status) {
        let partial = std::mem::take(&mut state.partial);
        let keep = state.bytes.len() - partial.bytes;
        state.bytes.truncate(keep);
        state.taken += partial.credit - self.settle(&mut state);
        self.finish(state, End::Failed(status));
    }

    fn finish(&self, mut state: MutexGuard<'_, State>, end: End) {
        state.end = Some(end);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The credit that the reader has made free since the last call.
    pub(crate) fn take_credit(&self) -> usize {
        let mut state = self.lock();
        state.noted = Noted::No;
        std::mem::take(&mut state.taken)
    }

    fn note(&self, state: &mut State) {
        if state.taken > 0 && state.noted == Noted::No {
            state.noted = Noted::Yes;
            self.bell.ring(Note::Taken(self.stream));
        }
    }

    /// The next message; `None` after the last one.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let mut state = self.lock();
        if let Some(whole) = state.whole.pop_front() {
            // Only the message in front can have been taken early.
            state.taken += whole.credit - self.settle(&mut state);
            if state.taken >= self.credit_min {
                self.note(&mut state);
            }
            let bytes = state.bytes.split_to(whole.bytes).freeze();
            return Poll::Ready(Some(Ok(bytes)));
        }
        match state.end.replace(End::Told) {
            None => state.end = None,
            Some(End::Well) => {
                state.end = Some(End::Well);
                return Poll::Ready(None);
            }
            Some(End::Told) => return Poll::Ready(None),
            Some(End::Failed(status)) => return Poll::Ready(Some(Err(status))),
        }
        if self.absorb(&mut state).is_err() {
            self.fail(state, too_many());
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.note(&mut state);
        if !state
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// What the sender said beside its first message, or at the end.
    pub(crate) fn metadata(&self) -> Option<Metadata> {
        self.lock().metadata.clone()
    }

    /// The reader wants no more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        let waiting: usize = state.whole.iter().map(|whole| whole.credit).sum();
        state.taken += waiting + state.partial.credit - self.settle(&mut state);
        state.whole = VecDeque::new();
        state.bytes = BytesMut::new();
        state.partial = Whole::default();
        state.reader = Reader::Gone;
        drop(state);
        self.bell.ring(Note::Dropped(self.stream));
    }
}

fn too_many() -> Status {
    Status::overloaded("too many long messages are half received on this connection")
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Inbox")
            .field("stream", &self.stream)
            .field("messages", &state.whole.len())
            .field("end", &state.end)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(message_max: usize) -> Inbox {
        let (bell, joining) = (Arc::new(Bell::default()), Arc::default());
        Inbox::new(StreamId(1001), bell, joining, 4096, message_max)
    }

    fn next(inbox: &Inbox) -> Poll<Option<Result<Bytes, Status>>> {
        inbox.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn messages_wait_in_their_credit_until_they_are_read() {
        let inbox = inbox(10_000);
        assert_eq!(inbox.push(b"", More::No, None), 0);
        assert_eq!(inbox.push(b"ab", More::Yes, None), 0);
        assert_eq!(inbox.push(b"c", More::No, None), 0);
        inbox.end(Ok(None));
        assert_eq!(next(&inbox), Poll::Ready(Some(Ok(Bytes::new()))));
        assert_eq!(next(&inbox), Poll::Ready(Some(Ok(Bytes::from("abc")))));
        assert_eq!(next(&inbox), Poll::Ready(None));
        assert_eq!(inbox.take_credit(), 4);
    }

    #[test]
    fn a_message_longer_than_the_credit_comes_while_its_reader_waits() {
        let inbox = inbox(10_000);
        assert_eq!(inbox.push(&[1; 4000], More::Yes, None), 0);
        assert_eq!(inbox.take_credit(), 0, "nobody waits for it");
        assert_eq!(next(&inbox), Poll::Pending);
        assert_eq!(inbox.take_credit(), 4000);
        assert_eq!(inbox.push(&[2; 4000], More::Yes, None), 4000);
        assert_eq!(inbox.push(&[3; 10], More::No, None), 0);
        let Poll::Ready(Some(Ok(message))) = next(&inbox) else {
            panic!("the message is whole");
        };
        assert_eq!(message.len(), 8010);
        assert_eq!(inbox.take_credit(), 10);
        assert_eq!(inbox.joining.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_message_over_the_limit_fails_its_stream_and_frees_its_credit() {
        let inbox = inbox(100);
        inbox.push(b"first", More::No, None);
        inbox.push(&[1; 90], More::Yes, None);
        assert_eq!(inbox.push(&[1; 90], More::Yes, None), 0);
        assert_eq!(next(&inbox), Poll::Ready(Some(Ok(Bytes::from("first")))));
        let Poll::Ready(Some(Err(status))) = next(&inbox) else {
            panic!("the stream has failed");
        };
        assert_eq!(status.code(), ErrorCode::TOO_LARGE);
        assert_eq!(next(&inbox), Poll::Ready(None));
        assert_eq!(inbox.take_credit(), 185);
        assert_eq!(inbox.push(b"late", More::No, None), 4);
    }

    #[test]
    fn half_a_message_at_the_end_is_a_failure() {
        let inbox = inbox(100);
        inbox.push(b"half", More::Yes, None);
        inbox.end(Ok(None));
        assert!(matches!(next(&inbox), Poll::Ready(Some(Err(_)))));
    }

    #[test]
    fn a_reader_that_goes_away_gives_all_credit_back() {
        let inbox = inbox(100);
        inbox.push(b"one", More::No, None);
        inbox.push(b"two", More::Yes, None);
        inbox.close();
        assert_eq!(inbox.take_credit(), 6);
        assert_eq!(inbox.push(b"three", More::No, None), 5);
    }
}
