//! Changes of keys, for programs that keep some of what a store has.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use tokio::task::AbortHandle;

/// Events that wait for one who watches. One more, and one [`Lost`](Event::Lost) is in the place of all.
pub const WATCH_EVENTS_MAX: usize = 1024;
/// Bytes of the keys of these events. Where a key is more, `Lost` is in the place of all, too.
const KEY_BYTES_MAX: usize = 1 << 20;

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// It was made, holds something else, or ends at another time.
    Set,
    /// Somebody removed it.
    Removed,
    /// Its end came.
    Expired,
    /// It made room for others.
    Evicted,
}

/// What one who watches is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A key changed.
    Changed {
        /// Which.
        key: Bytes,
        /// What became of it.
        change: Change,
        /// The version that it has since, greater than all before; `None` where the store has none or
        /// does not tell it.
        version: Option<u64>,
    },
    /// Changes may have been missed, or the values are those of another store: nothing that was read
    /// before is to be believed.
    Lost,
}

/// Changes of the keys that begin in one way, as [`StoreAdapter::watch`](crate::StoreAdapter::watch)
/// gives it. It ends at the store when it is dropped.
///
/// At most [`WATCH_EVENTS_MAX`] events, with 1 MiB of keys, wait to be taken; whoever is slower finds one
/// [`Event::Lost`] in their place. Where the connection breaks it is made again, for as long as it takes:
/// `Lost` comes when it breaks and when it is there again, and [`is_live`](Self::is_live) is `false`
/// between them.
pub struct Watch {
    queue: Arc<Queue>,
    /// What tells; ends when it is dropped.
    _source: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("is_live", &self.is_live())
            .finish_non_exhaustive()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Watch {
    pub(crate) fn new(queue: Arc<Queue>, source: impl Any + Send + Sync) -> Self {
        Self {
            queue,
            _source: Box::new(source),
        }
    }

    /// The next event; `None` when nothing will be told any more, because the runtime has ended or this
    /// process has left the migration that the store takes part in. It may be dropped; no event is lost
    /// with it.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.queue.poll(cx)).await
    }

    /// Whether changes are told at this moment. While it is `false`, what is read may change without a
    /// word; `Lost` says when they are told again.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let state = self.queue.lock();
        state.is_open && state.is_connected && !state.is_elsewhere
    }
}

impl Stream for Watch {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.queue.poll(cx)
    }
}

/// Events on their way to one who watches.
#[derive(Debug)]
pub(crate) struct Queue(Mutex<State>);

#[derive(Debug)]
struct State {
    events: VecDeque<Event>,
    key_bytes: usize,
    waker: Option<Waker>,
    is_open: bool,
    is_connected: bool,
    /// Another store is asked than the one that is watched.
    is_elsewhere: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self(Mutex::new(State {
            events: VecDeque::new(),
            key_bytes: 0,
            waker: None,
            is_open: true,
            is_connected: true,
            is_elsewhere: false,
        }))
    }
}

impl State {
    fn push(&mut self, event: Event) {
        let key_bytes = match &event {
            Event::Changed { key, .. } => key.len(),
            // One of them says as much as two.
            Event::Lost if self.events.back() == Some(&Event::Lost) => return,
            Event::Lost => 0,
        };
        let is_full = self.events.len() >= WATCH_EVENTS_MAX;
        if is_full || self.key_bytes + key_bytes > KEY_BYTES_MAX {
            self.events.clear();
            self.key_bytes = 0;
            self.events.push_back(Event::Lost);
            return;
        }
        self.key_bytes += key_bytes;
        self.events.push_back(event);
    }

    fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Changed { key, .. } = &event {
            self.key_bytes -= key.len();
        }
        Some(event)
    }
}

impl Queue {
    /// Tells of a change.
    pub(crate) fn changed(&self, key: Bytes, change: Change, version: Option<u64>) {
        self.with(|state| {
            state.push(Event::Changed {
                key,
                change,
                version,
            });
        });
    }

    /// Says that something may have been missed.
    pub(crate) fn lost(&self) {
        self.with(|state| state.push(Event::Lost));
    }

    /// Nothing is told from here on.
    pub(crate) fn interrupted(&self) {
        self.with(|state| {
            state.is_connected = false;
            state.push(Event::Lost);
        });
    }

    /// Changes are told again.
    pub(crate) fn resumed(&self) {
        self.with(|state| {
            state.is_connected = true;
            state.push(Event::Lost);
        });
    }

