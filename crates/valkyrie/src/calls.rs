//! Calls that a task waits for.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::oneshot;
use valkyrie_frame::{Correlation, ErrorCode};
use valkyrie_session::{Event, Retry, SendError};

use crate::error::CloseReason;
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
    },
    /// The connection ended first; whether the peer has handled the call is not known.
    #[error("call lost: {0}")]
    Closed(CloseReason),
}

type Answer = Result<Bytes, CallError>;

/// Calls of one link that a task waits for.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    open: HashMap<Correlation, oneshot::Sender<Answer>>,
}

impl Waiting {
    pub(crate) fn insert(&mut self, call: Correlation) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        self.open.insert(call, sender);
        receiver
    }

    pub(crate) fn remove(&mut self, call: Correlation) -> bool {
        self.open.remove(&call).is_some()
    }

    /// Hands an answer to the task that waits for it; gives other events back.
    pub(crate) fn take<'b>(&mut self, event: Event<'b>) -> Option<Event<'b>> {
        if self.open.is_empty() {
            return Some(event);
        }
        let call = match &event {
            Event::Reply { call, .. } | Event::CallFailed { call, .. } => *call,
            _ => return Some(event),
        };
        let Some(sender) = self.open.remove(&call) else {
            return Some(event);
        };
        let answer = match event {
            Event::Reply { body, .. } => Ok(body.into_bytes()),
            Event::CallFailed {
                code, retry, text, ..
            } => Err(CallError::Failed {
                code,
                retry,
                text: text.into_owned(),
            }),
            other => return Some(other),
        };
        // A task that went away has canceled its call; the answer crossed it.
        drop(sender.send(answer));
        None
    }

    /// Fails every call.
    pub(crate) fn fail_all(&mut self, reason: &CloseReason) {
        for (_, sender) in self.open.drain() {
            drop(sender.send(Err(CallError::Closed(reason.clone()))));
        }
    }
}

/// Cancels a call whose task goes away.
pub(crate) struct CancelOnDrop<'l> {
    pub(crate) link: &'l Link,
    pub(crate) call: Correlation,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.link.forget_call(self.call) {
            self.link.session().cancel(self.call);
        }
    }
}
