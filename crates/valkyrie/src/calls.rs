//! Calls of this side that someone waits for.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;
use valkyrie_frame::{Correlation, ErrorCode, Metadata};
use valkyrie_session::{Envelope, Event, Payload, Retry, SendError};

use crate::error::CloseReason;
use crate::latency::Latencies;
use crate::link::Link;

/// Why a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It was not sent.
    #[error("call not sent: {0}")]
    Send(#[from] SendError),
    /// The peer refused it, or its deadline passed (105).
    #[error("call failed: {code}: {text}")]
    Failed {
        /// Why.
        code: ErrorCode,
        /// Whether to try again, and when.
        retry: Retry,
        /// For people.
        text: String,
        /// What the peer's application says beside it.
        metadata: Metadata,
    },
    /// The connection ended first; whether the peer has handled the call is not known.
    #[error("call lost: {0}")]
    Closed(CloseReason),
}

/// An answer where it lies in the read buffer.
#[derive(Debug)]
pub struct Reply<'b> {
    /// The answer.
    pub body: Payload<'b>,
    /// What the peer says beside it.
    pub envelope: Envelope<'b>,
}

/// An answer for keeping.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Bytes,
    /// What stands beside it, where anything does.
    pub(crate) envelope: Option<Box<Envelope<'static>>>,
}

