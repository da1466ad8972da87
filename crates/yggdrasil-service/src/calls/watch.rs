//! Changes of keys, told to a caller until it ends that.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use valkyrie::{Status, Stream};
use yggdrasil::{Cause, Entry, Observer};
use yggdrasil_calls::v1;

use super::identity::Asker;
use super::messages;
use crate::shared::Shared;

/// Changes that wait for a caller, and the bytes of their keys. More are told as lost.
const CHANGES_MAX: usize = 1024;
const KEY_BYTES_MAX: usize = 1 << 20;
/// Bytes of the keys of a message after which another one begins. A key has at most half as many.
const MESSAGE_KEY_BYTES: usize = 128 << 10;

/// Changes on their way to a caller.
#[derive(Debug)]
struct Queue {
    prefix: Box<[u8]>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether some were lost before the rest.
    lost: bool,
    changed: Vec<v1::Changed>,
    key_bytes: usize,
    waker: Option<Waker>,
}

impl Queue {
    fn tell(&self, entry: &Entry, change: v1::Change, version: u64) {
        let key = entry.key();
        if !key.starts_with(&self.prefix) {
            return;
        }
        let mut state = self.lock();
        let is_full = state.changed.len() >= CHANGES_MAX;
        if is_full || state.key_bytes + key.len() > KEY_BYTES_MAX {
            state.changed.clear();
            state.key_bytes = 0;
            state.lost = true;
        } else {
            state.key_bytes += key.len();
            state.changed.push(v1::Changed {
                key: key.to_vec(),
                change: change.into(),
                version,
            });
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// As much as a message takes.
    fn poll(&self, cx: &Context<'_>) -> Poll<v1::Changes> {
        let mut state = self.lock();
        if !state.lost && state.changed.is_empty() {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut bytes = 0;
        let fits = state.changed.iter().take_while(|one| {
            bytes += one.key.len();
            bytes <= MESSAGE_KEY_BYTES
        });
        let count = fits.count();
        let rest = state.changed.split_off(count);
        let changed = std::mem::replace(&mut state.changed, rest);
        state.key_bytes -= changed.iter().map(|one| one.key.len()).sum::<usize>();
        let lost = std::mem::take(&mut state.lost);
        Poll::Ready(v1::Changes { lost, changed })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Queue {
    fn written(&self, entry: &Entry) {
        self.tell(entry, v1::Change::Set, entry.version());
    }

    fn removed(&self, entry: &Entry, version: u64, cause: Cause) {
        let change = match cause {
            Cause::Removed | Cause::Cleared => v1::Change::Removed,
            Cause::Expired => v1::Change::Expired,
            Cause::Evicted => v1::Change::Evicted,
        };
        self.tell(entry, change, version);
    }
}

/// Tells a caller of changes, from when it is made on.
pub(super) struct Watching {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    observer: Arc<dyn Observer>,
    asker: Asker,
    /// Whether the caller was told that it has begun.
    has_begun: bool,
    /// What is told once everything up to this record is as safe as was asked for.
    unsettled: Option<(v1::Changes, u64)>,
}

impl Watching {
    pub(super) fn new(shared: &Arc<Shared>, prefix: &[u8], asker: Asker) -> Self {
        let queue = Arc::new(Queue {
            prefix: prefix.into(),
            state: Mutex::default(),
        });
        let observer: Arc<dyn Observer> = Arc::clone(&queue) as _;
        shared.keys.observe(&observer);
        shared.watching_calls.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(shared),
            queue,
            observer,
            asker,
            has_begun: false,
            unsettled: None,
        }
    }

    /// Takes what comes next; from then on it waits to be safe.
    fn poll_take(&mut self, cx: &Context<'_>) -> Poll<Result<(), Status>> {
        let changes = ready!(self.queue.poll(cx));
        let command = [&b"YGG.WATCH"[..], &self.queue.prefix];
        self.asker.may_still(&self.shared, &command)?;
        let persistence = self.shared.persistence.as_ref();
        // What the disk has refused before was told.
        let persistence = persistence.filter(|it| it.failure().is_none());
        let target = persistence.map_or(0, |it| it.appended());
        self.unsettled = Some((changes, target));
        Poll::Ready(Ok(()))
    }

    fn poll_settled(&self, target: u64, cx: &Context<'_>) -> Poll<Result<(), Status>> {
        match &self.shared.persistence {
            Some(persistence) if target > 0 => persistence
                .poll_settled(target, cx)
                .map_err(|_| messages::unsure()),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl Stream for Watching {
    type Item = Result<v1::Changes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.has_begun {
            self.has_begun = true;
            return Poll::Ready(Some(Ok(v1::Changes::default())));
        }
        if self.unsettled.is_none() {
            match ready!(self.poll_take(cx)) {
                Ok(()) => {}
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
        }
        let target = self.unsettled.as_ref().map_or(0, |(_, target)| *target);
        let settled = ready!(self.poll_settled(target, cx));
        let changes = self.unsettled.take().map(|(changes, _)| changes);
        Poll::Ready(match settled {
            Ok(()) => changes.map(Ok),
            Err(status) => Some(Err(status)),
        })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.shared.keys.stop_observing(&self.observer);
        self.shared.watching_calls.fetch_sub(1, Ordering::Relaxed);
    }
}