    /// Another store is asked from here on.
    pub(crate) fn fell_back(&self) {
        self.with(|state| {
            state.is_elsewhere = true;
            state.push(Event::Lost);
        });
    }

    /// The store that is watched is asked again.
    pub(crate) fn came_back(&self) {
        self.with(|state| {
            state.is_elsewhere = false;
            state.push(Event::Lost);
        });
    }

    /// Takes nothing more; what is there can still be taken.
    pub(crate) fn close(&self) {
        self.with(|state| state.is_open = false);
    }

    /// Does something while it is open, and wakes who waits.
    fn with(&self, what: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.lock();
            if !state.is_open {
                return;
            }
            what(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.lock();
        match state.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if !state.is_open => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that tells. Without it the watch is over.
#[derive(Debug)]
pub(crate) struct Teller(pub(crate) Arc<Queue>);

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Ends(AbortHandle);

impl Ends {
    /// Has a task work.
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Those who watch through one store.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<Vec<Weak<Queue>>>);

impl Watchers {
    /// One more, until it is dropped.
    pub(crate) fn add(&self, watch: &Watch) {
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|queue| queue.strong_count() > 0);
        watchers.push(Arc::downgrade(&watch.queue));
    }

    /// Does something with each.
    pub(crate) fn each(&self, what: impl Fn(&Queue)) {
        let watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watchers
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|queue| what(&queue));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn key(number: usize) -> Bytes {
        number.to_string().into()
    }

    fn set(number: usize) -> Event {
        Event::Changed {
            key: key(number),
            change: Change::Set,
            version: None,
        }
    }

    fn take(watch: &mut Watch) -> Poll<Option<Event>> {
        watch.queue.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn watch() -> (Arc<Queue>, Watch) {
        let queue = Arc::new(Queue::default());
        (Arc::clone(&queue), Watch::new(queue, ()))
    }

    #[test]
    fn events_come_in_order_and_more_than_fit_become_one_loss() {
        let (queue, mut watch) = watch();
        let told = |numbers: std::ops::Range<usize>| {
            numbers.for_each(|number| queue.changed(key(number), Change::Set, None));
        };
        told(0..WATCH_EVENTS_MAX);
        for number in 0..WATCH_EVENTS_MAX {
            assert_eq!(take(&mut watch), Poll::Ready(Some(set(number))));
        }
        assert!(take(&mut watch).is_pending());
        told(0..WATCH_EVENTS_MAX + 1);
        told(5000..5002);
        let rest = [Event::Lost, set(5000), set(5001)];
        for event in rest {
            assert_eq!(take(&mut watch), Poll::Ready(Some(event)));
        }
        assert!(take(&mut watch).is_pending());
        assert_eq!(queue.lock().key_bytes, 0);
    }

    #[test]
    fn long_keys_take_bounded_memory() {
        let (queue, mut watch) = watch();
        for _ in 0..100 {
            queue.changed(vec![7; 64 << 10].into(), Change::Set, None);
            assert!(queue.lock().key_bytes <= KEY_BYTES_MAX);
        }
        assert_eq!(take(&mut watch), Poll::Ready(Some(Event::Lost)));
    }

    #[test]
    fn losses_in_a_row_are_one_and_say_whether_changes_are_told() {
        let (queue, mut watch) = watch();
        assert!(watch.is_live());
        queue.interrupted();
        queue.fell_back();
        assert!(!watch.is_live());
        queue.resumed();
        assert!(!watch.is_live());
        queue.came_back();
        assert!(watch.is_live());
        assert_eq!(take(&mut watch), Poll::Ready(Some(Event::Lost)));
        assert!(take(&mut watch).is_pending());
    }

    #[test]
    fn what_is_there_is_told_before_the_end() {
        let (queue, mut watch) = watch();
        let teller = Teller(Arc::clone(&queue));
        queue.changed(key(1), Change::Set, None);
        drop(teller);
        assert!(!watch.is_live());
        queue.lost();
        assert_eq!(take(&mut watch), Poll::Ready(Some(set(1))));
        assert_eq!(take(&mut watch), Poll::Ready(None));
    }

    #[test]
    fn who_is_dropped_is_not_told() {
        let watchers = Watchers::default();
        let (queue, watch) = watch();
        watchers.add(&watch);
        drop((queue, watch));
        watchers.each(|_| panic!("it is gone"));
    }
}