/// Takes the answer of a call on the connection's own turn.
pub(crate) type Then = Box<dyn FnOnce(Result<Reply<'_>, CallError>)>;

/// The calls of one link.
///
/// An answer waits for its reader after the slot of its correlation has gone to the next call, so
/// readers have a slab of their own.
#[derive(Default)]
pub(crate) struct Waiting {
    /// The call that has a slot, and who waits for it.
    calls: Vec<(Correlation, usize)>,
    waiters: Slab<Waiter>,
    latencies: Latencies,
    /// Who waits until a call may be begun.
    starved: VecDeque<Waker>,
}

enum Waiter {
    Task(Option<Waker>),
    Answered(Result<Answer, CallError>),
    Then(Then),
}

impl Waiting {
    fn add(&mut self, call: Correlation, waiter: Waiter) -> usize {
        let number = usize::from(call.slot());
        if number >= self.calls.len() {
            self.calls.resize(number + 1, (Correlation::NONE, 0));
        }
        let key = self.waiters.insert(waiter);
        if let Some(place) = self.calls.get_mut(number) {
            *place = (call, key);
        }
        key
    }

    /// Who waits for a call, which ends with this.
    fn end(&mut self, call: Correlation) -> Option<usize> {
        let place = self.calls.get_mut(usize::from(call.slot()))?;
        if place.0 != call {
            return None;
        }
        place.0 = Correlation::NONE;
        Some(place.1)
    }

    fn poll(&mut self, key: usize, cx: &Context<'_>) -> Poll<Result<Answer, CallError>> {
        match self.waiters.get_mut(key) {
            Some(Waiter::Task(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            // The answer stays until the future that polls is dropped.
            Some(Waiter::Answered(answer)) => {
                let taken = Err(CallError::Closed(CloseReason::Lost));
                Poll::Ready(mem::replace(answer, taken))
            }
            Some(Waiter::Then(_)) | None => Poll::Ready(Err(CallError::Closed(CloseReason::Lost))),
        }
    }
}

fn answer_of(event: Event<'_>) -> Result<Reply<'_>, CallError> {
    match event {
        Event::Reply { body, envelope, .. } => Ok(Reply { body, envelope }),
        Event::CallFailed {
            code,
            retry,
            text,
            envelope,
            ..
        } => Err(CallError::Failed {
            code,
            retry,
            text: text.into_owned(),
            metadata: envelope.metadata().to_metadata(),
        }),
        _ => Err(CallError::Closed(CloseReason::Lost)),
    }
}

impl Reply<'_> {
    fn into_answer(self) -> Answer {
        let said = self.envelope != Envelope::EMPTY;
        Answer {
            body: self.body.into_bytes(),
            envelope: said.then(|| Box::new(self.envelope.into_owned())),
        }
    }
}

impl Link {
    /// A future for the answer of a call that was just sent. Dropping it cancels the call.
    pub(crate) fn answer(&self, call: Correlation) -> Call {
        self.measure(call);
        let key = self.calls_mut().add(call, Waiter::Task(None));
        let link = self.clone();
        Call { link, call, key }
    }

    /// Hands the answer of a call that was just sent to `then`.
    pub(crate) fn answer_then(&self, call: Correlation, then: Then) {
        self.measure(call);
        self.calls_mut().add(call, Waiter::Then(then));
    }

    /// Notes when a call was sent, if it is one of those that are measured.
    fn measure(&self, call: Correlation) {
        if Latencies::wants(call) {
            let now = self.driver_session().now();
            self.calls_mut().latencies.begin(call, now);
        }
    }

    /// Times from call to answer that were measured since the last time.
    pub(crate) fn take_latencies(&self) -> Vec<Duration> {
        let calls = self.calls();
        calls.map_or_else(Vec::new, |mut calls| calls.latencies.take())
    }

    /// Whether another call can be begun; else `cx` is woken when one has ended.
    pub(crate) fn poll_call_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_closed() || self.driver_session().has_call_room() {
            return Poll::Ready(());
        }
        self.calls_mut().starved.push_back(cx.waker().clone());
        Poll::Pending
    }

    /// Hands an answer to whoever waits for it; gives other events back.
    pub(crate) fn take_answer<'b>(&self, event: Event<'b>) -> Option<Event<'b>> {
        let call = match &event {
            Event::Reply { call, .. } | Event::CallFailed { call, .. } => *call,
            _ => return Some(event),
        };
        let ended = self.calls().and_then(|mut calls| calls.end(call));
        let Some(key) = ended else {
            return Some(event);
        };
        if Latencies::wants(call) {
            let now = self.driver_session().now();
            self.calls_mut().latencies.end(call, now);
        }
        self.settle(key, answer_of(event));
        self.wake_starved();
        None
    }

    fn settle(&self, key: usize, answer: Result<Reply<'_>, CallError>) {
        let Some(mut calls) = self.calls() else {
            return;
        };
        match calls.waiters.get_mut(key) {
            Some(waiter @ Waiter::Task(_)) => {
                let answered = Waiter::Answered(answer.map(Reply::into_answer));
                if let Waiter::Task(Some(waker)) = mem::replace(waiter, answered) {
                    drop(calls);
                    waker.wake();
                }
            }
            Some(Waiter::Then(_)) => {
                // What `then` does may be another call.
                let waiter = calls.waiters.remove(key);
                drop(calls);
                if let Waiter::Then(then) = waiter {
                    then(answer);
                }
            }
            Some(Waiter::Answered(_)) | None => {}
        }
    }

    /// Gives a call up whose answer nobody wants any more; nothing happens if it has ended.
    fn cancel_call(&self, call: Correlation) {
        let ended = self.calls().and_then(|mut calls| calls.end(call));
        if ended.is_some() {
            self.session().cancel(call);
            self.wake_starved();
        }
    }

    fn wake_starved(&self) {
        let calls = self.calls();
        let starved = calls.and_then(|mut calls| calls.starved.pop_front());
        if let Some(waker) = starved {
            waker.wake();
        }
    }

    /// Fails every call.
    pub(crate) fn fail_calls(&self, reason: &CloseReason) {
        let Some(calls) = self.calls().map(|mut calls| mem::take(&mut calls.calls)) else {
            return;
        };
        for (call, key) in calls {
            if !call.is_none() {
                self.settle(key, Err(CallError::Closed(reason.clone())));
            }
        }
        let starved = mem::take(&mut self.calls_mut().starved);
        starved.into_iter().for_each(Waker::wake);
    }
}

/// The answer of a call, when it comes. Dropping it cancels the call at the peer.
pub(crate) struct Call {
    link: Link,
    call: Correlation,
    key: usize,
}

impl Future for Call {
    type Output = Result<Answer, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.link.calls_mut().poll(self.key, cx)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let waiter = self.link.calls_mut().waiters.try_remove(self.key);
        drop(waiter);
        self.link.cancel_call(self.call);
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiting({})", self.waiters.len())
    }
}
